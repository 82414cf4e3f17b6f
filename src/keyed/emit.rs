//! What a mapper says about keys, and the kernels that take it down.

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;

use hashbrown::hash_map::{Entry, EntryRef, OccupiedEntry};
use rustc_hash::FxBuildHasher;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::table::Table;
use super::tables::Tables;
use crate::extent::Extent;
use crate::reduce::round::Round;
use crate::source::Source;
use crate::worker::budget::Budget;
use crate::worker::compute::{At, Kernel, Runs};

/// Takes the pairs that a mapper makes of an item, in [`Over::reduce_by_key`](crate::Over::reduce_by_key).
///
/// # Examples
///
/// ```
/// use rankfold::op;
///
/// # let world = rankfold::init()?;
/// let remainders = world
///     .over(0..10u64)
///     .reduce_by_key(|i, pairs| { pairs.add(i % 3, i); if i == 9 { pairs.add(100, 1) } }, op::sum)
///     .collect()?;
/// assert_eq!(remainders, [(0, 18), (1, 12), (2, 15), (100, 1)]);
/// # Ok::<(), rankfold::Error>(())
/// ```
pub struct Pairs<'t, K, V, C> {
    table: &'t mut Table<K, V>,
    combiner: &'t C,
}

impl<K, V, C> fmt::Debug for Pairs<'_, K, V, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pairs").field("keys", &self.table.pairs.len()).finish_non_exhaustive()
    }
}

impl<K: Eq + Hash, V: Clone, C: Fn(V, V) -> V> Pairs<'_, K, V, C> {
    /// A value for a key. It is combined with the one before, if there is one.
    ///
    /// # Examples
    ///
    /// See [`Pairs`].
    pub fn add(&mut self, key: K, value: V) {
        self.table.came += 1;
        match self.table.pairs.entry(key) {
            Entry::Vacant(entry) => drop(entry.insert(value)),
            Entry::Occupied(entry) => combine(self.combiner, entry, value),
        }
    }

    /// A value for a key that is made only if there is none like it yet: for keys that are parts of an item, such as words.
    ///
    /// # Examples
    ///
    /// ```
    /// use rankfold::{data, op};
    ///
    /// # let world = rankfold::init()?;
    /// let lines = ["to be or", "not to be"];
    /// let words = world
    ///     .over(data::replicated(&lines))
    ///     .reduce_by_key(
    ///         |line, pairs| line.split(' ').for_each(|word| pairs.add_borrowed(word, 1)),
    ///         op::sum::<u64>,
    ///     )
    ///     .collect()?;
    /// assert_eq!(words[0], ("be".to_owned(), 2));
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn add_borrowed<Q>(&mut self, key: &Q, value: V)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
    {
        self.add_or_make(key, value, ToOwned::to_owned);
    }

    /// [`add_borrowed`](Self::add_borrowed) for keys of any type that can be made of what is borrowed; which one has to be said.
    ///
    /// A `String` is an allocation for each key, on every rank that meets it, and one more where it is merged. Where most keys
    /// are short, a type that has them in itself, such as that of the crate `compact_str`, takes less time and memory.
    ///
    /// # Examples
    ///
    /// ```
    /// use rankfold::{data, op};
    ///
    /// # let world = rankfold::init()?;
    /// let lines = ["to be or", "not to be"];
    /// let words: Vec<(Box<str>, u64)> = world
    ///     .over(data::replicated(&lines))
    ///     .reduce_by_key(|line, pairs| line.split(' ').for_each(|word| pairs.add_from(word, 1)), op::sum)
    ///     .collect()?;
    /// assert_eq!(words[0], ("be".into(), 2));
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn add_from<Q>(&mut self, key: &Q, value: V)
    where
        K: Borrow<Q> + for<'q> From<&'q Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.add_or_make(key, value, |key| K::from(key));
    }

    #[inline]
    fn add_or_make<Q>(&mut self, key: &Q, value: V, make: impl FnOnce(&Q) -> K)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.table.came += 1;
        match self.table.pairs.entry_ref(key) {
            EntryRef::Vacant(entry) => drop(entry.insert_with_key(make(key), value)),
            EntryRef::Occupied(entry) => combine(self.combiner, entry, value),
        }
    }
}

/// A value more for a key. One that owns nothing, such as a number, is as well copied as taken out and put back.
#[inline]
fn combine<K, V: Clone>(combiner: &impl Fn(V, V) -> V, mut entry: OccupiedEntry<'_, K, V, FxBuildHasher>, value: V) {
    if const { std::mem::needs_drop::<V>() } {
        entry.replace_entry_with(|_, before| Some(combiner(before, value)));
    } else {
        let before = entry.get_mut();
        *before = combiner(before.clone(), value);
    }
}

/// Picks so many pairs of all.
type Select<K, V> = fn(Vec<(K, V)>, usize) -> Vec<(K, V)>;

/// Pairs by key: one table for each leaf, values combined in the order of the tree; or, in any order, one for a whole batch.
pub(crate) struct Keyed<M, C, K, V, const ANY_ORDER: bool> {
    pub mapper: M,
    pub combiner: C,
    /// What is wanted of a table that is complete, and how many pairs of it.
    pub select: Option<(Select<K, V>, usize)>,
    /// Where there is a bound on memory.
    pub budget: Option<Arc<Budget>>,
    pub pairs: PhantomData<fn() -> (K, V)>,
}

impl<M, C, K, V> Keyed<M, C, K, V, false> {
    pub fn in_any_order(self) -> Keyed<M, C, K, V, true> {
        let Self { mapper, combiner, select, budget, pairs } = self;
        Keyed { mapper, combiner, select, budget, pairs }
    }
}

impl<S, M, C, K, V, const ANY_ORDER: bool> Kernel<S> for Keyed<M, C, K, V, ANY_ORDER>
where
    S: Source,
    K: Eq + Hash + Serialize + DeserializeOwned + Send,
    V: Serialize + DeserializeOwned + Send,
    M: Fn(S::Item, &mut Pairs<'_, K, V, C>) + Sync,
    C: Fn(V, V) -> V + Sync,
{
    type Partial = Tables<K, V>;
    const RUNS: Runs = if ANY_ORDER { Runs::Pieces } else { Runs::Leaf };

    fn fold(&self, items: S::Batch, at: &At<'_>) -> Option<Tables<K, V>> {
        Kernel::<S>::fold_some(self, items.into_iter(), at)
    }

    fn fold_some(&self, items: impl Iterator<Item = S::Item>, at: &At<'_>) -> Option<Tables<K, V>> {
        Some(self.take_down(Tables::default(), items, at))
    }

    fn fold_on(&self, before: Tables<K, V>, items: S::Batch, at: &At<'_>) -> Option<Tables<K, V>> {
        Some(self.take_down(before, items.into_iter(), at))
    }

    fn combine(&self, left: Tables<K, V>, right: Tables<K, V>) -> Tables<K, V> {
        left.merge(right, &self.combiner, self.budget.as_ref())
    }

    fn put_away(&self, partial: Tables<K, V>) -> Tables<K, V> {
        match &self.budget {
            Some(budget) => partial.put_away(budget),
            None => partial,
        }
    }

    fn rounds(&self, partials: &[(Extent, Option<Tables<K, V>>)]) -> Option<u64> {
        let budget = self.budget.as_ref()?;
        budget.close();
        Some(budget.rounds(partials.iter().filter_map(|(_, tables)| tables.as_ref()).map(Tables::bytes).sum()))
    }

    fn split(&self, mut partial: Tables<K, V>, round: Round) -> Result<(Tables<K, V>, Option<Tables<K, V>>), String> {
        let now = partial.take(round, &self.combiner)?;
        Ok((Tables::Here(now), Some(partial)))
    }

    fn finish(&self, part: Tables<K, V>) -> Tables<K, V> {
        match self.select {
            Some((select, count)) => Tables::List(select(part.into_pairs(), count)),
            // What stays of a table has room for all that went, and there may be many rounds.
            None => Tables::List(part.into_pairs()),
        }
    }
}

impl<M, C, K: Eq + Hash + Serialize, V: Serialize, const ANY_ORDER: bool> Keyed<M, C, K, V, ANY_ORDER> {
    fn take_down<I>(&self, mut tables: Tables<K, V>, items: impl Iterator<Item = I>, at: &At<'_>) -> Tables<K, V>
    where
        M: Fn(I, &mut Pairs<'_, K, V, C>),
    {
        for item in items {
            (self.mapper)(item, &mut Pairs { table: tables.last(), combiner: &self.combiner });
            if !at.goes_on() {
                break;
            }
            // In the order of the tree, a leaf has one table, however large it is.
            if let Some(budget) = self.budget.as_ref().filter(|_| ANY_ORDER) {
                tables.relieve_last(budget);
            }
        }
        tables
    }
}
