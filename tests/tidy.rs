//! The rules that no compiler knows: what may name what, and how long things may get.

use std::fs;
use std::path::{Path, PathBuf};

/// Files that must not know the clock, threads, files, MPI, unordered collections or chance.
const PURE: [&str; 38] = [
    "src/array/tree.rs",
    "src/shards/balance.rs",
    "src/extent.rs",
    "src/time.rs",
    "src/master/coverage.rs",
    "src/master/ledger.rs",
    "src/master/liveness.rs",
    "src/master/policy.rs",
    "src/master/regions.rs",
    "src/master/scheduler.rs",
    "src/master/scheduler/doubt.rs",
    "src/master/scheduler/drain.rs",
    "src/master/scheduler/index.rs",
    "src/master/scheduler/protocol.rs",
    "src/master/scheduler/quarantine.rs",
    "src/master/scheduler/tail.rs",
    "src/master/tasks.rs",
    "src/master/tasks/actors.rs",
    "src/master/tasks/demand.rs",
    "src/master/tasks/ends.rs",
    "src/master/tasks/handles.rs",
    "src/master/tasks/losses.rs",
    "src/master/tasks/placement.rs",
    "src/master/tasks/table.rs",
    "src/pool/tree.rs",
    "src/worker/agent.rs",
    "src/worker/backlog.rs",
    "src/worker/spill.rs",
    "src/reduce/segment.rs",
    "src/reduce/round.rs",
    "src/reduce/shuffle.rs",
    "src/journal/format.rs",
    "src/journal/recovery.rs",
    "src/journal/suspects.rs",
    "src/journal/values.rs",
    "src/graph/plan.rs",
    "src/graph/key.rs",
    "src/wire.rs",
];

const IMPURE: [&str; 12] = [
    "Instant",
    "SystemTime",
    "std::thread",
    "std::fs",
    "std::env",
    "std::io",
    "rayon::",
    "mpi::",
    "rand::",
    "HashMap",
    "HashSet",
    "crate::transport",
];

/// A word that only the files that begin with one of the names may contain.
const CONFINED: [(&str, &[&str]); 5] = [
    ("unsafe {", &["src/transport/mpi", "src/code.rs"]),
    ("ffi::", &["src/transport/mpi"]),
    ("bincode::", &["src/wire.rs"]),
    (
        "std::fs",
        &[
            "src/source/lines",
            "src/source/files",
            "src/source/compressed",
            "src/shards/write",
            "src/journal/storage",
            "src/launch.rs",
            "src/worker/usage.rs",
            "src/report/progress.rs",
            "src/worker/scratch.rs",
            "src/bin/rankfold",
        ],
    ),
    ("rayon::join", &["src/worker/compute.rs"]),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust files below a folder: their path from the root, and their text.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let name = path.strip_prefix(root()).unwrap_or(Path::new("?")).display().to_string();
                found.push((name, fs::read_to_string(&path).expect("a source file")));
            }
        }
    }
    found.sort();
    found
}

/// The part of a file before its tests, without comments.
fn code(text: &str) -> String {
    let end = text.find("#[cfg(test)]").unwrap_or(text.len());
    let lines = text[..end].lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn every_file_says_what_it_is_for_and_stays_short() {
    for folder in ["src", "examples", "tests", "benches"] {
        for (name, text) in sources(folder) {
            assert!(text.starts_with("//!"), "{name} does not begin with //!");
            let lines = text.lines().count();
            assert!(lines <= 600, "{name} has {lines} lines");
            assert!(code(&text).lines().count() <= 500, "{name} has more than 500 lines of code");
        }
    }
}

#[test]
fn the_pure_cores_know_nothing_of_the_world() {
    let sources = sources("src");
    for pure in PURE {
        let (_, text) = sources.iter().find(|(name, _)| name == pure).unwrap_or_else(|| panic!("{pure} is gone"));
        for word in IMPURE {
            assert!(!code(text).contains(word), "{pure} names {word}");
        }
    }
}

#[test]
fn what_is_confined_stays_where_it_belongs() {
    for (name, text) in sources("src") {
        if name.ends_with("tests.rs") {
            continue;
        }
        for (word, places) in CONFINED {
            let allowed = places.iter().any(|place| name.starts_with(place));
            assert!(allowed || !code(&text).contains(word), "{name} contains `{word}`, which belongs to {places:?}");
        }
    }
}

#[test]
fn functions_are_at_most_70_lines_long() {
    for (name, text) in sources("src").into_iter().chain(sources("examples")) {
        let mut begun: Option<(usize, usize, String)> = None;
        for (number, line) in text.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let head = line.trim_start();
            let is_function = head.split('(').next().is_some_and(|head| head.split(' ').any(|word| word == "fn"));
            if begun.is_none() && is_function && !head.starts_with("//") && !line.trim_end().ends_with(';') {
                begun = Some((number, indent, head.to_owned()));
            }
            let Some((start, column, function)) = &begun else { continue };
            if indent == *column && (head == "}" || (number == *start && head.ends_with('}'))) {
                let lines = number - start + 1;
                assert!(lines <= 70, "{name}: {function} has {lines} lines");
                begun = None;
            }
        }
    }
}

#[test]
fn the_tree_speaks_of_itself_alone() {
    for (name, text) in ["src", "examples", "tests", "benches"].into_iter().flat_map(sources) {
        for word in [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("TO", "DO"), concat!("FIX", "ME")] {
            assert!(!text.contains(word), "{name} contains {word}");
        }
    }
}
