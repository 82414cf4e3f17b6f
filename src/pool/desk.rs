//! What the user's thread on rank 0, the threads that run tasks, and the thread that may use the transport tell each other.
//!
//! Orders and ends of tasks are notes on the desk, which the transport's thread takes all at once; what became of a task is
//! in its slot, and whoever waits for slots looks at them each time the bell rings.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::code::Code;
use crate::error::Error;
use crate::lock::lock;
use crate::master::tasks::{Order, TaskId};
use crate::worker::caught::{Caught, catch};
use crate::worker::kept::{Kept, discard};
use crate::worker::runner::{Made, Trouble};

use super::shared::Large;

/// Who waits looks so long before it sleeps: most answers are there within it, and a sleep costs as much.
const LOOKING: Duration = Duration::from_micros(50);

/// Something for the transport's thread to do.
#[derive(Debug)]
pub(crate) enum Note {
    Submit {
        task: TaskId,
        order: Order,
        payload: Payload,
    },
    /// A value that rank 0 has, and that everybody is to have.
    Give {
        task: TaskId,
        payload: Payload,
        /// Unless it is small.
        large: Option<Large>,
    },
    Want {
        task: TaskId,
        taken: bool,
    },
    /// Somebody wants to know which ranks have a value.
    Locate {
        task: TaskId,
        answer: Sender<Result<Vec<usize>, Error>>,
    },
    Release(TaskId),
    Detach(TaskId),
    Cancel(TaskId),
    /// The user's closure has returned.
    Close,
    /// A task was run here.
    Ended {
        task: TaskId,
        result: Result<Made, Trouble>,
        seconds: f64,
    },
    /// A value is written as bytes, behind its number, for a rank that has asked for it.
    Written {
        to: usize,
        bytes: Vec<u8>,
    },
}

/// What rank 0 keeps with a task.
#[derive(Debug)]
pub(crate) struct Payload {
    /// What errors call it.
    pub name: Cow<'static, str>,
    pub code: Code,
    pub arguments: Vec<u8>,
    pub slot: Arc<Slot>,
    /// Its value, if that is small.
    pub small: Option<Arc<Vec<u8>>>,
}

/// The notes, and the bell.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    notes: Mutex<Notes>,
    came: Condvar,
    /// Those who wait for slots.
    waiting: Mutex<usize>,
    bell: Condvar,
}

#[derive(Debug, Default)]
struct Notes {
    notes: Vec<Note>,
    next: TaskId,
    /// The transport's thread sleeps.
    sleeps: bool,
    /// Nobody takes notes any more, because of that error if there is one.
    is_over: bool,
    why: Option<Error>,
}

impl Desk {
    /// Puts a note down. After the end nobody reads it, for the reason that is given.
    pub fn post(&self, note: Note) -> Result<(), Option<Error>> {
        let mut notes = lock(&self.notes);
        if notes.is_over {
            let why = notes.why.clone();
            drop(notes);
            // It may hold a value.
            discard(note);
            return Err(why);
        }
        notes.notes.push(note);
        self.wake(notes);
        Ok(())
    }

    /// Puts an order down, and gives the task its number; nobody takes it after the end.
    pub fn submit(&self, order: Order, payload: Payload) -> Result<TaskId, Option<Error>> {
        self.number(|task| Note::Submit { task, order, payload })
    }

    /// Puts down a note about a task or value that has no number yet, and gives it one.
    pub fn number(&self, note: impl FnOnce(TaskId) -> Note) -> Result<TaskId, Option<Error>> {
        let mut notes = lock(&self.notes);
        if notes.is_over {
            return Err(notes.why.clone());
        }
        let task = notes.next;
        notes.next += 1;
        notes.notes.push(note(task));
        self.wake(notes);
        Ok(task)
    }

    fn wake(&self, mut notes: MutexGuard<'_, Notes>) {
        if std::mem::take(&mut notes.sleeps) {
            drop(notes);
            self.came.notify_one();
        }
    }

    /// All notes that are there.
    pub fn take(&self) -> Vec<Note> {
        std::mem::take(&mut lock(&self.notes).notes)
    }

    /// For the transport's thread: sleeps until there is a note, or for this long.
    pub fn sleep(&self, most: Duration) {
        let mut notes = lock(&self.notes);
        if notes.notes.is_empty() {
            notes.sleeps = true;
            let (mut notes, _) = self.came.wait_timeout(notes, most).unwrap_or_else(PoisonError::into_inner);
            notes.sleeps = false;
        }
    }

    /// Nobody takes notes any more. Gives the orders and the values that are left.
    pub fn end(&self, why: Option<&Error>) -> Vec<Note> {
        let mut notes = lock(&self.notes);
        notes.is_over = true;
        notes.why = notes.why.take().or_else(|| why.cloned());
        let left = std::mem::take(&mut notes.notes);
        drop(notes);
        let is_new = |note: &Note| matches!(note, Note::Submit { .. } | Note::Give { .. });
        let (new, old): (Vec<Note>, Vec<Note>) = left.into_iter().partition(is_new);
        old.into_iter().for_each(discard);
        new
    }

    /// Something has changed in slots.
    pub fn ring(&self) {
        let waiting = lock(&self.waiting);
        if *waiting > 0 {
            self.bell.notify_all();
        }
    }

    /// Waits until `look` finds something, or until the deadline.
    pub fn wait<R>(&self, deadline: Option<Instant>, mut look: impl FnMut() -> Option<R>) -> Option<R> {
        let begun = Instant::now();
        while begun.elapsed() < LOOKING {
            if let Some(found) = look() {
                return Some(found);
            }
            std::thread::yield_now();
        }
        let mut waiting = lock(&self.waiting);
        *waiting += 1;
        let found = loop {
            // Looked at while the bell cannot ring, so that no change is missed.
            if let Some(found) = look() {
                break Some(found);
            }
            waiting = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => break None,
                Some(most) => self.bell.wait_timeout(waiting, most).unwrap_or_else(PoisonError::into_inner).0,
                None => self.bell.wait(waiting).unwrap_or_else(PoisonError::into_inner),
            };
        };
        *waiting -= 1;
        found
    }
}

/// What is known of a task where somebody has a handle on it.
#[derive(Debug, Default)]
pub(crate) struct Slot(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    outcome: Option<Result<(), Error>>,
    /// The value, once it is here.
    value: Option<Arc<Kept>>,
    /// Somebody waits for the value, wherever it is.
    is_wanted: bool,
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

impl Slot {
    /// The task has come to its end; a small value has come along. Gives what is to be done then.
    #[must_use]
    pub fn settle(&self, outcome: Result<(), Error>, value: Option<Arc<Kept>>) -> Vec<Then> {
        let mut inner = lock(&self.0);
        if inner.outcome.is_none() {
            inner.outcome = Some(outcome);
            inner.value = value;
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
