//! The one loop that joins the pure cores to the transport, the computing threads and the clock.
//!
//! Every rank runs it for the scheduling part of a call, on the thread that may use the transport. Rank 0 has a
//! scheduler and an agent; the others have an agent. The loop takes what has arrived, hands it to the cores, carries out
//! their actions, and waits a little when there was nothing. It ends when the master says so, on every rank: with
//! `Finish` when all leaves are done, with `Stop` when the call has failed.

mod journaling;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rayon::Scope;

use crate::error::{Error, ErrorKind};
use crate::extent::{Extent, Leaves};
use crate::interrupt::Deadline;
use crate::journal::Entry;
use crate::master::scheduler::{self, Scheduler};
use crate::rank::Rank;
use crate::report::Lengths;
use crate::time::Time;
use crate::transport::wait::{Mood, Waiter, sharpen_timer};
use crate::wire::{Message, Signature, ToMaster, ToWorker};
use crate::worker::agent::{self, Agent, Span};
use crate::worker::caught::catch;
use crate::worker::compute::{Computed, Signals, Work};
use journaling::Journaling;

/// A call as one rank enters it.
pub(crate) struct Plan<'c> {
    pub call: &'c str,
    /// What the costs of this call are known by: those of another one with the same functions are a good guess.
    pub kind: String,
    /// What this rank believes the call to be, or why it cannot take part.
    pub signature: Result<Signature, Error>,
    pub leaves: Leaves,
    /// On rank 0.
    pub scheduler: Option<Scheduler>,
    /// On rank 0: what earlier jobs have left of a call with a journal, and when this one has to end.
    pub entry: Option<&'c Entry>,
    pub deadline: Option<Deadline>,
    /// The result will not be recorded as a whole: what is done has to be, to the last.
    pub stays: bool,
}

/// What the scheduling part of a call came to on this rank.
#[derive(Debug, Default)]
pub(crate) struct Driven {
    pub busy: f64,
    pub batches: u64,
    pub leaves: u64,
    /// On rank 0: how long batches were.
    pub lengths: Lengths,
}

/// Runs the scheduling part of a call. Collective.
///
/// # Errors
///
/// The error that ended the call, the same on every rank.
pub(crate) fn drive(rank: &mut Rank, plan: Plan<'_>, work: &dyn Work) -> Result<Driven, Error> {
    sharpen_timer();
    let cancelled = AtomicBool::new(false);
    let pool = Arc::clone(&rank.pool);
    let patience = rank.patience;
    let result = thread::scope(|threads| {
        pool.in_place_scope(|scope| {
            let mut driver = Driver {
                rank,
                plan,
                work,
                scope,
                threads,
                journaling: None,
                cancelled: &cancelled,
                agent: Agent::new(patience),
                claims: BTreeMap::new(),
                ended: channel(),
                own: VecDeque::new(),
                waiter: Waiter::default(),
                begun: Instant::now(),
                driven: Driven::default(),
            };
            driver.run().inspect_err(|_| driver.record_the_rest())
        })
    });
    rank.progress.end();
    result
}

struct Driver<'d, 'scope, 'env> {
    rank: &'d mut Rank,
    plan: Plan<'d>,
    work: &'scope dyn Work,
    scope: &'d Scope<'scope>,
    /// For what waits for files, which must not take a thread of the pool.
    threads: &'scope thread::Scope<'scope, 'env>,
    /// In calls with a journal, once rank 0 has said what there is.
    journaling: Option<Journaling>,
    cancelled: &'scope AtomicBool,
    agent: Agent,
    /// Batches that the pool has.
    claims: BTreeMap<Extent, Arc<Claim>>,
    ended: (Sender<Ended>, Receiver<Ended>),
    /// Messages of rank 0 to itself.
    own: VecDeque<Message>,
    waiter: Waiter,
    begun: Instant,
    driven: Driven,
}

impl Drop for Driver<'_, '_, '_> {
    /// The scope waits for batches that still run. When the driver goes, by an error or a panic, nobody wants them; and
    /// where the transport has failed, the other ranks must hear of it before that wait.
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
        self.rank.give_up_if_broken();
    }
}

/// A batch that was handed to the pool.
#[derive(Debug, Default)]
struct Claim {
    /// Set by whoever is first: the thread that starts it, or the withdrawal.
    taken: AtomicBool,
    /// Set to let it end at the next leaf.
    cut: AtomicBool,
}

/// A batch that a thread of the pool is through with.
struct Ended {
    batch: Extent,
    start: Instant,
    end: Instant,
    result: Result<Computed, Error>,
}

impl Driver<'_, '_, '_> {
    fn run(&mut self) -> Result<Driven, Error> {
        self.answer(ToMaster::Hello(self.plan.signature.clone()))?;
        loop {
            let mut idle = true;
            while let Some((from, message)) = self.next_message()? {
                // A beat is no reason to expect more soon, and to stay awake for it.
                idle &= message.is_beat();
                self.on_message(from, message)?;
            }
            while let Ok(ended) = self.ended.1.try_recv() {
                idle = false;
                self.on_ended(ended);
            }
            self.look_for_leavers()?;
            self.keep_journal()?;
            self.tick();
            match self.act()? {
                Some(Ending::Finished) => {
                    self.outwait_the_superfluous()?;
                    if self.plan.stays {
                        self.record_what_is_done();
                    }
                    self.put_the_pen_down()?;
                    return Ok(std::mem::take(&mut self.driven));
                }
                Some(Ending::Failed(error)) => return Err(error.on_rank(self.rank.rank())),
                None if idle && self.own.is_empty() => self.wait(),
                None => self.waiter.reset(),
            }
        }
    }

    /// What still runs here was done by others, and is cancelled; but a mapper cannot be interrupted, and its borrows
    /// outlive it here. The other ranks must not take this one for dead meanwhile.
    fn outwait_the_superfluous(&mut self) -> Result<(), Error> {
        self.rank.begin_vigil();
        self.claims.retain(|_, claim| claim.taken.swap(true, Ordering::AcqRel));
        while !self.claims.is_empty() {
            if let Ok(ended) = self.ended.1.recv_timeout(self.rank.patience.interval() / 2) {
                self.claims.remove(&ended.batch);
            }
            self.rank.stay_in_touch()?;
        }
        Ok(())
    }

    fn next_message(&mut self) -> Result<Option<(usize, Message)>, Error> {
        match self.own.pop_front() {
            Some(message) => Ok(Some((self.rank.rank(), message))),
            None => self.rank.next_message(),
        }
    }

    fn on_message(&mut self, from: usize, message: Message) -> Result<(), Error> {
        match message {
            Message::ToWorker(ToWorker::Begin { leaves }) => self.work.begin(leaves),
            Message::ToWorker(ToWorker::Resume(notes)) => self.resume(notes),
            Message::ToMaster(ToMaster::Interrupted { reason, grace }) => self.drain(reason, grace),
            Message::ToWorker(message) => self.tell_agent(agent::Event::Message(message)),
            Message::ToMaster(ToMaster::Hello(signature)) => self.on_hello(from, signature)?,
            Message::ToMaster(message) => self.on_answer(from, message)?,
            Message::ToServer(_) | Message::FromServer(_) | Message::Leave | Message::Through | Message::Adrift => {}
            Message::Idle { .. } | Message::TurnOver { .. } => {}
        }
        Ok(())
    }

    /// A worker has entered the call: with the same call in mind, it gets work; else the call is broken.
    fn on_hello(&mut self, worker: usize, theirs: Result<Signature, Error>) -> Result<(), Error> {
        let knows_length = theirs.as_ref().is_ok_and(|signature| signature.len.is_some());
        let trouble = match (&self.plan.signature, theirs) {
            (Err(error), _) => Some(error.clone()),
            (Ok(_), Err(error)) => Some(error),
            (Ok(mine), Ok(theirs)) => mine.difference(&theirs).map(|difference| {
                let (root, other) = (self.rank.place.clone(), self.rank.places[worker].clone());
                ErrorKind::disagreement(self.plan.call, difference, root, other).into()
            }),
        };
        match (trouble, self.plan.entry) {
            (Some(error), _) => self.schedule(scheduler::Event::Broken { error }),
            (None, entry) => {
                if !knows_length {
                    self.command(worker, ToWorker::Begin { leaves: self.plan.leaves })?;
                }
                if let Some(entry) = entry {
                    // It is ready when it has loaded its part of what there is.
                    return self.command(worker, ToWorker::Resume(entry.notes_for(worker)));
                }
            }
        }
        self.schedule(scheduler::Event::Ready { worker });
        Ok(())
    }

    fn on_answer(&mut self, worker: usize, message: ToMaster) -> Result<(), Error> {
        let start = Instant::now();
        let is_done = matches!(message, ToMaster::Done { .. });
        if let Some(event) = scheduler::Event::of_answer(worker, message) {
            self.schedule(event);
        }
        if is_done {
            self.act_as_master()?;
            self.schedule(scheduler::Event::Served { seconds: start.elapsed().as_secs_f64() });
        }
        Ok(())
    }

    fn on_ended(&mut self, ended: Ended) {
        let Ended { batch, start, end, result } = ended;
        self.claims.remove(&batch);
        let event = match result {
            Ok(Computed { busy, rest }) => {
                self.driven.busy += busy;
                self.driven.batches += 1;
                self.driven.leaves += batch.len - rest.iter().map(|part| part.len).sum::<u64>();
                let [start, end] = [start, end].map(|moment| self.time_of(moment));
                agent::Event::Computed { batch, rest, span: Span { start, end, busy } }
            }
            Err(error) => agent::Event::Failed { batch, error },
        };
        self.tell_agent(event);
    }

    fn tell_agent(&mut self, event: agent::Event) {
        let now = self.time_of(Instant::now());
        self.agent.handle(now, event);
    }

    /// A rank that left the program before it made this call will never make it.
    fn look_for_leavers(&mut self) -> Result<(), Error> {
        let Some(error) = self.rank.one_that_left(self.plan.call) else { return Ok(()) };
        if self.plan.scheduler.is_none() {
            // Rank 0 has left; it learns that it is missed, and says so.
            return Err(error.on_rank(self.rank.rank()));
        }
        self.schedule(scheduler::Event::Broken { error });
        Ok(())
    }

    fn tick(&mut self) {
        let now = self.time_of(Instant::now());
        if self.agent.next_deadline().is_some_and(|deadline| now >= deadline) {
            self.agent.handle(now, agent::Event::Tick);
        }
        let Some(scheduler) = &mut self.plan.scheduler else { return };
        if scheduler.next_deadline().is_some_and(|deadline| now >= deadline) {
            scheduler.handle(now, scheduler::Event::Tick);
        }
        let done = self.plan.leaves.items_of(Extent { start: 0, len: scheduler.done() }).end;
        self.rank.progress.update(done, || scheduler.missing().collect());
    }

    /// Carries out what the cores want, until they want nothing more.
    fn act(&mut self) -> Result<Option<Ending>, Error> {
        self.act_as_master()?;
        while let Some(action) = self.agent.poll_action() {
            match action {
                agent::Action::Compute { batch, parcel } => self.compute(batch, parcel),
                agent::Action::Withdraw { batch } => self.withdraw(batch),
                agent::Action::Cancel => {
                    self.cancelled.store(true, Ordering::Relaxed);
                    self.absolve();
                    self.record_what_is_done();
                }
                agent::Action::Send(message) => self.answer(message)?,
                agent::Action::Finish { lost } => {
                    self.rank.lost = lost.into_iter().collect();
                    return Ok(Some(Ending::Finished));
                }
                agent::Action::Stop { error, lost } => {
                    self.rank.lost = lost.into_iter().collect();
                    return Ok(Some(Ending::Failed(error)));
                }
                agent::Action::GiveUp { silence } => return Err(self.rank.silent(0, silence)),
            }
        }
        Ok(None)
    }

    fn act_as_master(&mut self) -> Result<(), Error> {
        while let Some(action) = self.plan.scheduler.as_mut().and_then(Scheduler::poll_action) {
            match action {
                scheduler::Action::Assign { worker, batch } => self.assign(worker, batch)?,
                scheduler::Action::Recall { worker, batch } => self.command(worker, ToWorker::Recall { batch })?,
                scheduler::Action::Finish { lost } => {
                    if let Some(scheduler) = &self.plan.scheduler {
                        self.driven.lengths = scheduler.lengths().clone();
                        self.rank.remember(&self.plan.kind, scheduler.learned());
                    }
                    self.command_all(&ToWorker::Finish { lost })?;
                }
                scheduler::Action::Lose { worker, silence } => self.lose(worker, silence),
                scheduler::Action::Beat => self.command_all(&ToWorker::Beat)?,
                scheduler::Action::Stop { error } => self.command_all(&ToWorker::Stop(error))?,
                scheduler::Action::Release { lost } => self.command_all(&ToWorker::Release { lost })?,
                scheduler::Action::Abandon { error, busy } => self.abandon(&error, &busy),
            }
        }
        Ok(())
    }

    fn assign(&mut self, worker: usize, batch: Extent) -> Result<(), Error> {
        let parcel = if worker == self.rank.rank() { Ok(Vec::new()) } else { self.work.pack(batch) };
        match parcel {
            Ok(parcel) => self.command(worker, ToWorker::Assign { batch, parcel }),
            Err(error) => {
                self.schedule(scheduler::Event::Broken { error });
                Ok(())
            }
        }
    }

    /// Takes a batch back from the threads, or lets it end soon if one has started it.
    fn withdraw(&mut self, batch: Extent) {
        let Some(claim) = self.claims.get(&batch) else { return };
        if claim.taken.swap(true, Ordering::AcqRel) {
            claim.cut.store(true, Ordering::Relaxed);
        } else {
            self.claims.remove(&batch);
            self.tell_agent(agent::Event::Withdrawn { batch });
        }
    }

    /// Hands a batch to the threads of the pool, which start batches in this order.
    fn compute(&mut self, batch: Extent, parcel: Vec<u8>) {
        let claim = Arc::new(Claim::default());
        self.claims.insert(batch, Arc::clone(&claim));
        let (work, cancelled, ended) = (self.work, self.cancelled, self.ended.0.clone());
        let (call, place) = (self.plan.call.to_owned(), self.rank.place.clone());
        let marks = self.journaling.as_ref().and_then(Journaling::marks);
        self.scope.spawn(move |_| {
            if claim.taken.swap(true, Ordering::AcqRel) {
                return;
            }
            marks.iter().for_each(|marks| marks.begin(batch));
            let start = Instant::now();
            let signals = Signals { cancelled, cut: &claim.cut };
            let result = catch(|| work.compute(batch, &parcel, signals)).unwrap_or_else(|caught| {
                let message = format!("{} at {}{}", caught.message, caught.location, caught.backtrace);
                Err(ErrorKind::Internal { call, place, message }.into())
            });
            marks.iter().for_each(|marks| marks.end(batch));
            // Nobody listens any more only when the call has failed.
            let _ = ended.send(Ended { batch, start, end: Instant::now(), result });
        });
    }

    /// From this rank's agent to the master.
    fn answer(&mut self, message: ToMaster) -> Result<(), Error> {
        self.deliver(0, Message::ToMaster(message))
    }

    /// From the master to a worker's agent.
    fn command(&mut self, worker: usize, message: ToWorker) -> Result<(), Error> {
        self.deliver(worker, Message::ToWorker(message))
    }

    fn command_all(&mut self, message: &ToWorker) -> Result<(), Error> {
        (0..self.rank.size()).try_for_each(|worker| self.command(worker, message.clone()))
    }

    fn deliver(&mut self, to: usize, message: Message) -> Result<(), Error> {
        if to == self.rank.rank() {
            self.own.push_back(message);
            return Ok(());
        }
        self.rank.send(to, message)
    }

    fn schedule(&mut self, event: scheduler::Event) {
        let now = self.time_of(Instant::now());
        if let Some(scheduler) = &mut self.plan.scheduler {
            scheduler.handle(now, event);
        }
    }

    /// A rank is silent for too long: the call goes on without it.
    fn lose(&mut self, worker: usize, silence: Duration) {
        self.rank.progress.end();
        eprintln!(
            "rankfold: warning: {} has not answered for {} s; the others compute {} again what it had done, and go on \
             without it (RANKFOLD_PATIENCE=seconds bears longer silence)",
            self.rank.places[worker],
            silence.as_secs(),
            self.plan.call
        );
    }

    /// Some mapper goes on although the call has failed, and cannot be interrupted: the program ends here.
    fn abandon(&mut self, error: &Error, busy: &[usize]) -> ! {
        self.rank.progress.end();
        let places: Vec<String> = busy.iter().take(8).map(|rank| self.rank.places[*rank].to_string()).collect();
        let grace = scheduler::GRACE.as_secs();
        eprintln!("rankfold: error: {error}");
        eprintln!(
            "rankfold: {} still compute {grace} s later and cannot be interrupted, so the program ends here",
            places.join(", ")
        );
        error.leave_word();
        self.record_the_rest();
        self.rank.journals.close(false);
        self.rank.transport.abort(i32::from(error.code()))
    }

    fn wait(&mut self) {
        let mood = match (self.claims.is_empty(), self.plan.scheduler.is_some()) {
            (true, _) => Mood::without_work(&self.rank.transport),
            (false, true) => Mood::Serving,
            (false, false) => Mood::Busy,
        };
        let mut late = None;
        self.waiter.wait(mood, |sleep| late = self.ended.1.recv_timeout(sleep).ok());
        if let Some(ended) = late {
            self.waiter.reset();
            self.on_ended(ended);
        }
    }

    fn time_of(&self, moment: Instant) -> Time {
        Time(moment.saturating_duration_since(self.begun).as_nanos() as u64)
    }
}

/// How the scheduling part of a call ends on a rank.
enum Ending {
    Finished,
    Failed(Error),
}
