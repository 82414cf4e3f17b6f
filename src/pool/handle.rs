//! A handle on a task of whatever type: what remotes, actors and graphs have in common.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::desk::{Desk, LATER, Note, over};
use super::slot::{Slot, Then};
use crate::error::{Place, Result};
use crate::master::tasks::TaskId;
use crate::worker::kept::Kept;

/// Dropping it says that nobody wants the value.
pub(crate) struct Handle {
    pub task: TaskId,
    pub slot: Arc<Slot>,
    pub desk: Arc<Desk>,
    /// What errors call it.
    pub name: Cow<'static, str>,
    pub places: Arc<[Place]>,
    /// The task inside of which it was submitted.
    pub within: Option<TaskId>,
}

impl Handle {
    /// Has the value brought here as soon as there is one; it is nowhere else then if it is `taken`. Asks once.
    pub fn ask(&self, taken: bool) {
        // Before the end of the task there is nothing to bring.
        let leisure = if self.slot.is_settled() { Duration::ZERO } else { LATER };
        if self.slot.wants()
            && let Err(why) = self.desk.post_within(leisure, Note::Want { task: self.task, taken })
        {
            self.slot.bring(Err(over(why.as_ref(), &self.name))).into_iter().for_each(Then::happen);
        }
    }

    /// Waits for the value.
    pub fn bring(&self, taken: bool) -> Result<Arc<Kept>> {
        self.desk.help(self.task, &self.slot);
        self.ask(taken);
        let _watch = self.slot.watch();
        self.desk.wait(self.within, None, || self.slot.value()).expect("without a deadline it waits for an end")
    }

    /// Waits for the end of the task.
    pub fn wait(&self) -> Result<()> {
        self.desk.help(self.task, &self.slot);
        let _watch = self.slot.watch();
        self.desk.wait(self.within, None, || self.slot.outcome()).expect("without a deadline it waits for an end")
    }

    pub fn cancel(&self) {
        // Where the pool is over, so is the task.
        let _ = self.desk.post(Note::Cancel(self.task));
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.slot.forget_callbacks();
        let _ = self.desk.post_within(LATER, Note::Release(self.task));
    }
}
