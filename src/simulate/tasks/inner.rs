//! Tasks that submit tasks and wait for them, in faulty pools.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt;

use super::{Happening, Trial, Truth};
use crate::error::Error;
use crate::master::tasks::{Event, FIRST_OF_RANK, Order, TaskId, owner};

/// No task is submitted deeper than this in others.
const DEEPEST: u32 = 3;

/// A task that waits for what it has submitted.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Those of which it does not have the value yet.
    lacks: BTreeSet<TaskId>,
    all: BTreeSet<TaskId>,
    has_failed: bool,
}

/// What a task on some rank wants of rank 0.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ask {
    Submit(TaskId),
    Want { task: TaskId, taken: bool },
    Release(TaskId),
}

/// What the rank that has submitted a task learns of it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Tell {
    /// Its value comes along if it is small.
    Settled {
        failed: bool,
        small: Option<u64>,
    },
    Bring {
        from: usize,
    },
    Unavailable,
}

/// What a task makes that was submitted inside of another one: the same in each attempt of that.
fn value_of(outer: u64, at: u64) -> u64 {
    outer.rotate_left(11) ^ (at + 1)
}

impl Trial {
    /// How many tasks a new one will submit.
    pub(super) fn draw_inner(&mut self, depth: u32) -> u64 {
        if depth < DEEPEST && self.dice.random_bool(0.15) { self.dice.random_range(1..4) } else { 0 }
    }

    /// A task has begun that submits others: it waits for some of them, and lets go of the rest.
    pub(super) fn submit_inner(&mut self, worker: usize, outer: TaskId) {
        let (count, depth, value) = {
            let truth = &self.truth[&outer];
            (truth.inner, truth.order.depth + 1, truth.value)
        };
        let mut waiting = Waiting::default();
        for at in 0..count {
            self.workers[worker].submitted += 1;
            let task = worker as TaskId * FIRST_OF_RANK + 1_000_000 + self.workers[worker].submitted;
            let before = waiting.all.last().copied().filter(|_| self.dice.random_bool(0.3));
            let order = Order {
                kind: self.dice.random_range(0..3),
                needs: before.into_iter().collect(),
                priority: self.dice.random_range(-1..2),
                retries: self.dice.random_range(0..2),
                rests: self.dice.random_bool(0.5),
                parent: Some(outer),
                depth,
                ..Order::default()
            };
            let truth = Truth {
                inner: self.draw_inner(depth),
                is_large: self.dice.random_bool(0.5),
                panics: if self.dice.random_bool(0.05) { self.dice.random_range(1..3) } else { 0 },
                took: self.dice.random_range(0..100),
                struck: self.in_doubt > 0,
                ..Truth::of(value_of(value, at), order)
            };
            self.truth.insert(task, truth);
            self.verdict.submitted += 1;
            self.ask(worker, Ask::Submit(task));
            waiting.all.insert(task);
            if self.dice.random_bool(0.8) {
                waiting.lacks.insert(task);
            }
        }
        for task in waiting.lacks.clone() {
            let taken = self.dice.random_bool(0.5);
            self.ask(worker, Ask::Want { task, taken });
        }
        for task in waiting.all.difference(&waiting.lacks).copied().collect::<Vec<_>>() {
            self.ask(worker, Ask::Release(task));
        }
        // Its place is another's meanwhile.
        self.workers[worker].running -= 1;
        self.workers[worker].waiting.insert(outer, waiting);
        self.go_on_if_complete(worker, outer);
    }

    fn ask(&mut self, worker: usize, ask: Ask) {
        self.send(worker, 0, Happening::Asked(ask));
    }

    pub(super) fn on_asked(&mut self, ask: Ask) {
        self.tasks.handle(match ask {
            Ask::Submit(task) => {
                Event::Submitted { task, order: self.truth[&task].order.clone().into(), payload: Box::new(()) }
            }
            Ask::Want { task, taken } => Event::Wanted { task, taken },
            Ask::Release(task) => Event::Released { task },
        });
    }

    /// Rank 0 has something for the rank that has submitted a task.
    pub(super) fn tell(&mut self, task: TaskId, tell: Tell) {
        let worker = owner(task);
        if !self.workers[worker].is_lost {
            self.send(0, worker, Happening::Told { worker, task, tell });
        }
    }

    pub(super) fn tell_settled(&mut self, task: TaskId, failed: Option<&Error>) {
        let truth = &self.truth[&task];
        let small = (failed.is_none() && !truth.is_large).then_some(truth.value);
        self.tell(task, Tell::Settled { failed: failed.is_some(), small });
    }

    pub(super) fn on_told(&mut self, worker: usize, task: TaskId, tell: Tell) -> Result<(), String> {
        match tell {
            Tell::Settled { failed: true, .. } | Tell::Unavailable => self.has_inner(worker, task, None),
            Tell::Settled { small: Some(value), .. } => self.has_inner(worker, task, Some(value)),
            Tell::Settled { .. } => Ok(()),
            Tell::Bring { from } => {
                if let Some(value) = self.workers[worker].store.get(&task).copied() {
                    return self.has_inner(worker, task, Some(value));
                }
                self.workers[worker].expected.insert(task, from);
                self.send(worker, from, Happening::Fetch { at: from, task, to: Some(worker) });
                Ok(())
            }
        }
    }

    /// What was on its way from a lost rank has to be asked for again.
    pub(super) fn miss_inner(&mut self, worker: usize, lost: usize) {
        let missed = self.workers[worker].expected.iter().filter(|(_, from)| **from == lost);
        for task in missed.map(|(task, _)| *task).collect::<Vec<_>>() {
            self.workers[worker].expected.remove(&task);
            self.ask(worker, Ask::Want { task, taken: false });
        }
    }

    /// A task has the value of one that it has submitted, or learns that there is none.
    pub(super) fn has_inner(&mut self, worker: usize, task: TaskId, value: Option<u64>) -> Result<(), String> {
        if value.is_some_and(|value| value != self.truth[&task].value) {
            return Err(format!("a task on rank {worker} gets a wrong value of task {task}, which it has submitted"));
        }
        let Some(outer) = self.truth[&task].order.parent else { return Ok(()) };
        let Some(waiting) = self.workers[worker].waiting.get_mut(&outer) else { return Ok(()) };
        if waiting.lacks.remove(&task) {
            waiting.has_failed |= value.is_none();
            self.ask(worker, Ask::Release(task));
        }
        self.go_on_if_complete(worker, outer);
        Ok(())
    }

    fn go_on_if_complete(&mut self, worker: usize, outer: TaskId) {
        let waiting = &mut self.workers[worker].waiting;
        let Some(Waiting { has_failed, .. }) = waiting
            .get(&outer)
            .is_some_and(|waiting| waiting.lacks.is_empty())
            .then(|| waiting.remove(&outer))
            .flatten()
        else {
            return;
        };
        self.workers[worker].running += 1;
        if has_failed {
            self.truth.get_mut(&outer).expect("it was submitted").inner_failed = true;
        }
        self.compute(worker, outer, !has_failed);
    }

    /// A task that waits for others is asked to stop: it does, and lets go of them.
    pub(super) fn stop_waiting(&mut self, worker: usize, outer: TaskId) {
        let Some(waiting) = self.workers[worker].waiting.remove(&outer) else { return };
        for task in waiting.lacks {
            self.workers[worker].expected.remove(&task);
            self.ask(worker, Ask::Release(task));
        }
        self.workers[worker].running += 1;
        self.compute(worker, outer, false);
    }

    /// The tasks that wait for others when everything is over.
    pub(super) fn stuck(&self) -> BTreeMap<usize, TaskId> {
        let alive = self.workers.iter().enumerate().filter(|(_, worker)| !worker.is_lost);
        alive.filter_map(|(rank, worker)| worker.waiting.keys().next().map(|task| (rank, *task))).collect()
    }
}
