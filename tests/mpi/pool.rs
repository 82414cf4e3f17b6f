//! Pools on real ranks: the same results everywhere, and errors that end every rank with one clear message.

use crate::results::same_everywhere;
use crate::support::launcher;

#[test]
fn tasks_give_the_same_values_on_any_number_of_ranks() {
    let output = same_everywhere(&["test-spmd", "pool"]);
    assert!(output.starts_with("13495500 [") && output.contains("800000 "), "{output}");
}

#[test]
fn a_program_of_the_root_door_runs_once_and_fails_once() {
    assert_eq!(same_everywhere(&["test-root"]), "332833500\n");
    let Some(mpirun) = launcher() else { return };
    for ranks in [1, 3] {
        let ended = mpirun.run(ranks, &["test-root", "enough is enough"]);
        ended.says(&["enough is enough"]).times(1, "enough is enough");
    }
}

#[test]
fn a_task_that_panics_is_named_with_its_rank_and_the_program_fails_once() {
    let Some(mpirun) = launcher() else { return };
    for ranks in [1, 2, 4] {
        let ended = mpirun.run(ranks, &["test-spmd", "pool-panics"]);
        ended.says(&["the seventh: the task panicked on rank ", "no sevens"]).times(1, "no sevens");
    }
}

#[test]
fn quick_tasks_that_are_waited_for_one_by_one_give_their_values() {
    let output = same_everywhere(&["test-spmd", "pool-quick"]);
    let sum: u64 = (0..6_000).filter(|n| n % 50 != 48).map(|n| n + 1).sum();
    assert_eq!(output, format!("{sum} 120\n"));
}

#[test]
fn tasks_on_any_rank_are_cancelled_waited_for_and_tried_again() {
    let output = same_everywhere(&["test-spmd", "pool-futures"]);
    assert_eq!(output, "38 41654167500 [(2, false), (3, true), (3, true)]\n");
}

#[test]
fn what_nobody_wants_is_forgotten_on_every_rank() {
    let Some(mpirun) = launcher() else { return };
    for ranks in [1, 3, 8] {
        assert_eq!(mpirun.run(ranks, &["test-spmd", "pool-forgets"]).output(), "nothing is left\n");
    }
}

#[test]
fn a_rank_that_makes_another_call_or_leaves_ends_the_program() {
    let Some(mpirun) = launcher() else { return };
    for culprit in ["0", "2"] {
        mpirun.run(3, &["test-spmd", "pool-or-call", culprit]).says(&["the ranks disagree about the operation"]);
        mpirun.run(3, &["test-spmd", "pool-or-leave", culprit]).says(&["left the program"]);
    }
}

#[test]
fn the_tasks_of_a_rank_that_stops_run_elsewhere() {
    let Some(mpirun) = launcher() else { return };
    let ended = mpirun.run_parts(&[(4, &[("RANKFOLD_PATIENCE", "3")], &["test-spmd", "pool-stops"])]);
    assert_eq!(ended.output(), "1999000\n", "{ended}");
    ended.times(1, "rank 2 @ has not answered for ");
}

#[test]
fn tasks_submit_tasks_on_any_number_of_ranks() {
    let output = same_everywhere(&["test-spmd", "pool-inner"]);
    assert!(output.starts_with("377 800000 "), "{output}");
}

#[test]
fn what_a_rank_declares_is_counted_and_what_nobody_has_is_explained() {
    let Some(mpirun) = launcher() else { return };
    let declared: [&[(&str, &str)]; 3] =
        [&[], &[("RANKFOLD_RESOURCES", "gpu=2"), ("RANKFOLD_THREADS", "4")], &[("RANKFOLD_RESOURCES", "mem=1GiB")]];
    let parts = declared.map(|variables| (1, variables, &["test-spmd", "pool-resources"][..]));
    mpirun.run_parts(&parts).says(&["greedy: it needs gpu=3, and no rank has more than 2 (rank 1); ask for less"]);
}

#[test]
fn who_waits_for_what_an_actor_has_is_told_and_runs_when_that_is_dropped() {
    let Some(mpirun) = launcher() else { return };
    let declared: &[(&str, &str)] = &[("RANKFOLD_RESOURCES", "gpu=1")];
    let ended =
        mpirun.run_parts(&[(1, declared, &["test-spmd", "pool-starved"]), (2, &[], &["test-spmd", "pool-starved"])]);
    assert_eq!(ended.output(), "42\n", "{ended}");
    ended.times(1, "train needs gpu=1, which actors have as long as they live (model): it runs when");
}

#[test]
fn a_rank_whose_task_never_ends_is_given_up() {
    let Some(mpirun) = launcher() else { return };
    let ended = mpirun.run_parts(&[(3, &[("RANKFOLD_PATIENCE", "2")], &["test-spmd", "pool-hangs"])]);
    assert_eq!(ended.output(), "4950\n", "{ended}");
    ended.times(1, "rank 1 @ is given up, since endless goes on there long after its time was up");
}

#[test]
fn calls_of_actors_keep_their_order_on_any_number_of_ranks() {
    let output = same_everywhere(&["test-spmd", "pool-actors"]);
    assert!(output.starts_with("840 ") && output.ends_with("[Some(70), None, Some(50)]\n"), "{output}");
}

#[test]
fn an_actor_whose_rank_stops_begins_anew_elsewhere() {
    let Some(mpirun) = launcher() else { return };
    let ended = mpirun.run_parts(&[(3, &[("RANKFOLD_PATIENCE", "3")], &["test-spmd", "pool-actor-stops"])]);
    assert_eq!(ended.output(), "[5, 1, 2, 3]\n", "{ended}");
    ended.times(1, "has not answered for ");
}
