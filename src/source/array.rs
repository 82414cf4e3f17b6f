//! Arrays along one of their axes: an item is a row, a column, a plane.
//!
//! Nothing is copied where every rank holds the array; from rank 0, items travel as they are in memory, and are shared from
//! then on.

use std::fmt;
use std::ops::{Deref, Range};

use bytemuck::{Pod, bytes_of};
use ndarray::{ArcArray, ArrayBase, ArrayView, Axis, Data, Dimension, RemoveAxis, Slice};

use super::{Source, SourceError};
use crate::array::collect::{pack, unpack};
use crate::array::dense::Dense;

/// A leaf has at least so many elements, however short its items are.
const LEAF_ELEMENTS: usize = 512;
/// A batch that travels has at most so many bytes, or one item.
const BATCH_BYTES: usize = 64 << 20;

/// An array that every rank holds, along one axis; the mapper is given views without that axis. Made by [`along`].
#[derive(Debug)]
pub struct Along<'d, E, D: Dimension> {
    array: ArrayView<'d, E, D>,
    axis: Axis,
}

/// Consecutive items of an array that every rank holds: a view of them ([`Deref`]), or one after the other.
#[derive(Debug)]
pub struct Slab<'d, E, D: Dimension> {
    array: ArrayView<'d, E, D>,
    axis: Axis,
}

/// An array that every rank has (read from a shared file, computed alike, or [broadcast](crate::World::broadcast)), along one
/// of its axes: with `Axis(0)` an item is a row, with `Axis(1)` a column.
///
/// Arrays of any layout will do, views too. The mapper is given views; `map_batches` is given a [`Slab`], a view of
/// consecutive items. Ranks whose arrays differ in shape, or in the first, middle or last element, are refused.
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
/// let norms = world.map_reduce(data::along(&points, Axis(0)), |point| point.dot(&point), op::sum)?;
/// let gram = world.over(data::along(&points, Axis(0))).map_batches(|rows| rows.t().dot(&*rows), op::sum)?;
/// assert_eq!(gram.diag().sum(), norms);
/// # Ok(())
/// # }
/// ```
pub fn along<E, S, D>(array: &ArrayBase<S, D>, axis: Axis) -> Along<'_, E, D>
where
    E: Pod + Sync,
    S: Data<Elem = E>,
    D: Dimension + RemoveAxis,
{
    Along { array: array.view(), axis }
}

/// The array has no such axis, if it has not.
fn length<S: ndarray::RawData, D: Dimension>(array: &ArrayBase<S, D>, axis: Axis) -> Result<u64, SourceError> {
    array.shape().get(axis.0).map(|length| *length as u64).ok_or_else(|| {
        SourceError::new(
            format!("the array has {} axes, and no Axis({})", array.ndim(), axis.0),
            "axes are counted from 0, the slowest one first",
        )
    })
}

fn elements_of_item<S: ndarray::RawData, D: Dimension>(array: &ArrayBase<S, D>, axis: Axis) -> usize {
    let others = array.shape().iter().enumerate().filter(|(number, _)| *number != axis.0);
    others.map(|(_, extent)| *extent).product::<usize>().max(1)
}

impl<'d, E, D> Source for Along<'d, E, D>
where
    E: Pod + Sync,
    D: Dimension + RemoveAxis,
{
    type Item = ArrayView<'d, E, D::Smaller>;
    type Batch = Slab<'d, E, D>;
    type Parcel = ();

    fn kind(&self) -> &'static str {
        "replicated array"
    }

    fn len(&self) -> Result<u64, SourceError> {
        length(&self.array, self.axis)
    }

    fn fingerprint(&self) -> u64 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(format!("{:?} {}", self.array.shape(), self.axis.0).as_bytes());
        let count = self.array.len();
        for place in [0, count / 2, count.saturating_sub(1)] {
            // By coordinates, since any other way to the middle of a strided view is a long one.
            let (mut rest, mut at) = (place, D::zeros(self.array.ndim()));
            for (index, extent) in at.slice_mut().iter_mut().zip(self.array.shape()).rev() {
                *index = rest % (*extent).max(1);
                rest /= (*extent).max(1);
            }
            if let Some(element) = self.array.get(at) {
                hasher.update(bytes_of(element));
            }
        }
        u64::from(hasher.finalize())
    }

    fn leaf(&self, _len: u64) -> u64 {
        (LEAF_ELEMENTS / elements_of_item(&self.array, self.axis)).max(1) as u64
    }

    fn unpack(&self, _range: Range<u64>, _bytes: &[u8]) -> Result<(), SourceError> {
        Ok(())
    }

    fn read(&self, _parcel: &(), range: Range<u64>) -> Result<Slab<'d, E, D>, SourceError> {
        let (_, from_start) = self.array.clone().split_at(self.axis, range.start as usize);
        let (array, _) = from_start.split_at(self.axis, (range.end - range.start) as usize);
        Ok(Slab { array, axis: self.axis })
    }
}

impl<'d, E, D: Dimension> Deref for Slab<'d, E, D> {
    type Target = ArrayView<'d, E, D>;

    fn deref(&self) -> &ArrayView<'d, E, D> {
        &self.array
    }
}

impl<'d, E, D: Dimension + RemoveAxis> IntoIterator for Slab<'d, E, D> {
    type Item = ArrayView<'d, E, D::Smaller>;
    type IntoIter = Items<'d, E, D>;

    fn into_iter(self) -> Items<'d, E, D> {
        let end = self.array.len_of(self.axis);
        Items { slab: self, at: 0..end }
    }
}

/// The items of a [`Slab`].
#[derive(Debug)]
pub struct Items<'d, E, D: Dimension> {
    slab: Slab<'d, E, D>,
    at: Range<usize>,
}

impl<'d, E, D: Dimension + RemoveAxis> Iterator for Items<'d, E, D> {
    type Item = ArrayView<'d, E, D::Smaller>;

    fn next(&mut self) -> Option<Self::Item> {
        let array = self.slab.array.clone();
        self.at.next().map(|index| array.index_axis_move(self.slab.axis, index))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.at.size_hint()
    }
}

/// An array that rank 0 holds, along one axis. Made by [`along_from_root`].
pub struct AlongFromRoot<E, D: Dimension> {
    array: ArcArray<E, D>,
    axis: Axis,
}

/// An array that rank 0 alone has, along one of its axes; items travel with their batch, as they are in memory. The arrays of
/// other ranks are not looked at, but for their type: an empty one will do.
///
/// The mapper is given shared arrays ([`ArcArray`]), which are not copied from each other; `map_batches` is given a
/// [`SharedSlab`].
///
/// # Examples
///
/// ```
/// use ndarray::{Array2, Axis};
/// use rankfold::{data, op};
///
/// # fn main() -> rankfold::Result<()> {
/// let world = rankfold::init()?;
/// let image = if world.is_root() { Array2::from_elem((40, 30), 2u8) } else { Array2::zeros((0, 0)) };
/// let bright = data::along_from_root(image, Axis(0));
/// let sum = world.map_reduce(bright, |row| row.iter().map(|pixel| u64::from(*pixel)).sum::<u64>(), op::sum)?;
/// assert_eq!(sum, 2400);
/// # Ok(())
/// # }
/// ```
pub fn along_from_root<E, D>(array: ndarray::Array<E, D>, axis: Axis) -> AlongFromRoot<E, D>
where
    E: Pod + Send + Sync,
    D: Dimension + RemoveAxis,
{
    AlongFromRoot { array: array.into_shared(), axis }
}

/// Consecutive items of an array that came from rank 0: an array of them ([`Deref`]), or one after the other.
pub struct SharedSlab<E, D: Dimension> {
    array: ArcArray<E, D>,
    axis: Axis,
}

/// A batch's items as they arrived, or nothing on rank 0, which has them all.
#[doc(hidden)]
pub struct SharedParcel<E, D: Dimension> {
    start: u64,
    array: Option<ArcArray<E, D>>,
}

impl<E, D> Source for AlongFromRoot<E, D>
where
    E: Pod + Send + Sync,
    D: Dimension + RemoveAxis,
{
    type Item = ArcArray<E, D::Smaller>;
    type Batch = SharedSlab<E, D>;
    type Parcel = SharedParcel<E, D>;

    fn kind(&self) -> &'static str {
        "array from the root"
    }

    fn len(&self) -> Result<u64, SourceError> {
        length(&self.array, self.axis)
    }

    fn is_on_root(&self) -> bool {
        true
    }

    fn batch(&self) -> u64 {
        (BATCH_BYTES / (size_of::<E>() * elements_of_item(&self.array, self.axis)).max(1)).max(1) as u64
    }

    fn pack(&self, range: Range<u64>) -> Result<Vec<u8>, SourceError> {
        let part = self.array.slice_axis(self.axis, Slice::from(range.start as usize..range.end as usize));
        Ok(pack(part.shape(), &part.elements()))
    }

    fn unpack(&self, range: Range<u64>, bytes: &[u8]) -> Result<SharedParcel<E, D>, SourceError> {
        let start = range.start;
        if bytes.is_empty() {
            return Ok(SharedParcel { start, array: None });
        }
        let (extents, elements) = unpack(bytes);
        let array = ndarray::Array::<E, D>::build(&extents, elements).ok_or_else(|| {
            SourceError::new(
                format!("items {start} to {} arrived in the shape {extents:?}", range.end - 1),
                "this is a bug in rankfold",
            )
        })?;
        Ok(SharedParcel { start, array: Some(array.into_shared()) })
    }

    fn read(&self, parcel: &SharedParcel<E, D>, range: Range<u64>) -> Result<SharedSlab<E, D>, SourceError> {
        let (array, start) = parcel.array.as_ref().map_or((&self.array, 0), |array| (array, parcel.start));
        let mut array = array.clone();
        let here = (range.start - start) as usize..(range.end - start) as usize;
        array.slice_axis_inplace(self.axis, Slice::from(here));
        Ok(SharedSlab { array, axis: self.axis })
    }
}

impl<E, D: Dimension> Deref for SharedSlab<E, D> {
    type Target = ArcArray<E, D>;

    fn deref(&self) -> &ArcArray<E, D> {
        &self.array
    }
}

impl<E, D: Dimension + RemoveAxis> IntoIterator for SharedSlab<E, D> {
    type Item = ArcArray<E, D::Smaller>;
    type IntoIter = SharedItems<E, D>;

    fn into_iter(self) -> SharedItems<E, D> {
        let end = self.array.len_of(self.axis);
        SharedItems { slab: self, at: 0..end }
    }
}

/// The items of a [`SharedSlab`].
pub struct SharedItems<E, D: Dimension> {
    slab: SharedSlab<E, D>,
    at: Range<usize>,
}

/// `ArcArray` has no `Debug` that could be derived from.
macro_rules! debug {
    ($($name:ident: $($field:ident)*;)*) => {$(
        impl<E: fmt::Debug, D: Dimension> fmt::Debug for $name<E, D> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name))$(.field(stringify!($field), &self.$field))*.finish()
            }
        }
    )*};
}

debug! {
    AlongFromRoot: array axis;
    SharedSlab: array axis;
    SharedItems: slab at;
    SharedParcel: start array;
}

impl<E, D: Dimension + RemoveAxis> Iterator for SharedItems<E, D> {
    type Item = ArcArray<E, D::Smaller>;

    fn next(&mut self) -> Option<Self::Item> {
        self.at.next().map(|index| self.slab.array.clone().index_axis_move(self.slab.axis, index))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.at.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array3, ArrayBase, s};
    use proptest::prelude::*;

    #[test]
    fn an_axis_that_is_not_there_is_named() {
        let array = Array3::<f32>::zeros((2, 3, 4));
        let error = along(&array, Axis(3)).len().unwrap_err().to_string();
        assert_eq!(error, "the array has 3 axes, and no Axis(3); axes are counted from 0, the slowest one first");
    }

    #[test]
    fn the_fingerprint_sees_shape_and_samples() {
        let array = Array3::from_shape_fn((2, 3, 4), |(i, j, k)| i + 10 * j + 100 * k);
        let print = |array: &Array3<usize>, axis| along(array, Axis(axis)).fingerprint();
        let mut other = array.clone();
        assert_eq!(print(&array, 0), print(&other, 0));
        assert_ne!(print(&array, 0), print(&array, 1));
        other[[1, 2, 3]] += 1;
        assert_ne!(print(&array, 0), print(&other, 0));
    }

    proptest! {
        /// What a batch holds, read in two parts, equals the items of the array, for any axis and layout, here and after
        /// a journey.
        #[test]
        fn parts_join_to_the_whole(
            extents in prop::array::uniform3(1usize..6), axis in 0usize..3, step in 1usize..3, cut in 0usize..6,
        ) {
            let whole = Array3::from_shape_fn(extents, |(i, j, k)| (i * 100 + j * 10 + k) as u16);
            let view = whole.slice(s![..;step, .., ..;-1]).permuted_axes([2, 0, 1]);
            let expected: Vec<_> = view.axis_iter(Axis(axis)).map(|item| item.to_owned()).collect();
            let (len, cut) = (expected.len() as u64, (cut as u64).min(expected.len() as u64));

            let source = along(&view, Axis(axis));
            let shipped = along_from_root(view.to_owned(), Axis(axis));
            let parcel = shipped.unpack(0..len, &shipped.pack(0..len).unwrap()).unwrap();
            let (mut seen, mut arrived) = (Vec::new(), Vec::new());
            for range in [0..cut, cut..len].into_iter().filter(|range| !range.is_empty()) {
                seen.extend(source.read(&(), range.clone()).unwrap().into_iter().map(|item| item.to_owned()));
                arrived.extend(shipped.read(&parcel, range).unwrap().into_iter().map(ArrayBase::into_owned));
            }
            prop_assert_eq!(&seen, &expected);
            prop_assert_eq!(&arrived, &expected);
        }
    }
}
