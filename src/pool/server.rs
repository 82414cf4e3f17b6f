//! A rank's side of a pool: the tasks that it was given, the threads that run them, and the values that it keeps.
//!
//! Every rank has one, rank 0 as well. It never waits: what its threads are through with is on the desk.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rayon::ThreadPool;

use super::desk::{Desk, Note};
use crate::code::Entry;
use crate::error::Place;
use crate::master::tasks::TaskId;
use crate::rank::Rank;
use crate::wire::{self, Assignment, EndedTask, Input, InputFrom, TaskResult};
use crate::worker::backlog::Backlog;
use crate::worker::kept::Kept;
use crate::worker::runner::{self, Made, Trouble};

pub(super) struct Server {
    place: Place,
    /// The number of the call, in front of every value that travels.
    call: u64,
    pool: Arc<ThreadPool>,
    desk: Arc<Desk>,
    runs: Arc<Mutex<Runs>>,
    store: BTreeMap<TaskId, Arc<Kept>>,
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
    entry: Result<Entry, String>,
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
            store: BTreeMap::new(),
        }
    }

    /// Takes tasks. Gives the values that have to be fetched for them, with the rank that has each.
    pub fn run(&mut self, assignments: Vec<Assignment>) -> Vec<(TaskId, usize)> {
        let mut fetches = Vec::new();
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        for Assignment { task, code, arguments, inputs } in assignments {
            let (mut lacks, mut values, mut found) = (BTreeMap::new(), Vec::new(), Vec::new());
            for Input { value, from } in inputs {
                values.push(value);
                found.push(match (self.store.get(&value), from) {
                    (Some(kept), _) => Some(Arc::clone(kept)),
                    (None, InputFrom::Here(bytes)) => Some(Arc::new(Kept::bytes(bytes, 0))),
                    (None, InputFrom::Rank(rank)) => {
                        lacks.insert(value, rank);
                        None
                    }
                });
            }
            let entry =
                code.entry().ok_or_else(|| "a function was asked for that this program does not have".to_owned());
            let work = Work { entry, arguments, values, inputs: found };
            fetches.extend(runs.backlog.give(task, work, &lacks));
        }
        drop(runs);
        self.start_threads();
        fetches
    }

    /// A value is here, or there is none.
    pub fn arrived(&mut self, value: TaskId, kept: &Result<Arc<Kept>, String>) {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let is_wanted = runs.backlog.arrived(value, |work| match kept {
            Ok(kept) => {
                let places = work.values.iter().zip(&mut work.inputs).filter(|(other, _)| **other == value);
                places.for_each(|(_, input)| *input = Some(Arc::clone(kept)));
            }
            Err(problem) => work.entry = Err(problem.clone()),
        });
        drop(runs);
        if let (Ok(kept), true) = (kept, is_wanted) {
            self.store.insert(value, Arc::clone(kept));
        }
        self.start_threads();
    }

    /// What is told of a task that was run here. A value that stays is kept.
    pub fn ended(&mut self, task: TaskId, result: Result<Made, Trouble>, seconds: f64) -> EndedTask {
        let result = match result {
            Ok(Made::Small(bytes)) => TaskResult::Small(bytes),
            Ok(Made::Large(kept, bytes)) => {
                self.store.insert(task, Arc::new(kept));
                TaskResult::Large(bytes)
            }
            Err(trouble) => TaskResult::Failed(trouble.into_error(task, &self.place)),
        };
        EndedTask { task, result, seconds }
    }

    /// Whether a thread runs something.
    pub fn is_busy(&self) -> bool {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).active > 0
    }

    /// Gives a value away.
    pub fn take(&mut self, value: TaskId) -> Option<Arc<Kept>> {
        self.store.remove(&value)
    }

    /// Nobody needs a value any more.
    pub fn free(&mut self, value: TaskId) {
        self.store.remove(&value);
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).backlog.forgo(value);
    }

    /// A rank is lost. Gives the tasks back that wait for values of its.
    pub fn miss(&mut self, lost: usize) -> Vec<TaskId> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).backlog.miss(lost)
    }

    pub fn kept(&self, value: TaskId) -> Option<Arc<Kept>> {
        self.store.get(&value).cloned()
    }

    /// Takes back those of these tasks that have not begun.
    pub fn recall(&mut self, mut tasks: Vec<TaskId>) -> Vec<TaskId> {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.retain(|task| runs.backlog.remove(*task));
        tasks
    }

    /// Writes a value as bytes for another rank, on a thread of the pool; they are on the desk then.
    pub fn write(&self, value: TaskId, to: usize) {
        let (kept, desk, head) = (self.kept(value), Arc::clone(&self.desk), (self.call, value));
        let place = self.place.clone();
        self.pool.spawn(move || {
            let written = kept.ok_or_else(|| format!("{place} does not have it any more"));
            let bytes = written.and_then(|kept| {
                let mut bytes = wire::encode(&(head.0, head.1, Ok::<(), String>(()))).expect("numbers can be encoded");
                kept.write(&mut bytes).map(|()| bytes).map_err(|unfit| {
                    format!("a value of type {} cannot be {}: {}", unfit.type_name, unfit.doing, unfit.message)
                })
            });
            let bytes = bytes.unwrap_or_else(|problem| {
                wire::encode(&(head.0, head.1, Err::<(), String>(problem))).expect("a text can be encoded")
            });
            desk.post(Note::Written { to, bytes });
        });
    }

    /// Takes apart what another rank has written: `None` if it is of another call.
    pub fn read(&self, bytes: Vec<u8>) -> Option<(TaskId, Result<Arc<Kept>, String>)> {
        let (head, rest) = wire::decode_first::<(u64, TaskId, Result<(), String>)>(&bytes).ok()?;
        let (call, value, found) = head;
        let front = bytes.len() - rest.len();
        let kept = found.map(|()| Arc::new(Kept::bytes(bytes, front)));
        (call == self.call).then_some((value, kept))
    }

    /// Lets as many threads look for tasks as there are tasks for.
    fn start_threads(&self) {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let most = self.pool.current_num_threads().min(runs.active + runs.backlog.runnable());
        while runs.active < most {
            runs.active += 1;
            let (runs, desk) = (Arc::clone(&self.runs), Arc::clone(&self.desk));
            self.pool.spawn(move || run_all(&runs, &desk));
        }
    }
}

/// Runs tasks until there are none.
fn run_all(runs: &Mutex<Runs>, desk: &Desk) {
    loop {
        let mut locked = runs.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((task, work)) = locked.backlog.next() else {
            locked.active -= 1;
            return;
        };
        drop(locked);
        let begun = Instant::now();
        let inputs: Vec<Arc<Kept>> = work.inputs.into_iter().flatten().collect();
        let result = match work.entry {
            Ok(entry) => runner::run(entry, &work.arguments, &inputs),
            Err(problem) => Err(Trouble::Internal(problem)),
        };
        let seconds = begun.elapsed().as_secs_f64();
        // Let go of before the end is told, so that who takes a value has it alone.
        drop(inputs);
        desk.post(Note::Ended { task, result, seconds });
    }
}
