//! Rank 0's side of a call: which rank works on what.
//!
//! ```text
//! scheduler   the state machine: events in, actions out
//! regions     the leaves that nobody holds yet, by the worker they are meant for
//! ledger      who holds which batch, and how often it was tried
//! coverage    which leaves are done
//! policy      how long a batch is
//! tasks       the root door: which task runs where, and what becomes of its value
//! liveness    when a silent worker is doubted, and when it is given up
//! ```
//!
//! All are pure: no clock, thread, file, MPI, unordered iteration or randomness.

pub(crate) mod coverage;
pub(crate) mod ledger;
pub(crate) mod liveness;
pub(crate) mod policy;
pub(crate) mod regions;
pub(crate) mod scheduler;
pub(crate) mod tasks;
