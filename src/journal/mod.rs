//! The journal: a folder that carries a run from one job to the next.
//!
//! ```text
//! DIR/run               which program, with which arguments; the number of the run
//! DIR/lock              who works on it now
//! DIR/jobs/0001         one for each job: host, process, Slurm job, ranks
//! DIR/calls/000001/call which call it is: input, function, type
//!             …/g0001-r00003   what rank 3 of job 1 had done, at its last snapshot
//!             …/m0001-r00003   after a crash: what rank 3 of job 1 was computing
//!             …/suspects       what was computed in crashes, and what is known to cause them
//!             …/result  the value of all leaves, once they are done
//! DIR/nodes/0001-0000   values of named nodes of graphs, as job 1 has made them
//! DIR/costs             what calls have cost so far
//! DIR/sealed            the program has come to its end
//! ```
//!
//! Rank 0 owns the folder (`lock`), decides what counts (`recovery`) and records results; every rank writes snapshots of
//! its own segments (`recorder`) and loads a part of what is there. A call that is done has one segment, its root, in
//! `result`; so a finished call is resumed like any other, with nothing left to compute.
//!
//! Names of files are never used again for something else: each job has a number of its own, and a file is removed only
//! when all it holds is on the disk elsewhere.

mod costs;
mod crashes;
mod format;
// Compiled with the tests as well, so that it keeps up.
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod fuzzing;
mod inspect;
mod lock;
mod log;
mod marks;
mod recorder;
mod recovery;
mod storage;
pub(crate) mod suspects;
mod values;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
use crate::extent::{Extent, Leaves};
use crate::launch::Program;
use crate::wire::{self, Signature};
use crate::worker::precautions::Precautions;
use format::{Decoded, Owner};
use lock::{Holder, Lock, Refused, Waits};
use recovery::Found;
use storage::{Files, Storage, UNFINISHED, write};
use suspects::Suspects;

pub(crate) use costs::Costs;
pub use inspect::{CallRecord, FileRecord, Inspection, JobRecord, NodeRecord, inspect};
pub(crate) use log::{Log, Recorded};
pub(crate) use marks::Marks;
pub(crate) use recorder::{News, Recorder, least_interval};
pub(crate) use recovery::leaves_of;

const RUN: &str = "run";
const SEALED: &str = "sealed";
const CALL: &str = "call";
const RESULT: &str = "result";

/// What is wrong with a journal, and what to do.
#[derive(Debug)]
struct Trouble {
    problem: String,
    remedy: String,
}

impl Trouble {
    /// With the journal in this folder.
    fn of(self, dir: &Path) -> Error {
        let Self { problem, remedy } = self;
        ErrorKind::Journal { dir: dir.display().to_string(), problem, remedy }.into()
    }
}

/// The journals of a program, on rank 0.
#[derive(Debug, Default)]
pub(crate) struct Journals {
    open: BTreeMap<PathBuf, Journal>,
}

/// A journal that this job owns.
struct Journal {
    storage: Arc<dyn Storage>,
    run: u64,
    /// The number of this job in the run.
    job: u64,
    /// Calls made in this job so far.
    calls: u64,
    /// Files with values that this job has begun.
    files: Arc<AtomicU64>,
    /// Runs of graphs that have not come to a good end.
    open_runs: u64,
    lock: Lock,
    /// The jobs of the run that have crashed.
    crashed: Vec<crashes::Crash>,
    /// The build of this program: what was suspect in another one may be mended.
    build: u64,
}

/// What a rank needs to know of the journal of a call.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Notes {
    pub dir: PathBuf,
    pub run: u64,
    pub job: u64,
    pub call: u64,
    pub leaves: u64,
    /// The segments that this rank takes over, by file.
    pub load: Vec<(String, Vec<Extent>)>,
    pub precautions: Precautions,
}

/// A call that begins, with what is done of it already. On rank 0.
#[derive(Debug)]
pub(crate) struct Entry {
    notes: Notes,
    found: Vec<Found>,
    /// The ranks that are not lost.
    present: Vec<usize>,
    pub suspects: Suspects,
    /// Some of what is there was computed without items that are poison.
    omits: bool,
    /// The result is recorded.
    pub is_complete: bool,
}

/// Who began the run, so that another program is refused.
#[derive(Debug, Serialize, Deserialize)]
struct Identity {
    program: Program,
    arguments: Vec<String>,
}

impl Journals {
    /// Enters the next call of a journal, which is opened first where this is its first call. Nothing for a call that has
    /// to do without, because the file system is full or gone.
    pub fn enter(
        &mut self,
        dir: &Path,
        present: Vec<usize>,
        signature: &Signature,
        leaves: Leaves,
    ) -> Result<Option<Entry>, Error> {
        let journal = self.opened(dir, present.len())?;
        // A folder that was moved is the same journal, and what is done is done whatever may be left out of the rest.
        let signature = Signature { journal: None, skips_poisoned: false, ..signature.clone() };
        journal.enter(dir, present, &signature, leaves).map_err(|trouble| trouble.of(dir))
    }

    /// For a run of a graph: the values of named nodes that there are, and the log for those that are made now.
    pub fn values(&mut self, dir: &Path, size: usize) -> Result<(Recorded, Log), Error> {
        self.opened(dir, size)?.values(dir).map_err(|trouble| trouble.of(dir))
    }

    /// A run of a graph has ended. If it was not complete, neither is the run of the program.
    pub fn run_has_ended(&mut self, dir: &Path, is_complete: bool) {
        if let Some(journal) = self.open.get_mut(dir).filter(|_| is_complete) {
            journal.open_runs -= 1;
        }
    }

    fn opened(&mut self, dir: &Path, size: usize) -> Result<&mut Journal, Error> {
        if !self.open.contains_key(dir) {
            let journal = Journal::open(Arc::new(Files::new(dir)), dir, size, Waits::default());
            self.open.insert(dir.to_owned(), journal.map_err(|trouble| trouble.of(dir))?);
        }
        Ok(self.open.get_mut(dir).expect("it was just opened"))
    }

    /// Records the result of a call, and what calls have cost.
    pub fn finish(&self, entry: &Entry, value: Vec<u8>, costs: &Costs) -> io::Result<()> {
        let Some(journal) = self.open.get(&entry.notes.dir) else { return Ok(()) };
        costs::write(journal.storage.as_ref(), journal.run, costs);
        journal.finish(entry, value)
    }

    /// What calls have cost in the jobs before this one.
    pub fn costs(&self, entry: &Entry) -> Costs {
        self.open.get(&entry.notes.dir).map(|it| costs::read(it.storage.as_ref(), it.run)).unwrap_or_default()
    }

    /// Whether another job has taken one of the journals over.
    pub fn is_lost(&self, dir: &Path) -> bool {
        self.open.get(dir).is_some_and(|journal| journal.lock.is_lost())
    }

    /// Gives the journals free; those of a program that came to its end are sealed.
    pub fn close(&mut self, sealed: bool) {
        for (dir, journal) in std::mem::take(&mut self.open) {
            let when = format!("finished={}\njob={}\n", seconds_now(), journal.job);
            let is_through = sealed && journal.open_runs == 0;
            if is_through && let Err(error) = write(journal.storage.as_ref(), SEALED, when.as_bytes()) {
                eprintln!("rankfold: warning: {} cannot be sealed: {error}", dir.display());
            }
        }
    }
}

impl Journal {
    fn open(storage: Arc<dyn Storage>, dir: &Path, size: usize, waits: Waits) -> Result<Self, Trouble> {
        let cannot = |doing: &str, error: &io::Error| Trouble {
            problem: format!("it cannot be {doing}: {error}"),
            remedy: "give a folder that rank 0 may write to, on a file system that all ranks share".into(),
        };
        storage.make_folder("jobs").map_err(|error| cannot("made", &error))?;
        storage.make_folder("calls").map_err(|error| cannot("made", &error))?;
        let me = Holder::this_process(draw());
        let mut has_crashed = false;
        let lock = Lock::acquire(&storage, &me, waits, |before| {
            has_crashed = true;
            eprintln!("rankfold: the job before this one, {before}, has ended without giving {} free", dir.display());
        });
        let lock = lock.map_err(|refused| match refused {
            Refused::Owned(holder) => Trouble {
                problem: format!("{holder} works on it"),
                remedy: "wait until that job has ended, or give this one a folder of its own".into(),
            },
            Refused::Stuck(name) => Trouble {
                problem: format!("its lock was left half taken over: {name}"),
                remedy: "remove that file if no other job uses this journal".into(),
            },
            Refused::Io(error) => cannot("locked", &error),
        })?;
        let names = storage.list("").map_err(|error| cannot("read", &error))?;
        let job = 1 + names.iter().filter_map(|name| job_of(name).or_else(|| log::job_of(name))).max().unwrap_or(0);
        // Before anything is refused: a start with wrong arguments is no reason to forget a crash.
        let crashed = crashes::of_earlier_jobs(storage.as_ref(), &names, has_crashed.then_some(job - 1));
        let run = match storage.read(RUN) {
            Ok(bytes) => known_run(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => new_run(storage.as_ref(), &names)?,
            Err(error) => return Err(cannot("read", &error)),
        };
        let build = Identity::of_this_process()?.program.fingerprint();
        for name in names.iter().filter(|name| is_unfinished(name)) {
            let _ = storage.remove(name);
        }
        let record = format!(
            "host={}\npid={}\nslurm_job={}\nranks={size}\nstarted={}\n",
            me.host,
            me.pid,
            me.job,
            seconds_now()
        );
        write(storage.as_ref(), &format!("jobs/{job:04}"), record.as_bytes())
            .map_err(|error| cannot("written", &error))?;
        if storage.read(SEALED).is_ok() {
            eprintln!(
                "rankfold: {} holds a run that is finished: its results are given again without computing (remove the \
                 folder to compute them anew)",
                dir.display()
            );
        }
        Ok(Self { storage, run, job, calls: 0, files: Arc::default(), open_runs: 0, lock, crashed, build })
    }

    fn enter(
        &mut self,
        dir: &Path,
        present: Vec<usize>,
        signature: &Signature,
        leaves: Leaves,
    ) -> Result<Option<Entry>, Trouble> {
        self.calls += 1;
        let (call, folder) = (self.calls, folder_of_call(self.calls));
        let name = format!("{folder}/{CALL}");
        match self.storage.read(&name) {
            Ok(bytes) => self.compare(&name, &bytes, signature)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let description = pack(self.run, call, &(signature, leaves));
                // Without the file of the run, the folder was removed: it is not begun anew in the middle.
                let begun = self.storage.read(RUN).and_then(|_| self.storage.make_folder(&folder));
                if let Err(error) = begun.and_then(|()| write(self.storage.as_ref(), &name, &description)) {
                    let (call, dir) = (&signature.name, dir.display());
                    eprintln!("rankfold: warning: {call} goes on without a journal: {dir}/{name}: {error}");
                    return Ok(None);
                }
            }
            Err(error) => return Err(unusable(&folder, &error)),
        }
        let owner = Owner { run: self.run, call, leaves: leaves.count() };
        let before = self.known_suspects(&folder)?;
        let (files, omits) = self.read_all(dir, &folder, owner, before.is_some())?;
        let found = recovery::choose(&files);
        let suspects = self.suspects_of(&folder, owner, before.as_ref(), &found)?;
        let is_complete = found.iter().any(|file| file.name.ends_with(RESULT));
        let Owner { run, call, leaves } = owner;
        let marks = !self.crashed.is_empty() && !is_complete;
        let precautions = Precautions { marks, ..Precautions::default() };
        let notes = Notes { dir: dir.to_owned(), run, job: self.job, call, leaves, load: Vec::new(), precautions };
        Ok(Some(Entry { notes, found, present, suspects, omits, is_complete }))
    }

    fn values(&mut self, dir: &Path) -> Result<(Recorded, Log), Trouble> {
        self.open_runs += 1;
        let Self { storage, run, job, files, .. } = self;
        let recorded = log::read(storage.as_ref(), dir, *run, *job)?;
        Ok((recorded, Log::new(Arc::clone(storage), *run, *job, Arc::clone(files))))
    }

    /// Which segments the files of a call hold, and whether items were left out of some. Where nothing is known any more of
    /// what was left out, such files do not count.
    fn read_all(&self, dir: &Path, folder: &str, owner: Owner, may_omit: bool) -> Result<(Vec<Found>, bool), Trouble> {
        let (mut files, mut some_omit) = (Vec::new(), false);
        for name in self.storage.list(folder).map_err(|error| unusable(folder, &error))? {
            if !holds_segments(&name) {
                continue;
            }
            let bytes = self.storage.read(&name).map_err(|error| unusable(folder, &error))?;
            let Decoded { owner: whose, segments, omits, torn } =
                format::decode(&bytes).map_err(|refusal| damaged(&name, &refusal))?;
            if omits && !may_omit {
                let dir = dir.display();
                eprintln!("rankfold: {dir}/{name} holds what was computed without some items; it is computed again");
                self.storage.remove(&name).map_err(|error| unusable(folder, &error))?;
                continue;
            }
            some_omit |= omits;
            if let Some((found, expected)) = torn {
                let whole = segments.len();
                eprintln!(
                    "rankfold: warning: {}/{name} ends after {found} of {expected} bytes; {whole} whole segments of it \
                     count, the rest is computed again",
                    dir.display()
                );
            }
            if !segments.is_empty() && whose != owner {
                return Err(Trouble {
                    problem: format!(
                        "{name} belongs to another run or call: it has {whose:?}, and {owner:?} is expected"
                    ),
                    remedy: "move that file away; what it holds is computed again".into(),
                });
            }
            files.push(Found { name, extents: segments.into_iter().map(|(extent, _)| extent).collect() });
        }
        Ok((files, some_omit))
    }

    /// A call of this number was journaled: it must be the same one.
    fn compare(&self, name: &str, bytes: &[u8], signature: &Signature) -> Result<(), Trouble> {
        let (recorded, _): (Signature, Leaves) = unpack(name, bytes)?.1;
        let Some((what, before, now)) = recorded.difference(signature) else { return Ok(()) };
        let number = self.calls;
        Err(Trouble {
            problem: format!("its call {number} was another one: the {what} was {before}, and is {now} now"),
            remedy: "use a new folder for another input or program; a run makes the same calls in each of its jobs"
                .into(),
        })
    }

    fn finish(&self, entry: &Entry, value: Vec<u8>) -> io::Result<()> {
        let Notes { run, call, leaves, .. } = entry.notes;
        let folder = folder_of_call(call);
        let omits = entry.omits || !entry.notes.precautions.left_out.is_empty();
        let bytes = format::encode_with(Owner { run, call, leaves }, &[(Extent::root(leaves), value)], omits);
        let result = format!("{folder}/{RESULT}");
        write(self.storage.as_ref(), &result, &bytes)?;
        for name in self.storage.list(&folder)? {
            if name != result && (holds_segments(&name) || marks::job_of_marks(&name).is_some()) {
                self.storage.remove(&name)?;
            }
        }
        Ok(())
    }
}

impl Entry {
    /// What a rank takes over: whole files, in turn.
    fn load_of(&self, rank: usize) -> impl Iterator<Item = &Found> {
        let place = self.present.binary_search(&rank).unwrap_or(usize::MAX);
        self.found.iter().skip(place).step_by(self.present.len().max(1))
    }

    /// The file that holds what crashes have shown.
    pub fn suspects_file(&self) -> String {
        let name = format!("{}/{}", folder_of_call(self.notes.call), crashes::SUSPECTS);
        self.notes.dir.join(name).display().to_string()
    }

    /// Writes the items that were found down for people, and for job scripts, which see by it that the run goes on.
    pub fn note_poison(&self, items: &[String]) {
        if !items.is_empty() {
            let name = format!("{}/{}", folder_of_call(self.notes.call), crashes::POISON);
            // Nothing depends on it.
            let _ = storage_of(&self.notes).put(&name, (items.join("\n") + "\n").as_bytes());
        }
    }

    /// What ranks do about leaves that may end them.
    pub fn take(&mut self, precautions: Precautions) {
        self.notes.precautions = precautions;
    }

    /// Whether marks are made, because a job has crashed.
    pub fn makes_marks(&self) -> bool {
        self.notes.precautions.marks
    }

    /// What a rank is told.
    pub fn notes_for(&self, rank: usize) -> Notes {
        let load = self.load_of(rank).map(|found| (found.name.clone(), found.extents.clone())).collect();
        Notes { load, ..self.notes.clone() }
    }

    /// The leaves that are done, each with the rank that loads them.
    pub fn recovered(&self) -> impl Iterator<Item = (usize, Extent)> {
        let leaves = self.notes.leaves;
        let files = self.present.iter().flat_map(|rank| self.load_of(*rank).map(|found| (*rank, found)));
        let extents = files.flat_map(|(rank, found)| found.extents.iter().map(move |extent| (rank, *extent)));
        extents.flat_map(move |(rank, extent)| leaves_of(extent, leaves).into_iter().map(move |part| (rank, part)))
    }

    pub fn dir(&self) -> &Path {
        &self.notes.dir
    }

    /// The number of the job in the run.
    pub fn job(&self) -> u64 {
        self.notes.job
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("run", &self.run).field("job", &self.job).finish_non_exhaustive()
    }
}

/// Where a rank reads and writes.
pub(crate) fn storage_of(notes: &Notes) -> Arc<dyn Storage> {
    Arc::new(Files::new(&notes.dir))
}

/// The number of a run that this program may go on with.
fn known_run(bytes: &[u8]) -> Result<u64, Trouble> {
    let (run, recorded): (u64, Identity) = unpack(RUN, bytes)?;
    let now = Identity::of_this_process()?;
    let forced = std::env::var_os("RANKFOLD_FORCE_BUILD").is_some_and(|value| value == "1");
    if !recorded.program.is_same_build(&now.program) && !forced {
        return Err(Trouble {
            problem: format!("it was begun by {}, and this program is {}", recorded.program, now.program),
            remedy:
                "go on with the same build, use a new folder, or set RANKFOLD_FORCE_BUILD=1 if the change does not \
                     touch the results"
                    .into(),
        });
    }
    if recorded.arguments != now.arguments {
        let [before, now] = [recorded.arguments, now.arguments].map(|arguments| arguments.join(" "));
        return Err(Trouble {
            problem: format!("it was begun with the arguments `{before}`, and these are `{now}`"),
            remedy: "give the same arguments to go on, or use a new folder".into(),
        });
    }
    Ok(run)
}

fn new_run(storage: &dyn Storage, names: &[String]) -> Result<u64, Trouble> {
    let foreign = |name: &&String| !name.starts_with("lock") && !is_unfinished(name) && !name.starts_with("jobs/");
    if let Some(name) = names.iter().find(foreign) {
        return Err(Trouble {
            problem: format!("it is not empty, and no journal: it holds {name}, and no file `{RUN}`"),
            remedy: "give the journal a folder of its own".into(),
        });
    }
    let run = draw();
    let bytes = pack(run, 0, &Identity::of_this_process()?);
    write(storage, RUN, &bytes).map_err(|error| Trouble {
        problem: format!("it cannot be written: {error}"),
        remedy: "see whether the file system is full or read-only".into(),
    })?;
    Ok(run)
}

impl Identity {
    fn of_this_process() -> Result<Self, Trouble> {
        let program = Program::of_this_process()
            .map_err(|error| Trouble { problem: error.to_string(), remedy: "start the program again".into() })?;
        Ok(Self { program, arguments: std::env::args().skip(1).collect() })
    }
}

/// A description in the format of segments: the one leaf of a tree of one.
fn pack<T: Serialize>(run: u64, call: u64, what: &T) -> Vec<u8> {
    let value = wire::encode(what).expect("a description is made of plain data");
    format::encode(Owner { run, call, leaves: 1 }, &[(Extent::new(0, 1), value)])
}

fn unpack<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<(u64, T), Trouble> {
    let decoded = format::decode(bytes).map_err(|refusal| damaged(name, &refusal))?;
    let unreadable = |problem: String| Trouble {
        problem: format!("{name} cannot be read: {problem}"),
        remedy: "begin the run anew in another folder".into(),
    };
    let Some((_, place)) = decoded.segments.first() else { return Err(unreadable("it ends too early".into())) };
    let value = wire::decode_small(&bytes[place.clone()]).map_err(unreadable)?;
    Ok((decoded.owner.run, value))
}

fn unusable(folder: &str, error: &io::Error) -> Trouble {
    let problem = format!("{folder} cannot be used: {error}");
    Trouble { problem, remedy: "see whether the file system is sound".into() }
}

fn damaged(name: &str, refusal: &format::Refusal) -> Trouble {
    let remedy = match refusal {
        format::Refusal::Version { .. } => "go on with the build that wrote it, or use a new folder",
        _ => "move that file away: what it holds is computed again; and see whether the disk is sound",
    };
    Trouble { problem: format!("{name}: {refusal}"), remedy: remedy.into() }
}

/// A file of ours whose writing was cut off.
fn is_unfinished(name: &str) -> bool {
    let ours = ["calls/", "jobs/", RUN, costs::COSTS, SEALED].iter().any(|start| name.starts_with(start));
    ours && name.ends_with(UNFINISHED)
}

/// Whether a file in the folder of a call is a snapshot or a result.
fn holds_segments(name: &str) -> bool {
    job_of(name).is_some() || name.ends_with(&format!("/{RESULT}"))
}

fn folder_of_call(call: u64) -> String {
    format!("calls/{call:06}")
}

/// The job that a file is of, by its name: `jobs/0002`, or `…/g0002-r00003`.
fn job_of(name: &str) -> Option<u64> {
    let base = name.rsplit('/').next()?;
    match name.strip_prefix("jobs/") {
        Some(job) => job.parse().ok(),
        None => base.strip_prefix('g')?.split_once("-r")?.0.parse().ok(),
    }
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A number that nobody else draws.
pub(crate) fn draw() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests;
