//! Jobs on a real Slurm, on a cluster of this machine's own: ranks die, time runs out, nodes go, and the run completes.
#![cfg(feature = "mpi")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

mod support;
use support::folder::Folder;
use support::{program, run_alone};

/// Between two snapshots of a rank, in seconds.
const INTERVAL: f64 = 0.5;
/// A job that has not ended by now never will.
const LIMIT: Duration = Duration::from_secs(240);

/// A cluster that ends with the test.
struct Cluster {
    folder: Folder,
    launch: &'static str,
}

/// How a job ended.
#[derive(Debug)]
struct Job {
    state: String,
    restarts: u64,
    output: String,
}

impl Cluster {
    /// A cluster, or nothing after a loud word where there is no Slurm.
    fn up(name: &str, nodes: u32) -> Option<Self> {
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

    /// What a command prints that talks to this cluster.
    fn ask(&self, command: &str) -> String {
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
    fn submit(&self, millis: &str, options: &str) -> String {
        let (program, script) = (program("test-spmd"), source("tests/slurm/journaled.sbatch"));
        let variables = format!("PROGRAM={} MILLIS={millis}", program.display());
        self.ask(&format!("{variables} sbatch --parsable --output=%j.out {options} {}", script.display()))
    }

    fn field(&self, id: &str, name: &str) -> String {
        let all = self.ask(&format!("scontrol show job {id}"));
        let value = all.split_whitespace().find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_default().to_owned()
    }

    /// Until something holds of a job.
    fn await_that(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let begun = Instant::now();
        while !holds(self) {
            assert!(begun.elapsed() < LIMIT, "in vain: {what}\n{}\n{}", self.ask("squeue"), self.outputs());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn outputs(&self) -> String {
        self.folder.files(".out").iter().filter_map(|file| fs::read_to_string(file).ok()).collect()
    }

    fn await_end(&self, id: &str) -> Job {
        let ended = ["COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "BOOT_FAIL", "OUT_OF_MEMORY"];
        self.await_that("the end of the job", |it| ended.contains(&it.field(id, "JobState").as_str()));
        let restarts = self.field(id, "Restarts").parse().unwrap_or(0);
        Job { state: self.field(id, "JobState"), restarts, output: self.outputs() }
    }

    /// Until the ranks have something on the disk, beside what they had before.
    fn await_snapshot(&self, before: &[PathBuf]) {
        self.await_that("a snapshot", |it| it.folder.snapshots().iter().any(|file| !before.contains(file)));
    }

    /// The process of a rank.
    fn rank(&self, rank: u32) -> Option<i32> {
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
    fn redone(&self, items: u64) -> u64 {
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
    fn completed(&self, millis: &str, restarts: std::ops::RangeInclusive<u64>) -> &Self {
        assert_eq!(self.state, "COMPLETED", "{}", self.output);
        assert!(restarts.contains(&self.restarts), "{} restarts\n{}", self.restarts, self.output);
        let expected = run_alone(&[("RANKFOLD_RANKS", "32")], &["test-spmd", "journaled", millis]);
        assert_eq!(self.output.matches(expected.output()).count(), 1, "{expected}\n{}", self.output);
        self
    }
}

/// Brings a cluster up, or does something to it.
fn cluster_script(arguments: &[&str]) {
    let script = source("tests/slurm/cluster.sh");
    let ended = Command::new("bash").arg(script).args(arguments).status().expect("there is bash");
    assert!(ended.success(), "cluster.sh {arguments:?}: {ended}");
}

fn is_openmpi() -> bool {
    std::env::var("RANKFOLD_TEST_MPI").is_ok_and(|mpi| mpi == "openmpi")
}

/// What takes minutes and has nothing to do with the kind of MPI is tried with one of them.
fn is_tried_with_another_mpi() -> bool {
    let skips = !is_openmpi();
    if skips {
        eprintln!("tried with Open MPI alone");
    }
    skips
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The number of items in all three calls of the program.
fn items(millis: &str) -> u64 {
    3 * (2 * millis.parse::<u64>().expect("a number") / 3)
}

#[test]
fn a_job_of_which_a_rank_is_killed_is_queued_again_by_itself_and_goes_on() {
    let Some(cluster) = Cluster::up("killed", 2) else { return };
    let millis = "40000";
    let id = cluster.submit(millis, "--nodes=2 --ntasks-per-node=2");
    cluster.await_snapshot(&[]);
    cluster.await_that("rank 2", |cluster| {
        let Some(pid) = cluster.rank(2).and_then(rustix::process::Pid::from_raw) else { return false };
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).is_ok()
    });
    let job = cluster.await_end(&id);
    job.completed(millis, 1..=1);
    // Four ranks of one thread, half a millisecond an item; snapshots take their time on a busy machine.
    let (redone, interval) = (cluster.redone(items(millis)), (2.0 * INTERVAL / 0.0005) as u64);
    eprintln!("{} jobs, {redone} of {} items were computed twice", job.restarts + 1, items(millis));
    assert!(redone <= 4 * interval, "{redone} items were computed again, more than {interval} a rank");
}

#[test]
fn a_run_longer_than_its_job_goes_on_in_the_next_ones_and_loses_nothing() {
    if is_tried_with_another_mpi() {
        return;
    }
    let Some(cluster) = Cluster::up("time", 2) else { return };
    let millis = "280000";
    // Slurm's shortest limit is a minute; this run takes longer on four ranks.
    let id = cluster.submit(millis, "--nodes=2 --ntasks-per-node=2 --time=00:01:00");
    let job = cluster.await_end(&id);
    job.completed(millis, 1..=3);
    assert!(job.output.contains("because the job's time ends in "), "{}", job.output);
    assert!(!job.output.contains("DUE TO TIME LIMIT"), "{}", job.output);
    assert_eq!(cluster.redone(items(millis)), 0, "a job that ends early loses nothing");
}

#[test]
fn a_signal_from_scancel_or_to_the_shell_ends_the_job_early_and_it_goes_on() {
    let Some(cluster) = Cluster::up("signal", 2) else { return };
    let millis = "60000";
    let id = cluster.submit(millis, "--nodes=2 --ntasks-per-node=2");
    let mut before = Vec::new();
    for command in ["scancel --signal=TERM", "scancel --batch --signal=USR1"] {
        cluster.await_snapshot(&before);
        before = cluster.folder.snapshots();
        cluster.ask(&format!("{command} {id}"));
        let restarts = cluster.field(&id, "Restarts");
        cluster.await_that("the restart", |it| it.field(&id, "Restarts") > restarts);
    }
    cluster.await_end(&id).completed(millis, 2..=2);
    assert_eq!(cluster.redone(items(millis)), 0, "a job that ends early loses nothing");
}

#[test]
fn a_job_of_which_a_node_dies_is_queued_again_and_goes_on_without_it() {
    if is_tried_with_another_mpi() {
        return;
    }
    let Some(cluster) = Cluster::up("node", 3) else { return };
    let millis = "60000";
    let id = cluster.submit(millis, "--nodes=2 --ntasks-per-node=2");
    cluster.await_snapshot(&[]);
    cluster_script(&["kill", cluster.folder.path(), "n2"]);
    cluster.await_end(&id).completed(millis, 1..=3);
}

#[test]
fn a_job_that_fails_by_itself_is_not_tried_again() {
    let Some(cluster) = Cluster::up("fails", 1) else { return };
    let (program, script) = (program("montecarlo_pi"), source("slurm/montecarlo_pi.sbatch"));
    let options = "--nodes=1 --ntasks-per-node=1 --output=%j.out";
    let id = cluster.ask(&format!(
        "PROGRAM={} SAMPLES=many sbatch --parsable {options} {}",
        program.display(),
        script.display()
    ));
    let job = cluster.await_end(&id);
    assert!(job.state == "FAILED" && job.restarts == 0, "{job:?}");
    assert!(job.output.contains("it is not tried again"), "{}", job.output);
}

#[test]
fn the_first_job_script_gives_the_digits_of_a_plain_run() {
    let Some(cluster) = Cluster::up("pi", 2) else { return };
    let (program, script) = (program("montecarlo_pi"), source("slurm/montecarlo_pi.sbatch"));
    let submit = format!("PROGRAM={} SAMPLES=2e7 sbatch --parsable {}", program.display(), script.display());
    let id = cluster.ask(&submit);
    let job = cluster.await_end(&id);
    assert!(job.state == "COMPLETED" && job.restarts == 0, "{job:?}");
    let plain = run_alone(&[], &["montecarlo_pi", "--samples", "2e7", "--seed", "1"]);
    assert!(job.output.contains(plain.output()), "{plain}\n{}", job.output);
}
