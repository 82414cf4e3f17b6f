//! The schemes that Rankfold is compared with, on the same machine: a master with a queue, a message each way.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::costs::Costs;
use super::faults::{Fault, Luck};
use super::forecast::{Forecast, Scheme};
use super::machine::Machine;

/// Runs one of the schemes that know nothing of what was measured.
pub(super) fn run(machine: &Machine, costs: &Costs, scheme: Scheme, luck: &Luck) -> Forecast {
    match scheme {
        Scheme::Static => fixed(machine, costs, luck),
        _ => SelfScheduling::new(machine, costs, scheme, luck).run(),
    }
}

/// The same number of leaves on every rank, in the order of ranks.
fn fixed(machine: &Machine, costs: &Costs, luck: &Luck) -> Forecast {
    let (leaves, ranks) = (costs.leaves(), machine.ranks as u64);
    let (end, longest) = (0..ranks)
        .map(|rank| {
            let [start, end] =
                [rank, rank + 1].map(|rank| (u128::from(leaves) * u128::from(rank) / u128::from(ranks)) as u64);
            let length = chunk_length(machine, costs, rank as usize, start, end);
            (through_sleep(luck, rank as usize, machine.start, length), length)
        })
        .fold((0.0, 0.0), |(end, longest), (ends, length)| (f64::max(end, ends), f64::max(longest, length)));
    let forecast = forecast(machine, costs, end, 0.0);
    Forecast { batches: ranks, longest_batch: longest, ..forecast }
}

/// Ranks that ask for chunks.
struct SelfScheduling<'s> {
    machine: &'s Machine,
    costs: &'s Costs,
    scheme: Scheme,
    luck: &'s Luck,
    /// The first leaf that nobody has, and the leaves of the current round of factoring.
    next: u64,
    round: (u64, u64),
    /// Requests by when they arrive at the master, in nanoseconds.
    requests: BinaryHeap<Reverse<(u64, usize)>>,
    /// When each rank is through with what it has.
    free: Vec<f64>,
    batches: u64,
    longest_batch: f64,
}

impl<'s> SelfScheduling<'s> {
    fn new(machine: &'s Machine, costs: &'s Costs, scheme: Scheme, luck: &'s Luck) -> Self {
        let free = vec![machine.start; machine.ranks];
        let requests = BinaryHeap::new();
        Self { machine, costs, scheme, luck, next: 0, round: (0, 0), requests, free, batches: 0, longest_batch: 0.0 }
    }

    fn run(mut self) -> Forecast {
        let mut master = self.machine.start;
        for rank in 0..self.machine.ranks {
            self.ask(rank, self.machine.start);
        }
        let (mut serving, mut messages) = (0.0, 0);
        while let Some(Reverse((arrives, rank))) = self.requests.pop() {
            let end = through_sleep(self.luck, 0, master.max(arrives as f64 * 1e-9), self.machine.service);
            (master, serving, messages) = (end, serving + self.machine.service, messages + 2);
            let Some((start, stop)) = self.chunk() else { continue };
            let here = end + self.latency(rank);
            let begins = here.max(self.free[rank]) + self.machine.gap;
            let length = chunk_length(self.machine, self.costs, rank, start, stop);
            self.longest_batch = self.longest_batch.max(length);
            let ends = through_sleep(self.luck, rank, begins, length);
            self.free[rank] = ends;
            // Who asks ahead does so when it begins a chunk.
            let ahead = matches!(self.scheme, Scheme::Chunks { ahead: true, .. });
            self.ask(rank, if ahead { begins } else { ends });
        }
        let end = self.free.iter().copied().fold(0.0, f64::max);
        let forecast = forecast(self.machine, self.costs, end, serving);
        Forecast { batches: self.batches, messages, longest_batch: self.longest_batch, ..forecast }
    }

    fn ask(&mut self, rank: usize, at: f64) {
        self.requests.push(Reverse((((at + self.latency(rank)) * 1e9) as u64, rank)));
    }

    fn latency(&self, rank: usize) -> f64 {
        if rank == 0 { 0.0 } else { self.machine.latency }
    }

    fn chunk(&mut self) -> Option<(u64, u64)> {
        let (left, ranks) = (self.costs.leaves() - self.next, self.machine.ranks as u64);
        if left == 0 {
            return None;
        }
        let len = match self.scheme {
            Scheme::Chunks { leaves, .. } => leaves,
            Scheme::Guided => left.div_ceil(ranks),
            _ => {
                if self.round.0 == 0 {
                    self.round = (ranks, left.div_ceil(2 * ranks));
                }
                self.round.0 -= 1;
                self.round.1
            }
        };
        let start = self.next;
        self.next = (start + len.max(1)).min(self.costs.leaves());
        self.batches += 1;
        Some((start, self.next))
    }
}

/// Seconds that a rank needs for some leaves.
fn chunk_length(machine: &Machine, costs: &Costs, rank: usize, start: u64, end: u64) -> f64 {
    let (threads, power) = (f64::from(machine.threads), machine.power(rank));
    let shared = costs.of(start, end) / power;
    if machine.threads == 1 { shared } else { shared.max(costs.dearest(start, end) * threads / power) }
}

/// When a rank is through with something that takes `length` seconds, if it stands still before or meanwhile.
fn through_sleep(luck: &Luck, rank: usize, begins: f64, length: f64) -> f64 {
    luck.faults.iter().fold(begins + length, |ends, (at, who, fault)| match fault {
        Fault::Sleeps(sleep) if *who == rank && *at < ends => ends + (at + sleep - begins).clamp(0.0, *sleep),
        _ => ends,
    })
}

/// What follows from the time at which the last rank is through, and the seconds that the master serves.
fn forecast(machine: &Machine, costs: &Costs, end: f64, serving: f64) -> Forecast {
    let makespan = end + machine.reduction();
    let efficiency = costs.total() / (makespan * machine.power_of_all());
    let root_load = serving / makespan;
    Forecast { makespan, efficiency, root_load, batches: 0, longest_batch: 0.0, messages: 0, recalls: 0 }
}
