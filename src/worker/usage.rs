//! What a task has used: time, processor time, memory.

use std::cell::Cell;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// To look for the peak takes some microseconds: shorter tasks show the one that was seen last.
const LOOKS: Duration = Duration::from_millis(10);
/// To look at the thread's clock takes some tenths of a microsecond: tasks shorter than this count as computing throughout,
/// and a clock that was looked at so short a time ago has gone on with the time.
const BRIEF: Duration = Duration::from_micros(20);

/// What one run of a task has used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// Between its arrival at the rank and its beginning.
    pub idle: Duration,
    pub wall: Duration,
    /// The part of that in which it waited for other tasks.
    pub waited: Duration,
    pub cpu: Duration,
    /// Bytes, of the whole process.
    pub peak: u64,
}

/// Measures a run, on the thread that it happens on.
pub(crate) struct Meter {
    idle: Duration,
    begun: Instant,
    cpu: Duration,
}

thread_local! {
    static PEAK: Cell<u64> = const { Cell::new(0) };
    /// When the thread's clock was looked at, and what it showed.
    static SEEN: Cell<Option<(Instant, Duration)>> = const { Cell::new(None) };
}

impl Meter {
    pub fn begin(came: Instant) -> Self {
        let begun = Instant::now();
        let since = |(seen, cpu): (Instant, Duration)| cpu + begun.duration_since(seen);
        let cpu = SEEN.get().filter(|(seen, _)| begun.duration_since(*seen) < BRIEF).map_or_else(|| look(begun), since);
        Self { idle: begun.duration_since(came), begun, cpu }
    }

    pub fn end(self, waited: Duration) -> Usage {
        let now = Instant::now();
        let wall = now.duration_since(self.begun);
        let cpu = if wall < BRIEF { wall } else { look(now).saturating_sub(self.cpu).min(wall) };
        if wall >= LOOKS || PEAK.get() == 0 {
            PEAK.set(peak());
        }
        Usage { idle: self.idle, wall, waited, cpu, peak: PEAK.get() }
    }
}

/// The processor time that this thread has used.
fn look(now: Instant) -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let cpu = Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32);
    SEEN.set(Some((now, cpu)));
    cpu
}

/// The most memory that this process has had, in bytes; 0 where the system does not say.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}
