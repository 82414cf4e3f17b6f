//! The worker's state machine, the twin of the master's `Scheduler`: [`Agent::handle`] takes an event,
//! [`Agent::poll_action`] gives what is to be done, [`Agent::next_deadline`] tells when to come back. Computing is an
//! action, so that a cost model can take its place.
//!
//! Pure: no clock, thread, file or MPI. An assigned batch goes to the computing threads at once, which start batches in
//! the order of assignment; one that was recalled is taken back from them if they have not started it, and else ends
//! with what is done. A worker that has said nothing for an interval sends a beat, and one that, once it has heard from it, hears nothing from the
//! master for as long as the master would bear to hear nothing from it gives up.

use std::collections::VecDeque;
use std::time::Duration;

use crate::error::Error;
use crate::extent::Extent;
use crate::master::liveness::Patience;
use crate::time::Time;
use crate::wire::{Cost, ToMaster, ToWorker};

#[derive(Debug)]
pub(crate) struct Agent {
    patience: Patience,
    /// When the master was heard last in this call, and when it was last told anything. Before its first word the master
    /// may not have entered the call: it is waited for, and not bothered.
    heard: Option<Time>,
    told: Time,
    /// When this rank last knew that it was awake itself.
    awake: Time,
    gave_up: bool,
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
    /// A batch was computed, but for the parts in `rest`.
    Computed {
        batch: Extent,
        rest: Vec<Extent>,
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
    Tick,
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
    /// Take the batch back if no thread has started it, and answer with `Withdrawn`; else let it end soon, with a rest.
    Withdraw {
        batch: Extent,
    },
    /// Let running batches end as soon as they can.
    Cancel,
    Send(ToMaster),
    /// Go on to the reduction, without the ranks that are lost.
    Finish {
        lost: Vec<usize>,
    },
    /// Nothing runs on any rank: return the error.
    Stop {
        error: Error,
        lost: Vec<usize>,
    },
    /// The master was silent for too long: nothing will come of this call.
    GiveUp {
        silence: Duration,
    },
}

impl Agent {
    pub fn new(patience: Patience) -> Self {
        let begin = Time::default();
        Self {
            patience,
            heard: None,
            told: begin,
            awake: begin,
            gave_up: false,
            held: Vec::new(),
            last_end: None,
            failure: None,
            actions: VecDeque::new(),
        }
    }

    /// Takes one event. Poll the actions afterwards.
    pub fn handle(&mut self, now: Time, event: Event) {
        self.wake(now);
        match event {
            Event::Message(message) => {
                self.heard = Some(now);
                self.on_message(message);
            }
            Event::Computed { batch, rest, span } => {
                let gap = self.last_end.map_or(0.0, |end| span.start.seconds_since(end));
                self.last_end = Some(self.last_end.map_or(span.end, |end| end.max(span.end)));
                self.let_go(batch, ToMaster::Done { batch, rest, cost: Cost { busy: span.busy, gap } });
            }
            Event::Failed { batch, error } => self.let_go(batch, ToMaster::Failed { batch, error }),
            Event::Withdrawn { batch } => self.let_go(batch, ToMaster::Returned { batch }),
            Event::Tick => {}
        }
        self.keep_in_touch(now);
    }

    /// The next thing to do, or nothing.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to come back with `Event::Tick`.
    pub fn next_deadline(&self) -> Option<Time> {
        let heard = self.heard?;
        Some(self.told.after(self.patience.interval()).min(heard.after(self.patience.bound())))
    }

    fn wake(&mut self, now: Time) {
        let excuse = self.patience.excuse(now.since(self.awake));
        self.heard = self.heard.map(|heard| heard.after(excuse));
        self.awake = now;
    }

    fn keep_in_touch(&mut self, now: Time) {
        let Some(heard) = self.heard else { return };
        if self.actions.iter().any(|action| matches!(action, Action::Send(_))) {
            self.told = now;
        } else if now >= self.told.after(self.patience.interval()) {
            self.told = now;
            self.actions.push_back(Action::Send(ToMaster::Beat));
        }
        if now >= heard.after(self.patience.bound()) && !self.gave_up {
            self.gave_up = true;
            let silence = now.since(heard);
            self.actions.push_back(Action::GiveUp { silence });
        }
    }

    fn on_message(&mut self, message: ToWorker) {
        match message {
            // The division of the input concerns whoever computes, not who decides.
            ToWorker::Begin { .. } | ToWorker::Resume(_) | ToWorker::Beat => {}
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
            ToWorker::Finish { lost } => {
                // What is held still was done by others.
                if !self.held.is_empty() {
                    self.actions.push_back(Action::Cancel);
                }
                self.actions.push_back(Action::Finish { lost });
            }
            ToWorker::Stop(error) => {
                self.failure = Some(error);
                self.actions.push_back(Action::Cancel);
                self.actions.extend(self.held.iter().map(|batch| Action::Withdraw { batch: *batch }));
                self.stop_when_idle();
            }
            ToWorker::Release { lost } => {
                self.actions.extend(self.failure.take().map(|error| Action::Stop { error, lost }));
            }
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
