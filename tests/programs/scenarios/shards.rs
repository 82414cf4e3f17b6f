//! Items that stay on the ranks from step to step.

use std::collections::BTreeSet;
use std::time::Duration;

use rankfold::{World, op};

use super::Outcome;

/// The first argument is the number of milliseconds of work.
pub fn play(world: &World, scenario: &str, arguments: &[String]) -> Option<Outcome> {
    let millis = arguments.first().and_then(|text| text.parse().ok()).unwrap_or(0);
    match scenario {
        "shards" => Some(steps(world, millis)),
        "shards-panic" => Some(panics(world)),
        "shards-uneven" => Some(uneven(world)),
        _ => None,
    }
}

/// The same output on any number of ranks.
fn steps(world: &World, millis: u64) -> Outcome {
    let term = |i: u64| {
        if millis > 0 && i.is_multiple_of(100_000 / millis) {
            std::thread::sleep(Duration::from_millis(1));
        }
        if i.is_multiple_of(3) { -1e9 / (i as f64 + 0.1) } else { 1.0 / (i as f64 + 0.3) }
    };
    let terms = world.over(0..100_003u64).named("terms").shards(term)?;
    let sum: f64 = world.map_reduce(terms.items(), |term| *term, op::sum)?;
    let words = terms.map(|term| format!("{:.0}", term.abs() % 1000.0))?.filter(|word| !word.ends_with('7'))?;
    let counts = world.over(words.items()).reduce_by_key(|word, pairs| pairs.add_borrowed(&**word, 1u64), op::sum);
    let top = counts.top(5)?;
    let total = words.len();
    let sorted = words.sort_by_key(String::clone)?;
    let most = world.all_reduce(&sorted.mine().len(), op::max)?;
    let balanced = most * world.size() <= (total as usize * 13 / 10).max(total as usize);
    let groups = sorted.group_by_key(String::len)?;
    let lengths =
        groups.map(|(length, words)| (length, words.len(), words.is_sorted()))?.sort_by_key(|group| group.0)?;
    if let Some(lengths) = lengths.gather()? {
        println!("{:016x} {total} {top:?} {balanced} {lengths:?}", sum.to_bits());
    }
    Ok(())
}

/// All that takes time is on rank 0; what the others have done of it goes to stderr.
fn uneven(world: &World) -> Outcome {
    let items = world.shards((0..if world.is_root() { 300u64 } else { 0 }).collect())?;
    let here = world.rank();
    let squares = items.map(|i| {
        std::thread::sleep(Duration::from_millis(4));
        (i * i, here)
    })?;
    let squares = squares.filter(|(square, _)| square % 3 > 0)?;
    let sum = world.map_reduce(
        squares.items(),
        |pair| {
            std::thread::sleep(Duration::from_millis(pair.0 % 7));
            1.0 / pair.0 as f64
        },
        |a, b| a * 0.9 + b,
    )?;
    if let Some(squares) = squares.gather()? {
        let makers = squares.iter().map(|(_, maker)| *maker).collect::<BTreeSet<_>>();
        eprintln!("made by all {} ranks: {}", world.size(), makers.len() == world.size());
        println!("{:016x} {:?}", sum.to_bits(), squares.iter().map(|(square, _)| *square).collect::<Vec<_>>());
    }
    Ok(())
}

fn panics(world: &World) -> Outcome {
    let items = world.over(0..1000u64).shards(|i| i)?;
    items.map(|i| assert!(i != 777, "unlucky")).map(drop).map_err(Into::into)
}
