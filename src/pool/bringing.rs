//! Values on their way to whoever waits for them on this rank, and what is to be done when tasks come to their end.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

use super::desk::over;
use super::server::Absent;
use super::slot::{Slot, Then};
use crate::error::{Error, Place};
use crate::master::tasks::TaskId;
use crate::worker::kept::Kept;

#[derive(Default)]
pub(super) struct Bringing {
    expected: BTreeMap<TaskId, Expected>,
    /// Where the user's functions are called that are to be called when tasks end: they may take long.
    callbacks: Option<Callbacks>,
}

/// A value that somebody waits for.
pub(super) struct Expected {
    pub slot: Arc<Slot>,
    pub from: usize,
    pub name: Cow<'static, str>,
}

struct Callbacks {
    sender: Sender<Then>,
    thread: JoinHandle<()>,
}

impl Bringing {
    /// Somebody waits for this value.
    pub fn expect(&mut self, value: TaskId, expected: Expected) {
        self.expected.insert(value, expected);
    }

    /// A value has arrived, or it turned out that there is none. Whether somebody has waited for it.
    pub fn arrived(&mut self, value: TaskId, kept: &Result<Arc<Kept>, Absent>, places: &[Place]) -> bool {
        let Some(Expected { slot, from, name }) = self.expected.remove(&value) else { return false };
        self.follow(slot.bring(kept.clone().map_err(|absent| absent.into_error(&name, &places[from]))));
        true
    }

    /// It will not come.
    pub fn forget(&mut self, value: TaskId) {
        self.expected.remove(&value);
    }

    /// A rank is lost: the values that were to come from there.
    pub fn missed(&mut self, lost: usize) -> Vec<TaskId> {
        let missed = self.expected.iter().filter(|(_, expected)| expected.from == lost);
        let missed: Vec<TaskId> = missed.map(|(value, _)| *value).collect();
        missed.iter().for_each(|value| self.forget(*value));
        missed
    }

    /// Nobody waits for a value that will not come.
    pub fn give_up(&mut self, error: Option<&Error>) {
        for Expected { slot, name, .. } in std::mem::take(&mut self.expected).into_values() {
            self.follow(slot.bring(Err(over(error, &name))));
        }
    }

    /// Does what is to be done when tasks have come to their end.
    pub fn follow(&mut self, then: Vec<Then>) {
        for then in then {
            if !matches!(then, Then::Call(_)) {
                then.happen();
                continue;
            }
            if self.callbacks.is_none() {
                let (sender, receiver) = channel::<Then>();
                let thread = thread::Builder::new().name("rankfold-callbacks".into());
                let thread = thread.spawn(move || receiver.into_iter().for_each(Then::happen));
                self.callbacks = thread.ok().map(|thread| Callbacks { sender, thread });
            }
            match &self.callbacks {
                Some(callbacks) => drop(callbacks.sender.send(then)),
                // Without a thread it happens here, if it may.
                None => then.happen(),
            }
        }
    }
}

impl Drop for Bringing {
    fn drop(&mut self) {
        if let Some(Callbacks { sender, thread }) = self.callbacks.take() {
            drop(sender);
            // Its panics are caught and told.
            let _ = thread.join();
        }
    }
}
