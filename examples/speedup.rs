//! How much faster are the same tasks on all ranks than on one thread?
//!
//! ```text
//! $ cargo run --release --example speedup                           # with --no-default-features: no MPI
//! 200 tasks: the same values on one thread and in the pool
//!
//! $ cargo build --release --examples                                # needs an MPI
//! $ mpirun -n 4 target/release/examples/speedup --tasks 1k --length 2
//! ```
//!
//! Times, the ratio and the efficiency go to standard error. `--length 0.01` shows from where on a task is too short to be
//! worth its way to another rank. The ranks of one machine share its cores: more ranks than cores bring nothing.

use std::error::Error;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use rankfold::{Pool, World};

mod common;

/// Run the same tasks on one thread and on all ranks, and compare.
#[derive(Parser)]
struct Args {
    /// How many tasks
    #[arg(long, default_value = "200", value_parser = common::number)]
    tasks: u64,
    /// How long each computes, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 10.0)]
    length: f64,
}

fn main() -> ExitCode {
    rankfold::spmd(run)
}

fn run(world: &World) -> Result<(), Box<dyn Error>> {
    let Some(Args { tasks, length }) = common::arguments(world)? else { return Ok(()) };
    if tasks == 0 || !(length > 0.0 && length < 1e6) {
        return Err("no tasks, or none of a length between 0 and 1,000,000 ms: nothing to compare".into());
    }
    let compared = world.pool(|pool| compare(pool, tasks, length))?;
    compared.unwrap_or(Ok(())).map_err(|error| error as Box<dyn Error>)
}

fn compare(pool: &Pool, tasks: u64, length: f64) -> Result<(), Box<dyn Error + Send + Sync>> {
    let rounds = rounds_in(length);

    // On one thread: this one, while the ranks have nothing to do.
    let begun = Instant::now();
    let expected: Vec<u64> = (0..tasks).map(|task| work(task, rounds)).collect();
    let alone = begun.elapsed().as_secs_f64();

    // The same function, and the same arguments, as tasks; all are submitted before the first value is waited for.
    let begun = Instant::now();
    let mut remotes = Vec::new();
    for task in 0..tasks {
        remotes.push(pool.submit(work, (task, rounds))?);
    }
    let values: Vec<u64> = pool.gather(remotes)?;
    let together = begun.elapsed().as_secs_f64();

    if values != expected {
        return Err("the tasks have come to other values than the same calls on one thread".into());
    }
    common::print(|out| writeln!(out, "{tasks} tasks: the same values on one thread and in the pool"))?;
    let (ranks, threads, ratio) = (pool.size(), pool.total_threads(), alone / together);
    let each = 1e6 * together / tasks as f64;
    eprintln!(
        "ranks: {ranks}, threads: {threads}, time: {together:.3} s, for each task: {each:.1} µs, one thread: {alone:.3} s"
    );
    eprintln!("speedup: {ratio:.2}, efficiency: {:.0} %", 100.0 * ratio / threads as f64);
    Ok(())
}

/// What a task does: so many rounds of a small random number generator, which nobody can shorten.
fn work(task: u64, rounds: u64) -> u64 {
    (0..rounds).fold(task + 1, |mut state, _| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^ (state << 17)
    })
}

/// How many rounds take so many milliseconds here.
fn rounds_in(length: f64) -> u64 {
    const TRIED: u64 = 10_000_000;
    let begun = Instant::now();
    black_box(work(black_box(0), TRIED));
    let milliseconds = 1e3 * begun.elapsed().as_secs_f64();
    ((TRIED as f64 * length / milliseconds) as u64).max(1)
}
