//! The segments of all ranks in the order of their leaves, each leaf once: for results that are not merged in the tree.

use std::cmp::Reverse;
use std::ops::Range;

use super::telling::all_or_none;
use crate::error::{Error, ErrorKind, Result};
use crate::extent::Extent;
use crate::rank::Rank;
use crate::report::RankReport;

/// A segment's results: where they are, and how many.
pub(crate) type Listed = (Extent, u64);

/// The segments of all ranks that count, the same on every rank, and what each has to report. Collective.
///
/// # Errors
///
/// A leaf that is in no segment.
pub(crate) fn agree_on_order(
    rank: &mut Rank,
    call: &str,
    mine: Vec<Listed>,
    leaves: u64,
    report: RankReport,
) -> Result<(Vec<Placed>, Vec<RankReport>)> {
    let listed = all_or_none(rank, &Ok((mine, report)))?;
    let (listed, reports): (Vec<Vec<Listed>>, Vec<RankReport>) = listed.into_iter().unzip();
    let places = in_order(&listed, leaves).map_err(|gap| {
        let message = format!("leaves {} to {} are in no segment", gap.start, gap.end);
        let kind = ErrorKind::Internal { call: call.to_owned(), place: rank.places[0].clone(), message };
        Error::from(kind).on_rank(rank.rank())
    })?;
    Ok((places, reports))
}

/// A segment that counts: its rank, and the places of its results among all.
pub(crate) type Placed = (usize, Extent, Range<u64>);

/// The number of the first value of a rank's extent; none if another rank has computed the extent as well, and it is left to it.
pub(crate) fn start_of(places: &[Placed], rank: usize, extent: Extent) -> Option<u64> {
    places.iter().find(|(owner, place, _)| *owner == rank && *place == extent).map(|(.., here)| here.start)
}

/// The segments that count, each with its rank and the places of its results among all. Of what was computed twice, the longer
/// segment counts, and of equal ones the lower rank's.
fn in_order(listed: &[Vec<Listed>], leaves: u64) -> Result<Vec<Placed>, Range<u64>> {
    let of_rank =
        |(rank, listed): (usize, &Vec<Listed>)| listed.iter().map(move |listed| (rank, *listed)).collect::<Vec<_>>();
    let mut all: Vec<(usize, Listed)> = listed.iter().enumerate().flat_map(of_rank).collect();
    all.sort_by_key(|(rank, (extent, _))| (extent.start, Reverse(extent.len), *rank));
    let (mut places, mut leaf, mut at) = (Vec::new(), 0, 0);
    for (rank, (extent, count)) in all {
        if extent.start < leaf {
            continue;
        }
        if extent.start > leaf {
            return Err(leaf..extent.start);
        }
        places.push((rank, extent, at..at + count));
        (leaf, at) = (extent.end(), at + count);
    }
    if leaf < leaves { Err(leaf..leaves) } else { Ok(places) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_computed_twice_counts_once_and_gaps_are_named() {
        let [two, four] = [2, 4].map(|len| Extent::new(4, len));
        let listed = vec![vec![(two, 2)], vec![(Extent::new(0, 4), 3), (four, 4)], vec![(Extent::new(6, 2), 2)]];
        assert_eq!(in_order(&listed, 8), Ok(vec![(1, Extent::new(0, 4), 0..3), (1, four, 3..7)]));
        assert_eq!(in_order(&listed, 9), Err(8..9));
        assert_eq!(in_order(&listed[2..], 8), Err(0..6));
    }
}
