//! Scenarios: small machines on which it is known what a good schedule does. What goes wrong is the simulator's subject.

use super::*;
use crate::simulate::scenario::{Scenario, WITHOUT_FAULTS};

#[test]
fn equal_costs_on_equal_ranks_lose_less_than_two_percent() {
    let ran = Scenario::new(8, vec![1e-4; 100_000]).run();
    assert!(ran.efficiency > 0.98, "{ran:?}");
}

#[test]
fn costs_that_grow_a_hundredfold_along_the_input_are_balanced() {
    let ran =
        Scenario::new(16, (0..65_536).map(|leaf| 1e-5 * (1.0 + 99.0 * f64::from(leaf) / 65_536.0)).collect()).run();
    assert!(ran.efficiency > 0.97, "{ran:?}");
}

#[test]
fn a_rank_that_enters_late_finds_its_home_region_done_by_others() {
    let mut scenario = Scenario::new(4, vec![1e-3; 4_000]);
    scenario.luck.late = vec![0.0, 0.0, 0.0, 10.0];
    let ran = scenario.run();
    assert!((10.0..10.1).contains(&ran.makespan), "nobody is left behind: {ran:?}");
}

#[test]
fn few_long_items_are_spread_over_the_ranks_one_by_one() {
    let ran = Scenario::new(8, vec![1.0; 8]).run();
    assert!(ran.makespan < 1.1, "eight items of a second on eight ranks: {ran:?}");
}

#[test]
fn a_batch_queued_behind_a_long_one_is_recalled() {
    // One item takes a hundred times as long as the others, and its rank has taken another batch ahead.
    let ran = Scenario::new(4, (0..64).map(|leaf| if leaf == 0 { 10.0 } else { 0.1 }).collect()).run();
    assert!(ran.recalls > 0 && ran.makespan < 10.5, "{ran:?}");
}

#[test]
fn a_batch_in_which_items_turn_out_long_is_cut_and_shared() {
    // What is cheap for the first half is dear in the second: the batches on the way there are far too long.
    let cost = |leaf| if leaf < 60_000 { 1e-5 } else { 1e-2 };
    let ran = Scenario::new(8, (0..65_536).map(cost).collect()).run();
    assert!(ran.recalls > 0 && ran.efficiency > 0.95, "{ran:?}");
}

#[test]
fn more_ranks_than_items_and_no_items_at_all_end_well() {
    for (leaves, ranks) in [(3, 20), (1, 2), (0, 5)] {
        Scenario::new(ranks, vec![0.1; leaves]).run();
    }
}

#[test]
fn a_failing_batch_ends_the_call_on_every_rank_when_no_retry_is_left() {
    for retries in [0, 3] {
        let mut scenario = Scenario::new(3, vec![1e-3; 200]);
        (scenario.config.retries, scenario.luck.poison) = (retries, Some(77));
        scenario.fails();
    }
}

#[test]
fn a_mapper_that_does_not_end_is_abandoned_after_the_grace_time() {
    let mut scenario = Scenario::new(3, (0..200).map(|leaf| if leaf == 0 { 1e6 } else { 1e-3 }).collect());
    scenario.luck.poison = Some(150);
    let seconds = scenario.fails();
    assert!(seconds < GRACE.as_secs_f64() + 1.0, "{seconds}");
}

#[test]
fn rank_0_talks_little_when_items_are_short_and_many() {
    let ran = Scenario::new(4, vec![1e-7; 1 << 20]).run();
    assert!(ran.batches < 1000, "{} batches for 0.1 s of work", ran.batches);
}

#[test]
fn a_rank_that_falls_silent_delays_the_others_by_no_more_than_the_patience() {
    let mut scenario = Scenario::new(8, vec![1e-3; 40_000]);
    scenario.luck.faults = vec![(2.0, 3, crate::simulate::scenario::DIES)];
    let ran = scenario.run();
    // 40 s of work on eight ranks, then seven; what the dead one had done is done again; 3 s of patience.
    assert!(ran.lost == [3] && ran.makespan < 9.5, "{ran:?}");
}

#[test]
fn a_rank_that_is_stopped_for_a_moment_is_waited_for_and_its_work_counts() {
    let mut scenario = Scenario::new(4, vec![1e-3; 20_000]);
    scenario.luck.faults = vec![(1.0, 2, crate::simulate::scenario::sleeps(2.0))];
    let ran = scenario.run();
    assert!(ran.lost.is_empty() && ran.makespan < 6.0, "{ran:?}");
}

#[test]
fn a_run_that_is_told_to_end_cuts_what_runs_and_ends_within_a_leaf() {
    let mut scenario = Scenario::new(8, vec![0.1; 40_000]);
    scenario.luck.drain = Some((10.0, 60.0));
    let seconds = scenario.fails();
    assert!((10.0..10.5).contains(&seconds), "{seconds}");
}

#[test]
fn a_run_that_is_told_to_end_gives_up_what_takes_longer_than_it_has() {
    let mut scenario = Scenario::new(2, vec![1000.0; 40]);
    scenario.luck.drain = Some((10.0, 5.0));
    let seconds = scenario.fails();
    assert!(seconds < 15.1 + GRACE.as_secs_f64(), "{seconds}");
}

#[test]
fn a_recalled_batch_goes_to_the_idle_rank_and_not_back() {
    // Ranks of many threads, so that a few leaves are next to nothing for each thread.
    let config = Config { leaves: 16, ..WITHOUT_FAULTS };
    let mut scheduler = Scheduler::new(config, &[8, 8], &BTreeSet::new());
    scheduler.handle(Time(0), Event::Ready { worker: 0 });
    let mut held: Vec<Extent> = Vec::new();
    while let Some(action) = scheduler.poll_action() {
        let Action::Assign { worker: 0, batch } = action else { panic!("{action:?}") };
        held.push(batch);
    }
    assert!(held.len() > 1, "{held:?}");
    scheduler.handle(Time(1), Event::Ready { worker: 1 });
    let Some(Action::Recall { worker: 0, batch }) = scheduler.poll_action() else { panic!("no recall") };
    scheduler.handle(Time(2), Event::Returned { worker: 0, batch });
    let Some(Action::Assign { worker, .. }) = scheduler.poll_action() else { panic!("not handed out") };
    assert_eq!(worker, 1);
}

#[test]
fn a_rank_lost_in_an_earlier_call_is_not_waited_for_and_may_come_back() {
    let config = Config { leaves: 4, ..WITHOUT_FAULTS };
    let mut scheduler = Scheduler::new(config, &[1, 1], &BTreeSet::from([1]));
    assert_eq!(scheduler.missing().collect::<Vec<_>>(), [0]);
    scheduler.handle(Time(0), Event::Ready { worker: 1 });
    assert!(matches!(scheduler.poll_action(), Some(Action::Assign { worker: 1, .. })));
    scheduler.check().unwrap();
}
