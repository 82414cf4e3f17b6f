//! Arrays that all ranks have: combined, shared out, and as input.

use std::time::Duration;

use ndarray::{Array2, Axis};
use rankfold::{Error, World, data, op};

use super::results::agree_and_print;
use super::{Outcome, add};

/// The argument is a rank that does something else than the others.
pub fn play(world: &World, scenario: &str, arguments: &[String]) -> Option<Outcome> {
    let odd = arguments.first().and_then(|rank| rank.parse().ok()).unwrap_or(1) == world.rank();
    Some(match scenario {
        "array-input" => input(world).and_then(|lines| agree_and_print(world, &lines)).map_err(Into::into),
        "arrays" => together(world),
        "large-arrays" => large(world),
        "arrays-of-other-lengths" => world.all_reduce(&vec![1.0; 10 + usize::from(odd)], op::sum).outcome(),
        "another-operation" if odd => world.all_gather(&[1.0][..]).outcome(),
        "another-operation" => world.all_reduce(&[1.0][..], op::sum).outcome(),
        "array-or-map" if odd => world.map_reduce(0..10u64, |i| i, add).outcome(),
        "array-or-map" => world.all_reduce(&1.0, op::sum).outcome(),
        "array-or-pool" if odd => world.pool(|_| std::thread::sleep(Duration::from_secs(1))).outcome(),
        "array-or-pool" => world.all_reduce(&1.0, op::sum).outcome(),
        "leaves-an-array" if odd => Ok(()),
        "leaves-an-array" => world.all_reduce(&1.0, op::sum).outcome(),
        _ => return None,
    })
}

trait IntoOutcome {
    fn outcome(self) -> Outcome;
}

impl<T> IntoOutcome for Result<T, Error> {
    fn outcome(self) -> Outcome {
        self.map(drop).map_err(Into::into)
    }
}

/// Values that show in which order they were added.
fn value(rank: usize, at: usize) -> f64 {
    ((rank * 7919 + at * 104_729) % 1009) as f64 * if at.is_multiple_of(3) { 1e-9 } else { 1e7 } / 3.0
}

/// What a fixed tree over the ranks gives.
fn tree(values: &[f64]) -> f64 {
    match values {
        [one] => *one,
        many => {
            let (left, right) = many.split_at(many.len().next_power_of_two() / 2);
            tree(left) + tree(right)
        }
    }
}

/// On cards, gathered, in slices of one chunk and of several.
fn together(world: &World) -> Outcome {
    let (rank, size) = (world.rank(), world.size());
    for len in [1, 7, 8, 3000, 300_001, 1_300_000] {
        let mine: Vec<f64> = (0..len).map(|at| value(rank, at)).collect();
        let sum = world.all_reduce(&mine, op::sum)?;
        for at in [0, len / 3, len - 1] {
            let values: Vec<f64> = (0..size).map(|rank| value(rank, at)).collect();
            check(sum[at].to_bits() == tree(&values).to_bits(), format!("element {at} of {len}"))?;
        }
        let relaxed = world.all_reduce_relaxed(&mine, op::sum)?;
        check(relaxed.iter().zip(&sum).all(|(a, b)| (a - b).abs() <= 1e-9 * b.abs()), format!("relaxed, {len}"))?;
        let most = world.all_reduce(&vec![rank as u16; len], op::max)?;
        check(most == vec![size as u16 - 1; len], format!("maxima, {len}"))?;
    }
    let whole = Array2::from_shape_fn((1003, 70), |(i, j)| (100 * i + j) as u32);
    let mine = if rank == 0 { whole.clone() } else { Array2::zeros((0, 0)) };
    check(world.broadcast(&mine)? == whole, "broadcast")?;
    let part = world.scatter(&mine)?;
    check(world.all_gather(&part)? == whole, "all_gather")?;
    check(world.gather(&part)? == (rank == 0).then_some(whole), "gather")?;
    if rank == 0 {
        println!("all as it should be");
    }
    Ok(())
}

/// More elements, and more bytes, than an `int` can count.
fn large(world: &World) -> Outcome {
    let (rank, len) = (world.rank() as u8, (1usize << 31) + 10);
    let mut mine = vec![rank + 1; len];
    mine[len - 1] = 7 * (rank + 1);
    world.all_reduce_in_place(&mut mine, op::max)?;
    check(mine[0] == world.size() as u8 && mine[len - 1] == 7 * world.size() as u8, "the maximum, by the library")?;
    world.all_reduce_in_place(&mut mine, |a: u8, b: u8| a.wrapping_add(b))?;
    let sum = (world.size() * world.size()) as u8;
    check(mine[0] == sum && mine[len - 2] == sum && mine[len - 1] == 7 * sum, "the sum, in a fixed order")?;
    mine.truncate(1 << 30);
    mine[0] = rank;
    let all = world.all_gather(&mine)?;
    check(
        all.len() == world.size() << 30 && (0..world.size()).all(|rank| all[rank << 30] == rank as u8),
        "all_gather",
    )?;
    if rank == 0 {
        println!("all as it should be");
    }
    Ok(())
}

fn check(holds: bool, what: impl std::fmt::Display) -> Outcome {
    if holds { Ok(()) } else { Err(format!("{what} is wrong").into()) }
}

/// The same bits wherever items are, and on any number of ranks.
fn input(world: &World) -> Result<Vec<String>, Error> {
    let table = Array2::from_shape_fn((2000, 30), |(i, j)| value(i, j));
    let root = || if world.is_root() { table.clone() } else { Array2::zeros((0, 0)) };
    let mut lines = Vec::new();
    for axis in [Axis(0), Axis(1)] {
        let here: f64 = world.map_reduce(data::along(&table, axis), |item| item.sum(), op::sum)?;
        let sent: f64 = world.map_reduce(data::along_from_root(root(), axis), |item| item.sum(), op::sum)?;
        lines.push(format!("along axis {}: {:016x} {:016x}", axis.0, here.to_bits(), sent.to_bits()));
    }
    Ok(lines)
}
