//! Rank 0's loop in a pool: notes from the desk and messages from the ranks in, the actions of [`Tasks`] out.

mod broadcasts;
mod vigil;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use broadcasts::Broadcasts;
use vigil::Starved;

use super::TOGETHER;
use super::bringing::{Bringing, Expected};
use super::desk::{Desk, Note, Payload, Timing, over};
use super::rests::Rests;
use super::server::{Obeyed, Server};
use super::slot::{Settled, Then};
use crate::error::{Error, ErrorKind};
use crate::master::scheduler::GRACE;
use crate::master::tasks::{Action, Ending, Event, Source, TaskId, Tasks, owner};
use crate::rank::Rank;
use crate::transport::Channel;
use crate::transport::wait::{Mood, SLEEP_STOCKED, Waiter, sharpen_timer};
use crate::wire::{
    Asked, Assignment, EndedTask, FromServer, Input, InputFrom, Message, Signature, Submission, TaskResult, ToMaster,
    ToServer, ToWorker, Told,
};
use crate::worker::kept::Kept;

/// How often the clock is looked at for tasks that have one.
pub(super) const LOOK_AFTER: Duration = Duration::from_millis(1);

/// While each rank has tasks for so many nanoseconds, none of them is likely to be without before rank 0 has looked twice.
const STOCK_LEAST: u64 = 2 * SLEEP_STOCKED.as_nanos() as u64;

/// So many notes are read before what they ask for begins.
const FIRST: usize = 64;

/// The names of so many tasks are remembered that have taken too long.
const LATE_MOST: usize = 10_000;

pub(super) struct Host<'h> {
    rank: &'h mut Rank,
    desk: Arc<Desk>,
    signature: Signature,
    tasks: Tasks<Payload>,
    server: Server,
    /// Tasks and values on their way out, by rank.
    assigned: BTreeMap<usize, Vec<Assignment>>,
    freed: BTreeMap<usize, Vec<TaskId>>,
    told: BTreeMap<usize, Vec<Told>>,
    /// Values that are on their way here, for somebody who waits for them.
    bringing: Bringing,
    /// Tasks that rest before they are tried again.
    rests: Rests,
    looked: Instant,
    /// Since when actors wait for ranks that have not come yet.
    begun: Option<Instant>,
    /// What tasks are called that have taken too long: some may go on, and have to be named when they are forgotten.
    late: BTreeMap<TaskId, String>,
    broadcasts: Broadcasts,
    starved: Starved,
    /// The ranks that have come.
    entered: BTreeSet<usize>,
    /// Why the pool cannot go on.
    broken: Option<Error>,
    /// The ranks that have stopped since.
    stopped: BTreeSet<usize>,
    /// Everything has run.
    is_over: bool,
    waiter: Waiter,
}

/// Serves the user's closure on rank 0 until everything has run. Collective: the other ranks serve meanwhile.
///
/// # Errors
///
/// The ranks do not agree on what they do, or the transport fails.
pub(super) fn host(rank: &mut Rank, desk: &Arc<Desk>, signature: Signature) -> Result<(), Error> {
    sharpen_timer();
    rank.begin_vigil();
    let server = Server::new(rank, desk);
    let tasks = Tasks::new(&rank.places, &rank.threads, &rank.resources);
    let mut host = Host {
        rank,
        desk: Arc::clone(desk),
        signature,
        tasks,
        server,
        assigned: BTreeMap::new(),
        freed: BTreeMap::new(),
        told: BTreeMap::new(),
        bringing: Bringing::default(),
        rests: Rests::default(),
        looked: Instant::now(),
        begun: Some(Instant::now()),
        late: BTreeMap::new(),
        broadcasts: Broadcasts::default(),
        starved: Starved::default(),
        entered: BTreeSet::new(),
        broken: None,
        stopped: BTreeSet::new(),
        is_over: false,
        waiter: Waiter::default(),
    };
    host.tasks.await_workers();
    host.tasks.handle(Event::Ready { worker: 0 });
    let result = host.run();
    host.let_everybody_go(result.as_ref().err());
    result
}

impl Host<'_> {
    fn run(&mut self) -> Result<(), Error> {
        loop {
            self.server.count(&self.rank.traffic);
            let notes = self.desk.take();
            let mut idle = notes.is_empty();
            self.on_notes(notes)?;
            while let Some((from, message)) = self.rank.next_message()? {
                idle &= message.is_beat();
                self.on_message(from, message)?;
            }
            while let Some(bytes) = self.rank.next_value() {
                idle = false;
                self.on_value(bytes);
            }
            self.look_for_leavers();
            self.look_around()?;
            self.look_after();
            if let Some(error) = self.broken.clone() {
                return self.stop(error);
            }
            self.is_over |= self.act()?;
            self.go_on_broadcasting()?;
            if self.is_over && !self.broadcasts.is_under_way() {
                return self.command_all(|lost| Message::ToServer(ToServer::Finish { lost }));
            }
            if idle { self.wait() } else { self.waiter.reset() }
        }
    }

    fn on_notes(&mut self, notes: Vec<Note>) -> Result<(), Error> {
        let mut notes = notes.into_iter();
        let read = self.read(&mut notes);
        if read.is_err() {
            notes.for_each(|note| self.on_note_at_the_end(note));
        }
        read
    }

    /// Of many orders, the first begin while the others are read.
    fn read(&mut self, notes: &mut std::vec::IntoIter<Note>) -> Result<(), Error> {
        notes.by_ref().take(FIRST).try_for_each(|note| self.on_note(note))?;
        if notes.len() > 0 {
            self.is_over |= self.act()?;
        }
        notes.try_for_each(|note| self.on_note(note))
    }

    fn on_note(&mut self, note: Note) -> Result<(), Error> {
        match note {
            Note::Submit { task, order, payload } => self.tasks.handle(if payload.assigned.is_some() {
                Event::Claimed { task, order, payload }
            } else {
                Event::Submitted { task, order, payload }
            }),
            Note::Give { task, payload, large } => self.give(task, payload, large),
            // Nobody may wait for the answer any more.
            Note::Locate { task, answer } => drop(answer.send(self.tasks.holders(task))),
            Note::Want { task, taken } => self.tasks.handle(Event::Wanted { task, taken }),
            Note::Release(task) => self.tasks.handle(Event::Released { task }),
            Note::Detach(task) => self.tasks.handle(Event::Detached { task }),
            Note::Cancel(task) => self.tasks.handle(Event::Cancelled { task }),
            Note::Watch(begins) => self.command_all(|_| Message::ToServer(ToServer::Watch(begins)))?,
            Note::Close => {
                self.tell_of_the_end(None, false);
                self.tasks.handle(Event::Closed);
            }
            Note::Ended { task, end } => {
                let ended = self.server.ended(task, *end);
                self.on_ended(0, ended);
            }
            Note::Returned(tasks) => self.tasks.handle(Event::Returned { worker: 0, tasks }),
            Note::Written { to, bytes } => self.rank.send_bytes(to, Channel::Values, bytes)?,
        }
        Ok(())
    }

    fn on_message(&mut self, from: usize, message: Message) -> Result<(), Error> {
        match message {
            Message::ToMaster(ToMaster::Hello(signature)) => self.on_hello(from, signature),
            Message::ToMaster(ToMaster::Stopped) => drop(self.stopped.insert(from)),
            Message::FromServer(FromServer::Ended(ended)) => {
                ended.into_iter().for_each(|ended| self.on_ended(from, ended));
            }
            Message::FromServer(FromServer::Returned(tasks)) => {
                self.tasks.handle(Event::Returned { worker: from, tasks });
            }
            Message::FromServer(FromServer::Asked(asked)) => {
                asked.into_iter().for_each(|asked| self.on_asked(asked));
            }
            Message::FromServer(FromServer::Hung(task)) => {
                let place = self.rank.places[from].clone();
                // The task has failed already, and may be forgotten.
                let task = self.late.get(&task).cloned().unwrap_or_else(|| self.name_of(task));
                let error = ErrorKind::Hung { task, place }.into();
                eprintln!("rankfold: warning: {error}");
                self.lose(from, &error)?;
            }
            Message::FromServer(FromServer::Met(value)) => self.broadcasts.met(from, value),
            Message::ToServer(message) => self.obey(from, message)?,
            _ => {}
        }
        Ok(())
    }

    fn on_asked(&mut self, asked: Asked) {
        self.tasks.handle(match asked {
            Asked::Submit(submission) => {
                let Submission { task, order, name, code, arguments, timeout, backoff } = *submission;
                let may_run_again = order.restarts.is_some();
                let payload =
                    Payload { timeout, backoff, may_run_again, ..Payload::new(name.into(), code, arguments, None) };
                Event::Submitted { task, order: Arc::new(order), payload: Box::new(payload) }
            }
            Asked::Want { task, taken } => Event::Wanted { task, taken },
            Asked::Release(task) => Event::Released { task },
            Asked::Detach(task) => Event::Detached { task },
            Asked::Cancel(task) => Event::Cancelled { task },
        });
    }

    fn on_hello(&mut self, worker: usize, theirs: Result<Signature, Error>) {
        match theirs {
            Err(error) => self.broken = Some(error),
            Ok(theirs) => match self.signature.difference(&theirs) {
                None => {
                    self.entered.insert(worker);
                    self.tasks.handle(Event::Ready { worker });
                }
                Some(difference) => {
                    let (root, other) = (self.rank.place.clone(), self.rank.places[worker].clone());
                    self.broken = Some(ErrorKind::disagreement(&self.signature.name, difference, root, other).into());
                }
            },
        }
    }

    fn on_ended(&mut self, worker: usize, ended: EndedTask) {
        let EndedTask { task, result, usage } = ended;
        // What it waited for others was their time.
        let seconds = usage.wall.saturating_sub(usage.waited).as_secs_f64();
        let mut payload = self.tasks.payload_mut(task);
        if let Some(payload) = &mut payload {
            let queued = payload.assigned.map_or(Duration::ZERO, |assigned| assigned - payload.submitted);
            payload.timing = Some(Box::new(Timing::of(&usage, queued, worker)));
        }
        let ending = match result {
            TaskResult::Small(bytes) => {
                if let Some(payload) = payload {
                    payload.small.get_or_insert_with(|| Arc::new(bytes));
                }
                Ending::Small { seconds }
            }
            TaskResult::Large(bytes) => Ending::Large { bytes, seconds },
            TaskResult::Failed(error) if error.is_too_long() => {
                let name = payload.map_or_else(|| format!("task {task}"), |payload| payload.name.to_string());
                let error = error.in_call(&name);
                self.late.insert(task, name);
                if self.late.len() > LATE_MOST {
                    self.late.pop_first();
                }
                Ending::Failed { error }
            }
            TaskResult::Failed(error) => Ending::Failed {
                error: match payload {
                    Some(payload) => error.in_call(&payload.name),
                    None => error,
                },
            },
        };
        self.tasks.handle(Event::Ended { worker, task, ending });
    }

    /// A value that was on its way here, for somebody who waits for it or for a task.
    fn on_value(&mut self, bytes: Vec<u8>) {
        let Some((value, kept)) = self.server.read(bytes) else { return };
        if self.bringing.arrived(value, &kept, &self.rank.places) {
            self.desk.ring();
        }
        self.server.arrived(value, &kept);
    }

    /// Carries out what the core wants. True when that was all.
    fn act(&mut self) -> Result<bool, Error> {
        let mut settled = false;
        let mut finished = false;
        while let Some(action) = self.tasks.poll_action() {
            match action {
                Action::Assign { worker, task, inputs } => self.assign(worker, task, &inputs)?,
                Action::Recall { worker, tasks } => {
                    self.flush(worker)?;
                    self.command(worker, ToServer::Recall(tasks))?;
                }
                Action::Stop { worker, task } => {
                    self.flush(worker)?;
                    self.command(worker, ToServer::Cancel(task))?;
                }
                Action::Bring { task, from, taken } if owner(task) == 0 => self.bring(task, from, taken)?,
                Action::Bring { task, from, taken } => self.tell(task, Told::Bring { task, from, taken }),
                Action::Free { worker, task } => self.freed.entry(worker).or_default().push(task),
                Action::Settle { task, failed } => settled |= self.settle(task, failed),
                Action::Rest { task, attempts } => {
                    let least = self.tasks.payload(task).map_or(Duration::ZERO, |payload| payload.backoff);
                    self.rests.add(task, least, attempts);
                }
                Action::Miss { worker, lost } => self.command(worker, ToServer::Miss(lost))?,
                Action::Unavailable { task, error } => {
                    settled = true;
                    self.unavailable(task, error);
                }
                Action::Tell { task, failure } => {
                    let name = self.name_of(task);
                    eprintln!("rankfold: error: {name}, which nobody waits for: {}", failure.in_call(&name));
                }
                Action::Finish => finished = true,
            }
        }
        let waiting = self.assigned.keys().chain(self.freed.keys()).chain(self.told.keys());
        let waiting: BTreeSet<usize> = waiting.copied().collect();
        waiting.into_iter().try_for_each(|worker| self.flush(worker))?;
        if settled {
            self.desk.ring();
        }
        Ok(finished)
    }

    /// A task has come to its end: whoever has submitted it learns that. Whether somebody here waits for it.
    fn settle(&mut self, task: TaskId, failed: Option<Error>) -> bool {
        let Some(payload) = self.tasks.payload_mut(task) else { return false };
        if failed.is_some() || !payload.may_run_again {
            payload.arguments = Vec::new();
        }
        let failed = failed.map(|error| error.in_call(&payload.name));
        let timing = payload.timing.take().filter(|_| failed.is_none());
        if let Some(slot) = payload.slot.clone() {
            let value = payload.small.clone().map(|bytes| Arc::new(Kept::bytes(bytes, 0)));
            let outcome = failed.map_or(Ok(()), Err);
            let (code, took) = (payload.code, timing.as_ref().map(|timing| timing.wall));
            let then = slot.settle(Settled { outcome, value, timing });
            let is_watched = slot.is_watched();
            if let (true, Some(took)) = (is_watched, took) {
                self.desk.quick.learn(code, took);
            }
            let is_watched = is_watched || then.iter().any(|then| matches!(then, Then::Queue(..)));
            self.bringing.follow(then);
            return is_watched;
        }
        let small = payload.small.as_ref().map(|bytes| bytes.to_vec().into());
        self.tell(task, Told::Settled { task, failed, small, timing });
        false
    }

    /// A value that somebody has a handle on is lost.
    fn unavailable(&mut self, task: TaskId, error: Error) {
        self.bringing.forget(task);
        let Some(payload) = self.tasks.payload(task) else { return };
        let error = error.in_call(&payload.name);
        match payload.slot.clone() {
            Some(slot) => self.bringing.follow(slot.bring(Err(error))),
            None => self.tell(task, Told::Unavailable { task, error }),
        }
    }

    /// Something that the rank which has submitted this task is to know.
    fn tell(&mut self, task: TaskId, told: Told) {
        let owner = owner(task);
        if !self.rank.lost.contains(&owner) {
            self.told.entry(owner).or_default().push(told);
        }
    }

    fn name_of(&self, task: TaskId) -> String {
        self.tasks.payload(task).map_or_else(|| format!("task {task}"), |payload| payload.name.to_string())
    }

    fn assign(&mut self, worker: usize, task: TaskId, inputs: &[(TaskId, Source)]) -> Result<(), Error> {
        let small = |value: TaskId| {
            let bytes = self.tasks.payload(value).and_then(|payload| payload.small.as_ref());
            InputFrom::Here(bytes.map_or_else(Vec::new, |bytes| bytes.to_vec()))
        };
        let input = |(value, source): &(TaskId, Source)| {
            let from = if let Source::At(rank) = source { InputFrom::Rank(*rank) } else { small(*value) };
            Input { value: *value, from }
        };
        let inputs = inputs.iter().map(input).collect();
        let (depth, actor) = self.tasks.order(task).map_or((0, None), |order| (order.depth, order.actor));
        let payload = self.tasks.payload_mut(task).expect("a task that is assigned is known");
        payload.assigned = Some(Instant::now());
        let Payload { code, timeout, .. } = *payload;
        let assignment = Assignment { task, code, arguments: payload.arguments.clone(), inputs, depth, actor, timeout };
        let together = self.assigned.entry(worker).or_default();
        together.push(assignment);
        if together.len() >= TOGETHER { self.flush(worker) } else { Ok(()) }
    }

    /// Sends what has come together for a worker.
    fn flush(&mut self, worker: usize) -> Result<(), Error> {
        if let Some(freed) = self.freed.remove(&worker) {
            self.command(worker, ToServer::Free(freed))?;
        }
        if let Some(told) = self.told.remove(&worker) {
            self.command(worker, ToServer::Tell(told))?;
        }
        match self.assigned.remove(&worker) {
            Some(assigned) => self.command(worker, ToServer::Run(assigned)),
            None => Ok(()),
        }
    }

    fn command(&mut self, worker: usize, message: ToServer) -> Result<(), Error> {
        if worker > 0 {
            return self.rank.send(worker, Message::ToServer(message));
        }
        self.obey(0, message)
    }

    /// Does what this rank says to itself, or another one that wants a value.
    fn obey(&mut self, from: usize, message: ToServer) -> Result<(), Error> {
        let Obeyed { fetches, returned } = self.server.obey(from, message);
        for (value, from) in fetches {
            self.rank.send(from, Message::ToServer(ToServer::Fetch(value)))?;
        }
        if let Some(tasks) = returned {
            self.tasks.handle(Event::Returned { worker: 0, tasks });
        }
        Ok(())
    }

    fn bring(&mut self, task: TaskId, from: usize, taken: bool) -> Result<(), Error> {
        let Some(payload) = self.tasks.payload(task) else { return Ok(()) };
        let (Some(slot), name) = (payload.slot.clone(), payload.name.clone()) else { return Ok(()) };
        let here = if taken { self.server.take(task) } else { self.server.kept(task) };
        if let Some(kept) = here {
            self.bringing.follow(slot.bring(Ok(kept)));
            self.desk.ring();
            return Ok(());
        }
        self.bringing.expect(task, Expected { slot, from, name });
        self.rank.send(from, Message::ToServer(ToServer::Fetch(task)))
    }

    /// The pool cannot go on: the user's closure learns it from whatever it waits for, then the ranks are let go.
    fn stop(&mut self, error: Error) -> Result<(), Error> {
        self.give_up_broadcasting()?;
        self.command_all(|_| Message::ToWorker(ToWorker::Stop(error.clone())))?;
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline {
            while let Some((from, message)) = self.rank.next_message()? {
                self.on_message(from, message)?;
            }
            let gone = |other: &usize| {
                self.stopped.contains(other) || self.rank.lost.contains(other) || self.rank.left.contains_key(other)
            };
            if (1..self.rank.size()).all(|other| gone(&other)) {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        self.command_all(|lost| Message::ToWorker(ToWorker::Release { lost }))?;
        Err(error)
    }

    fn command_all(&mut self, message: impl Fn(Vec<usize>) -> Message) -> Result<(), Error> {
        let lost: Vec<usize> = self.rank.lost.iter().copied().collect();
        (1..self.rank.size()).try_for_each(|worker| self.rank.send(worker, message(lost.clone())))
    }

    /// Nothing is done any more, but whoever waits for what is new has to learn of the end.
    fn on_note_at_the_end(&mut self, note: Note) {
        match note {
            Note::Submit { task, order, payload } => self.tasks.handle(Event::Submitted { task, order, payload }),
            Note::Give { task, payload, large } => self.give(task, payload, large),
            _ => {}
        }
    }

    /// Nobody waits for a value that will not come.
    fn let_everybody_go(&mut self, error: Option<&Error>) {
        self.desk.end(error).into_iter().for_each(|note| self.on_note_at_the_end(note));
        if error.is_some() || thread::panicking() {
            // The program may be inside of one.
            self.server.stop_all();
        }
        // Also those of tasks that have ended, and have left them to others.
        self.tell_of_the_end(error, true);
        self.bringing.give_up(error);
        self.desk.ring();
    }

    /// Who waits for a value that is not here yet learns that it does not come: the program, or all.
    fn tell_of_the_end(&mut self, error: Option<&Error>, all: bool) {
        let tell = |payload: &Payload| {
            let slot = payload.slot.as_ref();
            slot.map_or_else(Vec::new, |slot| slot.give_up(|| over(error, &payload.name)))
        };
        let then: Vec<Then> = if all {
            self.tasks.payloads().flat_map(tell).collect()
        } else {
            self.tasks.held_payloads().flat_map(tell).collect()
        };
        self.bringing.follow(then);
        self.desk.ring();
    }

    fn wait(&mut self) {
        let mood = if self.broadcasts.is_under_way() {
            Mood::Meeting
        } else {
            match self.server.mood(&self.rank.transport) {
                // Whoever runs dry sooner asks for more sooner.
                Mood::Stocked if !self.tasks.all_have_work_for(STOCK_LEAST) => Mood::Saturated,
                mood => mood,
            }
        };
        self.waiter.wait(mood, |sleep| self.desk.sleep(sleep, mood));
    }
}

impl Drop for Host<'_> {
    /// Also when it unwinds, nobody waits for a value that will not come.
    fn drop(&mut self) {
        self.let_everybody_go(None);
    }
}
