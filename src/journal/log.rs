//! Values of nodes: what earlier runs have left, and the file that those of this run are appended to.
//!
//! Each run of a graph has files of its own, which are never written again by another: a file whose writing failed is left
//! as it is, and another one begun with all that is not known to be on the disk.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::storage::{Roll, Storage};
use super::values::{self, Decoded};
use super::{RUN, Trouble, damaged, unusable};

pub(super) const FOLDER: &str = "nodes";

/// So many bytes may wait to be made durable.
const WAITING_MOST: usize = 64 << 20;

/// Values that earlier runs have left, by their keys.
#[derive(Debug, Default)]
pub(crate) struct Recorded {
    files: Vec<Vec<u8>>,
    places: BTreeMap<u128, (usize, Range<usize>)>,
}

impl Recorded {
    pub fn get(&self, key: u128) -> Option<&[u8]> {
        self.places.get(&key).map(|(file, place)| &self.files[*file][place.clone()])
    }
}

/// Reads the values of all runs so far. Files of this job may be in the middle of being written.
pub(super) fn read(storage: &dyn Storage, dir: &Path, run: u64, job: u64) -> Result<Recorded, Trouble> {
    let mut recorded = Recorded::default();
    for name in storage.list(FOLDER).map_err(|error| unusable(FOLDER, &error))? {
        let bytes = storage.read(&name).map_err(|error| unusable(FOLDER, &error))?;
        let Decoded { run: whose, values, whole } =
            values::decode(&bytes).map_err(|refusal| damaged(&name, &refusal))?;
        if whole < bytes.len() && job_of(&name) != Some(job) {
            eprintln!(
                "rankfold: warning: {}/{name} is sound up to byte {whole} of {}; {} values of it count, and what comes \
                 behind is made again",
                dir.display(),
                bytes.len(),
                values.len()
            );
        }
        if !values.is_empty() && whose != run {
            let problem = format!("{name} belongs to another run: it has {whose:016x}, and {run:016x} is expected");
            return Err(Trouble { problem, remedy: "move that file away; what it holds is made again".into() });
        }
        let file = recorded.files.len();
        recorded.places.extend(values.into_iter().map(|found| (found.key, (file, found.value))));
        recorded.files.push(bytes);
    }
    Ok(recorded)
}

/// The job that wrote a file with values.
pub(super) fn job_of(name: &str) -> Option<u64> {
    name.strip_prefix(FOLDER)?.strip_prefix('/')?.split_once('-')?.0.parse().ok()
}

/// Values of this run.
pub(crate) struct Log {
    storage: Arc<dyn Storage>,
    run: u64,
    job: u64,
    /// Files that runs of this job have begun.
    files: Arc<AtomicU64>,
    open: Option<Open>,
    /// Values that are not known to be on the disk.
    waiting: Vec<(u128, String, Vec<u8>)>,
    /// The bytes of these.
    size: usize,
}

struct Open {
    roll: Box<dyn Roll>,
    length: u64,
    /// So much of it is on the disk.
    durable: u64,
    /// So many of those that wait are in it.
    written: usize,
}

impl Log {
    pub(super) fn new(storage: Arc<dyn Storage>, run: u64, job: u64, files: Arc<AtomicU64>) -> Self {
        Self { storage, run, job, files, open: None, waiting: Vec::new(), size: 0 }
    }

    /// Appends a value, which is not durable yet. After an error it is tried again with the next one.
    pub fn add(&mut self, key: u128, name: &str, value: Vec<u8>) -> io::Result<()> {
        self.size += value.len();
        self.waiting.push((key, name.to_owned(), value));
        self.attempt(Self::write)?;
        if self.size > WAITING_MOST { self.sync() } else { Ok(()) }
    }

    /// Everything that was added is durable when this returns.
    pub fn sync(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() { Ok(()) } else { self.attempt(Self::write_and_sync) }
    }

    /// Nothing more will be added.
    pub fn close(mut self) -> io::Result<()> {
        self.sync()?;
        let Some(open) = &mut self.open else { return Ok(()) };
        open.roll.append(&values::mark(open.durable))
    }

    /// A file with which something went wrong is not touched again.
    fn attempt(&mut self, doing: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        doing(self).inspect_err(|_| self.open = None)
    }

    fn write(&mut self) -> io::Result<()> {
        if self.open.is_none() {
            self.open = Some(self.begin()?);
        }
        let open = self.open.as_mut().expect("it was just begun");
        for (key, name, value) in &self.waiting[open.written..] {
            let bytes = values::record(*key, name, value, open.durable);
            open.roll.append(&bytes)?;
            open.length += bytes.len() as u64;
            open.written += 1;
        }
        Ok(())
    }

    fn write_and_sync(&mut self) -> io::Result<()> {
        self.write()?;
        let open = self.open.as_mut().expect("it is being written");
        open.roll.sync()?;
        if open.durable == 0 {
            self.storage.sync_folder(FOLDER)?;
            self.storage.sync_folder("")?;
        }
        open.durable = open.length;
        open.written = 0;
        self.waiting.clear();
        self.size = 0;
        Ok(())
    }

    fn begin(&self) -> io::Result<Open> {
        // Without the file of the run, the folder was removed: it is not begun anew in the middle.
        self.storage.read(RUN)?;
        self.storage.make_folder(FOLDER)?;
        let number = self.files.fetch_add(1, Ordering::Relaxed);
        let mut roll = self.storage.roll(&format!("{FOLDER}/{:04}-{number:04}", self.job))?;
        let header = values::header(self.run);
        roll.append(&header)?;
        Ok(Open { roll, length: header.len() as u64, durable: 0, written: 0 })
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("job", &self.job).field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use rand::RngExt;

    use super::super::lock::of_a_dead_process;
    use super::super::storage::memory::{Memory, damaged};
    use super::super::{Journal, Waits};
    use super::*;
    use crate::random::ItemRng;

    const NODES: u128 = 12;
    const WAITS: Waits = Waits {
        beat: Duration::from_secs(5),
        stale: Duration::from_millis(3),
        overlap: Duration::from_millis(3),
        look: Duration::from_micros(100),
    };

    #[derive(Debug, PartialEq)]
    enum Ended {
        Through,
        Killed,
        Refused(String),
    }

    fn value_of(key: u128) -> Vec<u8> {
        (0..key * 20).map(|byte| (byte * key % 251) as u8).collect()
    }

    /// One job, which makes what is missing in some order and is killed after some values, if it is. `certain` is what has
    /// to be there whatever happens to the power, and `made` what was made by jobs that were killed alone.
    fn job(
        memory: &Memory,
        killed_after: Option<u128>,
        certain: &mut BTreeSet<u128>,
        made: &mut BTreeSet<u128>,
        dice: &mut ItemRng,
    ) -> Ended {
        let storage: Arc<dyn Storage> = Arc::new(memory.clone());
        let dir = Path::new("journal");
        let opened = Journal::open(storage, dir, 1, WAITS).and_then(|mut journal| {
            let (recorded, log) = journal.values(dir)?;
            Ok((journal, recorded, log))
        });
        let (_journal, recorded, mut log) = match opened {
            Err(_) if memory.is_dead() => return Ended::Killed,
            Err(trouble) => return Ended::Refused(trouble.problem),
            Ok(opened) => opened,
        };
        assert!(certain.iter().all(|key| recorded.get(*key).is_some()), "{certain:?} are on the disk");
        assert!(made.iter().all(|key| recorded.get(*key).is_some()), "{made:?} were written");
        let mut missing: Vec<u128> = (1..=NODES).filter(|key| recorded.get(*key).is_none()).collect();
        for key in (1..=NODES).filter(|key| !missing.contains(key)) {
            assert_eq!(recorded.get(key), Some(value_of(key).as_slice()), "node {key}");
        }
        let mut new = BTreeSet::new();
        while !missing.is_empty() {
            if memory.is_dead() || killed_after == Some(new.len() as u128) {
                return Ended::Killed;
            }
            let key = missing.swap_remove(dice.random_range(0..missing.len()));
            new.insert(key);
            if log.add(key, &format!("node {key}"), value_of(key)).is_ok() {
                made.insert(key);
            }
            if dice.random_bool(0.3) && log.sync().is_ok() {
                certain.append(&mut new.clone());
            }
        }
        let closed = log.close();
        if memory.is_dead() {
            return Ended::Killed;
        }
        if closed.is_ok() {
            certain.append(&mut new);
        }
        Ended::Through
    }

    /// Jobs on one storage until one is through.
    fn run(mut memory: Memory, seed: u64, kills: u64) -> (Ended, Memory) {
        let dice = &mut crate::random::rng(seed, 1);
        let (mut certain, mut made) = (BTreeSet::new(), BTreeSet::new());
        for kill in 0..100 {
            let killed_after = (kill < kills).then(|| dice.random_range(0..6));
            match job(&memory, killed_after, &mut certain, &mut made, dice) {
                Ended::Killed if memory.is_dead() => {
                    memory = memory.after_power_loss(seed);
                    made.clear();
                }
                Ended::Killed => drop(memory.put("lock", of_a_dead_process().as_bytes())),
                Ended::Refused(problem) if problem.contains("half taken over") => {
                    let (_, name) = problem.rsplit_once(' ').expect("the name of a file");
                    memory.remove(name).expect("it is there");
                }
                ended => return (ended, memory),
            }
        }
        panic!("seed {seed}: no end")
    }

    #[test]
    fn what_was_written_is_there_in_the_next_job_whenever_one_is_killed() {
        for seed in 0..200 {
            assert_eq!(run(Memory::default(), seed, 6).0, Ended::Through, "seed {seed}");
        }
    }

    #[test]
    fn power_lost_before_any_step_loses_nothing_that_was_made_durable() {
        let mut tried = 0;
        for seed in 0..12 {
            let steps = run(Memory::default(), seed, 3).1.steps();
            for step in 0..steps {
                let memory = Memory::default();
                memory.die_at(step);
                assert_eq!(run(memory, seed, 3).0, Ended::Through, "seed {seed}, step {step}");
                tried += 1;
            }
        }
        assert!(tried > 500, "too few steps were tried");
    }

    #[test]
    fn a_step_that_fails_as_on_a_full_disk_costs_at_most_the_making_of_a_value() {
        for seed in 0..12 {
            let steps = run(Memory::default(), seed, 3).1.steps();
            for step in 1..=steps {
                let memory = Memory::default();
                memory.fail_at(step);
                match run(memory.clone(), seed, 3).0 {
                    Ended::Refused(problem) => assert!(problem.contains(": "), "seed {seed}, step {step}: {problem}"),
                    ended => assert_eq!(ended, Ended::Through, "seed {seed}, step {step}"),
                }
                assert_eq!(run(memory, seed + 1000, 0).0, Ended::Through, "after seed {seed}, step {step}");
            }
        }
    }

    #[test]
    fn no_flipped_bit_and_no_cut_gives_a_wrong_value() {
        let memory = Memory::default();
        let dice = &mut crate::random::rng(5, 0);
        for killed_after in [Some(3), Some(4), None] {
            job(&memory, killed_after, &mut BTreeSet::new(), &mut BTreeSet::new(), dice);
            memory.put("lock", of_a_dead_process().as_bytes()).unwrap();
        }
        let names = memory.list(FOLDER).unwrap();
        assert_eq!(names, ["nodes/0001-0000", "nodes/0002-0000", "nodes/0003-0000"]);
        let mut refusals = 0;
        for name in &names {
            let whole = memory.read(name).unwrap();
            for bytes in damaged(&whole) {
                let copy = memory.copy();
                copy.put(name, &bytes).unwrap();
                // A job asserts that what it finds is right.
                match job(&copy, None, &mut BTreeSet::new(), &mut BTreeSet::new(), &mut crate::random::rng(6, 0)) {
                    Ended::Refused(problem) => {
                        assert!(problem.contains(name.as_str()), "{problem}");
                        refusals += 1;
                    }
                    ended => assert_eq!(ended, Ended::Through, "{name}"),
                }
            }
        }
        assert!(refusals > 1000, "damage is seen");
    }
}
