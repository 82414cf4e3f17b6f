//! Journals of programs whose ranks are threads of one process: what goes on, what is refused, and in which words.

use std::fs;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

mod support;
use support::folder::Folder;
use support::journaled::{command, interrupted, play, undisturbed};
use support::{HANGS, run_alone, run_disturbed};

#[test]
fn a_run_that_ends_early_goes_on_where_it_was_on_any_number_of_ranks() {
    let folder = Folder::new("resumes");
    for ranks in ["3", "1", "5"] {
        let ended = interrupted(&folder, ranks, Signal::USR1);
        assert_eq!(ended.code, Some(75), "{ended}");
        ended.says(&["stopped before the end, because rank ", "got SIGUSR1; start the program again to finish it"]);
        ended.times(usize::from(ranks != "3"), "goes on from");
        assert_eq!(folder.files("/costs").len(), 1, "the next job knows how long batches should be");
    }
    let last = play(&folder, "4", &[], &["journaled", "6000"]);
    assert_eq!(last.output(), undisturbed("6000"), "{last}");
    let finished = play(&folder, "2", &[], &["journaled", "6000"]);
    assert_eq!(finished.output(), undisturbed("6000"), "{finished}");
    finished.times(1, "holds a run that is finished").times(0, "goes on from");
    // What there is already takes no time.
    let hurried = play(&folder, "2", &[("RANKFOLD_DEADLINE", "+1")], &["journaled", "6000"]);
    assert_eq!(hurried.output(), undisturbed("6000"), "{hurried}");
}

#[test]
fn a_run_ends_before_its_time_does() {
    let folder = Folder::new("deadline");
    let ended = play(&folder, "2", &[("RANKFOLD_DEADLINE", "+7")], &["journaled", "60000"]);
    assert_eq!(ended.code, Some(75), "{ended}");
    ended.says(&["stopped before the end, because the job's time ends in "]);
    assert!(ended.elapsed < Duration::from_secs(7), "{ended}");
    let senseless = play(&folder, "2", &[("RANKFOLD_DEADLINE", "tomorrow")], &["journaled", "60000"]);
    senseless.says(&["RANKFOLD_DEADLINE=tomorrow is no time"]);
}

#[test]
fn an_interval_that_is_no_number_is_refused_before_anything_is_computed() {
    let folder = Folder::new("interval");
    for senseless in ["often", "-1", "1e99", "NaN"] {
        let ended = play(&folder, "3", &[("RANKFOLD_JOURNAL_INTERVAL", senseless)], &["journaled", "60000"]);
        ended.says(&[
            &format!("RANKFOLD_JOURNAL_INTERVAL={senseless} is no length of time"),
            "unset RANKFOLD_JOURNAL_INTERVAL or give it seconds",
        ]);
        ended.times(1, "rankfold: error: ");
        assert!(!folder.0.exists(), "nothing was begun: {ended}");
    }
}

#[test]
fn other_arguments_another_program_and_other_calls_are_refused_with_the_difference() {
    let folder = Folder::new("refused");
    play(&folder, "2", &[], &["journaled-then-other", "10"]).output();
    play(&folder, "2", &[], &["journaled-then-other", "20"]).says(&[
        "it was begun with the arguments `journaled-then-other 10`, and these are `journaled-then-other 20`",
        "use a new folder",
    ]);
    let environment = [("RANKFOLD_JOURNAL", folder.path())];
    run_alone(&environment, &["test-plain", "journaled-then-other", "10"]).says(&[
        "it was begun by ",
        "test-spmd (",
        "and this program is ",
        "test-plain (",
        "RANKFOLD_FORCE_BUILD=1",
    ]);
    play(&folder, "2", &[("SHORTER", "1")], &["journaled-then-other", "10"]).says(&[
        "its call 4 was another one: the length of the input was length 11, and is length 10 now",
        "makes the same calls in each of its jobs",
    ]);
}

#[test]
fn a_folder_that_is_no_journal_is_left_alone() {
    let folder = Folder::new("foreign");
    fs::create_dir_all(&folder.0).unwrap();
    fs::write(folder.0.join("thesis.tex"), "precious").unwrap();
    play(&folder, "2", &[], &["journaled", "10"]).says(&["it is not empty, and no journal: it holds thesis.tex"]);
    assert_eq!(fs::read_to_string(folder.0.join("thesis.tex")).unwrap(), "precious");
    let file = Folder::new("file");
    fs::write(&file.0, "a file").unwrap();
    play(&file, "2", &[], &["journaled", "10"])
        .says(&["it cannot be made: ", "give a folder that rank 0 may write to"]);
    fs::remove_file(&file.0).unwrap();
}

#[test]
fn damage_is_refused_with_file_and_place_and_a_torn_end_is_computed_again() {
    let folder = Folder::new("damaged");
    interrupted(&folder, "3", Signal::USR1);
    let snapshot = folder.snapshots().pop().expect("a snapshot");
    let (name, whole) = (snapshot.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&snapshot).unwrap());
    let mut bytes = whole.clone();
    bytes[70] ^= 1;
    fs::write(&snapshot, &bytes).unwrap();
    play(&folder, "2", &[], &["journaled", "6000"]).says(&[
        &name,
        "its record at byte 64 is damaged: checksum",
        "move that file away",
    ]);
    bytes[70] ^= 1;
    bytes[8] = 9;
    fs::write(&snapshot, &bytes).unwrap();
    play(&folder, "2", &[], &["journaled", "6000"]).says(&[
        &name,
        "it has format version 9, and this program reads version 1",
        "go on with the build that wrote it",
    ]);
    fs::write(&snapshot, &whole[..whole.len() - 3]).unwrap();
    let ended = play(&folder, "2", &[], &["journaled", "6000"]);
    assert_eq!(ended.output(), undisturbed("6000"), "{ended}");
    ended.times(1, &format!("{name} ends after {} of {} bytes", whole.len() - 3, whole.len()));
}

#[test]
fn a_journal_that_is_deleted_or_full_costs_the_snapshots_and_not_the_result() {
    let folder = Folder::new("deleted");
    let (mut program, mut deleted) = (command(&folder, "2"), false);
    program.args(["journaled", "4000"]);
    let ended = run_disturbed(program, HANGS, |_| {
        // What is written meanwhile is in the way of a removal.
        deleted = deleted || !folder.snapshots().is_empty() && fs::remove_dir_all(&folder.0).is_ok();
    });
    assert!(deleted, "{ended}");
    assert_eq!(ended.output(), undisturbed("4000"), "{ended}");
    // Whichever comes first: a snapshot, a result, or the next call.
    assert!(ended.stderr.contains("No such file or directory"), "{ended}");
    let Some(full) = SmallDisk::mount("full", "size=24k") else { return };
    let ended = play(&full.0, "2", &[], &["journaled", "4000"]);
    assert_eq!(ended.output(), undisturbed("4000"), "{ended}");
    assert!(ended.stderr.contains("No space left on device"), "{ended}");
}

#[test]
fn a_folder_that_cannot_be_written_is_refused_at_once() {
    let Some(disk) = SmallDisk::mount("read-only", "ro") else { return };
    play(&disk.0, "2", &[], &["journaled", "4000"]).says(&["it cannot be made: Read-only file system"]);
}

#[test]
fn partials_that_cannot_be_written_are_told_once_and_the_result_is_right() {
    let folder = Folder::new("unwritable");
    let ended = play(&folder, "1", &[], &["unwritable"]);
    assert_eq!(ended.output(), "124750\n", "{ended}");
    ended.times(1, "a snapshot is not written: ").times(1, "the result of secret is not recorded");
}

#[test]
fn of_two_jobs_on_one_journal_exactly_one_goes_on() {
    let folder = Folder::new("two");
    let (one, two) = std::thread::scope(|scope| {
        let start = || scope.spawn(|| play(&folder, "2", &[], &["journaled", "40000"]));
        let (one, two) = (start(), start());
        (one.join().unwrap(), two.join().unwrap())
    });
    let (winner, loser) = if one.code == Some(0) { (one, two) } else { (two, one) };
    assert_eq!(winner.output(), undisturbed("40000"), "{winner}");
    assert_eq!(loser.code, Some(1), "{loser}");
    assert!(loser.stderr.contains("works on it; wait until that job has ended"), "{loser}");
}

#[test]
fn the_journal_of_a_job_that_was_killed_is_taken_over_at_once() {
    let folder = Folder::new("killed");
    interrupted(&folder, "3", Signal::KILL);
    let ended = play(&folder, "2", &[], &["journaled", "6000"]);
    assert_eq!(ended.output(), undisturbed("6000"), "{ended}");
    ended.times(1, "has ended without giving").times(1, "goes on from");
}

#[test]
fn a_run_that_is_asked_to_end_does_and_loses_nothing() {
    for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT")] {
        let folder = Folder::new(name);
        let ended = interrupted(&folder, "2", signal);
        assert_eq!(ended.code, Some(75), "{ended}");
        ended.says(&[&format!("got {name}")]);
        let again = play(&folder, "2", &[], &["journaled", "6000"]);
        assert_eq!(again.output(), undisturbed("6000"), "{again}");
        again.times(1, "goes on from");
    }
}

/// A file system of its own, where the tests may make one.
struct SmallDisk(Folder);

impl SmallDisk {
    fn mount(name: &str, options: &str) -> Option<Self> {
        let folder = Folder::new(name);
        fs::create_dir_all(&folder.0).unwrap();
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", options, "none"]).arg(&folder.0).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        eprintln!("NOT TESTED: no file system can be mounted here, as {name} would need");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0.0).status();
    }
}
