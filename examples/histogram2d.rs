//! A histogram in two dimensions of points that are drawn as they are counted: arrays as partials.
//!
//! ```text
//! $ cargo run --release --example histogram2d -- --points 1e7 --bins 6    # with --no-default-features: no MPI
//! $ mpirun -n 4 target/release/examples/histogram2d --points 1e9
//! ```
//!
//! Standard output is the same on any number of ranks; a picture and a report of the run go to standard error.

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use ndarray::Array2;
use rankfold::rand::RngExt;
use rankfold::{World, op};

mod common;

/// Count correlated points of a normal distribution in a grid over [-3, 3] × [-3, 3], one row of counts a line.
#[derive(Parser)]
struct Args {
    /// How many points to draw
    #[arg(long, default_value = "1e7", value_parser = common::number)]
    points: u64,
    /// Bins along each axis
    #[arg(long, default_value = "12", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    bins: u64,
    /// The correlation of the two coordinates
    #[arg(long, default_value = "0.6", value_parser = correlation)]
    correlation: f64,
    /// Another seed draws other points
    #[arg(long, default_value = "1", value_parser = common::number)]
    seed: u64,
}

/// Points that are drawn from one generator, and the item that is scheduled.
const BLOCK: u64 = 1 << 16;

fn main() -> ExitCode {
    rankfold::spmd(run)
}

fn run(world: &World) -> Result<(), Box<dyn Error>> {
    let Some(Args { points, bins, correlation, seed }) = common::arguments(world)? else { return Ok(()) };
    let bins = usize::try_from(bins)?;
    let counts = world.over(0..points.div_ceil(BLOCK)).named("histogram").elementwise().fold(
        || Array2::<u64>::zeros((bins, bins)),
        |mut counts, block| {
            let mut rng = rankfold::rng(seed, block);
            for _ in block * BLOCK..points.min((block + 1) * BLOCK) {
                // Two independent ones by Box and Muller (Ann. Math. Stat. 29(2), 1958), then correlated.
                let (length, angle) = ((-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt(), rng.random::<f64>());
                let (b, a) = (std::f64::consts::TAU * angle).sin_cos();
                let (x, y) = (length * a, length * b);
                let y = correlation * x + (1.0 - correlation * correlation).sqrt() * y;
                if let (Some(row), Some(column)) = (bin(y, bins), bin(x, bins)) {
                    counts[[row, column]] += 1;
                }
            }
            counts
        },
        op::sum,
    )?;
    if world.is_root() {
        common::print(|out| {
            counts.rows().into_iter().try_for_each(|row| {
                let counts: Vec<String> = row.iter().map(u64::to_string).collect();
                writeln!(out, "{}", counts.join("\t"))
            })
        })?;
        eprint!("{}", picture(&counts));
    }
    if let Some(report) = world.report() {
        eprintln!("{report}");
    }
    Ok(())
}

/// The bin of a coordinate, if it is in the grid.
fn bin(at: f64, bins: usize) -> Option<usize> {
    let place = (at + 3.0) / 6.0 * bins as f64;
    (0.0..bins as f64).contains(&place).then_some(place as usize)
}

/// The higher the count, the darker.
fn picture(counts: &Array2<u64>) -> String {
    const SHADES: &[u8] = b" .:-=+*#%@";
    let most = counts.iter().max().copied().unwrap_or(0).max(1);
    let shade = |count: &u64| char::from(SHADES[(count * (SHADES.len() as u64 - 1)).div_ceil(most) as usize]);
    // A character is about twice as high as it is wide.
    let line = |row: ndarray::ArrayView1<'_, u64>| row.iter().flat_map(|count| [shade(count); 2]).collect::<String>();
    let lines = counts
        .rows()
        .into_iter()
        .rev()
        .take(40)
        .map(|row| format!("  {}\n", line(row.slice_move(ndarray::s![..40.min(row.len())]))));
    lines.collect()
}

fn correlation(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().map_err(|error| error.to_string())?;
    if (-1.0..=1.0).contains(&value) { Ok(value) } else { Err("not between -1 and 1".to_owned()) }
}
