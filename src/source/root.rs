//! Items that rank 0 alone has: they travel with their batch.

use std::ops::Range;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Source, SourceError};
use crate::wire;

/// Items that rank 0 ships with their batch; the mapper is given `T`. Made by [`from_root`].
#[derive(Debug)]
pub struct FromRoot<T> {
    items: Vec<T>,
}

/// Items that rank 0 holds. The other ranks pass an empty vector, or anything: theirs is not looked at.
///
/// Every rank must make the call. An item is encoded once, when its batch is handed to another rank.
///
/// # Examples
///
/// ```
/// # fn main() -> rankfold::Result<()> {
/// let world = rankfold::init()?;
/// let words = if world.is_root() { vec!["to".to_owned(), "be".to_owned()] } else { Vec::new() };
/// let letters = world.map_reduce(rankfold::data::from_root(words), |word| word.len(), |a, b| a + b)?;
/// assert_eq!(letters, 4);
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn from_root<T>(items: Vec<T>) -> FromRoot<T>
where
    T: Serialize + DeserializeOwned + Clone + Send + Sync,
{
    FromRoot { items }
}

/// A batch's items as they arrived, or nothing on rank 0, which reads its own vector.
#[doc(hidden)]
#[derive(Debug)]
pub struct Shipment<T> {
    start: u64,
    items: Option<Vec<T>>,
}

impl<T> Source for FromRoot<T>
where
    T: Serialize + DeserializeOwned + Clone + Send + Sync,
{
    type Item = T;
    type Batch = Vec<T>;
    type Parcel = Shipment<T>;

    fn kind(&self) -> &'static str {
        "items from the root"
    }

    fn len(&self) -> Result<u64, SourceError> {
        Ok(self.items.len() as u64)
    }

    fn is_on_root(&self) -> bool {
        true
    }

    fn pack(&self, range: Range<u64>) -> Result<Vec<u8>, SourceError> {
        let items = &self.items[range.start as usize..range.end as usize];
        wire::encode(items).map_err(|error| {
            SourceError::new(
                format!("items {} to {} cannot be encoded: {error}", range.start, range.end - 1),
                "give the item type a Serialize that can write these values",
            )
        })
    }

    fn unpack(&self, range: Range<u64>, bytes: &[u8]) -> Result<Shipment<T>, SourceError> {
        if bytes.is_empty() {
            return Ok(Shipment { start: range.start, items: None });
        }
        let items = wire::decode(bytes).map_err(|error| {
            SourceError::new(
                format!("items {} to {} arrived but cannot be decoded: {error}", range.start, range.end - 1),
                "bincode is not self-describing: avoid #[serde(untagged)], #[serde(flatten)] and values of unknown shape",
            )
        })?;
        Ok(Shipment { start: range.start, items: Some(items) })
    }

    fn read(&self, parcel: &Shipment<T>, range: Range<u64>) -> Result<Vec<T>, SourceError> {
        let (items, start) = match &parcel.items {
            Some(items) => (items, parcel.start),
            None => (&self.items, 0),
        };
        Ok(items[(range.start - start) as usize..(range.end - start) as usize].to_vec())
    }
}
