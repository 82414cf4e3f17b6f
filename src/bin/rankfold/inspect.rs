//! What a journal holds: done, missing, by which job and rank.

use std::error::Error;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use rankfold::journal::{CallRecord, FileRecord, Inspection, JobRecord, inspect};

/// Tell what a journal holds: which program, which jobs, which calls, what is done and what is missing.
#[derive(Args)]
#[command(after_help = "\
Examples:
  rankfold inspect runs/42
  rankfold inspect runs/42 --json | jq '.calls[].missing'
  rankfold inspect runs/42 --verify && echo sound

Exit code: 0; 1 if --verify has found damage; 2 if the folder is no journal.")]
pub struct Inspect {
    /// The journal's folder
    folder: PathBuf,
    /// Everything, as JSON
    #[arg(long)]
    json: bool,
    /// Check every checksum; name the files that are damaged or end too early
    #[arg(long)]
    verify: bool,
}

impl Inspect {
    pub fn run(&self) -> Result<ExitCode, Box<dyn Error>> {
        let inspection = inspect(&self.folder)?;
        let files = || inspection.calls.iter().flat_map(|call| &call.files).chain(&inspection.node_files);
        let unsound: Vec<&FileRecord> = files().filter(|file| file.damage.is_some() || file.torn.is_some()).collect();
        let text = match (self.json, self.verify) {
            (true, _) => serde_json::to_string_pretty(&inspection)? + "\n",
            // Beside these, the file of the run and one for each call were read.
            (false, true) => verdict(1 + inspection.calls.len() + files().count(), &unsound),
            (false, false) => describe(&inspection, &unsound),
        };
        super::print(&text)?;
        Ok(if self.verify && !unsound.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

fn verdict(files: usize, unsound: &[&FileRecord]) -> String {
    if unsound.is_empty() {
        format!("{files} files, all sound\n")
    } else {
        unsound.iter().map(|file| complaint(file)).collect()
    }
}

fn complaint(file: &FileRecord) -> String {
    match (&file.damage, file.torn) {
        (Some(damage), _) => format!("{}: {damage}\n", file.name),
        (None, Some(sound)) if file.name.starts_with("nodes/") => format!(
            "{}: it is sound up to byte {sound} of {}; {} values of it count\n",
            file.name, file.bytes, file.segments
        ),
        (None, Some(length)) => format!(
            "{}: it ends after {} of {length} bytes; {} whole segments of it count\n",
            file.name, file.bytes, file.segments
        ),
        (None, None) => String::new(),
    }
}

fn describe(inspection: &Inspection, unsound: &[&FileRecord]) -> String {
    let Inspection { run, program, arguments, is_finished, owner, jobs, calls, nodes, .. } = inspection;
    let mut text = format!("run      {run:016x}\nprogram  {program}\n");
    if !arguments.is_empty() {
        let _ = writeln!(text, "         {}", arguments.join(" "));
    }
    let state = match (is_finished, owner) {
        (true, _) => "finished".to_owned(),
        (false, Some(owner)) => format!("not finished; {owner} works on it, or has ended without giving it free"),
        (false, None) => "not finished: start the program again to go on".to_owned(),
    };
    let _ = writeln!(text, "state    {state}\n");
    for JobRecord { number, host, process, slurm_job, ranks, started, has_crashed } in jobs {
        let crashed = if *has_crashed { ", crashed" } else { "" };
        let slurm = if slurm_job.is_empty() { String::new() } else { format!(", Slurm job {slurm_job}") };
        let _ = writeln!(
            text,
            "job {number:<5} {} on {host}, process {process}{slurm}, since {}{crashed}",
            counted(*ranks, "rank"),
            super::numbers::date(*started)
        );
    }
    text.push('\n');
    for call in calls {
        text += &line(call);
    }
    if !nodes.is_empty() {
        let bytes: u64 = nodes.iter().map(|node| node.bytes).sum();
        let nodes = counted(nodes.len() as u64, "named node");
        let _ = writeln!(text, "graphs    the values of {nodes} are recorded, {}", counted(bytes, "byte"));
    }
    if !unsound.is_empty() {
        let _ = write!(text, "\nnot sound:\n{}", unsound.iter().map(|file| complaint(file)).collect::<String>());
    }
    text
}

fn line(call: &CallRecord) -> String {
    let CallRecord { number, name, operation, items, done, has_result, missing, suspects, poisoned, files } = call;
    if operation.is_empty() {
        return format!("call {number:<4} which one it is cannot be read\n");
    }
    let what = if name == operation { name.clone() } else { format!("{name} ({operation})") };
    if *has_result {
        let done = counted(*items, "item");
        return format!("call {number:<4} {what}: done, {done}; its result is recorded\n") + &poison(poisoned);
    }
    let part = if *items == 0 { 100.0 } else { 100.0 * *done as f64 / *items as f64 };
    let snapshots = counted(files.iter().filter(|file| file.rank.is_some()).count() as u64, "snapshot");
    let mut text =
        format!("call {number:<4} {what}: {part:.1} % of {} done, in {snapshots}\n", counted(*items, "item"));
    let ranges: Vec<String> = missing.iter().take(8).map(|(start, end)| format!("{start}..{end}")).collect();
    let more = if missing.len() > 8 { format!(" and {} ranges more", missing.len() - 8) } else { String::new() };
    if !ranges.is_empty() {
        let _ = writeln!(text, "          missing: {}{more}", ranges.join(", "));
    }
    for (start, end, crashes) in suspects.iter().take(8) {
        let after =
            if *crashes > 0 { format!(", and {} since", counted(u64::from(*crashes), "job")) } else { String::new() };
        let _ = writeln!(text, "          suspect: {start}..{end}, computed when jobs crashed{after}");
    }
    text + &poison(poisoned)
}

/// The items that end the rank which computes them.
fn poison(poisoned: &[(u64, u64, Vec<u64>)]) -> String {
    let mut text = String::new();
    for (start, end, which) in poisoned {
        let which: Vec<String> = which.iter().map(|nth| format!("number {nth}")).collect();
        let of = if which.is_empty() { String::new() } else { format!(" ({}, counted from 0)", which.join(", ")) };
        let _ = writeln!(text, "          poison: in {start}..{end}{of}");
    }
    text
}

fn counted(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
