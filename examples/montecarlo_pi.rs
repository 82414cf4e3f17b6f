//! Estimates pi by throwing points at a square and counting those inside the quarter circle.
//!
//! ```text
//! $ cargo run --release --example montecarlo_pi                # this machine's cores; with --no-default-features: no MPI
//! pi = 3.1417104720 ± 0.0000519278
//! ranks: 1, threads: 2, time: 3.02 s, samples/s: 3.32e8, parallel efficiency: 99 %
//!
//! $ cargo build --release --examples                           # needs an MPI
//! $ mpirun -n 2 target/release/examples/montecarlo_pi          # the same line on any number of ranks
//! pi = 3.1417104720 ± 0.0000519278
//! ranks: 2, threads: 2, time: 2.86 s, samples/s: 3.49e8, parallel efficiency: 97 %
//! ```
//!
//! The first line goes to standard output, the second to standard error. `--samples 10G --seed 7` for other points.

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use rankfold::World;
use rankfold::rand::Rng;

mod common;

/// Estimate pi from random points. The same samples and seed print the same line on any number of ranks.
#[derive(Parser)]
struct Args {
    /// How many points to throw, up to 1e15: 1000000, 1e9, 10G
    #[arg(long, default_value = "1e9", value_parser = samples)]
    samples: u64,
    /// Which sequence of random points
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// The points of one item: a fraction of a millisecond of work, so that even small runs spread over many cores.
const BLOCK: u64 = 1 << 16;

/// Up to here a standard error is far above the grid's own error, and every count is exact in an `f64`.
const MOST_SAMPLES: u64 = 1_000_000_000_000_000;

fn main() -> ExitCode {
    rankfold::spmd(run)
}

fn run(world: &World) -> Result<(), Box<dyn Error>> {
    let Some(Args { samples, seed }) = common::arguments(world)? else { return Ok(()) };

    // An item is a block of points with a random stream of its own, so the answer does not depend on who computes it.
    let inside = world.over(0..samples.div_ceil(BLOCK)).named("pi").map_reduce(
        |block| count_inside(seed, block, BLOCK.min(samples - block * BLOCK)),
        |left, right| left + right,
    )?;

    if world.is_root() {
        let share = inside as f64 / samples as f64;
        let error = 4.0 * (share * (1.0 - share) / samples as f64).sqrt();
        common::print(|out| writeln!(out, "pi = {:.10} ± {error:.10}", 4.0 * share))?;
    }
    if let Some(report) = world.report() {
        let seconds = report.wall.as_secs_f64();
        eprintln!(
            "ranks: {}, threads: {}, time: {seconds:.2} s, samples/s: {:.2e}, parallel efficiency: {:.0} %",
            world.size(),
            world.total_threads(),
            samples as f64 / seconds,
            100.0 * report.efficiency(),
        );
    }
    Ok(())
}

/// How many of the block's points are inside.
///
/// A point is the centre of a cell of a grid of 2^31 by 2^31 cells over the unit square: in units of 2^-32, its
/// coordinates are odd numbers below 2^32. It is inside if x² + y² < 2^64, which is when the sum does not overflow: the
/// test is exact, there is no rounding. The grid moves pi by less than 1e-12.
fn count_inside(seed: u64, block: u64, points: u64) -> u64 {
    let mut rng = rankfold::rng(seed, block);
    let mut inside = 0;
    for _ in 0..points {
        let bits = rng.next_u64();
        let x = (bits >> 32) | 1;
        let y = (bits & 0xFFFF_FFFF) | 1;
        let (_, outside) = (x * x).overflowing_add(y * y);
        inside += u64::from(!outside);
    }
    inside
}

fn samples(text: &str) -> Result<u64, String> {
    match common::number(text)? {
        0 => Err("there is no estimate from 0 samples, ask for 1 or more".to_owned()),
        samples if samples > MOST_SAMPLES => Err("at most 1e15 samples".to_owned()),
        samples => Ok(samples),
    }
}
