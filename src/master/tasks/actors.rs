//! Actors: a state on one rank, and calls that use it in the order in which they were submitted.
//!
//! An actor is a task whose value never travels; a call is a task that needs it, and runs where it is. Of the calls of an
//! actor, one at a time is placed, so that they are handed out in order, and the rank runs them one after the other. One
//! that still lacks a value when it is handed out holds the others back: it may come back, if the value is lost. So does
//! one that waits for tasks that it has submitted: those behind it keep no place from these.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Action, State, TaskId, Tasks};
use crate::error::{Error, ErrorKind};
use crate::simulate::mutant::{Mutant, planted};

/// So many calls may come back in a row, from an actor that lives: each rank that is lost sends one back at most.
const CAME_BACK_MOST: u32 = 4;

/// The calls of an actor.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// How often it may begin anew.
    restarts: u32,
    /// Its state is gone, and it begins anew when all calls have come back.
    is_dead: bool,
    /// Calls that were not handed out: the first of them may be placed.
    waiting: BTreeSet<TaskId>,
    placed: Option<TaskId>,
    /// Calls that its rank has, and those of them that hold others back.
    held: BTreeSet<TaskId>,
    holding_back: BTreeSet<TaskId>,
    /// How often calls came back since one has ended, and which: a rank that goes on to give all of them back does not
    /// have the state. The one that has ended it does not come back: its end is on its way.
    came_back: u32,
    back: BTreeSet<TaskId>,
}

impl Line {
    /// What came back so far says nothing of the state that there is now.
    fn forgive(&mut self) {
        self.came_back = 0;
        self.back.clear();
    }
}

impl<P> Tasks<P> {
    /// An actor is submitted.
    pub(super) fn add_actor(&mut self, actor: TaskId, restarts: u32) {
        self.lines.insert(actor, Line { restarts, ..Line::default() });
    }

    /// Whether it is an actor, which is not through with what it needs as long as it may begin anew.
    pub(super) fn may_restart(&self, task: TaskId) -> bool {
        self.lines.get(&task).is_some_and(|line| line.restarts > 0 || line.is_dead)
    }

    pub(super) fn is_actor(&self, task: TaskId) -> bool {
        self.lines.contains_key(&task)
    }

    /// A call is submitted.
    pub(super) fn stand_in_line(&mut self, actor: TaskId, call: TaskId) {
        if let Some(line) = self.lines.get_mut(&actor) {
            line.waiting.insert(call);
        }
    }

    /// Places the first call of an actor, if it can run.
    pub(super) fn advance(&mut self, actor: TaskId) {
        let Some(line) = self.lines.get(&actor) else { return };
        let Some(State::Large { holders, .. }) = self.tasks.get(actor).map(|entry| &entry.state) else { return };
        let (Some(holder), Some(first)) = (holders.first().copied(), line.waiting.first().copied()) else { return };
        let is_free = line.placed.is_none() && (line.holding_back.is_empty() || planted(Mutant::LackingCallsIgnored));
        let entry = self.tasks.get_mut(first).expect("who stands in line is known");
        if !is_free || entry.lacks > 0 || !matches!(entry.state, State::Waiting) {
            return;
        }
        Arc::make_mut(&mut entry.order).on = Some(holder);
        let want = self.placement.place_anywhere(first, &entry.order);
        entry.state = State::Placed(want);
        self.lines.get_mut(&actor).expect("it was just there").placed = Some(first);
    }

    /// A call is handed out, and lacks something there or not.
    pub(super) fn hand_out_call(&mut self, actor: TaskId, call: TaskId, lacks: bool) {
        let Some(line) = self.lines.get_mut(&actor) else { return };
        line.waiting.remove(&call);
        line.placed = None;
        line.held.insert(call);
        if lacks {
            line.holding_back.insert(call);
        }
        self.advance(actor);
    }

    /// A task, which may be a call, has submitted another one, and will wait for it: what is given to this worker next runs
    /// in its place.
    pub(super) fn waits_inside(&mut self, worker: usize, task: TaskId) {
        self.placement.makes_room(worker, task);
        let Some(actor) = self.tasks.get(task).and_then(|entry| entry.order.actor) else { return };
        let Some(line) = self.lines.get_mut(&actor).filter(|line| line.held.contains(&task)) else { return };
        line.holding_back.insert(task);
        line.held.iter().for_each(|call| self.placement.makes_room(worker, *call));
        // One that was about to be handed out would take a place, and not run either.
        self.displace(actor);
    }

    /// A call has come to its end, or will never be handed out.
    pub(super) fn leave_line(&mut self, actor: TaskId, call: TaskId) {
        self.step_back(actor, call, false);
    }

    /// A call has come back from this worker, and will be handed out again.
    pub(super) fn return_to_line(&mut self, actor: TaskId, call: TaskId, worker: usize) {
        self.step_back(actor, call, true);
        let Some(line) = self.lines.get_mut(&actor) else { return };
        line.came_back += 1;
        line.back.insert(call);
        let none_is_ending = line.held.is_subset(&line.back);
        let Some(State::Large { holders, .. }) = self.tasks.get(actor).map(|entry| &entry.state) else { return };
        if line.came_back > CAME_BACK_MOST && none_is_ending && holders.first() == Some(&worker) {
            // The call that has ended it was given up before that was known.
            let (call, place) = (format!("actor {actor}"), self.places[worker].clone());
            let message = "its state was given up after a call that nobody waits for".into();
            self.die(actor, worker, &ErrorKind::Internal { call, place, message }.into());
        }
    }

    /// A call has ended well.
    pub(super) fn is_alive(&mut self, actor: TaskId) {
        self.lines.get_mut(&actor).into_iter().for_each(Line::forgive);
    }

    fn step_back(&mut self, actor: TaskId, call: TaskId, comes_back: bool) {
        let Some(line) = self.lines.get_mut(&actor) else { return };
        line.waiting.remove(&call);
        line.held.remove(&call);
        line.placed.take_if(|placed| *placed == call);
        line.holding_back.remove(&call);
        if comes_back {
            line.waiting.insert(call);
            // It goes before those that were submitted later.
            self.displace(actor);
        }
        self.begin_anew(actor);
        self.advance(actor);
    }

    /// The call that is placed is not, for the time being.
    fn displace(&mut self, actor: TaskId) {
        let Some(placed) = self.lines.get_mut(&actor).and_then(|line| line.placed.take()) else { return };
        let entry = self.tasks.get_mut(placed).expect("what is placed is known");
        if let State::Placed(want) = entry.state {
            self.placement.forget(placed, &entry.order, want);
            entry.state = State::Waiting;
        }
    }

    /// Whether it is a call that was to run on a worker that is lost: what becomes of it is seen when its actor dies.
    pub(super) fn is_displaced_call(&mut self, task: TaskId) -> bool {
        let entry = self.tasks.get_mut(task).expect("what is placed is known");
        let Some(line) = entry.order.actor.and_then(|actor| self.lines.get_mut(&actor)) else { return false };
        line.placed = None;
        entry.state = State::Waiting;
        true
    }

    /// The state of an actor is gone, which was on this worker: it begins anew, or never runs again.
    pub(super) fn die(&mut self, actor: TaskId, worker: usize, error: &Error) {
        if !self.tasks.get(actor).is_some_and(|entry| matches!(entry.state, State::Large { .. })) {
            return;
        }
        self.displace(actor);
        self.placement.release(worker, actor);
        if self.present.contains(&worker) {
            self.actions.push_back(Action::Free { worker, task: actor });
        }
        let line = self.lines.get_mut(&actor).expect("an actor that is there has a line");
        if line.restarts == 0 {
            return self.lose_value(actor, error);
        }
        if !planted(Mutant::RestartsWithoutEnd) {
            line.restarts -= 1;
        }
        line.is_dead = true;
        let entry = self.tasks.get_mut(actor).expect("it was just there");
        (entry.state, entry.attempts, entry.losses) = (State::Waiting, 0, 0);
        self.open += 1;
        for call in entry.readers.clone() {
            if let Some(call) = self.tasks.get_mut(call) {
                call.lacks += 1;
            }
        }
        self.begin_anew(actor);
    }

    /// A dead actor is placed again when all calls have come back: their order is known then.
    fn begin_anew(&mut self, actor: TaskId) {
        let Some(line) = self.lines.get_mut(&actor) else { return };
        if !line.is_dead || !(line.held.is_empty() || planted(Mutant::RestartTooSoon)) {
            return;
        }
        line.is_dead = false;
        line.forgive();
        let needs = self.tasks[&actor].order.needs.clone();
        let lost = needs.into_iter().find_map(|need| match self.tasks.get(need).map(|entry| &entry.state) {
            Some(State::Failed(cause)) => Some(cause.of_who_needs()),
            _ => None,
        });
        match lost {
            Some(error) => self.fail(actor, error),
            None => self.place(actor),
        }
    }
}
