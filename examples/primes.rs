//! Tells which numbers of a file are prime: a list that rank 0 reads, and items of very different cost.
//!
//! ```text
//! $ cargo run --release --example primes -- --generate 1000 > numbers.txt    # with --no-default-features: no MPI
//! $ cargo run --release --example primes -- numbers.txt | head -4
//! 2081328747    composite
//! 74578951    composite
//! 29583389823189    composite
//! 210495518659    prime
//!
//! $ cargo build --release --examples                                         # needs an MPI
//! $ mpirun -n 2 target/release/examples/primes numbers.txt | head -4
//! 2081328747    composite
//! 74578951    composite
//! 29583389823189    composite
//! 210495518659    prime
//! ```
//!
//! A report of the run goes to standard error: it shows how many batches each rank took.

use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use rankfold::World;
use rankfold::data;
use rankfold::rand::Rng;

mod common;

/// Print for each number of a file whether it is prime, as `number<TAB>prime|composite`, in the order of the file;
/// 0 and 1, which are neither, are called composite.
#[derive(Parser)]
struct Args {
    /// Whole numbers below 2^64, one per line; blank lines and what follows a # are skipped
    #[arg(required_unless_present = "generate")]
    file: Option<PathBuf>,
    /// Write a sample file of N numbers to standard output instead
    #[arg(long, value_name = "N", value_parser = common::number, conflicts_with = "file")]
    generate: Option<u64>,
    /// Which numbers to generate
    #[arg(long, default_value_t = 1, requires = "generate")]
    seed: u64,
}

fn main() -> ExitCode {
    rankfold::spmd(run)
}

fn run(world: &World) -> Result<(), Box<dyn Error>> {
    let Some(Args { file, generate, seed }) = common::arguments(world)? else { return Ok(()) };
    let Some(file) = file else { return write_sample(world, generate.unwrap_or(0), seed) };

    // The other ranks need not see the file: the numbers come to them with the work. An error here ends all ranks.
    let numbers = if world.is_root() { read_numbers(&file)? } else { Vec::new() };
    let over = world.over(data::from_root(numbers)).named("primes").on_root();
    let Some(verdicts) = over.map(|number| (number, is_prime(number)))? else { return Ok(()) };

    common::print(|out| {
        let word = |is_prime| if is_prime { "prime" } else { "composite" };
        verdicts.iter().try_for_each(|(number, is_prime)| writeln!(out, "{number}\t{}", word(*is_prime)))
    })?;
    if let Some(report) = world.report() {
        eprintln!("{report}");
    }
    Ok(())
}

/// By trial division up to the square root, on purpose: a large prime costs a million times what an even number costs,
/// and nobody can tell beforehand which is which. This is the input that equal shares per rank would serve badly.
fn is_prime(number: u64) -> bool {
    if number < 2 || number.is_multiple_of(2) || number.is_multiple_of(3) {
        return number == 2 || number == 3;
    }
    let mut divisor = 5;
    // `number / divisor < divisor` where `divisor * divisor > number` could overflow.
    while number / divisor >= divisor {
        if number.is_multiple_of(divisor) || number.is_multiple_of(divisor + 2) {
            return false;
        }
        divisor += 6;
    }
    true
}

fn read_numbers(path: &Path) -> Result<Vec<u64>, Box<dyn Error>> {
    let file = File::open(path).map_err(|error| format!("cannot open {}: {error}", path.display()))?;
    let mut numbers = Vec::new();
    for (line, text) in (1..).zip(BufReader::new(file).lines()) {
        let place = || format!("{}:{line}", path.display());
        let text = text.map_err(|error| format!("{}: cannot be read: {error}", place()))?;
        let text = text.split('#').next().unwrap_or_default().trim();
        if !text.is_empty() {
            let number = text.parse().map_err(|_| format!("{}: `{text}` is not a whole number below 2^64", place()))?;
            numbers.push(number);
        }
    }
    Ok(numbers)
}

/// Odd numbers of 8 to 48 bits, as many of each length.
fn write_sample(world: &World, count: u64, seed: u64) -> Result<(), Box<dyn Error>> {
    if world.is_root() {
        common::print(|out| {
            writeln!(out, "# primes --generate {count} --seed {seed}")?;
            (0..count).try_for_each(|item| {
                let mut rng = rankfold::rng(seed, item);
                let bits = 8 + rng.next_u64() % 41;
                let top = 1 << (bits - 1);
                writeln!(out, "{}", top | (rng.next_u64() % top) | 1)
            })
        })?;
    }
    Ok(())
}
