//! Keys with their values, as the partial of a call: one table; or, where memory is short, several, in memory and on the
//! disk, which are merged a part at a time when they travel.
//!
//! Tables that are not merged yet keep their places in the tree over the leaves, so the values of a key are combined in the
//! same order as if there had been memory for all.

use std::hash::Hash;
use std::iter::Peekable;
use std::sync::Arc;
use std::vec::IntoIter;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};

use super::table::{Pairs, Table, place_of};
use crate::reduce::round::Round;
use crate::reduce::shuffle::Cut;
use crate::worker::budget::{Budget, Counted};
use crate::worker::run::Run;

/// A pair, and the place of its key in the order of hashes.
type Placed<K, V> = (u64, (K, V));

/// All pairs of an extent.
#[derive(Debug, Deserialize)]
#[serde(from = "Written<K, V>", bound = "K: DeserializeOwned + Eq + Hash, V: DeserializeOwned")]
pub(crate) enum Tables<K, V> {
    Here(Table<K, V>),
    /// Each key once, in no order: on their way, or arrived.
    List(Vec<(K, V)>),
    /// In the order of hashes.
    OnDisk(Run<(K, V)>),
    /// Of the first and the second half of an extent, not merged yet.
    Both(Box<(Self, Self)>),
    /// Of pieces that follow each other, not merged yet, where it does not matter how values are combined.
    Row(Vec<Self>),
    /// In memory, on their way: those that have not gone yet, in the order of hashes.
    Going(Peekable<IntoIter<Placed<K, V>>>, Counted),
}

impl<K, V> Default for Tables<K, V> {
    fn default() -> Self {
        Self::Here(Table::default())
    }
}

impl<K, V> Tables<K, V> {
    /// The pairs of a result, which are in memory.
    pub fn into_pairs(self) -> Vec<(K, V)> {
        match self {
            Self::Here(table) => table.pairs.into_iter().collect(),
            Self::List(pairs) => pairs,
            _ => unreachable!("what has travelled is in memory"),
        }
    }

    /// A table to which pairs can be added that come after all others.
    pub fn last(&mut self) -> &mut Table<K, V> {
        match self {
            Self::Here(_) => {}
            Self::Row(row) if matches!(row.last(), Some(Self::Here(_))) => {}
            Self::Row(row) => row.push(Self::default()),
            _ => *self = Self::Row(vec![std::mem::take(self), Self::default()]),
        }
        match self {
            Self::Here(table) => table,
            Self::Row(row) => match row.last_mut() {
                Some(Self::Here(table)) => table,
                _ => unreachable!("it was just put there"),
            },
            _ => unreachable!("there is a table at the end now"),
        }
    }

    /// Bytes, about: of what is on the disk exactly.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Here(table) => table.counted.bytes(),
            Self::List(pairs) => (pairs.len() * size_of::<(K, V)>()) as u64,
            Self::OnDisk(run) => run.bytes(),
            Self::Both(both) => both.0.bytes() + both.1.bytes(),
            Self::Row(row) => row.iter().map(Self::bytes).sum(),
            Self::Going(_, counted) => counted.bytes(),
        }
    }
}

impl<K: Eq + Hash + Serialize, V: Serialize> Tables<K, V> {
    /// Both, this one's values first.
    pub fn merge(self, right: Self, combine: &impl Fn(V, V) -> V, budget: Option<&Arc<Budget>>) -> Self {
        match (self, right) {
            (Self::Here(left), Self::Here(right)) => Self::Here(left.merge(right, combine)).relieved(budget),
            (Self::Here(left), Self::List(right)) => Self::Here(left.take_in(right, combine)).relieved(budget),
            (Self::List(left), Self::Here(right)) => {
                Self::Here(right.take_in(left, |mine, theirs| combine(theirs, mine))).relieved(budget)
            }
            (Self::List(left), Self::List(right)) => {
                Self::Here(Table::of(left).take_in(right, combine)).relieved(budget)
            }
            (left, right) => Self::Both(Box::new((left, right))),
        }
    }

    /// On the disk, where memory is short and there is much of it.
    pub fn relieved(self, budget: Option<&Arc<Budget>>) -> Self {
        match budget {
            Some(budget) => self.relieved_of(budget.worth_a_run(), budget),
            None => self,
        }
    }

    /// No more pairs come for now: what is in memory goes to the disk, where memory is short, but for the smallest tables.
    pub fn put_away(self, budget: &Arc<Budget>) -> Self {
        match self {
            Self::Here(_) => self.relieved_of(budget.worth_putting_away(), budget),
            Self::List(pairs) => Self::Here(Table::of(pairs)).put_away(budget),
            Self::Both(both) => Self::Both(Box::new((both.0.put_away(budget), both.1.put_away(budget)))),
            Self::Row(row) => Self::Row(row.into_iter().map(|tables| tables.put_away(budget)).collect()),
            other => other,
        }
    }

    /// The last table goes to the disk, where memory is short and it has grown; for whom it does not matter where that is.
    pub fn relieve_last(&mut self, budget: &Arc<Budget>) {
        let last = match self {
            Self::Row(row) => row.last_mut(),
            other => Some(other),
        };
        if let Some(last @ Self::Here(_)) = last {
            let is_due = matches!(last, Self::Here(table) if table.is_due());
            if is_due {
                *last = std::mem::take(last).relieved(Some(budget));
            }
        }
    }

    fn relieved_of(self, least: u64, budget: &Arc<Budget>) -> Self {
        let Self::Here(mut table) = self else { return self };
        if table.measure(budget) < least || !budget.is_short() {
            return Self::Here(table);
        }
        let Table { pairs, counted, .. } = table;
        let sorted = sorted(pairs);
        match Run::write(&sorted, |(_, pair)| pair, budget) {
            Ok(run) => Self::OnDisk(run),
            Err(problem) => {
                budget.is_exceeded(&problem);
                let mut table: Table<K, V> = sorted.into_iter().map(|(_, pair)| pair).collect::<Pairs<K, V>>().into();
                table.counted = counted;
                Self::Here(table)
            }
        }
    }
}

impl<K: Eq + Hash + DeserializeOwned, V: DeserializeOwned> Tables<K, V> {
    /// Takes out what travels in a round, as one table. Rounds come in their order.
    ///
    /// # Errors
    ///
    /// The disk does not give back what was written.
    pub fn take(&mut self, round: Round, combine: &impl Fn(V, V) -> V) -> Result<Table<K, V>, String> {
        if let Self::Here(table) = self {
            let table = std::mem::take(table);
            if round.of == 1 {
                return Ok(table);
            }
            *self = Self::Going(sorted(table.pairs).into_iter().peekable(), table.counted);
        }
        if let Self::List(pairs) = self {
            if round.of == 1 {
                return Ok(Table::of(std::mem::take(pairs)));
            }
            *self = Self::Going(sorted(std::mem::take(pairs)).into_iter().peekable(), Counted::default());
        }
        let mut taken = Table::default();
        // As many as in any other round, about.
        let share = |left: usize| left / (round.of - round.number) as usize;
        match self {
            Self::Here(_) | Self::List(_) => unreachable!("it is on its way"),
            Self::OnDisk(run) => {
                taken.pairs.reserve(share(run.len()));
                while let Some((key, value)) = run.next_if(|(key, _)| round.is_over(place_of(key)))? {
                    taken.pairs.insert(key, value);
                }
            }
            Self::Both(both) => {
                let (left, right) = (both.0.take(round, combine)?, both.1.take(round, combine)?);
                taken = left.merge(right, combine);
            }
            Self::Row(row) => {
                for tables in row {
                    taken = taken.merge(tables.take(round, combine)?, combine);
                }
            }
            Self::Going(pairs, _) => {
                taken.pairs.reserve(share(pairs.len()));
                while let Some((_, (key, value))) = pairs.next_if(|(place, _)| round.is_over(*place)) {
                    taken.pairs.insert(key, value);
                }
            }
        }
        Ok(taken)
    }
}

fn sorted<K: Hash, V>(pairs: impl IntoIterator<Item = (K, V)>) -> Vec<Placed<K, V>> {
    let mut sorted: Vec<_> = pairs.into_iter().map(|pair| (place_of(&pair.0), pair)).collect();
    sorted.sort_unstable_by_key(|(place, _)| *place);
    sorted
}

impl<K: Eq + Hash, V> Cut for Tables<K, V> {
    fn cut(self, parts: usize, here: usize) -> Vec<Self> {
        let mut table = match self {
            Self::Here(table) => table,
            other => Table::of(other.into_pairs()),
        };
        let mut cut: Vec<Self> = table.cut(parts, here).into_iter().map(Self::List).collect();
        cut[here] = Self::Here(table);
        cut
    }

    fn join(parts: Vec<Self>) -> Self {
        let mut parts = parts.into_iter().map(Self::into_pairs);
        let mut whole = parts.next().unwrap_or_default();
        parts.for_each(|part| whole.extend(part));
        Self::List(whole)
    }
}

/// How tables are written: what is in memory or on the disk, pair by pair.
#[derive(Deserialize)]
#[serde(bound = "K: DeserializeOwned + Eq + Hash, V: DeserializeOwned")]
enum Written<K, V> {
    Here(Vec<(K, V)>),
    Both(Box<(Tables<K, V>, Tables<K, V>)>),
    Row(Vec<Tables<K, V>>),
}

impl<K, V> From<Written<K, V>> for Tables<K, V> {
    fn from(written: Written<K, V>) -> Self {
        match written {
            Written::Here(pairs) => Self::List(pairs),
            Written::Both(both) => Self::Both(both),
            Written::Row(row) => Self::Row(row),
        }
    }
}

impl<K, V> Serialize for Tables<K, V>
where
    K: Serialize + DeserializeOwned + Eq + Hash,
    V: Serialize + DeserializeOwned,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Here(table) => serializer.serialize_newtype_variant("Tables", 0, "Here", &table.pairs),
            Self::List(pairs) => serializer.serialize_newtype_variant("Tables", 0, "Here", pairs),
            Self::OnDisk(run) => serializer.serialize_newtype_variant("Tables", 0, "Here", run),
            Self::Both(both) => serializer.serialize_newtype_variant("Tables", 1, "Both", both),
            Self::Row(row) => serializer.serialize_newtype_variant("Tables", 2, "Row", row),
            Self::Going(..) => Err(serde::ser::Error::custom("some of the pairs have gone already")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::Place;
    use crate::wire;

    type Texts = Tables<u16, String>;

    fn budget(bound: u64) -> Arc<Budget> {
        Budget::new(bound, 1, &Place { rank: 0, host: "here".into() })
    }

    #[expect(clippy::needless_pass_by_value, reason = "the shape of a combiner")]
    fn combine(left: String, right: String) -> String {
        ["(", &left, &right, ")"].concat()
    }

    /// The pairs of some leaves, merged as the tree says.
    fn tree(leaves: &[Vec<(u16, String)>], budget: Option<&Arc<Budget>>) -> Texts {
        if let [leaf] = leaves {
            let mut tables = Texts::default();
            let table = tables.last();
            for (key, value) in leaf {
                let before = table.pairs.remove(key);
                table.pairs.insert(*key, before.map_or(value.clone(), |before| combine(before, value.clone())));
            }
            return match budget {
                Some(budget) => tables.put_away(budget),
                None => tables,
            };
        }
        let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
        tree(left, budget).merge(tree(right, budget), &combine, budget)
    }

    fn all(mut tables: Texts, rounds: u64) -> Vec<(u16, String)> {
        let round = |number| tables.take(Round { number, of: rounds }, &combine).unwrap();
        let mut pairs: Vec<_> = (0..rounds).map(round).flat_map(|table| table.pairs).collect();
        pairs.sort_unstable();
        pairs
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Text with brackets shows the tree.
        #[test]
        fn values_are_combined_in_the_same_tree_wherever_tables_are(
            leaves in prop::collection::vec(prop::collection::vec((0u16..400, "[a-z]{1,3}"), 0..80), 1..40),
            bound in 1u64..200_000, rounds in 1u64..9,
        ) {
            let expected = all(tree(&leaves, None), 1);
            prop_assert_eq!(all(tree(&leaves, Some(&budget(bound))), rounds), expected.clone());
            let written = wire::encode(&tree(&leaves, Some(&budget(bound)))).unwrap();
            prop_assert_eq!(all(wire::decode(&written).unwrap(), rounds), expected);
        }
    }

    #[test]
    fn large_tables_go_to_the_disk_while_memory_is_short_and_only_then() {
        let of = |keys: std::ops::Range<u16>| vec![keys.map(|key| (key, "x".to_owned())).collect()];
        let budget = budget(100_000);
        let first = tree(&of(0..200), Some(&budget));
        assert!(matches!(first, Tables::Here(_)) && !budget.is_short());
        let second = tree(&of(0..2000), Some(&budget));
        assert!(matches!(second, Tables::OnDisk(_)) && !budget.is_short(), "{}", second.bytes());
        let mut both = first.merge(second, &combine, Some(&budget));
        assert!(matches!(&both, Tables::Both(both) if matches!(both.0, Tables::Here(_))));
        both.last().pairs.insert(7, "z".to_owned());
        let pairs = all(both, 5);
        assert_eq!((pairs.len(), &*pairs[7].1, &*pairs[300].1), (2000, "((xx)z)", "x"));
    }

    #[test]
    fn a_table_that_grows_is_written_again_and_again() {
        let (budget, mut tables) = (budget(50_000), Texts::default());
        for key in 0..20_000u16 {
            let table = tables.last();
            table.pairs.insert(key, key.to_string());
            table.came += 1;
            tables.relieve_last(&budget);
        }
        let Tables::Row(row) = &tables else { panic!("a row") };
        let on_disk = row.iter().filter(|tables| matches!(tables, Tables::OnDisk(_))).count();
        assert!(on_disk > 10 && row.len() <= on_disk + 1, "{on_disk} of {}", row.len());
        let written = wire::encode(&tables).unwrap();
        assert_eq!(all(wire::decode(&written).unwrap(), 1).len(), 20_000);
        assert!((0..).zip(all(tables, 3)).all(|(number, (key, value))| key == number && value == key.to_string()));
    }

    /// A batch ends with what was too little to be written while more was expected, and a journal gives back all at once.
    #[test]
    fn what_is_in_memory_is_put_away_wherever_it_is() {
        let (budget, mut held) = (budget(4 << 20), Counted::default());
        held.set(&budget, 2 << 20);
        let of = |keys: std::ops::Range<u16>| {
            let pairs: Pairs<u16, String> = keys.map(|key| (key, "value".to_owned())).collect();
            Texts::Here(pairs.into())
        };
        let row = Texts::Row(vec![of(0..2000), of(2000..4000)]);
        let tables = Texts::Both(Box::new((row, of(4000..6000)))).put_away(&budget);
        let Tables::Both(both) = &tables else { panic!("two halves") };
        assert!(matches!(&both.0, Tables::Row(row) if row.iter().all(|tables| matches!(tables, Tables::OnDisk(_)))));
        assert!(matches!(both.1, Tables::OnDisk(_)));
        assert!(matches!(of(0..20).put_away(&budget), Tables::Here(_)));
        assert_eq!(all(tables, 2).len(), 6000);
    }
}
