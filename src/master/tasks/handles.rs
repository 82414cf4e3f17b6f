//! What becomes of tasks when those who have handles on them want the value, let go, or change their mind.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Action, Handle, State, Task, TaskId, Tasks, cancelled};
use crate::error::Error;
use crate::simulate::mutant::{Mutant, planted};

impl<P> Tasks<P> {
    pub(super) fn give(&mut self, task: TaskId, bytes: Option<u64>, payload: Box<P>) {
        let state = match bytes {
            None => State::Small,
            Some(bytes) => State::Large { holders: vec![0], coming: BTreeSet::new(), bytes },
        };
        let (order, readers, handle) = (Arc::default(), BTreeSet::new(), Handle::Held);
        let entry = Task {
            payload,
            order,
            state,
            lacks: 0,
            readers,
            attempts: 0,
            losses: 0,
            handle,
            cancelled: false,
            is_told: true,
        };
        self.tasks.insert(task, entry);
    }

    /// A value is on its way to everybody from now on. False if there is no such value.
    pub fn spread(&mut self, task: TaskId) -> bool {
        let Some(Task { state: State::Large { holders, coming, .. }, .. }) = self.tasks.get_mut(task) else {
            return false;
        };
        coming.extend(self.present.iter().filter(|worker| !holders.contains(worker)));
        true
    }

    /// The workers that have a value for sure, in order: none before it exists.
    pub fn holders(&self, task: TaskId) -> Result<Vec<usize>, Error> {
        match self.tasks.get(task).map(|task| &task.state) {
            Some(State::Small) => Ok(vec![0]),
            Some(State::Large { holders, .. }) => {
                let mut holders = holders.clone();
                holders.sort_unstable();
                Ok(holders)
            }
            Some(State::Failed(error)) => Err(error.clone()),
            _ => Ok(Vec::new()),
        }
    }

    pub(super) fn cancel(&mut self, task: TaskId) {
        let Some(entry) = self.tasks.get_mut(task) else { return };
        match entry.state {
            State::Waiting | State::Resting | State::Placed(_) => self.fail(task, cancelled(task)),
            State::Held(worker) => {
                entry.cancelled = true;
                self.actions.push_back(Action::Stop { worker, task });
            }
            State::Small | State::Large { .. } | State::Failed(_) | State::Freed => {}
        }
    }

    pub(super) fn want(&mut self, task: TaskId, taken: bool) {
        // A rank that was given up may still say what it wants.
        let Some(entry) = self.tasks.get_mut(task).filter(|entry| entry.handle != Handle::Gone) else { return };
        if !entry.state.is_settled() {
            entry.handle = if taken { Handle::Taken } else { Handle::Wanted };
            return;
        }
        if let State::Failed(error) = &entry.state {
            // It had a value once, if whoever asks does not know.
            let error = error.clone();
            if !planted(Mutant::LossUntold) {
                self.actions.push_back(Action::Unavailable { task, error });
            }
        } else if let State::Large { holders, .. } = &entry.state {
            let (from, taken) = (holders[0], taken && entry.readers.is_empty());
            self.actions.push_back(Action::Bring { task, from, taken });
        }
    }

    /// It is to run, whoever has a handle on it.
    pub(super) fn detach(&mut self, task: TaskId) {
        let Some(entry) = self.tasks.get_mut(task) else { return };
        Arc::make_mut(&mut entry.order).detached = true;
        if let State::Failed(failure) = &entry.state {
            let failure = failure.clone();
            self.actions.push_back(Action::Tell { task, failure });
        }
        self.release(task);
    }

    pub(super) fn release(&mut self, task: TaskId) {
        let Some(entry) = self.tasks.get_mut(task) else { return };
        if planted(Mutant::ReleaseIgnored) {
            return;
        }
        entry.handle = Handle::Gone;
        if entry.state.is_settled() {
            self.free_if_unused(task);
        } else if !entry.is_needed() {
            self.forget(task);
        }
    }

    /// Nobody will ask for it: forgets a task that has not run, or lets it run without anybody listening.
    pub(super) fn forget(&mut self, task: TaskId) {
        let entry = &self.tasks[&task];
        match entry.state {
            State::Held(worker) => {
                self.actions.push_back(Action::Stop { worker, task });
                return;
            }
            State::Placed(want) => self.placement.forget(task, &entry.order, want),
            _ => {}
        }
        let entry = self.tasks.remove(task).expect("it was just there");
        self.open -= 1;
        self.lines.remove(&task);
        entry.order.actor.into_iter().for_each(|actor| self.leave_line(actor, task));
        entry.order.needs.iter().for_each(|need| self.read(*need, task));
    }

    /// The program's handles are of no use any more: what is detached is completed, with what it needs, and nothing else.
    pub(super) fn close(&mut self) {
        self.closed = true;
        // Tasks that still run have handles of their own.
        let is_the_programs = |(_, entry): &(TaskId, &Task<P>)| entry.order.parent.is_none();
        let all: Vec<TaskId> = self.tasks.iter().filter(is_the_programs).map(|(task, _)| task).collect();
        if planted(Mutant::DetachedDropped) {
            self.tasks.iter_mut().for_each(|(_, entry)| Arc::make_mut(&mut entry.order).detached = false);
        }
        all.into_iter().rev().for_each(|task| self.release(task));
    }
}
