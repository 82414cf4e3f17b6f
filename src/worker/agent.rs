//! The worker's state machine, the twin of the master's `Scheduler`: [`Agent::handle`] takes an event,
//! [`Agent::poll_action`] gives what is to be done. Computing is an action, so that a cost model can take its place.
//!
//! Pure: no clock, thread, file or MPI. An assigned batch goes to the computing threads at once, which start batches in
//! the order of assignment; one that was recalled is taken back from them if they have not started it.

use std::collections::VecDeque;

use crate::error::Error;
use crate::extent::Extent;
use crate::time::Time;
use crate::wire::{Cost, ToMaster, ToWorker};

#[derive(Debug, Default)]
pub(crate) struct Agent {
    /// Batches that are queued or computed here.
    held: Vec<Extent>,
    /// When the last batch that was computed here ended.
    last_end: Option<Time>,
    failure: Option<Error>,
    actions: VecDeque<Action>,
}

#[derive(Debug)]
pub(crate) enum Event {
    Message(ToWorker),
    /// A batch was computed.
    Computed {
        batch: Extent,
        span: Span,
    },
    /// A batch failed.
    Failed {
        batch: Extent,
        error: Error,
    },
    /// A batch was taken back before a thread started it.
    Withdrawn {
        batch: Extent,
    },
}

/// When a batch was computed, and the seconds that threads spent on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub start: Time,
    pub end: Time,
    pub busy: f64,
}

#[derive(Debug)]
pub(crate) enum Action {
    Compute {
        batch: Extent,
        parcel: Vec<u8>,
    },
    /// Take the batch back if no thread has started it; answer with `Withdrawn` if so.
    Withdraw {
        batch: Extent,
    },
    /// Let running batches end as soon as they can.
    Cancel,
    Send(ToMaster),
    /// Go on to the reduction.
    Finish,
    /// Nothing runs on any rank: return the error.
    Stop(Error),
}

impl Agent {
    /// Takes one event. Poll the actions afterwards.
    pub fn handle(&mut self, event: Event) {
        match event {
            Event::Message(message) => self.on_message(message),
            Event::Computed { batch, span } => {
                let gap = self.last_end.map_or(0.0, |end| span.start.seconds_since(end));
                self.last_end = Some(self.last_end.map_or(span.end, |end| end.max(span.end)));
                self.let_go(batch, ToMaster::Done { batch, cost: Cost { busy: span.busy, gap } });
            }
            Event::Failed { batch, error } => self.let_go(batch, ToMaster::Failed { batch, error }),
            Event::Withdrawn { batch } => self.let_go(batch, ToMaster::Returned { batch }),
        }
    }

    /// The next thing to do, or nothing.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    fn on_message(&mut self, message: ToWorker) {
        match message {
            // The division of the input concerns whoever computes, not who decides.
            ToWorker::Begin { .. } => {}
            ToWorker::Assign { .. } if self.failure.is_some() => {}
            ToWorker::Assign { batch, parcel } => {
                self.held.push(batch);
                self.actions.push_back(Action::Compute { batch, parcel });
            }
            ToWorker::Recall { batch } => {
                if self.held.contains(&batch) {
                    self.actions.push_back(Action::Withdraw { batch });
                }
            }
            ToWorker::Finish => {
                debug_assert!(self.held.is_empty(), "the master finished with batches open: {:?}", self.held);
                self.actions.push_back(Action::Finish);
            }
            ToWorker::Stop(error) => {
                self.failure = Some(error);
                self.actions.push_back(Action::Cancel);
                self.actions.extend(self.held.iter().map(|batch| Action::Withdraw { batch: *batch }));
                self.stop_when_idle();
            }
            ToWorker::Release => self.actions.extend(self.failure.take().map(Action::Stop)),
        }
    }

    fn let_go(&mut self, batch: Extent, answer: ToMaster) {
        let before = self.held.len();
        self.held.retain(|held| *held != batch);
        debug_assert_eq!(self.held.len() + 1, before, "batch {batch:?} was not held");
        if self.failure.is_none() {
            self.actions.push_back(Action::Send(answer));
        } else {
            self.stop_when_idle();
        }
    }

    fn stop_when_idle(&mut self) {
        if self.held.is_empty() {
            self.actions.push_back(Action::Send(ToMaster::Stopped));
        }
    }
}
