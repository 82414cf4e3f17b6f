//! A rank that leaves while others wait for it ends the job, and is named.

use crate::support::launcher;

/// What ranks say about one that has left.
const REMEDY: &str = "every rank must make the same calls";

#[test]
fn a_rank_that_returns_early_is_named_once() {
    let Some(mpirun) = launcher() else { return };
    for program in ["test-spmd", "test-plain"] {
        for leaver in ["0", "1", "3"] {
            let who = format!("energy: rank {leaver} @ left the program after 1 call");
            mpirun.run(4, &[program, "returns", leaver]).says(&[&who, REMEDY]).times(1, "left the program");
        }
    }
}

#[test]
fn a_rank_that_returns_an_error_is_named_with_its_error() {
    let Some(mpirun) = launcher() else { return };
    for program in ["test-spmd", "test-plain"] {
        for leaver in ["0", "1"] {
            let ended = mpirun.run(4, &[program, "fails", leaver]);
            ended.says(&["alone: the input is empty"]).times(1, "alone: the input is empty");
        }
    }
}

#[test]
fn a_rank_that_exits_ends_all_ranks() {
    let Some(mpirun) = launcher() else { return };
    for (scenario, exit, code) in [("exits", "exit(0)", 1), ("exits-with-3", "exit(3)", 3)] {
        for leaver in ["0", "1"] {
            let who = format!("rank {leaver} @ called {exit} in the middle of the program");
            let ended = mpirun.run(4, &["test-spmd", scenario, leaver]);
            ended.says(&[&who, "return from main on every rank"]).times(1, "called exit(");
            assert_eq!(ended.code, Some(code), "{ended}");
        }
    }
}

#[test]
fn a_rank_that_panics_outside_of_a_call_ends_all_ranks() {
    let Some(mpirun) = launcher() else { return };
    for program in ["test-spmd", "test-plain"] {
        for leaver in ["0", "1"] {
            let ended = mpirun.run(4, &[program, "panics", leaver]);
            ended.says(&["out of luck", "departures.rs:"]).times(1, "out of luck");
        }
    }
    mpirun.run(2, &["test-spmd", "panics-in-thread", "1"]).says(&["out of luck"]);
}

#[test]
fn a_rank_that_is_killed_ends_all_ranks() {
    let Some(mpirun) = launcher() else { return };
    for leaver in ["0", "1"] {
        mpirun.run(4, &["test-spmd", "is-killed", leaver]).says(&[]);
    }
}

#[test]
fn a_rank_that_makes_more_or_fewer_calls_is_found_out() {
    let Some(mpirun) = launcher() else { return };
    for program in ["test-spmd", "test-plain"] {
        let ended = mpirun.run(4, &[program, "one-call-fewer"]);
        ended.says(&["energy: rank 1 @ left the program after 2 calls", REMEDY]).times(1, "left the program");
        let ended = mpirun.run(4, &[program, "one-call-more"]);
        ended.says(&["left the program after 2 calls, while rank 1 @ waits in call 3", REMEDY]);
        ended.times(1, "left the program");
    }
}
