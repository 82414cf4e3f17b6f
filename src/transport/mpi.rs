//! Real ranks: messages by matched probe and owned non-blocking sends, collectives in their non-blocking form.
//!
//! rsmpi provides the bindings, the safe calls of which drop MPI's return codes; so the functions are called through its
//! `ffi` here, on a duplicate of the user's communicator with `MPI_ERRORS_RETURN`, and every code is checked. Sections
//! of the MPI 4.0 standard: matched probe 3.8.2, non-blocking collectives 6.12, threads 11.6, error handling 9.3.
//!
//! A message of more than [`PIECE`] bytes travels as a head with its length and then in pieces, since MPI counts are C
//! ints. At most [`WINDOW`] sends to one rank are under way at once: some libraries slow down, or never finish, with
//! thousands of them.
#![allow(unsafe_code, reason = "MPI is a C library; this is the one file that calls it")]

mod collectives;
mod crowded;
mod environment;
mod exit;
mod outbox;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{c_int, c_void};
use std::mem::take;
use std::sync::Arc;

use ::mpi::ffi;
use ::mpi::topology::SimpleCommunicator;
use ::mpi::traits::AsRaw;

pub(crate) use environment::{initialize, is_initialized, library_version};

use super::wait::{Mood, Waiter};
use super::{Channel, Collective, Failure, Incoming, Transport};
use collectives::{Group, Running};
use environment::check;
use outbox::Outbox;

/// A longer message is split.
const PIECE: usize = 1 << 30;
/// Sends to one rank that are under way at once.
const WINDOW: usize = 64;

const TAG_CONTROL: c_int = 1;
const TAG_PARTIALS: c_int = 2;
/// Announces a split message: its channel's tag and its length, eight bytes each.
const TAG_HEAD: c_int = 3;
const TAG_PIECE: c_int = 4;
const TAG_VALUES: c_int = 5;

/// One rank's end of a duplicated communicator. Lives on the thread that initialised MPI.
pub(crate) struct Mpi {
    comm: ffi::MPI_Comm,
    rank: usize,
    size: usize,
    /// Whether this library initialised MPI, and so must finalize it.
    owns_mpi: bool,
    outbox: Outbox,
    receiving: VecDeque<Receiving>,
    /// Split messages, by their sender. Pieces keep their order: one that is matched belongs to the last message, one
    /// that is complete to the first.
    assembling: BTreeMap<usize, VecDeque<Assembly>>,
    collective: Option<Running>,
    piece: usize,
}

/// A message that was matched and is being received.
struct Receiving {
    from: usize,
    request: ffi::MPI_Request,
    content: Content,
}

enum Content {
    /// The buffer that MPI writes to, untouched until the request is complete.
    Whole(Channel, Vec<u8>),
    /// A piece, written straight into its place in the sender's assembly.
    Piece(usize),
}

struct Assembly {
    channel: Channel,
    bytes: Vec<u8>,
    matched: usize,
    complete: usize,
}

impl Mpi {
    /// Duplicates `comm`. Collective over it.
    pub fn new(comm: &SimpleCommunicator, owns_mpi: bool) -> Result<Self, Failure> {
        Self::with_piece(comm, owns_mpi, PIECE)
    }

    /// Splits messages of more than `piece` bytes, so that tests need no gigabytes.
    pub fn with_piece(comm: &SimpleCommunicator, owns_mpi: bool, piece: usize) -> Result<Self, Failure> {
        let (mut rank, mut size) = (0, 0);
        let duplicate = duplicate(comm)?;
        // SAFETY: `duplicate` is a live communicator of ours; the out-pointers are valid for the duration of each call.
        unsafe {
            let returns = ffi::MPI_Comm_set_errhandler(duplicate, ffi::RSMPI_ERRORS_RETURN);
            check("MPI_Comm_set_errhandler", returns)?;
            check("MPI_Comm_rank", ffi::MPI_Comm_rank(duplicate, &raw mut rank))?;
            check("MPI_Comm_size", ffi::MPI_Comm_size(duplicate, &raw mut size))?;
        }
        exit::world_opened();
        Ok(Self {
            comm: duplicate,
            rank: rank as usize,
            size: size as usize,
            owns_mpi,
            outbox: Outbox::new(duplicate, size as usize),
            receiving: VecDeque::new(),
            assembling: BTreeMap::new(),
            collective: None,
            piece,
        })
    }

    fn group(&self) -> Group {
        Group { comm: self.comm, rank: self.rank, size: self.size, piece: self.piece }
    }

    /// Matches one message that has arrived and starts to receive it. False if none has.
    fn match_next(&mut self) -> Result<bool, Failure> {
        // SAFETY: an MPI_Status is plain data that MPI_Improbe fills in; zero is a valid value of each field.
        let mut status: ffi::MPI_Status = unsafe { std::mem::zeroed() };
        // SAFETY: the constant of an initialised library.
        let mut message = unsafe { ffi::RSMPI_MESSAGE_NULL };
        let (mut found, mut count) = (0, 0);
        // SAFETY: the communicator is ours and live; all out-pointers are valid.
        unsafe {
            let (any_rank, any_tag) = (ffi::RSMPI_ANY_SOURCE, ffi::RSMPI_ANY_TAG);
            let code =
                ffi::MPI_Improbe(any_rank, any_tag, self.comm, &raw mut found, &raw mut message, &raw mut status);
            check("MPI_Improbe", code)?;
            if found == 0 {
                return Ok(false);
            }
            let code = ffi::MPI_Get_count(&raw const status, ffi::RSMPI_UINT8_T, &raw mut count);
            check("MPI_Get_count", code)?;
        }
        let (from, tag, len) = (status.MPI_SOURCE as usize, status.MPI_TAG, count as usize);
        let content = match tag {
            TAG_HEAD => return self.begin_assembly(from, len, message).map(|()| true),
            TAG_PIECE => Content::Piece(len),
            tag => Content::Whole(channel_of(tag), vec![0; len]),
        };
        let mut receiving = Receiving { from, request: no_request(), content };
        let buffer = match &mut receiving.content {
            Content::Whole(_, bytes) => bytes.as_mut_ptr(),
            Content::Piece(len) => {
                let assemblies = self.assembling.get_mut(&from);
                let assembly = assemblies.and_then(VecDeque::back_mut).expect("a head comes before its pieces");
                let piece = &mut assembly.bytes[assembly.matched..assembly.matched + *len];
                assembly.matched += *len;
                piece.as_mut_ptr()
            }
        };
        // SAFETY: `buffer` points to `len` writable bytes on the heap, owned by `receiving` or by the assembly and
        // neither moved, resized nor read until the request is complete; the message was matched just now.
        let code = unsafe {
            let (data, kind) = (buffer.cast::<c_void>(), ffi::RSMPI_UINT8_T);
            ffi::MPI_Imrecv(data, count, kind, &raw mut message, &raw mut receiving.request)
        };
        check("MPI_Imrecv", code)?;
        self.receiving.push_back(receiving);
        Ok(true)
    }

    fn begin_assembly(&mut self, from: usize, len: usize, mut message: ffi::MPI_Message) -> Result<(), Failure> {
        let mut head = [0u8; 16];
        assert_eq!(len, head.len(), "the head of a split message");
        // SAFETY: a matched message of 16 bytes into 16 bytes; it is complete when the call returns, at once, because
        // a message this short travels with its envelope.
        let code = unsafe {
            let (data, kind) = (head.as_mut_ptr().cast::<c_void>(), ffi::RSMPI_UINT8_T);
            ffi::MPI_Mrecv(data, len as c_int, kind, &raw mut message, ffi::RSMPI_STATUS_IGNORE)
        };
        check("MPI_Mrecv", code)?;
        let [tag, total] = [0, 8].map(|at| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes")));
        let bytes = vec![0; total as usize];
        let assembly = Assembly { channel: channel_of(tag as c_int), bytes, matched: 0, complete: 0 };
        self.assembling.entry(from).or_default().push_back(assembly);
        Ok(())
    }

    /// The first message that is complete, and that no earlier message of its sender is still ahead of.
    fn next_complete(&mut self) -> Result<Option<Incoming>, Failure> {
        let mut position = 0;
        while position < self.receiving.len() {
            let from = self.receiving[position].from;
            let is_first = self.receiving.iter().take(position).all(|earlier| earlier.from != from);
            if !is_first || !is_complete(&mut self.receiving[position].request)? {
                position += 1;
                continue;
            }
            let done = self.receiving.remove(position).expect("the position is in range");
            match done.content {
                Content::Whole(channel, bytes) => return Ok(Some(Incoming { from, channel, bytes })),
                Content::Piece(len) => {
                    let assemblies = self.assembling.get_mut(&from).expect("a piece belongs to an assembly");
                    let assembly = assemblies.front_mut().expect("a piece belongs to an assembly");
                    assembly.complete += len;
                    if assembly.complete == assembly.bytes.len() {
                        let Assembly { channel, bytes, .. } = assemblies.pop_front().expect("it was here");
                        return Ok(Some(Incoming { from, channel, bytes }));
                    }
                }
            }
        }
        Ok(None)
    }
}

impl Transport for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn send(&mut self, to: usize, channel: Channel, bytes: Vec<u8>) -> Result<(), Failure> {
        let tag = match channel {
            Channel::Control => TAG_CONTROL,
            Channel::Partials => TAG_PARTIALS,
            Channel::Values => TAG_VALUES,
        };
        if bytes.len() <= self.piece {
            let end = bytes.len();
            self.outbox.push(to, tag, bytes.into(), 0..end);
        } else {
            let head = [(tag as u64).to_le_bytes(), (bytes.len() as u64).to_le_bytes()].concat();
            self.outbox.push(to, TAG_HEAD, head.into(), 0..16);
            let whole = Arc::new(bytes);
            for start in (0..whole.len()).step_by(self.piece) {
                self.outbox.push(to, TAG_PIECE, Arc::clone(&whole), start..whole.len().min(start + self.piece));
            }
        }
        self.outbox.progress()
    }

    fn receive(&mut self) -> Result<Option<Incoming>, Failure> {
        self.outbox.progress()?;
        // Open MPI looks for what has arrived at the end of a probe that finds nothing: the next one finds it.
        for _ in 0..2 {
            while self.match_next()? {}
            if let Some(incoming) = self.next_complete()? {
                return Ok(Some(incoming));
            }
        }
        Ok(None)
    }

    fn is_sending(&self) -> bool {
        !self.outbox.is_empty() || !self.receiving.is_empty()
    }

    fn is_moving(&self) -> bool {
        self.outbox.has_long() || !self.receiving.is_empty()
    }

    fn is_sending_to(&self, to: usize) -> bool {
        !self.outbox.is_empty_for(to)
    }

    fn start(&mut self, collective: Collective) -> Result<(), Failure> {
        assert!(self.collective.is_none(), "rank {} starts a collective inside another", self.rank);
        self.collective = Some(Running::start(self.group(), collective)?);
        Ok(())
    }

    fn test(&mut self) -> Result<Option<Vec<Vec<u8>>>, Failure> {
        self.outbox.progress()?;
        loop {
            let running = self.collective.as_mut().expect("a collective was started");
            if !running.is_complete()? {
                return Ok(None);
            }
            let running = self.collective.take().expect("it was just there");
            match running.next(self.group())? {
                Ok(next) => self.collective = Some(next),
                Err(result) => return Ok(Some(result)),
            }
        }
    }

    fn abort(&mut self, code: i32) -> ! {
        exit::abort(code)
    }

    fn abandon(&mut self) {
        exit::abort(101)
    }

    fn close(&mut self, dropped: &mut dyn FnMut(Incoming)) -> Result<(), Failure> {
        if !is_initialized() {
            return Ok(());
        }
        // Some libraries hang in MPI_Finalize on large sends that nobody has acknowledged, so everybody's sends leave
        // first. A rank that waits here goes on receiving, which is what lets the others' sends leave.
        let mut waiter = Waiter::default();
        while !self.outbox.is_empty() {
            self.receive()?.into_iter().for_each(&mut *dropped);
            waiter.wait(Mood::without_work(self), std::thread::sleep);
        }
        self.start(Collective::Barrier)?;
        while self.test()?.is_none() {
            self.receive()?.into_iter().for_each(&mut *dropped);
            waiter.wait(Mood::without_work(self), std::thread::sleep);
        }
        while let Some(incoming) = self.receive()? {
            dropped(incoming);
        }
        environment::release(&mut self.comm, self.owns_mpi)
    }

    fn close_without(&mut self, lost: &BTreeSet<usize>) -> Result<(), Failure> {
        let mut waiter = Waiter::default();
        while (0..self.size).any(|other| !lost.contains(&other) && !self.outbox.is_empty_for(other)) {
            drop(self.receive()?);
            waiter.wait(Mood::without_work(self), std::thread::sleep);
        }
        if self.rank == 0 && !self.owns_mpi {
            // Whoever has started MPI will finalize it, and that would wait for the lost ranks for ever.
            eprintln!("rankfold: error: MPI_Finalize would wait for them for ever, so rank 0 ends the program here");
            exit::abort(1);
        }
        exit::world_left(self.rank, self.size, lost);
        Ok(())
    }
}

impl Drop for Mpi {
    fn drop(&mut self) {
        // Only after a failure is something under way: MPI may still write to these, so they are better lost than freed.
        std::mem::forget((take(&mut self.receiving), take(&mut self.assembling), self.collective.take()));
    }
}

/// A communicator of the same ranks. In the form that does not block, since some libraries spin in the other.
fn duplicate(comm: &SimpleCommunicator) -> Result<ffi::MPI_Comm, Failure> {
    // SAFETY: the constant of an initialised library.
    let null = unsafe { ffi::RSMPI_COMM_NULL };
    // Some bytes are lost for each world, and MPI may write to them whenever it comes to it, also after an error.
    let duplicate: *mut ffi::MPI_Comm = Box::leak(Box::new(null));
    let mut request = no_request();
    // SAFETY: `comm` is a live communicator; `duplicate` is valid for ever, and nobody else's.
    let code = unsafe { ffi::MPI_Comm_idup(comm.as_raw(), duplicate, &raw mut request) };
    check("MPI_Comm_idup", code)?;
    let mut waiter = Waiter::default();
    while !is_complete(&mut request)? {
        waiter.wait(Mood::Meeting, std::thread::sleep);
    }
    // SAFETY: the request is complete, so MPI has written it and will not again.
    Ok(unsafe { *duplicate })
}

fn channel_of(tag: c_int) -> Channel {
    match tag {
        TAG_CONTROL => Channel::Control,
        TAG_PARTIALS => Channel::Partials,
        TAG_VALUES => Channel::Values,
        tag => unreachable!("tag {tag} on a communicator of our own"),
    }
}

fn no_request() -> ffi::MPI_Request {
    // SAFETY: the constant of an initialised library.
    unsafe { ffi::RSMPI_REQUEST_NULL }
}

/// Tests one request. The buffers it uses are free when the answer is yes.
fn is_complete(request: &mut ffi::MPI_Request) -> Result<bool, Failure> {
    let mut done = 0;
    // SAFETY: a request of ours that is active or null; the status is not asked for.
    let code = unsafe { ffi::MPI_Test(request, &raw mut done, ffi::RSMPI_STATUS_IGNORE) };
    check("MPI_Test", code)?;
    Ok(done != 0)
}

#[cfg(test)]
mod tests;
