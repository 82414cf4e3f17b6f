//! The end before the end: a signal, or too little time left. Nothing new is handed out, what waits in queues comes back,
//! what runs is cut short, and what is done by then is kept.

use super::{Action, Phase, Scheduler, Standing};
use crate::error::Error;
use crate::simulate::mutant::{Mutant, planted};
use crate::time::Time;

/// A call that is on its way to an early end.
#[derive(Debug)]
pub(super) struct Drain {
    /// What the call ends with.
    error: Error,
    /// What runs still at this time is given up.
    by: Time,
}

impl Scheduler {
    /// Begins to drain. A second wish only counts where it is for an earlier end.
    pub(super) fn drain(&mut self, error: Error, by: Time) {
        if let Some(drain) = &mut self.drain {
            drain.by = drain.by.min(by);
            return;
        }
        self.drain = Some(Drain { error, by });
        for worker in 0..self.workers.len() {
            for batch in self.ledger.batches(worker) {
                self.actions.push_back(Action::Recall { worker, batch: *batch });
            }
        }
    }

    pub(super) fn drain_deadline(&self) -> Option<Time> {
        self.drain.as_ref().map(|drain| drain.by)
    }

    /// Ends the call when nobody who is heard computes for it any more, or when the time for that is up.
    pub(super) fn end_when_drained(&mut self, now: Time) {
        let Some(Drain { error, by }) = &self.drain else { return };
        let holds = |worker: usize| !self.ledger.batches(worker).is_empty();
        let trusted = |worker: usize| self.workers[worker].standing == Standing::Trusted;
        let busy = (0..self.workers.len()).any(|worker| trusted(worker) && holds(worker));
        let busy = busy && !planted(Mutant::DrainImpatient);
        if matches!(self.phase, Phase::Running) && (!busy || now >= *by) {
            self.stop(now, error.clone());
        }
    }
}
