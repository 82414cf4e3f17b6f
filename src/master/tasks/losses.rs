//! What becomes of tasks and values when a worker is lost.

use super::{Action, State, Task, TaskId, Tasks, cancelled, owner};
use crate::error::Error;
use crate::simulate::mutant::{Mutant, planted};

/// A task that was on this many ranks when they were lost may be what has ended them.
const LOSSES_MOST: u32 = 3;

impl<P> Tasks<P> {
    /// What a lost worker held goes to others; what it alone kept is lost, and so are those who need it.
    pub(super) fn lose(&mut self, worker: usize, error: &Error) {
        if self.gone.insert(worker, error.clone()).is_some() {
            return;
        }
        self.present.remove(&worker);
        if self.have_all_come() {
            self.placement.hold_actors(false);
        }
        let others = self.present.iter().map(|other| Action::Miss { worker: *other, lost: worker });
        if !planted(Mutant::NobodyMisses) {
            self.actions.extend(others);
        }
        let (free, stuck) = self.placement.lose(worker);
        free.into_iter().for_each(|task| self.place(task));
        for task in stuck {
            if !self.is_displaced_call(task) {
                self.fail(task, error.clone());
            }
        }
        for task in self.placement.special() {
            if let Some(problem) = self.problem(&self.tasks[&task].order) {
                self.fail(task, problem);
            }
        }
        let is_held = |entry: &Task<P>| matches!(entry.state, State::Held(holder) if holder == worker);
        let held = self.tasks.iter().filter(|(_, entry)| is_held(entry)).map(|(task, _)| task);
        for task in held.collect::<Vec<_>>() {
            self.placement.release(worker, task);
            let entry = self.tasks.get_mut(task).expect("it was just there");
            entry.state = State::Waiting;
            entry.attempts -= 1;
            entry.losses += 1;
            if entry.cancelled {
                self.fail(task, cancelled(task));
            } else if entry.order.on == Some(worker) || entry.order.actor.is_some() || entry.losses >= LOSSES_MOST {
                self.fail(task, error.clone());
            } else if entry.is_needed() {
                if !planted(Mutant::LossForgotten) {
                    self.place(task);
                }
            } else {
                self.forget(task);
            }
        }
        // What its own tasks have submitted, nobody waits for.
        let mine: Vec<TaskId> = self.tasks.keys().filter(|task| owner(*task) == worker).collect();
        if worker > 0 && !planted(Mutant::OrphansKept) {
            mine.into_iter().rev().for_each(|task| self.release(task));
        }
        let mut lost = Vec::new();
        for (task, entry) in self.tasks.iter_mut() {
            if let State::Large { holders, coming, .. } = &mut entry.state {
                holders.retain(|holder| *holder != worker);
                coming.remove(&worker);
                lost.extend(holders.is_empty().then_some(task));
            }
        }
        for task in lost {
            if self.is_actor(task) { self.die(task, worker, error) } else { self.lose_value(task, error) }
        }
    }

    pub(super) fn lose_value(&mut self, task: TaskId, error: &Error) {
        let Some(entry) = self.tasks.get_mut(task) else { return };
        let state = std::mem::replace(&mut entry.state, State::Failed(error.clone()));
        if let State::Large { coming, .. } = state {
            // It may have come, but nobody knows.
            self.actions.extend(coming.into_iter().map(|worker| Action::Free { worker, task }));
        }
        let (readers, needs) = (std::mem::take(&mut entry.readers), entry.order.needs.clone());
        if self.lines.remove(&task).is_some() {
            needs.into_iter().for_each(|need| self.read(need, task));
        }
        readers.into_iter().for_each(|reader| self.fail(reader, error.of_who_needs()));
        self.free_if_unused(task);
    }
}
