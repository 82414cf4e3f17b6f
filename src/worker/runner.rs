//! One task on one thread: its arguments read, the user's function called, its result kept or written.

use std::any::{Any, type_name};
use std::sync::{Arc, Mutex};

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

/// The state of an actor; nothing once a call has left it half changed.
pub(crate) type Cell = Mutex<Option<Box<dyn Any + Send>>>;

/// The arguments of a task, read one after another.
pub struct Reader<'t> {
    bytes: &'t [u8],
    inputs: std::slice::Iter<'t, Arc<Kept>>,
    state: Option<&'t mut (dyn Any + Send)>,
    /// The value is for another function of the same task.
    stays: bool,
    /// The function that was called last.
    pub(crate) function: &'static str,
}

impl std::fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("bytes", &self.bytes.len()).field("inputs", &self.inputs).finish_non_exhaustive()
    }
}

/// What a task has made.
pub enum Made {
    /// Its bytes.
    Small(Vec<u8>),
    /// The value, which stays here, and how many bytes it has, if not more than [`MEASURED`].
    #[allow(private_interfaces, reason = "nobody outside can name this type")]
    Large(Kept, u64),
    /// The state of an actor.
    State(Box<dyn Any + Send>),
}

impl std::fmt::Debug for Made {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Small(bytes) => f.debug_tuple("Small").field(&bytes.len()).finish(),
            Self::Large(_, bytes) => f.debug_tuple("Large").field(bytes).finish_non_exhaustive(),
            Self::State(_) => f.debug_tuple("State").finish_non_exhaustive(),
        }
    }
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
    /// It was asked to, and did.
    Stopped,
    /// A call came to an actor that has just died: it was not run.
    Dead,
    /// In a part of the task, of this name.
    Part {
        name: String,
        trouble: Box<Trouble>,
    },
}

impl<'t> Reader<'t> {
    pub(crate) fn new(bytes: &'t [u8], inputs: &'t [Arc<Kept>]) -> Self {
        Self { bytes, inputs: inputs.iter(), state: None, stays: false, function: "a function" }
    }

    /// Of a function whose value is for another one of the same task.
    pub(crate) fn within(bytes: &'t [u8], inputs: &'t [Arc<Kept>]) -> Self {
        Self { stays: true, ..Self::new(bytes, inputs) }
    }

    /// What the function has made.
    pub(crate) fn make<T: Data>(&self, value: T) -> Result<Made, Trouble> {
        if self.stays { Ok(Made::Large(Kept::value(value), 0)) } else { Made::of(value) }
    }

    /// All that went with the task and was not read.
    pub(crate) fn rest(&self) -> &'t [u8] {
        self.bytes
    }

    /// All that is kept and was not read.
    pub(crate) fn inputs(&self) -> &'t [Arc<Kept>] {
        self.inputs.as_slice()
    }

    /// The state of the actor, for a call of one.
    pub(crate) fn state<S: 'static>(&mut self) -> Result<&'t mut S, Trouble> {
        let state = self.state.take().and_then(|state| (state as &mut dyn Any).downcast_mut());
        state.ok_or_else(|| Trouble::Internal(format!("a call came to an actor that is not a {}", type_name::<S>())))
    }

    /// The next argument that went with the task.
    pub(crate) fn value<V: DeserializeOwned>(&mut self) -> Result<V, Trouble> {
        let (value, rest) = wire::decode_first(self.bytes).map_err(|message| {
            Trouble::Unfit(Unfit { type_name: type_name::<V>().into(), doing: "decoded".into(), message })
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
            Err(message) => {
                Err(Trouble::Unfit(Unfit { type_name: type_name::<T>().into(), doing: "encoded".into(), message }))
            }
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
            Self::Dead => ErrorKind::Internal { call, place, message: "its actor has died".into() }.into(),
            Self::Stopped => ErrorKind::Cancelled { task: call }.into(),
            Self::Part { name, trouble } => trouble.into_error(task, &place).in_part(&name),
        }
    }
}

/// Runs a task, and lets go of what it was given. Whatever panics, of the user's, is a trouble of this task.
pub(crate) fn run(
    entry: Entry,
    arguments: &[u8],
    inputs: Vec<Arc<Kept>>,
    state: Option<&mut (dyn Any + Send)>,
) -> Result<Made, Trouble> {
    let all = || {
        let made = entry(&mut Reader { state, ..Reader::new(arguments, &inputs) });
        drop(inputs);
        made
    };
    catch(all).unwrap_or_else(|caught| Err(Trouble::Panicked(caught)))
}
