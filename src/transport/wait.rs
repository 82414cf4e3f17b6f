//! Waiting without burning a core, and without being late.
//!
//! A rank that has just been busy yields for some polls, which answers within microseconds. After that it sleeps for a
//! fixed part of the time it has been idle. In contrast to a doubling back-off, two ranks that wait for each other
//! cannot lock into the longest sleep: a sleep is never longer than an eighth of what was waited already.

use std::time::{Duration, Instant};

use super::{Collective, Failure, Transport};

/// Polls that yield before the first sleep.
const YIELDS: u32 = 500;
const SLEEP_LEAST: Duration = Duration::from_micros(20);
/// 135 idle ranks that wake 33 times a second each take a few percent of a core together.
const SLEEP_MOST: Duration = Duration::from_millis(30);

/// How long to wait before the next poll.
#[derive(Debug, Default)]
pub(crate) struct Waiter {
    polls: u32,
    idle_since: Option<Instant>,
}

impl Waiter {
    /// Something happened: the next waits are short again.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Nothing happened: yields, or calls `sleep` with the time to sleep for. While `in_flight`, messages on their way
    /// need this rank's attention, so it only yields.
    pub fn wait(&mut self, in_flight: bool, sleep: impl FnOnce(Duration)) {
        self.polls = self.polls.saturating_add(1);
        if in_flight || self.polls <= YIELDS {
            std::thread::yield_now();
            return;
        }
        let idle = self.idle_since.get_or_insert_with(Instant::now).elapsed();
        sleep((idle / 8).clamp(SLEEP_LEAST, SLEEP_MOST));
    }
}

/// Asks the kernel to end this thread's sleeps on time; by default they last 50 µs longer.
pub(crate) fn sharpen_timer() {
    if let Err(error) = rustix::thread::set_current_timer_slack(std::num::NonZero::new(1000)) {
        tracing::debug!("sleeps stay coarse: {error}");
    }
}

/// Takes part in a collective operation and waits until it is complete here.
pub(crate) fn complete(transport: &mut dyn Transport, collective: Collective) -> Result<Vec<Vec<u8>>, Failure> {
    transport.start(collective)?;
    let mut waiter = Waiter::default();
    loop {
        if let Some(result) = transport.test()? {
            return Ok(result);
        }
        waiter.wait(transport.is_sending(), std::thread::sleep);
    }
}
