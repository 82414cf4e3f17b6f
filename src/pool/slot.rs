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

    /// The handle is gone: unless the task was detached, or run by who has waited for it, nothing is to be done at its
    /// end. Whoever calls drops what would have been.
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
        let has_failed = matches!(inner.outcome, Some(Err(_)));
        if inner.value.is_none() && !inner.is_early && !has_failed {
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::pool::desk::over;

    type Steps<'s> = &'s [&'s dyn Fn(&Slot)];

    fn good() -> Settled {
        Settled { outcome: Ok(()), value: Some(Arc::new(Kept::bytes(Arc::new(vec![7]), 0))), timing: None }
    }

    fn happen(then: Vec<Then>) {
        then.into_iter().for_each(Then::happen);
    }

    /// A slot with something to be done at the end of its task, and how often that was done.
    fn slot() -> (Slot, Arc<AtomicUsize>) {
        let (slot, calls) = (Slot::default(), Arc::<AtomicUsize>::default());
        slot.then(count(&calls));
        (slot, calls)
    }

    fn count(calls: &Arc<AtomicUsize>) -> Then {
        let calls = Arc::clone(calls);
        Then::Call(Box::new(move || _ = calls.fetch_add(1, Ordering::Relaxed)))
    }

    #[test]
    fn what_is_to_be_done_at_the_end_is_done_once_in_whatever_order_it_is_told_of_that() {
        let (early, settle) = (|slot: &Slot| slot.settle_early(good()), |slot: &Slot| happen(slot.settle(good())));
        let give_up = |slot: &Slot| happen(slot.give_up(|| over(None, "a task")));
        let orders: [(&str, Steps<'_>, bool); 7] = [
            ("the usual way", &[&settle], true),
            (
                "the value was got, and the remote is gone",
                &[&early, &Slot::let_go, &Slot::forget_callbacks, &settle],
                true,
            ),
            ("it was detached", &[&early, &Slot::detach, &Slot::forget_callbacks, &settle], true),
            ("the pool is over before the loop hears of it", &[&early, &give_up, &settle], true),
            ("the same, with the value gone", &[&early, &Slot::let_go, &give_up, &settle], true),
            ("the pool is over before the task is through", &[&give_up, &early, &settle], false),
            ("the pool is over", &[&give_up, &give_up], false),
        ];
        for (what, steps, is_good) in orders {
            let (slot, calls) = slot();
            steps.iter().for_each(|step| step(&slot));
            assert_eq!((calls.load(Ordering::Relaxed), slot.has_failed()), (1, !is_good), "{what}");
        }
        // Who comes when the task has run is called at once, and those before him by the loop.
        let (slot, calls) = slot();
        slot.settle_early(good());
        slot.then(count(&calls));
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        settle(&slot);
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn nothing_is_done_at_the_end_of_what_nobody_wants() {
        let (slot, calls) = slot();
        slot.forget_callbacks();
        happen(slot.settle(good()));
        assert_eq!(calls.load(Ordering::Relaxed), 0);
    }
}
