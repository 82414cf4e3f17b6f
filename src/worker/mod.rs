//! A rank's side of a call: computing the batches that the master hands out.
//!
//! ```text
//! agent         the state machine, twin of the scheduler: messages in, computations and answers out (pure)
//! compute       a batch on rayon: leaves, the fixed tree, merging with what is here already
//! table         what was computed so far, also while it is being combined
//! backlog       tasks of a pool that were not begun (pure)
//! runner        one task: its arguments, the function, its result
//! usage         what a task has used
//! kept          a value that stays where it was made
//! store         the values that a rank keeps
//! spill         which of them go to the disk where memory is short (pure)
//! scratch       the folder for them, and a file for many pieces
//! budget        what the tables and lists of a call may have in memory
//! run           values of a call on the disk, in an order
//! spool         a list that is partly there
//! caught        panics of the user's functions, turned into values
//! precautions   what is done about leaves that have ended ranks before
//! ```

pub(crate) mod agent;
pub(crate) mod budget;
pub(crate) mod caught;
pub(crate) mod compute;
pub(crate) mod precautions;
pub(crate) mod backlog;
pub(crate) mod kept;
pub(crate) mod run;
pub(crate) mod runner;
pub(crate) mod scratch;
pub(crate) mod spill;
pub(crate) mod spool;
pub(crate) mod store;
mod table;
pub(crate) mod usage;
