//! The SPMD door: all ranks of a program, and the calls that they make together.

#[cfg(feature = "mpi")]
mod on_mpi;

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::call::{self, Spec};
use crate::error::{Error, Place, Result};
use crate::job::Over;
use crate::launch::{self, Introduction};
use crate::rank::Rank;
use crate::reduce::collective::Value;
use crate::report::{Progress, Report, announce, verbosity};
use crate::source::Source;
use crate::transport::threads::Threads;
use crate::transport::{threads, wait};
use crate::wire::Message;
use crate::worker::caught;
use crate::worker::compute::Kernel;

/// After a failed call the other ranks leave a moment after rank 0, so that its message is out before a launcher that
/// has seen the first exit code ends the job.
const ROOT_FIRST: Duration = Duration::from_millis(250);

/// All ranks of a program. Every rank has one, makes the same calls with it, and drops it at the end of `main`.
///
/// Made by [`init`](crate::init). It stays on the thread that made it, which is the one that may call MPI. Dropping it
/// is collective, like `MPI_Finalize`, which it calls if [`init`](crate::init) has started MPI.
///
/// # Examples
///
/// ```
/// # fn main() -> rankfold::Result<()> {
/// let world = rankfold::init()?;
/// let sum = world.map_reduce(0..1000u64, |i| i * i, |a, b| a + b)?;
/// if world.is_root() { println!("{sum}") }
/// # assert_eq!(sum, 332_833_500);
/// # Ok(())
/// # }
/// ```
pub struct World {
    inner: RefCell<Inner>,
    place: Place,
    threads: Arc<[u32]>,
    #[cfg(feature = "mpi")]
    communicator: Option<std::mem::ManuallyDrop<mpi::topology::SimpleCommunicator>>,
    /// MPI may be called from one thread only.
    stays_here: PhantomData<*const ()>,
}

struct Inner {
    rank: Box<Rank>,
    /// Ranks 1 and up where all ranks live in this process and one `main` runs for all of them.
    followers: Vec<Rank<Threads>>,
    report: Option<Report>,
    failed: bool,
}

/// Starts the ranks: call it first, on every rank, on the main thread.
///
/// Under `mpirun` or `srun` it initialises MPI (`MPI_THREAD_FUNNELED`; MPI 4.0, section 11.2) and checks that all ranks
/// run the same build. Without a launcher the world is this process: one rank with all cores, or as many ranks as
/// `RANKFOLD_RANKS` says, whose calls run on threads while `main` runs once, as rank 0.
///
/// # Errors
///
/// MPI does not start, was started before (use [`World::from_communicator`]), belongs to another launcher than the one
/// that runs, or ranks run different builds; a `RANKFOLD_…` variable makes no sense.
///
/// # Examples
///
/// ```
/// # fn main() -> rankfold::Result<()> {
/// let world = rankfold::init()?;
/// eprintln!("rank {} of {} on {}", world.rank(), world.size(), world.host());
/// # Ok(())
/// # }
/// ```
pub fn init() -> Result<World> {
    let verbosity = verbosity()?;
    match launch::launcher() {
        #[cfg(feature = "mpi")]
        Some(launcher) => World::on_mpi(&launcher, verbosity),
        #[cfg(not(feature = "mpi"))]
        Some(launch::Launcher { name, size: Some(size) }) if size > 1 => Err(Error::launch(
            format!("{name} started {size} ranks, but this program was built without MPI: each would do all the work"),
            "build it with the feature `mpi`, or start it without a launcher",
        )),
        _ => {
            let ranks = launch::number_from("RANKFOLD_RANKS", 1)?.unwrap_or(1) as usize;
            let introductions = in_one_process(ranks)?;
            let world = World::in_this_process(&introductions, Progress::from_environment()?)?;
            let transport = if ranks == 1 { "no launcher" } else { "threads of one process" };
            announce(verbosity, &introductions, &world.threads, transport);
            Ok(world)
        }
    }
}

/// A whole SPMD program: starts the ranks, runs `program` on each, reports an error once, and gives the exit code.
///
/// An error of a Rankfold call is the same on every rank and is printed by rank 0. Any other error (a file that cannot be
/// opened on one rank) is printed with its rank and host, and ends all ranks, which might wait for this one otherwise.
///
/// # Examples
///
/// ```
/// fn main() -> std::process::ExitCode {
///     rankfold::spmd(|world| -> Result<(), Box<dyn std::error::Error>> {
///         let sum = world.map_reduce(0..10u64, |i| i, |a, b| a + b)?;
///         if world.is_root() { println!("{sum}") }
///         Ok(())
///     })
/// }
/// ```
pub fn spmd<E>(program: impl FnOnce(&World) -> Result<(), E>) -> ExitCode
where
    E: Into<Box<dyn std::error::Error>>,
{
    let world = match init() {
        Ok(world) => world,
        Err(error) => {
            if error.is_ours_to_report() {
                eprintln!("rankfold: error: {error}");
            }
            return ExitCode::FAILURE;
        }
    };
    let Err(error) = program(&world) else { return ExitCode::SUCCESS };
    let error = error.into();
    match error.downcast_ref::<Error>() {
        Some(error) if error.is_ours_to_report() => eprintln!("rankfold: error: {error}"),
        Some(_) => {}
        None if world.size() == 1 || world.inner.borrow().followers.len() + 1 == world.size() => {
            eprintln!("error: {error}");
        }
        None => {
            // Where every rank has the same error, rank 0's copy is enough.
            if !world.is_root() {
                std::thread::sleep(ROOT_FIRST);
            }
            eprintln!("error on {}: {error}", world.place);
            world.inner.borrow_mut().rank.transport.abort(1);
        }
    }
    ExitCode::FAILURE
}

/// Runs an SPMD program on ranks that are threads of this process, each with a [`World`] of its own: for tests of code
/// that is written for MPI. Gives what each rank returned.
///
/// # Panics
///
/// If the program panics on a rank; the other ranks get an error from the call that waits for it.
///
/// # Examples
///
/// ```
/// let sums = rankfold::threads(4, |world| {
///     let mine = world.rank() as u64;
///     world.map_reduce(0..100u64, |i| i, |a, b| a + b).map(|sum| sum + mine)
/// });
/// assert_eq!(sums.into_iter().collect::<Result<Vec<_>, _>>()?, [4950, 4951, 4952, 4953]);
/// # Ok::<(), rankfold::Error>(())
/// ```
pub fn threads<R: Send>(ranks: usize, program: impl Fn(&World) -> R + Sync) -> Vec<R> {
    let introductions = in_one_process(ranks).unwrap_or_else(|error| panic!("{error}"));
    let (places, threads) = roster(&introductions);
    let run = |transport: Threads| {
        let rank = Rank::new(transport, Arc::clone(&places), Arc::clone(&threads), Progress::silent());
        program(&World::new(Box::new(rank.unwrap_or_else(|error| panic!("{error}"))), Vec::new()))
    };
    std::thread::scope(|scope| {
        let run = &run;
        let running: Vec<_> =
            threads::ranks(ranks).into_iter().map(|transport| scope.spawn(move || run(transport))).collect();
        let ended = running.into_iter().map(std::thread::ScopedJoinHandle::join);
        ended.map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

impl World {
    /// A world of ranks that are threads of this process, whatever the environment says; `main` runs once, as rank 0.
    ///
    /// # Errors
    ///
    /// The machine refuses to start the threads.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> rankfold::Result<()> {
    /// let sum = |ranks| rankfold::World::local(ranks)?.map_reduce(0..999u64, |i| 1.0 / (1.0 + i as f64), |a, b| a + b);
    /// assert_eq!(sum(1)?.to_bits(), sum(7)?.to_bits());
    /// # Ok(())
    /// # }
    /// ```
    pub fn local(ranks: usize) -> Result<Self> {
        Self::in_this_process(&in_one_process(ranks.max(1))?, Progress::silent())
    }

    /// A world on a communicator of a program that uses rsmpi already. Collective over the communicator.
    ///
    /// The communicator is duplicated (MPI 4.0, section 7.4.2), so none of the program's own messages is touched, and the
    /// program may use it as before between calls. MPI must have been initialised for threads, with
    /// `mpi::initialize_with_threading(Threading::Funneled)` or more, by the thread that calls this; it is not finalized
    /// when the world is dropped, and must not be finalized before.
    ///
    /// # Errors
    ///
    /// MPI was initialised without threads, or ranks run different builds.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use mpi::traits::*;
    ///
    /// # fn main() -> rankfold::Result<()> {
    /// let (universe, _) = mpi::initialize_with_threading(mpi::Threading::Funneled).unwrap();
    /// let world = rankfold::World::from_communicator(&universe.world())?;
    /// let sum = world.map_reduce(0..10u64, |i| i, |a, b| a + b)?;
    /// universe.world().barrier();
    /// drop(world); // before the universe
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "mpi")]
    pub fn from_communicator<C: mpi::traits::Communicator>(communicator: &C) -> Result<Self> {
        let verbosity = verbosity()?;
        if mpi::environment::threading_support() < mpi::Threading::Funneled {
            return Err(Error::launch(
                "MPI was initialised for programs without threads, and Rankfold computes with several",
                "start it with mpi::initialize_with_threading(mpi::Threading::Funneled)",
            ));
        }
        Self::on_communicator(communicator.duplicate(), false, None, verbosity)
    }

    /// The communicator of this world for calls of one's own through rsmpi; `None` where the ranks are threads.
    ///
    /// It is not the one that Rankfold's own messages use. Calls on it must not overlap with calls of this world.
    ///
    /// # Examples
    ///
    /// ```
    /// use mpi::traits::*;
    ///
    /// # fn main() -> rankfold::Result<()> {
    /// let world = rankfold::init()?;
    /// if let Some(communicator) = world.communicator() {
    ///     communicator.barrier();
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "mpi")]
    #[must_use]
    pub fn communicator(&self) -> Option<&mpi::topology::SimpleCommunicator> {
        self.communicator.as_deref()
    }

    /// This process's number among the ranks, from 0.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::init()?;
    /// assert!(world.rank() < world.size());
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[must_use]
    pub fn rank(&self) -> usize {
        self.place.rank
    }

    /// The number of ranks.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::init()?;
    /// assert!(world.size() >= 1);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[must_use]
    pub fn size(&self) -> usize {
        self.threads.len()
    }

    /// Whether this is rank 0, the one that prints.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::init()?;
    /// if world.is_root() { println!("once") }
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.rank() == 0
    }

    /// The name of the machine that this rank runs on.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::init()?;
    /// assert!(!world.host().is_empty());
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[must_use]
    pub fn host(&self) -> &str {
        &self.place.host
    }

    /// Threads that this rank computes with: its part of the cores that the launcher lets it use, or `RANKFOLD_THREADS`.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::init()?;
    /// assert!(world.threads() >= 1);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads[self.rank()] as usize
    }

    /// Threads that all ranks compute with together.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::init()?;
    /// assert!(world.total_threads() >= world.size());
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[must_use]
    pub fn total_threads(&self) -> usize {
        self.threads.iter().map(|threads| *threads as usize).sum()
    }

    /// Maps every item and combines the values; every rank gets the result. Short for
    /// [`over(source).map_reduce(mapper, combiner)`](Over::map_reduce), which tells more.
    ///
    /// # Errors
    ///
    /// Empty input, a panic in one of the functions, input that cannot be read, ranks that disagree: the same
    /// [`Error`] on every rank.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::init()?;
    /// let sum = world.map_reduce(1..=100u64, |i| i * i, |a, b| a + b)?;
    /// assert_eq!(sum, 338_350);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn map_reduce<S, T, M, C>(&self, source: S, mapper: M, combiner: C) -> Result<T>
    where
        S: Source,
        T: Serialize + DeserializeOwned + Send,
        M: Fn(S::Item) -> T + Sync,
        C: Fn(T, T) -> T + Sync,
    {
        self.over(source).map_reduce(mapper, combiner)
    }

    /// Begins the description of a call over some input.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::init()?;
    /// let evens = world.over(0..10u64).named("evens").map(|i| 2 * i)?;
    /// assert_eq!(evens[9], 18);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn over<S: Source>(&self, source: S) -> Over<'_, S> {
        Over::new(self, source)
    }

    /// Where the time of the last call that succeeded went; on rank 0 alone, and `None` before the first call.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::init()?;
    /// world.over(0..100u64).for_each(|_| {})?;
    /// if let Some(report) = world.report() { eprintln!("{report}") }
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[must_use]
    pub fn report(&self) -> Option<Report> {
        self.inner.borrow().report.clone()
    }

    /// Makes a call on this rank and on the ranks that follow it in this process.
    pub(crate) fn call<S, K>(&self, spec: &Spec, source: &S, kernel: &K) -> Result<Value<K::Partial>>
    where
        S: Source,
        K: Kernel<S>,
        K::Partial: Serialize + DeserializeOwned,
    {
        let mut inner = self.inner.borrow_mut();
        let Inner { rank, followers, report, failed } = &mut *inner;
        let outcome = std::thread::scope(|scope| {
            for follower in followers {
                scope.spawn(move || call::make(follower, spec, source, kernel).map(drop));
            }
            call::make(rank, spec, source, kernel)
        });
        *failed |= outcome.is_err();
        let outcome = outcome?;
        *report = outcome.report;
        Ok(outcome.value)
    }

    fn in_this_process(introductions: &[Introduction], progress: Progress) -> Result<Self> {
        let (places, threads) = roster(introductions);
        let mut ranks = threads::ranks(introductions.len()).into_iter();
        let mut next = |progress| {
            let transport = ranks.next().expect("as many transports as introductions");
            Rank::new(transport, Arc::clone(&places), Arc::clone(&threads), progress)
        };
        let rank = next(progress)?;
        let followers = introductions.iter().skip(1).map(|_| next(Progress::silent())).collect::<Result<_>>()?;
        Ok(Self::new(Box::new(rank), followers))
    }

    fn new(rank: Box<Rank>, followers: Vec<Rank<Threads>>) -> Self {
        wait::sharpen_timer();
        if rank.size() > 1 && followers.is_empty() {
            caught::name_panics_of(&rank.place);
        }
        Self {
            place: rank.place.clone(),
            threads: Arc::clone(&rank.threads),
            inner: RefCell::new(Inner { rank, followers, report: None, failed: false }),
            #[cfg(feature = "mpi")]
            communicator: None,
            stays_here: PhantomData,
        }
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("place", &self.place).field("size", &self.size()).finish_non_exhaustive()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let Inner { rank, followers, failed, .. } = self.inner.get_mut();
        if let Some(error) = &rank.broken {
            // Said here, since `main` has no chance to once the other ranks are told.
            eprintln!("rankfold: error: {error}");
        }
        if std::thread::panicking() || rank.broken.is_some() {
            rank.transport.abandon();
            return;
        }
        if !followers.is_empty() {
            return;
        }
        let others = if rank.rank() == 0 { 1..rank.size() } else { 0..1 };
        let told = others.into_iter().try_for_each(|other| rank.send(other, Message::Leave));
        let closed = told.is_ok() && rank.transport.close().is_ok();
        if !closed {
            tracing::debug!("{}: the transport did not close in order", rank.place);
        }
        if *failed && rank.rank() > 0 {
            std::thread::sleep(ROOT_FIRST);
        }
    }
}

/// What each rank of a process would say of itself: the same, so that they share its cores.
fn in_one_process(ranks: usize) -> Result<Vec<Introduction>> {
    let mut introduction = Introduction::of_this_process()?;
    introduction.launcher_cpus.clone_from(&introduction.cpus);
    Ok(vec![introduction; ranks])
}

/// The places and threads of all ranks.
fn roster(introductions: &[Introduction]) -> (Arc<[Place]>, Arc<[u32]>) {
    let places = introductions.iter().enumerate().map(|(rank, who)| Place { rank, host: who.host.clone() });
    (places.collect(), launch::share_cores(introductions).into())
}
