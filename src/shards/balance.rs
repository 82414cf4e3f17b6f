//! Where each rank's items begin, and when it is worth moving some.
//!
//! Pure: all ranks decide by the same numbers, so they decide the same.

use std::ops::Range;

/// Ranks are uneven if the busiest has more than this many times the mean.
const UNEVEN: f64 = 1.1;
/// Moving items costs more than what a step of so many seconds could save.
const SECONDS_LEAST: f64 = 0.01;

/// What a rank has, and how long the last step took it.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Load {
    pub items: u64,
    pub seconds: f64,
}

/// The items of each rank as they are: one rank's after the other's.
pub(crate) fn as_they_are(loads: &[Load]) -> Vec<Range<u64>> {
    let next = |at: &mut u64, load: &Load| Some(std::mem::replace(at, *at + load.items)..*at);
    loads.iter().scan(0, next).collect()
}

/// All items on rank 0.
pub(crate) fn all_on_root(total: u64, ranks: usize) -> Vec<Range<u64>> {
    (0..ranks).map(|rank| if rank == 0 { 0..total } else { total..total }).collect()
}

/// As equal as can be, in whole leaves.
pub(crate) fn evenly(total: u64, ranks: usize, leaf: u64) -> Vec<Range<u64>> {
    let (leaves, ranks) = (total.div_ceil(leaf), ranks as u64);
    let start = |rank: u64| total.min((rank * (leaves / ranks) + rank.min(leaves % ranks)) * leaf);
    (0..ranks).map(|rank| start(rank)..start(rank + 1)).collect()
}

/// Where items should be for the next step: as they are, but in whole leaves, unless the last step has shown that some ranks
/// have more to do than others. Then each gets what would have taken the same time.
pub(crate) fn settled(loads: &[Load], leaf: u64) -> Vec<Range<u64>> {
    let (total, seconds) = (loads.iter().map(|load| load.items).sum::<u64>(), loads.iter().map(|load| load.seconds));
    let mean = seconds.clone().sum::<f64>() / loads.len() as f64;
    let most = seconds.fold(0.0, f64::max);
    if most > UNEVEN * mean && most > SECONDS_LEAST && total > 0 {
        return in_equal_times(loads, loads.len(), leaf);
    }
    let round = |at: u64| ((at as f64 / leaf as f64).round() as u64 * leaf).min(total);
    let starts = as_they_are(loads).into_iter().map(|items| round(items.start)).chain([total]);
    ranges(&starts.collect::<Vec<_>>())
}

/// Items that follow each other, so many in so many seconds, divided between ranks so that they will take all the same time.
/// Items of one load cost the same, as far as anybody knows.
pub(crate) fn in_equal_times(loads: &[Load], ranks: usize, leaf: u64) -> Vec<Range<u64>> {
    let (total, seconds) = loads.iter().fold((0, 0.0), |(items, s), load| (items + load.items, s + load.seconds));
    if seconds <= 0.0 {
        return evenly(total, ranks, leaf);
    }
    let round = |at: f64| ((at / leaf as f64).round() as u64 * leaf).min(total);
    let share = seconds / ranks as f64;
    let (mut starts, mut passed, mut before) = (vec![0], 0.0, 0.0);
    for load in loads {
        while (starts.len() as f64) * share <= passed + load.seconds && starts.len() < ranks && load.seconds > 0.0 {
            let part = (starts.len() as f64 * share - passed) / load.seconds;
            starts.push(round(before + part * load.items as f64));
        }
        passed += load.seconds;
        before += load.items as f64;
    }
    // Rounding of times may leave the last ones out.
    starts.resize(ranks, total);
    starts.push(total);
    ranges(&starts)
}

/// Whether a division makes all loads take so much less, at the longest, that it is worth moving for.
pub(crate) fn is_worth_moving(loads: &[Load], targets: &[Range<u64>]) -> bool {
    let now = loads.iter().map(|load| load.seconds).fold(0.0, f64::max);
    let places = as_they_are(loads);
    let (mut first, mut longest) = (0, 0.0);
    for target in targets {
        first += places[first..].iter().take_while(|place| place.end <= target.start).count();
        let here = places[first..].iter().zip(&loads[first..]).take_while(|(place, _)| place.start < target.end);
        let seconds = |(place, load): (&Range<u64>, &Load)| {
            overlap(place, target).len() as f64 * load.seconds / load.items.max(1) as f64
        };
        longest = f64::max(longest, here.map(seconds).sum());
    }
    longest + SECONDS_LEAST <= now
}

/// From each start to the next.
fn ranges(starts: &[u64]) -> Vec<Range<u64>> {
    starts.windows(2).map(|pair| pair[0]..pair[1]).collect()
}

/// What a rank that has `mine` gives to one that should have `theirs`, counted from the first of `mine`.
pub(crate) fn overlap(mine: &Range<u64>, theirs: &Range<u64>) -> Range<usize> {
    let [start, end] = [theirs.start, theirs.end].map(|at| (at.clamp(mine.start, mine.end) - mine.start) as usize);
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn load(items: u64, seconds: f64) -> Load {
        Load { items, seconds }
    }

    #[test]
    fn items_stay_where_they_are_unless_a_rank_takes_longer_than_others() {
        let even = [load(10, 1.0), load(10, 1.05), load(7, 0.95)];
        assert_eq!(settled(&even, 1), as_they_are(&even));
        let short = [load(10, 0.009), load(10, 0.001)];
        assert_eq!(settled(&short, 1), as_they_are(&short));
    }

    #[test]
    fn a_rank_that_took_three_times_as_long_gives_items_away() {
        // 30 s over 3 ranks: rank 0 keeps half of its items, the others share what is left.
        assert_eq!(settled(&[load(100, 20.0), load(100, 5.0), load(100, 5.0)], 1), [0..50, 50..100, 100..300]);
        assert_eq!(settled(&[load(0, 0.0), load(8, 8.0)], 1), [0..4, 4..8]);
    }

    #[test]
    fn an_even_division_gives_the_first_ranks_the_rest() {
        assert_eq!(evenly(10, 4, 1), [0..3, 3..6, 6..8, 8..10]);
        assert_eq!(evenly(10, 4, 4), [0..4, 4..8, 8..10, 10..10]);
    }

    proptest! {
        #[test]
        fn every_item_has_a_place_and_leaves_are_whole(
            loads in prop::collection::vec((0u64..2000, 0.0f64..3.0), 1..20), ranks in 1usize..9, level in 0u32..6,
        ) {
            let loads: Vec<Load> = loads.into_iter().map(|(items, seconds)| load(items, seconds)).collect();
            let (total, leaf) = (loads.iter().map(|load| load.items).sum::<u64>(), 1 << level);
            for (places, parts) in [
                (settled(&loads, leaf), loads.len()),
                (evenly(total, loads.len(), leaf), loads.len()),
                (in_equal_times(&loads, ranks, leaf), ranks),
            ] {
                prop_assert_eq!(places.len(), parts);
                prop_assert_eq!((places[0].start, places[places.len() - 1].end), (0, total));
                for pair in places.windows(2) {
                    prop_assert_eq!(pair[0].end, pair[1].start);
                    prop_assert!(pair[0].end.is_multiple_of(leaf) || pair[0].end == total);
                }
                prop_assert!(places.iter().all(|place| place.start <= place.end));
                // All that a rank has goes to somebody, once.
                for mine in as_they_are(&loads) {
                    let mut at = 0;
                    for theirs in &places {
                        let part = overlap(&mine, theirs);
                        prop_assert!(part.start == at || part.is_empty());
                        at = at.max(part.end);
                    }
                    prop_assert_eq!(at as u64, mine.end - mine.start);
                }
            }
        }
    }
}
