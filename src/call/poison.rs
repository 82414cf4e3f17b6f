//! On rank 0: what becomes of leaves with which earlier jobs have crashed.

use crate::error::{Error, ErrorKind};
use crate::extent::{Extent, Leaves};
use crate::journal::Entry;
use crate::master::scheduler::Scheduler;
use crate::source::Source;
use crate::worker::precautions::{Poison, Precautions};

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
                suspects: entry.suspects_file(),
            };
            scheduler.withhold(poisoned.iter().map(|(leaf, _)| *leaf), Error::from(error));
        }
        let open = suspects.iter().map(|(_, extent)| *extent);
        let open: Vec<Extent> = open.filter(|leaf| poisoned.iter().all(|(poison, _)| poison != leaf)).collect();
        if let (Some(first), false) = (open.first(), entry.is_complete) {
            self.tell_of_suspects(*first, open.len() - 1);
        }
        entry.note_poison(&items);
        scheduler.quarantine(suspects.iter().copied());
        let left_out = if self.skips { poisoned } else { Vec::new() };
        entry.take(Precautions {
            marks: entry.makes_marks(),
            watched: suspects.into_iter().map(|(_, extent)| extent).collect(),
            left_out: left_out.into_iter().map(|(leaf, poison)| (leaf.start, poison)).collect(),
        });
        if self.skips { items } else { Vec::new() }
    }

    fn tell_of_suspects(&self, first: Extent, others: usize) {
        let more = match others {
            0 => String::new(),
            1 => " and another run".to_owned(),
            _ => format!(" and {others} other runs"),
        };
        eprintln!(
            "rankfold: {}: jobs have crashed while {}{more} were computed; these come last now, a few at a time, to find \
             what ends them",
            self.call,
            self.run(first)
        );
    }

    /// A run of leaves, by its items.
    fn run(&self, extent: Extent) -> String {
        let items = self.leaves.items_of(extent);
        format!("{} {} to {}", self.source.unit(), items.start, items.end.max(1) - 1)
    }

    fn describe(&self, leaf: Extent, poison: &Poison) -> Vec<String> {
        let items = self.leaves.items_of(leaf);
        match poison {
            Poison::Items(all) => all.iter().map(|nth| self.source.describe(items.clone(), *nth)).collect(),
            Poison::Leaf if items.end - items.start == 1 => vec![self.source.describe(items, 0)],
            Poison::Leaf => vec![format!("{} (from {} on)", self.run(leaf), self.source.describe(items, 0))],
        }
    }
}
