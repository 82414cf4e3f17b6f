//! What the launcher and the machine tell a rank: its host, its cores, what bound it, and which program it runs. And the
//! one thing that a rank tells the script that has started it: that another try would fail the same way.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use object::{Object, ObjectSegment, ReadCache};
use rustix::process::{Pid, getppid};
use rustix::thread::{CpuSet, sched_getaffinity};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Place, Result};
use crate::master::liveness::Patience;
use crate::master::tasks::demand::{self, Resources};

/// What a rank tells the others when the program starts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Introduction {
    pub host: String,
    /// Tells machines apart that bear the same name.
    pub machine: String,
    /// The cores that the launcher lets this rank use.
    pub cpus: Vec<u32>,
    /// The cores that the launcher itself may use: more than its ranks' means that it bound them.
    pub launcher_cpus: Vec<u32>,
    /// Threads that the user asked for, if so.
    pub threads: Option<u32>,
    /// How long silence is borne, as far as this rank was told.
    pub patience: Duration,
    /// The least time between two snapshots, as far as this rank was told.
    pub snapshots: Option<Duration>,
    /// What tasks can count on there, beside threads.
    pub resources: Resources,
    /// The bytes of values that a rank may have in memory, as far as this rank was told.
    pub memory: Option<u64>,
    pub program: Program,
    pub wire: u32,
}

/// The executable, by content: offsets and closures mean the same only in the same build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Program {
    pub path: String,
    pub length: u64,
    pub checksum: u32,
}

/// A launcher that has started this process as one of several ranks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Launcher {
    pub name: &'static str,
    /// The number of ranks, where the launcher tells it.
    pub size: Option<usize>,
    /// The number of ranks on this host, where the launcher tells it.
    pub here: Option<usize>,
}

/// Ranks that are threads of one process, at most.
pub(crate) const RANKS_MOST: u64 = 4096;
/// Less than any program needs; a smaller number of bytes lacks its unit.
const SIZE_LEAST: u64 = 16 << 10;
/// More than any machine has; a larger number is a slip.
const THREADS_MOST: u64 = 1 << 16;
/// A year; a larger number of seconds is a slip.
const SECONDS_MOST: u64 = 365 * 24 * 3600;
/// How long silence of a rank is borne if nobody says otherwise.
const PATIENCE: Duration = Duration::from_secs(30);

/// The variables by which launchers make themselves known: name, rank, size, ranks on this host. (Where `srun` speaks for one of
/// them, it leaves out the last; `PMIx` has none.)
const LAUNCHERS: [(&str, &str, &str, &str); 4] = [
    ("Open MPI's mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    ("MPICH's mpiexec", "PMI_RANK", "PMI_SIZE", "MPI_LOCALNRANKS"),
    ("a PMIx launcher", "PMIX_RANK", "PMIX_SIZE", ""),
    ("MVAPICH's launcher", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE"),
];

/// The launcher of this process, if there is one.
pub(crate) fn launcher() -> Option<Launcher> {
    LAUNCHERS.iter().find(|(_, rank, ..)| std::env::var_os(rank).is_some()).map(|(name, _, size, here)| Launcher {
        name,
        size: number_of(size).or_else(|| number_of(SLURM_SIZE)),
        here: Some(*here).filter(|here| !here.is_empty()).and_then(number_of),
    })
}

/// The number of tasks of the Slurm step that this process belongs to.
const SLURM_SIZE: &str = "SLURM_STEP_NUM_TASKS";

fn number_of(variable: &str) -> Option<usize> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Refuses to be one of several copies that cannot see each other, each of which would do all the work.
pub(crate) fn refuse_copies() -> Result<()> {
    match launcher() {
        None if number_of(SLURM_SIZE).is_some_and(|size| size > 1) => Err(Error::launch(
            format!(
                "srun started {} copies of this program, but no MPI to join them",
                number_of(SLURM_SIZE).unwrap_or(0)
            ),
            "use srun --mpi=pmix (Open MPI) or --mpi=pmi2 (MPICH), or mpirun",
        )),
        Some(Launcher { name, size, .. }) if cfg!(not(feature = "mpi")) && size.is_none_or(|size| size > 1) => {
            Err(Error::launch(
                format!("{name} started this program, which was built without MPI: each copy would do all the work"),
                "build it with the feature `mpi`, or start it without a launcher",
            ))
        }
        _ => Ok(()),
    }
}

/// The rank as the launcher numbers it; 0 without one.
pub(crate) fn rank_from_environment() -> usize {
    LAUNCHERS.iter().find_map(|(_, rank, ..)| std::env::var(rank).ok()?.parse().ok()).unwrap_or(0)
}

/// Whether the launcher has started all ranks of this job on this host; false where it does not tell. The same on all ranks.
#[cfg(feature = "mpi")]
pub(crate) fn all_ranks_are_here() -> bool {
    launcher().is_some_and(|launcher| launcher.here.is_some() && launcher.here == launcher.size)
}

/// How many ranks of this job share each core of this host; 1 where that is not known.
pub(crate) fn ranks_per_core() -> u32 {
    let ranks = launcher().and_then(|launcher| launcher.here).unwrap_or(1);
    // A rank may be bound to one core, and so may the script that it was started by; the machine's first process is not.
    let cores = cpus_of(Some(Pid::INIT)).len();
    share_of_core(ranks, quota(cpus_of(None).len()).map_or(cores, |quota| quota.min(cores)))
}

fn share_of_core(ranks: usize, cores: usize) -> u32 {
    // Cores that cannot be asked for are enough.
    if cores == 0 { 1 } else { u32::try_from(ranks.div_ceil(cores)).unwrap_or(u32::MAX).max(1) }
}

/// How many cores' time a container is allowed, where that is less than the cores that it is shown.
fn quota(shown: usize) -> Option<usize> {
    std::thread::available_parallelism().ok().map(std::num::NonZero::get).filter(|quota| *quota < shown)
}

pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Tells apart machines of the same name, and the same machine before and after it was started again.
pub(crate) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Where process numbers mean the same: a machine between two starts, or a container on it.
pub(crate) fn process_space() -> String {
    let space = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    format!("{} {}", boot_id(), space.display())
}

/// When a process began, as the kernel counts; nothing if there is no such process, or only what is left of it.
pub(crate) fn start_of(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything; the fields after it are numbered from 3.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let is_zombie = fields.first().is_some_and(|state| matches!(*state, "Z" | "X"));
    fields.get(19).filter(|_| !is_zombie).map(|start| (*start).to_owned())
}

/// A number from a `RANKFOLD_…` variable. An empty variable counts as unset.
pub(crate) fn number_from(variable: &str, least: u64, most: u64) -> Result<Option<u64>> {
    let Some(value) = std::env::var_os(variable).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let number =
        value.to_str().and_then(|value| value.trim().parse().ok()).filter(|number| (least..=most).contains(number));
    number.map(Some).ok_or_else(|| {
        Error::launch(
            format!("{variable}={} is not a whole number from {least} to {most}", value.display()),
            format!("unset {variable} or give it a number"),
        )
    })
}

/// A length of time from a `RANKFOLD_…` variable. An empty variable counts as unset.
fn time_from(variable: &str) -> Result<Option<Duration>> {
    let Some(value) = std::env::var_os(variable).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let seconds = value.to_str().and_then(|value| value.trim().parse().ok());
    let seconds = seconds.filter(|seconds| (0.0..=SECONDS_MOST as f64).contains(seconds));
    seconds.map(|seconds| Some(Duration::from_secs_f64(seconds))).ok_or_else(|| {
        Error::launch(
            format!("{variable}={} is no length of time", value.display()),
            format!("unset {variable} or give it seconds, at most {SECONDS_MOST}"),
        )
    })
}

/// Counted resources from a `RANKFOLD_…` variable.
fn resources_from(variable: &str) -> Result<Resources> {
    let Some(value) = std::env::var_os(variable) else { return Ok(Resources::new()) };
    let parsed = value.to_str().ok_or_else(|| "it is not text".to_owned()).and_then(demand::parse);
    parsed.map_err(|problem| {
        Error::launch(
            format!("{variable}={:?} makes no sense: {problem}", value.display()),
            format!("write {variable}=\"gpu=4,mem=64GiB\""),
        )
    })
}

/// A number of bytes from a `RANKFOLD_…` variable. An empty variable counts as unset.
fn size_from(variable: &str) -> Result<Option<u64>> {
    let Some(value) = std::env::var_os(variable).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let remedy = || format!("unset {variable} or give it a size such as 4GiB, 500MB or 1000000");
    let bytes = value
        .to_str()
        .and_then(bytes_of)
        .ok_or_else(|| Error::launch(format!("{variable}={} is no number of bytes", value.display()), remedy()))?;
    if bytes < SIZE_LEAST {
        return Err(Error::launch(format!("{variable}={} is less than 16 KiB", value.display()), remedy()));
    }
    Ok(Some(bytes))
}

/// Reads a size, at least one byte: `1000000`, `500MB`, `1.5GiB`.
fn bytes_of(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, unit) = (text[..end].parse::<f64>().ok()?, text[end..].trim_start().to_ascii_lowercase());
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let (base, prefix) = unit.strip_suffix('i').map_or((1000f64, unit), |prefix| (1024f64, prefix));
    let power = ["", "k", "m", "g", "t"].iter().position(|known| *known == prefix)?;
    let bytes = number * base.powi(power as i32);
    (unit != "i" && (1.0..1e18).contains(&bytes)).then_some(bytes as u64)
}

/// Leaves word that the program fails by itself, for a job script that starts again what was killed (`RANKFOLD_FAILED`
/// names the file). Under srun, exit codes do not tell: where one rank calls `MPI_Abort`, or exits before the others, these
/// are killed, and so is the job as far as its exit code says.
///
/// The first word counts: later failures follow from the first.
pub(crate) fn leave_word(reason: impl std::fmt::Display) {
    let Some(path) = std::env::var_os("RANKFOLD_FAILED").filter(|path| !path.is_empty()) else { return };
    // Without it, the script makes some tries that are in vain.
    let _ = File::create_new(path).and_then(|mut file| writeln!(file, "{reason}"));
}

impl Introduction {
    pub fn of_this_process() -> Result<Self> {
        let (mut cpus, mut launcher_cpus) = (cpus_of(None), cpus_of(getppid()));
        if let Some(quota) = quota(cpus.len()) {
            cpus.truncate(quota);
            launcher_cpus.clone_from(&cpus);
        }
        let host = host_name();
        Ok(Self {
            machine: format!("{host} {}", boot_id()),
            host,
            cpus,
            launcher_cpus,
            threads: number_from("RANKFOLD_THREADS", 1, THREADS_MOST)?.map(|threads| threads as u32),
            patience: number_from("RANKFOLD_PATIENCE", 1, SECONDS_MOST)?.map_or(PATIENCE, Duration::from_secs),
            snapshots: time_from("RANKFOLD_JOURNAL_INTERVAL")?,
            resources: resources_from("RANKFOLD_RESOURCES")?,
            memory: size_from("RANKFOLD_MEMORY")?,
            program: Program::of_this_process()?,
            wire: crate::wire::VERSION,
        })
    }
}

impl Program {
    /// Read once: worlds may come and go.
    pub fn of_this_process() -> Result<Self> {
        static READ: OnceLock<Result<Program>> = OnceLock::new();
        READ.get_or_init(Self::read).clone()
    }

    fn read() -> Result<Self> {
        let unreadable = |error: std::io::Error| {
            Error::launch(
                format!("the program's own file cannot be read on {}: {error}", host_name()),
                "mount /proc, and do not replace the executable while it runs",
            )
        };
        // Opened through /proc, so that an executable that was replaced since is still the one that runs.
        let mut file = File::open("/proc/self/exe").map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        let checksum = checksum(&mut file, length).map_err(unreadable)?;
        let path = std::env::current_exe().map_or_else(|_| "?".into(), |path| path.display().to_string());
        Ok(Self { path, length, checksum })
    }

    /// A number that another build does not have.
    pub fn fingerprint(&self) -> u64 {
        u64::from(self.checksum) << 32 | (self.length & u64::from(u32::MAX))
    }

    pub fn is_same_build(&self, other: &Self) -> bool {
        (self.length, self.checksum) == (other.length, other.checksum)
    }
}

/// Of the parts that are loaded, which are all that runs. The rest, often most of the file, is for debuggers, and every rank of a
/// host would read it. A file of another format counts as a whole.
fn checksum(file: &mut File, length: u64) -> std::io::Result<u32> {
    let cache = ReadCache::new(&mut *file);
    let parts = object::File::parse(&cache).map(|program| program.segments().map(|part| part.file_range()).collect());
    let parts: Vec<(u64, u64)> =
        parts.ok().filter(|parts: &Vec<_>| !parts.is_empty()).unwrap_or_else(|| vec![(0, length)]);
    let (mut hasher, mut buffer) = (crc32fast::Hasher::new(), vec![0; 1 << 16]);
    for (start, len) in parts {
        file.seek(SeekFrom::Start(start))?;
        let mut part = (&mut *file).take(len);
        loop {
            match part.read(&mut buffer)? {
                0 => break,
                read => hasher.update(&buffer[..read]),
            }
        }
    }
    Ok(hasher.finalize())
}

impl std::fmt::Display for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} bytes, checksum {:08x})", self.path, self.length, self.checksum)
    }
}

/// The cores that a process may run on; of this thread without a process.
fn cpus_of(process: Option<Pid>) -> Vec<u32> {
    let Ok(set) = sched_getaffinity(process) else { return Vec::new() };
    (0..CpuSet::MAX_CPU as u32).filter(|cpu| set.is_set(*cpu as usize)).collect()
}

/// How many threads each rank computes with: every core of a machine goes to one of the ranks that may use it, the one
/// that has fewest so far; a rank has at least one.
pub(crate) fn share_cores(ranks: &[Introduction]) -> Vec<u32> {
    let mut users: BTreeMap<(&str, u32), Vec<usize>> = BTreeMap::new();
    for (rank, introduction) in ranks.iter().enumerate() {
        for cpu in &introduction.cpus {
            users.entry((&introduction.machine, *cpu)).or_default().push(rank);
        }
    }
    let mut cores = vec![0u32; ranks.len()];
    for candidates in users.values() {
        if let Some(rank) = candidates.iter().min_by_key(|rank| cores[**rank]) {
            cores[*rank] += 1;
        }
    }
    ranks.iter().zip(cores).map(|(rank, cores)| rank.threads.unwrap_or(cores).max(1)).collect()
}

/// Cores that the launcher could have used and gave to no rank, by host.
pub(crate) fn unused_cores(ranks: &[Introduction]) -> BTreeMap<String, usize> {
    let mut unused: BTreeMap<(&str, &str), Vec<u32>> = BTreeMap::new();
    for rank in ranks {
        let cpus = unused.entry((&rank.machine, &rank.host)).or_default();
        cpus.extend(&rank.launcher_cpus);
        cpus.sort_unstable();
        cpus.dedup();
    }
    for rank in ranks {
        let key = (rank.machine.as_str(), rank.host.as_str());
        unused.entry(key).or_default().retain(|cpu| !rank.cpus.contains(cpu));
    }
    unused.into_iter().filter(|(_, cpus)| !cpus.is_empty()).map(|((_, host), cpus)| (host.into(), cpus.len())).collect()
}

/// What each rank of a process would say of itself: the same, so that they share its cores.
pub(crate) fn in_one_process(ranks: usize) -> Result<Vec<Introduction>> {
    if ranks as u64 > RANKS_MOST {
        let problem = format!("{ranks} ranks do not fit in one process");
        return Err(Error::launch(problem, format!("use {RANKS_MOST} at most, or mpirun on several machines")));
    }
    let mut introduction = Introduction::of_this_process()?;
    introduction.launcher_cpus.clone_from(&introduction.cpus);
    Ok(vec![introduction; ranks])
}

/// What every rank knows of all ranks.
#[derive(Debug, Clone)]
pub(crate) struct Roster {
    pub places: Arc<[Place]>,
    /// Threads that each rank computes with.
    pub threads: Arc<[u32]>,
    pub patience: Patience,
    /// The least time between two snapshots of a rank, where somebody has asked for one.
    pub snapshots: Option<Duration>,
    /// What tasks can count on at each rank, beside threads.
    pub resources: Arc<[Resources]>,
    /// The bytes of values that each rank may have in memory, if there is a bound.
    pub memory: Option<u64>,
}

impl Roster {
    /// Rank 0's patience is everybody's, and so are the time between its snapshots and its bound on memory.
    pub fn new(introductions: &[Introduction]) -> Self {
        let places = introductions.iter().enumerate().map(|(rank, who)| Place { rank, host: who.host.clone() });
        let patience = introductions.first().map_or(PATIENCE, |root| root.patience);
        Self {
            places: places.collect(),
            threads: share_cores(introductions).into(),
            patience: Patience::new(patience, introductions.len()),
            snapshots: introductions.first().and_then(|root| root.snapshots),
            resources: introductions.iter().map(|who| who.resources.clone()).collect(),
            memory: introductions.first().and_then(|root| root.memory),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(machine: &str, cpus: &[u32], launcher_cpus: &[u32]) -> Introduction {
        Introduction {
            host: machine.into(),
            machine: machine.into(),
            cpus: cpus.into(),
            launcher_cpus: launcher_cpus.into(),
            threads: None,
            patience: PATIENCE,
            snapshots: None,
            resources: Resources::new(),
            memory: None,
            program: Program { path: String::new(), length: 0, checksum: 0 },
            wire: 0,
        }
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let sizes = ["1", "1000000", "500MB", "4GiB", "1.5 kib", "2g", "7TiB"].map(bytes_of);
        assert_eq!(sizes, [1, 1_000_000, 500_000_000, 4 << 30, 1536, 2_000_000_000, 7 << 40].map(Some));
        assert!(
            ["", "0", "GiB", "-1", "4 apples", "1ib", "1e9", "4i", "9999999TB"]
                .map(bytes_of)
                .iter()
                .all(Option::is_none)
        );
    }

    #[test]
    fn ranks_that_share_all_cores_of_a_node_get_equal_parts() {
        let all: Vec<u32> = (0..8).collect();
        let ranks: Vec<_> = (0..3).map(|_| rank("a", &all, &all)).collect();
        assert_eq!(share_cores(&ranks), [3, 3, 2]);
    }

    #[test]
    fn a_rank_bound_to_one_core_has_one_thread_and_the_rest_is_reported_unused() {
        let ranks = [rank("a", &[0], &[0, 1, 2, 3]), rank("a", &[1], &[0, 1, 2, 3])];
        assert_eq!(share_cores(&ranks), [1, 1]);
        assert_eq!(unused_cores(&ranks), BTreeMap::from([("a".to_owned(), 2)]));
    }

    #[test]
    fn more_ranks_than_cores_have_one_thread_each() {
        let ranks: Vec<_> = (0..5).map(|_| rank("a", &[0, 1], &[0, 1])).collect();
        assert_eq!(share_cores(&ranks), [1; 5]);
        assert!(unused_cores(&ranks).is_empty());
    }

    #[test]
    fn ranks_are_a_crowd_only_where_the_machine_has_few_cores_for_them() {
        assert_eq!(
            [(135, 2), (64, 64), (1, 64), (65, 64)].map(|(ranks, cores)| share_of_core(ranks, cores)),
            [68, 1, 1, 2]
        );
        // What cannot be asked is no crowd.
        assert_eq!(share_of_core(135, 0), 1);
    }

    #[test]
    fn what_the_user_asks_for_wins() {
        let mut ranks = vec![rank("a", &[0, 1], &[]), rank("b", &[0, 1, 2], &[])];
        ranks[0].threads = Some(7);
        assert_eq!(share_cores(&ranks), [7, 3]);
    }
}
