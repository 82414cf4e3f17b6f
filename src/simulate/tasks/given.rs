//! Values that the program of a faulty pool gives, and that come to every rank by themselves, or do not.

use rand::RngExt;

use super::{Happening, Trial, Truth};
use crate::master::tasks::{Event, Order, TaskId};

impl Trial {
    /// The program gives a value: one that everybody is to have, or one that is fetched when it is needed.
    pub(super) fn give(&mut self) {
        let task = self.own;
        self.own += 1;
        let is_large = self.dice.random_bool(0.8);
        let struck = self.in_doubt > 0;
        let truth = Truth { is_large, has_come: true, struck, ..Truth::of(task + 1, Order::default()) };
        self.truth.insert(task, truth);
        self.handles.insert(task);
        self.settled.insert(task);
        self.tasks.handle(Event::Given { task, bytes: is_large.then_some(10_000), payload: Box::new(()) });
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
}
