//! What is known of a task where somebody has a handle on it, and what is done at its end.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::Waker;

use super::desk::Timing;
use crate::error::Error;
use crate::lock::lock;
use crate::worker::caught::{Caught, catch};
use crate::worker::kept::{Kept, discard};

/// What is known of a task where somebody has a handle on it.
#[derive(Debug, Default)]
pub(crate) struct Slot(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    outcome: Option<Result<(), Error>>,
    timing: Option<Box<Timing>>,
    /// The value, once it is here.
    value: Option<Arc<Kept>>,
    /// Somebody waits for the value, wherever it is.
    is_wanted: bool,
    /// So many wait for the bell because of this task.
    watchers: usize,
    /// Whoever has waited for it has run it, and rank 0's loop will do what is to be done at its end.
    is_early: bool,
    /// Nobody has a handle on it any more, but what is to be done at its end is to be done.
    is_detached: bool,
    then: Vec<Then>,
}

/// What is done when a task has come to its end.
pub(crate) enum Then {
    /// For who waits for the value: also when that is here.
    Wake(Waker),
    Call(Box<dyn FnOnce() + Send>),
    Queue(u64, Arc<Line>),
}

/// Those of many that have come to their end, in that order.
#[derive(Debug, Default)]
pub(crate) struct Line(Mutex<VecDeque<u64>>);

/// A place in a line that is given up when nobody looks at the line any more.
pub(crate) struct Queued<'s> {
    slot: &'s Slot,
    line: Arc<Line>,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let mut inner = lock(&self.slot.0);
        inner.then.retain(|then| !matches!(then, Then::Queue(_, line) if Arc::ptr_eq(line, &self.line)));
    }
}

impl Line {
    pub fn first(&self) -> Option<u64> {
        lock(&self.0).pop_front()
    }
}

impl std::fmt::Debug for Then {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Wake(_) => "Wake",
            Self::Call(_) => "Call",
            Self::Queue(..) => "Queue",
        })
    }
}

impl Then {
    /// A panic in what is the user's is told, and ends nothing else.
    pub fn happen(self) {
        let happened = catch(|| match self {
            Self::Wake(waker) => waker.wake(),
            Self::Call(callback) => callback(),
            Self::Queue(number, line) => lock(&line.0).push_back(number),
        });
        if let Err(Caught { message, location, backtrace }) = happened {
            eprintln!(
                "rankfold: error: what was to be done at the end of a task panicked: {message}\n  at {location}{backtrace}"
            );
        }
    }
}

/// The end of a task.
#[derive(Debug)]
pub(crate) struct Settled {
    pub outcome: Result<(), Error>,
    /// Its value, if that is small.
    pub value: Option<Arc<Kept>>,
    pub timing: Option<Box<Timing>>,
}

/// Somebody waits for the bell because of a task: without one, nobody rings it at the end of that.
pub(crate) struct Watch<'s>(&'s Slot);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        lock(&self.0.0).watchers -= 1;
    }
}

impl Inner {
    fn settle(&mut self, settled: Settled) {
        if self.outcome.is_none() {
            let Settled { outcome, value, timing } = settled;
            self.outcome = Some(outcome);
            (self.value, self.timing) = (value, timing);
        }
    }
}

impl Slot {
    /// Before somebody looks at this slot each time the bell rings.
    pub fn watch(&self) -> Watch<'_> {
        lock(&self.0).watchers += 1;
        Watch(self)
    }

    pub fn detach(&self) {
        lock(&self.0).is_detached = true;
    }

    pub fn is_detached(&self) -> bool {
        lock(&self.0).is_detached
    }

    /// The handle is gone: unless it was detached, or has come to its end, nothing is to be done at the end of the task.
    /// Whoever calls drops what would have been.
    pub fn forget_callbacks(&self) {
        let mut inner = lock(&self.0);
        let then = if inner.is_detached || inner.is_early { Vec::new() } else { std::mem::take(&mut inner.then) };
        drop(inner);
        discard(then);
    }

    pub fn is_watched(&self) -> bool {
        lock(&self.0).watchers > 0
    }

    /// The task has come to its end; a small value has come along. Gives what is to be done then.
    #[must_use]
    pub fn settle(&self, settled: Settled) -> Vec<Then> {
        let mut inner = lock(&self.0);
        inner.settle(settled);
        inner.is_early = false;
        std::mem::take(&mut inner.then)
    }

    /// The same, by whoever has waited for the task and run it: what is to be done then is left to rank 0's loop, which
    /// settles it again.
    pub fn settle_early(&self, settled: Settled) {
        let mut inner = lock(&self.0);
        inner.is_early = inner.outcome.is_none();
        inner.settle(settled);
    }

    /// The pool is over: there will be no value, unless there is one. Gives what is to be done then.
    #[must_use]
    pub fn give_up(&self, why: impl FnOnce() -> Error) -> Vec<Then> {
        let mut inner = lock(&self.0);
        let has_one = inner.is_early || matches!((&inner.outcome, &inner.value), (Some(Err(_)), _) | (_, Some(_)));
        if !has_one {
            inner.outcome = Some(Err(why()));
        }
        std::mem::take(&mut inner.then)
    }

    /// The value is here, or cannot be had. Gives what is to be done then.
    #[must_use]
    pub fn bring(&self, value: Result<Arc<Kept>, Error>) -> Vec<Then> {
        let mut inner = lock(&self.0);
        match value {
            Ok(value) => inner.value = Some(value),
            Err(error) => inner.outcome = Some(Err(error)),
        }
        std::mem::take(&mut inner.then)
    }

    pub fn outcome(&self) -> Option<Result<(), Error>> {
        lock(&self.0).outcome.clone()
    }

    pub fn timing(&self) -> Option<Timing> {
        lock(&self.0).timing.as_deref().copied()
    }

    pub fn is_settled(&self) -> bool {
        lock(&self.0).outcome.is_some()
    }

    pub fn has_failed(&self) -> bool {
        matches!(lock(&self.0).outcome, Some(Err(_)))
    }

    /// The value if it is here, the error if there is none, or nothing yet.
    pub fn value(&self) -> Option<Result<Arc<Kept>, Error>> {
        let inner = lock(&self.0);
        match (&inner.outcome, &inner.value) {
            (Some(Err(error)), _) => Some(Err(error.clone())),
            (_, Some(value)) => Some(Ok(Arc::clone(value))),
            _ => None,
        }
    }

    /// Lets go of the value, so that who has it has it alone.
    pub fn let_go(&self) {
        lock(&self.0).value = None;
    }

    /// Whether the value has to be asked for: it is not here, and nobody has asked yet.
    pub fn wants(&self) -> bool {
        let mut inner = lock(&self.0);
        inner.value.is_none() && !std::mem::replace(&mut inner.is_wanted, true)
    }

    /// Has the end of the task told in a line, by this number, for as long as the place in it is kept.
    pub fn queue(&self, number: u64, line: &Arc<Line>) -> Queued<'_> {
        self.then(Then::Queue(number, Arc::clone(line)));
        Queued { slot: self, line: Arc::clone(line) }
    }

    /// Adds something to be done at the end of the task, and at once if that is past.
    pub fn then(&self, then: Then) {
        let mut inner = lock(&self.0);
        let is_past = match (&inner.outcome, &then) {
            (Some(Ok(())), Then::Wake(_)) => inner.value.is_some(),
            (outcome, _) => outcome.is_some(),
        };
        if is_past {
            drop(inner);
            return then.happen();
        }
        if matches!(then, Then::Wake(_)) {
            // Whoever polls again is the one to be woken.
            inner.then.retain(|other| !matches!(other, Then::Wake(_)));
        }
        inner.then.push(then);
    }
}
