//! How long a batch is: the one place where it is decided.
//!
//! In seconds of wall time on the worker, with `R` leaves that nobody holds, `P` threads in all of which the worker has
//! `p`, and an estimate of `μ` thread-seconds a leaf with standard deviation `σ`:
//!
//! | bound | formula | why |
//! | --- | --- | --- |
//! | never shorter than | `max(h / ε, 2 s W)` | `h`: measured gap between two batches; overhead stays below `ε` (2 %). `s`: rank 0's time to serve one batch; with `W` workers it is busy at most half of the time |
//! | wanted | `(R p / P) / x · μ / p` | factoring: each round hands out a fixed part of what is left |
//! | never longer than | 0.5 s | costs change along the input, and what a longer batch was expected to cost is too old a guess; progress stays visible |
//!
//! `x = 2 + b² + b √(b² + 4)` with `b = P / (2 √R) · σ / μ` is the factor of Flynn Hummel, Schonberg and Flynn
//! ("Factoring: a method for scheduling parallel loops", CACM 35(8), 1992) for every round but the first, which is not
//! treated apart here: the upper bound cuts it off in any run that is long enough to matter. With `σ = 0` it is their
//! FAC2, half of what is left in each round; when costs vary wildly it hands out less. Guided self-scheduling
//! (Polychronopoulos and Kuck, IEEE Trans. Computers C-36(12), 1987) is `x = 1`: its first batches are too long when
//! costs vary, which is what factoring mends. The share `p / P` is that of weighted factoring (Flynn Hummel, Schmidt,
//! Uma and Wein, SPAA 1996); that `μ` is measured per worker while the loop runs makes it adaptive weighted factoring
//! (Banicescu, Velusamy and Devaprasad, Cluster Computing 6, 2003).
//!
//! Where a call has few leaves for each thread, batches are as short as is sensible at all: so few of them can cost no more
//! than a moment, whatever the gap, and a leaf that turns out long holds up no others.
//!
//! As long as nothing has been measured where a worker computes, its batches double in length ("slow start"), whatever
//! others have measured elsewhere: a batch of cheap leaves' length, in a place where leaves are dear, can outlast the
//! call, and its worker holds a second one by the time the first could be known to be late. What a call has cost is remembered,
//! by the item: the next one of the same functions, in this job or the next, begins with batches of the right length.

use serde::{Deserialize, Serialize};

use crate::wire::Cost;

/// The part of compute time that may be lost between batches.
pub(crate) const OVERHEAD_TARGET: f64 = 0.02;
/// A batch is not planned to take longer, in seconds, unless overhead demands it.
const LONGEST: f64 = 0.5;
/// Rank 0's load asks for no longer batches than this, in seconds.
const SERVICE_MOST: f64 = 5.0;
/// A batch that took less, in seconds, says little about the cost of a leaf.
const MEASURABLE: f64 = 100e-6;
/// A gap is not taken for shorter, in seconds: queues and locks cost this much even when nothing is waited for.
const GAP_LEAST: f64 = 5e-6;
/// Where a call has few leaves, a batch need not take longer, in seconds.
const LEAST_OF_FEW: f64 = GAP_LEAST / OVERHEAD_TARGET;
/// A longer gap, in seconds, is a worker that had nothing to do, not overhead.
const GAP_MOST: f64 = 10e-3;
/// A worker's next batch is at most so many times as long as the one before: costs change along the input.
const GROWTH: u64 = 4;
/// A first batch of which the cost is only remembered is planned so many times shorter than the longest.
const CAUTION: f64 = 10.0;
/// The weight of the newest batch in a running mean.
const NEWEST: f64 = 0.3;

/// What the batches so far have taught, about all workers together.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    /// Seconds lost between two batches of one worker.
    gap: Mean,
    /// Seconds of rank 0 per batch.
    service: Mean,
    /// Of all workers: for those that have not measured anything yet.
    common: Estimate,
    /// Something was measured in this call.
    has_measured: bool,
}

/// The cost of a leaf, as one worker has measured it lately.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Estimate {
    /// Thread-seconds a leaf.
    mean: Mean,
    /// Of the thread-seconds of one leaf.
    variance: Mean,
    /// The length of the worker's last batch, in leaves.
    last: u64,
    /// All of this is of an earlier call.
    is_remembered: bool,
}

/// What a call has cost, for the next one like it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Learned {
    /// Items in a leaf.
    pub leaf: u64,
    /// Thread-seconds a leaf, and their variance.
    pub mean: Option<f64>,
    pub variance: Option<f64>,
    /// Seconds lost between two batches, and seconds of rank 0 per batch.
    pub gap: Option<f64>,
    pub service: Option<f64>,
}

/// What a batch is wanted for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Demand {
    /// Leaves that nobody holds.
    pub left: u64,
    /// Threads that work on one batch of this worker.
    pub threads: u32,
    /// Threads of all workers that have entered the call.
    pub threads_total: u32,
    pub workers: usize,
    /// Whether the call has few leaves for each thread.
    pub few: bool,
}

/// An exponentially weighted mean; the first value counts fully.
#[derive(Debug, Clone, Copy, Default)]
struct Mean(Option<f64>);

impl Policy {
    pub fn new() -> Self {
        Self { gap: Mean(Some(GAP_LEAST)), service: Mean(None), common: Estimate::default(), has_measured: false }
    }

    /// Begins with what an earlier call has cost, whose leaves may have had another length. Gives the estimate with which
    /// each worker begins.
    pub fn recall(&mut self, learned: &Learned, leaf: u64) -> Estimate {
        let scale = leaf as f64 / learned.leaf.max(1) as f64;
        let scaled = |value: Option<f64>| Mean(value.filter(|value| value.is_finite()).map(|value| value * scale));
        (self.common.mean, self.common.variance) = (scaled(learned.mean), scaled(learned.variance));
        (self.gap, self.service) = (Mean(learned.gap.or(self.gap.0)), Mean(learned.service));
        Estimate { is_remembered: self.common.mean.0.is_some(), ..self.common }
    }

    /// What this call has cost, in leaves of so many items.
    pub fn learned(&self, leaf: u64) -> Learned {
        let Self { gap, service, common, .. } = self;
        Learned { leaf, mean: common.mean.0, variance: common.variance.0, gap: gap.0, service: service.0 }
    }

    /// A batch of `leaves` leaves was done.
    pub fn learn(&mut self, estimate: &mut Estimate, leaves: u64, threads: u32, cost: Cost) {
        self.gap.add(cost.gap.clamp(GAP_LEAST, GAP_MOST));
        if cost.busy / f64::from(threads) >= MEASURABLE || leaves >= 1 << 16 {
            estimate.add(leaves, cost.busy);
            self.common.add(leaves, cost.busy);
            self.has_measured = true;
        }
    }

    /// Rank 0 took `seconds` for one batch.
    pub fn served(&mut self, seconds: f64) {
        self.service.add(seconds);
    }

    /// The estimate of a worker that moves to another part of the input: what is known there, or nothing, since what
    /// leaves cost where it comes from says nothing of others.
    pub fn moved(mine: &mut Estimate, theirs: &Estimate) {
        let last = if theirs.mean.0.is_some() { mine.last } else { 0 };
        *mine = Estimate { last, ..*theirs };
    }

    /// The number of leaves of a worker's next batch; at least 1.
    pub fn batch_len(&self, estimate: &Estimate, demand: &Demand) -> u64 {
        let share = demand.left as f64 * f64::from(demand.threads) / f64::from(demand.threads_total.max(1));
        let known = if estimate.mean.0.is_some() { estimate } else { &self.common };
        let slow_start = if estimate.last == 0 { u64::from(demand.threads) } else { estimate.last.saturating_mul(2) };
        let Some(leaf) = known.mean.0.filter(|mean| *mean > 0.0) else {
            let most = if demand.few { f64::from(demand.threads) } else { share };
            return slow_start.min(most.max(1.0) as u64);
        };
        let seconds = leaf / f64::from(demand.threads);
        let least = if demand.few { LEAST_OF_FEW } else { self.least_seconds(demand.workers) };
        let wanted = if demand.few { 0.0 } else { share / factor(known, demand) };
        let len = wanted.clamp(least / seconds, least.max(LONGEST) / seconds);
        // No thread is left without a leaf while there is one to give.
        let len = len.max(share.min(f64::from(demand.threads))).max(1.0) as u64;
        let most = match (estimate.mean.0, estimate.last) {
            (None, _) => slow_start,
            (Some(_), 0) if estimate.is_remembered => (least.max(LONGEST / CAUTION) / seconds) as u64,
            (Some(_), 0) => u64::MAX,
            (Some(_), last) => last.saturating_mul(GROWTH),
        };
        len.min(most).max(1)
    }

    /// Below this many seconds a batch loses too much to overhead.
    pub fn least_seconds(&self, workers: usize) -> f64 {
        // Serving a batch includes packing its items, which longer batches do not make cheaper: hence the bound.
        let gap = self.gap.0.unwrap_or(GAP_LEAST) / OVERHEAD_TARGET;
        gap.max((2.0 * self.service.0.unwrap_or(0.0) * workers as f64).min(SERVICE_MOST))
    }

    /// What a leaf takes on one thread, in seconds, 19 times out of 20 (as if costs were normally distributed). Nothing is
    /// known before something was measured: what is only remembered must not keep a job from trying.
    pub fn slow_leaf(&self) -> f64 {
        if !self.has_measured {
            return 0.0;
        }
        let deviation = self.common.variance.0.unwrap_or(0.0).sqrt();
        self.common.mean.0.unwrap_or(0.0) + 1.645 * deviation
    }

    /// Expected wall seconds of `leaves` leaves on a worker.
    pub fn seconds(&self, estimate: &Estimate, leaves: u64, threads: u32) -> Option<f64> {
        let leaf = estimate.mean.0.or(self.common.mean.0)?;
        Some(leaf * leaves as f64 / f64::from(threads))
    }
}

impl Estimate {
    /// The next batch may be at most a few times as long as this one.
    pub fn assigned(&mut self, leaves: u64) {
        self.last = leaves;
    }

    fn add(&mut self, leaves: u64, busy: f64) {
        let leaf = busy / leaves as f64;
        self.is_remembered = false;
        if let Some(mean) = self.mean.0 {
            // The mean of n leaves varies n times less than one leaf does.
            self.variance.add(leaves as f64 * (leaf - mean).powi(2));
        }
        self.mean.add(leaf);
    }
}

/// Factoring's `x`: each round hands out one `x`-th of what is left.
fn factor(estimate: &Estimate, demand: &Demand) -> f64 {
    let mean = estimate.mean.0.unwrap_or(0.0);
    let deviation = estimate.variance.0.unwrap_or(0.0).sqrt();
    if mean <= 0.0 || demand.left == 0 {
        return 2.0;
    }
    let b = f64::from(demand.threads_total) / (2.0 * (demand.left as f64).sqrt()) * deviation / mean;
    2.0 + b * b + b * (b * b + 4.0).sqrt()
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.0 = Some(self.0.map_or(value, |mean| mean + NEWEST * (value - mean)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn demand(left: u64, workers: usize) -> Demand {
        Demand { left, threads: 1, threads_total: workers as u32, workers, few: false }
    }

    fn learned(seconds_per_leaf: f64, gap: f64) -> (Policy, Estimate) {
        let (mut policy, mut estimate) = (Policy::new(), Estimate::default());
        for _ in 0..50 {
            policy.learn(&mut estimate, 1024, 1, Cost { busy: 1024.0 * seconds_per_leaf, gap });
        }
        (policy, estimate)
    }

    #[test]
    fn a_worker_that_knows_nothing_starts_slowly_and_doubles() {
        let (policy, mut estimate) = (Policy::new(), Estimate::default());
        let lens: Vec<u64> = (0..5)
            .map(|_| {
                let len = policy.batch_len(&estimate, &demand(1 << 20, 4));
                estimate.assigned(len);
                len
            })
            .collect();
        assert_eq!(lens, [1, 2, 4, 8, 16]);
    }

    #[test]
    fn with_much_left_a_batch_takes_half_a_second() {
        let (policy, estimate) = learned(1e-3, 0.0);
        assert_eq!(policy.batch_len(&estimate, &demand(1 << 20, 4)), 500);
    }

    #[test]
    fn towards_the_end_half_of_what_is_left_is_handed_out_in_each_round() {
        let (policy, estimate) = learned(1e-3, 0.0);
        assert_eq!(policy.batch_len(&estimate, &demand(800, 4)), 100);
        assert_eq!(policy.batch_len(&estimate, &demand(80, 4)), 10);
        assert_eq!(policy.batch_len(&estimate, &demand(2, 4)), 1);
    }

    #[test]
    fn a_measured_gap_lengthens_batches_until_it_costs_two_percent() {
        let (policy, estimate) = learned(1e-5, 1e-3);
        let len = policy.batch_len(&estimate, &demand(1000, 4));
        let overhead = 1e-3 / (len as f64 * 1e-5);
        assert!((0.019..0.021).contains(&overhead), "{overhead}");
    }

    #[test]
    fn ten_thousand_workers_leave_rank_0_idle_half_of_the_time() {
        let (mut policy, estimate) = learned(1e-6, 0.0);
        policy.served(5e-6);
        let seconds = policy.batch_len(&estimate, &demand(1 << 20, 10_000)) as f64 * 1e-6;
        assert!((0.099..0.11).contains(&seconds), "{seconds}");
    }

    #[test]
    fn costs_that_vary_shorten_the_batches() {
        let (policy, steady) = learned(1e-3, 0.0);
        let (mut other, mut varied) = (Policy::new(), Estimate::default());
        for batch in 0..50 {
            let busy = if batch % 10 == 0 { 1.0 } else { 0.01 };
            other.learn(&mut varied, 8, 1, Cost { busy, gap: 0.0 });
        }
        let all = demand(4000, 64);
        assert!(other.batch_len(&varied, &all) < policy.batch_len(&steady, &all));
    }

    #[test]
    fn what_was_learned_is_remembered_by_the_item() {
        let (policy, _) = learned(1e-3, 0.0);
        let mut next = Policy::new();
        let estimate = next.recall(&policy.learned(4), 8);
        assert_eq!(next.batch_len(&estimate, &demand(1 << 20, 4)), 25, "50 ms of leaves twice as long");
        assert_eq!(next.slow_leaf().to_bits(), 0, "nothing was measured");
        let estimate = next.recall(&Learned { mean: Some(f64::NAN), ..Learned::default() }, 8);
        assert_eq!(next.batch_len(&estimate, &demand(1 << 20, 4)), 1, "what makes no sense is not known");
    }

    #[test]
    fn a_worker_that_comes_from_cheap_leaves_to_unknown_ones_starts_slowly_again() {
        let (policy, mut estimate) = learned(1e-5, 0.0);
        estimate.assigned(32_768);
        Policy::moved(&mut estimate, &Estimate { last: 1, ..Estimate::default() });
        let first = policy.batch_len(&estimate, &demand(1 << 20, 4));
        estimate.assigned(first);
        assert_eq!([first, policy.batch_len(&estimate, &demand(1 << 20, 4))], [1, 2]);
    }

    #[test]
    fn a_worker_that_moves_to_where_costs_are_known_goes_on_with_them() {
        let (policy, theirs) = learned(1e-3, 0.0);
        let mut mine = Estimate::default();
        mine.assigned(1024);
        Policy::moved(&mut mine, &theirs);
        assert_eq!(policy.batch_len(&mine, &demand(1 << 20, 4)), 500);
    }

    proptest! {
        #[test]
        fn a_batch_is_never_empty_and_grows_at_most_fourfold(
            leaf in 1e-9f64..10.0, gap in 0.0f64..1.0, left in 1u64..1 << 20, workers in 1usize..1000, last in 1u64..1 << 20,
        ) {
            let (policy, mut estimate) = learned(leaf, gap);
            estimate.assigned(last);
            let len = policy.batch_len(&estimate, &demand(left, workers));
            prop_assert!((1..=last.saturating_mul(4)).contains(&len));
        }
    }
}
