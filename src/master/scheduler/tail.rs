//! The end of a call, when nothing is left to hand out and workers go idle while others compute: what waits in a queue
//! is recalled, a batch that runs is cut short, and what a worker is far too late with is given to others as well
//! (speculation, as the backup tasks of Dean and Ghemawat, "`MapReduce`", OSDI 2004, section 3.6).

use super::{Action, Scheduler};
use crate::extent::Extent;
use crate::time::Time;

/// A queued batch is worth recalling if it would wait longer than this, in seconds.
const WORTH_RECALLING: f64 = 200e-6;
/// A running batch is worth cutting if it is expected to run longer than this many of the shortest batches.
const WORTH_CUTTING: f64 = 4.0;
/// A batch is overdue when it has taken this many times as long as expected, and this much longer, in seconds. Costs
/// vary, and the same item is as long on another worker: only a worker that stands still is meant.
const OVERDUE: f64 = 10.0;
const OVERDUE_LEAST: f64 = 1.0;

impl Scheduler {
    /// For each idle worker, asks one of the others to give up leaves.
    pub(super) fn shorten_the_tail(&mut self, now: Time) {
        while self.recalls < self.idle && (self.recall_queued(now) || self.cut_running(now)) {}
    }

    /// Gives others what a worker holds that takes far longer than expected for a batch nobody else has.
    pub(super) fn doubt_the_overdue(&mut self, now: Time) {
        for worker in 0..self.workers.len() {
            let entry = &self.workers[worker];
            let Some(current) = entry.current.filter(|_| entry.is_relied_on()) else { continue };
            let (taken, expected) = (now.seconds_since(current.since), current.due.seconds_since(current.since));
            let copies = self.ledger.around(current.batch).chain(self.ledger.inside(current.batch));
            if taken > OVERDUE * expected + OVERDUE_LEAST && copies.count() <= 2 {
                self.workers[worker].overdue = true;
                self.release_hold(now, worker);
            }
        }
    }

    /// Asks for the queued batch that has most before it.
    fn recall_queued(&mut self, now: Time) -> bool {
        let Some((before, worker)) = self.queues.last().copied() else { return false };
        let lane = self.lane(worker);
        let wait = self.policy.seconds(&self.workers[worker].estimate, before, lane);
        if wait.is_some_and(|seconds| seconds < WORTH_RECALLING) {
            return false;
        }
        let batch = *self.ledger.batches(worker).last().expect("a worker with a queue holds a batch");
        self.recall(now, worker, batch);
        true
    }

    /// Asks for the rest of the batch that is expected to run longest. One that runs longer than expected is taken to
    /// be in the middle: what costs more than was known goes on costing more.
    fn cut_running(&mut self, now: Time) -> bool {
        let (Some(first), Some(last)) = (self.running.first().copied(), self.running.last().copied()) else {
            return false;
        };
        let (late, early) = (now.seconds_since(first.0), last.0.seconds_since(now));
        let (worker, remaining) = if late > early { (first.1, late) } else { (last.1, early) };
        if remaining < WORTH_CUTTING * self.policy.least_seconds(self.workers.len()) {
            return false;
        }
        let batch = self.workers[worker].current.expect("a worker that computes has a batch").batch;
        self.recall(now, worker, batch);
        true
    }

    fn recall(&mut self, now: Time, worker: usize, batch: Extent) {
        self.workers[worker].recalled = Some(batch);
        self.recalls += 1;
        self.reindex(now, worker);
        self.actions.push_back(Action::Recall { worker, batch });
    }
}
