//! A value that every rank has a copy of.

use std::any::type_name;
use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::Pool;
use super::desk::{Note, Payload, over};
use super::function::{Argument, ByContent, ByRemote, Data, Refused, Writer};
use super::handle::Handle;
use super::remote::Remote;
use super::slot::{Settled, Slot};
use crate::code::Code;
use crate::error::{Error, ErrorKind, Result};
use crate::wire;
use crate::worker::kept::Kept;
use crate::worker::runner::{MEASURED, Made, Reader, SMALL, Trouble};

/// A handle on a value that every rank has; made by [`Pool::broadcast`].
///
/// `&shared` is an argument for tasks, as a `&Remote` is, and everything that can be done with a borrowed [`Remote`] can be
/// done with it. It can be cloned; when the last clone is dropped, and the last task that needs it has run, the value is
/// freed on every rank.
///
/// # Examples
///
/// ```
/// # let world = rankfold::World::local(3)?;
/// let sums = world.pool(|pool| {
///     let table = pool.broadcast((0..10_000u64).collect::<Vec<_>>())?;
///     let sums = (1..=4).map(|n| pool.submit(|table: &[u64], n: u64| table.iter().map(|x| x % n).sum::<u64>(), (&table, n)));
///     pool.gather(sums.collect::<rankfold::Result<Vec<_>>>()?)
/// })?;
/// assert_eq!(sums.unwrap()?, [0, 5_000, 9_999, 15_000]);
/// # Ok::<(), rankfold::Error>(())
/// ```
#[must_use = "the value is freed when the last handle is dropped"]
pub struct Shared<T>(Arc<Remote<T>>);

/// A value on rank 0 that is more than small.
#[derive(Debug)]
pub(crate) struct Large {
    pub kept: Kept,
    /// What travels; nothing where there is nobody else.
    pub bytes: Vec<u8>,
    pub length: u64,
}

impl Pool {
    /// Gives every rank a copy of a value. Returns at once: what travels does so beside the tasks, in one collective
    /// operation (`MPI_Ibcast`) of all ranks. Where a rank is lost, or has not come yet, the others fetch the value when a
    /// task needs it.
    ///
    /// What is passed to [`submit`](Self::submit) by value travels with every task; this travels once.
    ///
    /// # Errors
    ///
    /// The value cannot be encoded, the pool is over, or this is the pool of a task: programs broadcast.
    ///
    /// # Examples
    ///
    /// See [`Shared`].
    pub fn broadcast<T: Data>(&self, value: T) -> Result<Shared<T>> {
        self.outside_of_tasks("broadcast", "the tasks that need it")?;
        let name = Cow::Borrowed(type_name::<T>());
        let unfit = |message| -> Error {
            let (place, type_name) = (self.places[0].clone(), type_name::<T>().to_owned());
            ErrorKind::Encoding { call: "broadcast".into(), place, type_name, doing: "encoded".into(), message }.into()
        };
        let small = wire::encode_up_to(&value, SMALL).map_err(unfit)?.map(Arc::new);
        let large = match &small {
            Some(_) => None,
            None if self.size() == 1 => {
                let length = wire::length_up_to(&value, MEASURED);
                Some(Large { kept: Kept::value(value), bytes: Vec::new(), length })
            }
            None => {
                let bytes = wire::encode(&value).map_err(unfit)?;
                let length = bytes.len() as u64;
                Some(Large { kept: Kept::value(value), bytes, length })
            }
        };
        let code = Code::of(never).ok_or_else(|| Refused::elsewhere().into_error("broadcast"))?;
        let slot = Arc::new(Slot::default());
        let kept = small.as_ref().map(|bytes| Arc::new(Kept::bytes(Arc::clone(bytes), 0)));
        // Nobody has seen it, so there is nothing to be done at its end.
        drop(slot.settle(Settled { outcome: Ok(()), value: kept, timing: None }));
        let payload = Payload { small, ..Payload::new(name.clone(), code, Vec::new(), Some(Arc::clone(&slot))) };
        let task = self.desk.number(|task| Note::Give { task, payload: Box::new(payload), large: large.map(Box::new) });
        let task = task.map_err(|why| over(why.as_ref(), &name))?;
        let (desk, places) = (Arc::clone(&self.desk), Arc::clone(&self.places));
        Ok(Shared(Arc::new(Remote::of(Handle { task, slot, desk, name, places, within: None }))))
    }
}

/// In place of the function that has made a value which no task has made.
fn never(_: &mut Reader<'_>) -> Result<Made, Trouble> {
    Err(Trouble::Internal("a value that was given is to be made".into()))
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for Shared<T> {
    type Target = Remote<T>;

    fn deref(&self) -> &Remote<T> {
        &self.0
    }
}

impl<T> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shared").field(&self.0).finish()
    }
}

impl<T: Data> Argument<&T, ByRemote> for &Shared<T> {
    type Held = Arc<T>;
    type Lent<'h> = &'h T;

    fn write(&self, writer: &mut Writer) -> Result<(), Refused> {
        writer.need(&self.0)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Arc<T>, Trouble> {
        reader.input()
    }

    fn lend(held: &mut Arc<T>) -> &T {
        held
    }
}

impl<T: Data + Deref> Argument<&T::Target, ByContent> for &Shared<T> {
    type Held = Arc<T>;
    type Lent<'h> = &'h T::Target;

    fn write(&self, writer: &mut Writer) -> Result<(), Refused> {
        writer.need(&self.0)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Arc<T>, Trouble> {
        reader.input()
    }

    fn lend(held: &mut Arc<T>) -> &T::Target {
        held
    }
}
