//! Pairs on the disk, in the order of their keys' hashes, read once and from the front.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::budget::Budget;
use crate::wire;
use crate::worker::scratch::Pile;

/// A pair, and the place of its key in the order of hashes.
pub(crate) type Placed<K, V> = (u64, (K, V));

/// A piece of a run: where it is, and how long.
type Piece = (u64, u32);

/// Pairs that were written, and are read from the front.
pub(crate) struct Run<K, V> {
    pile: Arc<Pile>,
    pieces: std::vec::IntoIter<Piece>,
    /// The piece that is being read, and how much of it was.
    piece: Vec<u8>,
    read: usize,
    /// A pair that was read too early.
    ahead: Option<Placed<K, V>>,
    /// Pairs that were not read.
    pairs: usize,
    bytes: u64,
}

impl<K, V> fmt::Debug for Run<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("pairs", &self.pairs).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl<K: Serialize, V: Serialize> Run<K, V> {
    /// Writes pairs, which are in order.
    ///
    /// # Errors
    ///
    /// A pair that cannot be encoded, a disk without room.
    pub fn write(sorted: &[Placed<K, V>], budget: &Budget) -> Result<Self, String> {
        let pile = budget.pile().map_err(|error| error.to_string())?;
        let (mut piece, mut pieces, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (number, (_, pair)) in sorted.iter().enumerate() {
            wire::encode_after(&mut piece, pair)?;
            if piece.len() >= budget.piece() || number + 1 == sorted.len() {
                let at = pile.append(&piece).map_err(|error| error.to_string())?;
                let length = u32::try_from(piece.len()).map_err(|_| "a pair has 4 GiB or more".to_owned())?;
                pieces.push((at, length));
                bytes += piece.len() as u64;
                piece.clear();
            }
        }
        let pieces = pieces.into_iter();
        Ok(Self { pile, pieces, piece: Vec::new(), read: 0, ahead: None, pairs: sorted.len(), bytes })
    }
}

impl<K, V> Run<K, V> {
    /// Bytes of all its pairs.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl<K: DeserializeOwned, V: DeserializeOwned> Run<K, V> {
    /// The next pair, if it is before `end`; `place` tells where a key is in the order.
    ///
    /// # Errors
    ///
    /// The disk does not give back what was written.
    pub fn next_before(
        &mut self,
        end: impl Fn(u64) -> bool,
        place: impl Fn(&K) -> u64,
    ) -> Result<Option<(K, V)>, String> {
        if self.ahead.is_none() && self.pairs > 0 {
            if self.read == self.piece.len() {
                let (at, length) = self.pieces.next().expect("as long as pairs are left, pieces are");
                read(&self.pile, (at, length), &mut self.piece)?;
                self.read = 0;
            }
            let (pair, rest): ((K, V), _) = wire::decode_first(&self.piece[self.read..])?;
            self.read = self.piece.len() - rest.len();
            self.ahead = Some((place(&pair.0), pair));
        }
        let next = self.ahead.take_if(|(place, _)| end(*place));
        self.pairs -= usize::from(next.is_some());
        Ok(next.map(|(_, pair)| pair))
    }
}

fn read(pile: &Pile, (at, length): Piece, piece: &mut Vec<u8>) -> Result<(), String> {
    piece.resize(length as usize, 0);
    let failed = |error| format!("what was written to the disk for want of memory cannot be read again: {error}");
    pile.read(at, piece).map_err(failed)
}

/// As a table with these pairs is written, of which nothing was read yet.
impl<K: Serialize + DeserializeOwned, V: Serialize + DeserializeOwned> Serialize for Run<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (mut map, mut piece) = (serializer.serialize_map(Some(self.pairs))?, Vec::new());
        for place in self.pieces.as_slice() {
            read(&self.pile, *place, &mut piece).map_err(serde::ser::Error::custom)?;
            let mut rest = &piece[..];
            while !rest.is_empty() {
                let ((key, value), next): ((K, V), _) = wire::decode_first(rest).map_err(serde::ser::Error::custom)?;
                map.serialize_entry(&key, &value)?;
                rest = next;
            }
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Place;

    fn place() -> Place {
        Place { rank: 0, host: "here".into() }
    }

    #[test]
    fn pairs_come_back_in_order_as_far_as_they_are_wanted() {
        let budget = Budget::new(1, 1, &place());
        let sorted: Vec<Placed<u64, String>> = (0..2000).map(|key| (key, (key, format!("value {key}")))).collect();
        let mut run = Run::write(&sorted, &budget).unwrap();
        assert_eq!((run.pieces.len(), run.bytes()), (13, 2000 * (8 + 8 + 6) + 6890));
        for end in [0, 1, 700, 700, 2000] {
            while let Some((key, value)) = run.next_before(|place| place < end, |key| *key).unwrap() {
                assert_eq!(value, format!("value {key}"));
            }
            assert_eq!(run.pairs as u64, 2000 - end);
        }
        assert_eq!(run.next_before(|_| true, |key| *key).unwrap(), None);
    }

    #[test]
    fn a_run_is_written_as_the_table_that_it_stands_for() {
        let budget = Budget::new(1, 1, &place());
        let sorted: Vec<Placed<u16, u16>> = (0..3000).map(|key| (u64::from(key), (key, key * 2))).collect();
        let run = Run::write(&sorted, &budget).unwrap();
        let table: std::collections::BTreeMap<u16, u16> = sorted.iter().map(|(_, pair)| *pair).collect();
        assert_eq!(wire::encode(&run).unwrap(), wire::encode(&table).unwrap());
        let none = Run::<u16, u16>::write(&[], &budget).unwrap();
        assert_eq!(wire::encode(&none).unwrap(), wire::encode(&std::collections::BTreeMap::<u16, u16>::new()).unwrap());
    }
}
