//! What a rank does about leaves that have ended ranks before: it notes each of their items before it is computed, and
//! leaves out the ones that are known to be poison, where the user asked for that.

use std::cell::Cell;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::extent::Extent;
use crate::master::coverage::Coverage;

/// What of a leaf ends the rank that computes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Poison {
    /// These of its items, counted from 0.
    Items(Vec<u64>),
    /// Which items is not known, or there are too many.
    Leaf,
}

/// Notes an item of a leaf before it is computed.
pub(crate) type Noting = Box<dyn Fn(Extent, u64) + Send + Sync>;

/// As rank 0 tells it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Precautions {
    /// Ranks mark on the disk what they compute.
    pub marks: bool,
    /// Leaves whose items are marked one by one.
    pub watched: Vec<Extent>,
    /// Leaves of which something is left out.
    pub left_out: Vec<(u64, Poison)>,
}

/// As a rank takes them.
#[derive(Default)]
pub(crate) struct Guard {
    noting: Option<Noting>,
    watched: Coverage,
    left_out: BTreeMap<u64, Poison>,
}

impl Guard {
    pub fn new(precautions: &Precautions, noting: Option<Noting>) -> Self {
        let mut watched = Coverage::default();
        precautions.watched.iter().for_each(|extent| drop(watched.insert(*extent)));
        Self { noting, watched, left_out: precautions.left_out.iter().cloned().collect() }
    }

    /// Whether some of these leaves need care: they are computed one by one.
    pub fn is_wary_of(&self, extent: Extent) -> bool {
        let leaves_out = || self.left_out.range(extent.start..extent.end()).next().is_some();
        self.watched.meets(extent) || (!self.left_out.is_empty() && leaves_out())
    }

    /// Whether nothing of this leaf is computed.
    pub fn leaves_out(&self, leaf: u64) -> bool {
        self.left_out.get(&leaf) == Some(&Poison::Leaf)
    }

    /// The items of a leaf that needs care, without those that are left out.
    pub fn watch<'g, I: Iterator>(&'g self, leaf: Extent, items: I, left_out: &'g Cell<u64>) -> Watched<'g, I> {
        let poison = match self.left_out.get(&leaf.start) {
            Some(Poison::Items(items)) => items.as_slice(),
            _ => &[],
        };
        let noting = self.noting.as_ref().filter(|_| self.watched.contains(leaf));
        Watched { items, nth: 0, leaf, poison, left_out, noting }
    }
}

/// Items that are marked before they are computed.
pub(crate) struct Watched<'g, I> {
    items: I,
    nth: u64,
    leaf: Extent,
    poison: &'g [u64],
    /// Counts those that were left out.
    left_out: &'g Cell<u64>,
    noting: Option<&'g Noting>,
}

impl<I: Iterator> Iterator for Watched<'_, I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        loop {
            let item = self.items.next()?;
            let nth = self.nth;
            self.nth += 1;
            if self.poison.contains(&nth) {
                self.left_out.set(self.left_out.get() + 1);
                continue;
            }
            if let Some(note) = self.noting {
                note(self.leaf, nth);
            }
            return Some(item);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poison_is_left_out_and_the_other_items_keep_their_order() {
        let left_out = vec![(3, Poison::Items(vec![0, 2])), (9, Poison::Leaf)];
        let guard = Guard::new(&Precautions { left_out, ..Precautions::default() }, None);
        let count = Cell::new(0);
        let items: Vec<char> = guard.watch(Extent::new(3, 1), "abcd".chars(), &count).collect();
        assert_eq!((items, count.get()), (vec!['b', 'd'], 2));
        assert!(guard.leaves_out(9) && !guard.leaves_out(3) && !guard.leaves_out(0));
        assert!(guard.is_wary_of(Extent::new(0, 4)) && !guard.is_wary_of(Extent::new(4, 4)));
    }
}
