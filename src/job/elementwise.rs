//! The calls of [`Over`] whose partials are arrays.

use std::borrow::Cow;
use std::marker::PhantomData;

use bytemuck::Pod;

use super::{Identity, NoIdentity, Over};
use crate::array::block::Block;
use crate::array::collect::Order;
use crate::array::dense::Dense;
use crate::array::op::BuiltIn;
use crate::array::relaxed::reduce_in_any_order;
use crate::error::Result;
use crate::kernel::{Batches, MapReduce};
use crate::reduce::parts::reduce_to_all;
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
pub struct Elementwise<'w, S, I = NoIdentity> {
    pub(super) over: Over<'w, S, I>,
    pub(super) order: Order,
}

impl<S: Source, I> Elementwise<'_, S, I> {
    /// Lets the arrays of the ranks be combined in whatever order the MPI library likes: each rank makes one array of what it
    /// has computed, and `MPI_Allreduce` one of all of them. The last bits of floating-point results may then differ from run to
    /// run, and what becomes of NaNs in `op::min` and `op::max` is the library's choice. With functions that are not of
    /// [`op`](crate::op), and in calls on which ranks were lost, it changes nothing.
    ///
    /// Integers with a function of `op` take this way in any case, since their order cannot be seen: sums and products of arrays
    /// wrap around.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::init()?;
    /// let halves = world.over(0..1000).elementwise().relaxed().map_reduce(|_| vec![0.5; 3], rankfold::op::sum)?;
    /// assert_eq!(halves, [500.0; 3]);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn relaxed(mut self) -> Self {
        self.order = Order::Relaxed;
        self
    }

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
        O: Fn(B::Element, B::Element) -> B::Element + Sync + 'static,
        I: Identity<B>,
    {
        let kernel = MapReduce {
            mapper: |item| Block::of(&mapper(item)),
            combiner: |left, right| combined::<B::Element, O>(left, &right, &function),
            partial: PhantomData,
        };
        self.make::<B, _, O>("elementwise map_reduce", &kernel, I::value)
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
        O: Fn(B::Element, B::Element) -> B::Element + Sync + 'static,
        I: Identity<B>,
    {
        let kernel = FoldToBlock { init: &init, step: &step, function: &function };
        self.make::<B, _, O>("elementwise fold", &kernel, |identity| Some(identity.value().unwrap_or_else(&init)))
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
        O: Fn(B::Element, B::Element) -> B::Element + Sync + 'static,
        I: Identity<B>,
    {
        let kernel = Batches {
            mapper: |batch| Block::of(&mapper(batch)),
            combiner: |left, right| combined::<B::Element, O>(left, &right, &function),
            partial: PhantomData,
        };
        self.make::<B, _, O>("elementwise map_batches", &kernel, I::value)
    }

    fn make<B, K, O>(self, operation: &'static str, kernel: &K, empty: impl FnOnce(I) -> Option<B>) -> Result<B>
    where
        B: Dense<Owned = B>,
        K: Kernel<S, Partial = Block<B::Element>>,
        O: 'static,
    {
        let known = BuiltIn::of::<B::Element, O>();
        let reduction = match known.filter(|known| known.is_exact() || self.order == Order::Relaxed) {
            Some(_) => reduce_in_any_order::<S, K, B::Element, O>,
            None => reduce_to_all::<S, K>,
        };
        // Ranks that disagree are told of before they begin.
        let operation = match self.order {
            Order::Fixed => Cow::Borrowed(operation),
            Order::Relaxed => Cow::Owned(format!("relaxed {operation}")),
        };
        let build =
            |block: Block<B::Element>| B::build(&block.extents, block.elements).expect("the shape of its partials");
        self.over.make_in_parts(operation, kernel, reduction, build, empty)
    }
}

/// Integers with a function of `op` wrap around wherever they meet, on a rank as well as in the MPI library.
fn combined<E, O>(left: Block<E>, right: &Block<E>, function: &O) -> Block<E>
where
    E: Pod + Send + Sync,
    O: Fn(E, E) -> E + 'static,
{
    match BuiltIn::of::<E, O>().filter(|known| known.is_exact()) {
        Some(exact) => left.combine_exactly(right, exact),
        None => left.combine(right, function),
    }
}

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
    O: Fn(B::Element, B::Element) -> B::Element + Sync + 'static,
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
        combined(left, &right, self.function)
    }
}
