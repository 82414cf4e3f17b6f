//! What a task costs: how many empty ones a second, the round trip of one beside that of a bare message, and how long a
//! task has to be to be worth it. Prints `name=value` pairs.

use std::hint::black_box;
use std::time::{Duration, Instant};

use mpi::traits::*;
use rankfold::{Pool, Remote, Result, World};
use rayon::prelude::*;

/// Tasks of so many microseconds are measured.
const LENGTHS: [u64; 4] = [5, 10, 100, 1000];

fn main() -> Result<()> {
    let count = std::env::args().nth(1).map_or(300_000, |count| count.parse().expect("a whole number of tasks"));
    let world = rankfold::init()?;
    let ping = ping(&world);
    world.pool(|pool| measure(pool, count, ping))?.unwrap_or(Ok(()))
}

/// The round trip of eight bytes between ranks 0 and 1, in seconds, with nothing but MPI.
fn ping(world: &World) -> f64 {
    let Some(communicator) = world.communicator().filter(|communicator| communicator.size() > 1) else { return 0.0 };
    let (count, start) = (20_000u64, Instant::now());
    for number in 0..count {
        if communicator.rank() == 0 {
            communicator.process_at_rank(1).send(&number);
            black_box(communicator.process_at_rank(1).receive::<u64>());
        } else if communicator.rank() == 1 {
            let (number, _) = communicator.process_at_rank(0).receive::<u64>();
            communicator.process_at_rank(0).send(&number);
        }
    }
    start.elapsed().as_secs_f64() / count as f64
}

fn measure(pool: &Pool, count: u64, ping: f64) -> Result<()> {
    // A program without ranks would have as many threads, all in one process.
    let threads = rayon::ThreadPoolBuilder::new().num_threads(pool.total_threads()).build().expect("threads");
    run_all(pool.map(nothing, 0..count / 10)?)?;
    let start = Instant::now();
    run_all(pool.map(nothing, 0..count)?)?;
    print!("rate={} ", count as f64 / start.elapsed().as_secs_f64());
    let near = trips(2000, Duration::ZERO, || pool.submit(nothing, (1,))?.get())?;
    print!("trip={} slow_trip={} ping={ping} ", near[1000], near[1800]);
    let rested = trips(200, Duration::from_millis(2), || pool.submit(nothing, (1,))?.get())?;
    let far = pool.task().on(pool.size() - 1);
    let far = trips(2000, Duration::ZERO, || far.submit(nothing, (1,))?.get())?;
    print!("rested_trip={} far_trip={} ", rested[100], far[1000]);
    let steps_of_one = steps_in_a_microsecond();
    for length in LENGTHS {
        // Two seconds of work on one core; the first tasks tell how long they are.
        let (count, steps) = (2_000_000 / length, (length as f64 * steps_of_one) as u64);
        run_all(pool.map(compute, (0..count / 20).map(|_| steps))?)?;
        // Halves of both in turn, so that whatever else the machine does meets both.
        let (mut alone, mut wall) = (0.0, 0.0);
        for _ in 0..2 {
            let start = Instant::now();
            threads.install(|| (0..count / 2).into_par_iter().for_each(|_| _ = compute(steps)));
            alone += start.elapsed().as_secs_f64();
            let start = Instant::now();
            run_all(pool.map(compute, (0..count / 2).map(|_| steps))?)?;
            wall += start.elapsed().as_secs_f64();
        }
        let ideal = (count * length) as f64 * 1e-6 / pool.total_threads() as f64;
        print!("efficiency_{length}us={} rayon_{length}us={} ", ideal / wall, alone / wall);
    }
    println!();
    Ok(())
}

/// What so many round trips take in seconds, one after the other with pauses in between, the shortest first.
fn trips(count: usize, pause: Duration, mut trip: impl FnMut() -> Result<u64>) -> Result<Vec<f64>> {
    let once = |_| {
        std::thread::sleep(pause);
        let start = Instant::now();
        black_box(trip()?);
        Ok(start.elapsed().as_secs_f64())
    };
    let mut trips = (0..count).map(once).collect::<Result<Vec<_>>>()?;
    trips.sort_by(f64::total_cmp);
    Ok(trips)
}

fn run_all<T: rankfold::Data>(remotes: Vec<Remote<T>>) -> Result<()> {
    remotes.into_iter().try_for_each(|remote| remote.get().map(|value| drop(black_box(value))))
}

fn nothing(number: u64) -> u64 {
    number
}

/// Work of a fixed size. One that ends with the time would count what others take from its core, the scheduler too, as done.
fn compute(steps: u64) -> u64 {
    black_box((0..steps).fold(black_box(1), |state: u64, _| state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1)))
}

/// What a core computes in a microsecond when nobody disturbs it.
fn steps_in_a_microsecond() -> f64 {
    let steps = 100_000;
    let time = |_| {
        let start = Instant::now();
        compute(steps);
        start.elapsed().as_secs_f64()
    };
    steps as f64 / (1e6 * (0..200).map(time).fold(f64::INFINITY, f64::min))
}
