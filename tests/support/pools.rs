//! Programs in pools of ranks that are threads of this process.
#![allow(dead_code, reason = "some tests use one part, some another")]

use rankfold::{Pool, Result, World};

pub fn with<R: Send>(ranks: usize, program: impl FnOnce(&Pool) -> R + Send) -> R {
    World::local(ranks).unwrap().pool(program).unwrap().expect("the program runs on rank 0")
}

/// For programs that end with an error of the pool's.
pub fn pool<R: Send>(ranks: usize, program: impl FnOnce(&Pool) -> Result<R> + Send) -> Result<R> {
    with(ranks, program)
}

/// Values that stay where they are made, and what is done with them.
pub fn big(seed: u64) -> Vec<u64> {
    (0..5_000).map(|n| n ^ seed).collect()
}

pub fn shifted(values: &[u64], by: u64) -> Vec<u64> {
    values.iter().map(|value| value.rotate_left(7).wrapping_add(by)).collect()
}

pub fn total(values: &[u64]) -> u64 {
    values.iter().fold(0, |sum, value| sum.rotate_left(1) ^ value)
}
