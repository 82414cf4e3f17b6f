//! What the user's thread on rank 0, the threads that run tasks, and the thread that may use the transport tell each other.
//!
//! Orders and ends of tasks are notes on the desk, which the transport's thread takes all at once; what became of a task is
//! in its slot, and whoever waits for slots looks at them each time the bell rings.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::quick::Quick;
use super::shared::Large;
use super::slot::Slot;
use super::threads::{Away, Threads, help, is_asked_to_stop, is_in_a_task, stop_task_if_asked};
use crate::code::Code;
use crate::error::{Error, ErrorKind};
use crate::lock::lock;
use crate::master::tasks::{FIRST_OF_RANK, Order, TaskId};
use crate::transport::wait::{Mood, SLEEP_STOCKED};
use crate::worker::kept::discard;
use crate::worker::runner::{Made, Trouble};
use crate::worker::usage::Usage;

/// Who waits looks so long before it sleeps, where answers are there within it: a sleep costs as much. Where they take
/// longer, looking would take the time of a core from those who compute them.
const LOOKING: Duration = Duration::from_micros(50);
/// After waits in which it was, or would have been, in vain, one of so many looks nevertheless: to see whether it still is.
const LOOKS_AGAIN: u32 = 16;

/// With more notes than these on the desk, whoever could run a task himself waits until they are read: they would pile up.
const AHEAD_MOST: usize = 1000;

/// A note that has so much time wakes nobody who wakes by himself within it: as much as a few short tasks take.
pub(super) const SOON: Duration = Duration::from_micros(200);
/// The same: as long as a rank sleeps that has enough to do.
pub(super) const LATER: Duration = SLEEP_STOCKED;

/// Something for the transport's thread to do. There are as many of them as tasks where a program submits them faster than
/// they can be placed: they are small.
#[derive(Debug)]
pub(crate) enum Note {
    Submit {
        task: TaskId,
        order: Arc<Order>,
        payload: Box<Payload>,
    },
    /// A value that rank 0 has, and that everybody is to have.
    Give {
        task: TaskId,
        payload: Box<Payload>,
        /// Unless it is small.
        large: Option<Box<Large>>,
    },
    Want {
        task: TaskId,
        taken: bool,
    },
    /// Somebody wants to know which ranks have a value.
    Locate {
        task: TaskId,
        answer: Sender<Result<Vec<usize>, Error>>,
    },
    Release(TaskId),
    Detach(TaskId),
    Cancel(TaskId),
    /// A run with a journal begins, or ends: a signal is to end it early meanwhile, and no rank at once.
    Watch(bool),
    /// The user's closure has returned.
    Close,
    /// A task was run here.
    Ended {
        task: TaskId,
        end: Box<End>,
    },
    /// Calls that wait here for an actor that has died.
    Returned(Vec<TaskId>),
    /// A value is written as bytes, behind its number, for a rank that has asked for it.
    Written {
        to: usize,
        bytes: Vec<u8>,
    },
}

/// How a run of a task has ended, and what it took.
#[derive(Debug)]
pub(crate) struct End {
    pub result: Result<Made, Trouble>,
    pub usage: Usage,
}

const _: () = assert!(size_of::<Note>() <= 40, "what is rare or large in a note goes behind a pointer");

/// What rank 0 keeps with a task.
#[derive(Debug)]
pub(crate) struct Payload {
    /// What errors call it.
    pub name: Cow<'static, str>,
    pub code: Code,
    pub arguments: Vec<u8>,
    /// How long it may run.
    pub timeout: Option<Duration>,
    /// How long it rests before it is tried again, the first time.
    pub backoff: Duration,
    /// Whether it may run again after a good end: an actor.
    pub may_run_again: bool,
    /// Of a task that was submitted on this rank.
    pub slot: Option<Arc<Slot>>,
    /// Its value, if that is small.
    pub small: Option<Arc<Vec<u8>>>,
    /// When it was submitted, or this rank heard of it; and when it was given to a rank, or begun by whoever waits for it.
    pub submitted: Instant,
    pub assigned: Option<Instant>,
    pub timing: Option<Box<Timing>>,
}

impl Payload {
    pub fn new(name: Cow<'static, str>, code: Code, arguments: Vec<u8>, slot: Option<Arc<Slot>>) -> Self {
        Self {
            name,
            code,
            arguments,
            timeout: None,
            backoff: Duration::ZERO,
            may_run_again: false,
            slot,
            small: None,
            submitted: Instant::now(),
            assigned: None,
            timing: None,
        }
    }
}

/// What one task took, where it has run to its end.
///
/// # Examples
///
/// ```
/// # let world = rankfold::World::local(2)?;
/// let timing = world.pool(|pool| {
///     let nap = pool.submit(|ms: u64| std::thread::sleep(std::time::Duration::from_millis(ms)), (20,))?;
///     nap.wait()?;
///     Ok::<_, rankfold::Error>(nap.timing().expect("it has run"))
/// })?.unwrap()?;
/// assert!(timing.wall.as_millis() >= 20 && timing.cpu < timing.wall && timing.rank < 2);
/// # Ok::<(), rankfold::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// From its submission until a rank was chosen to run it: it needed values, or all ranks were busy.
    pub queued: Duration,
    /// From its arrival at that rank until it began: values were on their way, or all threads were busy.
    pub waited: Duration,
    /// From its beginning to its end.
    pub wall: Duration,
    /// Processor time of the thread that ran it; what it did in parallel on other threads is not in it. Tasks shorter than
    /// 20 µs count as computing throughout.
    pub cpu: Duration,
    /// The most memory that the rank's process has had so far, in bytes; of tasks shorter than 10 ms, the value that was
    /// seen last. 0 where the system does not say.
    pub peak_memory: u64,
    /// The rank that ran it; [`Pool::host`](crate::Pool::host) gives its host.
    pub rank: usize,
}

impl Timing {
    pub(crate) fn of(usage: &Usage, queued: Duration, rank: usize) -> Self {
        let Usage { idle, wall, cpu, peak, .. } = *usage;
        Self { queued, waited: idle, wall, cpu, peak_memory: peak, rank }
    }
}

/// A task that whoever waits for it runs himself.
#[derive(Debug)]
pub(crate) struct Claim {
    pub code: Code,
    pub arguments: Vec<u8>,
    /// Since it was submitted.
    pub queued: Duration,
}

/// The notes, and the bell.
#[derive(Debug)]
pub(crate) struct Desk {
    /// The number of the first task that is submitted on this rank.
    first: TaskId,
    /// The threads of this rank: those who wait for slots may be some of them.
    threads: OnceLock<Weak<Threads>>,
    notes: Mutex<Notes>,
    came: Condvar,
    /// Waits for slots, one after the other, whose answers were not there in time for who looks.
    slow: AtomicU32,
    pub(super) quick: Quick,
    /// Those who wait for slots.
    waiting: Mutex<usize>,
    bell: Condvar,
}

#[derive(Debug, Default)]
struct Notes {
    notes: Vec<Note>,
    next: TaskId,
    /// What was asked for with one of the last tasks that need no values: the same as with the next one, most often.
    order: Arc<Order>,
    /// The transport's thread sleeps.
    sleeps: Option<Sleep>,
    /// Nobody takes notes any more, because of that error if there is one.
    is_over: bool,
    why: Option<Error>,
}

#[derive(Debug, Clone, Copy)]
struct Sleep {
    until: Instant,
    /// This rank has enough to do, and on rank 0 all have: what is new has time.
    is_stocked: bool,
}

impl Sleep {
    fn is_over_within(self, time: Duration) -> bool {
        self.until.saturating_duration_since(Instant::now()) <= time
    }
}

impl Notes {
    fn share(&mut self, order: Order) -> Arc<Order> {
        if *self.order != order {
            self.order = Arc::new(order);
        }
        Arc::clone(&self.order)
    }
}

impl Desk {
    pub fn new(rank: usize) -> Arc<Self> {
        Arc::new(Self {
            first: rank as TaskId * FIRST_OF_RANK,
            threads: OnceLock::new(),
            notes: Mutex::default(),
            came: Condvar::new(),
            slow: AtomicU32::new(0),
            quick: Quick::default(),
            waiting: Mutex::default(),
            bell: Condvar::new(),
        })
    }

    pub fn tell_of(&self, threads: &Arc<Threads>) {
        let _ = self.threads.set(Arc::downgrade(threads));
    }

    /// Puts a note down. After the end nobody reads it, for the reason that is given.
    pub fn post(&self, note: Note) -> Result<(), Option<Error>> {
        self.post_within(Duration::ZERO, note)
    }

    /// The same with a note that has so much time: where this rank computes on meanwhile, waking whoever reads it for each
    /// of many would take longer than short tasks do.
    pub fn post_within(&self, leisure: Duration, note: Note) -> Result<(), Option<Error>> {
        let mut notes = lock(&self.notes);
        if notes.is_over {
            let why = notes.why.clone();
            drop(notes);
            // It may hold a value.
            discard(note);
            return Err(why);
        }
        notes.notes.push(note);
        self.wake(notes, leisure);
        Ok(())
    }

    /// Puts an order down, and gives the task its number; nobody takes it after the end.
    pub fn submit(&self, order: Order, payload: Box<Payload>) -> Result<TaskId, Option<Error>> {
        if order.needs.is_empty() && order.parent.is_none() {
            return self.add(|notes, task| Note::Submit { task, order: notes.share(order), payload });
        }
        let order = Arc::new(order);
        self.number(|task| Note::Submit { task, order, payload })
    }

    /// Puts down a note about a task or value that has no number yet, and gives it one.
    pub fn number(&self, note: impl FnOnce(TaskId) -> Note) -> Result<TaskId, Option<Error>> {
        self.add(|_, task| note(task))
    }

    fn add(&self, note: impl FnOnce(&mut Notes, TaskId) -> Note) -> Result<TaskId, Option<Error>> {
        let mut notes = lock(&self.notes);
        if notes.is_over {
            return Err(notes.why.clone());
        }
        let task = self.first + notes.next;
        notes.next += 1;
        let note = note(&mut notes, task);
        notes.notes.push(note);
        let leisure = if notes.sleeps.is_some_and(|sleep| sleep.is_stocked) { LATER } else { Duration::ZERO };
        self.wake(notes, leisure);
        Ok(task)
    }

    fn wake(&self, mut notes: MutexGuard<'_, Notes>, leisure: Duration) {
        if notes.sleeps.is_some_and(|sleep| !sleep.is_over_within(leisure)) {
            notes.sleeps = None;
            drop(notes);
            self.came.notify_one();
        }
    }

    /// All notes that are there.
    pub fn take(&self) -> Vec<Note> {
        std::mem::take(&mut lock(&self.notes).notes)
    }

    /// Whoever waits for the task that was submitted last begins it himself, if it is a quick one that asks for nothing and
    /// nobody has taken it. The note stays.
    pub fn claim(&self, task: TaskId) -> Option<Claim> {
        let mut notes = lock(&self.notes);
        if notes.notes.len() > AHEAD_MOST {
            return None;
        }
        let Some(Note::Submit { task: last, order, payload }) = notes.notes.last_mut() else { return None };
        let asks_for_nothing = **order == Order { kind: order.kind, ..Order::default() } && payload.timeout.is_none();
        if *last != task || payload.assigned.is_some() || !asks_for_nothing || !self.quick.knows(order.kind) {
            return None;
        }
        let now = Instant::now();
        payload.assigned = Some(now);
        // It is not tried again, so that nobody else needs them.
        let arguments = std::mem::take(&mut payload.arguments);
        Some(Claim { code: payload.code, arguments, queued: now - payload.submitted })
    }

    /// Who waits for this task may run it himself.
    pub fn help(&self, task: TaskId, slot: &Slot) {
        if help::may_help()
            && let Some(threads) = self.threads.get().and_then(Weak::upgrade)
        {
            threads.help(task, slot);
        }
    }

    /// A task waits for what this rank hears, and for what it has put down before.
    fn wake_from_a_long_sleep(&self) {
        let notes = lock(&self.notes);
        if notes.sleeps.is_some_and(|sleep| sleep.is_stocked) {
            self.wake(notes, Duration::ZERO);
        }
    }

    /// For the transport's thread: sleeps until there is a note, or for this long.
    pub fn sleep(&self, most: Duration, mood: Mood) {
        let mut notes = lock(&self.notes);
        if notes.notes.is_empty() {
            notes.sleeps = Some(Sleep { until: Instant::now() + most, is_stocked: mood == Mood::Stocked });
            let (mut notes, _) = self.came.wait_timeout(notes, most).unwrap_or_else(PoisonError::into_inner);
            notes.sleeps = None;
        }
    }

    /// Nobody takes notes any more. Gives the orders and the values that are left.
    pub fn end(&self, why: Option<&Error>) -> Vec<Note> {
        let mut notes = lock(&self.notes);
        notes.is_over = true;
        notes.why = notes.why.take().or_else(|| why.cloned());
        let left = std::mem::take(&mut notes.notes);
        drop(notes);
        let is_new = |note: &Note| matches!(note, Note::Submit { .. } | Note::Give { .. });
        let (new, old): (Vec<Note>, Vec<Note>) = left.into_iter().partition(is_new);
        old.into_iter().for_each(discard);
        new
    }

    /// Something has changed in slots.
    pub fn ring(&self) {
        let waiting = lock(&self.waiting);
        if *waiting > 0 {
            self.bell.notify_all();
        }
    }

    /// Waits until `look` finds something, or until the deadline. A task that waits gives its place to another one; if it is
    /// this one, it ends here where it is asked to stop.
    pub fn wait<R>(
        &self,
        task: Option<TaskId>,
        deadline: Option<Instant>,
        mut look: impl FnMut() -> Option<R>,
    ) -> Option<R> {
        stop_task_if_asked(task);
        if let Some(found) = look() {
            return Some(found);
        }
        let begun = Instant::now();
        let slow = self.slow.load(Ordering::Relaxed);
        let until = deadline.map_or(begun + LOOKING, |deadline| deadline.min(begun + LOOKING));
        while looks_first(slow) && Instant::now() < until {
            if let Some(found) = look() {
                self.slow.store(0, Ordering::Relaxed);
                return Some(found);
            }
            std::thread::yield_now();
        }
        let away = self.give_way();
        let found = self.wait_for_the_bell(task, deadline, look);
        self.slow.store(slow_waits(slow, begun.elapsed(), found.is_some()), Ordering::Relaxed);
        drop(away);
        stop_task_if_asked(task);
        found
    }

    /// While it lasts, another task may run in place of the one that this thread waits in, if it is in one.
    pub fn give_way(&self) -> Option<Away> {
        let may_be_in_one = rayon::current_thread_index().is_some() || is_in_a_task();
        let threads = self.threads.get().filter(|_| may_be_in_one).and_then(Weak::upgrade);
        let away = threads.as_ref().map(Threads::give_way)?;
        self.wake_from_a_long_sleep();
        Some(away)
    }

    fn wait_for_the_bell<R>(
        &self,
        task: Option<TaskId>,
        deadline: Option<Instant>,
        mut look: impl FnMut() -> Option<R>,
    ) -> Option<R> {
        let mut waiting = lock(&self.waiting);
        *waiting += 1;
        let found = loop {
            // Looked at while the bell cannot ring, so that no change is missed.
            if let Some(found) = look() {
                break Some(found);
            }
            if is_asked_to_stop(task) {
                break None;
            }
            waiting = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => break None,
                Some(most) => self.bell.wait_timeout(waiting, most).unwrap_or_else(PoisonError::into_inner).0,
                None => self.bell.wait(waiting).unwrap_or_else(PoisonError::into_inner),
            };
        };
        *waiting -= 1;
        found
    }
}

/// Whether it is worth looking, after so many waits in which it was not.
fn looks_first(slow: u32) -> bool {
    slow.is_multiple_of(LOOKS_AGAIN)
}

/// How many waits were too slow for who looks, after another one that took so long and has `found` something or not.
fn slow_waits(slow: u32, took: Duration, found: bool) -> u32 {
    if took > LOOKING {
        slow.wrapping_add(1)
    } else if found {
        0
    } else {
        slow
    }
}

/// Why there is no value when the pool is over: because of an error, or because it was not waited for.
pub(crate) fn over(error: Option<&Error>, name: &str) -> Error {
    error.cloned().unwrap_or_else(|| ErrorKind::PoolIsOver { task: name.to_owned() }.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::runner::Reader;

    #[test]
    fn who_waits_looks_where_answers_are_fast_and_seldom_where_they_are_slow() {
        let after = |slow, micros, found| slow_waits(slow, Duration::from_micros(micros), found);
        let slow = (0..31).fold(0, |slow, _| after(slow, 1000, true));
        assert_eq!(((1..=slow).filter(|slow| looks_first(*slow)).count(), looks_first(0)), (1, true));
        // Who gives up at once has learned nothing.
        assert_eq!((after(slow, 1, false), after(slow, 1000, false), after(slow, 10, true)), (slow, slow + 1, 0));
    }

    fn nothing(_: &mut Reader<'_>) -> Result<Made, Trouble> {
        Made::of(())
    }

    #[test]
    fn who_waits_begins_the_last_task_if_it_is_quick_asks_for_nothing_and_was_not_taken() {
        let code = Code::of(nothing).expect("it is of this program");
        let (quick, slow) = (Duration::from_micros(1), Duration::from_millis(1));
        let plain = || Order { kind: code.number(), ..Order::default() };
        let submit = |desk: &Desk, order: Order| {
            let payload = Payload::new("nothing".into(), code, vec![7], None);
            desk.submit(order, Box::new(payload)).expect("it is not over")
        };
        let desk = Desk::new(0);
        let first = submit(&desk, plain());
        assert!(desk.claim(first).is_none(), "nobody knows how long it takes");
        desk.quick.learn(code, quick);
        let second = submit(&desk, plain());
        assert!(desk.claim(first).is_none(), "it is not the last");
        assert_eq!(desk.claim(second).expect("it is quick").arguments, [7]);
        assert!(desk.claim(second).is_none(), "it was begun");
        let begun = |note: &Note| matches!(note, Note::Submit { payload, .. } if payload.assigned.is_some());
        assert_eq!(desk.take().iter().map(begun).collect::<Vec<_>>(), [false, true]);
        assert!(desk.claim(second).is_none(), "it was taken");
        for order in [Order { retries: 1, ..plain() }, Order { on: Some(1), ..plain() }, Order::default()] {
            let task = submit(&desk, order.clone());
            assert!(desk.claim(task).is_none(), "{order:?}");
        }
        desk.quick.learn(code, slow);
        let third = submit(&desk, plain());
        assert!(desk.claim(third).is_none(), "it takes too long");
        desk.quick.learn(code, quick);
        (0..AHEAD_MOST).for_each(|_| _ = submit(&desk, plain()));
        let last = submit(&desk, plain());
        assert!(desk.claim(last).is_none(), "rank 0 is far behind");
    }

    #[test]
    fn who_sleeps_is_woken_by_what_cannot_wait_so_long() {
        let (desk, long) = (Desk::new(0), Duration::from_secs(3600));
        let sleep = |time: Duration, is_stocked| {
            lock(&desk.notes).sleeps = Some(Sleep { until: Instant::now() + time, is_stocked });
        };
        let is_woken = || lock(&desk.notes).sleeps.is_none();
        let post = |leisure: Duration| desk.post_within(leisure, Note::Release(0)).expect("it is not over");
        let submit = || {
            let code = Code::of(nothing).expect("it is of this program");
            let payload = Payload::new("nothing".into(), code, Vec::new(), None);
            desk.submit(Order::default(), Box::new(payload)).expect("it is not over")
        };
        sleep(long, false);
        post(2 * long);
        assert!(!is_woken(), "it has more time than that");
        post(long / 2);
        assert!(is_woken());
        sleep(long, true);
        submit();
        assert!(is_woken(), "that is too long for an order");
        sleep(LATER, true);
        submit();
        assert!(!is_woken(), "everybody has work for longer");
        desk.wake_from_a_long_sleep();
        assert!(is_woken(), "a task waits");
        sleep(long, false);
        submit();
        assert!(is_woken(), "somebody may be without work");
        assert_eq!(desk.take().len(), 5);
    }

    #[test]
    fn tasks_that_ask_for_the_same_share_what_they_ask_for() {
        let (mut notes, urgent) = (Notes::default(), Order { priority: 1, ..Order::default() });
        let [first, second, third] =
            [Order::default(), Order::default(), urgent.clone()].map(|order| notes.share(order));
        assert!(Arc::ptr_eq(&first, &second) && *third == urgent);
    }
}
