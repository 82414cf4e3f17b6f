//! Keys of which some are far more frequent than others: the busiest rank has at most 1.3 times the mean.

use rankfold::rand::RngExt;
use rankfold::{Result, World, op};

const ITEMS: u64 = 60_000;

fn on_each<R: Send>(ranks: usize, program: impl Fn(&World) -> Result<R> + Sync) -> Vec<R> {
    rankfold::threads(ranks, program).into_iter().collect::<Result<_>>().expect("no rank fails")
}

/// The key `k` is drawn with a probability of about `k^-1.2` (Zipf's law, cut off at a million): the first has a seventh of all.
fn zipf(item: u64) -> u64 {
    let mut rng = rankfold::rng(7, item);
    loop {
        let key = rng.random::<f64>().powf(-1.0 / 0.2);
        if key < 1e6 {
            return key as u64;
        }
    }
}

/// Every other item has the same key.
fn hot(item: u64) -> u64 {
    if item.is_multiple_of(2) { 3 } else { rankfold::rng(8, item).random_range(0..100_000) }
}

fn assert_even(what: &str, counts: &[u64]) {
    let (most, mean) = (*counts.iter().max().unwrap() as f64, counts.iter().sum::<u64>() as f64 / counts.len() as f64);
    assert!(most <= 1.3 * mean, "{what}: {counts:?}, the most {:.2} times the mean", most / mean);
}

#[test]
fn the_keys_are_as_skewed_as_they_are_said_to_be() {
    let count = |key: fn(u64) -> u64, wanted| (0..ITEMS).filter(|item| key(*item) == wanted).count() as f64;
    let (first, second) = (count(zipf, 1), count(zipf, 2));
    assert!(first / ITEMS as f64 > 0.12 && (1.8..3.2).contains(&(first / second)), "{first} and {second}");
    assert!(count(hot, 3) >= ITEMS as f64 / 2.0);
}

#[test]
fn no_rank_merges_or_sorts_much_more_than_others() {
    for (name, key) in [("zipf", zipf as fn(u64) -> u64), ("hot", hot)] {
        for ranks in [2, 4, 7] {
            let counts = on_each(ranks, |world| {
                let pairs = world.over(0..ITEMS).reduce_by_key(|item, pairs| pairs.add(key(item), 1u64), op::sum);
                let merged = pairs.shards()?;
                let total: u64 = world.map_reduce(merged.items(), |pair| pair.1, op::sum)?;
                assert_eq!(total, ITEMS);
                // What is sorted as input, and what is sorted where it is.
                let input = world.over(0..ITEMS).sort_by_key(|item| (key(item), item))?.len_here();
                let shards = world.over(0..ITEMS).shards(key)?.sort_by_key(|key| *key)?;
                Ok([merged.mine().len() as u64, input, shards.mine().len() as u64])
            });
            for (column, what) in ["merged keys", "sorted input", "sorted shards"].into_iter().enumerate() {
                let counts: Vec<u64> = counts.iter().map(|counts| counts[column]).collect();
                assert_even(&format!("{name}, {ranks} ranks, {what}"), &counts);
            }
        }
    }
}
