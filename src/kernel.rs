//! The operations of the fluent form as kernels: how a run of items becomes a partial.

use std::marker::PhantomData;

use crate::error::Role;
use crate::source::Source;
use crate::worker::compute::{At, Kernel, Runs};

/// `map_reduce`: each item mapped, the values of a leaf combined from left to right.
pub(crate) struct MapReduce<M, C, T> {
    pub mapper: M,
    pub combiner: C,
    pub partial: PhantomData<fn() -> T>,
}

impl<S, M, C, T> Kernel<S> for MapReduce<M, C, T>
where
    S: Source,
    M: Fn(S::Item) -> T + Sync,
    C: Fn(T, T) -> T + Sync,
    T: Send,
{
    type Partial = T;
    const RUNS: Runs = Runs::Leaf;

    fn fold(&self, items: S::Batch, at: &At<'_>) -> Option<T> {
        Kernel::<S>::fold_some(self, items.into_iter(), at)
    }

    fn fold_some(&self, mut items: impl Iterator<Item = S::Item>, at: &At<'_>) -> Option<T> {
        let mut value = (self.mapper)(items.next()?);
        for item in items {
            if !at.goes_on() {
                break;
            }
            let next = (self.mapper)(item);
            at.role.set(Role::Combiner);
            value = (self.combiner)(value, next);
            at.role.set(Role::Mapper);
        }
        Some(value)
    }

    fn combine(&self, left: T, right: T) -> T {
        (self.combiner)(left, right)
    }
}

/// `fold`: each leaf's items go into one accumulator.
pub(crate) struct Fold<I, F, C> {
    pub init: I,
    pub step: F,
    pub combiner: C,
}

impl<S, I, F, C, A> Kernel<S> for Fold<I, F, C>
where
    S: Source,
    I: Fn() -> A + Sync,
    F: Fn(A, S::Item) -> A + Sync,
    C: Fn(A, A) -> A + Sync,
    A: Send,
{
    type Partial = A;
    const RUNS: Runs = Runs::Leaf;

    fn fold(&self, items: S::Batch, at: &At<'_>) -> Option<A> {
        Kernel::<S>::fold_some(self, items.into_iter(), at)
    }

    fn fold_some(&self, items: impl Iterator<Item = S::Item>, at: &At<'_>) -> Option<A> {
        let mut value = (self.init)();
        for item in items {
            value = (self.step)(value, item);
            if !at.goes_on() {
                break;
            }
        }
        Some(value)
    }

    fn combine(&self, left: A, right: A) -> A {
        (self.combiner)(left, right)
    }
}

/// `map`: the values of all items, in order. Joining lists is exactly associative, so any run will do.
pub(crate) struct Map<F, R> {
    pub mapper: F,
    pub value: PhantomData<fn() -> R>,
}

impl<S, F, R> Kernel<S> for Map<F, R>
where
    S: Source,
    F: Fn(S::Item) -> R + Sync,
    R: Send,
{
    type Partial = Vec<R>;
    const RUNS: Runs = Runs::Any;

    fn fold(&self, items: S::Batch, at: &At<'_>) -> Option<Vec<R>> {
        Kernel::<S>::fold_some(self, items.into_iter(), at)
    }

    fn fold_some(&self, items: impl Iterator<Item = S::Item>, at: &At<'_>) -> Option<Vec<R>> {
        let mut values = Vec::with_capacity(items.size_hint().0);
        for item in items {
            values.push((self.mapper)(item));
            if !at.goes_on() {
                break;
            }
        }
        Some(values)
    }

    fn combine(&self, mut left: Vec<R>, right: Vec<R>) -> Vec<R> {
        left.extend(right);
        left
    }
}

/// `for_each`: nothing is kept.
pub(crate) struct ForEach<F> {
    pub action: F,
}

impl<S, F> Kernel<S> for ForEach<F>
where
    S: Source,
    F: Fn(S::Item) + Sync,
{
    type Partial = ();
    const RUNS: Runs = Runs::Any;

    fn fold(&self, items: S::Batch, at: &At<'_>) -> Option<()> {
        Kernel::<S>::fold_some(self, items.into_iter(), at)
    }

    fn fold_some(&self, items: impl Iterator<Item = S::Item>, at: &At<'_>) -> Option<()> {
        for item in items {
            (self.action)(item);
            if !at.goes_on() {
                break;
            }
        }
        Some(())
    }

    fn combine(&self, (): (), (): ()) {}
}

/// `map_batches`: the function sees a whole batch.
pub(crate) struct Batches<F, C, T> {
    pub mapper: F,
    pub combiner: C,
    pub partial: PhantomData<fn() -> T>,
}

impl<S, F, C, T> Kernel<S> for Batches<F, C, T>
where
    S: Source,
    F: Fn(S::Batch) -> T + Sync,
    C: Fn(T, T) -> T + Sync,
    T: Send,
{
    type Partial = T;
    const RUNS: Runs = Runs::Batch;

    fn fold(&self, items: S::Batch, _at: &At<'_>) -> Option<T> {
        Some((self.mapper)(items))
    }

    fn fold_some(&self, _: impl Iterator<Item = S::Item>, _: &At<'_>) -> Option<T> {
        unreachable!("the function was promised whole batches")
    }

    fn combine(&self, left: T, right: T) -> T {
        (self.combiner)(left, right)
    }
}

/// `fold_batches`: one accumulator for a whole batch, of which the function sees one piece at a time.
pub(crate) struct FoldBatches<I, F, C> {
    pub init: I,
    pub step: F,
    pub combiner: C,
}

impl<S, I, F, C, A> Kernel<S> for FoldBatches<I, F, C>
where
    S: Source,
    I: Fn() -> A + Sync,
    F: Fn(A, S::Batch) -> A + Sync,
    C: Fn(A, A) -> A + Sync,
    A: Send,
{
    type Partial = A;
    const RUNS: Runs = Runs::Pieces;

    fn fold(&self, items: S::Batch, _at: &At<'_>) -> Option<A> {
        Some((self.step)((self.init)(), items))
    }

    fn fold_on(&self, before: A, items: S::Batch, _at: &At<'_>) -> Option<A> {
        Some((self.step)(before, items))
    }

    fn fold_some(&self, _: impl Iterator<Item = S::Item>, _: &At<'_>) -> Option<A> {
        unreachable!("the function was promised whole batches")
    }

    fn combine(&self, left: A, right: A) -> A {
        (self.combiner)(left, right)
    }
}
