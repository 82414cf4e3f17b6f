//! Whether what a faulty pool came to is what it should come to.

use std::collections::BTreeSet;

use super::{RESOURCE, TaskVerdict, Trial, WAITS_MOST};
use crate::error::{Error, ErrorKind};
use crate::master::tasks::{Action, TaskId};

impl Trial {
    /// Few messages, and none to a rank that must not get it.
    pub(super) fn judge_action(&mut self, action: &Action) -> Result<(), String> {
        if matches!(action, Action::Assign { .. } | Action::Recall { .. }) {
            self.messages += 1;
            if self.messages > 10 * self.verdict.submitted + 50 {
                return Err(format!("{} messages for {} tasks", self.messages, self.verdict.submitted));
            }
        }
        if let Action::Assign { worker, task, .. } = action {
            self.judge_demand(*worker, *task)?;
        }
        if let Action::Free { worker, task } = action {
            self.workers[*worker].taken.remove(task);
        }
        Ok(())
    }

    /// A task is given to a worker: is it one that may run it, and does it still have what the task needs?
    fn judge_demand(&mut self, worker: usize, task: TaskId) -> Result<(), String> {
        let demand = &self.truth[&task].order.demand;
        if demand.is_none() {
            return Ok(());
        }
        let amount = |task: &TaskId| self.truth[task].order.demand.amounts.get(RESOURCE).copied().unwrap_or(0);
        let used: u64 = self.workers[worker].taken.iter().map(amount).sum();
        let left = self.resources[worker][RESOURCE].saturating_sub(used);
        if !demand.suits(worker, &[(RESOURCE.to_owned(), left)].into()) {
            return Err(format!("task {task} is given to rank {worker}, which has {left} left, and may not run it"));
        }
        self.workers[worker].taken.insert(task);
        Ok(())
    }

    /// A call begins: is its actor there, and has none begun that was submitted later?
    pub(super) fn judge_call(&mut self, worker: usize, actor: TaskId, call: TaskId) -> Result<(), String> {
        if !self.workers[worker].store.contains_key(&actor) {
            return Err(format!("call {call} begins on rank {worker}, where actor {actor} is not"));
        }
        let last = self.truth.get_mut(&actor).expect("it was submitted").last_call.replace(call);
        match last.filter(|last| *last >= call) {
            Some(last) => Err(format!("call {call} of actor {actor} begins after call {last}")),
            None => Ok(()),
        }
    }

    /// Whether no rank that is left will ever be able to run it.
    fn is_impossible(&self, task: TaskId) -> bool {
        let there = self.resources.iter().enumerate().filter(|(rank, _)| !self.workers[*rank].is_lost);
        self.truth[&task].order.demand.problem(&there.collect()).is_some()
    }

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
                    || truth.inner_failed
                    || (truth.panics > truth.order.retries && *attempts == truth.order.retries + 1)
            }
            ErrorKind::Cancelled { .. } => truth.cancelled,
            ErrorKind::Refused { .. } => self.is_impossible(task),
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
            let is_dead = truth.deaths > truth.order.restarts.unwrap_or(0);
            let is_hit = is_dead || truth.struck || truth.cancelled || truth.inner_failed;
            if is_stuck || is_hit || self.is_impossible(task) || truth.panics > truth.order.retries {
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
        if let Some((rank, task)) = self.stuck().first_key_value() {
            return Err(format!("task {task} on rank {rank} still waits for tasks that it has submitted"));
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
