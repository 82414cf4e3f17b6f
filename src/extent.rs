//! The division of `0..N` into leaves, and aligned runs of leaves.
//!
//! Everything that is handed out, merged or counted is an [`Extent`]: its length is a power of two and its start a
//! multiple of its length. Two extents are therefore either nested or disjoint, which is what makes duplicates easy to
//! recognise and the tree of combinations independent of the schedule.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// At most so many leaves, so that tables stay small for any number of items.
const LEAVES_MAX: u64 = 1 << 20;

/// How `0..items` is cut into leaves of `leaf` items; the last leaf may be shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Leaves {
    pub items: u64,
    pub leaf: u64,
}

/// An aligned run of leaves: what a batch and a segment cover.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Extent {
    pub start: u64,
    pub len: u64,
}

impl Leaves {
    /// Leaves of at least `least` items: a function of its arguments alone, never of ranks, threads or time.
    pub fn new(items: u64, least: u64) -> Self {
        let leaf = items.div_ceil(LEAVES_MAX).max(least).max(1);
        Self { items, leaf: leaf.checked_next_power_of_two().unwrap_or(1 << 63) }
    }

    /// Whether this is a division that `new` may have made: one that was read from a file need not be.
    pub fn is_sound(self) -> bool {
        self.leaf > 0 && Self::new(self.items, self.leaf) == self
    }

    /// The number of leaves.
    pub fn count(self) -> u64 {
        self.items.div_ceil(self.leaf)
    }

    /// The items of an extent. The part of it beyond the last leaf is empty.
    pub fn items_of(self, extent: Extent) -> Range<u64> {
        let at = |leaf: u64| leaf.saturating_mul(self.leaf).min(self.items);
        at(extent.start)..at(extent.end())
    }
}

impl Extent {
    pub fn new(start: u64, len: u64) -> Self {
        debug_assert!(len.is_power_of_two() && start.is_multiple_of(len), "extent {start}+{len} is not aligned");
        Self { start, len }
    }

    /// The extent that covers `leaves` leaves, and nothing beyond the next power of two.
    pub fn root(leaves: u64) -> Self {
        Self::new(0, leaves.next_power_of_two())
    }

    /// The longest extent that starts at `start`, ends at `end` or before, and has at most `longest` leaves.
    pub fn at_front(start: u64, end: u64, longest: u64) -> Self {
        debug_assert!(start < end);
        let aligned = if start == 0 { u64::MAX } else { 1 << start.trailing_zeros() };
        Self::new(start, floor_power_of_two((end - start).min(longest.max(1)).min(aligned)))
    }

    pub fn end(self) -> u64 {
        self.start + self.len
    }

    pub fn contains(self, other: Self) -> bool {
        self.start <= other.start && other.end() <= self.end()
    }

    /// The other half of the parent.
    pub fn buddy(self) -> Self {
        Self { start: self.start ^ self.len, len: self.len }
    }

    pub fn parent(self) -> Self {
        Self { start: self.start & !self.len, len: self.len * 2 }
    }

    pub fn halves(self) -> [Self; 2] {
        debug_assert!(self.len > 1, "a leaf has no halves");
        let len = self.len / 2;
        [Self { start: self.start, len }, Self { start: self.start + len, len }]
    }
}

impl std::fmt::Debug for Extent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{}..{})", self.start, self.end())
    }
}

/// The longest extents that cover the leaves from one to another, in order.
pub(crate) fn extents_between(mut start: u64, end: u64) -> Vec<Extent> {
    let mut extents = Vec::new();
    while start < end {
        let extent = Extent::at_front(start, end, u64::MAX);
        start = extent.end();
        extents.push(extent);
    }
    extents
}

/// The largest power of two that is not above `value`, which is at least 1.
pub(crate) fn floor_power_of_two(value: u64) -> u64 {
    debug_assert!(value > 0);
    1 << value.ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_division_that_was_read_may_make_no_sense() {
        for (items, leaf, sound) in [(10, 1, true), (0, 8, true), (10, 0, false), (10, 3, false), (1 << 40, 1, false)] {
            assert_eq!(Leaves { items, leaf }.is_sound(), sound, "{items} items in leaves of {leaf}");
        }
        assert!(Leaves::new(u64::MAX, 1).is_sound());
    }

    #[test]
    fn a_trillion_items_make_a_million_leaves() {
        let leaves = Leaves::new(1_000_000_000_000, 1);
        assert_eq!(leaves.leaf, 1 << 20);
        assert!(leaves.count() <= LEAVES_MAX);
        assert_eq!(Leaves::new(u64::MAX, 1).count(), LEAVES_MAX);
    }

    #[test]
    fn the_last_leaf_is_cut_off_at_the_last_item() {
        let leaves = Leaves::new(10, 4);
        assert_eq!(leaves.count(), 3);
        assert_eq!(leaves.items_of(Extent::new(2, 1)), 8..10);
        assert_eq!(leaves.items_of(Extent::new(0, 4)), 0..10);
    }

    proptest! {
        #[test]
        fn extents_taken_from_the_front_tile_the_range(start in 0u64..5000, len in 1u64..5000, longest in 1u64..600) {
            let mut at = start;
            while at < start + len {
                let extent = Extent::at_front(at, start + len, longest);
                prop_assert!(extent.len <= longest && extent.end() <= start + len);
                prop_assert_eq!(extent.start, at);
                at = extent.end();
            }
        }

        #[test]
        fn buddies_share_their_parent(level in 0u32..40, index in 0u64..1000) {
            let extent = Extent::new(index << level, 1 << level);
            prop_assert_eq!(extent.parent(), extent.buddy().parent());
            let mut halves = extent.parent().halves();
            if halves[0] != extent { halves.swap(0, 1); }
            prop_assert_eq!(halves, [extent, extent.buddy()]);
        }
    }
}
