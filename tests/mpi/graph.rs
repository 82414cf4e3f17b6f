//! Graphs on real ranks: the same values everywhere, errors that name the node, and journals of ranks that are killed.

use std::collections::BTreeSet;
use std::fs;

use rustix::process::{Signal, kill_process};

use crate::journal::{disturbed, job_with_a_kill, wanted};
use crate::results::same_everywhere;
use crate::support::folder::Folder;
use crate::support::{Ended, Launcher, launcher, run_alone};

/// Ranks that are killed in `make test`, with each MPI and each program; `RANKFOLD_KILLS` asks for more.
const KILLS: u64 = 6;

#[test]
fn graphs_give_on_any_number_of_ranks_what_they_give_without_a_pool() {
    let output = same_everywhere(&["test-spmd", "graph"]);
    assert!(output.contains("70 nodes: 6 that nobody needs, "), "{output}");
    let report = same_everywhere(&["report_graph", "--orders", "3000"]);
    assert!(report.contains("north, largest order ") && report.ends_with(" of 12000 rows make sense\n"), "{report}");
    assert!(same_everywhere(&["report_graph", "--dot"]).starts_with("digraph {\n"));
    let alone = same_everywhere(&["report_graph", "--orders", "3000", "--region", "east"]);
    assert!(report.contains(&alone), "{alone}");
}

#[test]
fn a_node_that_panics_is_named_with_its_rank_and_the_program_fails_once() {
    let Some(mpirun) = launcher() else { return };
    for ranks in [1, 3, 8] {
        let ended = mpirun.run(ranks, &["test-spmd", "graph-fails"]);
        ended.says(&["the bad node: the task panicked on rank ", "too many"]).times(1, "too many");
    }
}

/// Kills ranks of a run until it is through; nothing that is recorded runs again. Gives the last job, and the kills.
fn killed_until_through(mpirun: &Launcher, name: &str, words: &[&str], tally: &Folder, seed: u64) -> (Ended, u64) {
    let dice = &mut rankfold::rng(20_261_124, seed);
    let (folder, mut kills) = (Folder::new(name), 0);
    for job in 1..60 {
        let inspected = rankfold::journal::inspect(&folder.0).map(|journal| journal.nodes).unwrap_or_default();
        let recorded: BTreeSet<String> = inspected.into_iter().map(|node| node.name).collect();
        tally.files("").iter().for_each(|file| fs::remove_file(file).expect("a file of ours"));
        let (ended, killed) = job_with_a_kill(mpirun, &folder, words, &[("TALLY", tally.path())], dice);
        kills += u64::from(killed);
        let told = tally.files("").iter().map(|file| fs::read_to_string(file).expect("text")).collect::<String>();
        let again: Vec<&str> = told.lines().filter(|name| recorded.contains(*name)).collect();
        assert!(again.is_empty(), "{name}, job {job}: {again:?} have run again though recorded: {ended}");
        if ended.code == Some(0) {
            return (ended, kills);
        }
        assert!(killed, "{name}, job {job} failed though nothing was killed: {ended}");
    }
    panic!("{name}: no end");
}

#[test]
fn ranks_of_a_graph_are_killed_until_it_is_through_and_nothing_that_is_recorded_runs_again() {
    let Some(mpirun) = launcher() else { return };
    let tally = Folder::new("graph-tally");
    fs::create_dir_all(&tally.0).expect("a folder of ours");
    let words = ["test-spmd", "graph-journaled", "1500"];
    let expected = run_alone(&[], &words).output().to_owned();
    let (mut kills, mut runs) = (0, 0);
    while kills < wanted(KILLS) {
        let (ended, killed) = killed_until_through(&mpirun, &format!("graph-kills-{runs}"), &words, &tally, runs);
        assert_eq!(ended.output(), expected, "run {runs}: {ended}");
        (kills, runs) = (kills + killed, runs + 1);
    }
    eprintln!("{kills} ranks killed in {runs} runs of a graph, all of which came to the right result");
}

#[test]
fn ranks_of_a_task_farm_are_killed_until_it_is_through_and_no_command_that_is_done_runs_again() {
    let Some(mpirun) = launcher() else { return };
    let tally = Folder::new("farm-tally");
    let commands = Folder::new("farm-commands");
    for folder in [&tally, &commands] {
        fs::create_dir_all(&folder.0).expect("a folder of ours");
    }
    // Each tells that it runs by its own text, which is what its node is called.
    let text: String = (0..80)
        .map(|n| {
            format!(
                "command='{n}'; tail -n +{} {}/all | head -n 1 >> {}/told; sleep 0.{}; echo out $command\n",
                n + 1,
                commands.path(),
                tally.path(),
                n % 3
            )
        })
        .collect();
    let file = commands.0.join("all");
    fs::write(&file, text).expect("a folder of ours");
    let words = ["taskfarm", file.to_str().expect("a path of ours")];
    let expected = (0..80).map(|n| format!("out {n}\n")).collect::<String>();
    let (mut kills, mut runs) = (0, 0);
    while kills < wanted(KILLS) {
        let (ended, killed) = killed_until_through(&mpirun, &format!("farm-kills-{runs}"), &words, &tally, 1000 + runs);
        assert_eq!(ended.output(), expected, "run {runs}: {ended}");
        (kills, runs) = (kills + killed, runs + 1);
    }
    eprintln!("{kills} ranks killed in {runs} runs of a task farm, all of which came to the right result");
}

#[test]
fn a_signal_through_the_launcher_ends_a_graph_early_and_the_next_job_goes_on() {
    let Some(mpirun) = launcher() else { return };
    let folder = Folder::new("graph-usr1");
    let words = ["test-spmd", "graph-journaled", "6000"];
    for ranks in [3, 2] {
        let before = folder.files("/nodes/").len();
        let (ended, _) = disturbed(&mpirun, &folder, ranks, &words, &[], |launcher| {
            folder.files("/nodes/").len() > before && kill_process(launcher, Signal::USR1).is_ok()
        });
        // The ranks that serve end with 0. MPICH's mpirun may lose rank 0's code then if it was sent a signal itself,
        // whatever the program is.
        let is_told = ended.code == Some(75) || (ended.code == Some(0) && !mpirun.is_openmpi());
        assert!(is_told && ended.stdout.is_empty(), "{ended}");
        ended.times(1, "graph: stopped before the end, because rank 0 @ got SIGUSR1");
    }
    let (ended, _) = disturbed(&mpirun, &folder, 4, &words, &[], |_| true);
    assert_eq!(ended.output(), run_alone(&[], &["test-spmd", "graph-journaled", "10"]).output(), "{ended}");
}
