//! The lines at the start: who takes part, and what keeps cores from being used.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};
use crate::launch::{Introduction, unused_cores};

/// How much is said on standard error, from `RANKFOLD_LOG`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verbosity {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

const LEVELS: [(&str, Verbosity); 6] = [
    ("off", Verbosity::Off),
    ("error", Verbosity::Error),
    ("warn", Verbosity::Warn),
    ("info", Verbosity::Info),
    ("debug", Verbosity::Debug),
    ("trace", Verbosity::Trace),
];

/// Reads `RANKFOLD_LOG`; `debug` and `trace` also show what happens inside, if the program has no logger of its own.
pub(crate) fn verbosity() -> Result<Verbosity> {
    let value = std::env::var("RANKFOLD_LOG").unwrap_or_default();
    let named = LEVELS.iter().find(|(name, _)| name.eq_ignore_ascii_case(value.trim()));
    let level = match named {
        Some((_, level)) => *level,
        None if value.trim().is_empty() => Verbosity::Info,
        None => {
            let names: Vec<&str> = LEVELS.iter().map(|(name, _)| *name).collect();
            let problem = format!("RANKFOLD_LOG={value} is not a level");
            return Err(Error::launch(problem, format!("use one of {}", names.join(", "))));
        }
    };
    if level >= Verbosity::Debug {
        let filter = if level == Verbosity::Trace { tracing::Level::TRACE } else { tracing::Level::DEBUG };
        let subscriber = tracing_subscriber::fmt().with_max_level(filter).with_writer(std::io::stderr).without_time();
        // A program that has its own subscriber sees our events there.
        let _ = subscriber.try_init();
    }
    Ok(level)
}

/// Says on rank 0 who takes part and, if so, what leaves cores unused. Once: a program may make a world for each of its
/// steps, and is still one program.
pub(crate) fn announce(verbosity: Verbosity, ranks: &[Introduction], threads: &[u32], transport: &str) {
    static ANNOUNCED: AtomicBool = AtomicBool::new(false);
    if ANNOUNCED.swap(true, Ordering::Relaxed) {
        return;
    }
    if verbosity >= Verbosity::Info {
        eprintln!("rankfold: {}, {transport}", crew(ranks, threads));
    }
    if verbosity >= Verbosity::Warn {
        for (host, cores) in unused_cores(ranks) {
            let cores = if cores == 1 { "1 core".to_owned() } else { format!("{cores} cores") };
            eprintln!(
                "rankfold: warning: {cores} of {host} will stay idle: the launcher has bound the ranks to others. \
                 Start more ranks, or use mpirun --bind-to none (Open MPI), srun --cpus-per-task=… (Slurm)"
            );
        }
    }
}

fn crew(ranks: &[Introduction], threads: &[u32]) -> String {
    let hosts: BTreeSet<&str> = ranks.iter().map(|rank| rank.host.as_str()).collect();
    let hosts: Vec<&str> = hosts.into_iter().collect();
    let place = match hosts[..] {
        [one] => format!("on {one}"),
        [first, .., last] => format!("on {} hosts ({first} … {last})", hosts.len()),
        [] => String::new(),
    };
    let count = |n: usize, what: &str| if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") };
    let (least, most) = (threads.iter().min().copied().unwrap_or(1), threads.iter().max().copied().unwrap_or(1));
    let each = if least == most { count(least as usize, "thread") } else { format!("{least} to {most} threads") };
    format!("{} × {each} {place}", count(ranks.len(), "rank"))
}
