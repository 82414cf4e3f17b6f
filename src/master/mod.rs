//! Rank 0's side of a call: which rank works on what.
//!
//! ```text
//! scheduler   the state machine: events in, actions out
//! regions     the leaves that nobody holds yet, by the worker they are meant for
//! ledger      who holds which batch, and how often it was tried
//! policy      how long a batch is
//! ```
//!
//! All four are pure: no clock, thread, file, MPI, unordered iteration or randomness.

pub(crate) mod ledger;
pub(crate) mod policy;
pub(crate) mod regions;
pub(crate) mod scheduler;
