//! Turns: what ranks compute between two moments at which what is left moves to those that have nothing.
//!
//! A rank's turn ends when it has nothing left. When one has had nothing for a while, the turn ends for all ranks, as soon as
//! they can, and they tell each other what is left, and how long items have taken. If that promises to be over sooner when it is
//! shared, it is divided so that it takes all ranks the same time (by [`settled`], as if it were a collection of its own), and
//! the next turn begins; if not, everybody keeps what is left, and the next turn does not end before that should be over: what
//! is left may turn out to take longer than what was before it. So ranks come together a few times where they are uneven, and
//! once where they are even (a bulk-synchronous computation: Valiant, "A bridging model for parallel computation", CACM 33(8),
//! 1990).

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::balance::{Load, as_they_are, is_worth_moving, settled};
use crate::error::Result;
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

/// What a rank tells at the end of a turn.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Card {
    /// Values that it has made in all turns so far, where they stay on the ranks, and the seconds that it took.
    pub values: u64,
    pub seconds: f64,
    /// Items that it has visited in this turn, and the seconds that it took.
    pub visited: u64,
    pub lately: f64,
    /// Items that are left.
    pub left: u64,
    pub has_failed: bool,
}

impl Card {
    pub fn load(&self) -> Load {
        Load { items: self.values, seconds: self.seconds }
    }
}

/// What ranks have left when a turn is over, in the order of ranks: where it is, and where it should be.
pub(crate) struct Remains {
    pub total: u64,
    pub places: Vec<Range<u64>>,
    pub targets: Vec<Range<u64>>,
    /// The seconds that a rank is expected to need at most, if all keep what they have.
    longest: f64,
}

impl Remains {
    fn of(cards: &[Card]) -> Self {
        let loads = what_is_left(cards);
        let total = loads.iter().map(|load| load.items).sum();
        let (places, targets) = (as_they_are(&loads), settled(&loads, 1));
        // One item that is left is no sooner done elsewhere.
        let targets = if is_worth_moving(&loads, &targets) { targets } else { places.clone() };
        let longest = loads.iter().map(|load| load.seconds).fold(0.0, f64::max);
        Self { total, places, targets, longest }
    }

    /// Whether something goes to another rank.
    pub fn are_going(&self) -> bool {
        self.places != self.targets
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

/// What ranks tell when a turn has ended; and, if something is left, that, and the next turn.
pub(crate) type Ended<'c> = (Vec<Card>, Option<(Remains, Turn<'c>)>);

/// One turn, on one rank.
pub(crate) struct Turn<'c> {
    call: &'c str,
    number: u32,
    /// Everybody goes on to the end.
    is_last: bool,
    /// So many seconds ranks that have nothing left wait at least.
    patience: f64,
    /// It is to end for all ranks; rank 0 has told them, and this one knows.
    is_over: AtomicBool,
    /// This rank has told rank 0 that it has nothing left.
    has_told: bool,
}

impl<'c> Turn<'c> {
    pub fn first(call: &'c str, ranks: usize) -> Self {
        Self {
            call,
            number: 0,
            is_last: ranks == 1,
            patience: IDLE_LEAST,
            is_over: AtomicBool::new(false),
            has_told: false,
        }
    }

    /// Where nothing is shared, the next turn ends when what is left takes much longer than it should.
    fn next(self, remains: &Remains) -> Self {
        let patience = if remains.are_going() { IDLE_LEAST } else { remains.longest.max(2.0 * self.patience) };
        let number = self.number + 1;
        let is_last = number + 1 >= TURNS_MOST;
        Self { number, is_last, patience, is_over: AtomicBool::new(false), has_told: false, ..self }
    }

    /// Computes on the pool, with a flag that asks for an end. Gives the seconds that it took as well.
    ///
    /// # Errors
    ///
    /// A rank that is silent for too long, a transport that fails.
    pub fn take<R: Send>(&self, rank: &mut Rank, work: impl FnOnce(&AtomicBool) -> R + Send) -> Result<(R, f64)> {
        let begun = Instant::now();
        let look = |rank: &mut Rank| {
            let heard = self.listen(rank);
            if heard.is_err() {
                self.is_over.store(true, Ordering::Relaxed);
            }
            heard
        };
        // Nothing comes in the last one.
        let pause = if self.is_last { rank.patience.interval() / 2 } else { LOOK };
        let made = rank.meanwhile_doing(pause, || work(&self.is_over), look)?;
        Ok((made, begun.elapsed().as_secs_f64()))
    }

    /// All ranks have come to the end of the turn. Gives what each of them tells; and, if something is left, that, and the next
    /// turn. Collective.
    ///
    /// # Errors
    ///
    /// What has failed on the first rank where something has, the same error on every rank.
    pub fn end(mut self, rank: &mut Rank, card: &Result<Card>) -> Result<Ended<'c>> {
        let cards = self.meet(rank, card)?;
        if cards.iter().all(|card| card.left == 0) {
            return Ok((cards, None));
        }
        let remains = Remains::of(&cards);
        let next = self.next(&remains);
        Ok((cards, Some((remains, next))))
    }

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
        let patience = Duration::from_secs_f64(self.patience.max(IDLE_PART * mine.lately));
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
            let is_soon = waited < A_MOMENT || self.is_over.load(Ordering::Relaxed);
            let mood = if is_soon { Mood::Meeting } else { Mood::Serving };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_costs_what_the_last_items_did_and_else_what_others_did() {
        let card = |visited, lately, left| Card { visited, lately, left, ..Card::default() };
        let loads = what_is_left(&[card(10, 5.0, 6), card(0, 0.1, 3), card(40, 5.0, 0)]);
        let found: Vec<(u64, f64)> = loads.iter().map(|load| (load.items, load.seconds)).collect();
        assert_eq!(found, [(6, 3.0), (3, 3.0 * 10.1 / 50.0), (0, 0.0)]);
        let unknown = Remains::of(&[card(0, 0.0, 3), card(0, 0.0, 1), card(0, 0.0, 2)]);
        assert!(unknown.are_going() && unknown.targets == [0..2, 2..4, 4..6], "{:?}", unknown.targets);
        assert!(!Remains::of(&[card(10, 0.1, 1), card(10, 0.1, 0)]).are_going(), "10 ms are not worth it");
        assert!(!Remains::of(&[card(10, 0.1, 0), card(1, 0.1, 1)]).are_going(), "one item takes as long elsewhere");
        let uneven = [card(1, 3.0, 1), card(1, 0.1, 1), card(1, 0.1, 1)];
        assert!(!Remains::of(&uneven).are_going(), "the first one would have nothing, and the last one two");
        let slow = [card(1, 3.0, 2), card(30, 0.1, 0), card(30, 0.1, 0)];
        assert!(Remains::of(&slow).are_going(), "each of two has one then");
    }
}
