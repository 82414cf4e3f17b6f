//! Items on their way to where they should be.

use std::ops::Range;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::balance::{Load, as_they_are, overlap, settled};
use crate::error::{Error, Result};
use crate::extent::Leaves;
use crate::rank::Rank;
use crate::reduce::encoding::Encoding;
use crate::reduce::exchange::{Parcels, exchange};
use crate::reduce::telling::{all_or_none, if_all};

/// What a rank has of all items: these, of so many, beginning with that one.
#[derive(Debug)]
pub(crate) struct Part<T> {
    pub mine: Vec<T>,
    pub start: u64,
    pub total: u64,
}

/// The items of a leaf, which are on one rank.
pub(crate) fn leaf_of(total: u64) -> u64 {
    Leaves::new(total, 1).leaf
}

/// All ranks have come to the end of a step, with what each has made or why it has failed. Moves items where that pays.
/// Collective.
///
/// # Errors
///
/// The first failure, the same on every rank.
pub(crate) fn settle<T>(rank: &mut Rank, call: &str, made: Result<(Vec<T>, f64)>) -> Result<Part<T>>
where
    T: Serialize + DeserializeOwned + Send,
{
    let told = made.as_ref().map(|(mine, seconds)| Load { items: mine.len() as u64, seconds: *seconds });
    let loads = all_or_none(rank, &told.map_err(Error::clone))?;
    arrange(rank, call, made?.0, &loads)
}

/// What each rank has made, in so many seconds, follows that of the rank before. Moves items where that pays. Collective.
///
/// # Errors
///
/// As for [`move_to`].
pub(crate) fn arrange<T>(rank: &mut Rank, call: &str, mine: Vec<T>, loads: &[Load]) -> Result<Part<T>>
where
    T: Serialize + DeserializeOwned + Send,
{
    let total = loads.iter().map(|load| load.items).sum();
    let (places, targets) = (as_they_are(loads), settled(loads, leaf_of(total)));
    move_to(rank, call, mine, &places, &targets, total)
}

/// Moves items from where they are to where they should be. Collective.
///
/// # Errors
///
/// An item that cannot be encoded or decoded, the same error on every rank.
pub(crate) fn move_to<T>(
    rank: &mut Rank,
    call: &str,
    mine: Vec<T>,
    places: &[Range<u64>],
    targets: &[Range<u64>],
    total: u64,
) -> Result<Part<T>>
where
    T: Serialize + DeserializeOwned + Send,
{
    let start = targets[rank.rank()].start;
    if places == targets {
        return Ok(Part { mine, start, total });
    }
    let here = places[rank.rank()].clone();
    let parts: Vec<Range<usize>> = targets.iter().map(|target| overlap(&here, target)).collect();
    let mine = swap(rank, call, mine, &parts)?;
    Ok(Part { mine: mine.into_iter().flatten().collect(), start, total })
}

/// Gives each rank its part, and gets this rank's from each, in the order of ranks. Collective.
///
/// # Errors
///
/// An item that cannot be encoded or decoded, the same error on every rank.
pub(crate) fn swap<T>(rank: &mut Rank, call: &str, mine: Vec<T>, parts: &[Range<usize>]) -> Result<Vec<Vec<T>>>
where
    T: Serialize + DeserializeOwned + Send,
{
    let (me, place) = (rank.rank(), rank.place.clone());
    let encoding = Encoding { call, place: &place };
    // What stays here is not encoded.
    let mut staying = Vec::new();
    let packed = rank.meanwhile(|| {
        let mut mine = mine.into_iter();
        let (mut packed, mut at) = (Vec::with_capacity(parts.len()), 0);
        for (other, part) in parts.iter().enumerate() {
            debug_assert!(part.is_empty() || part.start == at, "parts follow each other");
            at = at.max(part.end);
            let part: Vec<T> = mine.by_ref().take(part.len()).collect();
            if other == me {
                staying = part;
                packed.push(Ok(Vec::new()));
            } else {
                packed.push(encoding.encode(&part));
            }
        }
        packed.into_iter().collect::<Result<Vec<_>>>()
    })?;
    let packed = if_all(rank, packed)?;
    let arrived = exchange(rank, Parcels::of(packed))?;
    let decoded = rank.meanwhile(|| {
        let decode = |(other, bytes): (usize, &[u8])| if other == me { Ok(Vec::new()) } else { encoding.decode(bytes) };
        arrived.iter().enumerate().map(decode).collect::<Result<Vec<Vec<T>>>>()
    })?;
    let mut decoded = if_all(rank, decoded)?;
    decoded[me] = staying;
    Ok(decoded)
}

/// Brings pieces from wherever they are, each with the place of its first item, to the ranks where they should be. Collective.
///
/// # Errors
///
/// As for [`move_to`].
pub(crate) fn bring_together<T>(rank: &mut Rank, call: &str, mine: Pieces<T>, targets: &[Range<u64>]) -> Result<Vec<T>>
where
    T: Serialize + DeserializeOwned + Send,
{
    let (me, place) = (rank.rank(), rank.place.clone());
    let encoding = Encoding { call, place: &place };
    // What stays here is not encoded.
    let packed = rank.meanwhile(|| {
        let mut pieces = divided(mine, targets);
        let staying = std::mem::take(&mut pieces[me]);
        let packed = pieces.iter().map(|pieces| encoding.encode(pieces)).collect::<Result<_>>()?;
        Ok::<_, Error>((Parcels::of(packed), staying))
    })?;
    let (packed, mut pieces) = if_all(rank, packed)?;
    let arrived = exchange(rank, packed)?;
    let part = rank.meanwhile(|| {
        for bytes in arrived.iter() {
            pieces.extend(encoding.decode::<Pieces<T>>(bytes)?);
        }
        pieces.sort_unstable_by_key(|(start, _)| *start);
        Ok::<_, Error>(concatenated(pieces.into_iter().map(|(_, values)| values).collect()))
    })?;
    if_all(rank, part)
}

/// All values, in the order of the parts; the first part is not copied where it has room.
pub(super) fn concatenated<T>(parts: Vec<Vec<T>>) -> Vec<T> {
    let total: usize = parts.iter().map(Vec::len).sum();
    let mut parts = parts.into_iter();
    let mut all = parts.next().unwrap_or_default();
    all.reserve_exact(total - all.len());
    parts.for_each(|part| all.extend(part));
    all
}

/// Values that follow each other, with the place of the first.
type Pieces<T> = Vec<(u64, Vec<T>)>;

/// What each rank should have of this one's pieces.
fn divided<T>(mine: Pieces<T>, targets: &[Range<u64>]) -> Vec<Pieces<T>> {
    let mut divided: Vec<Pieces<T>> = targets.iter().map(|_| Vec::new()).collect();
    for (start, mut values) in mine {
        let here = start..start + values.len() as u64;
        let first = targets.partition_point(|target| target.end <= start);
        let cuts = targets[first..].iter().map(|target| overlap(&here, target)).enumerate();
        let mut parts: Vec<(usize, Range<usize>)> = cuts.take_while(|(_, part)| part.start < values.len()).collect();
        parts.retain(|(_, part)| !part.is_empty());
        // From the back, so that the first part need not be copied.
        for (target, part) in parts.into_iter().rev() {
            let part_values = if part.start == 0 { std::mem::take(&mut values) } else { values.split_off(part.start) };
            divided[first + target].push((start + part.start as u64, part_values));
        }
    }
    divided
}
