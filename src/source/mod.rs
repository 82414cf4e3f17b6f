//! Where items come from: a [`Source`] counts them, gives each rank its part, and names one in an error message.
//!
//! ```text
//! range      0..n                      nothing travels: an item is its index
//! replicated data::replicated(&xs)     every rank holds all items
//! root       data::from_root(xs)       rank 0 holds the items and ships them with their batch
//! array      data::along(&array, axis) arrays along an axis, held by all ranks or shipped by rank 0
//! lines      data::lines(paths)        text files, each rank reads the byte ranges that it works on
//! records    data::records(paths)      the same with records of a fixed size; both by `files`
//! ```
//!
//! A source knows nothing of ranks, batches or MPI: it answers questions about ranges of global indices `0..len`.

mod array;
mod compressed;
mod files;
mod lines;
mod range;
mod records;
mod replicated;
mod root;
mod whole;

use std::ops::Range;

pub use array::{Along, AlongFromRoot, Items, SharedItems, SharedSlab, Slab, along, along_from_root};
pub use lines::{Line, Lines, Text, lines};
pub use records::{Record, Records, records};
pub use replicated::{Replicated, replicated};
pub use root::{FromRoot, from_root};
pub use whole::Whole;

/// An input of a map-reduce: `len()` indices, grouped by the library into leaves and batches.
///
/// An index is usually an item. A source whose items have no index of their own (lines of text) counts finer units
/// (bytes) instead and gives each item to exactly one of them; the library only relies on these two rules:
///
/// 1. `read(a..b)` then `read(b..c)` gives the items of `read(a..c)`, in the same order, for every `a <= b <= c`;
/// 2. every rank gives the same items for the same range.
///
/// # Examples
///
/// A source of one's own: the rows of a file that are computed here instead.
///
/// ```
/// use std::ops::Range;
/// use rankfold::{Source, SourceError};
///
/// struct Rows { count: u64 }
///
/// impl Source for Rows {
///     type Item = Vec<f64>;
///     type Batch = Vec<Vec<f64>>;
///     type Parcel = ();
///
///     fn kind(&self) -> &'static str { "rows" }
///     fn len(&self) -> Result<u64, SourceError> { Ok(self.count) }
///     fn unpack(&self, _: Range<u64>, _: &[u8]) -> Result<(), SourceError> { Ok(()) }
///     fn read(&self, _: &(), range: Range<u64>) -> Result<Self::Batch, SourceError> {
///         Ok(range.map(|row| vec![row as f64; 3]).collect())
///     }
/// }
///
/// # fn main() -> rankfold::Result<()> {
/// let world = rankfold::init()?;
/// let total = world.map_reduce(Rows { count: 10 }, |row| row[0] + row[2], |a, b| a + b)?;
/// assert_eq!(total, 90.0);
/// # Ok(())
/// # }
/// ```
#[expect(clippy::len_without_is_empty, reason = "a length that cannot be had is an error, not empty")]
pub trait Source: Sync {
    /// What the mapper is given.
    type Item;
    /// What `map_batches` and `fold_batches` are given: a whole run of items.
    type Batch: IntoIterator<Item = Self::Item>;
    /// Items that came with a batch from the rank that has them, decoded; `()` where nothing travels.
    type Parcel: Send + Sync;

    /// A word for the kind of source, the same on every rank.
    fn kind(&self) -> &'static str;

    /// What an index counts, in the plural, for progress and reports.
    fn unit(&self) -> &'static str {
        "items"
    }

    /// The number of indices. Asked once at the start of a call.
    ///
    /// # Errors
    ///
    /// The input cannot be had: this ends the call on every rank.
    fn len(&self) -> Result<u64, SourceError>;

    /// Whether rank 0 alone knows the items. Then `len` of the other ranks is not asked.
    fn is_on_root(&self) -> bool {
        false
    }

    /// The indices that this rank alone has, where each rank has some: it computes these, or packs some for others.
    #[doc(hidden)]
    fn own(&self) -> Option<Range<u64>> {
        None
    }

    /// A checksum of the items where a cheap one exists; ranks whose values differ are refused.
    fn fingerprint(&self) -> u64 {
        0
    }

    /// The least number of indices that are worth a leaf, from `len` alone. Rounded up to a power of two.
    fn leaf(&self, _len: u64) -> u64 {
        1
    }

    /// The most indices that a batch may have, for a source that holds a batch in memory.
    fn batch(&self) -> u64 {
        u64::MAX
    }

    /// The most indices that `fold_batches` reads at once: few enough to be at hand when they are looked at, not only to
    /// fit in memory. At least 1.
    fn piece(&self) -> u64 {
        self.batch()
    }

    /// On rank 0, or whoever has them: the items of `range` as bytes, to go with their batch. Empty where nothing travels.
    ///
    /// # Errors
    ///
    /// The items cannot be encoded: this ends the call.
    fn pack(&self, _range: Range<u64>) -> Result<Vec<u8>, SourceError> {
        Ok(Vec::new())
    }

    /// On the rank that works on the batch: what `pack` made, decoded. `bytes` is empty where the items are.
    ///
    /// # Errors
    ///
    /// The bytes make no sense: the batch fails, and may be tried again.
    fn unpack(&self, range: Range<u64>, bytes: &[u8]) -> Result<Self::Parcel, SourceError>;

    /// The items of `range`, in order. `parcel` covers at least this range, which is not
    /// empty.
    ///
    /// # Errors
    ///
    /// The items cannot be read: the batch fails, and may be tried again.
    fn read(&self, parcel: &Self::Parcel, range: Range<u64>) -> Result<Self::Batch, SourceError>;

    /// Names the `nth` item that `read(range)` gives, for an error message.
    fn describe(&self, range: Range<u64>, nth: u64) -> String {
        format!("item {}", range.start + nth)
    }
}

/// Why a source could not give its items: said by the source, completed with rank and host by the library.
///
/// # Examples
///
/// ```
/// let error = rankfold::SourceError::new("cannot open mesh.h5: no such file", "copy it to every node");
/// assert_eq!(error.to_string(), "cannot open mesh.h5: no such file; copy it to every node");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}; {remedy}")]
pub struct SourceError {
    pub(crate) problem: String,
    pub(crate) remedy: String,
}

impl SourceError {
    /// What is wrong, naming the file or item, and what the user can do about it.
    #[must_use]
    pub fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { problem: problem.into(), remedy: remedy.into() }
    }
}
