//! A call whose items are on the ranks already: every rank computes what it has, and there is nothing to schedule. In turns,
//! since ranks that are through compute some of what the others have.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rayon::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_bytes::ByteBuf;

use super::{Made, Outcome, Spec, describe, own_report, report_of};
use crate::driver::Driven;
use crate::error::{Error, ErrorKind, Result};
use crate::extent::{Extent, extents_between};
use crate::meeting::meet;
use crate::rank::Rank;
use crate::reduce::collective::Reduction;
use crate::reduce::telling::if_all;
use crate::shards::moves::swap;
use crate::shards::turns::{Card, Remains, Turn};
use crate::source::Source;
use crate::worker::compute::{Computation, Kernel, Signals, Work};

/// A thread gets so many runs of leaves, so that some can end sooner than others.
const RUNS_PER_THREAD: u64 = 4;
/// The same of batches, which are computed to their end.
const BATCHES_PER_THREAD: u64 = 8;
/// What is left is cut so finely, for each rank, before it is shared.
const SHARES: u64 = 64;

/// Makes a call on what each rank has, which is `own` here. Collective.
///
/// # Errors
///
/// The first failure of a rank, the same on every rank.
pub(super) fn make<S, K>(
    rank: &mut Rank,
    spec: &Spec,
    source: &S,
    kernel: &K,
    reduce: Reduction<S, K>,
    own: Range<u64>,
) -> Result<Outcome<K::Partial>>
where
    S: Source,
    K: Kernel<S>,
    K::Partial: Serialize + DeserializeOwned,
{
    let begun = Instant::now();
    let call = spec.name.as_deref().unwrap_or(&spec.operation);
    let place = rank.place.clone();
    refuse(spec, call).map_err(|error| error.on_rank(place.rank))?;
    let (signature, leaves) = describe::<S, K>(spec, call, rank, source);
    let mut signature = signature?;
    signature.journal = None;
    meet(rank, &signature, &[])?;
    if rank.rank() == 0 {
        rank.progress.begin(call, leaves.items, source.unit());
    }
    let threads = rank.pool.current_num_threads();
    let computation = Computation::new(call, &place, Some(leaves), threads, source, kernel);
    // Ranks have whole leaves: the first one begins where this rank's items do.
    let [start, end] = [own.start, own.end].map(|at| at.div_ceil(leaves.leaf));
    let runs_per_thread = if K::RUNS.are_batches() { BATCHES_PER_THREAD } else { RUNS_PER_THREAD };
    let longest = ((end - start) / (runs_per_thread * threads as u64)).max(1);
    let driven = compute_in_turns(rank, &computation, runs(start..end, longest), spec.retries);
    rank.progress.end();
    let driven = driven?;
    let report = own_report(rank, &driven);
    let (value, ranks) = reduce(rank, &computation, report, spec.to_all)?;
    let made = Made { call, unit: source.unit(), leaves, begun, left_out: Vec::new() };
    let report = (rank.rank() == 0).then(|| report_of(made, &driven, ranks));
    Ok(Outcome { value, report })
}

/// What makes no sense for items that are where they are.
fn refuse(spec: &Spec, call: &str) -> Result<()> {
    let problem = if spec.leaf.is_some() {
        "the items of shards are in leaves already, and another size would move them"
    } else if spec.journal.is_some() {
        "the items of shards are in memory alone, and another job does not have them"
    } else {
        return Ok(());
    };
    let remedy = "leave it out; give it to the call whose result these shards are".to_owned();
    Err(ErrorKind::Refused { call: call.to_owned(), problem: problem.to_owned(), remedy }.into())
}

/// Leaves that are computed here.
#[derive(Debug, Clone)]
struct Stretch {
    extent: Extent,
    /// Their items, and maybe others, if they are another rank's.
    parcel: Arc<[u8]>,
    /// How often they have failed.
    tries: u32,
}

/// The leaves in runs of a length that is worth being merged.
fn runs(leaves: Range<u64>, longest: u64) -> Vec<Stretch> {
    let mut runs: Vec<Stretch> = Vec::new();
    let mut at = leaves.start;
    while at < leaves.end {
        let extent = Extent::at_front(at, leaves.end, longest);
        runs.push(Stretch { extent, parcel: Arc::default(), tries: 0 });
        at = extent.end();
    }
    runs
}

/// Computes what this rank has, in turns, until every rank is through. Collective.
fn compute_in_turns<S, K>(
    rank: &mut Rank,
    computation: &Computation<'_, S, K>,
    mut mine: Vec<Stretch>,
    retries: u32,
) -> Result<Driven>
where
    S: Source,
    K: Kernel<S>,
    K::Partial: Serialize + DeserializeOwned,
{
    let (mut driven, mut turn) = (Driven::default(), Turn::first(computation.call, rank.size()));
    loop {
        let (done, lately) = turn.take(rank, |is_over| compute(computation, mine, retries, is_over))?;
        let card = done.as_ref().map_err(Error::clone).map(|done| {
            let [visited, left] = [done.leaves, done.left.iter().map(|stretch| stretch.extent.len).sum()];
            Card { visited, lately, left, ..Card::default() }
        });
        let (_, next) = turn.end(rank, &card)?;
        let done = done?;
        driven.busy += done.busy;
        driven.batches += done.batches;
        driven.leaves += done.leaves;
        let Some((remains, following)) = next else { return Ok(driven) };
        mine = if remains.are_going() { share(rank, computation, done.left, &remains)? } else { done.left };
        turn = following;
    }
}

/// What a turn has come to on this rank.
#[derive(Default)]
struct Done {
    busy: f64,
    batches: u64,
    leaves: u64,
    left: Vec<Stretch>,
}

fn compute(work: &dyn Work, mine: Vec<Stretch>, retries: u32, is_over: &AtomicBool) -> Result<Done> {
    let compute = |stretch| compute_stretch(work, stretch, retries, is_over);
    let both = |mut all: Done, more: Done| {
        all.left.extend(more.left);
        Done {
            busy: all.busy + more.busy,
            batches: all.batches + more.batches,
            leaves: all.leaves + more.leaves,
            ..all
        }
    };
    let mut done = mine.into_par_iter().map(compute).try_reduce(Done::default, |all, more| Ok(both(all, more)))?;
    done.left.sort_unstable_by_key(|stretch| stretch.extent.start);
    Ok(done)
}

fn compute_stretch(work: &dyn Work, mut stretch: Stretch, retries: u32, is_over: &AtomicBool) -> Result<Done> {
    let cancelled = AtomicBool::new(false);
    let signals = Signals { cancelled: &cancelled, cut: is_over };
    let (computed, Stretch { extent, parcel, tries }) = loop {
        if is_over.load(Ordering::Relaxed) {
            return Ok(Done { left: vec![stretch], ..Done::default() });
        }
        match work.compute(stretch.extent, &stretch.parcel, signals) {
            Ok(computed) => break (computed, stretch),
            Err(error) if stretch.tries == retries => return Err(error),
            Err(_) => stretch.tries += 1,
        }
    };
    let left: Vec<Stretch> = joined(computed.rest)
        .into_iter()
        .map(|extent| Stretch { extent, parcel: Arc::clone(&parcel), tries })
        .collect();
    let leaves = extent.len - left.iter().map(|stretch| stretch.extent.len).sum::<u64>();
    Ok(Done { busy: computed.busy, batches: 1, leaves, left })
}

/// The same leaves in as few extents as there can be.
fn joined(mut extents: Vec<Extent>) -> Vec<Extent> {
    extents.sort_unstable();
    extents
        .chunk_by(|a, b| a.end() == b.start)
        .flat_map(|run| extents_between(run[0].start, run[run.len() - 1].end()))
        .collect()
}

/// Gives each rank its share of what is left. Collective.
fn share<S, K>(
    rank: &mut Rank,
    computation: &Computation<'_, S, K>,
    left: Vec<Stretch>,
    remains: &Remains,
) -> Result<Vec<Stretch>>
where
    S: Source,
    K: Kernel<S>,
    K::Partial: Serialize + DeserializeOwned,
{
    let (me, size) = (rank.rank(), rank.size());
    let threads = rank.threads.iter().copied().max().unwrap_or(1);
    let shares = size as u64 * SHARES.max(RUNS_PER_THREAD * u64::from(threads));
    let longest = (remains.total / shares).max(1);
    let packed = rank.meanwhile(|| {
        let mut at = remains.places[me].start;
        let (mut staying, mut going, mut ends) = (Vec::new(), Vec::new(), vec![0; size]);
        let mut stretches: Vec<Stretch> = left.into_iter().rev().collect();
        while let Some(stretch) = stretches.pop() {
            let target = remains.targets.partition_point(|target| target.end <= at);
            let len = stretch.extent.len;
            // Items that have come in one parcel are only divided where they have to be, since it goes with each part.
            let is_long = len > longest && stretch.parcel.is_empty();
            if len > 1 && (is_long || at + len > remains.targets[target].end) {
                let half = |extent| Stretch { extent, ..stretch.clone() };
                stretches.extend(stretch.extent.halves().into_iter().rev().map(half));
                continue;
            }
            at += len;
            if target == me {
                staying.push(stretch);
            } else {
                let Stretch { extent, parcel, tries } = stretch;
                let parcel = if parcel.is_empty() { computation.pack(extent)? } else { parcel.to_vec() };
                going.push((extent, ByteBuf::from(parcel), tries));
            }
            ends[target] = going.len();
        }
        // Nothing for a rank ends where what is for the one before does.
        let parts = ends.iter().scan(0, |at, end| Some(std::mem::replace(at, (*at).max(*end))..*at));
        Ok::<_, Error>((staying, going, parts.collect::<Vec<Range<usize>>>()))
    })?;
    let (mut mine, going, parts) = if_all(rank, packed)?;
    let arrived = swap(rank, computation.call, going, &parts)?;
    let stretch =
        |(extent, parcel, tries): (Extent, ByteBuf, u32)| Stretch { extent, parcel: parcel.into_vec().into(), tries };
    mine.extend(arrived.into_iter().flatten().map(stretch));
    Ok(mine)
}
