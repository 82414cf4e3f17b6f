//! `rankfold simulate --faults`: one faulty run again, a range of them, or as many as there is time for.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{panic, thread};

use clap::Args;
use rankfold::simulate::{Verdict, Violation, describe_trial, task_trial, trial};
use rayon::iter::{ParallelBridge, ParallelIterator};

use crate::numbers::{grouped, time, whole};
use crate::print;

#[derive(Args)]
#[command(next_help_heading = "Faults")]
pub struct Faults {
    /// Faulty runs: ranks die, sleep and come late, mappers panic. Needs --seed N, --seeds A..B or --soak
    #[arg(long, conflicts_with_all = ["Plan", "Cluster"])]
    faults: bool,
    /// All faulty runs from seed A to before seed B, on all cores
    #[arg(long, value_name = "A..B", value_parser = range, requires = "faults", conflicts_with_all = ["seed", "soak"])]
    seeds: Option<Range<u64>>,
    /// One faulty run after the other, on all cores, until Ctrl-C
    #[arg(long, requires = "faults", conflicts_with = "seed")]
    soak: bool,
    /// The first seed of a soak
    #[arg(long, value_name = "N", value_parser = whole)]
    from: Option<u64>,
    /// Where a soak adds a line for each seed that fails
    #[arg(long, value_name = "FILE", requires = "soak", default_value = "failing-seeds.txt")]
    keep: PathBuf,
}

/// What is to be run.
pub enum What {
    Once(u64),
    Sweep(Range<u64>),
    Soak { from: u64, keep: PathBuf },
}

/// What came of runs.
#[derive(Default)]
struct Tally {
    verdicts: BTreeMap<Verdict, u64>,
    violations: u64,
}

impl Faults {
    /// Nothing if no faults are wanted, and an error if it is not said which.
    pub fn what(&self, seed: Option<u64>) -> Option<Result<What, &'static str>> {
        let Self { faults: true, seeds, soak, from, keep } = self else { return None };
        Some(match (seed, seeds) {
            _ if from.is_some() && !soak => Err("--from is where a --soak begins"),
            _ if *soak => Ok(What::Soak { from: from.unwrap_or(0), keep: keep.clone() }),
            (_, Some(seeds)) => Ok(What::Sweep(seeds.clone())),
            (Some(seed), None) => Ok(What::Once(seed)),
            (None, None) => Err("--faults needs one of --seed N, --seeds A..B and --soak"),
        })
    }
}

/// Runs it. The exit code says whether everything ended as it should.
pub fn run(what: &What) -> Result<ExitCode, Box<dyn Error>> {
    let all_well = match what {
        What::Once(seed) => once(*seed)?,
        What::Sweep(seeds) => sweep(seeds.clone())?,
        What::Soak { from, keep } => soak(*from, keep)?,
    };
    Ok(ExitCode::from(u8::from(!all_well)))
}

/// What the run is like comes first: then it is there to be read even if the run never ends.
fn once(seed: u64) -> Result<bool, Box<dyn Error>> {
    print(&format!("{}\n\n", describe_trial(seed)))?;
    take_note_of_panics(true);
    let verdict = judged(seed, both);
    print(&match &verdict {
        Ok(verdict) => format!("as it should: {}\n", words(*verdict)),
        Err(violation) => format!("VIOLATION: {violation}\n"),
    })?;
    Ok(verdict.is_ok())
}

fn sweep(seeds: Range<u64>) -> Result<bool, Box<dyn Error>> {
    take_note_of_panics(false);
    let (begun, violations) = (Instant::now(), Mutex::new(Vec::new()));
    let tally = run_all(seeds, &|violation| locked(&violations).push(violation));
    let mut violations = violations.into_inner().unwrap_or_else(PoisonError::into_inner);
    violations.sort_by_key(|violation| violation.seed);

    let mut text = format!("{}:\n", tally.speed(begun));
    for (verdict, count) in &tally.verdicts {
        writeln!(text, "{:>12}  {}", grouped(*count), words(*verdict))?;
    }
    writeln!(text, "{:>12}  violations", grouped(tally.violations))?;
    for violation in &violations {
        write!(text, "\n{violation}\n")?;
    }
    print(&text)?;
    Ok(violations.is_empty())
}

fn soak(from: u64, keep: &Path) -> Result<bool, Box<dyn Error>> {
    take_note_of_panics(false);
    // Opened before the first run: whoever comes back in the morning should not read that there was nowhere to write.
    let file = File::options().append(true).create(true).open(keep);
    let file = Mutex::new(file.map_err(|error| format!("cannot write {}: {error}", keep.display()))?);
    eprintln!("soaking from seed {from} until Ctrl-C; seeds that fail are kept in {}", keep.display());
    let tally = run_all(from..u64::MAX, &|violation| {
        let line = format!("{}: {}\n", violation.seed, one_line(&violation.what));
        if let Err(error) = locked(&file).write_all(line.as_bytes()) {
            eprintln!("cannot write {}: {error}", keep.display());
        }
        // It is in the file, or has been complained about: a standard output that is gone is no reason to end.
        let _ = print(&format!("{violation}\n"));
    });
    Ok(tally.violations == 0)
}

/// Runs all seeds on all cores, in about their order, and says now and then how far it is.
fn run_all(seeds: Range<u64>, on_violation: &(dyn Fn(Violation) + Sync)) -> Tally {
    let tally = Mutex::new(Tally::default());
    let (running, over) = channel::<()>();
    thread::scope(|scope| {
        let tally = &tally;
        scope.spawn(move || report(tally, &over));
        seeds.par_bridge().for_each(|seed| match judged(seed, both) {
            Ok(verdict) => *locked(tally).verdicts.entry(verdict).or_default() += 1,
            Err(violation) => {
                locked(tally).violations += 1;
                on_violation(violation);
            }
        });
        drop(running);
    });
    tally.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// A line after the first two seconds, to show that it lives, and then every ten, until the runs are over.
fn report(tally: &Mutex<Tally>, over: &Receiver<()>) {
    let (begun, mut pause) = (Instant::now(), Duration::from_secs(2));
    while over.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
        let line = locked(tally).line(begun);
        eprintln!("{line}");
        pause = Duration::from_secs(10);
    }
}

impl Tally {
    fn runs(&self) -> u64 {
        self.violations + self.verdicts.values().sum::<u64>()
    }

    fn speed(&self, begun: Instant) -> String {
        let (runs, seconds) = (self.runs(), begun.elapsed().as_secs_f64());
        let speed = grouped((runs as f64 / seconds.max(1e-3)) as u64);
        format!("{} faulty runs in {}, {speed} a second", grouped(runs), time(seconds))
    }

    fn line(&self, begun: Instant) -> String {
        let verdicts = self.verdicts.iter().map(|(verdict, count)| format!("{verdict:?} {}, ", grouped(*count)));
        format!("{}: {}violations {}", self.speed(begun), verdicts.collect::<String>(), self.violations)
    }
}

fn words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Result => "the right result",
        Verdict::ResultWithoutLost => "the right result, without ranks that were lost",
        Verdict::Error => "an error: a mapper panicked more often than retries allow",
        Verdict::Interrupted => "an early end, as the run was told; what was done is kept",
        Verdict::RankGone => "an error: rank 0 is gone, or a rank that was not missed before the reduction",
    }
}

// --- panics ----------------------------------------------------------------------------------------------------------

thread_local! {
    /// What the run on this thread has panicked with; nothing outside of runs.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Panics inside runs are findings, which are told in one place, not in the middle of everything. `aloud`: there, too,
/// and with a backtrace where `RUST_BACKTRACE` asks for one.
fn take_note_of_panics(aloud: bool) {
    let otherwise = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let inside = PANIC.with_borrow_mut(|noted| noted.as_mut().map(|noted| *noted = panic.to_string()).is_some());
        if aloud || !inside {
            otherwise(panic);
        }
    }));
}

/// The call of a seed, and its pool, of which there is one kind of good end.
fn both(seed: u64) -> Result<Verdict, Violation> {
    let verdict = trial(seed)?;
    task_trial(seed).map(|_| verdict)
}

/// A run in which a panic is a violation like any other.
fn judged(seed: u64, trial: fn(u64) -> Result<Verdict, Violation>) -> Result<Verdict, Violation> {
    PANIC.set(Some(String::new()));
    let verdict = panic::catch_unwind(|| trial(seed));
    let panic = PANIC.take().unwrap_or_default();
    verdict.unwrap_or_else(|_| Err(Violation { seed, what: one_line(&panic) }))
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

/// Whoever panicked with the lock has left nothing half done.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("two seeds, such as 0..10000")?;
    let range = whole(from)?..whole(to)?;
    if range.is_empty() { Err("there is no seed in it".to_owned()) } else { Ok(range) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_in_a_run_is_a_violation_with_its_seed_and_place() {
        take_note_of_panics(false);
        let Err(violation) = judged(7, |seed| panic!("the books do not\n  balance in {seed}")) else {
            panic!("a verdict")
        };
        assert_eq!(violation.seed, 7);
        assert!(violation.what.contains("faults.rs"), "{violation}");
        assert!(violation.what.ends_with("the books do not balance in 7"), "{violation}");
        assert_eq!(judged(8, |_| Ok(Verdict::Result)), Ok(Verdict::Result));
    }

    #[test]
    fn ranges_of_seeds_are_read() {
        assert_eq!(range("3..1e3"), Ok(3..1000));
        for text in ["", "7", "..", "5..5", "9..3", "a..b", "0..=3"] {
            assert!(range(text).is_err(), "{text}");
        }
    }
}
