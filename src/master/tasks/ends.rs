//! What becomes of a task at its end, of those that wait for its value, and of the value when nobody does any more.

use std::collections::BTreeSet;

use super::{Action, Ending, Handle, State, Task, TaskId, Tasks, cancelled};
use crate::error::Error;
use crate::simulate::mutant::{Mutant, planted};

impl<P> Tasks<P> {
    pub(super) fn end(&mut self, worker: usize, task: TaskId, ending: Ending) {
        let is_held = |entry: &Task<P>| matches!(entry.state, State::Held(holder) if holder == worker);
        // An actor has what it has taken until it is gone.
        if !(self.is_actor(task) && matches!(ending, Ending::Large { .. })) {
            self.placement.release(worker, task);
        }
        let known = self.tasks.get(task);
        let Some(entry) = known.filter(|entry| is_held(entry)) else {
            if planted(Mutant::SettledTwice) && known.is_some() {
                self.actions.push_back(Action::Settle { task, failed: None });
            }
            // It was given to another since, or settled: what this one has made is not needed.
            self.placement.ended(worker, task, None);
            if let Ending::Large { .. } = ending {
                self.actions.push_back(Action::Free { worker, task });
            }
            return;
        };
        let kind = entry.order.kind;
        self.has_read(worker, task);
        if let (Some(actor), false) = (self.tasks[&task].order.actor, matches!(ending, Ending::Failed { .. })) {
            self.is_alive(actor);
        }
        let entry = &self.tasks[&task];
        match ending {
            Ending::Small { seconds } => {
                self.placement.ended(worker, task, Some((kind, seconds)));
                self.settle(task, State::Small);
            }
            Ending::Large { bytes, seconds } => {
                self.placement.ended(worker, task, Some((kind, seconds)));
                self.settle(task, State::Large { holders: vec![worker], coming: BTreeSet::new(), bytes });
            }
            Ending::Failed { error } => {
                self.placement.ended(worker, task, None);
                if let Some(actor) = entry.order.actor.filter(|_| error.leaves_a_broken_state()) {
                    let cause = error.clone();
                    self.tasks.get_mut(task).expect("it has just ended").state = State::Waiting;
                    self.fail(task, error);
                    return self.die(actor, worker, &cause);
                }
                let again = entry.attempts <= entry.order.retries || planted(Mutant::TaskRetriesWithoutEnd);
                if error.may_pass() && again && !entry.cancelled && entry.is_needed() {
                    self.rest(task);
                } else {
                    let error = error.after(entry.attempts);
                    self.tasks.get_mut(task).expect("it has just ended").state = State::Waiting;
                    self.fail(task, error);
                }
            }
        }
    }

    /// A task that has failed is tried again, at once or after a while.
    fn rest(&mut self, task: TaskId) {
        let entry = self.tasks.get_mut(task).expect("it has just ended");
        if !entry.order.rests {
            return self.place(task);
        }
        entry.state = State::Resting;
        self.actions.push_back(Action::Rest { task, attempts: entry.attempts });
    }

    pub(super) fn try_again(&mut self, task: TaskId) {
        let Some(entry) = self.tasks.get_mut(task).filter(|entry| matches!(entry.state, State::Resting)) else {
            return;
        };
        entry.state = State::Waiting;
        // A value that it needs may be lost meanwhile; then it has failed.
        self.place(task);
    }

    /// Who has run a task has all that it needs.
    pub(super) fn has_read(&mut self, worker: usize, task: TaskId) {
        for need in self.tasks[&task].order.needs.clone() {
            if let Some(Task { state: State::Large { holders, coming, .. }, .. }) = self.tasks.get_mut(need)
                && coming.remove(&worker)
            {
                holders.push(worker);
            }
        }
    }

    pub(super) fn take_back(&mut self, worker: usize, task: TaskId) {
        self.placement.returned(worker, task);
        self.placement.release(worker, task);
        let Some(entry) = self.tasks.get_mut(task) else { return };
        if !matches!(entry.state, State::Held(holder) if holder == worker) {
            return;
        }
        entry.attempts -= 1;
        entry.state = State::Waiting;
        let actor = entry.order.actor;
        if entry.cancelled {
            self.fail(task, cancelled(task));
        } else if entry.is_needed() {
            if let Some(actor) = actor {
                self.return_to_line(actor, task, worker);
            } else if !planted(Mutant::TaskReturnForgotten) {
                let want = self.placement.place_anywhere(task, &entry.order);
                entry.state = State::Placed(want);
            }
        } else {
            self.forget(task);
        }
    }

    /// A task has come to its end: tells who has a handle, and those who wait for the value.
    pub(super) fn settle(&mut self, task: TaskId, state: State) {
        let entry = self.tasks.get_mut(task).expect("it is being settled");
        let failed = if let State::Failed(failure) = &state { Some(failure.clone()) } else { None };
        let first = if let State::Large { holders, .. } = &state { holders.first().copied() } else { None };
        entry.state = state;
        self.open -= 1;
        let actor = entry.order.actor;
        if (entry.handle != Handle::Gone || entry.order.detached) && !std::mem::replace(&mut entry.is_told, true) {
            self.actions.push_back(Action::Settle { task, failed: failed.clone() });
        }
        if let Some(failure) = failed.clone().filter(|_| entry.handle == Handle::Gone && entry.order.detached) {
            self.actions.push_back(Action::Tell { task, failure });
        }
        if let (Handle::Wanted | Handle::Taken, Some(from)) = (entry.handle, first) {
            let taken = entry.handle == Handle::Taken && entry.readers.is_empty();
            self.actions.push_back(Action::Bring { task, from, taken });
        }
        let readers = std::mem::take(&mut entry.readers);
        let needs = entry.order.needs.clone();
        if failed.is_some() {
            self.lines.remove(&task);
        }
        if !self.may_restart(task) {
            needs.into_iter().for_each(|need| self.read(need, task));
        }
        if let Some(failure) = failed.filter(|_| !planted(Mutant::CauseForgotten)) {
            readers.into_iter().for_each(|reader| self.fail(reader, failure.of_who_needs()));
        } else {
            readers.iter().for_each(|reader| self.lacks_one_less(*reader));
            self.tasks.get_mut(task).expect("its readers are not through with it").readers = readers;
            self.advance(task);
        }
        actor.into_iter().for_each(|actor| self.leave_line(actor, task));
        self.free_if_unused(task);
    }

    pub(super) fn lacks_one_less(&mut self, task: TaskId) {
        let Some(entry) = self.tasks.get_mut(task) else { return };
        entry.lacks -= 1;
        if entry.lacks == 0 && matches!(entry.state, State::Waiting) {
            self.place(task);
        }
    }

    /// `reader` is through with a value.
    pub(super) fn read(&mut self, value: TaskId, reader: TaskId) {
        let Some(entry) = self.tasks.get_mut(value) else { return };
        entry.readers.remove(&reader);
        if entry.state.is_settled() {
            self.free_if_unused(value);
        } else if !entry.is_needed() {
            self.unneeded.push(value);
        }
    }

    pub(super) fn fail(&mut self, task: TaskId, failure: Error) {
        self.failing.push_back((task, failure));
    }

    pub(super) fn follow_up(&mut self) {
        loop {
            if let Some((task, failure)) = self.failing.pop_front() {
                self.fail_now(task, failure);
            } else if let Some(task) = self.unneeded.pop() {
                if self.tasks.get(task).is_some_and(|entry| !entry.is_needed() && !entry.state.is_settled()) {
                    self.forget(task);
                }
            } else {
                return;
            }
        }
    }

    fn fail_now(&mut self, task: TaskId, failure: Error) {
        let Some(entry) = self.tasks.get(task) else { return };
        match &entry.state {
            State::Waiting | State::Resting => {}
            // It has what it needs, but nobody will hear of it.
            State::Held(worker) => self.actions.push_back(Action::Stop { worker: *worker, task }),
            State::Placed(want) => self.placement.forget(task, &entry.order, *want),
            State::Small | State::Large { .. } | State::Failed(_) | State::Freed => return,
        }
        self.settle(task, State::Failed(failure));
    }

    pub(super) fn free_if_unused(&mut self, task: TaskId) {
        let Some(entry) = self.tasks.get_mut(task) else { return };
        let has_readers = !entry.readers.is_empty() && !planted(Mutant::ReadersIgnored);
        let is_free = matches!(entry.state, State::Freed);
        if entry.handle != Handle::Gone || has_readers || !entry.state.is_settled() || is_free {
            return;
        }
        let needs = entry.order.needs.clone();
        let mut holder = None;
        if let State::Large { holders, coming, .. } = std::mem::replace(&mut entry.state, State::Freed) {
            holder = holders.first().copied();
            let all = holders.into_iter().chain(coming.into_iter().filter(|_| !planted(Mutant::CopiesKept)));
            let present = all.filter(|worker| self.present.contains(worker));
            self.actions.extend(present.map(|worker| Action::Free { worker, task }));
        }
        self.freed.push(task);
        if self.may_restart(task) {
            // Not any more.
            needs.into_iter().for_each(|need| self.read(need, task));
        }
        if let (Some(_), Some(holder)) = (self.lines.remove(&task), holder) {
            self.placement.release(holder, task);
        }
    }
}
