//! Starting MPI where many ranks share each core, as when a large job is rehearsed on a small machine.
//!
//! MPI libraries take it that each rank has a core of its own. While they start, ranks that are through wait for those that
//! are not, and take the cores from them: Open MPI's look every 100 µs, MPICH's spin in barriers of their host. So,
//! where ranks are crowded, and only there:
//!
//! - timers may be late while MPI starts (`PR_SET_TIMERSLACK`), so that a sleep of 100 µs is a longer one. Threads that MPI
//!   starts meanwhile keep that; they wait for what arrives, not for timers;
//! - MPICH 4.0 over UCX is told to treat every rank as if it had a host of its own (`MPIR_CVAR_NOLOCAL`), by the interface
//!   that the standard has for it (MPI 4.0, section 15.3.6): without barriers of a host nobody spins in them. All ranks have
//!   to be told the same, so only where all of them are on this host. `MPI_Init` of 135 ranks on 2 cores takes 3 s instead
//!   of 9 with MPICH 4.0.2, but 20 s instead of 7 with 5.0.2, which is left as it is.

use std::env::var_os;
use std::ffi::{CStr, c_int};
use std::num::NonZero;

use ::mpi::ffi;
use rustix::thread::{current_timer_slack, set_current_timer_slack};

use crate::launch;

/// So late may a timer be, in ns: long against what a rank computes while it starts, short against the whole start.
const SLACK: u64 = 10_000_000;
const NO_LOCAL: &CStr = c"MPIR_CVAR_NOLOCAL";

/// While it lives, this thread gives way to others.
pub(super) struct GivingWay {
    slack: Option<NonZero<u64>>,
}

impl GivingWay {
    pub fn new() -> Self {
        let slack = current_timer_slack().ok().and_then(NonZero::new);
        if slack.is_some() {
            let _ = set_current_timer_slack(NonZero::new(SLACK));
        }
        if launch::all_ranks_are_here() && starts_faster_without_hosts() && !is_settled_by_user() {
            let code = no_local();
            tracing::debug!("for MPICH every rank has a host of its own ({NO_LOCAL:?}): code {code}");
        }
        Self { slack }
    }
}

impl Drop for GivingWay {
    fn drop(&mut self) {
        if self.slack.is_some() {
            let _ = set_current_timer_slack(self.slack);
        }
    }
}

/// Whether this is the library for which that holds.
fn starts_faster_without_hosts() -> bool {
    let version = ::mpi::environment::library_version().unwrap_or_default();
    super::library_version().starts_with("MPICH 4.0") && version.contains("ch4:ucx")
}

/// Whether the user has set the variable, by one of the names that MPICH looks at.
fn is_settled_by_user() -> bool {
    let prefixes = ["MPICH_", "MPIR_PARAM_", "MPIR_CVAR_"];
    prefixes.iter().any(|prefix| ["NOLOCAL", "NO_LOCAL"].iter().any(|name| var_os(format!("{prefix}{name}")).is_some()))
}

/// Sets the control variable; the code of the call that failed, if one did. A library that does not know it starts as it
/// would have started.
fn no_local() -> c_int {
    let success = ffi::MPI_SUCCESS as c_int;
    let (mut provided, mut index, mut count) = (0, 0, 0);
    let yes: c_int = 1;
    // SAFETY: the tools interface may be used before MPI_Init, once it is initialised itself; it stays so, for MPI_Init reads
    // the variable later. All pointers are valid for their call, and the handle is used between its making and its freeing.
    unsafe {
        let mut handle: ffi::MPI_T_cvar_handle = std::mem::zeroed();
        let mut code = ffi::MPI_T_init_thread(ffi::MPI_THREAD_SINGLE as c_int, &raw mut provided);
        if code == success {
            code = ffi::MPI_T_cvar_get_index(NO_LOCAL.as_ptr(), &raw mut index);
        }
        if code == success {
            let no_object = std::ptr::null_mut();
            code = ffi::MPI_T_cvar_handle_alloc(index, no_object, &raw mut handle, &raw mut count);
        }
        if code == success {
            // The variable is one integer; a library that had more of them would be another one.
            code = if count == 1 { ffi::MPI_T_cvar_write(handle, (&raw const yes).cast()) } else { -1 };
            ffi::MPI_T_cvar_handle_free(&raw mut handle);
        }
        code
    }
}
