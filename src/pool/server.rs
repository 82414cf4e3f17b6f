//! A rank's side of a pool: the tasks that it was given, the threads that run them, and the values that it keeps.
//!
//! Every rank has one, rank 0 as well. It never waits: what its threads are through with is on the desk.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::mpsc::{SendError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rayon::ThreadPool;
use serde::{Deserialize, Serialize};

use super::desk::{Desk, Note};
use super::variables::Here;
use crate::code::Entry;
use crate::error::{Error, ErrorKind, Place};
use crate::lock::lock;
use crate::master::tasks::TaskId;
use crate::rank::{Rank, Traffic};
use crate::wire::{self, Assignment, EndedTask, Input, InputFrom, TaskResult, ToServer};
use crate::worker::backlog::Backlog;
use crate::worker::caught::catch;
use crate::worker::kept::{Kept, Unfit, discard};
use crate::worker::runner::{self, Made, Trouble};
use crate::worker::store::{Memory, Store};

pub(super) struct Server {
    place: Place,
    /// The number of the call, in front of every value that travels.
    call: u64,
    pool: Arc<ThreadPool>,
    desk: Arc<Desk>,
    runs: Arc<Mutex<Runs>>,
    here: Arc<Here>,
    store: Store,
    /// Where values go that are wanted elsewhere, or on the disk: threads of the pool may be busy for long.
    writer: Option<Sender<Chore>>,
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
}

/// What comes of a message.
#[derive(Debug, Default)]
pub(super) struct Obeyed {
    /// Values that have to be fetched, with the rank that has each.
    pub fetches: Vec<(TaskId, usize)>,
    /// Tasks that rank 0 gets back.
    pub returned: Option<Vec<TaskId>>,
}

/// Why a rank cannot have a value.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Absent {
    Unfit(Unfit),
    Gone(String),
}

impl Absent {
    pub fn into_error(self, call: &str, place: &Place) -> Error {
        match self {
            Self::Unfit(unfit) => unfit.into_error(call, place),
            Self::Gone(message) => ErrorKind::Internal { call: call.into(), place: place.clone(), message }.into(),
        }
    }
}

/// What the threads take tasks from.
#[derive(Default)]
struct Runs {
    backlog: Backlog<Work>,
    /// Threads that look for tasks, or run one.
    active: usize,
}

/// A task that was not begun.
struct Work {
    here: Arc<Here>,
    entry: Result<Entry, Absent>,
    arguments: Vec<u8>,
    values: Vec<TaskId>,
    inputs: Vec<Option<Arc<Kept>>>,
}

impl Server {
    pub fn new(rank: &Rank, desk: &Arc<Desk>) -> Self {
        Self {
            place: rank.place.clone(),
            call: rank.call,
            pool: Arc::clone(&rank.pool),
            desk: Arc::clone(desk),
            runs: Arc::default(),
            here: Arc::new(Here::new(&rank.place, rank.memory.is_some())),
            store: Store::new(&rank.place, rank.memory),
            writer: None,
        }
    }

    /// Does what rank 0 says, or a rank that wants a value.
    pub fn obey(&mut self, from: usize, message: ToServer) -> Obeyed {
        match message {
            ToServer::Run(assignments) => Obeyed { fetches: self.run(assignments), ..Obeyed::default() },
            ToServer::Recall(tasks) => Obeyed { returned: Some(self.recall(tasks)), ..Obeyed::default() },
            ToServer::Miss(lost) => Obeyed { returned: Some(self.miss(lost)), ..Obeyed::default() },
            ToServer::Free(values) => {
                values.into_iter().for_each(|value| self.free(value));
                Obeyed::default()
            }
            ToServer::Fetch(value) => {
                self.write(value, from);
                Obeyed::default()
            }
            // These concern the loop.
            ToServer::Broadcast(_) | ToServer::GiveUp | ToServer::Finish { .. } => Obeyed::default(),
        }
    }

    /// Takes tasks. Gives the values that have to be fetched for them, with the rank that has each.
    fn run(&mut self, assignments: Vec<Assignment>) -> Vec<(TaskId, usize)> {
        let mut fetches = Vec::new();
        let mut runs = lock(&self.runs);
        for Assignment { task, code, arguments, inputs } in assignments {
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
            let entry = code.entry().ok_or_else(|| Absent::Gone("this program has no such function".into()));
            let here = Arc::clone(&self.here);
            let work = Work { here, entry, arguments, values, inputs: found };
            fetches.extend(runs.backlog.give(task, work, &lacks));
        }
        drop(runs);
        self.start_threads();
        fetches
    }

    /// A value is here, or there is none.
    pub fn arrived(&mut self, value: TaskId, kept: &Result<Arc<Kept>, Absent>) {
        let bytes = kept.as_ref().map_or(0, |kept| kept.length());
        let mut runs = lock(&self.runs);
        let is_wanted = runs.backlog.arrived(value, |work| match kept {
            Ok(kept) => {
                let places = work.values.iter().zip(&mut work.inputs).filter(|(other, _)| **other == value);
                places.for_each(|(_, input)| *input = Some(Arc::clone(kept)));
            }
            Err(problem) => work.entry = Err(problem.clone()),
        });
        drop(runs);
        if let (Ok(kept), true) = (kept, is_wanted) {
            self.keep(value, Arc::clone(kept), bytes);
        }
        self.start_threads();
    }

    /// What is told of a task that was run here. A value that stays is kept.
    pub fn ended(&mut self, task: TaskId, result: Result<Made, Trouble>, seconds: f64) -> EndedTask {
        let result = match result {
            Ok(Made::Small(bytes)) => TaskResult::Small(bytes),
            Ok(Made::Large(kept, bytes)) => {
                self.keep(task, Arc::new(kept), bytes);
                TaskResult::Large(bytes)
            }
            Err(trouble) => TaskResult::Failed(trouble.into_error(task, &self.place)),
        };
        // What it has read is shared no longer.
        self.spill();
        EndedTask { task, result, seconds }
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
            lock(&self.runs).backlog.expect(value, 0);
        }
    }

    /// A value will not come by itself. Whether it has to be asked for.
    pub fn still_needs(&mut self, value: TaskId) -> bool {
        lock(&self.runs).backlog.still_needs(value)
    }

    /// What the rank has sent so far, for tasks that ask.
    pub fn count(&self, traffic: &Traffic) {
        self.here.count(traffic);
    }

    /// Whether a thread runs something.
    pub fn is_busy(&self) -> bool {
        lock(&self.runs).active > 0
    }

    /// Gives a value away.
    pub fn take(&mut self, value: TaskId) -> Option<Arc<Kept>> {
        self.store.remove(value)
    }

    /// Nobody needs a value any more.
    fn free(&mut self, value: TaskId) {
        discard(self.store.remove(value));
        lock(&self.runs).backlog.forgo(value);
    }

    /// A rank is lost. Gives the tasks back that wait for values of its.
    fn miss(&mut self, lost: usize) -> Vec<TaskId> {
        lock(&self.runs).backlog.miss(lost)
    }

    pub fn kept(&self, value: TaskId) -> Option<Arc<Kept>> {
        self.store.get(value).cloned()
    }

    /// Takes back those of these tasks that have not begun.
    fn recall(&mut self, mut tasks: Vec<TaskId>) -> Vec<TaskId> {
        let mut runs = lock(&self.runs);
        tasks.retain(|task| runs.backlog.remove(*task));
        tasks
    }

    /// Has a value written as bytes for another rank; they are on the desk then.
    fn write(&mut self, value: TaskId, to: usize) {
        self.have_done(Chore::Write(Write { value, to, kept: self.store.look_at(value).cloned() }));
    }

    fn have_done(&mut self, chore: Chore) {
        let writer = self.writer.get_or_insert_with(|| {
            let (sender, chores) = channel::<Chore>();
            let (desk, call, place) = (Arc::clone(&self.desk), self.call, self.place.clone());
            let thread = std::thread::Builder::new().name("rankfold-writer".into());
            let all = move || chores.into_iter().for_each(|chore| chore.carry_out(call, &place, &desk));
            if let Err(error) = thread.spawn(all) {
                tracing::warn!("{}: values are written by the thread that does everything else: {error}", self.place);
            }
            sender
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

    fn start_threads(&self) {
        start_threads(&self.pool, &self.runs, &self.desk);
    }
}

impl Chore {
    fn carry_out(self, call: u64, place: &Place, desk: &Desk) {
        match self {
            Self::Write(write) => write.carry_out(call, place, desk),
            Self::Spill(memory) => memory.spill(),
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

thread_local! {
    /// Whether this thread is in a task, which may wait for others of rayon's and do something else meanwhile.
    static IN_A_TASK: Cell<bool> = const { Cell::new(false) };
}

/// Runs tasks until there are none.
fn run_all(pool: &Arc<ThreadPool>, runs: &Arc<Mutex<Runs>>, desk: &Arc<Desk>) {
    loop {
        let mut locked = lock(runs);
        // A task that waits for a part of its own must not be kept waiting by another task.
        let next = if IN_A_TASK.get() { None } else { locked.backlog.next() };
        let Some((task, work)) = next else {
            locked.active -= 1;
            return;
        };
        drop(locked);
        let begun = Instant::now();
        let inputs: Vec<Arc<Kept>> = work.inputs.into_iter().flatten().collect();
        IN_A_TASK.set(true);
        let result = match work.entry {
            Ok(entry) => {
                work.here.run(|| runner::run(entry, &work.arguments, inputs)).map(|made| work.here.measure(made))
            }
            Err(Absent::Unfit(unfit)) => Err(Trouble::Unfit(unfit)),
            Err(Absent::Gone(problem)) => Err(Trouble::Internal(problem)),
        };
        IN_A_TASK.set(false);
        let seconds = begun.elapsed().as_secs_f64();
        // After the end nobody wants it.
        let _ = desk.post(Note::Ended { task, result, seconds });
        // One may have given up its place inside of this task.
        start_threads(pool, runs, desk);
    }
}

/// Lets as many threads look for tasks as there are tasks for.
fn start_threads(pool: &Arc<ThreadPool>, runs: &Arc<Mutex<Runs>>, desk: &Arc<Desk>) {
    let mut locked = lock(runs);
    let most = pool.current_num_threads().min(locked.active + locked.backlog.runnable());
    while locked.active < most {
        locked.active += 1;
        let (again, runs, desk) = (Arc::clone(pool), Arc::clone(runs), Arc::clone(desk));
        pool.spawn(move || run_all(&again, &runs, &desk));
    }
}
