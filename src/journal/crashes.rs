//! What crashes of earlier jobs tell: which jobs have crashed, and which leaves they were computing.

use std::fmt::Write;
use std::io;

use super::format::Owner;
use super::marks::{self, job_of_marks};
use super::recovery::{Found, leaves_of};
use super::storage::{Storage, write};
use super::suspects::Suspects;
use super::{Journal, Trouble, job_of, pack, seconds_now, unpack, unusable};
use crate::master::coverage::Coverage;

pub(super) const SUSPECTS: &str = "suspects";
/// In the record of a job.
pub(super) const CRASHED: &str = "crashed=";

/// A job that has crashed.
#[derive(Debug)]
pub(super) struct Crash {
    job: u64,
    ranks: usize,
}

/// The jobs that have crashed, in order; the last one is recorded as such first, if it did.
pub(super) fn of_earlier_jobs(storage: &dyn Storage, names: &[String], last: Option<u64>) -> Vec<Crash> {
    let mut crashed = Vec::new();
    for name in names.iter().filter(|name| name.starts_with("jobs/")) {
        let (Some(job), Ok(record)) = (job_of(name), storage.read(name)) else { continue };
        let mut record = String::from_utf8_lossy(&record).into_owned();
        let is_known = record.lines().any(|line| line.starts_with(CRASHED));
        if last == Some(job) && !is_known {
            let _ = writeln!(record, "{CRASHED}{}", seconds_now());
            // Where it cannot be recorded, a later search takes longer.
            let _ = write(storage, name, record.as_bytes());
        }
        if is_known || last == Some(job) {
            let ranks = record.lines().find_map(|line| line.strip_prefix("ranks=")?.parse().ok());
            crashed.push(Crash { job, ranks: ranks.unwrap_or(usize::MAX) });
        }
    }
    crashed
}

impl Journal {
    /// The leaves of a call that may end whoever computes them, with what crashed jobs have marked since.
    pub(super) fn suspects_of(&self, folder: &str, owner: Owner, found: &[Found]) -> Result<Suspects, Trouble> {
        let name = format!("{folder}/{SUSPECTS}");
        let before: Suspects = match self.storage.read(&name) {
            Ok(_) if self.is_mended => Suspects::default(),
            Ok(bytes) => unpack(&name, &bytes)?.1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Suspects::default(),
            Err(error) => return Err(unusable(folder, &error)),
        };
        let mut suspects = before.clone();
        let files = self.storage.list(folder).map_err(|error| unusable(folder, &error))?;
        let pages: Vec<(u64, &String)> = files.iter().filter_map(|name| Some((job_of_marks(name)?, name))).collect();
        for Crash { job, ranks } in &self.crashed {
            let of_job = pages.iter().filter(|(of, _)| of == job);
            let read = of_job.filter_map(|(_, name)| self.storage.read(name).ok());
            let read: Vec<_> = read.filter_map(|page| marks::decode(owner, &page)).collect();
            suspects.crashed(*job, &read.concat(), read.len() == *ranks);
        }
        let mut done = Coverage::default();
        for extent in found.iter().flat_map(|file| &file.extents) {
            leaves_of(*extent, owner.leaves).into_iter().for_each(|part| drop(done.insert(part)));
        }
        suspects.acquit(&done);
        if suspects != before {
            // What is counted in must be on the disk before the marks go.
            write(self.storage.as_ref(), &name, &pack(owner.run, owner.call, &suspects))
                .map_err(|error| unusable(folder, &error))?;
        }
        for (_, name) in pages {
            // One that stays is known to be counted in.
            let _ = self.storage.remove(name);
        }
        Ok(suspects)
    }
}
