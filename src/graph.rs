//! Graphs: tasks that are described first, all together, and run when it is known what of them is wanted.
//!
//! ```text
//! node       what stands for a value that will be made, and how it is described
//! outputs    nodes in any shape, and what comes back in the same shape
//! plan       what runs, and what of it runs in one task: pure
//! chain      several functions as one task
//! run        in a pool
//! here       on this thread, for tests
//! recording  values of named nodes, kept in a journal
//! key        what a node is known by from job to job: pure
//! text       DOT and JSON
//! ```
//!
//! A node can only need nodes that were added before it, so a graph has no cycles, and the order of addition is one in which
//! everything can run. What a run does:
//!
//! 1. **Cull.** What no output needs does not run.
//! 2. **Restore.** A named node whose value a journal has does not run either, nor what it alone needs.
//! 3. **Fuse.** A node whose only reader needs nothing else runs in the task of that reader: its value never leaves the
//!    thread. A chain of a hundred thousand nodes is one task.
//! 4. **Submit.** The rest goes to the pool at once, as with [`Pool::submit`]. Nobody has a handle on a value in between once
//!    those who read it are submitted, so it is freed when the last of them has run.

mod chain;
mod here;
mod key;
mod node;
mod outputs;
mod plan;
mod recording;
mod run;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Mutex;

use crate::code::Code;
use crate::error::{Error, ErrorKind, Result};
use crate::journal::draw;
use crate::lock::lock;
use crate::pool::Pool;
use crate::pool::function::{Data, Function};
use node::Options;
use plan::{Nodes, schedule};
use run::{Handed, Run, Values as Arrived};

pub use node::{NewNode, Node};
pub use outputs::{Outputs, Remotes, Results, Values};
pub use plan::Plan;

/// Functions and what they need of each other, built as with [`Pool::submit`] without anything running; then as much of it
/// runs as the outputs need that are asked for.
///
/// # Examples
///
/// ```
/// use rankfold::Graph;
///
/// fn load(seed: u64) -> Vec<f64> { (0..1000).map(|i| ((i ^ seed) % 100) as f64).collect() }
/// fn refine(mesh: &[f64], times: u32) -> Vec<f64> { mesh.iter().map(|x| x / f64::from(times)).collect() }
/// fn norm(mesh: &[f64]) -> f64 { mesh.iter().map(|x| x * x).sum::<f64>().sqrt() }
///
/// let mut graph = Graph::new();
/// let mesh = graph.named("mesh").add(load, (7,))?;
/// let finer = graph.add(refine, (&mesh, 3))?;
/// let norms = [graph.add(norm, (&mesh,))?, graph.add(norm, (&finer,))?];
///
/// # let world = rankfold::World::local(2)?;
/// let in_a_pool = world.pool(|pool| graph.run(pool, &norms))?.unwrap()?; // on all ranks
/// assert_eq!(in_a_pool, graph.run_here(&norms)?);                        // on this thread, for tests
/// # Ok::<(), rankfold::Error>(())
/// ```
#[derive(Debug)]
pub struct Graph {
    /// Drawn, so that a node knows whether it is of this graph.
    id: u64,
    nodes: Vec<Entry>,
    names: BTreeSet<String>,
    journal: Option<PathBuf>,
    last: Mutex<Option<Plan>>,
}

/// A node, as the graph keeps it.
#[derive(Debug)]
struct Entry {
    name: Option<String>,
    /// The names of the function's type and of the value's.
    function: &'static str,
    result: &'static str,
    code: Code,
    arguments: Vec<u8>,
    needs: Vec<usize>,
    options: Options,
}

impl Entry {
    /// What errors call it.
    fn called(&self) -> &str {
        self.name.as_deref().unwrap_or(self.function)
    }
}

impl Nodes for Graph {
    fn count(&self) -> usize {
        self.nodes.len()
    }

    fn needs(&self, node: usize) -> &[usize] {
        &self.nodes[node].needs
    }

    fn are_alike(&self, one: usize, other: usize) -> bool {
        self.nodes[one].options == self.nodes[other].options
    }
}

impl Default for Graph {
    fn default() -> Self {
        Self::new()
    }
}

impl Graph {
    /// A graph without nodes.
    ///
    /// # Examples
    ///
    /// See [`Graph`].
    #[must_use]
    pub fn new() -> Self {
        Self { id: draw(), nodes: Vec::new(), names: BTreeSet::new(), journal: None, last: Mutex::default() }
    }

    /// Adds a node: a function and its arguments, which are values and `&Node`s of this graph. Nothing runs.
    ///
    /// # Errors
    ///
    /// An argument cannot be encoded, or is a node of another graph or a remote of a pool; or the function is part of a
    /// shared library.
    ///
    /// # Examples
    ///
    /// ```
    /// use rankfold::Graph;
    ///
    /// let (mut one, mut other) = (Graph::new(), Graph::new());
    /// let a = one.add(|n: u32| n, (1,))?;
    /// let error = other.add(|n: &u32| n + 1, (&a,)).unwrap_err();
    /// assert!(error.to_string().contains("node 0 of another graph is an argument"), "{error}");
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn add<F, A, R, M>(&mut self, function: F, arguments: A) -> Result<Node<R>>
    where
        F: Function<A, R, M>,
        R: Data,
    {
        self.node().add(function, arguments)
    }

    /// Begins the description of a node with a name, which errors, pictures and journals use.
    ///
    /// # Examples
    ///
    /// ```
    /// # use rankfold::Graph;
    /// let mut graph = Graph::new();
    /// let half = graph.named("half").add(|n: u32| 1 / n, (0,))?;
    /// let error = graph.run_here(&half).unwrap_err();
    /// assert!(error.to_string().starts_with("half: the task panicked on rank 0"), "{error}");
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn named(&mut self, name: &str) -> NewNode<'_> {
        self.node().named(name)
    }

    /// Begins the description of a node that is more than a function and its arguments.
    ///
    /// # Examples
    ///
    /// See [`NewNode`].
    pub fn node(&mut self) -> NewNode<'_> {
        NewNode::new(self, None)
    }

    /// The number of nodes.
    ///
    /// # Examples
    ///
    /// ```
    /// # use rankfold::Graph;
    /// let mut graph = Graph::new();
    /// graph.add(|| 7u32, ())?;
    /// assert_eq!((graph.len(), graph.is_empty()), (1, false));
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no node.
    ///
    /// # Examples
    ///
    /// See [`Graph::len`].
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Keeps a journal in this folder, which all jobs of the run share: the values of named nodes are recorded as they are
    /// made, and come back in the next run or job instead of being made again. `RANKFOLD_JOURNAL` does the same for all
    /// graphs of a program.
    ///
    /// A node is known again by its name, its function's type, the type and bytes of its arguments, and by what it needs; one
    /// of which any of these has changed runs again, with all that depends on it. (Arguments that are written differently each
    /// time, as a `HashMap` is, always have.) Give names to what takes long and is not large: its values go through rank 0. [`run`](Self::run) and [`keep_going`](Self::keep_going) keep the journal;
    /// [`submit`](Self::submit) and [`run_here`](Self::run_here) do not.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU32, Ordering};
    /// use rankfold::Graph;
    ///
    /// static CALLS: AtomicU32 = AtomicU32::new(0);
    ///
    /// # let folder = std::env::temp_dir().join(format!("rankfold-doc-graph-{}", std::process::id()));
    /// # let world = rankfold::World::local(2)?;
    /// let mut graph = Graph::new();
    /// graph.journal(&folder);
    /// let long = graph.named("long").add(|n: u64| { CALLS.fetch_add(1, Ordering::Relaxed); n * n }, (12,))?;
    /// for _ in 0..3 {
    ///     assert_eq!(world.pool(|pool| graph.run(pool, &long))?.unwrap()?, 144);
    /// }
    /// assert_eq!(CALLS.load(Ordering::Relaxed), 1);
    /// # std::fs::remove_dir_all(folder).ok();
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn journal(&mut self, folder: impl Into<PathBuf>) -> &mut Self {
        self.journal = Some(folder.into());
        self
    }

    /// How much would run for these outputs, without a journal.
    ///
    /// # Errors
    ///
    /// An output is of another graph.
    ///
    /// # Examples
    ///
    /// See [`Plan`].
    pub fn plan(&self, outputs: impl Outputs) -> Result<Plan> {
        Ok(schedule(self, &self.numbers_of(&outputs)?, |_| false, |_| false).plan)
    }

    /// How much of the graph the last run had to do, and how much came from its journal; `None` before the first.
    ///
    /// # Examples
    ///
    /// ```
    /// # use rankfold::Graph;
    /// # let world = rankfold::World::local(2)?;
    /// let mut graph = Graph::new();
    /// let seven = graph.add(|| 7u32, ())?;
    /// world.pool(|pool| graph.run(pool, &seven))?.unwrap()?;
    /// assert_eq!(graph.last_run().unwrap().tasks, 1);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[must_use]
    pub fn last_run(&self) -> Option<Plan> {
        *lock(&self.last)
    }

    /// Runs what these outputs need in a pool, and gives their values, in the same shape.
    ///
    /// # Errors
    ///
    /// The first node that fails ends the run: what has not begun is cancelled, and its error tells the node, the rank and
    /// the host. Also an output of another graph, and a journal that cannot be used.
    ///
    /// # Examples
    ///
    /// See [`Graph`].
    pub fn run<O: Outputs>(&self, pool: &Pool, outputs: O) -> Result<O::Of<Values>> {
        let mut arrived = self.run_in(pool, &outputs, false)?;
        outputs.fill(&mut arrived)
    }

    /// Has what these outputs need run in a pool, as [`Pool::submit`] would, and gives remotes in the same shape at once.
    ///
    /// # Errors
    ///
    /// An output is of another graph, or the pool is over. What goes wrong in a node is an error of the remotes that depend
    /// on it.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::World::local(2)?;
    /// let mut graph = rankfold::Graph::new();
    /// let squares = (0..10).map(|n| graph.add(|n: u64| n * n, (n,))).collect::<rankfold::Result<Vec<_>>>()?;
    /// let sum = world.pool(|pool| {
    ///     let remotes = graph.submit(pool, &squares)?;
    ///     pool.as_completed(remotes).map(|remote| remote.get()).sum::<rankfold::Result<u64>>()
    /// })?;
    /// assert_eq!(sum.unwrap()?, 285);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn submit<O: Outputs>(&self, pool: &Pool, outputs: O) -> Result<O::Of<Remotes>> {
        let mut handed = Handed::new(self, pool, &self.numbers_of(&outputs)?)?;
        outputs.fill(&mut handed)
    }

    /// Runs what these outputs need on this thread, one node after the other in the order of their addition, without a pool,
    /// fusion or journal: for tests. The values are those of a run in a pool, and errors are of the same kind.
    ///
    /// # Errors
    ///
    /// That of the first node that fails; an output of another graph.
    ///
    /// # Examples
    ///
    /// See [`Node`].
    pub fn run_here<O: Outputs>(&self, outputs: O) -> Result<O::Of<Values>> {
        let numbers = self.numbers_of(&outputs)?;
        outputs.fill(&mut Arrived::new(self, &numbers, here::run(self, &numbers, false)?))
    }

    /// Runs that go on when a node fails: what depends on it fails with it, everything else is completed, and in the place
    /// of each output comes a `Result`.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::World::local(2)?;
    /// let mut graph = rankfold::Graph::new();
    /// let parts = [1u32, 0, 4].map(|n| graph.add(|n: u32| 12 / n, (n,)).unwrap());
    /// let next = graph.add(|n: &u32| n + 1, (&parts[1],))?;
    /// let ([a, b, c], d) = world.pool(|pool| graph.keep_going().run(pool, (&parts, &next)))?.unwrap()?;
    /// assert_eq!((a?, c?), (12, 3));
    /// assert!(b.unwrap_err().to_string().contains("divide by zero"));
    /// assert!(d.unwrap_err().to_string().contains("did not run, because what it needs has failed"));
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[must_use]
    pub fn keep_going(&self) -> KeepGoing<'_> {
        KeepGoing(self)
    }

    /// The numbers of these nodes, each as often as it is there.
    fn numbers_of(&self, outputs: &impl Outputs) -> Result<Vec<usize>> {
        let (mut numbers, mut foreign) = (Vec::new(), None);
        outputs
            .visit(&mut |graph, number| if graph == self.id { numbers.push(number) } else { foreign = Some(number) });
        let Some(number) = foreign else { return Ok(numbers) };
        Err(ErrorKind::Refused {
            call: "graph".into(),
            problem: format!("node {number} of another graph is an output"),
            remedy: "ask the graph for it that it was added to".into(),
        }
        .into())
    }

    fn run_in(&self, pool: &Pool, outputs: &impl Outputs, keeps_going: bool) -> Result<Arrived<'_>> {
        let numbers = self.numbers_of(outputs)?;
        let mut arrived = Arrived::new(self, &numbers, Vec::new());
        Run::begin(self, pool, &numbers, keeps_going)?.complete(&mut |node, value| arrived.put(node, value))?;
        Ok(arrived)
    }

    /// The error of a node.
    fn failed(&self, node: usize, error: Error) -> Error {
        error.in_call(self.nodes[node].called())
    }
}

/// Runs that go on when a node fails; made by [`Graph::keep_going`].
///
/// # Examples
///
/// See [`Graph::keep_going`].
#[derive(Debug, Clone, Copy)]
pub struct KeepGoing<'g>(&'g Graph);

impl KeepGoing<'_> {
    /// As [`Graph::run`], with a `Result` for each output.
    ///
    /// # Errors
    ///
    /// The run as a whole cannot go on: the pool is over, an output is of another graph, or the journal cannot be used.
    ///
    /// # Examples
    ///
    /// See [`Graph::keep_going`].
    pub fn run<O: Outputs>(&self, pool: &Pool, outputs: O) -> Result<O::Of<Results>> {
        let mut arrived = self.0.run_in(pool, &outputs, true)?;
        outputs.fill(&mut arrived)
    }

    /// As [`Graph::run_here`], with a `Result` for each output.
    ///
    /// # Errors
    ///
    /// An output is of another graph.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut graph = rankfold::Graph::new();
    /// let parts = [1u32, 0, 4].map(|n| graph.add(|n: u32| 12 / n, (n,)).unwrap());
    /// let [a, b, c] = graph.keep_going().run_here(&parts)?;
    /// assert!(a? == 12 && b.is_err() && c? == 3);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn run_here<O: Outputs>(&self, outputs: O) -> Result<O::Of<Results>> {
        let numbers = self.0.numbers_of(&outputs)?;
        outputs.fill(&mut Arrived::new(self.0, &numbers, here::run(self.0, &numbers, true)?))
    }

    /// Calls a function on this thread with each value, or error, as it comes, and with its place among the nodes. Values
    /// that were given away are not kept.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::World::local(2)?;
    /// let mut graph = rankfold::Graph::new();
    /// let nodes = (0..100).map(|n| graph.add(|n: u64| n, (n,))).collect::<rankfold::Result<Vec<_>>>()?;
    /// let mut sum = 0;
    /// world.pool(|pool| graph.keep_going().for_each(pool, &nodes, |_, value| sum += value.unwrap_or(0)))?.unwrap()?;
    /// assert_eq!(sum, 4950);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn for_each<T: Data>(
        &self,
        pool: &Pool,
        nodes: &[Node<T>],
        mut each: impl FnMut(usize, Result<T>),
    ) -> Result<()> {
        let numbers = self.0.numbers_of(&nodes)?;
        let mut places: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        numbers.iter().enumerate().for_each(|(place, node)| places.entry(*node).or_default().push(place));
        Run::begin(self.0, pool, &numbers, true)?.complete(&mut |node, value| {
            let places = &places[&node];
            let mut arrived = Arrived::new(self.0, &vec![node; places.len()], vec![(node, value)]);
            places.iter().for_each(|place| each(*place, arrived.take(node)));
        })
    }
}
