//! Sixteen arrays of a million random numbers, added up in a tree: tasks that need the values of other tasks.
//!
//! ```text
//! $ cargo run --release --example tree_reduction            # with --no-default-features: no MPI
//! sum = 8000923.007471, in 4 levels
//!
//! $ cargo build --release --examples                        # needs an MPI
//! $ mpirun -n 4 target/release/examples/tree_reduction      # the same, to the last digit
//! ```
//!
//! How much has moved between the ranks goes to standard error: an array stays where it was made until it is added to one
//! that is elsewhere.

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use rankfold::rand::RngExt;
use rankfold::{Pool, Remote, Result, Traffic, World};

mod common;

/// Make arrays of random numbers on the ranks, and add them up, pair by pair.
#[derive(Parser)]
struct Args {
    /// How many arrays
    #[arg(long, default_value = "16", value_parser = common::number)]
    arrays: u64,
    /// Numbers of each
    #[arg(long, default_value = "1e6", value_parser = common::number)]
    length: u64,
    /// Which numbers
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    rankfold::spmd(run)
}

fn run(world: &World) -> Result<(), Box<dyn Error>> {
    let Some(Args { arrays, length, seed }) = common::arguments(world)? else { return Ok(()) };
    if arrays == 0 {
        return Err("no arrays: nothing to add up".into());
    }
    let Some(reduced) = world.pool(|pool| reduce(pool, arrays, length, seed))? else { return Ok(()) };
    let (sum, levels, sent) = reduced?;
    common::print(|out| writeln!(out, "sum = {sum:.6}, in {levels} level{}", if levels == 1 { "" } else { "s" }))?;
    let moved = |what: fn(&Traffic) -> u64| sent.iter().map(what).sum::<u64>();
    eprintln!("{} arrays moved between ranks, {} bytes", moved(|rank| rank.values), moved(|rank| rank.value_bytes));
    Ok(())
}

fn reduce(pool: &Pool, arrays: u64, length: u64, seed: u64) -> Result<(f64, u32, Vec<Traffic>)> {
    let mut arrays = pool.starmap(random, (0..arrays).map(|array| (seed, array, length)))?;
    let mut levels = 0;
    while arrays.len() > 1 {
        let mut next = Vec::with_capacity(arrays.len().div_ceil(2));
        let mut pairs = arrays.into_iter();
        while let Some(one) = pairs.next() {
            // One that is left over goes up as it is. Handles that are dropped here let values go when they were read.
            next.push(match pairs.next() {
                Some(other) => pool.submit(added, (&one, &other))?,
                None => one,
            });
        }
        (arrays, levels) = (next, levels + 1);
    }
    let all: Remote<Vec<f64>> = arrays.pop().expect("one is left");
    let sum = pool.submit(|all: &[f64]| all.iter().sum::<f64>(), (&all,))?.get()?;
    Ok((sum, levels, pool.traffic()?))
}

fn random(seed: u64, array: u64, length: u64) -> Vec<f64> {
    let mut rng = rankfold::rng(seed, array);
    (0..length).map(|_| rng.random()).collect()
}

fn added(one: &[f64], other: &[f64]) -> Vec<f64> {
    one.iter().zip(other).map(|(one, other)| one + other).collect()
}
