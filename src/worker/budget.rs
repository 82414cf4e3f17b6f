//! What the tables and lists of a call may have in memory on a rank, and where the rest of them goes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde::Serialize;

use super::scratch::{self, Pile};
use crate::error::{Error, ErrorKind, Place};
use crate::lock::lock;
use crate::wire;

/// Fewer bytes are never worth being written.
const SMALL: u64 = 1 << 16;
/// A round of fewer bytes would be mostly waiting.
const ROUND_LEAST: u64 = 512;
/// Values that are looked at to learn how much memory all take.
pub(crate) const SAMPLES: usize = 32;
/// The longest value that is measured; who has longer ones has few of them.
const VALUE_MOST: usize = 1 << 24;
/// Values that come between two measurements, once there are many.
const VALUES_LEAST: u64 = 1024;
/// What an allocator adds to what it is asked for.
const ALLOCATION: u64 = 32;

/// A run is read in pieces of at most so many bytes, and of at least so many.
const PIECES: std::ops::RangeInclusive<u64> = 4096..=65_536;

/// A bound on memory, shared by all tables, or lists, of a call on a rank.
///
/// Tables grow by doubling, and are in memory up to three times while they are written or sent, and what was let go of is not
/// always given back at once, so what is there may be a quarter of the bound before the larger ones go.
#[derive(Debug)]
pub(crate) struct Budget {
    bound: u64,
    /// Bytes of tables in memory.
    held: AtomicU64,
    threads: u64,
    place: Place,
    pile: Mutex<Option<Arc<Pile>>>,
    /// Nothing is written any more.
    is_closed: AtomicBool,
}

impl Budget {
    pub fn new(bound: u64, threads: usize, place: &Place) -> Arc<Self> {
        let (threads, pile) = (threads.max(1) as u64, Mutex::default());
        let (held, is_closed) = (AtomicU64::new(0), AtomicBool::new(false));
        Arc::new(Self { bound, held, threads, place: place.clone(), pile, is_closed })
    }

    /// Whether the larger tables should go to the disk.
    pub fn is_short(&self) -> bool {
        self.held.load(Ordering::Relaxed) > self.bound / 4 && !self.is_closed.load(Ordering::Relaxed)
    }

    /// From now on tables travel: what arrives in a round is no more than there is memory for, and is wanted there.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }

    /// As long as more comes, a table of fewer bytes is not worth a run of its own.
    pub fn worth_a_run(&self) -> u64 {
        self.bound / (16 * self.threads)
    }

    /// Once no more comes for now, a table of fewer bytes may as well stay.
    pub fn worth_putting_away(&self) -> u64 {
        self.worth_a_run().min(SMALL)
    }

    /// Bytes of a piece of a run: of all runs together, one piece of each is in memory when they are read.
    pub fn piece(&self) -> usize {
        (self.worth_a_run() / 256).clamp(*PIECES.start(), *PIECES.end()) as usize
    }

    /// In how many rounds so many bytes travel: what travels is there up to ten times, as values and as bytes of those that go
    /// and those that come, and in buffers that have room for more.
    pub fn rounds(&self, bytes: u64) -> u64 {
        bytes.div_ceil((self.bound / 32).max(ROUND_LEAST)).max(1)
    }

    /// Where runs go; made when it is needed first.
    pub fn pile(&self) -> std::io::Result<Arc<Pile>> {
        let mut pile = lock(&self.pile);
        if let Some(pile) = &*pile {
            return Ok(Arc::clone(pile));
        }
        Ok(Arc::clone(pile.insert(Arc::new(Pile::new()?))))
    }

    /// Who has lost what was written, of a call.
    pub fn unreadable(call: &str, place: &Place, problem: &str) -> Error {
        let problem = format!("{problem} on {place}");
        let remedy = format!(
            "see whether its disk below {} is sound, or name another folder with RANKFOLD_SCRATCH",
            scratch::place().display()
        );
        ErrorKind::Refused { call: call.to_owned(), problem, remedy }.into()
    }

    /// What cannot be written stays where it is, which is said once, and not tried again.
    pub fn is_exceeded(&self, problem: &str) {
        if !self.is_closed.swap(true, Ordering::Relaxed) {
            eprintln!(
                "rankfold: warning: {}: what is computed stays in memory, beyond RANKFOLD_MEMORY, since it cannot be written below \
                 {}: {problem}; make room there, or name another folder with RANKFOLD_SCRATCH",
                self.place,
                scratch::place().display()
            );
        }
    }
}

/// What so many values of a type own beside themselves, estimated from the bytes that some of them have on the way to another
/// rank; and how many bytes were looked at for that.
pub(crate) fn owned<T, V: Serialize>(values: impl Iterator<Item = V>, count: usize) -> (u64, u64) {
    if !std::mem::needs_drop::<T>() || count == 0 {
        return (0, 0);
    }
    let lengths = values.take(SAMPLES).map(|value| wire::length_up_to(&value, VALUE_MOST) + ALLOCATION);
    let seen: u64 = lengths.sum();
    (seen.saturating_mul(count as u64) / count.min(SAMPLES) as u64, seen)
}

/// How many values should come before the next measurement: few at first, since each may be large, and then so many that
/// measuring costs next to nothing.
pub(crate) fn until_next(came: u64, count: usize, seen: u64) -> u64 {
    came.clamp(1, VALUES_LEAST).max(count as u64 / 8).max(seen / 64)
}

/// The bytes of something in memory, counted against a budget as long as this is there.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    budget: Option<Arc<Budget>>,
    bytes: u64,
}

impl Counted {
    /// It has so many bytes now.
    pub fn set(&mut self, budget: &Arc<Budget>, bytes: u64) {
        self.release();
        budget.held.fetch_add(bytes, Ordering::Relaxed);
        (self.budget, self.bytes) = (Some(Arc::clone(budget)), bytes);
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn release(&mut self) {
        if let Some(budget) = self.budget.take() {
            budget.held.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place { rank: 0, host: "here".into() }
    }

    #[test]
    fn memory_is_short_while_more_than_a_quarter_of_the_bound_is_held() {
        let budget = Budget::new(400, 1, &place());
        let (mut one, mut other) = (Counted::default(), Counted::default());
        one.set(&budget, 90);
        assert!(!budget.is_short());
        other.set(&budget, 30);
        assert!(budget.is_short());
        one.set(&budget, 60);
        assert!(!budget.is_short());
        other.set(&budget, 50);
        assert!(budget.is_short());
        drop(one);
        assert!(!budget.is_short());
        other.set(&budget, 500);
        assert!(budget.is_short());
        budget.close();
        assert!(!budget.is_short());
        drop(other);
        assert_eq!(budget.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_is_on_the_disk_travels_in_as_many_rounds_as_fit() {
        let budget = Budget::new(1 << 20, 2, &place());
        assert_eq!([0, 1, 32_768, 32_769, 1 << 20].map(|bytes| budget.rounds(bytes)), [1, 1, 1, 2, 32]);
        assert_eq!((budget.worth_a_run(), budget.piece()), (32_768, 4096));
        assert_eq!(Budget::new(1 << 40, 2, &place()).piece(), 65_536);
        assert_eq!(Budget::new(1, 64, &place()).rounds(1025), 3);
    }

    #[test]
    fn large_values_are_measured_from_the_first_on_and_not_too_often() {
        let (mut came, mut measured, mut bytes) = (0u64, 0u64, 0u64);
        while came < 1 << 20 {
            came += until_next(came, 64, bytes.min(32 * came));
            (measured, bytes) = (measured + 1, bytes + bytes.min(32 * came));
        }
        assert!(measured < 1200, "{measured}");
        assert_eq!([0, 1, 2, 4, 5000].map(|came| until_next(came, 0, 0)), [1, 1, 2, 4, 1024]);
        assert_eq!((until_next(9000, 80_000, 0), until_next(9000, 10, 1 << 20)), (10_000, 16_384));
    }
}
