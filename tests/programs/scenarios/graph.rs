//! Graphs: the same values as without a pool, failures with their nodes, and a journal of named nodes.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use rankfold::{Graph, Node, Result, World};

use super::Outcome;

pub fn play(world: &World, scenario: &str, arguments: &[String]) -> Option<Outcome> {
    match scenario {
        "graph" => Some(results(world)),
        "graph-fails" => Some(fails(world)),
        "graph-journaled" => {
            let millis = arguments.first().and_then(|text| text.parse().ok()).unwrap_or(1000);
            Some(journaled(world, millis))
        }
        _ => None,
    }
}

fn numbers(seed: u64) -> Vec<u64> {
    (seed..seed + 20_000).map(|n| n.wrapping_mul(n)).collect()
}

fn mixed(left: &[u64], right: &[u64]) -> Vec<u64> {
    left.iter().zip(right).map(|(left, right)| left.rotate_left(5) ^ right).collect()
}

fn total(numbers: &[u64]) -> u64 {
    numbers.iter().fold(0, |sum, number| sum.rotate_left(1) ^ number)
}

type Levels = (Vec<Node<Vec<u64>>>, Vec<Node<u64>>);

/// Levels of large values that cross each other, with small ones beside.
fn levels(graph: &mut Graph) -> Result<Levels> {
    let mut level = (0..6).map(|seed| graph.add(numbers, (seed,))).collect::<Result<Vec<_>>>()?;
    let mut totals = Vec::new();
    for depth in 0..8 {
        let pair = |at: usize| (level[at], level[(at + depth + 1) % level.len()]);
        let pairs: Vec<_> = (0..level.len()).map(pair).collect();
        level = pairs.iter().map(|(left, right)| graph.add(mixed, (left, right))).collect::<Result<_>>()?;
        totals.push(graph.named(&format!("total {depth}")).add(total, (&level[depth % 6],))?);
    }
    Ok((level, totals))
}

fn results(world: &World) -> Outcome {
    let mut graph = Graph::new();
    let (level, totals) = levels(&mut graph)?;
    let sum = totals.iter().try_fold(totals[0], |sum, next| graph.add(|a: &u64, b: &u64| a ^ b, (&sum, next)))?;
    let outputs = (&sum, (&totals, Some(&level[3])));
    let Some(outcome) = world.pool(|pool| graph.run(pool, outputs))? else { return Ok(()) };
    let values = outcome?;
    assert!(values == graph.run_here(outputs)?, "a run in a pool gives what a run here gives");
    let (sum, (totals, last)) = values;
    println!("{sum:x} {totals:x?} {:x}", total(&last.expect("it was asked for")));
    println!("{}", graph.last_run().expect("it has run"));
    Ok(())
}

fn fails(world: &World) -> Outcome {
    let mut graph = Graph::new();
    let (level, _) = levels(&mut graph)?;
    let bad = graph
        .named("the bad node")
        .add(|n: &[u64]| if n.len() > 1 { panic!("too many") } else { 7u64 }, (&level[0],))?;
    let next = graph.add(|n: &u64, m: &[u64]| n + m[0], (&bad, &level[1]))?;
    world.pool(|pool| graph.run(pool, (&level, &next)))?.transpose()?;
    Ok(())
}

/// A named node that tells the folder `TALLY`, if there is one, that it runs.
fn told(name: &str, pause: u64) {
    std::thread::sleep(Duration::from_micros(pause));
    if let Some(folder) = std::env::var_os("TALLY") {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let name = (format!("{host}-{}", std::process::id()), format!("{name}\n"));
        let file = File::options().create(true).append(true).open(PathBuf::from(folder).join(name.0));
        file.and_then(|mut file| file.write_all(name.1.as_bytes())).expect("a folder that may be written");
    }
}

/// So many milliseconds of named nodes, small ones and large ones that need each other.
fn journaled(world: &World, millis: u64) -> Outcome {
    let make_part = |name: String, seed: u64, pause: u64| -> Vec<u64> {
        told(&name, pause);
        numbers(seed).into_iter().take(3000 * (seed % 2) as usize + 100).collect()
    };
    let make_sum = |name: String, part: &[u64], before: &u64, pause: u64| {
        told(&name, pause);
        total(part) ^ before.rotate_left(3)
    };
    let (steps, pause) = (40, millis * 1000 / 80);
    let mut graph = Graph::new();
    let mut last = graph.add(|| 1u64, ())?;
    for step in 0..steps {
        let (one, two) = (format!("part {step}"), format!("sum {step}"));
        let part = graph.named(&one).add(make_part, (one.clone(), step, pause))?;
        last = graph.named(&two).add(make_sum, (two.clone(), &part, &last, pause))?;
    }
    if let Some(value) = world.pool(|pool| graph.run(pool, &last))? {
        println!("{:x}", value?);
        eprintln!("{}", graph.last_run().expect("it has run"));
    }
    Ok(())
}
