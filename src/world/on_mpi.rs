//! Worlds whose ranks are MPI's.

use mpi::topology::SimpleCommunicator;

use super::{Error, Introduction, Progress, ROOT_FIRST, Rank, Result, Roster, World, new_pool};
use crate::error::ErrorKind;
use crate::launch::Launcher;
use crate::report::{announce, verbosity};
use crate::transport::mpi::{self as transport, Mpi};
use crate::transport::{Collective, Failure, Transport, wait};
use crate::wire;

impl World {
    /// Starts MPI.
    pub(crate) fn on_mpi(launcher: &Launcher) -> Result<Self> {
        if transport::is_initialized() {
            return Err(Error::launch(
                "MPI is initialised already",
                "call rankfold::init once; in a program that has started MPI, rankfold::World::from_communicator",
            ));
        }
        let communicator = transport::initialize().map_err(no_mpi)?;
        let mut transport = Mpi::new(&communicator, true).map_err(no_mpi)?;
        if transport.size() == 1
            && let Err(error) = all_alone(launcher)
        {
            let _ = transport.close(&mut drop);
            // Each of the ranks believes to be rank 0: the launcher knows which one is to speak. They have not met, so it may
            // come a good deal later than the others, which must not end the job before.
            let number = crate::launch::rank_from_environment();
            if number > 0 {
                std::thread::sleep(8 * ROOT_FIRST);
            }
            return Err(error.on_rank(number));
        }
        Self::on_transport(transport, communicator, Ok(()))
    }

    /// Meets the other ranks. Whatever is wrong on this one (`found`, settings that make no sense) is told to all, so that
    /// all of them return.
    pub(crate) fn on_transport(
        mut transport: Mpi,
        communicator: SimpleCommunicator,
        found: Result<()>,
    ) -> Result<Self> {
        let number = transport.rank();
        let place = crate::error::Place { rank: number, host: crate::launch::host_name() };
        let own =
            found.and_then(|()| Ok((Introduction::of_this_process()?, verbosity()?, Progress::from_environment()?)));
        let own = own.map_err(|error| error.said_by(&place));
        let settings = own.as_ref().map(|(introduction, ..)| introduction.clone()).map_err(Error::clone);
        let met = meet(&mut transport, &settings).and_then(|introductions| {
            let roster = Roster::new(&introductions);
            let pool = new_pool(&roster, number);
            all_agree(&mut transport, &pool.as_ref().map(drop).map_err(Error::clone))?;
            Ok((introductions, roster, pool?))
        });
        match (met, own) {
            (Ok((introductions, roster, pool)), Ok((_, verbosity, progress))) => {
                if number == 0 {
                    announce(verbosity, &introductions, &roster.threads, &transport::library_version());
                }
                let progress = if number == 0 { progress } else { Progress::silent() };
                let mut world = Self::new(Box::new(Rank::new(transport, &roster, pool, progress)), Vec::new());
                world.communicator = Some(communicator);
                Ok(world)
            }
            (Err(error), _) | (_, Err(error)) => {
                if matches!(error.kind(), ErrorKind::Mpi { .. }) {
                    // Nobody can be met any more.
                    eprintln!("rankfold: error: {error}");
                    transport.abort(1);
                }
                let _ = transport.close(&mut drop);
                if number > 0 {
                    std::thread::sleep(ROOT_FIRST);
                }
                Err(error.on_rank(number))
            }
        }
    }
}

/// Whether every rank has succeeded so far; else the error of the first that has not, on all of them.
fn all_agree(transport: &mut Mpi, own: &Result<()>) -> Result<()> {
    let bytes = wire::encode(own).map_err(unreadable)?;
    let all = wait::complete(transport, Collective::AllGather(bytes)).map_err(no_mpi)?;
    all.iter().try_for_each(|bytes| wire::decode::<Result<()>>(bytes).map_err(unreadable)?)
}

/// A launcher that has started several ranks, of which MPI sees one, is another MPI's.
fn all_alone(launcher: &Launcher) -> Result<()> {
    match launcher {
        Launcher { name, size: Some(size), .. } if *size > 1 => Err(Error::launch(
            format!(
                "{name} started {size} ranks, but {} sees one: they belong to different MPIs",
                transport::library_version()
            ),
            "start the program with the mpirun of the MPI that it was built with",
        )),
        _ => Ok(()),
    }
}

/// Everybody introduces itself to everybody; ranks that cannot work together are refused.
fn meet(transport: &mut Mpi, own: &Result<Introduction>) -> Result<Vec<Introduction>> {
    let bytes = wire::encode(&(wire::VERSION, wire::encode(own).map_err(unreadable)?)).map_err(unreadable)?;
    let all = wait::complete(transport, Collective::AllGather(bytes)).map_err(no_mpi)?;
    let introductions = all.iter().map(|bytes| introduction(bytes)).collect::<Result<Vec<_>>>()?;
    let root = &introductions[0];
    for (rank, other) in introductions.iter().enumerate() {
        if !root.program.is_same_build(&other.program) {
            let (root_runs, other_runs) = (&root.program, &other.program);
            return Err(Error::launch(
                format!("rank 0 ({}) runs {root_runs}, but rank {rank} ({}) runs {other_runs}", root.host, other.host),
                "start the same build on every rank",
            ));
        }
    }
    Ok(introductions)
}

fn introduction(bytes: &[u8]) -> Result<Introduction> {
    let (version, bytes): (u32, Vec<u8>) = wire::decode(bytes).map_err(unreadable)?;
    if version != wire::VERSION {
        return Err(unreadable(format!("message format {version} meets {}", wire::VERSION)));
    }
    wire::decode::<Result<Introduction>>(&bytes).map_err(unreadable)?
}

fn unreadable(message: impl std::fmt::Display) -> Error {
    Error::launch(format!("the ranks cannot read each other: {message}"), "start the same build on every rank")
}

pub(super) fn no_mpi(failure: Failure) -> Error {
    let Failure { function, message } = failure;
    let host = crate::launch::host_name();
    let place = crate::error::Place { rank: crate::launch::rank_from_environment(), host };
    ErrorKind::Mpi { function, place, message }.into()
}
