//! What Rankfold costs where there is nothing to compute: `bench_probe init|calls|batches|items|costs|idle|trillion [N]`.
//! Prints `name=value` pairs; every rank prints its peak memory where that is the question.

use std::hint::black_box;
use std::io::Write;
use std::time::{Duration, Instant};

use rankfold::World;

fn main() -> rankfold::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let number = arguments.get(2).map_or(0, |number| number.parse().expect("a whole number"));
    let start = Instant::now();
    let world = rankfold::init()?;
    let starting = start.elapsed().as_secs_f64();
    match arguments[1].as_str() {
        "init" => {
            say(&world, format_args!("seconds={starting}"));
            print_peak_memory(&world);
        }
        "calls" => calls(&world, number)?,
        "batches" => batches(&world, number)?,
        "items" => items(&world, number)?,
        "costs" => costs(&world, number)?,
        "idle" => idle(&world, Duration::from_secs(number))?,
        "trillion" => {
            trillion(&world)?;
            print_peak_memory(&world);
        }
        other => panic!("unknown probe {other}"),
    }
    Ok(())
}

/// A whole call with one item, and with one item a rank: the shortest round trip there is.
fn calls(world: &World, count: u64) -> rankfold::Result<()> {
    for items in [1, world.size() as u64] {
        let call = || {
            world.over(0..items).leaf(1).for_each(|item| {
                black_box(item);
            })
        };
        (0..count / 10).try_for_each(|_| call())?;
        let start = Instant::now();
        (0..count).try_for_each(|_| call())?;
        say(world, format_args!("call_of_{items}={}", start.elapsed().as_secs_f64() / count as f64));
    }
    Ok(())
}

/// One long call of items of one to two microseconds: what its report says of a batch.
fn batches(world: &World, items: u64) -> rankfold::Result<()> {
    world.map_reduce(0..items, |item| work(item, 1000), u64::wrapping_add)?;
    if let Some(report) = world.report() {
        say(
            world,
            format_args!(
                "overhead={} batches={} efficiency={} wall={}",
                report.overhead().as_secs_f64(),
                report.batches(),
                report.efficiency(),
                report.wall.as_secs_f64()
            ),
        );
    }
    Ok(())
}

/// Items that cost next to nothing, with Rankfold and as a plain loop on one thread over as many as a thread gets.
fn items(world: &World, items: u64) -> rankfold::Result<()> {
    let threads = world.total_threads() as u64;
    let plain = Instant::now();
    black_box((0..items / threads).map(black_box).fold(0, u64::wrapping_add));
    let plain = plain.elapsed().as_secs_f64();
    let start = Instant::now();
    black_box(world.map_reduce(0..items, black_box, u64::wrapping_add)?);
    let seconds = start.elapsed().as_secs_f64();
    let each = threads as f64 / items as f64;
    say(world, format_args!("item={} plain={}", seconds * each, plain * each));
    Ok(())
}

/// Efficiency for items of rising cost: the time of plain loops on all threads over the time of the call.
fn costs(world: &World, nanoseconds: u64) -> rankfold::Result<()> {
    let threads = world.total_threads() as u64;
    for rounds in [0, 1, 2, 4, 8, 16, 32] {
        let mut items = 1 << 22;
        let mut plain = plain_seconds(world, items / threads, rounds)?;
        let scale = nanoseconds as f64 * 1e-9 / plain;
        items = (items as f64 * scale) as u64;
        plain = plain_seconds(world, items / threads, rounds)?;
        let start = Instant::now();
        black_box(world.map_reduce(0..items, |item| work(item, rounds), u64::wrapping_add)?);
        let efficiency = plain / start.elapsed().as_secs_f64();
        say(world, format_args!("cost={} efficiency={efficiency}", plain * threads as f64 / items as f64));
    }
    Ok(())
}

/// The time that a plain loop over `items` items takes where every rank runs one, the same on all ranks.
fn plain_seconds(world: &World, items: u64, rounds: u64) -> rankfold::Result<f64> {
    world.over(0..1u64).for_each(|_| {})?;
    let start = Instant::now();
    black_box((0..items).map(|item| work(item, rounds)).fold(0, u64::wrapping_add));
    let seconds = start.elapsed().as_secs_f64();
    // Rank 0's time is everybody's: the ranks must agree on the number of items.
    Ok(world.over(rankfold::data::from_root(vec![seconds])).map(|seconds| seconds)?[0])
}

/// One to two nanoseconds for each round: a chain that the compiler cannot shorten.
fn work(item: u64, rounds: u64) -> u64 {
    let mut value = black_box(item);
    for _ in 0..rounds {
        value = (value ^ (value >> 31)).wrapping_mul(6_364_136_223_846_793_005);
    }
    value
}

/// One rank has something to wait for, the others have nothing at all.
fn idle(world: &World, time: Duration) -> rankfold::Result<()> {
    say(world, format_args!("started=1"));
    world.over(0..1u64).for_each(|_| std::thread::sleep(time))
}

/// The sum of `0..10^12` by formula, but with about 10 µs of work for each million of items, so that there are batches
/// as in a run of several seconds.
fn trillion(world: &World) -> rankfold::Result<()> {
    let sum = |range: std::ops::Range<u64>| {
        black_box(work(range.start, (range.end - range.start) >> 7));
        u128::from(range.end - range.start) * (u128::from(range.start) + u128::from(range.end) - 1) / 2
    };
    let start = Instant::now();
    let sum = world.over(0..1_000_000_000_000u64).map_batches(sum, |a, b| a + b)?;
    say(world, format_args!("seconds={} sum={sum}", start.elapsed().as_secs_f64()));
    Ok(())
}

fn print_peak_memory(world: &World) {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells the peak memory");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    println!("rank={} peak_kib={kib}", world.rank());
}

fn say(world: &World, line: std::fmt::Arguments<'_>) {
    if world.is_root() {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}").and_then(|()| out.flush()).expect("standard output is open");
    }
}
