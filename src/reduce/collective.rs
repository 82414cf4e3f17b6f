//! The last step of a call: the segments of all ranks become one value on rank 0, and, where asked, on every rank.
//!
//! Ranks first tell each other how many bytes they bring. Where these are few, rank 0 gathers them (`MPI_Igatherv`) and
//! combines what is left to combine. Where they are many, they climb a binomial tree: in round `k` a rank whose number
//! is an odd multiple of `2^k` sends everything to the rank `2^k` below it, which combines what it can, so that the work
//! and the bytes are spread and neighbours, who hold neighbouring leaves, meet first (Thakur, Rabenseifner and Gropp,
//! "Optimization of collective communication operations in MPICH", IJHPCA 19(1), 2005, section 3). Which of the two is
//! taken shows in the time, never in the result: the tree of combinations is that of the leaves.
//!
//! Where ranks were lost on the way, a collective would wait for them for ever: the others climb the tree by messages,
//! and rank 0 sends everybody the outcome, also to those that are lost, who may come back.
//!
//! A failure on any rank (a partial that cannot be encoded, a combiner that panics) travels the same way as a value, so
//! every rank leaves the call with the same error.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::encoding::Encoding;
use super::segment::Segments;
use crate::error::Error;
use crate::extent::Extent;
use crate::rank::Rank;
use crate::report::RankReport;
use crate::source::Source;
use crate::transport::{Channel, Collective};
use crate::wire;
use crate::worker::compute::{Computation, Kernel};

/// With more bytes than this in all, segments climb the tree instead of being gathered.
const GATHERED_MOST: u64 = 1 << 20;

/// A result of fewer bytes is everywhere at once.
const LARGE: usize = 1 << 20;

/// What a rank brings to the reduction.
#[derive(Serialize, Deserialize)]
struct Contribution {
    segments: Result<Vec<(Extent, ByteBuf)>, Error>,
    reports: Vec<RankReport>,
}

/// What the reduction comes to on a rank.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Value<T> {
    /// The value of all items.
    Here(T),
    /// The part of it that this rank was asked to keep.
    Part(T),
    /// Rank 0 has it, and was asked to keep it.
    OnRoot,
    /// There was no item.
    Empty,
}

/// What a reduction gives on a rank: its value, and the reports that are here.
pub(crate) type Reduced<T> = Result<(Value<T>, Vec<RankReport>), Error>;

/// How a call comes from segments to its result.
pub(crate) type Reduction<S, K> =
    fn(&mut Rank, &Computation<'_, S, K>, RankReport, bool) -> Reduced<<K as Kernel<S>>::Partial>;

/// Reduces over all ranks. Collective: every rank must call it, after every leaf was computed somewhere.
pub(crate) fn reduce<S, K>(
    rank: &mut Rank,
    computation: &Computation<'_, S, K>,
    report: RankReport,
    to_all: bool,
) -> Reduced<K::Partial>
where
    S: Source,
    K: Kernel<S>,
    K::Partial: Serialize + DeserializeOwned + Send,
{
    let call = computation.call;
    let kernel = Encoding { call, place: computation.place };
    let combine = |extent, left, right| computation.combine(left, right, computation.items_of(extent));
    let mut mine = Gathered { segments: Ok(computation.take_segments()), reports: vec![report] };
    if rank.size() == 1 {
        let value = mine.complete(call, rank)?;
        return Ok((value.map_or(Value::Empty, Value::Here), mine.reports));
    }
    rank.begin_vigil();
    // Rank 0 sends nothing, so its own values are never encoded.
    let packed = if rank.rank() == 0 {
        Vec::new()
    } else {
        let (gathered, packed) = rank.meanwhile(|| {
            let packed = kernel.pack(&mine);
            (mine, packed)
        })?;
        mine = gathered;
        packed
    };
    if !rank.may_meet() {
        climb(rank, &kernel, &mut mine, packed, &combine)?;
        let value = if rank.rank() == 0 { mine.complete(call, rank) } else { Ok(None) };
        return Ok((kernel.announce(rank, value, to_all)?, mine.reports));
    }
    let lengths = rank.collective(Collective::AllGather((packed.len() as u64).to_le_bytes().to_vec()))?;
    let total: u64 = lengths.iter().map(|bytes| u64::from_le_bytes(bytes[..].try_into().expect("eight bytes"))).sum();
    if total <= GATHERED_MOST {
        let all = rank.collective(Collective::Gather(packed))?;
        mine = rank.meanwhile(|| {
            all.iter().skip(1).for_each(|bytes| kernel.unpack(bytes, &mut mine, combine));
            mine
        })?;
    } else {
        climb(rank, &kernel, &mut mine, packed, &combine)?;
    }
    let value = if rank.rank() == 0 { mine.complete(call, rank) } else { Ok(None) };
    Ok((kernel.announce(rank, value, to_all)?, mine.reports))
}

/// Sends what this rank has to the rank below it in the binomial tree of those that are not lost, after having received
/// from those above it; as `packed` if there are none.
fn climb<T: Serialize + DeserializeOwned + Send>(
    rank: &mut Rank,
    kernel: &Encoding<'_>,
    mine: &mut Gathered<T>,
    packed: Vec<u8>,
    combine: &(impl Fn(Extent, Option<T>, Option<T>) -> Result<Option<T>, Error> + Sync),
) -> Result<(), Error> {
    let here: Vec<usize> = (0..rank.size()).filter(|other| !rank.lost.contains(other)).collect();
    let size = here.len();
    // A lost rank that has come back brings nothing.
    let Ok(me) = here.binary_search(&rank.rank()) else { return Ok(()) };
    let mut packed = Some(packed);
    let mut distance = 1;
    while distance < size {
        if me & distance != 0 {
            let packed = match packed {
                Some(packed) => packed,
                None => rank.meanwhile(|| {
                    let mine = mine;
                    kernel.pack(mine)
                })?,
            };
            return rank.send_bytes(here[me - distance], Channel::Partials, packed);
        }
        if me + distance < size {
            let bytes = rank.partials_from(here[me + distance])?;
            rank.meanwhile(|| kernel.unpack(&bytes, mine, combine))?;
            packed = None;
        }
        distance *= 2;
    }
    Ok(())
}

/// From rank 0 to all others.
fn tell(rank: &mut Rank, bytes: Vec<u8>) -> Result<(), Error> {
    if rank.may_meet() {
        return rank.collective(Collective::Broadcast(bytes)).map(drop);
    }
    (1..rank.size()).try_for_each(|other| rank.send_bytes(other, Channel::Partials, bytes.clone()))
}

/// Segments that have met on one rank, or why there are none.
struct Gathered<T> {
    segments: Result<Segments<Option<T>>, Error>,
    reports: Vec<RankReport>,
}

impl<T> Gathered<T> {
    /// The one value, after the check that every leaf is in it exactly once.
    fn complete(&mut self, call: &str, rank: &Rank) -> Result<Option<T>, Error> {
        let segments = std::mem::replace(&mut self.segments, Ok(Segments::new(0)))?;
        if segments.leaves() == 0 {
            return Ok(None);
        }
        segments
            .complete()
            .map_err(|gap| rank.internal(call, format!("leaves {} to {} are in no segment", gap.start, gap.end)))
    }
}

impl Encoding<'_> {
    /// What has met on this rank, as bytes.
    fn pack<T: Serialize>(&self, gathered: &Gathered<T>) -> Vec<u8> {
        let encode = |(extent, value): &(Extent, Option<T>)| Ok((*extent, ByteBuf::from(self.encode(value)?)));
        let segments = gathered.segments.as_ref().map_err(Error::clone);
        let segments = segments.and_then(|segments| segments.iter().map(encode).collect());
        let contribution = Contribution { segments, reports: gathered.reports.clone() };
        wire::encode(&contribution).expect("a contribution is made of plain data")
    }

    /// Adds what another rank has packed.
    fn unpack<T: DeserializeOwned>(
        &self,
        bytes: &[u8],
        into: &mut Gathered<T>,
        mut combine: impl Fn(Extent, Option<T>, Option<T>) -> Result<Option<T>, Error>,
    ) {
        let contribution = self.decode::<Contribution>(bytes);
        let merged = contribution.and_then(|contribution| {
            into.reports.extend(contribution.reports);
            let mut merged = std::mem::replace(&mut into.segments, Ok(Segments::new(0)))?;
            for (extent, bytes) in contribution.segments? {
                let value = self.decode(&bytes)?;
                merged.merge(extent, value, &mut combine)?;
            }
            Ok(merged)
        });
        into.segments = merged;
    }

    /// Rank 0's value or error, on every rank that gets it. The other ranks' `value` is not looked at.
    fn announce<T: Serialize + DeserializeOwned + Send>(
        &self,
        rank: &mut Rank,
        value: Result<Option<T>, Error>,
        to_all: bool,
    ) -> Result<Value<T>, Error> {
        if rank.rank() == 0 {
            let (value, failure, bytes) = rank.meanwhile(|| {
                let outcome = match &value {
                    Ok(Some(value)) if to_all => self.for_all(value),
                    Ok(Some(_)) => Ok(Value::OnRoot),
                    Ok(None) => Ok(Value::Empty),
                    Err(error) => Err(error.clone()),
                };
                let bytes = wire::encode(&outcome).expect("an outcome is made of plain data");
                (value, outcome.err(), bytes)
            })?;
            let is_large = bytes.len() > LARGE;
            tell(rank, bytes)?;
            if is_large {
                rank.say_through()?;
            }
            return failure.map_or(Ok(value?.map_or(Value::Empty, Value::Here)), Err);
        }
        let bytes = if rank.may_meet() {
            rank.collective(Collective::Broadcast(Vec::new()))?.swap_remove(0)
        } else {
            rank.partials_from(0)?
        };
        if bytes.len() > LARGE {
            rank.say_through()?;
        }
        let outcome: Result<Value<ByteBuf>, Error> = self.decode(&bytes)?;
        match outcome.map_err(|error| error.on_rank(rank.rank()))? {
            Value::Here(bytes) | Value::Part(bytes) => self.decode(&bytes).map(Value::Here),
            Value::OnRoot => Ok(Value::OnRoot),
            Value::Empty => Ok(Value::Empty),
        }
    }

    /// A value for the other ranks, which could not agree on an error any more if they could not read it.
    fn for_all<T: Serialize + DeserializeOwned>(&self, value: &T) -> Result<Value<ByteBuf>, Error> {
        let bytes = self.encode(value)?;
        self.decode::<T>(&bytes)?;
        Ok(Value::Here(ByteBuf::from(bytes)))
    }
}
