//! The scheduler and its agents on virtual time: scenarios, and properties over many small machines.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::error::ErrorKind;
use crate::wire::{ToMaster, ToWorker};
use crate::worker::agent::{self, Agent, Span};

/// A machine: the production scheduler and agents, with a cost for each leaf and a latency for each message.
struct Machine<'m> {
    scheduler: Scheduler,
    workers: Vec<Node>,
    cost: &'m dyn Fn(u64) -> f64,
    fails: &'m dyn Fn(Extent, u32) -> bool,
    latency: f64,
    now: Time,
    /// What is to happen: at which time, and, for what happens at the same time, in the order of planning.
    events: BinaryHeap<Reverse<(Time, u64, Happening)>>,
    scheduled: u64,
    /// How often each leaf was counted.
    done: Vec<u32>,
    attempts: BTreeMap<Extent, u32>,
    recalls: u64,
    ended: Vec<Option<Result<(), Error>>>,
}

struct Node {
    agent: Agent,
    threads: u32,
    queue: VecDeque<Extent>,
    computing: Option<Extent>,
    busy: f64,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Enters(usize),
    ToWorker(usize, u64),
    ToMaster(usize, u64),
    Computed(usize),
    Tick,
}

/// Messages under way, by number: only times and numbers need an order.
#[derive(Default)]
struct Post {
    to_worker: BTreeMap<u64, ToWorker>,
    to_master: BTreeMap<u64, ToMaster>,
}

impl<'m> Machine<'m> {
    fn new(leaves: u64, threads: &[u32], cost: &'m dyn Fn(u64) -> f64) -> Self {
        let config = Config { leaves, longest: u64::MAX, retries: 0, whole_batches: false };
        let node = |threads: &u32| Node {
            agent: Agent::default(),
            threads: *threads,
            queue: VecDeque::new(),
            computing: None,
            busy: 0.0,
        };
        Self {
            scheduler: Scheduler::new(config, threads),
            workers: threads.iter().map(node).collect(),
            cost,
            fails: &|_, _| false,
            latency: 5e-6,
            now: Time::default(),
            events: BinaryHeap::new(),
            scheduled: 0,
            done: vec![0; leaves as usize],
            attempts: BTreeMap::new(),
            recalls: 0,
            ended: threads.iter().map(|_| None).collect(),
        }
    }

    /// Runs until nothing happens any more; gives the makespan in seconds.
    fn run(&mut self, enters: impl Fn(usize) -> f64) -> f64 {
        let mut post = Post::default();
        for worker in 0..self.workers.len() {
            self.at(enters(worker), Happening::Enters(worker));
        }
        let mut number = 0;
        while let Some(Reverse((time, _, happening))) = self.events.pop() {
            self.now = self.now.max(time);
            match happening {
                Happening::Enters(worker) => self.scheduler.handle(self.now, Event::Ready { worker }),
                Happening::ToWorker(worker, number) => {
                    let message = post.to_worker.remove(&number).expect("a message arrives once");
                    self.workers[worker].agent.handle(agent::Event::Message(message));
                }
                Happening::ToMaster(worker, number) => {
                    let message = post.to_master.remove(&number).expect("a message arrives once");
                    self.on_answer(worker, message);
                }
                Happening::Computed(worker) => self.on_computed(worker),
                Happening::Tick => self.scheduler.handle(self.now, Event::Tick),
            }
            self.act(&mut post, &mut number);
        }
        self.now.seconds_since(Time::default())
    }

    fn at(&mut self, delay: f64, happening: Happening) {
        let time = self.now.after(Duration::from_secs_f64(delay));
        self.scheduled += 1;
        self.events.push(Reverse((time, self.scheduled, happening)));
    }

    fn on_answer(&mut self, worker: usize, message: ToMaster) {
        self.scheduler.handle(
            self.now,
            match message {
                ToMaster::Done { batch, cost } => {
                    (batch.start..batch.end()).for_each(|leaf| self.done[leaf as usize] += 1);
                    Event::Done { worker, batch, cost }
                }
                ToMaster::Failed { batch, error } => Event::Failed { worker, batch, error },
                ToMaster::Returned { batch } => Event::Returned { worker, batch },
                ToMaster::Stopped => Event::Stopped { worker },
                ToMaster::Hello(_) => unreachable!("machines say hello by entering"),
            },
        );
    }

    fn on_computed(&mut self, worker: usize) {
        let node = &mut self.workers[worker];
        let batch = node.computing.take().expect("a batch was computed");
        let attempt = self.attempts.entry(batch).or_default();
        *attempt += 1;
        let seconds: f64 = (batch.start..batch.end()).map(self.cost).sum();
        node.busy += seconds;
        let wall = seconds / f64::from(node.threads);
        let start = Time(self.now.0.saturating_sub((wall * 1e9) as u64));
        node.agent.handle(if (self.fails)(batch, *attempt) {
            agent::Event::Failed { batch, error: panic_at(batch) }
        } else {
            agent::Event::Computed { batch, span: Span { start, end: self.now, busy: seconds } }
        });
    }

    fn act(&mut self, post: &mut Post, number: &mut u64) {
        while let Some(action) = self.scheduler.poll_action() {
            let (workers, message) = match action {
                Action::Assign { worker, batch } => (worker..worker + 1, ToWorker::Assign { batch, parcel: vec![] }),
                Action::Recall { worker, batch } => {
                    self.recalls += 1;
                    (worker..worker + 1, ToWorker::Recall { batch })
                }
                Action::Finish => (0..self.workers.len(), ToWorker::Finish),
                Action::Stop { error } => {
                    self.at(GRACE.as_secs_f64(), Happening::Tick);
                    (0..self.workers.len(), ToWorker::Stop(error))
                }
                Action::Release => (0..self.workers.len(), ToWorker::Release),
                Action::Abandon { error, .. } => {
                    self.ended[0] = Some(Err(error));
                    self.events.clear();
                    return;
                }
            };
            for worker in workers {
                *number += 1;
                post.to_worker.insert(*number, message.clone());
                self.at(self.latency, Happening::ToWorker(worker, *number));
            }
        }
        for worker in 0..self.workers.len() {
            self.act_as(worker, post, number);
        }
    }

    fn act_as(&mut self, worker: usize, post: &mut Post, number: &mut u64) {
        while let Some(action) = self.workers[worker].agent.poll_action() {
            let node = &mut self.workers[worker];
            match action {
                agent::Action::Compute { batch, .. } => node.queue.push_back(batch),
                agent::Action::Withdraw { batch } => {
                    if let Some(position) = node.queue.iter().position(|queued| *queued == batch) {
                        node.queue.remove(position);
                        node.agent.handle(agent::Event::Withdrawn { batch });
                    }
                }
                agent::Action::Cancel => {}
                agent::Action::Send(message) => {
                    *number += 1;
                    post.to_master.insert(*number, message);
                    self.at(self.latency, Happening::ToMaster(worker, *number));
                }
                agent::Action::Finish => self.ended[worker] = Some(Ok(())),
                agent::Action::Stop(error) => self.ended[worker] = Some(Err(error)),
            }
        }
        let node = &mut self.workers[worker];
        if node.computing.is_none()
            && let Some(batch) = node.queue.pop_front()
        {
            node.computing = Some(batch);
            let seconds: f64 = (batch.start..batch.end()).map(self.cost).sum();
            let wall = seconds / f64::from(node.threads);
            self.at(wall, Happening::Computed(worker));
        }
    }

    fn efficiency(&self, makespan: f64) -> f64 {
        let busy: f64 = self.workers.iter().map(|node| node.busy).sum();
        let threads: u32 = self.workers.iter().map(|node| node.threads).sum();
        busy / (makespan * f64::from(threads))
    }

    fn assert_complete(&self) {
        assert!(self.done.iter().all(|count| *count == 1), "counted: {:?}", self.done);
        assert!(self.ended.iter().all(|end| matches!(end, Some(Ok(())))), "{:?}", self.ended);
    }
}

fn panic_at(batch: Extent) -> Error {
    ErrorKind::Panicked {
        call: "test".into(),
        role: crate::error::Role::Mapper,
        place: crate::error::Place { rank: 0, host: "here".into() },
        item: format!("{batch:?}"),
        message: "planned".into(),
        location: "here".into(),
        backtrace: String::new(),
        attempts: 1,
    }
    .into()
}

#[test]
fn equal_costs_on_equal_ranks_lose_less_than_two_percent() {
    let cost = |_| 1e-4;
    let mut machine = Machine::new(100_000, &[1; 8], &cost);
    let makespan = machine.run(|_| 0.0);
    machine.assert_complete();
    let efficiency = machine.efficiency(makespan);
    assert!(efficiency > 0.98, "{efficiency}");
}

#[test]
fn costs_that_grow_a_hundredfold_along_the_input_are_balanced() {
    let cost = |leaf: u64| 1e-5 * (1.0 + 99.0 * leaf as f64 / 65_536.0);
    let mut machine = Machine::new(65_536, &[1; 16], &cost);
    let makespan = machine.run(|_| 0.0);
    machine.assert_complete();
    let efficiency = machine.efficiency(makespan);
    assert!(efficiency > 0.95, "{efficiency}");
}

#[test]
fn ranks_with_more_threads_get_more_and_none_waits() {
    let cost = |_| 1e-3;
    let mut machine = Machine::new(20_000, &[1, 2, 8, 16], &cost);
    let makespan = machine.run(|_| 0.0);
    machine.assert_complete();
    let efficiency = machine.efficiency(makespan);
    assert!(efficiency > 0.97, "{efficiency}");
}

#[test]
fn a_rank_that_enters_late_finds_its_home_region_done_by_others() {
    let cost = |_| 1e-3;
    let mut machine = Machine::new(4_000, &[1, 1, 1, 1], &cost);
    let makespan = machine.run(|worker| if worker == 3 { 10.0 } else { 0.0 });
    machine.assert_complete();
    assert!(machine.workers[3].busy == 0.0, "{}", machine.workers[3].busy);
    assert!((10.0..10.1).contains(&makespan), "nobody is left behind: {makespan}");
}

#[test]
fn few_long_items_are_spread_over_the_ranks_one_by_one() {
    let cost = |_| 1.0;
    let mut machine = Machine::new(8, &[1; 8], &cost);
    let makespan = machine.run(|_| 0.0);
    machine.assert_complete();
    assert!(makespan < 1.1, "eight items of a second on eight ranks: {makespan}");
}

#[test]
fn a_batch_queued_behind_a_long_one_is_recalled() {
    // One item takes a hundred times as long as the others, and its rank has taken another batch ahead.
    let cost = |leaf| if leaf == 0 { 10.0 } else { 0.1 };
    let mut machine = Machine::new(64, &[1; 4], &cost);
    let makespan = machine.run(|_| 0.0);
    machine.assert_complete();
    assert!(machine.recalls > 0);
    assert!(makespan < 10.5, "{makespan}");
}

#[test]
fn more_ranks_than_items_and_no_items_at_all_end_well() {
    let cost = |_| 0.1;
    for (leaves, ranks) in [(3, 20), (1, 2), (0, 5)] {
        let threads = vec![1; ranks];
        let mut machine = Machine::new(leaves, &threads, &cost);
        machine.run(|_| 0.0);
        machine.assert_complete();
    }
}

#[test]
fn a_failing_batch_ends_the_call_on_every_rank_when_no_retry_is_left() {
    let cost = |_| 1e-3;
    let fails = |batch: Extent, _| batch.contains(Extent::new(77, 1));
    for retries in [0, 3] {
        let mut machine = Machine::new(200, &[1; 3], &cost);
        machine.scheduler.config.retries = retries;
        machine.fails = &fails;
        machine.run(|_| 0.0);
        let Some(Some(Err(error))) = machine.ended.first() else { panic!("the call has not failed") };
        let ErrorKind::Panicked { attempts, .. } = error.kind() else { panic!("{error}") };
        assert_eq!(*attempts, retries + 1);
        assert!(machine.ended.iter().all(|end| matches!(end, Some(Err(_)))), "{:?}", machine.ended);
    }
}

#[test]
fn a_batch_that_fails_twice_and_then_works_is_counted_once() {
    let cost = |_| 1e-3;
    let fails = |batch: Extent, attempt| batch.contains(Extent::new(77, 1)) && attempt <= 2;
    let mut machine = Machine::new(200, &[1; 3], &cost);
    machine.scheduler.config.retries = 2;
    machine.fails = &fails;
    machine.run(|_| 0.0);
    machine.assert_complete();
}

#[test]
fn a_mapper_that_does_not_end_is_abandoned_after_the_grace_time() {
    let cost = |leaf| if leaf == 0 { 1e6 } else { 1e-3 };
    let fails = |batch: Extent, _| batch.contains(Extent::new(150, 1));
    let mut machine = Machine::new(200, &[1; 3], &cost);
    machine.fails = &fails;
    let makespan = machine.run(|_| 0.0);
    assert!(matches!(machine.ended[0], Some(Err(_))));
    assert!(makespan < GRACE.as_secs_f64() + 1.0, "{makespan}");
}

#[test]
fn rank_0_talks_little_when_items_are_short_and_many() {
    let cost = |_| 1e-7;
    let mut machine = Machine::new(1 << 20, &[1; 4], &cost);
    machine.run(|_| 0.0);
    machine.assert_complete();
    let batches: u64 = machine.scheduler.lengths().pairs().iter().map(|(_, count)| count).sum();
    assert!(batches < 1000, "{batches} batches for 0.1 s of work");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_leaf_is_counted_once_on_any_machine(
        leaves in 0u64..2000,
        threads in prop::collection::vec(1u32..9, 1..12),
        costs in prop::collection::vec(1e-7f64..1e-2, 1..50),
        late in prop::collection::vec(0.0f64..0.5, 12),
        latency in 1e-7f64..1e-3,
        failing in prop::collection::vec(any::<u64>(), 0..4),
    ) {
        let cost = |leaf: u64| costs[leaf as usize % costs.len()];
        let fails = |batch: Extent, attempt| {
            attempt == 1 && failing.iter().any(|leaf| batch.contains(Extent::new(leaf % leaves.max(1), 1)))
        };
        let mut machine = Machine::new(leaves, &threads, &cost);
        machine.scheduler.config.retries = 1;
        machine.latency = latency;
        machine.fails = &fails;
        machine.run(|worker| late[worker]);
        machine.assert_complete();
    }
}

#[test]
fn a_recalled_batch_goes_to_the_idle_rank_and_not_back() {
    // Ranks of many threads, so that a few leaves are next to nothing for each thread.
    let config = Config { leaves: 8, longest: u64::MAX, retries: 0, whole_batches: false };
    let mut scheduler = Scheduler::new(config, &[8, 8]);
    scheduler.handle(Time(0), Event::Ready { worker: 0 });
    let mut held: Vec<Extent> = Vec::new();
    while let Some(action) = scheduler.poll_action() {
        let Action::Assign { worker: 0, batch } = action else { panic!("{action:?}") };
        held.push(batch);
    }
    assert!(held.len() > 1, "{held:?}");
    scheduler.handle(Time(1), Event::Ready { worker: 1 });
    let Some(Action::Recall { worker: 0, batch }) = scheduler.poll_action() else { panic!("no recall") };
    scheduler.handle(Time(2), Event::Returned { worker: 0, batch });
    let Some(Action::Assign { worker, .. }) = scheduler.poll_action() else { panic!("not handed out") };
    assert_eq!(worker, 1);
}
