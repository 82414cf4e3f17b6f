//! Graphs with a journal on ranks that are threads of one process: what comes back, what runs again, and what is refused.

use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rankfold::journal::inspect;
use rankfold::{Graph, Result, World};
use rustix::process::Signal;

mod support;
use support::folder::Folder;
use support::{HANGS, program, run_alone, run_disturbed};

#[path = "support/pools.rs"]
mod pools;
use pools::{big, shifted, total, with};

/// A graph of four steps, and those of them that ran.
static STEPS: Mutex<Vec<String>> = Mutex::new(Vec::new());
/// One test at a time counts them.
static COUNTING: Mutex<()> = Mutex::new(());

fn step(name: String, before: &[u64], by: u64) -> Vec<u64> {
    STEPS.lock().unwrap().push(name);
    shifted(before, by)
}

/// Runs it with these arguments in a world of its own; gives the value, or the error, and what ran.
fn steps(folder: &Folder, ranks: usize, by: [u64; 4], keeps_going: bool) -> (Result<u64>, Vec<String>) {
    let _counting = COUNTING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut graph = Graph::new();
    graph.journal(&folder.0);
    let mut last = graph.add(big, (1,)).unwrap();
    for (name, by) in ["a", "b", "c", "d"].into_iter().zip(by) {
        // Those without a name in between run again whenever somebody needs them.
        let unnamed = graph.add(|values: &[u64]| values.to_vec(), (&last,)).unwrap();
        let function = |name: String, before: &[u64], by: u64| {
            assert!(by < 1000, "too much for {name}");
            step(name, before, by)
        };
        last = graph.named(name).add(function, (name.to_owned(), &unnamed, by)).unwrap();
    }
    let sum = graph.add(total, (&last,)).unwrap();
    STEPS.lock().unwrap().clear();
    let value = with(ranks, |pool| {
        if keeps_going { graph.keep_going().run(pool, &sum).and_then(|value| value) } else { graph.run(pool, &sum) }
    });
    (value, std::mem::take(&mut *STEPS.lock().unwrap()))
}

#[test]
fn named_values_come_back_unless_something_that_they_depend_on_has_changed() {
    let folder = Folder::new("graph-journal");
    let (first, ran) = steps(&folder, 2, [1, 2, 3, 4], false);
    assert_eq!(ran, ["a", "b", "c", "d"]);
    let (again, ran) = steps(&folder, 3, [1, 2, 3, 4], false);
    assert!(ran.is_empty() && again.unwrap() == *first.as_ref().unwrap(), "{ran:?}");
    // A change in the middle; and back.
    let (changed, ran) = steps(&folder, 1, [1, 2, 30, 4], false);
    assert!(ran == ["c", "d"] && changed.unwrap() != *first.as_ref().unwrap(), "{ran:?}");
    let (back, ran) = steps(&folder, 2, [1, 2, 3, 4], true);
    assert!(ran.is_empty() && back.unwrap() == first.unwrap(), "{ran:?}");
    let names: Vec<String> = inspect(&folder.0).unwrap().nodes.into_iter().map(|node| node.name).collect();
    assert_eq!(names, ["a", "b", "c", "c", "d", "d"]);
    assert!(inspect(&folder.0).unwrap().is_finished);
}

#[test]
fn a_node_that_fails_is_not_recorded_and_the_run_is_not_finished() {
    for keeps_going in [false, true] {
        let folder = Folder::new("graph-journal-fails");
        let (failed, ran) = steps(&folder, 2, [1, 2, 1003, 4], keeps_going);
        let error = failed.unwrap_err().to_string();
        assert!(ran == ["a", "b"] && error.contains("too much for c"), "{ran:?}, {error}");
        assert!(!inspect(&folder.0).unwrap().is_finished);
        let (mended, ran) = steps(&folder, 2, [1, 2, 3, 4], keeps_going);
        assert!(ran == ["c", "d"] && mended.is_ok(), "{ran:?}");
        assert!(inspect(&folder.0).unwrap().is_finished);
    }
}

#[test]
fn damage_in_recorded_values_is_refused_with_file_and_place() {
    let folder = Folder::new("graph-journal-damaged");
    steps(&folder, 2, [1, 2, 3, 4], false).0.unwrap();
    let file = folder.files("/nodes/").pop().unwrap();
    let whole = std::fs::read(&file).unwrap();
    let mut bytes = whole.clone();
    bytes[200] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let error = steps(&folder, 2, [1, 2, 3, 4], false).0.unwrap_err().to_string();
    let words = ["nodes/0001-0000: its value at byte 112 is damaged: checksum ", "move that file away"];
    assert!(words.iter().all(|words| error.contains(words)), "{error}");
    assert_eq!(inspect(&folder.0).unwrap().node_files[0].segments, 0);
    // The end of what was being written when the power went.
    std::fs::write(&file, &whole[..whole.len() * 5 / 8]).unwrap();
    let (value, ran) = steps(&folder, 2, [1, 2, 3, 4], false);
    assert!(value.is_ok() && ran == ["c", "d"], "{ran:?}");
}

#[test]
fn a_graph_and_calls_of_one_program_share_a_journal() {
    let folder = Folder::new("graph-journal-shared");
    for _ in 0..2 {
        let world = World::local(2).unwrap();
        let sum = world.over(0..1000u64).journal(&folder.0).map_reduce(|n| n, |a, b| a + b).unwrap();
        let mut graph = Graph::new();
        let node = graph.journal(&folder.0).named("seven").add(|n: u64| n, (7,)).unwrap();
        assert_eq!(world.pool(|pool| graph.run(pool, &node)).unwrap().unwrap().unwrap(), 7);
        assert_eq!(world.over(0..10u64).journal(&folder.0).map_reduce(|n| n, |a, b| a + b).unwrap() + sum, 499_545);
    }
    let inspection = inspect(&folder.0).unwrap();
    assert_eq!((inspection.calls.len(), inspection.nodes.len(), inspection.jobs.len()), (2, 1, 2));
}

#[test]
fn a_signal_ends_a_graph_early_and_what_was_under_way_is_recorded() {
    let (folder, tally) = (Folder::new("graph-signal"), Folder::new("graph-signal-tally"));
    std::fs::create_dir_all(&tally.0).unwrap();
    let command = || {
        let mut command = Command::new(program("test-spmd"));
        command.args(["graph-journaled", "4000"]).env("RANKFOLD_RANKS", "3").env("RANKFOLD_JOURNAL", &folder.0);
        command.env("TALLY", &tally.0);
        command
    };
    let mut sent = false;
    let ended = run_disturbed(command(), HANGS, |process| {
        if !sent && !folder.files("/nodes/").is_empty() {
            sent = true;
            rustix::process::kill_process(process, Signal::USR1).expect("it runs");
        }
    });
    assert_eq!(ended.code, Some(75), "{ended}");
    ended.says(&[
        "graph: stopped before the end, because rank 0 ",
        " got SIGUSR1; start the program again to finish it",
    ]);
    let told =
        |tally: &Folder| tally.files("").iter().map(|file| std::fs::read_to_string(file).unwrap()).collect::<String>();
    let begun = told(&tally).lines().count();
    assert!(
        (1..80).contains(&begun) && inspect(&folder.0).unwrap().nodes.len() == begun,
        "{begun} have begun: {ended}"
    );
    run_disturbed(command(), HANGS, |_| {}).output();
    assert_eq!(told(&tally).lines().count(), 80, "each has run once");
}

#[test]
fn a_program_that_runs_out_of_time_goes_on_in_the_next_job_and_other_arguments_are_refused() {
    let folder = Folder::new("graph-deadline");
    let environment =
        |deadline| [("RANKFOLD_RANKS", "2"), ("RANKFOLD_JOURNAL", folder.path()), ("RANKFOLD_DEADLINE", deadline)];
    let scenario = ["test-spmd", "graph-journaled", "5000"];
    let ended = run_alone(&environment("+6.5"), &scenario);
    assert_eq!(ended.code, Some(75), "{ended}");
    ended.says(&[
        "graph: stopped before the end, because the job's time ends in ",
        "start the program again to finish it",
    ]);
    let recorded = inspect(&folder.0).unwrap().nodes.len();
    assert!((1..80).contains(&recorded), "{recorded}");
    run_alone(&environment("none"), &["test-spmd", "graph-journaled", "10"]).says(&["it was begun with the arguments"]);
    let ended = run_alone(&environment("none"), &scenario);
    assert_eq!(ended.output(), run_alone(&[], &["test-spmd", "graph-journaled", "10"]).output());
    let restored = ended.stderr.split(" from the journal").next().unwrap().rsplit(' ').next().unwrap();
    assert!(restored.parse::<usize>().is_ok_and(|restored| (1..=recorded).contains(&restored)), "{ended}");
}

#[test]
fn a_run_whose_journal_goes_away_goes_on_without() {
    let folder = Folder::new("graph-journal-gone");
    let mut graph = Graph::new();
    let first = graph.journal(&folder.0).named("first").add(|n: u64| n, (1,)).unwrap();
    let remove = |n: &u64, folder: String| {
        // Something may be written there at this moment.
        while std::fs::remove_dir_all(&folder).is_err_and(|error| error.kind() != std::io::ErrorKind::NotFound) {}
        n + 1
    };
    let mut last = graph.named("remove").add(remove, (&first, folder.path().to_owned())).unwrap();
    for step in 0..20 {
        let slow = |n: &u64| {
            std::thread::sleep(Duration::from_millis(5));
            n + 1
        };
        last = graph.named(&format!("step {step}")).add(slow, (&last,)).unwrap();
    }
    assert_eq!(with(2, |pool| graph.run(pool, &last)).unwrap(), 22);
    assert!(folder.files("").iter().all(|file| !file.ends_with("run")), "no journal was begun anew in the middle");
}
