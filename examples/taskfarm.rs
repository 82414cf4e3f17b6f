//! Runs the commands of a file, one a line, on all ranks of a job: what people use GNU parallel for inside of a node.
//!
//! ```text
//! $ cat commands.txt
//! # one command a line; blank lines and comments are skipped
//! ./simulate --alpha 0.1 > results/1
//! ./simulate --alpha 0.2 > results/2
//! $ mpirun -n 64 target/release/examples/taskfarm commands.txt --journal farm
//! ```
//!
//! Standard output has what the commands print, in the order of the file, whichever comes first; the same for standard
//! error. At the end there is a table of those that have failed, and a line that sums up. With `--journal`, a second start
//! runs those commands alone that have failed or have not run, and prints the output of the others again.

use std::error::Error;
use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind as Io, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use rankfold::{ErrorKind, Graph, Node, World};
use serde::{Deserialize, Serialize};

mod common;

/// Between two words on how far it is.
const PROGRESS: Duration = Duration::from_secs(5);
/// The table at the end has so many lines.
const TOLD_MOST: usize = 50;

/// Run the commands of a file on all ranks, as many at a time as there are threads.
///
/// Exit code: 0 if all commands have succeeded, else 1; 75 if the time of the job ended before (start it again).
#[derive(Parser)]
struct Args {
    /// Commands for `sh -c`, one a line; blank lines and those that begin with # are skipped; - reads standard input
    file: PathBuf,
    /// Remember here what has succeeded: a second start with the same arguments runs the rest alone
    #[arg(long, value_name = "FOLDER")]
    journal: Option<PathBuf>,
    /// Try a command that fails so many times more
    #[arg(long, value_name = "N", default_value_t = 0)]
    retries: u32,
    /// Write the output of each command to FOLDER/LINE.out and FOLDER/LINE.err instead of printing it
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

/// What a command has printed.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Printed {
    #[serde(with = "serde_bytes")]
    out: Vec<u8>,
    #[serde(with = "serde_bytes")]
    err: Vec<u8>,
}

/// A command that has come to its end: what it has printed, and why it has failed if it has.
struct Ended {
    printed: Printed,
    failure: Option<String>,
}

fn main() -> ExitCode {
    // Each rank has its part in the pool; rank 0 alone knows how it went.
    let mut code = ExitCode::SUCCESS;
    let ended = rankfold::spmd(|world| {
        farm(world).map(|failed| {
            if failed > 0 {
                code = ExitCode::FAILURE;
            }
        })
    });
    if ended == ExitCode::SUCCESS { code } else { ended }
}

/// Gives the number of commands that have failed.
fn farm(world: &World) -> Result<usize, Box<dyn Error>> {
    let Some(args) = common::arguments::<Args>(world)? else { return Ok(0) };
    if !world.is_root() {
        world.pool(|_| ())?;
        return Ok(0);
    }
    let commands = read(&args.file)?;
    if let Some(folder) = &args.output {
        fs::create_dir_all(folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    }
    let (graph, nodes) = describe(&commands, &args)?;
    let mut teller = Teller::new(&commands, args.output.clone());
    let begun = Instant::now();
    let ended = world.pool(|pool| {
        graph.keep_going().for_each(pool, &nodes, |place, result| {
            let ended = match result {
                Ok(printed) => Ended { printed, failure: None },
                Err(error) => failed(&error),
            };
            teller.take(place, ended);
        })
    })?;
    ended.unwrap_or(Ok(()))?;
    let before = graph.last_run().map_or(0, |plan| plan.restored);
    let restart = args.journal.is_some();
    Ok(teller.sum_up(before, begun.elapsed(), restart)?)
}

/// The commands, with the numbers of their lines.
fn read(file: &Path) -> Result<Vec<(usize, String)>, Box<dyn Error>> {
    let name = file.display();
    let from: Box<dyn Read> = if file == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(fs::File::open(file).map_err(|error| format!("cannot open {name}: {error}"))?)
    };
    let mut commands = Vec::new();
    for (line, text) in (1..).zip(BufReader::new(from).lines()) {
        let text = text.map_err(|error| format!("{name}:{line}: cannot be read: {error}"))?;
        let text = text.trim();
        if !text.is_empty() && !text.starts_with('#') {
            commands.push((line, text.to_owned()));
        }
    }
    Ok(commands)
}

/// A node for each command. Its name is the command, so that lines may be added and moved between two starts.
fn describe(commands: &[(usize, String)], args: &Args) -> rankfold::Result<(Graph, Vec<Node<Printed>>)> {
    let mut graph = Graph::new();
    if let Some(folder) = &args.journal {
        graph.journal(folder);
    }
    let mut seen = std::collections::BTreeMap::<&str, u32>::new();
    let mut nodes = Vec::new();
    for (_, command) in commands {
        let nth = seen.entry(command).or_default();
        *nth += 1;
        let name = if *nth == 1 { command.clone() } else { format!("{command} ({nth})") };
        nodes.push(graph.named(&name).retries(args.retries).add(run, (command.clone(),))?);
    }
    Ok((graph, nodes))
}

/// Runs a command where the task runs. A command that fails is a task that fails, so that it is tried again, and not
/// remembered as done.
#[expect(clippy::needless_pass_by_value, reason = "an argument arrives as itself")]
fn run(command: String) -> Printed {
    let started = Command::new("sh").args(["-c", &command]).stdin(Stdio::null()).output();
    let output = started.unwrap_or_else(|error| panic!("sh cannot be started: {error}"));
    let printed = Printed { out: output.stdout, err: output.stderr };
    let reason = match (output.status.code(), output.status.signal()) {
        (Some(0), _) => return printed,
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown end".to_owned(),
    };
    let [out, err] = [printed.out, printed.err].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    panic!("{reason}\0{out}\0{err}")
}

/// What a command that has failed has printed: its task has put that into the message of its panic.
fn failed(error: &rankfold::Error) -> Ended {
    let ErrorKind::Panicked { message, place, attempts, .. } = error.kind() else {
        return Ended { printed: Printed::default(), failure: Some(error.to_string()) };
    };
    let mut parts = message.splitn(3, '\0');
    let mut next = || parts.next().unwrap_or_default().to_owned();
    let (reason, out, err) = (next(), next(), next());
    let attempts = if *attempts > 1 { format!(", {attempts} attempts") } else { String::new() };
    let failure = Some(format!("{reason} on {place}{attempts}"));
    Ended { printed: Printed { out: out.into_bytes(), err: err.into_bytes() }, failure }
}

/// Tells what came of the commands, in their order.
struct Teller<'t> {
    commands: &'t [(usize, String)],
    folder: Option<PathBuf>,
    /// Those that have ended, until it is their turn.
    ended: Vec<Option<Ended>>,
    next: usize,
    count: usize,
    failures: Vec<(usize, String)>,
    told: Instant,
    /// The first problem with what is written.
    problem: Option<io::Error>,
}

impl<'t> Teller<'t> {
    fn new(commands: &'t [(usize, String)], folder: Option<PathBuf>) -> Self {
        let ended = commands.iter().map(|_| None).collect();
        Self { commands, folder, ended, next: 0, count: 0, failures: Vec::new(), told: Instant::now(), problem: None }
    }

    fn take(&mut self, place: usize, mut ended: Ended) {
        self.count += 1;
        if let Some(failure) = ended.failure.take() {
            self.failures.push((place, failure));
        }
        self.ended[place] = Some(ended);
        while let Some(ended) = self.ended.get_mut(self.next).and_then(Option::take) {
            let written = self.write(self.next, &ended.printed);
            self.problem = self.problem.take().or(written.err());
            self.next += 1;
        }
        if self.told.elapsed() > PROGRESS {
            self.told = Instant::now();
            eprintln!("taskfarm: {} of {} commands, {} failed", self.count, self.commands.len(), self.failures.len());
        }
    }

    fn write(&self, place: usize, printed: &Printed) -> io::Result<()> {
        let Some(folder) = &self.folder else {
            let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
            return out.write_all(&printed.out).and_then(|()| out.flush()).and_then(|()| err.write_all(&printed.err));
        };
        let line = self.commands[place].0;
        fs::write(folder.join(format!("{line}.out")), &printed.out)?;
        fs::write(folder.join(format!("{line}.err")), &printed.err)
    }

    /// The table of failures, and one line. Gives the number of failures.
    fn sum_up(mut self, before: usize, took: Duration, restart: bool) -> io::Result<usize> {
        self.failures.sort_unstable();
        let (all, failed) = (self.commands.len(), self.failures.len());
        if failed > 0 {
            eprintln!("\n  line  what happened");
        }
        for (place, failure) in self.failures.iter().take(TOLD_MOST) {
            let (line, command) = &self.commands[*place];
            eprintln!("{line:>6}  {failure}: {command}");
        }
        if failed > TOLD_MOST {
            eprintln!("        and {} more", failed - TOLD_MOST);
        }
        let before = if before > 0 { format!(", {before} of them in an earlier start") } else { String::new() };
        let again = match (failed > 0, restart) {
            (false, _) => "",
            (true, true) => "; start it again to run those that failed, and no others",
            (true, false) => "; with --journal FOLDER a second start runs those that failed, and no others",
        };
        eprintln!(
            "taskfarm: {all} commands, {} succeeded{before}, {failed} failed, {:.1} s{again}",
            all - failed,
            took.as_secs_f64()
        );
        match self.problem {
            Some(error) if error.kind() != Io::BrokenPipe => Err(error),
            _ => Ok(failed),
        }
    }
}
