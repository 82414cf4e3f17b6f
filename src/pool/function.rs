//! What can be submitted: functions without captures, with values and remotes as arguments.
//!
//! A value goes with the task and arrives as itself; a `&Remote<T>` stays where it is and arrives as `&T`. Which of both an
//! argument is, is a part of its type (`ByValue`, `ByRemote`), so that the compiler finds out, and literals get the type
//! that the function asks for.

use std::ops::Deref;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::code::{Entry, conjure};
use crate::error::{Error, ErrorKind};
use crate::pool::desk::Desk;
use crate::pool::remote::Remote;
use crate::worker::caught::catch;
use crate::worker::runner::{Reader, Trouble};

/// What can travel between ranks, and be shared by the threads of one: implemented for every type that can.
///
/// # Examples
///
/// ```
/// fn is_data<T: rankfold::Data>() {}
/// is_data::<Vec<(String, f64)>>();
/// ```
pub trait Data: Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Data for T {}

/// The arguments of a task as they travel.
#[derive(Debug)]
pub struct Writer {
    pub(crate) bytes: Vec<u8>,
    /// Tasks, or nodes.
    pub(crate) needs: Vec<u64>,
    home: Home,
}

/// What arguments are written for.
#[derive(Debug)]
enum Home {
    Pool(Arc<Desk>),
    /// A graph, by the number that it drew.
    Graph(u64),
}

impl Writer {
    pub(crate) fn new(desk: &Arc<Desk>) -> Self {
        Self { bytes: Vec::new(), needs: Vec::new(), home: Home::Pool(Arc::clone(desk)) }
    }

    pub(crate) fn for_graph(graph: u64) -> Self {
        Self { bytes: Vec::new(), needs: Vec::new(), home: Home::Graph(graph) }
    }

    /// An argument that goes with the task.
    pub(crate) fn value<V: Serialize + ?Sized>(&mut self, value: &V) -> Result<(), Refused> {
        crate::wire::encode_after(&mut self.bytes, value).map_err(|message| Refused {
            problem: format!("an argument of type {} cannot be encoded: {message}", std::any::type_name::<V>()),
            remedy: "see what its Serialize does; a file or a lock is better opened by the task itself",
        })
    }

    /// An argument that is used where it is.
    pub(crate) fn need<T>(&mut self, remote: &Remote<T>) -> Result<(), Refused> {
        let refused = |problem, remedy| Err(Refused { problem, remedy });
        match &self.home {
            Home::Pool(desk) if remote.is_of(desk) => {}
            Home::Pool(_) => {
                let problem = format!("{remote:?} is an argument in another pool than the one that it was made in");
                return refused(problem, "get its value, and submit that");
            }
            Home::Graph(_) => {
                let problem = format!("{remote:?} is an argument in a graph, which may run in any pool");
                return refused(problem, "get its value, and add that; or add its function, and use the node");
            }
        }
        self.needs.push(remote.task());
        Ok(())
    }

    /// A node of a graph, by their numbers.
    pub(crate) fn need_node(&mut self, graph: u64, node: usize) -> Result<(), Refused> {
        let refused = |problem, remedy| Err(Refused { problem, remedy });
        match self.home {
            Home::Graph(home) if home == graph => {}
            Home::Graph(_) => {
                let problem = format!("node {node} of another graph is an argument");
                return refused(problem, "add its function to this graph as well, or add both to one graph");
            }
            Home::Pool(_) => {
                let problem = format!("node {node} of a graph is an argument of a task");
                return refused(problem, "run the graph first and submit the value, or add the function to the graph");
            }
        }
        self.needs.push(node as u64);
        Ok(())
    }
}

/// Why a task is not taken.
#[derive(Debug)]
pub struct Refused {
    pub(crate) problem: String,
    pub(crate) remedy: &'static str,
}

impl Refused {
    pub(crate) fn into_error(self, call: &str) -> Error {
        let Self { problem, remedy } = self;
        ErrorKind::Refused { call: call.to_owned(), problem, remedy: remedy.into() }.into()
    }

    /// The function is not part of the executable.
    pub(crate) fn elsewhere() -> Self {
        Self {
            problem: "the function is part of a shared library, which other ranks may have elsewhere".into(),
            remedy: "link it into the program itself",
        }
    }
}

/// An argument that goes with its task.
#[derive(Debug)]
pub enum ByValue {}

/// An argument that is used where it is.
#[derive(Debug)]
pub enum ByRemote {}

/// An argument that is used where it is, as what it dereferences to.
#[derive(Debug)]
pub enum ByContent {}

/// Something that a parameter of type `P` can be given: a value of that type, or, where `P` is `&T`, a `&Remote<T>`. A
/// `&Remote<Vec<T>>` also suits a `&[T]`, and a `&Remote<String>` a `&str`.
///
/// # Examples
///
/// ```
/// fn scaled(xs: &[f64], by: f64) -> f64 { xs.iter().sum::<f64>() * by }
///
/// # let world = rankfold::World::local(2)?;
/// let sum = world.pool(|pool| {
///     let xs = pool.submit(|n: u32| vec![1.5; n as usize], (4,))?; // a value
///     pool.submit(scaled, (&xs, 2.0))?.get()                       // a remote, and a value
/// })?;
/// assert_eq!(sum.unwrap()?, 12.0);
/// # Ok::<(), rankfold::Error>(())
/// ```
pub trait Argument<P, K> {
    /// What the rank that runs the task holds meanwhile.
    #[doc(hidden)]
    type Held;
    /// What the function gets.
    #[doc(hidden)]
    type Lent<'h>;
    #[doc(hidden)]
    fn write(&self, writer: &mut Writer) -> Result<(), Refused>;
    #[doc(hidden)]
    fn read(reader: &mut Reader<'_>) -> Result<Self::Held, Trouble>;
    #[doc(hidden)]
    fn lend(held: &mut Self::Held) -> Self::Lent<'_>;
}

impl<V: Serialize + DeserializeOwned + 'static> Argument<V, ByValue> for V {
    type Held = Option<V>;
    type Lent<'h> = V;

    fn write(&self, writer: &mut Writer) -> Result<(), Refused> {
        writer.value(self)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self::Held, Trouble> {
        reader.value().map(Some)
    }

    fn lend(held: &mut Self::Held) -> V {
        held.take().expect("an argument is lent once")
    }
}

impl<T: Data> Argument<&T, ByRemote> for &Remote<T> {
    type Held = Arc<T>;
    type Lent<'h> = &'h T;

    fn write(&self, writer: &mut Writer) -> Result<(), Refused> {
        writer.need(self)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Arc<T>, Trouble> {
        reader.input()
    }

    fn lend(held: &mut Arc<T>) -> &T {
        held
    }
}

impl<T: Data + Deref> Argument<&T::Target, ByContent> for &Remote<T> {
    type Held = Arc<T>;
    type Lent<'h> = &'h T::Target;

    fn write(&self, writer: &mut Writer) -> Result<(), Refused> {
        writer.need(self)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Arc<T>, Trouble> {
        reader.input()
    }

    fn lend(held: &mut Arc<T>) -> &T::Target {
        held
    }
}

/// A function that can run on any rank: one without captures, of up to eight parameters, for arguments `A`.
///
/// `fn` items are; closures are as long as they capture nothing, with the types of their parameters written out. What a
/// closure would capture is passed as an argument instead:
///
/// ```compile_fail
/// # let world = rankfold::World::local(1)?;
/// let by = 3u64;
/// world.pool(|pool| pool.submit(move |n: u64| n * by, (7,))?.get())?; // captures `by`: does not compile
/// # Ok::<(), rankfold::Error>(())
/// ```
///
/// ```
/// # let world = rankfold::World::local(1)?;
/// let by = 3u64;
/// let product = world.pool(|pool| pool.submit(|n: u64, by: u64| n * by, (7, by))?.get())?;
/// assert_eq!(product.unwrap()?, 21);
/// # Ok::<(), rankfold::Error>(())
/// ```
pub trait Function<A, R, M>: Copy + Send + 'static {
    #[doc(hidden)]
    fn write(arguments: &A, writer: &mut Writer) -> Result<(), Refused>;
    #[doc(hidden)]
    fn entry() -> Entry;
}

/// Calls a macro for each number of parameters: names for the type of each argument, of its parameter and of its kind, and
/// for what is held of it.
macro_rules! arities {
    ($macro:ident) => {
        $macro!();
        $macro!(A1 P1 K1 h1);
        $macro!(A1 P1 K1 h1 A2 P2 K2 h2);
        $macro!(A1 P1 K1 h1 A2 P2 K2 h2 A3 P3 K3 h3);
        $macro!(A1 P1 K1 h1 A2 P2 K2 h2 A3 P3 K3 h3 A4 P4 K4 h4);
        $macro!(A1 P1 K1 h1 A2 P2 K2 h2 A3 P3 K3 h3 A4 P4 K4 h4 A5 P5 K5 h5);
        $macro!(A1 P1 K1 h1 A2 P2 K2 h2 A3 P3 K3 h3 A4 P4 K4 h4 A5 P5 K5 h5 A6 P6 K6 h6);
        $macro!(A1 P1 K1 h1 A2 P2 K2 h2 A3 P3 K3 h3 A4 P4 K4 h4 A5 P5 K5 h5 A6 P6 K6 h6 A7 P7 K7 h7);
        $macro!(A1 P1 K1 h1 A2 P2 K2 h2 A3 P3 K3 h3 A4 P4 K4 h4 A5 P5 K5 h5 A6 P6 K6 h6 A7 P7 K7 h7 A8 P8 K8 h8);
    };
}
pub(super) use arities;

/// Writes arguments, which are a tuple, one after the other.
macro_rules! write_all {
    ($arguments:ident $writer:ident $($held:ident)*) => {{
        let _ = &$writer;
        let ($($held,)*) = $arguments;
        $($held.write($writer)?;)*
        Ok(())
    }};
}
pub(super) use write_all;

macro_rules! function {
    ($($argument:ident $parameter:ident $kind:ident $held:ident)*) => {
        const _: () = {
            impl<F, R, $($argument, $parameter, $kind,)*>
                Function<($($argument,)*), R, (fn($($parameter,)*), $($kind,)*)> for F
            where
                F: Fn($($parameter,)*) -> R + for<'h> Fn($($argument::Lent<'h>,)*) -> R + Copy + Send + 'static,
                R: Data,
                $($argument: Argument<$parameter, $kind>,)*
            {
                fn write(arguments: &($($argument,)*), writer: &mut Writer) -> Result<(), Refused> {
                    write_all!(arguments writer $($held)*)
                }

                fn entry() -> Entry {
                    |reader| {
                        $(let mut $held = <$argument as Argument<$parameter, $kind>>::read(reader)?;)*
                        reader.function = std::any::type_name::<F>();
                        let function = conjure::<F>();
                        let result = catch(|| function($(<$argument as Argument<$parameter, $kind>>::lend(&mut $held),)*));
                        reader.make(result.map_err(Trouble::Panicked)?)
                    }
                }
            }
        };
    };
}

arities!(function);
