//! Tasks: which of them can run, where each runs, and what becomes of their values.
//!
//! Pure, with the verbs of the scheduler: [`Tasks::handle`] takes an event, [`Tasks::poll_action`] gives what is to be
//! done. A task can run when the values that it needs exist; it runs where most bytes of them are, unless that rank has so
//! much to do that moving them is sooner (`placement`). A value is freed when nobody has a handle on it and no task that
//! reads it is left. What a task is and what a value holds is the driver's business, in `P`.

mod actors;
pub(crate) mod demand;
mod ends;
mod handles;
mod losses;
mod placement;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use actors::Line;
use demand::{Demand, Resources, shown};
use placement::{Placement, Want};
use serde::{Deserialize, Serialize};
use table::Table;

use crate::error::{Error, ErrorKind, Place};
use crate::simulate::mutant::{Mutant, planted};

/// The number of a task, and of the value that it makes. It tells the rank on which it was submitted.
pub(crate) type TaskId = u64;

/// The number of the first task that is submitted on rank 1; those of rank 0 begin at 0, and so on.
pub(crate) const FIRST_OF_RANK: TaskId = 1 << 40;

/// The rank on which a task was submitted: by the program, on rank 0, or by another task.
pub(crate) fn owner(task: TaskId) -> usize {
    (task / FIRST_OF_RANK) as usize
}

/// What is asked for with a task. Many tasks may share one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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
    /// The task inside of which it was submitted, and how many there are around it.
    pub parent: Option<TaskId>,
    pub depth: u32,
    /// What it needs beside a thread.
    pub demand: Demand,
    /// That it is an actor, and how often it may begin anew.
    pub restarts: Option<u32>,
    /// The actor that it is a call of; it needs that as well.
    pub actor: Option<TaskId>,
    /// Whether it rests after a failure before it is tried again.
    pub rests: bool,
}

#[derive(Debug)]
pub(crate) enum Event<P> {
    /// A worker has come, with its threads.
    Ready {
        worker: usize,
    },
    /// Whoever has not come yet is not waited for any more.
    Begun,
    Submitted {
        task: TaskId,
        order: Arc<Order>,
        payload: Box<P>,
    },
    /// The same, of a task that asks for nothing, and that whoever waits for it on rank 0 runs there already.
    Claimed {
        task: TaskId,
        order: Arc<Order>,
        payload: Box<P>,
    },
    /// A value that nobody has to make: rank 0 has it. It is small, or has so many bytes.
    Given {
        task: TaskId,
        bytes: Option<u64>,
        payload: Box<P>,
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
    /// It is not to run, and if it has begun, to stop as soon as it can.
    Cancelled {
        task: TaskId,
    },
    Ended {
        worker: usize,
        task: TaskId,
        ending: Ending,
    },
    /// It has rested after a failure.
    Rested {
        task: TaskId,
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
    /// Take this task back, or have it stop.
    Stop { worker: usize, task: TaskId },
    /// Bring a value to the rank that has submitted its task; nobody else needs it if it is `taken`.
    Bring { task: TaskId, from: usize, taken: bool },
    /// Nobody needs the value any more: neither keep it nor wait for it.
    Free { worker: usize, task: TaskId },
    /// The task has its value, or never will. Comes once for each task that somebody has a handle on.
    Settle { task: TaskId, failed: Option<Error> },
    /// Say `Rested` after a while: it has failed so often.
    Rest { task: TaskId, attempts: u32 },
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
    tasks: Table<Task<P>>,
    /// The calls of each actor that is there, or will be.
    lines: BTreeMap<TaskId, Line>,
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
    payload: Box<P>,
    order: Arc<Order>,
    state: State,
    /// Values it needs that do not exist yet.
    lacks: usize,
    /// Tasks that need its value, and are not through with it.
    readers: BTreeSet<TaskId>,
    attempts: u32,
    /// Ranks that were lost while they had it; those are no attempts.
    losses: u32,
    handle: Handle,
    cancelled: bool,
    /// Its end was told, to whoever has a handle on it.
    is_told: bool,
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
    /// Until it is tried again.
    Resting,
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
    fn begin(&mut self, worker: usize) {
        self.state = State::Held(worker);
        self.attempts += 1;
    }

    /// Whether anything comes of running it.
    fn is_needed(&self) -> bool {
        self.handle != Handle::Gone || self.order.detached || !self.readers.is_empty()
    }
}

impl<P> Tasks<P> {
    /// Workers without an entry in `resources` have none.
    pub fn new(places: &[Place], threads: &[u32], resources: &[Resources]) -> Self {
        Self {
            tasks: Table::new(),
            lines: BTreeMap::new(),
            placement: Placement::new(threads, resources),
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
        self.tasks.get(task).map(|task| &*task.payload)
    }

    pub fn payload_mut(&mut self, task: TaskId) -> Option<&mut P> {
        self.tasks.get_mut(task).map(|task| &mut *task.payload)
    }

    /// What was asked for with a task.
    pub fn order(&self, task: TaskId) -> Option<&Order> {
        self.tasks.get(task).map(|task| &*task.order)
    }

    /// The tasks and values that are known.
    pub fn known(&self) -> impl Iterator<Item = TaskId> {
        self.tasks.keys()
    }

    /// Whether all workers have two tasks for each thread or more, and those are expected to last for so many nanoseconds.
    pub fn all_have_work_for(&self, time: u64) -> bool {
        self.placement.all_have_work_for(time)
    }

    /// Tasks that will not run before an actor is gone, with what they need and the actors that have it.
    pub fn starved(&self) -> Vec<(TaskId, String, Vec<TaskId>)> {
        let starved = self.placement.starved(|worker| self.gone.contains_key(&worker)).into_iter();
        starved.map(|(task, amounts, holders)| (task, shown(amounts), holders)).collect()
    }

    /// Actors wait until all workers have come, or that is [given up](Event::Begun): they are spread over them.
    pub fn await_workers(&mut self) {
        self.placement.hold_actors(true);
    }

    fn have_all_come(&self) -> bool {
        self.present.len() + self.gone.len() >= self.places.len()
    }

    /// What is kept with the tasks that end with the program, whoever waits for them.
    pub fn held_payloads(&self) -> impl Iterator<Item = &P> {
        let ends = |task: &&Task<P>| !task.order.detached && task.order.parent.is_none();
        self.tasks.values().filter(ends).map(|task| &*task.payload)
    }

    /// What is kept with all tasks.
    pub fn payloads(&self) -> impl Iterator<Item = &P> {
        self.tasks.values().map(|task| &*task.payload)
    }

    pub fn handle(&mut self, event: Event<P>) {
        match event {
            // Who was given up once is not relied on again.
            Event::Ready { worker } if self.gone.contains_key(&worker) => {}
            Event::Ready { worker } => {
                self.present.insert(worker);
                self.placement.add(worker);
                if self.have_all_come() {
                    self.placement.hold_actors(false);
                }
            }
            Event::Begun => self.placement.hold_actors(false),
            // Nobody listens any more.
            Event::Submitted { task, .. } if self.gone.contains_key(&owner(task)) => {}
            Event::Submitted { task, order, payload } => self.submit(task, order, payload),
            Event::Claimed { task, order, payload } => {
                self.submit(task, order, payload);
                self.claim(task);
            }
            Event::Given { task, bytes, payload } => self.give(task, bytes, payload),
            Event::Wanted { task, taken } => self.want(task, taken),
            Event::Released { task } => self.release(task),
            Event::Detached { task } => self.detach(task),
            Event::Cancelled { task } => self.cancel(task),
            Event::Ended { worker, task, ending } => self.end(worker, task, ending),
            Event::Rested { task } => self.try_again(task),
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
            self.freed.drain(..).for_each(|task| drop(self.tasks.remove(task)));
            self.hand_out();
        }
        if self.actions.is_empty() && self.closed && self.open == 0 && !self.finished {
            self.finished = true;
            return Some(Action::Finish);
        }
        self.actions.pop_front()
    }

    fn submit(&mut self, task: TaskId, order: Arc<Order>, payload: Box<P>) {
        let (mut failed, mut lacks) = (None, 0);
        for need in &order.needs {
            match self.tasks.get_mut(*need) {
                Some(Task { state: State::Failed(failure), .. }) => failed = Some(failure.of_who_needs()),
                // A task may need one value twice.
                Some(needed) => lacks += usize::from(needed.readers.insert(task) && !needed.state.is_settled()),
                None => failed = Some(self.gone(*need)),
            }
        }
        if let Some(problem) = self.problem(&order) {
            failed = Some(problem);
        }
        if let Some(parent) = order.parent {
            self.waits_inside(owner(task), parent);
        }
        let handle = if order.detached { Handle::Gone } else { Handle::Held };
        let (readers, state) = (BTreeSet::new(), State::Waiting);
        let entry = Task {
            payload,
            order,
            state,
            lacks,
            readers,
            attempts: 0,
            losses: 0,
            handle,
            cancelled: false,
            is_told: false,
        };
        let (restarts, actor) = (entry.order.restarts, entry.order.actor);
        self.tasks.insert(task, entry);
        self.open += 1;
        restarts.into_iter().for_each(|restarts| self.add_actor(task, restarts));
        actor.into_iter().for_each(|actor| self.stand_in_line(actor, task));
        match failed {
            Some(failure) => self.fail(task, failure),
            None if lacks == 0 => self.place(task),
            None => {}
        }
    }

    /// Why no rank will ever run it.
    fn problem(&self, order: &Order) -> Option<Error> {
        let (problem, remedy) = if let Some(rank) = order.on.filter(|rank| *rank >= self.places.len()) {
            let problem = format!("it is to run on rank {rank}, and there are {} ranks", self.places.len());
            (problem, "name a rank that there is, or start more")
        } else {
            let problem = self.placement.problem(&order.demand, |worker| self.gone.contains_key(&worker))?;
            if order.demand.amounts.is_empty() {
                let remedy = "name ranks that there are, and that all of among and on agree about".into();
                return Some(ErrorKind::Refused { call: "a task".into(), problem, remedy }.into());
            }
            (problem, "ask for less, or declare what each rank has: RANKFOLD_RESOURCES=\"gpu=4,mem=64GiB\"")
        };
        Some(ErrorKind::Refused { call: "a task".into(), problem, remedy: remedy.into() }.into())
    }

    fn gone(&self, need: TaskId) -> Error {
        let message = format!("task {need} is needed by another, and was forgotten");
        let place = self.places.first().cloned().unwrap_or_else(|| Place { rank: 0, host: String::new() });
        ErrorKind::Internal { call: "submit".into(), place, message }.into()
    }

    /// All it needs is there: decides where it is to run.
    fn place(&mut self, task: TaskId) {
        let entry = &self.tasks[&task];
        if let Some(actor) = entry.order.actor {
            return self.advance(actor);
        }
        let mut held: BTreeMap<usize, u64> = BTreeMap::new();
        for need in &entry.order.needs {
            // What everybody has is no reason to be anywhere.
            if let Some(Task { state: State::Large { holders, coming, bytes }, .. }) = self.tasks.get(*need)
                && holders.len() + coming.len() < self.places.len() - self.gone.len()
            {
                holders.iter().chain(coming).for_each(|holder| *held.entry(*holder).or_default() += bytes);
            }
        }
        if let Some(error) = entry.order.on.and_then(|rank| self.gone.get(&rank)) {
            let error = error.clone();
            return self.fail(task, error);
        }
        if let Some(problem) = (!self.gone.is_empty()).then(|| self.problem(&entry.order)).flatten() {
            return self.fail(task, problem);
        }
        let entry = &self.tasks[&task];
        let want = self.placement.place(task, &entry.order, &held);
        self.tasks.get_mut(task).expect("it is being placed").state = State::Placed(want);
    }

    /// A task that could run anywhere has begun on rank 0.
    fn claim(&mut self, task: TaskId) {
        let entry = self.tasks.get_mut(task).expect("it was just submitted");
        if let State::Placed(want) = entry.state
            && !planted(Mutant::ClaimForgotten)
        {
            self.placement.forget(task, &entry.order, want);
            entry.begin(0);
            self.placement.given(0, task, &entry.order);
        }
    }

    fn hand_out(&mut self) {
        while let Some((worker, task)) = self.placement.next() {
            let entry = self.tasks.get_mut(task).expect("what is placed is known");
            entry.begin(worker);
            self.placement.given(worker, task, &entry.order);
            let (needs, actor) = (entry.order.needs.clone(), entry.order.actor);
            let values = needs.into_iter().filter(|need| Some(*need) != actor);
            let inputs: Vec<(TaskId, Source)> = values.map(|need| (need, self.source(need, worker))).collect();
            if let Some(actor) = actor {
                let is_elsewhere = |source: &Source| matches!(source, Source::At(rank) if *rank != worker);
                self.hand_out_call(actor, task, inputs.iter().any(|(_, source)| is_elsewhere(source)));
            }
            self.actions.push_back(Action::Assign { worker, task, inputs });
        }
        if let Some((worker, tasks)) = self.placement.recall() {
            self.actions.push_back(Action::Recall { worker, tasks });
        }
    }

    /// Where a worker finds a value, which is on its way there from now on.
    fn source(&mut self, need: TaskId, worker: usize) -> Source {
        match &mut self.tasks.get_mut(need).expect("a value is kept while it is needed").state {
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
}

fn cancelled(task: TaskId) -> Error {
    ErrorKind::Cancelled { task: format!("task {task}") }.into()
}
