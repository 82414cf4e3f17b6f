//! The calls of [`Over`] whose result rank 0 alone gets.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Identity, NoIdentity, Over};
use crate::error::Result;
use crate::source::Source;

/// A call whose result rank 0 alone gets. From [`Over::on_root`].
///
/// # Examples
///
/// ```
/// # fn main() -> rankfold::Result<()> {
/// let world = rankfold::init()?;
/// let sum = world.over(0..10u64).on_root().map_reduce(|i| i, |a, b| a + b)?;
/// if world.is_root() { assert_eq!(sum, Some(45)) } else { assert_eq!(sum, None) }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a call is made by its last method, such as map_reduce"]
pub struct OnRoot<'w, S, I = NoIdentity>(pub(super) Over<'w, S, I>);

impl<S: Source, I> OnRoot<'_, S, I> {
    /// [`Over::map_reduce`], with the result on rank 0 alone.
    ///
    /// # Errors
    ///
    /// As for [`Over::map_reduce`].
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::init()?;
    /// let sum = world.over(0..10u64).on_root().map_reduce(|i| i, |a, b| a + b)?;
    /// assert_eq!(sum, world.is_root().then_some(45));
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn map_reduce<T, M, C>(self, mapper: M, combiner: C) -> Result<Option<T>>
    where
        T: Serialize + DeserializeOwned + Send,
        M: Fn(S::Item) -> T + Sync,
        C: Fn(T, T) -> T + Sync,
        I: Identity<T>,
    {
        self.0.map_reduce_anywhere(mapper, combiner)
    }

    /// [`Over::fold`], with the result on rank 0 alone.
    ///
    /// # Errors
    ///
    /// As for [`Over::fold`].
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::init()?;
    /// let sum = world.over(0..10u64).on_root().fold(|| 0, |sum, i| sum + i, |a, b| a + b)?;
    /// assert_eq!(sum, world.is_root().then_some(45));
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn fold<A, Z, F, C>(self, init: Z, step: F, combiner: C) -> Result<Option<A>>
    where
        A: Serialize + DeserializeOwned + Send,
        Z: Fn() -> A + Sync,
        F: Fn(A, S::Item) -> A + Sync,
        C: Fn(A, A) -> A + Sync,
        I: Identity<A>,
    {
        self.0.fold_anywhere(init, step, combiner)
    }

    /// [`Over::map`], with the values on rank 0 alone.
    ///
    /// # Errors
    ///
    /// As for [`Over::map`].
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::init()?;
    /// assert_eq!(world.over(0..3u64).on_root().map(|i| i * i)?, world.is_root().then(|| vec![0, 1, 4]));
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn map<R, F>(self, mapper: F) -> Result<Option<Vec<R>>>
    where
        R: Serialize + DeserializeOwned + Send,
        F: Fn(S::Item) -> R + Sync,
    {
        self.0.map_anywhere(mapper)
    }

    /// [`Over::map_batches`], with the result on rank 0 alone.
    ///
    /// # Errors
    ///
    /// As for [`Over::map_batches`].
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::init()?;
    /// let count = world.over(0..10u64).on_root().map_batches(|range| range.end - range.start, |a, b| a + b)?;
    /// assert_eq!(count, world.is_root().then_some(10));
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn map_batches<T, F, C>(self, mapper: F, combiner: C) -> Result<Option<T>>
    where
        T: Serialize + DeserializeOwned + Send,
        F: Fn(S::Batch) -> T + Sync,
        C: Fn(T, T) -> T + Sync,
        I: Identity<T>,
    {
        self.0.map_batches_anywhere(mapper, combiner)
    }

    /// [`Over::fold_batches`], with the result on rank 0 alone.
    ///
    /// # Errors
    ///
    /// As for [`Over::fold_batches`].
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::init()?;
    /// let over = world.over(0..10u64).on_root();
    /// let count = over.fold_batches(|| 0, |count, range| count + range.end - range.start, |a, b| a + b)?;
    /// assert_eq!(count, world.is_root().then_some(10));
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn fold_batches<A, Z, F, C>(self, init: Z, step: F, combiner: C) -> Result<Option<A>>
    where
        A: Serialize + DeserializeOwned + Send,
        Z: Fn() -> A + Sync,
        F: Fn(A, S::Batch) -> A + Sync,
        C: Fn(A, A) -> A + Sync,
        I: Identity<A>,
    {
        self.0.fold_batches_anywhere(init, step, combiner)
    }
}
