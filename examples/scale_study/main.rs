//! How well schedulers keep simulated machines busy: tables, and a picture, of the efficiency against the ideal.
//!
//! ```text
//! $ cargo run --release --no-default-features --example scale_study -- --quick
//! $ cargo run --release --no-default-features --example scale_study -- --svg study.svg --csv study.csv
//! ```
//!
//! Without arguments it takes a good while, most of it for the seeds of heavy tails; with `--seeds 1`, some minutes. The
//! ideal is all the work over all that the cores can do meanwhile, slow ones as slow as they are. "Fixed chunk" has tried
//! every power of two of leaves, with and without asking for the next chunk ahead, and tells the best: nobody can know it
//! before a run, so it stands for the most that tuning could reach.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::Parser;
use rankfold::simulate::{Machine, Scheme, Workload, run};

mod cells;
mod chart;
mod table;

use cells::{Cell, Load, Measured};

/// Compare schedulers on simulated machines of 135 to 100,000 ranks with one thread each.
#[derive(Parser)]
struct Args {
    /// How many ranks the machines have [default: 135,1000,10000,100000]
    #[arg(long, value_delimiter = ',')]
    ranks: Vec<usize>,
    /// What an item costs on average, as 20us, 1ms, 0.5s [default: 1us,1ms,1s]
    #[arg(long, value_delimiter = ',', value_parser = seconds)]
    costs: Vec<f64>,
    /// Only workloads and troubles whose names begin so, as ramp,pareto,one
    #[arg(long, value_delimiter = ',')]
    workloads: Vec<String>,
    /// Seconds of work for each rank [default: 10]
    #[arg(long)]
    seconds: Option<f64>,
    /// Which random costs
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds, from the first on, where the tail is so heavy that a single item decides (Pareto) [default: 10; 1
    /// if --quick]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: Option<u64>,
    /// Where to draw the picture
    #[arg(long)]
    svg: Option<PathBuf>,
    /// Where to put all numbers
    #[arg(long)]
    csv: Option<PathBuf>,
    /// A small study: 135 ranks, items of 1 ms, 0.5 s of work for each rank, if nothing else is asked for
    #[arg(long)]
    quick: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let (ranks, costs, work) = if args.quick {
        (vec![135], vec![1e-3], 0.5)
    } else {
        (vec![135, 1000, 10_000, 100_000], vec![1e-6, 1e-3, 1.0], 10.0)
    };
    let ranks = if args.ranks.is_empty() { ranks } else { args.ranks };
    let costs = if args.costs.is_empty() { costs } else { args.costs };
    let work = args.seconds.unwrap_or(work);
    if ranks.contains(&0) || work <= 0.0 {
        return Err("a machine has at least one rank, and some work".into());
    }
    let seeds = args.seeds.unwrap_or(if args.quick { 1 } else { 10 });
    let loads = Load::named(&args.workloads)?;

    say(&a_billion_points())?;
    let mut all: Vec<Measured> = Vec::new();
    for ranks in ranks {
        let cell = |load: &Load, cost: &f64| Cell { ranks, load: *load, cost: *cost, work, seed: args.seed, seeds };
        let cells: Vec<Cell> = loads.iter().flat_map(|load| costs.iter().map(move |cost| cell(load, cost))).collect();
        let measured = cells::measure_all(&cells);
        say(&table::of(&measured))?;
        all.extend(measured);
    }
    say(&table::verdict(&all))?;
    if let Some(path) = args.csv {
        std::fs::write(path, table::csv(&all))?;
    }
    if let Some(path) = args.svg {
        std::fs::write(path, chart::svg(&all, &command()))?;
    }
    Ok(())
}

/// The run that the README's program is for, with what comes before and after the work: as one item for each point, and
/// as the example `montecarlo_pi` does it, in blocks.
fn a_billion_points() -> String {
    let machine = Machine { start: 0.05, ..Machine::new(135) };
    let (points, single, block) = (1_000_000_000u64, 420.0, 1 << 16);
    let ideal = single / machine.cores() as f64;
    let mut text = format!("135 ranks, 10^9 points, {single} s of single-core work: {ideal:.3} s in an ideal world\n");
    for (items, what) in [(points, "an item for each point"), (points.div_ceil(block), "blocks of 65,536 points")] {
        let costs = Workload::Uniform.costs(items, single / items as f64, 1);
        let forecast = run(&machine, &costs, Scheme::Rankfold);
        let (efficiency, makespan) = (100.0 * forecast.efficiency, forecast.makespan);
        let _ = writeln!(text, "  Rankfold, {what:<23}: {efficiency:.1} % of the ideal, {makespan:.3} s");
    }
    let Machine { start, latency, service, gap, .. } = machine;
    let [latency, service, gap] = [latency, service, gap].map(|seconds| seconds * 1e6);
    let _ = writeln!(
        text,
        "  assumed: {start} s until the ranks can begin, {latency} µs for a message, {service} µs of rank 0 for each,\n  \
         {gap} µs between two batches, one thread for each rank, a tree each way for the result"
    );
    text
}

fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// The command as somebody would repeat it.
fn command() -> String {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    format!("cargo run --release --example scale_study -- {}", arguments.join(" "))
}

fn seconds(text: &str) -> Result<f64, String> {
    let units = [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0)];
    let (number, unit) = units
        .into_iter()
        .find_map(|(ending, unit)| Some((text.strip_suffix(ending)?, unit)))
        .ok_or("a time has a unit: 20us, 1ms, 0.5s")?;
    match number.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number * unit),
        _ => Err(format!("`{number}` is no time")),
    }
}
