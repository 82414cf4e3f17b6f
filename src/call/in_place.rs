//! A call whose items stay where they are: every rank computes what it has, and there is nothing to schedule.

use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use rayon::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Made, Outcome, Spec, describe, own_report, report_of};
use crate::driver::Driven;
use crate::error::{ErrorKind, Result};
use crate::extent::Extent;
use crate::meeting::meet;
use crate::rank::Rank;
use crate::reduce::collective::Reduction;
use crate::reduce::telling::if_all;
use crate::source::Source;
use crate::worker::compute::{Computation, Kernel, Signals, Work};

/// A thread gets so many runs of leaves, so that some can end sooner than others.
const RUNS_PER_THREAD: u64 = 4;

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
    let longest = ((end - start) / (RUNS_PER_THREAD * threads as u64)).max(1);
    let driven = rank.meanwhile(|| compute(&computation, start..end, longest, spec.retries));
    rank.progress.end();
    let driven = if_all(rank, driven?)?;
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

fn compute(work: &dyn Work, leaves: Range<u64>, longest: u64, retries: u32) -> Result<Driven> {
    let mut runs = Vec::new();
    let mut at = leaves.start;
    while at < leaves.end {
        runs.push(Extent::at_front(at, leaves.end, longest));
        at = runs[runs.len() - 1].end();
    }
    let (cancelled, cut) = (AtomicBool::new(false), AtomicBool::new(false));
    let signals = Signals { cancelled: &cancelled, cut: &cut };
    let busy = runs.par_iter().map(|run| {
        let mut tries = 0;
        loop {
            match work.compute(*run, &[], signals) {
                Ok(computed) => return Ok(computed.busy),
                Err(error) if tries == retries => return Err(error),
                Err(_) => tries += 1,
            }
        }
    });
    let busy: f64 = busy.collect::<Result<Vec<f64>>>()?.into_iter().sum();
    Ok(Driven { busy, batches: runs.len() as u64, leaves: leaves.end - leaves.start, ..Driven::default() })
}
