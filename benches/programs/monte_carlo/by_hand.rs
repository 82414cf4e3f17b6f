//! Monte Carlo as one writes it by hand with rsmpi: a fixed part of the blocks for each rank, then `MPI_Reduce`. The parts
//! are runs of neighbouring blocks, or dealt out like cards (block i to rank i modulo the number of ranks).

use std::time::Instant;

use mpi::collective::SystemOperation;
use mpi::traits::{Communicator, Root};

use crate::kernel::{Shape, count_inside};

pub(crate) fn run(arguments: &[String]) {
    let shape = Shape::from_argument(&arguments[0]);
    let blocks: u64 = arguments[1].parse().expect("a number of blocks");

    let universe = mpi::initialize().expect("MPI starts");
    let start = Instant::now();
    let world = universe.world();
    let (rank, size) = (world.rank() as u64, world.size() as u64);
    let count = |block: u64| count_inside(block, shape.points(block, blocks));
    let inside: u64 = match arguments[2].as_str() {
        "halves" => (blocks * rank / size..blocks * (rank + 1) / size).map(count).sum(),
        "cards" => (rank..blocks).step_by(size as usize).map(count).sum(),
        other => panic!("the parts are halves or cards, not {other}"),
    };
    let root = world.process_at_rank(0);
    if rank == 0 {
        let mut total = 0u64;
        root.reduce_into_root(&inside, &mut total, SystemOperation::sum());
        println!("seconds={} result={total} points={}", start.elapsed().as_secs_f64(), shape.all_points(blocks));
    } else {
        root.reduce_into(&inside, SystemOperation::sum());
    }
}
