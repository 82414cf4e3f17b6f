//! What a rank has computed so far in a call, also while two partials are in the hands of the combiner.

use std::cmp::Reverse;

use crate::extent::Extent;
use crate::master::coverage::Coverage;
use crate::reduce::segment::{Inserted, Segments};

/// What was computed here so far.
#[derive(Debug)]
pub(super) struct Table<T> {
    pub segments: Segments<Option<T>>,
    /// What two partials that are being combined will be the value of: they are in no segment meanwhile.
    pub merging: Vec<Extent>,
    /// A combiner has panicked, and its operands are gone.
    pub is_incomplete: bool,
}

impl<T> Table<T> {
    pub fn new(leaves: u64) -> Self {
        Self { segments: Segments::new(leaves), merging: Vec::new(), is_incomplete: false }
    }

    pub fn insert(&mut self, extent: Extent, value: Option<T>) -> Inserted<Option<T>> {
        let inserted = self.segments.insert(extent, value);
        if let Inserted::Merge { parent, .. } = &inserted {
            self.merging.push(*parent);
        }
        inserted
    }

    /// All leaves whose values are here, or are being combined.
    pub fn coverage(&self) -> Coverage {
        let mut coverage = Coverage::default();
        let extents = self.segments.iter().map(|(extent, _)| extent).chain(&self.merging);
        extents.for_each(|extent| drop(coverage.insert(*extent)));
        coverage
    }
}

/// What was seen once alone and once more as a part of its parent, having met its buddy meanwhile, counts as the latter.
pub(super) fn drop_nested(snapshot: &mut Vec<(Extent, Vec<u8>)>) {
    snapshot.sort_unstable_by_key(|(extent, _)| (extent.start, Reverse(extent.len)));
    let mut end = 0;
    snapshot.retain(|(extent, _)| {
        let is_new = extent.start >= end;
        end = end.max(extent.end());
        is_new
    });
}
