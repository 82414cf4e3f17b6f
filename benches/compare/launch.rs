//! Launches the programs that are measured, and reads what they print.

use std::error::Error;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A program that runs longer hangs.
const LIMIT: Duration = Duration::from_secs(600);

/// Where the programs are, and how ranks of the MPI that they were built with are started.
#[derive(Debug, Clone)]
pub(crate) struct Launcher {
    pub(crate) mpirun: PathBuf,
    /// `openmpi` or `mpich`.
    pub(crate) kind: String,
    pub(crate) programs: PathBuf,
}

/// What a program has printed, and how long it took from its start to its end, its launcher included.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) wall: Duration,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Launcher {
    /// Reads the environment that `scripts/bench.sh` sets.
    pub(crate) fn from_environment() -> Result<Self> {
        let from =
            |name: &str| std::env::var(name).map_err(|_| format!("{name} is not set: start this with make bench"));
        let mut programs = std::env::current_exe()?;
        programs.pop(); // target/release/deps/compare-…
        programs.set_file_name("examples");
        Ok(Self { mpirun: from("RANKFOLD_TEST_MPIRUN")?.into(), kind: from("RANKFOLD_TEST_MPI")?, programs })
    }

    /// A program on MPI ranks that may use all cores, with one thread each unless told otherwise.
    pub(crate) fn ranks(&self, ranks: usize, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.mpirun);
        if self.kind == "openmpi" {
            command.args(["--oversubscribe", "--bind-to", "none"]);
        }
        command.args(["-n", &ranks.to_string()]).arg(self.programs.join(program)).args(arguments);
        command
    }

    /// A program without a launcher.
    pub(crate) fn alone(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.args(arguments);
        command
    }
}

/// Runs a program to its end.
pub(crate) fn run(command: Command) -> Result<Outcome> {
    watch(command, |_, _| Ok(()))
}

/// Runs a program to its end; `on_line` gets each line of its standard output and the process that was started.
pub(crate) fn watch(mut command: Command, mut on_line: impl FnMut(u32, &str) -> Result<()>) -> Result<Outcome> {
    let start = Instant::now();
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
    let pid = Pid::from_child(&child);
    let (ended, watched) = channel::<()>();
    let watchdog = std::thread::spawn(move || {
        let hangs = watched.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout);
        // SIGTERM, so that the launcher ends its ranks.
        hangs && kill_process(pid, Signal::TERM).is_ok()
    });
    let mut stderr = child.stderr.take().expect("stderr is a pipe");
    let errors = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = stderr.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    let mut stdout = String::new();
    for line in BufReader::new(child.stdout.take().expect("stdout is a pipe")).lines() {
        let line = line?;
        on_line(child.id(), &line)?;
        stdout.push_str(&line);
        stdout.push('\n');
    }
    let status = child.wait()?;
    let wall = start.elapsed();
    drop(ended);
    let stderr = errors.join().unwrap_or_default();
    if watchdog.join().unwrap_or(false) {
        return Err(format!("{command:?} was ended after {} s\n{stderr}", LIMIT.as_secs()).into());
    }
    if !status.success() {
        return Err(format!("{command:?}: {status}\n{stdout}{stderr}").into());
    }
    Ok(Outcome { wall, stdout, stderr })
}

impl Outcome {
    /// The values of all `name=value` pairs, in order.
    pub(crate) fn values(&self, name: &str) -> Vec<String> {
        let words = self.stdout.split_whitespace().chain(self.stderr.split_whitespace());
        let pairs = words.filter_map(|word| word.split_once('='));
        pairs.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).collect()
    }

    pub(crate) fn numbers(&self, name: &str) -> Result<Vec<f64>> {
        self.values(name).iter().map(|value| Ok(value.parse()?)).collect()
    }

    pub(crate) fn number(&self, name: &str) -> Result<f64> {
        let missing = || format!("no {name}= in what the program printed:\n{}{}", self.stdout, self.stderr).into();
        self.numbers(name)?.first().copied().ok_or_else(missing)
    }
}
