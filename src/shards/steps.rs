//! A step on every item by itself, wherever there is time for it: in turns.

use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::balance::{Load, as_they_are, in_equal_times};
use super::moves::{Part, arrange, bring_together, concatenated, leaf_of, move_to};
use super::sharded::caught;
use super::turns::{Card, Turn};
use crate::error::{Error, Place, Result};
use crate::rank::Rank;
use crate::reduce::telling::all_or_none;

/// Runs the function on every item, wherever there is time for it, and leaves what it makes in the order of items. `first` is
/// the number of this rank's first item among all. Collective.
///
/// # Errors
///
/// The function panics, a value cannot be encoded; the same error on every rank.
pub(super) fn in_turns<T, R>(
    rank: &mut Rank,
    call: &str,
    first: u64,
    items: impl IndexedParallelIterator<Item = T>,
    function: impl Fn(T) -> Option<R> + Sync,
) -> Result<Part<R>>
where
    T: Serialize + DeserializeOwned + Send,
    R: Serialize + DeserializeOwned + Send,
{
    let place = rank.place.clone();
    let step = Step { call, place: &place, function };
    let numbered = items.enumerate().map(|(at, item)| (first + at as u64, item));
    let mut turn = Turn::first(call, rank.size());
    let (mut made, mut lately) = turn.take(rank, |is_over| step.visit(numbered, is_over))?;
    let (mut runs, mut seconds, mut have_moved) = (Vec::new(), 0.0, false);
    loop {
        seconds += lately;
        let card = made.as_ref().map_err(Error::clone).map(|made| {
            let values = runs.iter().chain(&made.runs).map(Run::len).sum();
            let [visited, left] = [made.visited(), made.left.len() as u64];
            Card { values, seconds, visited, lately, left, has_failed: false }
        });
        let (cards, next) = turn.end(rank, &card)?;
        let Made { runs: more, left } = made?;
        runs.extend(more);
        let Some((remains, next)) = next else {
            let loads: Vec<Load> = cards.iter().map(Card::load).collect();
            return if have_moved {
                in_order(rank, call, runs, &loads)
            } else {
                as_they_came(rank, call, runs, &loads)
            };
        };
        have_moved |= remains.are_going();
        let left = move_to(rank, call, left, &remains.places, &remains.targets, remains.total)?.mine;
        turn = next;
        (made, lately) = turn.take(rank, |is_over| step.visit(left.into_par_iter(), is_over))?;
    }
}

struct Step<'c, F> {
    call: &'c str,
    place: &'c Place,
    function: F,
}

impl<F> Step<'_, F> {
    /// Runs the function on items, which have their numbers with them, until the turn is over.
    fn visit<T, R>(
        &self,
        items: impl IndexedParallelIterator<Item = (u64, T)>,
        is_over: &AtomicBool,
    ) -> Result<Made<T, R>>
    where
        T: Send,
        R: Send,
        F: Fn(T) -> Option<R> + Sync,
    {
        let visit = |mut made: Made<T, R>, (number, item)| {
            if is_over.load(Ordering::Relaxed) {
                made.left.push((number, item));
            } else {
                made.add(number, caught(self.call, self.place, number, || (self.function)(item))?);
            }
            Ok(made)
        };
        items.try_fold(Made::default, visit).collect::<Result<_>>().map(Made::joined)
    }
}

/// No item has gone to another rank: values stay where they were made, unless ranks were uneven.
fn as_they_came<R>(rank: &mut Rank, call: &str, mut runs: Vec<Run<R>>, loads: &[Load]) -> Result<Part<R>>
where
    R: Serialize + DeserializeOwned + Send,
{
    runs.sort_unstable_by_key(|run| run.first);
    let mine = concatenated(runs.into_iter().map(|run| run.values).collect());
    arrange(rank, call, mine, loads)
}

/// Brings values into the order of the items that they were made of, wherever that was. Collective.
fn in_order<R>(rank: &mut Rank, call: &str, runs: Vec<Run<R>>, loads: &[Load]) -> Result<Part<R>>
where
    R: Serialize + DeserializeOwned + Send,
{
    if loads.iter().all(|load| load.items == 0) {
        return Ok(Part { mine: Vec::new(), start: 0, total: 0 });
    }
    let listed: Vec<(u64, u64)> = runs.iter().map(|run| (run.first, run.len())).collect();
    let listed = all_or_none(rank, &Ok(listed))?;
    let each = |load: &Load| load.seconds / load.items.max(1) as f64;
    let of_rank = |(runs, load): (Vec<(u64, u64)>, &Load)| {
        let each = each(load);
        runs.into_iter().map(move |(first, items)| (first, Load { items, seconds: each * items as f64 }))
    };
    let mut all: Vec<(u64, Load)> = listed.into_iter().zip(loads).flat_map(of_rank).collect();
    all.sort_unstable_by_key(|(first, _)| *first);
    let (firsts, loads): (Vec<u64>, Vec<Load>) = all.into_iter().unzip();
    let places = as_they_are(&loads);
    let total = places.last().map_or(0, |place| place.end);
    let place = |run: &Run<R>| places[firsts.partition_point(|first| *first < run.first)].start;
    let pieces = runs.into_iter().filter(|run| !run.values.is_empty()).map(|run| (place(&run), run.values)).collect();
    let targets = in_equal_times(&loads, rank.size(), leaf_of(total));
    let mine = bring_together(rank, call, pieces, &targets)?;
    Ok(Part { mine, start: targets[rank.rank()].start, total })
}

/// What was made of items that follow each other.
struct Run<R> {
    /// The number of the first item, and the one after the last.
    first: u64,
    end: u64,
    values: Vec<R>,
}

impl<R> Run<R> {
    fn len(&self) -> u64 {
        self.values.len() as u64
    }
}

/// What a rank has made of its items in one turn.
struct Made<T, R> {
    runs: Vec<Run<R>>,
    left: Vec<(u64, T)>,
}

impl<T, R> Default for Made<T, R> {
    fn default() -> Self {
        Self { runs: Vec::new(), left: Vec::new() }
    }
}

impl<T, R> Made<T, R> {
    fn visited(&self) -> u64 {
        self.runs.iter().map(|run| run.end - run.first).sum()
    }

    /// An item was visited, and may have come to something.
    fn add(&mut self, number: u64, value: Option<R>) {
        match self.runs.last_mut() {
            Some(run) if run.end == number => {
                run.end += 1;
                run.values.extend(value);
            }
            _ => self.runs.push(Run { first: number, end: number + 1, values: value.into_iter().collect() }),
        }
    }

    /// Of pieces in the order of their items; runs that meet become one.
    fn joined(pieces: Vec<Self>) -> Self {
        let mut joined = Self::default();
        let mut groups: Vec<(u64, u64, Vec<Vec<R>>)> = Vec::new();
        for piece in pieces {
            joined.left.extend(piece.left);
            for Run { first, end, values } in piece.runs {
                match groups.last_mut() {
                    Some((_, last, parts)) if *last == first => {
                        *last = end;
                        parts.push(values);
                    }
                    _ => groups.push((first, end, vec![values])),
                }
            }
        }
        let run = |(first, end, parts)| Run { first, end, values: concatenated(parts) };
        joined.runs = groups.into_iter().map(run).collect();
        joined
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Pieces as threads make them: of some items each, with what they came to, and the rest left.
    fn pieces(items: &[(u64, bool)], ends: &[usize], kept: impl Fn(u64) -> bool) -> Vec<Made<u64, u64>> {
        let bounds: Vec<usize> = [0].into_iter().chain(ends.iter().copied()).chain([items.len()]).collect();
        let piece = |pair: &[usize]| {
            let mut made = Made::default();
            for (number, is_left) in &items[pair[0]..pair[1]] {
                if *is_left {
                    made.left.push((*number, *number));
                } else {
                    made.add(*number, kept(*number).then_some(*number));
                }
            }
            made
        };
        bounds.windows(2).map(piece).collect()
    }

    proptest! {
        /// Of items with gaps between them, some left: runs never span a gap, in which another rank's values would belong.
        #[test]
        fn runs_have_all_values_in_order_and_span_no_gap(
            gaps in prop::collection::vec((1u64..3, any::<bool>()), 0..60),
            ends in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
            sieve in 1u64..4,
        ) {
            let items: Vec<(u64, bool)> =
                gaps.iter().scan(0, |at, (gap, is_left)| { *at += gap; Some((*at, *is_left)) }).collect();
            let mut ends: Vec<usize> = ends.iter().map(|end| end.index(items.len() + 1)).collect();
            ends.sort_unstable();
            let kept = |number: u64| !number.is_multiple_of(sieve);
            let made = Made::joined(pieces(&items, &ends, kept));
            let visited: Vec<u64> = items.iter().filter(|(_, is_left)| !is_left).map(|(number, _)| *number).collect();
            prop_assert!(made.left.iter().map(|(number, _)| *number).eq(items.iter().filter(|(_, l)| *l).map(|(n, _)| *n)));
            prop_assert_eq!(made.visited(), visited.len() as u64);
            prop_assert!(made.runs.iter().flat_map(|run| run.first..run.end).eq(visited.iter().copied()));
            for run in &made.runs {
                prop_assert!(run.values.iter().copied().eq((run.first..run.end).filter(|number| kept(*number))));
            }
            prop_assert!(made.runs.windows(2).all(|pair| pair[0].end < pair[1].first), "runs that meet are one");
        }
    }
}
