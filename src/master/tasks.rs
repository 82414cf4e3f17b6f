//! Tasks: which of them can run, where each runs, and what becomes of their values.
//!
//! Pure, with the verbs of the scheduler: [`Tasks::handle`] takes an event, [`Tasks::poll_action`] gives what is to be
//! done. A task can run when the values that it needs exist; it runs where most bytes of them are, unless that rank has so
//! much to do that moving them is sooner (`placement`). A value is freed when nobody has a handle on it and no task that
//! reads it is left. What a task is and what a value holds is the driver's business, in `P`.

mod handles;
mod losses;
mod placement;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use placement::{Placement, Want};

use crate::error::{Error, ErrorKind, Place};
use crate::simulate::mutant::{Mutant, planted};

/// The number of a task, and of the value that it makes.
pub(crate) type TaskId = u64;

/// What is asked for with a task.
#[derive(Debug, Clone, Default)]
pub(crate) struct Order {
    /// Tasks of one kind take about equally long.
    pub kind: u64,
    /// The values that it reads.
    pub needs: Vec<TaskId>,
    /// Higher ones first.
    pub priority: i32,
    /// The one rank that may run it.
    pub on: Option<usize>,
    /// How often it is tried again after a panic.
    pub retries: u32,
    /// Whether it runs although nobody has a handle on it.
    pub detached: bool,
}

#[derive(Debug)]
pub(crate) enum Event<P> {
    /// A worker has come, with its threads.
    Ready {
        worker: usize,
    },
    Submitted {
        task: TaskId,
        order: Order,
        payload: P,
    },
    /// A value that nobody has to make: rank 0 has it. It is small, or has so many bytes.
    Given {
        task: TaskId,
        bytes: Option<u64>,
        payload: P,
    },
    /// The value is wanted on rank 0, as soon as it exists; and there alone from then on, if it is `taken`.
    Wanted {
        task: TaskId,
        taken: bool,
    },
    /// Nobody has a handle on it any more.
    Released {
        task: TaskId,
    },
    /// Nobody has a handle on it, but it is to run.
    Detached {
        task: TaskId,
    },
    /// It is not to run, if it has not begun.
    Cancelled {
        task: TaskId,
    },
    Ended {
        worker: usize,
        task: TaskId,
        ending: Ending,
    },
    /// Tasks that were recalled before they began.
    Returned {
        worker: usize,
        tasks: Vec<TaskId>,
    },
    /// A worker will never answer again. Whoever waits for a value from there has to ask for it again.
    Lost {
        worker: usize,
        error: Error,
    },
    /// Nothing more will be submitted: when what is detached has run, that was all.
    Closed,
}

/// How a task has ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// Its value has come along.
    Small {
        seconds: f64,
    },
    /// Its value, of about so many bytes, stays with the worker.
    Large {
        bytes: u64,
        seconds: f64,
    },
    Failed {
        error: Error,
    },
}

#[derive(Debug)]
pub(crate) enum Action {
    /// Have a task run. Its inputs are at the ranks that are named, or came to rank 0 with the word that they are done.
    Assign { worker: usize, task: TaskId, inputs: Vec<(TaskId, Source)> },
    /// Take back those of these tasks that it has not begun.
    Recall { worker: usize, tasks: Vec<TaskId> },
    /// Bring a value to rank 0; nobody else needs it if it is `taken`.
    Bring { task: TaskId, from: usize, taken: bool },
    /// Nobody needs the value any more: neither keep it nor wait for it.
    Free { worker: usize, task: TaskId },
    /// The task has its value, or never will. Comes once for each task that somebody has a handle on.
    Settle { task: TaskId, failed: Option<Error> },
    /// What this worker would send will never come: give back the tasks that wait for it.
    Miss { worker: usize, lost: usize },
    /// A value that somebody has a handle on is lost.
    Unavailable { task: TaskId, error: Error },
    /// A task that nobody has a handle on, but was to run, has failed.
    Tell { task: TaskId, failure: Error },
    /// Everything has run.
    Finish,
}

/// Where a value is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// Rank 0 has its bytes, and sends them along.
    Small,
    /// This rank keeps it.
    At(usize),
}

#[derive(Debug)]
pub(crate) struct Tasks<P> {
    tasks: BTreeMap<TaskId, Task<P>>,
    placement: Placement,
    places: Vec<Place>,
    /// Workers that are there, and those that are lost, with why.
    present: BTreeSet<usize>,
    gone: BTreeMap<usize, Error>,
    /// Tasks that have neither a value nor failed.
    open: usize,
    closed: bool,
    finished: bool,
    /// Tasks that will fail, and such that nobody may need any more: one leads to the next, in graphs of any depth.
    failing: VecDeque<(TaskId, Error)>,
    unneeded: Vec<TaskId>,
    /// Tasks that are forgotten once everything about them is told.
    freed: Vec<TaskId>,
    actions: VecDeque<Action>,
}

#[derive(Debug)]
struct Task<P> {
    payload: P,
    order: Order,
    state: State,
    /// Values it needs that do not exist yet.
    lacks: usize,
    /// Tasks that need its value, and are not through with it.
    readers: BTreeSet<TaskId>,
    attempts: u32,
    handle: Handle,
    cancelled: bool,
}

/// What whoever has submitted the task expects of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Handle {
    Held,
    /// The value is to be brought to rank 0.
    Wanted,
    /// It is to be brought there, and the handle will be gone then.
    Taken,
    Gone,
}

#[derive(Debug)]
enum State {
    /// For values.
    Waiting,
    /// For a worker.
    Placed(Want),
    /// A worker has it.
    Held(usize),
    Small,
    /// These workers keep it; on its way to others, it is not there yet, or was never sent.
    Large {
        holders: Vec<usize>,
        coming: BTreeSet<usize>,
        bytes: u64,
    },
    Failed(Error),
    /// Nobody can ask for it any more.
    Freed,
}

impl State {
    fn is_settled(&self) -> bool {
        matches!(self, Self::Small | Self::Large { .. } | Self::Failed(_) | Self::Freed)
    }
}

impl<P> Task<P> {
    /// Whether anything comes of running it.
    fn is_needed(&self) -> bool {
        self.handle != Handle::Gone || self.order.detached || !self.readers.is_empty()
    }
}

impl<P> Tasks<P> {
    pub fn new(places: &[Place], threads: &[u32]) -> Self {
        Self {
            tasks: BTreeMap::new(),
            placement: Placement::new(threads),
            places: places.to_vec(),
            present: BTreeSet::new(),
            gone: BTreeMap::new(),
            open: 0,
            closed: false,
            finished: false,
            failing: VecDeque::new(),
            unneeded: Vec::new(),
            freed: Vec::new(),
            actions: VecDeque::new(),
        }
    }

    /// What the driver keeps with a task, while there is something to do with it.
    pub fn payload(&self, task: TaskId) -> Option<&P> {
        self.tasks.get(&task).map(|task| &task.payload)
    }

    pub fn payload_mut(&mut self, task: TaskId) -> Option<&mut P> {
        self.tasks.get_mut(&task).map(|task| &mut task.payload)
    }

    /// The tasks and values that are known.
    pub fn known(&self) -> impl Iterator<Item = TaskId> {
        self.tasks.keys().copied()
    }

    /// What is kept with the tasks that end with the program, whoever waits for them.
    pub fn held_payloads(&self) -> impl Iterator<Item = &P> {
        self.tasks.values().filter(|task| !task.order.detached).map(|task| &task.payload)
    }

    pub fn handle(&mut self, event: Event<P>) {
        match event {
            // Who was given up once is not relied on again.
            Event::Ready { worker } if self.gone.contains_key(&worker) => {}
            Event::Ready { worker } => {
                self.present.insert(worker);
                self.placement.add(worker);
            }
            Event::Submitted { task, order, payload } => self.submit(task, order, payload),
            Event::Given { task, bytes, payload } => self.give(task, bytes, payload),
            Event::Wanted { task, taken } => self.want(task, taken),
            Event::Released { task } => self.release(task),
            Event::Detached { task } => self.detach(task),
            Event::Cancelled { task } => self.cancel(task),
            Event::Ended { worker, task, ending } => self.end(worker, task, ending),
            Event::Returned { worker, tasks } => {
                tasks.into_iter().for_each(|task| self.take_back(worker, task));
            }
            Event::Lost { worker, error } => self.lose(worker, &error),
            Event::Closed => self.close(),
        }
        self.follow_up();
    }

    /// The next thing to do, or nothing.
    pub fn poll_action(&mut self) -> Option<Action> {
        if self.actions.is_empty() {
            self.freed.drain(..).for_each(|task| drop(self.tasks.remove(&task)));
            self.hand_out();
        }
        if self.actions.is_empty() && self.closed && self.open == 0 && !self.finished {
            self.finished = true;
            return Some(Action::Finish);
        }
        self.actions.pop_front()
    }

    fn submit(&mut self, task: TaskId, order: Order, payload: P) {
        let (mut failed, mut lacks) = (None, 0);
        for need in &order.needs {
            match self.tasks.get_mut(need) {
                Some(Task { state: State::Failed(failure), .. }) => failed = Some(caused_by(failure)),
                // A task may need one value twice.
                Some(needed) => lacks += usize::from(needed.readers.insert(task) && !needed.state.is_settled()),
                None => failed = Some(self.gone(*need)),
            }
        }
        if let Some(rank) = order.on.filter(|rank| *rank >= self.places.len()) {
            let problem = format!("a task is to run on rank {rank}, and there are {} ranks", self.places.len());
            let (call, remedy) = (format!("task {task}"), "name a rank that there is, or start more".into());
            failed = Some(ErrorKind::Refused { call, problem, remedy }.into());
        }
        let handle = if order.detached { Handle::Gone } else { Handle::Held };
        let (readers, state) = (BTreeSet::new(), State::Waiting);
        let entry = Task { payload, order, state, lacks, readers, attempts: 0, handle, cancelled: false };
        self.tasks.insert(task, entry);
        self.open += 1;
        match failed {
            Some(failure) => self.fail(task, failure),
            None if lacks == 0 => self.place(task),
            None => {}
        }
    }

    fn gone(&self, need: TaskId) -> Error {
        let message = format!("task {need} is needed by another, and was forgotten");
        let place = self.places.first().cloned().unwrap_or_else(|| Place { rank: 0, host: String::new() });
        ErrorKind::Internal { call: "submit".into(), place, message }.into()
    }

    /// All it needs is there: decides where it is to run.
    fn place(&mut self, task: TaskId) {
        let entry = &self.tasks[&task];
        let mut held: BTreeMap<usize, u64> = BTreeMap::new();
        for need in &entry.order.needs {
            // What everybody has is no reason to be anywhere.
            if let Some(Task { state: State::Large { holders, coming, bytes }, .. }) = self.tasks.get(need)
                && holders.len() + coming.len() < self.places.len() - self.gone.len()
            {
                holders.iter().chain(coming).for_each(|holder| *held.entry(*holder).or_default() += bytes);
            }
        }
        if let Some(error) = entry.order.on.and_then(|rank| self.gone.get(&rank)) {
            let error = error.clone();
            return self.fail(task, error);
        }
        let want = self.placement.place(task, &entry.order, &held);
        self.tasks.get_mut(&task).expect("it is being placed").state = State::Placed(want);
    }

    fn hand_out(&mut self) {
        while let Some((worker, task)) = self.placement.next() {
            let entry = self.tasks.get_mut(&task).expect("what is placed is known");
            entry.state = State::Held(worker);
            entry.attempts += 1;
            self.placement.given(worker, task, &entry.order);
            let needs = entry.order.needs.clone();
            let inputs = needs.into_iter().map(|need| (need, self.source(need, worker))).collect();
            self.actions.push_back(Action::Assign { worker, task, inputs });
        }
        if let Some((worker, tasks)) = self.placement.recall() {
            self.actions.push_back(Action::Recall { worker, tasks });
        }
    }

    /// Where a worker finds a value, which is on its way there from now on.
    fn source(&mut self, need: TaskId, worker: usize) -> Source {
        match &mut self.tasks.get_mut(&need).expect("a value is kept while it is needed").state {
            State::Large { holders, .. } if holders.contains(&worker) => Source::At(worker),
            State::Large { holders, coming, .. } => {
                coming.insert(worker);
                if planted(Mutant::CopiesCount) {
                    holders.insert(0, worker);
                    return Source::At(holders[holders.len() - 1]);
                }
                // Who wants it asks one of those who have it, and not everybody the same.
                Source::At(holders[worker % holders.len()])
            }
            _ => Source::Small,
        }
    }

    fn end(&mut self, worker: usize, task: TaskId, ending: Ending) {
        let is_held = |entry: &Task<P>| matches!(entry.state, State::Held(holder) if holder == worker);
        let known = self.tasks.get(&task);
        let Some(entry) = known.filter(|entry| is_held(entry)) else {
            if planted(Mutant::SettledTwice) && known.is_some() {
                self.actions.push_back(Action::Settle { task, failed: None });
            }
            // It was given to another since, or settled: what this one has made is not needed.
            self.placement.ended(worker, task, None);
            if let Ending::Large { .. } = ending {
                self.actions.push_back(Action::Free { worker, task });
            }
            return;
        };
        let kind = entry.order.kind;
        self.has_read(worker, task);
        let entry = &self.tasks[&task];
        match ending {
            Ending::Small { seconds } => {
                self.placement.ended(worker, task, Some((kind, seconds)));
                self.settle(task, State::Small);
            }
            Ending::Large { bytes, seconds } => {
                self.placement.ended(worker, task, Some((kind, seconds)));
                self.settle(task, State::Large { holders: vec![worker], coming: BTreeSet::new(), bytes });
            }
            Ending::Failed { error } => {
                self.placement.ended(worker, task, None);
                let again = entry.attempts <= entry.order.retries || planted(Mutant::TaskRetriesWithoutEnd);
                if error.may_pass() && again && !entry.cancelled {
                    self.place(task);
                } else {
                    let attempts = entry.attempts;
                    self.fail(task, error.after(attempts));
                }
            }
        }
    }

    /// Who has run a task has all that it needs.
    fn has_read(&mut self, worker: usize, task: TaskId) {
        for need in self.tasks[&task].order.needs.clone() {
            if let Some(Task { state: State::Large { holders, coming, .. }, .. }) = self.tasks.get_mut(&need)
                && coming.remove(&worker)
            {
                holders.push(worker);
            }
        }
    }

    fn take_back(&mut self, worker: usize, task: TaskId) {
        self.placement.returned(worker, task);
        let Some(entry) = self.tasks.get_mut(&task) else { return };
        if !matches!(entry.state, State::Held(holder) if holder == worker) {
            return;
        }
        entry.attempts -= 1;
        entry.state = State::Waiting;
        if entry.cancelled {
            self.fail(task, cancelled(task));
        } else if entry.is_needed() {
            if !planted(Mutant::TaskReturnForgotten) {
                let want = self.placement.place_anywhere(task, &entry.order);
                entry.state = State::Placed(want);
            }
        } else {
            self.forget(task);
        }
    }

    /// A task has come to its end: tells who has a handle, and those who wait for the value.
    fn settle(&mut self, task: TaskId, state: State) {
        let entry = self.tasks.get_mut(&task).expect("it is being settled");
        let failed = if let State::Failed(failure) = &state { Some(failure.clone()) } else { None };
        let first = if let State::Large { holders, .. } = &state { holders.first().copied() } else { None };
        entry.state = state;
        self.open -= 1;
        if entry.handle != Handle::Gone || entry.order.detached {
            self.actions.push_back(Action::Settle { task, failed: failed.clone() });
        }
        if let Some(failure) = failed.clone().filter(|_| entry.handle == Handle::Gone && entry.order.detached) {
            self.actions.push_back(Action::Tell { task, failure });
        }
        if let (Handle::Wanted | Handle::Taken, Some(from)) = (entry.handle, first) {
            let taken = entry.handle == Handle::Taken && entry.readers.is_empty();
            self.actions.push_back(Action::Bring { task, from, taken });
        }
        let readers = std::mem::take(&mut entry.readers);
        let needs = entry.order.needs.clone();
        needs.into_iter().for_each(|need| self.read(need, task));
        if let Some(failure) = failed.filter(|_| !planted(Mutant::CauseForgotten)) {
            readers.into_iter().for_each(|reader| self.fail(reader, caused_by(&failure)));
        } else {
            readers.iter().for_each(|reader| self.lacks_one_less(*reader));
            self.tasks.get_mut(&task).expect("its readers are not through with it").readers = readers;
        }
        self.free_if_unused(task);
    }

    fn lacks_one_less(&mut self, task: TaskId) {
        let Some(entry) = self.tasks.get_mut(&task) else { return };
        entry.lacks -= 1;
        if entry.lacks == 0 && matches!(entry.state, State::Waiting) {
            self.place(task);
        }
    }

    /// `reader` is through with a value.
    fn read(&mut self, value: TaskId, reader: TaskId) {
        let Some(entry) = self.tasks.get_mut(&value) else { return };
        entry.readers.remove(&reader);
        if entry.state.is_settled() {
            self.free_if_unused(value);
        } else if !entry.is_needed() {
            self.unneeded.push(value);
        }
    }

    fn fail(&mut self, task: TaskId, failure: Error) {
        self.failing.push_back((task, failure));
    }

    fn follow_up(&mut self) {
        loop {
            if let Some((task, failure)) = self.failing.pop_front() {
                self.fail_now(task, failure);
            } else if let Some(task) = self.unneeded.pop() {
                if self.tasks.get(&task).is_some_and(|entry| !entry.is_needed() && !entry.state.is_settled()) {
                    self.forget(task);
                }
            } else {
                return;
            }
        }
    }

    fn fail_now(&mut self, task: TaskId, failure: Error) {
        let Some(entry) = self.tasks.get(&task) else { return };
        match &entry.state {
            State::Waiting | State::Held(_) => {}
            State::Placed(want) => self.placement.forget(task, &entry.order, *want),
            State::Small | State::Large { .. } | State::Failed(_) | State::Freed => return,
        }
        self.settle(task, State::Failed(failure));
    }

    fn free_if_unused(&mut self, task: TaskId) {
        let Some(entry) = self.tasks.get_mut(&task) else { return };
        let has_readers = !entry.readers.is_empty() && !planted(Mutant::ReadersIgnored);
        let is_free = matches!(entry.state, State::Freed);
        if entry.handle != Handle::Gone || has_readers || !entry.state.is_settled() || is_free {
            return;
        }
        if let State::Large { holders, coming, .. } = std::mem::replace(&mut entry.state, State::Freed) {
            let all = holders.into_iter().chain(coming.into_iter().filter(|_| !planted(Mutant::CopiesKept)));
            let present = all.filter(|worker| self.present.contains(worker));
            self.actions.extend(present.map(|worker| Action::Free { worker, task }));
        }
        self.freed.push(task);
    }
}

fn cancelled(task: TaskId) -> Error {
    ErrorKind::Cancelled { task: format!("task {task}") }.into()
}

/// The failure of a task that needs another's value, of which the failure is given.
fn caused_by(cause: &Error) -> Error {
    match cause.kind() {
        ErrorKind::Needed { .. } => cause.clone(),
        _ => ErrorKind::Needed { cause: Box::new(cause.clone()) }.into(),
    }
}
