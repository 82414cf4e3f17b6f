//! Who holds which batch, and how often each has been tried.

use std::collections::{BTreeMap, BTreeSet};

use crate::extent::Extent;

/// The open batches of a call: handed out, and neither finished nor returned.
///
/// The batches of different workers are disjoint, except where a worker was doubted and others got what it holds.
#[derive(Debug)]
pub(crate) struct Ledger {
    holders: Vec<Holder>,
    /// All open batches with their holders, by where they are.
    open: BTreeSet<(Extent, usize)>,
    /// The extent of all leaves.
    root: Extent,
    /// Failed attempts, of the batches that have any.
    failures: BTreeMap<Extent, u32>,
}

#[derive(Debug, Clone, Default)]
struct Holder {
    /// In the order of assignment: the worker starts the first one first.
    batches: Vec<Extent>,
    leaves: u64,
}

impl Ledger {
    pub fn new(leaves: u64, workers: usize) -> Self {
        Self {
            holders: vec![Holder::default(); workers],
            open: BTreeSet::new(),
            root: Extent::root(leaves),
            failures: BTreeMap::new(),
        }
    }

    pub fn assign(&mut self, worker: usize, batch: Extent) {
        let holder = &mut self.holders[worker];
        holder.batches.push(batch);
        holder.leaves += batch.len;
        self.open.insert((batch, worker));
    }

    /// The worker has finished, failed or returned the batch. False if it did not hold it.
    pub fn release(&mut self, worker: usize, batch: Extent) -> bool {
        let holder = &mut self.holders[worker];
        let Some(position) = holder.batches.iter().position(|held| *held == batch) else {
            return false;
        };
        holder.batches.remove(position);
        holder.leaves -= batch.len;
        self.open.remove(&(batch, worker));
        true
    }

    /// Counts a failed attempt; returns how many there have been.
    pub fn fail(&mut self, batch: Extent) -> u32 {
        let failures = self.failures.entry(batch).or_default();
        *failures += 1;
        *failures
    }

    /// A batch that has failed before is handed out again as it was, so that its attempts can be counted.
    pub fn has_failed(&self, batch: Extent) -> bool {
        self.failures.contains_key(&batch)
    }

    pub fn batches(&self, worker: usize) -> &[Extent] {
        &self.holders[worker].batches
    }

    pub fn leaves(&self, worker: usize) -> u64 {
        self.holders[worker].leaves
    }

    /// Open batches that an extent lies in, with their holders.
    pub fn around(&self, extent: Extent) -> impl Iterator<Item = (Extent, usize)> {
        let mut next = Some(extent);
        let enclosing = std::iter::from_fn(move || {
            let this = next?;
            next = (this.len < self.root.len).then(|| this.parent());
            Some(this)
        });
        enclosing.flat_map(|extent| self.open.range((extent, 0)..=(extent, usize::MAX)).copied())
    }

    /// Open batches that lie in an extent, with their holders.
    pub fn inside(&self, extent: Extent) -> impl Iterator<Item = (Extent, usize)> {
        let (first, end) = (Extent { start: extent.start, len: 0 }, Extent { start: extent.end(), len: 0 });
        self.open.range((first, 0)..(end, 0)).copied().filter(move |(batch, _)| extent.contains(*batch))
    }

    /// All open batches with their holders.
    pub fn open(&self) -> impl Iterator<Item = (Extent, usize)> {
        self.open.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_found_by_what_they_contain_and_by_where_they_lie() {
        let mut ledger = Ledger::new(16, 3);
        ledger.assign(0, Extent::new(0, 8));
        ledger.assign(1, Extent::new(4, 2));
        ledger.assign(2, Extent::new(8, 4));
        let around: Vec<_> = ledger.around(Extent::new(4, 1)).collect();
        assert_eq!(around, [(Extent::new(4, 2), 1), (Extent::new(0, 8), 0)]);
        let inside: Vec<_> = ledger.inside(Extent::new(0, 8)).collect();
        assert_eq!(inside, [(Extent::new(0, 8), 0), (Extent::new(4, 2), 1)]);
        assert!(ledger.release(0, Extent::new(0, 8)) && !ledger.release(0, Extent::new(0, 8)));
        assert_eq!(ledger.around(Extent::new(0, 1)).count(), 0);
    }
}
