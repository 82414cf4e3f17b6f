//! The results of a call, left on the ranks: brought into the order of the items, and spread evenly.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::balance::evenly;
use super::moves::{bring_together, leaf_of};
use crate::extent::Extent;
use crate::meeting;
use crate::rank::Rank;
use crate::reduce::collective::{Reduced, Value};
use crate::reduce::order::{Listed, agree_on_order, start_of};
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
    let me = rank.rank();
    let mine = mine.into_iter().filter_map(|(extent, values)| Some((start_of(&places, me, extent)?, values))).collect();
    Ok((Value::Part(bring_together(rank, call, mine, &targets)?), reports))
}
