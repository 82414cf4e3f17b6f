//! What a task has used: time, processor time, memory.

use std::cell::Cell;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// To look for the peak takes some microseconds: shorter tasks show the one that was seen last.
const LOOKS: Duration = Duration::from_millis(10);

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
}

impl Meter {
    pub fn begin(came: Instant) -> Self {
        let begun = Instant::now();
        Self { idle: begun.duration_since(came), begun, cpu: cpu() }
    }

    pub fn end(self, waited: Duration) -> Usage {
        let (wall, cpu) = (self.begun.elapsed(), cpu().saturating_sub(self.cpu));
        if wall >= LOOKS || PEAK.get() == 0 {
            PEAK.set(peak());
        }
        Usage { idle: self.idle, wall, waited, cpu, peak: PEAK.get() }
    }
}

/// The processor time that this thread has used.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// The most memory that this process has had, in bytes; 0 where the system does not say.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}
