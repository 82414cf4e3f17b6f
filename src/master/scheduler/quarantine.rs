//! Leaves that may end the rank that computes them come last, when everything else is done: those with fewer crashes
//! first, half of the new ones at a time, a 64th of those with which a job has crashed again, so that each crash leaves few
//! suspects, and soon only one.

use std::collections::{BTreeMap, BTreeSet};

use super::{Phase, Scheduler};
use crate::error::Error;
use crate::extent::{Extent, extents_between};
use crate::master::coverage::Coverage;
use crate::simulate::mutant::{Mutant, planted};
use crate::time::Time;

/// So many times in a row, suspects with the same number of crashes are handed out and waited for.
const WAVES: u64 = 64;
/// The same for those with which no job has crashed since they are in quarantine.
const FIRST_WAVES: u64 = 2;

#[derive(Debug, Default)]
pub(super) struct Quarantine {
    /// By the number of crashes.
    waiting: BTreeMap<u32, Coverage>,
    /// Leaves that were handed out, and are neither done nor anybody else's.
    open: BTreeSet<Extent>,
    /// At most so many are out at a time, of those that were in so many crashes.
    width: Option<(u32, u64)>,
    /// Leaves that nobody computes, and the error that says so when all others are done.
    withheld: Coverage,
    poison: Option<Error>,
}

impl Quarantine {
    /// Leaves that are not for anybody now.
    pub fn leaves(&self) -> u64 {
        self.waiting.values().map(Coverage::leaves).sum::<u64>() + self.withheld.leaves()
    }

    /// Whether this leaf is one of them.
    pub fn keeps(&self, leaf: Extent) -> bool {
        self.withheld.contains(leaf) || self.waiting.values().any(|waiting| waiting.contains(leaf))
    }

    pub fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// These leaves are done, or for anybody to compute.
    pub fn settle(&mut self, part: Extent) {
        if !self.open.is_empty() {
            self.open.retain(|leaf| !part.contains(*leaf));
        }
    }

    /// The next leaf, if one may be handed out now.
    fn next(&mut self) -> Option<Extent> {
        let (crashes, waiting) = self.waiting.first_key_value()?;
        let mut width = self.width.filter(|(of, _)| of == crashes);
        if width.is_none() {
            if self.has_open() {
                return None;
            }
            let waves = if *crashes == 0 { FIRST_WAVES } else { WAVES };
            width = Some((*crashes, (waiting.leaves() / waves).max(1)));
        }
        self.width = width;
        let (_, most) = width?;
        let first = waiting.runs().next().filter(|_| (self.open.len() as u64) < most)?;
        Some(Extent::new(first.start, 1))
    }

    fn take(&mut self, leaf: Extent) {
        if let Some(mut waiting) = self.waiting.first_entry() {
            waiting.get_mut().remove(leaf);
            if waiting.get().leaves() == 0 {
                waiting.remove();
            }
        }
        self.open.insert(leaf);
    }
}

impl Scheduler {
    /// Leaves that come last, with the number of crashes since they do. Comes after `resume`, before any event.
    pub fn quarantine(&mut self, suspects: impl IntoIterator<Item = (u32, Extent)>) {
        for (crashes, extent) in suspects {
            for part in self.covered.gaps(extent) {
                for gap in self.quarantine.withheld.gaps(part) {
                    self.quarantine.waiting.entry(crashes).or_default().insert(gap);
                }
            }
        }
        self.set_apart();
    }

    /// Leaves that nobody computes: when all others are done, the call ends with this error. Comes after `resume`, before
    /// any event.
    pub fn withhold(&mut self, leaves: impl IntoIterator<Item = Extent>, error: Error) {
        for extent in leaves {
            for gap in self.covered.gaps(extent) {
                self.quarantine.withheld.insert(gap);
            }
        }
        self.quarantine.poison = Some(error);
        self.set_apart();
    }

    /// What is done and what is set apart is not for anybody.
    fn set_apart(&mut self) {
        let mut apart = self.covered.clone();
        let kept = self.quarantine.waiting.values().chain([&self.quarantine.withheld]);
        kept.flat_map(Coverage::runs).for_each(|run| drop(apart.insert(run)));
        if apart.leaves() > 0 {
            let all = extents_between(0, self.config.leaves);
            self.regions.replace(all.into_iter().flat_map(|extent| apart.gaps(extent)));
        }
    }

    /// Hands out suspects when nothing else is left to do, or under way, and every rank is there to mark what it computes.
    pub(super) fn release_suspects(&mut self, now: Time) {
        if self.missing > 0 {
            return;
        }
        let accounted = self.done() + self.quarantine.leaves() + self.quarantine.open.len() as u64;
        if accounted < self.config.leaves && !planted(Mutant::QuarantineOpen) {
            return;
        }
        while let Some((_, worker)) = self.hungry.first().copied()
            && let Some(leaf) = self.quarantine.next()
        {
            self.quarantine.take(leaf);
            self.assign(now, worker, leaf);
        }
    }

    /// Ends a call of which nothing is missing but what is withheld. False if that is not so.
    pub(super) fn end_without_the_withheld(&mut self, now: Time) -> bool {
        let Some(error) = &self.quarantine.poison else { return false };
        let all_but_these = self.done() + self.quarantine.withheld.leaves() >= self.config.leaves;
        if all_but_these && matches!(self.phase, Phase::Running) {
            self.stop(now, error.clone());
        }
        all_but_these
    }
}
