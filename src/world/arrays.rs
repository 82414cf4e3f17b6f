//! What ranks do together with arrays that each of them has.

use super::World;
use crate::array::collect::{self, Order};
use crate::array::dense::Dense;
use crate::error::Result;

/// # Arrays
///
/// Every rank brings an array of its own, and all must make the same call: what is called, the type of the elements and
/// the shape are compared first, and a difference is an error that names both. In worlds of several ranks that share one
/// `main` ([`local`](Self::local), `RANKFOLD_RANKS`) these calls are refused, since nobody could bring the others' part.
///
/// All of them begin with one `MPI_Iallgather` of 64 bytes, so each rank gets 64 bytes of every other one, however short the
/// array is; elements travel as they are in memory. Nothing is written to a journal: what these calls come to follows from what
/// the program brings, and costs little.
impl World {
    /// Combines the arrays of all ranks element by element, always in the same order; every rank gets the result.
    /// Collective: every rank must call it.
    ///
    /// The order is a fixed tree over the ranks' numbers, so the bits of a floating-point sum depend on what the ranks
    /// bring and on nothing else: not on the MPI library, its version, the nodes, or who is late. `function` may be one of
    /// [`op`](crate::op) or any of one's own; it need not commute. It may capture what it owns.
    ///
    /// Integers with a function of `op` go through `MPI_Allreduce`, since their order cannot be seen; sums wrap around.
    ///
    /// **Cost.** Up to 56 bytes: one collective. Up to 128 KiB on all ranks together: two. Beyond, in chunks of 8 MiB (or
    /// of 64 KiB for each rank, if that is more): each rank sends and receives less than twice the array, in one
    /// `MPI_Ialltoallv` and one `MPI_Iallgatherv` a chunk. Memory: the result, and two buffers of a chunk.
    ///
    /// # Errors
    ///
    /// Ranks that disagree, have left, or have been given up; the same error on every rank.
    ///
    /// # Examples
    ///
    /// ```
    /// use ndarray::array;
    /// use rankfold::op;
    ///
    /// let sums = rankfold::threads(3, |world| {
    ///     let mine = array![[1.0, world.rank() as f64], [0.5, 0.0]];
    ///     world.all_reduce(&mine, op::sum)
    /// });
    /// for sum in sums {
    ///     assert_eq!(sum?, array![[3.0, 3.0], [1.5, 0.0]]);
    /// }
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn all_reduce<B, O>(&self, value: &B, function: O) -> Result<B::Owned>
    where
        B: Dense + ?Sized,
        O: Fn(B::Element, B::Element) -> B::Element + 'static,
    {
        self.together("all_reduce", |rank| collect::all_reduce(rank, value, &function, Order::Fixed))
    }

    /// Like [`all_reduce`](Self::all_reduce), in whatever order the MPI library likes: with a function of
    /// [`op`](crate::op) on numbers that MPI knows, this is `MPI_Allreduce`. The last bits of floating-point results may
    /// then differ from run to run. With other functions it is the same as `all_reduce`. Collective: every rank must call
    /// it.
    ///
    /// # Errors
    ///
    /// As for [`all_reduce`](Self::all_reduce).
    ///
    /// # Examples
    ///
    /// ```
    /// for sum in rankfold::threads(3, |world| world.all_reduce_relaxed(&vec![0.5; 40_000], rankfold::op::sum)) {
    ///     assert_eq!(sum?, vec![1.5; 40_000]);
    /// }
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn all_reduce_relaxed<B, O>(&self, value: &B, function: O) -> Result<B::Owned>
    where
        B: Dense + ?Sized,
        O: Fn(B::Element, B::Element) -> B::Element + 'static,
    {
        self.together("all_reduce_relaxed", |rank| collect::all_reduce(rank, value, &function, Order::Relaxed))
    }

    /// [`all_reduce`](Self::all_reduce) that puts the result where the rank's own elements were, and so needs no memory
    /// for it. Collective: every rank must call it. After an error the elements may be any of these.
    ///
    /// # Errors
    ///
    /// As for [`all_reduce`](Self::all_reduce).
    ///
    /// # Examples
    ///
    /// ```
    /// let sums = rankfold::threads(2, |world| {
    ///     let mut forces = vec![1.0; 3];
    ///     world.all_reduce_in_place(&mut forces, rankfold::op::sum).map(|()| forces)
    /// });
    /// for sum in sums {
    ///     assert_eq!(sum?, [2.0; 3]);
    /// }
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn all_reduce_in_place<E, O>(&self, elements: &mut [E], function: O) -> Result<()>
    where
        [E]: Dense<Element = E>,
        O: Fn(E, E) -> E + 'static,
    {
        let extents = [elements.len()];
        self.together("all_reduce", |rank| {
            collect::all_reduce_in_place::<[E], O>(rank, &extents, elements, &function, Order::Fixed)
        })
    }

    /// [`all_reduce_relaxed`](Self::all_reduce_relaxed) in place, like [`all_reduce_in_place`](Self::all_reduce_in_place).
    /// Collective: every rank must call it.
    ///
    /// # Errors
    ///
    /// As for [`all_reduce`](Self::all_reduce).
    ///
    /// # Examples
    ///
    /// ```
    /// let most = rankfold::threads(2, |world| {
    ///     let mut seen = vec![world.rank(), 7];
    ///     world.all_reduce_relaxed_in_place(&mut seen, rankfold::op::max).map(|()| seen)
    /// });
    /// for most in most {
    ///     assert_eq!(most?, [1, 7]);
    /// }
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn all_reduce_relaxed_in_place<E, O>(&self, elements: &mut [E], function: O) -> Result<()>
    where
        [E]: Dense<Element = E>,
        O: Fn(E, E) -> E + 'static,
    {
        let extents = [elements.len()];
        self.together("all_reduce_relaxed", |rank| {
            collect::all_reduce_in_place::<[E], O>(rank, &extents, elements, &function, Order::Relaxed)
        })
    }

    /// Gives rank 0's array to every rank. The others' are not looked at, but for the type: an empty one will do.
    /// Collective: every rank must call it.
    ///
    /// **Cost.** `MPI_Ibcast` of the length, then of pieces of up to 1 GiB. Memory: twice the array while it arrives.
    ///
    /// # Errors
    ///
    /// As for [`all_reduce`](Self::all_reduce); an array of fixed size whose length is another one.
    ///
    /// # Examples
    ///
    /// ```
    /// let tables = rankfold::threads(3, |world| {
    ///     let table = if world.is_root() { vec![1.5, 2.5] } else { Vec::new() };
    ///     world.broadcast(&table)
    /// });
    /// for table in tables {
    ///     assert_eq!(table?, [1.5, 2.5]);
    /// }
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn broadcast<B: Dense + ?Sized>(&self, value: &B) -> Result<B::Owned> {
        self.together("broadcast", |rank| collect::broadcast(rank, value))
    }

    /// Cuts rank 0's array along its first axis into as many parts as there are ranks, as equal as can be and in their
    /// order, and gives each rank its own. The others' arrays are not looked at, but for type and number of axes.
    /// Collective: every rank must call it.
    ///
    /// **Cost.** One message to each rank, of any length. Memory: the part, twice while it arrives; on rank 0 also what has
    /// not left yet.
    ///
    /// # Errors
    ///
    /// As for [`all_reduce`](Self::all_reduce); a single number.
    ///
    /// # Examples
    ///
    /// ```
    /// let parts = rankfold::threads(2, |world| {
    ///     let all = if world.is_root() { vec![1, 2, 3, 4, 5] } else { Vec::new() };
    ///     world.scatter(&all)
    /// });
    /// let parts = parts.into_iter().collect::<rankfold::Result<Vec<_>>>()?;
    /// assert_eq!(parts, [vec![1, 2, 3], vec![4, 5]]);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn scatter<B: Dense + ?Sized>(&self, value: &B) -> Result<B::Owned> {
        self.together("scatter", |rank| collect::scatter(rank, value))
    }

    /// Puts the arrays of all ranks together along the first axis, in the order of ranks, on rank 0; the others get `None`.
    /// The lengths of the first axis may differ. Collective: every rank must call it.
    ///
    /// **Cost.** One message from each rank, of any length. Memory on rank 0: the result, and what has arrived of it.
    ///
    /// # Errors
    ///
    /// As for [`all_reduce`](Self::all_reduce); single numbers.
    ///
    /// # Examples
    ///
    /// ```
    /// let all = rankfold::threads(3, |world| world.gather(&vec![world.rank() as u8; world.rank()]));
    /// let all = all.into_iter().collect::<rankfold::Result<Vec<_>>>()?;
    /// assert_eq!(all, [Some(vec![1, 2, 2]), None, None]);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn gather<B: Dense + ?Sized>(&self, value: &B) -> Result<Option<B::Owned>> {
        self.together("gather", |rank| collect::gather(rank, value))
    }

    /// Puts the arrays of all ranks together along the first axis, in the order of ranks; every rank gets the result. The
    /// lengths of the first axis may differ. Collective: every rank must call it.
    ///
    /// **Cost.** `MPI_Iallgatherv` of up to 1 GiB at a time. Memory: the result, and up to 1 GiB.
    ///
    /// # Errors
    ///
    /// As for [`all_reduce`](Self::all_reduce); single numbers.
    ///
    /// # Examples
    ///
    /// ```
    /// for all in rankfold::threads(3, |world| world.all_gather(&[world.rank()][..])) {
    ///     assert_eq!(all?, [0, 1, 2]);
    /// }
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn all_gather<B: Dense + ?Sized>(&self, value: &B) -> Result<B::Owned> {
        self.together("all_gather", |rank| collect::all_gather(rank, value))
    }
}
