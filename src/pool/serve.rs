//! The loop of a rank that serves a pool: tasks in, ends of tasks out, values to whoever asks.

use std::sync::Arc;

use super::TOGETHER;
use super::desk::{Desk, Note};
use super::server::{Obeyed, Server};
use crate::error::{Error, ErrorKind};
use crate::master::tasks::TaskId;
use crate::rank::Rank;
use crate::transport::wait::{Mood, Waiter, sharpen_timer};
use crate::transport::{Channel, Collective};
use crate::wire::{FromServer, Message, Signature, ToMaster, ToServer, ToWorker};
use crate::worker::kept::Kept;

/// Serves until rank 0 says that the pool is over. Collective.
///
/// # Errors
///
/// The ranks do not agree on what they do, or the transport fails, or rank 0 does not answer.
pub(super) fn serve(rank: &mut Rank, signature: Signature) -> Result<(), Error> {
    sharpen_timer();
    rank.begin_vigil();
    rank.send(0, Message::ToMaster(ToMaster::Hello(Ok(signature))))?;
    let desk = Arc::new(Desk::default());
    let server = Server::new(rank, &desk);
    let mut serving = Serving { server, rank, desk, has_heard: false, broadcast: None, failed: None };
    let result = serving.run();
    serving.desk.end(result.as_ref().err());
    result
}

struct Serving<'s> {
    rank: &'s mut Rank,
    server: Server,
    desk: Arc<Desk>,
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
                    self.server.arrived(value, &kept);
                }
            }
            self.look_for_the_broadcast()?;
            let notes = self.desk.take();
            idle &= notes.is_empty();
            self.tell(notes)?;
            self.look_for_the_root()?;
            if self.rank.is_time_to_look_around() && self.has_heard && self.failed.is_none() {
                let silent = self.rank.look_around()?;
                if let Some((root, silence)) = silent.first() {
                    return Err(self.rank.silent(*root, *silence));
                }
            }
            if idle {
                let mood = if self.broadcast.is_some() {
                    Mood::Meeting
                } else if self.server.is_busy() {
                    Mood::Busy
                } else {
                    Mood::without_work(&self.rank.transport)
                };
                waiter.wait(mood, |sleep| self.desk.sleep(sleep));
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
                let Obeyed { fetches, returned } = self.server.obey(from, message);
                for (value, from) in fetches {
                    self.rank.send(from, Message::ToServer(ToServer::Fetch(value)))?;
                }
                if let Some(tasks) = returned {
                    self.rank.send(0, Message::FromServer(FromServer::Returned(tasks)))?;
                }
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

    /// Tells rank 0 of tasks that were run here, and sends values that were asked for.
    fn tell(&mut self, notes: Vec<Note>) -> Result<(), Error> {
        let mut ended = Vec::new();
        for note in notes {
            match note {
                Note::Ended { task, result, seconds } => ended.push(self.server.ended(task, result, seconds)),
                Note::Written { to, bytes } => self.rank.send_bytes(to, Channel::Values, bytes)?,
                // Nobody here gives orders.
                _ => {}
            }
        }
        while !ended.is_empty() {
            let rest = ended.split_off(ended.len().min(TOGETHER));
            self.rank.send(0, Message::FromServer(FromServer::Ended(ended)))?;
            ended = rest;
        }
        Ok(())
    }
}
