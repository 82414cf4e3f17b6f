//! Which part of all partials travels when there is no memory for all of them at once.
//!
//! Pure: what has a place among all that 64 bits can number, such as a key by its hash, travels in the round that its place
//! names, wherever it is.

use crate::simulate::mutant::{Mutant, planted};

/// One of several rounds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    pub number: u64,
    pub of: u64,
}

impl Round {
    /// Whether what is at a place has gone when the round ends.
    pub fn is_over(self, place: u64) -> bool {
        scaled(place, self.of) + u64::from(planted(Mutant::RoundTooLate)) <= self.number
    }
}

/// A number of all that 64 bits can be, as one of so many.
pub(crate) fn scaled(number: u64, of: u64) -> u64 {
    ((u128::from(number) * u128::from(of)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_place_goes_in_one_round_and_places_that_follow_do_not_go_before(
            places in prop::collection::vec(any::<u64>(), 1..50), of in 1u64..1000,
        ) {
            let mut places = places;
            places.sort_unstable();
            let round_of = |place: &u64| (0..of).find(|number| Round { number: *number, of }.is_over(*place));
            let rounds: Vec<Option<u64>> = places.iter().map(round_of).collect();
            prop_assert!(rounds.iter().all(Option::is_some) && rounds.is_sorted(), "{rounds:?}");
            let [first, last] = [0, of - 1].map(|number| Round { number, of });
            prop_assert!(first.is_over(0) && last.is_over(u64::MAX));
        }
    }
}
