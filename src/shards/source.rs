//! Sharded items as input of calls.

use std::ops::{Deref, Range};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::source::{Source, SourceError};
use crate::wire;

/// Items that are spread over the ranks, as input: each rank computes what it has, until others have time for some of it. From
/// [`Sharded::items`](crate::Sharded::items).
#[derive(Debug, Clone, Copy)]
pub struct Shards<'s, T> {
    pub(super) mine: &'s [T],
    pub(super) start: u64,
    pub(super) total: u64,
}

/// An item of [`Shards`]: this rank's own, or a copy of another rank's, which is computed here. Either way there is a `&T`
/// in it ([`Deref`]).
///
/// # Examples
///
/// ```
/// let longest = rankfold::threads(2, |world| {
///     let names = world.shards(vec![format!("rank {}", world.rank()); 3])?;
///     world.map_reduce(names.items(), |name| name.len(), usize::max)
/// });
/// assert!(longest.into_iter().all(|length| length.ok() == Some(6)));
/// ```
#[derive(Debug)]
pub struct Lent<'s, T>(Held<'s, T>);

#[derive(Debug)]
enum Held<'s, T> {
    Ours(&'s T),
    /// One of those that came in a parcel.
    Theirs(Arc<Vec<T>>, usize),
    Alone(Box<T>),
}

impl<'s, T> Lent<'s, T> {
    pub(super) fn ours(item: &'s T) -> Self {
        Self(Held::Ours(item))
    }
}

/// Consecutive items of [`Shards`], for functions that take many: a `&[T]` ([`Deref`]), or one after the other.
///
/// # Examples
///
/// ```
/// let counts = rankfold::threads(2, |world| {
///     let items = world.shards(vec![1u64; 3])?;
///     world.over(items.items()).map_batches(|items| items.iter().sum::<u64>(), |a, b| a + b)
/// });
/// assert!(counts.into_iter().all(|count| count.ok() == Some(6)));
/// ```
#[derive(Debug)]
pub struct LentSlice<'s, T>(HeldSlice<'s, T>);

#[derive(Debug)]
enum HeldSlice<'s, T> {
    Ours(&'s [T]),
    Theirs(Arc<Vec<T>>, Range<usize>),
}

impl<T> Deref for Lent<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Held::Ours(item) => item,
            Held::Theirs(items, at) => &items[*at],
            Held::Alone(item) => item,
        }
    }
}

impl<T> Deref for LentSlice<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.0 {
            HeldSlice::Ours(items) => items,
            HeldSlice::Theirs(items, range) => &items[range.clone()],
        }
    }
}

impl<'s, T> IntoIterator for LentSlice<'s, T> {
    type Item = Lent<'s, T>;
    type IntoIter = LentItems<'s, T>;

    fn into_iter(self) -> LentItems<'s, T> {
        LentItems(self.0)
    }
}

/// The items of a [`LentSlice`].
#[derive(Debug)]
pub struct LentItems<'s, T>(HeldSlice<'s, T>);

impl<'s, T> Iterator for LentItems<'s, T> {
    type Item = Lent<'s, T>;

    fn next(&mut self) -> Option<Lent<'s, T>> {
        match &mut self.0 {
            HeldSlice::Ours(items) => items.split_off_first().map(Held::Ours),
            HeldSlice::Theirs(items, range) => range.next().map(|at| Held::Theirs(Arc::clone(items), at)),
        }
        .map(Lent)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match &self.0 {
            HeldSlice::Ours(items) => items.len(),
            HeldSlice::Theirs(_, range) => range.end - range.start,
        };
        (left, Some(left))
    }
}

impl<T: Serialize> Serialize for Lent<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Lent<'_, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(|item| Self(Held::Alone(Box::new(item))))
    }
}

/// Items of another rank, with the number of the first; nothing for those that are here.
#[doc(hidden)]
#[derive(Debug)]
pub struct Visitors<T>(Option<(u64, Arc<Vec<T>>)>);

impl<'s, T> Source for Shards<'s, T>
where
    T: Serialize + DeserializeOwned + Send + Sync,
{
    type Item = Lent<'s, T>;
    type Batch = LentSlice<'s, T>;
    type Parcel = Visitors<T>;

    fn kind(&self) -> &'static str {
        "shards"
    }

    fn len(&self) -> Result<u64, SourceError> {
        Ok(self.total)
    }

    fn own(&self) -> Option<Range<u64>> {
        Some(self.start..self.start + self.mine.len() as u64)
    }

    fn pack(&self, range: Range<u64>) -> Result<Vec<u8>, SourceError> {
        let here = (range.start - self.start) as usize..(range.end - self.start) as usize;
        wire::encode(&(range.start, &self.mine[here])).map_err(|error| {
            SourceError::new(
                format!("items {} to {} cannot be encoded: {error}", range.start, range.end - 1),
                "give the item type a Serialize that can write these values",
            )
        })
    }

    fn unpack(&self, range: Range<u64>, bytes: &[u8]) -> Result<Visitors<T>, SourceError> {
        if bytes.is_empty() {
            return Ok(Visitors(None));
        }
        let (start, items) = wire::decode::<(u64, Vec<T>)>(bytes).map_err(|error| {
            SourceError::new(
                format!("items {} to {} arrived but cannot be decoded: {error}", range.start, range.end - 1),
                "bincode is not self-describing: avoid #[serde(untagged)], #[serde(flatten)] and values of unknown shape",
            )
        })?;
        Ok(Visitors(Some((start, Arc::new(items)))))
    }

    fn read(&self, parcel: &Visitors<T>, range: Range<u64>) -> Result<LentSlice<'s, T>, SourceError> {
        let start = parcel.0.as_ref().map_or(self.start, |(start, _)| *start);
        let here = (range.start - start) as usize..(range.end - start) as usize;
        Ok(LentSlice(match &parcel.0 {
            Some((_, items)) => HeldSlice::Theirs(Arc::clone(items), here),
            None => HeldSlice::Ours(&self.mine[here]),
        }))
    }
}
