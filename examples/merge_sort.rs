//! Merge sort with tasks that submit tasks: whoever has much to sort gives the halves away, and merges what comes back.
//!
//! ```text
//! $ cargo run --release --example merge_sort                        # with --no-default-features: no MPI
//! 200000 numbers are sorted
//! 4000000 numbers are sorted
//!
//! $ cargo build --release --examples                                # needs an MPI
//! $ mpirun -n 4 target/release/examples/merge_sort 1M 8M --threshold 500k
//! ```
//!
//! What it took goes to standard error. A threshold that is too low, such as 1k, shows what tasks cost: more than so few
//! numbers.

use std::error::Error;
use std::ops::Range;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use rankfold::rand::Rng;
use rankfold::{Pool, Result, World};

mod common;

/// Make and sort random numbers on one thread and with nested tasks, and compare.
#[derive(Parser)]
struct Args {
    /// How many numbers; one sort for each
    #[arg(default_values = ["200k", "4M"], value_parser = common::number)]
    sizes: Vec<u64>,
    /// So many numbers, or fewer, are sorted by one task
    #[arg(long, default_value = "200k", value_parser = common::number)]
    threshold: u64,
    /// Which numbers
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What a number costs, before it is sorted.
const DRAWS: u64 = 64;

fn main() -> ExitCode {
    rankfold::spmd(run)
}

fn run(world: &World) -> Result<(), Box<dyn Error>> {
    let Some(args) = common::arguments::<Args>(world)? else { return Ok(()) };
    if args.threshold == 0 {
        return Err("a threshold of 0: not even one number would be sorted by one task".into());
    }
    // Every rank comes to the pool; the closure runs on rank 0, the others serve it.
    let sorted = world.pool(|pool| args.sizes.iter().try_for_each(|size| compare(pool, &args, *size)))?;
    sorted.unwrap_or(Ok(())).map_err(|error| error as Box<dyn Error>)
}

fn compare(pool: &Pool, args: &Args, size: u64) -> Result<(), Box<dyn Error + Send + Sync>> {
    let Args { seed, threshold, .. } = *args;
    let begun = Instant::now();
    let expected = sorted_here(seed, 0..size, threshold);
    let alone = begun.elapsed().as_secs_f64();

    let begun = Instant::now();
    let sorted = pool.submit(sorted_by_tasks, (seed, 0..size, threshold))?.get()??;
    let together = begun.elapsed().as_secs_f64();

    if !sorted.is_sorted() || sorted != expected {
        return Err(format!("{size} numbers: the tasks have sorted them wrongly").into());
    }
    common::print(|out| writeln!(out, "{size} numbers are sorted"))?;
    let (tasks, threads, ratio) = (tasks(size, threshold), pool.total_threads(), alone / together);
    // In one piece, which mpirun does not mix with standard output.
    let took = format!(
        "tasks: {tasks}, threads: {threads}, time: {together:.3} s, one thread: {alone:.3} s, speedup: {ratio:.2}"
    );
    eprintln!("{took}");
    Ok(())
}

/// Sorts the numbers of a range. A task: it may run on any rank, so it gets what it needs as arguments.
fn sorted_by_tasks(seed: u64, range: Range<u64>, threshold: u64) -> Result<Vec<u64>> {
    let Some((left, right)) = halves(&range, threshold) else { return Ok(sorted_here(seed, range, threshold)) };
    let pool = Pool::here()?;
    let left = pool.submit(sorted_by_tasks, (seed, left, threshold))?;
    let right = pool.submit(sorted_by_tasks, (seed, right, threshold))?;
    // While this task waits, its thread runs others: those that it waits for, perhaps.
    Ok(merged(&left.get()??, &right.get()??))
}

/// The same on this thread, without a task.
fn sorted_here(seed: u64, range: Range<u64>, threshold: u64) -> Vec<u64> {
    if let Some((left, right)) = halves(&range, threshold) {
        return merged(&sorted_here(seed, left, threshold), &sorted_here(seed, right, threshold));
    }
    let mut numbers = numbers(seed, range);
    numbers.sort_unstable();
    numbers
}

/// Made where they are sorted: each is the sum of many draws, so that there is more to compute than to move.
fn numbers(seed: u64, range: Range<u64>) -> Vec<u64> {
    let mut dice = rankfold::rng(seed, range.start);
    range.map(|_| (0..DRAWS).map(|_| dice.next_u64() / DRAWS).sum()).collect()
}

/// `None` for a range that one task sorts.
fn halves(range: &Range<u64>, threshold: u64) -> Option<(Range<u64>, Range<u64>)> {
    let length = range.end - range.start;
    let middle = range.start + length / 2;
    (length > threshold).then_some((range.start..middle, middle..range.end))
}

fn tasks(size: u64, threshold: u64) -> u64 {
    halves(&(0..size), threshold).map_or(1, |_| 1 + tasks(size / 2, threshold) + tasks(size.div_ceil(2), threshold))
}

fn merged(left: &[u64], right: &[u64]) -> Vec<u64> {
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut l, mut r) = (0, 0);
    while l < left.len() && r < right.len() {
        let takes_left = left[l] <= right[r];
        merged.push(if takes_left { left[l] } else { right[r] });
        (l, r) = (l + usize::from(takes_left), r + usize::from(!takes_left));
    }
    merged.extend_from_slice(&left[l..]);
    merged.extend_from_slice(&right[r..]);
    merged
}
