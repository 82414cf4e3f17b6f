//! A slice that every rank holds: nothing travels, and lengths or contents that differ are refused.

use std::fmt;
use std::ops::Range;

use super::{Source, SourceError};

/// Items that every rank holds in full; the mapper is given `&T`. Made by [`replicated`].
#[derive(Debug)]
pub struct Replicated<'d, T> {
    items: &'d [T],
    fingerprint: u64,
}

/// A slice that every rank has (read from a shared file, computed alike, or broadcast before).
///
/// Every rank must pass the same items in the same order. A length that differs between ranks is refused with the
/// ranks named; so is a different first, middle or last item, as far as `Debug` tells them apart.
///
/// # Examples
///
/// ```
/// # fn main() -> rankfold::Result<()> {
/// let world = rankfold::init()?;
/// let masses = vec![1.5, 2.0, 0.25];
/// let total = world.map_reduce(rankfold::data::replicated(&masses), |mass| *mass, |a, b| a + b)?;
/// assert_eq!(total, 3.75);
/// # Ok(())
/// # }
/// ```
pub fn replicated<T: Sync + fmt::Debug>(items: &[T]) -> Replicated<'_, T> {
    // Three items, not all: the check must stay cheap for a slice of any size. It is there for ranks that read another
    // file, or were started with other arguments.
    let sample = [items.first(), items.get(items.len() / 2), items.last()];
    let fingerprint = u64::from(crc32fast::hash(format!("{sample:?}").as_bytes()));
    Replicated { items, fingerprint }
}

impl<'d, T: Sync> Source for Replicated<'d, T> {
    type Item = &'d T;
    type Batch = &'d [T];
    type Parcel = ();

    fn kind(&self) -> &'static str {
        "replicated slice"
    }

    fn len(&self) -> Result<u64, SourceError> {
        Ok(self.items.len() as u64)
    }

    fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    fn unpack(&self, _range: Range<u64>, _bytes: &[u8]) -> Result<(), SourceError> {
        Ok(())
    }

    fn read(&self, _parcel: &(), range: Range<u64>) -> Result<&'d [T], SourceError> {
        Ok(&self.items[range.start as usize..range.end as usize])
    }
}
