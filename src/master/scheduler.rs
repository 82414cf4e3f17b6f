//! The master's state machine: who gets which batch, and when the call is over.
//!
//! Its methods are of three kinds, to be used in this order: [`Scheduler::handle`] takes one event and changes state;
//! [`Scheduler::poll_action`] gives what is to be done, until it gives nothing more; [`Scheduler::next_deadline`] tells
//! when to come back with [`Event::Tick`] if nothing else happens. It is the twin of the worker's `Agent`.
//!
//! Every leaf is in exactly one place: nobody's (`regions`), held by a worker that is trusted (`ledger`), done
//! (`covered`), or kept for the end or from everybody because it has ended ranks (`quarantine`). A worker that is
//! silent or far too slow is not trusted: what it holds is handed out once more, and whoever is first counts. The
//! call finishes when all leaves are done and every worker has entered it, since a rank that never makes the call
//! must not be left behind.

mod books;
mod doubt;
mod drain;
mod index;
mod protocol;
mod quarantine;
mod tail;

pub(crate) use protocol::{Action, Event};

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::coverage::Coverage;
use super::ledger::Ledger;
use super::liveness::{Liveness, Patience};
use super::policy::{Demand, Estimate, Learned, Policy};
use super::regions::Regions;
use crate::error::Error;
use crate::extent::{Extent, extents_between};
use crate::report::Lengths;
use crate::simulate::mutant::{Mutant, planted};
use crate::time::Time;
use crate::wire::Cost;
use drain::Drain;
use quarantine::Quarantine;

/// Batches that a worker holds: the one it computes and the one after it, so that no round trip is waited for.
const AHEAD: usize = 2;
/// How long a failed call waits for mappers that cannot be interrupted before it ends the program.
pub(crate) const GRACE: Duration = Duration::from_secs(2);
#[derive(Debug)]
pub(crate) struct Scheduler {
    workers: Vec<Worker>,
    regions: Regions,
    ledger: Ledger,
    /// The leaves that are done.
    covered: Coverage,
    policy: Policy,
    liveness: Liveness,
    config: Config,
    /// Workers that want a batch, the one with the fewest leaves for its threads first.
    hungry: BTreeSet<(u64, usize)>,
    /// Workers whose last batch waits for others before it, by the leaves that it waits for; no recall is under way.
    queues: BTreeSet<(u64, usize)>,
    /// Workers whose running batch can be cut short, by when it is expected to end; no recall is under way.
    running: BTreeSet<(Time, usize)>,
    /// Whether some leaf may be held by two workers.
    overlaps: bool,
    /// Workers that have entered the call and hold nothing.
    idle: usize,
    /// Recalls that have not been answered.
    recalls: usize,
    /// Workers that have not entered the call, and the threads of those that have.
    missing: usize,
    threads_ready: u32,
    /// Workers that are silent, and not given up yet.
    silent: usize,
    phase: Phase,
    drain: Option<Drain>,
    quarantine: Quarantine,
    actions: VecDeque<Action>,
    lengths: Lengths,
}

/// What the user chose for this call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Config {
    pub leaves: u64,
    /// Items in a leaf: costs are remembered by the item.
    pub leaf: u64,
    /// No batch has more leaves than this.
    pub longest: u64,
    /// How often a batch that failed is tried again.
    pub retries: u32,
    /// Whether one thread works on a batch (the function wants it whole) rather than all threads of the rank.
    pub whole_batches: bool,
    /// Whether an item may be computed twice where that gets the result sooner; one that a lost worker has computed is
    /// computed again in any case.
    pub may_repeat: bool,
    pub patience: Patience,
}

#[derive(Debug, Clone, Default)]
struct Worker {
    threads: u32,
    standing: Standing,
    /// Its running batch takes far longer than it should: others get what it holds as well.
    overdue: bool,
    /// The keys under which it is in `hungry`, `queues` and `running`, if it is.
    hunger: Option<u64>,
    queue: Option<u64>,
    run: Option<Time>,
    idle: bool,
    estimate: Estimate,
    recalled: Option<Extent>,
    /// The batch that it computes, as far as is known here.
    current: Option<Current>,
    /// The leaves that count as done because this worker did them.
    credit: Coverage,
    stopped: bool,
}

/// What is known of a worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Standing {
    /// It has not entered the call.
    #[default]
    Absent,
    Trusted,
    /// It is silent.
    Silent,
    /// It was silent for too long: the call is completed without it.
    Lost,
}

/// A batch that a worker computes.
#[derive(Debug, Clone, Copy)]
struct Current {
    batch: Extent,
    since: Time,
    /// When it should be done.
    due: Time,
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

impl Scheduler {
    /// A call over `config.leaves` leaves on workers with so many threads each. Those that are lost from calls before are
    /// not waited for; they take part again if they enter.
    pub fn new(config: Config, threads: &[u32], lost: &BTreeSet<usize>) -> Self {
        let standing = |worker: usize| if lost.contains(&worker) { Standing::Lost } else { Standing::Absent };
        let workers = threads.iter().enumerate().map(|(worker, threads)| Worker {
            threads: (*threads).max(1),
            standing: standing(worker),
            ..Worker::default()
        });
        let workers = workers.collect();
        Self {
            workers,
            regions: Regions::new(config.leaves, threads),
            ledger: Ledger::new(config.leaves, threads.len()),
            covered: Coverage::default(),
            policy: Policy::new(),
            liveness: Liveness::new(threads.len(), config.patience),
            config,
            hungry: BTreeSet::new(),
            queues: BTreeSet::new(),
            running: BTreeSet::new(),
            overlaps: false,
            idle: 0,
            recalls: 0,
            missing: threads.len() - lost.len(),
            threads_ready: 0,
            silent: 0,
            phase: Phase::Running,
            drain: None,
            quarantine: Quarantine::default(),
            actions: VecDeque::new(),
            lengths: Lengths::default(),
        }
    }

    /// Leaves that earlier jobs have done, each with the worker that has loaded them. Comes before any event.
    pub fn resume(&mut self, recovered: impl IntoIterator<Item = (usize, Extent)>) {
        for (worker, extent) in recovered {
            self.covered.insert(extent);
            self.workers[worker].credit.insert(extent);
        }
        if self.covered.leaves() > 0 {
            let all = extents_between(0, self.config.leaves);
            self.regions.replace(all.into_iter().flat_map(|extent| self.covered.gaps(extent)));
        }
    }

    /// Takes one event. Poll the actions afterwards.
    pub fn handle(&mut self, now: Time, event: Event) {
        self.liveness.awake(now);
        if let Some(worker) = event.sender() {
            self.hear(now, worker);
        }
        match event {
            Event::Ready { worker } => self.on_ready(now, worker),
            Event::Done { worker, batch, rest, cost } => self.on_done(now, worker, batch, &rest, cost),
            Event::Failed { worker, batch, error } => self.on_failed(now, worker, batch, error),
            Event::Returned { worker, batch } => self.on_returned(now, worker, batch),
            Event::Stopped { worker } => self.workers[worker].stopped = true,
            Event::Broken { error } => self.stop(now, error),
            Event::Drain { error, by } => self.drain(error, by),
            Event::Served { seconds } => self.policy.served(seconds),
            Event::Beat { .. } | Event::Tick => {}
        }
        if matches!(self.phase, Phase::Running | Phase::Stopping { .. }) && self.liveness.looks(now) {
            self.look(now);
        }
        match &self.phase {
            Phase::Running => self.advance(now),
            Phase::Stopping { .. } => self.wind_up(now),
            Phase::Finished | Phase::Stopped => {}
        }
    }

    /// The next thing to do, or nothing.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to come back with `Event::Tick`.
    pub fn next_deadline(&self) -> Option<Time> {
        let look = self.liveness.next_look();
        match &self.phase {
            Phase::Running => Some(self.drain_deadline().map_or(look, |by| look.min(by))),
            Phase::Stopping { deadline, .. } => Some(look.min(*deadline)),
            Phase::Finished | Phase::Stopped => None,
        }
    }

    /// Leaves that are done.
    pub fn done(&self) -> u64 {
        self.covered.leaves()
    }

    /// The workers that have not entered the call.
    pub fn missing(&self) -> impl Iterator<Item = usize> {
        self.workers
            .iter()
            .enumerate()
            .filter(|(_, worker)| worker.standing == Standing::Absent)
            .map(|(worker, _)| worker)
    }

    /// What one step that cannot be cut short takes, in seconds, 19 times out of 20.
    pub fn slow_leaf(&self) -> f64 {
        self.policy.slow_leaf()
            + if self.config.whole_batches { self.policy.least_seconds(self.workers.len()) } else { 0.0 }
    }

    /// What an earlier call has cost that was like this one. Comes before any event.
    pub fn recall_costs(&mut self, learned: &Learned) {
        let estimate = self.policy.recall(learned, self.config.leaf);
        self.workers.iter_mut().for_each(|worker| worker.estimate = estimate);
    }

    /// What this call costs, as far as is known.
    pub fn learned(&self) -> Learned {
        self.policy.learned(self.config.leaf)
    }

    /// How long the batches were.
    pub fn lengths(&self) -> &Lengths {
        &self.lengths
    }

    fn on_ready(&mut self, now: Time, worker: usize) {
        let entry = &mut self.workers[worker];
        if matches!(entry.standing, Standing::Absent | Standing::Lost) {
            self.missing -= usize::from(entry.standing == Standing::Absent);
            entry.standing = Standing::Trusted;
            self.threads_ready += entry.threads;
        }
        self.reindex(now, worker);
    }

    fn on_done(&mut self, now: Time, worker: usize, batch: Extent, rest: &[Extent], cost: Cost) {
        if !self.release(now, worker, batch) {
            return;
        }
        let mut computed = Coverage::default();
        computed.insert(batch);
        rest.iter().for_each(|part| computed.remove(*part));
        computed.runs().for_each(|part| self.complete(worker, part));
        if !planted(Mutant::RestForgotten) {
            rest.iter().for_each(|part| self.orphan(*part));
        }
        let lane = self.lane(worker);
        if computed.leaves() > 0 {
            self.policy.learn(&mut self.workers[worker].estimate, computed.leaves(), lane, cost);
        }
    }

    fn on_failed(&mut self, now: Time, worker: usize, batch: Extent, error: Error) {
        if !self.release(now, worker, batch) || self.covered.contains(batch) {
            return;
        }
        if !planted(Mutant::FailureForgotten) {
            self.orphan(batch);
        }
        let attempts = self.ledger.fail(batch);
        let last = attempts > self.config.retries && !planted(Mutant::RetriesWithoutEnd);
        if last || !error.may_pass() {
            self.stop(now, error.after(attempts));
        }
    }

    fn on_returned(&mut self, now: Time, worker: usize, batch: Extent) {
        if self.release(now, worker, batch) && !planted(Mutant::ReturnForgotten) {
            self.orphan(batch);
        }
    }

    /// The worker no longer holds the batch. False if it did not, which is a message that came too late to matter.
    fn release(&mut self, now: Time, worker: usize, batch: Extent) -> bool {
        let held = self.ledger.release(worker, batch);
        if held {
            let entry = &mut self.workers[worker];
            if entry.recalled == Some(batch) {
                entry.recalled = None;
                self.recalls -= 1;
            }
            if std::mem::take(&mut entry.overdue) {
                self.reclaim(worker);
            }
            self.reindex(now, worker);
        }
        held
    }

    /// Leaves were computed by a worker. Those that somebody else had done before are not counted again.
    fn complete(&mut self, worker: usize, part: Extent) {
        self.quarantine.settle(part);
        let fresh = self.covered.insert(part);
        let fresh = if planted(Mutant::CreditTwice) { vec![part] } else { fresh };
        for fresh in fresh {
            self.workers[worker].credit.insert(fresh);
        }
        if self.regions.has_returned() {
            self.regions.forget(part);
        }
        if self.overlaps {
            let copies: Vec<_> = self.ledger.inside(part).chain(self.ledger.around(part)).collect();
            for (batch, worker) in copies {
                if self.covered.contains(batch) {
                    self.actions.push_back(Action::Recall { worker, batch });
                }
            }
        }
    }

    /// Hands out what there is, recalls what waits elsewhere, and notices the end.
    fn advance(&mut self, now: Time) {
        while (self.drain.is_none() || planted(Mutant::DrainIgnored))
            && self.regions.left() > 0
            && let Some((_, worker)) = self.hungry.first().copied()
        {
            self.hand_out(now, worker);
        }
        if self.drain.is_none() && self.regions.left() == 0 {
            self.release_suspects(now);
        }
        let missing = u64::from(planted(Mutant::FinishedEarly));
        let all_done = self.done() + missing >= self.config.leaves;
        if self.missing == 0 && self.silent == 0 && self.end_without_the_withheld(now) {
            // Stopped, with what is wrong.
        } else if all_done && self.missing == 0 && self.silent == 0 {
            self.phase = Phase::Finished;
            self.actions.push_back(Action::Finish { lost: self.lost() });
        } else if self.drain.is_some() {
            self.end_when_drained(now);
        } else if !all_done && self.regions.left() == 0 && self.idle > self.recalls {
            self.shorten_the_tail(now);
        }
    }

    fn lost(&self) -> Vec<usize> {
        (0..self.workers.len()).filter(|worker| self.workers[*worker].standing == Standing::Lost).collect()
    }

    fn hand_out(&mut self, now: Time, worker: usize) {
        let demand = Demand {
            left: self.regions.left(),
            threads: self.lane(worker),
            threads_total: self.threads_ready,
            workers: self.workers.len(),
            few: self.regions.is_shared(),
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
        self.assign(now, worker, batch);
    }

    fn assign(&mut self, now: Time, worker: usize, batch: Extent) {
        self.workers[worker].estimate.assigned(batch.len);
        self.ledger.assign(worker, batch);
        self.lengths.count(batch.len);
        self.reindex(now, worker);
        self.actions.push_back(Action::Assign { worker, batch });
    }

    fn batch_len(&self, worker: usize, demand: &Demand) -> u64 {
        self.policy.batch_len(&self.workers[worker].estimate, demand).min(self.config.longest)
    }

    /// Gives a worker whose region is empty the back of the richest one, in proportion to their threads.
    fn resettle(&mut self, thief: usize) {
        let Some(victim) = self.regions.richest() else { return };
        let [mine, theirs] = [thief, victim].map(|worker| f64::from(self.workers[worker].threads));
        let share = if self.workers[victim].is_relied_on() { mine / (mine + theirs) } else { 1.0 };
        self.regions.split(victim, thief, share);
        let theirs = self.workers[victim].estimate;
        Policy::moved(&mut self.workers[thief].estimate, &theirs);
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
        let busy: Vec<usize> = (0..self.workers.len()).filter(|worker| self.workers[*worker].is_waited_for()).collect();
        if busy.is_empty() {
            self.actions.push_back(Action::Release { lost: self.lost() });
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
}

impl Worker {
    /// Whether what it holds is left to it.
    fn is_relied_on(&self) -> bool {
        self.standing == Standing::Trusted && !self.overdue
    }

    /// Whether a failed call waits for it.
    fn is_waited_for(&self) -> bool {
        matches!(self.standing, Standing::Trusted | Standing::Silent) && !self.stopped
    }
}

#[cfg(test)]
mod tests;
