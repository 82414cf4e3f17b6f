//! On rank 0: what becomes of leaves with which earlier jobs have crashed.

use crate::error::{Error, ErrorKind};
use crate::extent::{Extent, Leaves};
use crate::journal::Entry;
use crate::journal::suspects::Poison;
use crate::master::scheduler::Scheduler;
use crate::source::Source;
use crate::worker::precautions::Precautions;

/// The call whose leaves are looked at.
pub(super) struct Case<'c, S> {
    pub call: &'c str,
    pub source: &'c S,
    pub leaves: Leaves,
    /// Whether the result is wanted without the items that are poison.
    pub skips: bool,
}

impl<S: Source> Case<'_, S> {
    /// Puts suspects last and poison aside. Gives the items that are left out of the result, in words.
    pub fn prepare(&self, entry: &mut Entry, scheduler: &mut Scheduler) -> Vec<String> {
        let suspects: Vec<(u32, Extent)> = entry.suspects.quarantined().collect();
        let poisoned: Vec<(Extent, Poison)> =
            entry.suspects.poisoned().map(|(leaf, poison)| (leaf, poison.clone())).collect();
        let items: Vec<String> = poisoned.iter().flat_map(|(leaf, poison)| self.describe(*leaf, poison)).collect();
        if !poisoned.is_empty() && !self.skips {
            let error = ErrorKind::Poisoned {
                call: self.call.to_owned(),
                items: items.clone(),
                dir: entry.dir().display().to_string(),
            };
            scheduler.withhold(poisoned.iter().map(|(leaf, _)| *leaf), Error::from(error));
        }
        let is_suspect = |leaf: &Extent| poisoned.iter().all(|(poison, _)| poison != leaf);
        let hidden = suspects.iter().filter(|(_, extent)| is_suspect(extent)).count();
        if hidden > 0 && !entry.is_complete {
            let first = suspects.iter().map(|(_, extent)| *extent).find(is_suspect).map(|it| self.leaves.items_of(it));
            let first =
                first.map_or(String::new(), |items| format!("{} {}..{}", self.source.unit(), items.start, items.end));
            let more = if hidden > 1 { format!(" and {} other runs", hidden - 1) } else { String::new() };
            eprintln!(
                "rankfold: {}: jobs have crashed while {first}{more} were computed; these come last now, a few at a time, \
                 to find what ends them",
                self.call
            );
        }
        scheduler.quarantine(suspects.iter().copied());
        let left_out = if self.skips { poisoned } else { Vec::new() };
        entry.take(Precautions {
            marks: entry.makes_marks(),
            watched: suspects.into_iter().map(|(_, extent)| extent).collect(),
            left_out: left_out.into_iter().map(|(leaf, poison)| (leaf.start, poison)).collect(),
        });
        if self.skips { items } else { Vec::new() }
    }

    fn describe(&self, leaf: Extent, poison: &Poison) -> Vec<String> {
        let items = self.leaves.items_of(leaf);
        match poison {
            Poison::Items(all) => all.iter().map(|nth| self.source.describe(items.clone(), *nth)).collect(),
            Poison::Leaf if items.end - items.start == 1 => vec![self.source.describe(items, 0)],
            Poison::Leaf => vec![format!("{} {} to {}", self.source.unit(), items.start, items.end - 1)],
        }
    }
}
