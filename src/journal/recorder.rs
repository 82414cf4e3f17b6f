//! The thread of a rank that loads what earlier jobs have left and writes what this one has done, while others compute.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Scope;
use std::time::{Duration, Instant};

use super::Notes;
use super::costs::{self, Costs};
use super::format::{self, Owner};
use super::storage::{Storage, write};
use super::{RESULT, folder_of_call, storage_of};
use crate::error::{Error, ErrorKind, Place};
use crate::worker::caught::catch;
use crate::worker::compute::Work;

/// Writing takes at most this part of the time.
const SHARE: u32 = 100;
/// Between two snapshots of a rank, at least; longer where many ranks would keep the file system busy.
const LEAST: Duration = Duration::from_secs(1);
/// All ranks together write so many snapshots a second, at most.
const SNAPSHOTS_A_SECOND: u32 = 100;

/// A rank's end of its recorder.
pub(crate) struct Recorder {
    orders: Sender<Order>,
    news: Receiver<News>,
    /// Orders that have not been answered.
    open: usize,
    least: Duration,
    next: Instant,
    /// Batches that were done when the last snapshot was ordered.
    recorded: u64,
    failing: bool,
}

enum Order {
    Load,
    /// On rank 0 with what calls have cost so far.
    Snapshot(Option<Costs>),
}

/// What the recorder has to tell.
#[derive(Debug)]
pub(crate) enum News {
    Loaded,
    /// A snapshot is on the disk; it took so long.
    Written(Duration),
    /// It is not, and the run goes on without.
    NotWritten(String),
    /// The call cannot be completed.
    Broken(Error),
}

/// The recorder's own side.
pub(super) struct Desk<'w> {
    work: &'w dyn Work,
    storage: Arc<dyn Storage>,
    notes: Notes,
    call: String,
    place: Place,
    /// Files of earlier jobs, all of which is in this rank's segments now.
    obsolete: Vec<String>,
    /// Some of what is here was computed without items that are poison.
    omits: bool,
}

/// The least time between two snapshots, as asked for or by the number of ranks.
pub(crate) fn least_interval(asked: Option<Duration>, size: usize) -> Duration {
    let fair = Duration::from_secs(1) / SNAPSHOTS_A_SECOND * u32::try_from(size).unwrap_or(u32::MAX);
    asked.unwrap_or(LEAST.max(fair))
}

impl Recorder {
    /// Starts the thread; the first thing it does is to load.
    pub fn start<'s, 'w: 's>(
        threads: &'s Scope<'s, '_>,
        work: &'w dyn Work,
        notes: Notes,
        call: &str,
        place: &Place,
        least: Duration,
    ) -> Self {
        let (orders, ordered) = channel();
        let (tell, news) = channel();
        // Ranks that all write at the same moment would wait for each other.
        let spread = least * (place.rank % 16) as u32 / 16;
        let mut desk = Desk::new(work, storage_of(&notes), notes, call, place);
        threads.spawn(move || desk.serve(&ordered, &tell));
        let _ = orders.send(Order::Load);
        let next = Instant::now() + least + spread;
        Self { orders, news, open: 1, least, next, recorded: 0, failing: false }
    }

    /// Orders a snapshot if it is time for one and there is something new: `done` batches so far.
    pub fn tick(&mut self, done: u64, costs: impl FnOnce() -> Option<Costs>) {
        if self.open == 0 && done > self.recorded && Instant::now() >= self.next {
            self.order(done, costs());
        }
    }

    /// Orders the last snapshot, where there is something new.
    pub fn last(&mut self, done: u64, costs: impl FnOnce() -> Option<Costs>) {
        if done > self.recorded {
            self.order(done, costs());
        }
    }

    /// Whether everything that was ordered is done.
    pub fn is_idle(&self) -> bool {
        self.open == 0
    }

    /// What there is to tell, if anything; waits at most so long for it.
    pub fn news(&mut self, wait: Duration) -> Option<News> {
        let news = if wait.is_zero() { self.news.try_recv().ok() } else { self.news.recv_timeout(wait).ok() }?;
        self.open -= 1;
        match &news {
            News::Written(took) => {
                self.next = Instant::now() + self.least.max(*took * SHARE);
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the journal is written again");
                }
            }
            News::NotWritten(_) => {
                self.recorded = 0;
                self.next = Instant::now() + 10 * self.least;
            }
            News::Loaded | News::Broken(_) => {}
        }
        Some(news)
    }

    /// Whether a failure is the first one in a row, which people are told.
    pub fn is_first_failure(&mut self) -> bool {
        !std::mem::replace(&mut self.failing, true)
    }

    fn order(&mut self, done: u64, costs: Option<Costs>) {
        if self.orders.send(Order::Snapshot(costs)).is_ok() {
            self.open += 1;
            self.recorded = done;
        }
    }
}

impl<'w> Desk<'w> {
    pub fn new(work: &'w dyn Work, storage: Arc<dyn Storage>, notes: Notes, call: &str, place: &Place) -> Self {
        let omits = !notes.precautions.left_out.is_empty();
        Self { work, storage, notes, call: call.to_owned(), place: place.clone(), obsolete: Vec::new(), omits }
    }

    /// Until the other end is dropped.
    fn serve(&mut self, ordered: &Receiver<Order>, tell: &Sender<News>) {
        while let Ok(order) = ordered.recv() {
            let news = catch(|| match order {
                Order::Load => self.load().map_or_else(News::Broken, |()| News::Loaded),
                Order::Snapshot(costs) => {
                    if let Some(costs) = costs {
                        costs::write(self.storage.as_ref(), self.notes.run, &costs);
                    }
                    self.snapshot()
                }
            });
            // The user's Serialize and Deserialize are the user's.
            let news = news.unwrap_or_else(|caught| {
                let problem = format!("a partial panicked on its way to or from bytes: {}", caught.message);
                News::Broken(self.trouble(problem, "mend the Serialize and Deserialize of the result's type"))
            });
            // Nobody listens any more when the call has ended in a failure of the transport.
            let _ = tell.send(news);
        }
    }

    pub fn load(&mut self) -> Result<(), Error> {
        for (name, extents) in std::mem::take(&mut self.notes.load) {
            let bytes = self.storage.read(&name).map_err(|error| {
                let problem = format!("{name} cannot be read on {}: {error}", self.place);
                self.trouble(problem, "give a folder on a file system that all ranks share")
            })?;
            let decoded = format::decode(&bytes).map_err(|refusal| {
                let problem = format!("{name} on {}: {refusal}", self.place);
                self.trouble(problem, "move that file away: what it holds is computed again")
            })?;
            self.omits |= decoded.omits;
            let Notes { run, call, leaves, .. } = self.notes;
            let is_ours = decoded.owner == Owner { run, call, leaves };
            let restored =
                is_ours && extents.iter().all(|extent| decoded.segments.iter().any(|(found, _)| found == extent));
            if !restored {
                let problem = format!("{name} is not the same file on {} as on rank 0", self.place);
                return Err(self.trouble(problem, "give a folder on a file system that all ranks share"));
            }
            for (extent, place) in decoded.segments.iter().filter(|(extent, _)| extents.contains(extent)) {
                self.work.restore(*extent, &bytes[place.clone()])?;
            }
            if !name.ends_with(RESULT) {
                self.obsolete.push(name);
            }
        }
        Ok(())
    }

    pub fn snapshot(&mut self) -> News {
        let begun = Instant::now();
        let segments = match self.work.snapshot() {
            Ok(segments) => segments,
            Err(error) if matches!(error.kind(), ErrorKind::Encoding { .. }) => {
                return News::NotWritten(error.to_string());
            }
            Err(error) => return News::Broken(error),
        };
        let Notes { run, job, call, leaves, .. } = self.notes;
        let bytes = format::encode_with(Owner { run, call, leaves }, &segments, self.omits);
        let name = format!("{}/g{job:04}-r{:05}", folder_of_call(call), self.place.rank);
        if let Err(error) = write(self.storage.as_ref(), &name, &bytes) {
            return News::NotWritten(format!("{}: {error}", self.path(&name).display()));
        }
        for name in self.obsolete.drain(..) {
            // It may be gone already, and does no harm if it stays.
            let _ = self.storage.remove(&name);
        }
        News::Written(begun.elapsed())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.notes.dir.join(name)
    }

    fn trouble(&self, problem: String, remedy: &str) -> Error {
        let (dir, remedy) = (self.notes.dir.display().to_string(), remedy.to_owned());
        tracing::debug!("{}: {problem}", self.call);
        ErrorKind::Journal { dir, problem, remedy }.into()
    }
}
