//! The shuffle: segments are cut into one part for each rank, and a rank merges the same part of all of them.
//!
//! Pure: how parts get to those who merge them is left to the caller.

use std::ops::Range;

use super::segment::Segments;
use crate::extent::Extent;
use crate::simulate::mutant::{Mutant, planted};

/// A partial that can be merged part by part.
pub(crate) trait Cut: Sized {
    /// The same parts of all partials belong together, and no two parts of one have anything in common. The one with the number
    /// `here` does not travel.
    fn cut(self, parts: usize, here: usize) -> Vec<Self>;

    /// The whole again, from all parts in their order.
    fn join(parts: Vec<Self>) -> Self;
}

/// Segments that have not travelled yet, or a part of each.
pub(crate) type Bundle<T> = Vec<(Extent, Option<T>)>;

/// What goes to each of so many owners, of which this one has the number `here`: a part of every segment, also of an empty one, so
/// that each sees that all have come.
pub(crate) fn cut<T: Cut>(segments: Bundle<T>, owners: usize, here: usize) -> Vec<Bundle<T>> {
    let mut bundles: Vec<Bundle<T>> = (0..owners).map(|_| Vec::with_capacity(segments.len())).collect();
    for (extent, value) in segments {
        let lost = usize::from(planted(Mutant::PartLost));
        let mut parts = value.map(|value| value.cut(owners, here).into_iter().skip(lost));
        bundles.iter_mut().for_each(|bundle| bundle.push((extent, parts.as_mut().and_then(Iterator::next))));
    }
    bundles
}

/// An owner's part of the result, from the parts of all segments, in whatever order they come. Where some of them have not
/// come: the first leaves that are in none.
///
/// # Errors
///
/// What `combine` says.
pub(crate) fn merge<T, E>(
    leaves: u64,
    parts: impl IntoIterator<Item = Result<Bundle<T>, E>>,
    mut combine: impl FnMut(Extent, Option<T>, Option<T>) -> Result<Option<T>, E>,
) -> Result<Result<Option<T>, Range<u64>>, E> {
    let mut merged = Segments::new(leaves);
    for bundle in parts {
        for (extent, part) in bundle? {
            merged.merge(extent, part, &mut combine)?;
        }
    }
    Ok(if leaves == 0 { Ok(None) } else { merged.complete() })
}
