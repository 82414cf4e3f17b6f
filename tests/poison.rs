//! Items that end the process which computes them, again and again: they are found, and everything else is done.

use std::fs;
use std::process::Command;

mod support;
use support::folder::Folder;
use support::poison::{expected, until_it_ends_by_itself};
use support::{Ended, program, run};

fn play(folder: &Folder, ranks: usize, environment: &[(&str, &str)], arguments: &[&str]) -> Ended {
    let mut command = Command::new(program("test-spmd"));
    command.args(arguments).env("RANKFOLD_RANKS", ranks.to_string());
    command.env("RANKFOLD_JOURNAL", &folder.0).env("RANKFOLD_JOURNAL_INTERVAL", "0.05");
    command.envs(environment.iter().copied());
    run(command, support::HANGS)
}

#[test]
fn an_item_that_ends_its_rank_is_named_when_all_others_are_done_and_can_be_skipped() {
    let folder = Folder::new("poison");
    let poison = [("POISON", "text:37")];
    let (ended, jobs) = until_it_ends_by_itself(1, |job| play(&folder, 1 + job % 3, &poison, &["poisoned"]));
    assert!(jobs >= 6, "it was found after {jobs} jobs, which is luck: {ended}");
    ended.says(&[
        "text: whoever computes item 37 is ended by it",
        "all other leaves are done, and are in the journal",
        "RANKFOLD_SKIP_POISONED=1",
    ]);
    assert_eq!(ended.code, Some(1), "{ended}");
    let again = play(&folder, 2, &poison, &["poisoned"]);
    again.says(&["text: whoever computes item 37 is ended by it"]);

    let environment = [("POISON", "text:37"), ("RANKFOLD_SKIP_POISONED", "1")];
    let skipped = play(&folder, 3, &environment, &["poisoned"]);
    assert_eq!(skipped.output(), expected(&[37], &[], &[], &["item 37"]), "{skipped}");
    skipped.times(1, "text: the result is without item 37, with which jobs have crashed");
    let once_more = play(&folder, 2, &poison, &["poisoned"]);
    once_more.says(&["text: whoever computes item 37 is ended by it"]);

    // Mended, or acquitted by hand: what was left out is computed now, and not missing without a word.
    let mended = rebuilt(&folder);
    let mut command = Command::new(&mended);
    command.arg("poisoned").env("RANKFOLD_RANKS", "2").env("RANKFOLD_FORCE_BUILD", "1");
    command.env("RANKFOLD_JOURNAL", &folder.0);
    let ended = run(command, support::HANGS);
    fs::remove_file(mended).unwrap();
    assert_eq!(ended.output(), expected(&[], &[], &[], &[]), "{ended}");
    ended.times(1, "holds what was computed without some items; it is computed again");
}

/// Another build of the program.
fn rebuilt(folder: &Folder) -> std::path::PathBuf {
    let path = folder.0.with_extension("rebuilt");
    fs::copy(program("test-spmd"), &path).unwrap();
    let mut file = fs::File::options().append(true).open(&path).unwrap();
    std::io::Write::write_all(&mut file, b"\0").unwrap();
    path
}

#[test]
fn who_removes_the_file_of_suspects_gets_the_items_back() {
    let folder = Folder::new("acquitted");
    let environment = [("POISON", "text:5"), ("RANKFOLD_SKIP_POISONED", "1")];
    let (ended, _) = until_it_ends_by_itself(1, |_| play(&folder, 2, &environment, &["poisoned"]));
    assert_eq!(ended.output(), expected(&[5], &[], &[], &["item 5"]), "{ended}");
    folder.files("/suspects").into_iter().for_each(|file| fs::remove_file(file).unwrap());
    let again = play(&folder, 2, &[], &["poisoned"]);
    assert_eq!(again.output(), expected(&[], &[], &[], &[]), "{again}");
}

#[test]
fn an_item_that_outlasts_the_time_of_its_job_is_not_to_blame() {
    let folder = Folder::new("slow");
    let killed = play(&folder, 2, &[("POISON", "text:0")], &["poisoned"]);
    assert_eq!(killed.code, None, "marks are made after a crash: {killed}");
    let environment = [("SLOW", "text:37"), ("RANKFOLD_DEADLINE", "+7")];
    let ended = play(&folder, 2, &environment, &["poisoned"]);
    assert_eq!(ended.code, Some(75), "{ended}");
    let pages = folder.files("/m0");
    let lengths: Vec<u64> = pages.iter().map(|page| fs::metadata(page).unwrap().len()).collect();
    assert_eq!(lengths, [64, 64], "pages without a mark: {pages:?}");
    assert!(!rankfold::journal::inspect(&folder.0).unwrap().jobs[1].has_crashed, "it gave the journal free");
}

#[test]
fn a_start_with_wrong_arguments_does_not_forget_a_crash() {
    let folder = Folder::new("mistyped");
    play(&folder, 2, &[("POISON", "text:0")], &["poisoned"]);
    play(&folder, 2, &[], &["poisoned-skipped"]).says(&["it was begun with the arguments `poisoned`"]);
    assert!(rankfold::journal::inspect(&folder.0).unwrap().jobs[0].has_crashed);
}

#[test]
fn several_items_in_several_calls_are_skipped_and_named() {
    let folder = Folder::new("poisons");
    let poison = [("POISON", "text:3,text:5,list:99,batches:0")];
    let (ended, _) = until_it_ends_by_itself(4, |job| play(&folder, 1 + job % 4, &poison, &["poisoned-skipped"]));
    let left_out = ["item 3", "item 5", "item 99"];
    assert_eq!(ended.output(), expected(&[3, 5], &[99], &[0, 1], &left_out), "{ended}");
    ended.times(1, "batches: the result is without items 0 to 1 (from item 0 on)");
}

#[test]
fn a_line_that_ends_its_rank_is_named_with_its_file() {
    let folder = Folder::new("poison-lines");
    let file = std::env::temp_dir().join(format!("rankfold-test-poison-{}.txt", std::process::id()));
    fs::write(&file, (0..400).map(|number| format!("{number}\n")).collect::<String>()).unwrap();
    let arguments = ["poisoned-lines", file.to_str().unwrap()];
    let poison = [("POISON", "lines:123")];
    let (ended, _) = until_it_ends_by_itself(1, |job| play(&folder, 1 + job % 3, &poison, &arguments));
    ended.says(&["lines: whoever computes ", file.to_str().unwrap(), "is ended by it"]);
    let skipped = play(&folder, 2, &[("POISON", "lines:123"), ("RANKFOLD_SKIP_POISONED", "1")], &arguments);
    let rest: String = (0..400).filter(|number| *number != 123).map(|number| format!("{number} ")).collect();
    assert_eq!(skipped.output(), format!("{rest}\n"), "{skipped}");
    fs::remove_file(file).unwrap();
}
