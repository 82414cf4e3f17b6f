//! A rank between calls: its transport, its place, its threads, and messages that came early.
//!
//! Whoever waits for others inside of a call stays in touch meanwhile: it lets rank 0 know that it lives (rank 0 tells
//! everybody), and gives up when those it depends on were silent for too long. So no wait inside of a call lasts for ever.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rayon::ThreadPool;
use serde::{Deserialize, Serialize};

use crate::array::collect::Buffers;
use crate::error::{Error, ErrorKind, Place};
use crate::journal::{Costs, Journals};
use crate::launch::Roster;
use crate::master::liveness::Patience;
use crate::master::policy::Learned;
use crate::master::tasks::demand::Resources;
use crate::meeting;
use crate::report::Progress;
use crate::transport::wait::{Mood, Waiter};
use crate::transport::{Channel, Collective, Failure, Incoming, Transport};
use crate::wire::{self, Envelope, Message, ToMaster, ToWorker};

/// After a failed call the other ranks leave a moment after rank 0, so that its message is out before a launcher that
/// has seen the first exit code ends the job.
pub(crate) const ROOT_FIRST: Duration = Duration::from_millis(250);

/// The costs of so many kinds of calls are remembered.
const COSTS_MOST: usize = 1000;

/// What a rank keeps from call to call.
pub(crate) struct Rank<T: Transport + ?Sized = dyn Transport> {
    pub place: Place,
    /// All ranks, as they introduced themselves.
    pub places: Arc<[Place]>,
    /// Threads that each rank computes with.
    pub threads: Arc<[u32]>,
    /// What tasks can count on at each rank, beside threads.
    pub resources: Arc<[Resources]>,
    pub pool: Arc<ThreadPool>,
    /// Calls made so far: the number of the current one.
    pub call: u64,
    /// Messages of calls that have not begun here.
    early: Vec<(usize, Envelope)>,
    /// Segments that have arrived before they were asked for.
    partials: Vec<(usize, Vec<u8>)>,
    /// Values of pools that have arrived.
    values: VecDeque<Vec<u8>>,
    /// The calls that a rank had made when it left, for ranks that have.
    pub left: BTreeMap<usize, u64>,
    /// The ranks without which the last call was completed, as far as they are still silent.
    pub lost: BTreeSet<usize>,
    pub patience: Patience,
    /// The least time between two snapshots, where somebody has asked for one.
    pub snapshots: Option<Duration>,
    /// The bytes that a pool's values, and what a call computes by key, may have in memory, each; if there is a bound.
    pub memory: Option<u64>,
    /// The ranks that are through with this call, as far as they have said so.
    through: BTreeSet<usize>,
    /// When each rank was heard last.
    heard: Vec<Instant>,
    /// When this rank last looked after others and told them that it lives.
    touched: Instant,
    pub traffic: Traffic,
    pub progress: Progress,
    /// On rank 0.
    pub journals: Journals,
    /// On rank 0: what calls have cost so far.
    pub costs: Costs,
    /// The transport has failed: nobody can be waited for any more.
    pub broken: Option<Error>,
    given_up: bool,
    /// A collective was given up before its end, and MPI has to be left with it: no other may be started in this world.
    pub is_adrift: bool,
    /// For operations on arrays.
    pub buffers: Buffers,
    /// Last, so that a rank of any transport can be used as a rank of some transport.
    pub transport: T,
}

/// What a rank has sent since a call, or a pool, began; [`Pool::traffic`](crate::Pool::traffic) gives it.
///
/// # Examples
///
/// See [`Pool::traffic`](crate::Pool::traffic).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Traffic {
    /// Messages of any kind. A broadcast counts once, on rank 0: who passes it on is the MPI library's business.
    pub messages: u64,
    /// Their bytes, without MPI's own envelopes.
    pub bytes: u64,
    /// Values of tasks among them, sent to a rank that has asked for one; without those of at most 4 KiB, which go with
    /// other messages.
    pub values: u64,
    /// The bytes of these values.
    pub value_bytes: u64,
}

/// The threads that a rank computes with.
pub(crate) fn new_pool(roster: &Roster, rank: usize) -> Result<ThreadPool, Error> {
    let (place, threads) = (&roster.places[rank], roster.threads[rank]);
    let name = move |thread| format!("rankfold-{rank}-{thread}");
    rayon::ThreadPoolBuilder::new().num_threads(threads as usize).thread_name(name).build().map_err(|error| {
        let problem = format!("{place} cannot start {threads} threads: {error}");
        Error::launch(problem, "raise the limit on processes (ulimit -u) or set RANKFOLD_THREADS lower")
    })
}

impl<T: Transport> Rank<T> {
    pub fn new(transport: T, roster: &Roster, pool: ThreadPool, progress: Progress) -> Self {
        let rank = transport.rank();
        Self {
            place: roster.places[rank].clone(),
            left: BTreeMap::new(),
            lost: BTreeSet::new(),
            patience: roster.patience,
            snapshots: roster.snapshots,
            memory: roster.memory,
            through: BTreeSet::new(),
            heard: vec![Instant::now(); roster.places.len()],
            touched: Instant::now(),
            places: Arc::clone(&roster.places),
            threads: Arc::clone(&roster.threads),
            resources: Arc::clone(&roster.resources),
            pool: Arc::new(pool),
            call: 0,
            early: Vec::new(),
            partials: Vec::new(),
            values: VecDeque::new(),
            traffic: Traffic::default(),
            progress,
            journals: Journals::default(),
            costs: Costs::new(),
            broken: None,
            given_up: false,
            is_adrift: false,
            buffers: Buffers::default(),
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

    /// Remembers what a call has cost. Programs may name their calls without end, so all is forgotten from time to time.
    pub fn remember(&mut self, kind: &str, learned: Learned) {
        if self.costs.len() >= COSTS_MOST && !self.costs.contains_key(kind) {
            self.costs.clear();
        }
        self.costs.insert(kind.to_owned(), learned);
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
        if channel == Channel::Values {
            self.traffic.values += 1;
            self.traffic.value_bytes += bytes.len() as u64;
        }
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
            self.heard[from] = Instant::now();
            match channel {
                Channel::Partials => {
                    self.partials.push((from, bytes));
                    continue;
                }
                Channel::Values => {
                    self.values.push_back(bytes);
                    continue;
                }
                Channel::Control => {}
            }
            let envelope: Envelope = wire::decode(&bytes).map_err(|message| {
                let message = format!("a message from rank {from} makes no sense: {message}");
                self.internal("the run", message)
            })?;
            match envelope {
                Envelope { call, message: Message::Leave } => drop(self.left.insert(from, call)),
                Envelope { message: Message::Adrift, .. } => self.go_adrift()?,
                Envelope { call, message: Message::Through } => {
                    if call == self.call {
                        self.through.insert(from);
                    }
                }
                Envelope { call, message } if call == self.call => return Ok(Some((from, message))),
                Envelope { call, .. } if call < self.call => {}
                early => self.early.push((from, early)),
            }
        }
        Ok(None)
    }

    /// The next value that has arrived, if any. Messages have to be asked for as well, or none comes.
    pub fn next_value(&mut self) -> Option<Vec<u8>> {
        self.values.pop_front()
    }

    /// A collective was begun that will not be completed. All ranks must know, since none may begin another: each tells
    /// rank 0, and that all others.
    pub fn go_adrift(&mut self) -> Result<(), Error> {
        if std::mem::replace(&mut self.is_adrift, true) {
            return Ok(());
        }
        let others = if self.rank() == 0 { 1..self.size() } else { 0..1 };
        others.into_iter().try_for_each(|other| self.send(other, Message::Adrift))
    }

    /// Why this call cannot be completed, if a rank has left the program before it made it.
    pub fn one_that_left(&self, call: &str) -> Option<Error> {
        // One that has made this call and left since is none.
        let (rank, calls) = self.left.iter().find(|(_, calls)| **calls < self.call)?;
        let (place, waiting) = (self.places[*rank].clone(), self.place.clone());
        let error = ErrorKind::Left { call: call.to_owned(), place, calls: *calls, waiting, number: self.call };
        Some(error.into())
    }

    /// Waits for segments of a rank that is known to send some.
    pub fn partials_from(&mut self, from: usize) -> Result<Vec<u8>, Error> {
        let mut waiter = Waiter::default();
        loop {
            if let Some(position) = self.partials.iter().position(|(sender, _)| *sender == from) {
                return Ok(self.partials.remove(position).1);
            }
            if let Some((_, message)) = self.next_message()? {
                tracing::debug!("dropped {message:?} in the reduction");
            } else {
                self.stay_in_touch()?;
                waiter.wait(Mood::without_work(&self.transport), std::thread::sleep);
            }
        }
    }

    /// What has been sent leaves only while this rank looks after it: waits until it has, but for what a lost rank does not
    /// take.
    pub fn see_off(&mut self) -> Result<(), Error> {
        let mut waiter = Waiter::default();
        let is_sending = |rank: &Self| {
            (0..rank.size()).any(|other| !rank.lost.contains(&other) && rank.transport.is_sending_to(other))
        };
        while is_sending(self) {
            while let Some((_, message)) = self.next_message()? {
                tracing::debug!("dropped {message:?} on the way out");
            }
            self.stay_in_touch()?;
            waiter.wait(Mood::Sending, std::thread::sleep);
        }
        Ok(())
    }

    /// The scheduling part of a call has ended, with everybody alive: silence counts from now.
    pub fn begin_vigil(&mut self) {
        let now = Instant::now();
        self.heard.fill(now);
        self.touched = now;
        self.through.clear();
    }

    /// A large result takes long to reach everybody: those who wait for each other learn that this rank has it.
    pub fn say_through(&mut self) -> Result<(), Error> {
        let others = if self.rank() == 0 { 1..self.size() } else { 0..1 };
        others.into_iter().try_for_each(|other| self.send(other, Message::Through))
    }

    /// For whoever waits inside of a call: tells that this rank lives, and looks whether the others do.
    ///
    /// # Errors
    ///
    /// A rank that this one depends on was silent for too long: everybody on rank 0, rank 0 elsewhere.
    pub fn stay_in_touch(&mut self) -> Result<(), Error> {
        if !self.is_time_to_look_around() {
            return Ok(());
        }
        while let Some((_, message)) = self.next_message()? {
            tracing::debug!("dropped {message:?} in the reduction");
        }
        self.look_after_others()
    }

    /// What [`stay_in_touch`](Self::stay_in_touch) does when it is time to, for whoever has read all that has arrived.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn look_after_others(&mut self) -> Result<(), Error> {
        match self.look_around()?.first() {
            Some((other, silence)) => Err(self.silent(*other, *silence)),
            None => Ok(()),
        }
    }

    /// Whether it is some time since this rank has looked after others. What has arrived has to be read before it does.
    pub fn is_time_to_look_around(&mut self) -> bool {
        let now = Instant::now();
        let pause = now.duration_since(self.touched);
        if self.size() == 1 || pause < self.patience.interval() / 2 {
            return false;
        }
        self.touched = now;
        let excuse = self.patience.excuse(pause);
        self.heard.iter_mut().for_each(|heard| *heard += excuse);
        true
    }

    /// Tells those who may wait for this rank that it lives. Gives those that this one depends on and that were silent
    /// for too long, with how long.
    pub fn look_around(&mut self) -> Result<Vec<(usize, Duration)>, Error> {
        let (now, mine, mut silent) = (self.touched, self.rank(), Vec::new());
        let others = if mine == 0 { 1..self.size() } else { 0..1 };
        for other in others {
            if self.through.contains(&other) {
                continue;
            }
            let silence = now.saturating_duration_since(self.heard[other]);
            if silence > self.patience.bound() {
                silent.extend((!self.lost.contains(&other)).then_some((other, silence)));
                continue;
            }
            // A lost rank that answers again is still in this call, and must not miss this one.
            let beat = if mine == 0 { Message::ToWorker(ToWorker::Beat) } else { Message::ToMaster(ToMaster::Beat) };
            self.send(other, beat)?;
        }
        Ok(silent)
    }

    /// Does something that may take long on the pool, and stays in touch meanwhile.
    pub fn meanwhile<R: Send>(&mut self, work: impl FnOnce() -> R + Send) -> Result<R, Error> {
        self.meanwhile_doing(self.patience.interval() / 2, work, Self::stay_in_touch)
    }

    /// Does something that may take long on the pool, and meanwhile something short again and again.
    pub fn meanwhile_doing<R: Send>(
        &mut self,
        pause: Duration,
        work: impl FnOnce() -> R + Send,
        mut look: impl FnMut(&mut Self) -> Result<(), Error>,
    ) -> Result<R, Error> {
        let pool = Arc::clone(&self.pool);
        pool.in_place_scope(|scope| {
            let (done, result) = channel();
            scope.spawn(move |_| drop(done.send(work())));
            loop {
                match result.recv_timeout(pause) {
                    Ok(value) => return Ok(value),
                    Err(RecvTimeoutError::Timeout) => look(self)?,
                    // The work has panicked; the scope passes that on.
                    Err(RecvTimeoutError::Disconnected) => {
                        return Err(self.internal("the reduction", "it panicked".into()));
                    }
                }
            }
        })
    }

    /// Somebody without whom this call cannot end is silent: nobody can be waited for any more.
    pub fn silent(&mut self, other: usize, silence: Duration) -> Error {
        let error = Error::from(ErrorKind::Silent {
            place: self.places[other].clone(),
            seconds: silence.as_secs(),
            waiting: self.place.clone(),
        });
        self.broken.get_or_insert_with(|| error.clone());
        error
    }

    /// Whether all ranks can meet in a collective.
    pub fn may_meet(&self) -> bool {
        self.lost.is_empty() && !self.is_adrift
    }

    /// Starts a collective.
    pub fn start(&mut self, collective: Collective) -> Result<(), Error> {
        if let Some(bytes) = collective.bytes() {
            self.traffic.messages += 1;
            self.traffic.bytes += bytes as u64;
        }
        self.transport.start(collective).map_err(|failure| self.failed(failure))
    }

    /// The result of the collective that was started, once it is complete here.
    pub fn test(&mut self) -> Result<Option<Vec<Vec<u8>>>, Error> {
        self.transport.test().map_err(|failure| self.failed(failure))
    }

    /// Takes part in a collective and waits for its result.
    pub fn collective(&mut self, collective: Collective) -> Result<Vec<Vec<u8>>, Error> {
        self.start(collective)?;
        let mut waiter = Waiter::default();
        loop {
            if let Some(result) = self.test()? {
                return Ok(result);
            }
            self.stay_in_touch()?;
            waiter.wait(Mood::Meeting, std::thread::sleep);
        }
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
            if self.rank() > 1 && matches!(error.kind(), ErrorKind::Silent { .. }) {
                // All workers miss rank 0 at the same moment; rank 1 speaks.
                std::thread::sleep(4 * ROOT_FIRST);
            }
            eprintln!("rankfold: error: {error}");
            self.given_up = true;
            self.transport.abandon();
        }
    }

    /// Ends this rank's part: waits for the others, and says so if one of them still expects it to make a call.
    pub fn leave(&mut self) -> Result<(), Error> {
        if !self.may_meet() {
            return self.leave_without_the_lost();
        }
        let others = if self.rank() == 0 { 1..self.size() } else { 0..1 };
        others.into_iter().try_for_each(|other| self.send(other, Message::Leave))?;
        meeting::part(self)?;
        if !self.may_meet() {
            return self.leave_without_the_lost();
        }
        let now = self.call;
        let mut expected = self.early.iter().find_map(|(from, envelope)| call_expected(*from, envelope, now));
        let closed = self.transport.close(&mut |incoming: Incoming| {
            let envelope = wire::decode::<Envelope>(&incoming.bytes).ok();
            let also = envelope.and_then(|envelope| call_expected(incoming.from, &envelope, now));
            expected = expected.take().or(also);
        });
        if let Some((waiting, number, call)) = expected {
            let (place, waiting) = (self.place.clone(), self.places[waiting].clone());
            eprintln!("rankfold: error: {}", ErrorKind::Left { call, place, calls: now, waiting, number });
        }
        closed.map_err(|failure| self.failed(failure))
    }

    /// A lost rank may never come to the end, so nobody waits for it there. Rank 0 waits until the others have got all that
    /// it has for them.
    fn leave_without_the_lost(&mut self) -> Result<(), Error> {
        if self.rank() > 0 {
            self.send(0, Message::Leave)?;
            // Whoever fails ends the job at once then: not before everybody is through.
            self.wait_until(|rank| rank.left.contains_key(&0))?;
        } else {
            self.wait_until(|rank| {
                (1..rank.size()).all(|other| rank.lost.contains(&other) || rank.left.contains_key(&other))
            })?;
            self.lost.retain(|lost| !self.left.contains_key(lost));
            if !self.lost.is_empty() {
                let missing: Vec<String> = self.lost.iter().map(|lost| self.places[*lost].to_string()).collect();
                eprintln!(
                    "rankfold: warning: {} never answered again; all results are complete, and the program ends without",
                    missing.join(", ")
                );
            }
        }
        if self.rank() == 0 {
            (1..self.size()).try_for_each(|other| self.send(other, Message::Leave))?;
        }
        self.transport.close_without(&self.lost).map_err(|failure| self.failed(failure))
    }

    /// Waits for messages until they have brought about something.
    fn wait_until(&mut self, happened: impl Fn(&Self) -> bool) -> Result<(), Error> {
        let mut waiter = Waiter::default();
        while !happened(self) {
            if self.next_message()?.is_none() {
                waiter.wait(Mood::without_work(&self.transport), std::thread::sleep);
            }
        }
        Ok(())
    }

    pub fn internal(&self, call: &str, message: String) -> Error {
        ErrorKind::Internal { call: call.to_owned(), place: self.place.clone(), message }.into()
    }

    fn receive(&mut self) -> Result<Option<Incoming>, Error> {
        self.transport.receive().map_err(|failure| self.failed(failure))
    }
}

/// The call that a rank has made and rank 0, which has made so many, will not make: who, which, and how it is called.
fn call_expected(from: usize, envelope: &Envelope, made: u64) -> Option<(usize, u64, String)> {
    match envelope {
        Envelope { call, message: Message::ToMaster(ToMaster::Hello(Ok(signature))) } if *call > made => {
            Some((from, *call, signature.name.clone()))
        }
        _ => None,
    }
}
