//! One task on one thread: its arguments read, the user's function called, its result kept or written.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::caught::{Caught, catch};
use super::kept::{Kept, Unfit};
use crate::code::Entry;
use crate::error::{Error, ErrorKind, Place, Role};
use crate::master::tasks::TaskId;
use crate::pool::function::Data;
use crate::wire;

/// A result of at most so many bytes goes to rank 0 together with the word that its task is done, and from there with the
/// tasks that need it. Larger ones stay where they are.
pub(crate) const SMALL: usize = 4096;

/// Where a value is used depends on its bytes; whether there are more than so many makes no difference.
pub(crate) const MEASURED: usize = 4 << 20;

/// The arguments of a task, read one after another.
#[derive(Debug)]
pub struct Reader<'t> {
    bytes: &'t [u8],
    inputs: std::slice::Iter<'t, Arc<Kept>>,
}

/// What a task has made.
#[derive(Debug)]
pub enum Made {
    /// Its bytes.
    Small(Vec<u8>),
    /// The value, which stays here, and how many bytes it has, if not more than [`MEASURED`].
    #[allow(private_interfaces, reason = "nobody outside can name this type")]
    Large(Kept, u64),
}

/// Why a task has failed.
#[derive(Debug)]
#[allow(private_interfaces, reason = "nobody outside can name this type")]
pub enum Trouble {
    Panicked(Caught),
    Unfit(Unfit),
    /// It asks for what there is not.
    Refused {
        problem: String,
        remedy: &'static str,
    },
    Internal(String),
}

impl<'t> Reader<'t> {
    pub(crate) fn new(bytes: &'t [u8], inputs: &'t [Arc<Kept>]) -> Self {
        Self { bytes, inputs: inputs.iter() }
    }

    /// The next argument that went with the task.
    pub(crate) fn value<V: DeserializeOwned>(&mut self) -> Result<V, Trouble> {
        let (value, rest) = wire::decode_first(self.bytes).map_err(|message| {
            Trouble::Unfit(Unfit { type_name: std::any::type_name::<V>().into(), doing: "decoded".into(), message })
        })?;
        self.bytes = rest;
        Ok(value)
    }

    /// The next argument that is kept.
    pub(crate) fn input<T: Data>(&mut self) -> Result<Arc<T>, Trouble> {
        self.next()?.share().map_err(Trouble::Unfit)
    }

    /// A copy of the next argument that is kept, for who needs a value of his own.
    pub(crate) fn copy<T: Data>(&mut self) -> Result<T, Trouble> {
        self.next()?.copy().map_err(Trouble::Unfit)
    }

    fn next(&mut self) -> Result<&'t Kept, Trouble> {
        let input = self.inputs.next().ok_or_else(|| Trouble::Internal("a task came without its inputs".into()))?;
        Ok(input)
    }
}

impl Made {
    pub(crate) fn of<T: Data>(value: T) -> Result<Self, Trouble> {
        Self::make::<T, _>(value, |value| value, |value| Kept::shared(Arc::new(value)))
    }

    /// A value that others here have as well.
    pub(crate) fn shared<T: Data>(value: Arc<T>) -> Result<Self, Trouble> {
        Self::make::<T, _>(value, |value| value, Kept::shared)
    }

    /// The same, with all its bytes counted.
    pub(crate) fn measured(self) -> Self {
        match self {
            Self::Large(kept, bytes) if bytes >= MEASURED as u64 => {
                // What panics when it is encoded is told to whoever wants it.
                let bytes = catch(|| kept.length()).unwrap_or(bytes);
                Self::Large(kept, bytes)
            }
            other => other,
        }
    }

    fn make<T: Data, V>(value: V, see: fn(&V) -> &T, keep: fn(V) -> Kept) -> Result<Self, Trouble> {
        match wire::encode_up_to(see(&value), SMALL) {
            Ok(Some(bytes)) => Ok(Self::Small(bytes)),
            Ok(None) => {
                let bytes = wire::length_up_to(see(&value), MEASURED);
                Ok(Self::Large(keep(value), bytes))
            }
            Err(message) => Err(Trouble::Unfit(Unfit {
                type_name: std::any::type_name::<T>().into(),
                doing: "encoded".into(),
                message,
            })),
        }
    }
}

impl Trouble {
    /// Whoever has given out the task knows its name, and puts that in.
    pub(crate) fn into_error(self, task: TaskId, place: &Place) -> Error {
        let (call, place) = (format!("task {task}"), place.clone());
        match self {
            Self::Panicked(Caught { message, location, backtrace }) => ErrorKind::Panicked {
                call,
                role: Role::Task,
                place,
                item: format!("task {task}"),
                message,
                location,
                backtrace,
                attempts: 1,
            }
            .into(),
            Self::Unfit(unfit) => unfit.into_error(&call, &place),
            Self::Refused { problem, remedy } => ErrorKind::Refused { call, problem, remedy: remedy.into() }.into(),
            Self::Internal(message) => ErrorKind::Internal { call, place, message }.into(),
        }
    }
}

/// Runs a task, and lets go of what it was given. Whatever panics, of the user's, is a trouble of this task.
pub(crate) fn run(entry: Entry, arguments: &[u8], inputs: Vec<Arc<Kept>>) -> Result<Made, Trouble> {
    let all = || {
        let made = entry(&mut Reader::new(arguments, &inputs));
        drop(inputs);
        made
    };
    catch(all).unwrap_or_else(|caught| Err(Trouble::Panicked(caught)))
}
