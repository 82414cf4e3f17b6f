//! Runs written down by hand, for tests that know what should come out.

use std::time::Duration;

use super::cluster::{Cluster, Ended};
use super::costs::Costs;
use super::faults::{Fault, Luck};
use super::machine::Machine;
use super::trial::{Setup, judge};
use crate::master::liveness::Patience;
use crate::master::scheduler::Config;

pub(crate) const DIES: Fault = Fault::Dies;

pub(crate) fn sleeps(seconds: f64) -> Fault {
    Fault::Sleeps(seconds)
}

/// What a call is like by default.
pub(crate) const WITHOUT_FAULTS: Config = Config {
    leaves: 0,
    leaf: 1,
    longest: u64::MAX,
    retries: 0,
    whole_batches: false,
    may_repeat: true,
    patience: Patience::of(Duration::from_secs(3)),
};

/// A run that can be changed before it begins.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub machine: Machine,
    pub costs: Costs,
    pub config: Config,
    pub luck: Luck,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Ran {
    pub makespan: f64,
    pub efficiency: f64,
    pub batches: u64,
    pub recalls: u64,
    pub lost: Vec<usize>,
}

impl Scenario {
    pub fn new(ranks: usize, costs: Vec<f64>) -> Self {
        let config = Config { leaves: costs.len() as u64, ..WITHOUT_FAULTS };
        let costs = Costs::new(config.leaves, costs);
        Self { machine: Machine::new(ranks), costs, config, luck: Luck::default() }
    }

    /// Runs it to its result.
    pub fn run(&self) -> Ran {
        let (cluster, seconds) = self.play();
        let Some(Ended::Finished { lost }) = &cluster.ended else { panic!("{:?}", cluster.ended) };
        let efficiency = self.costs.total() / (seconds * self.machine.power_of_all());
        let (batches, recalls) = (cluster.tally.batches, cluster.tally.recalls);
        if self.costs.leaves() <= 4096 {
            let Self { machine, costs, config, luck } = self;
            let (machine, costs, luck) = (machine.clone(), costs.clone(), luck.clone());
            let setup = Setup { machine, costs, config: *config, luck, suspects: Vec::new(), remembered: None };
            judge(&setup).unwrap();
        }
        Ran { makespan: seconds, efficiency, batches, recalls, lost: lost.clone() }
    }

    /// Runs it to its error; gives the seconds until then.
    pub fn fails(&self) -> f64 {
        let (cluster, seconds) = self.play();
        assert!(matches!(cluster.ended, Some(Ended::Failed | Ended::Abandoned)), "{:?}", cluster.ended);
        seconds
    }

    fn play(&self) -> (Cluster<'_>, f64) {
        let mut cluster = Cluster::new(&self.machine, &self.costs, self.config, self.luck.clone());
        cluster.begin();
        while cluster.step() {
            if cluster.is_over() {
                break;
            }
        }
        let seconds = cluster.now.0 as f64 * 1e-9;
        (cluster, seconds)
    }
}
