//! The fixed tree: which partials have arrived, and which two are combined next.
//!
//! The tree is given by the number of leaves alone. A node is an aligned extent; a parent's value is its left child's
//! combined with its right child's; where the right child lies wholly beyond the last leaf, the left child's value *is*
//! the parent's. Nothing else is ever combined, so the result has the same bits whatever arrives first, from whichever
//! rank, however often, and a combiner that does not commute sees its operands in order.
//!
//! The reproducible reduction over global indices (not over ranks) follows the idea of Stelz, "Core-Count Independent
//! Reproducible Reduce" (KIT 2022), as in KaMPIng; the merging of runs is that of a binary counter.
//!
//! Pure: no clock, thread, file or MPI. Combining is left to the caller, who may do it outside of a lock.

use std::collections::BTreeMap;

use crate::extent::Extent;
use crate::simulate::mutant::{Mutant, planted};

/// Finished extents with their partial values, none of which has its buddy here.
#[derive(Debug)]
pub(crate) struct Segments<T> {
    leaves: u64,
    runs: BTreeMap<u64, (Extent, T)>,
}

/// What became of a value that was inserted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Inserted<T> {
    /// It waits for its buddy.
    Stored,
    /// Its items were here already; the value was dropped.
    Duplicate,
    /// Its buddy was here: combine the two, in this order, and insert the result as `parent`.
    Merge { parent: Extent, left: T, right: T },
}

impl<T> Segments<T> {
    pub fn new(leaves: u64) -> Self {
        Self { leaves, runs: BTreeMap::new() }
    }

    /// The number of leaves of the whole tree.
    pub fn leaves(&self) -> u64 {
        self.leaves
    }

    /// Inserts the partial of `extent`. The caller goes on inserting as long as the answer is `Merge`.
    pub fn insert(&mut self, extent: Extent, value: T) -> Inserted<T> {
        let extent = self.promote(extent);
        if let Some((_, (before, _))) = self.runs.range(..=extent.start).next_back()
            && before.contains(extent)
            && !planted(Mutant::DuplicateCounted)
        {
            return Inserted::Duplicate;
        }
        // Shorter runs within this extent hold items that it brings as well.
        let nested: Vec<u64> = self.runs.range(extent.start..extent.end()).map(|(start, _)| *start).collect();
        for start in nested {
            self.runs.remove(&start);
        }
        let buddy = extent.buddy();
        if self.runs.get(&buddy.start).is_none_or(|(run, _)| *run != buddy) {
            self.runs.insert(extent.start, (extent, value));
            return Inserted::Stored;
        }
        let (_, other) = self.runs.remove(&buddy.start).expect("the buddy was just seen");
        let first = (extent.start < buddy.start) != planted(Mutant::BuddiesExchanged);
        let (left, right) = if first { (value, other) } else { (other, value) };
        Inserted::Merge { parent: extent.parent(), left, right }
    }

    /// Inserts and combines until nothing is left to combine.
    pub fn merge<E>(
        &mut self,
        extent: Extent,
        value: T,
        combine: &mut impl FnMut(Extent, T, T) -> Result<T, E>,
    ) -> Result<(), E> {
        let mut next = (extent, value);
        while let Inserted::Merge { parent, left, right } = self.insert(next.0, next.1) {
            next = (parent, combine(parent, left, right)?);
        }
        Ok(())
    }

    /// Takes out the first segment that is wanted.
    pub fn take_first(&mut self, wanted: impl Fn(Extent) -> bool) -> Option<(Extent, T)> {
        let start = self.runs.values().find(|(extent, _)| wanted(*extent))?.0.start;
        self.runs.remove(&start)
    }

    /// All segments, in the order of their leaves, and no tree any more.
    pub fn into_all(self) -> Vec<(Extent, T)> {
        self.runs.into_values().collect()
    }

    /// All segments, in the order of their leaves.
    pub fn iter(&self) -> impl Iterator<Item = &(Extent, T)> {
        self.runs.values()
    }

    /// The value of all leaves, if the segments tile them exactly.
    ///
    /// # Errors
    ///
    /// The first range of leaves that nobody has finished.
    pub fn complete(mut self) -> Result<T, std::ops::Range<u64>> {
        let mut expected = 0;
        for (extent, _) in self.runs.values() {
            if extent.start != expected {
                return Err(expected..extent.start);
            }
            expected = extent.end().min(self.leaves);
        }
        if expected != self.leaves {
            return Err(expected..self.leaves);
        }
        let (_, (extent, value)) = self.runs.pop_first().ok_or(0..self.leaves)?;
        // Runs that tile all leaves have merged into one.
        if extent == Extent::root(self.leaves) { Ok(value) } else { Err(extent.end()..self.leaves) }
    }

    /// The highest node with the same leaves: up while the right sibling lies beyond the last leaf.
    fn promote(&self, mut extent: Extent) -> Extent {
        while extent.end() >= self.leaves && extent.len < self.leaves && extent.start & extent.len == 0 {
            extent = extent.parent();
        }
        extent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[expect(clippy::needless_pass_by_value, clippy::unnecessary_wraps, reason = "the shape of a combiner")]
    fn join(_: Extent, left: String, right: String) -> Result<String, ()> {
        Ok(format!("({left}{right})"))
    }

    /// The tree, written down the way its definition reads.
    fn reference(extent: Extent, leaves: u64) -> Option<String> {
        if extent.start >= leaves {
            return None;
        }
        if extent.len == 1 {
            return Some(format!("{},", extent.start));
        }
        let [left, right] = extent.halves().map(|half| reference(half, leaves));
        let left = left.expect("a right half alone has no leaves");
        Some(match right {
            Some(right) => format!("({left}{right})"),
            None => left,
        })
    }

    #[test]
    fn five_leaves_combine_as_four_and_one() {
        let mut segments = Segments::new(5);
        for leaf in [4, 2, 0, 1, 3] {
            segments.merge(Extent::new(leaf, 1), leaf.to_string(), &mut join).unwrap();
        }
        assert_eq!(segments.complete().as_deref(), Ok("(((01)(23))4)"));
    }

    #[test]
    fn a_gap_is_named_and_no_value_comes_out() {
        let mut segments = Segments::new(8);
        for leaf in [0, 1, 3, 4, 5, 6, 7] {
            segments.merge(Extent::new(leaf, 1), String::new(), &mut join).unwrap();
        }
        assert_eq!(segments.complete(), Err(2..3));
        assert_eq!(Segments::<u8>::new(3).complete(), Err(0..3));
    }

    #[test]
    fn the_last_leaves_missing_is_a_gap_too() {
        let mut segments = Segments::new(6);
        segments.merge(Extent::new(0, 4), String::new(), &mut join).unwrap();
        assert_eq!(segments.complete(), Err(4..6));
    }

    #[test]
    fn a_run_inside_another_is_a_duplicate_whichever_comes_first() {
        let mut segments = Segments::new(8);
        assert_eq!(segments.insert(Extent::new(0, 4), 'a'), Inserted::Stored);
        assert_eq!(segments.insert(Extent::new(2, 1), 'b'), Inserted::Duplicate);
        assert_eq!(segments.insert(Extent::new(0, 4), 'c'), Inserted::Duplicate);
        let mut segments = Segments::new(8);
        assert_eq!(segments.insert(Extent::new(2, 1), 'b'), Inserted::Stored);
        assert_eq!(segments.insert(Extent::new(0, 4), 'a'), Inserted::Stored);
        assert_eq!(segments.iter().collect::<Vec<_>>(), [&(Extent::new(0, 4), 'a')]);
    }

    proptest! {
        /// Any cut into extents, any order, any duplicates, any number of tables that are merged at the end.
        #[test]
        fn the_tree_does_not_depend_on_the_schedule(
            leaves in 1u64..200,
            lens in prop::collection::vec(1u64..33, 1..200),
            seed in any::<u64>(),
            tables in 1usize..6,
        ) {
            let mut extents = Vec::new();
            let mut at = 0;
            for len in lens.iter().cycle() {
                if at >= leaves { break; }
                extents.push(Extent::at_front(at, leaves, *len));
                at = extents[extents.len() - 1].end();
            }
            let mut dice = seed;
            let mut roll = |n: usize| {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (dice >> 33) as usize % n
            };
            for _ in 0..3 {
                let again = extents[roll(extents.len())];
                extents.push(again);
                if again.len > 1 { extents.push(again.halves()[1]); }
            }
            for i in (1..extents.len()).rev() { extents.swap(i, roll(i + 1)); }

            let mut ranks: Vec<Segments<String>> = (0..tables).map(|_| Segments::new(leaves)).collect();
            for extent in extents {
                let value = reference(extent, leaves).unwrap();
                ranks[roll(tables)].merge(extent, value, &mut join).unwrap();
            }
            let mut all = Segments::new(leaves);
            for (extent, value) in ranks.iter().flat_map(Segments::iter) {
                all.merge(*extent, value.clone(), &mut join).unwrap();
            }
            prop_assert_eq!(all.complete().ok(), reference(Extent::root(leaves), leaves));
        }
    }
}
