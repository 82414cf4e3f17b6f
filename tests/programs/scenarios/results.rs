//! Calls whose results are known: what comes out must be the same bits on any number of ranks.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rankfold::{Error, World, data};

use super::{Outcome, add, results_large};

pub fn play(world: &World, scenario: &str, arguments: &[String]) -> Option<Outcome> {
    let outcome = match scenario {
        "one" => one(world),
        "results" => all(world),
        "large-results" => results_large::all(world),
        "many-calls" => many_calls(world),
        "count-lines" => count_lines(world, arguments),
        "nothing" => Ok(Vec::new()),
        _ => return None,
    };
    Some(outcome.and_then(|lines| agree_and_print(world, &lines)).map_err(Into::into))
}

/// Checks that every rank has the same results, then prints them once.
pub fn agree_and_print(world: &World, lines: &[String]) -> Result<(), Error> {
    let digest = [lines.join("\n")];
    world.over(data::replicated(&digest)).named("digest").for_each(drop)?;
    if world.is_root() {
        lines.iter().for_each(|line| println!("{line}"));
    }
    Ok(())
}

fn one(world: &World) -> Result<Vec<String>, Error> {
    Ok(vec![world.map_reduce(0..2u64, |i| i + 1, add)?.to_string()])
}

fn all(world: &World) -> Result<Vec<String>, Error> {
    let results = [floats(world)?, texts(world)?, orders(world)?, from_root(world)?, replicated(world)?, few(world)?];
    Ok(results.concat())
}

/// Sums whose bits depend on the order of every single addition.
fn floats(world: &World) -> Result<Vec<String>, Error> {
    let term = |i: u64| if i.is_multiple_of(3) { -1e9 / (i as f64 + 0.1) } else { 1.0 / (i as f64 + 0.3) };
    let mut sums = Vec::new();
    for (items, leaf) in [(1u64, 1), (7, 1), (100_003, 1), (100_003, 64), (65_536, 1024)] {
        let sum: f64 = world.over(0..items).leaf(leaf).map_reduce(term, |a, b| a + b)?;
        sums.push(format!("sum of {items} with leaves of {leaf}: {:016x}", sum.to_bits()));
    }
    let folded: f64 = world.over(0..100_003u64).leaf(128).fold(|| 0.5, |sum, i| sum + term(i), |a, b| a * 0.75 + b)?;
    sums.push(format!("fold: {:016x}", folded.to_bits()));
    Ok(sums)
}

fn word(i: u64) -> String {
    format!("{i}{}", ["", " ", "é\n"][(i % 3) as usize])
}

/// Concatenation, which keeps no secret of the order.
fn texts(world: &World) -> Result<Vec<String>, Error> {
    let expected: String = (5..3005).map(word).collect();
    for leaf in [1, 16, 4096] {
        let text = world.over(5..3005u64).leaf(leaf).map_reduce(word, |a, b| a + &b)?;
        assert_eq!(text, expected, "map_reduce with leaves of {leaf}");
        let text = world.over(5..3005u64).leaf(leaf).fold(String::new, |a, i| a + &word(i), |a, b| a + &b)?;
        assert_eq!(text, expected, "fold with leaves of {leaf}");
    }
    let batch = |items: std::ops::Range<u64>| items.map(word).collect::<String>();
    let text = world.over(5..3005u64).map_batches(batch, |a, b| a + &b)?;
    assert_eq!(text, expected, "map_batches");
    let text = world.over(5..3005u64).fold_batches(String::new, |a, items| a + &batch(items), |a, b| a + &b)?;
    assert_eq!(text, expected, "fold_batches");
    let joined: Option<String> = world.over(5..3005u64).on_root().map_reduce(word, |a, b| a + &b)?;
    assert_eq!(joined.as_ref(), world.is_root().then_some(&expected), "on_root");
    Ok(vec![format!("texts: {} bytes", text.len())])
}

fn orders(world: &World) -> Result<Vec<String>, Error> {
    let squares = world.over(-50..9950i64).map(|i| i * i)?;
    assert!(squares.iter().zip(-50..9950i64).all(|(square, i)| *square == i * i));
    let words = world.over(0..1000u64).on_root().map(word)?;
    assert_eq!(words.is_some(), world.is_root());
    assert!(words.iter().flatten().zip(0..).all(|(found, i)| *found == word(i)));
    let ends = world.over(0..1_000_000_000_000u64).map_batches(|items| items.end - items.start, add)?;
    assert_eq!(ends, 1_000_000_000_000);
    Ok(vec![format!("squares: {}", squares.len())])
}

fn from_root(world: &World) -> Result<Vec<String>, Error> {
    let items = || if world.is_root() { (0..2000).map(word).collect() } else { vec!["not looked at".to_owned()] };
    let expected: String = (0..2000).map(word).collect();
    let text = world.map_reduce(data::from_root(items()), |word| word, |a, b| a + &b)?;
    assert_eq!(text, expected);
    let lengths = world.over(data::from_root(items())).map(|word| word.len())?;
    assert!(lengths.iter().zip(0..).all(|(length, i)| *length == word(i).len()));
    let batches = world.over(data::from_root(items())).map_batches(|words| words.concat(), |a, b| a + &b)?;
    assert_eq!(batches, expected);
    Ok(vec![format!("from the root: {} bytes", text.len())])
}

fn replicated(world: &World) -> Result<Vec<String>, Error> {
    let masses: Vec<f64> = (0..12_345).map(|i| 1.0 / (f64::from(i) + 0.7)).collect();
    let total = world.map_reduce(data::replicated(&masses), |mass| *mass, |a, b| a + b)?;
    let sums = world.over(data::replicated(&masses)).map_batches(<[f64]>::len, |a, b| a + b)?;
    assert_eq!(sums, masses.len());
    Ok(vec![format!("masses: {:016x}", total.to_bits())])
}

/// Fewer items than ranks.
fn few(world: &World) -> Result<Vec<String>, Error> {
    let mut sums = Vec::new();
    for items in 1..5u64 {
        sums.push(world.map_reduce(0..items, |i| i + 1, add)?.to_string());
        assert_eq!(world.over(0..items).map(|i| i)?, (0..items).collect::<Vec<_>>());
        let root = if world.is_root() { vec![3u64; items as usize] } else { Vec::new() };
        assert_eq!(world.map_reduce(data::from_root(root), |i| i, add)?, 3 * items);
    }
    Ok(vec![format!("few: {}", sums.join(" "))])
}

/// A thousand calls, one after the other, some of which leave ranks with nothing to wait for.
fn many_calls(world: &World) -> Result<Vec<String>, Error> {
    let mut total = 0;
    for call in 0..1000u64 {
        match call % 4 {
            0 => total += world.map_reduce(0..call + 1, |i| i, add)?,
            1 => drop(world.over(0..call).on_root().map_reduce(|i| i, add)?),
            2 => total += world.over(0..call % 7).map(|i| i)?.len() as u64,
            _ => world.over(0..call % 5).for_each(drop)?,
        }
    }
    Ok(vec![format!("total: {total}")])
}

/// Counts and concatenates the lines of files, and checks both against the whole text.
fn count_lines(world: &World, paths: &[String]) -> Result<Vec<String>, Error> {
    let texts: Vec<String> =
        paths.iter().map(|path| std::fs::read_to_string(path).expect("the test's own file")).collect();
    let expected: Vec<&str> = texts.iter().flat_map(|text| text.lines()).collect();
    let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
    for leaf in [None, Some(1), Some(1000)] {
        let over = world.over(data::lines(paths.clone()));
        let over = if let Some(leaf) = leaf { over.leaf(leaf) } else { over };
        let found = over.map(|line| line.to_string())?;
        assert!(found == expected, "{} lines where {} are, leaf {leaf:?}", found.len(), expected.len());
    }
    let mut lengths = BTreeMap::new();
    expected.iter().for_each(|line| *lengths.entry(line.len()).or_insert(0u64) += 1);
    let merge = |mut a: BTreeMap<usize, u64>, b: BTreeMap<usize, u64>| {
        b.into_iter().for_each(|(length, count)| *a.entry(length).or_default() += count);
        a
    };
    let count = |line: data::Line| BTreeMap::from([(line.len(), 1)]);
    assert_eq!(world.over(data::lines(paths)).map_reduce(count, merge)?, lengths);
    Ok(vec![format!("{} lines", expected.len())])
}
