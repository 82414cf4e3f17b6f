//! What earlier jobs have left: which segments of which files count, and who loads them.
//!
//! Extents are nested or disjoint, so of all segments that were found the largest ones count; whatever lies inside of
//! another (from a duplicate batch, or from an older snapshot) holds nothing more.
//!
//! Pure: no clock, thread, file or MPI.

use std::cmp::Reverse;

use crate::extent::{Extent, extents_between};
use crate::master::coverage::Coverage;

/// A file with segments of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub name: String,
    pub extents: Vec<Extent>,
}

/// The segments that count, in the files that hold them; files that hold nothing new are left out.
pub(crate) fn choose(files: &[Found]) -> Vec<Found> {
    let mut all: Vec<(Extent, usize)> = files
        .iter()
        .enumerate()
        .flat_map(|(file, found)| found.extents.iter().map(move |extent| (*extent, file)))
        .collect();
    all.sort_by_key(|(extent, file)| (Reverse(extent.len), extent.start, *file));
    let (mut covered, mut chosen) = (Coverage::default(), vec![Vec::new(); files.len()]);
    for (extent, file) in all {
        if !covered.insert(extent).is_empty() {
            chosen[file].push(extent);
        }
    }
    let named = files.iter().zip(chosen).map(|(found, extents)| Found { name: found.name.clone(), extents });
    named.filter(|found| !found.extents.is_empty()).collect()
}

/// The leaves of an extent that exist: the last one of a tree may reach beyond the last leaf.
pub(crate) fn leaves_of(extent: Extent, leaves: u64) -> Vec<Extent> {
    extents_between(extent.start, extent.end().min(leaves))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(name: &str, extents: &[(u64, u64)]) -> Found {
        Found { name: name.into(), extents: extents.iter().map(|(start, len)| Extent::new(*start, *len)).collect() }
    }

    #[test]
    fn of_nested_segments_the_largest_counts_whichever_file_it_is_in() {
        let files = [found("a", &[(0, 2), (8, 1)]), found("b", &[(0, 4), (8, 1)]), found("c", &[(3, 1)])];
        assert_eq!(choose(&files), [found("a", &[(8, 1)]), found("b", &[(0, 4)])]);
    }

    #[test]
    fn a_run_beyond_the_last_leaf_counts_as_far_as_there_are_leaves() {
        assert_eq!(leaves_of(Extent::new(4, 4), 7), [Extent::new(4, 2), Extent::new(6, 1)]);
        assert_eq!(leaves_of(Extent::new(0, 4), 7), [Extent::new(0, 4)]);
    }

    proptest! {
        #[test]
        fn what_is_chosen_is_disjoint_and_leaves_nothing_out(
            files in prop::collection::vec(prop::collection::vec((0u64..64, 0u32..4), 0..12), 0..6)
        ) {
            let extent = |(index, level): (u64, u32)| Extent::new(index >> level << level, 1 << level);
            let files: Vec<Found> = files.into_iter().enumerate()
                .map(|(i, all)| Found { name: i.to_string(), extents: all.into_iter().map(extent).collect() }).collect();
            let leaves = |found: &[Found]| {
                let mut all: Vec<u64> = found.iter().flat_map(|f| &f.extents).flat_map(|e| e.start..e.end()).collect();
                all.sort_unstable();
                all
            };
            let chosen = leaves(&choose(&files));
            let mut expected = leaves(&files);
            expected.dedup();
            prop_assert_eq!(chosen, expected);
        }
    }
}
