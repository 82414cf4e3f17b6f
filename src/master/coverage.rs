//! Which leaves are done: a set of leaves that is kept as the largest aligned runs it consists of.
//!
//! What workers finish are aligned runs, so the set stays a handful of runs for each of them, whatever the number of
//! leaves: two buddies become their parent, and a run inside another changes nothing.

use std::collections::BTreeMap;

use crate::extent::Extent;

#[derive(Debug, Clone, Default)]
pub(crate) struct Coverage {
    /// Length by start. No run is inside another, and no run has its buddy here.
    runs: BTreeMap<u64, u64>,
    leaves: u64,
}

impl Coverage {
    /// The number of leaves in the set.
    pub fn leaves(&self) -> u64 {
        self.leaves
    }

    pub fn contains(&self, extent: Extent) -> bool {
        self.around(extent).is_some()
    }

    /// Whether some of these leaves are in the set.
    pub fn meets(&self, extent: Extent) -> bool {
        self.contains(extent) || self.runs.range(extent.start..extent.end()).next().is_some()
    }

    /// Adds a run; gives the parts of it that were not in the set.
    pub fn insert(&mut self, extent: Extent) -> Vec<Extent> {
        let fresh = self.gaps(extent);
        if fresh.is_empty() {
            return fresh;
        }
        self.leaves += fresh.iter().map(|gap| gap.len).sum::<u64>();
        self.forget_inside(extent);
        let mut run = extent;
        while self.runs.get(&run.buddy().start) == Some(&run.len) {
            self.runs.remove(&run.buddy().start);
            run = run.parent();
        }
        self.runs.insert(run.start, run.len);
        fresh
    }

    /// Takes a run out of the set.
    pub fn remove(&mut self, extent: Extent) {
        let Some(mut around) = self.around(extent) else {
            self.leaves -= self.forget_inside(extent);
            return;
        };
        self.runs.remove(&around.start);
        self.leaves -= extent.len;
        // What stays are the siblings on the way down to the extent.
        while around != extent {
            let [left, right] = around.halves();
            let (next, stays) = if left.contains(extent) { (left, right) } else { (right, left) };
            self.runs.insert(stays.start, stays.len);
            around = next;
        }
    }

    /// The parts of an extent that are not in the set, as aligned runs from left to right.
    pub fn gaps(&self, extent: Extent) -> Vec<Extent> {
        let mut gaps = Vec::new();
        self.add_gaps(extent, &mut gaps);
        gaps
    }

    /// The runs of the set, from left to right.
    pub fn runs(&self) -> impl Iterator<Item = Extent> {
        self.runs.iter().map(|(start, len)| Extent::new(*start, *len))
    }

    fn add_gaps(&self, extent: Extent, gaps: &mut Vec<Extent>) {
        if self.contains(extent) {
            return;
        }
        if self.runs.range(extent.start..extent.end()).next().is_none() {
            gaps.push(extent);
            return;
        }
        extent.halves().into_iter().for_each(|half| self.add_gaps(half, gaps));
    }

    /// The run of the set that an extent lies in.
    fn around(&self, extent: Extent) -> Option<Extent> {
        let (start, len) = self.runs.range(..=extent.start).next_back()?;
        Some(Extent::new(*start, *len)).filter(|run| run.contains(extent))
    }

    /// Removes the runs inside of an extent; gives the number of their leaves.
    fn forget_inside(&mut self, extent: Extent) -> u64 {
        let inside: Vec<u64> = self.runs.range(extent.start..extent.end()).map(|(start, _)| *start).collect();
        inside.iter().filter_map(|start| self.runs.remove(start)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a list of flags, one for each leaf.
        #[test]
        fn a_coverage_is_a_set_of_leaves(
            steps in prop::collection::vec((0u32..7, 0u64..128, prop::bool::weighted(0.7)), 1..80),
        ) {
            let (mut coverage, mut flags) = (Coverage::default(), [false; 128]);
            for (level, index, adds) in steps {
                let extent = Extent::new((index >> level) << level, 1 << level);
                let range = extent.start as usize..extent.end() as usize;
                prop_assert_eq!(coverage.contains(extent), flags[range.clone()].iter().all(|flag| *flag));
                if adds {
                    let fresh = coverage.insert(extent);
                    let before = range.clone().filter(|leaf| !flags[*leaf]).collect::<Vec<_>>();
                    let found = fresh.iter().flat_map(|gap| gap.start as usize..gap.end() as usize);
                    prop_assert_eq!(found.collect::<Vec<_>>(), before);
                } else {
                    coverage.remove(extent);
                }
                flags[range].fill(adds);
                prop_assert_eq!(coverage.leaves(), flags.iter().filter(|flag| **flag).count() as u64);
                let runs: Vec<Extent> = coverage.runs().collect();
                let listed = runs.iter().flat_map(|run| run.start as usize..run.end() as usize);
                prop_assert!(listed.eq((0..128).filter(|leaf| flags[*leaf])));
                prop_assert!(runs.iter().all(|run| run.len == 128 || !runs.contains(&run.buddy())), "{runs:?}");
            }
        }
    }
}
