//! The threads of a rank that run its tasks.
//!
//! A task runs on the rank's rayon pool, so that what is parallel inside of it uses the same threads; but for quick ones that
//! the program waits for, which it may run itself (`help`). One that waits for others, which it has submitted, gives its
//! place away: a spare thread takes the next task meanwhile, or the task that is waited for would never run.

pub(super) mod help;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::desk::{Desk, End, LATER, Note, SOON};
use super::server::Absent;
use super::variables::Here;
use crate::code::Entry;
use crate::error::Place;
use crate::lock::lock;
use crate::master::tasks::TaskId;
use crate::rank::Rank;
use crate::transport::wait::Mood;
use crate::worker::backlog::{Backlog, Job};
use crate::worker::kept::{Kept, discard};
use crate::worker::runner::{self, Cell, Trouble};
use crate::worker::usage::{Meter, Usage};

/// While more tasks than these wait for others, another one begins only after a pause: what they wait for is on its way,
/// most often, and each of them occupies a thread.
const WAITING_FEW: usize = 32;
const PAUSE: Duration = Duration::from_millis(1);
/// No more threads than these are started for tasks in place of those that wait.
const SPARES_MOST: usize = 2000;

/// The threads, and the tasks that they take.
pub(crate) struct Threads {
    place: Place,
    pub places: Arc<[Place]>,
    pub counts: Arc<[u32]>,
    pool: Arc<ThreadPool>,
    pub desk: Arc<Desk>,
    /// What tasks can ask of this rank.
    pub(super) here: Arc<Here>,
    runs: Mutex<Runs>,
}

#[derive(Default)]
struct Runs {
    backlog: Backlog<Work>,
    /// Threads that look for tasks, or run one that does not wait.
    active: usize,
    /// Those of them that run a task for which they wait.
    helping: usize,
    /// Threads of the rank's own pool that look for tasks or run one, also one that waits.
    pooled: usize,
    /// Tasks that wait for others.
    waiting: usize,
    /// Threads in place of those that wait: how many there are, and those that have nothing to do.
    spares: usize,
    idle: Vec<Arc<ThreadPool>>,
    /// When the last spare thread began.
    last: Option<Instant>,
    /// Tasks that run; a number for each time that one begins.
    running: BTreeMap<TaskId, Running>,
    begun: u64,
    /// Those of them that may only take so long.
    deadlines: BTreeMap<(Instant, TaskId), Duration>,
    /// Those that have taken longer and go on nevertheless, by their number, with the time when they were to have ended.
    late: BTreeMap<u64, (TaskId, Instant)>,
}

/// A task that was not begun.
pub(super) struct Work {
    pub entry: Result<Entry, Absent>,
    pub arguments: Vec<u8>,
    pub values: Vec<TaskId>,
    pub inputs: Vec<Option<Arc<Kept>>>,
    /// The actor that it is a call of.
    pub actor: Option<(TaskId, Arc<Cell>)>,
    pub timeout: Option<Duration>,
    /// When this rank was given the task.
    pub came: Instant,
}

/// A run of a task that has ended on this thread.
struct Ended {
    run: (TaskId, u64),
    end: Box<End>,
    actor: Option<TaskId>,
}

/// What is to be told of it: whether it still counts, and the calls of its actor that go back.
struct Told {
    ended: Ended,
    counts: bool,
    back: Vec<TaskId>,
}

/// Tasks that have taken too long, with how long they were given.
#[derive(Default)]
pub(super) struct Late {
    pub tasks: Vec<(TaskId, Duration)>,
    /// The actors of those that are calls: nobody knows what becomes of their states.
    pub actors: Vec<TaskId>,
    /// The calls behind them.
    pub back: Vec<TaskId>,
}

struct Running {
    number: u64,
    actor: Option<TaskId>,
    deadline: Option<Instant>,
    is_to_stop: Arc<AtomicBool>,
}

/// What a thread knows of the task that it runs.
pub(crate) struct Current {
    pub task: TaskId,
    pub depth: u32,
    pub threads: Arc<Threads>,
    is_to_stop: Arc<AtomicBool>,
    /// It is unwinding because it was to stop.
    has_stopped: std::cell::Cell<bool>,
    /// How long it has waited for others.
    waited: std::cell::Cell<Duration>,
}

thread_local! {
    /// The task that this thread runs waits for another one.
    static IS_AWAY: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    static CURRENT: RefCell<Option<Current>> = const { RefCell::new(None) };
}

/// Whether this thread is in a task, which may wait for others of rayon's and do something else meanwhile.
pub(super) fn is_in_a_task() -> bool {
    CURRENT.with_borrow(Option::is_some)
}

/// Looks at the task that this thread runs, if it runs one.
pub(crate) fn with_current<R>(look: impl FnOnce(&Current) -> R) -> Option<R> {
    CURRENT.with_borrow(|current| current.as_ref().map(look))
}

/// Whether this task, which this thread runs, was cancelled, or has taken too long, and could end here. A thread that has
/// taken a part of another one, meanwhile, must not end that.
pub(crate) fn is_asked_to_stop(task: Option<TaskId>) -> bool {
    let is_asked = |current: &Current| current.is_to_stop.load(Ordering::Relaxed) && Some(current.task) == task;
    with_current(is_asked) == Some(true) && !std::thread::panicking()
}

/// Ends this task, which this thread runs, if it is to stop.
pub(crate) fn stop_task_if_asked(task: Option<TaskId>) {
    if is_asked_to_stop(task) {
        let _ = with_current(|current| current.has_stopped.set(true));
        // Not a panic that anybody should read about: it ends in `run`.
        std::panic::resume_unwind(Box::new("the task was asked to stop"));
    }
}

/// A point at which a task can end before it is through: where it was [cancelled](crate::Remote::cancel), nobody wants its
/// value any more, or its [time is up](crate::Task::timeout), it ends here, by unwinding. Does nothing otherwise, and takes
/// a few nanoseconds.
///
/// It is for the thread that the task began on. Waiting for another task is such a point, too.
///
/// # Examples
///
/// ```
/// fn endless() -> u64 {
///     (0..).find(|_| { rankfold::stop_if_asked(); false }).unwrap()
/// }
///
/// # let world = rankfold::World::local(2)?;
/// world.pool(|pool| {
///     let task = pool.task().named("endless").submit(endless, ())?;
///     task.cancel();
///     assert_eq!(task.get().unwrap_err().to_string(), "endless was cancelled");
///     Ok::<_, rankfold::Error>(())
/// })?.unwrap()?;
/// # Ok::<(), rankfold::Error>(())
/// ```
pub fn stop_if_asked() {
    stop_task_if_asked(with_current(|current| current.task));
}

impl Threads {
    pub fn new(rank: &Rank, desk: &Arc<Desk>) -> Arc<Self> {
        let threads = Arc::new(Self {
            place: rank.place.clone(),
            places: Arc::clone(&rank.places),
            counts: Arc::clone(&rank.threads),
            pool: Arc::clone(&rank.pool),
            desk: Arc::clone(desk),
            here: Arc::new(Here::new(&rank.place, rank.memory.is_some())),
            runs: Mutex::default(),
        });
        desk.tell_of(&threads);
        threads
    }

    /// How a rank waits that has nothing to do but what its threads do; nothing if they do nothing.
    pub fn mood(&self) -> Option<Mood> {
        lock(&self.runs).mood(self.pool.current_num_threads())
    }

    /// Changes what was not begun, and lets threads look at it.
    pub(super) fn change<R>(self: &Arc<Self>, change: impl FnOnce(&mut Backlog<Work>) -> R) -> R {
        let result = change(&mut lock(&self.runs).backlog);
        self.start();
        result
    }

    /// Lets as many threads look for tasks as there are tasks for.
    pub fn start(self: &Arc<Self>) {
        let mut runs = lock(&self.runs);
        let most = self.pool.current_num_threads();
        let more = runs.backlog.runnable().min(most.saturating_sub(runs.busy()));
        for _ in 0..more {
            if runs.waiting == 0 && runs.pooled < most {
                runs.active += 1;
                runs.pooled += 1;
                let threads = Arc::clone(self);
                self.pool.spawn(move || threads.run_all(|runs| runs.pooled -= 1));
            } else if !self.start_a_spare(&mut runs) {
                return;
            }
        }
    }

    /// A thread in place of one that waits, or whose task waits for a part of it that another thread has taken.
    fn start_a_spare(self: &Arc<Self>, runs: &mut Runs) -> bool {
        if runs.waiting > WAITING_FEW && runs.last.is_some_and(|last| last.elapsed() < PAUSE) {
            return false;
        }
        let spare = runs.idle.pop().map_or_else(|| self.new_spare(runs), Ok);
        match spare {
            Ok(spare) => {
                runs.last = Some(Instant::now());
                runs.active += 1;
                let (threads, same) = (Arc::clone(self), Arc::clone(&spare));
                spare.spawn(move || threads.run_all(|runs| runs.idle.push(same)));
                true
            }
            Err(problem) => {
                // Nobody would ever run it.
                if let Some(Job { task, actor, .. }) = runs.backlog.next() {
                    let result = Err(Trouble::Internal(problem));
                    let _ =
                        self.desk.post(Note::Ended { task, end: Box::new(End { result, usage: Usage::default() }) });
                    actor.into_iter().for_each(|actor| runs.backlog.through(actor));
                }
                false
            }
        }
    }

    fn new_spare(&self, runs: &mut Runs) -> Result<Arc<ThreadPool>, String> {
        if runs.spares >= SPARES_MOST {
            return Err(format!(
                "{} tasks of this rank wait for tasks that they have submitted, and no more can begin: let tasks return \
                 instead of wait",
                runs.waiting
            ));
        }
        let (rank, number) = (self.place.rank, runs.spares);
        let builder = ThreadPoolBuilder::new().num_threads(1);
        let spare = builder.thread_name(move |_| format!("rankfold-{rank}-spare-{number}")).build();
        let spare = spare.map_err(|error| {
            format!(
                "a thread in place of one that waits for other tasks cannot be started: {error}: raise the limit on \
                 processes (ulimit -u)"
            )
        })?;
        runs.spares += 1;
        Ok(Arc::new(spare))
    }

    /// Runs tasks until there are none, or others do.
    fn run_all(self: &Arc<Self>, leave: impl FnOnce(&mut Runs)) {
        let mut ended: Option<Ended> = None;
        loop {
            let mut runs = lock(&self.runs);
            let told = ended.take().map(|ended| runs.end(ended));
            if told.as_ref().is_some_and(|told| !told.counts) {
                // Its value is dropped, which may take long, before the time of another task begins.
                drop(runs);
                told.into_iter().for_each(|told| self.tell(told, SOON));
                continue;
            }
            // A task that waits for a part of its own must not be kept waiting by another task.
            let is_one_too_many = is_in_a_task() || runs.busy() > self.pool.current_num_threads();
            let next = if is_one_too_many { None } else { runs.backlog.next() };
            let next = next.map(|job| (runs.begin(&job), job));
            let is_stocked = runs.is_stocked(self.pool.current_num_threads());
            // One may have given up its place inside of the task.
            let are_missing = runs.backlog.runnable() > 0 && runs.busy() < self.pool.current_num_threads();
            let Some(((number, is_to_stop), job)) = next else {
                runs.active -= 1;
                leave(&mut runs);
                drop(runs);
                return told.into_iter().for_each(|told| self.tell(told, Duration::ZERO));
            };
            drop(runs);
            let leisure = if is_stocked { LATER } else { SOON };
            told.into_iter().for_each(|told| self.tell(told, leisure));
            if are_missing {
                self.start();
            }
            ended = Some(self.run(job, number, is_to_stop));
        }
    }

    fn run(self: &Arc<Self>, job: Job<Work>, number: u64, is_to_stop: Arc<AtomicBool>) -> Ended {
        let Job { task, depth, work: Work { entry, arguments, inputs, actor, came, .. }, .. } = job;
        let inputs: Vec<Arc<Kept>> = inputs.into_iter().flatten().collect();
        let threads = Arc::clone(self);
        let (has_stopped, waited) = (std::cell::Cell::new(false), std::cell::Cell::new(Duration::ZERO));
        CURRENT.set(Some(Current { task, depth, threads, is_to_stop, has_stopped, waited }));
        let meter = Meter::begin(came);
        let mut state = actor.as_ref().map(|(_, cell)| lock(cell));
        let has_died = state.as_ref().is_some_and(|state| state.is_none());
        let result = match entry {
            Ok(_) if has_died => Err(Trouble::Dead),
            Ok(entry) => {
                let state = state.as_deref_mut().and_then(|state| state.as_deref_mut());
                runner::run(entry, &arguments, inputs, state).map(|made| self.here.measure(made))
            }
            Err(Absent::Unfit(unfit)) => Err(Trouble::Unfit(unfit)),
            Err(Absent::Gone(problem)) => Err(Trouble::Internal(problem)),
        };
        let current = CURRENT.take().expect("it was set above, and whoever else runs here has taken his own");
        let usage = meter.end(current.waited.get());
        let dies = matches!(result, Err(Trouble::Panicked(_)));
        if let Some(state) = state.as_deref_mut().filter(|_| dies) {
            discard(state.take());
        }
        drop(state);
        let result = match result {
            Err(Trouble::Panicked(_)) if current.has_stopped.get() => Err(Trouble::Stopped),
            result => result,
        };
        Ended { run: (task, number), end: Box::new(End { result, usage }), actor: actor.map(|(actor, _)| actor) }
    }

    /// Tells of a run that has ended here. Whoever reads of it may take so much time: some, if this thread goes on with another.
    fn tell(&self, told: Told, leisure: Duration) {
        let Told { ended: Ended { run: (task, _), end, .. }, counts, mut back } = told;
        if !counts {
            // It was given up, and nobody wants to hear of it.
            return discard(end.result);
        }
        // After the end nobody wants to hear of any.
        if let Err(Trouble::Dead) = end.result {
            back.insert(0, task);
        } else {
            let note = Note::Ended { task, end };
            let _ = self.desk.post_within(leisure, note);
        }
        if !back.is_empty() {
            let _ = self.desk.post(Note::Returned(back));
        }
    }

    /// Asks a task to end, which it does when it next looks. Whether it had not begun, and was taken back.
    pub fn stop(self: &Arc<Self>, task: TaskId) -> bool {
        let mut runs = lock(&self.runs);
        if let Some(running) = runs.running.get(&task) {
            if running.actor.is_some() {
                // It would leave the state half changed.
                return false;
            }
            running.is_to_stop.store(true, Ordering::Relaxed);
            drop(runs);
            self.desk.ring();
            return false;
        }
        runs.backlog.remove(task)
    }

    /// Nobody wants any of them any more.
    pub fn stop_all(&self) {
        lock(&self.runs).running.values().for_each(|running| running.is_to_stop.store(true, Ordering::Relaxed));
        self.desk.ring();
    }

    /// The tasks that have taken longer than they may: from now on, nobody wants to hear of them. They are asked to stop.
    pub(super) fn late(&self) -> Late {
        let mut runs = lock(&self.runs);
        let (now, mut late) = (Instant::now(), Late::default());
        while let Some(first) = runs.deadlines.first_entry().filter(|first| first.key().0 <= now) {
            let ((_, task), timeout) = first.remove_entry();
            if let Some(Running { number, is_to_stop, actor, .. }) = runs.running.remove(&task) {
                actor.into_iter().for_each(|actor| late.back.extend(runs.backlog.dissolve(actor)));
                late.actors.extend(actor);
                is_to_stop.store(true, Ordering::Relaxed);
                runs.late.insert(number, (task, now));
                late.tasks.push((task, timeout));
            }
        }
        drop(runs);
        if !late.tasks.is_empty() {
            self.desk.ring();
        }
        late
    }

    /// A task that has gone on for so long after it was to have ended. Told once.
    pub fn hung(&self, grace: Duration) -> Option<TaskId> {
        let mut runs = lock(&self.runs);
        let number = runs.late.iter().find(|(_, (_, since))| since.elapsed() > grace).map(|(number, _)| *number)?;
        runs.late.remove(&number).map(|(task, _)| task)
    }

    /// While it lasts, another task may run in place of the one that this thread waits in.
    pub fn give_way(self: &Arc<Self>) -> Away {
        // A thread that has taken a part of a task, or is none of these, has no place to give away.
        let was_active = is_in_a_task() && !IS_AWAY.replace(true);
        let was_helping = was_active && help::is_the_program();
        let mut runs = lock(&self.runs);
        runs.active -= usize::from(was_active);
        runs.helping -= usize::from(was_helping);
        runs.waiting += 1;
        drop(runs);
        self.start();
        Away { threads: Arc::clone(self), was_active, was_helping, since: Instant::now() }
    }
}

impl Runs {
    fn mood(&self, threads: usize) -> Option<Mood> {
        // Who helps is through at once, and goes on with something for rank 0's loop, most often.
        let active = self.active - self.helping;
        if active >= threads {
            return Some(if self.is_stocked(threads) { Mood::Stocked } else { Mood::Saturated });
        }
        (active + self.waiting > 0).then_some(Mood::Serving)
    }

    /// Whether each of so many threads has a task and the next, and no task waits for what this rank hears.
    fn is_stocked(&self, threads: usize) -> bool {
        // A thread that looks for a task, and the task that it will find, are one.
        let tasks = self.running.len() - self.helping + self.backlog.runnable();
        self.waiting == 0 && tasks >= 2 * threads
    }

    /// A task begins.
    fn begin(&mut self, job: &Job<Work>) -> (u64, Arc<AtomicBool>) {
        let Job { task, actor, work: Work { timeout, .. }, .. } = *job;
        self.begun += 1;
        let (number, is_to_stop) = (self.begun, Arc::<AtomicBool>::default());
        // A time without end is none.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        if let (Some(deadline), Some(timeout)) = (deadline, timeout) {
            self.deadlines.insert((deadline, task), timeout);
        }
        self.running.insert(task, Running { number, actor, deadline, is_to_stop: Arc::clone(&is_to_stop) });
        (number, is_to_stop)
    }

    /// A run has ended, and the next call of its actor can begin.
    fn end(&mut self, ended: Ended) -> Told {
        let (counts, mut back) = (self.is_still(ended.run), Vec::new());
        match (&ended.end.result, ended.actor) {
            _ if !counts => {}
            (Err(Trouble::Panicked(_) | Trouble::Dead), Some(actor)) => back = self.backlog.dissolve(actor),
            (_, Some(actor)) => self.backlog.through(actor),
            (_, None) => {}
        }
        Told { ended, counts, back }
    }

    /// A task has ended; whether this run of it is the one that counts.
    fn is_still(&mut self, (task, number): (TaskId, u64)) -> bool {
        if self.late.remove(&number).is_some() {
            return false;
        }
        let Some(running) = self.running.get(&task).filter(|running| running.number == number) else { return false };
        if let Some(deadline) = running.deadline {
            self.deadlines.remove(&(deadline, task));
        }
        self.running.remove(&task);
        true
    }
}

/// A task waits for others.
pub(crate) struct Away {
    threads: Arc<Threads>,
    was_active: bool,
    was_helping: bool,
    since: Instant,
}

impl Drop for Away {
    fn drop(&mut self) {
        let mut runs = lock(&self.threads.runs);
        runs.waiting -= 1;
        runs.active += usize::from(self.was_active);
        runs.helping += usize::from(self.was_helping);
        drop(runs);
        if self.was_active {
            IS_AWAY.set(false);
        }
        with_current(|current| current.waited.set(current.waited.get() + self.since.elapsed()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn give(runs: &mut Runs, task: TaskId) {
        let (arguments, values, inputs, came) = (Vec::new(), Vec::new(), Vec::new(), Instant::now());
        let entry = Err(Absent::Gone("nobody runs it".into()));
        let work = Work { entry, arguments, values, inputs, actor: None, timeout: None, came };
        runs.backlog.give(Job { task, depth: 0, actor: None, work }, &BTreeMap::new());
    }

    #[test]
    fn a_rank_may_look_late_where_each_thread_has_a_task_and_the_next_and_none_waits() {
        let mut runs = Runs::default();
        assert_eq!(runs.mood(2), None);
        runs.active = 1;
        assert_eq!(runs.mood(2), Some(Mood::Serving));
        runs.active = 2;
        (0..3).for_each(|task| give(&mut runs, task));
        assert_eq!(runs.mood(2), Some(Mood::Saturated), "two of them are for threads that look for one");
        for _ in 0..2 {
            let job = runs.backlog.next().expect("three were given");
            runs.begin(&job);
        }
        assert_eq!(runs.mood(2), Some(Mood::Saturated), "one thread has no other");
        give(&mut runs, 3);
        assert_eq!(runs.mood(2), Some(Mood::Stocked));
        runs.waiting = 1;
        assert_eq!(runs.mood(2), Some(Mood::Saturated), "what it waits for comes by a message");
    }
}
