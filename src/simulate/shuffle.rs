//! The shuffle after a simulated run: every leaf has values of some keys, and what the ranks have computed of them is cut,
//! sent, and merged by those that are left, in as many rounds as a seed says.
//!
//! Tables (in memory), parts, rounds and segments are those of production; what takes the place of MPI delivers in any order. The
//! judge makes each key's value from the definition of the tree, and shares no code with what it judges.

use std::collections::BTreeMap;

use rand::RngExt;

use super::value::Value;
use crate::extent::Extent;
use crate::keyed::table::Pairs;
use crate::keyed::tables::Tables;
use crate::random::{ItemRng, rng};
use crate::reduce::round::Round;
use crate::reduce::shuffle::{self, Bundle};

type Key = u32;

/// How keys are spread over the leaves of an input.
#[derive(Debug, Clone, Copy)]
enum Keys {
    /// So many, each as often as any other.
    Even(Key),
    /// Half of all values have the same key.
    Skewed,
    /// No key is in two leaves.
    Distinct,
}

/// Values by key, as they come out of the leaves of an input.
pub(super) struct Shuffle {
    seed: u64,
    leaves: u64,
    keys: Keys,
    rounds: u64,
}

impl Shuffle {
    pub fn draw(seed: u64, leaves: u64) -> Self {
        let dice = &mut rng(seed, 1);
        let keys = match dice.random_range(0..3) {
            0 => Keys::Even(dice.random_range(1..40)),
            1 => Keys::Skewed,
            _ => Keys::Distinct,
        };
        Self { seed, leaves, keys, rounds: dice.random_range(1..6) }
    }

    /// Shuffles what each rank has computed, and looks at what comes out.
    pub fn judge(&self, ranks: &[Vec<Extent>]) -> Result<(), String> {
        let parts = self.shuffled(ranks)?;
        let expected = self.expected(Extent::root(self.leaves));
        let mut found = BTreeMap::new();
        for (owner, pairs) in parts.into_iter().enumerate() {
            for (key, value) in pairs {
                if let Some((other, _)) = found.insert(key, (owner, value)) {
                    return Err(format!("key {key} is in the parts of ranks {other} and {owner}"));
                }
            }
        }
        if let Some(key) = expected.keys().find(|key| !found.contains_key(key)) {
            return Err(format!("key {key} is in no part"));
        }
        let differs = |(key, (_, value)): &(&Key, &(usize, Value))| expected.get(key) != Some(value);
        found.iter().find(differs).map_or(Ok(()), |(key, _)| Err(format!("the value of key {key} is wrong")))
    }

    /// The pairs that each rank has at the end.
    fn shuffled(&self, ranks: &[Vec<Extent>]) -> Result<Vec<Pairs<Key, Value>>, String> {
        let dice = &mut rng(self.seed, 2);
        let combine = &Value::combined;
        let mut tables = |extent: &Extent| (*extent, self.tables(*extent, dice));
        let mut left: Vec<Vec<(Extent, Tables<Key, Value>)>> =
            ranks.iter().map(|extents| extents.iter().map(&mut tables).collect()).collect();
        let mut parts: Vec<Pairs<Key, Value>> = ranks.iter().map(|_| Pairs::default()).collect();
        for number in 0..self.rounds {
            let round = Round { number, of: self.rounds };
            let mut arrived: Vec<Vec<Bundle<Tables<Key, Value>>>> = ranks.iter().map(|_| Vec::new()).collect();
            for (here, mine) in left.iter_mut().enumerate() {
                let now = |(extent, tables): &mut (Extent, Tables<Key, Value>)| {
                    Ok((*extent, Some(Tables::Here(tables.take(round, combine)?))))
                };
                let now = mine.iter_mut().map(now).collect::<Result<_, String>>()?;
                for (arrived, bundle) in arrived.iter_mut().zip(shuffle::cut(now, ranks.len(), here)) {
                    let at = dice.random_range(0..=arrived.len());
                    arrived.insert(at, bundle);
                }
            }
            for (part, bundles) in parts.iter_mut().zip(arrived) {
                part.extend(self.merged(bundles)?);
            }
        }
        Ok(parts)
    }

    fn merged(&self, bundles: Vec<Bundle<Tables<Key, Value>>>) -> Result<Vec<(Key, Value)>, String> {
        let combine = |_, left: Option<Tables<Key, Value>>, right| {
            Ok(match (left, right) {
                (Some(left), Some(right)) => Some(left.merge(right, &Value::combined, None)),
                (left, right) => left.or(right),
            })
        };
        let part = shuffle::merge(self.leaves, bundles.into_iter().map(Ok::<_, String>), combine)?;
        let part = part.map_err(|gap| format!("leaves {} to {} have not arrived", gap.start, gap.end))?;
        Ok(part.unwrap_or_default().into_pairs())
    }

    /// What a rank has of an extent; some of it not merged yet, as where memory is short.
    fn tables(&self, extent: Extent, dice: &mut ItemRng) -> Tables<Key, Value> {
        if extent.len == 1 {
            return Tables::Here(self.pairs(extent.start).collect::<Pairs<_, _>>().into());
        }
        let [left, right] = extent.halves();
        let tables = self.tables(left, dice);
        if right.start >= self.leaves {
            return tables;
        }
        let right = self.tables(right, dice);
        if dice.random_bool(0.1) {
            return Tables::Both(Box::new((tables, right)));
        }
        tables.merge(right, &Value::combined, None)
    }

    /// The same as it is defined: what both halves have of a key is combined, the first half's first.
    fn expected(&self, extent: Extent) -> BTreeMap<Key, Value> {
        if extent.start >= self.leaves {
            return BTreeMap::new();
        }
        if extent.len == 1 {
            return self.pairs(extent.start).collect();
        }
        let [mut all, right] = extent.halves().map(|half| self.expected(half));
        for (key, theirs) in right {
            let value = all.remove(&key).map_or(theirs, |mine| mine.combined(theirs));
            all.insert(key, value);
        }
        all
    }

    /// The values of a leaf, which may have none.
    fn pairs(&self, leaf: u64) -> impl Iterator<Item = (Key, Value)> {
        let mut dice: ItemRng = rng(self.seed, 3 + leaf);
        let count = dice.random_range(0..3u32);
        (0..count).map(move |nth| {
            let key = match self.keys {
                Keys::Even(keys) => dice.random_range(0..keys),
                Keys::Skewed if dice.random_bool(0.5) => 0,
                Keys::Skewed => dice.random_range(1..1000),
                Keys::Distinct => 3 * leaf as Key + nth,
            };
            (key, Value::leaf(leaf << 32 | u64::from(key)))
        })
    }
}
