//! The reduction of partials that can be cut: each rank merges one part of all of them.
//!
//! A long array is cut into slices, a table by the hashes of its keys. Each rank cuts what it has, and sends every part to
//! the rank that merges such parts, at most once: a reduce-scatter. What is merged there, and in which order, is given by the
//! tree over the leaves as ever, so the result does not depend on how many ranks there are, nor on where segments are.
//!
//! Where there is no memory for all that travels, it goes in rounds: the same keys of all ranks at a time.
//!
//! A failure on any rank is told to all before anybody takes a result, so every rank leaves the call with the same error.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_bytes::ByteBuf;

use super::collective::{Reduced, Value};
use super::encoding::Encoding;
use super::exchange::{Parcels, exchange};
use super::round::Round;
use super::shuffle::{self, Bundle, Cut};
use super::telling::{gather_everywhere, tell_all};
use crate::error::{Error, ErrorKind};
use crate::extent::Extent;
use crate::meeting;
use crate::rank::Rank;
use crate::report::RankReport;
use crate::source::Source;
use crate::transport::Channel;
use crate::wire;
use crate::worker::compute::{Computation, Kernel};

/// Makes something of the part of the result that each rank that is not lost has merged. Collective: every rank must call it,
/// after every leaf was computed somewhere.
///
/// # Errors
///
/// The first failure of a rank, also of `finish`, the same on every rank.
fn reduce_in_parts<S, K, R>(
    rank: &mut Rank,
    computation: &Computation<'_, S, K>,
    report: RankReport,
    finish: impl Fn(Option<K::Partial>) -> Result<R, Error> + Sync,
) -> Result<(R, Vec<RankReport>), Error>
where
    S: Source,
    K: Kernel<S>,
    K::Partial: Cut + Serialize + DeserializeOwned,
    R: Default + Send,
{
    let mut mine: Bundle<K::Partial> = computation.take_segments().into_all();
    rank.begin_vigil();
    let rounds = rounds_of_all(rank, computation, &mine)?;
    let (mut parts, mut failure) = (Vec::new(), None);
    for number in 0..rounds {
        let round = Round { number, of: rounds };
        match one_round(rank, computation, &mut mine, round, failure.is_some())? {
            Ok(part) => parts.extend(part),
            // The first one is the reason.
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    let part = rank.meanwhile(|| {
        failure.map_or(Ok(()), Err)?;
        let whole = if parts.len() > 1 { computation.finish(Some(K::Partial::join(parts)))? } else { parts.pop() };
        finish(whole)
    })?;
    let told = part.as_ref().map(|_| report).map_err(Error::clone);
    let reports = tell_all(rank, &told)?;
    // A part that did not come is a gap elsewhere: what is no such consequence is the reason.
    let failures = || reports.iter().filter_map(|told| told.as_ref().err());
    let is_reason = |error: &&Error| !matches!(error.kind(), ErrorKind::Internal { .. });
    if let Some(error) = failures().find(is_reason).or_else(|| failures().next()) {
        return Err(error.clone().on_rank(rank.rank()));
    }
    Ok((part.unwrap_or_default(), reports.into_iter().flatten().collect()))
}

/// As many rounds as the rank needs that needs most of them. Collective, without the ranks that are lost.
fn rounds_of_all<S, K>(
    rank: &mut Rank,
    computation: &Computation<'_, S, K>,
    mine: &Bundle<K::Partial>,
) -> Result<u64, Error>
where
    S: Source,
    K: Kernel<S>,
{
    match computation.kernel.rounds(mine) {
        // A bound on memory is the same on all ranks, and so is the kernel.
        Some(rounds) => Ok(tell_all(rank, &rounds)?.into_iter().max().unwrap_or(1)),
        None => Ok(1),
    }
}

/// What travels in a round goes to those who merge it, and this rank merges its part of it. Collective, without the ranks that
/// are lost; `has_failed` says that this one has in an earlier round, and has nothing to send.
fn one_round<S, K>(
    rank: &mut Rank,
    computation: &Computation<'_, S, K>,
    mine: &mut Bundle<K::Partial>,
    round: Round,
    has_failed: bool,
) -> Result<Result<Option<K::Partial>, Error>, Error>
where
    S: Source,
    K: Kernel<S>,
    K::Partial: Cut + Serialize + DeserializeOwned,
{
    let kernel = Encoding { call: computation.call, place: computation.place };
    let owners: Vec<usize> = (0..rank.size()).filter(|other| !rank.lost.contains(other)).collect();
    let size = rank.size();
    let split = |(extent, partial): &mut (Extent, Option<K::Partial>)| {
        let Some(whole) = partial.take() else { return Ok((*extent, None)) };
        let (now, rest) = computation.split(*extent, whole, round)?;
        *partial = rest;
        Ok((*extent, Some(now)))
    };
    let mut now = || mine.iter_mut().map(split).collect::<Result<Bundle<K::Partial>, Error>>();
    let merge = |parts: &mut dyn Iterator<Item = Result<Bundle<K::Partial>, Error>>| {
        let combine = |extent, left, right| computation.combine(left, right, computation.items_of(extent));
        let part = shuffle::merge(computation.leaves(), parts, combine)?.map_err(|gap| {
            let (call, place) = (computation.call.to_owned(), computation.place.clone());
            let message = format!("leaves {} to {} are in no segment", gap.start, gap.end);
            Error::from(ErrorKind::Internal { call, place, message })
        })?;
        computation.finish(part)
    };
    if size == 1 {
        return rank.meanwhile(|| merge(&mut std::iter::once_with(now)));
    }
    // Whoever has failed sends nothing, so that the others get as far as to be told.
    let nothing = || (Parcels::of(vec![Vec::new(); size]), Bundle::new());
    let me = rank.rank();
    let packed =
        rank.meanwhile(|| if has_failed { Ok(nothing()) } else { kernel.pack_parts(now()?, &owners, me, size) })?;
    let ((packed, staying), failure) = packed.map_or_else(|error| (nothing(), Some(error)), |packed| (packed, None));
    let arrived = exchange(rank, packed)?;
    rank.meanwhile(|| {
        failure.map_or(Ok(()), Err)?;
        let arrived = arrived.iter().filter(|bytes| !bytes.is_empty()).map(|bytes| kernel.unpack_parts(bytes));
        merge(&mut std::iter::once(Ok(staying)).chain(arrived))
    })
}

/// Merges part by part, and puts the parts together on every rank. Collective: every rank must call it, after every leaf was
/// computed somewhere.
///
/// # Errors
///
/// The first failure of a rank, the same on every rank.
pub(crate) fn reduce_to_all<S, K>(
    rank: &mut Rank,
    computation: &Computation<'_, S, K>,
    report: RankReport,
    _to_all: bool,
) -> Reduced<K::Partial>
where
    S: Source,
    K: Kernel<S>,
    K::Partial: Cut + Serialize + DeserializeOwned,
{
    let kernel = Encoding { call: computation.call, place: computation.place };
    if rank.size() == 1 {
        let (whole, reports) = reduce_in_parts(rank, computation, report, Ok)?;
        return Ok((whole.map_or(Value::Empty, Value::Here), reports));
    }
    if rank.lost.contains(&rank.rank()) {
        // This rank was given up, and has come back: rank 0 tells it what came out.
        let bytes = rank.partials_from(0)?;
        let parts =
            kernel.decode::<Result<Vec<ByteBuf>, Error>>(&bytes)?.map_err(|error| error.on_rank(rank.rank()))?;
        return Ok((whole(&kernel, parts.iter().map(|part| &part[..]))?, vec![report]));
    }
    let gathered = reduce_in_parts(rank, computation, report, |part| kernel.encode(&part));
    let gathered = gathered.and_then(|(bytes, reports)| Ok((gather_everywhere(rank, bytes)?, reports)));
    if rank.rank() == 0 && !rank.lost.is_empty() {
        let parts = |all: &Parcels| all.iter().filter(|part| !part.is_empty()).map(ByteBuf::from).collect();
        let told: Result<Vec<ByteBuf>, Error> = gathered.as_ref().map(|(all, _)| parts(all)).map_err(Error::clone);
        let bytes = wire::encode(&told).expect("bytes are plain data");
        for lost in rank.lost.clone() {
            rank.send_bytes(lost, Channel::Partials, bytes.clone())?;
        }
    }
    let (all, reports) = gathered?;
    // Nobody is waited for any more.
    let pool = Arc::clone(&rank.pool);
    let value = pool.install(|| whole(&kernel, all.iter().filter(|part| !part.is_empty())))?;
    Ok((value, reports))
}

/// All parts together.
fn whole<'p, T: Cut + DeserializeOwned>(
    kernel: &Encoding<'_>,
    parts: impl Iterator<Item = &'p [u8]>,
) -> Result<Value<T>, Error> {
    let parts: Option<Vec<T>> = parts.map(|part| kernel.decode(part)).collect::<Result<_, _>>()?;
    Ok(parts.filter(|parts| !parts.is_empty()).map_or(Value::Empty, |parts| Value::Here(T::join(parts))))
}

/// Merges part by part, and leaves each rank its own. Collective: every rank must call it, after every leaf was computed
/// somewhere.
///
/// # Errors
///
/// The first failure of a rank, the same on every rank.
pub(crate) fn reduce_to_parts<S, K>(
    rank: &mut Rank,
    computation: &Computation<'_, S, K>,
    report: RankReport,
    _to_all: bool,
) -> Reduced<K::Partial>
where
    S: Source,
    K: Kernel<S>,
    K::Partial: Cut + Serialize + DeserializeOwned,
{
    meeting::all_are_here(rank, computation.call)?;
    let (part, reports) = reduce_in_parts(rank, computation, report, Ok)?;
    Ok((part.map_or(Value::Empty, Value::Part), reports))
}

impl Encoding<'_> {
    /// What goes to other ranks, as bytes, and what stays.
    fn pack_parts<T: Cut + Serialize>(
        &self,
        now: Bundle<T>,
        owners: &[usize],
        me: usize,
        size: usize,
    ) -> Result<(Parcels, Bundle<T>), Error> {
        let (mut packed, mut staying) = (vec![Vec::new(); size], Bundle::new());
        let here = owners.partition_point(|owner| *owner < me);
        for (owner, bundle) in owners.iter().zip(shuffle::cut(now, owners.len(), here)) {
            if *owner == me {
                staying = bundle;
            } else {
                packed[*owner] = wire::encode(&bundle).map_err(|message| self.encoding::<T>("encoded", message))?;
            }
        }
        Ok((Parcels::of(packed), staying))
    }

    fn unpack_parts<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<Bundle<T>, Error> {
        wire::decode(bytes).map_err(|message| self.encoding::<T>("decoded", message))
    }
}
