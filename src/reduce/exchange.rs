//! Every rank has something for every other one, of lengths that only the sender knows.
//!
//! The lengths go first (`MPI_Ialltoallv`), then the bytes, in as many rounds as keep each call below what MPI can count
//! (MPI 4.0, section 6.8). Where ranks were lost on the way, messages take the place of the collective, and the lost get
//! nothing.

use std::ops::Range;

use crate::error::Error;
use crate::rank::Rank;
use crate::transport::{Channel, Collective};

/// Bytes that a rank sends, or receives, in one call.
const ROUND: usize = 1 << 30;

/// A part for, or from, each rank, in a buffer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Parcels {
    pub bytes: Vec<u8>,
    pub parts: Vec<Range<usize>>,
}

impl Parcels {
    /// One part after the other.
    pub fn of(parts: Vec<Vec<u8>>) -> Self {
        let places = one_after_the_other(parts.iter().map(Vec::len));
        let mut parts = parts.into_iter();
        let mut bytes = parts.next().unwrap_or_default();
        bytes.reserve_exact(places.last().map_or(0, |last| last.end) - bytes.len());
        parts.for_each(|part| bytes.extend(part));
        Self { bytes, parts: places }
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.parts.iter().map(|part| &self.bytes[part.clone()])
    }
}

/// Places in a buffer for parts of these lengths.
pub(crate) fn one_after_the_other(lengths: impl Iterator<Item = usize>) -> Vec<Range<usize>> {
    lengths.scan(0, |at, length| Some(std::mem::replace(at, *at + length)..*at)).collect()
}

/// Gives each rank its part, and gets this rank's from each. Collective, without the ranks that are lost.
///
/// # Errors
///
/// A rank that is silent for too long, a transport that fails.
pub(crate) fn exchange(rank: &mut Rank, outgoing: Parcels) -> Result<Parcels, Error> {
    exchange_in_rounds(rank, outgoing, ROUND)
}

/// [`exchange`] with so many bytes at once, so that tests need no gigabytes.
fn exchange_in_rounds(rank: &mut Rank, outgoing: Parcels, round: usize) -> Result<Parcels, Error> {
    assert_eq!(outgoing.parts.len(), rank.size(), "a part for each rank");
    if rank.size() == 1 {
        return Ok(outgoing);
    }
    if !rank.may_meet() {
        return by_messages(rank, &outgoing);
    }
    // Each learns how much it will get from each, and how much the longest part of all is.
    let longest = outgoing.parts.iter().map(Range::len).max().unwrap_or(0);
    let told: Vec<u8> = outgoing.parts.iter().flat_map(|part| pair(part.len(), longest)).collect();
    let places: Vec<_> = (0..rank.size()).map(|other| 16 * other..16 * (other + 1)).collect();
    let lengths =
        Collective::Exchange { receive: vec![0; told.len()], send: told, outgoing: places.clone(), incoming: places };
    let told = rank.collective(lengths)?.swap_remove(0);
    let number = |at: usize| u64::from_le_bytes(told[at..at + 8].try_into().expect("eight bytes")) as usize;
    let parts = one_after_the_other((0..rank.size()).map(|other| number(16 * other)));
    let longest = (0..rank.size()).map(|other| number(16 * other + 8)).max().unwrap_or(0);

    let total = parts.last().map_or(0, |last| last.end);
    let piece = (round / rank.size()).max(1);
    if longest <= piece {
        let Parcels { bytes: send, parts: outgoing } = outgoing;
        let receive = vec![0; total];
        let exchange = Collective::Exchange { send, outgoing, receive, incoming: parts.clone() };
        return Ok(Parcels { bytes: rank.collective(exchange)?.swap_remove(0), parts });
    }
    let mut bytes = vec![0; total];
    for start in (0..longest).step_by(piece) {
        let of = |part: &Range<usize>| {
            let [from, to] = [start, start + piece].map(|at| part.start + at.min(part.len()));
            from..to
        };
        let send: Vec<u8> = outgoing.parts.iter().flat_map(|part| &outgoing.bytes[of(part)]).copied().collect();
        let incoming = one_after_the_other(parts.iter().map(|part| of(part).len()));
        let receive = vec![0; incoming.last().map_or(0, |last| last.end)];
        let sent = one_after_the_other(outgoing.parts.iter().map(|part| of(part).len()));
        let exchange = Collective::Exchange { send, outgoing: sent, receive, incoming: incoming.clone() };
        let got = rank.collective(exchange)?.swap_remove(0);
        for (part, here) in parts.iter().zip(incoming) {
            bytes[of(part)].copy_from_slice(&got[here]);
        }
    }
    Ok(Parcels { bytes, parts })
}

/// Each rank's bytes to all others, where all know how long each rank's are. Collective: every rank must call it.
///
/// # Errors
///
/// As for [`exchange`].
pub(crate) fn spread(rank: &mut Rank, mine: Vec<u8>, parts: Vec<Range<usize>>) -> Result<Parcels, Error> {
    spread_in_rounds(rank, mine, parts, ROUND)
}

fn spread_in_rounds(rank: &mut Rank, mine: Vec<u8>, parts: Vec<Range<usize>>, round: usize) -> Result<Parcels, Error> {
    let total = parts.last().map_or(0, |last| last.end);
    if rank.size() == 1 {
        return Ok(Parcels { bytes: mine, parts });
    }
    if total <= round {
        let all =
            rank.collective(Collective::Spread { mine, all: vec![0; total], parts: parts.clone() })?.swap_remove(0);
        return Ok(Parcels { bytes: all, parts });
    }
    // All ranks' first bytes, then their second ones, and so on.
    let mut bytes = vec![0; total];
    let (longest, piece) = (parts.iter().map(Range::len).max().unwrap_or(0), (round / rank.size()).max(1));
    for start in (0..longest).step_by(piece) {
        let of = |length: usize| start.min(length)..(start + piece).min(length);
        let here = one_after_the_other(parts.iter().map(|part| of(part.len()).len()));
        let room = vec![0; here.last().map_or(0, |last| last.end)];
        let spread = Collective::Spread { mine: mine[of(mine.len())].to_vec(), all: room, parts: here.clone() };
        let got = rank.collective(spread)?.swap_remove(0);
        for (part, here) in parts.iter().zip(here) {
            let to = of(part.len());
            bytes[part.start + to.start..part.start + to.end].copy_from_slice(&got[here]);
        }
    }
    Ok(Parcels { bytes, parts })
}

fn pair(first: usize, second: usize) -> Vec<u8> {
    [first as u64, second as u64].iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn by_messages(rank: &mut Rank, outgoing: &Parcels) -> Result<Parcels, Error> {
    let mut incoming = vec![Vec::new(); rank.size()];
    let me = rank.rank();
    if rank.lost.contains(&me) {
        return Ok(Parcels::of(incoming));
    }
    let here: Vec<usize> = (0..rank.size()).filter(|other| !rank.lost.contains(other)).collect();
    for other in here.iter().filter(|other| **other != me) {
        let part = outgoing.bytes[outgoing.parts[*other].clone()].to_vec();
        rank.send_bytes(*other, Channel::Partials, part)?;
    }
    incoming[me] = outgoing.bytes[outgoing.parts[me].clone()].to_vec();
    for other in here.into_iter().filter(|other| *other != me) {
        incoming[other] = rank.partials_from(other)?;
    }
    rank.see_off()?;
    Ok(Parcels::of(incoming))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What rank `from` has for rank `to`.
    fn content(from: usize, to: usize, length: usize) -> Vec<u8> {
        (0..length).map(|at| (from * 31 + to * 17 + at) as u8).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        /// Any lengths, in rounds of any size: every byte arrives once, where it belongs.
        #[test]
        fn everybody_gets_what_is_theirs(lengths in prop::collection::vec(0usize..90, 1..37), round in 1usize..200) {
            let size = lengths.len().isqrt();
            let length = |from: usize, to: usize| lengths[from * size + to];
            let got = crate::threads(size, |world| {
                world.together("test", |rank| {
                    let me = rank.rank();
                    let parts = (0..size).map(|to| content(me, to, length(me, to))).collect();
                    let exchanged = exchange_in_rounds(rank, Parcels::of(parts), round)?;
                    let places = one_after_the_other((0..size).map(|from| length(from, 0)));
                    let spread = spread_in_rounds(rank, content(me, 0, length(me, 0)), places, round)?;
                    Ok((exchanged, spread))
                })
            });
            for (to, result) in got.into_iter().enumerate() {
                let (exchanged, spread) = result.unwrap();
                for from in 0..size {
                    prop_assert_eq!(exchanged.iter().nth(from).unwrap(), &content(from, to, length(from, to))[..]);
                    prop_assert_eq!(spread.iter().nth(from).unwrap(), &content(from, 0, length(from, 0))[..]);
                }
            }
        }
    }
}
