//! Arrays of numbers, and what ranks do with them together.
//!
//! ```text
//! dense      what counts as an array: numbers, slices, ndarrays of any layout
//! op         sum, min, max, …: operations on elements
//! tree       contributions of all ranks folded in a fixed order (pure)
//! collect    all_reduce, broadcast, scatter, gather
//! block      an array as the partial of a call
//! relaxed    such partials, reduced by the MPI library
//! ```

pub(crate) mod block;
pub(crate) mod collect;
pub(crate) mod dense;
pub mod op;
pub(crate) mod relaxed;
pub(crate) mod tree;

use bytemuck::{Pod, bytes_of, pod_read_unaligned};

/// Folds elements, as bytes at any address, into others: `into = function(into, other)`.
pub(crate) fn fold_bytes<E: Pod>(into: &mut [u8], other: &[u8], function: &impl Fn(E, E) -> E) {
    assert_eq!(into.len(), other.len(), "arrays of one length");
    if size_of::<E>() == 0 {
        return;
    }
    for (into, other) in into.chunks_exact_mut(size_of::<E>()).zip(other.chunks_exact(size_of::<E>())) {
        let value = function(pod_read_unaligned(into), pod_read_unaligned(other));
        into.copy_from_slice(bytes_of(&value));
    }
}

/// The strictest alignment of the numbers that MPI reduces.
const ALIGNMENT: usize = 8;

/// Bytes of which [`aligned`] gives `len`.
pub(crate) fn room_for(len: usize) -> Vec<u8> {
    vec![0; len + ALIGNMENT]
}

/// Whether [`aligned`] can give `len` of these.
pub(crate) fn has_room_for(buffer: &[u8], len: usize) -> bool {
    buffer.len() >= len + ALIGNMENT
}

/// [`aligned`], to look at.
pub(crate) fn aligned_in(buffer: &[u8], len: usize) -> &[u8] {
    let start = buffer.as_ptr().align_offset(ALIGNMENT);
    &buffer[start..start + len]
}

/// The part of a buffer that may hold numbers of any kind; always the same part of the same buffer.
pub(crate) fn aligned(buffer: &mut [u8], len: usize) -> &mut [u8] {
    let start = buffer.as_ptr().align_offset(ALIGNMENT);
    &mut buffer[start..start + len]
}
