//! Sharded items as input of calls: each rank computes what it has.

use std::ops::Range;

use crate::source::{Source, SourceError};

/// Items that are spread over the ranks, as input: each rank computes what it has. From
/// [`Sharded::items`](crate::Sharded::items).
#[derive(Debug, Clone, Copy)]
pub struct Shards<'s, T> {
    pub(super) mine: &'s [T],
    pub(super) start: u64,
    pub(super) total: u64,
}

impl<'s, T: Sync> Source for Shards<'s, T> {
    type Item = &'s T;
    type Batch = &'s [T];
    type Parcel = ();

    fn kind(&self) -> &'static str {
        "shards"
    }

    fn len(&self) -> Result<u64, SourceError> {
        Ok(self.total)
    }

    fn own(&self) -> Option<Range<u64>> {
        Some(self.start..self.start + self.mine.len() as u64)
    }

    fn unpack(&self, _range: Range<u64>, _bytes: &[u8]) -> Result<(), SourceError> {
        Ok(())
    }

    fn read(&self, _parcel: &(), range: Range<u64>) -> Result<&'s [T], SourceError> {
        let [start, end] = [range.start, range.end].map(|at| (at - self.start) as usize);
        Ok(&self.mine[start..end])
    }
}
