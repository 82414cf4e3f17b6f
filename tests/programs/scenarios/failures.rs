//! Calls that fail on some rank, and calls over next to nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rankfold::{World, data};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Outcome, add};

/// Long enough that every rank gets items before the first one is through with all of them.
const A_WHILE: Duration = Duration::from_millis(2);

pub fn play(world: &World, scenario: &str, arguments: &[String]) -> Option<Outcome> {
    Some(match scenario {
        "mapper-panics" => mapper_panics(world),
        "mapper-panics-late" => mapper_panics_late(world),
        "mapper-panics-while-another-works" => mapper_panics_while_another_works(world),
        "mapper-panics-on-item" => mapper_panics_on_item(world),
        "batch-mapper-panics" => batch_mapper_panics(world),
        "combiner-panics-in-leaf" => combiner_panics(world, 1024, 700),
        "combiner-panics-between-batches" => combiner_panics(world, 1, 64),
        "combiner-panics-at-the-end" => combiner_panics(world, 1, 4096),
        "recovers" => recovers(world),
        "empty" => world.over(0..0u64).named("energy").map_reduce(|i| i, add).map(drop).map_err(Into::into),
        "empty-with-identity" => empty_with_identity(world),
        "empty-on-root" => empty_on_root(world),
        "empty-from-root" => empty_from_root(world),
        "cannot-encode" => cannot_encode(world),
        "cannot-decode" => cannot_decode(world),
        "result-cannot-be-decoded" => result_cannot_be_decoded(world),
        "cannot-decode-item" => cannot_decode_item(world),
        "lines" => lines(world, arguments),
        "own-error" => own_error(world, arguments),
        _ => return None,
    })
}

fn mapper_panics(world: &World) -> Outcome {
    let me = world.rank();
    let torn = |i: u64| {
        std::thread::sleep(A_WHILE);
        assert!(me != 2, "the mesh is torn");
        i
    };
    world.over(0..1000u64).named("energy").map_reduce(torn, add)?;
    Ok(())
}

/// Only the last part of a batch fails, while other threads of the rank are in its first parts.
fn mapper_panics_late(world: &World) -> Outcome {
    for round in 0..40u64 {
        let torn = |i: u64| {
            std::thread::sleep(Duration::from_micros(200));
            assert!(round < 39 || i != 767, "the mesh is torn");
            i
        };
        world.over(0..1024u64).named("energy").map_reduce(torn, add)?;
    }
    Ok(())
}

/// The first leaf fails on one rank, while the second keeps another one busy for a minute.
fn mapper_panics_while_another_works(world: &World) -> Outcome {
    let mapper = |i: u64| {
        match i {
            0 => std::thread::sleep(Duration::from_millis(300)),
            512 => std::thread::sleep(Duration::from_secs(60)),
            _ => {}
        }
        assert!(i != 0, "the mesh is torn");
        i
    };
    world.over(0..1000u64).named("energy").leaf(512).map_reduce(mapper, add)?;
    Ok(())
}

fn mapper_panics_on_item(world: &World) -> Outcome {
    let torn = |i: u64| {
        assert!(i != 700, "the mesh is torn");
        i
    };
    world.over(0..1000u64).named("energy").map_reduce(torn, add)?;
    Ok(())
}

fn batch_mapper_panics(world: &World) -> Outcome {
    let torn = |items: std::ops::Range<u64>| {
        assert!(!items.contains(&700), "the mesh is torn");
        items.end - items.start
    };
    world.over(0..1000u64).named("energy").map_batches(torn, add)?;
    Ok(())
}

/// Fails when it makes a partial of more than `largest` items.
fn combiner_panics(world: &World, leaf: u64, limit: u64) -> Outcome {
    let join = |left: u64, right: u64| {
        assert!(left + right < limit, "the parts do not fit");
        left + right
    };
    world.over(0..4096u64).named("energy").leaf(leaf).map_reduce(|_| 1, join)?;
    Ok(())
}

fn recovers(world: &World) -> Outcome {
    let tries = AtomicU64::new(0);
    let shaky = |i: u64| {
        assert!(i != 77 || tries.fetch_add(1, Ordering::Relaxed) >= 2, "not yet");
        i
    };
    // The tries of one item may be made on different ranks, each of which counts its own.
    let sum = world.over(0..1000u64).named("energy").retries(2 * world.size() as u32).map_reduce(shaky, add)?;
    if world.is_root() {
        println!("{sum}");
    }
    Ok(())
}

fn empty_with_identity(world: &World) -> Outcome {
    let sum = world.over(0..0u64).identity(5).map_reduce(|i| i, add)?;
    let none: Vec<u64> = world.over(0..0u64).map(|i| i)?;
    world.over(0..0u64).for_each(|_| unreachable!())?;
    let folded = world.over(0..0u64).fold(|| 9, |a, i| a + i, add)?;
    let on_root = world.over(0..0u64).identity(6).on_root().map_reduce(|i| i, add)?;
    assert_eq!((sum, none.len(), folded), (5, 0, 9));
    assert_eq!(on_root, world.is_root().then_some(6));
    Ok(())
}

fn empty_on_root(world: &World) -> Outcome {
    world.over(0..0u64).named("energy").on_root().map_reduce(|i| i, add)?;
    Ok(())
}

fn empty_from_root(world: &World) -> Outcome {
    // Not empty elsewhere, which does not count.
    let items = vec![7u64; world.rank()];
    world.over(data::from_root(items)).named("energy").map_reduce(|i| i, add)?;
    Ok(())
}

/// A value that resists being written.
#[derive(Debug, Clone)]
struct Stubborn(u64);

impl Serialize for Stubborn {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom(format!("{} stays here", self.0)))
    }
}

impl<'de> Deserialize<'de> for Stubborn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(Self)
    }
}

fn cannot_encode(world: &World) -> Outcome {
    let join = |a: Stubborn, b: Stubborn| Stubborn(a.0 + b.0);
    world.over(0..1000u64).named("energy").map_reduce(Stubborn, join)?;
    Ok(())
}

/// What only a format that describes itself can read.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Loose {
    Number(u64),
    Text(String),
}

fn cannot_decode(world: &World) -> Outcome {
    let join = |a: Loose, b: Loose| match (a, b) {
        (Loose::Number(a), Loose::Number(b)) => Loose::Number(a + b),
        (a, b) => Loose::Text(format!("{a:?}{b:?}")),
    };
    world.over(0..1000u64).named("energy").map_reduce(Loose::Number, join)?;
    Ok(())
}

/// Each part can be read, but the whole cannot.
#[derive(Debug, Clone, Serialize)]
struct Small(u64);

impl<'de> Deserialize<'de> for Small {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            value if value < 1000 => Ok(Self(value)),
            value => Err(serde::de::Error::custom(format!("{value} is too large"))),
        }
    }
}

fn result_cannot_be_decoded(world: &World) -> Outcome {
    let slowly = |_| {
        std::thread::sleep(A_WHILE);
        Small(1)
    };
    world.over(0..1000u64).named("energy").map_reduce(slowly, |a, b| Small(a.0 + b.0))?;
    world.over(0..10u64).named("next").for_each(drop)?;
    Ok(())
}

fn cannot_decode_item(world: &World) -> Outcome {
    let items = vec![Loose::Number(5); 1000];
    let slowly = |_| {
        std::thread::sleep(A_WHILE);
        1
    };
    world.over(data::from_root(items)).named("energy").map_reduce(slowly, add)?;
    Ok(())
}

/// Rank 1 is given the second path, the others the first.
fn lines(world: &World, paths: &[String]) -> Outcome {
    let path = &paths[usize::from(world.rank() == 1)];
    let count = world.over(data::lines([path])).named("words").map_reduce(|_| 1, add)?;
    if world.is_root() {
        println!("{count}");
    }
    Ok(())
}

/// An error of the program itself, on the rank that the argument names or on all.
fn own_error(world: &World, arguments: &[String]) -> Outcome {
    if arguments.first().is_none_or(|rank| *rank == world.rank().to_string()) {
        return Err("no such galaxy".into());
    }
    world.over(0..1000u64).named("energy").map_reduce(|i| i, add)?;
    Ok(())
}
