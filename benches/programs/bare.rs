//! What `rankfold::init` is compared with: a program that starts and ends MPI and does nothing else.

use std::time::Instant;

use mpi::traits::Communicator;

fn main() {
    let start = Instant::now();
    let universe = mpi::initialize().expect("MPI starts");
    if universe.world().rank() == 0 {
        println!("seconds={}", start.elapsed().as_secs_f64());
    }
}
