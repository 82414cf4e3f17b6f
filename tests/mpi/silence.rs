//! A rank that stops answering never leaves the others hanging: they complete the call without it, or say why not.

use crate::support::{Ended, Launcher, launcher, run_alone};

/// Seconds of silence that these programs bear.
const PATIENCE: [(&str, &str); 1] = [("RANKFOLD_PATIENCE", "3")];
/// The sums of the items of both calls.
const RESULT: &str = "7998000 19999900000\n";

fn run(mpirun: &Launcher, command: &[&str]) -> Ended {
    mpirun.run_parts(&[(4, &PATIENCE, command)])
}

#[test]
fn a_worker_that_stops_is_given_up_and_the_result_is_complete() {
    let Some(mpirun) = launcher() else { return };
    for program in ["test-spmd", "test-plain"] {
        let ended = run(&mpirun, &[program, "stops", "2"]);
        assert_eq!(ended.output(), RESULT, "{ended}");
        ended.times(1, "rank 2 @ has not answered for ").times(1, "rank 2 @ never answered again");
    }
}

#[test]
fn what_fails_after_a_worker_was_given_up_still_fails_the_program() {
    let Some(mpirun) = launcher() else { return };
    for program in ["test-spmd", "test-plain"] {
        for (culprit, message) in
            [("0", "the disk is full"), ("1", "the disk is full"), ("all", "nothing: the input is empty")]
        {
            let ended = run(&mpirun, &[program, "stops-before-a-failure", "2", culprit]);
            ended.says(&["rank 2 @ has not answered for ", message]).times(1, message);
        }
    }
}

#[test]
fn a_call_that_fails_after_a_worker_was_given_up_ends_without_it() {
    let Some(mpirun) = launcher() else { return };
    let ended = run(&mpirun, &["test-spmd", "stops-before-a-panic", "2"]);
    ended.says(&["rank 2 @ has not answered for ", "too late"]).times(1, "too late");
}

#[test]
fn a_worker_that_wakes_up_after_it_was_given_up_takes_part_again() {
    let Some(mpirun) = launcher() else { return };
    let ended = run(&mpirun, &["test-spmd", "stops", "1", "6"]);
    assert_eq!(ended.output(), RESULT, "{ended}");
    ended.times(1, "rank 1 @ has not answered for ");
}

#[test]
fn partials_are_merged_part_by_part_without_a_worker_that_has_stopped() {
    let Some(mpirun) = launcher() else { return };
    let expected = run_alone(&[], &["test-spmd", "in-parts", "2000"]);
    for (victim, wake) in [("3", None), ("1", Some("6"))] {
        let words: Vec<&str> = ["test-spmd", "stops-in-parts", victim].into_iter().chain(wake).collect();
        let ended = run(&mpirun, &words);
        assert_eq!(ended.output(), expected.output(), "{ended}");
        ended.times(1, &format!("rank {victim} @ has not answered for "));
    }
}

#[test]
fn a_rank_that_has_come_to_a_meeting_and_stops_is_not_waited_for_and_the_late_are_named() {
    let Some(mpirun) = launcher() else { return };
    for victim in ["0", "2"] {
        let ended = run(&mpirun, &["test-spmd", "stops-in-a-meeting", victim]);
        ended.says(&[&format!("rank {victim} @ has not answered rank ")]);
    }
    let ended = run(&mpirun, &["test-spmd", "stops-in-a-meeting", "nobody"]);
    assert_eq!(ended.code, Some(0), "{ended}");
    ended.times(1, "all_reduce waits for rank 3 @");
}

#[test]
fn a_worker_that_stops_for_a_moment_is_not_given_up() {
    let Some(mpirun) = launcher() else { return };
    let ended = run(&mpirun, &["test-spmd", "stops", "3", "1"]);
    assert_eq!(ended.output(), RESULT, "{ended}");
    ended.times(0, "has not answered");
}

#[test]
fn a_rank_that_does_something_else_between_two_calls_is_waited_for() {
    let Some(mpirun) = launcher() else { return };
    for late in ["0", "2"] {
        let ended = run(&mpirun, &["test-spmd", "enters-late", late]);
        assert_eq!(ended.output(), "499500 499500\n", "{ended}");
        ended.times(0, "has not answered");
    }
}

#[test]
fn a_worker_that_cannot_be_interrupted_is_waited_for_longer_than_silence_is_borne() {
    let Some(mpirun) = launcher() else { return };
    let ended = run(&mpirun, &["test-spmd", "dawdles", "2"]);
    assert_eq!(ended.output(), "7998000\n", "{ended}");
    ended.times(0, "has not answered");
}

#[test]
fn the_workers_of_a_master_that_stops_end_the_program() {
    let Some(mpirun) = launcher() else { return };
    let remedy = "RANKFOLD_PATIENCE=seconds bears longer silence";
    run(&mpirun, &["test-spmd", "stops", "0"]).says(&["rank 0 @ has not answered rank 1 @ for 3 s", remedy]);
}

#[test]
fn a_worker_that_stops_in_the_reduction_ends_the_program() {
    let Some(mpirun) = launcher() else { return };
    let ended = run(&mpirun, &["test-spmd", "stops-in-reduction", "2"]);
    ended.says(&["rank 2 @ has not answered rank 0 @ for 3 s", "this call cannot end without it"]);
}
