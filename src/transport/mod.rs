//! How ranks exchange bytes: one trait, two implementations, chosen when the program starts.
//!
//! ```text
//! mpi       real ranks under mpirun or srun; the only file that names mpi::
//! threads   ranks that are threads of this process, for laptops and tests
//! ```
//!
//! What both guarantee, and what `tests::contract` checks of both:
//!
//! 1. A message arrives whole, once, and after every earlier message of the same sender to the same receiver. Nothing is
//!    promised about messages of different senders.
//! 2. No call blocks. `send` takes the bytes; they live until they are delivered, whatever the sender does.
//! 3. A collective completes on a rank when `test` says so; every rank starts the same collectives in the same order,
//!    one at a time. Messages sent before it may arrive after it.
//! 4. `close` returns when every rank has called it. Messages that nobody received are dropped.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::array::op::BuiltIn;

#[cfg(feature = "mpi")]
pub(crate) mod mpi;
pub(crate) mod threads;
pub(crate) mod wait;

#[cfg(test)]
pub(crate) mod contract;

/// Bytes between ranks. Only ever used by the one thread that made it.
pub(crate) trait Transport {
    fn rank(&self) -> usize;

    fn size(&self) -> usize;

    /// Hands over a message. It is on its way when this returns, and needs `receive`, `test` or `close` to be called
    /// from time to time until `is_sending` is false.
    fn send(&mut self, to: usize, channel: Channel, bytes: Vec<u8>) -> Result<(), Failure>;

    /// The next message that has arrived, if any.
    fn receive(&mut self) -> Result<Option<Incoming>, Failure>;

    /// Whether messages are still leaving, so that whoever waits should look often.
    fn is_sending(&self) -> bool;

    /// Whether long messages are leaving or arriving, which move on only while both of their ranks look.
    fn is_moving(&self) -> bool;

    /// Whether messages are still leaving for this rank.
    fn is_sending_to(&self, to: usize) -> bool;

    /// Starts a collective operation.
    fn start(&mut self, collective: Collective) -> Result<(), Failure>;

    /// The result of the collective that was started, once it is complete here: one entry for each rank that
    /// contributed something this rank gets.
    fn test(&mut self) -> Result<Option<Vec<Vec<u8>>>, Failure>;

    /// Ends the program on all ranks, now.
    fn abort(&mut self, code: i32) -> !;

    /// This rank unwinds and will never answer again: the others must not wait for it.
    fn abandon(&mut self);

    /// Waits for all ranks and releases the transport. What arrives meanwhile is shown to `dropped`.
    fn close(&mut self, dropped: &mut dyn FnMut(Incoming)) -> Result<(), Failure>;

    /// In place of `close` where some ranks may never come to their end: does not wait for them. The program ends when
    /// all other ranks have returned from `main`.
    fn close_without(&mut self, lost: &BTreeSet<usize>) -> Result<(), Failure>;
}

/// Messages of different kinds, told apart without being decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    /// An encoded envelope.
    Control,
    /// Segments on their way up the reduction tree.
    Partials,
    /// Values of a pool.
    Values,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Incoming {
    pub from: usize,
    pub channel: Channel,
    pub bytes: Vec<u8>,
}

/// An operation of all ranks together.
#[derive(Debug)]
pub(crate) enum Collective {
    /// Nobody's is complete before everybody has started it. Gives nothing.
    Barrier,
    /// Rank 0 gets everybody's bytes in the order of ranks, the others nothing. Less than 2^31 bytes in all.
    Gather(Vec<u8>),
    /// Every rank gets everybody's bytes in the order of ranks. Less than 2^31 bytes in all.
    AllGather(Vec<u8>),
    /// Every rank gets one entry: rank 0's bytes, of any length. The other ranks' are not looked at.
    Broadcast(Vec<u8>),
    /// Every rank gets one entry: everybody's bytes, one after the other. All bring the same number, at least one.
    Cards(Vec<u8>),
    /// Each rank sends a part of a buffer to each, itself included, and receives one from each, of lengths that both know.
    /// Parts that are sent may overlap. Gives the buffer that was received, and the one that was sent. Parts end before 2^31.
    Exchange { send: Vec<u8>, outgoing: Vec<Range<usize>>, receive: Vec<u8>, incoming: Vec<Range<usize>> },
    /// What `mine` begins with goes to this rank's part of `all`, on every rank. Gives `all` and `mine`. Parts end before 2^31.
    Spread { mine: Vec<u8>, all: Vec<u8>, parts: Vec<Range<usize>> },
    /// Numbers of all ranks, reduced in any order; in the part of `send`, and of `receive`, that `array::aligned` gives. Gives
    /// `receive` and `send`.
    AllReduce { send: Vec<u8>, receive: Vec<u8>, count: usize, function: BuiltIn },
}

impl Collective {
    /// For messages, where the bytes that go along would be in the way.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Barrier => "a barrier",
            Self::Gather(_) => "a gathering",
            Self::AllGather(_) => "a gathering by all",
            Self::Broadcast(_) => "a broadcast",
            Self::Cards(_) => "a gathering of cards",
            Self::Exchange { .. } => "an exchange",
            Self::Spread { .. } => "a spreading",
            Self::AllReduce { .. } => "a reduction by all",
        }
    }

    /// What this rank brings, if anything.
    pub fn bytes(&self) -> Option<usize> {
        match self {
            Self::Barrier => None,
            Self::Gather(bytes) | Self::AllGather(bytes) | Self::Broadcast(bytes) | Self::Cards(bytes) => {
                Some(bytes.len())
            }
            Self::Exchange { outgoing, .. } => Some(outgoing.iter().map(Range::len).sum()),
            Self::Spread { mine, .. } => Some(mine.len()),
            Self::AllReduce { count, function, .. } => Some(count * function.number.size()),
        }
    }
}

/// A failure of the transport itself.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub function: String,
    pub message: String,
}
