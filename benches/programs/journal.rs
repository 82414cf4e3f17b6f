//! A run that may keep a journal: `bench_journal scalar|wide ITEMS`. Rank 0 prints the time and the result; every rank the
//! longest time from the end of one item to the begin of the next, and what it has written to the disk.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rankfold::World;

/// Elements of a wide partial: 1 MiB.
const WIDE: u64 = 131_072;
/// Rounds of the mapper's loop: about 1 ms, and about 10 ms, which is long beside what combining a MiB takes.
const SCALAR_ROUNDS: u64 = 700_000;
const WIDE_ROUNDS: u64 = 7_000_000;

/// In nanoseconds since the program began; one thread computes.
static ENDED: AtomicU64 = AtomicU64::new(0);
static LONGEST: AtomicU64 = AtomicU64::new(0);

fn main() -> rankfold::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let items: u64 = arguments[2].parse().expect("a number of items");
    let world = rankfold::init()?;
    let begun = Instant::now();
    let result = match arguments[1].as_str() {
        "scalar" => scalar(&world, items, begun)?,
        "wide" => wide(&world, items, begun)?,
        other => panic!("the partial is scalar or wide, not {other}"),
    };
    if world.is_root() {
        println!("seconds={} result={result}", begun.elapsed().as_secs_f64());
    }
    println!("gap={} written={}", LONGEST.load(Ordering::Relaxed) as f64 / 1e9, written());
    Ok(())
}

fn scalar(world: &World, items: u64, begun: Instant) -> rankfold::Result<u64> {
    let item = |item| watched(begun, || work(item, SCALAR_ROUNDS));
    world.over(0..items).leaf(1).map_reduce(item, u64::wrapping_add)
}

fn wide(world: &World, items: u64, begun: Instant) -> rankfold::Result<u64> {
    let item = |item| {
        watched(begun, || {
            let value = work(item, WIDE_ROUNDS);
            (0..WIDE).map(|element| value ^ element).collect::<Vec<u64>>()
        })
    };
    let add = |mut left: Vec<u64>, right: Vec<u64>| {
        left.iter_mut().zip(right).for_each(|(left, right)| *left = left.wrapping_add(right));
        left
    };
    let sums = world.over(0..items).leaf(1).map_reduce(item, add)?;
    Ok(sums.into_iter().fold(0u64, |hash, sum| hash.wrapping_mul(31).wrapping_add(sum)))
}

/// An item, and how long it is since the one before has ended.
fn watched<R>(begun: Instant, item: impl FnOnce() -> R) -> R {
    let now = || begun.elapsed().as_nanos() as u64;
    let before = ENDED.load(Ordering::Relaxed);
    if before > 0 {
        LONGEST.fetch_max(now() - before, Ordering::Relaxed);
    }
    let value = item();
    ENDED.store(now(), Ordering::Relaxed);
    value
}

/// One to two nanoseconds for each round: a chain that the compiler cannot shorten.
fn work(item: u64, rounds: u64) -> u64 {
    let mut value = black_box(item);
    for _ in 0..rounds {
        value = (value ^ (value >> 31)).wrapping_mul(6_364_136_223_846_793_005);
    }
    value
}

/// Bytes that this process has written to files, as the kernel counts.
fn written() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}
