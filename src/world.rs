//! The SPMD door: all ranks of a program, and the calls that they make together.

mod arrays;
#[cfg(feature = "mpi")]
mod on_mpi;

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::call::{self, Spec};
use crate::error::{Error, ErrorKind, Place, Result};
use crate::job::Over;
use crate::launch::{Introduction, Roster, in_one_process, leave_word};
use crate::pool::Pool;
use crate::rank::{ROOT_FIRST, Rank, new_pool};
use crate::reduce::collective::{Reduction, Value};
use crate::report::{Progress, Report};
use crate::source::Source;
use crate::transport::Transport;
use crate::transport::threads;
use crate::transport::threads::Threads;
use crate::worker::budget::Budget;
use crate::worker::caught;
use crate::worker::compute::Kernel;

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
    communicator: Option<mpi::topology::SimpleCommunicator>,
    /// MPI may be called from one thread only.
    stays_here: PhantomData<*const ()>,
}

struct Inner {
    rank: Box<Rank>,
    /// Ranks 1 and up where all ranks live in this process and one `main` runs for all of them.
    followers: Vec<Rank<Threads>>,
    report: Option<Report>,
    /// The first error of a call.
    failed: Option<Error>,
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
        let threaded = mpi::environment::threading_support() >= mpi::Threading::Funneled;
        let found = threaded.then_some(()).ok_or_else(|| {
            Error::launch(
                "MPI was initialised for programs without threads, and Rankfold computes with several",
                "start it with mpi::initialize_with_threading(mpi::Threading::Funneled)",
            )
        });
        let communicator = communicator.duplicate();
        let transport = crate::transport::mpi::Mpi::new(&communicator, false).map_err(on_mpi::no_mpi)?;
        Self::on_transport(transport, communicator, found)
    }

    /// The communicator of this world for calls of one's own through rsmpi; `None` where the ranks are threads.
    ///
    /// It is not the one that Rankfold's own messages use. Calls on it must not overlap with calls of this world.
    ///
    /// Where one host has all ranks, and more than eight to each core, [`init`](crate::init) starts MPICH 4.0 as if every rank had
    /// a host of its own, since it starts faster then: `MPI_Comm_split_type` finds one rank on each. With
    /// `MPIR_CVAR_NOLOCAL=0` in the environment it finds them all.
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
        self.communicator.as_ref()
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

    /// Runs `program` on rank 0, on a thread of its own, while this rank and all others serve it: the door for programs that
    /// give out tasks. Collective: every rank must call it; it returns when `program` has, and what it has detached has run.
    ///
    /// Rank 0 gets what `program` returns, the others `None`.
    ///
    /// # Errors
    ///
    /// Ranks that make another call, a rank 0 that does not answer, a transport that fails. What goes wrong in tasks is an
    /// error of their [`Remote`](crate::Remote)s.
    ///
    /// # Panics
    ///
    /// If `program` panics.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::init()?;
    /// let answer = world.pool(|pool| pool.submit(|a: u32, b: u32| a * b, (6, 7))?.get())?;
    /// if let Some(answer) = answer { assert_eq!(answer?, 42) } // on rank 0
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn pool<R: Send>(&self, program: impl FnOnce(&Pool) -> R + Send) -> Result<Option<R>> {
        let mut inner = self.inner.borrow_mut();
        let Inner { rank, followers, failed, .. } = &mut *inner;
        let outcome = std::thread::scope(|scope| {
            for follower in followers {
                scope.spawn(move || call::serve(follower));
            }
            if rank.rank() == 0 { call::host(rank, program).map(Some) } else { call::serve(rank).map(|()| None) }
        });
        if let Err(error) = &outcome {
            failed.get_or_insert_with(|| error.clone());
        }
        outcome
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

    /// What a call may have in memory on a rank, and where the rest goes; shared by the ranks of this
    /// process that have one `main`.
    pub(crate) fn budget(&self) -> Option<Arc<Budget>> {
        let inner = self.inner.borrow();
        let ranks = 1 + inner.followers.len();
        let bound = inner.rank.memory?.saturating_mul(ranks as u64);
        Some(Budget::new(bound, ranks * self.threads(), &self.place))
    }

    /// Makes a call on this rank and on the ranks that follow it in this process.
    pub(crate) fn call<S, K>(
        &self,
        spec: &Spec,
        source: &S,
        kernel: &K,
        reduction: Reduction<S, K>,
    ) -> Result<Value<K::Partial>>
    where
        S: Source,
        K: Kernel<S>,
        K::Partial: Serialize + DeserializeOwned,
    {
        let mut inner = self.inner.borrow_mut();
        let Inner { rank, followers, report, failed } = &mut *inner;
        let outcome = std::thread::scope(|scope| {
            for follower in followers {
                scope.spawn(move || call::make(follower, spec, source, kernel, reduction).map(drop));
            }
            call::make(rank, spec, source, kernel, reduction)
        });
        if let Err(error) = &outcome {
            failed.get_or_insert_with(|| error.clone());
        }
        let outcome = outcome?;
        *report = outcome.report;
        Ok(outcome.value)
    }

    /// Makes a call to which every rank brings something of its own.
    pub(crate) fn together<R>(&self, operation: &'static str, bring: impl FnOnce(&mut Rank) -> Result<R>) -> Result<R> {
        self.refuse_one_main(operation)?;
        let mut inner = self.inner.borrow_mut();
        let outcome = call::together(&mut inner.rank, bring);
        if let Err(error) = &outcome {
            inner.failed.get_or_insert_with(|| error.clone());
        }
        outcome
    }

    /// What each rank brings cannot be had where one `main` runs for several.
    pub(crate) fn refuse_one_main(&self, operation: &'static str) -> Result<()> {
        if self.size() == 1 || !self.is_in_one_process() {
            return Ok(());
        }
        let ranks = self.size();
        Err(self.failed(ErrorKind::Refused {
            call: operation.to_owned(),
            problem: format!("it takes something of every rank, and these {ranks} ranks share one main"),
            remedy: "start the program without RANKFOLD_RANKS, or under mpirun; tests can use rankfold::threads".into(),
        }))
    }

    /// Whether all ranks are this process, with one `main` for all of them.
    pub(crate) fn is_in_one_process(&self) -> bool {
        self.inner.borrow().followers.len() + 1 == self.size()
    }

    pub(crate) fn threads_of_ranks(&self) -> &[u32] {
        &self.threads
    }

    /// An error that every rank finds by itself, like the others.
    pub(crate) fn failed(&self, kind: ErrorKind) -> Error {
        let error = Error::from(kind).on_rank(self.rank());
        self.inner.borrow_mut().failed.get_or_insert_with(|| error.clone());
        error
    }

    /// Ends all ranks, now.
    pub(crate) fn abort(&self, code: i32) -> ! {
        self.inner.borrow_mut().rank.transport.abort(code)
    }

    pub(crate) fn in_this_process(introductions: &[Introduction], progress: Progress) -> Result<Self> {
        let roster = Roster::new(introductions);
        let mut ranks = threads::ranks(introductions.len()).into_iter();
        let mut next = |progress| {
            let transport = ranks.next().expect("as many transports as introductions");
            let rank = transport.rank();
            let pool = new_pool(&roster, rank)?;
            Ok(Rank::new(transport, &roster, pool, progress))
        };
        let rank = next(progress)?;
        let followers = introductions.iter().skip(1).map(|_| next(Progress::silent())).collect::<Result<_>>()?;
        Ok(Self::new(Box::new(rank), followers))
    }

    pub(crate) fn new(rank: Box<Rank>, followers: Vec<Rank<Threads>>) -> Self {
        if rank.size() > 1 && followers.is_empty() {
            caught::name_panics_of(&rank.place);
        }
        Self {
            place: rank.place.clone(),
            threads: Arc::clone(&rank.threads),
            inner: RefCell::new(Inner { rank, followers, report: None, failed: None }),
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
        #[cfg(feature = "mpi")]
        if self.communicator.is_some() && !crate::transport::mpi::is_initialized() {
            eprintln!("rankfold: {}: MPI was finalized before the world was dropped: drop it first", self.place);
            std::mem::forget(self.communicator.take());
            return;
        }
        let Inner { rank, followers, failed, .. } = self.inner.get_mut();
        if std::thread::panicking() {
            leave_word(format_args!("{} panicked", self.place));
            rank.journals.close(false);
            rank.transport.abandon();
            return;
        }
        if rank.broken.is_some() {
            rank.journals.close(false);
            rank.give_up_if_broken();
            return;
        }
        #[cfg(feature = "mpi")]
        if let Some(error) = failed.as_ref().filter(|error| self.communicator.is_some() && error.is_ours_to_report()) {
            error.leave_word();
        }
        // Others may be writing still: the next job must not begin before they are through.
        let left = if followers.is_empty() { rank.leave() } else { Ok(()) };
        rank.journals.close(failed.is_none() && left.is_ok());
        if left.is_err() {
            rank.give_up_if_broken();
        }
        if !followers.is_empty() {
            return;
        }
        if failed.is_some() {
            // A rank that left early with an error of its own tells that first, then rank 0 tells the call's.
            let turns = if rank.rank() > 0 { 2 } else { u32::from(!rank.left.is_empty()) };
            std::thread::sleep(ROOT_FIRST * turns);
        }
    }
}
