//! A function and its arguments as they travel: encoded once, for one task or for many.

use std::borrow::Cow;
use std::sync::Arc;

use super::Pool;
use super::desk::{Desk, Payload, over};
use super::function::{Data, Refused, Writer};
use super::handle::Handle;
use super::remote::Remote;
use crate::code::{Code, Entry};
use crate::error::{Place, Result};
use crate::master::tasks::{Order, TaskId};

#[derive(Debug, Clone)]
pub(crate) struct Encoded {
    /// What errors call it.
    pub name: Cow<'static, str>,
    pub code: Code,
    pub arguments: Vec<u8>,
    pub needs: Vec<TaskId>,
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
        let code = code.map_err(|refused| refused.into_error(&name))?;
        Ok(Self { name, code, arguments: writer.bytes, needs: writer.needs })
    }

    /// Makes a task of it, inside of another one if there is one around it; `order` says the rest.
    pub fn prepare(self, (parent, depth): (Option<TaskId>, u32), mut order: Order) -> Prepared {
        let Self { name, code, arguments, needs } = self;
        (order.kind, order.needs, order.parent, order.depth) = (code.number(), needs, parent, depth);
        let payload = Payload::new(name, code, arguments, Some(Arc::default()));
        Prepared { order, payload: Box::new(payload) }
    }

    /// Submits a task of it.
    pub fn submit<R: Data>(self, pool: &Pool, order: Order) -> Result<Remote<R>> {
        self.prepare(pool.around(), order).submit(pool)
    }

    /// One task of it on each of these ranks, in their order.
    pub fn on<R: Data>(
        &self,
        pool: &Pool,
        ranks: impl IntoIterator<Item = usize>,
        priority: i32,
    ) -> Result<Vec<Remote<R>>> {
        let on = |rank| self.clone().submit(pool, Order { on: Some(rank), priority, ..Order::default() });
        ranks.into_iter().map(on).collect()
    }
}

/// A task that can be submitted.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub order: Order,
    pub payload: Box<Payload>,
}

impl Prepared {
    pub fn post(self, desk: &Arc<Desk>, places: &Arc<[Place]>) -> Result<Handle> {
        let Self { order, payload } = self;
        let (name, within) = (payload.name.clone(), order.parent);
        let slot = payload.slot.clone().expect("it was prepared here");
        match desk.submit(order, payload) {
            Ok(task) => Ok(Handle { task, slot, desk: Arc::clone(desk), name, places: Arc::clone(places), within }),
            Err(why) => Err(over(why.as_ref(), &name)),
        }
    }

    pub fn submit<R: Data>(self, pool: &Pool) -> Result<Remote<R>> {
        self.post(&pool.desk, &pool.places).map(Remote::of)
    }
}
