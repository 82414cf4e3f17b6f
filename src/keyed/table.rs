//! Keys with their values, as a partial: merged key by key, and cut by the hashes of keys.

use std::hash::{BuildHasher, Hash};

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use rustc_hash::FxBuildHasher;
use serde::{Deserialize, Serialize};

use crate::reduce::parts::Cut;

/// The hash has no seed: which rank has a key is the same in every run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound(
    serialize = "K: Serialize + Eq + Hash, V: Serialize",
    deserialize = "K: Deserialize<'de> + Eq + Hash, V: Deserialize<'de>"
))]
pub(crate) struct Table<K, V>(pub HashMap<K, V, FxBuildHasher>);

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self(HashMap::default())
    }
}

impl<K: Eq + Hash, V> Table<K, V> {
    /// Both, with the values of keys that are in both combined, this one's first. The smaller one is taken apart.
    pub fn merge(self, right: Self, combine: &impl Fn(V, V) -> V) -> Self {
        if self.0.len() >= right.0.len() {
            self.take_in(right, combine)
        } else {
            right.take_in(self, |mine, theirs| combine(theirs, mine))
        }
    }

    fn take_in(mut self, other: Self, combine: impl Fn(V, V) -> V) -> Self {
        for (key, theirs) in other.0 {
            match self.0.entry(key) {
                Entry::Vacant(entry) => drop(entry.insert(theirs)),
                Entry::Occupied(entry) => drop(entry.replace_entry_with(|_, mine| Some(combine(mine, theirs)))),
            }
        }
        self
    }
}

/// The part of a key, of so many.
pub(crate) fn part_of<K: Hash + ?Sized>(key: &K, parts: usize) -> usize {
    // The upper bits decide: within a table, the lower ones do.
    ((u128::from(mix(FxBuildHasher.hash_one(key))) * parts as u128) >> 64) as usize
}

/// Spreads what differs in any bit over all of them (the finalizer of `MurmurHash3` by Appleby, which is in the public domain).
fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

impl<K: Eq + Hash, V> Cut for Table<K, V> {
    fn cut(self, parts: usize) -> Vec<Self> {
        let mut cut: Vec<Self> = (0..parts).map(|_| Self::default()).collect();
        for (key, value) in self.0 {
            cut[part_of(&key, parts)].0.insert(key, value);
        }
        cut
    }

    fn join(parts: Vec<Self>) -> Self {
        let mut parts = parts.into_iter();
        let mut whole = parts.next().expect("at least one part");
        parts.for_each(|part| whole.0.extend(part.0));
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(pairs: &[(u8, String)]) -> Table<u8, String> {
        let one = |(key, value): &(u8, String)| Table([(*key, value.clone())].into_iter().collect());
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
            prop_assert_eq!(merged.0, table(&pairs).0);
        }

        #[test]
        fn parts_have_all_keys_once_and_join_to_the_whole(
            pairs in prop::collection::vec((any::<u8>(), "[a-z]"), 0..200), parts in 1usize..9,
        ) {
            let whole = table(&pairs);
            let cut = whole.clone().cut(parts);
            prop_assert_eq!(cut.iter().map(|part| part.0.len()).sum::<usize>(), whole.0.len());
            for (number, part) in cut.iter().enumerate() {
                prop_assert!(part.0.keys().all(|key| part_of(key, parts) == number));
            }
            prop_assert_eq!(Table::join(cut).0, whole.0);
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
