//! Which worker gets which task, and how many at a time.
//!
//! A worker has at least two tasks for each thread, so that none waits for a round trip, and more while together they
//! last for less than [`HORIZON`], so that short tasks travel many at a time. What a task will take is the mean of those
//! of its kind so far, in which later ones count more. List scheduling (Graham, "Bounds on multiprocessing timing
//! anomalies", SIAM J. Appl. Math. 17(2), 1969) with the data's place taken into account: a task waits for a busy worker
//! that has its inputs if moving them would take longer than waiting (delay scheduling: Zaharia et al.,
//! European Conference on Computer Systems 2010).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::demand::{Demand, Resources};
use super::{Order, TaskId};
use crate::simulate::mutant::{Mutant, planted};

/// A worker is given tasks ahead for this long, in nanoseconds of each of its threads. Where all cores compute, ranks look
/// for messages some milliseconds apart, and a kernel leaves a busy core to another thread for as long: the way from the end
/// of a task to rank 0 and back, with the next one, takes three looks.
const HORIZON: u64 = 20_000_000;
/// A worker with no more to do than this is waited for rather than that values are moved.
const SHORT: u64 = 5_000_000;
/// A worker has at most so many tasks that it has not ended.
const MOST: usize = 4096;
/// What a task is expected to take before one of its kind has ended.
const UNKNOWN: u64 = HORIZON;
/// The weight of the newest task in the mean of its kind.
const NEWEST: f64 = 0.1;
/// So many kinds are remembered.
const KINDS_MOST: usize = 10_000;
/// Bytes that a network moves in a nanosecond, if it is not a fast one; and what each transfer takes besides.
const BYTES_PER_NANOSECOND: u64 = 1;
const TRANSFER_LEAST: u64 = 50_000;

/// The order in which tasks that could run do so: the higher priority first, then what other tasks wait for, then the one
/// that was submitted first.
type Turn = (Reverse<i32>, Reverse<u32>, TaskId);

/// Where a task waits for a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    Anybody,
    /// This worker, if none is idle meanwhile.
    Rather(usize),
    Only(usize),
    /// A worker that gives what it demands, and for an actor the one that has fewest of them.
    Special,
}

#[derive(Debug)]
pub(super) struct Placement {
    workers: Vec<Worker>,
    /// Tasks that anybody may run.
    common: BTreeSet<Turn>,
    /// Workers that can be given more, those with least to do first.
    roomy: BTreeSet<(u64, usize)>,
    /// Those of them that tasks wait for.
    awaited: BTreeSet<usize>,
    /// All workers that are there, by what they have to do.
    loads: BTreeSet<(u64, usize)>,
    /// The mean time of each kind of task, in nanoseconds.
    means: BTreeMap<u64, f64>,
    /// Tasks that not every worker can run at every time, and actors, which are spread over the workers.
    special: BTreeMap<Kind, BTreeSet<Turn>>,
    /// Something has changed since nobody could be given one of them.
    has_hope: bool,
    /// Some workers have not come yet, and actors wait for them.
    holds_actors: bool,
    /// What tasks have taken of a worker's resources, and where actors are.
    taken: BTreeMap<TaskId, Taken>,
}

/// Whether it is an actor, and what it demands.
type Kind = (bool, Demand);

#[derive(Debug)]
struct Taken {
    worker: usize,
    amounts: Resources,
    is_actor: bool,
}

#[derive(Debug, Clone, Copy)]
struct Given {
    /// The time that the task was expected to take, and whether that was known.
    expected: u64,
    is_known: bool,
    /// Whether another may run it, and how long its inputs would take to get there.
    is_free: bool,
    moving: u64,
}

#[derive(Debug, Default)]
struct Worker {
    threads: u64,
    is_present: bool,
    /// What it was given and has not ended.
    held: BTreeMap<TaskId, Given>,
    /// The sum of the times that they were expected to take.
    sum: u64,
    /// Those of them of which nobody knew how long they would take.
    unknown: usize,
    /// Tasks that wait for it, but that others may run as well, with the time that it would take to move their inputs there.
    rather: BTreeMap<Turn, u64>,
    /// Tasks that nobody else may run.
    only: BTreeSet<Turn>,
    /// Whether tasks were taken back from it, and it has not ended any since.
    is_recalled: bool,
    /// What it has, and what of that no task has taken.
    whole: Resources,
    free: Resources,
    /// Actors that live there, or begin to.
    actors: usize,
}

impl Worker {
    fn load(&self) -> u64 {
        self.sum / self.threads
    }

    fn has_room(&self) -> bool {
        let held = self.held.len();
        self.is_present && (held < 2 * self.threads as usize || (self.load() < HORIZON && held < MOST))
    }

    fn has_work_for(&self, time: u64) -> bool {
        let (known, sum) = (self.held.len() - self.unknown, self.sum - self.unknown as u64 * UNKNOWN);
        known as u64 >= 2 * self.threads && sum >= time * self.threads
    }

    fn first(&self) -> Option<Turn> {
        match (self.only.first(), self.rather.keys().next()) {
            (Some(only), Some(rather)) => Some(*only.min(rather)),
            (only, rather) => only.or(rather).copied(),
        }
    }
}

/// How long it takes to move so many bytes, in nanoseconds.
fn moving(bytes: u64) -> u64 {
    bytes / BYTES_PER_NANOSECOND + TRANSFER_LEAST
}

/// Where a task waits that any worker can run.
fn anybody(order: &Order) -> Want {
    if order.restarts.is_some() { Want::Special } else { Want::Anybody }
}

fn kind(order: &Order) -> Kind {
    (order.restarts.is_some(), order.demand.clone())
}

fn turn(task: TaskId, order: &Order) -> Turn {
    (Reverse(order.priority), Reverse(order.depth), task)
}

impl Placement {
    pub fn new(threads: &[u32], resources: &[Resources]) -> Self {
        let nothing = Resources::new();
        let resources = resources.iter().chain(std::iter::repeat(&nothing));
        let worker = |(threads, resources): (&u32, &Resources)| Worker {
            threads: u64::from((*threads).max(1)),
            whole: resources.clone(),
            free: resources.clone(),
            ..Worker::default()
        };
        Self {
            workers: threads.iter().zip(resources).map(worker).collect(),
            common: BTreeSet::new(),
            roomy: BTreeSet::new(),
            awaited: BTreeSet::new(),
            loads: BTreeSet::new(),
            means: BTreeMap::new(),
            special: BTreeMap::new(),
            has_hope: false,
            holds_actors: false,
            taken: BTreeMap::new(),
        }
    }

    /// Why nobody will ever be able to run a task, but for those workers that are lost; `None` if somebody will.
    pub fn problem(&self, demand: &Demand, is_lost: impl Fn(usize) -> bool) -> Option<String> {
        if demand.is_none() {
            return None;
        }
        let there = self.workers.iter().enumerate().filter(|(worker, _)| !is_lost(*worker));
        demand.problem(&there.map(|(worker, of)| (worker, &of.whole)).collect())
    }

    /// Whether actors wait, so that those who come later have some, too.
    pub fn hold_actors(&mut self, holds: bool) {
        self.holds_actors = holds;
        self.has_hope = true;
    }

    /// A worker has come.
    pub fn add(&mut self, worker: usize) {
        self.change(worker, |worker| worker.is_present = true);
    }

    /// Decides where a task waits, of which these workers hold so many bytes.
    pub fn place(&mut self, task: TaskId, order: &Order, held: &BTreeMap<usize, u64>) -> Want {
        let want = match order.on {
            _ if !order.demand.is_none() => Want::Special,
            Some(rank) => Want::Only(rank),
            None => self.near(held).map_or(anybody(order), Want::Rather),
        };
        self.put(task, order, want, moving(held.values().sum()));
        want
    }

    /// A task that was taken back, since others have nothing to do: whoever is free first gets it.
    pub fn place_anywhere(&mut self, task: TaskId, order: &Order) -> Want {
        let want = match order.on {
            _ if !order.demand.is_none() => Want::Special,
            on => on.map_or(anybody(order), Want::Only),
        };
        self.put(task, order, want, 0);
        want
    }

    fn put(&mut self, task: TaskId, order: &Order, want: Want, moving: u64) {
        let turn = turn(task, order);
        match want {
            Want::Special => {
                self.special.entry(kind(order)).or_default().insert(turn);
                self.has_hope = true;
            }
            Want::Anybody => _ = self.common.insert(turn),
            Want::Rather(worker) => self.change(worker, |worker| _ = worker.rather.insert(turn, moving)),
            Want::Only(worker) => self.change(worker, |worker| _ = worker.only.insert(turn)),
        }
    }

    /// The worker that has most of the bytes, if waiting for it is sooner than moving them to another.
    fn near(&self, held: &BTreeMap<usize, u64>) -> Option<usize> {
        let total: u64 = held.values().sum();
        let most = held.iter().filter(|(worker, _)| self.workers[**worker].is_present);
        let least = |worker: usize| (Reverse(self.workers[worker].load()), Reverse(worker));
        let (worker, there) = most.max_by_key(|(worker, bytes)| (**bytes, least(**worker)))?;
        let load = self.workers[*worker].load().saturating_sub(SHORT);
        let waiting = load + if total > *there { moving(total - there) } else { 0 };
        let elsewhere = self.roomy.first().map_or(u64::MAX, |(load, _)| load + moving(total));
        (waiting <= elsewhere).then_some(*worker)
    }

    /// The next task that can be handed out, and the worker that gets it.
    pub fn next(&mut self) -> Option<(usize, TaskId)> {
        if let Some((worker, turn)) = self.next_special() {
            return Some((worker, turn.2));
        }
        let (worker, turn) = if let Some(worker) = self.awaited.first().copied() {
            let mine = self.workers[worker].first().expect("tasks wait for it");
            match self.common.first() {
                Some(common) if *common < mine => (worker, *common),
                _ => (worker, mine),
            }
        } else {
            let (load, worker) = *self.roomy.first()?;
            match self.common.first() {
                Some(turn) => (worker, *turn),
                None if load == 0 => (worker, self.take_from_the_busiest()?),
                None => return None,
            }
        };
        self.common.remove(&turn);
        Some((worker, turn.2))
    }

    /// The first of those tasks that not everybody can run, with a worker that can.
    fn next_special(&mut self) -> Option<(usize, Turn)> {
        if self.special.is_empty() || !self.has_hope {
            return None;
        }
        let free = |(_, worker): &(u64, usize), demand: &Demand| demand.suits(*worker, &self.workers[*worker].free);
        let actors = |(load, worker): &&(u64, usize)| (self.workers[*worker].actors, *load);
        let ready = self.special.iter().filter(|(kind, _)| !(kind.0 && self.holds_actors));
        let first = ready.filter_map(|(kind, turns)| {
            let mut suited = self.roomy.iter().filter(|roomy| free(roomy, &kind.1));
            let (_, worker) = if kind.0 { suited.min_by_key(actors) } else { suited.next() }?;
            Some((*turns.first()?, *worker, kind))
        });
        let Some((turn, worker, kind)) = first.min_by_key(|(turn, ..)| *turn) else {
            self.has_hope = false;
            return None;
        };
        // Whoever demands nothing takes its turn like everybody.
        if kind.1.is_none() && self.common.first().is_some_and(|common| *common < turn) {
            return None;
        }
        let kind = kind.clone();
        self.take_special(turn, &kind);
        let (is_actor, demand) = kind;
        for (name, amount) in &demand.amounts {
            *self.workers[worker].free.get_mut(name).expect("it suits") -= amount;
        }
        if planted(Mutant::ResourcesUncounted) {
            self.workers[worker].free = self.workers[worker].whole.clone();
        }
        if !demand.amounts.is_empty() {
            self.taken.insert(turn.2, Taken { worker, amounts: demand.amounts, is_actor });
        }
        Some((worker, turn))
    }

    /// The tasks that not everybody can run, and nobody was given.
    pub fn special(&self) -> Vec<TaskId> {
        self.special.values().flatten().map(|turn| turn.2).collect()
    }

    fn take_special(&mut self, turn: Turn, kind: &Kind) {
        if let Some(turns) = self.special.get_mut(kind) {
            turns.remove(&turn);
            if turns.is_empty() {
                self.special.remove(kind);
            }
        }
    }

    /// Tasks that will not run before an actor is gone, since those have what they demand, and the actors that have it: one
    /// for each demand.
    pub fn starved(&self, is_lost: impl Fn(usize) -> bool) -> Vec<(TaskId, &Resources, Vec<TaskId>)> {
        let actors = self.taken.iter().filter(|(_, taken)| taken.is_actor && !taken.amounts.is_empty());
        let actors: Vec<_> = actors.collect();
        if actors.is_empty() || self.special.is_empty() {
            return Vec::new();
        }
        let workers = self.workers.iter().enumerate().filter(|(worker, _)| !is_lost(*worker));
        let mut left: BTreeMap<usize, Resources> =
            workers.map(|(number, worker)| (number, worker.whole.clone())).collect();
        for (_, taken) in &actors {
            for (name, amount) in &taken.amounts {
                let left = left.get_mut(&taken.worker).and_then(|left| left.get_mut(name));
                left.into_iter().for_each(|left| *left = left.saturating_sub(*amount));
            }
        }
        let mut starved = Vec::new();
        for ((_, demand), turns) in &self.special {
            let is_among = |worker: usize| demand.among.as_ref().is_none_or(|among| among.contains(&worker));
            let has = |taken: &Taken| demand.amounts.keys().any(|name| taken.amounts.contains_key(name));
            let holders = actors.iter().filter(|(_, taken)| is_among(taken.worker) && has(taken));
            let holders: Vec<TaskId> = holders.map(|(actor, _)| **actor).collect();
            let can_run = left.iter().any(|(worker, left)| demand.suits(*worker, left));
            if let (Some(turn), false, false) = (turns.first(), can_run, holders.is_empty()) {
                starved.push((turn.2, &demand.amounts, holders));
            }
        }
        starved
    }

    /// What a task has taken of this worker's resources is free again.
    pub fn release(&mut self, worker: usize, task: TaskId) {
        let is_here = self.taken.get(&task).is_some_and(|taken| taken.worker == worker);
        if !is_here || planted(Mutant::ResourcesKept) {
            return;
        }
        let Some(Taken { amounts, is_actor, .. }) = self.taken.remove(&task) else { return };
        self.workers[worker].actors -= usize::from(is_actor);
        for (name, amount) in amounts {
            *self.workers[worker].free.entry(name).or_default() += amount;
        }
        self.has_hope = true;
    }

    /// For a worker with nothing to do: a task that waits for a busy one, which would rather have it.
    fn take_from_the_busiest(&mut self) -> Option<Turn> {
        let busiest = self.loads.iter().rev().map(|(load, worker)| (*load, *worker)).take(8);
        let mut last = busiest.filter_map(|(load, worker)| {
            let (turn, moving) = self.workers[worker].rather.last_key_value()?;
            (*moving < load).then_some((worker, *turn))
        });
        let (worker, turn) = last.next()?;
        self.change(worker, |worker| _ = worker.rather.remove(&turn));
        Some(turn)
    }

    /// A worker was given a task.
    pub fn given(&mut self, worker: usize, task: TaskId, order: &Order) {
        let turn = turn(task, order);
        if order.restarts.is_some() {
            let taken = Taken { worker, amounts: Resources::new(), is_actor: true };
            self.taken.entry(task).or_insert(taken);
            self.workers[worker].actors += 1;
        }
        let known = self.means.get(&order.kind).map(|mean| *mean as u64);
        let (expected, is_known) = (known.unwrap_or(UNKNOWN), known.is_some());
        self.change(worker, |worker| {
            let moving = worker.rather.remove(&turn).unwrap_or(0);
            worker.only.remove(&turn);
            let is_free = order.on.is_none() && order.demand.is_none();
            worker.held.insert(task, Given { expected, is_known, is_free, moving });
            worker.sum += expected;
            worker.unknown += usize::from(!is_known);
        });
    }

    /// A task of this worker waits for others: it does not keep anything else from running there.
    pub fn makes_room(&mut self, worker: usize, task: TaskId) {
        if !planted(Mutant::NoRoomForInner) {
            self.returned(worker, task);
        }
    }

    /// A worker has ended a task; one of this kind took so many seconds, if it has ended well.
    pub fn ended(&mut self, worker: usize, task: TaskId, took: Option<(u64, f64)>) {
        if let Some((kind, seconds)) = took {
            if self.means.len() >= KINDS_MOST && !self.means.contains_key(&kind) {
                self.means.clear();
            }
            let took = seconds * 1e9;
            self.means.entry(kind).and_modify(|mean| *mean += NEWEST * (took - *mean)).or_insert(took);
        }
        self.workers[worker].is_recalled = false;
        self.returned(worker, task);
    }

    /// A worker does not have a task any more.
    pub fn returned(&mut self, worker: usize, task: TaskId) {
        self.change(worker, |worker| {
            if let Some(given) = worker.held.remove(&task) {
                worker.sum -= given.expected;
                worker.unknown -= usize::from(!given.is_known);
            }
        });
    }

    /// Whether all workers have two tasks for each thread or more, and those are expected to last for so long.
    pub fn all_have_work_for(&self, time: u64) -> bool {
        self.workers.iter().filter(|worker| worker.is_present).all(|worker| worker.has_work_for(time))
    }

    /// Somebody who has tasks that he has not begun, while others have none: which to take back.
    pub fn recall(&mut self) -> Option<(usize, Vec<TaskId>)> {
        let (least, _) = self.roomy.first()?;
        let (_, busiest) = *self.loads.last()?;
        let worker = &mut self.workers[busiest];
        let queued = worker.held.len().saturating_sub(worker.threads as usize);
        if *least > 0 || queued == 0 || worker.is_recalled || !self.common.is_empty() {
            return None;
        }
        let load = worker.load();
        let pays = |given: &Given| given.is_free && given.moving < load;
        let last = worker.held.iter().rev().filter(|(_, given)| pays(given)).map(|(task, _)| *task);
        let tasks: Vec<TaskId> = last.take(queued.div_ceil(2)).collect();
        worker.is_recalled = true;
        (!tasks.is_empty()).then_some((busiest, tasks))
    }

    /// A task will not run.
    pub fn forget(&mut self, task: TaskId, order: &Order, want: Want) {
        let turn = turn(task, order);
        match want {
            Want::Special => self.take_special(turn, &kind(order)),
            Want::Anybody => _ = self.common.remove(&turn),
            Want::Rather(worker) | Want::Only(worker) => {
                // It may have been taken from there, for another.
                self.change(worker, |worker| _ = worker.rather.remove(&turn).is_some() || worker.only.remove(&turn));
            }
        }
    }

    /// A worker is lost. Gives the tasks that have waited for it, but could run elsewhere, and those that could not.
    pub fn lose(&mut self, worker: usize) -> (Vec<TaskId>, Vec<TaskId>) {
        let (mut free, mut stuck) = (Vec::new(), Vec::new());
        self.change(worker, |worker| {
            worker.is_present = false;
            free = std::mem::take(&mut worker.rather).into_keys().map(|turn| turn.2).collect();
            stuck = std::mem::take(&mut worker.only).into_iter().map(|turn| turn.2).collect();
            worker.held.clear();
            (worker.sum, worker.unknown) = (0, 0);
        });
        (free, stuck)
    }

    /// Changes a worker, and its place in the indices.
    fn change<R>(&mut self, number: usize, change: impl FnOnce(&mut Worker) -> R) -> R {
        let worker = &mut self.workers[number];
        let before = (worker.load(), number);
        let was = (worker.is_present, worker.has_room(), worker.first().is_some());
        let result = change(worker);
        let after = (worker.load(), number);
        let is = (worker.is_present, worker.has_room(), worker.first().is_some());
        if before != after || was != is {
            if was.0 {
                self.loads.remove(&before);
            }
            if was.1 {
                self.roomy.remove(&before);
            }
            if is.0 {
                self.loads.insert(after);
            }
            if is.1 {
                self.roomy.insert(after);
                self.has_hope = true;
            }
            if is.1 && is.2 {
                self.awaited.insert(number);
            } else {
                self.awaited.remove(&number);
            }
        }
        result
    }
}
