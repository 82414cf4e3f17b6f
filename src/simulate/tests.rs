//! Sweeps over seeds, bugs that must be found, seeds that once failed, and what schedules must reach.

use std::collections::BTreeMap;

use rand::RngExt;
use rayon::prelude::*;

use super::cluster::{Cluster, Ended};
use super::faults::Luck;
use super::mutant::{self, Mutant};
use super::scenario::WITHOUT_FAULTS;
use super::*;
use crate::error::ErrorKind;
use crate::extent::Extent;
use crate::journal::leaves_of;
use crate::journal::suspects::{Mark, Suspects};
use crate::master::coverage::Coverage;
use crate::master::scheduler::Config;

/// Seeds in `make test`; `make soak` goes on without end.
const SEEDS: u64 = 2_000;

#[test]
fn thousands_of_faulty_runs_end_as_they_should() {
    let all: Vec<Verdict> =
        (0..SEEDS).into_par_iter().map(|seed| trial(seed).unwrap_or_else(|violation| panic!("{violation}"))).collect();
    let mut verdicts = BTreeMap::new();
    all.into_iter().for_each(|verdict| *verdicts.entry(verdict).or_insert(0u64) += 1);
    eprintln!("{verdicts:?}");
    // A sweep in which a kind of ending does not occur would prove nothing of it.
    for verdict in
        [Verdict::Result, Verdict::ResultWithoutLost, Verdict::Error, Verdict::Interrupted, Verdict::RankGone]
    {
        assert!(verdicts.get(&verdict).is_some_and(|count| *count > SEEDS / 100), "{verdict:?}: {verdicts:?}");
    }
}

#[test]
fn thousands_of_faulty_pools_end_as_they_should() {
    let verdicts: Vec<TaskVerdict> = (0..4 * SEEDS)
        .into_par_iter()
        .map(|seed| task_trial(seed).unwrap_or_else(|violation| panic!("{violation}")))
        .collect();
    let all = |what: fn(&TaskVerdict) -> u64| verdicts.iter().map(what).sum::<u64>();
    let counts = [all(|v| v.submitted), all(|v| v.values), all(|v| v.errors), all(|v| v.lost)];
    eprintln!("{counts:?}");
    assert!(counts.iter().all(|count| *count > SEEDS), "{counts:?}");
}

/// What some of many more seeds have found.
#[test]
fn pools_that_once_went_wrong_do_not_any_more() {
    // An actor whose last call was given up before it ended the actor: the calls behind it came back without end.
    task_trial(183_029).unwrap_or_else(|violation| panic!("{violation}"));
    // A call that was placed when the one before it began to wait took the place of what that waited for.
    task_trial(403_529).unwrap_or_else(|violation| panic!("{violation}"));
}

#[test]
fn every_planted_bug_is_found() {
    find(&mutant::IN_CALLS, 2000, |seed| trial(seed).is_ok());
    find(&mutant::IN_POOLS, 40_000, |seed| task_trial(seed).is_ok());
    assert!(!mutant::planted(Mutant::DuplicateCounted));
}

fn find(mutants: &[Mutant], seeds: u64, is_well: fn(u64) -> bool) {
    for mutant in mutants {
        let found = mutant::with(*mutant, || {
            (0..seeds).find(|seed| !std::panic::catch_unwind(|| is_well(*seed)).unwrap_or(false))
        });
        let seed = found.unwrap_or_else(|| panic!("nobody has noticed {mutant:?}"));
        eprintln!("{mutant:?}: seed {seed}");
    }
}

/// One job: until all is done, or until a poisoned leaf is begun, which ends it. Gives what was computed then, if so.
fn crashes(poison: &[u64], suspects: &Suspects, done: &mut Coverage, seed: u64) -> Option<Vec<Mark>> {
    let dice = &mut crate::random::rng(seed, 7);
    let (machine, costs) = (Machine::new(dice.random_range(1..40)), Workload::Lognormal.costs(LEAVES, 1e-3, seed));
    let config = Config { leaves: LEAVES, ..WITHOUT_FAULTS };
    let mut cluster = Cluster::new(&machine, &costs, config, Luck { seed, ..Luck::default() });
    cluster.scheduler.resume(done.runs().map(|run| (0, run)));
    let known = suspects.poisoned().map(|(leaf, _)| leaf);
    cluster.scheduler.withhold(known, ErrorKind::EmptyInput { call: "poison".into() }.into());
    cluster.quarantine(&suspects.quarantined().collect::<Vec<_>>());
    cluster.begin();
    while cluster.step() && !cluster.is_over() {
        let computing = cluster.computing();
        let ends = |batch: &Extent| poison.iter().any(|leaf| batch.contains(Extent::new(*leaf, 1)));
        if computing.iter().any(ends) {
            // Some ranks have written snapshots.
            for node in cluster.nodes.iter().filter(|_| dice.random_bool(0.5)) {
                let parts = node.segments.iter().flat_map(|(extent, _)| leaves_of(*extent, LEAVES));
                parts.for_each(|part| drop(done.insert(part)));
            }
            return Some(computing.into_iter().map(|extent| Mark { extent, nth: None }).collect());
        }
    }
    *done = cluster.scheduler.covered().clone();
    assert!(matches!(cluster.ended, Some(Ended::Failed)), "{:?}", cluster.ended);
    None
}

const LEAVES: u64 = 3000;

#[test]
fn poison_is_found_in_few_jobs_and_everything_else_is_done() {
    for seed in 0..60 {
        let dice = &mut crate::random::rng(seed, 8);
        let mut poison: Vec<u64> = (0..dice.random_range(1..3)).map(|_| dice.random_range(0..LEAVES)).collect();
        poison.sort_unstable();
        poison.dedup();
        let (mut suspects, mut done, mut jobs) = (Suspects::default(), Coverage::default(), 1);
        while let Some(marks) = crashes(&poison, &suspects, &mut done, seed + 1000 * jobs) {
            suspects.crashed(jobs, &marks, true);
            suspects.acquit(&done);
            jobs += 1;
            assert!(jobs < 10 * poison.len() as u64, "seed {seed}: poison {poison:?}, after {jobs} jobs {suspects:?}");
        }
        let found: Vec<u64> = suspects.poisoned().map(|(leaf, _)| leaf.start).collect();
        assert_eq!((found, done.leaves()), (poison.clone(), LEAVES - poison.len() as u64), "seed {seed}");
    }
}

#[test]
fn a_run_is_the_same_every_time() {
    for seed in 0..50 {
        assert_eq!(format!("{:?}", trial(seed)), format!("{:?}", trial(seed)));
    }
    let costs = Workload::Lognormal.costs(20_000, 1e-3, 3);
    let forecast = || run(&Machine::new(50), &costs, Scheme::Rankfold);
    assert_eq!(forecast(), forecast());
}
