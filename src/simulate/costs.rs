//! What items cost: distributions, functions of the index, traces.

use rand::{Rng, RngExt};

use crate::extent::{Extent, Leaves};
use crate::random::rng;

/// The cost of every leaf of an input, in seconds of one thread at speed 1.
#[derive(Debug, Clone)]
pub struct Costs {
    /// `sums[i]` is the cost of all leaves before `i`.
    sums: Vec<f64>,
    items: u64,
}

/// How the costs of items are spread. All have the same mean.
///
/// # Examples
///
/// ```
/// use rankfold::simulate::Workload;
///
/// let costs = Workload::RampUp.costs(1_000_000, 1e-3, 42);
/// assert!((costs.total() - 1000.0).abs() < 1.0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// All items cost the same.
    Uniform,
    /// Lognormal with σ = 1.
    Lognormal,
    /// Pareto with α = 1.5, whose variance is infinite.
    Pareto,
    /// From next to nothing at the start to twice the mean at the end.
    RampUp,
    /// The other way round.
    RampDown,
    /// One item in a hundred, at random, costs a hundred times as much as the others.
    Rare,
    /// Rows of a picture of the Mandelbrot set, from top to bottom: long stretches of cheap and of dear items.
    Mandelbrot,
}

/// Largest values of a leaf that are drawn one by one; the others of a leaf count with their mean.
const DRAWN: u64 = 64;

impl Workload {
    /// All workloads.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(rankfold::simulate::Workload::ALL.len(), 7);
    /// ```
    pub const ALL: [Self; 7] =
        [Self::Uniform, Self::Lognormal, Self::Pareto, Self::RampUp, Self::RampDown, Self::Rare, Self::Mandelbrot];

    /// What it is called in tables.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(rankfold::simulate::Workload::Rare.name(), "1 % a hundredfold");
    /// ```
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Lognormal => "lognormal",
            Self::Pareto => "Pareto",
            Self::RampUp => "ramp up",
            Self::RampDown => "ramp down",
            Self::Rare => "1 % a hundredfold",
            Self::Mandelbrot => "Mandelbrot rows",
        }
    }

    /// The costs of `items` items of `mean` seconds, in the leaves that the library would make of them.
    ///
    /// # Examples
    ///
    /// ```
    /// let costs = rankfold::simulate::Workload::Uniform.costs(1000, 0.5, 1);
    /// assert_eq!(costs.total(), 500.0);
    /// ```
    #[must_use]
    pub fn costs(self, items: u64, mean: f64, seed: u64) -> Costs {
        let leaves = Leaves::new(items, 1);
        let rows = if self == Self::Mandelbrot { mandelbrot_rows() } else { Vec::new() };
        let cost = |leaf: u64| {
            let range = leaves.items_of(Extent::new(leaf, 1));
            let (count, middle) = (range.end - range.start, (range.start + range.end) as f64 / 2.0 / items as f64);
            self.sum(&mut rng(seed, leaf), count, middle, &rows)
        };
        let relative: Vec<f64> = (0..leaves.count()).map(cost).collect();
        let scale = match self {
            // Drawn from distributions with mean 1, which a few draws of a heavy tail would not show.
            Self::Lognormal | Self::Pareto | Self::Rare | Self::Uniform => mean,
            Self::RampUp | Self::RampDown | Self::Mandelbrot => {
                mean * items as f64 / relative.iter().sum::<f64>().max(f64::MIN_POSITIVE)
            }
        };
        Costs::new(items, relative.into_iter().map(|cost| cost * scale))
    }

    /// The sum of `count` costs relative to the mean, in the middle of the input or wherever.
    fn sum(self, rng: &mut impl Rng, count: u64, middle: f64, rows: &[f64]) -> f64 {
        let n = count as f64;
        match self {
            Self::Uniform => n,
            Self::RampUp => n * (0.01 + 1.98 * middle),
            Self::RampDown => n * (0.01 + 1.98 * (1.0 - middle)),
            Self::Mandelbrot => n * rows[((middle * rows.len() as f64) as usize).min(rows.len() - 1)],
            Self::Rare => {
                // 0.01 · 100 x + 0.99 · x = 1
                let cheap = 1.0 / 1.99;
                let rare = binomial(rng, count, 0.01);
                (n - rare) * cheap + rare * cheap * 100.0
            }
            Self::Lognormal => {
                let drawn = count.min(DRAWN);
                let values = (0..drawn).map(|_| (normal(rng) - 0.5).exp()).sum::<f64>();
                // The sum of many is normal: variance e - 1 each.
                let rest = n - drawn as f64;
                let more = rest + normal(rng) * (rest * (std::f64::consts::E - 1.0)).sqrt();
                values + more.max(0.0)
            }
            Self::Pareto => pareto_sum(rng, count),
        }
    }
}

impl Costs {
    /// Costs of leaves, from first to last.
    pub(crate) fn new(items: u64, leaves: impl IntoIterator<Item = f64>) -> Self {
        let mut sum = 0.0;
        let mut sums = vec![0.0];
        sums.extend(leaves.into_iter().map(|cost| {
            sum += cost;
            sum
        }));
        Self { sums, items }
    }

    /// A trace: what each item of a run took, for inputs of up to a million items.
    ///
    /// # Examples
    ///
    /// ```
    /// let costs = rankfold::simulate::Costs::of_items(&[0.5, 1.0, 1.5]);
    /// assert_eq!(costs.total(), 3.0);
    /// ```
    #[must_use]
    pub fn of_items(items: &[f64]) -> Self {
        let leaves = Leaves::new(items.len() as u64, 1);
        let cost = |leaf| {
            let range = leaves.items_of(Extent::new(leaf, 1));
            items[range.start as usize..range.end as usize].iter().sum()
        };
        Self::new(items.len() as u64, (0..leaves.count()).map(cost))
    }

    /// A trace of a smaller run, stretched over `items` items: each of its values stands for the items in its place, so
    /// that cheap and dear stretches of the input stay where they were.
    ///
    /// # Panics
    ///
    /// The trace is empty.
    ///
    /// # Examples
    ///
    /// ```
    /// // A million items each of 1 s and of 2 s.
    /// let costs = rankfold::simulate::Costs::of_trace(2_000_000, &[1.0, 2.0]);
    /// assert!((costs.total() - 3e6).abs() < 1.0);
    /// ```
    #[must_use]
    pub fn of_trace(items: u64, trace: &[f64]) -> Self {
        assert!(!trace.is_empty(), "a trace has at least one cost");
        let leaves = Leaves::new(items, 1);
        let sums = Self::new(trace.len() as u64, trace.iter().copied()).sums;
        // The cost of the items before `item`, in units of the trace's own length.
        let before = |item: u64| {
            let place = item as f64 / items as f64 * trace.len() as f64;
            let whole = (place as usize).min(trace.len() - 1);
            sums[whole] + trace[whole] * (place - whole as f64)
        };
        let stretch = items as f64 / trace.len() as f64;
        let cost = |leaf| {
            let range = leaves.items_of(Extent::new(leaf, 1));
            ((before(range.end) - before(range.start)) * stretch).max(0.0)
        };
        Self::new(items, (0..leaves.count()).map(cost))
    }

    /// The seconds that one thread would need for everything.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(rankfold::simulate::Costs::of_items(&[1.0; 7]).total(), 7.0);
    /// ```
    #[must_use]
    pub fn total(&self) -> f64 {
        self.sums[self.sums.len() - 1]
    }

    /// The number of items.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(rankfold::simulate::Costs::of_items(&[1.0; 7]).items(), 7);
    /// ```
    #[must_use]
    pub fn items(&self) -> u64 {
        self.items
    }

    /// The cost of a leaf.
    ///
    /// # Panics
    ///
    /// There are not so many leaves.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(rankfold::simulate::Costs::of_items(&[1.0, 2.0]).leaf(1), 2.0);
    /// ```
    #[must_use]
    pub fn leaf(&self, leaf: u64) -> f64 {
        self.of(leaf, leaf + 1)
    }

    /// The number of leaves that the library would make of the items: the unit in which work is handed out.
    ///
    /// # Examples
    ///
    /// ```
    /// use rankfold::simulate::Workload;
    ///
    /// assert_eq!(Workload::Uniform.costs(1000, 1.0, 1).leaves(), 1000);
    /// assert_eq!(Workload::Uniform.costs(1 << 30, 1.0, 1).leaves(), 1 << 20);
    /// ```
    #[must_use]
    pub fn leaves(&self) -> u64 {
        self.sums.len() as u64 - 1
    }

    /// The cost of the leaves from `start` to before `end`.
    pub(crate) fn of(&self, start: u64, end: u64) -> f64 {
        (self.sums[end as usize] - self.sums[start as usize]).max(0.0)
    }

    /// The dearest leaf of some.
    pub(crate) fn dearest(&self, start: u64, end: u64) -> f64 {
        (start..end).map(|leaf| self.of(leaf, leaf + 1)).fold(0.0, f64::max)
    }

    /// The leaf that is being computed after `seconds` of those from `start` to before `end`.
    pub(crate) fn leaf_at(&self, start: u64, end: u64, seconds: f64) -> u64 {
        let goal = self.sums[start as usize] + seconds;
        let sums = &self.sums[start as usize + 1..=end as usize];
        (start + sums.partition_point(|sum| *sum <= goal) as u64).min(end - 1)
    }
}

/// Iterations that the rows of the picture from -1.25 to 1.25 take, from top to bottom.
fn mandelbrot_rows() -> Vec<f64> {
    const ROWS: u32 = 2048;
    (0..ROWS).map(|row| mandelbrot_row((f64::from(row) + 0.5) / f64::from(ROWS))).collect()
}

fn mandelbrot_row(middle: f64) -> f64 {
    const COLUMNS: u32 = 48;
    const MOST: u32 = 400;
    let y = -1.25 + 2.5 * middle;
    let escape = |column| {
        let x = -2.0 + 2.5 * f64::from(column) / f64::from(COLUMNS);
        let (mut re, mut im, mut steps) = (0.0f64, 0.0f64, 0);
        while re * re + im * im <= 4.0 && steps < MOST {
            (re, im) = (re * re - im * im + x, 2.0 * re * im + y);
            steps += 1;
        }
        f64::from(steps)
    };
    (0..COLUMNS).map(escape).sum()
}

/// A standard normal number (Box and Muller, 1958).
fn normal(rng: &mut impl Rng) -> f64 {
    let (u, v): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

fn binomial(rng: &mut impl Rng, count: u64, chance: f64) -> f64 {
    if count <= 256 {
        return (0..count).filter(|_| rng.random::<f64>() < chance).count() as f64;
    }
    let (mean, variance) = (count as f64 * chance, count as f64 * chance * (1.0 - chance));
    (mean + normal(rng) * variance.sqrt()).round().clamp(0.0, count as f64)
}

/// The sum of `count` Pareto numbers with α = 1.5 and mean 1: the largest ones in falling order, by the spacings of
/// uniform order statistics (Devroye, "Non-uniform random variate generation", 1986, V.3), the others by their mean.
fn pareto_sum(rng: &mut impl Rng, count: u64) -> f64 {
    const ALPHA: f64 = 1.5;
    const LEAST: f64 = (ALPHA - 1.0) / ALPHA;
    let drawn = count.min(DRAWN);
    let (mut below, mut sum) = (1.0f64, 0.0);
    for i in 0..drawn {
        // The largest of the n - i numbers that are below the one before.
        below *= (1.0 - rng.random::<f64>()).powf(1.0 / (count - i) as f64);
        sum += LEAST * (1.0 - below).max(1e-18).powf(-1.0 / ALPHA);
    }
    // E[x | F(x) < below] for the rest.
    let rest = (count - drawn) as f64;
    let tail = 1.0 - below;
    let mean = if below > 0.0 { (1.0 - tail.powf(1.0 - 1.0 / ALPHA)) / below } else { LEAST };
    sum + rest * mean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_has_the_mean_that_was_asked_for() {
        for workload in Workload::ALL {
            let mean = workload.costs(50_000, 1e-3, 7).total() / 50_000.0;
            assert!((0.8e-3..1.2e-3).contains(&mean), "{workload:?}: {mean}");
        }
    }

    #[test]
    fn a_leaf_of_many_items_costs_as_much_as_they_do() {
        for workload in [Workload::Lognormal, Workload::Pareto, Workload::Rare] {
            let sum: f64 = (0..500).map(|leaf| workload.sum(&mut rng(7, leaf), 4096, 0.5, &[])).sum();
            let mean = sum / 500.0 / 4096.0;
            assert!((0.9..1.1).contains(&mean), "{workload:?}: {mean}");
        }
    }

    #[test]
    fn the_leaf_at_a_time_is_the_one_that_is_computed_then() {
        let costs = Costs::of_items(&[1.0, 2.0, 3.0, 4.0]);
        assert_eq!([0.5, 1.5, 2.9, 3.1, 99.0].map(|seconds| costs.leaf_at(0, 4, seconds)), [0, 1, 1, 2, 3]);
        assert_eq!(costs.leaf_at(2, 4, 3.5), 3);
        assert_eq!((costs.of(1, 3), costs.dearest(0, 3)), (5.0, 3.0));
    }
}
