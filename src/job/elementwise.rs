//! The calls of [`Over`] whose partials are arrays.

use std::marker::PhantomData;

use super::{Identity, NoIdentity, Over};
use crate::array::block::Block;
use crate::array::dense::Dense;
use crate::error::Result;
use crate::kernel::{Batches, MapReduce};
use crate::source::Source;
use crate::worker::compute::{At, Kernel, Runs};

/// A call whose partials are arrays, which are combined element by element. From [`Over::elementwise`].
///
/// # Examples
///
/// ```
/// use ndarray::{Array2, Axis};
/// use rankfold::{data, op};
///
/// # fn main() -> rankfold::Result<()> {
/// let world = rankfold::init()?;
/// let points = Array2::from_shape_fn((1000, 3), |(i, j)| (i * j) as f64);
/// // Each row's outer product, summed up: one accumulator for a leaf.
/// let gram = world.over(data::along(&points, Axis(0))).elementwise().fold(
///     || Array2::<f64>::zeros((3, 3)),
///     |mut sum, row| {
///         for (i, a) in row.iter().enumerate() {
///             for (j, b) in row.iter().enumerate() { sum[[i, j]] += a * b }
///         }
///         sum
///     },
///     op::sum,
/// )?;
/// assert_eq!(gram, points.t().dot(&points));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a call is made by its last method, such as map_reduce"]
pub struct Elementwise<'w, S, I = NoIdentity>(pub(super) Over<'w, S, I>);

impl<S: Source, I> Elementwise<'_, S, I> {
    /// Maps every item to an array, and combines these element by element in the order of the items; every rank gets the
    /// result. All arrays must have the same shape. Collective: every rank must make the same call.
    ///
    /// The same tree of combinations as in [`Over::map_reduce`], with the same promise: the same bits on any number of
    /// ranks. What the last step costs is on [`Over::elementwise`].
    ///
    /// # Errors
    ///
    /// As for [`Over::map_reduce`]; arrays of different shapes are a combiner that panics.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::init()?;
    /// let powers = world.over(1..=3u64).elementwise().map_reduce(|i| [i, i * i, i * i * i], rankfold::op::sum)?;
    /// assert_eq!(powers, [6, 14, 36]);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn map_reduce<B, M, O>(self, mapper: M, function: O) -> Result<B>
    where
        B: Dense<Owned = B>,
        M: Fn(S::Item) -> B + Sync,
        O: Fn(B::Element, B::Element) -> B::Element + Sync,
        I: Identity<B>,
    {
        let kernel = MapReduce {
            mapper: |item| Block::of(&mapper(item)),
            combiner: |left: Block<B::Element>, right: Block<B::Element>| left.combine(&right, &function),
            partial: PhantomData,
        };
        self.make::<B, _>("elementwise map_reduce", &kernel, I::value)
    }

    /// Folds the items of each leaf into an array that starts as `init()`, and combines these element by element; every
    /// rank gets the result. Collective: every rank must make the same call.
    ///
    /// A leaf has few items where there are few, and an accumulator is made and combined for each leaf: where that costs more
    /// than the items do, ask for longer ones with [`Over::leaf`]. Empty input gives the identity, or `init()`.
    ///
    /// # Errors
    ///
    /// As for [`map_reduce`](Self::map_reduce), but empty input is none.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::init()?;
    /// let digits = world.over(0..100u64).elementwise().fold(
    ///     || [0u64; 10],
    ///     |mut counts, i| { counts[(i % 10) as usize] += 1; counts },
    ///     rankfold::op::sum,
    /// )?;
    /// assert_eq!(digits, [10; 10]);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn fold<B, Z, F, O>(self, init: Z, step: F, function: O) -> Result<B>
    where
        B: Dense<Owned = B>,
        Z: Fn() -> B + Sync,
        F: Fn(B, S::Item) -> B + Sync,
        O: Fn(B::Element, B::Element) -> B::Element + Sync,
        I: Identity<B>,
    {
        let kernel = FoldToBlock { init: &init, step: &step, function: &function };
        self.make::<B, _>("elementwise fold", &kernel, |identity| Some(identity.value().unwrap_or_else(&init)))
    }

    /// Gives whole batches to the mapper, and combines its arrays element by element; every rank gets the result. Collective:
    /// every rank must make the same call.
    ///
    /// As with [`Over::map_batches`], where a batch ends is the schedule's choice, so the bits may depend on it.
    ///
    /// # Errors
    ///
    /// As for [`map_reduce`](Self::map_reduce).
    ///
    /// # Examples
    ///
    /// ```
    /// use ndarray::{Array2, Axis};
    /// use rankfold::{data, op};
    ///
    /// # let world = rankfold::init()?;
    /// let points = Array2::from_shape_fn((1000, 3), |(i, j)| (i * j) as f64);
    /// let gram = world.over(data::along(&points, Axis(0))).elementwise().map_batches(|rows| rows.t().dot(&*rows), op::sum)?;
    /// assert_eq!(gram, points.t().dot(&points));
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn map_batches<B, F, O>(self, mapper: F, function: O) -> Result<B>
    where
        B: Dense<Owned = B>,
        F: Fn(S::Batch) -> B + Sync,
        O: Fn(B::Element, B::Element) -> B::Element + Sync,
        I: Identity<B>,
    {
        let kernel = Batches {
            mapper: |batch| Block::of(&mapper(batch)),
            combiner: |left: Block<B::Element>, right: Block<B::Element>| left.combine(&right, &function),
            partial: PhantomData,
        };
        self.make::<B, _>("elementwise map_batches", &kernel, I::value)
    }

    fn make<B, K>(self, operation: &'static str, kernel: &K, empty: impl FnOnce(I) -> Option<B>) -> Result<B>
    where
        B: Dense<Owned = B>,
        K: Kernel<S, Partial = Block<B::Element>>,
    {
        let build =
            |block: Block<B::Element>| B::build(&block.extents, block.elements).expect("the shape of its partials");
        self.0.make_in_parts(operation, kernel, build, empty)
    }
}

/// `fold` whose accumulators become blocks when their leaf is through.
struct FoldToBlock<'f, Z, F, O> {
    init: &'f Z,
    step: &'f F,
    function: &'f O,
}

impl<S, Z, F, O, B> Kernel<S> for FoldToBlock<'_, Z, F, O>
where
    S: Source,
    B: Dense<Owned = B>,
    Z: Fn() -> B + Sync,
    F: Fn(B, S::Item) -> B + Sync,
    O: Fn(B::Element, B::Element) -> B::Element + Sync,
{
    type Partial = Block<B::Element>;
    const RUNS: Runs = Runs::Leaf;

    fn fold(&self, items: S::Batch, at: &At<'_>) -> Option<Self::Partial> {
        Kernel::<S>::fold_some(self, items.into_iter(), at)
    }

    fn fold_some(&self, items: impl Iterator<Item = S::Item>, at: &At<'_>) -> Option<Self::Partial> {
        let mut array = (self.init)();
        for item in items {
            array = (self.step)(array, item);
            if !at.goes_on() {
                break;
            }
        }
        Some(Block::of(&array))
    }

    fn combine(&self, left: Self::Partial, right: Self::Partial) -> Self::Partial {
        left.combine(&right, self.function)
    }
}
