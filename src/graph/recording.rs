//! Values of named nodes: those that a journal has, and those that it gets. On rank 0, beside the tasks.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::key::keys;
use super::{Graph, Plan};
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::{Deadline, Interrupts};
use crate::journal::{Log, Recorded};
use crate::lock::lock;
use crate::pool::Pool;
use crate::pool::desk::{Desk, Note};
use crate::worker::caught::catch;
use crate::worker::kept::Kept;

/// Making values durable takes at most this part of the time.
const SHARE: u32 = 100;
/// Kept back of the time of a job, for the last values and for the way out.
const RESERVE: Duration = Duration::from_secs(5);
/// The last values are waited for so long at most.
const LAST_VALUES: Duration = Duration::from_secs(60);
/// Between two looks at the lock and the clock.
const LOOK: Duration = Duration::from_millis(200);

/// The journal of one run of a graph.
pub(super) struct Recording<'r> {
    pool: &'r Pool,
    graph: &'r Graph,
    dir: PathBuf,
    keys: Vec<u128>,
    recorded: Recorded,
    watch: Watch,
    next_look: Instant,
    orders: Sender<Order>,
    /// Closed by the thread that writes when it is through.
    done: Receiver<()>,
}

/// What may end a run early, while signals do not end the ranks.
struct Watch {
    desk: Arc<Desk>,
    interrupts: &'static Interrupts,
    deadline: Option<Deadline>,
}

impl Watch {
    fn begin(pool: &Pool) -> Result<Self> {
        let (desk, interrupts) = (Arc::clone(&pool.desk), Interrupts::watch());
        let deadline = Deadline::of_this_job(true)?;
        interrupts.call_begins();
        // Where the pool is over, so is the run.
        let _ = desk.post(Note::Watch(true));
        Ok(Self { desk, interrupts, deadline })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.desk.post(Note::Watch(false));
        self.interrupts.call_ends();
    }
}

struct Order {
    key: u128,
    name: String,
    value: Arc<Kept>,
}

impl<'r> Recording<'r> {
    /// Nothing if the graph has no journal.
    pub fn open(graph: &'r Graph, pool: &'r Pool) -> Result<Option<Self>> {
        let named = || std::env::var_os("RANKFOLD_JOURNAL").filter(|value| !value.is_empty()).map(PathBuf::from);
        let is_inner = pool.around().0.is_some();
        if let (true, Some(dir)) = (is_inner, &graph.journal) {
            let problem = format!("a graph with a journal ({}) runs inside of a task", dir.display());
            let remedy = "run it in the program itself: what a task makes is recorded with the task".into();
            return Err(ErrorKind::Refused { call: "a graph".into(), problem, remedy }.into());
        }
        let Some(dir) = graph.journal.clone().or_else(named).filter(|_| !is_inner) else { return Ok(None) };
        let watch = Watch::begin(pool)?;
        let (recorded, log) = lock(&pool.journals).values(&dir, pool.size())?;
        let (orders, ordered) = channel();
        let (through, done) = channel();
        let (interval, shown) = (pool.interval, dir.display().to_string());
        let thread = std::thread::Builder::new().name("rankfold-recorder".into());
        let serve = move || {
            let _through: Sender<()> = through;
            Recorder::new(log, interval, shown).serve(&ordered);
        };
        thread.spawn(serve).map_err(|error| {
            Error::launch(
                format!("rank 0 cannot start a thread for the journal: {error}"),
                "raise the limit on processes (ulimit -u)",
            )
        })?;
        let (keys, next_look) = (keys(&graph.nodes), Instant::now());
        Ok(Some(Self { pool, graph, dir, keys, recorded, watch, next_look, orders, done }))
    }

    /// Tells what need not be made again.
    pub fn greet(&self, plan: &Plan) {
        let Plan { restored, tasks, .. } = plan;
        let values = if *restored == 1 { "value of it is" } else { "values of it are" };
        let left = if *tasks == 1 { "task is" } else { "tasks are" };
        let dir = self.dir.display();
        eprintln!("rankfold: the graph goes on from {dir}: {restored} {values} recorded there, {tasks} {left} left");
    }

    /// Whether a node is named, and its value recorded.
    pub fn has(&self, node: usize) -> bool {
        self.graph.nodes[node].name.is_some() && self.recorded.get(self.keys[node]).is_some()
    }

    /// A value that is recorded, as bytes.
    pub fn bytes(&self, node: usize) -> Vec<u8> {
        self.recorded.get(self.keys[node]).map_or_else(Vec::new, <[u8]>::to_vec)
    }

    /// The value of a node is here; it is recorded if the node is named.
    pub fn record(&self, node: usize, value: &Arc<Kept>) {
        if let Some(name) = self.graph.nodes[node].name.clone() {
            // The thread listens until this is dropped.
            let _ = self.orders.send(Order { key: self.keys[node], name, value: Arc::clone(value) });
        }
    }

    /// Looks from time to time whether the journal is still this job's, and whether it has to end: why, and when at last.
    pub fn look_around(&mut self) -> Result<Option<(Error, Instant)>> {
        let now = Instant::now();
        if now < self.next_look {
            return Ok(None);
        }
        self.next_look = now + LOOK;
        let place = &self.pool.places[0];
        if self.watch.interrupts.is_orphan() {
            let (function, message) = ("the launcher".into(), "it is gone, and this rank ends".into());
            return Err(ErrorKind::Mpi { function, place: place.clone(), message }.into());
        }
        if lock(&self.pool.journals).is_lost(&self.dir) {
            let (dir, problem) = (self.dir.display().to_string(), "another job has taken it over".into());
            let remedy =
                "this job was taken for dead, and ends; see whether rank 0 or its file system stood still".into();
            return Err(ErrorKind::Journal { dir, problem, remedy }.into());
        }
        let left = self.watch.deadline.map(|Deadline(end)| end.saturating_duration_since(now));
        let at_its_end = left.filter(|left| *left < RESERVE);
        let at_its_end = at_its_end.map(|left| (format!("the job's time ends in {} s", left.as_secs()), left / 2));
        let signal = self.watch.interrupts.signal();
        let why = signal.map(|(name, grace)| (format!("{place} got {name}"), grace)).or(at_its_end);
        let error = |reason| ErrorKind::Interrupted { call: "graph".into(), reason }.into();
        Ok(why.map(|(reason, grace)| (error(reason), now + grace)))
    }

    /// Waits until everything is recorded, if the file system answers. A run that is not complete leaves the journal open
    /// for the next job.
    pub fn finish(self, is_complete: bool) {
        drop(self.orders);
        if self.done.recv_timeout(LAST_VALUES) == Err(RecvTimeoutError::Timeout) {
            eprintln!(
                "rankfold: warning: {}: the last values are not written after {} s, and not waited for any longer; another \
                 job would make them again",
                self.dir.display(),
                LAST_VALUES.as_secs()
            );
        }
        lock(&self.pool.journals).run_has_ended(&self.dir, is_complete);
    }
}

/// The thread that writes.
struct Recorder {
    log: Log,
    interval: Duration,
    /// When what was added is made durable.
    next: Option<Instant>,
    /// What the last time took.
    took: Duration,
    dir: String,
    failing: bool,
}

impl Recorder {
    fn new(log: Log, interval: Duration, dir: String) -> Self {
        Self { log, interval, next: None, took: Duration::ZERO, dir, failing: false }
    }

    /// Until the other end is dropped.
    fn serve(mut self, ordered: &Receiver<Order>) {
        loop {
            let wait = self.next.map(|next| next.saturating_duration_since(Instant::now()));
            // Without anything to be made durable it waits for the next value, or for the end.
            let order = wait.map_or_else(
                || ordered.recv().map_err(|_| RecvTimeoutError::Disconnected),
                |wait| ordered.recv_timeout(wait),
            );
            match order {
                Ok(order) => self.add(&order),
                Err(RecvTimeoutError::Timeout) => self.sync(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            // Values that come without a pause must not put it off.
            if self.next.is_some_and(|next| Instant::now() >= next) {
                self.sync();
            }
        }
        let Self { log, dir, .. } = self;
        if let Err(error) = log.close() {
            eprintln!(
                "rankfold: warning: {dir}: the last values are not recorded: {error}; another job would make them again"
            );
        }
    }

    fn add(&mut self, Order { key, name, value }: &Order) {
        // The user's Serialize is the user's.
        let written = catch(|| {
            let mut bytes = Vec::new();
            value.write(&mut bytes).map(|()| bytes)
        });
        let problem = match written {
            Ok(Ok(bytes)) => {
                let added = self.log.add(*key, name, bytes);
                self.next.get_or_insert_with(|| Instant::now() + self.interval.max(self.took * SHARE));
                return self.told(added.map_err(|error| error.to_string()));
            }
            Ok(Err(unfit)) => unfit.message,
            Err(caught) => format!("it panicked on its way to bytes: {}", caught.message),
        };
        eprintln!("rankfold: warning: {}: the value of {name} is not recorded: {problem}", self.dir);
    }

    fn sync(&mut self) {
        let begun = Instant::now();
        let synced = self.log.sync();
        self.took = begun.elapsed();
        // What is not on the disk is tried again.
        self.next = synced.is_err().then(|| Instant::now() + 10 * self.interval);
        self.told(synced.map_err(|error| error.to_string()));
    }

    /// The first failure in a row is told.
    fn told(&mut self, outcome: std::result::Result<(), String>) {
        match outcome {
            Ok(()) => self.failing = false,
            Err(problem) if !std::mem::replace(&mut self.failing, true) => eprintln!(
                "rankfold: warning: {}: values are not recorded: {problem}; the run goes on without, and tries again",
                self.dir
            ),
            Err(_) => {}
        }
    }
}
