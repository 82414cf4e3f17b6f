//! The program of a faulty pool: it submits, drops, cancels and waits as the dice say.

use rand::RngExt;

use super::{Happening, Trial, Truth, WAITS_MOST};
use crate::master::tasks::{Event, Order, TaskId};

impl Trial {
    /// The user's program does something.
    pub(super) fn program(&mut self) {
        if self.to_do == 0 {
            // Some programs wait for everything before they end.
            self.waits += 1;
            let waits = self.is_patient && self.waits < WAITS_MOST;
            let waits_for = |task: &TaskId| !self.settled.contains(task) || self.is_owed(*task);
            if waits && self.handles.iter().any(waits_for) {
                return self.later(100, Happening::Program);
            }
            self.closed = true;
            self.tasks.handle(Event::Closed);
            return;
        }
        self.to_do -= 1;
        let some = self.some_handle();
        match (self.dice.random_range(0..10), some) {
            (0, Some(task)) => {
                self.handles.remove(&task);
                self.wanted.remove(&task);
                self.tasks.handle(Event::Released { task });
            }
            (1, Some(task)) => {
                self.truth.get_mut(&task).expect("it was submitted").cancelled = true;
                self.tasks.handle(Event::Cancelled { task });
            }
            (2 | 3, Some(task)) if self.wanted.insert(task) => {
                let taken = self.dice.random_bool(0.5);
                self.tasks.handle(Event::Wanted { task, taken });
                if self.settled.contains(&task) && !self.failed.contains(&task) && !self.truth[&task].is_large {
                    // It came with the word.
                    let _ = self.got(task, Some(self.truth[&task].value));
                }
            }
            (4, _) if self.workers[0].has_come => self.give(),
            _ => self.submit(),
        }
        let pause = if self.dice.random_bool(0.2) { 500 } else { 5 };
        self.later(pause, Happening::Program);
    }

    /// It waits for a value that there is.
    fn is_owed(&self, task: TaskId) -> bool {
        self.wanted.contains(&task) && !self.failed.contains(&task)
    }

    fn some_handle(&mut self) -> Option<TaskId> {
        // What is taken cannot be used for anything else.
        let all: Vec<TaskId> = self.handles.difference(&self.wanted).copied().collect();
        if all.is_empty() { None } else { Some(all[self.dice.random_range(0..all.len())]) }
    }

    fn submit(&mut self) {
        let task = self.truth.len() as TaskId;
        let needs: Vec<TaskId> = (0..self.dice.random_range(0..4)).filter_map(|_| self.some_handle()).collect();
        let ranks = self.workers.len();
        let order = Order {
            kind: self.dice.random_range(0..3),
            needs,
            priority: self.dice.random_range(-1..2),
            on: self.dice.random_bool(0.1).then(|| self.dice.random_range(0..ranks)),
            retries: self.dice.random_range(0..3),
            detached: self.dice.random_bool(0.1),
        };
        let value = order.needs.iter().fold(task + 1, |sum, need| sum.rotate_left(7) ^ self.truth[need].value);
        let truth = Truth {
            value,
            is_large: self.dice.random_bool(0.5),
            panics: if self.dice.random_bool(0.1) { self.dice.random_range(1..4) } else { 0 },
            took: if self.dice.random_bool(0.1) { 2000 } else { self.dice.random_range(0..100) },
            cancelled: false,
            has_come: false,
            struck: self.in_doubt > 0,
            attempts: 0,
            order: order.clone(),
        };
        self.truth.insert(task, truth);
        if !order.detached {
            self.handles.insert(task);
        }
        self.verdict.submitted += 1;
        self.tasks.handle(Event::Submitted { task, order, payload: () });
    }

    /// The program gets a value that it has waited for.
    pub(super) fn got(&mut self, task: TaskId, value: Option<u64>) -> Result<(), String> {
        self.bringing.remove(&task);
        if !self.wanted.remove(&task) {
            return Ok(());
        }
        if value.is_some_and(|value| value != self.truth[&task].value) {
            return Err(format!("the program gets a wrong value of task {task}"));
        }
        self.verdict.values += 1;
        self.handles.remove(&task);
        self.tasks.handle(Event::Released { task });
        Ok(())
    }
}
