//! Operations of all ranks on arrays that each of them has.
//!
//! `all_reduce` in a fixed order: short arrays are on everybody's card, or gathered by everybody, who folds them by itself.
//! Long ones go in chunks; of each chunk every rank gets a slice from all others (`MPI_Ialltoallv`), folds these in the order
//! of [`tree`], and spreads its slice of the result (`MPI_Iallgatherv`). So a rank sends and receives less than
//! twice the array, on any number of ranks, which is what the best algorithms need whose order is free: it is the
//! reduce-scatter and all-gather of Rabenseifner (Thakur, Rabenseifner and Gropp, "Optimization of collective communication
//! operations in MPICH", IJHPCA 19(1), 2005, section 4.5), with all of a slice folded in one place.

use std::borrow::Cow;
use std::ops::Range;

use bytemuck::{Pod, cast_slice, cast_slice_mut, pod_collect_to_vec};

use super::dense::Dense;
use super::op::BuiltIn;
use super::{aligned, aligned_in, has_room_for, room_for, tree};
use crate::error::{Error, ErrorKind, Result};
use crate::meeting::{INLINE, Intent, meet};
use crate::rank::Rank;
use crate::reduce::exchange::{one_after_the_other, spread};
use crate::transport::{Channel, Collective};
use crate::wire::Signature;

/// With so many bytes of all ranks together, everybody gets everything.
const SHORT: usize = 128 << 10;
/// A chunk has so many bytes, or this many for each rank, but never more than what one MPI call can count.
const CHUNK: usize = 8 << 20;
const SLICE_LEAST: usize = 64 << 10;
const CHUNK_MOST: usize = 1 << 30;
/// Buffers of so many bytes are kept for the next time: memory that is touched for the first time is slow.
const KEPT_MOST: usize = 4 * CHUNK;

/// The order in which contributions of ranks are folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// That of the ranks' numbers, in a fixed tree.
    Fixed,
    /// As the MPI library likes.
    Relaxed,
}

/// Buffers that a rank keeps from one operation to the next.
#[derive(Debug, Default)]
pub(crate) struct Buffers([Vec<u8>; 2]);

impl Buffers {
    /// Two with room for so many bytes, wherever these have to begin.
    fn take(&mut self, len: usize) -> [Vec<u8>; 2] {
        std::mem::take(&mut self.0).map(|buffer| if has_room_for(&buffer, len) { buffer } else { room_for(len) })
    }

    fn keep(&mut self, buffers: [Vec<u8>; 2]) {
        if buffers.iter().all(|buffer| buffer.len() <= KEPT_MOST) {
            self.0 = buffers;
        }
    }
}

/// What a rank is about to do with arrays.
struct Plan<'p> {
    operation: &'static str,
    element: &'static str,
    /// The function, or what else must be the same.
    detail: &'p str,
    /// Where all ranks must bring the same shape.
    extents: Option<&'p [usize]>,
}

impl<'p> Plan<'p> {
    fn new<B: Dense + ?Sized>(operation: &'static str, extents: Option<&'p [usize]>, detail: &'p str) -> Self {
        const { assert!(size_of::<B::Element>() > 0, "an element of an array has at least one byte") };
        Self { operation, element: std::any::type_name::<B::Element>(), detail, extents }
    }
}

impl Intent for Plan<'_> {
    fn name(&self) -> &str {
        self.operation
    }

    fn checksum(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        for word in [self.operation, self.element, self.detail] {
            hasher.update(&(word.len() as u64).to_le_bytes());
            hasher.update(word.as_bytes());
        }
        if let Some(extents) = self.extents {
            hasher.update(&[1]);
            extents.iter().for_each(|extent| hasher.update(&(*extent as u64).to_le_bytes()));
        }
        hasher.finalize()
    }

    fn signature(&self) -> Signature {
        Signature {
            operation: self.operation.to_owned(),
            name: self.operation.to_owned(),
            source: self.extents.map_or_else(|| "an array".to_owned(), shape),
            result: self.element.to_owned(),
            functions: self.detail.to_owned(),
            to_all: true,
            ..Signature::default()
        }
    }
}

pub(crate) fn shape(extents: &[usize]) -> String {
    let extents: Vec<String> = extents.iter().map(usize::to_string).collect();
    if extents.is_empty() { "a number".to_owned() } else { format!("an array of {}", extents.join(" × ")) }
}

/// Combines what all ranks have, element by element. Collective.
pub(crate) fn all_reduce<B, O>(rank: &mut Rank, value: &B, function: &O, order: Order) -> Result<B::Owned>
where
    B: Dense + ?Sized,
    O: Fn(B::Element, B::Element) -> B::Element + 'static,
{
    let extents = value.extents();
    let mut elements = value.elements().into_owned();
    all_reduce_in_place::<B, O>(rank, &extents, &mut elements, function, order)?;
    Ok(B::build(&extents, elements).expect("the shape that it had"))
}

pub(crate) fn all_reduce_in_place<B, O>(
    rank: &mut Rank,
    extents: &[usize],
    elements: &mut [B::Element],
    function: &O,
    order: Order,
) -> Result<()>
where
    B: Dense + ?Sized,
    O: Fn(B::Element, B::Element) -> B::Element + 'static,
{
    let operation = if order == Order::Fixed { "all_reduce" } else { "all_reduce_relaxed" };
    let plan = Plan::new::<B>(operation, Some(extents), std::any::type_name::<O>());
    let bytes: &mut [u8] = cast_slice_mut(elements);
    let on_card = bytes.len() <= INLINE;
    let cards = meet(rank, &plan, if on_card { bytes } else { &[] })?;
    if rank.size() == 1 || bytes.is_empty() {
        return Ok(());
    }
    let known = BuiltIn::of::<B::Element, O>();
    if on_card || bytes.len() * rank.size() <= SHORT {
        let len = bytes.len();
        let mut all: Vec<u8> = if on_card {
            cards.iter().flat_map(|card| &card[..len]).copied().collect()
        } else {
            rank.collective(Collective::Cards(bytes.to_vec()))?.swap_remove(0)
        };
        match known.filter(|known| known.is_exact()) {
            // Integers wrap around, as they do in MPI.
            Some(exact) => {
                let (first, others) = all.split_at_mut(len);
                others.chunks_exact(len).for_each(|other| exact.fold(first, other));
            }
            None => tree::fold::<B::Element>(&mut all, len, function),
        }
        bytes.copy_from_slice(&all[..len]);
        return Ok(());
    }
    match known.filter(|known| known.is_exact() || order == Order::Relaxed) {
        Some(known) => in_any_order(rank, bytes, known),
        None => in_fixed_order::<B::Element>(rank, bytes, function),
    }
}

/// Leaves it to the library.
pub(super) fn in_any_order(rank: &mut Rank, bytes: &mut [u8], function: BuiltIn) -> Result<()> {
    let most = bytes.len().min(CHUNK_MOST);
    let [mut send, mut receive] = rank.buffers.take(most);
    for chunk in bytes.chunks_mut(most) {
        aligned(&mut send, chunk.len()).copy_from_slice(chunk);
        let count = chunk.len() / function.number.size();
        let [got, sent] = two(rank.collective(Collective::AllReduce { send, receive, count, function })?);
        chunk.copy_from_slice(aligned_in(&got, chunk.len()));
        (send, receive) = (sent, got);
    }
    rank.buffers.keep([send, receive]);
    Ok(())
}

/// Slices of a chunk to those who fold them, and back.
fn in_fixed_order<E: Pod>(rank: &mut Rank, bytes: &mut [u8], function: &impl Fn(E, E) -> E) -> Result<()> {
    let (me, size, element) = (rank.rank(), rank.size(), size_of::<E>());
    let most = CHUNK.max(SLICE_LEAST * size).min(CHUNK_MOST).min(bytes.len()) / element * element;
    // The slice that a rank gets from each may be one element longer than the mean.
    let [mut send, mut receive] = rank.buffers.take(most + (size + 1) * element);
    for chunk in bytes.chunks_mut(most.max(element)) {
        let outgoing = shares(chunk.len() / element, size, element);
        let slice = outgoing[me].len();
        let incoming: Vec<_> = (0..size).map(|other| other * slice..(other + 1) * slice).collect();
        send[..chunk.len()].copy_from_slice(chunk);
        let exchange = Collective::Exchange { send, outgoing: outgoing.clone(), receive, incoming };
        let [mut slices, all] = two(rank.collective(exchange)?);
        tree::fold::<E>(&mut slices[..slice * size], slice, function);
        let spread = Collective::Spread { mine: slices, all, parts: outgoing };
        (send, receive) = {
            let [all, mine] = two(rank.collective(spread)?);
            (all, mine)
        };
        chunk.copy_from_slice(&send[..chunk.len()]);
    }
    rank.buffers.keep([send, receive]);
    Ok(())
}

fn two(buffers: Vec<Vec<u8>>) -> [Vec<u8>; 2] {
    buffers.try_into().unwrap_or_else(|buffers: Vec<_>| panic!("two buffers, not {}", buffers.len()))
}

/// The parts of `count` elements that each of `size` ranks gets, as ranges of bytes: as equal as can be.
pub(crate) fn shares(count: usize, size: usize, element: usize) -> Vec<Range<usize>> {
    let (each, more) = (count / size, count % size);
    let start = |rank: usize| (rank * each + rank.min(more)) * element;
    (0..size).map(|rank| start(rank)..start(rank + 1)).collect()
}

/// An array as it travels: its shape, then its elements.
pub(crate) fn pack<E: Pod>(extents: &[usize], elements: &[E]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 * (extents.len() + 1) + size_of_val(elements));
    bytes.extend((extents.len() as u64).to_le_bytes());
    extents.iter().for_each(|extent| bytes.extend((*extent as u64).to_le_bytes()));
    bytes.extend_from_slice(cast_slice(elements));
    bytes
}

pub(crate) fn unpack<E: Pod>(bytes: &[u8]) -> (Vec<usize>, Vec<E>) {
    let number = |at: usize| u64::from_le_bytes(bytes[8 * at..8 * at + 8].try_into().expect("eight bytes")) as usize;
    let axes = number(0);
    ((1..=axes).map(number).collect(), pod_collect_to_vec(&bytes[8 * (axes + 1)..]))
}

fn put_together<B: Dense + ?Sized>(
    rank: &Rank,
    call: &str,
    extents: &[usize],
    elements: Vec<B::Element>,
) -> Result<B::Owned> {
    B::build(extents, elements).ok_or_else(|| {
        let kind = std::any::type_name::<B::Owned>();
        let problem = format!("{} cannot be a {kind}", shape(extents));
        refused(rank, call, problem, "use a Vec or an ndarray, whose length is not part of the type")
    })
}

fn refused(rank: &Rank, call: &str, problem: String, remedy: &str) -> Error {
    Error::from(ErrorKind::Refused { call: call.to_owned(), problem, remedy: remedy.to_owned() }).on_rank(rank.rank())
}

/// Rank 0's array, on every rank. Collective.
pub(crate) fn broadcast<B: Dense + ?Sized>(rank: &mut Rank, value: &B) -> Result<B::Owned> {
    meet(rank, &Plan::new::<B>("broadcast", None, std::any::type_name::<B::Owned>()), &[])?;
    if rank.rank() == 0 {
        let (extents, elements) = (value.extents(), value.elements());
        if rank.size() > 1 {
            rank.collective(Collective::Broadcast(pack(&extents, &elements)))?;
        }
        return put_together::<B>(rank, "broadcast", &extents, elements.into_owned());
    }
    let bytes = rank.collective(Collective::Broadcast(Vec::new()))?.swap_remove(0);
    let (extents, elements) = unpack(&bytes);
    drop(bytes);
    put_together::<B>(rank, "broadcast", &extents, elements)
}

/// The part of rank 0's array that is this rank's, along the first axis. Collective.
pub(crate) fn scatter<B: Dense + ?Sized>(rank: &mut Rank, value: &B) -> Result<B::Owned> {
    let axes = value.extents().len();
    let detail = format!("{axes} axes, for {}", std::any::type_name::<B::Owned>());
    // What rank 0's card says counts.
    let rows = value.extents().first().copied().unwrap_or_default() as u64;
    let cards = meet(rank, &Plan::new::<B>("scatter", None, &detail), &rows.to_le_bytes())?;
    let rows = shares(number_on(&cards[0]), rank.size(), 1);
    if axes == 0 {
        let problem = "a number has no parts".to_owned();
        return Err(refused(rank, "scatter", problem, "use broadcast, which gives it to every rank"));
    }
    if let Some(rows) = rows.iter().find(|rows| !B::has_length(rows.end - rows.start)) {
        return Err(no_such_length::<B>(rank, "scatter", rows.end - rows.start));
    }
    if rank.rank() > 0 {
        let bytes = rank.partials_from(0)?;
        rank.say_through()?;
        let (extents, elements) = unpack(&bytes);
        drop(bytes);
        return put_together::<B>(rank, "scatter", &extents, elements);
    }
    let (mut extents, elements) = (value.extents(), value.elements());
    let row: usize = extents[1..].iter().product();
    for (other, rows) in rows.iter().enumerate().skip(1) {
        extents[0] = rows.len();
        let part = pack(&extents, &elements[rows.start * row..rows.end * row]);
        rank.send_bytes(other, Channel::Partials, part)?;
    }
    extents[0] = rows[0].len();
    let mine = elements[..rows[0].end * row].to_vec();
    rank.see_off()?;
    put_together::<B>(rank, "scatter", &extents, mine)
}

/// The arrays of all ranks one after the other along the first axis, on rank 0. Collective.
pub(crate) fn gather<B: Dense + ?Sized>(rank: &mut Rank, value: &B) -> Result<Option<B::Owned>> {
    let (extents, elements) = (value.extents(), value.elements());
    agree_on_rows::<B>(rank, "gather", &extents)?;
    if rank.rank() > 0 {
        rank.send_bytes(0, Channel::Partials, pack(&extents, &elements))?;
        rank.see_off()?;
        return rank.say_through().map(|()| None);
    }
    collect::<B>(rank, "gather", extents, elements).map(Some)
}

/// The arrays of all ranks one after the other along the first axis, on every rank. Collective.
pub(crate) fn all_gather<B: Dense + ?Sized>(rank: &mut Rank, value: &B) -> Result<B::Owned> {
    let (mut extents, elements) = (value.extents(), value.elements());
    let rows = agree_on_rows::<B>(rank, "all_gather", &extents)?;
    let row = extents[1..].iter().product::<usize>() * size_of::<B::Element>();
    let total: usize = rows.iter().sum();
    extents[0] = total;
    if rank.size() == 1 {
        return put_together::<B>(rank, "all_gather", &extents, elements.into_owned());
    }
    let parts = one_after_the_other(rows.iter().map(|rows| rows * row));
    let all = spread(rank, cast_slice(&elements).to_vec(), parts)?.bytes;
    let all = pod_collect_to_vec(&all);
    put_together::<B>(rank, "all_gather", &extents, all)
}

/// All ranks' arrays must have one shape, but for the length of the first axis. Gives these lengths.
fn agree_on_rows<B: Dense + ?Sized>(rank: &mut Rank, call: &'static str, extents: &[usize]) -> Result<Vec<usize>> {
    let rest = extents.get(1..).unwrap_or_default();
    let detail = format!("{} axes, {rest:?} elements beside the first", extents.len());
    let rows = extents.first().copied().unwrap_or_default() as u64;
    let cards = meet(rank, &Plan::new::<B>(call, None, &detail), &rows.to_le_bytes())?;
    if extents.is_empty() {
        let remedy = "put it into a slice: &[value][..]";
        return Err(refused(rank, call, "a number has no axis along which to put others".to_owned(), remedy));
    }
    let rows: Vec<usize> = cards.iter().map(number_on).collect();
    let total = rows.iter().sum();
    if B::has_length(total) { Ok(rows) } else { Err(no_such_length::<B>(rank, call, total)) }
}

/// The number that a card brings.
fn number_on(card: &[u8; INLINE]) -> usize {
    u64::from_le_bytes(card[..8].try_into().expect("eight bytes")) as usize
}

fn no_such_length<B: Dense + ?Sized>(rank: &Rank, call: &str, length: usize) -> Error {
    let problem = format!("{} cannot be of {length} along its first axis", std::any::type_name::<B::Owned>());
    refused(rank, call, problem, "use a Vec or an ndarray, whose length is not part of the type")
}

/// On rank 0: waits for everybody's.
fn collect<B: Dense + ?Sized>(
    rank: &mut Rank,
    call: &str,
    mut extents: Vec<usize>,
    mine: Cow<'_, [B::Element]>,
) -> Result<B::Owned> {
    let mut all = mine.into_owned();
    for other in 1..rank.size() {
        let bytes = rank.partials_from(other)?;
        let (theirs, elements) = unpack::<B::Element>(&bytes);
        extents[0] += theirs[0];
        all.extend(elements);
    }
    put_together::<B>(rank, call, &extents, all)
}
