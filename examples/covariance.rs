//! The covariance of the columns of a tall matrix, in one pass: `X^T X` as a reduction of blocks of rows.
//!
//! ```text
//! $ cargo run --release --example covariance -- --rows 1e6 --columns 3    # with --no-default-features: no MPI
//! $ mpirun -n 4 target/release/examples/covariance --rows 1e7 --columns 50
//! ```
//!
//! Rows are drawn where they are needed, so the matrix is nowhere as a whole; `--check` draws it again on rank 0, and
//! compares with what ndarray makes of it there. Standard output is the same on any number of ranks.

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use ndarray::{Array1, Array2, Axis, s};
use rankfold::rand::RngExt;
use rankfold::{World, op};

mod common;

/// Print the covariance matrix of random columns, each of which depends on the one before, one row a line.
#[derive(Parser)]
struct Args {
    /// How many rows there are
    #[arg(long, default_value = "1e6", value_parser = common::number)]
    rows: u64,
    /// How many columns there are
    #[arg(long, default_value = "4", value_parser = clap::value_parser!(u64).range(1..=5000))]
    columns: u64,
    /// Another seed draws other rows
    #[arg(long, default_value = "1", value_parser = common::number)]
    seed: u64,
    /// Compare with the whole matrix in the memory of rank 0
    #[arg(long)]
    check: bool,
}

/// Rows that are drawn at once, and the item that is scheduled.
const BLOCK: u64 = 4096;

fn main() -> ExitCode {
    rankfold::spmd(run)
}

fn run(world: &World) -> Result<(), Box<dyn Error>> {
    let Some(Args { rows, columns, seed, check }) = common::arguments(world)? else { return Ok(()) };
    if rows < 2 {
        return Err("the covariance of fewer than 2 rows is not defined: ask for more with --rows".into());
    }
    let columns = usize::try_from(columns)?;
    let draw = |block: u64| draw(seed, block, rows, columns);
    // One array for both sums: X^T X, and below it the sums of columns.
    let sums = world.over(0..rows.div_ceil(BLOCK)).named("covariance").elementwise().map_reduce(
        |block| {
            let x = draw(block);
            let mut sums = Array2::zeros((columns + 1, columns));
            sums.slice_mut(s![..columns, ..]).assign(&x.t().dot(&x));
            sums.row_mut(columns).assign(&x.sum_axis(Axis(0)));
            sums
        },
        op::sum,
    )?;
    let means = &sums.row(columns) / rows as f64;
    let products = sums.slice(s![..columns, ..]);
    let covariance = covariance(&products.to_owned(), &means, rows);
    if world.is_root() {
        common::print(|out| {
            covariance.rows().into_iter().try_for_each(|row| {
                let values: Vec<String> = row.iter().map(|value| format!("{value:.6}")).collect();
                writeln!(out, "{}", values.join("\t"))
            })
        })?;
        if check {
            let blocks: Vec<Array2<f64>> = (0..rows.div_ceil(BLOCK)).map(draw).collect();
            let views: Vec<_> = blocks.iter().map(|block| block.view()).collect();
            let whole = ndarray::concatenate(Axis(0), &views)?;
            let means = whole.sum_axis(Axis(0)) / rows as f64;
            let expected = self::covariance(&whole.t().dot(&whole), &means, rows);
            let error = (&covariance - &expected).iter().fold(0.0, |most: f64, off| most.max(off.abs()));
            eprintln!("the whole matrix on one rank gives the same but for {error:.1e}");
            if error > 1e-9 {
                return Err(format!("the covariance is off by {error}").into());
            }
        }
    }
    if let Some(report) = world.report() {
        eprintln!("{report}");
    }
    Ok(())
}

/// A block of rows: each entry is half of the one before it, and something of its own.
fn draw(seed: u64, block: u64, rows: u64, columns: usize) -> Array2<f64> {
    let mut rng = rankfold::rng(seed, block);
    let mut x = Array2::zeros((BLOCK.min(rows - block * BLOCK) as usize, columns));
    for mut row in x.rows_mut() {
        let mut before = 0.0;
        for value in &mut row {
            before = 0.5 * before + rng.random::<f64>() - 0.5;
            *value = before;
        }
    }
    x
}

fn covariance(products: &Array2<f64>, means: &Array1<f64>, rows: u64) -> Array2<f64> {
    let n = rows as f64;
    let outer = means.view().insert_axis(Axis(1)).dot(&means.view().insert_axis(Axis(0)));
    (products - &(outer * n)) / (n - 1.0)
}
