//! A rank between calls: its transport, its place, its threads, and messages that came early.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rayon::ThreadPool;

use crate::error::{Error, ErrorKind, Place};
use crate::report::Progress;
use crate::transport::wait::{Mood, Waiter};
use crate::transport::{Channel, Collective, Failure, Incoming, Transport};
use crate::wire::{self, Envelope, Message, ToMaster};

/// After a failed call the other ranks leave a moment after rank 0, so that its message is out before a launcher that
/// has seen the first exit code ends the job.
pub(crate) const ROOT_FIRST: Duration = Duration::from_millis(250);

/// What a rank keeps from call to call.
pub(crate) struct Rank<T: Transport + ?Sized = dyn Transport> {
    pub place: Place,
    /// All ranks, as they introduced themselves.
    pub places: Arc<[Place]>,
    /// Threads that each rank computes with.
    pub threads: Arc<[u32]>,
    pub pool: Arc<ThreadPool>,
    /// Calls made so far: the number of the current one.
    pub call: u64,
    /// Messages of calls that have not begun here.
    early: Vec<(usize, Envelope)>,
    /// Segments that have arrived before they were asked for.
    partials: Vec<(usize, Vec<u8>)>,
    /// The calls that a rank had made when it left, for ranks that have.
    pub left: BTreeMap<usize, u64>,
    pub traffic: Traffic,
    pub progress: Progress,
    /// The transport has failed: nobody can be waited for any more.
    pub broken: Option<Error>,
    given_up: bool,
    /// Last, so that a rank of any transport can be used as a rank of some transport.
    pub transport: T,
}

/// Messages and bytes that this rank has sent in the current call.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Traffic {
    pub messages: u64,
    pub bytes: u64,
}

/// The threads that a rank computes with.
pub(crate) fn new_pool(place: &Place, threads: u32) -> Result<ThreadPool, Error> {
    let rank = place.rank;
    let name = move |thread| format!("rankfold-{rank}-{thread}");
    rayon::ThreadPoolBuilder::new().num_threads(threads as usize).thread_name(name).build().map_err(|error| {
        let problem = format!("{place} cannot start {threads} threads: {error}");
        Error::launch(problem, "raise the limit on processes (ulimit -u) or set RANKFOLD_THREADS lower")
    })
}

impl<T: Transport> Rank<T> {
    pub fn new(transport: T, places: Arc<[Place]>, threads: Arc<[u32]>, pool: ThreadPool, progress: Progress) -> Self {
        let rank = transport.rank();
        Self {
            place: places[rank].clone(),
            left: BTreeMap::new(),
            places,
            threads,
            pool: Arc::new(pool),
            call: 0,
            early: Vec::new(),
            partials: Vec::new(),
            traffic: Traffic::default(),
            progress,
            broken: None,
            given_up: false,
            transport,
        }
    }
}

impl Rank {
    pub fn rank(&self) -> usize {
        self.place.rank
    }

    pub fn size(&self) -> usize {
        self.places.len()
    }

    /// Sends a message of the current call.
    pub fn send(&mut self, to: usize, message: Message) -> Result<(), Error> {
        let envelope = Envelope { call: self.call, message };
        let bytes = wire::encode(&envelope).expect("a message is made of plain data");
        self.send_bytes(to, Channel::Control, bytes)
    }

    pub fn send_bytes(&mut self, to: usize, channel: Channel, bytes: Vec<u8>) -> Result<(), Error> {
        self.traffic.messages += 1;
        self.traffic.bytes += bytes.len() as u64;
        self.transport.send(to, channel, bytes).map_err(|failure| self.failed(failure))
    }

    /// The next message of the current call, if one is here.
    pub fn next_message(&mut self) -> Result<Option<(usize, Message)>, Error> {
        if let Some(position) = self.early.iter().position(|(_, envelope)| envelope.call <= self.call) {
            let (from, envelope) = self.early.remove(position);
            if envelope.call == self.call {
                return Ok(Some((from, envelope.message)));
            }
        }
        while let Some(Incoming { from, channel, bytes }) = self.receive()? {
            if channel == Channel::Partials {
                self.partials.push((from, bytes));
                continue;
            }
            let envelope: Envelope = wire::decode(&bytes).map_err(|message| {
                let message = format!("a message from rank {from} makes no sense: {message}");
                self.internal("the run", message)
            })?;
            match envelope {
                Envelope { call, message: Message::Leave } => drop(self.left.insert(from, call)),
                Envelope { call, message } if call == self.call => return Ok(Some((from, message))),
                Envelope { call, .. } if call < self.call => {}
                early => self.early.push((from, early)),
            }
        }
        Ok(None)
    }

    /// Waits for segments of a rank that is known to send some.
    pub fn partials_from(&mut self, from: usize) -> Result<Vec<u8>, Error> {
        let mut waiter = Waiter::default();
        loop {
            if let Some(position) = self.partials.iter().position(|(sender, _)| *sender == from) {
                return Ok(self.partials.remove(position).1);
            }
            match self.next_message()? {
                Some((_, message)) => tracing::debug!("dropped {message:?} in the reduction"),
                None => waiter.wait(Mood::without_work(&self.transport), std::thread::sleep),
            }
        }
    }

    /// Takes part in a collective and waits for its result.
    pub fn collective(&mut self, collective: Collective) -> Result<Vec<Vec<u8>>, Error> {
        if let Collective::Gather(bytes) | Collective::AllGather(bytes) | Collective::Broadcast(bytes) = &collective {
            self.traffic.messages += 1;
            self.traffic.bytes += bytes.len() as u64;
        }
        let result = crate::transport::wait::complete(&mut self.transport, collective);
        result.map_err(|failure| self.failed(failure))
    }

    /// The transport does not work any more.
    fn failed(&mut self, failure: Failure) -> Error {
        let Failure { function, message } = failure;
        let error = Error::from(ErrorKind::Mpi { function, place: self.place.clone(), message });
        self.broken.get_or_insert_with(|| error.clone());
        error
    }

    /// Where the transport has failed, nobody can be waited for: says why, and lets the others know.
    pub fn give_up_if_broken(&mut self) {
        if let Some(error) = self.broken.as_ref().filter(|_| !self.given_up) {
            eprintln!("rankfold: error: {error}");
            self.given_up = true;
            self.transport.abandon();
        }
    }

    /// Ends this rank's part: waits for the others, and says so if one of them still expects it to make a call.
    pub fn leave(&mut self) -> Result<(), Error> {
        let others = if self.rank() == 0 { 1..self.size() } else { 0..1 };
        others.into_iter().try_for_each(|other| self.send(other, Message::Leave))?;
        let (mut expected, now) = (None, self.call);
        let closed = self.transport.close(&mut |incoming: Incoming| {
            if let Ok(Envelope { call, message: Message::ToMaster(ToMaster::Hello(Ok(signature))) }) =
                wire::decode(&incoming.bytes)
                && call > now
            {
                expected.get_or_insert((incoming.from, call, signature.name));
            }
        });
        if let Some((waiting, number, call)) = expected {
            let (place, waiting) = (self.place.clone(), self.places[waiting].clone());
            eprintln!("rankfold: error: {}", ErrorKind::Left { call, place, calls: now, waiting, number });
        }
        closed.map_err(|failure| self.failed(failure))
    }

    pub fn internal(&self, call: &str, message: String) -> Error {
        ErrorKind::Internal { call: call.to_owned(), place: self.place.clone(), message }.into()
    }

    fn receive(&mut self) -> Result<Option<Incoming>, Error> {
        self.transport.receive().map_err(|failure| self.failed(failure))
    }
}
