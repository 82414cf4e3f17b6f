//! Two programs for the same work, run in turns: one without Rankfold and one with it.

use std::process::Command;

use crate::Context;
use crate::corpus;
use crate::launch::{Outcome, Result, run};
use crate::statistics::Sample;

/// A program of a pair: what it is called in the output, and how it is started.
type Program<'p> = (&'p str, &'p dyn Fn() -> Command);

/// One of the times of a run, in seconds.
type Clock = (&'static str, fn(&Outcome) -> Result<f64>);

const INSIDE: Clock = ("from after init to the result", |outcome| outcome.number("seconds"));
const WHOLE: Clock = ("the whole command", |outcome| Ok(outcome.wall.as_secs_f64()));

/// The times of two programs, by clock, by program, and by round.
struct Times(Vec<(&'static str, [Vec<f64>; 2])>);

/// Runs the programs in the order A B B A A B …; `result` must be the same each time.
fn measure(
    rounds: usize,
    programs: [Program<'_>; 2],
    clocks: &[Clock],
    result: impl Fn(&Outcome) -> String,
) -> Result<Times> {
    let mut times: Vec<_> = clocks.iter().map(|(name, _)| (*name, [Vec::new(), Vec::new()])).collect();
    let mut expected = None;
    for round in 0..rounds {
        for turn in 0..2 {
            let which = (round + turn) % 2;
            let outcome = run(programs[which].1())?;
            let found = result(&outcome);
            if *expected.get_or_insert_with(|| found.clone()) != found {
                return Err(format!("{} gives {found}, and not {expected:?}", programs[which].0).into());
            }
            for ((_, times), (_, clock)) in times.iter_mut().zip(clocks) {
                times[which].push(clock(&outcome)?);
            }
        }
    }
    Ok(Times(times))
}

impl Times {
    /// Says how fast the second program is in units of the first one; `goal` is for the clock of that number.
    fn report(&self, context: &mut Context, programs: [Program<'_>; 2], goal: Option<(usize, f64)>) {
        for (number, (clock, times)) in self.0.iter().enumerate() {
            let [a, b] = times.each_ref().map(|times| Sample::new(times.clone()));
            let paired = Sample::new(times[0].iter().zip(&times[1]).map(|(a, b)| a / b).collect());
            let (speed, (low, high)) = (a.median() / b.median(), paired.quartiles());
            context.record.say(format!("  {clock}: {} {a:.3} s, {} {b:.3} s", programs[0].0, programs[1].0));
            let figure = format!("  speed {speed:.3} (pairs {low:.3} … {high:.3}) of {}", programs[0].0);
            match goal {
                Some((judged, goal)) if judged == number => {
                    context.record.goal(&figure, &format!("{goal} or more"), speed >= goal);
                }
                _ => context.record.say(format!("  {figure}")),
            }
        }
    }
}

fn total(outcome: &Outcome) -> String {
    outcome.values("result").concat()
}

/// The two Monte Carlo programs on two ranks, one thread each.
fn against_by_hand(context: &mut Context, shape: &str, parts: &str, blocks: u64, goal: Option<f64>) -> Result<()> {
    let (launcher, blocks) = (context.launcher.clone(), blocks.to_string());
    let by_hand = || launcher.ranks(2, "bench_monte_carlo", &["by-hand", shape, &blocks, parts]);
    let with_rankfold = || {
        let mut command = launcher.ranks(2, "bench_monte_carlo", &["with-rankfold", shape, &blocks]);
        command.env("RANKFOLD_THREADS", "1");
        command
    };
    let points = run(by_hand())?.number("points")?;
    context.record.say(format!("  2 ranks of 1 thread, {points:.3e} points in {blocks} blocks; by hand: {parts}"));
    let programs: [Program<'_>; 2] = [("by hand", &by_hand), ("Rankfold", &with_rankfold)];
    let times = measure(context.rounds, programs, &[INSIDE, WHOLE], total)?;
    times.report(context, programs, goal.map(|goal| (0, goal)));
    Ok(())
}

pub(crate) fn monte_carlo(context: &mut Context) -> Result<()> {
    let blocks = context.quickly(8000, 64_000);
    against_by_hand(context, "uniform", "halves", blocks, Some(0.97))
}

/// Dealt out like cards, the fixed parts are as good as can be here; that is shown as well.
pub(crate) fn ramp(context: &mut Context) -> Result<()> {
    let blocks = context.quickly(5000, 40_000);
    against_by_hand(context, "ramp", "halves", blocks, Some(1.5))?;
    against_by_hand(context, "ramp", "cards", blocks, None)
}

const COUNTING: Clock = ("reading and counting", |outcome| {
    // The example's report: "words: 1073741824 items in 3.212s on …".
    let report = outcome.stderr.lines().find_map(|line| line.strip_prefix("words: ")?.split(' ').nth(3));
    report.and_then(seconds).map_or_else(|| outcome.number("seconds"), Ok)
});

/// Reads what `Duration`'s debug format writes.
fn seconds(text: &str) -> Option<f64> {
    let (number, unit) = text.split_at(text.find(|c: char| c != '.' && !c.is_ascii_digit())?);
    let unit = [("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)].into_iter().find(|(name, _)| *name == unit)?.1;
    Some(number.parse::<f64>().ok()? * unit)
}

pub(crate) fn words(context: &mut Context) -> Result<()> {
    words_of(context, context.quickly(100 << 20, 1 << 30), "")
}

/// More text than a rank may use memory.
pub(crate) fn words_in_bounds(context: &mut Context) -> Result<()> {
    words_of(context, context.quickly(200 << 20, 4 << 30), context.quickly("16MiB", "512MiB"))
}

/// Text of so many bytes, with so much memory for each rank, or all there is.
fn words_of(context: &mut Context, size: u64, memory: &str) -> Result<()> {
    same_kernel()?;
    let corpus = corpus::corpus(&context.launcher, size)?;
    context.record.say(format!("  {}; the page cache is warm", corpus.description));
    let (launcher, path) = (context.launcher.clone(), corpus.path.display().to_string());
    let rayon = |top: &str| launcher.alone("bench_words", &["2", top, &path]);
    let two_threads = |mut command: Command, threads: &str| {
        command.env("RANKFOLD_THREADS", threads).env("RANKFOLD_MEMORY", memory);
        command
    };
    let example = |top: &str| ["--top".to_owned(), top.to_owned(), path.clone()];
    let on_ranks = |ranks: usize, top: &str| {
        let arguments = example(top);
        let command = launcher.ranks(ranks, "word_count", &arguments.each_ref().map(String::as_str));
        two_threads(command, if ranks == 2 { "1" } else { "2" })
    };
    let alone =
        |top: &str| two_threads(launcher.alone("word_count", &example(top).each_ref().map(String::as_str)), "2");
    let all = [run(rayon("0"))?, run(on_ranks(2, "0"))?, run(on_ranks(1, "0"))?, run(alone("0"))?];
    let hashes = all.map(|outcome| (crc32fast::hash(outcome.stdout.as_bytes()), outcome.stdout.lines().count()));
    if hashes.iter().any(|hash| *hash != hashes[0]) {
        return Err(format!("the lists of all words differ: (checksum, words) = {hashes:x?}").into());
    }
    context.record.say(format!("  {} words, the same list from all (checksum {:08x})", hashes[0].1, hashes[0].0));
    let baseline = || rayon("10");
    for (name, program) in [
        ("2 ranks × 1 thread", &(|| on_ranks(2, "10")) as &dyn Fn() -> Command),
        ("1 rank × 2 threads", &|| on_ranks(1, "10")),
        ("no launcher, 2 threads", &|| alone("10")),
    ] {
        let programs: [Program<'_>; 2] = [("rayon", &baseline), (name, program)];
        let times = measure(context.rounds, programs, &[COUNTING, WHOLE], |outcome| outcome.stdout.clone())?;
        times.report(context, programs, Some((0, 0.9)));
    }
    Ok(())
}

/// The kernel of the example and the one of the program without Rankfold are the same text.
fn same_kernel() -> Result<()> {
    let kernel = |text: &'static str| text.find("fn for_each_word").map(|at| text[at..].trim());
    let same = kernel(include_str!("../programs/words.rs")) == kernel(include_str!("../../examples/word_count.rs"));
    if same { Ok(()) } else { Err("the kernels of benches/programs/words.rs and examples/word_count.rs differ".into()) }
}

/// A program that does nothing but start and end, with and without Rankfold.
pub(crate) fn init(context: &mut Context) -> Result<()> {
    const STARTING: Clock = ("the call that starts MPI", INSIDE.1);
    let launcher = context.launcher.clone();
    for (ranks, rounds) in context.quickly(vec![(2, 5)], vec![(2, 15), (32, 5), (135, 3)]) {
        let bare = || launcher.ranks(ranks, "bench_bare", &[]);
        let with_rankfold = || launcher.ranks(ranks, "bench_probe", &["init"]);
        let programs: [Program<'_>; 2] = [("bare MPI_Init", &bare), ("rankfold::init", &with_rankfold)];
        let times = measure(rounds, programs, &[STARTING, WHOLE], |_| String::new())?;
        for (clock, [bare, with_rankfold]) in &times.0 {
            let more = Sample::new(bare.iter().zip(with_rankfold).map(|(a, b)| 1e3 * (b - a)).collect());
            let [bare, with_rankfold] = [bare, with_rankfold].map(|times| Sample::new(times.clone()).scaled(1e3));
            context.record.say(format!(
                "  {ranks} ranks, {clock}: bare {bare:.1} ms, Rankfold {with_rankfold:.1} ms; in pairs {more:.1} ms more"
            ));
        }
    }
    Ok(())
}
