//! Calls that are not the same on every rank: rank 1 does something else.

use rankfold::{World, data};

use super::{Outcome, add};

pub fn play(world: &World, scenario: &str) -> Option<Outcome> {
    let differs = world.rank() == 1;
    let outcome = match scenario {
        "other-length" => world.over(0..1000 + u64::from(differs)).named("energy").map_reduce(|i| i, add).map(drop),
        "other-type" if differs => {
            world.over(0..10u64).named("energy").map_reduce(|i| i as f64, |a, b| a + b).map(drop)
        }
        "other-type" => world.over(0..10u64).named("energy").map_reduce(|i| i, add).map(drop),
        "other-operation" if differs => world.over(0..10u64).named("energy").map(|i| i).map(drop),
        "other-operation" => world.over(0..10u64).named("energy").map_reduce(|i| i, add).map(drop),
        "other-name" => {
            let name = if differs { "mass" } else { "energy" };
            world.over(0..10u64).named(name).map_reduce(|i| i, add).map(drop)
        }
        "other-contents" => {
            let masses = vec![1.5 + f64::from(u8::from(differs)); 100];
            world.over(data::replicated(&masses)).named("energy").map_reduce(|mass| *mass, |a, b| a + b).map(drop)
        }
        "other-source" if differs => {
            world.over(data::from_root(vec![1u64])).named("energy").map_reduce(|i| i, add).map(drop)
        }
        "other-source" => world.over(0..10u64).named("energy").map_reduce(|i| i, add).map(drop),
        "other-leaf" => {
            world.over(0..1000u64).named("energy").leaf(if differs { 8 } else { 4 }).map_reduce(|i| i, add).map(drop)
        }
        "one-call-more" => (0..2 + u32::from(differs))
            .try_for_each(|_| world.over(0..10u64).named("energy").map_reduce(|i| i, add).map(drop)),
        "one-call-fewer" => (0..3 - u32::from(differs))
            .try_for_each(|_| world.over(0..10u64).named("energy").map_reduce(|i| i, add).map(drop)),
        _ => return None,
    };
    Some(outcome.map_err(Into::into))
}
