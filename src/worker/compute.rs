//! A batch on rayon: leaves folded left to right, combined by the fixed tree, merged with what this rank has already.

use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::budget::Budget;
use super::caught::{Caught, catch};
use super::precautions::Guard;
use super::table::{self, Table};
use crate::error::{Error, ErrorKind, Place, Role};
use crate::extent::{Extent, Leaves, floor_power_of_two};
use crate::master::coverage::Coverage;
use crate::reduce::encoding::Encoding;
use crate::reduce::round::Round;
use crate::reduce::segment::{Inserted, Segments};
use crate::source::{Source, SourceError};

/// A run of leaves that takes less, in nanoseconds, is not worth being split between threads.
const PIECE_NANOS: f64 = 20_000.0;
/// Between two looks for whether two partials have been combined.
const A_MOMENT: Duration = Duration::from_millis(1);
/// A run that could be folded in one go is folded in so many, so that it can be cut short.
const CUTS: u64 = 16;

/// What a batch needs of the call it belongs to; the driver knows no types.
pub(crate) trait Work: Sync {
    /// The items of a batch that another rank computes, as bytes.
    fn pack(&self, batch: Extent) -> Result<Vec<u8>, Error>;

    /// How the input is divided, where this rank could not know. Comes before any batch.
    fn begin(&self, leaves: Leaves);

    /// Leaves that need care, where there are any. Comes before any batch.
    fn guard(&self, guard: Guard);

    /// Adds the partial of an extent that an earlier job has computed, as [`Work::snapshot`] wrote it.
    fn restore(&self, extent: Extent, value: &[u8]) -> Result<(), Error>;

    /// All that was computed here so far, as bytes. While a partial is encoded, batches come and go as ever.
    fn snapshot(&self) -> Result<Vec<(Extent, Vec<u8>)>, Error>;

    /// Computes a batch with the threads of the current rayon pool and keeps its partial.
    fn compute(&self, batch: Extent, parcel: &[u8], signals: Signals<'_>) -> Result<Computed, Error>;
}

/// What may be asked of a batch while it runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signals<'s> {
    /// Nobody wants it any more: it may end anywhere.
    pub cancelled: &'s AtomicBool,
    /// Others have time for the rest of it: it ends at the next leaf, and keeps what is done.
    pub cut: &'s AtomicBool,
}

/// What became of a batch.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Computed {
    /// Seconds that threads spent in the user's functions.
    pub busy: f64,
    /// The parts that were left undone because it was cut.
    pub rest: Vec<Extent>,
}

/// The user's functions: how a run of items becomes a partial, and two partials become one.
pub(crate) trait Kernel<S: Source>: Sync {
    type Partial: Send;

    /// Which runs of items `fold` may be given without the result depending on it.
    const RUNS: Runs;

    /// The partial of some items; nothing where there are none. Keeps `at` up to date.
    fn fold(&self, items: S::Batch, at: &At<'_>) -> Option<Self::Partial>;

    /// The partial of some items of a leaf, where the kernel does not want whole batches.
    fn fold_some(&self, items: impl Iterator<Item = S::Item>, at: &At<'_>) -> Option<Self::Partial>;

    /// The partial of a piece and of those before it, which came to `before`. Asked of kernels that fold pieces.
    fn fold_on(&self, before: Self::Partial, items: S::Batch, at: &At<'_>) -> Option<Self::Partial> {
        let next = self.fold(items, at)?;
        Some(self.combine(before, next))
    }

    fn combine(&self, left: Self::Partial, right: Self::Partial) -> Self::Partial;

    /// What a batch has come to, or an earlier job: where memory is short, it may go to the disk.
    fn put_away(&self, partial: Self::Partial) -> Self::Partial {
        partial
    }

    /// In how many rounds the partials of this rank had better travel, so that there is memory for what does; nothing if none
    /// of this kernel ever needs more than one. Asked once, when all is computed.
    fn rounds(&self, _partials: &[(Extent, Option<Self::Partial>)]) -> Option<u64> {
        None
    }

    /// What of a partial travels in a round, and the rest. Equal rounds of all partials belong together.
    fn split(&self, partial: Self::Partial, _round: Round) -> Result<(Self::Partial, Option<Self::Partial>), String> {
        Ok((partial, None))
    }

    /// What is wanted of a part, where partials are merged part by part, when it is complete; asked of the part of each round,
    /// and again of all of them together.
    fn finish(&self, part: Self::Partial) -> Self::Partial {
        part
    }
}

/// The runs of items that a kernel folds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runs {
    /// A leaf at a time: the result depends on where runs end.
    Leaf,
    /// Any: combining is exactly associative.
    Any,
    /// A whole batch: the user asked for it.
    Batch,
    /// A whole batch, piece by piece.
    Pieces,
}

impl Runs {
    /// Whether the batches themselves are folded, each by one thread.
    pub fn are_batches(self) -> bool {
        matches!(self, Self::Batch | Self::Pieces)
    }
}

/// Where a thread is, so that a panic can be told apart: which item of the run, and in which function.
#[derive(Debug)]
pub(crate) struct At<'b> {
    nth: Cell<u64>,
    /// Items before this one that are left out, and not counted in `nth`.
    left_out: Cell<u64>,
    pub role: Cell<Role>,
    items: Cell<(u64, u64)>,
    cancelled: &'b AtomicBool,
}

impl At<'_> {
    /// One item more is behind us. False if the rest is not wanted any more; what was folded so far is dropped then.
    pub fn goes_on(&self) -> bool {
        self.nth.set(self.nth.get() + 1);
        !self.cancelled.load(Ordering::Relaxed)
    }
}

/// One call's input and functions on one rank, with the partials of what was computed here.
pub(crate) struct Computation<'c, S: Source, K: Kernel<S>> {
    pub call: &'c str,
    pub place: &'c Place,
    pub source: &'c S,
    pub kernel: &'c K,
    leaves: OnceLock<Leaves>,
    guard: OnceLock<Guard>,
    threads: usize,
    table: Mutex<Table<K::Partial>>,
    /// Nanoseconds of one leaf in the last batch, as bits of an `f64`: how finely a batch is split.
    leaf_nanos: AtomicU64,
}

/// A batch under way.
struct Running<'b, P> {
    parcel: &'b P,
    /// Leaves that one thread folds without looking for help.
    grain: u64,
    /// Leaves that are folded in one go, where the kernel takes any run.
    run: u64,
    signals: Signals<'b>,
    /// Parts that were not begun before the batch was cut.
    rest: Mutex<Vec<Extent>>,
    /// Why the first part that failed did so: the rest of the batch is not worth computing then.
    failure: OnceLock<Error>,
    busy_nanos: AtomicU64,
}

thread_local! {
    /// Nanoseconds that were timed inside of what this thread times now.
    static INSIDE: Cell<u64> = const { Cell::new(0) };
}

/// A batch that comes to nothing; its `failure`, or whoever cancelled it, knows why.
struct Fruitless;

/// Why a thread stops in the middle of a batch.
enum Stop {
    Unreadable(SourceError),
    Failed(Error),
    Cancelled,
}

/// What an extent came to.
enum Outcome<T> {
    Whole(Option<T>),
    /// Parts of it were left out; the others are kept already.
    Cut,
}

impl<P> Running<'_, P> {
    /// Keeps the first failure: what other parts say after it is its consequence.
    fn fail(&self, error: Error) -> Fruitless {
        // Losing the race means that another failure is told.
        let _ = self.failure.set(error);
        Fruitless
    }

    /// Whether the extent, which was not begun, is left to others.
    fn leaves_out(&self, extent: Extent) -> bool {
        let cut = self.signals.cut.load(Ordering::Relaxed);
        if cut {
            self.rest.lock().unwrap_or_else(PoisonError::into_inner).push(extent);
        }
        cut
    }

    fn is_fruitless(&self) -> bool {
        self.signals.cancelled.load(Ordering::Relaxed) || self.failure.get().is_some()
    }

    /// Runs something of the user's, with the clock running.
    ///
    /// What runs inside of it on this thread and is timed itself (a thread that waits in the user's own use of rayon may
    /// take up another batch) counts there, and not twice.
    fn timed<R>(&self, f: impl FnOnce() -> R) -> R {
        let outer = INSIDE.replace(0);
        let start = Instant::now();
        let result = f();
        let elapsed = start.elapsed().as_nanos() as u64;
        self.busy_nanos.fetch_add(elapsed.saturating_sub(INSIDE.get()), Ordering::Relaxed);
        INSIDE.set(outer + elapsed);
        result
    }
}

impl<'c, S: Source, K: Kernel<S>> Computation<'c, S, K> {
    pub fn new(
        call: &'c str,
        place: &'c Place,
        leaves: Option<Leaves>,
        threads: usize,
        source: &'c S,
        kernel: &'c K,
    ) -> Self {
        let table = Mutex::new(Table::new(leaves.map_or(0, Leaves::count)));
        let (leaves, leaf_nanos) = (leaves.map_or_else(OnceLock::new, OnceLock::from), AtomicU64::new(0));
        Self { call, place, source, kernel, leaves, guard: OnceLock::new(), threads, table, leaf_nanos }
    }

    /// The partials of all that was computed here; none are left behind.
    pub fn take_segments(&self) -> Segments<Option<K::Partial>> {
        std::mem::replace(&mut self.lock().segments, Segments::new(self.leaves()))
    }

    /// The number of leaves; 0 as long as this rank does not know.
    pub fn leaves(&self) -> u64 {
        self.leaves.get().map_or(0, |leaves| leaves.count())
    }

    /// Two partials combined; `items` names them if the combiner panics.
    pub fn combine(
        &self,
        left: Option<K::Partial>,
        right: Option<K::Partial>,
        items: Range<u64>,
    ) -> Result<Option<K::Partial>, Error> {
        match (left, right) {
            (Some(left), Some(right)) => catch(|| self.kernel.combine(left, right)).map(Some).map_err(|caught| {
                let item = format!("the partials of items {} to {}", items.start, items.end - 1);
                self.panicked(Role::Combiner, item, caught)
            }),
            (left, right) => Ok(left.or(right)),
        }
    }

    /// What of a segment travels in a round, and the rest of it.
    pub fn split(
        &self,
        extent: Extent,
        partial: K::Partial,
        round: Round,
    ) -> Result<(K::Partial, Option<K::Partial>), Error> {
        let items = self.items_of(extent);
        let item = || format!("the partials of items {} to {}", items.start, items.end - 1);
        catch(|| self.kernel.split(partial, round))
            .map_err(|caught| self.panicked(Role::Combiner, item(), caught))?
            .map_err(|problem| Budget::unreadable(self.call, self.place, &problem))
    }

    /// What is kept of a partial for now.
    fn put_away(&self, extent: Extent, value: Option<K::Partial>) -> Result<Option<K::Partial>, Error> {
        let Some(value) = value else { return Ok(None) };
        catch(|| self.kernel.put_away(value)).map(Some).map_err(|caught| {
            let items = self.items_of(extent);
            self.panicked(Role::Combiner, format!("the partial of items {} to {}", items.start, items.end - 1), caught)
        })
    }

    /// What is wanted of a part that is complete.
    pub fn finish(&self, part: Option<K::Partial>) -> Result<Option<K::Partial>, Error> {
        let finish = |part| catch(|| self.kernel.finish(part));
        part.map(finish).transpose().map_err(|caught| self.panicked(Role::Combiner, "the result".into(), caught))
    }

    pub fn items_of(&self, extent: Extent) -> Range<u64> {
        self.leaves.get().expect("the division is known before any batch").items_of(extent)
    }

    /// The value of an extent: halves on as many threads as are free, down to the grain. Nothing if some part failed.
    fn value(&self, extent: Extent, run: &Running<'_, S::Parcel>) -> Result<Outcome<K::Partial>, Fruitless> {
        if extent.len <= run.grain || K::RUNS.are_batches() {
            return self.piece(extent, run);
        }
        let [first, second] = extent.halves();
        let (left, right) = rayon::join(|| self.value(first, run), || self.value(second, run));
        match (left?, right?) {
            (Outcome::Whole(left), Outcome::Whole(right)) => run
                .timed(|| self.combine(left, right, self.items_of(extent)))
                .map(Outcome::Whole)
                .map_err(|error| run.fail(error)),
            (left, right) => {
                self.keep_part(first, left, run).map_err(|error| run.fail(error))?;
                self.keep_part(second, right, run).map_err(|error| run.fail(error))?;
                Ok(Outcome::Cut)
            }
        }
    }

    /// The value of an extent on this thread alone, with the clock running.
    fn piece(&self, extent: Extent, run: &Running<'_, S::Parcel>) -> Result<Outcome<K::Partial>, Fruitless> {
        let (role, items, cancelled) = (Cell::new(Role::Mapper), Cell::new((0, 0)), run.signals.cancelled);
        let at = At { nth: Cell::new(0), left_out: Cell::new(0), role, items, cancelled };
        let value = run.timed(|| catch(|| self.folded(extent, run, &at)));
        match value {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(Stop::Unreadable(error))) => Err(run.fail(self.unreadable(error))),
            Ok(Err(Stop::Failed(error))) => Err(run.fail(error)),
            Ok(Err(Stop::Cancelled)) => Err(Fruitless),
            Err(caught) => {
                let items = at.items.get().0..at.items.get().1;
                let item = match (at.role.get(), K::RUNS) {
                    (Role::Combiner, _) => format!("the partials of items {} to {}", items.start, items.end - 1),
                    (Role::Mapper, Runs::Batch | Runs::Pieces) => {
                        format!("the batch of items {} to {}", items.start, items.end - 1)
                    }
                    (Role::Mapper | Role::Task, _) => self.source.describe(items, at.nth.get() + at.left_out.get()),
                };
                Err(run.fail(self.panicked(at.role.get(), item, caught)))
            }
        }
    }

    /// The tree below an extent, depth first, left to right.
    fn folded(&self, extent: Extent, run: &Running<'_, S::Parcel>, at: &At<'_>) -> Result<Outcome<K::Partial>, Stop> {
        let guard = self.guard.get().filter(|guard| guard.is_wary_of(extent));
        if extent.len <= run.run && (guard.is_none() || extent.len == 1) {
            return self.leaf(extent, run, at, guard);
        }
        let [first, second] = extent.halves();
        match (self.folded(first, run, at)?, self.folded(second, run, at)?) {
            (Outcome::Whole(Some(left)), Outcome::Whole(Some(right))) => {
                let items = self.items_of(extent);
                at.items.set((items.start, items.end));
                at.role.set(Role::Combiner);
                let value = self.kernel.combine(left, right);
                at.role.set(Role::Mapper);
                Ok(Outcome::Whole(Some(value)))
            }
            (Outcome::Whole(left), Outcome::Whole(right)) => Ok(Outcome::Whole(left.or(right))),
            (left, right) => {
                self.keep_part(first, left, run).map_err(Stop::Failed)?;
                self.keep_part(second, right, run).map_err(Stop::Failed)?;
                Ok(Outcome::Cut)
            }
        }
    }

    /// A run of leaves that is folded in one go.
    fn leaf(
        &self,
        extent: Extent,
        run: &Running<'_, S::Parcel>,
        at: &At<'_>,
        guard: Option<&Guard>,
    ) -> Result<Outcome<K::Partial>, Stop> {
        if run.is_fruitless() {
            return Err(Stop::Cancelled);
        }
        if run.leaves_out(extent) {
            return Ok(Outcome::Cut);
        }
        let items = self.items_of(extent);
        if guard.is_some_and(|guard| guard.leaves_out(extent.start)) {
            return Ok(Outcome::Whole(None));
        }
        let watched = guard.filter(|_| !K::RUNS.are_batches());
        let longest = if K::RUNS == Runs::Pieces { self.source.piece().max(1) } else { u64::MAX };
        let (mut value, mut start) = (None, items.start);
        while start < items.end {
            let end = items.end.min(start.saturating_add(longest));
            at.items.set((start, end));
            at.nth.set(0);
            at.left_out.set(0);
            let piece = self.source.read(run.parcel, start..end).map_err(Stop::Unreadable)?;
            value = match (value, watched) {
                (Some(before), _) => self.kernel.fold_on(before, piece, at),
                (None, None) => self.kernel.fold(piece, at),
                (None, Some(guard)) => self.kernel.fold_some(guard.watch(extent, piece.into_iter(), &at.left_out), at),
            };
            if run.signals.cancelled.load(Ordering::Relaxed) {
                return Err(Stop::Cancelled);
            }
            start = end;
        }
        Ok(Outcome::Whole(value))
    }

    /// Keeps one half of an extent of which the other half was cut.
    fn keep_part(&self, half: Extent, outcome: Outcome<K::Partial>, run: &Running<'_, S::Parcel>) -> Result<(), Error> {
        match outcome {
            Outcome::Whole(value) => self.keep(half, value, run),
            Outcome::Cut => Ok(()),
        }
    }

    /// Keeps a partial, combined with its buddies as far as they are here.
    fn keep(&self, extent: Extent, value: Option<K::Partial>, run: &Running<'_, S::Parcel>) -> Result<(), Error> {
        let value = self.put_away(extent, value)?;
        self.merge(extent, value, |left, right, items| run.timed(|| self.combine(left, right, items)))
    }

    /// Combining happens outside of the lock.
    fn merge(
        &self,
        extent: Extent,
        value: Option<K::Partial>,
        combine: impl Fn(Option<K::Partial>, Option<K::Partial>, Range<u64>) -> Result<Option<K::Partial>, Error>,
    ) -> Result<(), Error> {
        let mut inserted = self.lock().insert(extent, value);
        while let Inserted::Merge { parent, left, right } = inserted {
            let value = combine(left, right, self.items_of(parent));
            let mut table = self.lock();
            table.merging.retain(|extent| *extent != parent);
            table.is_incomplete |= value.is_err();
            inserted = table.insert(parent, value?);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Table<K::Partial>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn grain(&self, batch: Extent) -> u64 {
        let nanos = f64::from_bits(self.leaf_nanos.load(Ordering::Relaxed));
        if self.threads == 1 {
            return batch.len;
        }
        if nanos <= 0.0 {
            return 1;
        }
        let worth = (PIECE_NANOS / nanos).clamp(1.0, batch.len as f64) as u64;
        // However cheap leaves were so far, every thread gets some of them.
        floor_power_of_two(worth.min((batch.len / (4 * self.threads as u64)).max(1)))
    }

    /// What a cancelled batch answers; the call has failed already, so nobody sees it.
    fn cancelled(&self) -> Error {
        self.unreadable(SourceError::new("the batch was cancelled", "see the error that came before"))
    }

    fn unreadable(&self, error: SourceError) -> Error {
        unreadable(self.call, self.place, error)
    }

    fn panicked(&self, role: Role, item: String, caught: Caught) -> Error {
        caught.into_error(self.call, self.place, role, item)
    }
}

/// A source's error, with the place where it happened.
pub(crate) fn unreadable(call: &str, place: &Place, error: SourceError) -> Error {
    let SourceError { problem, remedy } = error;
    ErrorKind::Source { call: call.to_owned(), place: place.clone(), problem, remedy }.into()
}

impl<S: Source, K: Kernel<S>> Work for Computation<'_, S, K>
where
    K::Partial: Serialize + DeserializeOwned,
{
    fn pack(&self, batch: Extent) -> Result<Vec<u8>, Error> {
        catch(|| self.source.pack(self.items_of(batch)))
            .map_err(|caught| {
                let problem =
                    format!("encoding the items of a batch panicked: {} at {}", caught.message, caught.location);
                self.unreadable(SourceError::new(problem, "mend the Serialize of the item type"))
            })?
            .map_err(|error| self.unreadable(error))
    }

    fn begin(&self, leaves: Leaves) {
        if self.leaves.set(leaves).is_ok() {
            *self.lock() = Table::new(leaves.count());
        }
    }

    fn guard(&self, guard: Guard) {
        // Rank 0 says it once for each call.
        let _ = self.guard.set(guard);
    }

    fn restore(&self, extent: Extent, value: &[u8]) -> Result<(), Error> {
        let value = self.put_away(extent, Encoding { call: self.call, place: self.place }.decode(value)?)?;
        self.merge(extent, value, |left, right, items| self.combine(left, right, items))
    }

    fn snapshot(&self) -> Result<Vec<(Extent, Vec<u8>)>, Error> {
        // All that is here now; what comes meanwhile may be missing from this snapshot, but nothing that was in the last.
        let wanted = self.lock().coverage();
        let (mut seen, mut snapshot) = (Coverage::default(), Vec::new());
        let encoding = Encoding { call: self.call, place: self.place };
        while !wanted.runs().all(|run| seen.contains(run)) {
            let is_wanted = |extent: Extent| !seen.contains(extent) && wanted.meets(extent);
            // Taken out while it is encoded, so that nobody who brings another one waits for that.
            let (taken, is_incomplete) = {
                let mut table = self.lock();
                (table.segments.take_first(is_wanted), table.is_incomplete)
            };
            let Some((extent, value)) = taken else {
                if is_incomplete {
                    // The batch in which that happened tells it; here it only means that nothing is written.
                    return Err(encoding.encoding::<K::Partial>("encoded", "a combiner has panicked".into()));
                }
                // The rest is being combined.
                std::thread::sleep(A_MOMENT);
                continue;
            };
            let bytes = encoding.encode(&value);
            self.merge(extent, value, |left, right, items| self.combine(left, right, items))?;
            seen.insert(extent);
            snapshot.push((extent, bytes?));
        }
        table::drop_nested(&mut snapshot);
        Ok(snapshot)
    }

    fn compute(&self, batch: Extent, parcel: &[u8], signals: Signals<'_>) -> Result<Computed, Error> {
        let parcel = &self.source.unpack(self.items_of(batch), parcel).map_err(|error| self.unreadable(error))?;
        let (failure, busy_nanos) = (OnceLock::new(), AtomicU64::new(0));
        let (grain, rest) = (self.grain(batch), Mutex::default());
        let length = match K::RUNS {
            Runs::Leaf => 1,
            Runs::Any => (grain.min(batch.len) / CUTS).max(1),
            Runs::Batch | Runs::Pieces => batch.len,
        };
        let run = Running { parcel, grain, run: length, signals, rest, failure, busy_nanos };
        let outcome = match self.value(batch, &run) {
            Ok(outcome) => outcome,
            Err(Fruitless) => return Err(run.failure.into_inner().unwrap_or_else(|| self.cancelled())),
        };
        if let Outcome::Whole(value) = outcome {
            self.keep(batch, value, &run)?;
        }
        let busy_nanos = run.busy_nanos.into_inner();
        let rest = run.rest.into_inner().unwrap_or_else(PoisonError::into_inner);
        let done = batch.len - rest.iter().map(|part| part.len).sum::<u64>();
        if done > 0 {
            let leaf_nanos = busy_nanos as f64 / done as f64;
            self.leaf_nanos.store(leaf_nanos.max(1.0).to_bits(), Ordering::Relaxed);
        }
        Ok(Computed { busy: busy_nanos as f64 * 1e-9, rest })
    }
}

#[cfg(test)]
mod tests;
