//! Named variables of a rank, and what a task that runs there knows of it.
//!
//! They belong to the pool: each rank's server has them, and they end with it. A task finds its rank's through the thread
//! that runs it, since the ranks of one process share everything else.

use std::any::{Any, type_name};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use super::Pool;
use super::encoded::Encoded;
use super::function::{Data, Writer};
use super::threads::with_current;
use crate::error::{Place, Result};
use crate::lock::lock;
use crate::rank::Traffic;
use crate::worker::kept::discard;
use crate::worker::runner::{Made, Reader, Trouble};

/// What tasks can ask of their rank.
pub(super) struct Here {
    place: Place,
    variables: Mutex<BTreeMap<String, Variable>>,
    traffic: Mutex<Traffic>,
    /// Whether the bytes of every value count.
    is_bounded: bool,
}

struct Variable {
    value: Arc<dyn Any + Send + Sync>,
    type_name: &'static str,
}

impl Here {
    pub fn new(place: &Place, is_bounded: bool) -> Self {
        Self { place: place.clone(), variables: Mutex::default(), traffic: Mutex::default(), is_bounded }
    }

    /// What this rank has sent so far.
    pub fn count(&self, traffic: &Traffic) {
        *lock(&self.traffic) = *traffic;
    }

    /// What a task has made, with all its bytes counted if they have to be.
    pub fn measure(&self, made: Made) -> Made {
        if self.is_bounded { made.measured() } else { made }
    }

    fn get<T: Send + Sync + 'static>(&self, name: &str) -> Result<Option<Arc<T>>, String> {
        let variables = lock(&self.variables);
        let Some(Variable { value, type_name: found }) = variables.get(name) else { return Ok(None) };
        let value = Arc::clone(value).downcast();
        value.map(Some).map_err(|_| {
            let (place, wanted) = (&self.place, type_name::<T>());
            format!("the variable `{name}` of {place} is of type {found}, and is asked for as {wanted}")
        })
    }

    fn put<T: Send + Sync + 'static>(&self, name: &str, value: Arc<T>) {
        let variable = Variable { value, type_name: type_name::<T>() };
        let before = lock(&self.variables).insert(name.to_owned(), variable);
        // Dropped when nobody waits for the lock.
        drop(before);
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        let all = std::mem::take(&mut *lock(&self.variables));
        all.into_values().for_each(|variable| discard(variable.value));
    }
}

impl fmt::Debug for Here {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Here").field("place", &self.place).finish_non_exhaustive()
    }
}

#[track_caller]
fn here(what: &str) -> Arc<Here> {
    let here = with_current(|current| Arc::clone(&current.threads.here));
    here.unwrap_or_else(|| {
        panic!("{what} outside of a task; a parallel iterator inside of one borrows what was got before it")
    })
}

/// The variable of this name, of the rank that runs this task: as [`Pool::push`] or [`set_variable`] has set it last there.
/// `None` if nobody has.
///
/// # Panics
///
/// If the variable is of another type, or this is not the thread of a task: what runs in parallel inside of one borrows
/// what was got before. In a task, that is the error of its [`Remote`](crate::Remote).
///
/// # Examples
///
/// ```
/// fn interpolate(x: f64) -> f64 {
///     let table = rankfold::variable::<Vec<f64>>("table").expect("it was pushed");
///     table[x as usize]
/// }
///
/// # let world = rankfold::World::local(2)?;
/// let y = world.pool(|pool| {
///     pool.push("table", vec![0.0, 1.0, 4.0, 9.0])?;
///     pool.submit(interpolate, (2.0,))?.get()
/// })?;
/// assert_eq!(y.unwrap()?, 4.0);
/// # Ok::<(), rankfold::Error>(())
/// ```
#[track_caller]
#[must_use]
pub fn variable<T: Send + Sync + 'static>(name: &str) -> Option<Arc<T>> {
    match here("a variable is asked for").get(name) {
        Ok(value) => value,
        Err(problem) => panic!("{problem}"),
    }
}

/// Sets a variable of the rank that runs this task, for the tasks that run there later. It ends with the pool.
///
/// Its type may be any, such as a connection or a handle of a library, that could not travel.
///
/// # Panics
///
/// If this is not the thread of a task.
///
/// # Examples
///
/// ```
/// use std::sync::Mutex;
///
/// fn count() -> usize {
///     let seen = rankfold::variable::<Mutex<usize>>("seen").expect("it was prepared");
///     let mut seen = seen.lock().unwrap();
///     *seen += 1;
///     *seen
/// }
///
/// # let world = rankfold::World::local(1)?;
/// let counts = world.pool(|pool| {
///     pool.prepare(|| rankfold::set_variable("seen", Mutex::new(0usize)), ())?;
///     let once_more = || pool.submit(count, ())?.get();
///     Ok::<_, rankfold::Error>([once_more()?, once_more()?])
/// })?;
/// assert_eq!(counts.unwrap()?, [1, 2]);
/// # Ok::<(), rankfold::Error>(())
/// ```
#[track_caller]
pub fn set_variable<T: Send + Sync + 'static>(name: &str, value: T) {
    here("a variable is set").put(name, Arc::new(value));
}

impl Pool {
    /// Sets a variable on every rank, which the tasks there find with [`variable`]. Waits until all ranks
    /// have it. It ends with the pool.
    ///
    /// # Errors
    ///
    /// The value cannot be encoded; [`OnRanks`](crate::ErrorKind::OnRanks) where a rank is lost or cannot decode it.
    ///
    /// # Examples
    ///
    /// See [`variable`].
    pub fn push<T: Data>(&self, name: &str, value: T) -> Result<()> {
        self.outside_of_tasks("push", "the tasks that need it, or use set_variable")?;
        let value = self.broadcast(value)?;
        let write = |writer: &mut Writer| writer.value(name).and_then(|()| writer.need(&value));
        let put = Encoded::new(&self.desk, format!("push of `{name}`"), put::<T>, write)?;
        self.all_of(&format!("push of `{name}`"), put.on::<()>(self, 0..self.size(), 0)?).map(drop)
    }

    /// A variable of every rank, in the order of ranks.
    ///
    /// # Errors
    ///
    /// [`OnRanks`](crate::ErrorKind::OnRanks), with each rank that has no such variable, or one of another type, or is lost.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::World::local(3)?;
    /// let seeds = world.pool(|pool| {
    ///     pool.push("seed", 7u64)?;
    ///     let change = |seed: u64| rankfold::set_variable("seed", seed);
    ///     pool.task().on(1).submit(change, (8,))?.get()?;
    ///     pool.pull::<u64>("seed")
    /// })?;
    /// assert_eq!(seeds.unwrap()?, [7, 8, 7]);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn pull<T: Data>(&self, name: &str) -> Result<Vec<T>> {
        let write = |writer: &mut Writer| writer.value(name);
        let copy = Encoded::new(&self.desk, format!("pull of `{name}`"), copy::<T>, write)?;
        self.all_of(&format!("pull of `{name}`"), copy.on::<T>(self, 0..self.size(), 0)?)
    }
}

impl Pool {
    /// What each rank has sent in this pool so far, in the order of ranks.
    ///
    /// The question travels with a task for each rank, and counts as well; a rank whose threads are all busy answers when
    /// the first of them is through with its task.
    ///
    /// # Errors
    ///
    /// [`OnRanks`](crate::ErrorKind::OnRanks) where a rank is lost.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::World::local(2)?;
    /// let sent = world.pool(|pool| {
    ///     let mut mesh = pool.task().on(1).submit(|n: usize| vec![0.5; n], (100_000,))?;
    ///     for _ in 0..10 {
    ///         mesh = pool.submit(|mesh: &[f64]| mesh.iter().map(|x| x / 2.0).collect::<Vec<_>>(), (&mesh,))?;
    ///     }
    ///     mesh.wait()?;
    ///     pool.traffic()
    /// })?;
    /// assert!(sent.unwrap()?.iter().all(|rank| rank.values == 0)); // each step ran where the mesh was
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn traffic(&self) -> Result<Vec<Traffic>> {
        let ask = Encoded::new(&self.desk, "traffic", traffic, |_| Ok(()))?;
        self.all_of("traffic", ask.on(self, 0..self.size(), i32::MAX)?)
    }
}

/// What the rank has sent, as the value of a task.
fn traffic(_: &mut Reader<'_>) -> Result<Made, Trouble> {
    let traffic = *lock(&here("traffic is asked for").traffic);
    Made::of(traffic)
}

/// Sets a variable to a value that is here.
fn put<T: Data>(reader: &mut Reader<'_>) -> Result<Made, Trouble> {
    let name: String = reader.value()?;
    here("a variable is set").put(&name, reader.input::<T>()?);
    Made::of(())
}

/// A variable as the value of a task.
fn copy<T: Data>(reader: &mut Reader<'_>) -> Result<Made, Trouble> {
    let name: String = reader.value()?;
    let here = here("a variable is asked for");
    let refused = |problem: String, remedy| Err(Trouble::Refused { problem, remedy });
    match here.get::<T>(&name) {
        Ok(Some(value)) => Made::shared(value),
        Ok(None) => refused(format!("{} has no variable `{name}`", here.place), "push it, or set it in a task there"),
        Err(problem) => refused(problem, "ask for the type that it was set with"),
    }
}
