//! What a rank does for the journal while a call runs: load, record, and see to it that the run ends in time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Driver, Plan};
use crate::error::{Error, ErrorKind};
use crate::interrupt::{Deadline, Interrupts};
use crate::journal::{Costs, Marks, News, Notes, Recorder, least_interval, storage_of};
use crate::master::scheduler;
use crate::rank::Rank;
use crate::wire::ToMaster;
use crate::worker::precautions::{Guard, Noting};

/// Kept back of the time of a job, beside what the slowest leaf takes: for the last snapshots and for the way out.
const RESERVE: Duration = Duration::from_secs(5);
/// The last snapshot of a call that fails is waited for so long at most.
const LAST_SNAPSHOT: Duration = Duration::from_secs(60);
/// Between two looks at the clock, the launcher and the lock.
const LOOK: Duration = Duration::from_millis(200);

/// The part of a driver that only calls with a journal have.
pub(super) struct Journaling {
    recorder: Recorder,
    interrupts: &'static Interrupts,
    next_look: Instant,
    /// The master knows that this rank was asked to end.
    told: bool,
    /// What the last snapshot took.
    took: Duration,
    /// After a crash: what is computed here is noted on the disk.
    marks: Option<Arc<Marks>>,
}

impl Journaling {
    pub fn marks(&self) -> Option<Arc<Marks>> {
        self.marks.clone()
    }
}

/// On rank 0: what calls have cost, this one included.
fn costs_so_far(plan: &Plan<'_>, rank: &Rank) -> Option<Costs> {
    let mut costs = rank.costs.clone();
    costs.insert(plan.kind.clone(), plan.scheduler.as_ref()?.learned());
    Some(costs)
}

impl Drop for Journaling {
    fn drop(&mut self) {
        self.interrupts.call_ends();
    }
}

impl Driver<'_, '_, '_> {
    /// Rank 0 has said what there is: starts to load it.
    pub(super) fn resume(&mut self, notes: Notes) {
        let (rank, storage) = (&self.rank, storage_of(&notes));
        let precautions = &notes.precautions;
        let marks = precautions.marks.then(|| Arc::new(Marks::new(&storage, &notes, rank.rank())));
        if !(precautions.watched.is_empty() && precautions.left_out.is_empty()) {
            let noting = marks.clone().map(|marks| Box::new(move |leaf, nth| marks.item(leaf, nth)) as Noting);
            self.work.guard(Guard::new(precautions, noting));
        }
        let least = least_interval(rank.snapshots, rank.size());
        let recorder = Recorder::start(self.threads, self.work, notes, self.plan.call, &rank.place, least);
        let (interrupts, now) = (Interrupts::watch(), Instant::now());
        interrupts.call_begins();
        let (told, took) = (false, Duration::ZERO);
        self.journaling = Some(Journaling { recorder, interrupts, next_look: now, told, took, marks });
    }

    /// Records what is new, if it is time for that, and looks whether the run has to end.
    pub(super) fn keep_journal(&mut self) -> Result<(), Error> {
        let Some(journaling) = &mut self.journaling else { return Ok(()) };
        if let Some(news) = journaling.recorder.news(Duration::ZERO) {
            self.on_news(news)?;
        }
        let Some(journaling) = &mut self.journaling else { return Ok(()) };
        let costs = || costs_so_far(&self.plan, self.rank);
        journaling.recorder.tick(self.driven.batches, costs);
        let now = Instant::now();
        if now < journaling.next_look {
            return Ok(());
        }
        journaling.next_look = now + LOOK;
        if journaling.interrupts.is_orphan() {
            return Err(self.orphaned());
        }
        if let Some((name, grace)) = journaling.interrupts.signal().filter(|_| !journaling.told) {
            journaling.told = true;
            let reason = format!("{} got {name}", self.rank.place);
            self.absolve();
            self.answer(ToMaster::Interrupted { reason, grace })?;
        }
        self.look_at_the_clock(now);
        Ok(())
    }

    /// Whatever ends this process from now on, it is not what is computed here.
    pub(super) fn absolve(&self) {
        if let Some(marks) = self.journaling.as_ref().and_then(Journaling::marks) {
            marks.absolve();
        }
    }

    /// On rank 0: ends the call early.
    pub(super) fn drain(&mut self, reason: String, grace: Duration) {
        let error = ErrorKind::Interrupted { call: self.plan.call.to_owned(), reason }.into();
        let by = self.time_of(Instant::now()).after(grace);
        self.schedule(scheduler::Event::Drain { error, by });
    }

    /// The call is over for this rank: a last snapshot, while others are still waited for.
    pub(super) fn record_what_is_done(&mut self) {
        if let Some(journaling) = &mut self.journaling {
            let costs = || costs_so_far(&self.plan, self.rank);
            journaling.recorder.last(self.driven.batches, costs);
        }
    }

    /// The last snapshot of a call that ends without its result. Whatever fails now was told before.
    pub(super) fn record_the_rest(&mut self) {
        let (begun, done) = (Instant::now(), self.driven.batches);
        let Some(journaling) = &mut self.journaling else { return };
        let costs = || costs_so_far(&self.plan, self.rank);
        journaling.recorder.last(done, costs);
        while !journaling.recorder.is_idle() && begun.elapsed() < LAST_SNAPSHOT {
            if let Some(News::NotWritten(problem)) = journaling.recorder.news(LOOK) {
                eprintln!("rankfold: warning: {}: the last snapshot is not written: {problem}", self.rank.place);
            }
        }
    }

    /// The partials are wanted for the reduction: what is being recorded is waited for.
    pub(super) fn put_the_pen_down(&mut self) -> Result<(), Error> {
        while let Some(journaling) = self.journaling.as_mut().filter(|journaling| !journaling.recorder.is_idle()) {
            if let Some(news) = journaling.recorder.news(self.rank.patience.interval() / 2) {
                self.on_news(news)?;
            }
            self.rank.stay_in_touch()?;
        }
        self.journaling = None;
        Ok(())
    }

    fn on_news(&mut self, news: News) -> Result<(), Error> {
        let Some(journaling) = &mut self.journaling else { return Ok(()) };
        match news {
            News::Loaded => self.answer(ToMaster::Resumed(Ok(()))),
            News::Broken(error) => self.answer(ToMaster::Resumed(Err(error))),
            News::Written(took) => {
                journaling.took = took;
                Ok(())
            }
            News::NotWritten(problem) => {
                if journaling.recorder.is_first_failure() {
                    self.rank.progress.end();
                    eprintln!(
                        "rankfold: warning: {}: a snapshot is not written: {problem}; the run goes on without it, and \
                         tries again",
                        self.rank.place
                    );
                }
                Ok(())
            }
        }
    }

    /// On rank 0: no leaf is begun that would not end in time, and no other job works on the journal.
    fn look_at_the_clock(&mut self, now: Instant) {
        let (Some(journaling), Some(scheduler)) = (&self.journaling, &self.plan.scheduler) else { return };
        let Some(entry) = &self.plan.entry else { return };
        let has_to_compute = scheduler.done() < self.plan.leaves.count();
        if let Some(Deadline(end)) = self.plan.deadline.filter(|_| has_to_compute) {
            let left = end.saturating_duration_since(now);
            let reserve = (RESERVE + 3 * journaling.took).max(left / 100);
            if left < reserve + Duration::from_secs_f64(scheduler.slow_leaf().min(1e6)) {
                let grace = left.saturating_sub(reserve / 2);
                self.drain(format!("the job's time ends in {} s", left.as_secs()), grace);
                return;
            }
        }
        if self.rank.journals.is_lost(entry.dir()) {
            let (dir, problem) = (entry.dir().display().to_string(), "another job has taken it over".into());
            let remedy =
                "this job was taken for dead, and ends; see whether rank 0 or its file system stood still".into();
            self.schedule(scheduler::Event::Broken { error: ErrorKind::Journal { dir, problem, remedy }.into() });
        }
    }

    /// The launcher is gone, and with it everybody who could end this process.
    fn orphaned(&mut self) -> Error {
        self.absolve();
        let error = Error::from(ErrorKind::Mpi {
            function: "the launcher".into(),
            place: self.rank.place.clone(),
            message: "it is gone, and this rank ends".into(),
        });
        self.rank.broken.get_or_insert_with(|| error.clone());
        error
    }
}
