//! Tasks that have failed, and rest before they are tried again.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::master::tasks::TaskId;

/// However often a task has failed, it does not rest for longer.
const MOST: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Rests(BTreeSet<(Instant, TaskId)>);

/// How long a task rests after so many attempts: twice as long each time (exponential backoff).
fn rest(least: Duration, attempts: u32) -> Duration {
    let factor = 1u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
    least.saturating_mul(factor).min(MOST.max(least))
}

impl Rests {
    /// A task has failed so often.
    pub fn add(&mut self, task: TaskId, least: Duration, attempts: u32) {
        let now = Instant::now();
        // A time without end is a very long one.
        let end = now.checked_add(rest(least, attempts)).unwrap_or(now + 1000 * MOST);
        self.0.insert((end, task));
    }

    /// The tasks that have rested enough.
    pub fn over(&mut self, now: Instant) -> Vec<TaskId> {
        let later = self.0.split_off(&(now, TaskId::MAX));
        std::mem::replace(&mut self.0, later).into_iter().map(|(_, task)| task).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_double_up_to_a_minute_or_what_was_asked_for() {
        let ms = Duration::from_millis;
        assert_eq!([1, 2, 3].map(|attempts| rest(ms(10), attempts)), [ms(10), ms(20), ms(40)]);
        assert_eq!((rest(ms(10), 40), rest(2 * MOST, 2), rest(ms(0), 70)), (MOST, 2 * MOST, ms(0)));
    }

    #[test]
    fn a_task_has_rested_when_its_time_is_over() {
        let mut rests = Rests::default();
        rests.add(1, Duration::ZERO, 1);
        rests.add(2, Duration::from_secs(50), 1);
        assert_eq!(rests.over(Instant::now()), [1]);
        assert_eq!(rests.over(Instant::now() + MOST), [2]);
    }
}
