//! Standard scores of numbers that rank 0 has: parts of them go to the ranks, stay there for two passes, and come back.
//!
//! ```text
//! $ cargo run --release --example scatter_gather            # with --no-default-features: no MPI
//! 1000000 numbers, mean 0.500333, deviation 0.288698
//! the first: -0.338925 -1.454630 0.333316 …, the last: 0.545502
//!
//! $ cargo build --release --examples                        # needs an MPI
//! $ mpirun -n 4 target/release/examples/scatter_gather      # the same, to the last digit
//! ```
//!
//! Where the parts were goes to standard error.

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use rankfold::rand::RngExt;
use rankfold::{Pool, Result, World};

mod common;

/// Scatter random numbers over the ranks, bring them to mean 0 and deviation 1 there, and gather them.
#[derive(Parser)]
struct Args {
    /// How many numbers
    #[arg(long, default_value = "1e6", value_parser = common::number)]
    numbers: u64,
    /// In how many parts: as many or more than there are ranks
    #[arg(long, default_value = "16", value_parser = common::number)]
    parts: u64,
    /// Which numbers
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    rankfold::spmd(run)
}

fn run(world: &World) -> Result<(), Box<dyn Error>> {
    let Some(Args { numbers, parts, seed }) = common::arguments(world)? else { return Ok(()) };
    if numbers == 0 || parts == 0 {
        return Err("no numbers, or no parts: nothing to scatter".into());
    }
    let Some(scored) = world.pool(|pool| score(pool, numbers as usize, parts as usize, seed))? else { return Ok(()) };
    let Scored { values, mean, deviation } = scored?;
    let first: Vec<String> = values.iter().take(3).map(|value| format!("{value:.6}")).collect();
    common::print(|out| {
        writeln!(out, "{} numbers, mean {mean:.6}, deviation {deviation:.6}", values.len())?;
        writeln!(out, "the first: {} …, the last: {:.6}", first.join(" "), values[values.len() - 1])
    })?;
    Ok(())
}

struct Scored {
    values: Vec<f64>,
    mean: f64,
    deviation: f64,
}

fn score(pool: &Pool, count: usize, parts: usize, seed: u64) -> Result<Scored> {
    let mut rng = rankfold::rng(seed, 0);
    let numbers: Vec<f64> = (0..count).map(|_| rng.random()).collect();

    // The first pass: two sums of each part, added up in the order of the parts.
    let scattered = pool.scatter(numbers.chunks(count.div_ceil(parts)).map(<[f64]>::to_vec).collect())?;
    let sums = scattered.iter().map(|part| pool.submit(sums_of, (part,))).collect::<Result<Vec<_>>>()?;
    let (sum, squares) = pool.gather(sums)?.iter().fold((0.0, 0.0), |all, part| (all.0 + part.0, all.1 + part.1));
    let mean = sum / count as f64;
    let deviation = (squares / count as f64 - mean * mean).sqrt();

    // The second pass runs where the parts are.
    let scored = scattered.iter().map(|part| pool.submit(scores_of, (part, mean, deviation)));
    let scored = scored.collect::<Result<Vec<_>>>()?;
    scored.iter().try_for_each(rankfold::Remote::wait)?;
    let places = scored.iter().map(|part| pool.who_has(part)).collect::<Result<Vec<_>>>()?.concat();
    let values = pool.gather(scored)?.concat();
    eprintln!("{} parts on ranks {places:?}", places.len());
    Ok(Scored { values, mean, deviation })
}

fn sums_of(part: &[f64]) -> (f64, f64) {
    part.iter().fold((0.0, 0.0), |(sum, squares), x| (sum + x, squares + x * x))
}

fn scores_of(part: &[f64], mean: f64, deviation: f64) -> Vec<f64> {
    part.iter().map(|x| (x - mean) / deviation).collect()
}
