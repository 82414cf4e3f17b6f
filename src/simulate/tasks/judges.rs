//! Whether what a faulty pool came to is what it should come to.

use std::collections::BTreeSet;

use super::{TaskVerdict, Trial, WAITS_MOST};
use crate::error::{Error, ErrorKind};
use crate::master::tasks::TaskId;

impl Trial {
    pub(super) fn settled(&mut self, task: TaskId, failed: Option<Error>) -> Result<(), String> {
        if !self.settled.insert(task) {
            return Err(format!("task {task} is told to be done twice"));
        }
        let Some(error) = failed else {
            if !self.truth[&task].is_large && self.wanted.contains(&task) {
                self.got(task, Some(self.truth[&task].value))?;
            }
            return Ok(());
        };
        self.verdict.errors += 1;
        self.failed.insert(task);
        let truth = &self.truth[&task];
        let has_reason = match error.kind() {
            ErrorKind::Panicked { attempts, .. } => {
                truth.struck
                    || truth.cancelled
                    || (truth.panics > truth.order.retries && *attempts == truth.order.retries + 1)
            }
            ErrorKind::Cancelled { .. } => truth.cancelled,
            ErrorKind::Silent { .. } => truth.struck || truth.order.on.is_some_and(|rank| self.workers[rank].is_lost),
            ErrorKind::Needed { .. } => truth.order.needs.iter().any(|need| self.is_doomed(*need)),
            _ => false,
        };
        if has_reason { Ok(()) } else { Err(format!("task {task} has failed without a reason: {error}")) }
    }

    /// Whether the task, or one that it depends on, may have failed.
    pub(super) fn is_doomed(&self, task: TaskId) -> bool {
        let (mut seen, mut to_see) = (BTreeSet::from([task]), vec![task]);
        while let Some(task) = to_see.pop() {
            let truth = &self.truth[&task];
            let is_stuck = truth.order.on.is_some_and(|rank| self.workers[rank].is_lost);
            if is_stuck || truth.struck || truth.cancelled || truth.panics > truth.order.retries {
                return true;
            }
            to_see.extend(truth.order.needs.iter().filter(|need| seen.insert(**need)));
        }
        false
    }

    pub(super) fn look_at_the_end(&self) -> Result<TaskVerdict, String> {
        if !self.finished {
            return Err("nothing happens any more, and the pool is not over".into());
        }
        if self.waits == WAITS_MOST {
            return Err("the program waits for tasks that nobody tells it about".into());
        }
        if self.is_patient
            && let Some(task) =
                self.wanted.iter().find(|task| self.settled.contains(*task) && !self.failed.contains(*task))
        {
            return Err(format!("the program waits for the value of task {task}, and nobody tells it anything"));
        }
        if let Some(task) = self.tasks.known().next() {
            return Err(format!("task {task} is remembered when everything is over"));
        }
        for (rank, worker) in self.workers.iter().enumerate().filter(|(_, worker)| !worker.is_lost) {
            if let Some(task) = worker.store.keys().next() {
                return Err(format!("rank {rank} still keeps the value of task {task}"));
            }
        }
        // What was detached has run, unless something has kept it from running.
        let is_owed = |task: &TaskId| self.truth[task].order.detached && !self.is_doomed(*task);
        match self.truth.keys().find(|task| is_owed(task) && self.truth[*task].attempts == 0) {
            Some(task) => Err(format!("task {task} was detached, and has not run")),
            None => Ok(self.verdict),
        }
    }
}
