//! Nodes: what stands for a value that a graph will make, and how one is described.

use std::any::type_name;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use super::{Entry, Graph};
use crate::code::Code;
use crate::error::Result;
use crate::pool::function::{Argument, ByContent, ByRemote, Data, Function, Refused, Writer};
use crate::worker::runner::{Reader, Trouble};

/// A node of a [`Graph`], which makes a value of type `T`.
///
/// `&node` is an argument for other nodes of the same graph, and arrives as `&T`; a `&Node<Vec<T>>` also suits a `&[T]`, and
/// a `&Node<String>` a `&str`. Nothing runs before an output that needs it is asked for.
///
/// # Examples
///
/// ```
/// fn count(words: &[String]) -> usize { words.len() }
///
/// let mut graph = rankfold::Graph::new();
/// let words = graph.add(|text: String| text.split(' ').map(str::to_owned).collect::<Vec<_>>(), ("a b c".to_owned(),))?;
/// let number = graph.add(count, (&words,))?;
/// assert_eq!(graph.run_here(&number)?, 3);
/// # Ok::<(), rankfold::Error>(())
/// ```
pub struct Node<T> {
    pub(super) graph: u64,
    pub(super) number: usize,
    /// What the value is.
    kind: PhantomData<fn() -> T>,
}

impl<T> Clone for Node<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Node<T> {}

impl<T> fmt::Debug for Node<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Node").field(&self.number).finish()
    }
}

impl<T: Data> Argument<&T, ByRemote> for &Node<T> {
    type Held = Arc<T>;
    type Lent<'h> = &'h T;

    fn write(&self, writer: &mut Writer) -> Result<(), Refused> {
        writer.need_node(self.graph, self.number)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Arc<T>, Trouble> {
        reader.input()
    }

    fn lend(held: &mut Arc<T>) -> &T {
        held
    }
}

impl<T: Data + Deref> Argument<&T::Target, ByContent> for &Node<T> {
    type Held = Arc<T>;
    type Lent<'h> = &'h T::Target;

    fn write(&self, writer: &mut Writer) -> Result<(), Refused> {
        writer.need_node(self.graph, self.number)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Arc<T>, Trouble> {
        reader.input()
    }

    fn lend(held: &mut Arc<T>) -> &T::Target {
        held
    }
}

/// The description of a node; made by [`Graph::node`] and [`Graph::named`], and ended by [`add`](Self::add).
///
/// # Examples
///
/// ```
/// # use rankfold::Graph;
/// let mut graph = Graph::new();
/// let seven = graph.named("seven").priority(10).retries(2).add(|n: u32| n, (7,))?;
/// assert_eq!(graph.run_here(&seven)?, 7);
/// # Ok::<(), rankfold::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "nothing is added before `add`"]
pub struct NewNode<'g> {
    graph: &'g mut Graph,
    name: Option<String>,
    options: Options,
}

/// What may be asked for with a node, as with a task.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub priority: i32,
    pub on: Option<usize>,
    pub retries: u32,
}

impl<'g> NewNode<'g> {
    pub(super) fn new(graph: &'g mut Graph, name: Option<String>) -> Self {
        Self { graph, name, options: Options::default() }
    }

    /// What errors, pictures and journals call it; no other node of the graph may have the same name.
    ///
    /// # Examples
    ///
    /// ```
    /// # use rankfold::Graph;
    /// let mut graph = Graph::new();
    /// graph.node().named("a").add(|| 1u32, ())?;
    /// let error = graph.node().named("a").add(|| 2u32, ()).unwrap_err();
    /// assert_eq!(error.to_string(), "a: the graph has a node of this name already; give each a name of its own");
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// As [`Task::priority`](crate::Task::priority).
    ///
    /// # Examples
    ///
    /// See [`NewNode`].
    pub fn priority(mut self, priority: i32) -> Self {
        self.options.priority = priority;
        self
    }

    /// The one rank that may run it, as [`Task::on`](crate::Task::on). [`Graph::run_here`] does not ask.
    ///
    /// # Examples
    ///
    /// ```
    /// # use rankfold::Graph;
    /// # let world = rankfold::World::local(3)?;
    /// let mut graph = Graph::new();
    /// let name = graph.node().on(2).add(|| std::thread::current().name().map(str::to_owned), ())?;
    /// let name = world.pool(|pool| graph.run(pool, &name))?.unwrap()?;
    /// assert!(name.unwrap().starts_with("rankfold-2-"));
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn on(mut self, rank: usize) -> Self {
        self.options.on = Some(rank);
        self
    }

    /// How often it is tried again after it has panicked, as [`Task::retries`](crate::Task::retries). Nodes that run in
    /// one task are tried again together.
    ///
    /// # Examples
    ///
    /// See [`NewNode`].
    pub fn retries(mut self, retries: u32) -> Self {
        self.options.retries = retries;
        self
    }

    /// Adds it, with its function and arguments: values, and nodes of the same graph. See
    /// [`Function`] for what can be added.
    ///
    /// # Errors
    ///
    /// There is a node of this name, an argument cannot be encoded or is of another graph or of a pool, or the function is
    /// part of a shared library.
    ///
    /// # Examples
    ///
    /// ```compile_fail
    /// # use rankfold::Graph;
    /// let by = 3u64;
    /// Graph::new().node().add(move |n: u64| n * by, (7,))?; // captures `by`: does not compile
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    ///
    /// ```
    /// # use rankfold::Graph;
    /// let by = 3u64;
    /// Graph::new().node().add(|n: u64, by: u64| n * by, (7, by))?;
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[expect(clippy::needless_pass_by_value, reason = "the type of the function is what counts")]
    pub fn add<F, A, R, M>(self, function: F, arguments: A) -> Result<Node<R>>
    where
        F: Function<A, R, M>,
        R: Data,
    {
        let _ = function;
        const {
            assert!(
                size_of::<F>() == 0,
                "a function for other ranks must not capture anything: pass it as an argument instead"
            );
        };
        let Self { graph, name, options } = self;
        let called = name.as_deref().unwrap_or(type_name::<F>());
        let refused = |refused: Refused| refused.into_error(called);
        if name.as_ref().is_some_and(|name| graph.names.contains(name)) {
            let problem = "the graph has a node of this name already".to_owned();
            return Err(refused(Refused { problem, remedy: "give each a name of its own" }));
        }
        let mut writer = Writer::for_graph(graph.id);
        F::write(&arguments, &mut writer).map_err(&refused)?;
        let code = Code::of(F::entry()).ok_or_else(|| refused(Refused::elsewhere()))?;
        let needs = writer.needs.into_iter().map(|need| need as usize).collect();
        let (function, result, arguments) = (type_name::<F>(), type_name::<R>(), writer.bytes);
        graph.names.extend(name.clone());
        graph.nodes.push(Entry { name, function, result, code, arguments, needs, options });
        Ok(Node { graph: graph.id, number: graph.nodes.len() - 1, kind: PhantomData })
    }
}
