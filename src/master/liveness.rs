//! When a silent worker is doubted, and when it is given up.
//!
//! Every worker sends something at least once in each interval, if only a beat. One that was silent for a sixth of the
//! bound is doubted: what it holds is handed to others as well. One that was silent for the whole bound is lost: what it
//! has done does not count any more, and the call is completed without it. A failure detector of this kind can be wrong
//! about a slow worker (Chandra and Toueg, "Unreliable failure detectors for reliable distributed systems", JACM 43(2),
//! 1996, section 3), so a doubted worker that is heard again is trusted again, and what was computed twice counts once.

use std::time::Duration;

use crate::time::Time;

/// Beats in one bound. Several may get lost in a busy machine before anybody is doubted.
const BEATS: u32 = 30;
/// A worker is doubted after this part of the bound.
const DOUBT: u32 = 6;
/// Rank 0 hears at most so many beats a second, which costs it a few per cent of its time.
const BEATS_A_SECOND: u32 = 10_000;

/// How long silence is borne.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Patience {
    bound: Duration,
}

impl Patience {
    /// `asked`, or longer where so many ranks would keep rank 0 busy with beats.
    pub fn new(asked: Duration, ranks: usize) -> Self {
        let least = Duration::from_secs(1) * BEATS / BEATS_A_SECOND * u32::try_from(ranks).unwrap_or(u32::MAX);
        Self { bound: asked.max(least).max(Duration::from_millis(30)) }
    }

    /// For any number of ranks that does not ask for more.
    #[cfg(test)]
    pub const fn of(bound: Duration) -> Self {
        Self { bound }
    }

    /// The silence after which a worker is lost.
    pub fn bound(self) -> Duration {
        self.bound
    }

    /// The silence after which a worker is doubted.
    pub fn doubt(self) -> Duration {
        self.bound / DOUBT
    }

    /// The longest time between two messages of a worker.
    pub fn interval(self) -> Duration {
        self.bound / BEATS
    }

    /// What others must be forgiven: who has not looked for so long that it must have slept itself (a stopped process, a
    /// paused machine) cannot blame them for silence meanwhile.
    pub fn excuse(self, not_looked: Duration) -> Duration {
        if not_looked > 2 * self.interval() { not_looked } else { Duration::ZERO }
    }
}

/// When each worker was heard last.
#[derive(Debug)]
pub(crate) struct Liveness {
    patience: Patience,
    heard: Vec<Time>,
    /// When rank 0 last knew that it was awake itself.
    awake: Time,
    next_look: Time,
}

impl Liveness {
    pub fn new(workers: usize, patience: Patience) -> Self {
        let heard = vec![Time::default(); workers];
        Self { patience, heard, awake: Time::default(), next_look: Time::default().after(patience.interval()) }
    }

    /// Rank 0 does something.
    pub fn awake(&mut self, now: Time) {
        let excuse = self.patience.excuse(now.since(self.awake));
        self.awake = now;
        if !excuse.is_zero() {
            self.heard.iter_mut().for_each(|heard| *heard = heard.after(excuse));
        }
    }

    pub fn heard(&mut self, worker: usize, now: Time) {
        self.heard[worker] = self.heard[worker].max(now);
    }

    /// Whether it is time to look for silent workers; the next time is an interval later.
    pub fn looks(&mut self, now: Time) -> bool {
        let looks = now >= self.next_look;
        if looks {
            self.next_look = now.after(self.patience.interval());
        }
        looks
    }

    pub fn next_look(&self) -> Time {
        self.next_look
    }

    pub fn is_doubtful(&self, worker: usize, now: Time) -> bool {
        self.silence(worker, now) > self.patience.doubt()
    }

    pub fn is_lost(&self, worker: usize, now: Time) -> bool {
        self.silence(worker, now) > self.patience.bound()
    }

    pub fn silence(&self, worker: usize, now: Time) -> Duration {
        now.since(self.heard[worker])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> Time {
        Time::default().after(SECOND * seconds as u32)
    }

    #[test]
    fn silence_is_first_doubted_and_then_given_up() {
        let mut liveness = Liveness::new(2, Patience::new(30 * SECOND, 2));
        for second in 1..=31 {
            liveness.awake(at(second));
            liveness.heard(0, at(second));
        }
        assert!(!liveness.is_doubtful(0, at(31)) && liveness.is_doubtful(1, at(6)) && !liveness.is_doubtful(1, at(5)));
        assert!(liveness.is_lost(1, at(31)) && !liveness.is_lost(1, at(30)));
    }

    #[test]
    fn nobody_is_blamed_for_a_time_in_which_rank_0_slept_itself() {
        let mut liveness = Liveness::new(1, Patience::new(30 * SECOND, 1));
        (1..5).for_each(|second| liveness.awake(at(second)));
        liveness.awake(at(1000));
        assert!(!liveness.is_doubtful(0, at(1001)));
    }

    #[test]
    fn a_hundred_thousand_ranks_beat_more_slowly() {
        let patience = Patience::new(30 * SECOND, 100_000);
        assert_eq!(patience.interval(), 10 * SECOND);
        assert_eq!(Patience::new(30 * SECOND, 135).interval(), SECOND);
    }
}
