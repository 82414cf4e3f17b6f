//! An array as a partial: combined element by element, cut into slices, and written as it is in memory.

use bytemuck::{Pod, cast_slice, cast_slice_mut, pod_collect_to_vec};
use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, Serializer};
use serde_bytes::{ByteBuf, Bytes};

use super::collect::{shape, shares};
use super::dense::Dense;
use super::op::BuiltIn;
use crate::reduce::shuffle::Cut;

/// The elements of an array, or of a slice of one, and its shape.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Block<E> {
    /// Of the whole array, whichever slice this is.
    pub extents: Vec<usize>,
    pub elements: Vec<E>,
}

impl<E: Pod + Send + Sync> Block<E> {
    pub fn of<B: Dense<Element = E> + ?Sized>(value: &B) -> Self {
        const { assert!(size_of::<E>() > 0, "an element of an array has at least one byte") };
        Self { extents: value.extents(), elements: value.elements().into_owned() }
    }

    /// # Panics
    ///
    /// If the other one has another shape: that is the mapper's fault, and caught where combiners are called.
    pub fn combine(mut self, right: &Self, function: &impl Fn(E, E) -> E) -> Self {
        self.check(right);
        for (left, right) in self.elements.iter_mut().zip(&right.elements) {
            *left = function(*left, *right);
        }
        self
    }

    /// The same with a function whose order cannot be seen, as MPI computes it: integers wrap around.
    ///
    /// # Panics
    ///
    /// As [`combine`](Self::combine).
    pub fn combine_exactly(mut self, right: &Self, function: BuiltIn) -> Self {
        self.check(right);
        function.fold(cast_slice_mut(&mut self.elements), cast_slice(&right.elements));
        self
    }

    fn check(&self, right: &Self) {
        assert!(
            self.extents == right.extents,
            "{} cannot be combined with {} element by element",
            shape(&self.extents),
            shape(&right.extents)
        );
    }
}

impl<E: Pod> Cut for Block<E> {
    fn cut(self, parts: usize, _here: usize) -> Vec<Self> {
        let Self { extents, elements } = self;
        let slice = |part: std::ops::Range<usize>| Self { extents: extents.clone(), elements: elements[part].to_vec() };
        shares(elements.len(), parts, 1).into_iter().map(slice).collect()
    }

    fn join(parts: Vec<Self>) -> Self {
        let mut parts = parts.into_iter();
        let mut whole = parts.next().expect("at least one part");
        parts.for_each(|part| whole.elements.extend(part.elements));
        whole
    }
}

impl<E: Pod> Serialize for Block<E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.extents, Bytes::new(cast_slice(&self.elements))).serialize(serializer)
    }
}

impl<'de, E: Pod> Deserialize<'de> for Block<E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (extents, bytes) = <(Vec<usize>, ByteBuf)>::deserialize(deserializer)?;
        if size_of::<E>() > 0 && bytes.len() % size_of::<E>() != 0 {
            return Err(Error::custom(format!("{} bytes are no whole number of elements", bytes.len())));
        }
        Ok(Self { extents, elements: pod_collect_to_vec(&bytes) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_join_to_the_whole_also_after_a_journey(elements in prop::collection::vec(any::<u32>(), 0..50), parts in 1usize..9) {
            let block = Block { extents: vec![elements.len()], elements };
            let bytes: Vec<_> = block.clone().cut(parts, 0).iter().map(|part| wire::encode(part).unwrap()).collect();
            let arrived = bytes.iter().map(|bytes| wire::decode(bytes).unwrap()).collect();
            prop_assert_eq!(Block::join(arrived), block);
        }
    }

    #[test]
    #[should_panic(expected = "an array of 2 × 3 cannot be combined with an array of 6 element by element")]
    fn other_shapes_are_refused() {
        let block = |extents| Block { extents, elements: vec![1u8; 6] };
        let _ = block(vec![2, 3]).combine(&block(vec![6]), &|a, b| a + b);
    }
}
