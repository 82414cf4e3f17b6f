//! The results of a call, left on the ranks: brought into the order of the items, and spread evenly.

use std::cmp::Reverse;
use std::ops::Range;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::balance::{evenly, overlap};
use super::moves::{all_or_none, if_all, leaf_of};
use crate::error::{Error, ErrorKind, Result};
use crate::extent::Extent;
use crate::meeting;
use crate::rank::Rank;
use crate::reduce::collective::{Reduced, Value};
use crate::reduce::encoding::Encoding;
use crate::reduce::exchange::{Parcels, exchange};
use crate::report::RankReport;
use crate::source::Source;
use crate::worker::compute::{Computation, Kernel};

/// A segment's results: where they are, and how many.
pub(super) type Listed = (Extent, u64);

/// Leaves on each rank an equal part of the lists that its kernel makes, in their order. Collective: every rank must call it,
/// after every leaf was computed somewhere.
///
/// # Errors
///
/// A value that cannot be encoded, a rank that was lost; the same error on every rank.
pub(crate) fn keep_in_order<S, K, R>(
    rank: &mut Rank,
    computation: &Computation<'_, S, K>,
    report: RankReport,
    _to_all: bool,
) -> Reduced<Vec<R>>
where
    S: Source,
    K: Kernel<S, Partial = Vec<R>>,
    R: Serialize + DeserializeOwned + Send,
{
    let call = computation.call;
    let mut segments = computation.take_segments();
    rank.begin_vigil();
    meeting::all_are_here(rank, call)?;
    let leaves = segments.leaves();
    let mut mine: Vec<(Extent, Vec<R>)> = Vec::new();
    while let Some((extent, values)) = segments.take_first(|_| true) {
        mine.push((extent, values.unwrap_or_default()));
    }
    let listed: Vec<Listed> = mine.iter().map(|(extent, values)| (*extent, values.len() as u64)).collect();
    let (places, reports) = agree_on_order(rank, call, listed, leaves, report)?;
    let total = places.last().map_or(0, |(_, _, items)| items.end);
    let targets = evenly(total, rank.size(), leaf_of(total));
    let (me, place) = (rank.rank(), rank.place.clone());
    let encoding = Encoding { call, place: &place };
    let packed = rank.meanwhile(|| pack(&encoding, mine, &places, me, &targets))?;
    let packed = if_all(rank, packed)?;
    let arrived = exchange(rank, packed)?;
    let part = rank.meanwhile(|| {
        let mut pieces: Vec<(u64, Vec<R>)> = Vec::new();
        for bytes in arrived.iter() {
            pieces.extend(encoding.decode::<Vec<(u64, Vec<R>)>>(bytes)?);
        }
        pieces.sort_unstable_by_key(|(start, _)| *start);
        Ok::<_, Error>(pieces.into_iter().flat_map(|(_, values)| values).collect())
    })?;
    Ok((Value::Part(if_all(rank, part)?), reports))
}

/// The segments of all ranks that count, the same on every rank, and what each has to report. Collective.
///
/// # Errors
///
/// A leaf that is in no segment.
pub(super) fn agree_on_order(
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
pub(super) type Placed = (usize, Extent, Range<u64>);

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

/// What each rank should have of this one's segments, each piece with its place.
fn pack<R: Serialize>(
    encoding: &Encoding<'_>,
    mine: Vec<(Extent, Vec<R>)>,
    places: &[Placed],
    me: usize,
    targets: &[Range<u64>],
) -> Result<Parcels> {
    let mut pieces: Vec<Vec<(u64, Vec<R>)>> = targets.iter().map(|_| Vec::new()).collect();
    for (extent, values) in mine {
        let Some((.., here)) = places.iter().find(|(rank, place, _)| *rank == me && *place == extent) else { continue };
        let mut values = values.into_iter();
        for (pieces, target) in pieces.iter_mut().zip(targets) {
            let part = overlap(here, target);
            if !part.is_empty() {
                let count = part.end - part.start;
                pieces.push((here.start + part.start as u64, values.by_ref().take(count).collect()));
            }
        }
    }
    Ok(Parcels::of(pieces.iter().map(|pieces| encoding.encode(pieces)).collect::<Result<_>>()?))
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
