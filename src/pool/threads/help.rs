//! The program's thread runs a quick task itself for which it waits, and which nobody has taken yet: to wake another thread
//! for it, and to be woken at its end, would take many times as long as the task.
//!
//! It takes the place of one of this rank's threads meanwhile. Its order stays on the desk, with the word that it has
//! begun, so that rank 0's core hears of it in its turn, as of any task that runs there.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Absent, Ended, Job, Runs, Threads, Told, Work, is_in_a_task};
use crate::lock::lock;
use crate::master::tasks::TaskId;
use crate::pool::desk::{Claim, SOON, Timing};
use crate::pool::slot::{Settled, Slot};
use crate::worker::kept::Kept;
use crate::worker::runner::Made;

thread_local! {
    /// This thread runs the program.
    static IS_PROGRAM: Cell<bool> = const { Cell::new(false) };
}

/// This thread runs the program, and may run tasks for which it waits.
pub(in crate::pool) fn this_is_the_program() {
    IS_PROGRAM.set(true);
}

/// Whether this thread may run tasks for which it waits: others may have small stacks, or be in the middle of something of
/// rayon's, and a task gives its place away.
pub(in crate::pool) fn may_help() -> bool {
    IS_PROGRAM.get() && !is_in_a_task() && !std::thread::panicking()
}

pub(super) fn is_the_program() -> bool {
    IS_PROGRAM.get()
}

impl Threads {
    /// Runs a task on this thread, which waits for it, if it is a quick one that nobody has taken. Its slot is settled
    /// then, unless the task has failed or its value is large: rank 0's loop does that.
    pub(in crate::pool) fn help(self: &Arc<Self>, task: TaskId, slot: &Slot) {
        if slot.is_settled() {
            return;
        }
        let mut runs = lock(&self.runs);
        if runs.active >= self.pool.current_num_threads() {
            return;
        }
        let Some(Claim { code, arguments, queued }) = self.desk.claim(task) else { return };
        let entry = Absent::or_entry(code);
        let (values, inputs, actor, came) = (Vec::new(), Vec::new(), None, Instant::now());
        let work = Work { entry, arguments, values, inputs, actor, timeout: None, came };
        let job = Job { task, depth: 0, actor: None, work };
        runs.active += 1;
        runs.helping += 1;
        let (number, is_to_stop) = runs.begin(&job);
        drop(runs);
        let ended = self.run(job, number, is_to_stop);
        let usage = &ended.end.usage;
        self.desk.quick.learn(code, usage.wall);
        if let Ok(Made::Small(bytes)) = &ended.end.result {
            let value = Some(Arc::new(Kept::bytes(Arc::new(bytes.clone()), 0)));
            let timing = Some(Box::new(Timing::of(usage, queued, self.place.rank)));
            slot.settle_early(Settled { outcome: Ok(()), value, timing });
        }
        let told = lock(&self.runs).end_help(ended);
        // Somebody waits for the word of it if this thread goes on to, or another one.
        let leisure = if slot.is_settled() && !slot.is_watched() { SOON } else { Duration::ZERO };
        self.tell(told, leisure);
        self.start();
    }
}

impl Runs {
    /// The threads that keep others from running tasks. While somebody waits for tasks, those that help are none of them:
    /// what is parallel inside of their tasks runs on rayon's global pool, and may be what waits.
    pub(super) fn busy(&self) -> usize {
        if self.waiting > 0 { self.active - self.helping } else { self.active }
    }

    fn end_help(&mut self, ended: Ended) -> Told {
        self.active -= 1;
        self.helping -= 1;
        self.end(ended)
    }
}
