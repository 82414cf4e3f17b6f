//! What can be asked for with a task.

use std::any::type_name;
use std::borrow::Cow;
use std::time::Duration;

use super::Pool;
use super::encoded::{Encoded, Prepared};
use super::function::{Data, Function};
use super::remote::Remote;
use crate::error::Result;
use crate::master::tasks::Order;
use crate::master::tasks::demand::Demand;

/// The description of a task; made by [`Pool::task`], and good for one or many.
///
/// # Examples
///
/// ```
/// # let world = rankfold::World::local(2)?;
/// let sum = world.pool(|pool| {
///     let urgent = pool.task().priority(10).retries(1);
///     let parts = [urgent.submit(|n: u64| n, (1,))?, urgent.submit(|n: u64| n, (2,))?];
///     parts.into_iter().map(rankfold::Remote::get).sum::<rankfold::Result<u64>>()
/// })?;
/// assert_eq!(sum.unwrap()?, 3);
/// # Ok::<(), rankfold::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Task<'p> {
    pub(super) pool: &'p Pool,
    name: Option<String>,
    priority: i32,
    on: Option<usize>,
    retries: u32,
    backoff: Duration,
    timeout: Option<Duration>,
    demand: Demand,
    pub(super) restarts: u32,
}

impl<'p> Task<'p> {
    pub(super) fn new(pool: &'p Pool) -> Self {
        Self {
            pool,
            name: None,
            priority: 0,
            on: None,
            retries: 0,
            backoff: Duration::ZERO,
            timeout: None,
            demand: Demand::default(),
            restarts: 0,
        }
    }

    /// What errors call it, in place of its function's name.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::World::local(1)?;
    /// let error = world.pool(|pool| pool.task().named("halve").submit(|n: u32| 1 / n, (0,))?.get())?.unwrap().unwrap_err();
    /// assert!(error.to_string().starts_with("halve: "), "{error}");
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Of tasks that could run, those of higher priority begin first; 0 if nothing is said. Tasks that a rank was given
    /// already, two for each of its threads or as many as last for about 20 ms, keep their turn.
    ///
    /// # Examples
    ///
    /// See [`Task`].
    #[must_use]
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// The one rank that may run it.
    ///
    /// A rank that does not exist, or is lost, is an error of the [`Remote`].
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::World::local(2)?;
    /// let error = world.pool(|pool| pool.task().on(5).submit(|n: u32| n, (1,))?.get())?.unwrap().unwrap_err();
    /// assert!(error.to_string().contains("rank 5, and there are 2 ranks"), "{error}");
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[must_use]
    pub fn on(mut self, rank: usize) -> Self {
        self.on = Some(rank);
        self
    }

    /// The only ranks that may run it: a part of the pool.
    ///
    /// If none of them is there, that is an error of the [`Remote`].
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::World::local(4)?;
    /// world.pool(|pool| {
    ///     let readers = pool.task().among([1, 3]);
    ///     let read = readers.submit(|n: u32| n, (7,))?;
    ///     read.wait()?;
    ///     assert!([1, 3].contains(&read.timing().expect("it has run").rank));
    ///     Ok::<_, rankfold::Error>(())
    /// })?.unwrap()?;
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[must_use]
    pub fn among(mut self, ranks: impl IntoIterator<Item = usize>) -> Self {
        self.demand.among = Some(ranks.into_iter().collect());
        self
    }

    /// So much of a resource is the task's while it runs. Ranks declare what they have in
    /// `RANKFOLD_RESOURCES="gpu=4,mem=64GiB"`, each in its own environment; names are free, and amounts are whole numbers,
    /// with a unit if that helps (`k`, `MiB`, `GB` …). May be said for several resources.
    ///
    /// Nothing checks what a task really uses: the count keeps others away. One whose [time is up](Self::timeout) counts as
    /// ended, also if it goes on. An [`actor`](Self::actor) has what it needs until it is dropped; a task that waits for that
    /// is told of on standard error after some seconds. That no rank ever has so much is an error of the [`Remote`].
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::World::local(2)?;
    /// let error = world.pool(|pool| pool.task().needs("gpu", 2).submit(|n: u32| n, (1,))?.get())?.unwrap().unwrap_err();
    /// assert!(error.to_string().contains("it needs gpu=2, and no rank has any gpu"), "{error}");
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[must_use]
    pub fn needs(mut self, resource: &str, amount: u64) -> Self {
        self.demand.amounts.remove(resource);
        if amount > 0 {
            self.demand.amounts.insert(resource.to_owned(), amount);
        }
        self
    }

    /// How often it is tried again, on whatever rank, after it has panicked or taken too long. Ranks that were lost with it do
    /// not count: see [`Pool::submit`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU32, Ordering};
    ///
    /// fn luck(n: u32) -> u32 {
    ///     static TRIES: AtomicU32 = AtomicU32::new(0);
    ///     if TRIES.fetch_add(1, Ordering::Relaxed) < 2 { panic!("no luck") } else { n }
    /// }
    ///
    /// # let world = rankfold::World::local(2)?;
    /// assert_eq!(world.pool(|pool| pool.task().retries(2).submit(luck, (7,))?.get())?.unwrap()?, 7);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// How long it rests before it is tried again the first time; twice as long before each further time, but not for more
    /// than a minute. It is tried again at once if nothing is said.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// # let world = rankfold::World::local(2)?;
    /// world.pool(|pool| {
    ///     let patient = pool.task().retries(3).backoff(Duration::from_millis(50)); // 50, 100, 200 ms
    ///     patient.submit(|path: String| std::fs::read_to_string(path).unwrap().len(), ("Cargo.toml".to_owned(),))?.get()
    /// })?.unwrap()?;
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[must_use]
    pub fn backoff(mut self, least: Duration) -> Self {
        self.backoff = least;
        self
    }

    /// How long it may run. After that it counts as failed, and is tried again if there are [`retries`](Self::retries)
    /// left; it is asked to stop, which it does at [`stop_if_asked`](crate::stop_if_asked) or when it waits for another
    /// task. A rank on which it goes on for longer than `RANKFOLD_PATIENCE` after that (30 s if nothing is said) is given
    /// up, as one that does not answer.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// # let world = rankfold::World::local(2)?;
    /// let error = world.pool(|pool| {
    ///     let brief = pool.task().timeout(Duration::from_millis(20));
    ///     brief.submit(|| loop { rankfold::stop_if_asked() }, ())?.get()
    /// })?.unwrap();
    /// let error: rankfold::Error = error.map(|never: u32| never).unwrap_err();
    /// assert!(error.to_string().contains("within 20ms"), "{error}");
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[must_use]
    pub fn timeout(mut self, most: Duration) -> Self {
        self.timeout = Some(most);
        self
    }

    /// How often an [`actor`](Self::actor) may begin anew, after a call of it has panicked or its rank was lost: its state is
    /// made again, of the same arguments, on whatever rank. The call that has panicked, and those that a lost rank had, are
    /// errors; the calls behind them run on the new state. Not at all if nothing is said.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::World::local(2)?;
    /// let left = world.pool(|pool| {
    ///     let stock = pool.task().restarts(1).actor(|n: u32| n, (5,))?;
    ///     let take = |stock: &mut u32, n: u32| { *stock = stock.checked_sub(n).expect("there is enough"); *stock };
    ///     let (one, too_many, again) = (stock.call(take, (1,))?, stock.call(take, (9,))?, stock.call(take, (2,))?);
    ///     assert!(too_many.get().is_err());
    ///     Ok::<_, rankfold::Error>((one.get()?, again.get()?))
    /// })?.unwrap()?;
    /// assert_eq!(left, (4, 3)); // of five again
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[must_use]
    pub fn restarts(mut self, restarts: u32) -> Self {
        self.restarts = restarts;
        self
    }

    /// As [`Pool::submit`], with what was asked for.
    ///
    /// # Errors
    ///
    /// As [`Pool::submit`].
    ///
    /// # Examples
    ///
    /// See [`Task`].
    #[expect(clippy::needless_pass_by_value, reason = "the type of the function is what counts")]
    pub fn submit<F, A, R, M>(&self, function: F, arguments: A) -> Result<Remote<R>>
    where
        F: Function<A, R, M>,
        R: Data,
    {
        let _ = function;
        self.prepare(self.encode::<F, A, R, M>(&arguments)?).submit(self.pool)
    }

    /// The function and its arguments, for one task or many.
    pub(super) fn encode<F, A, R, M>(&self, arguments: &A) -> Result<Encoded>
    where
        F: Function<A, R, M>,
    {
        const {
            assert!(
                size_of::<F>() == 0,
                "a function for other ranks must not capture anything: pass it as an argument instead"
            );
        };
        let name = self.name_or(type_name::<F>());
        Encoded::new(&self.pool.desk, name, F::entry(), |writer| F::write(arguments, writer))
    }

    /// A task with what was asked for.
    pub(super) fn prepare(&self, encoded: Encoded) -> Prepared {
        let mut demand = self.demand.clone();
        if let (false, Some(rank)) = (demand.is_none(), self.on) {
            let is_among = demand.among.as_ref().is_none_or(|among| among.contains(&rank));
            demand.among = Some([rank].into_iter().filter(|_| is_among).collect());
        }
        let order = Order {
            priority: self.priority,
            on: self.on,
            retries: self.retries,
            demand,
            rests: !self.backoff.is_zero(),
            ..Order::default()
        };
        let mut prepared = encoded.prepare(self.pool.around(), order);
        (prepared.payload.timeout, prepared.payload.backoff) = (self.timeout, self.backoff);
        prepared
    }

    /// What errors call it, if it has a name of its own.
    pub(super) fn name_or(&self, other: &'static str) -> Cow<'static, str> {
        self.name.clone().map_or(Cow::Borrowed(other), Cow::Owned)
    }
}
