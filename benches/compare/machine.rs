//! What the figures were measured on, and what else the machine was doing meanwhile.

use std::fs;
use std::path::Path;
use std::process::Command;

/// The machine, the compiler, the MPI and the commit, one per line; nothing that is private to the machine.
pub(crate) fn description(mpirun: &Path, kind: &str) -> Vec<String> {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let commit = first_line("git", &["rev-parse", "--short", "HEAD"]);
    let changed = !output("git", &["status", "--porcelain", "--", "src", "examples", "Cargo.toml"]).is_empty();
    let banner = output(&mpirun.display().to_string(), &["--version"]);
    let version = banner.lines().find(|line| line.contains("ersion") || line.contains('(')).unwrap_or(&banner);
    vec![
        format!("processor  {}, {cores} cores", field("/proc/cpuinfo", "model name")),
        format!("memory     {}", field("/proc/meminfo", "MemTotal")),
        format!("kernel     {}", first_line("uname", &["-sr"])),
        format!("rustc      {}", first_line("rustc", &["--version"])),
        format!("MPI        {kind}: {}", version.trim()),
        format!("commit     {commit}{}", if changed { ", with changes that are not committed" } else { "" }),
        format!("load       {}", load()),
    ]
}

fn field(path: &str, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_once(':').map_or("unknown", |(_, value)| value.trim()).to_owned()
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

pub(crate) fn first_line(program: &str, arguments: &[&str]) -> String {
    output(program, arguments).lines().next().unwrap_or("unknown").to_owned()
}

/// The load averages of the last 1, 5 and 15 minutes.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// The load average of the last minute.
pub(crate) fn load_now() -> f64 {
    load().split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0)
}

/// Processor time since some moment, in clock ticks: all there was, and what others than this benchmark used of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meter {
    all: u64,
    busy: u64,
    ours: u64,
}

impl Meter {
    pub(crate) fn now() -> Self {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let line = text.lines().next().unwrap_or_default();
        // user nice system idle iowait irq softirq steal; guest time is in user time.
        let ticks: Vec<u64> = line.split_whitespace().skip(1).take(8).filter_map(|ticks| ticks.parse().ok()).collect();
        let all = ticks.iter().sum();
        let idle: u64 = ticks.iter().skip(3).take(2).sum();
        let own = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // utime stime cutime cstime: the programs that this process has waited for are in the last two.
        Self { all, busy: all - idle, ours: ticks_of(&own, 4) }
    }

    /// The part of the machine that was busy since then, in percent.
    pub(crate) fn busy(self) -> f64 {
        let now = Self::now();
        100.0 * (now.busy - self.busy) as f64 / (now.all - self.all).max(1) as f64
    }

    /// The part of the machine that others have used since then, in percent.
    pub(crate) fn others(self) -> f64 {
        let now = Self::now();
        let others = (now.busy - self.busy).saturating_sub(now.ours - self.ours);
        100.0 * others as f64 / (now.all - self.all).max(1) as f64
    }
}

/// The sum of the first `fields` of utime, stime, cutime, cstime in the text of a `/proc/<pid>/stat`.
fn ticks_of(stat: &str, fields: usize) -> u64 {
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    after_name.split(' ').skip(11).take(fields).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

/// Processor time of a launcher's descendants in clock ticks (of 10 ms), and how many there are: those with `name`, and
/// the others.
pub(crate) fn ticks_of_descendants(ancestor: u32, name: &str) -> [(u64, usize); 2] {
    let stats = fs::read_dir("/proc").into_iter().flatten().flatten();
    let stats = stats.filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let parent: u32 = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
        Some((pid, parent, stat))
    });
    let stats: Vec<(u32, u32, String)> = stats.collect();
    let mut family = vec![ancestor];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        family.extend(stats.iter().filter(|(_, of, _)| *of == parent).map(|(pid, ..)| *pid));
        next += 1;
    }
    let mut sums = [(0, 0); 2];
    for (_, _, stat) in stats.iter().filter(|(pid, ..)| family.contains(pid)) {
        let (ticks, count) = &mut sums[usize::from(!stat.contains(&format!("({name}")))];
        *ticks += ticks_of(stat, 2);
        *count += 1;
    }
    sums
}
