//! The MPI library as a whole: starting it, ending it, and what its return codes say.

use std::ffi::{c_char, c_int};

use ::mpi::ffi;
use ::mpi::topology::SimpleCommunicator;

use super::crowded::GivingWay;
use super::exit;
use crate::transport::{Failure, wait};

/// Initialises MPI for calls from this thread alone, and gives the world communicator.
pub(crate) fn initialize() -> Result<SimpleCommunicator, Failure> {
    let giving_way = wait::is_crowded().then(GivingWay::new);
    let started = ::mpi::initialize_with_threading(::mpi::Threading::Funneled);
    drop(giving_way);
    let Some((universe, provided)) = started else {
        return Err(Failure { function: "MPI_Init_thread".into(), message: "MPI was initialised before".into() });
    };
    // Its drop would finalize, also while unwinding, where the other ranks would wait for ever. `release` finalizes.
    std::mem::forget(universe);
    if provided < ::mpi::Threading::Funneled {
        return Err(Failure {
            function: "MPI_Init_thread".into(),
            message: format!("this MPI allows no threads beside the one that calls it ({provided:?})"),
        });
    }
    Ok(SimpleCommunicator::world())
}

/// Whether MPI is initialised and not finalized.
pub(crate) fn is_initialized() -> bool {
    let (mut initialized, mut finalized) = (0, 0);
    // SAFETY: both may be called at any time, from any thread; the out-pointers are valid.
    unsafe {
        ffi::MPI_Initialized(&raw mut initialized);
        ffi::MPI_Finalized(&raw mut finalized);
    }
    initialized != 0 && finalized == 0
}

/// The name and version of the MPI library that was loaded, which need not be the one the program was built with.
pub(crate) fn library_version() -> String {
    let version = ::mpi::environment::library_version().unwrap_or_default();
    let words = version.split([',', '\n', '\0']).next().unwrap_or_default();
    words.replace("Version:", "").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Frees the communicator and, where this library started MPI, finalizes it. Every rank must have come this far.
pub(super) fn release(comm: &mut ffi::MPI_Comm, finalize: bool) -> Result<(), Failure> {
    exit::world_closed();
    // SAFETY: a communicator of ours with nothing under way, which is not used again.
    check("MPI_Comm_free", unsafe { ffi::MPI_Comm_free(comm) })?;
    if finalize {
        // SAFETY: called once, by the thread that initialised MPI, with nothing under way.
        check("MPI_Finalize", unsafe { ffi::MPI_Finalize() })?;
    }
    Ok(())
}

/// An MPI return code as a result, with the library's own words for it.
pub(super) fn check(function: &str, code: c_int) -> Result<(), Failure> {
    if code == ffi::MPI_SUCCESS as c_int {
        return Ok(());
    }
    let mut text: Vec<c_char> = vec![0; ffi::MPI_MAX_ERROR_STRING as usize];
    let mut length = 0;
    // SAFETY: the buffer has the length that the standard asks for.
    unsafe { ffi::MPI_Error_string(code, text.as_mut_ptr(), &raw mut length) };
    let bytes: Vec<u8> = text.iter().take(length.max(0) as usize).map(|byte| *byte as u8).collect();
    let message = format!("{} (code {code})", String::from_utf8_lossy(&bytes));
    Err(Failure { function: function.into(), message })
}
