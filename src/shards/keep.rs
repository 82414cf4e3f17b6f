//! The results of a call, left on the ranks: brought into the order of the items, and spread evenly.

use std::ops::Range;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::balance::{evenly, overlap};
use super::moves::leaf_of;
use crate::error::{Error, Result};
use crate::extent::Extent;
use crate::meeting;
use crate::rank::Rank;
use crate::reduce::collective::{Reduced, Value};
use crate::reduce::encoding::Encoding;
use crate::reduce::exchange::{Parcels, exchange};
use crate::reduce::order::{Listed, Placed, agree_on_order};
use crate::reduce::telling::if_all;
use crate::report::RankReport;
use crate::source::Source;
use crate::worker::compute::{Computation, Kernel};

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
    let segments = computation.take_segments();
    rank.begin_vigil();
    meeting::all_are_here(rank, call)?;
    let leaves = segments.leaves();
    let full = |(extent, values): (Extent, Option<Vec<R>>)| (extent, values.unwrap_or_default());
    let mine: Vec<(Extent, Vec<R>)> = segments.into_all().into_iter().map(full).collect();
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
