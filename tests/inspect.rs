//! `rankfold inspect`, run as a person runs it, on the journals of runs that are through, interrupted, killed and damaged.
#![cfg(feature = "cli")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

mod support;
use support::folder::Folder;
use support::journaled::{interrupted, play};

/// Exit code, standard output and standard error.
fn inspect(folder: &Folder, options: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rankfold"));
    let output = command.arg("inspect").arg(&folder.0).args(options).output().expect("the command starts");
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("it is text"));
    (output.status.code(), stdout, stderr)
}

/// What it prints where nothing is wrong with the command.
fn says(folder: &Folder, options: &[&str]) -> String {
    let (code, stdout, stderr) = inspect(folder, options);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    stdout
}

fn json(folder: &Folder) -> Value {
    serde_json::from_str(&says(folder, &["--json"])).expect("it is JSON")
}

/// An error on standard error alone, and exit code 2.
fn refuses(folder: &Folder, words: &str) {
    for options in [&[][..], &["--json"], &["--verify"]] {
        let (code, stdout, stderr) = inspect(folder, options);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{stderr}");
        let start = format!("error: journal {}: ", folder.path());
        assert!(stderr.starts_with(&start) && stderr.contains(words), "{words}: {stderr}");
    }
}

/// `--verify` finds this and nothing else; what else the command prints names it, too.
fn finds(folder: &Folder, complaint: &str) {
    let (code, stdout, stderr) = inspect(folder, &["--verify"]);
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(1), format!("{complaint}\n").as_str(), ""));
    assert!(says(folder, &[]).ends_with(&format!("\nnot sound:\n{complaint}\n")), "{complaint}");
    assert_eq!(inspect(folder, &["--json", "--verify"]).0, Some(1), "{complaint}");
}

/// Items that are done, of the first call.
fn done(inspection: &Value) -> u64 {
    inspection["calls"][0]["done"].as_u64().expect("a number")
}

#[test]
fn named_nodes_of_graphs_are_counted_and_their_files_verified() {
    let folder = Folder::new("inspect-nodes");
    play(&folder, "3", &[], &["graph-journaled", "10"]).output();
    let text = says(&folder, &[]);
    assert!(text.contains("\ngraphs    the values of 80 named nodes are recorded, "), "{text}");
    let found = json(&folder);
    assert!(found["nodes"][0]["name"] == "part 0" && found["nodes"][0]["job"] == 1, "{}", found["nodes"][0]);
    assert_eq!(says(&folder, &["--verify"]), "2 files, all sound\n");
    let file = folder.files("/nodes/").pop().expect("a file of values");
    let whole = fs::read(&file).expect("a file of ours");
    let mut bytes = whole.clone();
    bytes[70] ^= 1;
    fs::write(&file, bytes).expect("a file of ours");
    let (code, stdout, _) = inspect(&folder, &["--verify"]);
    assert_eq!(code, Some(1));
    assert!(stdout.starts_with("nodes/0001-0000: its record at byte 64 is damaged: checksum "), "{stdout}");
    fs::write(&file, &whole[..whole.len() - 50]).expect("a file of ours");
    let (code, stdout, _) = inspect(&folder, &["--verify"]);
    assert!(code == Some(1) && stdout.ends_with("; 79 values of it count\n"), "{stdout}");
}

fn contents(folder: &Folder) -> Vec<(PathBuf, Vec<u8>)> {
    folder.files("").into_iter().map(|file| (file.clone(), fs::read(file).expect("a file of ours"))).collect()
}

/// A snapshot of the folder: its name in the journal, and its path.
fn snapshot(folder: &Folder) -> (String, PathBuf) {
    let path = folder.snapshots().pop().expect("a snapshot");
    (path.strip_prefix(&folder.0).expect("it is in the folder").display().to_string(), path)
}

#[test]
fn a_run_that_was_interrupted_is_told_in_text_and_as_json_and_not_touched() {
    let folder = Folder::new("inspect-interrupted");
    interrupted(&folder, "3", Signal::USR1);
    let before = contents(&folder);
    let (text, inspection) = (says(&folder, &[]), json(&folder));
    for words in [
        "test-spmd (",
        "         journaled 6000\n",
        "state    not finished: start the program again to go on\n",
        "job 1     3 ranks on ",
        "call 1    sum (map_reduce): ",
        " % of 4000 items done, in ",
        "          missing: ",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_eq!(inspection["is_finished"], false);
    assert_eq!((&inspection["owner"], &inspection["arguments"][0]), (&Value::Null, &"journaled".into()));
    assert_eq!((&inspection["jobs"][0]["ranks"], inspection["jobs"].as_array().map(Vec::len)), (&3.into(), Some(1)));
    let call = &inspection["calls"][0];
    let missing = call["missing"].as_array().expect("a list").iter();
    let missing: u64 = missing.map(|range| range[1].as_u64().unwrap() - range[0].as_u64().unwrap()).sum();
    assert!(missing > 0 && done(&inspection) > 0 && done(&inspection) + missing == 4000, "{call}");
    let files = call["files"].as_array().expect("a list");
    assert!(!files.is_empty() && files.iter().all(|file| file["job"] == 1 && file["damage"].is_null()), "{call}");
    assert_eq!(says(&folder, &["--verify"]), format!("{} files, all sound\n", files.len() + 2));
    assert_eq!(contents(&folder), before, "it changes nothing");
}

#[test]
fn a_run_that_is_through_is_finished_and_has_its_results() {
    let folder = Folder::new("inspect-sealed");
    play(&folder, "2", &[], &["journaled", "10"]).output();
    let (text, inspection) = (says(&folder, &[]), json(&folder));
    assert!(text.contains("state    finished\n"), "{text}");
    assert!(text.contains("call 2    list (map): done, 6 items; its result is recorded\n"), "{text}");
    assert!(!text.contains("missing"), "{text}");
    assert_eq!(inspection["is_finished"], true);
    let calls = inspection["calls"].as_array().expect("a list");
    assert!(calls.len() == 3 && calls.iter().all(|call| call["has_result"] == true && call["done"] == 6), "{calls:?}");
    assert_eq!(says(&folder, &["--verify"]), "7 files, all sound\n");
}

#[test]
fn the_owner_of_a_run_that_was_killed_is_named() {
    let folder = Folder::new("inspect-killed");
    let ended = interrupted(&folder, "2", Signal::KILL);
    let (text, inspection) = (says(&folder, &[]), json(&folder));
    assert!(text.contains(" works on it, or has ended without giving it free\n"), "{text}\n{ended}");
    let process = inspection["jobs"][0]["process"].to_string();
    assert!(inspection["owner"].as_str().is_some_and(|owner| owner.contains(&process)), "{inspection}");
}

#[test]
fn a_file_that_is_damaged_or_ends_early_is_named_and_what_it_holds_is_not_done() {
    let folder = Folder::new("inspect-damaged");
    interrupted(&folder, "3", Signal::USR1);
    let ((name, path), all) = (snapshot(&folder), done(&json(&folder)));
    let whole = fs::read(&path).unwrap();
    let mut bytes = whole.clone();
    bytes[70] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let damage = json(&folder)["calls"][0]["files"].as_array().unwrap().iter().find_map(|file| {
        assert_eq!(file["damage"].is_null(), file["name"] != name.as_str(), "{file}");
        file["damage"].as_str().map(str::to_owned)
    });
    let damage = damage.expect("one is damaged");
    assert!(damage.starts_with("its record at byte 64 is damaged: checksum "), "{damage}");
    finds(&folder, &format!("{name}: {damage}"));
    assert!(done(&json(&folder)) < all);
    fs::write(&path, &whole[..whole.len() - 3]).unwrap();
    let segments = json(&folder)["calls"][0]["files"].as_array().unwrap().last().unwrap()["segments"].clone();
    let (found, length) = (whole.len() - 3, whole.len());
    finds(&folder, &format!("{name}: it ends after {found} of {length} bytes; {segments} whole segments of it count"));
    fs::write(&path, &whole).unwrap();
    assert_eq!(done(&json(&folder)), all);
}

#[test]
fn a_call_whose_description_is_damaged_is_not_left_out() {
    let folder = Folder::new("inspect-description");
    play(&folder, "2", &[], &["journaled", "10"]).output();
    let (name, path) = ("calls/000002/call", folder.0.join("calls/000002/call"));
    let whole = fs::read(&path).unwrap();
    let mut bytes = whole.clone();
    bytes[20] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let damage = json(&folder)["calls"][1]["files"][0]["damage"].as_str().expect("damage").to_owned();
    assert!(damage.starts_with("its header at byte 0 is damaged: checksum "), "{damage}");
    finds(&folder, &format!("{name}: {damage}"));
    assert!(says(&folder, &[]).contains("call 2    which one it is cannot be read\n"));
    fs::write(&path, &whole[..30]).unwrap();
    finds(&folder, &format!("{name}: it ends after 30 of 64 bytes; 0 whole segments of it count"));
}

#[test]
fn a_snapshot_of_another_run_is_not_taken_for_one_of_this() {
    let (folder, other) = (Folder::new("inspect-mixed"), Folder::new("inspect-other"));
    interrupted(&folder, "2", Signal::USR1);
    interrupted(&other, "2", Signal::USR1);
    let ((name, path), (_, stranger)) = (snapshot(&folder), snapshot(&other));
    fs::copy(stranger, path).unwrap();
    finds(&folder, &format!("{name}: it belongs to another run or call"));
}

#[test]
fn a_folder_that_is_no_journal_is_refused() {
    let folder = Folder::new("inspect-foreign");
    refuses(&folder, "it holds no file `run`; name the folder of a journal");
    fs::create_dir(&folder.0).unwrap();
    fs::write(folder.0.join("thesis.tex"), "precious").unwrap();
    refuses(&folder, "it holds no file `run`; name the folder of a journal");
    fs::write(folder.0.join("run"), "not one of ours").unwrap();
    refuses(&folder, "run: it does not begin like a file of a journal");
    let file = Folder(folder.0.join("thesis.tex"));
    refuses(&file, "it cannot be read: Not a directory");
}

#[test]
fn the_file_of_the_run_is_checked_as_well() {
    let folder = Folder::new("inspect-run");
    play(&folder, "1", &[], &["journaled", "10"]).output();
    let path = folder.0.join("run");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().expect("it is not empty") ^= 1;
    fs::write(&path, bytes).unwrap();
    refuses(&folder, "run: its value at byte 96 is damaged: checksum ");
}
