//! A Slurm cluster that ends with its test, and what tests ask of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::folder::Folder;
use crate::support::{program, run_alone};

/// Between two snapshots of a rank, in seconds.
pub const INTERVAL: f64 = 0.5;
/// A job that has not ended by now never will.
pub const LIMIT: Duration = Duration::from_secs(240);

/// A cluster that ends with the test.
pub struct Cluster {
    pub folder: Folder,
    launch: &'static str,
}

/// How a job ended.
#[derive(Debug)]
pub struct Job {
    pub state: String,
    pub restarts: u64,
    pub output: String,
}

impl Cluster {
    /// A cluster, or nothing after a loud word where there is no Slurm.
    pub fn up(name: &str, nodes: u32) -> Option<Self> {
        if std::env::var_os("RANKFOLD_TEST_SLURM").is_none_or(|value| value != "1") {
            eprintln!(
                "NOT TESTED UNDER SLURM: RANKFOLD_TEST_SLURM is not 1; `make test` sets it where there is a Slurm"
            );
            return None;
        }
        let launch = if is_openmpi() { "srun --mpi=pmix" } else { "srun --mpi=pmi2" };
        let cluster = Self { folder: Folder::new(&format!("slurm-{name}")), launch };
        cluster_script(&["up", cluster.folder.path(), &nodes.to_string(), "2"]);
        fs::create_dir(cluster.folder.0.join("tally")).expect("a folder of ours");
        Some(cluster)
    }

    /// Whether nodes have names of their own, and can die one by one: where the tests run as root, in a root of their own.
    pub fn nodes_are_apart(&self) -> bool {
        self.folder.0.join("apart").exists()
    }

    /// What a command prints that talks to this cluster.
    pub fn ask(&self, command: &str) -> String {
        let script = format!(". {}/env && {command}", self.folder.path());
        let mut bash = Command::new("bash");
        for (name, value) in [
            ("RANKFOLD_SLURM", source("slurm")),
            ("JOURNAL", self.folder.0.join("run")),
            ("TALLY", self.folder.0.join("tally")),
        ] {
            bash.env(name, value);
        }
        bash.env("LAUNCH", self.launch).env("RANKFOLD_JOURNAL_INTERVAL", INTERVAL.to_string());
        let output = bash.args(["-c", &script]).current_dir(&self.folder.0).output().expect("there is bash");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {}\n{errors}", output.status);
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Hands in the journaled program with so many milliseconds of work.
    pub fn submit(&self, millis: &str, options: &str) -> String {
        self.submit_scenario("journaled", millis, options)
    }

    /// Hands in the test program with another scenario and its argument.
    pub fn submit_scenario(&self, scenario: &str, argument: &str, options: &str) -> String {
        let (program, script) = (program("test-spmd"), source("tests/slurm/journaled.sbatch"));
        let variables = format!("PROGRAM={} SCENARIO={scenario} ARGUMENT={argument}", program.display());
        self.ask(&format!("{variables} sbatch --parsable --output=%j.out {options} {}", script.display()))
    }

    /// Hands in one of the job scripts as it is, but for what must be smaller here; its journals begin with its name.
    pub fn submit_script(&self, name: &str, variables: &str, options: &str, arguments: &str) -> String {
        let script = source(&format!("slurm/{name}.sbatch"));
        let journal = self.folder.0.join("runs").join(name);
        let (script, journal) = (script.display(), journal.display());
        self.ask(&format!("JOURNAL={journal} {variables} sbatch --parsable {options} {script} {arguments}"))
    }

    pub fn field(&self, id: &str, name: &str) -> String {
        let all = self.ask(&format!("scontrol show job {id}"));
        let value = all.split_whitespace().find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_default().to_owned()
    }

    /// Until something holds of a job.
    pub fn await_that(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let begun = Instant::now();
        while !holds(self) {
            assert!(begun.elapsed() < LIMIT, "in vain: {what}\n{}\n{}", self.ask("squeue"), self.outputs());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn outputs(&self) -> String {
        self.folder.files(".out").iter().filter_map(|file| fs::read_to_string(file).ok()).collect()
    }

    pub fn await_end(&self, id: &str) -> Job {
        let ended = ["COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "BOOT_FAIL", "OUT_OF_MEMORY"];
        self.await_that("the end of the job", |it| ended.contains(&it.field(id, "JobState").as_str()));
        let restarts = self.field(id, "Restarts").parse().unwrap_or(0);
        let output = fs::read_to_string(self.field(id, "StdOut")).unwrap_or_default();
        Job { state: self.field(id, "JobState"), restarts, output }
    }

    /// Until nothing of a job is left on any node.
    pub fn await_silence(&self) {
        self.await_that("the end of all jobs", |it| it.ask("squeue --noheader").is_empty());
    }

    /// Until the ranks have something on the disk, beside what they had before.
    pub fn await_snapshot(&self, before: &[PathBuf]) {
        self.await_that("a snapshot", |it| it.folder.snapshots().iter().any(|file| !before.contains(file)));
    }

    /// The process of a rank.
    pub fn rank(&self, rank: u32) -> Option<i32> {
        let mark = format!("RANKFOLD_TEST_CLUSTER={}", fs::canonicalize(&self.folder.0).ok()?.display());
        let numbers = [format!("PMIX_RANK={rank}"), format!("PMI_RANK={rank}")];
        fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(|pid| {
            let is_program = fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with("test-spmd"));
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let has = |wanted: &String| environment.split(|byte| *byte == 0).any(|text| text == wanted.as_bytes());
            is_program && has(&mark) && numbers.iter().any(has)
        })
    }

    /// Items that were computed more than once, of a run with so many in all.
    pub fn redone(&self, items: u64) -> u64 {
        let sizes = self
            .folder
            .files("/tally/")
            .iter()
            .filter_map(|file| fs::metadata(file).ok())
            .map(|data| data.len())
            .sum::<u64>();
        sizes - items
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- what the jobs printed\n{}", self.outputs());
        }
        let script = source("tests/slurm/cluster.sh");
        let _ = Command::new("bash").arg(script).args(["down", self.folder.path()]).status();
    }
}

impl Job {
    /// It came to the right result, after so many restarts; gives their number.
    pub fn completed(&self, millis: &str, restarts: std::ops::RangeInclusive<u64>) -> &Self {
        assert_eq!(self.state, "COMPLETED", "{}", self.output);
        assert!(restarts.contains(&self.restarts), "{} restarts\n{}", self.restarts, self.output);
        let expected = run_alone(&[("RANKFOLD_RANKS", "32")], &["test-spmd", "journaled", millis]);
        assert_eq!(self.output.matches(expected.output()).count(), 1, "{expected}\n{}", self.output);
        self
    }
}

/// Brings a cluster up, or does something to it.
pub fn cluster_script(arguments: &[&str]) {
    let script = source("tests/slurm/cluster.sh");
    let ended = Command::new("bash").arg(script).args(arguments).status().expect("there is bash");
    assert!(ended.success(), "cluster.sh {arguments:?}: {ended}");
}

pub fn is_openmpi() -> bool {
    std::env::var("RANKFOLD_TEST_MPI").is_ok_and(|mpi| mpi == "openmpi")
}

/// What takes minutes and has nothing to do with the kind of MPI is tried with one of them.
pub fn is_tried_with_another_mpi() -> bool {
    let skips = !is_openmpi();
    if skips {
        eprintln!("tried with Open MPI alone");
    }
    skips
}

pub fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}
