//! What can be asked for with a task.

use std::any::type_name;
use std::borrow::Cow;

use super::Pool;
use super::encoded::Encoded;
use super::function::{Data, Function};
use super::remote::Remote;
use crate::error::Result;
use crate::master::tasks::Order;

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
    pool: &'p Pool,
    name: Option<String>,
    priority: i32,
    on: Option<usize>,
    retries: u32,
}

impl<'p> Task<'p> {
    pub(super) fn new(pool: &'p Pool) -> Self {
        Self { pool, name: None, priority: 0, on: None, retries: 0 }
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
    /// already, about two for each of its threads, keep their turn.
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

    /// How often it is tried again, on whatever rank, after it has panicked.
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
        let (priority, on, retries) = (self.priority, self.on, self.retries);
        self.encode::<F, A, R, M>(&arguments)?.submit(self.pool, Order { priority, on, retries, ..Order::default() })
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
        let name = self.name.clone().map_or(Cow::Borrowed(type_name::<F>()), Cow::Owned);
        Encoded::new(&self.pool.desk, name, F::entry(), |writer| F::write(arguments, writer))
    }
}
