//! What the scheduler is told, and what it wants done.

use std::time::Duration;

use crate::error::Error;
use crate::extent::Extent;
use crate::time::Time;
use crate::wire::{Cost, ToMaster};

#[derive(Debug)]
pub(crate) enum Event {
    /// A worker has entered the call.
    Ready {
        worker: usize,
    },
    /// A worker has computed a batch, but for the parts in `rest`.
    Done {
        worker: usize,
        batch: Extent,
        rest: Vec<Extent>,
        cost: Cost,
    },
    Failed {
        worker: usize,
        batch: Extent,
        error: Error,
    },
    /// A recalled batch was not started and came back.
    Returned {
        worker: usize,
        batch: Extent,
    },
    /// A worker has stopped computing because the call failed.
    Stopped {
        worker: usize,
    },
    /// A worker has nothing to say, and lives.
    Beat {
        worker: usize,
    },
    /// The call cannot be completed.
    Broken {
        error: Error,
    },
    /// The call has to end by then: what is done is kept, nothing new is begun, and the call returns the error.
    Drain {
        error: Error,
        by: Time,
    },
    /// Rank 0 spent so many seconds on one batch.
    Served {
        seconds: f64,
    },
    Tick,
}

#[derive(Debug)]
pub(crate) enum Action {
    Assign {
        worker: usize,
        batch: Extent,
    },
    Recall {
        worker: usize,
        batch: Extent,
    },
    /// A worker was silent for too long: what it has done is computed again by others.
    Lose {
        worker: usize,
        silence: Duration,
    },
    /// Tell every worker that the master lives.
    Beat,
    /// All leaves are done: every worker that is not lost goes on to the reduction.
    Finish {
        lost: Vec<usize>,
    },
    /// The call has failed: tell every worker, also those that have not entered it yet.
    Stop {
        error: Error,
    },
    /// Nobody computes any more: every rank returns the error. As with `Finish`, some ranks may be lost.
    Release {
        lost: Vec<usize>,
    },
    /// Some worker cannot be interrupted: end the program with the error.
    Abandon {
        error: Error,
        busy: Vec<usize>,
    },
}

impl Event {
    /// The worker whose message this is.
    pub(super) fn sender(&self) -> Option<usize> {
        match self {
            Self::Ready { worker }
            | Self::Done { worker, .. }
            | Self::Failed { worker, .. }
            | Self::Returned { worker, .. }
            | Self::Stopped { worker }
            | Self::Beat { worker } => Some(*worker),
            Self::Broken { .. } | Self::Drain { .. } | Self::Served { .. } | Self::Tick => None,
        }
    }

    /// What a worker's answer means; nothing for its entry, which is looked at first.
    pub fn of_answer(worker: usize, answer: ToMaster) -> Option<Self> {
        Some(match answer {
            ToMaster::Hello(_) | ToMaster::Interrupted { .. } => return None,
            ToMaster::Resumed(Ok(())) => Self::Ready { worker },
            ToMaster::Resumed(Err(error)) => Self::Broken { error },
            ToMaster::Done { batch, rest, cost } => Self::Done { worker, batch, rest, cost },
            ToMaster::Failed { batch, error } => Self::Failed { worker, batch, error },
            ToMaster::Returned { batch } => Self::Returned { worker, batch },
            ToMaster::Stopped => Self::Stopped { worker },
            ToMaster::Beat => Self::Beat { worker },
        })
    }
}
