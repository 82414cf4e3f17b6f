//! Sweeps over seeds, bugs that must be found, seeds that once failed, and what schedules must reach.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::mutant::{self, Mutant};
use super::*;

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
fn every_planted_bug_is_found() {
    for mutant in mutant::ALL {
        let found = mutant::with(mutant, || {
            (0..2000).find(|seed| std::panic::catch_unwind(|| trial(*seed)).map_or(true, |v| v.is_err()))
        });
        let seed = found.unwrap_or_else(|| panic!("nobody has noticed {mutant:?}"));
        eprintln!("{mutant:?}: seed {seed}");
    }
    assert!(!mutant::planted(Mutant::DuplicateCounted));
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
