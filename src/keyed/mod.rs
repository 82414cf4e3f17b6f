//! Values by key: combined where they arise, then brought together by the hashes of their keys.
//!
//! ```text
//! emit       what a mapper says, and the kernels that take it down
//! table      keys with their values, in memory
//! tables     the partial of a call: one table, or several where memory is short
//! ```

pub(crate) mod emit;
pub(crate) mod table;
pub(crate) mod tables;
