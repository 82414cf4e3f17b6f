//! Which functions were quick when somebody last waited for a task of theirs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::code::Code;

/// Who waits for a task that takes less time than this runs it himself, if he can: others would hear of it no sooner.
const QUICK: Duration = Duration::from_micros(20);
/// Two are remembered of those that share one of so many places.
const PLACES: usize = 64;

/// The numbers of quick functions, or 0, where no function is.
#[derive(Debug)]
pub(super) struct Quick([[AtomicU64; 2]; PLACES]);

impl Default for Quick {
    fn default() -> Self {
        Self([const { [AtomicU64::new(0), AtomicU64::new(0)] }; PLACES])
    }
}

impl Quick {
    /// Where the number of a function is, and the other one that could be.
    fn place(&self, function: u64) -> &[AtomicU64; 2] {
        // Functions begin at multiples of 16.
        &self.0[(function >> 4) as usize % PLACES]
    }

    /// A task of this function, for which somebody has waited, took so long.
    pub fn learn(&self, code: Code, took: Duration) {
        let (function, place) = (code.number(), self.place(code.number()));
        if took >= QUICK {
            let forget = |known: &AtomicU64| known.compare_exchange(function, 0, Ordering::Relaxed, Ordering::Relaxed);
            place.iter().for_each(|known| _ = forget(known));
        } else if !self.knows(function) {
            let [first, second] = place;
            let free = if first.load(Ordering::Relaxed) == 0 { first } else { second };
            free.store(function, Ordering::Relaxed);
        }
    }

    /// Whether the function of this number was quick the last time.
    pub fn knows(&self, function: u64) -> bool {
        function > 0 && self.place(function).iter().any(|known| known.load(Ordering::Relaxed) == function)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::runner::{Made, Reader, Trouble};

    fn one(_: &mut Reader<'_>) -> Result<Made, Trouble> {
        Made::of(1)
    }

    fn other(_: &mut Reader<'_>) -> Result<Made, Trouble> {
        Made::of(2u8)
    }

    #[test]
    fn a_function_is_quick_if_it_was_the_last_time() {
        let quick = Quick::default();
        let [one, other] = [one, other].map(|entry| Code::of(entry).expect("it is of this program"));
        let known = || [one, other].map(|code| quick.knows(code.number()));
        assert_eq!((known(), quick.knows(0)), ([false, false], false));
        quick.learn(one, QUICK / 2);
        quick.learn(other, QUICK);
        assert_eq!(known(), [true, false]);
        quick.learn(one, QUICK);
        quick.learn(other, Duration::ZERO);
        assert_eq!(known(), [false, true]);
    }
}
