//! Keys with their values in memory: merged key by key, and cut by the hashes of keys.

use std::cell::Cell;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use rustc_hash::FxBuildHasher;
use serde::Serialize;

use crate::reduce::round::scaled;
use crate::simulate::mutant::{Mutant, planted};
use crate::worker::budget::{Budget, Counted, owned, until_next};

/// The hash has no seed: which rank has a key is the same in every run.
pub(crate) type Pairs<K, V> = HashMap<K, V, FxBuildHasher>;

/// A table of pairs, and what it takes of a budget.
#[derive(Debug)]
pub(crate) struct Table<K, V> {
    pub pairs: Pairs<K, V>,
    /// As far as it was measured.
    pub counted: Counted,
    /// Pairs that came, also for keys that were there.
    pub came: u64,
    /// When to measure again.
    due: u64,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        HashMap::default().into()
    }
}

impl<K, V> From<Pairs<K, V>> for Table<K, V> {
    fn from(pairs: Pairs<K, V>) -> Self {
        Self { pairs, counted: Counted::default(), came: 0, due: 1 }
    }
}

impl<K: Eq + Hash + Serialize, V: Serialize> Table<K, V> {
    /// Whether so many pairs came that it should be measured again.
    pub fn is_due(&self) -> bool {
        self.came >= self.due
    }

    /// Counts the memory that the table takes, and tells how much that is.
    pub fn measure(&mut self, budget: &Arc<Budget>) -> u64 {
        let (owned, seen) = owned::<(K, V), _>(self.pairs.iter(), self.pairs.len());
        let bytes = self.pairs.allocation_size() as u64 + owned;
        self.due = self.came + until_next(self.came, self.pairs.len(), seen);
        self.counted.set(budget, bytes);
        bytes
    }
}

impl<K: Eq + Hash, V> Table<K, V> {
    /// A table of keys of which no two are equal.
    pub fn of(pairs: Vec<(K, V)>) -> Self {
        pairs.into_iter().collect::<Pairs<K, V>>().into()
    }

    /// Both, with the values of keys that are in both combined, this one's first. The smaller one is taken apart.
    pub fn merge(self, right: Self, combine: &impl Fn(V, V) -> V) -> Self {
        let came = self.came + right.came;
        let merged = if self.pairs.len() >= right.pairs.len() {
            self.take_in(right.pairs, combine)
        } else {
            right.take_in(self.pairs, |mine, theirs| combine(theirs, mine))
        };
        Self { came, ..merged }
    }

    /// Adds pairs, with the values of keys that are here already combined, this table's first.
    pub fn take_in(mut self, pairs: impl IntoIterator<Item = (K, V)>, combine: impl Fn(V, V) -> V) -> Self {
        for (key, theirs) in pairs {
            self.came += 1;
            match self.pairs.entry(key) {
                Entry::Vacant(entry) => drop(entry.insert(theirs)),
                Entry::Occupied(entry) => drop(entry.replace_entry_with(|_, mine| Some(combine(mine, theirs)))),
            }
        }
        self
    }
}

/// Where a key is in the order of hashes, in which pairs lie on the disk and travel.
pub(crate) fn place_of<K: Hash + ?Sized>(key: &K) -> u64 {
    // The part that a key belongs to depends on the upper half, so that what travels at a time is spread over all ranks.
    mix(FxBuildHasher.hash_one(key)).rotate_left(32)
}

/// The part of a key, of so many.
pub(crate) fn part_of<K: Hash + ?Sized>(key: &K, parts: usize) -> usize {
    // The upper bits decide: within a table, the lower ones do.
    scaled(mix(FxBuildHasher.hash_one(key)), parts as u64) as usize
}

/// Spreads what differs in any bit over all of them (the finalizer of `MurmurHash3` by Appleby, which is in the public domain).
fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

impl<K: Eq + Hash, V> Table<K, V> {
    /// Takes out the pairs of all parts but one, which stays.
    pub fn cut(&mut self, parts: usize, staying: usize) -> Vec<Vec<(K, V)>> {
        let count = self.pairs.len();
        // A little more than a part's share, since none is exactly that.
        let room = |part| if part == staying { 0 } else { count / parts + count / parts / 16 };
        let mut cut: Vec<Vec<(K, V)>> = (0..parts).map(|part| Vec::with_capacity(room(part))).collect();
        let part = Cell::new(staying);
        let goes = |key: &K, _: &mut V| {
            let shift = if planted(Mutant::PartsDiffer) { count } else { 0 };
            part.set((part_of(key, parts) + shift) % parts);
            part.get() != staying
        };
        for pair in self.pairs.extract_if(goes) {
            cut[part.get()].push(pair);
        }
        cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(pairs: &[(u8, String)]) -> Table<u8, String> {
        let one = |(key, value): &(u8, String)| Table::from(Pairs::from_iter([(*key, value.clone())]));
        pairs.iter().map(one).fold(Table::default(), |all, next| all.merge(next, &|a, b| a + &b))
    }

    proptest! {
        /// Text shows in which order values were combined.
        #[test]
        fn merging_keeps_the_order_of_values_whichever_table_is_smaller(
            pairs in prop::collection::vec((0u8..20, "[a-z]{1,2}"), 0..60), cut in 0usize..60,
        ) {
            let (left, right) = pairs.split_at(cut.min(pairs.len()));
            let merged = table(left).merge(table(right), &|a, b| a + &b);
            prop_assert_eq!(merged.pairs, table(&pairs).pairs);
        }

        #[test]
        fn parts_have_all_keys_once_and_join_to_the_whole(
            pairs in prop::collection::vec((any::<u8>(), "[a-z]"), 0..200), parts in 1usize..9, staying in any::<prop::sample::Index>(),
        ) {
            let (mut whole, staying) = (table(&pairs), staying.index(parts));
            let mut cut = whole.cut(parts, staying);
            prop_assert!(cut[staying].is_empty());
            cut[staying].extend(whole.pairs);
            for (number, part) in cut.iter().enumerate() {
                prop_assert!(part.iter().all(|(key, _)| part_of(key, parts) == number));
            }
            prop_assert_eq!(cut.concat().len(), table(&pairs).pairs.len());
            prop_assert_eq!(cut.concat().into_iter().collect::<Pairs<_, _>>(), table(&pairs).pairs);
        }
    }

    #[test]
    fn keys_that_are_alike_are_spread_evenly() {
        for parts in [2, 3, 7, 64, 135] {
            let mut counts = vec![0u32; parts];
            (0..1000 * parts as u64).for_each(|key| counts[part_of(&key, parts)] += 1);
            assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
        }
    }
}
