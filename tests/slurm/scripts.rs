//! The job scripts that people start from, each as it is but for its size, beside a run that needs several jobs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::cluster::{Cluster, is_openmpi, source};
use crate::items;
use crate::support::{program, run_alone};

/// Slurm's shortest limit is a minute; this takes nearly two on four ranks.
const LONG: &str = "440000";
const SHORT: &str = "12000";

/// A program that takes the arguments of `montecarlo_pi` and does what `test-spmd journaled` does.
fn stand_in(cluster: &Cluster) -> PathBuf {
    let path = cluster.folder.0.join("stand-in");
    let text = format!("#!/bin/sh\nexec env -u TALLY {} journaled {SHORT} \"$@\"\n", program("test-spmd").display());
    fs::write(&path, text).expect("a folder of ours");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a file of ours");
    path
}

/// The template, with its gaps filled in as a person would.
fn submit_template(cluster: &Cluster) -> String {
    let text = fs::read_to_string(source("slurm/template.sbatch")).expect("it is there");
    let rankfold = env!("CARGO_MANIFEST_DIR");
    let pi = program("montecarlo_pi");
    let mut text = text.replace("<program> <arguments>", &format!("{} --samples 2e7", pi.display()));
    for (gap, filled) in [("<name>", "filled_in"), ("<partition>", "main"), ("<account>", "physics")] {
        text = text.replace(gap, filled);
    }
    text = text.replace("<folder of rankfold>", rankfold);
    if !is_openmpi() {
        text = text.replace("--mpi=pmix", "--mpi=pmi2");
    }
    let path = cluster.folder.0.join("filled_in.sbatch");
    fs::write(&path, text).expect("a folder of ours");
    let journal = cluster.folder.0.join("runs/template");
    let options = "--nodes=2 --ntasks-per-node=2 --cpus-per-task=1";
    cluster.ask(&format!("JOURNAL={} sbatch --parsable {options} {}", journal.display(), path.display()))
}

/// Ends a job early as soon as it has something on the disk; Slurm is asked for the batch script's process alone.
fn interrupt(cluster: &Cluster, id: &str, journal: &str) {
    let has_snapshot =
        |it: &Cluster| it.folder.snapshots().iter().any(|file| file.display().to_string().contains(journal));
    cluster.await_that("a snapshot", has_snapshot);
    cluster.ask(&format!("scancel --batch --signal=USR1 {id}"));
}

/// It needed no other job, and printed what the program prints without Slurm; `command` is how to run that.
fn gives_what_a_plain_run_gives(cluster: &Cluster, id: &str, command: &[&str]) {
    let job = cluster.await_end(id);
    assert!(job.state == "COMPLETED" && job.restarts == 0, "{job:?}");
    let plain = run_alone(&[], command);
    assert_eq!(job.output.matches(plain.output()).count(), 1, "{plain}\n{}", job.output);
}

#[test]
fn every_job_script_does_what_it_should_beside_a_run_that_needs_several_jobs_and_loses_nothing() {
    let Some(cluster) = Cluster::up("scripts", 6) else { return };
    // With Open MPI alone: it takes minutes, and has nothing to do with the kind of MPI.
    let long = is_openmpi().then(|| cluster.submit(LONG, "--nodes=2 --ntasks-per-node=2 --time=00:01:00"));
    let stand_in = format!("PROGRAM={}", stand_in(&cluster).display());
    let array = cluster.submit_script("job_array", &stand_in, "--array=1-2 --cpus-per-task=1", "");
    let unlike = cluster.submit_script("heterogeneous", &stand_in, "", "");
    interrupt(&cluster, &format!("{array}_2"), "/job_array-2/");
    interrupt(&cluster, &unlike, "/heterogeneous/");

    let pi = format!("SAMPLES=2e7 PROGRAM={}", program("montecarlo_pi").display());
    let words = format!("PROGRAM={}", program("word_count").display());
    let text = source("README.md").display().to_string();
    let first = cluster.submit_script("montecarlo_pi", &pi, "", "");
    let many = cluster.submit_script("many_nodes", &pi, "--nodes=2 --cpus-per-task=2", "");
    let word_count = cluster.submit_script("word_count", &words, "--ntasks-per-node=2", &text);
    let template = submit_template(&cluster);
    let plain_pi = ["montecarlo_pi", "--samples", "2e7"];
    for id in [first, many, template] {
        gives_what_a_plain_run_gives(&cluster, &id, &plain_pi);
    }
    gives_what_a_plain_run_gives(&cluster, &word_count, &["word_count", "--top", "20", &text]);
    // Of an array, the task that was interrupted is queued again, and no other.
    cluster.await_end(&format!("{array}_1")).completed(SHORT, 0..=0);
    cluster.await_end(&format!("{array}_2")).completed(SHORT, 1..=1);
    cluster.await_end(&unlike).completed(SHORT, 1..=1);

    let Some(long) = long else { return };
    let job = cluster.await_end(&long);
    job.completed(LONG, 2..=4);
    assert_eq!(cluster.folder.files("/run/jobs/0").len() as u64, job.restarts + 1, "each job has a number of its own");
    let ended_early = job.output.matches("because the job's time ends in ").count() as u64;
    assert_eq!(ended_early, job.restarts, "each but the last ends before its time: {}", job.output);
    assert!(!job.output.contains("DUE TO TIME LIMIT"), "{}", job.output);
    assert_eq!(cluster.redone(items(LONG)), 0, "a job that ends early loses nothing");
}
