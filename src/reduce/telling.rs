//! What ranks tell each other beside partials: how much they bring, where it belongs, and that something has failed.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::exchange::{Parcels, exchange, one_after_the_other, spread};
use crate::error::{Error, Result};
use crate::rank::Rank;
use crate::transport::Collective;
use crate::wire;

/// The bytes of every rank, on every rank. Collective, without the ranks that are lost.
pub(crate) fn gather_everywhere(rank: &mut Rank, mine: Vec<u8>) -> Result<Parcels> {
    if !rank.may_meet() {
        let parts = (0..rank.size()).map(|_| mine.clone()).collect();
        return exchange(rank, Parcels::of(parts));
    }
    let lengths = rank.collective(Collective::Cards((mine.len() as u64).to_le_bytes().to_vec()))?.swap_remove(0);
    let lengths =
        lengths.chunks_exact(8).map(|bytes| u64::from_le_bytes(bytes.try_into().expect("eight bytes")) as usize);
    let parts = one_after_the_other(lengths);
    spread(rank, mine, parts)
}

/// What each rank tells all others, without those that are lost.
pub(crate) fn tell_all<T: Serialize + DeserializeOwned>(rank: &mut Rank, mine: &T) -> Result<Vec<T>> {
    let bytes = wire::encode(mine).expect("what is told is plain data");
    let all = gather_everywhere(rank, bytes)?;
    let read = |bytes| wire::decode(bytes).map_err(|message| rank.internal("the reduction", message));
    all.iter().filter(|bytes| !bytes.is_empty()).map(read).collect()
}

/// What all ranks tell, or the first failure, on every rank. Collective.
pub(crate) fn all_or_none<T: Serialize + DeserializeOwned>(rank: &mut Rank, told: &Result<T>) -> Result<Vec<T>> {
    let all: Result<Vec<T>> = tell_all(rank, told)?.into_iter().collect();
    all.map_err(|error| error.on_rank(rank.rank()))
}

/// What this rank has, if all ranks have something; else the first failure, on every rank. Collective.
pub(crate) fn if_all<T>(rank: &mut Rank, mine: Result<T>) -> Result<T> {
    all_or_none(rank, &mine.as_ref().map(drop).map_err(Error::clone))?;
    mine
}
