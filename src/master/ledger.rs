//! Who holds which batch, and how often each has been tried.

use std::collections::BTreeMap;

use crate::extent::Extent;

/// The open batches of a call: handed out, and neither finished nor returned.
#[derive(Debug)]
pub(crate) struct Ledger {
    holders: Vec<Holder>,
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
    pub fn new(workers: usize) -> Self {
        Self { holders: vec![Holder::default(); workers], failures: BTreeMap::new() }
    }

    pub fn assign(&mut self, worker: usize, batch: Extent) {
        let holder = &mut self.holders[worker];
        holder.batches.push(batch);
        holder.leaves += batch.len;
    }

    /// The worker has finished, failed or returned the batch. False if it did not hold it.
    pub fn release(&mut self, worker: usize, batch: Extent) -> bool {
        let holder = &mut self.holders[worker];
        let Some(position) = holder.batches.iter().position(|held| *held == batch) else {
            return false;
        };
        holder.batches.remove(position);
        holder.leaves -= batch.len;
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

    /// Leaves that some worker holds.
    pub fn open_leaves(&self) -> u64 {
        self.holders.iter().map(|holder| holder.leaves).sum()
    }
}
