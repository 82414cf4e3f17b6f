//! The calls of [`Over`] whose values are combined by key.

use std::borrow::Cow;
use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{NoIdentity, Over};
use crate::array::op::BuiltIn;
use crate::error::Result;
use crate::keyed::emit::{Keyed, Pairs};
use crate::keyed::tables::Tables;
use crate::reduce::collective::Value;
use crate::reduce::parts::{reduce_to_all, reduce_to_parts};
use crate::shards::sharded::Sharded;
use crate::source::{Source, Whole};

/// A reduction by key that is being described; its last method makes the call. From [`Over::reduce_by_key`].
///
/// # Examples
///
/// ```
/// use rankfold::{data, op};
///
/// # fn main() -> rankfold::Result<()> {
/// let world = rankfold::init()?;
/// let lines = ["to be or", "not to be"];
/// let words = world.over(data::replicated(&lines)).reduce_by_key(
///     |line, pairs| line.split(' ').for_each(|word| pairs.add_borrowed(word, 1u64)),
///     op::sum,
/// );
/// let words: Vec<(String, u64)> = words.collect()?;
/// assert_eq!(words[1], ("not".to_owned(), 1));
/// # Ok(())
/// # }
/// ```
#[must_use = "a call is made by its last method, such as collect"]
pub struct ByKey<'w, S, K, V, M, C> {
    over: Over<'w, S>,
    kernel: Keyed<M, C, K, V, false>,
    any_order: bool,
}

impl<S: fmt::Debug, K, V, M, C> fmt::Debug for ByKey<'_, S, K, V, M, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByKey").field("over", &self.over).finish_non_exhaustive()
    }
}

impl<'w, S: Source> Over<'w, S, NoIdentity> {
    /// Makes pairs of a key and a value of every item, and combines the values of equal keys.
    ///
    /// The mapper is given an item and [`Pairs`], to which it adds as many as it likes. Values of one key are combined in the
    /// order of the items, in the tree of [`map_reduce`](Self::map_reduce), so the result has the same bits on any number of
    /// ranks. Where the combiner is one of [`op`](crate::op) on integers, whose order cannot be seen, or where
    /// [`ByKey::in_any_order`] says so, there is one table for a whole batch, which is faster.
    ///
    /// Pairs are combined where they arise; tables of what is left go to the ranks that the keys' hashes name
    /// (`MPI_Ialltoallv`), each key at most once from each segment, so a key that half of all pairs have costs no more than
    /// any other. The hash has no seed: which rank merges a key is the same in every run. With a [`journal`](Self::journal), what
    /// is done is written as for any other call.
    ///
    /// **Memory.** Each thread has a table of the batch that it works on, and each rank one of each of its segments: all keys
    /// that it has met, and while they travel up to three times. Where that is too much, set `RANKFOLD_MEMORY` to what a rank
    /// may use, such as `512MiB`: larger tables are then written to the rank's own disk (`RANKFOLD_SCRATCH`), sorted by hash, and
    /// travel in as many rounds as it takes; the result has the same bits. What is not bounded is one leaf's table (if order
    /// matters), the pairs of one item or of one piece of a batch, all that one key has,
    /// the result that is asked for, and a [`journal`](Self::journal), which has all of a rank's pairs in memory twice while it
    /// writes them.
    ///
    /// **Messages.** Two collectives for each round, one round unless tables were written to the disk; two more if
    /// `RANKFOLD_MEMORY` is set; and four for the result.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::init()?;
    /// let means = world
    ///     .over(0..1000u64)
    ///     .reduce_by_key(
    ///         |i, pairs| pairs.add(i % 7, (i as f64, 1u32)),
    ///         |(a, m), (b, n)| (a + b, m + n),
    ///     )
    ///     .collect()?;
    /// assert_eq!(means.len(), 7);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn reduce_by_key<K, V, M, C>(self, mapper: M, combiner: C) -> ByKey<'w, S, K, V, M, C>
    where
        K: Eq + Hash + Ord + Serialize + DeserializeOwned + Send,
        V: Serialize + DeserializeOwned + Clone + Send + 'static,
        M: Fn(S::Item, &mut Pairs<'_, K, V, C>) + Sync,
        C: Fn(V, V) -> V + Sync + 'static,
    {
        let any_order = BuiltIn::of::<V, C>().is_some_and(BuiltIn::is_exact);
        let budget = self.world.budget();
        let kernel = Keyed { mapper, combiner, select: None, budget, pairs: PhantomData };
        ByKey { over: self, kernel, any_order }
    }

    /// [`reduce_by_key`](Self::reduce_by_key) with a mapper that is given many items at once, as in
    /// [`fold_batches`](Self::fold_batches): of text, at most 1 MiB and the end of the last line. There is one table for a whole
    /// batch. **Where one piece ends and the next begins is the schedule's choice**, so the result has the same bits only if it
    /// does not depend on that, nor on the order in which values are combined.
    ///
    /// # Examples
    ///
    /// ```
    /// use rankfold::{data, op};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let path = std::env::temp_dir().join(format!("rankfold-doc-by-key-{}.txt", std::process::id()));
    /// # std::fs::write(&path, "to be or\nnot to be\n")?;
    /// # let world = rankfold::init()?;
    /// let words = world.over(data::lines([&path])).reduce_batches_by_key(
    ///     |text, pairs| text.lines().flat_map(str::split_whitespace).for_each(|word| pairs.add_borrowed(word, 1u64)),
    ///     op::sum,
    /// );
    /// let words: Vec<(String, u64)> = words.top(2)?;
    /// assert_eq!(words, [("be".to_owned(), 2), ("to".to_owned(), 2)]);
    /// # std::fs::remove_file(&path)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn reduce_batches_by_key<K, V, M, C>(self, mapper: M, combiner: C) -> ByKey<'w, Whole<S>, K, V, M, C>
    where
        K: Eq + Hash + Ord + Serialize + DeserializeOwned + Send,
        V: Serialize + DeserializeOwned + Clone + Send + 'static,
        M: Fn(S::Batch, &mut Pairs<'_, K, V, C>) + Sync,
        C: Fn(V, V) -> V + Sync + 'static,
    {
        let Self { world, source, spec, identity } = self;
        let over = Over { world, source: Whole(source), spec, identity };
        over.reduce_by_key(mapper, combiner).in_any_order()
    }
}

impl<'w, S, K, V, M, C> ByKey<'w, S, K, V, M, C>
where
    S: Source,
    K: Eq + Hash + Ord + Serialize + DeserializeOwned + Send,
    V: Serialize + DeserializeOwned + Clone + Send,
    M: Fn(S::Item, &mut Pairs<'_, K, V, C>) + Sync,
    C: Fn(V, V) -> V + Sync,
{
    /// Says that the order in which values of a key are combined does not matter: there is then one table for a whole batch
    /// of any length. The last bits of floating-point values may differ from run to run.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::init()?;
    /// let longest = world
    ///     .over(0..100u64)
    ///     .reduce_by_key(|i, pairs| pairs.add(i % 2, i.to_string()), |a, b| a.max(b))
    ///     .in_any_order()
    ///     .collect()?;
    /// assert_eq!(longest, [(0, "98".to_owned()), (1, "99".to_owned())]);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn in_any_order(mut self) -> Self {
        self.any_order = true;
        self
    }

    /// All keys with their values, in the order of keys, on every rank. Collective: every rank must make the same call.
    ///
    /// # Errors
    ///
    /// As for [`Over::map_reduce`], but empty input gives an empty list.
    ///
    /// # Examples
    ///
    /// See [`ByKey`].
    pub fn collect(self) -> Result<Vec<(K, V)>> {
        let mut pairs = self.pairs("reduce_by_key".into())?;
        pairs.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Ok(pairs)
    }

    /// The `count` keys whose values rank highest, the highest first, on every rank; of equal values, the lower key first.
    /// Collective: every rank must make the same call.
    ///
    /// Each rank picks from the keys that it merges, so little more than the result travels in the end.
    ///
    /// # Errors
    ///
    /// As for [`Over::map_reduce`], but empty input gives an empty list.
    ///
    /// # Examples
    ///
    /// ```
    /// use rankfold::op;
    ///
    /// # let world = rankfold::init()?;
    /// let pairs = world.over(1..=100u64).reduce_by_key(|i, pairs| pairs.add(i % 10, i), op::sum);
    /// assert_eq!(pairs.top(2)?, [(0, 550), (9, 540)]);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn top(mut self, count: usize) -> Result<Vec<(K, V)>>
    where
        V: Ord,
    {
        self.kernel.select = Some((highest, count));
        Ok(highest(self.pairs(format!("reduce_by_key, the top {count}").into())?, count))
    }

    /// Leaves the pairs on the ranks that have merged them, sorted by key on each; which rank has a key follows from its hash.
    /// Collective: every rank must make the same call.
    ///
    /// # Errors
    ///
    /// As for [`collect`](Self::collect); a world of several ranks that share one `main`.
    ///
    /// # Examples
    ///
    /// ```
    /// use rankfold::op;
    ///
    /// let frequent = rankfold::threads(3, |world| {
    ///     let counts = world.over(0..1000u64).reduce_by_key(|i, pairs| pairs.add(i * i % 100, 1u64), op::sum).shards()?;
    ///     counts.filter(|(_, count)| *count > 50)?.sort_by_key(|(square, _)| *square)?.gather()
    /// });
    /// assert_eq!(frequent.into_iter().next().unwrap()?.unwrap(), [(0, 100), (25, 100)]);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn shards(self) -> Result<Sharded<'w, (K, V)>>
    where
        K: Sync,
        V: Sync,
    {
        let Self { over: Over { world, source, mut spec, .. }, kernel, any_order } = self;
        world.refuse_one_main("reduce_by_key shards")?;
        spec.operation = "reduce_by_key shards".into();
        spec.stays = true;
        let value = if any_order {
            world.call(&spec, &source, &kernel.in_any_order(), reduce_to_parts)?
        } else {
            world.call(&spec, &source, &kernel, reduce_to_parts)?
        };
        let mut pairs: Vec<(K, V)> = match value {
            Value::Here(tables) | Value::Part(tables) => tables.into_pairs(),
            Value::OnRoot | Value::Empty => Vec::new(),
        };
        pairs.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        world.shards(pairs)
    }

    fn pairs(self, operation: Cow<'static, str>) -> Result<Vec<(K, V)>> {
        let Self { over, kernel, any_order } = self;
        let finish = Tables::into_pairs;
        if any_order {
            over.make_in_parts(operation, &kernel.in_any_order(), reduce_to_all, finish, |_| Some(Vec::new()))
        } else {
            over.make_in_parts(operation, &kernel, reduce_to_all, finish, |_| Some(Vec::new()))
        }
    }
}

/// The pairs with the highest values, in their order.
fn highest<K: Ord, V: Ord>(mut pairs: Vec<(K, V)>, count: usize) -> Vec<(K, V)> {
    let order = |(key, value): &(K, V), (other_key, other): &(K, V)| other.cmp(value).then_with(|| key.cmp(other_key));
    if count < pairs.len() {
        pairs.select_nth_unstable_by(count, order);
        pairs.truncate(count);
    }
    pairs.sort_unstable_by(order);
    pairs
}
