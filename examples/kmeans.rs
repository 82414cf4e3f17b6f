//! Clusters of points by the algorithm of Lloyd (IEEE Trans. Inf. Theory 28(2), 1982): a map-reduce that is iterated.
//!
//! ```text
//! $ cargo run --release --example kmeans -- --points 1e6 --clusters 5     # with --no-default-features: no MPI
//! $ mpirun -n 4 target/release/examples/kmeans --points 1e8 --journal runs/kmeans
//! ```
//!
//! With a journal, iterations that are done return at once in the next job, and the one that was interrupted goes on where
//! it was. Standard output is the same on any number of ranks and jobs.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use ndarray::{Array2, ArrayView1, Axis};
use rankfold::rand::RngExt;
use rankfold::{World, op};

mod common;

/// Print the centres of clusters of random points and how many points each has, one cluster a line.
#[derive(Parser)]
struct Args {
    /// How many points to draw
    #[arg(long, default_value = "1e6", value_parser = common::number)]
    points: u64,
    /// How many clusters to look for; as many heaps of points are drawn
    #[arg(long, default_value = "5", value_parser = clap::value_parser!(u64).range(1..=1000))]
    clusters: u64,
    /// Iterations at most; it ends when no centre moves by more than 1e-6
    #[arg(long, default_value = "30", value_parser = common::number)]
    iterations: u64,
    /// Another seed draws other points
    #[arg(long, default_value = "1", value_parser = common::number)]
    seed: u64,
    /// A folder that the next job goes on from
    #[arg(long)]
    journal: Option<PathBuf>,
}

/// Points that are drawn from one generator, and the item that is scheduled.
const BLOCK: u64 = 1 << 14;
/// Points are in a plane, so that one can see them.
const AXES: usize = 2;

fn main() -> ExitCode {
    rankfold::spmd(run)
}

fn run(world: &World) -> Result<(), Box<dyn Error>> {
    let Some(Args { points, clusters, iterations, seed, journal }) = common::arguments(world)? else { return Ok(()) };
    let clusters = usize::try_from(clusters)?;
    if points < clusters as u64 {
        return Err(format!("{points} points are fewer than {clusters} clusters: ask for more with --points").into());
    }
    let heaps = heaps(seed, clusters);
    // The first points are as good as any to begin with.
    let mut centres = draw(seed, 0, points, &heaps).slice_move(ndarray::s![..clusters.min(BLOCK as usize), ..]);
    let mut sizes = Vec::new();
    for iteration in 1..=iterations {
        let mut call = world.over(0..points.div_ceil(BLOCK)).named(format!("iteration {iteration}"));
        if let Some(folder) = &journal {
            call = call.journal(folder);
        }
        // For each cluster the sum of its points, and in the last column how many they are.
        let sums = call.elementwise().fold(
            || Array2::<f64>::zeros((clusters, AXES + 1)),
            |mut sums, block| {
                for point in draw(seed, block, points, &heaps).rows() {
                    let mut sum = sums.row_mut(nearest(&centres, &point));
                    point.iter().chain(&[1.0]).zip(&mut sum).for_each(|(value, sum)| *sum += value);
                }
                sums
            },
            op::sum,
        )?;
        let mut moved: f64 = 0.0;
        for (mut centre, sum) in centres.rows_mut().into_iter().zip(sums.rows()) {
            // A cluster that has lost all of its points stays where it was.
            for axis in 0..if sum[AXES] > 0.0 { AXES } else { 0 } {
                let mean = sum[axis] / sum[AXES];
                moved = moved.max((mean - centre[axis]).abs());
                centre[axis] = mean;
            }
        }
        sizes = sums.column(AXES).to_vec();
        if world.is_root() {
            eprintln!("iteration {iteration}: centres have moved by up to {moved:.6}");
        }
        if moved < 1e-6 {
            break;
        }
    }
    if world.is_root() {
        common::print(|out| {
            centres
                .axis_iter(Axis(0))
                .zip(&sizes)
                .try_for_each(|(centre, size)| writeln!(out, "{:.6}\t{:.6}\t{size}", centre[0], centre[1]))
        })?;
    }
    if let Some(report) = world.report() {
        eprintln!("{report}");
    }
    Ok(())
}

fn nearest(centres: &Array2<f64>, point: &ArrayView1<'_, f64>) -> usize {
    let distance = |centre: ArrayView1<'_, f64>| centre.iter().zip(point).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
    let distances = centres.rows().into_iter().map(distance).enumerate();
    distances.min_by(|(_, a), (_, b)| a.total_cmp(b)).map_or(0, |(cluster, _)| cluster)
}

/// Where the heaps of points are.
fn heaps(seed: u64, clusters: usize) -> Array2<f64> {
    let mut rng = rankfold::rng(seed, u64::MAX);
    Array2::from_shape_simple_fn((clusters, AXES), || 10.0 * rng.random::<f64>())
}

/// A block of points, each near one of the heaps.
fn draw(seed: u64, block: u64, points: u64, heaps: &Array2<f64>) -> Array2<f64> {
    let mut rng = rankfold::rng(seed, block);
    let mut drawn = Array2::zeros((BLOCK.min(points - block * BLOCK) as usize, AXES));
    for mut point in drawn.rows_mut() {
        let heap = heaps.row(rng.random_range(0..heaps.nrows()));
        for (value, middle) in point.iter_mut().zip(heap) {
            // The sum of three is bell-shaped enough.
            *value = middle + (0..3).map(|_| rng.random::<f64>() - 0.5).sum::<f64>();
        }
    }
    drawn
}
