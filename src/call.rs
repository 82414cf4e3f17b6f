//! One call on one rank, from its arguments to its result: agree, schedule and compute, reduce, report.

mod in_place;
mod poison;

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::driver::{self, Driven, Plan};
use crate::error::Result;
use crate::extent::{Extent, Leaves};
use crate::interrupt::Deadline;
use crate::journal::Entry;
use crate::launch::leave_word;
use crate::master::scheduler::{Config, Scheduler};
use crate::pool::{self, Pool};
use crate::rank::{Rank, Traffic};
use crate::reduce::collective::{Reduction, Value};
use crate::reduce::encoding::Encoding;
use crate::report::{RankReport, Report};
use crate::source::{Source, SourceError};
use crate::wire::Signature;
use crate::worker::compute::{Computation, Kernel, Runs, unreadable};
use poison::Case;

/// What the user said about a call, apart from its input and functions.
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
#[derive(Debug, Clone, Default)]
pub(crate) struct Spec {
    pub operation: Cow<'static, str>,
    pub name: Option<String>,
    pub leaf: Option<u64>,
    pub retries: u32,
    /// Whether every rank gets the result, or rank 0 alone.
    pub to_all: bool,
    /// Whether there is a value for empty input.
    pub has_identity: bool,
    /// The folder of the journal, where the call has one of its own.
    pub journal: Option<PathBuf>,
    /// Whether an item may be computed twice where that gets the result sooner.
    pub may_repeat: bool,
    /// Whether items that end the rank which computes them are left out of the result.
    pub skips_poisoned: bool,
    /// Whether each rank keeps its part of the result: nobody has the whole, to record it.
    pub stays: bool,
}

/// What a call gives on one rank.
pub(crate) struct Outcome<T> {
    pub value: Value<T>,
    /// On rank 0.
    pub report: Option<Report>,
}

/// Makes a call. Collective: every rank must make the same one.
///
/// # Errors
///
/// The same error on every rank, for rank 0 to report; or a failure of this rank alone, for this rank to report.
pub(crate) fn make<S, K>(
    rank: &mut Rank,
    spec: &Spec,
    source: &S,
    kernel: &K,
    reduce: Reduction<S, K>,
) -> Result<Outcome<K::Partial>>
where
    S: Source,
    K: Kernel<S>,
    K::Partial: Serialize + DeserializeOwned,
{
    let guard = AbandonOnPanic(rank);
    let rank = &mut *guard.0;
    let begun = Instant::now();
    rank.call += 1;
    rank.traffic = Traffic::default();
    if let Some(own) = source.own() {
        return in_place::make(rank, spec, source, kernel, reduce, own);
    }
    let call = spec.name.as_deref().unwrap_or(&spec.operation);
    let place = rank.place.clone();

    let (signature, leaves) = describe::<S, K>(spec, call, rank, source);
    let (signature, mut entry) = enter_journal(rank, spec, source, signature, leaves);
    let known = signature.as_ref().is_ok_and(|signature| signature.len.is_some()).then_some(leaves);
    let threads = rank.pool.current_num_threads();
    let computation = Computation::new(call, &place, known, threads, source, kernel);
    let config = Config {
        leaves: leaves.count(),
        leaf: leaves.leaf,
        longest: if K::RUNS == Runs::Pieces && !source.is_on_root() {
            u64::MAX
        } else {
            (source.batch() / leaves.leaf).max(1)
        },
        retries: spec.retries,
        whole_batches: K::RUNS.are_batches(),
        may_repeat: spec.may_repeat,
        patience: rank.patience,
    };
    let kind = format!("{call}: {}", std::any::type_name::<K>());
    let mut left_out = Vec::new();
    let scheduler = (rank.rank() == 0).then(|| {
        let mut scheduler = Scheduler::new(config, &rank.threads, &rank.lost);
        if let Some(entry) = &mut entry {
            let case = Case { call, source, leaves, skips: skips_poisoned(spec) };
            left_out = take_up(rank, entry, &case, &mut scheduler);
        }
        if let Some(learned) = rank.costs.get(&kind) {
            scheduler.recall_costs(learned);
        }
        scheduler
    });
    if rank.rank() == 0 {
        rank.progress.begin(call, leaves.items, source.unit());
    }
    let number = rank.rank();
    let (signature, deadline) = match Deadline::of_this_job(entry.is_some()) {
        Ok(deadline) => (signature, deadline),
        Err(error) => (Err(error), None),
    };
    let stays = spec.stays;
    let plan = Plan { call, kind, signature, leaves, scheduler, entry: entry.as_ref(), deadline, stays };
    let driven = driver::drive(rank, plan, &computation)?;

    let report = own_report(rank, &driven);
    let (value, ranks) = reduce(rank, &computation, report, spec.to_all)?;
    warn_of(call, &left_out);
    if let (Some(entry), Value::Here(value)) = (entry.filter(|entry| !entry.is_complete), &value) {
        record_result(rank, &entry, call, value);
    }
    let made = Made { call, unit: source.unit(), leaves, begun, left_out };
    let report = (number == 0).then(|| report_of(made, &driven, ranks));
    Ok(Outcome { value, report })
}

/// What rank 0 knows of a call that was made.
struct Made<'c> {
    call: &'c str,
    unit: &'static str,
    leaves: Leaves,
    begun: Instant,
    left_out: Vec<String>,
}

fn report_of(made: Made<'_>, driven: &Driven, mut ranks: Vec<RankReport>) -> Report {
    let Made { call, unit, leaves: Leaves { items, leaf, .. }, begun, left_out } = made;
    ranks.sort_by_key(|report| report.place.rank);
    let (wall, batch_lengths) = (begun.elapsed(), driven.lengths.pairs());
    Report { call: call.into(), unit, items, leaf, wall, ranks, batch_lengths, left_out }
}

/// Opens a pool on rank 0. Collective: the others must serve it.
pub(crate) fn host<R: Send>(rank: &mut Rank, program: impl FnOnce(&Pool) -> R + Send) -> Result<R> {
    let guard = AbandonOnPanic(rank);
    guard.0.call += 1;
    guard.0.traffic = Traffic::default();
    pool::open(guard.0, program)
}

/// Serves a pool on any other rank. Collective.
pub(crate) fn serve(rank: &mut Rank) -> Result<()> {
    let guard = AbandonOnPanic(rank);
    guard.0.call += 1;
    guard.0.traffic = Traffic::default();
    pool::serve(guard.0)
}

/// Makes a call that needs no scheduler. Collective.
pub(crate) fn together<R>(rank: &mut Rank, operation: impl FnOnce(&mut Rank) -> Result<R>) -> Result<R> {
    let guard = AbandonOnPanic(rank);
    guard.0.call += 1;
    guard.0.traffic = Traffic::default();
    operation(guard.0)
}

/// What is not in the result is told each time.
fn warn_of(call: &str, left_out: &[String]) {
    if !left_out.is_empty() {
        let items = left_out.join(", ");
        eprintln!("rankfold: warning: {call}: the result is without {items}, with which jobs have crashed");
    }
}

/// On rank 0: goes on with what earlier jobs have done and learned. Gives the items that are left out of the result.
fn take_up<S: Source>(
    rank: &mut Rank,
    entry: &mut Entry,
    case: &Case<'_, S>,
    scheduler: &mut Scheduler,
) -> Vec<String> {
    scheduler.resume(entry.recovered());
    // What this program has seen itself is newer.
    let before = rank.journals.costs(entry);
    before.into_iter().for_each(|(kind, learned)| _ = rank.costs.entry(kind).or_insert(learned));
    case.prepare(entry, scheduler)
}

/// What this rank believes the call to be, and the division of its input as far as this rank knows it.
fn describe<S: Source, K: Kernel<S>>(spec: &Spec, call: &str, rank: &Rank, source: &S) -> (Result<Signature>, Leaves) {
    let knows = rank.rank() == 0 || !source.is_on_root();
    let len = if knows { source.len().map(Some) } else { Ok(None) };
    let len = len.map_err(|error| unreadable(call, &rank.place, error));
    let items = len.as_ref().ok().copied().flatten().unwrap_or(0);
    let signature = len.map(|len| Signature {
        operation: spec.operation.clone().into(),
        name: call.into(),
        source: source.kind().into(),
        len,
        fingerprint: source.fingerprint(),
        leaf: spec.leaf,
        result: std::any::type_name::<K::Partial>().into(),
        functions: std::any::type_name::<K>().into(),
        retries: spec.retries,
        to_all: spec.to_all,
        has_identity: spec.has_identity,
        journal: journal_of(spec).map(|dir| dir.display().to_string()),
        skips_poisoned: spec.skips_poisoned,
    });
    (signature, Leaves::new(items, spec.leaf.unwrap_or_else(|| source.leaf(items))))
}

/// On rank 0: finds out what earlier jobs have left of this call, where it has a journal.
fn enter_journal<S: Source>(
    rank: &mut Rank,
    spec: &Spec,
    source: &S,
    signature: Result<Signature>,
    leaves: Leaves,
) -> (Result<Signature>, Option<Entry>) {
    let (Some(dir), Ok(known)) = (journal_of(spec).filter(|_| rank.rank() == 0), &signature) else {
        return (signature, None);
    };
    let present = (0..rank.size()).filter(|other| !rank.lost.contains(other)).collect();
    let mut known = known.clone();
    if source.is_on_root() {
        match fingerprint_of(source, leaves) {
            Ok(fingerprint) => known.fingerprint = fingerprint,
            Err(error) => return (Err(unreadable(&known.name, &rank.place, error)), None),
        }
    }
    match rank.journals.enter(&dir, present, &known, leaves) {
        Ok(None) => (signature, None),
        Ok(Some(entry)) => {
            let done: u64 = entry.recovered().map(|(_, extent)| extent.len).sum();
            let part = 100.0 * done as f64 / leaves.count().max(1) as f64;
            if done > 0 && !entry.is_complete {
                let (call, dir, job) = (&known.name, entry.dir().display(), entry.job());
                eprintln!(
                    "rankfold: {call} goes on from {dir}: {part:.1} % of it was done before this job, number {job}"
                );
            }
            (signature, Some(entry))
        }
        Err(error) => (Err(error), None),
    }
}

/// Of all items that rank 0 alone has: other ones of the same number are another input.
fn fingerprint_of<S: Source>(source: &S, leaves: Leaves) -> std::result::Result<u64, SourceError> {
    let mut hasher = crc32fast::Hasher::new();
    for leaf in 0..leaves.count() {
        hasher.update(&source.pack(leaves.items_of(Extent::new(leaf, 1)))?);
    }
    Ok(u64::from(hasher.finalize()))
}

/// The folder of a call's journal: its own, or the one that the user of the program has named.
fn journal_of(spec: &Spec) -> Option<PathBuf> {
    let named = || std::env::var_os("RANKFOLD_JOURNAL").filter(|value| !value.is_empty()).map(PathBuf::from);
    spec.journal.clone().or_else(named)
}

/// Whether poison is left out of the result: the program says so, or its user.
fn skips_poisoned(spec: &Spec) -> bool {
    spec.skips_poisoned || std::env::var_os("RANKFOLD_SKIP_POISONED").is_some_and(|value| value == "1")
}

/// A result that cannot be recorded is a result all the same.
fn record_result<T: Serialize>(rank: &Rank, entry: &Entry, call: &str, value: &T) {
    let encoding = Encoding { call, place: &rank.place };
    let recorded = encoding.encode(&Some(value)).map_err(|error| error.to_string());
    let recorded =
        recorded.and_then(|bytes| rank.journals.finish(entry, bytes, &rank.costs).map_err(|error| error.to_string()));
    if let Err(problem) = recorded {
        eprintln!(
            "rankfold: warning: the result of {call} is not recorded in {}: {problem}; another job would compute what is \
             missing again",
            entry.dir().display()
        );
    }
}

fn own_report(rank: &Rank, driven: &Driven) -> RankReport {
    RankReport {
        place: rank.place.clone(),
        threads: rank.pool.current_num_threads() as u32,
        busy: Duration::from_secs_f64(driven.busy),
        batches: driven.batches,
        leaves: driven.leaves,
        messages: rank.traffic.messages,
        bytes: rank.traffic.bytes,
    }
}

/// A rank that unwinds out of a call, or that cannot reach the others any more, will not answer their messages: they must
/// be told, or they would wait.
struct AbandonOnPanic<'r>(&'r mut Rank);

impl Drop for AbandonOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            leave_word(format_args!("{} panicked", self.0.place));
            self.0.transport.abandon();
        }
        self.0.give_up_if_broken();
    }
}
