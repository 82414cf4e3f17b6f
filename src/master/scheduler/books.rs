//! Whether the scheduler's books balance: everything that it keeps twice, or that follows from something else, is worked
//! out again the long way. For the simulator, after every event.

use super::{Phase, Scheduler, Standing};
use crate::extent::Extent;
use crate::master::coverage::Coverage;

impl Scheduler {
    /// Whether some leaf may have been handed out twice.
    pub fn has_doubted(&self) -> bool {
        self.overlaps
    }

    /// What is done.
    pub fn covered(&self) -> &Coverage {
        &self.covered
    }

    /// What is wrong, if something is.
    pub fn check(&self) -> Result<(), String> {
        self.check_indices()?;
        self.check_credit()?;
        match self.phase {
            Phase::Running | Phase::Finished => self.check_leaves(),
            Phase::Stopping { .. } | Phase::Stopped => Ok(()),
        }
    }

    /// Every leaf is done, or waits to be handed out, or is held by a worker that is relied on: one of the three.
    fn check_leaves(&self) -> Result<(), String> {
        let leaves = self.config.leaves as usize;
        let (mut free, mut held) = (vec![0u32; leaves], vec![0u32; leaves]);
        for range in self.regions.all() {
            free[range.start as usize..range.end as usize].iter_mut().for_each(|count| *count += 1);
        }
        for (batch, worker) in self.ledger.open() {
            if self.workers[worker].is_relied_on() {
                held[batch.start as usize..batch.end() as usize].iter_mut().for_each(|count| *count += 1);
            }
        }
        for leaf in 0..leaves {
            let extent = Extent::new(leaf as u64, 1);
            let (done, free, held) = (self.covered.contains(extent), free[leaf], held[leaf]);
            if self.quarantine.keeps(extent) {
                if done || free > 0 || held > 0 {
                    return Err(format!("leaf {leaf} is kept, waits {free} times, is held {held} times, done: {done}"));
                }
                continue;
            }
            if free > 1 || (done && free > 0) || (free > 0 && held > 0) {
                return Err(format!("leaf {leaf} waits {free} times, is held {held} times, done: {done}"));
            }
            if !done && free == 0 && held == 0 {
                return Err(format!("leaf {leaf} is nowhere"));
            }
            if held > 1 && !self.overlaps {
                return Err(format!("leaf {leaf} is held {held} times"));
            }
        }
        let left = free.iter().map(|count| u64::from(*count)).sum::<u64>();
        same("leaves that nobody holds", self.regions.left(), left)
    }

    /// What is done was done by somebody, and by nobody who is lost.
    fn check_credit(&self) -> Result<(), String> {
        let mut credit = 0;
        for (number, worker) in self.workers.iter().enumerate() {
            if worker.standing == Standing::Lost && worker.credit.leaves() > 0 {
                return Err(format!("worker {number} is lost, and still has credit for {:?}", worker.credit));
            }
            if let Some(run) = worker.credit.runs().find(|run| !self.covered.contains(*run)) {
                return Err(format!("worker {number} has credit for {run:?}, which is not done"));
            }
            credit += worker.credit.leaves();
        }
        same("leaves with credit", credit, self.covered.leaves())
    }

    fn check_indices(&self) -> Result<(), String> {
        let count = |is: &dyn Fn(&super::Worker) -> bool| self.workers.iter().filter(|worker| is(worker)).count();
        same("workers that are missing", self.missing, count(&|worker| worker.standing == Standing::Absent))?;
        same("workers that are silent", self.silent, count(&|worker| worker.standing == Standing::Silent))?;
        same("recalls", self.recalls, count(&|worker| worker.recalled.is_some()))?;
        same("idle workers", self.idle, count(&|worker| worker.idle))?;
        same("hungry workers", self.hungry.len(), count(&|worker| worker.hunger.is_some()))?;
        same("queues", self.queues.len(), count(&|worker| worker.queue.is_some()))?;
        same("running batches", self.running.len(), count(&|worker| worker.run.is_some()))?;
        for (number, worker) in self.workers.iter().enumerate() {
            let batches = self.ledger.batches(number);
            let most = 2 * worker.threads as usize + super::AHEAD;
            if batches.len() > most {
                return Err(format!("worker {number} holds {} batches, more than {most}", batches.len()));
            }
            if worker.idle != (worker.is_relied_on() && batches.is_empty()) {
                return Err(format!("worker {number} is wrongly counted as idle or not"));
            }
            if worker.recalled.is_some_and(|batch| !batches.contains(&batch)) {
                return Err(format!("worker {number} is asked for {:?}, which it does not hold", worker.recalled));
            }
        }
        Ok(())
    }
}

fn same<T: Copy + PartialEq + std::fmt::Display>(what: &str, kept: T, counted: T) -> Result<(), String> {
    if kept == counted { Ok(()) } else { Err(format!("{what}: {kept} in the books, {counted} counted")) }
}
