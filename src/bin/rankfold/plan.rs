//! `rankfold simulate`: how long a job takes, on how many ranks, and how that compares.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use rankfold::simulate::{Costs, Forecast, Machine, Scheme, Workload, run};
use rayon::iter::{IntoParallelIterator, IntoParallelRefIterator, ParallelIterator};

use crate::numbers::{clock, grouped, percent, positive, seconds, some_seconds, time, wall, work};
use crate::print;
use crate::table::Table;

/// More ranks than any machine has, and few enough for the memory of the one that simulates them.
const MOST_RANKS: u64 = 1_000_000;
const MOST_THREADS: u64 = 4096;
/// Ten years: a job that would take longer is a slip of the finger in a unit.
const LONGEST: f64 = 10.0 * 365.0 * 86400.0;

const SPREADS: [(&str, Workload, &str); 7] = [
    ("uniform", Workload::Uniform, "all the same"),
    ("lognormal", Workload::Lognormal, "lognormal with sigma 1: some cost several times the mean"),
    ("pareto", Workload::Pareto, "Pareto with alpha 1.5: a few cost thousands of times the mean"),
    ("ramp-up", Workload::RampUp, "from next to nothing at the start to twice the mean at the end"),
    ("ramp-down", Workload::RampDown, "the other way round"),
    ("rare", Workload::Rare, "one in a hundred costs a hundred times as much as the others"),
    ("mandelbrot", Workload::Mandelbrot, "rows of a picture of the Mandelbrot set: long cheap and dear stretches"),
];

#[derive(Args)]
#[command(next_help_heading = "The job")]
pub struct Plan {
    /// How many items there are: 1000000, 1e9, 10G [default: the lines of the trace]
    #[arg(long, value_name = "N", value_parser = positive)]
    #[arg(required_unless_present_any = ["trace", "faults", "seeds", "soak"])]
    items: Option<u64>,
    /// What an item costs on average, on one thread: 420ns, 1.5us, 2ms, 3s
    #[arg(long, value_name = "SECONDS", value_parser = some_seconds)]
    #[arg(required_unless_present_any = ["trace", "faults", "seeds", "soak"])]
    cost: Option<f64>,
    /// How the costs of items differ
    #[arg(long, value_parser = spreads(), default_value = "uniform")]
    spread: Workload,
    /// Costs that were measured in a smaller run: the seconds of one item on each line
    ///
    /// With more --items than lines, the trace is stretched: each line stands for the
    /// items in its place, so that cheap and dear stretches stay where they are.
    #[arg(long, verbatim_doc_comment, value_name = "FILE", conflicts_with_all = ["cost", "spread"])]
    trace: Option<PathBuf>,
    /// Wall time of one Slurm job, to be told how many it takes: 2:00:00, 90m, 2h
    ///
    /// Hours:minutes:seconds or days-hours:minutes:seconds, as in Slurm. Each job stops
    /// early enough for its longest batch.
    #[arg(long, verbatim_doc_comment, value_name = "TIME", value_parser = wall)]
    wall: Option<f64>,
    /// Compare with other ways to hand out the work
    #[arg(long)]
    compare: bool,
    #[command(flatten)]
    cluster: Cluster,
}

#[derive(Args)]
#[command(next_help_heading = "The machine")]
struct Cluster {
    /// MPI ranks; several numbers give a table: 8,64,512
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = ranks, default_value = "1")]
    ranks: Vec<usize>,
    /// Threads of each rank
    #[arg(long, value_name = "N", value_parser = threads, default_value = "1")]
    threads: u32,
    /// One way of a short message between two ranks
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "2us")]
    latency: f64,
    /// Rank 0's time for one message
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "2us")]
    service: f64,
    /// From the start of a job until its ranks are up
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "0s")]
    start: f64,
}

impl Plan {
    /// Prints the forecast: first what is simulated, since simulating it may take a while.
    pub fn forecast(&self, seed: u64) -> Result<(), Box<dyn Error>> {
        let (costs, text) = self.costs(seed)?;
        let machines: Vec<Machine> = self.cluster.ranks.iter().map(|ranks| self.cluster.of(*ranks)).collect();
        for machine in &machines {
            let ideal = costs.total() / machine.cores() as f64;
            if ideal + machine.start > LONGEST {
                let (ranks, ideal) = (machine.ranks, time(ideal));
                return Err(format!("on {ranks} ranks that would take {ideal} at best: is a unit wrong?").into());
            }
        }
        print(&format!("{text}\n\n"))?;
        let text = match &machines[..] {
            [machine] => self.one(machine, &costs)?,
            machines => self.several(machines, &costs)?,
        };
        Ok(print(&text)?)
    }

    /// The costs, and what they are in a line.
    fn costs(&self, seed: u64) -> Result<(Costs, String), Box<dyn Error>> {
        let (costs, origin) = if let Some(path) = &self.trace {
            let trace = read_trace(path)?;
            let (lines, name) = (trace.len() as u64, path.display());
            let items = self.items.unwrap_or(lines);
            if items < lines {
                return Err(format!("--items {items}, but {name} has the costs of {lines}").into());
            }
            let origin = match items as f64 / lines as f64 {
                1.0 => format!("as in {name}"),
                each if each.fract() == 0.0 => {
                    format!("stretched from the {} of {name}: each stands for {}", grouped(lines), grouped(each as u64))
                }
                each => format!("stretched from the {} of {name}: each stands for about {each:.1}", grouped(lines)),
            };
            (if items == lines { Costs::of_items(&trace) } else { Costs::of_trace(items, &trace) }, origin)
        } else {
            let (Some(items), Some(cost)) = (self.items, self.cost) else { unreachable!("clap has asked for both") };
            (self.spread.costs(items, cost, seed), self.spread.name().to_owned())
        };
        let mean = costs.total() / costs.items() as f64;
        let (items, total) = (grouped(costs.items()), work(costs.total()));
        let text = format!("{items} items of {} on average ({origin}), {total} in all", time(mean));
        if mean > 0.0 { Ok((costs, text)) } else { Err("all costs are 0: there is nothing to plan".into()) }
    }

    fn one(&self, machine: &Machine, costs: &Costs) -> Result<String, Box<dyn Error>> {
        let forecast = run(machine, costs, Scheme::Rankfold);
        let (ranks, threads) = (grouped(machine.ranks as u64), self.cluster.threads_in_words());
        let mut text = format!("ranks       {ranks} × {threads}\n");
        writeln!(text, "makespan    {}", time(forecast.makespan))?;
        let ideal = time(costs.total() / machine.cores() as f64);
        writeln!(text, "efficiency  {} of the ideal, which takes {ideal}", percent(forecast.efficiency))?;
        writeln!(text, "rank 0      {} busy with messages", percent(forecast.root_load))?;
        let (batches, longest) = (grouped(forecast.batches), time(forecast.longest_batch));
        writeln!(text, "batches     {batches}, the longest of them {longest}")?;
        writeln!(text, "messages    {}", grouped(forecast.messages))?;
        if let Some(wall) = self.wall {
            let Jobs { count, last } = self.jobs(&forecast, wall)?;
            let more = if count == 1 {
                String::new()
            } else {
                format!(" each, with a journal; the last takes {}", time(last))
            };
            writeln!(text, "jobs        {} of {}{more}", grouped(count), clock(wall))?;
        }
        if self.compare {
            let header = ["", "makespan", "efficiency", "rank 0", "batches", "messages"].map(str::to_owned).to_vec();
            let mut table = Table::new(Some(0), header);
            for (name, forecast) in compare(machine, costs, forecast) {
                table.push([vec![name], cells(&forecast)].concat());
            }
            write!(text, "\n{table}\n{ABOUT_CHUNKS}\n")?;
        }
        Ok(text)
    }

    fn several(&self, machines: &[Machine], costs: &Costs) -> Result<String, Box<dyn Error>> {
        let scheme = self.compare.then(String::new);
        let numbers = ["makespan", "efficiency", "rank 0", "batches", "messages"].map(str::to_owned);
        let jobs = self.wall.map(|wall| format!("jobs of {}", clock(wall)));
        let header = ["ranks".to_owned()].into_iter().chain(scheme).chain(numbers).chain(jobs).collect();
        let mut table = Table::new(self.compare.then_some(1), header);
        let forecasts: Vec<Forecast> =
            machines.par_iter().map(|machine| run(machine, costs, Scheme::Rankfold)).collect();
        for (machine, forecast) in machines.iter().zip(forecasts) {
            let ranks = grouped(machine.ranks as u64);
            // One job that is too short for its ranks' batches does not keep the other rows back.
            let jobs = self.wall.map(|wall| self.jobs(&forecast, wall));
            let jobs = jobs.map(|jobs| jobs.map_or("too short".to_owned(), |jobs| grouped(jobs.count)));
            if !self.compare {
                table.push([vec![ranks], cells(&forecast), jobs.into_iter().collect()].concat());
                continue;
            }
            let mut first = Some((ranks, jobs));
            for (name, other) in compare(machine, costs, forecast) {
                let (ranks, jobs) = first.take().unwrap_or_default();
                table.push([vec![ranks, name], cells(&other), jobs.into_iter().collect()].concat());
            }
        }
        let mut text = format!("with {} on each rank\n\n{table}", self.cluster.threads_in_words());
        if self.wall.is_some() {
            text += "\nSeveral jobs need a journal, which carries a run from one to the next.\n";
        }
        if self.compare {
            writeln!(text, "\n{ABOUT_CHUNKS}")?;
        }
        Ok(text)
    }

    /// How many jobs it takes. What is begun when a job ends is lost, so each has to be through with its last batch.
    fn jobs(&self, forecast: &Forecast, wall: f64) -> Result<Jobs, String> {
        let (start, margin) = (self.cluster.start, forecast.longest_batch);
        let each = wall - start - margin;
        if each <= 0.0 {
            let (wall, start, margin) = (clock(wall), time(start), time(margin));
            return Err(format!("a job of {wall} is too short: its start takes {start}, the longest batch {margin}"));
        }
        let all = forecast.makespan - start;
        let count = (all / each).ceil().max(1.0);
        Ok(Jobs { count: count as u64, last: start + all - (count - 1.0) * each })
    }
}

/// Jobs until all is done, and the seconds that the last one takes.
struct Jobs {
    count: u64,
    last: f64,
}

impl Cluster {
    fn of(&self, ranks: usize) -> Machine {
        let Self { threads, latency, service, start, .. } = *self;
        Machine { threads, latency, service, start, ..Machine::new(ranks) }
    }

    fn threads_in_words(&self) -> String {
        if self.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", self.threads) }
    }
}

const ABOUT_CHUNKS: &str = "The best chunk is the best power of two, which nobody knows before the run; ahead: each rank \
asks for its next\nchunk when it begins one.";

/// The same work handed out in other ways, this library's first.
fn compare(machine: &Machine, costs: &Costs, ours: Forecast) -> Vec<(String, Forecast)> {
    let best = |ahead| {
        let sizes: Vec<u64> =
            (0..u64::BITS).map(|power| 1 << power).take_while(|size| *size <= costs.leaves()).collect();
        let tried = sizes.into_par_iter().map(|leaves| (leaves, run(machine, costs, Scheme::Chunks { leaves, ahead })));
        tried.min_by(|(_, one), (_, other)| one.makespan.total_cmp(&other.makespan)).expect("there is an item")
    };
    // A leaf is a power of two of items, and the last one may be shorter.
    let leaf = costs.items().div_ceil(costs.leaves()).next_power_of_two();
    let [asking, ahead] = [false, true].map(best);
    let chunk = |leaves: u64, how| format!("best chunk{how}: {} items", grouped(leaves * leaf));
    let others = [("static partition", Scheme::Static), ("guided", Scheme::Guided), ("factoring", Scheme::Factoring)];
    let [fixed, guided, factoring] = others.map(|(name, scheme)| (name.to_owned(), run(machine, costs, scheme)));
    let chunks = [(chunk(asking.0, ""), asking.1), (chunk(ahead.0, ", ahead"), ahead.1)];
    [("Rankfold".to_owned(), ours), fixed].into_iter().chain(chunks).chain([guided, factoring]).collect()
}

fn cells(forecast: &Forecast) -> Vec<String> {
    let Forecast { makespan, efficiency, root_load, batches, messages, .. } = *forecast;
    vec![time(makespan), percent(efficiency), percent(root_load), grouped(batches), grouped(messages)]
}

/// Costs of items from a file.
fn read_trace(path: &Path) -> Result<Vec<f64>, String> {
    let name = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {name}: {error}"))?;
    let mut costs = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        match line.trim() {
            "" => {}
            line => costs.push(seconds(line).map_err(|why| format!("{name}, line {number}: `{line}`: {why}"))?),
        }
    }
    if costs.is_empty() {
        Err(format!("{name} is empty: a trace has the cost of an item on each line"))
    } else {
        Ok(costs)
    }
}

fn spreads() -> impl TypedValueParser<Value = Workload> {
    let values = SPREADS.map(|(name, _, help)| PossibleValue::new(name).help(help));
    PossibleValuesParser::new(values).map(|chosen| {
        let spread = SPREADS.iter().find(|(name, ..)| *name == chosen);
        spread.expect("clap lets no other name pass").1
    })
}

fn ranks(text: &str) -> Result<usize, String> {
    at_most(text, MOST_RANKS).map(|ranks| ranks as usize)
}

fn threads(text: &str) -> Result<u32, String> {
    at_most(text, MOST_THREADS).map(|threads| threads as u32)
}

fn at_most(text: &str, most: u64) -> Result<u64, String> {
    match positive(text)? {
        number if number > most => Err(format!("at most {}", grouped(most))),
        number => Ok(number),
    }
}
