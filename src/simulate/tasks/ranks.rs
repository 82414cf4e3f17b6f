//! The ranks of a faulty pool: what messages do to them, and how their threads get on.

use std::collections::BTreeMap;

use super::{Happening, Trial};
use crate::master::tasks::{Order, Source, TaskId};
use crate::worker::backlog::Job;

impl Trial {
    pub(super) fn happen_at_a_worker(&mut self, happening: Happening) -> Result<(), String> {
        match happening {
            Happening::Run { worker, task, inputs } => self.receive(worker, task, inputs),
            Happening::Recall { worker, mut tasks } => {
                tasks.retain(|task| self.workers[worker].backlog.remove(*task));
                self.send(worker, 0, Happening::Returned { worker, tasks });
            }
            Happening::Stop { worker, task } => {
                if self.workers[worker].backlog.remove(task) {
                    self.send(worker, 0, Happening::Returned { worker, tasks: vec![task] });
                }
                // A call goes on, or its actor's state would be half changed.
                if self.truth[&task].order.actor.is_none() {
                    self.stop_waiting(worker, task);
                }
            }
            Happening::Told { worker, task, tell } => {
                self.on_told(worker, task, tell)?;
                self.start(worker)?;
            }
            Happening::Free { worker, task } => {
                self.workers[worker].store.remove(&task);
                self.workers[worker].backlog.forgo(task);
            }
            Happening::Expect { worker, task } => self.expect(worker, task),
            Happening::GiveUp { worker, task } => self.give_up(worker, task),
            Happening::Miss { worker, lost } => {
                self.miss_inner(worker, lost);
                let tasks = self.workers[worker].backlog.miss(lost);
                self.send(worker, 0, Happening::Returned { worker, tasks });
            }
            Happening::Fetch { at, task, to } => {
                let value = self.workers[at].store.get(&task).copied();
                // A task that was taken back may ask in vain; one that runs without its values is found out.
                if value.is_none() && to.is_none() && !self.truth[&task].struck {
                    return Err(format!("task {task}: its value is asked for at rank {at}, which does not have it"));
                }
                self.send(at, to.unwrap_or(0), Happening::Value { to, task, value });
            }
            Happening::Value { to: Some(worker), task, value } => {
                let worker_ = &mut self.workers[worker];
                let is_wanted = worker_.backlog.arrived(task, |inputs| {
                    inputs.iter_mut().filter(|(other, _)| *other == task).for_each(|(_, input)| *input = value);
                });
                value.into_iter().filter(|_| is_wanted).for_each(|value| _ = worker_.store.insert(task, value));
                if worker_.expected.remove(&task).is_some() {
                    self.has_inner(worker, task, value)?;
                }
                self.start(worker)?;
            }
            Happening::Through { worker, task, value } => {
                self.workers[worker].running -= 1;
                if let (Ok(value), true) = (value, self.truth[&task].is_large) {
                    self.workers[worker].store.insert(task, value);
                }
                self.send(worker, 0, Happening::Ended { worker, task, value });
                if let Some(actor) = self.truth[&task].order.actor {
                    self.end_call(worker, actor, value.is_err());
                }
                self.start(worker)?;
            }
            _ => unreachable!("that does not happen at a worker"),
        }
        Ok(())
    }

    /// A worker gets a task.
    fn receive(&mut self, worker: usize, task: TaskId, inputs: Vec<(TaskId, Source, Option<u64>)>) {
        let Order { depth, actor, .. } = self.truth[&task].order;
        if actor.is_some_and(|actor| !self.workers[worker].store.contains_key(&actor)) {
            // It has died meanwhile.
            return self.send(worker, 0, Happening::Returned { worker, tasks: vec![task] });
        }
        let (mut lacks, mut found) = (BTreeMap::new(), Vec::new());
        for (value, source, small) in inputs {
            let here = self.workers[worker].store.get(&value).copied().or(small);
            if let (None, Source::At(rank)) = (here, source) {
                lacks.insert(value, rank);
            }
            found.push((value, here));
        }
        for (value, at) in self.workers[worker].backlog.give(Job { task, depth, actor, work: found }, &lacks) {
            self.send(worker, at, Happening::Fetch { at, task: value, to: Some(worker) });
        }
        let _ = self.start(worker);
    }

    /// Idle threads begin tasks.
    fn start(&mut self, worker: usize) -> Result<(), String> {
        while !self.workers[worker].is_lost && self.workers[worker].running < self.workers[worker].threads {
            let Some(Job { task, work: inputs, actor, .. }) = self.workers[worker].backlog.next() else { break };
            let mut is_whole = true;
            for (need, input) in inputs {
                let truth = &self.truth[&need];
                is_whole &= input.is_some();
                if input.is_none() && !truth.struck {
                    return Err(format!("task {task} runs on rank {worker} without the value of task {need}"));
                }
                if input.is_some_and(|input| input != truth.value) {
                    return Err(format!("task {task} is given a wrong value of task {need}"));
                }
            }
            if let Some(actor) = actor {
                self.judge_call(worker, actor, task)?;
            }
            self.begin(worker, task, is_whole)?;
        }
        Ok(())
    }

    /// A thread begins a task, which has all that it needs, or panics.
    pub(super) fn begin(&mut self, worker: usize, task: TaskId, is_whole: bool) -> Result<(), String> {
        self.workers[worker].running += 1;
        let truth = self.truth.get_mut(&task).expect("it was submitted");
        truth.attempts += 1;
        let most = (truth.order.retries + 1) * (truth.order.restarts.unwrap_or(0) + 1);
        if truth.attempts > most && !truth.struck {
            return Err(format!("task {task} is tried for the {}th time", truth.attempts));
        }
        let panics = truth.attempts <= truth.panics || !is_whole;
        if truth.inner > 0 && !panics {
            self.submit_inner(worker, task);
        } else {
            self.compute(worker, task, !panics);
        }
        Ok(())
    }

    /// A call has ended; one that has panicked ends its actor, and those behind it go back.
    fn end_call(&mut self, worker: usize, actor: TaskId, has_died: bool) {
        if !has_died {
            return self.workers[worker].backlog.through(actor);
        }
        self.workers[worker].store.remove(&actor);
        self.truth.get_mut(&actor).expect("it was submitted").deaths += 1;
        let tasks = self.workers[worker].backlog.dissolve(actor);
        self.send(worker, 0, Happening::Returned { worker, tasks });
    }

    /// A thread is busy with a task, which comes to a good end or not.
    pub(super) fn compute(&mut self, worker: usize, task: TaskId, is_good: bool) {
        let truth = &self.truth[&task];
        let value = is_good.then_some(truth.value).ok_or(());
        let at = self.now + truth.took;
        self.number += 1;
        self.agenda.insert((at, self.number), Happening::Through { worker, task, value });
    }
}
