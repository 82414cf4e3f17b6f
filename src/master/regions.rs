//! The leaves that nobody holds: a home region for each worker, and batches that came back.
//!
//! A worker takes from the front of its own region, so what it finishes is contiguous and buddies meet on the same rank.
//! A worker whose region is empty takes the back part of the region with most left.
//!
//! Where leaves are few for so many threads, there is one region for all. Regions would gather nothing worth gathering
//! then, and hand out in an order in which long leaves come last as often as not; from first to last, which is how
//! people write lists of work, is what they expect, and what they can choose to be best.

use std::collections::BTreeSet;

use crate::extent::{Extent, floor_power_of_two};
use crate::simulate::mutant::{Mutant, planted};

/// Boundaries of regions are multiples of at least this part of a region, so that batches near them stay long.
const BOUNDARY: u64 = 32;
/// With fewer leaves for each thread there is one region for all.
const FEW: u128 = 16;

#[derive(Debug)]
pub(crate) struct Regions {
    regions: Vec<Region>,
    /// Regions that are not empty, by the leaves left in them: the last one has most.
    by_left: BTreeSet<(u64, usize)>,
    /// Batches that were recalled or have failed, to be handed out before anything else.
    returned: BTreeSet<Extent>,
    left: u64,
    /// Everybody takes from the first region.
    is_shared: bool,
}

#[derive(Debug, Clone, Copy)]
struct Region {
    front: u64,
    back: u64,
}

impl Regions {
    /// Cuts `0..leaves` into one region for each worker, in proportion to `weights`.
    pub fn new(leaves: u64, weights: &[u32]) -> Self {
        let total: u128 = weights.iter().map(|weight| u128::from(*weight)).sum::<u128>().max(1);
        let is_shared = u128::from(leaves) < FEW * total;
        let step = floor_power_of_two((leaves / (weights.len() as u64 * BOUNDARY).max(1)).max(1));
        let (mut front, mut sum) = (0, 0u128);
        let mut regions = Vec::with_capacity(weights.len());
        for (worker, weight) in weights.iter().enumerate() {
            sum += u128::from(*weight);
            let share = (u128::from(leaves) * sum / total) as u64;
            let back = if is_shared || worker + 1 == weights.len() { leaves } else { (share / step * step).max(front) };
            regions.push(Region { front, back });
            front = back;
        }
        let by_left = regions.iter().enumerate().filter(|(_, r)| r.left() > 0).map(|(w, r)| (r.left(), w)).collect();
        Self { regions, by_left, returned: BTreeSet::new(), left: leaves, is_shared }
    }

    /// Nothing is left but these extents.
    pub fn replace(&mut self, extents: impl Iterator<Item = Extent>) {
        (0..self.regions.len()).for_each(|worker| self.set(worker, Region { front: 0, back: 0 }));
        self.left = 0;
        self.returned.clear();
        extents.for_each(|extent| self.give_back(extent));
    }

    /// Leaves that nobody holds.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// The first batch that came back, if any.
    pub fn first_returned(&self) -> Option<Extent> {
        self.returned.first().copied()
    }

    pub fn give_back(&mut self, batch: Extent) {
        self.left += batch.len;
        let fresh = self.returned.insert(batch);
        debug_assert!(fresh, "batch {batch:?} came back twice");
    }

    /// Takes a batch that came back, whole or its first `longest` leaves.
    pub fn take_returned(&mut self, batch: Extent, longest: u64) -> Extent {
        let found = self.returned.remove(&batch);
        debug_assert!(found, "batch {batch:?} is not here");
        let mut taken = batch;
        while taken.len > longest {
            let [first, second] = taken.halves();
            self.returned.insert(second);
            taken = first;
        }
        self.left -= taken.len;
        taken
    }

    /// Leaves of an extent were done by a worker that nobody expected it of any more: they need not be handed out again.
    pub fn forget(&mut self, extent: Extent) {
        while let Some(batch) = self.returned_around(extent).filter(|batch| *batch != extent) {
            self.returned.remove(&batch);
            self.returned.extend(batch.halves());
        }
        for batch in self.returned_inside(extent) {
            self.returned.remove(&batch);
            self.left -= batch.len;
        }
    }

    /// The batch that came back in which an extent lies.
    pub fn returned_around(&self, extent: Extent) -> Option<Extent> {
        let batch = self.returned.range(..=Extent { start: extent.start, len: u64::MAX }).next_back()?;
        Some(*batch).filter(|batch| batch.contains(extent))
    }

    /// The batches that came back and lie in an extent.
    pub fn returned_inside(&self, extent: Extent) -> Vec<Extent> {
        let (first, end) = (Extent { start: extent.start, len: 0 }, Extent { start: extent.end(), len: 0 });
        self.returned.range(first..end).copied().filter(|batch| extent.contains(*batch)).collect()
    }

    pub fn has_returned(&self) -> bool {
        !self.returned.is_empty()
    }

    /// All that nobody holds, in no particular order: the regions and what came back, as ranges of leaves.
    pub fn all(&self) -> impl Iterator<Item = std::ops::Range<u64>> {
        let regions = self.regions.iter().map(|region| region.front..region.back);
        regions.chain(self.returned.iter().map(|batch| batch.start..batch.end()))
    }

    /// The worker with most left, which is where a worker with nothing left looks.
    pub fn richest(&self) -> Option<usize> {
        self.by_left.last().map(|(_, worker)| *worker)
    }

    pub fn is_empty(&self, worker: usize) -> bool {
        self.regions[self.home(worker)].left() == 0
    }

    /// Whether there is one region for all.
    pub fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// The region that a worker takes from.
    fn home(&self, worker: usize) -> usize {
        if self.is_shared { 0 } else { worker }
    }

    /// Moves the back part of `victim`'s region to `thief`, whose region is empty: `share` of it, at least one leaf.
    pub fn split(&mut self, victim: usize, thief: usize, share: f64) {
        debug_assert!(self.is_empty(thief) && victim != thief);
        let Region { front, back } = self.regions[victim];
        let left = back - front;
        let kept = (left as f64 * (1.0 - share.clamp(0.0, 1.0))) as u64;
        let step = floor_power_of_two((left / BOUNDARY).max(1));
        let cut = ((front + kept) / step * step).clamp(front, back - 1);
        self.set(victim, Region { front, back: cut });
        let back = if planted(Mutant::RegionOffByOne) { back - 1 } else { back };
        self.set(thief, Region { front: cut, back });
    }

    /// Takes at most `longest` leaves from the front of a worker's region, which is not empty.
    pub fn take(&mut self, worker: usize, longest: u64) -> Extent {
        let worker = self.home(worker);
        let Region { front, back } = self.regions[worker];
        let batch = Extent::at_front(front, back, longest);
        self.set(worker, Region { front: batch.end(), back });
        self.left -= batch.len;
        batch
    }

    fn set(&mut self, worker: usize, region: Region) {
        let before = self.regions[worker];
        if before.left() > 0 {
            self.by_left.remove(&(before.left(), worker));
        }
        if region.left() > 0 {
            self.by_left.insert((region.left(), worker));
        }
        self.regions[worker] = region;
    }
}

impl Region {
    fn left(self) -> u64 {
        self.back - self.front
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_leaf_is_handed_out_exactly_once(
            leaves in 1u64..3000,
            weights in prop::collection::vec(1u32..9, 1..12),
            moves in prop::collection::vec((any::<usize>(), 1u64..70, any::<bool>()), 1..50),
        ) {
            let mut regions = Regions::new(leaves, &weights);
            let mut seen = vec![0u32; leaves as usize];
            let mut turn = moves.iter().cycle();
            while regions.left() > 0 {
                let (worker, longest, comes_back) = turn.next().unwrap();
                let worker = worker % weights.len();
                let batch = if let Some(batch) = regions.first_returned() {
                    regions.take_returned(batch, *longest)
                } else {
                    if regions.is_empty(worker) {
                        regions.split(regions.richest().unwrap(), worker, 0.5);
                    }
                    regions.take(worker, *longest)
                };
                prop_assert!(batch.len <= *longest);
                if *comes_back && batch.len > 1 && seen[batch.start as usize] == 0 {
                    seen[batch.start as usize] = 1000;
                    regions.give_back(batch);
                } else {
                    for leaf in batch.start..batch.end() { seen[leaf as usize] = seen[leaf as usize] % 1000 + 1; }
                }
            }
            prop_assert!(seen.iter().all(|count| *count == 1), "{seen:?}");
        }
    }

    #[test]
    fn regions_follow_the_weights_and_keep_round_boundaries() {
        let regions = Regions::new(1 << 20, &[1, 3]);
        let left: Vec<u64> = regions.regions.iter().map(|region| region.left()).collect();
        assert_eq!(left, [1 << 18, 3 << 18]);
    }

    #[test]
    fn few_leaves_are_handed_out_from_first_to_last_whoever_asks() {
        let mut regions = Regions::new(20, &[1; 5]);
        let taken: Vec<u64> = [3, 0, 4, 1].map(|worker| regions.take(worker, 1).start).into();
        assert_eq!(taken, [0, 1, 2, 3]);
        assert_eq!(regions.left(), 16);
    }
}
