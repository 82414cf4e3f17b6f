//! What crashes of earlier jobs tell: which jobs have crashed, and which leaves they were computing.

use std::fmt::Write;
use std::io;

use super::format::Owner;
use super::marks::{self, job_of_marks};
use super::recovery::{Found, leaves_of};
use super::storage::{Storage, write};
use super::suspects::{Mark, Suspects};
use super::{Journal, Trouble, job_of, pack, seconds_now, unpack, unusable};
use crate::master::coverage::Coverage;

pub(super) const SUSPECTS: &str = "suspects";
/// The items that were found, for people.
pub(super) const POISON: &str = "poison";
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
    /// What is known of a call's suspects; nothing where another build has found it, since they may be mended.
    pub(super) fn known_suspects(&self, folder: &str) -> Result<Option<Suspects>, Trouble> {
        let name = format!("{folder}/{SUSPECTS}");
        let suspects: Suspects = match self.storage.read(&name) {
            Ok(bytes) => unpack(&name, &bytes)?.1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unusable(folder, &error)),
        };
        Ok(Some(suspects).filter(|suspects| suspects.build == self.build))
    }

    /// The leaves of a call that may end whoever computes them, with what crashed jobs have marked since.
    pub(super) fn suspects_of(
        &self,
        folder: &str,
        owner: Owner,
        before: Option<&Suspects>,
        found: &[Found],
    ) -> Result<Suspects, Trouble> {
        let mut done = Coverage::default();
        for extent in found.iter().flat_map(|file| &file.extents) {
            leaves_of(*extent, owner.leaves).into_iter().for_each(|part| drop(done.insert(part)));
        }
        let mut suspects = before.cloned().unwrap_or_else(|| Suspects::none(self.build));
        let files = self.storage.list(folder).map_err(|error| unusable(folder, &error))?;
        let pages: Vec<(u64, &String)> = files.iter().filter_map(|name| Some((job_of_marks(name)?, name))).collect();
        for Crash { job, ranks } in &self.crashed {
            let of_job = pages.iter().filter(|(of, _)| of == job);
            let read = of_job.filter_map(|(_, name)| self.storage.read(name).ok());
            let read: Vec<_> = read.filter_map(|page| marks::decode(owner, &page)).collect();
            // What is on the disk was over when the job crashed, whatever its mark says.
            let marks: Vec<Mark> = read.concat().into_iter().filter(|mark| !done.contains(mark.extent)).collect();
            suspects.crashed(*job, &marks, read.len() == *ranks);
        }
        suspects.acquit(&done);
        self.keep(folder, owner, before, &suspects, &pages);
        Ok(suspects)
    }

    /// Writes what crashes have shown. Marks go when they are counted in, on the disk.
    fn keep(&self, folder: &str, owner: Owner, before: Option<&Suspects>, now: &Suspects, pages: &[(u64, &String)]) {
        let (name, storage) = (format!("{folder}/{SUSPECTS}"), self.storage.as_ref());
        let written = if before == Some(now) || now.is_empty() {
            Ok(())
        } else {
            write(storage, &name, &pack(owner.run, owner.call, now))
        };
        if let Err(error) = written {
            eprintln!("rankfold: warning: what crashes have shown is not written: {name}: {error}");
            return;
        }
        for (_, page) in pages {
            // One that stays is known to be counted in.
            let _ = storage.remove(page);
        }
        if now.is_empty() {
            let _ = storage.remove(&name);
        }
    }
}
