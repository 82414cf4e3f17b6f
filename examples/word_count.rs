//! Counts the words of text files of any size and prints the most frequent ones.
//!
//! ```text
//! $ printf "To be, or not to be, that is the question:\nWhether 'tis nobler in the mind to suffer\n" > hamlet.txt
//!
//! $ cargo run --release --example word_count -- --top 3 hamlet.txt    # with --no-default-features: no MPI
//! 3    to
//! 2    be
//! 2    the
//!
//! $ cargo build --release --examples                                  # needs an MPI
//! $ mpirun -n 2 target/release/examples/word_count --top 3 hamlet.txt
//! 3    to
//! 2    be
//! 2    the
//! ```
//!
//! A report of the run goes to standard error. Memory holds the different words and a few blocks of
//! text (1 MiB for each thread), never a file, unless that is compressed (`.gz`, `.zst`).

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use compact_str::CompactString;
use rankfold::{World, data, op};

mod common;

/// Print the most frequent words of text files, as `count<TAB>word`, by count and then by word.
///
/// A word is a run of letters, in lower case. Every rank must see the files.
#[derive(Parser)]
struct Args {
    /// How many words to print, 0 for all
    #[arg(long, default_value = "10", value_parser = common::number)]
    top: u64,
    /// Accept bytes that are not UTF-8: they end a word
    #[arg(long)]
    lossy: bool,
    /// The files to read
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

fn main() -> ExitCode {
    rankfold::spmd(run)
}

fn run(world: &World) -> Result<(), Box<dyn Error>> {
    let Some(Args { top, lossy, files }) = common::arguments(world)? else { return Ok(()) };
    let lines = if lossy { data::lines(files).lossy() } else { data::lines(files) };

    // Sums of integers are the same in any order, so there is one table for a whole batch, whatever its length; which ranks
    // merge which words, and pick the most frequent ones, is for the library to say.
    let counts = world.over(lines).named("words").reduce_batches_by_key(
        |text, counts| text.lines().for_each(|line| for_each_word(line, |word| counts.add_from(word, 1))),
        op::sum::<u64>,
    );
    // Most words are short, and lie in the table itself.
    let counts: Vec<(CompactString, u64)> = counts.top(if top == 0 { usize::MAX } else { usize::try_from(top)? })?;
    if world.is_root() {
        common::print(|out| counts.iter().try_for_each(|(word, count)| writeln!(out, "{count}\t{word}")))?;
    }
    if let Some(report) = world.report() {
        eprintln!("{report}");
    }
    Ok(())
}

fn for_each_word(line: &str, mut f: impl FnMut(&str)) {
    // Most words are in lower case already, and cost no allocation.
    let mut lower = String::new();
    for word in line.split(|letter: char| !letter.is_alphabetic()) {
        if word.is_empty() {
            continue;
        }
        if word.bytes().all(|byte| byte.is_ascii_lowercase()) {
            f(word);
        } else if word.is_ascii() {
            lower.clear();
            lower.push_str(word);
            lower.make_ascii_lowercase();
            f(&lower);
        } else {
            f(&word.to_lowercase());
        }
    }
}
