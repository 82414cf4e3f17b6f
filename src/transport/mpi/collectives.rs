//! Collectives in their non-blocking form (MPI 4.0, section 6.12), each in the steps that it takes.

use std::ffi::{c_int, c_void};
use std::ops::Range;

use ::mpi::ffi;

use super::environment::check;
use super::{is_complete, no_request};
use crate::array::aligned;
use crate::array::op::{BuiltIn, Number, Operation};
use crate::transport::{Collective, Failure};

/// The communicator as its collectives see it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    pub comm: ffi::MPI_Comm,
    pub rank: usize,
    pub size: usize,
    /// The longest piece of a broadcast.
    pub piece: usize,
}

/// A collective under way; it owns the buffers that MPI uses.
pub(super) struct Running {
    step: Step,
    request: ffi::MPI_Request,
}

enum Step {
    Barrier,
    /// Everybody learns everybody's length; then the bytes go to all, or to rank 0.
    Lengths {
        mine: Vec<u8>,
        _own: Vec<u64>,
        lengths: Vec<u64>,
        to_all: bool,
    },
    Bytes {
        _mine: Vec<u8>,
        lengths: Vec<u64>,
        _layout: Layout,
        all: Vec<u8>,
    },
    Length {
        bytes: Vec<u8>,
        length: Vec<u64>,
    },
    /// The first `sent` bytes of a broadcast have arrived or are on their way.
    Pieces {
        bytes: Vec<u8>,
        sent: usize,
    },
    Cards {
        _mine: Vec<u8>,
        all: Vec<u8>,
    },
    Exchange {
        send: Vec<u8>,
        receive: Vec<u8>,
        _layouts: [Layout; 2],
    },
    Spread {
        mine: Vec<u8>,
        all: Vec<u8>,
        _layout: Layout,
    },
    AllReduce {
        send: Vec<u8>,
        receive: Vec<u8>,
    },
}

/// Where each rank's bytes are in a buffer, as MPI wants to know it.
struct Layout {
    counts: Vec<c_int>,
    offsets: Vec<c_int>,
}

impl Layout {
    fn of(function: &str, parts: &[Range<usize>]) -> Result<Self, Failure> {
        let end = parts.iter().map(|part| part.end).max().unwrap_or(0);
        if c_int::try_from(end).is_err() {
            let message = format!("{end} bytes are too many for one call; the limit is 2^31 - 1");
            return Err(Failure { function: function.into(), message });
        }
        let counts = parts.iter().map(|part| part.len() as c_int).collect();
        Ok(Self { counts, offsets: parts.iter().map(|part| part.start as c_int).collect() })
    }

    fn one_after_the_other(function: &str, lengths: &[u64]) -> Result<Self, Failure> {
        let next = |at: &mut usize, length: &u64| {
            let start = std::mem::replace(at, *at + *length as usize);
            Some(start..*at)
        };
        Self::of(function, &lengths.iter().scan(0, next).collect::<Vec<_>>())
    }
}

impl Running {
    pub fn start(group: Group, collective: Collective) -> Result<Self, Failure> {
        match collective {
            Collective::Barrier => {
                let mut request = no_request();
                // SAFETY: our communicator, a valid out-pointer, no buffers.
                let code = unsafe { ffi::MPI_Ibarrier(group.comm, &raw mut request) };
                check("MPI_Ibarrier", code)?;
                Ok(Self { step: Step::Barrier, request })
            }
            Collective::Gather(mine) => group.start_lengths(mine, false),
            Collective::AllGather(mine) => group.start_lengths(mine, true),
            Collective::Broadcast(bytes) => group.start_length(bytes),
            Collective::Cards(mine) => group.start_cards(mine),
            Collective::Exchange { send, outgoing, receive, incoming } => {
                group.start_exchange(send, &outgoing, receive, &incoming)
            }
            Collective::Spread { mine, all, parts } => group.start_spread(mine, all, &parts),
            Collective::AllReduce { send, receive, count, function } => {
                group.start_all_reduce(send, receive, count, function)
            }
        }
    }

    pub fn is_complete(&mut self) -> Result<bool, Failure> {
        is_complete(&mut self.request)
    }

    /// Moves a collective whose step is complete to its next step, or to its result.
    pub fn next(self, group: Group) -> Result<Result<Self, Vec<Vec<u8>>>, Failure> {
        Ok(match self.step {
            Step::Barrier => Err(Vec::new()),
            Step::Lengths { mine, lengths, to_all, .. } => Ok(group.start_bytes(mine, lengths, to_all)?),
            Step::Bytes { lengths, mut all, .. } => {
                let mut parts = Vec::with_capacity(lengths.len());
                if group.rank == 0 || !all.is_empty() {
                    for length in lengths.iter().rev() {
                        parts.push(all.split_off(all.len() - *length as usize));
                    }
                    parts.reverse();
                }
                Err(parts)
            }
            Step::Length { length, .. } if length[0] == 0 => Err(vec![Vec::new()]),
            Step::Length { mut bytes, length } => {
                bytes.resize(length[0] as usize, 0);
                Ok(group.start_piece(bytes, 0)?)
            }
            Step::Pieces { bytes, sent } if sent == bytes.len() => Err(vec![bytes]),
            Step::Pieces { bytes, sent } => Ok(group.start_piece(bytes, sent)?),
            Step::Cards { all, .. } => Err(vec![all]),
            Step::Exchange { send, receive, .. } => Err(vec![receive, send]),
            Step::Spread { mine, all, .. } => Err(vec![all, mine]),
            Step::AllReduce { send, receive } => Err(vec![receive, send]),
        })
    }
}

/// The pointer of an empty vector is dangling, and 1 is Open MPI's `MPI_IN_PLACE`: every buffer gets an address.
fn with_an_address(mut buffer: Vec<u8>) -> Vec<u8> {
    if buffer.capacity() == 0 {
        buffer.reserve_exact(1);
    }
    buffer
}

impl Group {
    fn start_lengths(self, mine: Vec<u8>, to_all: bool) -> Result<Running, Failure> {
        let (own, mut lengths) = (vec![mine.len() as u64], vec![0u64; self.size]);
        let mut request = no_request();
        // SAFETY: both buffers are on the heap and move into the step, which lives until the request is complete.
        let code = unsafe {
            let (send, receive) = (own.as_ptr().cast::<c_void>(), lengths.as_mut_ptr().cast::<c_void>());
            let kind = ffi::RSMPI_UINT64_T;
            ffi::MPI_Iallgather(send, 1, kind, receive, 1, kind, self.comm, &raw mut request)
        };
        check("MPI_Iallgather", code)?;
        Ok(Running { step: Step::Lengths { mine, _own: own, lengths, to_all }, request })
    }

    fn start_bytes(self, mine: Vec<u8>, lengths: Vec<u64>, to_all: bool) -> Result<Running, Failure> {
        let function = if to_all { "MPI_Iallgatherv" } else { "MPI_Igatherv" };
        let layout = Layout::one_after_the_other(function, &lengths)?;
        let total: u64 = lengths.iter().sum();
        let mine = with_an_address(mine);
        let mut all = with_an_address(vec![0; if to_all || self.rank == 0 { total as usize } else { 0 }]);
        let (mut request, own) = (no_request(), mine.len() as c_int);
        // SAFETY: all buffers are on the heap and move into the step, which lives until the request is complete.
        let code = unsafe {
            let (send, receive) = (mine.as_ptr().cast::<c_void>(), all.as_mut_ptr().cast::<c_void>());
            let (counts, offsets, kind) = (layout.counts.as_ptr(), layout.offsets.as_ptr(), ffi::RSMPI_UINT8_T);
            if to_all {
                let comm = self.comm;
                ffi::MPI_Iallgatherv(send, own, kind, receive, counts, offsets, kind, comm, &raw mut request)
            } else {
                let comm = self.comm;
                ffi::MPI_Igatherv(send, own, kind, receive, counts, offsets, kind, 0, comm, &raw mut request)
            }
        };
        check(function, code)?;
        Ok(Running { step: Step::Bytes { _mine: mine, lengths, _layout: layout, all }, request })
    }

    fn start_length(self, bytes: Vec<u8>) -> Result<Running, Failure> {
        let mut length = vec![bytes.len() as u64];
        let mut request = no_request();
        // SAFETY: the buffer is on the heap and moves into the step, which lives until the request is complete.
        let code = unsafe {
            let data = length.as_mut_ptr().cast::<c_void>();
            ffi::MPI_Ibcast(data, 1, ffi::RSMPI_UINT64_T, 0, self.comm, &raw mut request)
        };
        check("MPI_Ibcast", code)?;
        Ok(Running { step: Step::Length { bytes, length }, request })
    }

    fn start_piece(self, mut bytes: Vec<u8>, sent: usize) -> Result<Running, Failure> {
        let piece = &mut bytes[sent..];
        let count = piece.len().min(self.piece);
        let mut request = no_request();
        // SAFETY: `count` bytes of a buffer on the heap that moves into the step, which lives until the request is
        // complete, and is not touched before.
        let code = unsafe {
            let data = piece.as_mut_ptr().cast::<c_void>();
            ffi::MPI_Ibcast(data, count as c_int, ffi::RSMPI_UINT8_T, 0, self.comm, &raw mut request)
        };
        check("MPI_Ibcast", code)?;
        Ok(Running { step: Step::Pieces { bytes, sent: sent + count }, request })
    }

    fn start_cards(self, mine: Vec<u8>) -> Result<Running, Failure> {
        let (mut all, mut request) = (vec![0; mine.len() * self.size], no_request());
        let len = mine.len() as c_int;
        // SAFETY: both buffers are on the heap, not empty, and move into the step, which lives until the request is
        // complete.
        let code = unsafe {
            let (send, receive) = (mine.as_ptr().cast::<c_void>(), all.as_mut_ptr().cast::<c_void>());
            let kind = ffi::RSMPI_UINT8_T;
            ffi::MPI_Iallgather(send, len, kind, receive, len, kind, self.comm, &raw mut request)
        };
        check("MPI_Iallgather", code)?;
        Ok(Running { step: Step::Cards { _mine: mine, all }, request })
    }

    fn start_exchange(
        self,
        send: Vec<u8>,
        outgoing: &[Range<usize>],
        receive: Vec<u8>,
        incoming: &[Range<usize>],
    ) -> Result<Running, Failure> {
        let layouts = [Layout::of("MPI_Ialltoallv", outgoing)?, Layout::of("MPI_Ialltoallv", incoming)?];
        let (send, mut receive) = (with_an_address(send), with_an_address(receive));
        check_bounds(outgoing, &send);
        check_bounds(incoming, &receive);
        let mut request = no_request();
        // SAFETY: all parts are inside of their buffers; these and the layouts are on the heap and move into the step, which
        // lives until the request is complete.
        let code = unsafe {
            let (from, to) = (send.as_ptr().cast::<c_void>(), receive.as_mut_ptr().cast::<c_void>());
            let [(counts, offsets), (their_counts, their_offsets)] =
                [0, 1].map(|at| (layouts[at].counts.as_ptr(), layouts[at].offsets.as_ptr()));
            let (kind, comm) = (ffi::RSMPI_UINT8_T, self.comm);
            let request = &raw mut request;
            ffi::MPI_Ialltoallv(from, counts, offsets, kind, to, their_counts, their_offsets, kind, comm, request)
        };
        check("MPI_Ialltoallv", code)?;
        Ok(Running { step: Step::Exchange { send, receive, _layouts: layouts }, request })
    }

    fn start_spread(self, mine: Vec<u8>, all: Vec<u8>, parts: &[Range<usize>]) -> Result<Running, Failure> {
        let layout = Layout::of("MPI_Iallgatherv", parts)?;
        let (mine, mut all) = (with_an_address(mine), with_an_address(all));
        check_bounds(parts, &all);
        let own = layout.counts[self.rank];
        assert!(own as usize <= mine.len(), "rank {} spreads {own} bytes of {}", self.rank, mine.len());
        let mut request = no_request();
        // SAFETY: as for an exchange.
        let code = unsafe {
            let (send, receive) = (mine.as_ptr().cast::<c_void>(), all.as_mut_ptr().cast::<c_void>());
            let (counts, offsets, kind) = (layout.counts.as_ptr(), layout.offsets.as_ptr(), ffi::RSMPI_UINT8_T);
            ffi::MPI_Iallgatherv(send, own, kind, receive, counts, offsets, kind, self.comm, &raw mut request)
        };
        check("MPI_Iallgatherv", code)?;
        Ok(Running { step: Step::Spread { mine, all, _layout: layout }, request })
    }

    fn start_all_reduce(
        self,
        mut send: Vec<u8>,
        mut receive: Vec<u8>,
        count: usize,
        function: BuiltIn,
    ) -> Result<Running, Failure> {
        let Ok(numbers) = c_int::try_from(count) else {
            let message = format!("{count} numbers are too many for one call; the limit is 2^31 - 1");
            return Err(Failure { function: "MPI_Iallreduce".into(), message });
        };
        let bytes = count * function.number.size();
        let mut request = no_request();
        // SAFETY: both buffers hold `count` aligned numbers, on the heap, and move into the step, which lives until the
        // request is complete.
        let code = unsafe {
            let from = aligned(&mut send, bytes).as_ptr().cast::<c_void>();
            let to = aligned(&mut receive, bytes).as_mut_ptr().cast::<c_void>();
            let (kind, operation) = (datatype(function.number), operation(function.operation));
            ffi::MPI_Iallreduce(from, to, numbers, kind, operation, self.comm, &raw mut request)
        };
        check("MPI_Iallreduce", code)?;
        Ok(Running { step: Step::AllReduce { send, receive }, request })
    }
}

fn check_bounds(parts: &[Range<usize>], buffer: &[u8]) {
    assert!(parts.iter().all(|part| part.start <= part.end && part.end <= buffer.len()), "parts outside of a buffer");
}

fn datatype(number: Number) -> ffi::MPI_Datatype {
    // SAFETY: constants of an initialised library.
    unsafe {
        match number {
            Number::I8 => ffi::RSMPI_INT8_T,
            Number::I16 => ffi::RSMPI_INT16_T,
            Number::I32 => ffi::RSMPI_INT32_T,
            Number::I64 => ffi::RSMPI_INT64_T,
            Number::U8 => ffi::RSMPI_UINT8_T,
            Number::U16 => ffi::RSMPI_UINT16_T,
            Number::U32 => ffi::RSMPI_UINT32_T,
            Number::U64 => ffi::RSMPI_UINT64_T,
            Number::F32 => ffi::RSMPI_FLOAT,
            Number::F64 => ffi::RSMPI_DOUBLE,
        }
    }
}

fn operation(operation: Operation) -> ffi::MPI_Op {
    // SAFETY: constants of an initialised library.
    unsafe {
        match operation {
            Operation::Sum => ffi::RSMPI_SUM,
            Operation::Prod => ffi::RSMPI_PROD,
            Operation::Min => ffi::RSMPI_MIN,
            Operation::Max => ffi::RSMPI_MAX,
            Operation::And => ffi::RSMPI_BAND,
            Operation::Or => ffi::RSMPI_BOR,
            Operation::Xor => ffi::RSMPI_BXOR,
        }
    }
}
