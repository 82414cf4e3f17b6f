//! What is measured: a cell is one machine, one workload and one cost of an item, tried with every scheduler.
//!
//! Where costs have a heavy tail, the dearest item decides how long a run takes, and its place in the input which
//! scheduler is lucky. One draw of the costs says nothing then: such cells are run with several seeds.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rankfold::simulate::{Costs, Forecast, Machine, Scheme, Stall, Workload, run};
use rayon::prelude::*;

/// What is to be done, and what the machine does to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    pub name: &'static str,
    workload: Workload,
    trouble: Trouble,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Trouble {
    None,
    /// The ranks of one node compute at half speed.
    SlowNode,
    /// Rank 1 does nothing for a fifth of the ideal time, from the middle of it.
    Stall,
}

#[derive(Debug, Clone, Copy)]
pub struct Cell {
    pub ranks: usize,
    pub load: Load,
    /// Seconds an item, on average.
    pub cost: f64,
    /// Seconds of work for each rank.
    pub work: f64,
    pub seed: u64,
    /// How many seeds, from `seed` on, are tried where costs have a heavy tail.
    pub seeds: u64,
}

/// Schedulers in the order of the tables' columns.
pub const SCHEMES: [&str; 5] = ["static", "fixed chunk", "guided", "factoring", "Rankfold"];
pub const STATIC: usize = 0;
pub const FIXED: usize = 1;
pub const GUIDED: usize = 2;
pub const FACTORING: usize = 3;
pub const RANKFOLD: usize = 4;

/// A cell and how each scheduler did, with each of its seeds.
#[derive(Debug)]
pub struct Measured {
    pub cell: Cell,
    pub runs: Vec<Run>,
}

/// How each scheduler did with the costs that a seed gave.
#[derive(Debug)]
pub struct Run {
    pub seed: u64,
    pub forecasts: [Forecast; 5],
    /// The best fixed chunk, in leaves, and whether ranks asked ahead.
    pub chunk: (u64, bool),
}

impl Load {
    /// Those whose names begin as one of `wanted`, whatever the case; all, if nothing is wanted.
    pub fn named(wanted: &[String]) -> Result<Vec<Self>, String> {
        let troubles = [("one node at half speed", Trouble::SlowNode), ("one rank stalls", Trouble::Stall)]
            .map(|(name, trouble)| Self { name, workload: Workload::Uniform, trouble });
        let workloads = Workload::ALL.map(|it| Self { name: it.name(), workload: it, trouble: Trouble::None });
        let mut loads = [&workloads[..], &troubles[..]].concat();
        let names = loads.iter().map(|load| load.name).collect::<Vec<_>>().join(", ");
        let begins = |load: &Self, start: &str| load.name.to_lowercase().starts_with(&start.to_lowercase());
        if let Some(unknown) = wanted.iter().find(|start| !loads.iter().any(|load| begins(load, start))) {
            return Err(format!("no workload begins with `{unknown}`; there are: {names}"));
        }
        loads.retain(|load| wanted.is_empty() || wanted.iter().any(|start| begins(load, start)));
        Ok(loads)
    }
}

impl Cell {
    /// More than one only where the variance of costs is infinite.
    fn seeds(&self) -> impl ExactSizeIterator<Item = u64> + use<> {
        let (first, heavy) = (self.seed, self.load.workload == Workload::Pareto);
        let count = if heavy { self.seeds } else { 1 };
        (0..count as usize).map(move |number| first.wrapping_add(number as u64))
    }

    fn machine(&self) -> Machine {
        let mut machine = Machine::new(self.ranks);
        match self.load.trouble {
            Trouble::None => {}
            Trouble::SlowNode => machine.speeds = vec![0.5; if self.ranks < 256 { self.ranks / 4 } else { 64 }],
            Trouble::Stall => {
                machine.stalls =
                    vec![Stall { rank: 1.min(self.ranks - 1), at: 0.5 * self.work, length: 0.2 * self.work }];
            }
        }
        machine
    }

    fn run(&self, seed: u64) -> Run {
        let items = (self.ranks as f64 * self.work / self.cost).round().max(1.0) as u64;
        let costs = self.load.workload.costs(items, self.cost, seed);
        let machine = self.machine();
        let try_out = |scheme| run(&machine, &costs, scheme);
        let (chunk, fixed) = best_chunk(&machine, &costs);
        let [even, guided, factoring, ours] =
            [Scheme::Static, Scheme::Guided, Scheme::Factoring, Scheme::Rankfold].map(try_out);
        Run { seed, forecasts: [even, fixed, guided, factoring, ours], chunk }
    }
}

impl Measured {
    /// The geometric mean over the seeds.
    pub fn efficiency(&self, scheme: usize) -> f64 {
        geometric_mean(self.runs.iter().map(|run| run.forecasts[scheme].efficiency))
    }

    /// How Rankfold does in comparison.
    pub fn against(&self, scheme: usize) -> f64 {
        self.efficiency(RANKFOLD) / self.efficiency(scheme)
    }

    /// The least and the greatest of what [`Measured::against`] is with single seeds, if there are several.
    pub fn spread(&self, scheme: usize) -> Option<(f64, f64)> {
        let ratio = |run: &Run| run.forecasts[RANKFOLD].efficiency / run.forecasts[scheme].efficiency;
        let widen = |(least, most): (f64, f64), ratio: f64| (least.min(ratio), most.max(ratio));
        (self.runs.len() > 1).then(|| self.runs.iter().map(ratio).fold((f64::INFINITY, 0.0), widen))
    }

    /// The best fixed chunk, if it is the same with each seed.
    pub fn chunk(&self) -> Option<(u64, bool)> {
        let (first, others) = self.runs.split_first()?;
        others.iter().all(|run| run.chunk == first.chunk).then_some(first.chunk)
    }
}

pub fn geometric_mean(values: impl Iterator<Item = f64>) -> f64 {
    let (count, logs) = values.fold((0u32, 0.0), |(count, logs), value| (count + 1, logs + value.ln()));
    (logs / f64::from(count)).exp()
}

/// Measures cells on all cores, and tells on standard error how far it is.
pub fn measure_all(cells: &[Cell]) -> Vec<Measured> {
    let (done, begun) = (AtomicUsize::new(0), Instant::now());
    let tasks: Vec<(&Cell, u64)> = cells.iter().flat_map(|cell| cell.seeds().map(move |seed| (cell, seed))).collect();
    // A run takes seconds and some megabytes: no core should hold two.
    let runs: Vec<Run> = tasks
        .par_iter()
        .with_max_len(1)
        .map(|(cell, seed)| {
            let run = cell.run(*seed);
            let (done, seconds) = (done.fetch_add(1, Ordering::Relaxed) + 1, begun.elapsed().as_secs_f64());
            let (all, Cell { ranks, load, cost, .. }) = (tasks.len(), cell);
            eprintln!(
                "{ranks} ranks: {done} of {all} runs after {seconds:.1} s ({}, {cost} s, seed {seed})",
                load.name
            );
            run
        })
        .collect();
    let mut runs = runs.into_iter();
    cells.iter().map(|cell| Measured { cell: *cell, runs: runs.by_ref().take(cell.seeds().len()).collect() }).collect()
}

/// The chunk size with the shortest run, found by trying; from the largest down, until smaller ones only get worse.
fn best_chunk(machine: &Machine, costs: &Costs) -> ((u64, bool), Forecast) {
    let longest = (2 * costs.leaves() / machine.ranks as u64).max(1);
    let mut best: Option<((u64, bool), Forecast)> = None;
    let mut worse = 0;
    for power in (0..=longest.ilog2()).rev() {
        let tried = [false, true].map(|ahead| {
            let leaves = 1 << power;
            ((leaves, ahead), run(machine, costs, Scheme::Chunks { leaves, ahead }))
        });
        let better = if tried[1].1.makespan < tried[0].1.makespan { tried[1] } else { tried[0] };
        let shortest = best.map_or(f64::INFINITY, |(_, forecast)| forecast.makespan);
        worse = if better.1.makespan > 1.1 * shortest { worse + 1 } else { 0 };
        if better.1.makespan < shortest {
            best = Some(better);
        }
        if worse == 2 {
            break;
        }
    }
    best.expect("at least one chunk size was tried")
}
