//! Starts programs as a person would, under mpirun or alone, with a hard limit on their time.
#![allow(dead_code, reason = "each test binary uses a part of this")]

pub mod folder;
pub mod journaled;
pub mod poison;

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Pid;

/// A program that has not ended by now hangs.
pub const HANGS: Duration = Duration::from_secs(100);
/// An error ends a program long before this, also on a machine that is busy with other things; the goal is 5 s.
pub const ERROR_ENDS: Duration = Duration::from_secs(20);

/// One test with several ranks at a time: a test machine has few cores.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The launcher of the MPI that these tests were built with.
pub struct Launcher {
    path: PathBuf,
    is_openmpi: bool,
    _alone: MutexGuard<'static, ()>,
}

/// How a program ended.
pub struct Ended {
    pub what: String,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub elapsed: Duration,
}

/// The launcher, or nothing after a loud word where the tests are run without one.
pub fn launcher() -> Option<Launcher> {
    let Some(path) = std::env::var_os("RANKFOLD_TEST_MPIRUN").filter(|path| !path.is_empty()) else {
        eprintln!("NOT TESTED UNDER MPI: RANKFOLD_TEST_MPIRUN is not set; `make test` sets it");
        return None;
    };
    let is_openmpi = std::env::var("RANKFOLD_TEST_MPI").is_ok_and(|mpi| mpi == "openmpi");
    let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    Some(Launcher { path: path.into(), is_openmpi, _alone: alone })
}

/// An example's executable, which cargo has put next to those of the tests.
pub fn program(name: &str) -> PathBuf {
    let here = std::env::current_exe().expect("the test's own path");
    let target = here.ancestors().nth(2).expect("target/debug/deps/test");
    target.join("examples").join(name)
}

/// Several programs under one mpirun: for each, the number of ranks, an environment, and the command line.
pub type Part<'a> = (usize, &'a [(&'a str, &'a str)], &'a [&'a str]);

impl Launcher {
    pub fn is_openmpi(&self) -> bool {
        self.is_openmpi
    }

    /// Runs an example on so many ranks.
    pub fn run(&self, ranks: usize, command: &[&str]) -> Ended {
        self.run_parts(&[(ranks, &[], command)])
    }

    /// Runs different programs, or the same with a different environment, as ranks of one job.
    pub fn run_parts(&self, parts: &[Part<'_>]) -> Ended {
        let mut mpirun = self.command();
        for (number, (ranks, environment, command)) in parts.iter().enumerate() {
            if number > 0 {
                mpirun.arg(":");
            }
            mpirun.args(["-n", &ranks.to_string()]);
            for (name, value) in *environment {
                if self.is_openmpi {
                    mpirun.args(["-x", &format!("{name}={value}")]);
                } else {
                    mpirun.args(["-env", name, value]);
                }
            }
            mpirun.arg(program(command[0])).args(&command[1..]);
        }
        run(mpirun, HANGS)
    }

    /// mpirun, without the ranks and the program.
    pub fn command(&self) -> Command {
        let mut mpirun = Command::new(&self.path);
        if self.is_openmpi {
            mpirun.args(["--oversubscribe", "--bind-to", "none"]);
            for name in ["OMPI_ALLOW_RUN_AS_ROOT", "PRTE_ALLOW_RUN_AS_ROOT"] {
                mpirun.env(name, "1").env(format!("{name}_CONFIRM"), "1");
            }
        }
        mpirun
    }
}

/// Runs an example without a launcher.
pub fn run_alone(environment: &[(&str, &str)], command: &[&str]) -> Ended {
    let mut alone = Command::new(program(command[0]));
    alone.args(&command[1..]).envs(environment.iter().copied());
    run(alone, HANGS)
}

/// Runs a command to its end; one that takes longer than `limit` is killed with all it started, and the test fails.
pub fn run(command: Command, limit: Duration) -> Ended {
    run_disturbed(command, limit, |_| {})
}

/// As `run`; meanwhile something may be done to the process, which is shown again and again.
pub fn run_disturbed(mut command: Command, limit: Duration, mut disturb: impl FnMut(Pid)) -> Ended {
    let what = format!("{command:?}");
    command.env("RUST_BACKTRACE", "0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for unset in [
        "RANKFOLD_RANKS",
        "RANKFOLD_THREADS",
        "RANKFOLD_LOG",
        "RANKFOLD_PROGRESS",
        "RANKFOLD_PATIENCE",
        "RANKFOLD_JOURNAL",
        "RANKFOLD_MEMORY",
    ] {
        if command.get_envs().all(|(name, _)| name != unset) {
            command.env_remove(unset);
        }
    }
    let begun = Instant::now();
    let mut child = command.process_group(0).spawn().unwrap_or_else(|error| panic!("{what}: {error}"));
    let stdout = collect(child.stdout.take().expect("it is piped"));
    let stderr = collect(child.stderr.take().expect("it is piped"));
    let text = |bytes: &Mutex<Vec<u8>>| String::from_utf8_lossy(&lock(bytes)).into_owned();
    let status = loop {
        match child.try_wait().expect("a child of ours") {
            Some(status) => break status,
            None if begun.elapsed() < limit => {
                disturb(Pid::from_child(&child));
                std::thread::sleep(Duration::from_millis(5));
            }
            None => {
                end(&mut child);
                panic!("{what}: still running after {limit:?}\n{}\n{}", text(&stdout.0), text(&stderr.0));
            }
        }
    };
    let elapsed = begun.elapsed();
    // A rank that outlives its launcher keeps the pipes open; it must not keep the test.
    let patience = Instant::now();
    while !(stdout.1.is_finished() && stderr.1.is_finished()) && patience.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(stdout.1.is_finished() && stderr.1.is_finished(), "{what}: ranks outlive their launcher");
    Ended { what, code: status.code(), stdout: text(&stdout.0), stderr: text(&stderr.0), elapsed }
}

type Collected = (Arc<Mutex<Vec<u8>>>, std::thread::JoinHandle<()>);

fn collect(mut pipe: impl Read + Send + 'static) -> Collected {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let filled = Arc::clone(&bytes);
    let reader = std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(read @ 1..) = pipe.read(&mut buffer) {
            lock(&filled).extend(&buffer[..read]);
        }
    });
    (bytes, reader)
}

/// Asks the launcher to end, which ends its ranks; then kills what is left of its process group.
fn end(child: &mut Child) {
    let group = Pid::from_child(child);
    for (signal, patience) in [(rustix::process::Signal::TERM, 3), (rustix::process::Signal::KILL, 1)] {
        let _ = rustix::process::kill_process_group(group, signal);
        let asked = Instant::now();
        while asked.elapsed() < Duration::from_secs(patience) && child.try_wait().is_ok_and(|end| end.is_none()) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A part of an error message in which `@` stands for this machine's name.
fn here(part: &str) -> String {
    part.replace('@', &format!("({})", rustix::system::uname().nodename().to_string_lossy()))
}

impl Ended {
    /// It ended well; gives its standard output.
    pub fn output(&self) -> &str {
        assert!(self.code == Some(0), "{self}");
        &self.stdout
    }

    /// It ended with an error, in time, and said each of these; `@` stands for this machine's name.
    pub fn says(&self, parts: &[&str]) -> &Self {
        assert!(self.code != Some(0), "it did not fail: {self}");
        assert!(self.elapsed < ERROR_ENDS, "it took {:?} to fail: {self}", self.elapsed);
        eprintln!("{:.1} s to its error: {}", self.elapsed.as_secs_f64(), self.what);
        for part in parts {
            let part = here(part);
            assert!(self.stderr.contains(&part), "it does not say `{part}`: {self}");
        }
        self
    }

    /// It said this so many times, on all ranks together; `@` stands for this machine's name.
    pub fn times(&self, count: usize, part: &str) -> &Self {
        let part = here(part);
        assert_eq!(self.stderr.matches(&part).count(), count, "`{part}`: {self}");
        self
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { what, code, stdout, stderr, elapsed } = self;
        write!(f, "{what}\nended with {code:?} after {elapsed:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}
