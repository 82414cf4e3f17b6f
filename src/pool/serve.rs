//! The loop of a rank that serves a pool: tasks in, ends of tasks out, values to whoever asks.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::TOGETHER;
use super::bringing::{Bringing, Expected};
use super::desk::{Desk, Note, Payload, over};
use super::host::LOOK_AFTER;
use super::server::{Looked, Obeyed, Server};
use super::slot::{Settled, Slot};
use crate::error::{Error, ErrorKind};
use crate::master::tasks::TaskId;
use crate::rank::Rank;
use crate::transport::wait::{Mood, Waiter, sharpen_timer};
use crate::transport::{Channel, Collective};
use crate::wire::{Asked, EndedTask, FromServer, Message, Signature, Submission, ToMaster, ToServer, ToWorker, Told};
use crate::worker::kept::{Kept, discard};

/// Serves until rank 0 says that the pool is over. Collective.
///
/// # Errors
///
/// The ranks do not agree on what they do, or the transport fails, or rank 0 does not answer.
pub(super) fn serve(rank: &mut Rank, signature: Signature) -> Result<(), Error> {
    sharpen_timer();
    rank.begin_vigil();
    rank.send(0, Message::ToMaster(ToMaster::Hello(Ok(signature))))?;
    let desk = Desk::new(rank.rank());
    let mut serving = Serving {
        server: Server::new(rank, &desk),
        rank,
        desk,
        slots: BTreeMap::new(),
        bringing: Bringing::default(),
        looked: Instant::now(),
        has_heard: false,
        broadcast: None,
        failed: None,
    };
    let result = serving.run();
    serving.let_everybody_go(result.as_ref().err());
    result
}

struct Serving<'s> {
    rank: &'s mut Rank,
    server: Server,
    desk: Arc<Desk>,
    /// What is known of the tasks that tasks of this rank have submitted, and what errors call them.
    slots: BTreeMap<TaskId, (Arc<Slot>, Cow<'static, str>)>,
    /// Values that are on their way here, for a task that waits for them.
    bringing: Bringing,
    looked: Instant,
    /// Rank 0 has said something: it has entered the pool as well, and will not be silent. Before, it is waited for.
    has_heard: bool,
    /// The value of the broadcast under way, of which this rank has not got its copy yet.
    broadcast: Option<TaskId>,
    /// Why the pool cannot go on.
    failed: Option<Error>,
}

impl Serving<'_> {
    fn run(&mut self) -> Result<(), Error> {
        let mut waiter = Waiter::default();
        loop {
            let mut idle = true;
            self.server.count(&self.rank.traffic);
            while let Some((from, message)) = self.rank.next_message()? {
                idle &= message.is_beat();
                self.has_heard |= from == 0;
                if self.on_message(from, message)? {
                    return self.failed.take().map_or(Ok(()), |error| Err(error.on_rank(self.rank.rank())));
                }
            }
            while let Some(bytes) = self.rank.next_value() {
                idle = false;
                if let Some((value, kept)) = self.server.read(bytes) {
                    if self.bringing.arrived(value, &kept, &self.rank.places) {
                        self.desk.ring();
                    }
                    self.server.arrived(value, &kept);
                }
            }
            self.look_for_the_broadcast()?;
            let notes = self.desk.take();
            idle &= notes.is_empty();
            self.tell(notes)?;
            self.look_after()?;
            self.look_for_the_root()?;
            if self.rank.is_time_to_look_around() && self.has_heard && self.failed.is_none() {
                let silent = self.rank.look_around()?;
                if let Some((root, silence)) = silent.first() {
                    return Err(self.rank.silent(*root, *silence));
                }
            }
            if idle {
                let mood =
                    if self.broadcast.is_some() { Mood::Meeting } else { self.server.mood(&self.rank.transport) };
                waiter.wait(mood, |sleep| self.desk.sleep(sleep, mood));
            } else {
                waiter.reset();
            }
        }
    }

    /// A rank 0 that left the program before the pool began will never open it.
    fn look_for_the_root(&self) -> Result<(), Error> {
        let Some(calls) = self.rank.left.get(&0).copied().filter(|calls| *calls < self.rank.call) else {
            return Ok(());
        };
        let (place, waiting, number) = (self.rank.places[0].clone(), self.rank.place.clone(), self.rank.call);
        let error = ErrorKind::Left { call: "pool".into(), place, calls, waiting, number };
        // Rank 0 learns that it is missed, and says so.
        Err(Error::from(error).on_rank(self.rank.rank()))
    }

    /// True when the pool is over.
    fn on_message(&mut self, from: usize, message: Message) -> Result<bool, Error> {
        match message {
            Message::ToServer(ToServer::Finish { lost }) => {
                self.rank.lost = lost.into_iter().collect();
                return Ok(true);
            }
            Message::ToServer(ToServer::Tell(told)) => {
                told.into_iter().try_for_each(|told| self.on_told(told))?;
                self.desk.ring();
            }
            Message::ToServer(ToServer::Broadcast(value)) => {
                self.server.expect(value);
                self.rank.start(Collective::Broadcast(Vec::new()))?;
                self.broadcast = Some(value);
            }
            Message::ToServer(ToServer::GiveUp) => {
                self.rank.is_adrift = true;
                if let Some(value) = self.broadcast.take().filter(|value| self.server.still_needs(*value)) {
                    self.rank.send(0, Message::ToServer(ToServer::Fetch(value)))?;
                }
            }
            Message::ToServer(message) => {
                if let ToServer::Miss(lost) = &message {
                    // Rank 0 names another rank, or says that there is none.
                    let again = self.bringing.missed(*lost);
                    let again: Vec<Asked> = again.into_iter().map(|task| Asked::Want { task, taken: false }).collect();
                    self.ask(again)?;
                }
                let Obeyed { fetches, returned } = self.server.obey(from, message);
                for (value, from) in fetches {
                    self.rank.send(from, Message::ToServer(ToServer::Fetch(value)))?;
                }
                self.give_back(returned.unwrap_or_default())?;
            }
            Message::ToWorker(ToWorker::Stop(error)) => {
                self.failed = Some(error);
                self.rank.send(0, Message::ToMaster(ToMaster::Stopped))?;
            }
            Message::ToWorker(ToWorker::Release { lost }) => {
                self.rank.lost = lost.into_iter().collect();
                return Ok(true);
            }
            _ => {}
        }
        Ok(false)
    }

    /// What became of a task that a task of this rank has submitted.
    fn on_told(&mut self, told: Told) -> Result<(), Error> {
        match told {
            Told::Settled { task, failed, small, timing } => {
                if let Some((slot, _)) = self.slots.get(&task) {
                    let value = small.map(|bytes| Arc::new(Kept::bytes(bytes.into_vec(), 0)));
                    let outcome = failed.map_or(Ok(()), Err);
                    self.bringing.follow(slot.settle(Settled { outcome, value, timing }));
                    if slot.is_detached() {
                        discard(self.slots.remove(&task));
                    }
                }
            }
            Told::Bring { task, from, taken } => {
                let Some((slot, name)) = self.slots.get(&task).cloned() else { return Ok(()) };
                let here = if taken { self.server.take(task) } else { self.server.kept(task) };
                if let Some(kept) = here {
                    self.bringing.follow(slot.bring(Ok(kept)));
                } else {
                    self.bringing.expect(task, Expected { slot, from, name });
                    self.rank.send(from, Message::ToServer(ToServer::Fetch(task)))?;
                }
            }
            Told::Unavailable { task, error } => {
                self.bringing.forget(task);
                if let Some((slot, _)) = self.slots.get(&task) {
                    self.bringing.follow(slot.bring(Err(error)));
                }
            }
        }
        Ok(())
    }

    /// Takes its copy of the value that is being broadcast, when that is complete here.
    fn look_for_the_broadcast(&mut self) -> Result<(), Error> {
        if let Some(value) = self.broadcast
            && let Some(mut copies) = self.rank.test()?
        {
            self.broadcast = None;
            self.server.arrived(value, &Ok(Arc::new(Kept::bytes(copies.swap_remove(0), 0))));
            self.rank.send(0, Message::FromServer(FromServer::Met(value)))?;
        }
        Ok(())
    }

    /// Tells rank 0 of tasks that were run here and of what tasks want of others, and sends values that were asked for.
    fn tell(&mut self, notes: Vec<Note>) -> Result<(), Error> {
        let (mut ended, mut asked, mut back) = (Vec::new(), Vec::new(), Vec::new());
        for note in notes {
            asked.extend(match note {
                Note::Ended { task, end } => {
                    ended.push(self.server.ended(task, *end));
                    None
                }
                Note::Returned(tasks) => {
                    back.extend(tasks);
                    None
                }
                Note::Written { to, bytes } => {
                    self.rank.send_bytes(to, Channel::Values, bytes)?;
                    None
                }
                Note::Submit { task, order, mut payload } => {
                    let slot = payload.slot.take().expect("who submits something has a handle on it");
                    self.slots.insert(task, (slot, payload.name.clone()));
                    let Payload { name, code, arguments, timeout, backoff, .. } = *payload;
                    let name = name.into_owned();
                    let order = Arc::unwrap_or_clone(order);
                    let submission = Submission { task, order, name, code, arguments, timeout, backoff };
                    Some(Asked::Submit(Box::new(submission)))
                }
                Note::Want { task, taken } => Some(Asked::Want { task, taken }),
                Note::Release(task) => {
                    // What is detached is still told of its end.
                    if !self.slots.get(&task).is_some_and(|(slot, _)| slot.is_detached()) {
                        discard(self.slots.remove(&task));
                    }
                    self.bringing.forget(task);
                    Some(Asked::Release(task))
                }
                Note::Detach(task) => Some(Asked::Detach(task)),
                Note::Cancel(task) => Some(Asked::Cancel(task)),
                // The program is on rank 0.
                Note::Watch(_) | Note::Give { .. } | Note::Locate { .. } | Note::Close => None,
            });
        }
        // Before the ends: a task is not through with what it has submitted.
        self.ask(asked)?;
        self.tell_ends(ended)?;
        self.give_back(back)
    }

    fn give_back(&mut self, tasks: Vec<TaskId>) -> Result<(), Error> {
        if tasks.is_empty() { Ok(()) } else { self.rank.send(0, Message::FromServer(FromServer::Returned(tasks))) }
    }

    fn ask(&mut self, mut asked: Vec<Asked>) -> Result<(), Error> {
        while !asked.is_empty() {
            let rest = asked.split_off(asked.len().min(TOGETHER));
            self.rank.send(0, Message::FromServer(FromServer::Asked(asked)))?;
            asked = rest;
        }
        Ok(())
    }

    fn tell_ends(&mut self, mut ended: Vec<EndedTask>) -> Result<(), Error> {
        while !ended.is_empty() {
            let rest = ended.split_off(ended.len().min(TOGETHER));
            self.rank.send(0, Message::FromServer(FromServer::Ended(ended)))?;
            ended = rest;
        }
        Ok(())
    }

    /// Looks at the clock for the tasks that have one.
    fn look_after(&mut self) -> Result<(), Error> {
        if self.looked.elapsed() < LOOK_AFTER {
            return Ok(());
        }
        self.looked = Instant::now();
        let Looked { late, returned, hung } = self.server.look_after(self.rank.patience.bound());
        self.tell_ends(late)?;
        self.give_back(returned)?;
        hung.map_or(Ok(()), |task| self.rank.send(0, Message::FromServer(FromServer::Hung(task))))
    }

    /// Nobody waits for a value that will not come.
    fn let_everybody_go(&mut self, error: Option<&Error>) {
        for note in self.desk.end(error) {
            if let Note::Submit { payload, .. } = note
                && let Some(slot) = payload.slot
            {
                self.bringing.follow(slot.bring(Err(over(error, &payload.name))));
            }
        }
        for (slot, name) in std::mem::take(&mut self.slots).into_values() {
            if slot.value().is_none() {
                self.bringing.follow(slot.bring(Err(over(error, &name))));
            }
        }
        self.bringing.give_up(error);
        self.desk.ring();
    }
}

impl Drop for Serving<'_> {
    /// Also when it unwinds.
    fn drop(&mut self) {
        self.let_everybody_go(None);
    }
}
