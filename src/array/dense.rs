//! Values that are made of numbers: how they are taken apart, and put together again.

use std::borrow::Cow;

use bytemuck::Pod;
use ndarray::{Array, ArrayBase, Data, Dimension, IxDyn};

/// A number, a vector, a slice or an ndarray: elements of one type, in a shape.
///
/// The elements are plain data ([`bytemuck::Pod`]): all integers and floats, and types of one's own that derive it, such as
/// a complex number. They travel as they are in memory, without being encoded one by one. Arrays of any layout will do:
/// strided ones and those in Fortran order are taken in logical order, the last index first.
///
/// # Examples
///
/// ```
/// use rankfold::Dense;
/// use ndarray::array;
///
/// let columns = array![[1, 2], [3, 4]].reversed_axes();
/// assert_eq!(columns.elements().as_ref(), [1, 3, 2, 4]);
/// assert_eq!(columns.extents(), [2, 2]);
/// assert_eq!((7.5).extents(), [0usize; 0]);
/// ```
pub trait Dense {
    /// The type of the elements.
    type Element: Pod + Send + Sync;
    /// What a result of the same shape is.
    type Owned;

    /// The length along each axis; none for a single number.
    fn extents(&self) -> Vec<usize>;

    /// All elements in logical order, the last index running first; without copying where they are stored so.
    fn elements(&self) -> Cow<'_, [Self::Element]>;

    /// Whether the first axis of a value of this kind can have this length.
    #[must_use]
    fn has_length(_length: usize) -> bool {
        true
    }

    /// A value of this kind from its parts; `None` if there is none of that shape.
    fn build(extents: &[usize], elements: Vec<Self::Element>) -> Option<Self::Owned>;
}

macro_rules! numbers {
    ($($number:ty)*) => {$(
        impl Dense for $number {
            type Element = $number;
            type Owned = $number;

            fn extents(&self) -> Vec<usize> {
                Vec::new()
            }

            fn elements(&self) -> Cow<'_, [$number]> {
                Cow::Borrowed(std::slice::from_ref(self))
            }

            fn build(extents: &[usize], elements: Vec<$number>) -> Option<$number> {
                elements.first().copied().filter(|_| extents.is_empty())
            }
        }
    )*};
}

numbers!(i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize f32 f64);

impl<E: Pod + Send + Sync> Dense for [E] {
    type Element = E;
    type Owned = Vec<E>;

    fn extents(&self) -> Vec<usize> {
        vec![self.len()]
    }

    fn elements(&self) -> Cow<'_, [E]> {
        Cow::Borrowed(self)
    }

    fn build(extents: &[usize], elements: Vec<E>) -> Option<Vec<E>> {
        (extents == [elements.len()]).then_some(elements)
    }
}

impl<E: Pod + Send + Sync> Dense for Vec<E> {
    type Element = E;
    type Owned = Self;

    fn extents(&self) -> Vec<usize> {
        vec![self.len()]
    }

    fn elements(&self) -> Cow<'_, [E]> {
        Cow::Borrowed(self)
    }

    fn build(extents: &[usize], elements: Self) -> Option<Self> {
        <[E]>::build(extents, elements)
    }
}

impl<E: Pod + Send + Sync, const N: usize> Dense for [E; N] {
    type Element = E;
    type Owned = Self;

    fn extents(&self) -> Vec<usize> {
        vec![N]
    }

    fn elements(&self) -> Cow<'_, [E]> {
        Cow::Borrowed(self)
    }

    fn has_length(length: usize) -> bool {
        length == N
    }

    fn build(_: &[usize], elements: Vec<E>) -> Option<Self> {
        elements.try_into().ok()
    }
}

impl<E: Pod + Send + Sync, S: Data<Elem = E>, D: Dimension> Dense for ArrayBase<S, D> {
    type Element = E;
    type Owned = Array<E, D>;

    fn extents(&self) -> Vec<usize> {
        self.shape().to_vec()
    }

    fn elements(&self) -> Cow<'_, [E]> {
        self.as_slice().map_or_else(|| self.iter().copied().collect(), Cow::Borrowed)
    }

    fn build(extents: &[usize], elements: Vec<E>) -> Option<Array<E, D>> {
        Array::from_shape_vec(IxDyn(extents), elements).ok()?.into_dimensionality().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, ShapeBuilder, s};

    fn again<B: Dense + ?Sized>(value: &B) -> B::Owned {
        B::build(&value.extents(), value.elements().into_owned()).unwrap()
    }

    #[test]
    fn any_layout_is_taken_in_logical_order_and_put_together_again() {
        let rows = Array2::from_shape_fn((4, 6), |(i, j)| (10 * i + j) as u32);
        let mut fortran = Array2::zeros((4, 6).f());
        fortran.assign(&rows);
        assert_eq!(fortran.elements(), rows.elements());
        let strided = rows.slice(s![..;2, ..;-3]);
        assert_eq!(strided.elements().as_ref(), [5, 2, 25, 22]);
        assert_eq!(again(&strided), strided);
        assert_eq!(again(&fortran), rows);
    }

    #[test]
    fn numbers_vectors_and_fixed_arrays_come_back_as_what_they_were() {
        assert_eq!(again(&2.5f64).to_bits(), 2.5f64.to_bits());
        assert_eq!(again(&[1, 2]), [1, 2]);
        assert_eq!(again(&vec![1u8; 3]), [1; 3]);
        assert_eq!(again(&[1u8, 2][..]), [1, 2]);
    }

    #[test]
    fn what_does_not_fit_the_shape_is_no_value() {
        assert_eq!(Array2::<u8>::build(&[2, 2], vec![0; 3]), None);
        assert_eq!(Array2::<u8>::build(&[4], vec![0; 4]), None);
        assert_eq!(f64::build(&[1], vec![1.0]), None);
        assert_eq!(Vec::<u8>::build(&[2], vec![1]), None);
    }
}
