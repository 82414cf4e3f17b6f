//! From segments on many ranks to one value on all of them.
//!
//! ```text
//! segment      the fixed tree: which partials are combined, in which order (pure)
//! collective   segments of all ranks to rank 0, and the result back
//! parts        partials that can be cut: each rank merges a part of all of them
//! shuffle      which part of a segment goes to whom, and what comes of all of them (pure)
//! round        what travels when there is no memory for all at once (pure)
//! order        the same segments one after the other, for results that stay in parts
//! telling      what ranks tell each other beside partials
//! exchange     bytes from every rank to every other one
//! ```

pub(crate) mod collective;
pub(crate) mod encoding;
pub(crate) mod exchange;
pub(crate) mod order;
pub(crate) mod parts;
pub(crate) mod round;
pub(crate) mod segment;
pub(crate) mod shuffle;
pub(crate) mod telling;
