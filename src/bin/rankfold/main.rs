//! The command `rankfold`: plans a job before it is submitted, looks for faults in the scheduler, and tells what a journal
//! holds.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use clap::error::ErrorKind::MissingRequiredArgument;
use clap::{Args, CommandFactory, Parser, Subcommand};

mod faults;
mod inspect;
mod numbers;
mod plan;
mod table;

/// Tools around programs that compute with Rankfold.
#[derive(Parser)]
#[command(name = "rankfold", version, disable_help_subcommand = true)]
struct Rankfold {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Simulate(Simulate),
    Inspect(inspect::Inspect),
}

/// Forecast a job on a machine that is not there; or, with --faults, let everything go wrong that can.
///
/// The library's own scheduler runs on virtual time, so a forecast for a thousand ranks
/// takes seconds on a laptop. It knows what is given here and nothing else: no slow nodes,
/// no file system, and results of a few bytes. Ranks with many threads are taken for a
/// little slower than they are: in the model, a batch ends before the next one begins.
#[derive(Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  rankfold simulate --items 1e9 --cost 400us --spread lognormal --ranks 135 --threads 16 --wall 1:00:00
  rankfold simulate --trace costs.txt --items 1e6 --ranks 8,64,512 --compare
  rankfold simulate --faults --seeds 0..10000

Exit code: 0; 1 if a faulty run did what it must not; 2 for arguments or files that make no sense."
)]
struct Simulate {
    /// Draws the costs of items [default: 1]; with --faults, everything about a run
    #[arg(long, value_name = "N", value_parser = numbers::whole)]
    seed: Option<u64>,
    #[command(flatten)]
    plan: plan::Plan,
    #[command(flatten)]
    faults: faults::Faults,
}

fn main() -> ExitCode {
    let outcome = match Rankfold::parse().command {
        Command::Inspect(inspect) => inspect.run(),
        Command::Simulate(Simulate { seed, plan, faults }) => match faults.what(seed) {
            None => plan.forecast(seed.unwrap_or(1)).map(|()| ExitCode::SUCCESS),
            Some(Err(missing)) => refuse(missing),
            Some(Ok(what)) => faults::run(&what),
        },
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::from(2)
    })
}

/// Ends the program as clap does where it sees by itself that an argument is missing.
fn refuse(missing: &str) -> ! {
    let mut all = Rankfold::command();
    all.build();
    let simulate = all.find_subcommand_mut("simulate").expect("it was just parsed");
    simulate.error(MissingRequiredArgument, missing).exit()
}

/// Writes to standard output at once. A reader that has seen enough, as `head`, is no error.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}
