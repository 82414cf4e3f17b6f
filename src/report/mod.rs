//! What a person sees of a run: who takes part, how far it is, and where the time went.

mod banner;
mod progress;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) use banner::{announce, verbosity};
pub(crate) use progress::Progress;

use crate::error::Place;

/// Where the time of one call went, on every rank. [`World::report`](crate::World::report) gives it on rank 0.
///
/// # Examples
///
/// ```
/// # fn main() -> rankfold::Result<()> {
/// let world = rankfold::init()?;
/// world.over(0..1000u64).named("squares").for_each(|i| { std::hint::black_box(i * i); })?;
/// if let Some(report) = world.report() {
///     assert_eq!(report.items, 1000);
///     eprintln!("{report}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Report {
    /// The call, by the name given with `named`.
    pub call: String,
    /// What the input is counted in: "items", or "bytes" of lines.
    pub unit: &'static str,
    /// The length of the input, in that unit.
    pub items: u64,
    /// The length of a leaf, in the same units.
    pub leaf: u64,
    /// From rank 0's entry to its result.
    pub wall: Duration,
    /// What each rank did, in the order of ranks.
    pub ranks: Vec<RankReport>,
    /// How many batches of which length (in leaves) were handed out, shortest first.
    pub batch_lengths: Vec<(u64, u64)>,
    /// The items that are not in the result, in words: poison that was to be skipped
    /// ([`Over::skip_poisoned`](crate::Over::skip_poisoned)).
    pub left_out: Vec<String>,
}

/// What one rank did in one call.
///
/// # Examples
///
/// ```
/// # let world = rankfold::init()?;
/// # world.over(0..1000u64).for_each(|_| {})?;
/// for rank in world.report().iter().flat_map(|report| &report.ranks) {
///     eprintln!("{}: {:?} in {} batches", rank.place, rank.busy, rank.batches);
/// }
/// # Ok::<(), rankfold::Error>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RankReport {
    /// Rank and host.
    pub place: Place,
    /// Threads that computed.
    pub threads: u32,
    /// Time in the user's functions, summed over threads.
    pub busy: Duration,
    /// Batches computed.
    pub batches: u64,
    /// Leaves computed.
    pub leaves: u64,
    /// Messages sent while batches were handed out and computed; the reduction comes after the count.
    pub messages: u64,
    /// The bytes of these messages, without MPI's own envelopes.
    pub bytes: u64,
}

impl Report {
    /// Threads of all ranks.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::init()?;
    /// # world.over(0..1000u64).for_each(|_| {})?;
    /// assert!(world.report().is_some_and(|report| report.threads() >= 1));
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[must_use]
    pub fn threads(&self) -> u32 {
        self.ranks.iter().map(|rank| rank.threads).sum()
    }

    /// Time in the user's functions, summed over all threads of all ranks.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::init()?;
    /// # world.over(0..1000u64).for_each(|_| {})?;
    /// assert!(world.report().is_some_and(|report| report.busy() <= report.wall * report.threads()));
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[must_use]
    pub fn busy(&self) -> Duration {
        self.ranks.iter().map(|rank| rank.busy).sum()
    }

    /// Parallel efficiency: the part of all threads' wall time, from 0 to 1, that was spent in the user's functions.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::init()?;
    /// # world.over(0..1000u64).for_each(|_| {})?;
    /// assert!(world.report().is_some_and(|report| (0.0..=1.0).contains(&report.efficiency())));
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[must_use]
    pub fn efficiency(&self) -> f64 {
        let available = self.wall.as_secs_f64() * f64::from(self.threads());
        if available > 0.0 { (self.busy().as_secs_f64() / available).min(1.0) } else { 1.0 }
    }

    /// Batches of all ranks.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::init()?;
    /// # world.over(0..1000u64).for_each(|_| {})?;
    /// assert!(world.report().is_some_and(|report| report.batches() >= 1));
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[must_use]
    pub fn batches(&self) -> u64 {
        self.ranks.iter().map(|rank| rank.batches).sum()
    }

    /// Time of all threads outside the user's functions, for each batch: scheduling, waiting and reduction together.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::init()?;
    /// # world.over(0..1000u64).for_each(|_| {})?;
    /// assert!(world.report().is_some_and(|report| report.overhead() <= report.wall * report.threads()));
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[must_use]
    pub fn overhead(&self) -> Duration {
        let lost = (self.wall * self.threads()).saturating_sub(self.busy());
        lost.div_f64(self.batches().max(1) as f64)
    }
}

/// Ranks that the table shows one by one; of more, it shows the extremes.
const ROWS: usize = 16;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (threads, batches) = (self.threads(), self.batches());
        let per_cent = 100.0 * self.efficiency();
        writeln!(
            f,
            "{}: {} {} in {:.3?} on {threads} threads, {per_cent:.1} % busy",
            self.call, self.items, self.unit, self.wall
        )?;
        let messages: u64 = self.ranks.iter().map(|rank| rank.messages).sum();
        let bytes: u64 = self.ranks.iter().map(|rank| rank.bytes).sum();
        let overhead = self.overhead();
        writeln!(f, "  {batches} batches, {messages} messages, {bytes} bytes, {overhead:.1?} overhead a batch")?;
        let lengths: Vec<String> =
            self.batch_lengths.iter().map(|(len, count)| format!("{count} × {}", len * self.leaf)).collect();
        if !lengths.is_empty() {
            writeln!(f, "  batches × {}: {}", self.unit, lengths.join(", "))?;
        }
        let mut rows: Vec<&RankReport> = self.ranks.iter().collect();
        let hidden = rows.len().saturating_sub(ROWS);
        if hidden > 0 {
            rows.sort_by_key(|rank| rank.busy);
            rows.drain(ROWS / 2..rows.len() - ROWS / 2);
        }
        writeln!(f, "  {:>6} {:>8} {:>12} {:>7} {:>8}  host", "rank", "threads", "busy", "busy %", "batches")?;
        for rank in rows {
            let share =
                100.0 * rank.busy.as_secs_f64() / (self.wall.as_secs_f64() * f64::from(rank.threads)).max(1e-12);
            let (number, host) = (rank.place.rank, &rank.place.host);
            let busy = format!("{:.3?}", rank.busy);
            writeln!(f, "  {number:>6} {:>8} {busy:>12} {share:>7.1} {:>8}  {host}", rank.threads, rank.batches)?;
        }
        if hidden > 0 {
            writeln!(f, "  ({hidden} ranks between the least and the most busy ones are not shown)")?;
        }
        Ok(())
    }
}

/// How many batches there were of each length.
#[derive(Debug, Clone)]
pub(crate) struct Lengths([u64; 64]);

impl Default for Lengths {
    fn default() -> Self {
        Self([0; 64])
    }
}

impl Lengths {
    /// Counts a batch of so many leaves, a power of two.
    pub fn count(&mut self, leaves: u64) {
        self.0[leaves.ilog2() as usize] += 1;
    }

    /// Length and number, shortest first.
    pub fn pairs(&self) -> Vec<(u64, u64)> {
        let counted = self.0.iter().enumerate().filter(|(_, count)| **count > 0);
        counted.map(|(log, count)| (1 << log, *count)).collect()
    }
}
