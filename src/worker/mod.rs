//! A rank's side of a call: computing the batches that the master hands out.
//!
//! ```text
//! agent     the state machine, twin of the scheduler: messages in, computations and answers out (pure)
//! compute   a batch on rayon: leaves, the fixed tree, merging with what is here already
//! table     what was computed so far, also while it is being combined
//! caught    panics of the user's functions, turned into values
//! ```

pub(crate) mod agent;
pub(crate) mod caught;
pub(crate) mod compute;
mod table;
