//! Workers that are silent or far too late: what they hold goes to others as well, and, when they are lost, what they
//! have done is done again.

use super::{Action, Scheduler, Standing};
use crate::extent::Extent;
use crate::simulate::mutant::{Mutant, planted};
use crate::time::Time;

impl Scheduler {
    /// Nobody who is trusted may hold these leaves any more: what is neither done nor held elsewhere is handed out again.
    pub(super) fn orphan(&mut self, extent: Extent) {
        self.quarantine.settle(extent);
        for gap in self.covered.gaps(extent) {
            if self.overlaps { self.free(gap) } else { self.regions.give_back(gap) }
        }
    }

    fn free(&mut self, extent: Extent) {
        let held_by_others = |(_, worker): (Extent, usize)| self.workers[worker].is_relied_on();
        if self.ledger.around(extent).any(held_by_others) || self.regions.returned_around(extent).is_some() {
            return;
        }
        if self.ledger.inside(extent).any(held_by_others) || !self.regions.returned_inside(extent).is_empty() {
            extent.halves().into_iter().for_each(|half| self.free(half));
        } else {
            self.regions.give_back(extent);
        }
    }

    /// A worker has sent something. One that was silent is trusted again; one that is lost stays so until the next call.
    pub(super) fn hear(&mut self, now: Time, worker: usize) {
        self.liveness.heard(worker, now);
        if self.workers[worker].standing == Standing::Silent {
            self.workers[worker].standing = Standing::Trusted;
            self.silent -= 1;
            self.reclaim(worker);
            self.reindex(now, worker);
        }
    }

    /// What a worker holds is left to it again, as far as nobody else has been given it meanwhile.
    pub(super) fn reclaim(&mut self, worker: usize) {
        if self.workers[worker].is_relied_on() {
            for batch in self.ledger.batches(worker) {
                self.regions.forget(*batch);
            }
        }
    }

    /// Looks for workers that are silent (rank 0 itself, which looks, is not) or far too late.
    pub(super) fn look(&mut self, now: Time) {
        self.actions.push_back(Action::Beat);
        if planted(Mutant::SilenceIgnored) {
            return;
        }
        for worker in 1..self.workers.len() {
            match self.workers[worker].standing {
                Standing::Trusted if self.liveness.is_doubtful(worker, now) => {
                    self.workers[worker].standing = Standing::Silent;
                    self.silent += 1;
                    if !planted(Mutant::SilentKeeps) {
                        self.release_hold(now, worker);
                    }
                }
                Standing::Silent if self.liveness.is_lost(worker, now) || planted(Mutant::Impatience) => {
                    self.lose(now, worker);
                }
                _ => {}
            }
        }
        // A suspect that is computed twice would not be alone.
        let repeats = self.config.may_repeat && !self.quarantine.has_open();
        if self.regions.left() == 0 && self.idle > 0 && repeats {
            self.doubt_the_overdue(now);
        }
    }

    /// Others get what a worker holds as well.
    pub(super) fn release_hold(&mut self, now: Time, worker: usize) {
        self.overlaps = true;
        if self.workers[worker].recalled.take().is_some() {
            self.recalls -= 1;
        }
        self.reindex(now, worker);
        for batch in self.ledger.batches(worker).to_vec() {
            self.orphan(batch);
        }
    }

    /// What a worker has done and what it holds is for others to compute; what it may send yet does not matter.
    fn lose(&mut self, now: Time, worker: usize) {
        self.overlaps = true;
        for batch in self.ledger.batches(worker).to_vec() {
            self.release(now, worker, batch);
        }
        let entry = &mut self.workers[worker];
        entry.standing = Standing::Lost;
        self.silent -= 1;
        self.threads_ready -= entry.threads;
        let credit: Vec<Extent> = std::mem::take(&mut entry.credit).runs().collect();
        for run in credit.into_iter().filter(|_| !planted(Mutant::LostCounts)) {
            self.covered.remove(run);
            self.orphan(run);
        }
        self.reindex(now, worker);
        self.actions.push_back(Action::Lose { worker, silence: self.liveness.silence(worker, now) });
    }
}
