//! Values by key: combined where they arise, then brought together by the hashes of their keys.
//!
//! ```text
//! table      keys with their values, as the partial of a call
//! emit       what a mapper says, and the kernels that take it down
//! ```

pub(crate) mod emit;
pub(crate) mod table;
