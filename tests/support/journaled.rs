//! The test program that keeps a journal, on ranks that are threads of one process.

use std::process::Command;

use rustix::process::Signal;

use super::folder::Folder;
use super::{Ended, HANGS, program, run, run_alone, run_disturbed};

pub fn command(folder: &Folder, ranks: &str) -> Command {
    let mut command = Command::new(program("test-spmd"));
    command.env("RANKFOLD_RANKS", ranks).env("RANKFOLD_JOURNAL", &folder.0).env("RANKFOLD_JOURNAL_INTERVAL", "0.05");
    command
}

pub fn play(folder: &Folder, ranks: &str, environment: &[(&str, &str)], scenario: &[&str]) -> Ended {
    let mut program = command(folder, ranks);
    program.args(scenario).envs(environment.iter().copied());
    run(program, HANGS)
}

/// What the program prints when nothing happens to it.
pub fn undisturbed(millis: &str) -> String {
    run_alone(&[], &["test-spmd", "journaled", millis]).output().to_owned()
}

/// Plays it until there is a snapshot, and sends it a signal then.
pub fn interrupted(folder: &Folder, ranks: &str, signal: Signal) -> Ended {
    let mut program = command(folder, ranks);
    program.args(["journaled", "6000"]);
    let (before, mut sent) = (folder.snapshots(), false);
    let ended = run_disturbed(program, HANGS, |process| {
        // A snapshot of this job: its signals are watched for, and it has something to lose.
        if !sent && folder.snapshots().iter().any(|file| !before.contains(file)) {
            sent = true;
            rustix::process::kill_process(process, signal).expect("it runs");
        }
    });
    assert!(sent, "it ended before there was a snapshot: {ended}");
    ended
}
