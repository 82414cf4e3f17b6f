//! Contributions of all ranks, folded in the order that the ranks' numbers give.
//!
//! The tree is that of `reduce::segment` with a leaf for each rank: neighbours first, then pairs, and so on up. So the
//! result depends on the contributions alone, not on which of them comes first, nor on the MPI library.
//!
//! Pure: no clock, thread, file or MPI.

use bytemuck::Pod;

use super::fold_bytes;

/// Bytes of each array that are folded through all levels before the next ones are looked at: few enough to stay in a cache.
const BLOCK: usize = 16 << 10;

/// Folds arrays of `len` bytes, which lie one after the other, into the first of them.
pub(crate) fn fold<E: Pod>(arrays: &mut [u8], len: usize, function: &impl Fn(E, E) -> E) {
    if len == 0 || size_of::<E>() == 0 {
        return;
    }
    let count = arrays.len() / len;
    let block = (BLOCK / size_of::<E>()).max(1) * size_of::<E>();
    for start in (0..len).step_by(block) {
        let end = len.min(start + block);
        let mut distance = 1;
        while distance < count {
            for left in (0..count - distance).step_by(2 * distance) {
                let (before, after) = arrays.split_at_mut((left + distance) * len);
                fold_bytes(&mut before[left * len + start..left * len + end], &after[start..end], function);
            }
            distance *= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extent::Extent;
    use crate::reduce::segment::Segments;
    use proptest::prelude::*;

    proptest! {
        /// Not associative, so that any other tree shows; longer than a block, so that blocks show.
        #[test]
        fn the_tree_is_that_of_segments(ranks in 1usize..40, len in 1usize..5000, seed in any::<u32>()) {
            let join = |a: u32, b: u32| a.wrapping_mul(31).wrapping_add(b.rotate_left(7));
            let value = |rank: usize, at: usize| seed.wrapping_mul(2_654_435_761).wrapping_add((rank * 7919 + at) as u32);
            let arrays: Vec<u32> = (0..ranks).flat_map(|rank| (0..len).map(move |at| value(rank, at))).collect();
            let mut bytes = bytemuck::cast_slice::<u32, u8>(&arrays).to_vec();
            fold::<u32>(&mut bytes, 4 * len, &join);
            for at in [0, len / 2, len - 1] {
                let mut segments = Segments::new(ranks as u64);
                for rank in (0..ranks).rev() {
                    let leaf = Extent::new(rank as u64, 1);
                    let joined = segments.merge(leaf, value(rank, at), &mut |_, a, b| Ok::<_, ()>(join(a, b)));
                    prop_assert!(joined.is_ok());
                }
                let found: u32 = bytemuck::pod_read_unaligned(&bytes[4 * at..4 * at + 4]);
                prop_assert_eq!(Ok(found), segments.complete());
            }
        }
    }
}
