//! A report from several tables as a graph: load, clean, join, statistics for each region, charts, one text.
//!
//! ```text
//! $ cargo run --release --example report_graph                    # with --no-default-features: no MPI
//! $ cargo build --release --examples && mpirun -n 4 target/release/examples/report_graph
//! $ target/release/examples/report_graph --dot | dot -Tsvg > report-graph.svg
//! ```
//!
//! The report goes to standard output and is the same for every number of ranks; how much of the graph ran goes to standard
//! error. `--region` asks for one region alone: what the others need does not run then.

use std::error::Error;
use std::fmt::Write;
use std::process::ExitCode;

use clap::Parser;
use rankfold::rand::RngExt;
use rankfold::{Graph, Node, World};
use serde::{Deserialize, Serialize};

mod common;

const REGIONS: [&str; 4] = ["north", "east", "south", "west"];

/// Print what was sold in each region and quarter, from tables of customers, orders and returns.
#[derive(Parser)]
struct Args {
    /// Orders in each quarter
    #[arg(long, default_value = "50000", value_parser = common::number)]
    orders: u64,
    /// Which tables are drawn
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One region alone
    #[arg(long, value_parser = REGIONS)]
    region: Option<String>,
    /// Print the graph for Graphviz instead
    #[arg(long)]
    dot: bool,
    /// Print the graph as JSON instead
    #[arg(long, conflicts_with = "dot")]
    json: bool,
}

/// An order as it stands in its table, which may be broken.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Row {
    order: u64,
    customer: String,
    cents: String,
}

/// An order that makes sense, with the region of its customer.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Sale {
    order: u64,
    region: usize,
    cents: u64,
}

/// What was sold in one region: for each quarter the number of orders and the sum.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Statistics {
    region: usize,
    quarters: [(u64, u64); 4],
    largest: u64,
}

fn main() -> ExitCode {
    rankfold::spmd(run)
}

fn run(world: &World) -> Result<(), Box<dyn Error>> {
    let Some(args) = common::arguments::<Args>(world)? else { return Ok(()) };
    let (graph, charts, report) = describe(&args)?;
    if args.dot || args.json {
        let text = if args.dot { graph.to_dot() } else { graph.to_json() };
        return if world.is_root() { Ok(common::print(|out| out.write_all(text.as_bytes()))?) } else { Ok(()) };
    }
    let region = args.region.and_then(|wanted| REGIONS.iter().position(|region| *region == wanted));
    let output = region.map_or(report, |region| charts[region]);
    if let Some(text) = world.pool(|pool| graph.run(pool, &output))? {
        let text = text?;
        common::print(|out| out.write_all(text.as_bytes()))?;
        graph.last_run().iter().for_each(|plan| eprintln!("{plan}"));
    }
    Ok(())
}

/// The graph, the chart of each region, and the whole report. Nothing runs.
fn describe(args: &Args) -> rankfold::Result<(Graph, Vec<Node<String>>, Node<String>)> {
    let (seed, orders) = (args.seed, args.orders);
    let mut graph = Graph::new();
    let customers = graph.named("customers").add(load_customers, (seed, orders / 10 + 1))?;
    let returned = graph.named("returns").add(load_returns, (seed, 4 * orders))?;
    let (mut sales, mut counts) = (Vec::new(), Vec::new());
    for quarter in 0..4 {
        let name = |what: &str| format!("{what} Q{}", quarter + 1);
        let rows = graph.named(&name("orders")).add(load_orders, (seed, quarter, orders))?;
        let clean = graph.named(&name("clean")).add(clean, (&rows, &customers))?;
        counts.push(graph.named(&name("kept")).add(|sales: &[Sale]| sales.len() as u64, (&clean,))?);
        sales.push(graph.named(&name("sales")).add(without_returns, (&clean, &returned))?);
    }
    let mut charts = Vec::new();
    for (region, name) in REGIONS.iter().enumerate() {
        let quarters = (&sales[0], &sales[1], &sales[2], &sales[3], region);
        let statistics = graph.named(&format!("statistics {name}")).add(statistics, quarters)?;
        charts.push(graph.named(&format!("chart {name}")).add(chart, (&statistics,))?);
    }
    let text = (&charts[0], &charts[1], &charts[2], &charts[3]);
    let body = graph.named("charts").add(together, text)?;
    let quality = graph.named("quality").add(quality, (&counts[0], &counts[1], &counts[2], &counts[3], 4 * orders))?;
    let report =
        graph.named("report").add(|body: &str, quality: &str| format!("{body}{quality}"), (&body, &quality))?;
    Ok((graph, charts, report))
}

/// The region of each customer.
fn load_customers(seed: u64, count: u64) -> Vec<usize> {
    let mut dice = rankfold::rng(seed, 0);
    (0..count).map(|_| (dice.random::<f64>().powi(2) * REGIONS.len() as f64) as usize).collect()
}

/// A table of orders as people make them: some customers are unknown, some sums no numbers.
fn load_orders(seed: u64, quarter: u64, count: u64) -> Vec<Row> {
    let mut dice = rankfold::rng(seed, 1 + quarter);
    let row = |order| {
        let customer = dice.random_range(0..=count / 10).to_string();
        let cents = (1000.0 * (1.0 + quarter as f64 / 4.0) / (0.02 + dice.random::<f64>())) as u64;
        match dice.random_range(0..200) {
            0 => Row { order, customer: "?".into(), cents: cents.to_string() },
            1 => Row { order, customer, cents: format!("{cents} (estimated)") },
            _ => Row { order, customer, cents: cents.to_string() },
        }
    };
    (quarter * count..(quarter + 1) * count).map(row).collect()
}

/// Orders that came back, in order.
fn load_returns(seed: u64, orders: u64) -> Vec<u64> {
    let mut dice = rankfold::rng(seed, 9);
    (0..orders).filter(|_| dice.random_range(0..50) == 0).collect()
}

/// Rows that make sense, with the region of their customers.
fn clean(rows: &[Row], customers: &[usize]) -> Vec<Sale> {
    let sale = |row: &Row| {
        let region = *customers.get(row.customer.parse::<usize>().ok()?)?;
        Some(Sale { order: row.order, region, cents: row.cents.parse().ok()? })
    };
    rows.iter().filter_map(sale).collect()
}

fn without_returns(sales: &[Sale], returned: &[u64]) -> Vec<Sale> {
    sales.iter().filter(|sale| returned.binary_search(&sale.order).is_err()).cloned().collect()
}

fn statistics(q1: &[Sale], q2: &[Sale], q3: &[Sale], q4: &[Sale], region: usize) -> Statistics {
    let of_region = |sales: &[Sale]| -> (u64, u64) {
        let cents = sales.iter().filter(|sale| sale.region == region).map(|sale| sale.cents);
        cents.fold((0, 0), |(count, sum), cents| (count + 1, sum + cents))
    };
    let largest = [q1, q2, q3, q4].into_iter().flatten().filter(|sale| sale.region == region);
    let largest = largest.map(|sale| sale.cents).max().unwrap_or(0);
    Statistics { region, quarters: [q1, q2, q3, q4].map(of_region), largest }
}

/// A bar for each quarter.
fn chart(statistics: &Statistics) -> String {
    let Statistics { region, quarters, largest } = statistics;
    let most = quarters.iter().map(|(_, sum)| *sum).max().unwrap_or(0).max(1);
    let mut text = format!("{}, largest order {}\n", REGIONS[*region], money(*largest));
    for (quarter, (count, sum)) in quarters.iter().enumerate() {
        let bar = "█".repeat((40 * sum / most) as usize);
        let _ = writeln!(text, "  Q{} {count:>7} orders {:>14}  {bar}", quarter + 1, money(*sum));
    }
    text
}

fn together(north: &str, east: &str, south: &str, west: &str) -> String {
    format!("{north}\n{east}\n{south}\n{west}\n")
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "values of nodes arrive as references")]
fn quality(q1: &u64, q2: &u64, q3: &u64, q4: &u64, rows: u64) -> String {
    let kept = q1 + q2 + q3 + q4;
    format!("{kept} of {rows} rows make sense\n")
}

fn money(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}
