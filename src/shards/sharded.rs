//! The collection: what each rank has of it, and steps on that.

use std::fmt;
use std::hash::Hash;

use rayon::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::balance::{all_on_root, evenly};
use super::moves::{Part, leaf_of, move_to, settle, swap};
use super::sort;
use super::source::{Lent, Shards};
use super::steps::in_turns;
use crate::error::{Error, Place, Result, Role};
use crate::keyed::table::part_of;
use crate::meeting::meet;
use crate::rank::Rank;
use crate::reduce::telling::{all_or_none, if_all};
use crate::wire::Signature;
use crate::worker::caught::{Caught, catch};
use crate::world::World;

/// Items that are spread over the ranks and stay there from step to step: each rank has some of them, one rank's after the
/// other's. Made by [`World::shards`], [`World::shards_from_root`], [`Over::shards`](crate::Over::shards) or a previous step.
///
/// All steps are collective: every rank must call them, and gets the same error if one fails. The order of items is the same
/// on any number of ranks, whoever has them. `world.over(shards.items())` makes calls of them whose results have the same bits on
/// any number of ranks.
///
/// **Items move** to ranks that have time. While a step on each item ([`map`](Self::map), [`filter`](Self::filter),
/// [`for_each`](Self::for_each)) runs, or a call of [`items`](Self::items), a rank that is through with its own for 10 ms, and for
/// a twentieth of the time that they took, gets some of those that the others have not begun. All ranks come together for
/// that, at most 16 times: the longest item under way is waited for, or the longest batch, for functions that take batches (a
/// rank's items are in 8 of them for each thread). How long items take to travel is not thought of: where they are megabytes, and
/// take less to compute than to send, spread them evenly first ([`rebalance`](Self::rebalance)). What was made in a step in which items have moved is then divided so that
/// the next one will take all ranks the same time. If none have, that is done where a step has taken some ranks longer than
/// others (the busiest more than 1.1 times the mean, and more than 10 ms). With more than 2^20 items, ranks have whole leaves
/// ([`Over::leaf`](crate::Over::leaf)), for which a few items may move as well.
///
/// **Cost.** A step of even ranks ends with one `MPI_Iallgather` of few bytes, after which nothing moves. Each time that items
/// do, there are up to two small messages for each rank, three gatherings of few bytes and two `MPI_Ialltoallv`, and once more
/// for what was made of them. Memory: what a rank has and what it makes of it, and what travels twice. Nothing is written to a
/// journal: steps are computed again by the next job, from what calls with a journal return at once.
///
/// # Examples
///
/// ```
/// let results = rankfold::threads(3, |world| {
///     let squares = world.over(0..1000u64).shards(|i| i * i)?;
///     let odd = squares.filter(|square| square % 2 == 1)?;
///     let (count, sum) = (odd.len(), world.map_reduce(odd.items(), |square| *square, |a, b| a + b)?);
///     Ok((count, sum, odd.gather()?.map(|all| all[1])))
/// });
/// let results = results.into_iter().collect::<rankfold::Result<Vec<_>>>()?;
/// assert_eq!(results[0], (500, 166_666_500, Some(9)));
/// assert_eq!(results[1], (500, 166_666_500, None));
/// # Ok::<(), rankfold::Error>(())
/// ```
pub struct Sharded<'w, T> {
    pub(super) world: &'w World,
    pub(super) part: Part<T>,
}

impl<T> fmt::Debug for Sharded<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mine, total) = (self.mine().len(), self.part.total);
        f.debug_struct("Sharded").field("mine", &mine).field("start", &self.part.start).field("total", &total).finish()
    }
}

impl World {
    /// Items that every rank has some of. Their order is that of the ranks. Collective: every rank must call it.
    ///
    /// # Errors
    ///
    /// Ranks that disagree or have left; a world of several ranks that share one `main`.
    ///
    /// # Examples
    ///
    /// ```
    /// let sums = rankfold::threads(3, |world| {
    ///     let names = world.shards(vec![format!("rank {}", world.rank())])?;
    ///     world.map_reduce(names.items(), |name| name.len(), |a, b| a + b)
    /// });
    /// assert!(sums.into_iter().all(|sum| sum.ok() == Some(18)));
    /// ```
    pub fn shards<T>(&self, mine: Vec<T>) -> Result<Sharded<'_, T>>
    where
        T: Serialize + DeserializeOwned + Send + Sync,
    {
        let part = self.step("shards", std::any::type_name::<T>(), |rank, call| settle(rank, call, Ok((mine, 0.0))))?;
        Ok(Sharded { world: self, part })
    }

    /// Items that rank 0 has, spread over all ranks as equally as can be. The others' are not looked at. Collective: every
    /// rank must call it.
    ///
    /// # Errors
    ///
    /// As for [`shards`](Self::shards); items that cannot be encoded.
    ///
    /// # Examples
    ///
    /// ```
    /// let mine = rankfold::threads(2, |world| {
    ///     let items = if world.is_root() { vec!['a', 'b', 'c'] } else { Vec::new() };
    ///     Ok::<_, rankfold::Error>(world.shards_from_root(items)?.into_mine())
    /// });
    /// assert_eq!(mine.into_iter().collect::<Result<Vec<_>, _>>()?, [vec!['a', 'b'], vec!['c']]);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn shards_from_root<T>(&self, items: Vec<T>) -> Result<Sharded<'_, T>>
    where
        T: Serialize + DeserializeOwned + Send + Sync,
    {
        let part = self.step("shards_from_root", std::any::type_name::<T>(), |rank, call| {
            let mine = if rank.rank() == 0 { items } else { Vec::new() };
            let total = all_or_none(rank, &Ok(mine.len() as u64))?[0];
            let (places, targets) = (all_on_root(total, rank.size()), evenly(total, rank.size(), leaf_of(total)));
            move_to(rank, call, mine, &places, &targets, total)
        })?;
        Ok(Sharded { world: self, part })
    }

    /// A step that all ranks take together, in the same words.
    pub(crate) fn step<R>(
        &self,
        call: &'static str,
        types: &str,
        step: impl FnOnce(&mut Rank, &str) -> Result<R>,
    ) -> Result<R> {
        self.together(call, |rank| {
            let signature = Signature {
                operation: call.to_owned(),
                name: call.to_owned(),
                source: "shards".to_owned(),
                functions: types.to_owned(),
                to_all: true,
                ..Signature::default()
            };
            meet(rank, &signature, &[])?;
            step(rank, call)
        })
    }
}

impl<T> Sharded<'_, T> {
    /// The items of this rank.
    ///
    /// # Examples
    ///
    /// ```
    /// let world = rankfold::init()?;
    /// # if world.size() == 1 {
    /// assert_eq!(world.shards(vec![1, 2])?.mine(), [1, 2]); // on one rank
    /// # }
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[must_use]
    pub fn mine(&self) -> &[T] {
        &self.part.mine
    }

    /// The items as input of calls, such as `world.map_reduce(shards.items(), …)`. There is no scheduler: each rank computes its
    /// own, until others have time for some of them. The result has the same bits on any number of ranks. Such calls are not journaled, and the size of leaves is not
    /// theirs to choose.
    ///
    /// # Examples
    ///
    /// See [`Sharded`].
    #[must_use]
    pub fn items(&self) -> Shards<'_, T> {
        Shards { mine: &self.part.mine, start: self.part.start, total: self.part.total }
    }

    /// The items of this rank, to have.
    ///
    /// # Examples
    ///
    /// See [`World::shards_from_root`].
    #[must_use]
    pub fn into_mine(self) -> Vec<T> {
        self.part.mine
    }

    /// The number of this rank's first item among all items.
    ///
    /// # Examples
    ///
    /// ```
    /// let starts = rankfold::threads(3, |world| Ok::<_, rankfold::Error>(world.shards(vec![0; 5])?.start()));
    /// assert_eq!(starts.into_iter().collect::<Result<Vec<_>, _>>()?, [0, 5, 10]);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[must_use]
    pub fn start(&self) -> u64 {
        self.part.start
    }

    /// The number of items of all ranks. Not a collective: every rank knows.
    ///
    /// # Examples
    ///
    /// See [`Sharded`].
    #[must_use]
    pub fn len(&self) -> u64 {
        self.part.total
    }

    /// Whether no rank has an item.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::init()?;
    /// # if world.size() == 1 {
    /// assert!(world.shards(Vec::<u8>::new())?.is_empty());
    /// # }
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.part.total == 0
    }
}

impl<'w, T> Sharded<'w, T>
where
    T: Serialize + DeserializeOwned + Send + Sync,
{
    /// What the function makes of each item, in the order of items. Collective: every rank must call it. Memory: both, on each
    /// rank. An item may go to a rank that has time for it: the function should not count on where it runs.
    ///
    /// # Errors
    ///
    /// The function panics, with the item's number; ranks that disagree or have left.
    ///
    /// # Examples
    ///
    /// See [`Sharded`]; there, [`filter`](Self::filter) is used like this.
    pub fn map<R>(self, function: impl Fn(T) -> R + Sync) -> Result<Sharded<'w, R>>
    where
        R: Serialize + DeserializeOwned + Send + Sync,
    {
        self.each("map", |item| Some(function(item)))
    }

    /// The items for which the function is true. Collective: every rank must call it.
    ///
    /// # Errors
    ///
    /// As for [`map`](Self::map).
    ///
    /// # Examples
    ///
    /// See [`Sharded`].
    pub fn filter(self, function: impl Fn(&T) -> bool + Sync) -> Result<Self> {
        self.each("filter", |item| function(&item).then_some(item))
    }

    /// Calls the function with every item, for its effects: once, with the item, or with a copy on a rank that has time for it.
    /// For what has to happen where an item is, there is [`mine`](Self::mine). Collective: every rank must call it.
    ///
    /// # Errors
    ///
    /// As for [`map`](Self::map); items that cannot be encoded.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::init()?;
    /// # if world.size() == 1 {
    /// world.shards(vec![1, 2, 3])?.for_each(|item| { std::hint::black_box(item); })?;
    /// # }
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn for_each(&self, function: impl Fn(&T) + Sync) -> Result<()> {
        let Part { mine, start, .. } = &self.part;
        let visit = |item: Lent<'_, T>| {
            function(&item);
            None::<()>
        };
        self.world.step("for_each on shards", std::any::type_name::<T>(), |rank, call| {
            in_turns(rank, call, *start, mine.par_iter().map(Lent::ours), visit).map(drop)
        })
    }

    /// Spreads the items over the ranks as equally as can be. Steps see to it by themselves that ranks take the same time; this
    /// is for what they cannot know. Collective: every rank must call it.
    ///
    /// # Errors
    ///
    /// Items that cannot be encoded; ranks that disagree or have left.
    ///
    /// # Examples
    ///
    /// ```
    /// let counts = rankfold::threads(2, |world| {
    ///     let shards = world.shards(vec![7; if world.is_root() { 10 } else { 0 }])?;
    ///     Ok::<_, rankfold::Error>(shards.rebalance()?.mine().len())
    /// });
    /// assert_eq!(counts.into_iter().collect::<Result<Vec<_>, _>>()?, [5, 5]);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn rebalance(self) -> Result<Self> {
        let Self { world, part: Part { mine, start, total } } = self;
        let part = world.step("rebalance", std::any::type_name::<T>(), |rank, call| {
            let here = start..start + mine.len() as u64;
            let places = all_or_none(rank, &Ok(here))?;
            let targets = evenly(total, rank.size(), leaf_of(total));
            move_to(rank, call, mine, &places, &targets, total)
        })?;
        Ok(Self { world, part })
    }

    /// All items in their order, on rank 0; the others get `None`. Collective: every rank must call it. Memory on rank 0: all
    /// items, and twice those of the other ranks while they arrive.
    ///
    /// # Errors
    ///
    /// As for [`rebalance`](Self::rebalance).
    ///
    /// # Examples
    ///
    /// See [`Sharded`].
    pub fn gather(self) -> Result<Option<Vec<T>>> {
        let Self { world, part: Part { mine, start, total } } = self;
        world.step("gather of shards", std::any::type_name::<T>(), |rank, call| {
            let here = start..start + mine.len() as u64;
            let places = all_or_none(rank, &Ok(here))?;
            let targets = all_on_root(total, rank.size());
            let part = move_to(rank, call, mine, &places, &targets, total)?;
            Ok((rank.rank() == 0).then_some(part.mine))
        })
    }

    /// The items in the order of what the function gives for them; of equal ones, the one that was before stays before, so the
    /// result is the same on any number of ranks. Collective: every rank must call it.
    ///
    /// A sample sort: each rank sorts what it has, all agree by samples on which keys go where, and each merges what it gets
    /// (Shi and Schaeffer, "Parallel sorting by regular sampling", JPDC 14(4), 1992). Keys that many items have do not pile up
    /// on one rank, since the place of an item counts as well: no rank has more than 1.3 times the mean (with up to 500 ranks,
    /// and enough items to draw samples from).
    ///
    /// **Cost.** One gathering of samples, up to 8 for each pair of ranks; then every item moves at most once, by
    /// `MPI_Ialltoallv`. Memory: a rank's items up to three times while they move.
    ///
    /// # Errors
    ///
    /// As for [`map`](Self::map).
    ///
    /// # Examples
    ///
    /// ```
    /// let sorted = rankfold::threads(3, |world| {
    ///     let words = ["to", "be", "or", "not"].map(|word| format!("{word} {}", world.rank())).to_vec();
    ///     world.shards(words)?.sort_by_key(|word| word.len())?.gather()
    /// });
    /// let sorted = sorted.into_iter().next().unwrap()?.unwrap();
    /// assert_eq!(sorted[..3], ["to 0", "be 0", "or 0"]);
    /// assert_eq!(sorted[11], "not 2");
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn sort_by_key<K>(self, key: impl Fn(&T) -> K + Sync) -> Result<Self>
    where
        K: Ord + Clone + Serialize + DeserializeOwned + Send + Sync,
    {
        let Self { world, part } = self;
        let types = std::any::type_name::<(T, K)>();
        let part = world.step("sort_by_key", types, |rank, call| sort::sort(rank, call, part, key))?;
        Ok(Self { world, part })
    }

    /// The items of each key together, in their order; keys in the order of their hashes' ranks, and sorted on each rank.
    /// Collective: every rank must call it. All items of a key are on one rank, which must have room for them; where a value
    /// of all of them is wanted and not the items, [`reduce_by_key`](crate::Over::reduce_by_key) moves less.
    ///
    /// # Errors
    ///
    /// As for [`map`](Self::map).
    ///
    /// # Examples
    ///
    /// ```
    /// let groups = rankfold::threads(2, |world| {
    ///     let words = if world.is_root() { vec!["to", "be", "or"] } else { vec!["not"] };
    ///     let words = world.shards(words.into_iter().map(str::to_owned).collect())?;
    ///     let groups = words.group_by_key(|word| word.len())?.sort_by_key(|(length, _)| *length)?;
    ///     groups.gather()
    /// });
    /// let groups = groups.into_iter().next().unwrap()?.unwrap();
    /// let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    /// assert_eq!(groups, [(2, words(&["to", "be", "or"])), (3, words(&["not"]))]);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn group_by_key<K>(self, key: impl Fn(&T) -> K + Sync) -> Result<Sharded<'w, (K, Vec<T>)>>
    where
        K: Ord + Hash + Serialize + DeserializeOwned + Send + Sync,
    {
        let Self { world, part } = self;
        let types = std::any::type_name::<(T, K)>();
        let part = world.step("group_by_key", types, |rank, call| {
            let groups = groups(rank, call, part, &key)?;
            settle(rank, call, Ok((groups, 0.0)))
        })?;
        Ok(Sharded { world, part })
    }

    /// Pairs of an item of this collection and one of the other that have the same key: all of them, for each key the items of
    /// this one in their order, each with the other's in their order. Keys are in the order of their hashes' ranks, and sorted
    /// on each rank. Collective: every rank must call it. All items of a key are on one rank, which must have room for them.
    ///
    /// # Errors
    ///
    /// As for [`map`](Self::map).
    ///
    /// # Examples
    ///
    /// ```
    /// let joined = rankfold::threads(2, |world| {
    ///     let on_root = |items: Vec<(u32, &str)>| {
    ///         let items = items.into_iter().map(|(key, name)| (key, name.to_owned())).collect();
    ///         world.shards_from_root(if world.is_root() { items } else { Vec::new() })
    ///     };
    ///     let atoms = on_root(vec![(1, "H"), (8, "O"), (9, "F")])?;
    ///     let names = on_root(vec![(8, "oxygen"), (1, "hydrogen")])?;
    ///     let pairs = atoms.join(names, |atom| atom.0, |name| name.0)?;
    ///     pairs.map(|(atom, name)| format!("{} is {}", atom.1, name.1))?.sort_by_key(String::clone)?.gather()
    /// });
    /// assert_eq!(joined.into_iter().next().unwrap()?.unwrap(), ["H is hydrogen", "O is oxygen"]);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn join<U, K>(
        self,
        other: Sharded<'w, U>,
        key: impl Fn(&T) -> K + Sync,
        other_key: impl Fn(&U) -> K + Sync,
    ) -> Result<Sharded<'w, (T, U)>>
    where
        T: Clone,
        U: Serialize + DeserializeOwned + Clone + Send + Sync,
        K: Ord + Hash + Serialize + DeserializeOwned + Send + Sync,
    {
        let world = self.world;
        let types = std::any::type_name::<(T, U, K)>();
        let part = world.step("join", types, |rank, call| {
            let (left, right) = (groups(rank, call, self.part, &key)?, groups(rank, call, other.part, &other_key)?);
            let place = rank.place.clone();
            let joined =
                rank.meanwhile(|| catch(|| pairs(left, right)).map_err(|caught| compare_failed(call, &place, caught)))?;
            settle(rank, call, joined.map(|pairs| (pairs, 0.0)))
        })?;
        Ok(Sharded { world, part })
    }

    /// A step on each item by itself.
    fn each<R>(self, call: &'static str, function: impl Fn(T) -> Option<R> + Sync) -> Result<Sharded<'w, R>>
    where
        R: Serialize + DeserializeOwned + Send + Sync,
    {
        let Self { world, part: Part { mine, start, .. } } = self;
        let types = std::any::type_name::<(T, R)>();
        let part = world.step(call, types, |rank, call| in_turns(rank, call, start, mine.into_par_iter(), function))?;
        Ok(Sharded { world, part })
    }
}

/// Runs a function of the user's on an item.
pub(super) fn caught<R>(call: &str, place: &Place, number: u64, f: impl FnOnce() -> R) -> Result<R> {
    catch(f).map_err(|caught| caught.into_error(call, place, Role::Mapper, format!("item {number}")))
}

/// All pairs of items with the same key, of groups that are sorted by key.
fn pairs<K: Ord, T: Clone, U: Clone>(left: Vec<(K, Vec<T>)>, right: Vec<(K, Vec<U>)>) -> Vec<(T, U)> {
    let (mut right, mut pairs) = (right.into_iter().peekable(), Vec::new());
    for (key, items) in left {
        while right.next_if(|(other, _)| *other < key).is_some() {}
        let Some((_, others)) = right.next_if(|(other, _)| *other == key) else { continue };
        pairs.extend(items.iter().flat_map(|item| others.iter().map(|other| (item.clone(), other.clone()))));
    }
    pairs
}

/// The items of all ranks whose keys' hashes name this one, by key: keys sorted, items in their order. Collective.
fn groups<T, K>(rank: &mut Rank, call: &str, part: Part<T>, key: &(impl Fn(&T) -> K + Sync)) -> Result<Vec<(K, Vec<T>)>>
where
    T: Serialize + DeserializeOwned + Send + Sync,
    K: Ord + Hash + Serialize + DeserializeOwned + Send + Sync,
{
    let (place, size) = (rank.place.clone(), rank.size());
    let sent = rank.meanwhile(|| {
        let Part { mine, start, .. } = part;
        let with_key = |(at, item): (usize, T)| {
            let with_owner = || {
                let key = key(&item);
                (part_of(&key, size), key)
            };
            let (owner, key) = caught(call, &place, start + at as u64, with_owner)?;
            Ok((owner, (key, item)))
        };
        let mut keyed = mine.into_par_iter().enumerate().map(with_key).collect::<Result<Vec<_>>>()?;
        // Stable, so that the order of items is kept.
        keyed.par_sort_by_key(|(owner, _)| *owner);
        let starts: Vec<usize> = (0..=size).map(|owner| keyed.partition_point(|(other, _)| *other < owner)).collect();
        let parts: Vec<_> = starts.windows(2).map(|pair| pair[0]..pair[1]).collect();
        Ok::<_, Error>((keyed.into_iter().map(|(_, pair)| pair).collect::<Vec<_>>(), parts))
    })?;
    let (keyed, parts) = if_all(rank, sent)?;
    let arrived = swap(rank, call, keyed, &parts)?;
    let mut all: Vec<(K, T)> = arrived.into_iter().flatten().collect();
    let grouped = rank.meanwhile(|| {
        let group = || {
            all.par_sort_by(|(a, _), (b, _)| a.cmp(b));
            let mut groups: Vec<(K, Vec<T>)> = Vec::new();
            for (key, item) in all {
                match groups.last_mut() {
                    Some((last, items)) if *last == key => items.push(item),
                    _ => groups.push((key, vec![item])),
                }
            }
            groups
        };
        catch(group).map_err(|caught| compare_failed(call, &place, caught))
    })?;
    if_all(rank, grouped)
}

/// Two keys cannot be compared.
pub(super) fn compare_failed(call: &str, place: &Place, caught: Caught) -> Error {
    caught.into_error(call, place, Role::Combiner, "the comparison of two keys".to_owned())
}
