//! In the order of keys, over all ranks: sorted where items are, split by samples, merged where they belong.

use std::ops::Range;

use rayon::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_bytes::ByteBuf;

use super::moves::{Part, settle, swap};
use super::sharded::{caught, compare_failed};
use crate::error::{Error, Result};
use crate::rank::Rank;
use crate::reduce::encoding::Encoding;
use crate::reduce::telling::{all_or_none, if_all};
use crate::worker::caught::catch;

/// Samples of each rank, for each rank.
const SAMPLES: usize = 8;
/// But no more than this.
const SAMPLES_MOST: usize = 4096;

/// A key, and the number of the item that has it: no two are equal, so that items with the same key can be split as well.
pub(super) type Mark<K> = (K, u64);

/// Sorts the items of all ranks. Collective.
///
/// # Errors
///
/// A key that panics, or cannot be encoded; the same error on every rank.
pub(crate) fn sort<T, K>(rank: &mut Rank, call: &str, part: Part<T>, key: impl Fn(&T) -> K + Sync) -> Result<Part<T>>
where
    T: Serialize + DeserializeOwned + Send + Sync,
    K: Ord + Clone + Serialize + DeserializeOwned + Send + Sync,
{
    let (place, size) = (rank.place.clone(), rank.size());
    let samples = (SAMPLES * size).min(SAMPLES_MOST);
    let failed = |caught| compare_failed(call, &place, caught);
    let sorted = rank.meanwhile(|| {
        let Part { mine, start, .. } = part;
        let mark = |(at, item): (usize, T)| {
            let number = start + at as u64;
            Ok(((caught(call, &place, number, || key(&item))?, number), item))
        };
        let mut marked = mine.into_par_iter().enumerate().map(mark).collect::<Result<Vec<_>>>()?;
        let order = || marked.par_sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        catch(order).map_err(failed)?;
        Ok::<_, Error>(marked)
    })?;
    let encoding = Encoding { call, place: &place };
    let told = sorted.as_ref().map_err(Error::clone);
    let told = told.and_then(|marked| encoding.encode(&regular(marked, samples)).map(ByteBuf::from));
    let drawn = all_or_none(rank, &told)?;
    let marked = sorted?;
    let parts = rank.meanwhile(|| {
        let drawn =
            drawn.iter().map(|bytes| encoding.decode::<Vec<(Mark<K>, u64)>>(bytes)).collect::<Result<Vec<_>>>()?;
        catch(|| parts(&marked, drawn.into_iter().flatten().collect(), size)).map_err(failed)
    })?;
    let parts = if_all(rank, parts)?;
    let arrived = swap(rank, call, marked, &parts)?;
    let merged = rank.meanwhile(|| {
        let mut all: Vec<(Mark<K>, T)> = arrived.into_iter().flatten().collect();
        // Sorted runs one after the other, which a merge sort makes use of.
        let order = || all.par_sort_by(|(a, _), (b, _)| a.cmp(b));
        catch(order).map_err(failed)?;
        Ok((all.into_iter().map(|(_, item)| item).collect(), 0.0))
    })?;
    settle(rank, call, merged)
}

/// What of a rank's sorted items goes to which rank.
fn parts<K: Ord, T>(marked: &[(Mark<K>, T)], drawn: Vec<(Mark<K>, u64)>, size: usize) -> Vec<Range<usize>> {
    let mut starts: Vec<usize> = vec![0];
    let place = |splitter: &Mark<K>| marked.partition_point(|(mark, _)| mark < splitter);
    starts.extend(splitters(drawn, size).iter().map(place));
    starts.resize(size, marked.len());
    starts.push(marked.len());
    starts.windows(2).map(|pair| pair[0]..pair[1]).collect()
}

/// Marks at equal distances, each with the number of items from it to the next.
fn regular<K: Clone, T>(marked: &[(Mark<K>, T)], samples: usize) -> Vec<(Mark<K>, u64)> {
    let count = samples.min(marked.len());
    let place = |sample: usize| sample * marked.len() / count;
    (0..count).map(|sample| (marked[place(sample)].0.clone(), (place(sample + 1) - place(sample)) as u64)).collect()
}

/// Marks that split all items into as many parts of about the same length.
pub(super) fn splitters<K: Ord>(mut drawn: Vec<(Mark<K>, u64)>, parts: usize) -> Vec<Mark<K>> {
    drawn.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    let total: u64 = drawn.iter().map(|(_, weight)| weight).sum();
    let (mut splitters, mut passed) = (Vec::new(), 0);
    for (mark, weight) in drawn {
        let next = (splitters.len() as u64 + 1) * total / parts as u64;
        if passed >= next.max(1) && splitters.len() + 1 < parts {
            splitters.push(mark);
        }
        passed += weight;
    }
    splitters
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the keys are, also if half of them are equal, no part is much longer than the mean.
        #[test]
        fn parts_have_about_the_same_length(
            ranks in 1usize..12, each in 400usize..2000, kinds in 1u32..200, hot in any::<bool>(), seed in any::<u32>(),
        ) {
            let key = |rank: usize, at: usize| {
                let number = seed.wrapping_add((rank * 7919 + at) as u32).wrapping_mul(2_654_435_761) >> 7;
                if hot && number.is_multiple_of(2) { 7 } else { number % kinds }
            };
            let sorted: Vec<Vec<(Mark<u32>, ())>> = (0..ranks)
                .map(|rank| {
                    let mut marked: Vec<_> = (0..each).map(|at| ((key(rank, at), (rank * each + at) as u64), ())).collect();
                    marked.sort_unstable();
                    marked
                })
                .collect();
            let drawn = sorted.iter().flat_map(|marked| regular(marked, SAMPLES * ranks)).collect();
            let splitters = splitters(drawn, ranks);
            prop_assert!(splitters.is_sorted() && splitters.len() < ranks.max(1));
            let part_of = |mark: &Mark<u32>| splitters.partition_point(|splitter| splitter <= mark);
            let mut lengths = vec![0usize; ranks];
            sorted.iter().flatten().for_each(|(mark, ())| lengths[part_of(mark)] += 1);
            let most = *lengths.iter().max().unwrap_or(&0);
            prop_assert!(most as f64 <= 1.3 * each as f64, "{lengths:?}");
        }
    }
}
