//! Waiting without burning a core, and without being late.
//!
//! A rank that has nothing to compute yields for a moment, which answers within microseconds. After that, and at once
//! where its cores have work, it sleeps for a fixed part of the time it has been idle. In contrast to a doubling
//! back-off, two ranks that wait for each other cannot lock into the longest sleep: but for the shortest ones, a sleep is never
//! longer than an eighth of what was waited already. A rank of a pool that has enough to do for longer sleeps for 4 ms each time.
//!
//! Where many ranks share each core (a crowd), whoever looks takes the core from somebody who computes. There a rank does not
//! yield first, its shortest sleeps are as many times longer as there are ranks to a core, and the others are half of what was
//! waited.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use super::Transport;
#[cfg(feature = "mpi")]
use super::{Collective, Failure};

/// Polls that yield before the first sleep.
const YIELDS: u32 = 500;
/// On a machine with more ranks than cores a yield can take long; no more of them after this time.
const YIELDING_MOST: Duration = Duration::from_millis(1);
const SLEEP_LEAST: Duration = Duration::from_micros(20);
/// Where every thread of a rank has work, each look takes the time of one of them.
const SLEEP_LEAST_SATURATED: Duration = Duration::from_micros(150);
/// Where they have more than one piece of work each, they wait for nothing that it would hear, and each look, with its timer,
/// its way in and out of the kernel and caches that are cold afterwards, takes from them what a short task takes.
pub(crate) const SLEEP_STOCKED: Duration = Duration::from_millis(4);
/// Polls after each sleep while something is under way: some libraries take several to bring one message along.
const BURST: u32 = 8;
/// Inside a collective every step of the library's own waits for a poll, so that sleeps would add up.
const SLEEP_MEETING: Duration = Duration::from_micros(200);
/// While a message is leaving, its transfer may need this rank's attention.
const SLEEP_IN_FLIGHT: Duration = Duration::from_micros(50);
/// Rank 0 keeps nobody waiting for longer.
const SLEEP_SERVING: Duration = Duration::from_millis(5);
/// Who has been idle for long keeps nobody waiting for longer, if it has a core of its own: two hundred looks a
/// second take about a percent of that core's time. Ranks that share a core take no more of it together.
const SLEEP_IDLE: Duration = Duration::from_millis(5);
/// 135 idle ranks that wake 25 times a second each take less than a fifth of a core together.
const SLEEP_MOST: Duration = Duration::from_millis(40);

/// Where more ranks than this share a core, a rank that looks for messages takes the core from those that have some.
const CROWD_LEAST: u32 = 8;

/// The ranks that share each core.
static SHARE: LazyLock<u32> = LazyLock::new(crate::launch::ranks_per_core);

/// Whether so many ranks share each core that they have to give way to each other.
pub(crate) fn is_crowded() -> bool {
    is_crowd(*SHARE)
}

fn is_crowd(sharing: u32) -> bool {
    sharing > CROWD_LEAST
}

/// How long to wait before the next poll.
#[derive(Debug, Default)]
pub(crate) struct Waiter {
    polls: u32,
    burst: u32,
    idle_since: Option<Instant>,
}

/// What a rank waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// It has work, and time: whatever comes may wait for some microseconds.
    Busy,
    /// It has work, and others who have none may come to it for more.
    Serving,
    /// All its threads have work, and whoever comes to it has some left.
    Saturated,
    /// All its threads have work, and the next piece of it is there for each of them.
    Stocked,
    /// It has nothing to do until something comes.
    Starving,
    /// It has messages that are leaving.
    Sending,
    /// It takes part in a collective.
    Meeting,
}

impl Mood {
    /// The mood of a rank that has nothing to compute.
    pub fn without_work(transport: &(impl Transport + ?Sized)) -> Self {
        if transport.is_sending() { Self::Sending } else { Self::Starving }
    }
}

impl Waiter {
    /// Something happened: the next waits are short again.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Nothing happened: yields, or calls `sleep` with the time to sleep for.
    pub fn wait(&mut self, mood: Mood, sleep: impl FnOnce(Duration)) {
        self.polls = self.polls.saturating_add(1);
        let idle = self.idle_since.get_or_insert_with(Instant::now).elapsed();
        let gives_way = is_crowded() || matches!(mood, Mood::Busy | Mood::Serving | Mood::Saturated | Mood::Stocked);
        if !gives_way && self.polls <= YIELDS && idle < YIELDING_MOST {
            std::thread::yield_now();
            return;
        }
        if self.burst > 0 {
            self.burst -= 1;
            std::thread::yield_now();
            return;
        }
        self.burst = if matches!(mood, Mood::Sending | Mood::Meeting) { BURST } else { 0 };
        sleep(time_to_sleep(mood, idle, *SHARE));
    }
}

/// How long a rank sleeps after it was idle for so long, where so many ranks share each core.
fn time_to_sleep(mood: Mood, idle: Duration, sharing: u32) -> Duration {
    let crowd = if is_crowd(sharing) { sharing } else { 1 };
    let most = match mood {
        Mood::Sending => SLEEP_IN_FLIGHT * crowd,
        // The sleeps of all steps add up, so that it is worth some polls that find nothing.
        Mood::Meeting => SLEEP_MEETING * crowd.div_ceil(4),
        Mood::Serving | Mood::Saturated => SLEEP_SERVING,
        Mood::Stocked => SLEEP_STOCKED,
        Mood::Starving => SLEEP_IDLE * sharing,
        Mood::Busy => SLEEP_MOST,
    };
    let least = match mood {
        Mood::Saturated => SLEEP_LEAST_SATURATED,
        Mood::Stocked => SLEEP_STOCKED,
        _ => SLEEP_LEAST,
    };
    let part = if crowd > 1 { 2 } else { 8 };
    (idle / part).max(least * crowd).min(most.min(SLEEP_MOST))
}

/// Asks the kernel to end this thread's sleeps on time; by default they last 50 µs longer. Not in a crowd.
pub(crate) fn sharpen_timer() {
    if is_crowded() {
        return;
    }
    if let Err(error) = rustix::thread::set_current_timer_slack(std::num::NonZero::new(1000)) {
        tracing::debug!("sleeps stay coarse: {error}");
    }
}

/// Takes part in a collective operation and waits until it is complete here.
#[cfg(feature = "mpi")]
pub(crate) fn complete(transport: &mut dyn Transport, collective: Collective) -> Result<Vec<Vec<u8>>, Failure> {
    transport.start(collective)?;
    let mut waiter = Waiter::default();
    loop {
        if let Some(result) = transport.test()? {
            return Ok(result);
        }
        waiter.wait(Mood::Meeting, std::thread::sleep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOODS: [Mood; 7] =
        [Mood::Busy, Mood::Serving, Mood::Saturated, Mood::Stocked, Mood::Starving, Mood::Sending, Mood::Meeting];

    fn sleeps(mood: Mood, crowd: u32) -> impl Iterator<Item = (Duration, Duration)> {
        (0..40).map(|power| Duration::from_nanos(1 << power)).map(move |idle| (idle, time_to_sleep(mood, idle, crowd)))
    }

    #[test]
    fn a_rank_with_cores_of_its_own_sleeps_for_an_eighth_of_what_it_has_waited_and_never_long() {
        for mood in MOODS {
            let least = time_to_sleep(mood, Duration::ZERO, 1);
            for (idle, sleep) in sleeps(mood, 1) {
                assert!(sleep <= (idle / 8).max(least), "{mood:?} {idle:?} {sleep:?}");
                assert!((least..=SLEEP_MOST).contains(&sleep), "{mood:?} {idle:?} {sleep:?}");
            }
            let most = if mood == Mood::Stocked { SLEEP_STOCKED } else { SLEEP_LEAST_SATURATED };
            assert!((SLEEP_LEAST..=most).contains(&least), "{mood:?} {least:?}");
        }
    }

    #[test]
    fn who_has_been_idle_for_long_looks_as_often_as_its_share_of_a_core_allows() {
        let long = |sharing| time_to_sleep(Mood::Starving, Duration::from_secs(3600), sharing);
        assert_eq!([1, 4, 8, 67].map(long), [SLEEP_IDLE, SLEEP_IDLE * 4, SLEEP_MOST, SLEEP_MOST]);
    }

    #[test]
    fn in_a_crowd_of_any_size_a_rank_looks_less_often_and_still_in_time() {
        for crowd in [9, 67, 1000, 100_000] {
            for (mood, (idle, sleep)) in
                MOODS.iter().flat_map(|mood| sleeps(*mood, crowd).map(move |pair| (mood, pair)))
            {
                assert!(sleep >= time_to_sleep(*mood, idle, 1), "{mood:?} {idle:?} {sleep:?} in a crowd of {crowd}");
                let most = if *mood == Mood::Serving { SLEEP_SERVING } else { SLEEP_MOST };
                assert!(sleep <= most, "{mood:?} {idle:?} {sleep:?} in a crowd of {crowd}");
            }
        }
    }
}
