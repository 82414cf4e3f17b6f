//! Items that stay on the ranks that have them, from step to step.
//!
//! ```text
//! sharded    the collection: steps on what each rank has
//! steps      steps on each item
//! source     its items as input of calls
//! turns      between which the items of steps and calls move to ranks that have none left
//! balance    where items should be (pure)
//! moves      items on their way to where they should be
//! sort       in the order of keys, over all ranks
//! external   the same of a call's input, on the ranks' disks where memory is short
//! sorted     what comes of that
//! keep       the results of a call, left on the ranks
//! write      items to files
//! ```

pub(crate) mod balance;
pub(crate) mod external;
pub(crate) mod keep;
pub(crate) mod moves;
pub(crate) mod sharded;
pub(crate) mod sort;
pub(crate) mod sorted;
pub(crate) mod source;
pub(crate) mod steps;
pub(crate) mod turns;
pub(crate) mod write;
