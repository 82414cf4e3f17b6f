//! Whole computations in one call: a task for each tuple of arguments, and map-reduce.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Pool;
use super::encoded::Encoded;
use super::function::{Data, Function, Writer};
use super::remote::Remote;
use super::tree::Tree;
use crate::code::conjure;
use crate::error::{Error, ErrorKind, Result};
use crate::master::tasks::Order;
use crate::worker::runner::{Made, Reader, Trouble};

/// Tasks for each thread: enough that one which takes longer than others does not decide when all are done.
const TASKS: usize = 16;
/// So many of them at a time are under way for each thread.
const AHEAD: usize = 4;

impl Pool {
    /// One task for each tuple of arguments, in their order.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit).
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::World::local(2)?;
    /// let powers = world.pool(|pool| pool.gather(pool.starmap(u64::pow, [(2, 10), (3, 4), (10, 3)])?))?;
    /// assert_eq!(powers.unwrap()?, [1024, 81, 1000]);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn starmap<F, I, R, M>(&self, function: F, tuples: I) -> Result<Vec<Remote<R>>>
    where
        I: IntoIterator,
        F: Function<I::Item, R, M>,
        R: Data,
    {
        tuples.into_iter().map(|arguments| self.submit(function, arguments)).collect()
    }

    /// Maps every item and combines the values, in a fixed tree by position: neighbours first, then pairs with pairs, and
    /// so on. So the same bits come out on any number of ranks. Waits for the result.
    ///
    /// Each task gets as many items as leave every thread some tasks; partial values are combined where one of both is.
    /// Neither of the functions may capture anything. A combiner need not commute, and may round.
    ///
    /// # Errors
    ///
    /// There is no item; an item cannot be encoded; one of the functions panics; a rank is lost together with a partial
    /// value that it alone had; the pool is over.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::World::local(3)?;
    /// let sum = world.pool(|pool| pool.map_reduce(0..1000u64, |n| 1.0 / (1.0 + n as f64), |a, b| a + b))?;
    /// let other = rankfold::World::local(1)?.map_reduce(0..1000u64, |n| 1.0 / (1.0 + n as f64), |a, b| a + b)?;
    /// assert_eq!(sum.unwrap()?.to_bits(), other.to_bits());
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn map_reduce<I, T, F, C>(&self, items: I, mapper: F, combiner: C) -> Result<T>
    where
        I: IntoIterator,
        I::Item: Serialize + DeserializeOwned + 'static,
        T: Data,
        F: Fn(I::Item) -> T + Copy + Send + 'static,
        C: Fn(T, T) -> T + Copy + Send + 'static,
    {
        let _ = (mapper, combiner);
        const {
            assert!(
                size_of::<F>() == 0 && size_of::<C>() == 0,
                "functions for other ranks must not capture anything: make what they need a part of the items"
            );
        };
        let items = items.into_iter();
        match items.size_hint() {
            (least, Some(most)) if least == most => self.reduce::<_, T, F, C>(items, least),
            _ => {
                let items: Vec<I::Item> = items.collect();
                let count = items.len();
                self.reduce::<_, T, F, C>(items.into_iter(), count)
            }
        }
    }

    fn reduce<I, T, F, C>(&self, mut items: I, count: usize) -> Result<T>
    where
        I: Iterator,
        I::Item: Serialize + DeserializeOwned + 'static,
        T: Data,
        F: Fn(I::Item) -> T + Copy + Send + 'static,
        C: Fn(T, T) -> T + Copy + Send + 'static,
    {
        let length = length(count, self.total_threads());
        let combine = |left: Arc<Remote<T>>, right: Arc<Remote<T>>| -> Result<_> {
            let needs = |writer: &mut Writer| writer.need(&left).and_then(|()| writer.need(&right));
            let combined = Encoded::new(&self.desk, "the combiner of map_reduce", combined::<T, C>, needs)?;
            combined.submit(self, Order { priority: 1, ..Order::default() }).map(Arc::new)
        };
        let (mut tree, mut running) = (Tree::default(), VecDeque::new());
        loop {
            let some: Vec<I::Item> = items.by_ref().take(length).collect();
            if some.is_empty() {
                break;
            }
            let write = |writer: &mut Writer| writer.value(&some);
            let mapped = Encoded::new(&self.desk, "map_reduce", mapped::<I::Item, T, F, C>, write)?;
            let partial = Arc::new(mapped.submit::<T>(self, Order::default())?);
            running.push_back(Arc::clone(&partial));
            tree.push(partial, combine)?;
            if running.len() > AHEAD * self.total_threads() {
                running.pop_front().map_or(Ok(()), |oldest| oldest.wait())?;
            }
        }
        // A mapper's failure is told as such, and not as what a combiner needs.
        running.into_iter().try_for_each(|partial| partial.wait())?;
        let result = tree.finish(combine)?;
        let result = result.ok_or_else(|| Error::from(ErrorKind::EmptyInput { call: "map_reduce".into() }))?;
        Arc::into_inner(result).expect("nobody else has it").get().map_err(|error| error.root().clone())
    }
}

/// Items of one task: a power of two, so that whatever it is the tree is the same.
fn length(count: usize, threads: usize) -> usize {
    1 << (count / (TASKS * threads)).max(1).ilog2()
}

/// Maps some items, and combines what comes of them.
fn mapped<I, T, F, C>(reader: &mut Reader<'_>) -> Result<Made, Trouble>
where
    I: DeserializeOwned,
    T: Data,
    F: Fn(I) -> T + Copy + 'static,
    C: Fn(T, T) -> T + Copy + 'static,
{
    let items: Vec<I> = reader.value()?;
    let (mapper, combiner) = (conjure::<F>(), conjure::<C>());
    let combine = |left, right| Ok::<T, Infallible>(combiner(left, right));
    let mut tree = Tree::default();
    for item in items {
        let Ok(()) = tree.push(mapper(item), combine);
    }
    let Ok(value) = tree.finish(combine);
    Made::of(value.ok_or_else(|| Trouble::Internal("a task of map_reduce came without items".into()))?)
}

/// Combines two partial values.
fn combined<T: Data, C: Fn(T, T) -> T + Copy + 'static>(reader: &mut Reader<'_>) -> Result<Made, Trouble> {
    let (left, right) = (reader.copy()?, reader.copy()?);
    Made::of(conjure::<C>()(left, right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_gets_some_tasks_as_long_as_there_are_items() {
        assert_eq!([0, 1, 31, 32, 1000].map(|count| length(count, 1)), [1, 1, 1, 2, 32]);
        assert_eq!(length(1 << 30, 8), 1 << 23);
    }
}
