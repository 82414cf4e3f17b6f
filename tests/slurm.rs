//! Jobs on a real Slurm, on a cluster of this machine's own: ranks die, time runs out, nodes go, and the run completes.
#![cfg(feature = "mpi")]

#[path = "slurm/cluster.rs"]
mod cluster;
#[path = "slurm/scripts.rs"]
mod scripts;
mod support;

use cluster::{Cluster, INTERVAL, cluster_script, is_tried_with_another_mpi};
use support::program;

/// The number of items in all three calls of the program.
fn items(millis: &str) -> u64 {
    3 * (2 * millis.parse::<u64>().expect("a number") / 3)
}

#[test]
fn a_job_of_which_a_rank_is_killed_is_queued_again_by_itself_and_goes_on() {
    let Some(cluster) = Cluster::up("killed", 2) else { return };
    let millis = "40000";
    let id = cluster.submit(millis, "--nodes=2 --ntasks-per-node=2");
    cluster.await_snapshot(&[]);
    cluster.await_that("rank 2", |cluster| {
        let Some(pid) = cluster.rank(2).and_then(rustix::process::Pid::from_raw) else { return false };
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).is_ok()
    });
    let job = cluster.await_end(&id);
    job.completed(millis, 1..=1);
    // Four ranks of one thread, half a millisecond an item; snapshots take their time on a busy machine.
    let (redone, interval) = (cluster.redone(items(millis)), (2.0 * INTERVAL / 0.0005) as u64);
    eprintln!("{} jobs, {redone} of {} items were computed twice", job.restarts + 1, items(millis));
    assert!(redone <= 4 * interval, "{redone} items were computed again, more than {interval} a rank");
}

#[test]
fn a_signal_from_scancel_or_to_the_shell_ends_the_job_early_and_it_goes_on() {
    let Some(cluster) = Cluster::up("signal", 2) else { return };
    let millis = "60000";
    let id = cluster.submit(millis, "--nodes=2 --ntasks-per-node=2");
    let mut before = Vec::new();
    for command in ["scancel --signal=TERM", "scancel --batch --signal=USR1"] {
        cluster.await_snapshot(&before);
        before = cluster.folder.snapshots();
        cluster.ask(&format!("{command} {id}"));
        let restarts = cluster.field(&id, "Restarts");
        cluster.await_that("the restart", |it| it.field(&id, "Restarts") > restarts);
    }
    cluster.await_end(&id).completed(millis, 2..=2);
    assert_eq!(cluster.redone(items(millis)), 0, "a job that ends early loses nothing");
}

#[test]
fn a_job_of_which_a_node_dies_is_queued_again_and_goes_on_without_it() {
    if is_tried_with_another_mpi() {
        return;
    }
    let Some(cluster) = Cluster::up("node", 3) else { return };
    if !cluster.nodes_are_apart() {
        eprintln!("NOT TESTED: that a node dies, which takes the rights to give each node a name of its own");
        return;
    }
    let millis = "60000";
    let id = cluster.submit(millis, "--nodes=2 --ntasks-per-node=2");
    cluster.await_snapshot(&[]);
    cluster_script(&["kill", cluster.folder.path(), "n2"]);
    cluster.await_end(&id).completed(millis, 1..=3);
}

#[test]
fn a_job_that_is_cancelled_is_not_queued_again_and_its_journal_serves_the_next_one() {
    let Some(cluster) = Cluster::up("cancelled", 2) else { return };
    let (millis, options) = ("20000", "--nodes=2 --ntasks-per-node=2");
    let id = cluster.submit(millis, options);
    cluster.await_snapshot(&[]);
    cluster.ask(&format!("scancel {id}"));
    cluster.await_silence();
    let cancelled = cluster.await_end(&id);
    assert!(cancelled.state == "CANCELLED" && cancelled.restarts == 0, "{cancelled:?}");
    assert!(!cluster.folder.snapshots().is_empty(), "{cancelled:?}");
    let next = cluster.await_end(&cluster.submit(millis, options));
    next.completed(millis, 0..=0);
    assert!(next.output.contains("goes on from"), "{}", next.output);
}

#[test]
fn a_job_that_fails_by_itself_is_not_tried_again_however_its_ranks_end() {
    let Some(cluster) = Cluster::up("fails", 2) else { return };
    let alone = "--nodes=1 --ntasks-per-node=1 --output=%j.out";
    let arguments = format!("PROGRAM={} SAMPLES=many", program("montecarlo_pi").display());
    let mut jobs = vec![("SAMPLES", cluster.submit_script("montecarlo_pi", &arguments, alone, ""), "code 1")];
    // An error on all ranks; on one, which ends the others; and a panic outside of calls.
    for (scenario, reason) in [
        ("mapper-panics-on-item", "energy: the mapper panicked on rank "),
        ("own-error", "no such galaxy"),
        ("panics", if cluster.nodes_are_apart() { "rank 1 (n2) panicked" } else { "rank 1 (" }),
    ] {
        let journal = cluster.folder.0.join(scenario);
        let options = format!("--nodes=2 --ntasks-per-node=1 --export=ALL,JOURNAL={}", journal.display());
        jobs.push((scenario, cluster.submit_scenario(scenario, "1", &options), reason));
    }
    for (scenario, id, reason) in jobs {
        let job = cluster.await_end(&id);
        assert!(job.state == "FAILED" && job.restarts == 0, "{scenario}: {job:?}");
        let said = job.output.lines().find(|line| line.contains("it is not tried again")).unwrap_or_default();
        assert!(said.contains(reason), "{scenario}, {reason}: {}", job.output);
        eprintln!("{scenario}: {said}");
    }
}
