//! A source whose items are whole pieces of another one.

use std::iter::Once;
use std::ops::Range;

use super::{Source, SourceError};

/// Gives each piece that is read as one item. The indices are those of the source within.
#[doc(hidden)]
#[derive(Debug)]
pub struct Whole<S>(pub(crate) S);

impl<S: Source> Source for Whole<S> {
    type Item = S::Batch;
    type Batch = Once<S::Batch>;
    type Parcel = S::Parcel;

    fn kind(&self) -> &'static str {
        self.0.kind()
    }

    fn unit(&self) -> &'static str {
        self.0.unit()
    }

    fn len(&self) -> Result<u64, SourceError> {
        self.0.len()
    }

    fn is_on_root(&self) -> bool {
        self.0.is_on_root()
    }

    fn own(&self) -> Option<Range<u64>> {
        self.0.own()
    }

    fn fingerprint(&self) -> u64 {
        self.0.fingerprint()
    }

    fn leaf(&self, len: u64) -> u64 {
        self.0.leaf(len)
    }

    fn batch(&self) -> u64 {
        self.0.batch()
    }

    fn piece(&self) -> u64 {
        self.0.piece()
    }

    fn pack(&self, range: Range<u64>) -> Result<Vec<u8>, SourceError> {
        self.0.pack(range)
    }

    fn unpack(&self, range: Range<u64>, bytes: &[u8]) -> Result<S::Parcel, SourceError> {
        self.0.unpack(range, bytes)
    }

    fn read(&self, parcel: &S::Parcel, range: Range<u64>) -> Result<Once<S::Batch>, SourceError> {
        self.0.read(parcel, range).map(std::iter::once)
    }

    fn describe(&self, range: Range<u64>, nth: u64) -> String {
        self.0.describe(range, nth)
    }
}
