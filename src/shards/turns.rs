//! A step on every item by itself, in turns: between two of them, the items that are left move to ranks that have none.
//!
//! A rank's turn ends when it has no item left. When one has had none for a while, the turn ends for all ranks at their next
//! items, and they tell each other what is left, and how long items have taken. If that promises to be over sooner when it is
//! shared, it is divided so that it takes all ranks the same time (by [`settled`], as if it were a collection of its own), and
//! the next turn begins; if not, everybody keeps what is left, and the next turn is the last one. So ranks come together a few
//! times in an uneven step, and once in an even one (a bulk-synchronous computation: Valiant, "A bridging model for parallel
//! computation", CACM 33(8), 1990).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rayon::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::balance::{Load, as_they_are, in_equal_times, settled};
use super::moves::{Part, arrange, bring_together, leaf_of, move_to};
use super::sharded::caught;
use crate::error::{Error, Result};
use crate::rank::Rank;
use crate::reduce::telling::all_or_none;
use crate::transport::Collective;
use crate::transport::wait::{Mood, Waiter};
use crate::wire::{self, Message};

/// A rank without items lets the others go on for so long, and for this part of the time that its own have taken.
const IDLE_LEAST: f64 = 0.01;
const IDLE_PART: f64 = 0.05;
/// The last turn cannot be ended: however wrong times are as a forecast, there are no more turns than these.
const TURNS_MOST: u32 = 16;
/// A rank that computes looks so often for whether its turn is to end.
const LOOK: Duration = Duration::from_millis(2);
/// After so long in a meeting, others are busy.
const A_MOMENT: Duration = Duration::from_millis(10);

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
    let numbered = items.enumerate().map(|(at, item)| (first + at as u64, item));
    let mut turn = Turn::first(call, rank.size());
    let mut made = turn.take(rank, numbered, &function)?;
    let (mut runs, mut seconds, mut have_moved) = (Vec::new(), 0.0, false);
    loop {
        let card = made.as_ref().map(|made| {
            let values = runs.iter().chain(&made.runs).map(Run::len).sum();
            let [visited, left] = [made.visited(), made.left.len() as u64];
            Card { values, seconds: seconds + made.seconds, visited, lately: made.seconds, left, has_failed: false }
        });
        let cards = turn.meet(rank, &card.map_err(Error::clone))?;
        let Made { runs: more, left, seconds: lately } = made?;
        runs.extend(more);
        seconds += lately;
        let total = cards.iter().map(|card| card.left).sum();
        if total == 0 {
            let loads: Vec<Load> = cards.iter().map(Card::load).collect();
            return if have_moved {
                in_order(rank, call, runs, &loads)
            } else {
                as_they_came(rank, call, runs, &loads)
            };
        }
        let loads = what_is_left(&cards);
        let (places, targets) = (as_they_are(&loads), settled(&loads, 1));
        let is_worth_it = places != targets;
        have_moved |= is_worth_it;
        let left = move_to(rank, call, left, &places, &targets, total)?.mine;
        turn = turn.next(is_worth_it);
        made = turn.take(rank, left.into_par_iter(), &function)?;
    }
}

/// What a rank tells at the end of a turn.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Card {
    /// Values that it has made in this step so far, and the seconds that it took.
    values: u64,
    seconds: f64,
    /// Items that it has visited in this turn, and the seconds that it took.
    visited: u64,
    lately: f64,
    /// Items that are left.
    left: u64,
    has_failed: bool,
}

impl Card {
    fn load(&self) -> Load {
        Load { items: self.values, seconds: self.seconds }
    }
}

/// The items that ranks have left, and how long they would take there.
fn what_is_left(cards: &[Card]) -> Vec<Load> {
    let (visited, lately): (u64, f64) =
        cards.iter().fold((0, 0.0), |(visited, lately), card| (visited + card.visited, lately + card.lately));
    // Of items that nobody has visited, one is like the other.
    let usual = if visited == 0 { 1.0 } else { lately / visited as f64 };
    let of = |card: &Card| {
        let each = if card.visited == 0 { usual } else { card.lately / card.visited as f64 };
        Load { items: card.left, seconds: each * card.left as f64 }
    };
    cards.iter().map(of).collect()
}

/// No item has gone to another rank: values stay where they were made, unless ranks were uneven.
fn as_they_came<R>(rank: &mut Rank, call: &str, mut runs: Vec<Run<R>>, loads: &[Load]) -> Result<Part<R>>
where
    R: Serialize + DeserializeOwned + Send,
{
    runs.sort_unstable_by_key(|run| run.first);
    let mine = one_after_the_other(runs.into_iter().map(|run| run.values).collect());
    arrange(rank, call, mine, loads)
}

/// Brings values into the order of the items that they were made of, wherever that was. Collective.
fn in_order<R>(rank: &mut Rank, call: &str, runs: Vec<Run<R>>, loads: &[Load]) -> Result<Part<R>>
where
    R: Serialize + DeserializeOwned + Send,
{
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
    seconds: f64,
}

impl<T, R> Default for Made<T, R> {
    fn default() -> Self {
        Self { runs: Vec::new(), left: Vec::new(), seconds: 0.0 }
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
        let run = |(first, end, parts)| Run { first, end, values: one_after_the_other(parts) };
        joined.runs = groups.into_iter().map(run).collect();
        joined
    }
}

fn one_after_the_other<R>(parts: Vec<Vec<R>>) -> Vec<R> {
    let total: usize = parts.iter().map(Vec::len).sum();
    let mut parts = parts.into_iter();
    let mut all = parts.next().unwrap_or_default();
    all.reserve_exact(total - all.len());
    parts.for_each(|part| all.extend(part));
    all
}

/// An item of this rank's that is looked at, or a copy of another one's.
#[derive(Debug)]
pub(super) enum Lent<'i, T> {
    Ours(&'i T),
    Theirs(T),
}

impl<T> AsRef<T> for Lent<'_, T> {
    fn as_ref(&self) -> &T {
        match self {
            Self::Ours(item) => item,
            Self::Theirs(item) => item,
        }
    }
}

impl<T: Serialize> Serialize for Lent<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_ref().serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Lent<'_, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::Theirs)
    }
}

/// One turn of a step, on one rank.
struct Turn<'c> {
    call: &'c str,
    number: u32,
    /// Everybody goes on to the end.
    is_last: bool,
    /// It is to end for all ranks; rank 0 has told them, and this one knows.
    is_over: AtomicBool,
    /// This rank has told rank 0 that it has nothing left.
    has_told: bool,
}

impl<'c> Turn<'c> {
    fn first(call: &'c str, ranks: usize) -> Self {
        Self { call, number: 0, is_last: ranks == 1, is_over: AtomicBool::new(false), has_told: false }
    }

    fn next(self, may_end: bool) -> Self {
        let number = self.number + 1;
        let is_last = !may_end || number + 1 >= TURNS_MOST;
        Self { number, is_last, is_over: AtomicBool::new(false), has_told: false, ..self }
    }

    /// Runs the function on items until the turn is over. The outer error is one of the ranks', the inner one of the function.
    fn take<T, R>(
        &self,
        rank: &mut Rank,
        items: impl IndexedParallelIterator<Item = (u64, T)>,
        function: &(impl Fn(T) -> Option<R> + Sync),
    ) -> Result<Result<Made<T, R>>>
    where
        T: Send,
        R: Send,
    {
        let (place, begun) = (rank.place.clone(), Instant::now());
        let visit = |mut made: Made<T, R>, (number, item)| {
            if self.is_over.load(Ordering::Relaxed) {
                made.left.push((number, item));
            } else {
                made.add(number, caught(self.call, &place, number, || function(item))?);
            }
            Ok(made)
        };
        let all = || items.try_fold(Made::default, visit).collect::<Result<Vec<_>>>();
        let look = |rank: &mut Rank| {
            let heard = self.listen(rank);
            if heard.is_err() {
                self.is_over.store(true, Ordering::Relaxed);
            }
            heard
        };
        let pieces = rank.meanwhile_doing(LOOK, all, look)?;
        let made = pieces.map(|pieces| Made { seconds: begun.elapsed().as_secs_f64(), ..Made::joined(pieces) });
        Ok(made)
    }

    /// All ranks have come to the end of the turn. Gives what each of them tells. Collective.
    ///
    /// # Errors
    ///
    /// What has failed on the first rank where something has, the same error on every rank.
    fn meet(&mut self, rank: &mut Rank, card: &Result<Card>) -> Result<Vec<Card>> {
        let mine = card.as_ref().map_or_else(|_| Card { has_failed: true, ..Card::default() }, |card| *card);
        let cards = if rank.size() == 1 { vec![mine] } else { self.gather(rank, &mine)? };
        if cards.iter().any(|card| card.has_failed) {
            all_or_none(rank, card)?;
        }
        Ok(cards)
    }

    fn gather(&mut self, rank: &mut Rank, mine: &Card) -> Result<Vec<Card>> {
        let card = wire::encode(mine).expect("a card is made of plain data");
        let length = card.len();
        rank.start(Collective::Cards(card))?;
        let (mut waiter, begun) = (Waiter::default(), Instant::now());
        let patience = Duration::from_secs_f64(IDLE_LEAST.max(IDLE_PART * mine.lately));
        loop {
            if let Some(mut cards) = rank.test()? {
                let cards = cards.swap_remove(0);
                let read = |card| wire::decode(card).map_err(|message| rank.internal(self.call, message));
                return cards.chunks_exact(length).map(read).collect();
            }
            self.listen(rank)?;
            let waited = begun.elapsed();
            if waited >= patience && !self.is_last && !std::mem::replace(&mut self.has_told, true) {
                self.say_idle(rank)?;
            }
            let mood = if waited < A_MOMENT { Mood::Meeting } else { Mood::without_work(&rank.transport) };
            waiter.wait(mood, std::thread::sleep);
        }
    }

    /// Lets rank 0 know that this rank has nothing left; on rank 0, lets everybody know. A rank that is not in this turn yet may
    /// miss it, and then goes on to the end: that costs time, and nothing else.
    fn say_idle(&self, rank: &mut Rank) -> Result<()> {
        if rank.rank() > 0 {
            return rank.send(0, Message::Idle { turn: self.number });
        }
        if !self.is_over.swap(true, Ordering::Relaxed) {
            (1..rank.size()).try_for_each(|other| rank.send(other, Message::TurnOver { turn: self.number }))?;
        }
        Ok(())
    }

    /// Takes what has arrived, and looks after the others.
    fn listen(&self, rank: &mut Rank) -> Result<()> {
        while let Some((_, message)) = rank.next_message()? {
            match message {
                Message::Idle { turn } if turn == self.number => self.say_idle(rank)?,
                Message::TurnOver { turn } if turn == self.number => self.is_over.store(true, Ordering::Relaxed),
                other => tracing::debug!("dropped {other:?} in {}", self.call),
            }
        }
        if rank.is_time_to_look_around() {
            rank.look_after_others()?;
        }
        Ok(())
    }
}
