//! Rank 0's part in broadcasts: one collective at a time, in which every rank gets its copy of a value.
//!
//! A value that is broadcast is on rank 0, and whoever needs it could fetch it there, so a broadcast is never needed, but
//! for speed. It begins when every rank has come, and is over when every rank has said so: none is inside of a collective
//! when the pool ends. When a rank is lost, the one under way is given up on all ranks, and since MPI has to be left with it
//! for ever, no collective is begun in this world again (`Rank::is_adrift`). Until then silence is borne as ever, which
//! bounds the time that a task waits for a value from a collective.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::Host;
use crate::error::Error;
use crate::master::tasks::{Event, TaskId};
use crate::pool::desk::Payload;
use crate::pool::shared::Large;
use crate::transport::Collective;
use crate::wire::{Message, ToServer};

#[derive(Debug, Default)]
pub(super) struct Broadcasts {
    /// Those that wait for their turn.
    waiting: VecDeque<(TaskId, Vec<u8>)>,
    under_way: Option<UnderWay>,
}

#[derive(Debug)]
struct UnderWay {
    value: TaskId,
    /// This rank's part is not complete.
    is_open_here: bool,
    /// The ranks that have not said that theirs is.
    missing: BTreeSet<usize>,
}

impl Broadcasts {
    pub fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// This rank has its copy.
    pub fn met(&mut self, rank: usize, value: TaskId) {
        if let Some(under_way) = self.under_way.as_mut().filter(|under_way| under_way.value == value) {
            under_way.missing.remove(&rank);
        }
    }
}

impl Host<'_> {
    /// A value that is here, and is to be everywhere.
    pub(super) fn give(&mut self, task: TaskId, payload: Box<Payload>, large: Option<Box<Large>>) {
        let bytes = large.as_ref().map(|large| large.length);
        self.tasks.handle(Event::Given { task, bytes, payload });
        let Some(large) = large else { return };
        let Large { kept, bytes, length } = *large;
        self.server.keep(task, Arc::new(kept), length);
        if self.rank.size() > 1 && self.rank.may_meet() {
            // What was freed meanwhile holds no memory while a rank is waited for.
            self.broadcasts.waiting.retain(|(value, _)| self.tasks.payload(*value).is_some());
            self.broadcasts.waiting.push_back((task, bytes));
        }
    }

    /// Goes on with the broadcast under way, or begins the next.
    pub(super) fn go_on_broadcasting(&mut self) -> Result<(), Error> {
        if let Some(under_way) = &mut self.broadcasts.under_way {
            under_way.is_open_here = under_way.is_open_here && self.rank.test()?.is_none();
            if !under_way.is_open_here && under_way.missing.is_empty() {
                self.broadcasts.under_way = None;
            }
            return Ok(());
        }
        let others = 1..self.rank.size();
        if self.is_over || !self.rank.may_meet() {
            self.broadcasts.waiting.clear();
        }
        if self.entered.len() < others.len() {
            return Ok(());
        }
        while let Some((value, bytes)) = self.broadcasts.waiting.pop_front() {
            if !self.tasks.spread(value) {
                // It was freed before its turn.
                continue;
            }
            self.command_all(|_| Message::ToServer(ToServer::Broadcast(value)))?;
            self.rank.start(Collective::Broadcast(bytes))?;
            self.broadcasts.under_way = Some(UnderWay { value, is_open_here: true, missing: others.collect() });
            break;
        }
        Ok(())
    }

    /// Nobody waits for a broadcast any more: what a rank lacks, it fetches.
    pub(super) fn give_up_broadcasting(&mut self) -> Result<(), Error> {
        self.broadcasts.waiting.clear();
        if self.broadcasts.under_way.take().is_none() {
            return Ok(());
        }
        self.rank.is_adrift = true;
        self.command_all(|_| Message::ToServer(ToServer::GiveUp))
    }
}
