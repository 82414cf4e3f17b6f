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
//! text (1 MiB for each thread), never a file.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use rankfold::World;
use rankfold::data;
use rustc_hash::FxHashMap;

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

type Counts = FxHashMap<String, u64>;

fn main() -> ExitCode {
    rankfold::spmd(run)
}

fn run(world: &World) -> Result<(), Box<dyn Error>> {
    let Some(Args { top, lossy, files }) = common::arguments(world)? else { return Ok(()) };
    let lines = if lossy { data::lines(files).lossy() } else { data::lines(files) };

    // Counts are exact, so it does not matter where one batch ends and the next begins: one map serves for a whole
    // batch. Only rank 0 prints, so only rank 0 is given the result.
    let over = world.over(lines).named("words").identity(Counts::default()).on_root();
    let Some(counts) =
        over.fold_batches(Counts::default, |counts, text| text.lines().fold(counts, count_words), merge)?
    else {
        return Ok(());
    };

    let mut counts: Vec<(String, u64)> = counts.into_iter().collect();
    counts.sort_unstable_by(|(word, count), (other_word, other)| other.cmp(count).then_with(|| word.cmp(other_word)));
    let top = if top == 0 { counts.len() } else { usize::try_from(top)?.min(counts.len()) };
    common::print(|out| counts[..top].iter().try_for_each(|(word, count)| writeln!(out, "{count}\t{word}")))?;
    if let Some(report) = world.report() {
        eprintln!("{report}");
    }
    Ok(())
}

fn count_words(mut counts: Counts, line: &str) -> Counts {
    // Most words are known and in lower case already: they cost a look-up and no allocation.
    let mut lower = String::new();
    for word in line.split(|letter: char| !letter.is_alphabetic()) {
        if word.is_empty() {
            continue;
        }
        if word.bytes().all(|byte| byte.is_ascii_lowercase()) {
            add(&mut counts, word);
        } else if word.is_ascii() {
            lower.clear();
            lower.push_str(word);
            lower.make_ascii_lowercase();
            add(&mut counts, &lower);
        } else {
            add(&mut counts, &word.to_lowercase());
        }
    }
    counts
}

fn add(counts: &mut Counts, word: &str) {
    match counts.get_mut(word) {
        Some(count) => *count += 1,
        None => {
            counts.insert(word.to_owned(), 1);
        }
    }
}

fn merge(left: Counts, right: Counts) -> Counts {
    let (mut larger, smaller) = if left.len() < right.len() { (right, left) } else { (left, right) };
    for (word, count) in smaller {
        *larger.entry(word).or_insert(0) += count;
    }
    larger
}
