//! The time of a call as the pure cores know it: handed to them, never asked for.

use std::time::Duration;

/// Nanoseconds since the call began on this rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Time(pub u64);

impl Time {
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0 + wait.as_nanos() as u64)
    }

    /// Zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    pub fn seconds_since(self, earlier: Self) -> f64 {
        self.0.saturating_sub(earlier.0) as f64 * 1e-9
    }
}
