//! A value that lives, or will live, on some rank.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::desk::{Desk, Note, Timing};
use super::function::Data;
use super::handle::Handle;
use super::slot::{Slot, Then};
use crate::error::{Error, Result};
use crate::master::tasks::TaskId;
use crate::worker::kept::{Kept, Unfit};

/// A handle on the value of a task, wherever that is made and kept.
///
/// `&remote` is an argument for other tasks, which run where the value is; [`get`](Self::get) brings it here. Dropping it
/// says that nobody wants the value: a task that has not begun does not run, unless another needs it, and a value is
/// forgotten. Use [`detach`](Self::detach) for tasks that are run for their effect.
///
/// # Examples
///
/// ```
/// # let world = rankfold::World::local(2)?;
/// let length = world.pool(|pool| {
///     let words = pool.submit(|text: String| text.split(' ').map(str::to_owned).collect::<Vec<_>>(), ("a b c".to_owned(),))?;
///     pool.submit(|words: &[String]| words.len(), (&words,))?.get()
/// })?;
/// assert_eq!(length.unwrap()?, 3);
/// # Ok::<(), rankfold::Error>(())
/// ```
#[must_use = "dropping a remote cancels its task; `detach` lets it run"]
pub struct Remote<T> {
    handle: Handle,
    /// What the value is.
    kind: PhantomData<fn() -> T>,
}

impl<T: Data> Remote<T> {
    pub(crate) fn of(handle: Handle) -> Self {
        Self { handle, kind: PhantomData }
    }

    /// Waits for the value and brings it here. The value is moved out of the pool; only where another task reads it still
    /// is it copied.
    ///
    /// Where the program waits for the task that it has submitted last (also in [`wait`](Self::wait) and
    /// [`fetch`](Self::fetch)), and that function was quick the last time (20 µs), its own thread may run the task, in place
    /// of one of rank 0's: handing it over would take longer. So it may see thread-locals of the program's, also those
    /// that the program has borrowed around this call, and what is parallel inside of it runs on rayon's global pool. A task
    /// that asks for something ([options](crate::Task), inputs) goes to a thread of a rank at all times: `pool.task().on(0)`.
    ///
    /// # Errors
    ///
    /// The task panicked, was cancelled, or needs a value that there is not; its rank is lost; or the value cannot be
    /// encoded. Other tasks are not touched by it.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::World::local(2)?;
    /// let error = world.pool(|pool| pool.submit(|n: u32| 7 / n, (0,))?.get())?.unwrap().unwrap_err();
    /// assert!(error.to_string().contains("divide by zero"), "{error}");
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn get(self) -> Result<T> {
        let value = self.handle.bring(true)?;
        self.slot().let_go();
        value.take().map_err(|unfit| self.unfit(unfit))
    }

    /// A copy of the value, which stays where it is as well.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::World::local(2)?;
    /// world.pool(|pool| {
    ///     let n = pool.submit(|n: u32| n + 1, (1,))?;
    ///     assert_eq!((n.fetch()?, n.fetch()?), (2, 2));
    ///     Ok::<_, rankfold::Error>(())
    /// })?.unwrap()?;
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn fetch(&self) -> Result<T> {
        let value = self.handle.bring(false)?;
        let mut bytes = Vec::new();
        value.write(&mut bytes).map_err(|unfit| self.unfit(unfit))?;
        Arc::new(Kept::bytes(bytes, 0)).take().map_err(|unfit| self.unfit(unfit))
    }

    /// Asks for the value, once.
    pub(super) fn ask(&self, taken: bool) {
        self.handle.ask(taken);
    }

    fn unfit(&self, unfit: Unfit) -> Error {
        unfit.into_error(&self.handle.name, &self.handle.places[0])
    }
}

impl<T> Remote<T> {
    /// Waits for the end of the task, and leaves the value where it is.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::World::local(2)?;
    /// world.pool(|pool| {
    ///     let big = pool.submit(|n: usize| vec![0.5; n], (1_000_000,))?;
    ///     big.wait()?;                                                          // its eight megabytes have not moved
    ///     pool.submit(|xs: &[f64]| xs.iter().sum::<f64>(), (&big,))?.get()
    /// })?.unwrap()?;
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn wait(&self) -> Result<()> {
        self.handle.wait()
    }

    /// As [`wait`](Self::wait), for so long at most; whether the task has come to its end.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// # let world = rankfold::World::local(2)?;
    /// world.pool(|pool| {
    ///     let slow = pool.submit(|ms: u64| std::thread::sleep(Duration::from_millis(ms)), (300,))?;
    ///     assert!(!slow.wait_for(Duration::from_millis(1))?);
    ///     slow.wait()
    /// })?.unwrap()?;
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn wait_for(&self, most: Duration) -> Result<bool> {
        let Handle { slot, desk, within, .. } = &self.handle;
        let _watch = slot.watch();
        // A time without end is none.
        match desk.wait(*within, Instant::now().checked_add(most), || slot.outcome()) {
            Some(outcome) => outcome.map(|()| true),
            None => Ok(false),
        }
    }

    /// Whether the task has come to its end, well or not.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::World::local(2)?;
    /// world.pool(|pool| {
    ///     let n = pool.submit(|n: u32| n + 1, (1,))?;
    ///     while !n.is_done() { std::thread::yield_now() }
    ///     n.get()
    /// })?.unwrap()?;
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.slot().is_settled()
    }

    /// What the task took, if it has come to a good end.
    ///
    /// # Examples
    ///
    /// See [`Timing`].
    #[must_use]
    pub fn timing(&self) -> Option<Timing> {
        self.slot().timing()
    }

    /// Asks for the task not to be run. One that has begun ends when it next waits for another task, or comes to
    /// [`stop_if_asked`](crate::stop_if_asked); it is not interrupted before. Whoever waits for it, or needs it, gets an
    /// error if it does not come to its end.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::World::local(1)?;
    /// world.pool(|pool| {
    ///     let waits = pool.submit(|_: &u32| 1u32, (&pool.submit(|n: u32| n, (1,))?,))?;
    ///     waits.cancel();
    ///     waits.wait().ok(); // an error, if that came before it began
    ///     Ok::<_, rankfold::Error>(())
    /// })?.unwrap()?;
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn cancel(&self) {
        self.handle.cancel();
    }

    /// Lets the task run for its effect: nobody wants its value, and an error in it is told on standard error. The pool
    /// waits for it before it ends.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::World::local(2)?;
    /// world.pool(|pool| pool.submit(|line: String| eprintln!("{line}"), ("hello".to_owned(),)).map(|task| task.detach()))?.unwrap()?;
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn detach(self) {
        self.slot().detach();
        let _ = self.handle.desk.post(Note::Detach(self.task()));
        // What else dropping does comes after that, and changes nothing.
    }

    /// Calls a function when the task has come to its end: at once if it has, else on a thread that calls one after the
    /// other. If the remote is dropped before, nobody is interested any more, and it is not called; it is if the task is
    /// [detached](Self::detach).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::mpsc::channel;
    /// # let world = rankfold::World::local(2)?;
    /// world.pool(|pool| {
    ///     let (sender, receiver) = channel();
    ///     let n = pool.submit(|n: u32| n + 1, (1,))?;
    ///     n.on_done(move || sender.send("done").unwrap());
    ///     assert_eq!(receiver.recv().unwrap(), "done");
    ///     n.get()
    /// })?.unwrap()?;
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn on_done(&self, callback: impl FnOnce() + Send + 'static) {
        self.slot().then(Then::Call(Box::new(callback)));
    }

    pub(crate) fn task(&self) -> TaskId {
        self.handle.task
    }

    pub(super) fn name(&self) -> &str {
        &self.handle.name
    }

    pub(crate) fn is_of(&self, desk: &Arc<Desk>) -> bool {
        Arc::ptr_eq(&self.handle.desk, desk)
    }

    pub(crate) fn slot(&self) -> &Slot {
        &self.handle.slot
    }
}

impl<T> fmt::Debug for Remote<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (task, is_done) = (self.task(), self.is_done());
        f.debug_struct("Remote")
            .field("task", &task)
            .field("name", &self.name())
            .field("is_done", &is_done)
            .finish_non_exhaustive()
    }
}

impl<T: Data> IntoFuture for Remote<T> {
    type Output = Result<T>;
    type IntoFuture = Getting<T>;

    fn into_future(self) -> Getting<T> {
        Getting(Some(self))
    }
}

/// The value of a [`Remote`], awaited: for programs with an executor of their own.
///
/// # Examples
///
/// ```
/// use std::task::{Context, Poll, Waker};
///
/// # let world = rankfold::World::local(2)?;
/// let value = world.pool(|pool| {
///     let mut getting = std::pin::pin!(std::future::IntoFuture::into_future(pool.submit(|n: u32| n + 1, (1,))?));
///     loop {
///         match getting.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
///             Poll::Ready(value) => return value,
///             Poll::Pending => std::thread::yield_now(),
///         }
///     }
/// })?;
/// assert_eq!(value.unwrap()?, 2);
/// # Ok::<(), rankfold::Error>(())
/// ```
#[derive(Debug)]
pub struct Getting<T>(Option<Remote<T>>);

impl<T: Data> Future for Getting<T> {
    type Output = Result<T>;

    /// # Panics
    ///
    /// If it is polled again after it was ready.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let remote = self.0.as_ref().expect("a future is not polled after its end");
        remote.ask(true);
        if remote.slot().value().is_none() {
            remote.slot().then(Then::Wake(context.waker().clone()));
            return Poll::Pending;
        }
        Poll::Ready(self.0.take().expect("it was here").get())
    }
}
