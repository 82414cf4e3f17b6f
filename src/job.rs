//! The fluent description of one call: `world.over(input)` and what is done with it.

mod by_key;
mod elementwise;
mod on_root;
mod staying;

use std::borrow::Cow;
use std::marker::PhantomData;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use by_key::ByKey;
pub use elementwise::Elementwise;
pub use on_root::OnRoot;

use crate::array::collect::Order;
use crate::call::Spec;
use crate::error::{ErrorKind, Result};
use crate::kernel::{Batches, Fold, FoldBatches, ForEach, Map, MapReduce};
use crate::reduce::collective::{Reduction, Value, reduce};
use crate::source::Source;
use crate::worker::compute::Kernel;
use crate::world::World;

/// A call that is being described; its last method makes it. From [`World::over`].
///
/// The methods that make the call are collective: **every rank must make the same call**, with the same input and
/// options; ranks that differ are refused with both named. The functions may capture, since every rank has its own copy
/// of what they capture; they run on many threads at once and in no order.
///
/// # Examples
///
/// ```
/// # fn main() -> rankfold::Result<()> {
/// let world = rankfold::init()?;
/// let longest = world.over(0..1000u64).named("longest").map_reduce(|i| i.to_string().len(), usize::max)?;
/// assert_eq!(longest, 3);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a call is made by its last method, such as map_reduce"]
pub struct Over<'w, S, I = NoIdentity> {
    world: &'w World,
    source: S,
    spec: Spec,
    identity: I,
}

/// No value was given for empty input: it is an error.
#[doc(hidden)]
#[derive(Debug)]
pub struct NoIdentity;

/// The value of empty input.
#[doc(hidden)]
#[derive(Debug)]
pub struct Given<T>(T);

/// Whether there is a value for empty input.
#[doc(hidden)]
pub trait Identity<T> {
    fn value(self) -> Option<T>;
}

impl<T> Identity<T> for NoIdentity {
    fn value(self) -> Option<T> {
        None
    }
}

impl<T> Identity<T> for Given<T> {
    fn value(self) -> Option<T> {
        Some(self.0)
    }
}

impl<'w, S: Source> Over<'w, S> {
    pub(crate) fn new(world: &'w World, source: S) -> Self {
        Self { world, source, spec: Spec { to_all: true, may_repeat: true, ..Spec::default() }, identity: NoIdentity }
    }

    /// The result when the input is empty, on each rank its own. It is not combined with anything else.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::init()?;
    /// let sum = world.over(0..0u64).identity(0).map_reduce(|i| i, |a, b| a + b)?;
    /// assert_eq!(sum, 0);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn identity<T>(self, value: T) -> Over<'w, S, Given<T>> {
        let Self { world, source, mut spec, .. } = self;
        spec.has_identity = true;
        Over { world, source, spec, identity: Given(value) }
    }
}

impl<'w, S: Source, I> Over<'w, S, I> {
    /// Names the call in progress, reports and errors.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::init()?;
    /// world.over(0..10u64).named("warm-up").for_each(|_| {})?;
    /// assert_eq!(world.report().map(|report| report.call), Some("warm-up".to_owned()));
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.spec.name = Some(name.into());
        self
    }

    /// The number of consecutive items (of bytes, for lines) that are folded from left to right before anything is combined.
    ///
    /// It is rounded up to a power of two, and raised where more than 2^20 leaves would result. It belongs to the result:
    /// another leaf size may give other bits where combining rounds. Without this call it follows from the length of the
    /// input. It need not be tuned for speed; batches are made of as many leaves as are good.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::init()?;
    /// let sum = world.over(0..1000u64).leaf(64).map_reduce(|i| 0.1 * i as f64, |a, b| a + b)?;
    /// assert!((sum - 49_950.0).abs() < 1e-6);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn leaf(mut self, items: u64) -> Self {
        self.spec.leaf = Some(items.max(1));
        self
    }

    /// How often a batch is tried again, on whichever rank is free, when the mapper panics in it or its items cannot be
    /// read. Without this call, the first failure ends the call. All items of the batch are mapped again. A combiner
    /// that panics ends the call in any case, since its operands are gone.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::atomic::{AtomicBool, Ordering};
    ///
    /// # let world = rankfold::init()?;
    /// let first = AtomicBool::new(true);
    /// let flaky = |i: u64| if first.swap(false, Ordering::Relaxed) { panic!("once") } else { i };
    /// assert_eq!(world.over(0..10u64).retries(2).map_reduce(flaky, |a, b| a + b)?, 45);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn retries(mut self, retries: u32) -> Self {
        self.spec.retries = retries;
        self
    }

    /// Keeps a journal of this call in a folder, so that another job of the same program can go on where this one ended.
    ///
    /// Every rank writes there what it has done, from time to time and without holding up anybody; a job that is started
    /// again with the same program, arguments and input computes only what is missing, on any number of ranks, and a
    /// call that was finished returns its result at once. All ranks must see the folder. The calls of a program that
    /// share a folder are numbered in the order in which they are made, so a program must make the same calls each time.
    /// `RANKFOLD_JOURNAL=folder` does the same for all calls of a program.
    ///
    /// With a journal, SIGUSR1, SIGTERM and SIGINT end the call early, as does the end of a Slurm job's time or of
    /// `RANKFOLD_DEADLINE`: what runs is cut short, what is done is written, and the call returns
    /// [`ErrorKind::Interrupted`], for which [`spmd`](crate::spmd) exits with code 75, and other programs should
    /// ([`Error::exit_code`](crate::Error::exit_code)). A second SIGINT ends at once.
    ///
    /// # Examples
    ///
    /// ```
    /// # let folder = std::env::temp_dir().join(format!("rankfold-doc-{}", std::process::id()));
    /// let sum = |folder: &std::path::Path| {
    ///     let world = rankfold::World::local(2)?;
    ///     world.over(0..1000u64).journal(folder).map_reduce(|i| i, |a, b| a + b)
    /// };
    /// assert_eq!(sum(&folder)?, 499_500);
    /// assert_eq!(sum(&folder)?, 499_500); // from the journal
    /// # std::fs::remove_dir_all(folder).ok();
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn journal(mut self, folder: impl Into<PathBuf>) -> Self {
        self.spec.journal = Some(folder.into());
        self
    }

    /// Gives the result without the items that end the rank which computes them, where it would be
    /// [`ErrorKind::Poisoned`] else. Only of use with a [`journal`](Self::journal), by which such items are found.
    ///
    /// When jobs of a run crash (a rank is killed by a signal, or for want of memory), each rank marks on the disk what it
    /// computes from then on. Leaves that are computed in crash after crash come last, when everything else is done, a few
    /// at a time and in the end alone; the item with which three jobs in a row crash when nothing else is computed is
    /// poison. The result is then that of the other items: of `map`, a list that is shorter; of `map_batches` and
    /// `fold_batches`, without the whole leaf. [`Report::left_out`](crate::Report::left_out) names them, and a warning does.
    /// `RANKFOLD_SKIP_POISONED=1` does the same for all calls of a program.
    ///
    /// # Examples
    ///
    /// ```
    /// # let folder = std::env::temp_dir().join(format!("rankfold-doc-poison-{}", std::process::id()));
    /// let world = rankfold::World::local(2)?;
    /// let sum = world.over(0..1000u64).journal(&folder).skip_poisoned().map_reduce(|i| i, |a, b| a + b)?;
    /// assert!(sum == 499_500 && world.report().is_some_and(|report| report.left_out.is_empty()));
    /// # std::fs::remove_dir_all(folder).ok();
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn skip_poisoned(mut self) -> Self {
        self.spec.skips_poisoned = true;
        self
    }

    /// Leaves the result on rank 0: the others save the transfer and get `None`.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::init()?;
    /// let squares = world.over(0..4u64).on_root().map(|i| i * i)?;
    /// assert_eq!(squares.is_some(), world.is_root());
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn on_root(mut self) -> OnRoot<'w, S, I> {
        self.spec.to_all = false;
        OnRoot(self)
    }

    /// Says that partials are arrays, which are combined element by element: the methods of what this gives take operations
    /// on two elements, such as those of [`op`](crate::op), where others take combiners.
    ///
    /// For arrays that are long. In the last step each rank merges a slice of all of them (a reduce-scatter and an all-gather,
    /// by `MPI_Ialltoallv` and `MPI_Iallgatherv`), so that no rank sends or receives more than its segments and twice the
    /// result, on any number of ranks; and elements travel, and are written to journals, as they are in memory. Memory: a
    /// rank's segments, twice while they are on their way, and the result. Integers with a function of `op`, whose order cannot
    /// be seen, wrap around, and go through `MPI_Allreduce` instead; so does everything that `op` knows, where
    /// [`relaxed`](Elementwise::relaxed) asks for it.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::init()?;
    /// let histogram = world.over(0..1000u64).elementwise().fold(
    ///     || vec![0u64; 50],
    ///     |mut counts, i| { counts[(i * i % 50) as usize] += 1; counts },
    ///     rankfold::op::sum,
    /// )?;
    /// assert_eq!(histogram.iter().sum::<u64>(), 1000);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn elementwise(self) -> Elementwise<'w, S, I> {
        Elementwise { over: self, order: Order::Fixed }
    }

    /// Maps every item and combines the values of neighbours until one is left; every rank gets it.
    ///
    /// The combiner joins the values of two adjacent ranges of items, the left one first. It should be associative; it
    /// need not commute, and rounding does no harm: the tree of combinations follows from the number of items alone, so
    /// the result has the same bits on any number of ranks. The mapper may be called twice with an item, on two ranks, if
    /// the first of them is far too late with it; it counts once.
    ///
    /// The mapper may use rayon itself. While it waits for such work of its own, its thread may take up another batch
    /// of this call: a lock that it holds across that wait could be asked for again by the same thread, and never given.
    ///
    /// # Errors
    ///
    /// Empty input without an [`identity`](Self::identity), a panic in one of the functions, input that cannot be read,
    /// ranks that disagree: the same [`Error`](crate::Error) on every rank.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::init()?;
    /// let text = world.over(0..5u32).map_reduce(|i| i.to_string(), |left, right| left + &right)?;
    /// assert_eq!(text, "01234");
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn map_reduce<T, M, C>(self, mapper: M, combiner: C) -> Result<T>
    where
        T: Serialize + DeserializeOwned + Send,
        M: Fn(S::Item) -> T + Sync,
        C: Fn(T, T) -> T + Sync,
        I: Identity<T>,
    {
        self.everywhere(|job| job.map_reduce_anywhere(mapper, combiner))
    }

    /// Folds the items of each leaf into an accumulator that starts as `init()`, and combines the accumulators.
    ///
    /// For accumulators that are costly to make for each item, such as maps and histograms. The order is that of
    /// [`map_reduce`](Self::map_reduce). Empty input gives the identity, or `init()`.
    ///
    /// # Errors
    ///
    /// As for [`map_reduce`](Self::map_reduce), but empty input is none.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::init()?;
    /// let digits = world.over(0..100u64).fold(
    ///     || [0u64; 10],
    ///     |mut counts, i| { counts[(i % 10) as usize] += 1; counts },
    ///     |mut a, b| { a.iter_mut().zip(b).for_each(|(a, b)| *a += b); a },
    /// )?;
    /// assert_eq!(digits, [10; 10]);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn fold<A, Z, F, C>(self, init: Z, step: F, combiner: C) -> Result<A>
    where
        A: Serialize + DeserializeOwned + Send,
        Z: Fn() -> A + Sync,
        F: Fn(A, S::Item) -> A + Sync,
        C: Fn(A, A) -> A + Sync,
        I: Identity<A>,
    {
        self.everywhere(|job| job.fold_anywhere(init, step, combiner))
    }

    /// Maps every item; every rank gets all values in the order of the items.
    ///
    /// # Errors
    ///
    /// As for [`map_reduce`](Self::map_reduce), but empty input gives an empty vector.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::init()?;
    /// assert_eq!(world.over(0..5u64).map(|i| i * i)?, [0, 1, 4, 9, 16]);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn map<R, F>(self, mapper: F) -> Result<Vec<R>>
    where
        R: Serialize + DeserializeOwned + Send,
        F: Fn(S::Item) -> R + Sync,
    {
        self.everywhere(|job| job.map_anywhere(mapper))
    }

    /// Calls the function with every item, for its effects.
    ///
    /// Returns on every rank after all items are done on all ranks. An item may be visited more than once if its batch
    /// is tried again (see [`retries`](Self::retries)), or if its rank has fallen silent in the middle of it.
    ///
    /// # Errors
    ///
    /// As for [`map_reduce`](Self::map_reduce), but empty input is none.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::init()?;
    /// world.over(0..10u64).for_each(|i| { std::hint::black_box(i); })?;
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn for_each<F>(self, action: F) -> Result<()>
    where
        F: Fn(S::Item) + Sync,
    {
        self.everywhere(|job| job.for_each_anywhere(action))
    }

    /// Gives whole batches to the mapper and combines its values.
    ///
    /// For functions that work on many items at once: vectorised kernels, libraries that take slices. **Where one batch
    /// ends and the next begins is the schedule's choice** and differs from run to run, so the result has the same bits
    /// only if `combiner(f(a), f(b))` equals `f(ab)` to the bit. One thread works on a batch; the mapper may use rayon
    /// inside. What a batch is depends on the source: a range, a slice, a vector, a text (of at most 16 MiB and the end of
    /// its last line; an empty one where a batch lies inside a longer line).
    ///
    /// # Errors
    ///
    /// As for [`map_reduce`](Self::map_reduce).
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::init()?;
    /// let sum = world.over(0..1_000_000_000_000u64).map_batches(
    ///     |range| u128::from(range.end - range.start) * u128::from(range.start + range.end - 1) / 2,
    ///     |a, b| a + b,
    /// )?;
    /// assert_eq!(sum, 499_999_999_999_500_000_000_000);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn map_batches<T, F, C>(self, mapper: F, combiner: C) -> Result<T>
    where
        T: Serialize + DeserializeOwned + Send,
        F: Fn(S::Batch) -> T + Sync,
        C: Fn(T, T) -> T + Sync,
        I: Identity<T>,
    {
        self.everywhere(|job| job.map_batches_anywhere(mapper, combiner))
    }

    /// Folds batches into accumulators that start as `init()`, a piece of a batch at a time, and combines them.
    ///
    /// [`map_batches`](Self::map_batches) for accumulators that are costly to make and to combine, such as maps: there is
    /// one for a batch of any length, while a batch is in memory in pieces alone (of text, at most 1 MiB and the end of
    /// the last line; of ranges and slices, all of it). **Where a piece or a batch ends and the next begins is the
    /// schedule's choice**, so the result has the same bits only if it depends on neither: if a step with `ab` gives what
    /// steps with `a` and `b` give, and what the combiner gives for accumulators of `a` and of `b`. Empty input gives the
    /// identity, or `init()`.
    ///
    /// # Errors
    ///
    /// As for [`map_reduce`](Self::map_reduce), but empty input is none.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let path = std::env::temp_dir().join(format!("rankfold-doc-fold-{}.txt", std::process::id()));
    /// # std::fs::write(&path, "to be\nor not to be\n")?;
    /// # let world = rankfold::init()?;
    /// use std::collections::BTreeMap;
    ///
    /// let lengths = world.over(rankfold::data::lines([&path])).fold_batches(
    ///     BTreeMap::<usize, u64>::new,
    ///     |mut counts, text| { text.lines().for_each(|line| *counts.entry(line.len()).or_default() += 1); counts },
    ///     |mut a, b| { b.into_iter().for_each(|(length, count)| *a.entry(length).or_default() += count); a },
    /// )?;
    /// assert_eq!(lengths, BTreeMap::from([(5, 1), (12, 1)]));
    /// # std::fs::remove_file(&path)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn fold_batches<A, Z, F, C>(self, init: Z, step: F, combiner: C) -> Result<A>
    where
        A: Serialize + DeserializeOwned + Send,
        Z: Fn() -> A + Sync,
        F: Fn(A, S::Batch) -> A + Sync,
        C: Fn(A, A) -> A + Sync,
        I: Identity<A>,
    {
        self.everywhere(|job| job.fold_batches_anywhere(init, step, combiner))
    }

    fn map_reduce_anywhere<T, M, C>(self, mapper: M, combiner: C) -> Result<Option<T>>
    where
        T: Serialize + DeserializeOwned + Send,
        M: Fn(S::Item) -> T + Sync,
        C: Fn(T, T) -> T + Sync,
        I: Identity<T>,
    {
        self.make("map_reduce", &MapReduce { mapper, combiner, partial: PhantomData }, I::value)
    }

    fn fold_anywhere<A, Z, F, C>(self, init: Z, step: F, combiner: C) -> Result<Option<A>>
    where
        A: Serialize + DeserializeOwned + Send,
        Z: Fn() -> A + Sync,
        F: Fn(A, S::Item) -> A + Sync,
        C: Fn(A, A) -> A + Sync,
        I: Identity<A>,
    {
        let kernel = Fold { init, step, combiner };
        self.make("fold", &kernel, |identity| Some(identity.value().unwrap_or_else(&kernel.init)))
    }

    fn map_anywhere<R, F>(self, mapper: F) -> Result<Option<Vec<R>>>
    where
        R: Serialize + DeserializeOwned + Send,
        F: Fn(S::Item) -> R + Sync,
    {
        self.make("map", &Map { mapper, value: PhantomData }, |_| Some(Vec::new()))
    }

    fn for_each_anywhere<F>(mut self, action: F) -> Result<Option<()>>
    where
        F: Fn(S::Item) + Sync,
    {
        // What is done for its effects is done once, as long as no rank is lost.
        self.spec.may_repeat = false;
        self.make("for_each", &ForEach { action }, |_| Some(()))
    }

    fn map_batches_anywhere<T, F, C>(self, mapper: F, combiner: C) -> Result<Option<T>>
    where
        T: Serialize + DeserializeOwned + Send,
        F: Fn(S::Batch) -> T + Sync,
        C: Fn(T, T) -> T + Sync,
        I: Identity<T>,
    {
        self.make("map_batches", &Batches { mapper, combiner, partial: PhantomData }, I::value)
    }

    fn fold_batches_anywhere<A, Z, F, C>(self, init: Z, step: F, combiner: C) -> Result<Option<A>>
    where
        A: Serialize + DeserializeOwned + Send,
        Z: Fn() -> A + Sync,
        F: Fn(A, S::Batch) -> A + Sync,
        C: Fn(A, A) -> A + Sync,
        I: Identity<A>,
    {
        let kernel = FoldBatches { init, step, combiner };
        self.make("fold_batches", &kernel, |identity| Some(identity.value().unwrap_or_else(&kernel.init)))
    }

    /// Makes a call whose partials are merged part by part, with the whole on every rank.
    fn make_in_parts<K, T>(
        self,
        operation: impl Into<Cow<'static, str>>,
        kernel: &K,
        reduction: Reduction<S, K>,
        finish: impl FnOnce(K::Partial) -> T,
        empty: impl FnOnce(I) -> Option<T>,
    ) -> Result<T>
    where
        K: Kernel<S>,
        K::Partial: Serialize + DeserializeOwned,
    {
        let Self { world, source, mut spec, identity } = self;
        spec.operation = operation.into();
        match world.call(&spec, &source, kernel, reduction)? {
            Value::Here(value) | Value::Part(value) => Ok(finish(value)),
            Value::OnRoot | Value::Empty => {
                let call = spec.name.unwrap_or_else(|| spec.operation.into());
                empty(identity).ok_or_else(|| world.failed(ErrorKind::EmptyInput { call }))
            }
        }
    }

    fn everywhere<T>(self, make: impl FnOnce(Self) -> Result<Option<T>>) -> Result<T> {
        Ok(make(self)?.expect("every rank gets the result of this call"))
    }

    /// Makes the call; `empty` gives the value of empty input, if it has one.
    fn make<K>(
        self,
        operation: &'static str,
        kernel: &K,
        empty: impl FnOnce(I) -> Option<K::Partial>,
    ) -> Result<Option<K::Partial>>
    where
        K: Kernel<S>,
        K::Partial: Serialize + DeserializeOwned,
    {
        let Self { world, source, mut spec, identity } = self;
        spec.operation = operation.into();
        match world.call(&spec, &source, kernel, reduce::<S, K>)? {
            Value::Here(value) | Value::Part(value) => Ok(Some(value)),
            Value::OnRoot => Ok(None),
            Value::Empty => {
                let call = spec.name.unwrap_or_else(|| operation.into());
                let value = empty(identity).ok_or_else(|| world.failed(ErrorKind::EmptyInput { call }))?;
                Ok((spec.to_all || world.is_root()).then_some(value))
            }
        }
    }
}
