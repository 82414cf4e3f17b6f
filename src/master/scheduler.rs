//! The master's state machine: who gets which batch, and when the call is over.
//!
//! Its methods are of three kinds, to be used in this order: [`Scheduler::handle`] takes one event and changes state;
//! [`Scheduler::poll_action`] gives what is to be done, until it gives nothing more; [`Scheduler::next_deadline`] tells
//! when to come back with [`Event::Tick`] if nothing else happens. It is the twin of the worker's `Agent`.
//!
//! Every leaf is in exactly one place: nobody's (`regions`), some worker's (`ledger`), or done. The call finishes when
//! all are done and every worker has entered it, since a rank that never makes the call must not be left behind.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::ledger::Ledger;
use super::policy::{Demand, Estimate, Policy};
use super::regions::Regions;
use crate::error::Error;
use crate::extent::Extent;
use crate::report::Lengths;
use crate::time::Time;
use crate::wire::Cost;

/// Batches that a worker holds: the one it computes and the one after it, so that no round trip is waited for.
const AHEAD: usize = 2;
/// How long a failed call waits for mappers that cannot be interrupted before it ends the program.
pub(crate) const GRACE: Duration = Duration::from_secs(2);
/// A queued batch is worth recalling if it would wait longer than this, in seconds.
const WORTH_RECALLING: f64 = 200e-6;

#[derive(Debug)]
pub(crate) struct Scheduler {
    workers: Vec<Worker>,
    regions: Regions,
    ledger: Ledger,
    policy: Policy,
    config: Config,
    /// Workers that want a batch, the one with the fewest leaves for its threads first.
    hungry: BTreeSet<(u64, usize)>,
    /// Workers whose last batch waits for others before it, by the leaves that it waits for; no recall is under way.
    queues: BTreeSet<(u64, usize)>,
    /// Workers that have entered the call and hold nothing.
    idle: usize,
    /// Recalls that have not been answered.
    recalls: usize,
    /// Workers that have not entered the call, and the threads of those that have.
    missing: usize,
    threads_ready: u32,
    /// Leaves that are not done.
    unfinished: u64,
    phase: Phase,
    actions: VecDeque<Action>,
    lengths: Lengths,
}

/// What the user chose for this call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Config {
    pub leaves: u64,
    /// No batch has more leaves than this.
    pub longest: u64,
    /// How often a batch that failed is tried again.
    pub retries: u32,
    /// Whether one thread works on a batch (the function wants it whole) rather than all threads of the rank.
    pub whole_batches: bool,
}

#[derive(Debug, Clone, Default)]
struct Worker {
    threads: u32,
    ready: bool,
    /// The keys under which it is in `hungry` and in `queues`, if it is.
    hunger: Option<u64>,
    queue: Option<u64>,
    idle: bool,
    estimate: Estimate,
    recalled: Option<Extent>,
    stopped: bool,
}

#[derive(Debug)]
enum Phase {
    Running,
    Finished,
    /// The call has failed; who computes still is waited for until the deadline.
    Stopping {
        error: Error,
        deadline: Time,
    },
    /// The call has failed and nobody computes any more.
    Stopped,
}

#[derive(Debug)]
pub(crate) enum Event {
    /// A worker has entered the call.
    Ready {
        worker: usize,
    },
    Done {
        worker: usize,
        batch: Extent,
        cost: Cost,
    },
    Failed {
        worker: usize,
        batch: Extent,
        error: Error,
    },
    /// A recalled batch was not started and came back.
    Returned {
        worker: usize,
        batch: Extent,
    },
    /// A worker has stopped computing because the call failed.
    Stopped {
        worker: usize,
    },
    /// The call cannot be completed.
    Broken {
        error: Error,
    },
    /// Rank 0 spent so many seconds on one batch.
    Served {
        seconds: f64,
    },
    Tick,
}

#[derive(Debug)]
pub(crate) enum Action {
    Assign {
        worker: usize,
        batch: Extent,
    },
    Recall {
        worker: usize,
        batch: Extent,
    },
    /// All leaves are done: every worker goes on to the reduction.
    Finish,
    /// The call has failed: tell every worker, also those that have not entered it yet.
    Stop {
        error: Error,
    },
    /// Nobody computes any more: every rank returns the error.
    Release,
    /// Some worker cannot be interrupted: end the program with the error.
    Abandon {
        error: Error,
        busy: Vec<usize>,
    },
}

impl Scheduler {
    /// A call over `config.leaves` leaves on workers with so many threads each.
    pub fn new(config: Config, threads: &[u32]) -> Self {
        let workers =
            threads.iter().map(|threads| Worker { threads: (*threads).max(1), ..Worker::default() }).collect();
        Self {
            workers,
            regions: Regions::new(config.leaves, threads),
            ledger: Ledger::new(threads.len()),
            policy: Policy::new(),
            config,
            hungry: BTreeSet::new(),
            queues: BTreeSet::new(),
            idle: 0,
            recalls: 0,
            missing: threads.len(),
            threads_ready: 0,
            unfinished: config.leaves,
            phase: Phase::Running,
            actions: VecDeque::new(),
            lengths: Lengths::default(),
        }
    }

    /// Takes one event. Poll the actions afterwards.
    pub fn handle(&mut self, now: Time, event: Event) {
        match event {
            Event::Ready { worker } => self.on_ready(worker),
            Event::Done { worker, batch, cost } => self.on_done(worker, batch, cost),
            Event::Failed { worker, batch, error } => self.on_failed(now, worker, batch, error),
            Event::Returned { worker, batch } => self.on_returned(worker, batch),
            Event::Stopped { worker } => self.workers[worker].stopped = true,
            Event::Broken { error } => self.stop(now, error),
            Event::Served { seconds } => self.policy.served(seconds),
            Event::Tick => {}
        }
        match &self.phase {
            Phase::Running => self.advance(),
            Phase::Stopping { .. } => self.wind_up(now),
            Phase::Finished | Phase::Stopped => {}
        }
        debug_assert_eq!(self.regions.left() + self.ledger.open_leaves() + self.done(), self.config.leaves);
    }

    /// The next thing to do, or nothing.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to come back with `Event::Tick`.
    pub fn next_deadline(&self) -> Option<Time> {
        match &self.phase {
            Phase::Stopping { deadline, .. } => Some(*deadline),
            _ => None,
        }
    }

    /// Leaves that are done.
    pub fn done(&self) -> u64 {
        self.config.leaves - self.unfinished
    }

    /// The workers that have not entered the call.
    pub fn missing(&self) -> impl Iterator<Item = usize> {
        self.workers.iter().enumerate().filter(|(_, worker)| !worker.ready).map(|(worker, _)| worker)
    }

    /// How long the batches were.
    pub fn lengths(&self) -> &Lengths {
        &self.lengths
    }

    fn on_ready(&mut self, worker: usize) {
        if !std::mem::replace(&mut self.workers[worker].ready, true) {
            self.missing -= 1;
            self.threads_ready += self.workers[worker].threads;
        }
        self.reindex(worker);
    }

    fn on_done(&mut self, worker: usize, batch: Extent, cost: Cost) {
        if !self.release(worker, batch) {
            return;
        }
        self.unfinished -= batch.len;
        let lane = self.lane(worker);
        self.policy.learn(&mut self.workers[worker].estimate, batch.len, lane, cost);
    }

    fn on_failed(&mut self, now: Time, worker: usize, batch: Extent, error: Error) {
        if !self.release(worker, batch) {
            return;
        }
        self.regions.give_back(batch);
        let attempts = self.ledger.fail(batch);
        if attempts > self.config.retries || !error.may_pass() {
            self.stop(now, error.after(attempts));
        }
    }

    fn on_returned(&mut self, worker: usize, batch: Extent) {
        if self.release(worker, batch) {
            self.regions.give_back(batch);
        }
    }

    /// The worker no longer holds the batch. False if it did not, which is a message that came too late to matter.
    fn release(&mut self, worker: usize, batch: Extent) -> bool {
        let held = self.ledger.release(worker, batch);
        if held {
            let recalled = &mut self.workers[worker].recalled;
            if *recalled == Some(batch) {
                *recalled = None;
                self.recalls -= 1;
            }
            self.reindex(worker);
        }
        held
    }

    /// Hands out what there is, recalls what waits elsewhere, and notices the end.
    fn advance(&mut self) {
        while self.regions.left() > 0
            && let Some((_, worker)) = self.hungry.first().copied()
        {
            self.hand_out(worker);
        }
        if self.unfinished == 0 && self.missing == 0 {
            self.phase = Phase::Finished;
            self.actions.push_back(Action::Finish);
        } else if self.unfinished > 0 && self.regions.left() == 0 {
            self.recall();
        }
    }

    fn hand_out(&mut self, worker: usize) {
        let demand = Demand {
            left: self.regions.left(),
            threads: self.lane(worker),
            threads_total: self.threads_ready,
            workers: self.workers.len(),
        };
        let batch = match self.regions.first_returned() {
            Some(batch) if self.ledger.has_failed(batch) => self.regions.take_returned(batch, u64::MAX),
            Some(batch) => self.regions.take_returned(batch, self.batch_len(worker, &demand)),
            None => {
                if self.regions.is_empty(worker) {
                    self.resettle(worker);
                }
                self.regions.take(worker, self.batch_len(worker, &demand))
            }
        };
        self.workers[worker].estimate.assigned(batch.len);
        self.ledger.assign(worker, batch);
        self.lengths.count(batch.len);
        self.reindex(worker);
        self.actions.push_back(Action::Assign { worker, batch });
    }

    fn batch_len(&self, worker: usize, demand: &Demand) -> u64 {
        self.policy.batch_len(&self.workers[worker].estimate, demand).min(self.config.longest)
    }

    /// Gives a worker whose region is empty the back of the richest one, in proportion to their threads.
    fn resettle(&mut self, thief: usize) {
        let Some(victim) = self.regions.richest() else { return };
        let [mine, theirs] = [thief, victim].map(|worker| f64::from(self.workers[worker].threads));
        let share = if self.workers[victim].ready { mine / (mine + theirs) } else { 1.0 };
        self.regions.split(victim, thief, share);
        let theirs = self.workers[victim].estimate;
        Policy::moved(&mut self.workers[thief].estimate, &theirs);
    }

    /// Nothing is left to hand out: for each idle worker, ask for the queued batch that has most before it.
    fn recall(&mut self) {
        while self.recalls < self.idle
            && let Some((before, worker)) = self.queues.last().copied()
        {
            let lane = self.lane(worker);
            let wait = self.policy.seconds(&self.workers[worker].estimate, before, lane);
            if wait.is_some_and(|seconds| seconds < WORTH_RECALLING) {
                break;
            }
            let batch = *self.ledger.batches(worker).last().expect("a worker with a queue holds a batch");
            self.workers[worker].recalled = Some(batch);
            self.recalls += 1;
            self.reindex(worker);
            self.actions.push_back(Action::Recall { worker, batch });
        }
    }

    fn stop(&mut self, now: Time, error: Error) {
        if matches!(self.phase, Phase::Running) {
            self.actions.push_back(Action::Stop { error: error.clone() });
            self.phase = Phase::Stopping { error, deadline: now.after(GRACE) };
        }
    }

    /// A failed call is over when nobody computes any more, or when the time for that is up.
    fn wind_up(&mut self, now: Time) {
        let Phase::Stopping { error, deadline } = &self.phase else { return };
        let busy: Vec<usize> = (0..self.workers.len())
            .filter(|worker| self.workers[*worker].ready && !self.workers[*worker].stopped)
            .collect();
        if busy.is_empty() {
            self.actions.push_back(Action::Release);
            self.phase = Phase::Stopped;
        } else if now >= *deadline {
            self.actions.push_back(Action::Abandon { error: error.clone(), busy });
            self.phase = Phase::Stopped;
        }
    }

    /// Threads that work on one batch of this worker.
    fn lane(&self, worker: usize) -> u32 {
        if self.config.whole_batches { 1 } else { self.workers[worker].threads }
    }

    /// Brings `hungry`, `queues` and `idle` up to date after a worker's batches have changed.
    ///
    /// A worker wants more while it has no batch ahead, or fewer leaves than would keep its threads busy twice over.
    fn reindex(&mut self, worker: usize) {
        let lanes = (self.workers[worker].threads / self.lane(worker)) as usize;
        let (batches, leaves) = (self.ledger.batches(worker), self.ledger.leaves(worker));
        let entry = &mut self.workers[worker];
        let threads = u64::from(entry.threads);
        let wants = entry.ready && (batches.len() < AHEAD - 1 + lanes || leaves < 2 * threads);
        let queue = (batches.len() > lanes && entry.recalled.is_none())
            .then(|| batches[..batches.len() - lanes].iter().map(|batch| batch.len).sum());
        let (hunger, queue) = (
            std::mem::replace(&mut entry.hunger, wants.then_some((leaves << 16) / threads)),
            std::mem::replace(&mut entry.queue, queue),
        );
        let was_idle = std::mem::replace(&mut entry.idle, entry.ready && batches.is_empty());
        self.idle = self.idle + usize::from(entry.idle) - usize::from(was_idle);
        hunger.map(|key| self.hungry.remove(&(key, worker)));
        queue.map(|key| self.queues.remove(&(key, worker)));
        entry.hunger.map(|key| self.hungry.insert((key, worker)));
        entry.queue.map(|key| self.queues.insert((key, worker)));
    }
}

#[cfg(test)]
mod tests;
