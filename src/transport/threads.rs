//! Ranks that are threads of one process: mailboxes behind locks, collectives at a meeting point.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use super::wait::{Mood, Waiter};
use super::{Channel, Collective, Failure, Incoming, Transport};
use crate::array::op::BuiltIn;
use crate::array::{aligned, aligned_in};
use crate::lock::lock;

/// One rank's end. Made together with the others' by [`ranks`].
#[derive(Debug)]
pub(crate) struct Threads {
    rank: usize,
    hub: Arc<Hub>,
    /// The number of collectives that this rank has started.
    meetings: u64,
    meeting: Option<u64>,
}

/// What the ranks share.
#[derive(Debug)]
struct Hub {
    mailboxes: Vec<Mutex<VecDeque<Incoming>>>,
    meetings: Mutex<BTreeMap<u64, Meeting>>,
    /// The first rank that unwound.
    abandoned: Mutex<Option<usize>>,
}

/// A collective under way: who has come with what, and how many have taken the result.
#[derive(Debug)]
struct Meeting {
    brought: Vec<Option<Collective>>,
    taken: usize,
}

/// `size` ranks that reach each other.
pub(crate) fn ranks(size: usize) -> Vec<Threads> {
    let hub = Arc::new(Hub {
        mailboxes: (0..size).map(|_| Mutex::default()).collect(),
        meetings: Mutex::default(),
        abandoned: Mutex::default(),
    });
    (0..size).map(|rank| Threads { rank, hub: Arc::clone(&hub), meetings: 0, meeting: None }).collect()
}

impl Transport for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.hub.mailboxes.len()
    }

    fn send(&mut self, to: usize, channel: Channel, bytes: Vec<u8>) -> Result<(), Failure> {
        self.check("send")?;
        lock(&self.hub.mailboxes[to]).push_back(Incoming { from: self.rank, channel, bytes });
        Ok(())
    }

    fn receive(&mut self) -> Result<Option<Incoming>, Failure> {
        let incoming = lock(&self.hub.mailboxes[self.rank]).pop_front();
        if incoming.is_none() {
            self.check("receive")?;
        }
        Ok(incoming)
    }

    fn is_sending(&self) -> bool {
        false
    }

    fn is_moving(&self) -> bool {
        false
    }

    fn is_sending_to(&self, _to: usize) -> bool {
        false
    }

    fn start(&mut self, collective: Collective) -> Result<(), Failure> {
        self.check("start")?;
        assert!(self.meeting.is_none(), "rank {} starts a collective inside another", self.rank);
        let size = self.size();
        let mut meetings = lock(&self.hub.meetings);
        let meeting = meetings
            .entry(self.meetings)
            .or_insert_with(|| Meeting { brought: (0..size).map(|_| None).collect(), taken: 0 });
        if let Some(other) = meeting.brought.iter().flatten().next()
            && std::mem::discriminant(other) != std::mem::discriminant(&collective)
        {
            let (mine, other) = (collective.name(), other.name());
            let message = format!("rank {} starts {mine} where another rank started {other}", self.rank);
            return Err(Failure { function: "start".into(), message });
        }
        meeting.brought[self.rank] = Some(collective);
        self.meeting = Some(self.meetings);
        self.meetings += 1;
        Ok(())
    }

    fn test(&mut self) -> Result<Option<Vec<Vec<u8>>>, Failure> {
        let number = self.meeting.expect("a collective was started");
        let mut meetings = lock(&self.hub.meetings);
        let meeting = meetings.get_mut(&number).expect("a meeting lasts until everybody has taken its result");
        if meeting.brought.iter().any(Option::is_none) {
            drop(meetings);
            self.check("test")?;
            return Ok(None);
        }
        let result = meeting.result_for(self.rank);
        meeting.taken += 1;
        if meeting.taken == meeting.brought.len() {
            meetings.remove(&number);
        }
        self.meeting = None;
        Ok(Some(result))
    }

    fn abort(&mut self, code: i32) -> ! {
        std::process::exit(code)
    }

    fn abandon(&mut self) {
        lock(&self.hub.abandoned).get_or_insert(self.rank);
    }

    fn close(&mut self, dropped: &mut dyn FnMut(Incoming)) -> Result<(), Failure> {
        self.start(Collective::Barrier)?;
        let mut waiter = Waiter::default();
        while self.test()?.is_none() {
            waiter.wait(Mood::Starving, std::thread::sleep);
        }
        lock(&self.hub.mailboxes[self.rank]).drain(..).for_each(dropped);
        Ok(())
    }

    fn close_without(&mut self, _lost: &BTreeSet<usize>) -> Result<(), Failure> {
        // Nothing is shared but memory, which lasts as long as somebody uses it.
        Ok(())
    }
}

impl Threads {
    fn check(&self, function: &str) -> Result<(), Failure> {
        match *lock(&self.hub.abandoned) {
            None => Ok(()),
            Some(rank) => {
                Err(Failure { function: function.into(), message: format!("rank {rank} panicked and is gone") })
            }
        }
    }
}

impl Meeting {
    fn result_for(&self, rank: usize) -> Vec<Vec<u8>> {
        let brought = |bytes: &Option<Collective>| match bytes {
            Some(Collective::Gather(bytes) | Collective::AllGather(bytes) | Collective::Broadcast(bytes)) => {
                bytes.clone()
            }
            _ => Vec::new(),
        };
        match &self.brought[rank] {
            Some(Collective::AllGather(_)) => self.brought.iter().map(brought).collect(),
            Some(Collective::Gather(_)) if rank == 0 => self.brought.iter().map(brought).collect(),
            Some(Collective::Broadcast(_)) => vec![brought(&self.brought[0])],
            Some(Collective::Cards(_)) => vec![self.cards()],
            Some(Collective::Exchange { send, receive, incoming, .. }) => {
                vec![self.exchanged(rank, receive.clone(), incoming), send.clone()]
            }
            Some(Collective::Spread { mine, all, parts }) => vec![self.spread(all.clone(), parts), mine.clone()],
            Some(Collective::AllReduce { send, receive, count, function }) => {
                vec![self.reduced(receive.clone(), *count, *function), send.clone()]
            }
            _ => Vec::new(),
        }
    }

    fn cards(&self) -> Vec<u8> {
        let card = |brought: &Option<Collective>| match brought {
            Some(Collective::Cards(card)) => card.clone(),
            _ => unreachable!("ranks that meet have started the same collective"),
        };
        self.brought.iter().flat_map(card).collect()
    }

    fn exchanged(&self, rank: usize, mut receive: Vec<u8>, incoming: &[Range<usize>]) -> Vec<u8> {
        for (other, part) in self.brought.iter().zip(incoming) {
            if let Some(Collective::Exchange { send, outgoing, .. }) = other {
                receive[part.clone()].copy_from_slice(&send[outgoing[rank].clone()]);
            }
        }
        receive
    }

    fn spread(&self, mut all: Vec<u8>, parts: &[Range<usize>]) -> Vec<u8> {
        for (other, part) in self.brought.iter().zip(parts) {
            if let Some(Collective::Spread { mine, .. }) = other {
                all[part.clone()].copy_from_slice(&mine[..part.len()]);
            }
        }
        all
    }

    /// In the order of ranks, which is as good as any.
    fn reduced(&self, mut receive: Vec<u8>, count: usize, function: BuiltIn) -> Vec<u8> {
        let bytes = count * function.number.size();
        for (rank, other) in self.brought.iter().enumerate() {
            let Some(Collective::AllReduce { send, .. }) = other else { continue };
            // A copy of a buffer need not be aligned as the buffer is, so this looks at the original.
            let theirs = aligned_in(send, bytes);
            if rank == 0 {
                aligned(&mut receive, bytes).copy_from_slice(theirs);
            } else {
                function.fold(aligned(&mut receive, bytes), theirs);
            }
        }
        receive
    }
}

#[cfg(test)]
mod tests {
    use super::super::contract;
    use super::*;

    #[test]
    fn threads_keep_the_contract() {
        for size in [1, 2, 3, 4, 8] {
            std::thread::scope(|scope| {
                for mut rank in ranks(size) {
                    scope.spawn(move || contract::check(&mut rank));
                }
            });
        }
    }

    #[test]
    fn a_rank_that_unwinds_is_an_error_for_who_waits_for_it() {
        let mut ranks = ranks(2);
        ranks[1].abandon();
        ranks[0].start(Collective::Barrier).unwrap_err();
        let failure = ranks[0].receive().unwrap_err();
        assert!(failure.message.contains("rank 1"), "{}", failure.message);
    }

    #[test]
    fn ranks_that_start_different_collectives_are_told() {
        let mut ranks = ranks(2);
        ranks[0].start(Collective::Barrier).unwrap();
        assert!(ranks[1].start(Collective::Gather(vec![])).is_err());
    }
}
