//! What a journal holds, for people: `rankfold inspect`.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::Path;

use serde::Serialize;

use super::crashes::{CRASHED, POISON, SUSPECTS};
use super::format::{self, Decoded, Owner};
use super::lock::Holder;
use super::marks::job_of_marks;
use super::recovery::{Found, choose, leaves_of};
use super::storage::{Files, Storage, UNFINISHED};
use super::suspects::Suspects;
use super::{CALL, Identity, RESULT, RUN, SEALED, holds_segments, job_of, log, unpack, values};
use crate::error::{Error, ErrorKind, Result};
use crate::extent::{Extent, Leaves, extents_between};
use crate::master::coverage::Coverage;
use crate::wire::Signature;
use crate::worker::precautions::Poison;

/// What a journal holds, from [`inspect`].
///
/// # Examples
///
/// ```
/// # let folder = std::env::temp_dir().join(format!("rankfold-doc-inspection-{}", std::process::id()));
/// # rankfold::World::local(2)?.over(0..1000u64).journal(&folder).map_reduce(|i| i, |a, b| a + b)?;
/// let inspection = rankfold::journal::inspect(&folder)?;
/// assert!(inspection.is_finished && inspection.calls[0].done == 1000);
/// # std::fs::remove_dir_all(folder).ok();
/// # Ok::<(), rankfold::Error>(())
/// ```
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// The number that the run drew when it began.
    pub run: u64,
    /// The program, with its length and checksum.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Whether the program has come to its end.
    pub is_finished: bool,
    /// Who works on it now, if somebody does: process and host.
    pub owner: Option<String>,
    /// The jobs so far, in order.
    pub jobs: Vec<JobRecord>,
    /// The calls so far, in order.
    pub calls: Vec<CallRecord>,
    /// The named nodes of graphs whose values are recorded, by their names.
    pub nodes: Vec<NodeRecord>,
    /// The files that hold these values; `segments` is the number of values in each.
    pub node_files: Vec<FileRecord>,
}

/// One value of a named node of a graph.
///
/// # Examples
///
/// ```
/// # let folder = std::env::temp_dir().join(format!("rankfold-doc-node-{}", std::process::id()));
/// let mut graph = rankfold::Graph::new();
/// let seven = graph.journal(&folder).named("seven").add(|n: u64| n, (7,))?;
/// rankfold::World::local(2)?.pool(|pool| graph.run(pool, &seven))?.unwrap()?;
/// let nodes = rankfold::journal::inspect(&folder)?.nodes;
/// assert_eq!((nodes.len(), nodes[0].name.as_str(), nodes[0].job, nodes[0].bytes), (1, "seven", 1, 8));
/// # std::fs::remove_dir_all(folder).ok();
/// # Ok::<(), rankfold::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct NodeRecord {
    /// Its name. A node that has run again with other arguments is here once for each.
    pub name: String,
    /// The job that made the value.
    pub job: u64,
    /// Bytes.
    pub bytes: u64,
}

/// One job of a run.
///
/// # Examples
///
/// ```
/// # let folder = std::env::temp_dir().join(format!("rankfold-doc-job-{}", std::process::id()));
/// # rankfold::World::local(2)?.over(0..1000u64).journal(&folder).map_reduce(|i| i, |a, b| a + b)?;
/// assert_eq!(rankfold::journal::inspect(&folder)?.jobs[0].ranks, 2);
/// # std::fs::remove_dir_all(folder).ok();
/// # Ok::<(), rankfold::Error>(())
/// ```
#[derive(Debug, Clone, Default, Serialize)]
pub struct JobRecord {
    /// Counted from 1.
    pub number: u64,
    /// The host of rank 0.
    pub host: String,
    /// The process of rank 0.
    pub process: u32,
    /// The Slurm job, or nothing.
    pub slurm_job: String,
    /// The number of ranks.
    pub ranks: u64,
    /// When it began, in seconds since 1970.
    pub started: u64,
    /// Whether it ended without giving the journal free, as a job does whose rank is killed.
    pub has_crashed: bool,
}

/// One call of a run.
///
/// # Examples
///
/// ```
/// # let folder = std::env::temp_dir().join(format!("rankfold-doc-call-{}", std::process::id()));
/// # rankfold::World::local(2)?.over(0..1000u64).named("sum").journal(&folder).map_reduce(|i| i, |a, b| a + b)?;
/// let call = &rankfold::journal::inspect(&folder)?.calls[0];
/// assert!(call.name == "sum" && call.has_result && call.missing.is_empty());
/// # std::fs::remove_dir_all(folder).ok();
/// # Ok::<(), rankfold::Error>(())
/// ```
#[derive(Debug, Clone, Default, Serialize)]
pub struct CallRecord {
    /// Counted from 1.
    pub number: u64,
    /// The name given with `named`, or the operation; empty if the file that tells it is damaged.
    pub name: String,
    /// `map_reduce`, `map`, …
    pub operation: String,
    /// Items (bytes, for lines) in all, and how many of them are done.
    pub items: u64,
    /// Items that are done.
    pub done: u64,
    /// Whether the result is recorded.
    pub has_result: bool,
    /// The ranges of items that are missing: first, and one behind the last; at most the first 100 of them.
    pub missing: Vec<(u64, u64)>,
    /// The ranges of items that are computed last, because jobs have crashed while they were computed: first, one behind
    /// the last, and the number of crashes since they do.
    pub suspects: Vec<(u64, u64, u32)>,
    /// The leaves that end the rank which computes them: first item, one behind the last, and which of these items it is,
    /// counted from 0; none where that is not known.
    pub poisoned: Vec<(u64, u64, Vec<u64>)>,
    /// The files of the call, without the one that describes it where that is sound.
    pub files: Vec<FileRecord>,
}

/// One file of a call.
///
/// # Examples
///
/// ```
/// # let folder = std::env::temp_dir().join(format!("rankfold-doc-file-{}", std::process::id()));
/// # rankfold::World::local(2)?.over(0..1000u64).journal(&folder).map_reduce(|i| i, |a, b| a + b)?;
/// let file = &rankfold::journal::inspect(&folder)?.calls[0].files[0];
/// assert!(file.name.ends_with("result") && file.damage.is_none());
/// # std::fs::remove_dir_all(folder).ok();
/// # Ok::<(), rankfold::Error>(())
/// ```
#[derive(Debug, Clone, Default, Serialize)]
pub struct FileRecord {
    /// Its name in the folder.
    pub name: String,
    /// The job that wrote it, and the rank; nothing for a result.
    pub job: Option<u64>,
    /// The rank that wrote it; nothing for a result.
    pub rank: Option<u64>,
    /// Bytes.
    pub bytes: u64,
    /// Whole segments in it, whose checksums are right.
    pub segments: u64,
    /// It ends too early: the bytes that it should have; or, of values of nodes, the bytes that are sound.
    pub torn: Option<u64>,
    /// Why it is refused, if it is.
    pub damage: Option<String>,
}

/// Reads a journal, of which every checksum is verified; changes nothing, and needs no lock.
///
/// # Errors
///
/// The folder is no journal, or cannot be read. A damaged file of a call is no error, but told in its record.
///
/// # Examples
///
/// ```
/// assert!(rankfold::journal::inspect("/no/such/folder").is_err());
/// ```
pub fn inspect(dir: impl AsRef<Path>) -> Result<Inspection> {
    let dir = dir.as_ref();
    let files = Files::new(dir);
    read(&files).map_err(|(problem, remedy)| {
        Error::from(ErrorKind::Journal { dir: dir.display().to_string(), problem, remedy })
    })
}

pub(super) fn read(storage: &dyn Storage) -> Result<Inspection, (String, String)> {
    let cannot = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => (format!("it holds no file `{RUN}`"), "name the folder of a journal".to_owned()),
        _ => (format!("it cannot be read: {error}"), "see whether the folder may be read".to_owned()),
    };
    let bytes = storage.read(RUN).map_err(cannot)?;
    let (run, identity): (u64, Identity) = unpack(RUN, &bytes).map_err(|trouble| (trouble.problem, trouble.remedy))?;
    let names = storage.list("").map_err(cannot)?;
    let owner = storage.read("lock").ok().and_then(|bytes| Holder::parse(&String::from_utf8_lossy(&bytes)));
    let jobs = names.iter().filter_map(|name| Some((name, name.strip_prefix("jobs/")?.parse().ok()?)));
    let jobs = jobs.map(|(name, number)| job(number, &storage.read(name).unwrap_or_default())).collect();
    let calls = names.iter().filter(|name| name.ends_with(&format!("/{CALL}")));
    let calls = calls.filter_map(|name| call(storage, run, name, &names)).collect();
    let (nodes, node_files) = nodes(storage, run, &names);
    Ok(Inspection {
        run,
        program: identity.program.to_string(),
        arguments: identity.arguments,
        is_finished: names.iter().any(|name| name == SEALED),
        owner: owner.map(|owner| owner.to_string()),
        jobs,
        calls,
        nodes,
        node_files,
    })
}

/// Values of named nodes, and the files that they are in.
fn nodes(storage: &dyn Storage, run: u64, names: &[String]) -> (Vec<NodeRecord>, Vec<FileRecord>) {
    let (mut found, mut files) = (BTreeMap::new(), Vec::new());
    for name in names {
        let Some(job) = log::job_of(name) else { continue };
        let mut record = FileRecord { name: name.clone(), job: Some(job), ..FileRecord::default() };
        let decoded = storage.read(name).map_err(|error| format!("it cannot be read: {error}")).and_then(|bytes| {
            record.bytes = bytes.len() as u64;
            let decoded = values::decode(&bytes).map_err(|refusal| refusal.to_string())?;
            let is_foreign = !decoded.values.is_empty() && decoded.run != run;
            if is_foreign { Err("it belongs to another run".to_owned()) } else { Ok((decoded, bytes)) }
        });
        match decoded {
            Ok((decoded, bytes)) => {
                record.segments = decoded.values.len() as u64;
                record.torn = (decoded.whole < bytes.len()).then_some(decoded.whole as u64);
                found.extend(decoded.values.into_iter().map(|value| {
                    let name = String::from_utf8_lossy(&bytes[value.name]).into_owned();
                    (value.key, NodeRecord { name, job, bytes: value.value.len() as u64 })
                }));
            }
            Err(damage) => record.damage = Some(damage),
        }
        files.push(record);
    }
    let mut nodes: Vec<NodeRecord> = found.into_values().collect();
    nodes.sort();
    (nodes, files)
}

fn job(number: u64, bytes: &[u8]) -> JobRecord {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_default().to_owned()
    };
    JobRecord {
        number,
        host: field("host"),
        process: field("pid").parse().unwrap_or(0),
        slurm_job: field("slurm_job"),
        ranks: field("ranks").parse().unwrap_or(0),
        started: field("started").parse().unwrap_or(0),
        has_crashed: text.lines().any(|line| line.starts_with(CRASHED)),
    }
}

/// A call whose description is damaged is told by its files alone.
fn call(storage: &dyn Storage, run: u64, name: &str, names: &[String]) -> Option<CallRecord> {
    let folder = name.strip_suffix(&format!("/{CALL}"))?;
    let number = folder.strip_prefix("calls/")?.parse().ok()?;
    let (mut files, mut found, mut described) = (Vec::new(), Vec::new(), None);
    let mut suspects = Suspects::default();
    let is_kept = |other: &&String| {
        let is_note = other.ends_with(&format!("/{POISON}")) || job_of_marks(other).is_some();
        !other.ends_with(UNFINISHED) && !is_note
    };
    let in_folder = |other: &&String| other.starts_with(&format!("{folder}/")) && is_kept(other);
    for file in names.iter().filter(in_folder) {
        let bytes = match storage.read(file) {
            // Whoever works on the journal removes what is not needed any more.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            bytes => bytes.map_err(|error| format!("it cannot be read: {error}")),
        };
        if *file == format!("{folder}/{SUSPECTS}") {
            let known = bytes.as_ref().ok().and_then(|bytes| unpack(file, bytes).ok());
            suspects = known.map(|(_, suspects)| suspects).unwrap_or_default();
        }
        // The description comes first, by its name.
        let leaves = described.as_ref().map(|(_, (_, division)): &(u64, (Signature, Leaves))| division.count());
        let owner = leaves.filter(|_| holds_segments(file)).map(|leaves| Owner { run, call: number, leaves });
        let (mut record, extents) = examine(file, owner, bytes.as_deref().map_err(Clone::clone));
        if file != name {
            files.push(record);
            found.push(Found { name: file.clone(), extents });
            continue;
        }
        described = bytes.ok().and_then(|bytes| unpack(name, &bytes).ok());
        described = described.filter(|(_, (_, division))| division.is_sound());
        if described.is_none() {
            if record.torn.is_none() {
                record.damage.get_or_insert_with(|| "it does not tell which call it is of".to_owned());
            }
            files.push(record);
        }
    }
    let Some((_, (signature, division))) = described else {
        return Some(CallRecord { number, files, ..CallRecord::default() });
    };
    let mut covered = Coverage::default();
    for extent in choose(&found).iter().flat_map(|file| &file.extents) {
        leaves_of(*extent, division.count()).into_iter().for_each(|part| drop(covered.insert(part)));
    }
    let missing = extents_between(0, division.count()).into_iter().flat_map(|part| covered.gaps(part));
    let missing = missing.map(|gap| division.items_of(gap)).map(|items| (items.start, items.end)).collect();
    let done = covered.runs().map(|run| division.items_of(run)).map(|items| items.end - items.start).sum();
    Some(CallRecord {
        number,
        name: signature.name,
        operation: signature.operation,
        items: division.items,
        done,
        has_result: files.iter().any(|file| file.name.ends_with(RESULT) && file.damage.is_none() && file.segments == 1),
        missing: joined(missing),
        suspects: range_of_suspects(&suspects, division),
        poisoned: suspects.poisoned().map(|(leaf, poison)| poisoned(division.items_of(leaf), poison)).collect(),
        files,
    })
}

fn range_of_suspects(suspects: &Suspects, division: Leaves) -> Vec<(u64, u64, u32)> {
    let is_open = |extent: Extent| suspects.poisoned().all(|(leaf, _)| leaf != extent);
    let open = suspects.quarantined().filter(|(_, extent)| is_open(*extent));
    let ranges = open.map(|(crashes, extent)| (division.items_of(extent), crashes));
    ranges.map(|(items, crashes)| (items.start, items.end, crashes)).collect()
}

fn poisoned(items: Range<u64>, poison: &Poison) -> (u64, u64, Vec<u64>) {
    let which = match poison {
        Poison::Items(nth) => nth.clone(),
        Poison::Leaf => Vec::new(),
    };
    (items.start, items.end, which)
}

/// What there is to say of a file, and the segments in it; it must be of this owner, if that is known.
fn examine(name: &str, owner: Option<Owner>, bytes: Result<&[u8], String>) -> (FileRecord, Vec<Extent>) {
    let rank = name.rsplit_once("-r").and_then(|(_, rank)| rank.parse().ok());
    let mut record = FileRecord { name: name.to_owned(), job: job_of(name), rank, ..FileRecord::default() };
    let decoded = bytes.and_then(|bytes| {
        record.bytes = bytes.len() as u64;
        let decoded = format::decode(bytes).map_err(|refusal| refusal.to_string())?;
        let is_foreign = !decoded.segments.is_empty() && owner.is_some_and(|owner| owner != decoded.owner);
        if is_foreign { Err("it belongs to another run or call".to_owned()) } else { Ok(decoded) }
    });
    match decoded {
        Ok(_) if !holds_segments(name) && !name.ends_with(CALL) => (record, Vec::new()),
        Ok(Decoded { segments, torn, .. }) => {
            (record.segments, record.torn) = (segments.len() as u64, torn.map(|(_, expected)| expected));
            (record, segments.into_iter().map(|(extent, _)| extent).collect())
        }
        Err(damage) => {
            record.damage = Some(damage);
            (record, Vec::new())
        }
    }
}

/// Neighbours as one range; the first hundred.
fn joined(ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    let mut all: Vec<(u64, u64)> = Vec::new();
    for (start, end) in ranges {
        match all.last_mut() {
            Some(last) if last.1 == start => last.1 = end,
            _ => all.push((start, end)),
        }
    }
    all.truncate(100);
    all
}
