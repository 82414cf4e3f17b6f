//! Runs on storage that fails and loses its power: whatever happens, the result is right or there is a refusal.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::RngExt;

use super::recorder::Desk;
use super::storage::memory::{Memory, damaged};
use super::*;
use crate::error::Place;
use crate::extent::extents_between;
use crate::master::coverage::Coverage;
use crate::random::ItemRng;
use crate::reduce::segment::Segments;
use crate::worker::compute::{Computed, Signals, Work};
use crate::worker::precautions::Guard;

const LEAVES: u64 = 37;
const WAITS: Waits = Waits {
    beat: Duration::from_secs(5),
    stale: Duration::from_millis(3),
    overlap: Duration::from_millis(3),
    look: Duration::from_micros(100),
};

/// What one rank has computed: text, which does not commute.
struct Rank(Mutex<Segments<String>>);

impl Rank {
    fn add(&self, extent: Extent, value: String) {
        let join = &mut |_, left: String, right: String| Ok::<_, ()>(left + &right);
        self.0.lock().unwrap().merge(extent, value, join).unwrap();
    }
}

impl Work for Rank {
    fn pack(&self, _: Extent) -> Result<Vec<u8>, Error> {
        unreachable!("nothing is shipped")
    }

    fn begin(&self, _: Leaves) {}

    fn guard(&self, _: Guard) {}

    fn restore(&self, extent: Extent, value: &[u8]) -> Result<(), Error> {
        self.add(extent, wire::decode(value).expect("what a snapshot has written"));
        Ok(())
    }

    fn snapshot(&self) -> Result<Vec<(Extent, Vec<u8>)>, Error> {
        let encode = |(extent, value): &(Extent, String)| (*extent, wire::encode(value).expect("text"));
        Ok(self.0.lock().unwrap().iter().map(encode).collect())
    }

    fn compute(&self, _: Extent, _: &[u8], _: Signals<'_>) -> Result<Computed, Error> {
        unreachable!("batches are computed by hand")
    }
}

fn text_of(extent: Extent) -> String {
    (extent.start..extent.end().min(LEAVES)).map(|leaf| format!("{leaf},")).collect()
}

fn signature() -> Signature {
    Signature {
        operation: "map_reduce".into(),
        name: "text".into(),
        source: "range".into(),
        len: Some(LEAVES),
        fingerprint: 0,
        leaf: None,
        result: "String".into(),
        functions: "join".into(),
        retries: 0,
        to_all: true,
        has_identity: false,
        journal: None,
        skips_poisoned: false,
    }
}

/// How one job ended.
#[derive(Debug, PartialEq)]
enum Ended {
    Result(String),
    /// In the middle, by a kill or because nothing works any more.
    Killed,
    Refused(String),
    /// Everything is done but these leaves.
    Poisoned(Vec<u64>),
}

/// One job on so many ranks, which is killed after some batches, if it is, or when it computes the poisoned leaf, if there
/// is one.
fn job(memory: &Memory, ranks: usize, killed_after: Option<u64>, poison: Option<u64>, dice: &mut ItemRng) -> Ended {
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let dir = Path::new("journal");
    let journal = Journal::open(Arc::clone(&storage), dir, ranks, WAITS);
    let mut journal = match journal {
        Ok(journal) => journal,
        Err(trouble) => return refused(memory, trouble),
    };
    let leaves = Leaves::new(LEAVES, 1);
    let mut entry = match journal.enter(dir, (0..ranks).collect(), &signature(), leaves) {
        Ok(Some(entry)) => entry,
        Ok(None) if memory.is_dead() => return Ended::Killed,
        Ok(None) => return Ended::Result(text_of(Extent::root(LEAVES))),
        Err(trouble) => return refused(memory, trouble),
    };
    let suspects: Vec<Extent> = entry.suspects.quarantined().map(|(_, extent)| extent).collect();
    let known: Vec<u64> = entry.suspects.poisoned().map(|(leaf, _)| leaf.start).collect();
    entry.take(Precautions { watched: suspects.clone(), marks: entry.makes_marks(), ..Precautions::default() });
    let marks = pages(&storage, &entry, ranks);
    let all: Vec<Rank> = (0..ranks).map(|_| Rank(Mutex::new(Segments::new(LEAVES)))).collect();
    let mut desks = Vec::new();
    for (rank, work) in all.iter().enumerate() {
        let place = Place { rank, host: "here".into() };
        let mut desk = Desk::new(work, Arc::clone(&storage), entry.notes_for(rank), "text", &place);
        if let Err(error) = desk.load() {
            return refused(memory, Trouble { problem: error.to_string(), remedy: String::new() });
        }
        desks.push(desk);
    }
    let mut covered = Coverage::default();
    entry.recovered().for_each(|(_, extent)| drop(covered.insert(extent)));
    let gaps = extents_between(0, LEAVES).into_iter().flat_map(|part| covered.gaps(part));
    let leaves = gaps.flat_map(|gap| gap.start..gap.end()).filter(|leaf| !known.contains(leaf));
    let batches: Vec<Extent> = leaves.map(|leaf| Extent::new(leaf, 1)).collect();
    // Suspects come last, and one by one; of the others, two ranks compute one each at a time.
    let is_suspect = |batch: &Extent| suspects.iter().any(|suspect| suspect.contains(*batch));
    let (last, mut first): (Vec<Extent>, Vec<Extent>) = batches.into_iter().partition(is_suspect);
    let (mut computed, mut last) = (0, last.into_iter());
    while let Some(batch) = pick(&mut first, dice).or_else(|| last.next()) {
        if memory.is_dead() || killed_after == Some(computed) {
            return Ended::Killed;
        }
        let rank = dice.random_range(0..ranks);
        let mark = |rank: usize| marks[rank].iter();
        mark(rank).for_each(|marks| marks.begin(batch));
        if let (Some(other), true) = (first.last(), ranks > 1) {
            mark((rank + 1) % ranks).for_each(|marks| marks.begin(*other));
        }
        if poison == Some(batch.start) {
            return Ended::Killed;
        }
        mark(rank).for_each(|marks| marks.end(batch));
        if let Some(other) = first.last() {
            mark((rank + 1) % ranks).for_each(|marks| marks.end(*other));
        }
        all[rank].add(batch, text_of(batch));
        computed += 1;
        if dice.random_bool(0.3) {
            desks[rank].snapshot();
        }
    }
    if !known.is_empty() {
        return if memory.is_dead() { Ended::Killed } else { Ended::Poisoned(known) };
    }
    let value = reduced(&all);
    if !entry.is_complete {
        let _ = journal.finish(&entry, wire::encode(&value).unwrap());
    }
    if memory.is_dead() { Ended::Killed } else { Ended::Result(value) }
}

/// The marks of all ranks, where they make some.
fn pages(storage: &Arc<dyn Storage>, entry: &Entry, ranks: usize) -> Vec<Option<Marks>> {
    let page = |rank: usize| Marks::new(storage, &entry.notes_for(rank), rank);
    (0..ranks).map(|rank| entry.makes_marks().then(|| page(rank))).collect()
}

/// What all ranks have computed.
fn reduced(all: &[Rank]) -> String {
    let mut whole = Segments::new(LEAVES);
    for (extent, value) in all.iter().flat_map(|rank| rank.0.lock().unwrap().iter().cloned().collect::<Vec<_>>()) {
        whole.merge(extent, value, &mut |_, left: String, right: String| Ok::<_, ()>(left + &right)).unwrap();
    }
    whole.complete().expect("all leaves are there")
}

fn pick(batches: &mut Vec<Extent>, dice: &mut ItemRng) -> Option<Extent> {
    (!batches.is_empty()).then(|| batches.swap_remove(dice.random_range(0..batches.len())))
}

fn refused(memory: &Memory, trouble: Trouble) -> Ended {
    if memory.is_dead() { Ended::Killed } else { Ended::Refused(trouble.problem) }
}

/// Jobs on one storage until one has a result.
fn run(memory: Memory, seed: u64, kills: u64) -> (Ended, Memory) {
    run_with(memory, seed, kills, None)
}

fn run_with(mut memory: Memory, seed: u64, kills: u64, poison: Option<u64>) -> (Ended, Memory) {
    let dice = &mut crate::random::rng(seed, 1);
    for kill in 0.. {
        let ranks = dice.random_range(1..5);
        let killed_after = (kill < kills).then(|| dice.random_range(0..12));
        match job(&memory, ranks, killed_after, poison, dice) {
            Ended::Killed if memory.is_dead() => memory = memory.after_power_loss(seed),
            // The lock of a process that is gone.
            Ended::Killed => drop(memory.put("lock", lock::of_a_dead_process().as_bytes())),
            // What the message asks for is done.
            Ended::Refused(problem) if problem.contains("half taken over") => {
                let (_, name) = problem.rsplit_once(' ').expect("the name of a file");
                memory.remove(name).expect("it is there");
            }
            ended => return (ended, memory),
        }
        assert!(kill < 100, "seed {seed}: no end");
    }
    unreachable!("a loop without end")
}

fn right() -> Ended {
    Ended::Result(text_of(Extent::root(LEAVES)))
}

#[test]
fn a_run_that_is_killed_again_and_again_comes_to_the_right_result() {
    for seed in 0..300 {
        let (ended, memory) = run(Memory::default(), seed, 6);
        assert_eq!(ended, right(), "seed {seed}");
        // Once more: the result is there, and nothing is computed.
        assert_eq!(run(memory, seed, 0).0, right(), "seed {seed}");
    }
}

#[test]
fn power_lost_before_any_step_loses_nothing_that_was_counted() {
    let refusals = AtomicU64::new(0);
    for seed in 0..12 {
        let steps = run(Memory::default(), seed, 3).1.steps();
        for step in 0..steps {
            let memory = Memory::default();
            memory.die_at(step);
            let ended = run(memory, seed, 3).0;
            if let Ended::Refused(problem) = &ended {
                panic!("seed {seed}, step {step}: {problem}");
            }
            assert_eq!(ended, right(), "seed {seed}, step {step}");
            refusals.fetch_add(1, Ordering::Relaxed);
        }
    }
    assert!(refusals.into_inner() > 1000, "too few steps were tried");
}

#[test]
fn poison_is_found_and_no_other_leaf_is_blamed_whenever_the_power_is_lost() {
    for seed in 0..4 {
        let poison = crate::random::rng(seed, 2).random_range(0..LEAVES);
        let (ended, memory) = run_with(Memory::default(), seed, 2, Some(poison));
        assert_eq!(ended, Ended::Poisoned(vec![poison]), "seed {seed}");
        let steps = memory.steps();
        for step in (0..steps).step_by(3) {
            let memory = Memory::default();
            memory.die_at(step);
            let ended = run_with(memory, seed, 2, Some(poison)).0;
            assert_eq!(ended, Ended::Poisoned(vec![poison]), "seed {seed}, step {step}");
        }
    }
}

#[test]
fn a_step_that_fails_as_on_a_full_disk_costs_a_snapshot_or_is_refused() {
    for seed in 0..12 {
        let steps = run(Memory::default(), seed, 3).1.steps();
        for step in 1..=steps {
            let memory = Memory::default();
            memory.fail_at(step);
            match run(memory.clone(), seed, 3).0 {
                Ended::Refused(problem) => assert!(problem.contains(": "), "seed {seed}, step {step}: {problem}"),
                ended => assert_eq!(ended, right(), "seed {seed}, step {step}"),
            }
            assert_eq!(run(memory, seed + 1000, 0).0, right(), "after seed {seed}, step {step}");
        }
    }
}

#[test]
fn no_flipped_bit_and_no_cut_gives_a_wrong_result() {
    let memory = Memory::default();
    let dice = &mut crate::random::rng(5, 0);
    // What crashes and a search leave is there as well.
    for _ in 0..4 {
        assert_eq!(job(&memory, 3, None, Some(11), dice), Ended::Killed);
        memory.put("lock", lock::of_a_dead_process().as_bytes()).unwrap();
    }
    let names: Vec<String> = memory.list("").unwrap().into_iter().filter(|name| !name.starts_with("lock")).collect();
    assert!(names.iter().any(|name| job_of(name).is_some() && name.starts_with("calls")), "{names:?}");
    for name in &names {
        let whole = memory.read(name).unwrap();
        for bytes in damaged(&whole) {
            let copy = memory.copy();
            copy.put(name, &bytes).unwrap();
            match job(&copy, 2, None, None, &mut crate::random::rng(6, 0)) {
                Ended::Refused(problem) => {
                    assert!(problem.contains(name.as_str()) || problem.contains("begun"), "{problem}");
                }
                ended => assert_eq!(ended, right(), "{name}"),
            }
        }
    }
}
