//! Faulty pools, each from one seed: the production [`Tasks`] on virtual time, a program that submits, drops, cancels and
//! waits at random, ranks that are lost, and judges that know what every value has to be.

mod inner;
mod given;
mod judges;
mod program;
mod ranks;

use std::collections::{BTreeMap, BTreeSet};

use inner::{Ask, Tell, Waiting};
use rand::RngExt;

use super::trial::Violation;
use crate::error::{Error, ErrorKind, Place, Role};
use crate::master::tasks::demand::Resources;
use crate::master::tasks::{Action, Ending, Event, Order, Source, TaskId, Tasks, owner};
use crate::random::{ItemRng, rng};
use crate::worker::backlog::Backlog;

/// What a faulty pool came to, where it came to what it should.
///
/// # Examples
///
/// ```
/// let verdict = rankfold::simulate::task_trial(7)?;
/// assert!(verdict.submitted > 0);
/// # Ok::<(), rankfold::simulate::Violation>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TaskVerdict {
    /// Tasks that the program has submitted.
    pub submitted: u64,
    /// Values that it has got.
    pub values: u64,
    /// Errors that it has got instead.
    pub errors: u64,
    /// Ranks that were lost.
    pub lost: u64,
}

/// Runs the faulty pool of a seed.
///
/// # Errors
///
/// Something happened that must not: a value that is wrong, gone or kept for ever, a task that is told to be done twice or
/// never, an error without a reason, a pool that does not end.
///
/// # Examples
///
/// ```
/// for seed in 0..100 {
///     rankfold::simulate::task_trial(seed)?;
/// }
/// # Ok::<(), rankfold::simulate::Violation>(())
/// ```
pub fn task_trial(seed: u64) -> Result<TaskVerdict, Violation> {
    let mut trial = Trial::draw(seed);
    trial.run().map_err(|what| Violation { seed, what: format!("pool: {what}") })
}

/// More steps than any of these pools needs.
const STEPS_MOST: u64 = 200_000;
/// A program that has looked so often for the ends of its tasks waits for ever.
const WAITS_MOST: u32 = 20_000;

/// Of which some tasks need some.
const RESOURCE: &str = "gpu";

struct Trial {
    dice: ItemRng,
    now: u64,
    /// What will happen, in order; the number keeps what was sent first first.
    agenda: BTreeMap<(u64, u64), Happening>,
    number: u64,
    /// When the last message between two ranks arrives: none overtakes another.
    last: BTreeMap<(usize, usize), u64>,
    tasks: Tasks<()>,
    truth: BTreeMap<TaskId, Truth>,
    workers: Vec<Worker>,
    /// What each of them has beside threads.
    resources: Vec<Resources>,
    /// Tasks that the program has handles on.
    handles: BTreeSet<TaskId>,
    /// Actors that it has a handle on.
    actors: BTreeSet<TaskId>,
    /// Those of which it waits for the value, and where values come from.
    wanted: BTreeSet<TaskId>,
    bringing: BTreeMap<TaskId, usize>,
    settled: BTreeSet<TaskId>,
    failed: BTreeSet<TaskId>,
    to_do: u64,
    /// How many tasks the program itself has submitted.
    own: TaskId,
    /// Of ten things that it does, so many are calls of actors.
    calls: u32,
    /// Of ten values that it would give, so many are tasks instead that it runs itself.
    helps: u32,
    /// Messages take less than this.
    latency: u64,
    is_patient: bool,
    /// Tasks that were handed out or taken back.
    messages: u64,
    /// How often it has looked in vain.
    waits: u32,
    /// Ranks that are lost, and that nobody misses yet: what is submitted meanwhile may suffer, too.
    in_doubt: usize,
    closed: bool,
    finished: bool,
    verdict: TaskVerdict,
}

/// What the judges know of a task.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Truth {
    order: Order,
    value: u64,
    is_large: bool,
    /// It panics in so many attempts.
    panics: u32,
    took: u64,
    cancelled: bool,
    /// Somebody was lost who had begun it, or had its value.
    struck: bool,
    /// Rank 0 was told of its good end.
    has_come: bool,
    attempts: u32,
    /// How many tasks it submits; one of them had no value.
    inner: u64,
    inner_failed: bool,
    /// Of an actor: how often a call has ended it, and the last one that has begun.
    deaths: u32,
    last_call: Option<TaskId>,
}

impl Truth {
    /// A task that nothing happens to.
    fn of(value: u64, order: Order) -> Self {
        Self {
            order,
            value,
            is_large: false,
            panics: 0,
            took: 0,
            cancelled: false,
            struck: false,
            has_come: false,
            attempts: 0,
            inner: 0,
            inner_failed: false,
            deaths: 0,
            last_call: None,
        }
    }
}

struct Worker {
    threads: usize,
    running: usize,
    has_come: bool,
    is_lost: bool,
    backlog: Backlog<Vec<(TaskId, Option<u64>)>>,
    store: BTreeMap<TaskId, u64>,
    /// Tasks that wait for tasks, and values on their way to them.
    waiting: BTreeMap<TaskId, Waiting>,
    expected: BTreeMap<TaskId, usize>,
    /// How many tasks were submitted here, by others.
    submitted: u64,
    /// Tasks that rank 0 counts on it with what they have taken.
    taken: BTreeSet<TaskId>,
}

enum Happening {
    Program,
    Ready(usize),
    /// Messages from rank 0 to a worker.
    Run {
        worker: usize,
        task: TaskId,
        inputs: Vec<(TaskId, Source, Option<u64>)>,
    },
    Recall {
        worker: usize,
        tasks: Vec<TaskId>,
    },
    Stop {
        worker: usize,
        task: TaskId,
    },
    Free {
        worker: usize,
        task: TaskId,
    },
    Told {
        worker: usize,
        task: TaskId,
        tell: Tell,
    },
    Miss {
        worker: usize,
        lost: usize,
    },
    Fetch {
        at: usize,
        task: TaskId,
        to: Option<usize>,
    },
    Value {
        to: Option<usize>,
        task: TaskId,
        value: Option<u64>,
    },
    /// A broadcast begins, or is given up.
    Expect {
        worker: usize,
        task: TaskId,
    },
    GiveUp {
        worker: usize,
        task: TaskId,
    },
    /// A thread is through with a task.
    Through {
        worker: usize,
        task: TaskId,
        value: Result<u64, ()>,
    },
    /// Messages to rank 0.
    Ended {
        worker: usize,
        task: TaskId,
        value: Result<u64, ()>,
    },
    Returned {
        worker: usize,
        tasks: Vec<TaskId>,
    },
    Asked(Ask),
    Rested(TaskId),
    Lose(usize),
    Missed(usize),
}

impl Happening {
    /// The worker that it happens to.
    fn at(&self) -> Option<usize> {
        match self {
            Self::Run { worker, .. }
            | Self::Recall { worker, .. }
            | Self::Stop { worker, .. }
            | Self::Free { worker, .. }
            | Self::Told { worker, .. }
            | Self::Miss { worker, .. }
            | Self::Expect { worker, .. }
            | Self::GiveUp { worker, .. }
            | Self::Through { worker, .. }
            | Self::Fetch { at: worker, .. }
            | Self::Value { to: Some(worker), .. } => Some(*worker),
            _ => None,
        }
    }
}

fn place(rank: usize) -> Place {
    Place { rank, host: "simulated".into() }
}

impl Trial {
    fn draw(seed: u64) -> Self {
        let mut dice = rng(seed, 11);
        let ranks = dice.random_range(1..6);
        let threads: Vec<u32> = (0..ranks).map(|_| dice.random_range(1..4)).collect();
        let places: Vec<Place> = (0..ranks).map(place).collect();
        let worker = |threads: &u32| Worker {
            threads: *threads as usize,
            running: 0,
            has_come: false,
            is_lost: false,
            backlog: Backlog::default(),
            store: BTreeMap::new(),
            waiting: BTreeMap::new(),
            expected: BTreeMap::new(),
            submitted: 0,
            taken: BTreeSet::new(),
        };
        let some = |dice: &mut ItemRng| Resources::from([(RESOURCE.to_owned(), dice.random_range(0..4))]);
        let resources: Vec<Resources> = (0..ranks).map(|_| some(&mut dice)).collect();
        let mut trial = Self {
            now: 0,
            agenda: BTreeMap::new(),
            number: 0,
            last: BTreeMap::new(),
            tasks: Tasks::new(&places, &threads, &resources),
            resources,
            truth: BTreeMap::new(),
            workers: threads.iter().map(worker).collect(),
            handles: BTreeSet::new(),
            actors: BTreeSet::new(),
            wanted: BTreeSet::new(),
            bringing: BTreeMap::new(),
            settled: BTreeSet::new(),
            failed: BTreeSet::new(),
            to_do: dice.random_range(1..120),
            own: 0,
            calls: [1, 2, 5][dice.random_range(0..3)],
            // Drawn apart: seeds that once went wrong show what they showed.
            helps: if rng(seed, 16).random_bool(0.5) { 5 } else { 0 },
            latency: [20, 100, 1500][dice.random_range(0..3)],
            is_patient: dice.random_bool(0.5),
            messages: 0,
            waits: 0,
            in_doubt: 0,
            closed: false,
            finished: false,
            verdict: TaskVerdict::default(),
            dice,
        };
        (0..ranks).for_each(|rank| trial.later(1000, Happening::Ready(rank)));
        trial.later(10, Happening::Program);
        if trial.dice.random_bool(0.3) {
            // Rank 0 is the program's own, and ends with it.
            (1..ranks).for_each(|rank| trial.later(3000, Happening::Lose(rank)));
        }
        trial
    }

    fn run(&mut self) -> Result<TaskVerdict, String> {
        for _ in 0..STEPS_MOST {
            let Some((key, happening)) = self.agenda.pop_first() else {
                return self.look_at_the_end();
            };
            self.now = key.0;
            self.happen(happening)?;
            while let Some(action) = self.tasks.poll_action() {
                self.act(action)?;
            }
        }
        Err("it does not end".into())
    }

    /// Something happens within `most`.
    fn later(&mut self, most: u64, happening: Happening) {
        let at = self.now + self.dice.random_range(0..=most);
        self.number += 1;
        self.agenda.insert((at, self.number), happening);
    }

    /// A message arrives, after those that were sent before it.
    fn send(&mut self, from: usize, to: usize, happening: Happening) {
        let soonest = self.last.get(&(from, to)).copied().unwrap_or(0);
        let at = soonest.max(self.now + self.dice.random_range(1..self.latency));
        self.last.insert((from, to), at);
        self.number += 1;
        self.agenda.insert((at, self.number), happening);
    }

    fn happen(&mut self, happening: Happening) -> Result<(), String> {
        if happening.at().is_some_and(|worker| self.workers[worker].is_lost) {
            return Ok(());
        }
        match happening {
            happening if happening.at().is_some() => return self.happen_at_a_worker(happening),
            Happening::Program => self.program()?,
            Happening::Ready(worker) => {
                self.workers[worker].has_come = true;
                self.tasks.handle(Event::Ready { worker });
            }
            Happening::Asked(ask) => self.on_asked(ask),
            Happening::Rested(task) => self.tasks.handle(Event::Rested { task }),
            Happening::Value { to: None, task, value } => self.got(task, value)?,
            Happening::Ended { worker, task, value } => {
                // An actor keeps what it has as long as it lives.
                if value.is_err() || self.truth[&task].order.restarts.is_none() {
                    self.workers[worker].taken.remove(&task);
                }
                self.ended(worker, task, value);
            }
            Happening::Returned { worker, tasks } => {
                tasks.iter().for_each(|task| _ = self.workers[worker].taken.remove(task));
                self.tasks.handle(Event::Returned { worker, tasks });
            }
            Happening::Lose(worker) => self.lose(worker),
            Happening::Missed(worker) => {
                let error = ErrorKind::Silent { place: place(worker), seconds: 30, waiting: place(0) }.into();
                self.tasks.handle(Event::Lost { worker, error });
                // What was on its way from there has to be asked for again.
                let lost = |(task, from): (&TaskId, &usize)| (*from == worker).then_some(*task);
                for task in self.bringing.iter().filter_map(lost).collect::<Vec<_>>() {
                    self.bringing.remove(&task);
                    self.tasks.handle(Event::Wanted { task, taken: false });
                }
                self.in_doubt -= 1;
            }
            _ => unreachable!("that happens at a worker"),
        }
        Ok(())
    }

    fn ended(&mut self, worker: usize, task: TaskId, value: Result<u64, ()>) {
        self.truth.get_mut(&task).expect("it was submitted").has_come |= value.is_ok();
        let seconds = 1e-6 * self.truth[&task].took as f64;
        let ending = match value {
            Ok(_) if self.truth[&task].is_large => Ending::Large { bytes: 10_000, seconds },
            Ok(_) => Ending::Small { seconds },
            Err(()) => Ending::Failed { error: panicked(task, worker) },
        };
        self.tasks.handle(Event::Ended { worker, task, ending });
    }

    fn lose(&mut self, worker: usize) {
        if self.finished {
            return;
        }
        self.workers[worker].is_lost = true;
        self.verdict.lost += 1;
        self.in_doubt += 1;
        self.later(2000, Happening::Missed(worker));
        // Whatever it has begun or has is in danger from now on, and what is given to it until it is missed.
        self.truth.values_mut().for_each(|truth| truth.struck = true);
    }

    fn act(&mut self, action: Action) -> Result<(), String> {
        self.judge_action(&action)?;
        let is_lost = |worker: usize| self.workers[worker].is_lost;
        match action {
            Action::Assign { worker, .. }
            | Action::Recall { worker, .. }
            | Action::Stop { worker, .. }
            | Action::Free { worker, .. }
                if is_lost(worker) => {}
            Action::Miss { worker, .. } if is_lost(worker) => {}
            Action::Miss { worker, lost } => self.send(0, worker, Happening::Miss { worker, lost }),
            Action::Assign { worker, task, inputs } => {
                let came = |need: &TaskId| self.truth[need].has_come && !self.truth[need].is_large;
                if let Some((need, _)) = inputs.iter().find(|(need, at)| *at == Source::Small && !came(need)) {
                    return Err(format!("task {task} is to get the value of task {need}, which rank 0 does not have"));
                }
                let small = |need: &TaskId, source: &Source| (*source == Source::Small).then(|| self.truth[need].value);
                let inputs = inputs.iter().map(|(need, source)| (*need, *source, small(need, source))).collect();
                self.send(0, worker, Happening::Run { worker, task, inputs });
            }
            Action::Recall { worker, tasks } => self.send(0, worker, Happening::Recall { worker, tasks }),
            Action::Free { worker, task } => self.send(0, worker, Happening::Free { worker, task }),
            Action::Stop { worker, task } => self.send(0, worker, Happening::Stop { worker, task }),
            Action::Rest { task, .. } => self.later(300, Happening::Rested(task)),
            Action::Bring { task, from, .. } if owner(task) > 0 || self.truth[&task].order.parent.is_some() => {
                self.tell(task, Tell::Bring { from });
            }
            Action::Bring { task, from, .. } => {
                self.bringing.insert(task, from);
                self.send(0, from, Happening::Fetch { at: from, task, to: None });
            }
            Action::Settle { task, failed } => {
                if self.truth[&task].order.parent.is_some() {
                    self.tell_settled(task, failed.as_ref());
                }
                self.settled(task, failed)?;
            }
            Action::Unavailable { task, .. } => {
                if !self.truth[&task].struck && self.settled.contains(&task) && !self.is_doomed(task) {
                    return Err(format!("the value of task {task} is said to be lost"));
                }
                if self.truth[&task].order.parent.is_some() {
                    self.tell(task, Tell::Unavailable);
                }
                if self.wanted.remove(&task) {
                    self.verdict.errors += 1;
                    self.handles.remove(&task);
                    self.tasks.handle(Event::Released { task });
                }
            }
            Action::Tell { task, .. } => {
                let truth = &self.truth[&task];
                if !truth.order.detached {
                    return Err(format!("task {task} is told to have failed, and nobody had detached it"));
                }
            }
            Action::Finish => {
                if !self.closed || self.finished {
                    return Err("the pool is over before the program is through, or twice".into());
                }
                self.finished = true;
            }
        }
        Ok(())
    }
}

fn panicked(task: TaskId, rank: usize) -> Error {
    ErrorKind::Panicked {
        call: "a task".into(),
        role: Role::Task,
        place: place(rank),
        item: format!("task {task}"),
        message: "as it should".into(),
        location: "here".into(),
        backtrace: String::new(),
        attempts: 1,
    }
    .into()
}
