//! Values on the disk, in an order, read once and from the front.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};

use super::budget::Budget;
use super::scratch::Pile;
use crate::reduce::round::scaled;
use crate::wire;

/// Values that were written, and are read from the front.
pub(crate) struct Run<T> {
    pile: Arc<Pile>,
    pieces: std::vec::IntoIter<Piece>,
    /// The piece that is being read, and how much of it was.
    piece: Vec<u8>,
    read: usize,
    /// A value that was read too early.
    ahead: Option<T>,
    /// Values that were not read.
    left: usize,
    bytes: u64,
}

/// Bytes of some values: where they are, how many, and the number of the first value.
#[derive(Debug, Clone, Copy)]
struct Piece {
    at: u64,
    length: u32,
    first: usize,
}

impl<T> fmt::Debug for Run<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("left", &self.left).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl<T> Run<T> {
    /// Writes values in their order.
    ///
    /// # Errors
    ///
    /// A value that cannot be encoded, a disk without room.
    pub fn write<V: Serialize>(values: &[T], of: impl Fn(&T) -> &V, budget: &Budget) -> Result<Run<V>, String> {
        let pile = budget.pile().map_err(|error| error.to_string())?;
        let (mut piece, mut pieces, mut bytes, mut first) = (Vec::new(), Vec::new(), 0, 0);
        for (number, value) in (1..).zip(values) {
            wire::encode_after(&mut piece, of(value))
                .map_err(|message| format!("a value cannot be encoded: {message}"))?;
            if piece.len() >= budget.piece() || number == values.len() {
                let length = u32::try_from(piece.len()).map_err(|_| "a value has 4 GiB or more".to_owned())?;
                let at = pile.append(&piece).map_err(|error| error.to_string())?;
                pieces.push(Piece { at, length, first });
                (bytes, first) = (bytes + piece.len() as u64, number);
                piece.clear();
            }
        }
        let pieces = pieces.into_iter();
        Ok(Run { pile, pieces, piece: Vec::new(), read: 0, ahead: None, left: values.len(), bytes })
    }

    /// Bytes of all its values.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The same values, to be read from the front; of a run of which nothing was read yet.
    pub fn again(&self) -> Self {
        let Self { pile, pieces, left, bytes, .. } = self;
        let (pile, pieces) = (Arc::clone(pile), pieces.clone());
        Self { pile, pieces, piece: Vec::new(), read: 0, ahead: None, left: *left, bytes: *bytes }
    }

    /// Values that are left.
    pub fn len(&self) -> usize {
        self.left
    }
}

impl<T: DeserializeOwned> Run<T> {
    /// The next value, if it is wanted.
    ///
    /// # Errors
    ///
    /// The disk does not give back what was written.
    pub fn next_if(&mut self, wanted: impl Fn(&T) -> bool) -> Result<Option<T>, String> {
        if self.ahead.is_none() && self.left > 0 {
            if self.read == self.piece.len() {
                let piece = self.pieces.next().expect("as long as values are left, pieces are");
                read(&self.pile, piece, &mut self.piece)?;
                self.read = 0;
            }
            let (value, rest) = first_of(&self.piece[self.read..])?;
            self.read = self.piece.len() - rest.len();
            self.ahead = Some(value);
        }
        let next = self.ahead.take_if(|value| wanted(value));
        self.left -= usize::from(next.is_some());
        Ok(next)
    }

    /// Shows all values to somebody, of a run of which nothing was read yet.
    ///
    /// # Errors
    ///
    /// The disk does not give back what was written; or what `see` says.
    pub fn each(&self, mut see: impl FnMut(T) -> Result<(), String>) -> Result<(), String> {
        let mut bytes = Vec::new();
        for piece in self.pieces.as_slice() {
            read(&self.pile, *piece, &mut bytes)?;
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (value, next) = first_of(rest)?;
                see(value)?;
                rest = next;
            }
        }
        Ok(())
    }

    /// About so many values from all over the run, with their numbers; of a run of which nothing was read yet.
    ///
    /// # Errors
    ///
    /// The disk does not give back what was written.
    pub fn samples(&self, count: usize) -> Result<Vec<(usize, T)>, String> {
        let (pieces, mut bytes, mut samples) = (self.pieces.as_slice(), Vec::new(), Vec::new());
        let read_from = count.min(pieces.len());
        for chosen in 0..read_from {
            let at = chosen * pieces.len() / read_from;
            let (first, end) = (pieces[at].first, pieces.get(at + 1).map_or(self.left, |next| next.first));
            read(&self.pile, pieces[at], &mut bytes)?;
            let wanted = count * (chosen + 1) / read_from - count * chosen / read_from;
            let mut wanted = spread(first..end, wanted).peekable();
            let mut rest = &bytes[..];
            for number in first..end {
                let (value, next) = first_of(rest)?;
                rest = next;
                if wanted.next_if_eq(&number).is_some() {
                    samples.push((number, value));
                }
            }
        }
        Ok(samples)
    }
}

/// So many numbers of a range, as far as it has them, in their order: one from each of equal parts, as if by chance, since
/// equal distances would miss what repeats itself.
pub(crate) fn spread(range: Range<usize>, count: usize) -> impl Iterator<Item = usize> {
    let (start, length) = (range.start, range.len());
    let count = count.min(length);
    (0..count).map(move |part| {
        let [from, to] = [part, part + 1].map(|part| start + part * length / count);
        from + anywhere(from, to - from)
    })
}

/// One of so many, at least one, as if by chance.
fn anywhere(number: usize, of: usize) -> usize {
    // The first multiplier of Knuth's MMIX generator; after one product alone, numbers at equal distances would still differ by
    // equal distances, and all be even, or odd. The upper bits of the second one look random.
    let product = |number: u64| number.wrapping_mul(6_364_136_223_846_793_005);
    let hash = product(number as u64 + 1);
    scaled(product(hash ^ (hash >> 32)), of as u64) as usize
}

fn first_of<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8]), String> {
    wire::decode_first(bytes).map_err(lost)
}

fn lost(problem: impl fmt::Display) -> String {
    format!("what was written to the disk for want of memory cannot be read again: {problem}")
}

fn read(pile: &Pile, piece: Piece, bytes: &mut Vec<u8>) -> Result<(), String> {
    bytes.resize(piece.length as usize, 0);
    pile.read(piece.at, bytes).map_err(lost)
}

/// As a list of these values, or a table of these pairs, is written.
impl<T: Serialize + DeserializeOwned> Serialize for Run<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.left))?;
        let element = |value: T| list.serialize_element(&value).map_err(|error| error.to_string());
        self.each(element).map_err(serde::ser::Error::custom)?;
        list.end()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::error::Place;

    fn place() -> Place {
        Place { rank: 0, host: "here".into() }
    }

    #[test]
    fn pairs_come_back_in_order_as_far_as_they_are_wanted() {
        let budget = Budget::new(1, 1, &place());
        let sorted: Vec<(u64, String)> = (0..2000).map(|key| (key, format!("value {key}"))).collect();
        let mut run = Run::write(&sorted, |pair| pair, &budget).unwrap();
        assert_eq!((run.pieces.len(), run.bytes()), (13, 2000 * (8 + 8 + 6) + 6890));
        for end in [0, 1, 700, 700, 2000] {
            while let Some((key, value)) = run.next_if(|(key, _)| *key < end).unwrap() {
                assert_eq!(value, format!("value {key}"));
            }
            assert_eq!(run.len() as u64, 2000 - end);
        }
        assert_eq!(run.next_if(|_| true).unwrap(), None);
    }

    #[test]
    fn a_run_is_written_as_the_table_that_it_stands_for() {
        let budget = Budget::new(1, 1, &place());
        let sorted: Vec<(u16, u16)> = (0..3000).map(|key| (key, key * 2)).collect();
        let run = Run::write(&sorted, |pair| pair, &budget).unwrap();
        let table: BTreeMap<u16, u16> = sorted.iter().copied().collect();
        assert_eq!(wire::encode(&run).unwrap(), wire::encode(&table).unwrap());
        assert_eq!(wire::encode(&run).unwrap(), wire::encode(&sorted).unwrap());
        let none = Run::<(u16, u16)>::write(&[], |pair| pair, &budget).unwrap();
        assert_eq!(wire::encode(&none).unwrap(), wire::encode(&BTreeMap::<u16, u16>::new()).unwrap());
    }

    /// Whatever the distance, what repeats itself among the values is seen as often as it is there.
    #[test]
    fn samples_at_any_distance_are_odd_and_even_alike() {
        for distance in 2..300 {
            for period in 2..5 {
                let numbers: Vec<usize> = spread(0..1000 * distance, 1000).collect();
                let seen = numbers.iter().filter(|number| number.is_multiple_of(period)).count();
                let expected = 1000 / period;
                assert!(seen.abs_diff(expected) < 80, "distance {distance}, period {period}: {seen} of {expected}");
            }
        }
    }

    #[test]
    fn samples_are_spread_and_know_their_numbers() {
        let budget = Budget::new(1, 1, &place());
        let values: Vec<u64> = (0..10_000).collect();
        let run = Run::write(&values, |value| value, &budget).unwrap();
        let samples = run.samples(7).unwrap();
        assert!(samples.len() == 7 && samples.iter().all(|(number, value)| *number as u64 == *value), "{samples:?}");
        assert!(samples[0].1 < 1500 && samples[6].1 > 7000, "{samples:?}");
        // Of one run of 20 pieces, several each.
        let many = run.samples(100).unwrap();
        assert!(many.len() == 100 && many.is_sorted_by(|a, b| a.0 < b.0), "{many:?}");
        assert!(many.iter().all(|(number, value)| *number as u64 == *value), "{many:?}");
        let (mut seen, mut again) = (Vec::new(), run.again());
        assert_eq!(again.next_if(|_| true).unwrap(), Some(0));
        assert_eq!((again.len(), run.len()), (9999, 10_000));
        let see = |value| {
            seen.push(value);
            Ok(())
        };
        run.each(see).unwrap();
        assert_eq!(seen, values);
    }
}
