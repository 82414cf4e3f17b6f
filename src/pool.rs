//! The root door: one closure, on rank 0, that gives out tasks; the other ranks serve.
//!
//! ```text
//! function   what can be submitted, and the entry that runs it
//! task       the options of a task
//! remote     a value that lives, or will live, on some rank
//! shared     a value that every rank has a copy of
//! ranks      values and functions put on ranks by name
//! variables  named values of a rank
//! fluent     whole computations in one call
//! tree       the fixed tree in which partial values are joined
//! encoded    a function and its arguments as they travel
//! each       one task for each item of an endless input
//! desk       what the user's thread and the transport's tell each other
//! host       rank 0's loop
//! serve      the other ranks' loop
//! server     tasks that a rank was given, and the values that it keeps: on every rank
//! ```

pub(crate) mod desk;
pub(crate) mod each;
mod encoded;
mod fluent;
pub(crate) mod function;
mod host;
mod ranks;
pub(crate) mod remote;
mod serve;
mod server;
pub(crate) mod shared;
pub(crate) mod task;
mod tree;
pub(crate) mod variables;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, Place, Result};
use crate::rank::Rank;
use crate::wire::Signature;
use desk::{Desk, Line, Note, Then};
use each::Each;
use function::{Data, Function};
use remote::Remote;
use task::Task;

/// At most so many tasks, or ends of tasks, go in one message, so that the first arrives while others are on their way.
const TOGETHER: usize = 256;

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
    desk: Arc<Desk>,
    places: Arc<[Place]>,
    threads: Arc<[u32]>,
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
    /// Until one has failed, or all have come to their end.
    FirstError,
    /// Until so many have come to their end.
    Count(usize),
}

impl Pool {
    /// Has a function run on some rank, with these arguments: values, and `&Remote`s of other tasks' values. The task
    /// runs when all of those exist, where most of them are. Returns at once.
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
        let done = || -> Vec<usize> { (0..remotes.len()).filter(|at| remotes[*at].is_done()).collect() };
        let enough = || {
            let done = done();
            let is_enough = match until {
                Until::First => !done.is_empty() || remotes.is_empty(),
                Until::All => done.len() == remotes.len(),
                Until::FirstError => {
                    done.len() == remotes.len() || done.iter().any(|at| remotes[*at].slot().has_failed())
                }
                Until::Count(count) => done.len() >= count.min(remotes.len()),
            };
            is_enough.then_some(done)
        };
        self.desk.wait(timeout.and_then(|timeout| Instant::now().checked_add(timeout)), enough).unwrap_or_else(done)
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
        let first = self.pool.desk.wait(None, || self.done.first()).expect("without a deadline it waits for one");
        self.remotes.remove(&first)
    }
}

/// Runs the closure on rank 0, while this rank and the others serve. Collective.
pub(crate) fn open<R: Send>(rank: &mut Rank, program: impl FnOnce(&Pool) -> R + Send) -> Result<R> {
    let desk = Arc::new(Desk::default());
    let pool = Pool { desk: Arc::clone(&desk), places: Arc::clone(&rank.places), threads: Arc::clone(&rank.threads) };
    let place = rank.place.clone();
    std::thread::scope(|scope| {
        let closing = Closing(&desk);
        let run = move || {
            let _closing = closing;
            crate::worker::caught::name_panics_of(&place);
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
    })
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
