//! Values that the program of a faulty pool gives, and that come to every rank by themselves, or do not.

use std::collections::BTreeMap;

use rand::RngExt;

use super::{Happening, Trial, Truth};
use crate::master::tasks::{Event, Order, Source, TaskId};

impl Trial {
    /// The program gives a value: one that everybody is to have, or one that is fetched when it is needed.
    pub(super) fn give(&mut self) {
        let task = self.truth.len() as TaskId;
        let is_large = self.dice.random_bool(0.8);
        let truth = Truth {
            value: task + 1,
            is_large,
            panics: 0,
            took: 0,
            cancelled: false,
            has_come: true,
            struck: self.in_doubt > 0,
            attempts: 0,
            order: Order::default(),
        };
        self.truth.insert(task, truth);
        self.handles.insert(task);
        self.settled.insert(task);
        self.tasks.handle(Event::Given { task, bytes: is_large.then_some(10_000), payload: () });
        if !is_large {
            return;
        }
        self.workers[0].store.insert(task, task + 1);
        let all_are_here = self.workers.iter().all(|worker| worker.has_come && !worker.is_lost);
        if self.dice.random_bool(0.7) && all_are_here && self.tasks.spread(task) {
            (1..self.workers.len()).for_each(|worker| self.send(0, worker, Happening::Expect { worker, task }));
        }
    }

    /// A rank takes part in a broadcast: the value comes in a while, unless the broadcast is given up.
    pub(super) fn expect(&mut self, worker: usize, task: TaskId) {
        if !self.workers[worker].store.contains_key(&task) {
            self.workers[worker].backlog.expect(task, 0);
        }
        let value = Some(self.truth[&task].value);
        let is_given_up = self.dice.random_bool(0.2);
        let comes = Happening::Value { to: Some(worker), task, value };
        self.later(1500, if is_given_up { Happening::GiveUp { worker, task } } else { comes });
    }

    /// A rank does not wait for a broadcast any more.
    pub(super) fn give_up(&mut self, worker: usize, task: TaskId) {
        if self.workers[worker].backlog.still_needs(task) {
            self.send(worker, 0, Happening::Fetch { at: 0, task, to: Some(worker) });
        }
    }

    /// A worker gets a task.
    pub(super) fn receive(&mut self, worker: usize, task: TaskId, inputs: Vec<(TaskId, Source, Option<u64>)>) {
        let (mut lacks, mut found) = (BTreeMap::new(), Vec::new());
        for (value, source, small) in inputs {
            let here = self.workers[worker].store.get(&value).copied().or(small);
            if let (None, Source::At(rank)) = (here, source) {
                lacks.insert(value, rank);
            }
            found.push((value, here));
        }
        for (value, at) in self.workers[worker].backlog.give(task, found, &lacks) {
            self.send(worker, at, Happening::Fetch { at, task: value, to: Some(worker) });
        }
        let _ = self.start(worker);
    }
}
