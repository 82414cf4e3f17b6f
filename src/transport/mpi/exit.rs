//! How a process ends while other ranks may wait for it: with a word to them, and with an exit code that is true of all.

use std::collections::BTreeSet;
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use ::mpi::ffi;

use super::environment::is_initialized;

/// From the last message to the end of the job.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// Between two looks for whether the others have come to their end.
const LOOK: Duration = Duration::from_millis(2);
/// Says that a rank exits with success. Travels on MPI's own world communicator, which this library uses for nothing else;
/// the largest tag that every MPI allows (MPI 4.0, section 9.1.2).
const TAG_EXIT: c_int = 32_767;

/// Worlds that other ranks may wait for: as long as there is one, this process must not exit without a word.
static OPEN: AtomicUsize = AtomicUsize::new(0);
/// The program ends without some of its ranks.
static PARTING: Mutex<Option<Parting>> = Mutex::new(None);

/// What a rank needs to know at its exit to end together with the others, but for the lost ones.
struct Parting {
    rank: usize,
    /// The ranks that rank 0 waits for.
    others: Vec<usize>,
}

/// Ends all ranks. Says nothing: the caller has.
pub(super) fn abort(code: i32) -> ! {
    OPEN.store(0, Ordering::SeqCst);
    parting().take();
    // Some launchers kill the ranks before they have passed on what these have just printed.
    std::thread::sleep(LAST_WORDS);
    // SAFETY: MPI is initialised. The call is allowed to return when it failed; then the process ends all the same.
    unsafe { ffi::MPI_Abort(ffi::RSMPI_COMM_WORLD, code) };
    std::process::exit(code)
}

/// A world has begun: a process that exits before it is closed ends the other ranks, instead of leaving them waiting.
pub(super) fn world_opened() {
    static WATCHING: Once = Once::new();
    OPEN.fetch_add(1, Ordering::SeqCst);
    WATCHING.call_once(watch);
}

#[cfg(target_env = "gnu")]
fn watch() {
    unsafe extern "C" {
        fn on_exit(callback: extern "C" fn(c_int, *mut c_void), argument: *mut c_void) -> c_int;
    }
    extern "C" fn exits(status: c_int, _: *mut c_void) {
        at_exit(status);
    }
    // SAFETY: the C library's function with a callback that does not unwind and does not look at its argument.
    unsafe { on_exit(exits, null_mut()) };
}

/// Other C libraries do not tell the exit code: it is taken for a failure, lest one be taken for a success.
#[cfg(not(target_env = "gnu"))]
fn watch() {
    unsafe extern "C" {
        fn atexit(callback: extern "C" fn()) -> c_int;
    }
    extern "C" fn exits() {
        at_exit(1);
    }
    // SAFETY: the C library's function with a callback that does not unwind.
    unsafe { atexit(exits) };
}

/// A world has ended in the way it should.
pub(super) fn world_closed() {
    OPEN.fetch_sub(1, Ordering::SeqCst);
}

/// A world has ended, but MPI cannot be finalized, because the `lost` ranks may never come: the job ends when all others
/// of the `size` ranks have returned from `main`, with the first exit code that is not 0.
pub(super) fn world_left(rank: usize, size: usize, lost: &BTreeSet<usize>) {
    world_closed();
    let others = (1..size).filter(|other| !lost.contains(other)).collect();
    *parting() = Some(Parting { rank, others });
}

fn at_exit(status: c_int) {
    if !is_initialized() {
        return;
    }
    if OPEN.load(Ordering::SeqCst) > 0 {
        let (rank, host) = (crate::launch::rank_from_environment(), crate::launch::host_name());
        eprintln!(
            "rankfold: rank {rank} ({host}) called exit({status}) in the middle of the program, which would leave the \
             other ranks waiting, so all of them end; return from main on every rank instead"
        );
        abort(if status == 0 { 1 } else { status });
    }
    let Some(parting) = parting().take() else { return };
    if status == 0 {
        parting.outwait_the_others();
    }
    abort(status);
}

impl Parting {
    /// Returns on rank 0, when all that it waits for are about to exit with success; elsewhere the job ends meanwhile.
    fn outwait_the_others(mut self) {
        if self.rank > 0 {
            // SAFETY: MPI is initialised; no bytes are sent, so there is no buffer to live on. The request is never
            // completed, as the process ends with the job; a message this short is on its way at once.
            let sent = unsafe {
                let (mut request, kind) = (ffi::RSMPI_REQUEST_NULL, ffi::RSMPI_UINT8_T);
                ffi::MPI_Isend(null_mut(), 0, kind, 0, TAG_EXIT, ffi::RSMPI_COMM_WORLD, &raw mut request)
            };
            if sent != ffi::MPI_SUCCESS as c_int {
                abort(1);
            }
            // Rank 0 ends the job, by an exit of its own or by its death.
            loop {
                has_exited(0);
                std::thread::sleep(LOOK);
            }
        }
        while let Some(next) = self.others.last() {
            if has_exited(*next) {
                self.others.pop();
            } else {
                std::thread::sleep(LOOK);
            }
        }
    }
}

/// Whether the message of that rank is here. Looking is also what makes MPI go on with what it has to do.
fn has_exited(rank: usize) -> bool {
    let mut found = 0;
    // SAFETY: MPI is initialised; the out-pointer is valid, and the status is not asked for.
    let code = unsafe {
        let status = ffi::RSMPI_STATUS_IGNORE;
        ffi::MPI_Iprobe(rank as c_int, TAG_EXIT, ffi::RSMPI_COMM_WORLD, &raw mut found, status)
    };
    code == ffi::MPI_SUCCESS as c_int && found != 0
}

fn parting() -> MutexGuard<'static, Option<Parting>> {
    PARTING.lock().unwrap_or_else(PoisonError::into_inner)
}
