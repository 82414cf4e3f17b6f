//! What `rankfold::init` is compared with: a program that starts and ends MPI and does nothing else.

fn main() {
    let universe = mpi::initialize().expect("MPI starts");
    drop(universe);
}
