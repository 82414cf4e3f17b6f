//! Why a program may have to end before its work is done: a signal, the end of its time, or a launcher that is gone.
//!
//! Only programs with a journal ask: without one, an early end keeps nothing, and a signal does what it always does.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, getppid};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};

use crate::error::{Error, Result};
use crate::launch::launcher;
use crate::slurm;

/// The exit code that asks for another job (`EX_TEMPFAIL` of sysexits.h).
pub(crate) const TRY_AGAIN: u8 = 75;

/// The signals that end a run early, and how long whoever sent them is expected to wait.
const SIGNALS: [(i32, &str, Duration); 3] = [
    (SIGUSR1, "SIGUSR1", Duration::from_secs(60)),
    // Slurm's KillWait is 30 s by default.
    (SIGTERM, "SIGTERM", Duration::from_secs(20)),
    (SIGINT, "SIGINT", Duration::from_secs(20)),
];

/// Of this process. Made when it first enters a call with a journal.
#[derive(Debug)]
pub(crate) struct Interrupts {
    received: Vec<(&'static str, Duration, Arc<AtomicBool>)>,
    /// The process that launched this one, where there is a launcher: anybody may outlive a shell.
    parent: Option<Pid>,
    /// Calls with a journal that ranks of this process are in. While there is none, signals do what they always do.
    calls: AtomicUsize,
    idle: Arc<AtomicBool>,
}

/// When the time of the job ends; asked for once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(pub Instant);

impl Interrupts {
    /// Watches for signals from now on.
    pub fn watch() -> &'static Self {
        static WATCHED: OnceLock<Interrupts> = OnceLock::new();
        WATCHED.get_or_init(|| {
            let idle = Arc::new(AtomicBool::new(true));
            let received = SIGNALS.iter().map(|(signal, name, grace)| {
                let flag = Arc::new(AtomicBool::new(false));
                let _ = signal_hook::flag::register_conditional_default(*signal, Arc::clone(&idle));
                // Once drains, twice ends. Where the system refuses, the signal does what it does by default.
                if *signal == SIGINT {
                    let _ = signal_hook::flag::register_conditional_shutdown(SIGINT, 130, Arc::clone(&flag));
                }
                let _ = signal_hook::flag::register(*signal, Arc::clone(&flag));
                (*name, *grace, flag)
            });
            let received = received.collect();
            let parent = launcher().and_then(|_| getppid());
            Self { received, parent, calls: AtomicUsize::new(0), idle }
        })
    }

    pub fn call_begins(&self) {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.idle.store(false, Ordering::SeqCst);
    }

    pub fn call_ends(&self) {
        if self.calls.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.idle.store(true, Ordering::SeqCst);
        }
    }

    /// The signal that asks this process to end, and how long it has for that.
    pub fn signal(&self) -> Option<(&'static str, Duration)> {
        self.received.iter().find(|(_, _, flag)| flag.load(Ordering::Relaxed)).map(|(name, grace, _)| (*name, *grace))
    }

    /// Whether the launcher is gone, so that nobody would ever end this process.
    pub fn is_orphan(&self) -> bool {
        self.parent.is_some() && getppid() != self.parent
    }
}

impl Deadline {
    /// From `RANKFOLD_DEADLINE`, or else from Slurm, which is asked once; nothing where it is not `wanted`.
    ///
    /// # Errors
    ///
    /// The variable makes no sense.
    pub fn of_this_job(wanted: bool) -> Result<Option<Self>> {
        static ASKED: OnceLock<Result<Option<Deadline>>> = OnceLock::new();
        if wanted { ASKED.get_or_init(Self::ask).clone() } else { Ok(None) }
    }

    fn ask() -> Result<Option<Self>> {
        let Some(value) = std::env::var("RANKFOLD_DEADLINE").ok().filter(|value| !value.trim().is_empty()) else {
            return Ok(slurm::time_left().map(|left| Self(Instant::now() + left)));
        };
        if value.trim() == "none" {
            return Ok(None);
        }
        parse(value.trim()).map(|left| Some(Self(Instant::now() + left))).ok_or_else(|| {
            Error::launch(
                format!("RANKFOLD_DEADLINE={value} is no time"),
                "give seconds since 1970 (date +%s), or +SECONDS from now, or none",
            )
        })
    }
}

/// The time until a deadline.
fn parse(value: &str) -> Option<Duration> {
    if let Some(seconds) = value.strip_prefix('+') {
        let seconds: f64 = seconds.parse().ok().filter(|seconds| (0.0..1e9).contains(seconds))?;
        return Some(Duration::from_secs_f64(seconds));
    }
    let end = UNIX_EPOCH + Duration::from_secs(value.parse().ok()?);
    Some(end.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_a_time_or_a_length() {
        assert_eq!(parse("+1.5"), Some(Duration::from_millis(1500)));
        assert_eq!(parse("1000"), Some(Duration::ZERO), "long ago");
        assert!(parse("4000000000").is_some_and(|left| left > Duration::from_secs(1_000_000)));
        assert_eq!(parse("tomorrow"), None);
        assert_eq!(parse("+-3"), None);
    }
}
