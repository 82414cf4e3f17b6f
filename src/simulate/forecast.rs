//! How long a computation takes on a machine, and where the time goes.

use std::time::Duration;

use super::baselines;
use super::cluster::Cluster;
use super::costs::Costs;
use super::faults::{Fault, Luck};
use super::machine::Machine;
use crate::master::liveness::Patience;
use crate::master::scheduler::Config;

/// A way to hand out work.
///
/// # Examples
///
/// ```
/// use rankfold::simulate::{Machine, Scheme, Workload, run};
///
/// let costs = Workload::RampUp.costs(100_000, 1e-3, 1);
/// let [fixed, ours] = [Scheme::Static, Scheme::Rankfold].map(|scheme| run(&Machine::new(64), &costs, scheme));
/// assert!(fixed.efficiency < 0.6 && ours.efficiency > 0.9);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Every rank gets the same number of items at the start.
    Static,
    /// Chunks of so many leaves, each when a rank asks for one.
    Chunks {
        /// Leaves of a chunk.
        leaves: u64,
        /// Whether a rank asks for the next chunk before it computes the one that it has.
        ahead: bool,
    },
    /// Guided self-scheduling: each chunk is the P-th part of what is left (Polychronopoulos and Kuck, 1987).
    Guided,
    /// Factoring: rounds of P chunks, each round half of what is left (Flynn Hummel, Schonberg and Flynn, 1992).
    Factoring,
    /// This library's scheduler.
    Rankfold,
}

/// What a simulated run came to. Times are in seconds.
///
/// # Examples
///
/// ```
/// use rankfold::simulate::{Costs, Machine, Scheme, run};
///
/// let forecast = run(&Machine::new(1), &Costs::of_items(&[1.0; 10]), Scheme::Rankfold);
/// assert!((10.0..10.1).contains(&forecast.makespan));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forecast {
    /// From the start of the job until every rank has the result.
    pub makespan: f64,
    /// The work over what all cores could have done in the makespan.
    pub efficiency: f64,
    /// The part of the makespan in which rank 0 serves messages.
    pub root_load: f64,
    /// Batches that were handed out.
    pub batches: u64,
    /// The longest time that one batch was computed: what a rank that is stopped may have to do again.
    pub longest_batch: f64,
    /// Messages between ranks, rank 0's to itself included.
    pub messages: u64,
    /// How often a rank was asked to give up leaves.
    pub recalls: u64,
}

/// Simulates a computation on a machine on which nothing fails; its [stalls](Machine::stalls) pass.
///
/// # Panics
///
/// The machine has no ranks.
///
/// # Examples
///
/// ```
/// use rankfold::simulate::{Machine, Scheme, Workload, run};
///
/// let costs = Workload::Uniform.costs(10_000, 1e-3, 1);
/// let forecast = run(&Machine { threads: 4, ..Machine::new(8) }, &costs, Scheme::Rankfold);
/// assert!(forecast.efficiency > 0.9);
/// ```
#[must_use]
pub fn run(machine: &Machine, costs: &Costs, scheme: Scheme) -> Forecast {
    let faults = machine.stalls.iter().map(|stall| (stall.at, stall.rank, Fault::Sleeps(stall.length))).collect();
    run_with(machine, costs, scheme, &Luck { faults, ..Luck::default() })
}

pub(crate) fn run_with(machine: &Machine, costs: &Costs, scheme: Scheme, luck: &Luck) -> Forecast {
    assert!(machine.ranks > 0, "a machine has at least one rank");
    let Scheme::Rankfold = scheme else { return baselines::run(machine, costs, scheme, luck) };
    let config = Config {
        leaves: costs.leaves(),
        leaf: 1,
        longest: u64::MAX,
        retries: 0,
        whole_batches: false,
        may_repeat: true,
        patience: Patience::new(Duration::from_secs(30), machine.ranks),
    };
    let mut cluster = Cluster::new(machine, costs, config, luck.clone());
    cluster.begin();
    while cluster.step() {
        if cluster.ended.is_some() && cluster.is_over() {
            break;
        }
    }
    let tally = &cluster.tally;
    let end = cluster.nodes.iter().filter_map(|node| node.done).max().unwrap_or(cluster.now);
    let makespan = end.0 as f64 * 1e-9 + machine.reduction();
    Forecast {
        makespan,
        efficiency: costs.total() / (makespan * machine.power_of_all()),
        root_load: tally.serving / makespan,
        batches: tally.batches,
        longest_batch: tally.longest_batch,
        messages: tally.messages,
        recalls: tally.recalls,
    }
}
