//! `make bench`: measures Rankfold against programs without it, and what it costs by itself.
//!
//! Each pair of programs runs in turns (A B B A A B …), so that what else the machine does meets both. The output is
//! kept under `benches/runs/<date>/`. No time is asserted: goals are said to be reached or missed.
//!
//! `make bench ARGS='--rounds 3 monte-carlo words'`

mod arrays;
mod corpus;
mod forecast;
mod journal;
mod launch;
mod machine;
mod many_ranks;
mod overheads;
mod pairs;
mod record;
mod statistics;
mod tasks;

use std::process::{Command, ExitCode};

use clap::Parser;

use launch::{Launcher, Result};
use machine::Meter;
use record::Record;

/// Compare Rankfold with programs by hand, and measure its overheads.
#[derive(Debug, Parser)]
struct Args {
    /// Runs of each program
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Short runs, to see that everything works; nothing is kept
    #[arg(long)]
    quick: bool,
    /// Given by cargo bench
    #[arg(long, hide = true)]
    bench: bool,
    /// Benchmarks to run: those whose name contains one of these; without any, all
    names: Vec<String>,
}

/// What every benchmark needs.
#[derive(Debug)]
struct Context {
    launcher: Launcher,
    record: Record,
    rounds: usize,
    quick: bool,
}

impl Context {
    /// One of two values, for quick runs and for real ones.
    fn quickly<T>(&self, quick: T, real: T) -> T {
        if self.quick { quick } else { real }
    }
}

type Benchmark = (&'static str, &'static str, fn(&mut Context) -> Result<()>);

const BENCHMARKS: [Benchmark; 15] = [
    ("monte-carlo", "against a program by hand: blocks that cost the same", pairs::monte_carlo),
    ("ramp", "against a program by hand: cost grows a hundredfold along the range", pairs::ramp),
    ("words", "the example word_count against a program with rayon alone", pairs::words),
    ("bounded-words", "the same with four times the text, and 512 MiB of memory for a rank", pairs::words_in_bounds),
    ("init", "rankfold::init against MPI_Init", pairs::init),
    ("batches", "the overhead of calls and batches", overheads::batches),
    ("items", "the overhead of items", overheads::items),
    ("costs", "how cheap an item may be", overheads::costs),
    ("memory", "10^12 items", overheads::memory),
    ("idle", "what idle ranks use", many_ranks::idle),
    ("many-ranks", "a run on many more ranks than cores", many_ranks::many),
    ("tasks", "what a task costs", tasks::tasks),
    ("arrays", "arrays of all ranks against MPI_Allreduce", arrays::arrays),
    ("journal", "the same run with a journal and without", journal::journal),
    ("forecast", "the simulator against real runs", forecast::forecast),
];

fn main() -> ExitCode {
    let args = Args::parse();
    if !args.bench {
        // As a part of `cargo test --all-targets`: there is nothing to test here.
        return ExitCode::SUCCESS;
    }
    match compare(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(args: &Args) -> Result<()> {
    let launcher = Launcher::from_environment()?;
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    if !Command::new(cargo).args(["build", "--release", "--examples"]).status()?.success() {
        return Err("the programs cannot be built".into());
    }
    let record = Record::new();
    let (rounds, quick) = (args.rounds.max(1), args.quick);
    let mut context = Context { launcher, record, rounds, quick };
    for line in machine::description(&context.launcher.mpirun, &context.launcher.kind) {
        context.record.say(line);
    }
    context.record.say(format!("rounds     {rounds}; times: median (quartiles)"));
    if machine::load_now() > 0.5 {
        context.record.say("WARNING: the machine is not quiet (load above 0.5): these figures are not for comparison");
    }
    let wanted = |name: &str| args.names.is_empty() || args.names.iter().any(|part| name.contains(part.as_str()));
    let mut failed = 0;
    for (name, what, run) in BENCHMARKS.iter().filter(|(name, ..)| wanted(name)) {
        context.record.say(format!("\n{name}: {what}"));
        let meter = Meter::now();
        if let Err(error) = run(&mut context) {
            failed += 1;
            context.record.say(format!("  FAILED: {error}"));
        }
        context.record.say(format!("  (others used {:.1} % of the machine meanwhile)", meter.others()));
    }
    if !quick {
        let path = context.record.save(&context.launcher.kind)?;
        eprintln!("kept in {}", path.display());
    }
    if failed == 0 { Ok(()) } else { Err(format!("{failed} benchmarks failed").into()) }
}
