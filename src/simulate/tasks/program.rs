//! The program of a faulty pool: it submits, drops, cancels and waits as the dice say.

use rand::RngExt;

use super::{Happening, RESOURCE, Trial, Truth, WAITS_MOST};
use crate::master::tasks::demand::{Demand, Resources};
use crate::master::tasks::{Event, Order, TaskId};

impl Trial {
    /// The user's program does something.
    pub(super) fn program(&mut self) -> Result<(), String> {
        if self.to_do == 0 {
            // Some programs wait for everything before they end.
            self.waits += 1;
            let waits = self.is_patient && self.waits < WAITS_MOST;
            let waits_for = |task: &TaskId| !self.settled.contains(task) || self.is_owed(*task);
            if waits && self.handles.iter().any(waits_for) {
                self.later(100, Happening::Program);
                return Ok(());
            }
            self.closed = true;
            self.tasks.handle(Event::Closed);
            return Ok(());
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
            (4, _) if self.dice.random_bool(0.3) => self.submit_actor(),
            (roll, _) if roll >= 10 - self.calls && !self.actors.is_empty() => self.call(),
            (4, _) if self.helps > 0 && self.has_a_thread_to_spare() && self.dice.random_range(0..10) < self.helps => {
                self.help()?;
            }
            (4, _) if self.workers[0].has_come => self.give(),
            _ => self.submit(),
        }
        let pause = if self.dice.random_bool(0.2) { 500 } else { 5 };
        self.later(pause, Happening::Program);
        Ok(())
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
        let task = self.own;
        let needs: Vec<TaskId> = (0..self.dice.random_range(0..4)).filter_map(|_| self.some_handle()).collect();
        let ranks = self.workers.len();
        let order = Order {
            kind: self.dice.random_range(0..3),
            needs,
            priority: self.dice.random_range(-1..2),
            on: self.dice.random_bool(0.1).then(|| self.dice.random_range(0..ranks)),
            retries: self.dice.random_range(0..3),
            detached: self.dice.random_bool(0.1),
            rests: self.dice.random_bool(0.3),
            demand: self.draw_demand(),
            ..Order::default()
        };
        let value = order.needs.iter().fold(task + 1, |sum, need| sum.rotate_left(7) ^ self.truth[need].value);
        let truth = Truth {
            is_large: self.dice.random_bool(0.5),
            panics: if self.dice.random_bool(0.1) { self.dice.random_range(1..4) } else { 0 },
            took: if self.dice.random_bool(0.1) { 2000 } else { self.dice.random_range(0..100) },
            struck: self.in_doubt > 0,
            inner: self.draw_inner(0),
            ..Truth::of(value, order.clone())
        };
        let task = self.post(truth);
        if !order.detached {
            self.handles.insert(task);
        }
    }

    fn has_a_thread_to_spare(&self) -> bool {
        let here = &self.workers[0];
        here.has_come && here.running < here.threads
    }

    /// The program runs a task itself, which it has submitted and waits for.
    fn help(&mut self) -> Result<(), String> {
        let order = Order { kind: self.dice.random_range(0..3), ..Order::default() };
        let truth = Truth {
            is_large: self.dice.random_bool(0.3),
            panics: u32::from(self.dice.random_bool(0.1)),
            took: self.dice.random_range(0..100),
            struck: self.in_doubt > 0,
            inner: self.draw_inner(0),
            ..Truth::of(self.own + 1, order.clone())
        };
        let task = self.add(truth);
        self.handles.insert(task);
        self.tasks.handle(Event::Claimed { task, order: order.into(), payload: Box::new(()) });
        if self.dice.random_bool(0.5) {
            self.wanted.insert(task);
            self.tasks.handle(Event::Wanted { task, taken: true });
        }
        self.begin(0, task, true)
    }

    fn submit_actor(&mut self) {
        let needs: Vec<TaskId> = (0..self.dice.random_range(0..2)).filter_map(|_| self.some_handle()).collect();
        let order = Order {
            kind: self.dice.random_range(0..3),
            needs,
            retries: self.dice.random_range(0..2),
            restarts: Some(self.dice.random_range(0..3)),
            // An actor keeps what it takes, which others may wait for as long as the program holds it.
            demand: Demand { amounts: Resources::new(), ..self.draw_demand() },
            ..Order::default()
        };
        let panics = if self.dice.random_bool(0.05) { self.dice.random_range(1..3) } else { 0 };
        let (took, struck) = (self.dice.random_range(0..100), self.in_doubt > 0);
        let truth = Truth { is_large: true, panics, took, struck, ..Truth::of(self.own + 1, order) };
        let task = self.post(truth);
        self.actors.insert(task);
    }

    /// A call of some actor; rarely the last one, after which the program lets go of it.
    fn call(&mut self) {
        let all: Vec<TaskId> = self.actors.iter().copied().collect();
        let actor = all[self.dice.random_range(0..all.len())];
        let mut needs = vec![actor];
        needs.extend((0..self.dice.random_range(0..3)).filter_map(|_| self.some_handle()));
        let order = Order {
            kind: self.dice.random_range(0..3),
            needs,
            actor: Some(actor),
            detached: self.dice.random_bool(0.3),
            ..Order::default()
        };
        let truth = Truth {
            is_large: self.dice.random_bool(0.3),
            panics: u32::from(self.dice.random_bool(0.1)),
            took: self.dice.random_range(0..100),
            struck: self.in_doubt > 0,
            inner: if self.dice.random_bool(0.2) { self.draw_inner(0) } else { 0 },
            ..Truth::of(self.own.rotate_left(5) ^ actor, order)
        };
        let is_detached = truth.order.detached;
        let task = self.post(truth);
        if !is_detached {
            self.handles.insert(task);
        }
        if self.dice.random_bool(0.1) {
            self.actors.remove(&actor);
            self.tasks.handle(Event::Released { task: actor });
        }
    }

    fn post(&mut self, truth: Truth) -> TaskId {
        let order = truth.order.clone();
        let task = self.add(truth);
        self.tasks.handle(Event::Submitted { task, order: order.into(), payload: Box::new(()) });
        task
    }

    fn add(&mut self, truth: Truth) -> TaskId {
        let task = self.own;
        self.own += 1;
        self.truth.insert(task, truth);
        self.verdict.submitted += 1;
        task
    }

    fn draw_demand(&mut self) -> Demand {
        let mut demand = Demand::default();
        if self.dice.random_bool(0.1) {
            demand.amounts.insert(RESOURCE.to_owned(), self.dice.random_range(1..4));
        }
        if self.dice.random_bool(0.1) {
            let ranks = 0..self.workers.len();
            demand.among = Some(ranks.filter(|_| self.dice.random_bool(0.5)).collect());
        }
        demand
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
