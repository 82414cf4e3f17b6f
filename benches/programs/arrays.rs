//! Arrays of all ranks combined by `MPI_Allreduce`, called by hand, and by Rankfold in a fixed order and in any. Prints the
//! median times, taken in turns, as `name=value` pairs; of each time that of the slowest rank counts.

use std::time::Instant;

use mpi::collective::SystemOperation;
use mpi::topology::SimpleCommunicator;
use mpi::traits::*;
use rankfold::{Result, World, op};

const NAMES: [&str; 3] = ["mpi", "fixed", "relaxed"];

fn main() -> Result<()> {
    let argument = |place| std::env::args().nth(place).map(|text| text.parse().expect("a whole number"));
    let (elements, rounds): (usize, usize) = (argument(1).unwrap_or(1 << 20), argument(2).unwrap_or(31));
    let world = rankfold::init()?;
    let Some(communicator) = world.communicator() else { panic!("this program measures MPI ranks") };
    // Short operations many at a time, so that a clock can tell.
    let times = ((1 << 18) / elements).clamp(1, 500);
    let mut samples = [const { Vec::new() }; 3];
    for round in 0..rounds + 2 {
        for turn in 0..3 {
            let which = (round + turn) % 3;
            let seconds = slowest(communicator, || measure(&world, communicator, which, elements, times))?;
            if round >= 2 {
                samples[which].push(seconds / times as f64);
            }
        }
    }
    if world.is_root() {
        for (name, sample) in NAMES.iter().zip(&mut samples) {
            sample.sort_by(f64::total_cmp);
            let quartile = |of: usize| sample[(sample.len() - 1) * of / 4];
            println!("{name}={} {name}_low={} {name}_high={}", quartile(2), quartile(1), quartile(3));
        }
    }
    Ok(())
}

fn slowest(communicator: &SimpleCommunicator, run: impl FnOnce() -> Result<f64>) -> Result<f64> {
    communicator.barrier();
    let (mine, mut most) = (run()?, 0.0);
    communicator.all_reduce_into(&mine, &mut most, SystemOperation::max());
    Ok(most)
}

fn measure(
    world: &World,
    communicator: &SimpleCommunicator,
    which: usize,
    elements: usize,
    times: usize,
) -> Result<f64> {
    let mut mine = vec![1.0 / (1.0 + world.rank() as f64); elements];
    let mut all = vec![0.0; elements];
    let start = Instant::now();
    for _ in 0..times {
        match which {
            0 => communicator.all_reduce_into(&mine[..], &mut all[..], SystemOperation::sum()),
            1 => world.all_reduce_in_place(&mut mine, op::sum)?,
            _ => world.all_reduce_relaxed_in_place(&mut mine, op::sum)?,
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let expected = |rank: usize| 1.0 / (1.0 + rank as f64);
    let sum: f64 = (0..world.size()).map(expected).sum();
    let found = if which == 0 { all[elements / 2] } else { mine[elements / 2] };
    assert!(times > 1 || (found - sum).abs() < 1e-9, "{found} for {sum}");
    Ok(seconds)
}
