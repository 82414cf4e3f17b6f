//! A rank's side of a pool: the tasks that it was given, the threads that run them, and the values that it keeps.
//!
//! Every rank has one, rank 0 as well. It never waits: what its threads are through with is on the desk.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::mpsc::{SendError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::desk::{Desk, End, Note};
use super::threads::{Late, Threads, Work};
use crate::code::{Code, Entry};
use crate::error::{Error, ErrorKind, Place};
use crate::interrupt::Interrupts;
use crate::master::tasks::TaskId;
use crate::rank::{Rank, Traffic};
use crate::transport::Transport;
use crate::transport::wait::Mood;
use crate::wire::{self, Assignment, EndedTask, Input, InputFrom, TaskResult, ToServer};
use crate::worker::backlog::Job;
use crate::worker::caught::catch;
use crate::worker::kept::{Kept, Unfit, discard};
use crate::worker::runner::{Cell, Made};
use crate::worker::store::{Memory, Store};
use crate::worker::usage::Usage;

/// Somebody who has asked for a value, or for a task, may wait for another one so long afterwards.
const OF_LATE: Duration = Duration::from_millis(20);

pub(super) struct Server {
    place: Place,
    /// The number of the call, in front of every value that travels.
    call: u64,
    desk: Arc<Desk>,
    threads: Arc<Threads>,
    store: Store,
    /// The states of the actors that live here.
    actors: BTreeMap<TaskId, Arc<Cell>>,
    /// Where values go that are wanted elsewhere, or on the disk: threads of the pool may be busy for long.
    writer: Option<(Sender<Chore>, Option<JoinHandle<()>>)>,
    /// Runs with a journal, during which a signal does not end this rank.
    watched: u32,
    /// When another rank last asked for something.
    asked: Option<Instant>,
}

/// A value, or nothing, to be written for a rank.
struct Write {
    value: TaskId,
    to: usize,
    kept: Option<Arc<Kept>>,
}

/// What is done by the thread that writes.
enum Chore {
    Write(Write),
    /// Values go to the disk.
    Spill(Arc<Memory>),
    /// Nobody needs it any more.
    Drop(Box<dyn Any + Send>),
}

/// What comes of a message.
#[derive(Debug, Default)]
pub(super) struct Obeyed {
    /// Values that have to be fetched, with the rank that has each.
    pub fetches: Vec<(TaskId, usize)>,
    /// Tasks that rank 0 gets back.
    pub returned: Option<Vec<TaskId>>,
}

/// What a look at the clock has shown.
#[derive(Debug)]
pub(super) struct Looked {
    /// Tasks whose time is up.
    pub late: Vec<EndedTask>,
    /// Calls that have waited for one of them.
    pub returned: Vec<TaskId>,
    /// A task that should have ended long ago.
    pub hung: Option<TaskId>,
}

/// Why a rank cannot have a value.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Absent {
    Unfit(Unfit),
    Gone(String),
}

impl Absent {
    /// The function of a task.
    pub fn or_entry(code: Code) -> Result<Entry, Self> {
        code.entry().ok_or_else(|| Self::Gone("this program has no such function".into()))
    }

    pub fn into_error(self, call: &str, place: &Place) -> Error {
        match self {
            Self::Unfit(unfit) => unfit.into_error(call, place),
            Self::Gone(message) => ErrorKind::Internal { call: call.into(), place: place.clone(), message }.into(),
        }
    }
}

impl Server {
    pub fn new(rank: &Rank, desk: &Arc<Desk>) -> Self {
        Self {
            place: rank.place.clone(),
            call: rank.call,
            desk: Arc::clone(desk),
            threads: Threads::new(rank, desk),
            store: Store::new(&rank.place, rank.memory),
            actors: BTreeMap::new(),
            writer: None,
            watched: 0,
            asked: None,
        }
    }

    /// Does what rank 0 says, or a rank that wants a value.
    pub fn obey(&mut self, from: usize, message: ToServer) -> Obeyed {
        if let ToServer::Fetch(_) | ToServer::Recall(_) = message {
            self.asked = Some(Instant::now());
        }
        match message {
            ToServer::Run(assignments) => self.run(assignments),
            ToServer::Recall(tasks) => Obeyed { returned: Some(self.recall(tasks)), ..Obeyed::default() },
            ToServer::Cancel(task) => {
                Obeyed { returned: self.threads.stop(task).then(|| vec![task]), ..Obeyed::default() }
            }
            ToServer::Miss(lost) => Obeyed { returned: Some(self.miss(lost)), ..Obeyed::default() },
            ToServer::Free(values) => {
                values.into_iter().for_each(|value| self.free(value));
                Obeyed::default()
            }
            ToServer::Fetch(value) => {
                self.write(value, from);
                Obeyed::default()
            }
            ToServer::Watch(begins) => {
                self.watch(begins);
                Obeyed::default()
            }
            // These concern the loop.
            ToServer::Tell(_) | ToServer::Broadcast(_) | ToServer::GiveUp | ToServer::Finish { .. } => {
                Obeyed::default()
            }
        }
    }

    /// Takes tasks. Values have to be fetched for some; calls of an actor that has died meanwhile go back.
    fn run(&mut self, assignments: Vec<Assignment>) -> Obeyed {
        let came = Instant::now();
        let (mut all, mut fetches, mut returned) = (Vec::new(), Vec::new(), Vec::new());
        for Assignment { task, code, arguments, inputs, depth, actor, timeout } in assignments {
            let cell = actor.and_then(|actor| self.actors.get(&actor)).cloned();
            // One whose state is in use is alive.
            let is_alive = |cell: &Arc<Cell>| cell.try_lock().map_or(true, |state| state.is_some());
            if actor.is_some() && !cell.as_ref().is_some_and(is_alive) {
                returned.push(task);
                continue;
            }
            let (mut lacks, mut values, mut found) = (BTreeMap::new(), Vec::new(), Vec::new());
            for Input { value, from } in inputs {
                values.push(value);
                found.push(match (self.store.get(value), from) {
                    (Some(kept), _) => Some(Arc::clone(kept)),
                    (None, InputFrom::Here(bytes)) => Some(Arc::new(Kept::bytes(bytes, 0))),
                    (None, InputFrom::Rank(rank)) => {
                        lacks.insert(value, rank);
                        None
                    }
                });
            }
            let work = Work {
                entry: Absent::or_entry(code),
                arguments,
                values,
                inputs: found,
                actor: actor.zip(cell),
                timeout,
                came,
            };
            all.push((Job { task, depth, actor, work }, lacks));
        }
        self.threads.change(|backlog| {
            for (job, lacks) in all {
                fetches.extend(backlog.give(job, &lacks));
            }
        });
        Obeyed { fetches, returned: Some(returned).filter(|returned| !returned.is_empty()) }
    }

    /// A value is here, or there is none.
    pub fn arrived(&mut self, value: TaskId, kept: &Result<Arc<Kept>, Absent>) {
        let bytes = kept.as_ref().map_or(0, |kept| kept.length());
        let fill = |work: &mut Work| match kept {
            Ok(kept) => {
                let places = work.values.iter().zip(&mut work.inputs).filter(|(other, _)| **other == value);
                places.for_each(|(_, input)| *input = Some(Arc::clone(kept)));
            }
            Err(problem) => work.entry = Err(problem.clone()),
        };
        let is_wanted = self.threads.change(|backlog| backlog.arrived(value, fill));
        if let (Ok(kept), true) = (kept, is_wanted) {
            self.keep(value, Arc::clone(kept), bytes);
        }
    }

    /// What is told of a task that was run here. A value that stays is kept.
    pub fn ended(&mut self, task: TaskId, end: End) -> EndedTask {
        let End { result, usage } = end;
        let result = match result {
            Ok(Made::Small(bytes)) => TaskResult::Small(bytes),
            Ok(Made::Large(kept, bytes)) => {
                self.keep(task, Arc::new(kept), bytes);
                TaskResult::Large(bytes)
            }
            Ok(Made::State(state)) => {
                self.actors.insert(task, Arc::new(Mutex::new(Some(state))));
                TaskResult::Large(0)
            }
            Err(trouble) => TaskResult::Failed(trouble.into_error(task, &self.place)),
        };
        // What it has read is shared no longer.
        self.spill();
        EndedTask { task, result, usage }
    }

    /// Keeps a value of about so many bytes.
    pub fn keep(&mut self, value: TaskId, kept: Arc<Kept>, bytes: u64) {
        self.store.insert(value, kept, bytes);
        self.spill();
    }

    /// Has values written to the disk if there are too many.
    fn spill(&mut self) {
        if let Some(memory) = self.store.overflow() {
            self.have_done(Chore::Spill(memory));
        }
    }

    /// A value will come by itself: tasks that need it wait for it, and do not ask for it.
    pub fn expect(&mut self, value: TaskId) {
        if self.store.look_at(value).is_none() {
            self.threads.change(|backlog| backlog.expect(value, 0));
        }
    }

    /// A value will not come by itself. Whether it has to be asked for.
    pub fn still_needs(&mut self, value: TaskId) -> bool {
        self.threads.change(|backlog| backlog.still_needs(value))
    }

    /// What the rank has sent so far, for tasks that ask.
    pub fn count(&self, traffic: &Traffic) {
        self.threads.here.count(traffic);
    }

    /// How to wait while there is nothing to do but what threads run and what is under way.
    pub fn mood(&self, transport: &dyn Transport) -> Mood {
        match self.threads.mood() {
            // What moves does so only while this rank looks, and who has asked once asks again.
            Some(Mood::Stocked) if transport.is_moving() || self.was_asked_of_late() => Mood::Saturated,
            mood => mood.unwrap_or_else(|| Mood::without_work(transport)),
        }
    }

    fn was_asked_of_late(&self) -> bool {
        self.asked.is_some_and(|asked| asked.elapsed() < OF_LATE)
    }

    /// Nobody wants what runs here any more.
    pub fn stop_all(&self) {
        self.threads.stop_all();
    }

    /// Looks after what runs here: whom the time is up for, and who should have ended long ago.
    pub fn look_after(&mut self, grace: Duration) -> Looked {
        let Late { tasks, actors, back: returned } = self.threads.late();
        // Calls that come later go back, and do not wait for what may never let go of the state.
        for state in actors.into_iter().filter_map(|actor| self.actors.remove(&actor)).collect::<Vec<_>>() {
            self.have_done(Chore::Drop(Box::new(state)));
        }
        let late = tasks.into_iter().map(|(task, timeout)| {
            let error = ErrorKind::TooLong { task: format!("task {task}"), timeout, place: self.place.clone() };
            EndedTask { task, result: TaskResult::Failed(error.into()), usage: Usage::default() }
        });
        let late = late.collect();
        // Some may have waited for a pause to begin.
        self.threads.start();
        Looked { late, returned, hung: self.threads.hung(grace) }
    }

    /// Gives a value away.
    pub fn take(&mut self, value: TaskId) -> Option<Arc<Kept>> {
        self.store.remove(value)
    }

    /// Nobody needs a value any more.
    fn free(&mut self, value: TaskId) {
        // What drops the user's values may take long, or wait for something.
        if let Some(kept) = self.store.remove(value) {
            self.have_done(Chore::Drop(Box::new(kept)));
        }
        if let Some(state) = self.actors.remove(&value) {
            self.have_done(Chore::Drop(Box::new(state)));
        }
        self.threads.change(|backlog| backlog.forgo(value));
    }

    /// A rank is lost. Gives the tasks back that wait for values of its.
    fn miss(&mut self, lost: usize) -> Vec<TaskId> {
        self.threads.change(|backlog| backlog.miss(lost))
    }

    fn watch(&mut self, begins: bool) {
        if begins {
            self.watched += 1;
            Interrupts::watch().call_begins();
        } else if self.watched > 0 {
            self.watched -= 1;
            Interrupts::watch().call_ends();
        }
    }

    pub fn kept(&self, value: TaskId) -> Option<Arc<Kept>> {
        self.store.get(value).cloned()
    }

    /// Takes back those of these tasks that have not begun.
    fn recall(&mut self, mut tasks: Vec<TaskId>) -> Vec<TaskId> {
        self.threads.change(|backlog| tasks.retain(|task| backlog.remove(*task)));
        tasks
    }

    /// Has a value written as bytes for another rank; they are on the desk then.
    fn write(&mut self, value: TaskId, to: usize) {
        self.have_done(Chore::Write(Write { value, to, kept: self.store.look_at(value).cloned() }));
    }

    fn have_done(&mut self, chore: Chore) {
        let (writer, _) = self.writer.get_or_insert_with(|| {
            let (sender, chores) = channel::<Chore>();
            let (desk, call, place) = (Arc::clone(&self.desk), self.call, self.place.clone());
            let thread = std::thread::Builder::new().name("rankfold-writer".into());
            let all = move || chores.into_iter().for_each(|chore| chore.carry_out(call, &place, &desk));
            let thread = thread.spawn(all).inspect_err(|error| {
                tracing::warn!("{}: values are written by the thread that does everything else: {error}", self.place);
            });
            (sender, thread.ok())
        });
        if let Err(SendError(chore)) = writer.send(chore) {
            chore.carry_out(self.call, &self.place, &self.desk);
        }
    }

    /// Takes apart what another rank has written: `None` if it is of another call.
    pub fn read(&self, bytes: Vec<u8>) -> Option<(TaskId, Result<Arc<Kept>, Absent>)> {
        let (head, rest) = wire::decode_first::<(u64, TaskId, Result<(), Absent>)>(&bytes).ok()?;
        let (call, value, found) = head;
        let front = bytes.len() - rest.len();
        let kept = found.map(|()| Arc::new(Kept::bytes(bytes, front)));
        (call == self.call).then_some((value, kept))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        (0..self.watched).for_each(|_| Interrupts::watch().call_ends());
        std::mem::take(&mut self.actors).into_values().for_each(discard);
        if let Some((chores, Some(thread))) = self.writer.take() {
            drop(chores);
            // What is dropped there is gone when the pool is. Its panics are caught and told.
            let _ = thread.join();
        }
    }
}

impl Chore {
    fn carry_out(self, call: u64, place: &Place, desk: &Desk) {
        match self {
            Self::Write(write) => write.carry_out(call, place, desk),
            Self::Spill(memory) => memory.spill(),
            Self::Drop(value) => discard(value),
        }
    }
}

impl Write {
    fn carry_out(self, call: u64, place: &Place, desk: &Desk) {
        let Self { value, to, kept } = self;
        let head = |found: Result<(), Absent>| wire::encode(&(call, value, found)).expect("a head can be encoded");
        let written = catch(|| {
            let kept = kept.ok_or_else(|| Absent::Gone(format!("{place} does not have the value any more")))?;
            let mut bytes = head(Ok(()));
            kept.write(&mut bytes).map(|()| bytes).map_err(Absent::Unfit)
        });
        let written = written.unwrap_or_else(|caught| {
            let message = format!("it panicked: {} at {}", caught.message, caught.location);
            Err(Absent::Unfit(Unfit { type_name: "this task".into(), doing: "encoded".into(), message }))
        });
        // After the end nobody wants it.
        let _ = desk.post(Note::Written { to, bytes: written.unwrap_or_else(|absent| head(Err(absent))) });
    }
}
