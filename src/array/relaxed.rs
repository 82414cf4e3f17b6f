//! The reduction of arrays by the MPI library, in whatever order it likes: each rank brings one array, and `MPI_Allreduce` makes
//! the result of them.
//!
//! For operations whose order cannot be seen, and where the order does not matter to whoever calls.

use std::collections::BTreeSet;

use bytemuck::{Pod, cast_slice_mut, zeroed_vec};

use super::block::Block;
use super::collect::in_any_order;
use super::op::BuiltIn;
use crate::extent::Extent;
use crate::rank::Rank;
use crate::reduce::collective::{Reduced, Value};
use crate::reduce::order::{Listed, agree_on_order};
use crate::reduce::parts::reduce_to_all;
use crate::reduce::telling::{all_or_none, if_all};
use crate::report::RankReport;
use crate::source::Source;
use crate::worker::compute::{Computation, Kernel};

/// Reduces with the function `O`, on every rank. Collective: every rank must call it, after every leaf was computed somewhere.
///
/// Where `O` is no function that MPI knows, or ranks were lost, it is done in the order of the leaves.
///
/// # Errors
///
/// Arrays of different shapes; a leaf that nobody has computed; the same error on every rank.
pub(crate) fn reduce_in_any_order<S, K, E, O>(
    rank: &mut Rank,
    computation: &Computation<'_, S, K>,
    report: RankReport,
    to_all: bool,
) -> Reduced<Block<E>>
where
    S: Source,
    K: Kernel<S, Partial = Block<E>>,
    E: Pod + Send + Sync,
    O: 'static,
{
    let Some(known) = BuiltIn::of::<E, O>().filter(|_| rank.size() > 1 && rank.lost.is_empty() && rank.may_meet())
    else {
        return reduce_to_all(rank, computation, report, to_all);
    };
    rank.begin_vigil();
    let segments = computation.take_segments();
    let leaves = segments.leaves();
    let mut mine = segments.into_all();
    let listed: Vec<Listed> = mine.iter().map(|(extent, _)| (*extent, 0)).collect();
    let (places, reports) = agree_on_order(rank, computation.call, listed, leaves, report)?;
    // What others have computed as well is left to them.
    let me = rank.rank();
    let counts: BTreeSet<u64> =
        places.iter().filter(|(owner, ..)| *owner == me).map(|(_, extent, _)| extent.start).collect();
    mine.retain(|(extent, _)| counts.contains(&extent.start));
    let first = mine.first().map_or(0, |(extent, _)| computation.items_of(*extent).start);
    let folded = rank.meanwhile(|| {
        let items = |extent| first..computation.items_of(extent).end;
        mine.into_iter().try_fold(None, |left, (extent, right)| computation.combine(left, right, items(extent)))
    })?;
    let shape = folded.as_ref().map(|folded| folded.as_ref().map(|block: &Block<E>| block.extents.clone()));
    let shapes: Vec<Vec<usize>> = all_or_none(rank, &shape.map_err(Clone::clone))?.into_iter().flatten().collect();
    let Some(extents) = shapes.first().cloned() else { return Ok((Value::Empty, reports)) };
    let block = folded?;
    // Every rank sees it, so all of them ask who has something to say.
    if shapes.iter().any(|shape| *shape != extents) {
        let told = match block {
            Some(mine) if mine.extents != extents => {
                let first = Block { extents, elements: Vec::new() };
                computation.combine(Some(first), Some(mine), computation.items_of(Extent::root(leaves))).map(drop)
            }
            _ => Ok(()),
        };
        if_all(rank, told)?;
        unreachable!("arrays of different shapes were combined");
    }
    let length = extents.iter().product();
    let mut block = block.unwrap_or_else(|| {
        let mut elements = zeroed_vec(length);
        known.make_neutral(cast_slice_mut::<E, u8>(&mut elements));
        Block { extents, elements }
    });
    if length > 0 {
        in_any_order(rank, cast_slice_mut(&mut block.elements), known)?;
    }
    Ok((Value::Here(block), reports))
}
