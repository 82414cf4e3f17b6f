//! The event loop: production scheduler and agents on virtual time, with the model of a machine around them.
//!
//! What is modelled: every message takes the machine's latency (and its own luck) and keeps its order among those of the
//! same two ranks; rank 0 serves one message at a time, and those that come meanwhile wait in a queue; a worker computes
//! one batch after the other with all its threads, in the time that the items cost. What is not: everything that decides.

mod computing;

use std::cmp::Ordering;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};
use std::time::Duration;

use super::costs::Costs;
use super::faults::{Fault, Luck};
use super::machine::Machine;
use super::value::Value;
use crate::error::ErrorKind;
use crate::extent::Extent;
use crate::master::scheduler::{self, Config, Scheduler};
use crate::random::ItemRng;
use crate::reduce::segment::Segments;
use crate::time::Time;
use crate::wire::{ToMaster, ToWorker};
use crate::worker::agent::{self, Agent};

/// A run under way.
pub(crate) struct Cluster<'c> {
    machine: &'c Machine,
    costs: &'c Costs,
    pub scheduler: Scheduler,
    pub nodes: Vec<Node>,
    pub now: Time,
    events: BinaryHeap<Event>,
    planned: u64,
    /// Messages that rank 0 has not served yet, and until when it is busy.
    inbox: VecDeque<(usize, ToMaster)>,
    free_at: Time,
    next_look: Option<Time>,
    /// Ranks that live and have not left the call.
    present: usize,
    suspects: Vec<Extent>,
    luck: Luck,
    dice: ItemRng,
    pub tally: Tally,
    pub ended: Option<Ended>,
}

/// What is counted on the way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    pub messages: u64,
    pub batches: u64,
    /// Batches that were handed out before the run was told to end.
    pub batches_before_drain: Option<u64>,
    /// Seconds from the start of a batch to its end, at most.
    pub longest_batch: f64,
    pub recalls: u64,
    /// Suspect leaves that were handed out before everything else was done.
    pub too_early: u64,
    /// Batches that were given up while they were computed.
    pub cancelled: u64,
    /// Seconds that rank 0 was busy with messages.
    pub serving: f64,
    /// Seconds of one thread at speed 1 that went into batches, repeated ones included.
    pub computed: f64,
    pub lost: Vec<usize>,
    /// How often each leaf was computed to the end, where that is wanted.
    pub counts: Option<Vec<u32>>,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Every rank that is not lost goes on to the reduction.
    Finished {
        lost: Vec<usize>,
    },
    Failed,
    /// Rank 0 has ended the program, because somebody could not be interrupted.
    Abandoned,
    /// Workers heard nothing of rank 0 for too long.
    GaveUp,
}

/// One rank.
pub(crate) struct Node {
    agent: Agent,
    queue: VecDeque<Extent>,
    running: Option<Running>,
    /// Counts computations, so that one that was cut short does not end twice.
    computation: u64,
    /// When its last message to rank 0 arrives, and rank 0's last to it: none overtakes another.
    last_out: Time,
    last_in: Time,
    /// It does nothing before this time; never again at the end of time.
    asleep_until: Time,
    has_tick: bool,
    pub segments: Segments<Value>,
    /// It has gone on to the reduction, or left with an error.
    pub done: Option<Time>,
}

struct Running {
    batch: Extent,
    start: Time,
    ends: Time,
    /// Seconds in which the rank slept meanwhile.
    paused: f64,
    /// Seconds per second of work.
    slowness: f64,
    /// The parts that are left out because it was cut.
    rest: Vec<Extent>,
    panics: bool,
    cancelled: bool,
}

struct Event {
    time: Time,
    number: u64,
    what: What,
}

enum What {
    Enters(usize),
    ToWorker(usize, ToWorker),
    ToMaster(usize, ToMaster),
    /// Rank 0 is through with a message.
    Free,
    Computed(usize, u64),
    AgentTick(usize),
    MasterTick,
    Fault(usize, Fault),
    /// The run is told to end within so many seconds.
    Drain(f64),
}

impl<'c> Cluster<'c> {
    pub fn new(machine: &'c Machine, costs: &'c Costs, config: Config, luck: Luck) -> Self {
        let threads = vec![machine.threads; machine.ranks];
        let node = |_| Node {
            agent: Agent::new(config.patience),
            queue: VecDeque::new(),
            running: None,
            computation: 0,
            last_out: Time::default(),
            last_in: Time::default(),
            asleep_until: Time::default(),
            has_tick: false,
            segments: Segments::new(costs.leaves()),
            done: None,
        };
        Self {
            machine,
            costs,
            scheduler: Scheduler::new(config, &threads, &BTreeSet::new()),
            nodes: (0..machine.ranks).map(node).collect(),
            now: Time::default(),
            events: BinaryHeap::new(),
            planned: 0,
            inbox: VecDeque::new(),
            free_at: Time::default(),
            next_look: None,
            present: machine.ranks,
            dice: crate::random::rng(luck.seed, 1),
            luck,
            suspects: Vec::new(),
            tally: Tally::default(),
            ended: None,
        }
    }

    /// Leaves that come last, with the number of crashes since they do.
    pub fn quarantine(&mut self, suspects: &[(u32, Extent)]) {
        self.scheduler.quarantine(suspects.iter().copied());
        self.suspects = suspects.iter().map(|(_, extent)| *extent).collect();
    }

    /// The batches that are computed now.
    #[cfg(test)]
    pub fn computing(&self) -> Vec<Extent> {
        self.nodes.iter().filter_map(|node| node.running.as_ref()).map(|running| running.batch).collect()
    }

    /// Plans what happens from outside: ranks enter the call, faults strike.
    pub fn begin(&mut self) {
        for rank in 0..self.nodes.len() {
            let enters = self.now.after(seconds(self.machine.start + self.luck.late(rank)));
            if rank == 0 {
                // Before that, rank 0 is in the user's code and looks at no message.
                self.nodes[0].asleep_until = enters;
            }
            self.plan(enters, What::Enters(rank));
        }
        for (at, rank, fault) in self.luck.faults.clone() {
            self.plan(Time::default().after(seconds(at)), What::Fault(rank, fault));
        }
        if let Some((at, time)) = self.luck.drain {
            self.plan(Time::default().after(seconds(at)), What::Drain(time));
        }
    }

    /// Lets the next thing happen. False if nothing is planned, or the run is over.
    pub fn step(&mut self) -> bool {
        if matches!(self.ended, Some(Ended::Abandoned | Ended::GaveUp)) {
            return false;
        }
        let Some(Event { time, what, .. }) = self.events.pop() else { return false };
        self.now = self.now.max(time);
        let who = what.rank();
        let asleep = self.nodes[who].asleep_until;
        if asleep == NEVER && !matches!(what, What::Fault(..)) {
            return true;
        }
        if asleep > self.now && !matches!(what, What::Fault(..)) {
            self.plan(asleep, what);
            return true;
        }
        match what {
            What::Enters(rank) => self.send_to_master(rank, None),
            What::ToWorker(rank, message) => self.tell_agent(rank, agent::Event::Message(message)),
            What::ToMaster(rank, message) => {
                self.inbox.push_back((rank, message));
                if self.free_at <= self.now {
                    self.serve();
                } else if self.inbox.len() == 1 {
                    self.plan(self.free_at, What::Free);
                }
            }
            What::Free => self.serve(),
            What::Computed(rank, computation) => self.on_computed(rank, computation),
            What::AgentTick(rank) => {
                self.nodes[rank].has_tick = false;
                if self.nodes[rank].done.is_none() {
                    self.tell_agent(rank, agent::Event::Tick);
                }
            }
            What::MasterTick => {
                self.next_look = None;
                self.scheduler.handle(self.now, scheduler::Event::Tick);
                self.act_as_master();
            }
            What::Fault(rank, fault) => self.strike(rank, fault),
            What::Drain(time) => {
                self.tally.batches_before_drain.get_or_insert(self.tally.batches);
                let (call, reason) = ("simulated".into(), "it was told to".into());
                let (error, by) = (ErrorKind::Interrupted { call, reason }.into(), self.now.after(seconds(time)));
                self.scheduler.handle(self.now, scheduler::Event::Drain { error, by });
                self.act_as_master();
            }
        }
        true
    }

    /// Whether every rank that lives has left the call.
    pub fn is_over(&self) -> bool {
        self.present == 0
    }

    pub fn is_dead(&self, rank: usize) -> bool {
        self.nodes[rank].asleep_until == NEVER
    }

    fn plan(&mut self, time: Time, what: What) {
        self.planned += 1;
        self.events.push(Event { time: time.max(self.now), number: self.planned, what });
    }

    fn strike(&mut self, rank: usize, fault: Fault) {
        let node = &mut self.nodes[rank];
        if node.asleep_until == NEVER {
            return;
        }
        match fault {
            Fault::Dies => {
                self.present -= usize::from(node.done.is_none());
                node.asleep_until = NEVER;
            }
            Fault::Sleeps(length) => {
                let (before, after) = (node.asleep_until.max(self.now), self.now.after(seconds(length)));
                node.asleep_until = before.max(after);
                self.pause(rank, after.seconds_since(before));
            }
        }
    }

    /// Rank 0 takes the next message out of its queue.
    fn serve(&mut self) {
        let Some((worker, message)) = self.inbox.pop_front() else { return };
        self.free_at = self.now.after(seconds(self.machine.service));
        self.tally.serving += self.machine.service;
        if !self.inbox.is_empty() {
            self.plan(self.free_at, What::Free);
        }
        let is_done = matches!(message, ToMaster::Done { .. });
        let event = scheduler::Event::of_answer(worker, message);
        self.scheduler.handle(self.now, event.unwrap_or(scheduler::Event::Ready { worker }));
        if is_done {
            self.scheduler.handle(self.now, scheduler::Event::Served { seconds: self.machine.service });
        }
        self.act_as_master();
    }

    fn act_as_master(&mut self) {
        while let Some(action) = self.scheduler.poll_action() {
            let workers = 0..self.nodes.len();
            match action {
                scheduler::Action::Assign { worker, batch } => {
                    self.tally.batches += 1;
                    self.look_at(batch);
                    self.send_to_worker(worker, ToWorker::Assign { batch, parcel: Vec::new() });
                }
                scheduler::Action::Recall { worker, batch } => {
                    self.tally.recalls += 1;
                    self.send_to_worker(worker, ToWorker::Recall { batch });
                }
                scheduler::Action::Lose { worker, .. } => self.tally.lost.push(worker),
                scheduler::Action::Beat => workers.for_each(|to| self.send_to_worker(to, ToWorker::Beat)),
                scheduler::Action::Finish { lost } => {
                    workers.for_each(|to| self.send_to_worker(to, ToWorker::Finish { lost: lost.clone() }));
                    self.ended = Some(Ended::Finished { lost });
                }
                scheduler::Action::Stop { error } => {
                    workers.for_each(|to| self.send_to_worker(to, ToWorker::Stop(error.clone())));
                }
                scheduler::Action::Release { lost } => {
                    workers.for_each(|to| self.send_to_worker(to, ToWorker::Release { lost: lost.clone() }));
                }
                scheduler::Action::Abandon { .. } => self.ended = Some(Ended::Abandoned),
            }
        }
        if self.next_look != self.scheduler.next_deadline()
            && let Some(deadline) = self.scheduler.next_deadline()
        {
            self.next_look = Some(deadline);
            self.plan(deadline, What::MasterTick);
        }
    }

    /// A suspect leaf is handed out when somebody has computed every leaf that is none.
    fn look_at(&mut self, batch: Extent) {
        let is_suspect = |extent: Extent| self.suspects.iter().any(|suspect| suspect.contains(extent));
        if let Some(counts) = self.tally.counts.as_ref().filter(|_| is_suspect(batch)) {
            let mut others = (0..counts.len()).filter(|leaf| !is_suspect(Extent::new(*leaf as u64, 1)));
            self.tally.too_early += u64::from(others.any(|leaf| counts[leaf] == 0));
        }
    }

    fn send_to_worker(&mut self, worker: usize, message: ToWorker) {
        self.tally.messages += 1;
        // Rank 0 sends when it is through with what it does.
        let arrives = self.travel(worker, self.free_at.max(self.now)).max(self.nodes[worker].last_in);
        self.nodes[worker].last_in = arrives;
        self.plan(arrives, What::ToWorker(worker, message));
    }

    /// A worker's message; its entry into the call without one.
    fn send_to_master(&mut self, worker: usize, message: Option<ToMaster>) {
        self.tally.messages += 1;
        let arrives = self.travel(worker, self.now).max(self.nodes[worker].last_out);
        self.nodes[worker].last_out = arrives;
        self.plan(arrives, What::ToMaster(worker, message.unwrap_or_else(hello)));
    }

    fn travel(&mut self, worker: usize, starts: Time) -> Time {
        if worker == 0 {
            return starts;
        }
        let late = self.luck.delay(&mut self.dice);
        starts.after(seconds(self.machine.latency + late))
    }

    fn tell_agent(&mut self, rank: usize, event: agent::Event) {
        self.nodes[rank].agent.handle(self.now, event);
        self.act_as(rank);
    }

    fn act_as(&mut self, rank: usize) {
        while let Some(action) = self.nodes[rank].agent.poll_action() {
            match action {
                agent::Action::Compute { batch, .. } => self.nodes[rank].queue.push_back(batch),
                agent::Action::Withdraw { batch } => self.withdraw(rank, batch),
                agent::Action::Cancel => self.cancel(rank),
                agent::Action::Send(message) => self.send_to_master(rank, Some(message)),
                agent::Action::Finish { .. } => self.leave(rank, false),
                agent::Action::Stop { .. } => self.leave(rank, true),
                agent::Action::GiveUp { .. } => self.ended = Some(Ended::GaveUp),
            }
        }
        self.compute_next(rank);
        let node = &mut self.nodes[rank];
        if let Some(deadline) = node.agent.next_deadline().filter(|_| node.done.is_none() && !node.has_tick) {
            node.has_tick = true;
            self.plan(deadline, What::AgentTick(rank));
        }
    }

    fn leave(&mut self, rank: usize, failed: bool) {
        let node = &mut self.nodes[rank];
        self.present -= usize::from(node.done.is_none());
        node.done = Some(self.now);
        if rank == 0 && failed {
            self.ended = Some(Ended::Failed);
        }
    }
}

/// A time that does not come.
const NEVER: Time = Time(u64::MAX);

pub(crate) fn seconds(seconds: f64) -> Duration {
    Duration::from_nanos((seconds.max(0.0) * 1e9).min(1e18) as u64)
}

fn hello() -> ToMaster {
    let error = ErrorKind::EmptyInput { call: String::new() };
    ToMaster::Hello(Err(error.into()))
}

impl What {
    /// The rank that this happens on.
    fn rank(&self) -> usize {
        match self {
            Self::Enters(rank)
            | Self::ToWorker(rank, _)
            | Self::Computed(rank, _)
            | Self::AgentTick(rank)
            | Self::Fault(rank, _) => *rank,
            Self::ToMaster(..) | Self::Free | Self::MasterTick | Self::Drain(_) => 0,
        }
    }
}

/// The earliest event comes first; of those at the same time, the one that was planned first.
impl Ord for Event {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.time, other.number).cmp(&(self.time, self.number))
    }
}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Event {}
