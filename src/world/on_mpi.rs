//! Worlds whose ranks are MPI's.

use mpi::topology::SimpleCommunicator;

use super::{Arc, Error, Introduction, Progress, Rank, Result, World};
use crate::error::ErrorKind;
use crate::launch::Launcher;
use crate::report::{Verbosity, announce};
use crate::transport::mpi::{self as transport, Mpi};
use crate::transport::{Collective, Failure, Transport, wait};
use crate::wire;

impl World {
    /// Starts MPI.
    pub(crate) fn on_mpi(launcher: &Launcher, verbosity: Verbosity) -> Result<Self> {
        if transport::is_initialized() {
            return Err(Error::launch(
                "MPI was initialised before rankfold::init was called",
                "pass the communicator to rankfold::World::from_communicator instead",
            ));
        }
        let communicator = transport::initialize().map_err(no_mpi)?;
        Self::on_communicator(communicator, true, Some(launcher), verbosity)
    }

    pub(crate) fn on_communicator(
        communicator: SimpleCommunicator,
        owns_mpi: bool,
        launcher: Option<&Launcher>,
        verbosity: Verbosity,
    ) -> Result<Self> {
        let mut transport = Mpi::new(&communicator, owns_mpi).map_err(no_mpi)?;
        let number = transport.rank();
        match Self::meet(&mut transport, launcher) {
            Ok(introductions) => {
                let (places, threads) = crate::program::roster(&introductions);
                let progress = if number == 0 { Progress::from_environment()? } else { Progress::silent() };
                if number == 0 {
                    announce(verbosity, &introductions, &threads, &transport::library_version());
                }
                let rank = Rank::new(transport, places, Arc::clone(&threads), progress)?;
                let mut world = Self::new(Box::new(rank), Vec::new());
                world.communicator = Some(communicator);
                Ok(world)
            }
            Err(error) => {
                let _ = transport.close();
                if number > 0 {
                    std::thread::sleep(crate::program::ROOT_FIRST);
                }
                Err(error.on_rank(number))
            }
        }
    }

    /// Everybody introduces itself to everybody; ranks that cannot work together are refused.
    fn meet(transport: &mut Mpi, launcher: Option<&Launcher>) -> Result<Vec<Introduction>> {
        if let Some(Launcher { name, size: Some(size) }) = launcher
            && *size > 1
            && transport.size() == 1
        {
            return Err(Error::launch(
                format!(
                    "{name} started {size} ranks, but {} sees one: they belong to different MPIs",
                    transport::library_version()
                ),
                "start the program with the mpirun of the MPI that it was built with",
            ));
        }
        let mine = Introduction::of_this_process()?;
        let bytes = wire::encode(&(wire::VERSION, wire::encode(&mine).map_err(unreadable)?)).map_err(unreadable)?;
        let all = wait::complete(transport, Collective::AllGather(bytes)).map_err(no_mpi)?;
        let introductions = all.iter().map(|bytes| introduction(bytes)).collect::<Result<Vec<_>>>()?;
        let root = &introductions[0];
        for (rank, other) in introductions.iter().enumerate() {
            if !root.program.is_same_build(&other.program) {
                return Err(Error::launch(
                    format!(
                        "rank 0 ({}) runs {}, but rank {rank} ({}) runs {}",
                        root.host, root.program, other.host, other.program
                    ),
                    "start the same build on every rank",
                ));
            }
        }
        Ok(introductions)
    }
}

fn introduction(bytes: &[u8]) -> Result<Introduction> {
    let (version, bytes): (u32, Vec<u8>) = wire::decode(bytes).map_err(unreadable)?;
    if version != wire::VERSION {
        return Err(unreadable(format!("message format {version} meets {}", wire::VERSION)));
    }
    wire::decode(&bytes).map_err(unreadable)
}

fn unreadable(message: impl std::fmt::Display) -> Error {
    Error::launch(format!("the ranks cannot read each other: {message}"), "start the same build on every rank")
}

fn no_mpi(failure: Failure) -> Error {
    let Failure { function, message } = failure;
    let host = crate::launch::host_name();
    let place = crate::error::Place { rank: crate::launch::rank_from_environment(), host };
    ErrorKind::Mpi { function, place, message }.into()
}
