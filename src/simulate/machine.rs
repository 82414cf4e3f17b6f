//! The machine that a simulation runs on.

/// A cluster, as far as its times matter. All times are in seconds.
///
/// # Examples
///
/// ```
/// use rankfold::simulate::Machine;
///
/// let cluster = Machine { threads: 64, ..Machine::new(1000) };
/// assert_eq!(cluster.cores(), 64_000);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    /// MPI ranks; rank 0 schedules, and computes as well.
    pub ranks: usize,
    /// Threads that each rank computes with.
    pub threads: u32,
    /// From the start of the job until every rank can enter a call.
    pub start: f64,
    /// One way of a short message between two ranks.
    pub latency: f64,
    /// Bytes a second between two ranks.
    pub bandwidth: f64,
    /// Rank 0's time for one message that it receives, and for what it sends because of it.
    pub service: f64,
    /// What a worker loses between two batches.
    pub gap: f64,
    /// Compute times vary by this part, at random, from batch to batch.
    pub noise: f64,
    /// How fast each rank computes; 1 for those that are not listed.
    pub speeds: Vec<f64>,
    /// What holds single ranks up.
    pub stalls: Vec<Stall>,
}

/// A rank does nothing for a while: it was stopped or swapped out, or something else had its cores.
///
/// # Examples
///
/// ```
/// use rankfold::simulate::{Machine, Scheme, Stall, Workload, run};
///
/// let costs = Workload::Uniform.costs(100_000, 1e-3, 1);
/// let calm = Machine::new(10);
/// let troubled = Machine { stalls: vec![Stall { rank: 1, at: 5.0, length: 2.0 }], ..calm.clone() };
/// // Whoever has dealt out everything at the start waits for that rank; whoever deals while it runs does not.
/// let lost = |scheme| run(&troubled, &costs, scheme).makespan - run(&calm, &costs, scheme).makespan;
/// assert!(lost(Scheme::Static) > 1.9 && lost(Scheme::Rankfold) < 0.5);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stall {
    /// Who stalls.
    pub rank: usize,
    /// When, in seconds from the start of the job.
    pub at: f64,
    /// For how many seconds.
    pub length: f64,
}

impl Machine {
    /// One thread on each of so many ranks, joined by a network of the kind that clusters have: 2 µs and 10 GB/s. Rank
    /// 0's time for a message and the gap between batches are what `make bench` measures of this library.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(rankfold::simulate::Machine::new(135).ranks, 135);
    /// ```
    #[must_use]
    pub fn new(ranks: usize) -> Self {
        Self {
            ranks,
            threads: 1,
            start: 0.0,
            latency: 2e-6,
            bandwidth: 1e10,
            service: 2e-6,
            gap: 5e-6,
            noise: 0.0,
            speeds: Vec::new(),
            stalls: Vec::new(),
        }
    }

    /// Threads of all ranks.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(rankfold::simulate::Machine::new(135).cores(), 135);
    /// ```
    #[must_use]
    pub fn cores(&self) -> u64 {
        self.ranks as u64 * u64::from(self.threads)
    }

    /// How much of one thread's work at speed 1 a rank does in a second.
    pub(crate) fn power(&self, rank: usize) -> f64 {
        self.speeds.get(rank).copied().unwrap_or(1.0) * f64::from(self.threads)
    }

    /// The work that all ranks do in a second.
    pub(crate) fn power_of_all(&self) -> f64 {
        (0..self.ranks).map(|rank| self.power(rank)).sum()
    }

    /// The reduction of a few bytes over all ranks and the way back: a tree each way.
    pub(crate) fn reduction(&self) -> f64 {
        let levels = self.ranks.next_power_of_two().ilog2();
        2.0 * f64::from(levels) * (self.latency + self.service)
    }
}
