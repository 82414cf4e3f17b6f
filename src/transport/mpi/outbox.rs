//! Sends that own their bytes until MPI has let go of them.

use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::sync::Arc;

use ::mpi::ffi;

use super::WINDOW;
use super::environment::check;
use crate::transport::Failure;

/// Messages of up to so many bytes are handed over at once, between most ranks: 4 KiB is what Open MPI takes in shared
/// memory (its `btl_vader_eager_limit`), and networks and MPICH take more. Both sides have to see to longer ones.
const SHORT_MOST: usize = 4096 - 64;

/// The messages of this rank that have not left.
pub(super) struct Outbox {
    comm: ffi::MPI_Comm,
    /// Active sends; `requests[i]` reads from `sends[i]`.
    requests: Vec<ffi::MPI_Request>,
    sends: Vec<Outgoing>,
    /// Messages that wait for a place in their receiver's window, in order.
    waiting: Vec<VecDeque<Outgoing>>,
    waiting_total: usize,
    /// The long ones among all of these.
    long: usize,
    /// Active sends to each rank.
    active: Vec<usize>,
    indices: Vec<c_int>,
}

struct Outgoing {
    to: usize,
    tag: c_int,
    bytes: Arc<Vec<u8>>,
    range: Range<usize>,
}

impl Outgoing {
    fn is_long(&self) -> bool {
        self.range.len() > SHORT_MOST
    }
}

impl Outbox {
    pub fn new(comm: ffi::MPI_Comm, size: usize) -> Self {
        Self {
            comm,
            requests: Vec::new(),
            sends: Vec::new(),
            waiting: (0..size).map(|_| VecDeque::new()).collect(),
            waiting_total: 0,
            long: 0,
            active: vec![0; size],
            indices: Vec::new(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.waiting_total == 0
    }

    pub fn has_long(&self) -> bool {
        self.long > 0
    }

    pub fn is_empty_for(&self, to: usize) -> bool {
        self.active[to] == 0 && self.waiting[to].is_empty()
    }

    /// Takes a message; `progress` starts it when its receiver's window has room.
    pub fn push(&mut self, to: usize, tag: c_int, bytes: Arc<Vec<u8>>, range: Range<usize>) {
        let outgoing = Outgoing { to, tag, bytes, range };
        self.long += usize::from(outgoing.is_long());
        self.waiting[to].push_back(outgoing);
        self.waiting_total += 1;
    }

    /// Lets go of what has been sent and starts what has waited for it.
    pub fn progress(&mut self) -> Result<(), Failure> {
        if !self.requests.is_empty() {
            self.reap()?;
        }
        if self.waiting_total > 0 {
            for to in 0..self.waiting.len() {
                while self.active[to] < WINDOW
                    && let Some(next) = self.waiting[to].pop_front()
                {
                    self.waiting_total -= 1;
                    self.start(next)?;
                }
            }
        }
        Ok(())
    }

    fn start(&mut self, send: Outgoing) -> Result<(), Failure> {
        let bytes = &send.bytes[send.range.clone()];
        // SAFETY: the constant of an initialised library.
        let mut request = unsafe { ffi::RSMPI_REQUEST_NULL };
        // SAFETY: the bytes are on the heap behind an Arc that `sends` keeps until the request is complete, and nobody
        // writes to them; if this value is dropped before that, `drop` leaks them.
        let code = unsafe {
            let (data, count, to) = (bytes.as_ptr().cast::<c_void>(), bytes.len() as c_int, send.to as c_int);
            ffi::MPI_Isend(data, count, ffi::RSMPI_UINT8_T, to, send.tag, self.comm, &raw mut request)
        };
        check("MPI_Isend", code)?;
        self.active[send.to] += 1;
        self.requests.push(request);
        self.sends.push(send);
        Ok(())
    }

    fn reap(&mut self) -> Result<(), Failure> {
        let (count, mut done) = (self.requests.len(), 0);
        self.indices.resize(count, 0);
        // SAFETY: `requests` and `indices` have `count` entries; completed requests are set to null by the call, and
        // removed below together with the bytes they read from. Statuses are not asked for.
        let code = unsafe {
            let (requests, indices) = (self.requests.as_mut_ptr(), self.indices.as_mut_ptr());
            ffi::MPI_Testsome(count as c_int, requests, &raw mut done, indices, ffi::RSMPI_STATUSES_IGNORE)
        };
        check("MPI_Testsome", code)?;
        let completed = &mut self.indices[..usize::try_from(done).unwrap_or(0)];
        // From the back, so that what `swap_remove` moves forward has been dealt with already.
        completed.sort_unstable_by(|a, b| b.cmp(a));
        for index in completed {
            let index = *index as usize;
            self.requests.swap_remove(index);
            let send = self.sends.swap_remove(index);
            self.active[send.to] -= 1;
            self.long -= usize::from(send.is_long());
        }
        Ok(())
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        // MPI may still read from these bytes: better lost than freed under it.
        std::mem::forget(std::mem::take(&mut self.sends));
    }
}
