//! Faulty runs of small clusters, each from one seed, and the judges that look at them from outside.
//!
//! A trial draws a machine, an input and its misfortunes from its seed, lets the production scheduler and agents run it,
//! and checks after every event what the scheduler believes, and at the end what came out. The judges know the machine's
//! truth (which rank died, what each has computed) and share no code with what they judge, except the tree of partials,
//! which they compare with the definition.

use std::fmt;
use std::time::Duration;

use rand::RngExt;

use super::cluster::{Cluster, Ended, Node};
use super::costs::{Costs, Workload};
use super::faults::{Fault, Luck};
use super::machine::Machine;
use super::shuffle::Shuffle;
use super::value::Value;
use crate::extent::Extent;
use crate::master::coverage::Coverage;
use crate::master::liveness::Patience;
use crate::master::policy::Learned;
use crate::master::scheduler::Config;
use crate::random::{ItemRng, rng};
use crate::reduce::segment::Segments;

/// What a faulty run came to, where it came to what it should.
///
/// # Examples
///
/// ```
/// let verdict = rankfold::simulate::trial(7)?;
/// println!("{verdict:?}");
/// # Ok::<(), rankfold::simulate::Violation>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The right result.
    Result,
    /// The right result, without ranks that were lost on the way.
    ResultWithoutLost,
    /// An error, because a mapper panicked more often than retries allow.
    Error,
    /// An early end, because the run was told to end; what was done by then is there.
    Interrupted,
    /// An error, because a rank is gone that nobody had missed before the reduction, or that was rank 0: the next job.
    RankGone,
}

/// Something that must never happen, and how to see it again.
///
/// # Examples
///
/// ```
/// if let Err(violation) = rankfold::simulate::trial(7) {
///     panic!("{violation}"); // says how to repeat it
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The seed of the run.
    pub seed: u64,
    /// What happened.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, what } = self;
        write!(f, "seed {seed}: {what}\nto repeat it: rankfold simulate --faults --seed {seed}")
    }
}

impl std::error::Error for Violation {}

/// Everything that a seed decides.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub machine: Machine,
    pub costs: Costs,
    pub config: Config,
    pub luck: Luck,
    /// Leaves that come last, with the number of crashes since they do.
    pub suspects: Vec<(u32, Extent)>,
    /// The cost of a leaf that is remembered from before, however wrong.
    pub remembered: Option<f64>,
}

/// Runs the faulty run of a seed.
///
/// # Errors
///
/// Something happened that must not: a wrong result, an item counted twice or never, a run that does not end, or a
/// scheduler whose books do not balance.
///
/// # Examples
///
/// ```
/// for seed in 0..100 {
///     rankfold::simulate::trial(seed)?;
/// }
/// # Ok::<(), rankfold::simulate::Violation>(())
/// ```
pub fn trial(seed: u64) -> Result<Verdict, Violation> {
    judge(&Setup::draw(seed)).map_err(|what| Violation { seed, what })
}

/// What the faulty run of a seed is like, in words.
///
/// # Examples
///
/// ```
/// assert!(rankfold::simulate::describe_trial(7).contains("ranks"));
/// ```
#[must_use]
pub fn describe_trial(seed: u64) -> String {
    let Setup { machine, costs, config, luck, suspects, remembered } = Setup::draw(seed);
    let (leaves, total, retries) = (costs.leaves(), costs.total(), config.retries);
    format!(
        "seed {seed}: {leaves} leaves of {total:.3} s in all, {retries} retries, suspects {suspects:?}, remembered {remembered:?}\n{machine:#?}\n{luck:#?}"
    )
}

impl Setup {
    /// Half of the runs have no faults but bad luck with messages; of the others, most have few.
    pub fn draw(seed: u64) -> Self {
        let dice = &mut rng(seed, 0);
        let ranks = dice.random_range(1..=10usize);
        let mut machine = Machine::new(ranks);
        machine.threads = if dice.random_bool(0.7) { 1 } else { dice.random_range(2..=6) };
        machine.latency = 10f64.powf(dice.random_range(-6.0..-2.5));
        machine.service = 10f64.powf(dice.random_range(-6.5..-4.0));
        machine.noise = if dice.random_bool(0.5) { dice.random_range(0.0..0.5) } else { 0.0 };
        if dice.random_bool(0.3) {
            machine.speeds = (0..ranks).map(|_| 10f64.powf(dice.random_range(-1.5..0.3))).collect();
        }
        let items = match dice.random_range(0..10) {
            0 => dice.random_range(0..4),
            1..=5 => dice.random_range(0..60),
            _ => dice.random_range(60..700),
        };
        let mean = 10f64.powf(dice.random_range(-5.0..-0.5));
        let workload = Workload::ALL[dice.random_range(0..Workload::ALL.len())];
        let costs = workload.costs(items, mean, seed);
        let patience = Patience::new(Duration::from_secs_f64(10f64.powf(dice.random_range(-0.5..1.0))), ranks);
        let config = Config {
            leaves: costs.leaves(),
            leaf: 1,
            longest: if dice.random_bool(0.2) { dice.random_range(1..64) } else { u64::MAX },
            retries: dice.random_range(0..4),
            whole_batches: dice.random_bool(0.15),
            may_repeat: dice.random_bool(0.7),
            patience,
        };
        let length = costs.total() / machine.power_of_all();
        let luck = draw_luck(seed, dice, &machine, &config, length);
        let suspects = draw_suspects(dice, config.leaves);
        let remembered = dice.random_bool(0.2).then(|| mean * 10f64.powf(dice.random_range(-2.0..2.0)));
        Self { machine, costs, config, luck, suspects, remembered }
    }
}

/// In some runs, some leaves: with few enough of them, one at a time.
fn draw_suspects(dice: &mut ItemRng, leaves: u64) -> Vec<(u32, Extent)> {
    if leaves == 0 || !dice.random_bool(0.15) {
        return Vec::new();
    }
    let draw = |_| {
        let level = dice.random_range(0..5u32);
        let start = dice.random_range(0..leaves) >> level << level;
        (dice.random_range(0..3), Extent::new(start, 1 << level))
    };
    let mut drawn: Vec<(u32, Extent)> = (0..5).map(draw).collect();
    let mut known = Coverage::default();
    drawn.retain(|(_, extent)| extent.end() <= leaves && !known.meets(*extent) && !known.insert(*extent).is_empty());
    drawn
}

fn draw_luck(seed: u64, dice: &mut ItemRng, machine: &Machine, config: &Config, length: f64) -> Luck {
    let mut luck = Luck { seed, ..Luck::default() };
    let ranks = machine.ranks;
    if dice.random_bool(0.7) {
        luck.delay = machine.latency * 10f64.powf(dice.random_range(-1.0..2.0));
        luck.spikes = if dice.random_bool(0.3) { 0.02 } else { 0.0 };
        // A message that takes as long as silence is borne would be silence.
        luck.delay = luck.delay.min(config.patience.bound().as_secs_f64() / 2000.0);
    }
    if dice.random_bool(0.3) {
        luck.late = (0..ranks).map(|_| dice.random_range(0.0..=2.0) * length).collect();
    }
    if dice.random_bool(0.3) {
        luck.panics = dice.random_range(0.0..0.1);
    }
    if dice.random_bool(0.05) && config.leaves > 0 {
        luck.poison = Some(dice.random_range(0..config.leaves));
    }
    if dice.random_bool(0.5) {
        let bound = config.patience.bound().as_secs_f64();
        for rank in 0..ranks {
            // Rank 0 has its troubles, too, but less often: they end every run.
            let (dies, sleeps) = if rank == 0 { (0.01, 0.1) } else { (0.15, 0.3) };
            // Nobody can know of a rank that has not entered the call whether it ever will.
            let at = luck.late(rank) + dice.random_range(0.0..1.5) * length.max(1e-3) + 1e-9;
            if dice.random_bool(dies) {
                luck.faults.push((at, rank, Fault::Dies));
            } else if dice.random_bool(sleeps) {
                luck.faults.push((at, rank, Fault::Sleeps(bound * 10f64.powf(dice.random_range(-2.0..0.7)))));
            }
        }
    }
    if dice.random_bool(0.15) {
        let enough = 10f64.powf(dice.random_range(-3.0..1.0));
        luck.drain = Some((dice.random_range(0.0..1.5) * length, enough * length.max(1e-3)));
    }
    luck
}

/// Runs a setup and looks at it from outside.
pub(crate) fn judge(setup: &Setup) -> Result<Verdict, String> {
    let Setup { machine, costs, config, luck, suspects, remembered } = setup;
    let mut cluster = Cluster::new(machine, costs, *config, luck.clone());
    cluster.quarantine(suspects);
    if remembered.is_some() {
        cluster.scheduler.recall_costs(&Learned { leaf: 1, mean: *remembered, ..Learned::default() });
    }
    cluster.tally.counts = Some(vec![0; costs.leaves() as usize]);
    cluster.begin();
    let least = (0..machine.ranks).map(|rank| machine.power(rank)).fold(f64::INFINITY, f64::min);
    // Whoever is slowest does everything, several times; silence is borne several times.
    let attempts = f64::from(config.retries + 2);
    let limit =
        luck.calm_after() + 5.0 * config.patience.bound().as_secs_f64() + attempts * 5.0 * costs.total() / least + 60.0;
    // Small inputs are looked at after every event, larger ones as often as that takes no longer than the run itself.
    let pace = 1 + costs.leaves() / 16;
    let mut steps = 0u64;
    while cluster.step() {
        steps += 1;
        if steps.is_multiple_of(pace) || cluster.ended.is_some() {
            cluster.scheduler.check()?;
        }
        if cluster.is_over() {
            break;
        }
        if cluster.now.0 as f64 > limit * 1e9 {
            return Err(format!("it has not ended after {limit:.0} s"));
        }
    }
    check_bounds(&cluster, config)?;
    if cluster.tally.too_early > 0 {
        return Err(format!("{} suspects were handed out while others had work", cluster.tally.too_early));
    }
    verdict(&cluster, setup)
}

fn verdict(cluster: &Cluster<'_>, setup: &Setup) -> Result<Verdict, String> {
    let Setup { costs, luck, config, .. } = setup;
    // A rank that slept for less than silence is borne must not be given up.
    let bearable = 0.9 * config.patience.bound().as_secs_f64();
    let gone = |rank: usize| {
        luck.faults.iter().any(|(_, who, fault)| match fault {
            Fault::Dies => *who == rank,
            Fault::Sleeps(length) => *who == rank && *length > bearable,
        })
    };
    match &cluster.ended {
        Some(Ended::Finished { lost }) => {
            if let Some(innocent) = lost.iter().find(|rank| !gone(**rank)) {
                return Err(format!("rank {innocent} was lost, but nothing had happened to it"));
            }
            check_result(cluster, costs, lost)?;
            check_shuffle(cluster, setup, lost)?;
            check_counts(cluster, config, lost)?;
            let dead = (0..cluster.nodes.len()).any(|rank| cluster.is_dead(rank) && !lost.contains(&rank));
            Ok(match (dead, lost.is_empty()) {
                (true, _) => Verdict::RankGone,
                (false, false) => Verdict::ResultWithoutLost,
                (false, true) => Verdict::Result,
            })
        }
        Some(Ended::Failed | Ended::Abandoned) if cluster.tally.batches_before_drain.is_some() => {
            check_early_end(cluster, setup)
        }
        Some(Ended::Failed | Ended::Abandoned) => {
            if luck.panics > 0.0 || luck.poison.is_some() {
                Ok(Verdict::Error)
            } else {
                Err("it failed, but nothing panicked".into())
            }
        }
        Some(Ended::GaveUp) | None if gone(0) => Ok(Verdict::RankGone),
        Some(Ended::GaveUp) => Err("workers gave up on rank 0, to which nothing had happened".into()),
        None => Err("nothing is left to happen, and it has not ended".into()),
    }
}

/// The partials of all ranks that take part tile the input, and combine to the value that the definition gives.
fn check_result(cluster: &Cluster<'_>, costs: &Costs, lost: &[usize]) -> Result<(), String> {
    let leaves = costs.leaves();
    let mut all = Segments::new(leaves);
    let combine = &mut |_, left: Value, right: Value| Ok::<_, String>(left.combined(right));
    for (rank, node) in cluster.nodes.iter().enumerate() {
        for (extent, value) in node.segments.iter().filter(|_| !lost.contains(&rank)) {
            all.merge(*extent, *value, combine)?;
        }
    }
    if leaves == 0 {
        return Ok(());
    }
    let value = all.complete().map_err(|gap| format!("leaves {} to {} are in no partial", gap.start, gap.end))?;
    if value == Value::of(Extent::root(leaves), leaves) { Ok(()) } else { Err("the result is wrong".into()) }
}

/// What all ranks that take part have of each key comes together on one of them.
fn check_shuffle(cluster: &Cluster<'_>, setup: &Setup, lost: &[usize]) -> Result<(), String> {
    let extents = |(_, node): (usize, &Node)| node.segments.iter().map(|(extent, _)| *extent).collect();
    let ranks = cluster.nodes.iter().enumerate().filter(|(rank, _)| !lost.contains(rank));
    Shuffle::draw(setup.luck.seed, setup.costs.leaves()).judge(&ranks.map(extents).collect::<Vec<_>>())
}

/// A run that was told to end has begun nothing new since, has waited for what it could cut short, and has kept what is
/// done.
fn check_early_end(cluster: &Cluster<'_>, setup: &Setup) -> Result<Verdict, String> {
    let (tally, luck) = (&cluster.tally, &setup.luck);
    if tally.batches_before_drain != Some(tally.batches) {
        return Err("a batch was handed out after the run was told to end".into());
    }
    let calm = luck.faults.is_empty() && luck.panics == 0.0 && luck.poison.is_none();
    let in_time = luck.drain.is_some_and(|(at, time)| (cluster.now.0 as f64) < (at + time) * 1e9);
    if calm && in_time && tally.cancelled > 0 {
        return Err(format!("{} batches were given up although there was time to cut them short", tally.cancelled));
    }
    let mut there = Coverage::default();
    for (_, node) in cluster.nodes.iter().enumerate().filter(|(rank, _)| !tally.lost.contains(rank)) {
        node.segments.iter().for_each(|(extent, _)| drop(there.insert(*extent)));
    }
    match cluster.scheduler.covered().runs().find(|run| !there.contains(*run)) {
        Some(run) => Err(format!("{run:?} counts as done, and is in no partial")),
        None => Ok(Verdict::Interrupted),
    }
}

/// Where nothing may be repeated and nobody was missed, each item was computed exactly once.
fn check_counts(cluster: &Cluster<'_>, config: &Config, lost: &[usize]) -> Result<(), String> {
    let counts = cluster.tally.counts.as_deref().unwrap_or_default();
    if let Some(leaf) = counts.iter().position(|count| *count == 0) {
        return Err(format!("leaf {leaf} was never computed"));
    }
    if config.may_repeat || cluster.scheduler.has_doubted() || !lost.is_empty() {
        return Ok(());
    }
    match counts.iter().position(|count| *count != 1) {
        Some(leaf) => Err(format!("leaf {leaf} was computed {} times", counts[leaf])),
        None => Ok(()),
    }
}

/// Messages are few: some for each batch, each recall and each rank, and the beats.
fn check_bounds(cluster: &Cluster<'_>, config: &Config) -> Result<(), String> {
    let (tally, ranks) = (&cluster.tally, cluster.nodes.len() as u64);
    let beats = 2 * ranks * (2 + (cluster.now.0 as f64 / 1e9 / config.patience.interval().as_secs_f64()) as u64);
    let most = 2 * tally.batches + 2 * tally.recalls + 6 * ranks + beats;
    if tally.messages > most {
        let batches = tally.batches;
        return Err(format!("{} messages for {batches} batches, {} recalls", tally.messages, tally.recalls));
    }
    Ok(())
}
