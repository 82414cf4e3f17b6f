//! A function and its arguments as they travel: encoded once, for one task or for many.

use std::borrow::Cow;
use std::sync::Arc;

use super::Pool;
use super::desk::{Desk, Payload, Slot};
use super::function::{Data, Refused, Writer};
use super::remote::Remote;
use crate::code::{Code, Entry};
use crate::error::{Error, ErrorKind, Result};
use crate::master::tasks::{Order, TaskId};

#[derive(Debug, Clone)]
pub(super) struct Encoded {
    /// What errors call it.
    name: Cow<'static, str>,
    code: Code,
    arguments: Vec<u8>,
    needs: Vec<TaskId>,
}

impl Encoded {
    /// An entry of this program's, and what it reads.
    pub fn new(
        desk: &Arc<Desk>,
        name: impl Into<Cow<'static, str>>,
        entry: Entry,
        write: impl FnOnce(&mut Writer) -> Result<(), Refused>,
    ) -> Result<Self> {
        let (name, mut writer) = (name.into(), Writer::new(desk));
        let code = write(&mut writer).and_then(|()| Code::of(entry).ok_or_else(Refused::elsewhere));
        let refused = |Refused { problem, remedy }| -> Error {
            ErrorKind::Refused { call: name.to_string(), problem, remedy: remedy.into() }.into()
        };
        let code = code.map_err(refused)?;
        Ok(Self { name, code, arguments: writer.bytes, needs: writer.needs })
    }

    /// Makes a task of it, inside of another one if there is one around it; `order` says the rest.
    pub fn prepare(self, (parent, depth): (Option<TaskId>, u32), mut order: Order) -> Prepared {
        let Self { name, code, arguments, needs } = self;
        (order.kind, order.needs, order.parent, order.depth) = (code.number(), needs, parent, depth);
        Prepared { order, payload: Payload::new(name, code, arguments, Some(Arc::default())) }
    }

    /// Submits a task of it.
    pub fn submit<R: Data>(self, pool: &Pool, order: Order) -> Result<Remote<R>> {
        self.prepare(pool.around(), order).submit(pool)
    }

    /// One task of it on every rank, in their order.
    pub fn on_each<R: Data>(&self, pool: &Pool) -> Result<Vec<Remote<R>>> {
        let on = |rank| self.clone().submit(pool, Order { on: Some(rank), ..Order::default() });
        (0..pool.size()).map(on).collect()
    }
}

/// A task that can be submitted.
#[derive(Debug)]
pub(super) struct Prepared {
    pub order: Order,
    pub payload: Payload,
}

impl Prepared {
    /// Submits it. Gives its number, and where its end will be seen.
    pub fn post(self, desk: &Desk) -> Result<(TaskId, Arc<Slot>)> {
        let Self { order, payload } = self;
        let (name, slot) = (payload.name.clone(), payload.slot.clone().expect("it was prepared here"));
        match desk.submit(order, payload) {
            Ok(task) => Ok((task, slot)),
            Err(why) => Err(why.unwrap_or_else(|| ErrorKind::PoolIsOver { task: name.to_string() }.into())),
        }
    }

    pub fn submit<R: Data>(self, pool: &Pool) -> Result<Remote<R>> {
        let name = self.payload.name.clone();
        let (task, slot) = self.post(&pool.desk)?;
        let remote = Remote::new(task, slot, Arc::clone(&pool.desk), name, Arc::clone(&pool.places));
        Ok(remote.within(pool.around().0))
    }
}
