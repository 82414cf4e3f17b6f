//! The command `rankfold`, run as a person runs it.
#![cfg(feature = "cli")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_rankfold"))
}

/// Runs it with arguments that are separated by spaces.
fn rankfold(arguments: &str) -> Ended {
    let output = command().args(arguments.split(' ')).output().expect("the command starts");
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("it is text"));
    Ended { code: output.status.code(), stdout, stderr }
}

/// What it prints where nothing is wrong.
fn says(arguments: &str) -> String {
    let Ended { code, stdout, stderr } = rankfold(arguments);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{arguments}\n{stdout}");
    stdout
}

/// An error on standard error alone, which contains some words, and exit code 2.
fn refuses(arguments: &str, words: &str) {
    let Ended { code, stdout, stderr } = rankfold(arguments);
    assert_eq!((code, stdout.as_str()), (Some(2), ""), "{arguments}\n{stderr}");
    assert!(stderr.starts_with("error: ") && stderr.contains(words), "{arguments}\n{stderr}");
}

/// The seconds of the line that begins with a word: `makespan    12.6 s`.
fn seconds_of(word: &str, text: &str) -> f64 {
    let line = text.lines().find(|line| line.starts_with(word)).unwrap_or_else(|| panic!("no {word} in\n{text}"));
    let mut words = line.split_whitespace().skip(1);
    let (number, unit) = (words.next().unwrap_or("?"), words.next());
    assert_eq!(unit, Some("s"), "{text}");
    number.parse().expect("a number")
}

fn file(name: &str, text: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("command-{}-{name}", std::process::id()));
    fs::write(&path, text).expect("the folder for tests can be written to");
    path
}

#[test]
fn a_job_takes_about_as_long_as_its_work() {
    // 100 s of work on eight ranks.
    let text = says("simulate --items 1e5 --cost 1ms --ranks 8");
    assert!((12.5..13.5).contains(&seconds_of("makespan", &text)), "{text}");
    for words in ["100,000 items of 1 ms", "8 × 1 thread", "of the ideal, which takes 12.5 s"] {
        assert!(text.contains(words), "{text}");
    }
    let late = says("simulate --items 1e5 --cost 1ms --ranks 8 --start 10s");
    assert!((22.5..23.5).contains(&seconds_of("makespan", &late)), "{late}");
}

#[test]
fn the_same_seed_draws_the_same_costs() {
    let with = |seed| says(&format!("simulate --items 1e4 --cost 1ms --spread pareto --ranks 4 --seed {seed}"));
    assert_eq!(with(3), with(3));
    assert_ne!(with(3), with(4));
}

#[test]
fn a_list_of_ranks_gives_a_row_each() {
    let text = says("simulate --items 1e5 --cost 1ms --ranks 1,8,64");
    let rows: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("ranks")).collect();
    assert_eq!(rows.len(), 4, "{text}");
    for (row, ranks) in rows[1..].iter().zip(["1", "8", "64"]) {
        assert_eq!(row.split_whitespace().next(), Some(ranks), "{text}");
        assert_eq!(row.len(), rows[0].len(), "{text}");
    }
}

#[test]
fn the_jobs_that_it_takes_are_counted() {
    // 12.5 s of which no batch takes more than half a second, in jobs of 5 s.
    let text = says("simulate --items 1e5 --cost 1ms --ranks 8 --wall 5s");
    assert!(text.contains("3 of 0:00:05 each, with a journal"), "{text}");
    let text = says("simulate --items 1e5 --cost 1ms --ranks 8 --wall 0:01:00");
    assert!(text.contains("1 of 0:01:00") && !text.contains("journal"), "{text}");
    let text = says("simulate --items 1e5 --cost 1ms --ranks 8,64 --wall 5s");
    assert!(text.contains("jobs of 0:00:05"), "{text}");
}

#[test]
fn other_schemes_are_set_beside_it() {
    let text = says("simulate --items 1e4 --cost 1ms --spread ramp-up --ranks 8 --compare");
    for scheme in ["Rankfold ", "static partition ", "best chunk: ", ", ahead: ", "guided ", "factoring "] {
        assert_eq!(text.lines().filter(|line| line.contains(scheme)).count(), 1, "{scheme} in\n{text}");
    }
    let text = says("simulate --items 1e4 --cost 1ms --spread ramp-up --ranks 2,8 --compare");
    assert_eq!(text.lines().filter(|line| line.contains("guided")).count(), 2, "{text}");
}

#[test]
fn a_trace_gives_the_costs() {
    let trace = file("trace", "1e-3\n\n2e-3\n3e-3\n");
    let trace = trace.display();
    let text = says(&format!("simulate --trace {trace}"));
    assert!(text.contains("3 items of 2 ms on average"), "{text}");
    let text = says(&format!("simulate --trace {trace} --items 3e3"));
    assert!(text.contains("3,000 items of 2 ms") && text.contains("each stands for 1,000"), "{text}");
    refuses(&format!("simulate --trace {trace} --items 2"), "has the costs of 3");
    refuses(&format!("simulate --trace {trace} --cost 1s"), "cannot be used with");
}

#[test]
fn nonsense_is_refused_with_a_reason() {
    refuses("simulate", "--items");
    refuses("simulate --items 10", "--cost");
    refuses("simulate --items 0 --cost 1s", "at least 1");
    refuses("simulate --items 1.5 --cost 1s", "not a whole number");
    refuses("simulate --items 10 --cost=-1s", "less than no time");
    refuses("simulate --items 10 --cost 0s", "some time");
    refuses("simulate --items 10 --cost 3weeks", "not a length of time");
    refuses("simulate --items 10 --cost 1s --ranks 0", "at least 1");
    refuses("simulate --items 10 --cost 1s --ranks 8,,9", "not a whole number");
    refuses("simulate --items 10 --cost 1s --threads 0", "at least 1");
    refuses("simulate --items 10 --cost 1s --spread flat", "lognormal");
    refuses("simulate --items 10 --cost 1s --wall 90", "minutes or seconds?");
    refuses("simulate --items 1e15 --cost 1h", "is a unit wrong?");
    refuses("simulate --trace /nowhere/at/all", "cannot read /nowhere/at/all");
    refuses(&format!("simulate --trace {}", file("empty", "\n").display()), "is empty");
    refuses(&format!("simulate --trace {}", file("words", "1\n2\nthree\n").display()), "line 3: `three`");
    refuses(&format!("simulate --trace {}", file("negative", "1\n-2\n").display()), "line 2: `-2`");
    refuses(&format!("simulate --trace {}", file("zeros", "0\n0\n").display()), "nothing to plan");
}

#[test]
fn a_job_that_cannot_end_a_batch_is_refused() {
    let Ended { code, stderr, .. } = rankfold("simulate --items 10 --cost 1m --wall 30s");
    assert!(code == Some(2) && stderr.contains("0:00:30 is too short"), "{stderr}");
}

#[test]
fn one_faulty_run_is_described_before_it_is_judged() {
    let text = says("simulate --faults --seed 7");
    assert!(
        text.starts_with("seed 7: ") && text.trim_end().lines().last().unwrap().starts_with("as it should: "),
        "{text}"
    );
    assert_eq!(text, says("simulate --faults --seed 7"));
}

#[test]
fn a_range_of_faulty_runs_is_counted() {
    let Ended { code, stdout, .. } = rankfold("simulate --faults --seeds 0..200");
    assert_eq!(code, Some(0), "{stdout}");
    assert!(stdout.starts_with("200 faulty runs in "), "{stdout}");
    let counts = stdout.lines().skip(1).map(|line| line.split_whitespace().next().unwrap().parse::<u64>().unwrap());
    assert_eq!(counts.sum::<u64>(), 200, "{stdout}");
}

#[test]
fn faults_say_what_they_need() {
    refuses("simulate --faults", "--seed N, --seeds A..B and --soak");
    refuses("simulate --faults --seeds 5..5", "no seed in it");
    refuses("simulate --faults --seeds 0..9 --seed 3", "cannot be used with");
    refuses("simulate --faults --seed 3 --ranks 9", "cannot be used with");
    refuses("simulate --seeds 0..9", "--faults");
    refuses("simulate --faults --seed 3 --from 9", "--soak");
    refuses("simulate --faults --soak --keep /nowhere/at/all", "cannot write /nowhere/at/all");
}

#[test]
fn a_soak_goes_on_until_it_is_interrupted() {
    let keep = file("failing-seeds", "");
    let mut soak = command()
        .args(["simulate", "--faults", "--soak", "--from", "1e6", "--keep"])
        .arg(&keep)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let mut lines = BufReader::new(soak.stderr.take().expect("it is piped")).lines().map(|line| line.expect("text"));
    let (first, progress) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    // As Ctrl-C; but what a shell has started in the background ignores that.
    kill_process(Pid::from_child(&soak), Signal::TERM).expect("it still runs");
    let output = soak.wait_with_output().expect("it ends");
    assert!(first.contains("from seed 1000000") && first.contains("Ctrl-C"), "{first}");
    assert!(progress.contains(" a second: ") && progress.ends_with("violations 0"), "{progress}");
    assert_eq!((output.status.code(), output.stdout), (None, Vec::new()), "it ends by the signal");
    assert_eq!(fs::read_to_string(&keep).expect("it is there"), "", "seeds that fail");
}
