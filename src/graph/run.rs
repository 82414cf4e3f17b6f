//! A graph in a pool: tasks are submitted all at once, and values taken as they come.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use super::chain::{self, Step};
use super::outputs::{Remotes, Results, Source, Values as InValues};
use super::plan::{Schedule, Task, distinct, schedule};
use super::recording::Recording;
use super::{Graph, Node};
use crate::code::{Code, Entry};
use crate::error::{Error, ErrorKind, Result};
use crate::lock::lock;
use crate::master::tasks::{Order, TaskId};
use crate::pool::Pool;
use crate::pool::encoded::Encoded;
use crate::pool::function::{Data, Refused};
use crate::pool::handle::Handle;
use crate::pool::remote::Remote;
use crate::pool::slot::Then;
use crate::pool::threads::stop_task_if_asked;
use crate::worker::kept::{Kept, Unfit};

/// Between two looks at the clock and the lock of a journal.
const LOOK: Duration = Duration::from_millis(200);

/// Tells a run that there is news of a node.
struct Arrival {
    node: usize,
    news: Sender<usize>,
}

impl Wake for Arrival {
    fn wake(self: Arc<Self>) {
        // A run that is over does not listen.
        let _ = self.news.send(self.node);
    }
}

/// Submits tasks, and lets go of what lies between them.
struct Submission<'s> {
    graph: &'s Graph,
    pool: &'s Pool,
    /// The task that makes each node's value.
    tasks: BTreeMap<usize, TaskId>,
    held: BTreeMap<usize, Handle>,
}

impl<'s> Submission<'s> {
    /// Gives handles on the values that are `kept`; those that are known are `given` as bytes.
    fn all(
        graph: &'s Graph,
        pool: &'s Pool,
        schedule: &Schedule,
        kept: impl Fn(usize) -> bool,
        given: impl Fn(usize) -> Vec<u8>,
    ) -> Result<Self> {
        let (tasks, held) = (BTreeMap::new(), BTreeMap::new());
        let mut all = Self { graph, pool, tasks, held };
        let mut readers = schedule.readers.clone();
        for task in &schedule.tasks {
            match task {
                Task::Give(node) => all.submit(*node, chain::give, given(*node), &[], 0)?,
                Task::Run(steps) => {
                    all.run(steps)?;
                    for need in distinct(&graph.nodes[steps[0]].needs) {
                        readers[need] -= 1;
                        if readers[need] == 0 && !kept(need) {
                            all.held.remove(&need);
                        }
                    }
                }
            }
        }
        Ok(all)
    }

    fn run(&mut self, steps: &[usize]) -> Result<()> {
        let (first, last) = (&self.graph.nodes[steps[0]], steps[steps.len() - 1]);
        let kind = self.graph.nodes[last].code.number();
        if steps.len() == 1 {
            return self.submit_code(last, first.code, first.arguments.clone(), &first.needs, kind);
        }
        let step = |node: &usize| {
            let entry = &self.graph.nodes[*node];
            let (name, arguments) = (entry.name.clone(), entry.arguments.clone());
            Step { code: entry.code, name, arguments, reads: entry.needs.len() as u32 }
        };
        let arguments = chain::pack(&steps.iter().map(step).collect::<Vec<_>>());
        // Chains that are as long and end alike take about equally long.
        self.submit(last, chain::run, arguments, &first.needs, kind ^ (steps.len() as u64) << 40)
    }

    /// A task with a function of ours.
    fn submit(&mut self, node: usize, entry: Entry, arguments: Vec<u8>, needs: &[usize], kind: u64) -> Result<()> {
        let refused = || Refused::elsewhere().into_error(self.graph.nodes[node].called());
        let code = Code::of(entry).ok_or_else(refused)?;
        self.submit_code(node, code, arguments, needs, kind)
    }

    fn submit_code(&mut self, node: usize, code: Code, arguments: Vec<u8>, needs: &[usize], kind: u64) -> Result<()> {
        let entry = &self.graph.nodes[node];
        let name = entry.name.clone().map_or(Cow::Borrowed(entry.function), Cow::Owned);
        let needs = needs.iter().map(|need| self.tasks[need]).collect();
        let super::Options { priority, on, retries } = entry.options;
        let order = Order { priority, on, retries, ..Order::default() };
        let mut prepared = Encoded { name, code, arguments, needs }.prepare(self.pool.around(), order);
        prepared.order.kind = kind;
        let handle = prepared.post(&self.pool.desk, &self.pool.places)?;
        self.tasks.insert(node, handle.task);
        self.held.insert(node, handle);
        Ok(())
    }
}

/// A run in a pool, whose values are waited for.
pub(super) struct Run<'r> {
    pool: &'r Pool,
    keeps_going: bool,
    outputs: Vec<usize>,
    recording: Option<Recording<'r>>,
    /// What has not come yet: outputs, and named nodes that are recorded.
    held: BTreeMap<usize, Handle>,
    news: (Sender<usize>, Receiver<usize>),
    has_failures: bool,
    /// The run has to end early: why, and when what is under way is not waited for any longer.
    ending: Option<(Error, Instant)>,
    /// Something did not run for that.
    is_cut: bool,
}

impl<'r> Run<'r> {
    /// Submits everything.
    pub fn begin(graph: &'r Graph, pool: &'r Pool, outputs: &[usize], keeps_going: bool) -> Result<Self> {
        let mut outputs = outputs.to_vec();
        outputs.sort_unstable();
        outputs.dedup();
        let recording = Recording::open(graph, pool)?;
        let known = |node: usize| recording.as_ref().is_some_and(|recording| recording.has(node));
        let is_recorded = |node: usize| recording.is_some() && graph.nodes[node].name.is_some();
        let schedule = schedule(graph, &outputs, is_recorded, known);
        tracing::debug!("graph: {}", schedule.plan);
        if let Some(recording) = recording.as_ref().filter(|_| schedule.plan.restored > 0) {
            recording.greet(&schedule.plan);
        }
        *lock(&graph.last) = Some(schedule.plan);
        let is_wanted = |node: usize| outputs.binary_search(&node).is_ok();
        let kept = |node: usize| is_wanted(node) || (is_recorded(node) && !known(node));
        let given = |node: usize| recording.as_ref().map_or_else(Vec::new, |recording| recording.bytes(node));
        let Submission { mut held, .. } = Submission::all(graph, pool, &schedule, kept, given)?;
        // What is known need not be brought here.
        held.retain(|node, _| !known(*node));
        let news = channel();
        for (node, held) in &held {
            held.ask(is_wanted(*node));
            wake(*node, held, &news.0);
        }
        Ok(Self { pool, keeps_going, outputs, recording, held, news, has_failures: false, ending: None, is_cut: false })
    }

    /// Waits for everything; `put` gets the value of each output as it comes.
    pub fn complete(mut self, put: &mut dyn FnMut(usize, Result<Arc<Kept>>)) -> Result<()> {
        let outcome = self.take_all(put);
        // Cancels what has not begun, if something has failed.
        let left = std::mem::take(&mut self.held);
        if let Some(recording) = self.recording.take() {
            // What has come in the meantime need not be made again.
            let values = left.iter().filter_map(|(node, held)| Some((node, held.slot.value()?.ok()?)));
            values.for_each(|(node, value)| recording.record(*node, &value));
            drop(left);
            recording.finish(outcome.is_ok() && !self.has_failures);
        }
        outcome
    }

    fn take_all(&mut self, put: &mut dyn FnMut(usize, Result<Arc<Kept>>)) -> Result<()> {
        if let Some(recording) = &self.recording {
            for node in self.outputs.iter().copied().filter(|node| recording.has(*node)) {
                put(node, Ok(Arc::new(Kept::bytes(recording.bytes(node), 0))));
            }
        }
        // Inside of a task, its place is another's meanwhile.
        let _away = self.pool.desk.give_way();
        while !self.held.is_empty() {
            stop_task_if_asked(self.pool.around().0);
            // Every task comes to its end, or the pool does, and both are told.
            if let Ok(node) = self.news.1.recv_timeout(LOOK) {
                self.take(node, put)?;
            }
            self.look_around()?;
            if self.ending.as_ref().is_some_and(|(_, by)| Instant::now() >= *by) {
                break;
            }
        }
        let is_cut = self.is_cut || !self.held.is_empty();
        self.ending.take().filter(|_| is_cut).map_or(Ok(()), |(error, _)| Err(error))
    }

    /// If the run has to end early, nothing is begun any more, and what is under way is still recorded.
    fn look_around(&mut self) -> Result<()> {
        let Some(recording) = &mut self.recording else { return Ok(()) };
        if let Some(why) = recording.look_around()?.filter(|_| self.ending.is_none()) {
            self.ending = Some(why);
            self.held.values().for_each(Handle::cancel);
        }
        Ok(())
    }

    fn take(&mut self, node: usize, put: &mut dyn FnMut(usize, Result<Arc<Kept>>)) -> Result<()> {
        let Some(held) = self.held.get(&node) else { return Ok(()) };
        // Told of the end of the task, the value is still on its way.
        let Some(value) = held.slot.value() else {
            wake(node, held, &self.news.0);
            return Ok(());
        };
        held.slot.let_go();
        self.held.remove(&node);
        match &value {
            Ok(kept) => {
                if let Some(recording) = &self.recording {
                    recording.record(node, kept);
                }
            }
            Err(error) if self.ending.is_some() && matches!(error.root().kind(), ErrorKind::Cancelled { .. }) => {
                self.is_cut = true;
                return Ok(());
            }
            Err(error) => {
                self.has_failures = true;
                if !self.keeps_going {
                    return Err(error.root().clone());
                }
            }
        }
        if self.outputs.binary_search(&node).is_ok() {
            put(node, value);
        }
        Ok(())
    }
}

fn wake(node: usize, held: &Handle, news: &Sender<usize>) {
    let arrival = Arrival { node, news: news.clone() };
    held.slot.then(Then::Wake(Waker::from(Arc::new(arrival))));
}

/// Values of outputs, for as many places as each of them has in the shape that was asked for.
pub(super) struct Values<'v> {
    graph: &'v Graph,
    values: BTreeMap<usize, Result<Arc<Kept>>>,
    uses: BTreeMap<usize, usize>,
}

impl<'v> Values<'v> {
    pub fn new(graph: &'v Graph, outputs: &[usize], values: Vec<(usize, Result<Arc<Kept>>)>) -> Self {
        let mut uses = BTreeMap::new();
        outputs.iter().for_each(|output| *uses.entry(*output).or_default() += 1);
        Self { graph, values: values.into_iter().collect(), uses }
    }

    pub fn put(&mut self, node: usize, value: Result<Arc<Kept>>) {
        self.values.insert(node, value);
    }

    /// The value itself at its last place, and copies before.
    pub fn take<T: Data>(&mut self, node: usize) -> Result<T> {
        let uses = self.uses.get_mut(&node).expect("an output");
        *uses -= 1;
        let value = if *uses == 0 { self.values.remove(&node) } else { self.values.get(&node).cloned() };
        let kept = value.expect("every output has come to its end")?;
        let copied = |kept: &Kept| {
            let mut bytes = Vec::new();
            kept.write(&mut bytes).map(|()| Arc::new(Kept::bytes(bytes, 0)))
        };
        let own = if *uses == 0 { Ok(kept) } else { copied(&kept) };
        own.and_then(Kept::take).map_err(|unfit: Unfit| {
            let place = super::here::this_place();
            unfit.into_error(self.graph.nodes[node].called(), &place)
        })
    }
}

impl Source<InValues> for Values<'_> {
    fn item<T: Data>(&mut self, node: &Node<T>) -> Result<T> {
        self.take(node.number)
    }
}

impl Source<Results> for Values<'_> {
    fn item<T: Data>(&mut self, node: &Node<T>) -> Result<Result<T>> {
        Ok(self.take(node.number))
    }
}

/// Tasks that were handed to a pool, for who waits himself.
pub(super) struct Handed<'h>(Submission<'h>);

impl<'h> Handed<'h> {
    pub fn new(graph: &'h Graph, pool: &'h Pool, outputs: &[usize]) -> Result<Self> {
        let schedule = schedule(graph, outputs, |_| false, |_| false);
        *lock(&graph.last) = Some(schedule.plan);
        let mut sorted = outputs.to_vec();
        sorted.sort_unstable();
        let kept = |node: usize| sorted.binary_search(&node).is_ok();
        Submission::all(graph, pool, &schedule, kept, |_| Vec::new()).map(Self)
    }
}

impl Source<Remotes> for Handed<'_> {
    fn item<T: Data>(&mut self, node: &Node<T>) -> Result<Remote<T>> {
        let Self(submission) = self;
        if !submission.held.contains_key(&node.number) {
            // It was given away already: this place gets a copy, made where the value is.
            submission.submit(node.number, chain::copy, Vec::new(), &[node.number], 1)?;
        }
        let held = submission.held.remove(&node.number).expect("it was just there");
        Ok(Remote::of(held))
    }
}
