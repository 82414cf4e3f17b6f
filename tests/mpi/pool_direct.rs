//! Values that programs put on ranks themselves, on real ranks.

use crate::results::{Folder, same_everywhere};
use crate::support::{launcher, run_alone};

#[test]
fn what_is_put_on_ranks_gives_the_same_values_on_any_number_of_them() {
    let output = same_everywhere(&["test-spmd", "pool-direct"]);
    assert!(output.contains("[1024, 3486784401]"), "{output}");
}

#[test]
fn broadcasts_of_all_sizes_up_to_64_mib_arrive_whole_on_every_rank() {
    same_everywhere(&["test-spmd", "pool-broadcasts"]);
}

#[test]
fn a_rank_that_stops_in_a_broadcast_is_done_without() {
    let Some(mpirun) = launcher() else { return };
    let patience = [("RANKFOLD_PATIENCE", "3")];
    let mut outputs = std::collections::BTreeSet::new();
    for (ranks, delay) in [(4, "0"), (8, "0"), (4, "30"), (8, "100")] {
        let ended = mpirun.run_parts(&[(ranks, &patience, &["test-spmd", "pool-broadcast-stops", delay])]);
        outputs.insert(ended.output().to_owned());
        ended.times(1, "rank 2 @ has not answered for ");
    }
    let ended = mpirun.run_parts(&[(4, &patience, &["test-spmd", "pool-broadcast-stops", "0", "6"])]);
    outputs.insert(ended.output().to_owned());
    ended.times(1, "rank 2 @ has not answered for ");
    assert!(
        outputs.len() == 1 && outputs.iter().all(|output| output.starts_with("all have it\n499500\n499500\n499500\n"))
    );
}

#[test]
fn a_pool_ends_although_a_rank_has_stopped_in_a_broadcast() {
    let Some(mpirun) = launcher() else { return };
    for ranks in [3, 8] {
        let patience = [("RANKFOLD_PATIENCE", "3")];
        let ended = mpirun.run_parts(&[(ranks, &patience, &["test-spmd", "pool-broadcast-ends"])]);
        assert_eq!(ended.output(), "over\n", "{ended}");
        ended.times(1, "rank 2 @ has not answered for ");
    }
}

#[test]
fn a_rank_that_stops_for_a_moment_in_a_broadcast_is_waited_for() {
    let Some(mpirun) = launcher() else { return };
    let patience = [("RANKFOLD_PATIENCE", "10")];
    let ended = mpirun.run_parts(&[(4, &patience, &["test-spmd", "pool-broadcast-stops", "0", "2"])]);
    ended.output();
    ended.times(0, "has not answered");
}

#[test]
fn tasks_that_follow_each_other_do_not_move_what_they_work_on() {
    let output = same_everywhere(&["test-spmd", "pool-chain"]);
    assert!(output.ends_with("values moved: 0\n"), "{output}");
}

#[test]
fn values_that_do_not_fit_in_memory_are_as_right_as_others_and_leave_nothing_behind() {
    let Some(mpirun) = launcher() else { return };
    let (folder, command) = (Folder::new("spills-on-mpi"), ["test-spmd", "pool-spills"]);
    let path = folder.path();
    let short = [("RANKFOLD_MEMORY", "2MiB"), ("RANKFOLD_SCRATCH", path.as_str())];
    let expected = run_alone(&[], &command);
    for ranks in [1, 2, 3, 4, 8] {
        let ended = mpirun.run_parts(&[(ranks, &short, &command)]);
        assert_eq!(ended.output(), expected.output(), "{ended}");
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0, "{ended}");
    }
}
