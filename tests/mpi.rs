//! Whole programs under a real mpirun: right results, and errors that end every rank with one clear message.
#![cfg(feature = "mpi")]

#[path = "mpi/arrays.rs"]
mod arrays;
#[path = "mpi/departures.rs"]
mod departures;
#[path = "mpi/failures.rs"]
mod failures;
#[path = "mpi/graph.rs"]
mod graph;
#[path = "mpi/huge.rs"]
mod huge;
#[path = "mpi/journal.rs"]
mod journal;
#[path = "mpi/launching.rs"]
mod launching;
#[path = "mpi/poison.rs"]
mod poison;
#[path = "mpi/pool.rs"]
mod pool;
#[path = "mpi/pool_direct.rs"]
mod pool_direct;
#[path = "mpi/results.rs"]
mod results;
#[path = "mpi/silence.rs"]
mod silence;
mod support;
