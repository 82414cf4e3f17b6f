//! Rank 0's loop in a pool: notes from the desk and messages from the ranks in, the actions of [`Tasks`] out.

mod broadcasts;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use broadcasts::Broadcasts;

use super::TOGETHER;
use super::desk::{Desk, Note, Payload, Slot, Then};
use super::server::{Obeyed, Server};
use crate::error::{Error, ErrorKind};
use crate::master::scheduler::GRACE;
use crate::master::tasks::{Action, Ending, Event, Source, TaskId, Tasks};
use crate::rank::Rank;
use crate::transport::Channel;
use crate::transport::wait::{Mood, Waiter, sharpen_timer};
use crate::wire::{
    Assignment, EndedTask, FromServer, Input, InputFrom, Message, Signature, TaskResult, ToMaster, ToServer, ToWorker,
};
use crate::worker::kept::Kept;

pub(super) struct Host<'h> {
    rank: &'h mut Rank,
    desk: Arc<Desk>,
    signature: Signature,
    tasks: Tasks<Payload>,
    server: Server,
    /// Tasks and values on their way out, by rank.
    assigned: BTreeMap<usize, Vec<Assignment>>,
    freed: BTreeMap<usize, Vec<TaskId>>,
    /// Values that are on their way here, for somebody who waits for them.
    brought: BTreeMap<TaskId, Bringing>,
    broadcasts: Broadcasts,
    /// Where the user's functions are called that are to be called when tasks end: they may take long.
    callbacks: Option<Callbacks>,
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

struct Bringing {
    slot: Arc<Slot>,
    from: usize,
    name: Cow<'static, str>,
}

struct Callbacks {
    sender: Sender<Then>,
    thread: JoinHandle<()>,
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
    let tasks = Tasks::new(&rank.places, &rank.threads);
    let mut host = Host {
        rank,
        desk: Arc::clone(desk),
        signature,
        tasks,
        server,
        assigned: BTreeMap::new(),
        freed: BTreeMap::new(),
        brought: BTreeMap::new(),
        broadcasts: Broadcasts::default(),
        callbacks: None,
        entered: BTreeSet::new(),
        broken: None,
        stopped: BTreeSet::new(),
        is_over: false,
        waiter: Waiter::default(),
    };
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
            for note in notes {
                self.on_note(note)?;
            }
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

    fn on_note(&mut self, note: Note) -> Result<(), Error> {
        match note {
            Note::Submit { task, order, payload } => self.tasks.handle(Event::Submitted { task, order, payload }),
            Note::Give { task, payload, large } => self.give(task, payload, large),
            // Nobody may wait for the answer any more.
            Note::Locate { task, answer } => drop(answer.send(self.tasks.holders(task))),
            Note::Want { task, taken } => self.tasks.handle(Event::Wanted { task, taken }),
            Note::Release(task) => self.tasks.handle(Event::Released { task }),
            Note::Detach(task) => self.tasks.handle(Event::Detached { task }),
            Note::Cancel(task) => self.tasks.handle(Event::Cancelled { task }),
            Note::Close => {
                self.tell_that_it_is_over(None);
                self.tasks.handle(Event::Closed);
            }
            Note::Ended { task, result, seconds } => {
                let ended = self.server.ended(task, result, seconds);
                self.on_ended(0, ended);
            }
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
            Message::FromServer(FromServer::Met(value)) => self.broadcasts.met(from, value),
            Message::ToServer(message) => self.obey(from, message)?,
            _ => {}
        }
        Ok(())
    }

    fn on_hello(&mut self, worker: usize, theirs: Result<Signature, Error>) {
        match theirs {
            Err(error) => self.broken = Some(error),
            Ok(theirs) => match self.signature.difference(&theirs) {
                None => {
                    self.entered.insert(worker);
                    self.tasks.handle(Event::Ready { worker });
                }
                Some((what, on_root, on_other)) => {
                    let (root, other) = (self.rank.place.clone(), self.rank.places[worker].clone());
                    let (call, what) = (self.signature.name.clone(), what.to_owned());
                    self.broken = Some(ErrorKind::Disagreement { call, what, root, on_root, other, on_other }.into());
                }
            },
        }
    }

    fn on_ended(&mut self, worker: usize, ended: EndedTask) {
        let EndedTask { task, result, seconds } = ended;
        let payload = self.tasks.payload_mut(task);
        let ending = match result {
            TaskResult::Small(bytes) => {
                if let Some(payload) = payload {
                    payload.small.get_or_insert_with(|| Arc::new(bytes));
                }
                Ending::Small { seconds }
            }
            TaskResult::Large(bytes) => Ending::Large { bytes, seconds },
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
        if let Some(Bringing { slot, from, name }) = self.brought.remove(&value) {
            let place = &self.rank.places[from];
            let then = slot.bring(kept.clone().map_err(|absent| absent.into_error(&name, place)));
            self.follow(then);
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
                Action::Bring { task, from, taken } => self.bring(task, from, taken)?,
                Action::Free { worker, task } => self.freed.entry(worker).or_default().push(task),
                Action::Settle { task, failed } => {
                    settled = true;
                    if let Some(payload) = self.tasks.payload_mut(task) {
                        // It will not run again.
                        payload.arguments = Vec::new();
                        let value = payload.small.clone().map(|bytes| Arc::new(Kept::bytes(bytes, 0)));
                        let then = payload
                            .slot
                            .settle(failed.map_or(Ok(()), |error| Err(error.in_call(&payload.name))), value);
                        self.follow(then);
                    }
                }
                Action::Miss { worker, lost } => self.command(worker, ToServer::Miss(lost))?,
                Action::Unavailable { task, error } => {
                    settled = true;
                    self.brought.remove(&task);
                    if let Some(slot) = self.tasks.payload(task).map(|payload| Arc::clone(&payload.slot)) {
                        let then = slot.bring(Err(error));
                        self.follow(then);
                    }
                }
                Action::Tell { task, failure } => {
                    let name = self.tasks.payload(task).map_or("a task", |payload| &payload.name);
                    eprintln!("rankfold: error: {name}, which nobody waits for: {failure}");
                }
                Action::Finish => finished = true,
            }
        }
        let waiting: Vec<usize> = self.assigned.keys().chain(self.freed.keys()).copied().collect();
        waiting.into_iter().try_for_each(|worker| self.flush(worker))?;
        if settled {
            self.desk.ring();
        }
        Ok(finished)
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
        let payload = self.tasks.payload(task).expect("a task that is assigned is known");
        let assignment = Assignment { task, code: payload.code, arguments: payload.arguments.clone(), inputs };
        let together = self.assigned.entry(worker).or_default();
        together.push(assignment);
        if together.len() >= TOGETHER { self.flush(worker) } else { Ok(()) }
    }

    /// Sends what has come together for a worker.
    fn flush(&mut self, worker: usize) -> Result<(), Error> {
        if let Some(freed) = self.freed.remove(&worker) {
            self.command(worker, ToServer::Free(freed))?;
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
        let (slot, name) = (Arc::clone(&payload.slot), payload.name.clone());
        let here = if taken { self.server.take(task) } else { self.server.kept(task) };
        if let Some(kept) = here {
            let then = slot.bring(Ok(kept));
            self.follow(then);
            self.desk.ring();
            return Ok(());
        }
        self.brought.insert(task, Bringing { slot, from, name });
        self.rank.send(from, Message::ToServer(ToServer::Fetch(task)))
    }

    fn look_around(&mut self) -> Result<(), Error> {
        if !self.rank.is_time_to_look_around() {
            return Ok(());
        }
        for (worker, silence) in self.rank.look_around()? {
            if !self.entered.contains(&worker) {
                // It is busy with something of the program's own, and waited for.
                continue;
            }
            self.rank.lost.insert(worker);
            let seconds = silence.as_secs();
            let (place, waiting) = (self.rank.places[worker].clone(), self.rank.place.clone());
            eprintln!(
                "rankfold: warning: {place} has not answered for {seconds} s; its tasks run on other ranks, and the values \
                 that it alone had are lost (RANKFOLD_PATIENCE=seconds bears longer silence)"
            );
            let error = ErrorKind::Silent { place, seconds, waiting }.into();
            self.tasks.handle(Event::Lost { worker, error });
            self.give_up_broadcasting()?;
            // Another rank may have a copy of what it was to send.
            let again: Vec<TaskId> =
                self.brought.iter().filter(|(_, bringing)| bringing.from == worker).map(|(task, _)| *task).collect();
            for task in again {
                self.brought.remove(&task);
                self.tasks.handle(Event::Wanted { task, taken: false });
            }
        }
        Ok(())
    }

    /// A rank that left the program before the pool began will never serve.
    fn look_for_leavers(&mut self) {
        let call = self.rank.call;
        let early = self.rank.left.iter().find(|(_, calls)| **calls < call);
        let Some((rank, calls)) = early.map(|(rank, calls)| (*rank, *calls)) else { return };
        let (place, waiting) = (self.rank.places[rank].clone(), self.rank.place.clone());
        let name = self.signature.name.clone();
        self.broken.get_or_insert_with(|| ErrorKind::Left { call: name, place, calls, waiting, number: call }.into());
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

    /// Nobody waits for a value that will not come.
    fn let_everybody_go(&mut self, error: Option<&Error>) {
        for note in self.desk.end(error) {
            match note {
                Note::Submit { task, order, payload } => self.tasks.handle(Event::Submitted { task, order, payload }),
                Note::Give { task, payload, large } => self.give(task, payload, large),
                _ => {}
            }
        }
        self.tell_that_it_is_over(error);
    }

    fn tell_that_it_is_over(&mut self, error: Option<&Error>) {
        let over =
            |name: &str| error.cloned().unwrap_or_else(|| ErrorKind::PoolIsOver { task: name.to_owned() }.into());
        let mut all = Vec::new();
        for payload in self.tasks.held_payloads().filter(|payload| payload.slot.value().is_none()) {
            all.extend(payload.slot.bring(Err(over(&payload.name))));
        }
        for Bringing { slot, name, .. } in std::mem::take(&mut self.brought).into_values() {
            all.extend(slot.bring(Err(over(&name))));
        }
        self.follow(all);
        self.desk.ring();
    }

    /// Does what is to be done when tasks have come to their end.
    fn follow(&mut self, then: Vec<Then>) {
        for then in then {
            if !matches!(then, Then::Call(_)) {
                then.happen();
                continue;
            }
            if self.callbacks.is_none() {
                let (sender, receiver) = channel::<Then>();
                let thread = thread::Builder::new().name("rankfold-callbacks".into());
                let thread = thread.spawn(move || receiver.into_iter().for_each(Then::happen));
                self.callbacks = thread.ok().map(|thread| Callbacks { sender, thread });
            }
            match &self.callbacks {
                Some(callbacks) => drop(callbacks.sender.send(then)),
                // Without a thread it happens here, if it may.
                None => then.happen(),
            }
        }
    }

    fn wait(&mut self) {
        let mood = if self.broadcasts.is_under_way() {
            Mood::Meeting
        } else if self.server.is_busy() {
            Mood::Serving
        } else {
            Mood::without_work(&self.rank.transport)
        };
        self.waiter.wait(mood, |sleep| self.desk.sleep(sleep));
    }
}

impl Drop for Host<'_> {
    /// Also when it unwinds, nobody waits for a value that will not come; and what is to be done at the end of tasks is.
    fn drop(&mut self) {
        self.let_everybody_go(None);
        if let Some(Callbacks { sender, thread }) = self.callbacks.take() {
            drop(sender);
            // Its panics are caught and told.
            let _ = thread.join();
        }
    }
}
