//! The root door: one closure, on rank 0, that gives out tasks; the other ranks serve.
//!
//! ```text
//! function   what can be submitted, and the entry that runs it
//! task       the options of a task
//! remote     a value that lives, or will live, on some rank
//! actor      a state on one rank, and calls that use it
//! shared     a value that every rank has a copy of
//! ranks      values and functions put on ranks by name
//! variables  named values of a rank
//! fluent     whole computations in one call
//! tree       the fixed tree in which partial values are joined
//! handle     what remotes, actors and graphs have of a task
//! encoded    a function and its arguments as they travel
//! each       one task for each item of an endless input
//! desk       what the user's threads and the transport's tell each other: on every rank
//! host       rank 0's loop
//! rests      tasks that are tried again later
//! serve      the other ranks' loop
//! bringing   values on their way to whoever waits for them: on every rank
//! server     tasks that a rank was given, and the values that it keeps: on every rank
//! threads    the threads that run its tasks
//! ```

pub(crate) mod actor;
mod bringing;
pub(crate) mod desk;
pub(crate) mod each;
pub(crate) mod encoded;
mod fluent;
pub(crate) mod function;
pub(crate) mod handle;
mod host;
mod quick;
mod ranks;
pub(crate) mod remote;
mod rests;
mod serve;
mod server;
pub(crate) mod shared;
pub(crate) mod slot;
pub(crate) mod task;
pub(crate) mod threads;
mod tree;
pub(crate) mod variables;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Place, Result};
use crate::journal::{Journals, least_interval};
use crate::lock::lock;
use crate::master::tasks::TaskId;
use crate::rank::Rank;
use crate::wire::Signature;
use actor::{Actor, Maker};
use desk::{Desk, Note};
use each::Each;
use function::{Data, Function};
use remote::Remote;
use slot::{Line, Then};
use task::Task;
use threads::Current;

/// At most so many tasks, or ends of tasks, go in one message: short ones of both make one that leaves at once.
const TOGETHER: usize = 64;

/// The ranks, for whoever gives out tasks: what [`run`](crate::run) and [`World::pool`](crate::World::pool) give to the
/// closure that they run on rank 0. It may be shared with other threads.
///
/// # Examples
///
/// ```
/// # let world = rankfold::World::local(3)?;
/// let squares = world.pool(|pool| {
///     let remotes = pool.map(|n: u64| n * n, 0..10)?;
///     remotes.into_iter().map(rankfold::Remote::get).collect::<rankfold::Result<Vec<_>>>()
/// })?;
/// assert_eq!(squares.unwrap()?[9], 81);
/// # Ok::<(), rankfold::Error>(())
/// ```
#[derive(Debug)]
pub struct Pool {
    pub(crate) desk: Arc<Desk>,
    pub(crate) places: Arc<[Place]>,
    threads: Arc<[u32]>,
    /// The task that submits, and how many there are around it; none for the program on rank 0.
    parent: Option<(TaskId, u32)>,
    /// Rank 0's, while the pool is open: graphs may have some.
    pub(crate) journals: Arc<Mutex<Journals>>,
    /// The least time between two moments at which a journal is made durable.
    pub(crate) interval: Duration,
}

/// How long [`Pool::wait`] waits.
///
/// # Examples
///
/// ```
/// use rankfold::Until;
/// # let world = rankfold::World::local(2)?;
/// world.pool(|pool| {
///     let remotes = pool.map(|n: u32| n, 0..5)?;
///     let done = pool.wait(&remotes, Until::Count(3), None);
///     assert!(done.len() >= 3);
///     Ok::<_, rankfold::Error>(())
/// })?.unwrap()?;
/// # Ok::<(), rankfold::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Until one has come to its end.
    First,
    /// Until all have.
    All,
    /// Until one has failed, or all have come to their end. A value that is lost after a good end does not count.
    FirstError,
    /// Until so many have come to their end.
    Count(usize),
}

impl Pool {
    /// The pool that the current task is part of, on any rank: tasks may submit tasks, and wait for them. A task that waits
    /// gives its thread to others meanwhile.
    ///
    /// What a task has submitted ends with it: remotes that it drops are not run, unless they are
    /// [detached](Remote::detach).
    ///
    /// # Errors
    ///
    /// This thread runs no task. In what runs in parallel inside of a task, use the pool that the task itself has got. The
    /// task, and rayon's threads inside of it, may wait for other tasks; a thread that it has started itself keeps the task's
    /// place while it waits, and so does an executor of futures.
    ///
    /// # Examples
    ///
    /// ```
    /// use rankfold::{Pool, Result};
    ///
    /// fn fibonacci(n: u64) -> Result<u64> {
    ///     if n < 2 {
    ///         return Ok(n);
    ///     }
    ///     let pool = Pool::here()?;
    ///     let (one, other) = (pool.submit(fibonacci, (n - 1,))?, pool.submit(fibonacci, (n - 2,))?);
    ///     Ok(one.get()?? + other.get()??)
    /// }
    ///
    /// # let world = rankfold::World::local(2)?;
    /// assert_eq!(world.pool(|pool| pool.submit(fibonacci, (10,))?.get()?)?.unwrap()?, 55);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn here() -> Result<Self> {
        let here = threads::with_current(|Current { task, depth, threads, .. }| Self {
            desk: Arc::clone(&threads.desk),
            places: Arc::clone(&threads.places),
            threads: Arc::clone(&threads.counts),
            parent: Some((*task, *depth)),
            journals: Arc::default(),
            interval: Duration::ZERO,
        });
        here.ok_or_else(|| {
            let problem = "this thread runs no task of a pool".into();
            let remedy =
                "call Pool::here() in the task itself, and let what runs in parallel inside of it borrow the pool"
                    .into();
            ErrorKind::Refused { call: "Pool::here".into(), problem, remedy }.into()
        })
    }

    /// Refuses what only the program on rank 0 can do.
    pub(crate) fn outside_of_tasks(&self, what: &str, instead: &str) -> Result<()> {
        if self.parent.is_none() {
            return Ok(());
        }
        let problem = "this is the pool of a task, and only the program itself can do that".to_owned();
        let remedy = format!("pass the value to {instead}");
        Err(ErrorKind::Refused { call: what.to_owned(), problem, remedy }.into())
    }

    /// The task inside of which something is submitted, and how deep that is.
    pub(crate) fn around(&self) -> (Option<TaskId>, u32) {
        self.parent.map_or((None, 0), |(task, depth)| (Some(task), depth + 1))
    }

    /// Has a function run on some rank, with these arguments: values, and `&Remote`s of other tasks' values. The task
    /// runs when all of those exist, where most of them are. Returns at once.
    ///
    /// If its rank stops answering (`RANKFOLD_PATIENCE`), it runs again on another one, unless it may run [on](Task::on) that
    /// one alone; with the third rank that is lost with it, it fails. So a task may run more than once, or have begun and
    /// be run again: what it does beside giving a value, such as writing a file, should bear that.
    ///
    /// See [`Function`] for what can be submitted.
    ///
    /// # Errors
    ///
    /// An argument cannot be encoded, the function is part of a shared library, or the pool is over. What goes wrong in
    /// the task itself is an error of the [`Remote`].
    ///
    /// # Examples
    ///
    /// ```
    /// fn hypotenuse(a: &f64, b: &f64) -> f64 { a.hypot(*b) }
    ///
    /// # let world = rankfold::World::local(2)?;
    /// let c = world.pool(|pool| {
    ///     let (a, b) = (pool.submit(f64::sqrt, (9.0,))?, pool.submit(f64::sqrt, (16.0,))?);
    ///     pool.submit(hypotenuse, (&a, &b))?.get()
    /// })?;
    /// assert_eq!(c.unwrap()?, 5.0);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn submit<F, A, R, M>(&self, function: F, arguments: A) -> Result<Remote<R>>
    where
        F: Function<A, R, M>,
        R: Data,
    {
        self.task().submit(function, arguments)
    }

    /// Begins the description of a task that is more than a function and its arguments.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::World::local(2)?;
    /// let value = world.pool(|pool| pool.task().named("seven").on(1).retries(2).submit(|n: u32| n, (7,))?.get())?;
    /// assert_eq!(value.unwrap()?, 7);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[must_use]
    pub fn task(&self) -> Task<'_> {
        Task::new(self)
    }

    /// Has a state made on some rank, which stays there and can be [called](Actor::call). Returns at once.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit).
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::World::local(2)?;
    /// let lines = world.pool(|pool| {
    ///     let log = pool.actor(Vec::<String>::new, ())?;
    ///     for line in ["one", "two"] {
    ///         log.call(|log: &mut Vec<String>, line: String| log.push(line), (line.to_owned(),))?.detach();
    ///     }
    ///     log.call(|log: &mut Vec<String>| log.clone(), ())?.get()
    /// })?;
    /// assert_eq!(lines.unwrap()?, ["one", "two"]);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn actor<F, A, S, M>(&self, make: F, arguments: A) -> Result<Actor<S>>
    where
        F: Maker<A, S, M>,
        S: Send + 'static,
    {
        self.task().actor(make, arguments)
    }

    /// One task for each item, in their order.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit).
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::World::local(2)?;
    /// let lengths = world.pool(|pool| {
    ///     let remotes = pool.map(|word: String| word.len(), ["a", "bc"].map(String::from))?;
    ///     remotes.into_iter().map(|remote| remote.get()).collect::<rankfold::Result<Vec<_>>>()
    /// })?;
    /// assert_eq!(lengths.unwrap()?, [1, 2]);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn map<F, I, R, M>(&self, function: F, items: I) -> Result<Vec<Remote<R>>>
    where
        I: IntoIterator,
        F: Function<(I::Item,), R, M>,
        R: Data,
    {
        items.into_iter().map(|item| self.submit(function, (item,))).collect()
    }

    /// One task for each item, with so many under way at a time as keep the ranks busy; gives the values in the order of
    /// the items. Nothing happens before the first is asked for.
    ///
    /// A task that fails is an error in its place, and the others go on.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::World::local(2)?;
    /// let sum = world.pool(|pool| pool.each(|n: u64| n * n, 0..10_000).sum::<rankfold::Result<u64>>())?;
    /// assert_eq!(sum.unwrap()?, 333_283_335_000);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn each<F, I, R, M>(&self, function: F, items: I) -> Each<'_, I::IntoIter, F, R, M>
    where
        I: IntoIterator,
        F: Function<(I::Item,), R, M>,
        R: Data,
    {
        Each::new(self, function, items.into_iter())
    }

    /// Waits for some of these tasks. Gives the positions of those that have come to their end, in order.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use rankfold::Until;
    /// # let world = rankfold::World::local(2)?;
    /// world.pool(|pool| {
    ///     let remotes = pool.map(|ms: u64| std::thread::sleep(Duration::from_millis(ms)), [500, 0])?;
    ///     assert_eq!(pool.wait(&remotes, Until::First, None), [1]);
    ///     assert_eq!(pool.wait(&remotes, Until::All, Some(Duration::from_millis(1))), [1]);
    ///     Ok::<_, rankfold::Error>(())
    /// })?.unwrap()?;
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[must_use]
    pub fn wait<T>(&self, remotes: &[Remote<T>], until: Until, timeout: Option<Duration>) -> Vec<usize> {
        let line = Arc::<Line>::default();
        let places = remotes.iter().zip(0..).map(|(remote, at)| remote.slot().queue(at, &line));
        let _places: Vec<_> = places.collect();
        let (mut done, mut has_failed) = (0, false);
        let enough = || {
            while let Some(at) = line.first() {
                done += 1;
                has_failed |= remotes[at as usize].slot().has_failed();
            }
            let is_enough = match until {
                Until::First => done > 0 || remotes.is_empty(),
                Until::All => done == remotes.len(),
                Until::FirstError => has_failed || done == remotes.len(),
                Until::Count(count) => done >= count.min(remotes.len()),
            };
            is_enough.then_some(())
        };
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        self.desk.wait(self.around().0, deadline, enough);
        (0..remotes.len()).filter(|at| remotes[*at].is_done()).collect()
    }

    /// These remotes in the order in which their tasks come to their end.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// # let world = rankfold::World::local(2)?;
    /// let order = world.pool(|pool| {
    ///     let remotes = pool.map(|ms: u64| { std::thread::sleep(Duration::from_millis(ms)); ms }, [400, 0])?;
    ///     pool.as_completed(remotes).map(|remote| remote.get()).collect::<rankfold::Result<Vec<_>>>()
    /// })?;
    /// assert_eq!(order.unwrap()?, [0, 400]);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn as_completed<T>(&self, remotes: impl IntoIterator<Item = Remote<T>>) -> AsCompleted<'_, T> {
        let mut all = AsCompleted { pool: self, remotes: BTreeMap::new(), next: 0, done: Arc::default() };
        remotes.into_iter().for_each(|remote| all.add(remote));
        all
    }

    /// The number of ranks.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::World::local(3)?;
    /// assert_eq!(world.pool(|pool| pool.size())?, Some(3));
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[must_use]
    pub fn size(&self) -> usize {
        self.places.len()
    }

    /// The host of a rank, or `None` if there is no such rank.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::World::local(3)?;
    /// let hosts = world.pool(|pool| (pool.host(2).map(str::to_owned), pool.host(3).is_none()))?.unwrap();
    /// assert_eq!(hosts, (Some(world.host().to_owned()), true));
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[must_use]
    pub fn host(&self, rank: usize) -> Option<&str> {
        self.places.get(rank).map(|place| place.host.as_str())
    }

    /// Threads that all ranks compute with together: as many tasks can run at a time.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::World::local(3)?;
    /// assert!(world.pool(|pool| pool.total_threads())?.unwrap() >= 3);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[must_use]
    pub fn total_threads(&self) -> usize {
        self.threads.iter().map(|threads| *threads as usize).sum()
    }
}

/// Remotes in the order in which their tasks come to their end; made by [`Pool::as_completed`].
///
/// More can be added while it is used.
///
/// # Examples
///
/// ```
/// # let world = rankfold::World::local(2)?;
/// let steps = world.pool(|pool| {
///     let (mut running, mut steps) = (pool.as_completed(pool.map(|n: u32| n / 2, [40, 7])?), 0);
///     while let Some(remote) = running.next() {
///         let n = remote.get()?;
///         steps += 1;
///         if n > 0 { running.add(pool.submit(|n: u32| n / 2, (n,))?) }
///     }
///     Ok::<_, rankfold::Error>(steps)
/// })?;
/// assert_eq!(steps.unwrap()?, 9);
/// # Ok::<(), rankfold::Error>(())
/// ```
#[derive(Debug)]
pub struct AsCompleted<'p, T> {
    pool: &'p Pool,
    remotes: BTreeMap<u64, Remote<T>>,
    next: u64,
    /// Those that have come to their end.
    done: Arc<Line>,
}

impl<T> AsCompleted<'_, T> {
    /// Adds one.
    ///
    /// # Examples
    ///
    /// See [`AsCompleted`].
    pub fn add(&mut self, remote: Remote<T>) {
        remote.slot().then(Then::Queue(self.next, Arc::clone(&self.done)));
        self.remotes.insert(self.next, remote);
        self.next += 1;
    }
}

impl<T> Iterator for AsCompleted<'_, T> {
    type Item = Remote<T>;

    fn next(&mut self) -> Option<Remote<T>> {
        if self.remotes.is_empty() {
            return None;
        }
        let first = self
            .pool
            .desk
            .wait(self.pool.around().0, None, || self.done.first())
            .expect("without a deadline it waits for one");
        self.remotes.remove(&first)
    }
}

/// Runs the closure on rank 0, while this rank and the others serve. Collective.
pub(crate) fn open<R: Send>(rank: &mut Rank, program: impl FnOnce(&Pool) -> R + Send) -> Result<R> {
    let desk = Desk::new(0);
    let journals = Arc::new(Mutex::new(std::mem::take(&mut rank.journals)));
    let pool = Pool {
        desk: Arc::clone(&desk),
        places: Arc::clone(&rank.places),
        threads: Arc::clone(&rank.threads),
        parent: None,
        journals: Arc::clone(&journals),
        interval: least_interval(rank.snapshots, 1),
    };
    let place = rank.place.clone();
    let result = std::thread::scope(|scope| {
        let closing = Closing(&desk);
        let run = move || {
            let _closing = closing;
            crate::worker::caught::name_panics_of(&place);
            threads::help::this_is_the_program();
            program(&pool)
        };
        let thread = std::thread::Builder::new().name("rankfold-program".into()).spawn_scoped(scope, run);
        let thread = thread.map_err(|error| {
            Error::launch(
                format!("rank 0 cannot start a thread for the program: {error}"),
                "raise the limit on processes (ulimit -u)",
            )
        })?;
        let hosted = host::host(rank, &desk, signature());
        let result = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        hosted.map(|()| result)
    });
    rank.journals = std::mem::take(&mut lock(&journals));
    result
}

/// Serves a pool, on any other rank. Collective.
pub(crate) fn serve(rank: &mut Rank) -> Result<()> {
    serve::serve(rank, signature())
}

fn signature() -> Signature {
    Signature { operation: "pool".into(), name: "pool".into(), ..Signature::default() }
}

/// The program is through with the pool, also if it panics.
struct Closing<'d>(&'d Desk);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let _ = self.0.post(Note::Close);
    }
}
