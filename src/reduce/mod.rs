//! From segments on many ranks to one value on all of them.
//!
//! ```text
//! segment      the fixed tree: which partials are combined, in which order (pure)
//! collective   segments of all ranks to rank 0, and the result back
//! ```

pub(crate) mod collective;
pub(crate) mod encoding;
pub(crate) mod segment;
