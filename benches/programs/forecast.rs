//! Real runs and their forecasts: `mpirun -n 4 bench_forecast [quick]`. The program measures how fast its ranks are and
//! how long a message takes, runs three workloads, and has the simulator foretell each of them.

use std::hint::black_box;
use std::time::Instant;

use mpi::traits::CommunicatorCollectives;
use rankfold::World;
use rankfold::simulate::{Costs, Machine, Scheme, Workload, run};

/// Rounds of the mapper's loop that stand for a second of work.
const ROUNDS: f64 = 1e8;
const ITEMS: u64 = 4000;

fn main() -> rankfold::Result<()> {
    let world = rankfold::init()?;
    let seconds = if std::env::args().nth(1).is_some_and(|word| word == "quick") { 0.2 } else { 3.0 };
    for workload in [Workload::Uniform, Workload::RampUp, Workload::Rare] {
        let machine = measured(&world)?;
        let total = seconds * machine.speeds.iter().sum::<f64>();
        let costs = workload.costs(ITEMS, total / ITEMS as f64, 1);
        let real = real(&world, &costs)?;
        if world.is_root() {
            let foretold = run(&machine, &costs, Scheme::Rankfold).makespan;
            println!("real={real} foretold={foretold} latency={}", machine.latency);
        }
    }
    Ok(())
}

/// The wall time of a call whose items cost what `costs` says.
fn real(world: &World, costs: &Costs) -> rankfold::Result<f64> {
    let begun = Instant::now();
    world.over(0..ITEMS).map_reduce(|item| spin(costs.leaf(item)), u64::wrapping_add)?;
    Ok(begun.elapsed().as_secs_f64())
}

/// This machine, as these ranks find it when all of them compute at the same time.
fn measured(world: &World) -> rankfold::Result<Machine> {
    let (calls, ranks) = (200, world.size() as u64);
    let begun = Instant::now();
    (0..calls).try_for_each(|_| world.over(0..ranks).leaf(1).for_each(|_| ()))?;
    // A call is four messages in a row: hello, batch, done, finish; then the reduction, which the forecast adds itself.
    let latency = begun.elapsed().as_secs_f64() / f64::from(calls) / 8.0;
    let mut speeds = vec![0.0; world.size()];
    let begun = Instant::now();
    black_box(spin(0.5));
    let mine = 0.5 / begun.elapsed().as_secs_f64();
    match world.communicator() {
        Some(communicator) => communicator.all_gather_into(&mine, &mut speeds[..]),
        None => speeds[0] = mine,
    }
    Ok(Machine { latency, speeds, ..Machine::new(world.size()) })
}

/// Work that takes about so many seconds on a fast core, and as much more on a slower one.
fn spin(seconds: f64) -> u64 {
    (0..(seconds * ROUNDS) as u64).fold(1, |state: u64, round| black_box(state.wrapping_mul(0x9E37_79B9) ^ round))
}
