//! A call's input in the order of keys, over all ranks, also where there is no memory for it: brought to the ranks by samples,
//! sorted a part at a time, and merged by whoever reads it.
//!
//! Keys that split all items into parts of about the same length, one for each rank, are chosen from samples of all ranks
//! (sample sort: Blelloch et al., "A comparison of sorting algorithms for the Connection Machine CM-2", SPAA 1991). Where there
//! is no memory for a rank's items, they travel in rounds; what has come in a round is sorted, and written to the disk (external
//! merge sort: Knuth, "The Art of Computer Programming", volume 3, section 5.4).

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::marker::PhantomData;
use std::sync::Arc;

use rayon::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_bytes::ByteBuf;

use super::sharded::compare_failed;
use super::sort::{Mark, splitters};
use crate::error::{Error, Place, Result, Role};
use crate::extent::Extent;
use crate::meeting;
use crate::rank::Rank;
use crate::reduce::collective::{Reduced, Value};
use crate::reduce::encoding::Encoding;
use crate::reduce::exchange::{Parcels, exchange};
use crate::reduce::order::{Listed, agree_on_order, start_of};
use crate::reduce::telling::{all_or_none, if_all};
use crate::report::RankReport;
use crate::source::Source;
use crate::worker::budget::Budget;
use crate::worker::caught::catch;
use crate::worker::compute::{At, Computation, Kernel, Runs};
use crate::worker::run::Run;
use crate::worker::spool::{Block, Spool, Values};

/// Samples for each rank's part: the longest of a thousand parts is then about a fifth longer than the mean.
const SAMPLES: u64 = 256;

/// An item with its key and its number among all.
pub(crate) type Entry<K, T> = (Mark<K>, T);

/// Many of them, some at a time in memory or on the disk.
pub(crate) type Entries<K, T> = Spool<Entry<K, T>>;

/// Items with their keys, in the order of the input. When they are sorted, the number of each is its place there; until then
/// it is 0.
pub(crate) struct Sorting<F, K, T> {
    pub mapper: F,
    pub budget: Option<Arc<Budget>>,
    pub items: PhantomData<fn() -> (K, T)>,
}

impl<S, F, K, T> Kernel<S> for Sorting<F, K, T>
where
    S: Source,
    F: Fn(S::Item) -> (K, T) + Sync,
    K: Serialize + DeserializeOwned + Send,
    T: Serialize + DeserializeOwned + Send,
{
    type Partial = Entries<K, T>;
    const RUNS: Runs = Runs::Pieces;

    fn fold(&self, items: S::Batch, at: &At<'_>) -> Option<Self::Partial> {
        Kernel::<S>::fold_some(self, items.into_iter(), at)
    }

    fn fold_some(&self, items: impl Iterator<Item = S::Item>, at: &At<'_>) -> Option<Self::Partial> {
        Some(self.take_down(Spool::default(), items, at))
    }

    fn fold_on(&self, before: Self::Partial, items: S::Batch, at: &At<'_>) -> Option<Self::Partial> {
        Some(self.take_down(before, items.into_iter(), at))
    }

    fn combine(&self, mut left: Self::Partial, right: Self::Partial) -> Self::Partial {
        match &self.budget {
            Some(budget) => left.append_in_bounds(right, budget),
            None => left.append(right),
        }
        left
    }

    fn put_away(&self, mut partial: Self::Partial) -> Self::Partial {
        if let Some(budget) = &self.budget {
            partial.put_away(budget);
        }
        partial
    }
}

impl<F, K: Serialize, T: Serialize> Sorting<F, K, T> {
    fn take_down<I>(&self, mut spool: Entries<K, T>, items: impl Iterator<Item = I>, at: &At<'_>) -> Entries<K, T>
    where
        F: Fn(I) -> (K, T),
    {
        for item in items {
            let (key, item) = (self.mapper)(item);
            spool.push(((key, 0), item), self.budget.as_ref());
            if !at.goes_on() {
                break;
            }
        }
        spool
    }
}

/// Leaves on each rank the items that are its part of all, in blocks that are sorted. Collective: every rank must call it,
/// after every leaf was computed somewhere.
///
/// # Errors
///
/// A key that cannot be compared or encoded, a disk that cannot be read; the same error on every rank.
pub(crate) fn bring_in_order<S, F, K, T>(
    rank: &mut Rank,
    computation: &Computation<'_, S, Sorting<F, K, T>>,
    report: RankReport,
    _to_all: bool,
) -> Reduced<Entries<K, T>>
where
    S: Source,
    F: Fn(S::Item) -> (K, T) + Sync,
    K: Ord + Clone + Serialize + DeserializeOwned + Send + Sync,
    T: Serialize + DeserializeOwned + Send + Sync,
{
    let (call, budget) = (computation.call, computation.kernel.budget.as_ref());
    let segments = computation.take_segments();
    rank.begin_vigil();
    meeting::all_are_here(rank, call)?;
    let leaves = segments.leaves();
    let full = |(extent, spool): (Extent, Option<Entries<K, T>>)| (extent, spool.unwrap_or_default());
    let mine: Vec<(Extent, Entries<K, T>)> = segments.into_all().into_iter().map(full).collect();
    let listed: Vec<Listed> = mine.iter().map(|(extent, spool)| (*extent, spool.len() as u64)).collect();
    let (places, reports) = agree_on_order(rank, call, listed, leaves, report)?;
    let first = |extent| start_of(&places, rank.rank(), extent);
    let rows: Vec<Row<K, T>> = mine.into_iter().filter_map(|(extent, spool)| Some((first(extent)?, spool))).collect();
    let total = places.last().map_or(0, |(.., items)| items.end);
    let exchange = Exchange { call, place: rank.place.clone(), budget, total };
    Ok((Value::Part(exchange.sort(rank, rows)?), reports))
}

/// Items that follow each other in the input: the number of the first one, and all of them.
type Row<K, T> = (u64, Entries<K, T>);

/// Items on their way to the ranks where they belong.
struct Exchange<'e> {
    call: &'e str,
    place: Place,
    budget: Option<&'e Arc<Budget>>,
    /// Items of all ranks.
    total: u64,
}

impl Exchange<'_> {
    fn sort<K, T>(&self, rank: &mut Rank, rows: Vec<Row<K, T>>) -> Result<Entries<K, T>>
    where
        K: Ord + Clone + Serialize + DeserializeOwned + Send + Sync,
        T: Serialize + DeserializeOwned + Send + Sync,
    {
        let encoding = Encoding { call: self.call, place: &self.place };
        let size = rank.size();
        let drawn = rank.meanwhile(|| {
            self.guarded(|| encoding.encode(&self.samples(&rows, SAMPLES * size as u64)?).map(ByteBuf::from))
        })?;
        let bytes = rows.iter().map(|(_, spool)| spool.bytes()).sum();
        let told = drawn.map(|drawn| (drawn, self.budget.map_or(1, |budget| budget.rounds(bytes))));
        let (drawn, rounds): (Vec<ByteBuf>, Vec<u64>) = all_or_none(rank, &told)?.into_iter().unzip();
        let rounds = rounds.into_iter().max().unwrap_or(1);
        let splitters = rank.meanwhile(|| {
            self.guarded(|| {
                let drawn = drawn.iter().map(|bytes| encoding.decode::<Vec<(Mark<K>, u64)>>(bytes));
                let drawn: Vec<Vec<_>> = drawn.collect::<Result<_>>()?;
                self.comparing(|| splitters(drawn.into_iter().flatten().collect(), size))
            })
        })?;
        let splitters = if_all(rank, splitters)?;
        let (mut left, mut sorted) = (rows.iter().map(|(_, spool)| spool.len()).sum::<usize>(), Spool::default());
        let mut going = Going::beginning_at(rows, left * rank.rank() / size);
        for round in 0..rounds {
            let count = left.div_ceil((rounds - round) as usize);
            left -= count;
            let packed = rank.meanwhile(|| self.guarded(|| self.pack(&mut going, count, &splitters, size)))?;
            let packed = if_all(rank, packed)?;
            let arrived = exchange(rank, packed)?;
            let taken = rank.meanwhile(|| {
                self.guarded(|| {
                    let mut parts = arrived.iter().map(|bytes| encoding.decode::<Vec<Entry<K, T>>>(bytes));
                    let mut block: Vec<Entry<K, T>> = Vec::new();
                    parts.try_for_each(|part| part.map(|part| block.extend(part)))?;
                    self.comparing(|| block.par_sort_unstable_by(|(a, _), (b, _)| a.cmp(b)))?;
                    sorted.add_block(block, self.budget);
                    Ok(())
                })
            })?;
            if_all(rank, taken)?;
        }
        Ok(sorted)
    }

    /// This rank's part of so many marks from all over the input, each with the number of items from it to the next.
    fn samples<K, T>(&self, rows: &[Row<K, T>], count: u64) -> Result<Vec<(Mark<K>, u64)>>
    where
        K: Clone + DeserializeOwned,
        T: DeserializeOwned,
    {
        let (mut samples, total) = (Vec::new(), u128::from(self.total.max(1)));
        // Those before each item, so that short rows may have none.
        let before = |number: u64| (u128::from(number) * u128::from(count) / total) as usize;
        for (first, spool) in rows {
            let wanted = before(first + spool.len() as u64) - before(*first);
            let drawn = spool.samples(wanted, |((key, _), _)| key.clone()).map_err(|problem| self.lost(&problem))?;
            let next = drawn.iter().skip(1).map(|(number, _)| *number).chain([spool.len()]);
            let weights: Vec<u64> = next.zip(&drawn).map(|(next, (number, _))| (next - number) as u64).collect();
            samples
                .extend(drawn.into_iter().zip(weights).map(|((at, key), weight)| ((key, first + at as u64), weight)));
        }
        Ok(samples)
    }

    /// The next items, each for the rank where it belongs.
    fn pack<K, T>(&self, going: &mut Going<K, T>, count: usize, splitters: &[Mark<K>], size: usize) -> Result<Parcels>
    where
        K: Ord + Serialize + DeserializeOwned,
        T: Serialize + DeserializeOwned,
    {
        let encoding = Encoding { call: self.call, place: &self.place };
        let mut parts: Vec<Vec<Entry<K, T>>> = (0..size).map(|_| Vec::new()).collect();
        for _ in 0..count {
            let next = going.next().map_err(|problem| self.lost(&problem))?;
            let entry = next.expect("as many are left as were counted");
            let owner = self.comparing(|| splitters.partition_point(|splitter| *splitter <= entry.0))?;
            parts[owner].push(entry);
        }
        Ok(Parcels::of(parts.iter().map(|part| encoding.encode(part)).collect::<Result<_>>()?))
    }

    fn lost(&self, problem: &str) -> Error {
        Budget::unreadable(self.call, &self.place, problem)
    }

    /// Runs what compares keys.
    fn comparing<R>(&self, compare: impl FnOnce() -> R) -> Result<R> {
        catch(compare).map_err(|caught| compare_failed(self.call, &self.place, caught))
    }

    /// Runs what copies, encodes and decodes items: a panic there is an error of this call as well.
    fn guarded<R>(&self, act: impl FnOnce() -> Result<R>) -> Result<R> {
        let item = || "an item on its way to another rank".to_owned();
        catch(act).map_err(|caught| caught.into_error(self.call, &self.place, Role::Combiner, item()))?
    }
}

/// The items of all rows, one after the other, with their numbers.
struct Going<K, T> {
    rows: std::vec::IntoIter<Row<K, T>>,
    row: Option<(u64, Values<Entry<K, T>>)>,
}

impl<K, T> Going<K, T> {
    /// Begins with the block that has so many items before it, and ends with those before it: where the input is sorted already
    /// in parts, all ranks would else send the same keys, to the same rank, in the same round.
    fn beginning_at(rows: Vec<Row<K, T>>, item: usize) -> Self {
        let (mut blocks, mut passed, mut begin) = (Vec::new(), 0, 0);
        for (mut first, spool) in rows {
            for block in spool {
                if passed <= item {
                    begin = blocks.len();
                }
                let length = block.len();
                blocks.push((first, block));
                (passed, first) = (passed + length, first + length as u64);
            }
        }
        blocks.rotate_left(begin);
        Self { rows: blocks.into_iter(), row: None }
    }
}

impl<K: DeserializeOwned, T: DeserializeOwned> Going<K, T> {
    fn next(&mut self) -> Result<Option<Entry<K, T>>, String> {
        loop {
            if let Some((number, values)) = &mut self.row
                && let Some(((key, _), item)) = values.next()?
            {
                *number += 1;
                return Ok(Some(((key, *number - 1), item)));
            }
            let Some((first, spool)) = self.rows.next() else { return Ok(None) };
            self.row = Some((first, spool.into()));
        }
    }
}

/// Shows the items of sorted blocks to somebody, in their order.
///
/// # Errors
///
/// The disk does not give back what was written; or what `see` says.
pub(crate) fn merge<K, T>(
    sorted: &Entries<K, T>,
    mut see: impl FnMut(&T) -> Result<()>,
    lost: impl Fn(String) -> Error,
) -> Result<()>
where
    K: Ord + DeserializeOwned,
    T: DeserializeOwned,
{
    let mut blocks: Vec<Unmerged<'_, K, T>> = sorted.blocks().iter().map(Unmerged::from).collect();
    let mut heads = BinaryHeap::new();
    for (block, values) in blocks.iter_mut().enumerate() {
        heads.extend(values.next().map_err(&lost)?.map(|entry| Head { entry, block }));
    }
    while let Some(mut head) = heads.peek_mut() {
        see(&head.entry.as_ref().1)?;
        match blocks[head.block].next().map_err(&lost)? {
            Some(entry) => head.entry = entry,
            None => drop(std::collections::binary_heap::PeekMut::pop(head)),
        }
    }
    Ok(())
}

/// The values of a block that were not merged yet.
enum Unmerged<'b, K, T> {
    Here(std::slice::Iter<'b, Entry<K, T>>),
    OnDisk(Run<Entry<K, T>>),
}

/// The first of them.
enum First<'b, K, T> {
    Here(&'b Entry<K, T>),
    Read(Entry<K, T>),
}

struct Head<'b, K, T> {
    entry: First<'b, K, T>,
    block: usize,
}

impl<'b, K, T> From<&'b Block<Entry<K, T>>> for Unmerged<'b, K, T> {
    fn from(block: &'b Block<Entry<K, T>>) -> Self {
        match block {
            Block::Here(values, _) => Self::Here(values.iter()),
            Block::OnDisk(run) => Self::OnDisk(run.again()),
        }
    }
}

impl<'b, K: DeserializeOwned, T: DeserializeOwned> Unmerged<'b, K, T> {
    fn next(&mut self) -> Result<Option<First<'b, K, T>>, String> {
        match self {
            Self::Here(values) => Ok(values.next().map(First::Here)),
            Self::OnDisk(run) => Ok(run.next_if(|_| true)?.map(First::Read)),
        }
    }
}

impl<K, T> First<'_, K, T> {
    fn as_ref(&self) -> &Entry<K, T> {
        match self {
            Self::Here(entry) => entry,
            Self::Read(entry) => entry,
        }
    }
}

/// The lowest mark is the greatest head, since a heap gives the greatest first.
impl<K: Ord, T> Ord for Head<'_, K, T> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.entry.as_ref().0.cmp(&self.entry.as_ref().0)
    }
}

impl<K: Ord, T> PartialOrd for Head<'_, K, T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K: Ord, T> PartialEq for Head<'_, K, T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<K: Ord, T> Eq for Head<'_, K, T> {}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Deserializer};

    use super::*;

    /// Written like any number, and not read back if it is bad luck.
    #[derive(Debug, Serialize)]
    struct Brittle(u64);

    impl<'de> Deserialize<'de> for Brittle {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            match u64::deserialize(deserializer)? {
                777 => Err(serde::de::Error::custom("out of luck")),
                778 => panic!("very much out of luck"),
                number => Ok(Self(number)),
            }
        }
    }

    /// Rank 1 has put the numbers away; what each rank says of bringing all in order.
    fn sort_of(numbers: std::ops::Range<u64>) -> Vec<Result<usize>> {
        rankfold_threads(3, |rank| {
            let budget = Budget::new(16 << 10, 1, &rank.place);
            let mine = if rank.rank() == 1 { numbers.clone() } else { 0..0 };
            let mut spool = Spool::default();
            mine.for_each(|number| spool.push(((number % 100, 0), Brittle(number)), Some(&budget)));
            spool.put_away(&budget);
            let total = numbers.end - numbers.start;
            let exchange = Exchange { call: "test", place: rank.place.clone(), budget: Some(&budget), total };
            Ok(exchange.sort(rank, vec![(0, spool)])?.len())
        })
    }

    fn rankfold_threads<R: Send>(ranks: usize, program: impl Fn(&mut Rank) -> Result<R> + Sync) -> Vec<Result<R>> {
        crate::threads(ranks, |world| world.together("test", |rank| program(rank)))
    }

    #[test]
    fn what_one_rank_cannot_read_again_is_an_error_on_every_rank() {
        let lengths: Vec<usize> =
            sort_of(1000..6000).into_iter().map(|result| result.expect("no rank fails")).collect();
        assert_eq!(lengths.iter().sum::<usize>(), 5000);
        assert!(lengths.iter().all(|length| *length < 2200), "{lengths:?}");
        for result in sort_of(777..6000) {
            let text = result.expect_err("not read").to_string();
            let says = |part| text.contains(part);
            assert!(says("cannot be read again: ") && says("out of luck") && says(" on rank 1 "), "{text}");
        }
        for result in sort_of(778..5000) {
            let text = result.expect_err("not read").to_string();
            assert!(text.contains("very much out of luck") && text.contains("an item on its way"), "{text}");
        }
    }
}
