//! What the test programs do: calls that fail in every way there is, and calls whose results are known.
//!
//! Written against `World` alone, so that the same scenarios run under mpirun and on threads of one process.

use std::error::Error;

use rankfold::World;

pub mod arrays;
pub mod departures;
pub mod disagreements;
pub mod failures;
pub mod graph;
pub mod huge;
pub mod journal;
pub mod keyed;
pub mod poison;
pub mod pool;
pub mod pool_direct;
pub mod results;
pub mod results_large;
pub mod shards;
pub mod silence;

/// What a program that does nothing wrong prints, and why the others end.
pub type Outcome = Result<(), Box<dyn Error>>;

/// Plays the scenario named by the first argument; the others are its own.
pub fn play(world: &World, arguments: &[String]) -> Outcome {
    let scenario = arguments.first().map_or("", String::as_str);
    let rest = arguments.get(1..).unwrap_or_default();
    failures::play(world, scenario, rest)
        .or_else(|| disagreements::play(world, scenario))
        .or_else(|| departures::play(world, scenario, rest))
        .or_else(|| journal::play(world, scenario, rest))
        .or_else(|| poison::play(world, scenario, rest))
        .or_else(|| pool::play(world, scenario, rest))
        .or_else(|| graph::play(world, scenario, rest))
        .or_else(|| pool_direct::play(world, scenario, rest))
        .or_else(|| silence::play(world, scenario, rest))
        .or_else(|| arrays::play(world, scenario, rest))
        .or_else(|| keyed::play(world, scenario, rest))
        .or_else(|| shards::play(world, scenario, rest))
        .or_else(|| huge::play(world, scenario))
        .or_else(|| results::play(world, scenario, rest))
        .unwrap_or_else(|| Err(format!("there is no scenario `{scenario}`").into()))
}

/// The sum, as a combiner.
pub fn add(left: u64, right: u64) -> u64 {
    left + right
}
