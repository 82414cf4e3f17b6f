//! How a program starts and ends: `init` for `main`, `spmd` for a whole program, `threads` for tests.

use std::process::ExitCode;

use crate::error::{Error, Result};
use crate::launch::{self, Roster, in_one_process};
use crate::pool::Pool;
use crate::rank::{ROOT_FIRST, Rank, new_pool};
use crate::report::{Progress, announce, verbosity};
use crate::transport::Transport;
use crate::transport::threads::{self as in_process, Threads};
use crate::world::World;

/// Starts the ranks: call it first, on every rank, on the main thread.
///
/// Under `mpirun` or `srun` it initialises MPI (`MPI_THREAD_FUNNELED`; MPI 4.0, section 11.2) and checks that all ranks
/// run the same build. Without a launcher the world is this process: one rank with all cores, or as many ranks as
/// `RANKFOLD_RANKS` says, whose calls run on threads while `main` runs once, as rank 0.
///
/// # Errors
///
/// MPI does not start, was started before (use `World::from_communicator`), belongs to another launcher than the one
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
    launch::refuse_copies().map_err(|error| error.on_rank(launch::rank_from_environment()))?;
    match launch::launcher() {
        #[cfg(feature = "mpi")]
        Some(launcher) => World::on_mpi(&launcher),
        _ => {
            let ranks = launch::number_from("RANKFOLD_RANKS", 1, launch::RANKS_MOST)?.unwrap_or(1) as usize;
            let introductions = in_one_process(ranks)?;
            let world = World::in_this_process(&introductions, Progress::from_environment()?)?;
            let transport = if ranks == 1 { "no launcher" } else { "threads of one process" };
            announce(verbosity()?, &introductions, world.threads_of_ranks(), transport);
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
                error.leave_word();
            }
            return ExitCode::FAILURE;
        }
    };
    let Err(error) = program(&world) else { return ExitCode::SUCCESS };
    let error = error.into();
    match error.downcast_ref::<Error>() {
        Some(error) => {
            if error.is_ours_to_report() {
                eprintln!("rankfold: error: {error}");
            }
            return error.exit_code();
        }
        None if world.size() == 1 || world.is_in_one_process() => {
            eprintln!("error: {error}");
        }
        None => {
            // Where every rank has the same error, rank 0's copy is enough: it ends the others, which takes launchers a while.
            if !world.is_root() {
                std::thread::sleep(4 * ROOT_FIRST);
            }
            eprintln!("error on rank {} ({}): {error}", world.rank(), world.host());
            launch::leave_word(error);
            world.abort(1);
        }
    }
    ExitCode::FAILURE
}

/// A whole program that thinks on rank 0: starts the ranks, runs `program` there while the others serve, reports an error
/// once, and gives the exit code.
///
/// # Examples
///
/// ```
/// fn main() -> std::process::ExitCode {
///     rankfold::run(|pool| {
///         let remotes = pool.map(|n: u64| n * n, 1..=3)?;
///         for remote in remotes { println!("{}", remote.get()?) }
///         Ok(())
///     })
/// }
/// ```
pub fn run(program: impl FnOnce(&Pool) -> Result<(), Box<dyn std::error::Error + Send + Sync>> + Send) -> ExitCode {
    spmd(|world| -> Result<(), Box<dyn std::error::Error>> {
        world.pool(program)?.unwrap_or(Ok(())).map_err(|error| -> Box<dyn std::error::Error> { error })
    })
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
    let roster = Roster::new(&introductions);
    let run = |transport: Threads| {
        let rank = transport.rank();
        let pool = new_pool(&roster, rank).unwrap_or_else(|error| panic!("{error}"));
        let rank = Rank::new(transport, &roster, pool, Progress::silent());
        program(&World::new(Box::new(rank), Vec::new()))
    };
    std::thread::scope(|scope| {
        let run = &run;
        let running: Vec<_> =
            in_process::ranks(ranks).into_iter().map(|transport| scope.spawn(move || run(transport))).collect();
        let ended = running.into_iter().map(std::thread::ScopedJoinHandle::join);
        ended.map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}
