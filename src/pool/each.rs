//! One task for each item of an input that may have no end.

use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;

use super::Pool;
use super::function::{Data, Function};
use super::remote::Remote;
use crate::error::{ErrorKind, Result};

/// Tasks under way for each thread of the ranks: enough for the shortest to travel many at a time.
const AHEAD: usize = 256;

/// The values of one task for each item, in the order of the items; made by [`Pool::each`].
///
/// Items are taken from the input as values are taken from here, so that an input without end needs no more memory than a
/// short one.
///
/// # Examples
///
/// ```
/// # let world = rankfold::World::local(2)?;
/// let found = world.pool(|pool| {
///     let mut squares = pool.each(|n: u64| n * n, 1..); // all there are
///     squares.find(|square| square.as_ref().is_ok_and(|square| square % 1000 == 444))
/// })?;
/// assert_eq!(found.unwrap().unwrap()?, 1444);
/// # Ok::<(), rankfold::Error>(())
/// ```
pub struct Each<'p, I, F, R, M> {
    pool: &'p Pool,
    function: F,
    items: I,
    running: VecDeque<Result<Remote<R>>>,
    most: usize,
    /// The pool is: no more items are taken.
    is_over: bool,
    kind: PhantomData<fn() -> M>,
}

impl<'p, I, F, R, M> Each<'p, I, F, R, M> {
    pub(super) fn new(pool: &'p Pool, function: F, items: I) -> Self {
        let most = AHEAD * pool.total_threads();
        Self { pool, function, items, running: VecDeque::new(), most, is_over: false, kind: PhantomData }
    }
}

impl<I, F, R, M> Iterator for Each<'_, I, F, R, M>
where
    I: Iterator,
    F: Function<(I::Item,), R, M>,
    R: Data,
{
    type Item = Result<R>;

    fn next(&mut self) -> Option<Result<R>> {
        while self.running.len() < self.most && !self.is_over {
            let Some(item) = self.items.next() else { break };
            let submitted = self.pool.submit(self.function, (item,));
            self.is_over |= submitted.as_ref().is_err_and(|error| matches!(error.kind(), ErrorKind::PoolIsOver { .. }));
            self.running.push_back(submitted);
        }
        self.running.pop_front().map(|submitted| submitted.and_then(Remote::get))
    }
}

impl<I, F, R, M> fmt::Debug for Each<'_, I, F, R, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Each").field("running", &self.running.len()).finish_non_exhaustive()
    }
}
