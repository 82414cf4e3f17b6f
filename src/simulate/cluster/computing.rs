//! What takes the place of rayon: a rank computes one batch after the other, in the time that its items cost.

use rand::RngExt;

use super::{Cluster, Running, What, seconds};
use crate::error::{Error, ErrorKind, Place, Role};
use crate::extent::{Extent, extents_between};
use crate::simulate::mutant::{Mutant, planted};
use crate::simulate::value::Value;
use crate::worker::agent::{self, Span};

impl Cluster<'_> {
    pub(super) fn compute_next(&mut self, rank: usize) {
        let node = &mut self.nodes[rank];
        if node.running.is_some() || node.done.is_some() {
            return;
        }
        let Some(batch) = node.queue.pop_front() else { return };
        let noise = if self.machine.noise > 0.0 { self.dice.random_range(-1.0..1.0) * self.machine.noise } else { 0.0 };
        let power = self.machine.power(rank);
        let slowness = (1.0 + noise) / power;
        let panics = self.luck.panics(batch, &mut self.dice);
        let cost = self.costs.of(batch.start, batch.end());
        let mut length = cost * slowness;
        if self.machine.threads > 1 {
            // No batch is over before its dearest leaf is.
            let alone = self.costs.dearest(batch.start, batch.end()) * slowness * f64::from(self.machine.threads);
            length = length.max(alone);
        }
        let start = self.now.after(seconds(self.machine.gap));
        let (ends, rest) = (start.after(seconds(length)), Vec::new());
        node.running = Some(Running { batch, start, ends, paused: 0.0, slowness, rest, panics, cancelled: false });
        self.plan_end(rank);
    }

    /// What runs on a rank that sleeps ends so much later.
    pub(super) fn pause(&mut self, rank: usize, length: f64) {
        let Some(running) = &mut self.nodes[rank].running else { return };
        running.paused += length;
        running.ends = running.ends.after(seconds(length));
        self.plan_end(rank);
    }

    fn plan_end(&mut self, rank: usize) {
        let node = &mut self.nodes[rank];
        node.computation += 1;
        let (computation, running) = (node.computation, node.running.as_ref().expect("it runs"));
        let ends = running.ends;
        self.plan(ends, What::Computed(rank, computation));
    }

    /// Takes a batch out of the queue, or cuts the running one off after the leaf that is being computed.
    pub(super) fn withdraw(&mut self, rank: usize, batch: Extent) {
        let node = &mut self.nodes[rank];
        if let Some(position) = node.queue.iter().position(|queued| *queued == batch) {
            if !planted(Mutant::RecallIgnored) {
                node.queue.remove(position);
            }
            node.agent.handle(self.now, agent::Event::Withdrawn { batch });
            return;
        }
        if node.running.as_ref().is_some_and(|running| running.batch == batch && running.rest.is_empty()) {
            self.cut(rank);
        }
    }

    fn cut(&mut self, rank: usize) {
        let node = &mut self.nodes[rank];
        let Some(running) = &mut node.running else { return };
        let worked = (self.now.seconds_since(running.start) - running.paused).max(0.0) / running.slowness;
        let leaf = self.costs.leaf_at(running.batch.start, running.batch.end(), worked);
        running.rest = extents_between(leaf + 1, running.batch.end());
        if running.rest.is_empty() {
            return;
        }
        let length = self.costs.of(running.batch.start, leaf + 1) * running.slowness;
        running.ends = running.start.after(seconds(running.paused + length));
        self.plan_end(rank);
    }

    /// Nobody wants the results any more: nothing new is begun, and the running batch ends after its leaf.
    pub(super) fn cancel(&mut self, rank: usize) {
        self.cut(rank);
        if let Some(running) = &mut self.nodes[rank].running {
            running.cancelled = true;
        }
    }

    pub(super) fn on_computed(&mut self, rank: usize, computation: u64) {
        let node = &mut self.nodes[rank];
        if node.computation != computation {
            return;
        }
        let Running { batch, start, slowness, rest, panics, cancelled, .. } = node.running.take().expect("it runs");
        let done = batch_without(batch, &rest);
        let cost: f64 = done.iter().map(|part| self.costs.of(part.start, part.end())).sum();
        self.tally.computed += cost;
        self.tally.longest_batch = self.tally.longest_batch.max(self.now.seconds_since(start));
        if node.done.is_some() {
            // It left while this was running, and leaves for good now.
            node.done = Some(self.now);
            return;
        }
        self.tally.cancelled += u64::from(cancelled);
        let event = if panics || cancelled {
            agent::Event::Failed { batch, error: panicked(rank, batch) }
        } else {
            for part in done {
                if let Some(counts) = &mut self.tally.counts {
                    counts[part.start as usize..part.end() as usize].iter_mut().for_each(|count| *count += 1);
                }
                let value = Value::of(part, self.costs.leaves());
                let combine = &mut |_, left: Value, right: Value| Ok::<_, ()>(left.combined(right));
                node.segments.merge(part, value, combine).expect("combining does not fail");
            }
            // Busy time as the ranks measure it: thread-seconds, slow ranks' longer.
            let busy = cost * slowness * f64::from(self.machine.threads);
            agent::Event::Computed { batch, rest, span: Span { start, end: self.now, busy } }
        };
        self.tell_agent(rank, event);
    }
}

/// The parts of a batch that are not in `rest`, which is its end.
fn batch_without(batch: Extent, rest: &[Extent]) -> Vec<Extent> {
    extents_between(batch.start, rest.first().map_or(batch.end(), |first| first.start))
}

fn panicked(rank: usize, batch: Extent) -> Error {
    let place = Place { rank, host: "simulated".into() };
    let (role, item) = (Role::Mapper, format!("{batch:?}"));
    let (call, message) = ("simulated".into(), "planned".into());
    ErrorKind::Panicked {
        call,
        role,
        place,
        item,
        message,
        location: String::new(),
        backtrace: String::new(),
        attempts: 1,
    }
    .into()
}
