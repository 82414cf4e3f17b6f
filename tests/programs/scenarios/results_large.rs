//! Results and items of megabytes: split messages, parcels, and partials that climb the reduction tree.

use std::collections::{BTreeMap, HashMap};

use rankfold::{Error, World, data};

pub fn all(world: &World) -> Result<Vec<String>, Error> {
    Ok(vec![large_partials(world)?, maps(world)?, large_items(world)?, large_then_small(world)?])
}

fn block(i: u64) -> Vec<u64> {
    (0..2048).map(|k| i * 2048 + k).collect()
}

fn join(mut left: Vec<u64>, right: Vec<u64>) -> Vec<u64> {
    left.extend(right);
    left
}

/// 16 MiB of numbers in order.
fn large_partials(world: &World) -> Result<String, Error> {
    let numbers = world.over(0..1024u64).map_reduce(block, join)?;
    assert!(numbers.iter().copied().eq(0..1024 * 2048));
    let on_root = world.over(0..1024u64).on_root().map_batches(|items| items.flat_map(block).collect(), join)?;
    assert_eq!(on_root.is_some(), world.is_root());
    assert!(on_root.iter().flatten().copied().eq(0..if world.is_root() { 1024 * 2048 } else { 0 }));
    Ok(format!("numbers: {}", numbers.len()))
}

/// Histograms in hash maps, whose order differs from rank to rank.
fn maps(world: &World) -> Result<String, Error> {
    let count = |i: u64| {
        let keys = (0..50).map(|k| (format!("key number {}", (i * 31 + k * 7919) % 40_000), 1u64));
        keys.fold(HashMap::new(), |mut map: HashMap<String, u64>, (key, n)| {
            *map.entry(key).or_default() += n;
            map
        })
    };
    let merge = |mut a: HashMap<String, u64>, b: HashMap<String, u64>| {
        b.into_iter().for_each(|(key, n)| *a.entry(key).or_default() += n);
        a
    };
    let counts = world.over(0..4000u64).leaf(8).map_reduce(count, merge)?;
    assert_eq!(counts.values().sum::<u64>(), 4000 * 50);
    let sorted: BTreeMap<_, _> = counts.into_iter().collect();
    let mut mixed = 0u64;
    sorted.iter().for_each(|(key, n)| mixed = mixed.wrapping_mul(31).wrapping_add(n * key.len() as u64));
    Ok(format!("keys: {} {mixed:016x}", sorted.len()))
}

/// Items of 64 KiB from the root, so that a few of them are a parcel of more than 1 MiB.
fn large_items(world: &World) -> Result<String, Error> {
    let items = if world.is_root() { (0..400u64).map(|i| vec![i; 8192]).collect() } else { Vec::new() };
    let sums = world.over(data::from_root(items)).map(|item: Vec<u64>| item.iter().sum::<u64>())?;
    assert!(sums.iter().zip(0..).all(|(sum, i)| *sum == i * 8192));
    let few = if world.is_root() { (0..6u64).map(|i| vec![i; 400_000]).collect() } else { Vec::new() };
    let joined = world.over(data::from_root(few)).map_reduce(|item: Vec<u64>| item, join)?;
    assert_eq!(joined.len(), 2_400_000);
    assert!(joined.chunks(400_000).zip(0..).all(|(chunk, i)| chunk.iter().all(|n| *n == i)));
    Ok(format!("sums: {}", sums.len()))
}

/// Calls with large and small results in turn, of which only the root waits for some.
fn large_then_small(world: &World) -> Result<String, Error> {
    for round in 0..10u64 {
        let on_root = world.over(0..64u64).on_root().map_reduce(block, join)?;
        assert_eq!(on_root.map(|numbers| numbers.len()), world.is_root().then_some(64 * 2048));
        assert_eq!(world.map_reduce(0..round + 1, |i| i, |a, b| a + b)?, round * (round + 1) / 2);
    }
    Ok("turns: 10".into())
}
