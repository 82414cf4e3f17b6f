//! What follows from the batches that a worker holds: whether it wants more, what could be recalled from it, when the
//! batch that it computes should end. Kept up to date, so that every decision takes the first or last of a sorted set.

use std::time::Duration;

use super::{AHEAD, Current, Scheduler};
use crate::time::Time;

/// In the seconds that such a batch takes, a round trip is nothing.
const LONG: f64 = 0.1;

impl Scheduler {
    /// Brings the indices up to date after a worker's batches or standing have changed.
    ///
    /// A worker wants more while it has no batch ahead, or fewer leaves than would keep its threads busy twice over. Where
    /// leaves are few and long, one that waits in a queue could have been begun elsewhere: none is held ahead then.
    pub(super) fn reindex(&mut self, now: Time, worker: usize) {
        self.update_current(now, worker);
        let lanes = (self.workers[worker].threads / self.lane(worker)) as usize;
        let (batches, leaves) = (self.ledger.batches(worker), self.ledger.leaves(worker));
        let entry = &mut self.workers[worker];
        let threads = u64::from(entry.threads);
        let relied_on = entry.is_relied_on();
        let length = entry.current.map_or(0.0, |current| current.due.seconds_since(current.since));
        let wants = if self.regions.is_shared() && length > LONG {
            relied_on && (batches.len() < lanes || leaves < threads)
        } else {
            relied_on && (batches.len() < AHEAD - 1 + lanes || leaves < 2 * threads)
        };
        let may_recall = relied_on && entry.recalled.is_none();
        let queue = (may_recall && batches.len() > lanes)
            .then(|| batches[..batches.len() - lanes].iter().map(|batch| batch.len).sum());
        let run = entry.current.filter(|current| may_recall && current.batch.len > 1 && !self.config.whole_batches);
        let hunger = std::mem::replace(&mut entry.hunger, wants.then_some((leaves << 16) / threads));
        let queue = std::mem::replace(&mut entry.queue, queue);
        let run = std::mem::replace(&mut entry.run, run.map(|current| current.due));
        let was_idle = std::mem::replace(&mut entry.idle, relied_on && batches.is_empty());
        self.idle = self.idle + usize::from(entry.idle) - usize::from(was_idle);
        hunger.map(|key| self.hungry.remove(&(key, worker)));
        queue.map(|key| self.queues.remove(&(key, worker)));
        run.map(|key| self.running.remove(&(key, worker)));
        entry.hunger.map(|key| self.hungry.insert((key, worker)));
        entry.queue.map(|key| self.queues.insert((key, worker)));
        entry.run.map(|key| self.running.insert((key, worker)));
    }

    /// The first batch that a worker holds is the one it computes; notes when it has become so, and when it should end.
    fn update_current(&mut self, now: Time, worker: usize) {
        let first = self.ledger.batches(worker).first().copied();
        let entry = &self.workers[worker];
        if entry.current.map(|current| current.batch) == first {
            return;
        }
        let lane = self.lane(worker);
        let current = first.map(|batch| {
            let seconds = self.policy.seconds(&entry.estimate, batch.len, lane).unwrap_or(0.0);
            Current { batch, since: now, due: now.after(Duration::from_secs_f64(seconds.min(1e9))) }
        });
        self.workers[worker].current = current;
    }
}
