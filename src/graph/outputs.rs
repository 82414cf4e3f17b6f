//! What is asked for of a graph: nodes in any shape, and values, remotes or results in the same shape.

use super::node::Node;
use crate::error::Result;
use crate::pool::function::Data;
use crate::pool::remote::Remote;

/// Nodes whose values are wanted: one, or a tuple, `Vec`, slice, array or `Option` of such, as deep as one likes. What comes
/// back has the same shape.
///
/// # Examples
///
/// ```
/// # let world = rankfold::World::local(2)?;
/// let mut graph = rankfold::Graph::new();
/// let one = graph.add(|| 1u32, ())?;
/// let more = (2..5).map(|n| graph.add(|n: u32| n, (n,))).collect::<rankfold::Result<Vec<_>>>()?;
/// let text = graph.add(|| "text".to_owned(), ())?;
/// let values = world.pool(|pool| graph.run(pool, (&one, &more, [Some((&text, &one)), None])))?.unwrap()?;
/// assert_eq!(values, (1, vec![2, 3, 4], [Some(("text".to_owned(), 1)), None]));
/// # Ok::<(), rankfold::Error>(())
/// ```
pub trait Outputs {
    /// The same shape of something else than nodes: [`Values`], [`Remotes`] or [`Results`].
    type Of<W: Wrap>;

    /// Shows each node: the number of its graph, and its own.
    #[doc(hidden)]
    fn visit(&self, see: &mut dyn FnMut(u64, usize));

    /// Puts something in the place of each node, in order.
    #[doc(hidden)]
    fn fill<W: Wrap>(&self, source: &mut impl Source<W>) -> Result<Self::Of<W>>;
}

/// What stands in the place of a node.
#[doc(hidden)]
pub trait Wrap {
    type Item<T: Data>;
}

/// Where it comes from.
#[doc(hidden)]
pub trait Source<W: Wrap> {
    fn item<T: Data>(&mut self, node: &Node<T>) -> Result<W::Item<T>>;
}

/// In the place of a `Node<T>` comes a `T`: see [`Graph::run`](crate::Graph::run).
///
/// # Examples
///
/// See [`Outputs`].
#[derive(Debug)]
pub enum Values {}

/// In the place of a `Node<T>` comes a `Remote<T>`: see [`Graph::submit`](crate::Graph::submit).
///
/// # Examples
///
/// See [`Graph::submit`](crate::Graph::submit).
#[derive(Debug)]
pub enum Remotes {}

/// In the place of a `Node<T>` comes a `Result<T>`: see [`Graph::keep_going`](crate::Graph::keep_going).
///
/// # Examples
///
/// See [`Graph::keep_going`](crate::Graph::keep_going).
#[derive(Debug)]
pub enum Results {}

impl Wrap for Values {
    type Item<T: Data> = T;
}

impl Wrap for Remotes {
    type Item<T: Data> = Remote<T>;
}

impl Wrap for Results {
    type Item<T: Data> = Result<T>;
}

impl<T: Data> Outputs for Node<T> {
    type Of<W: Wrap> = W::Item<T>;

    fn visit(&self, see: &mut dyn FnMut(u64, usize)) {
        see(self.graph, self.number);
    }

    fn fill<W: Wrap>(&self, source: &mut impl Source<W>) -> Result<W::Item<T>> {
        source.item(self)
    }
}

impl<O: Outputs + ?Sized> Outputs for &O {
    type Of<W: Wrap> = O::Of<W>;

    fn visit(&self, see: &mut dyn FnMut(u64, usize)) {
        (**self).visit(see);
    }

    fn fill<W: Wrap>(&self, source: &mut impl Source<W>) -> Result<O::Of<W>> {
        (**self).fill(source)
    }
}

impl<O: Outputs> Outputs for [O] {
    type Of<W: Wrap> = Vec<O::Of<W>>;

    fn visit(&self, see: &mut dyn FnMut(u64, usize)) {
        self.iter().for_each(|part| part.visit(see));
    }

    fn fill<W: Wrap>(&self, source: &mut impl Source<W>) -> Result<Vec<O::Of<W>>> {
        self.iter().map(|part| part.fill(source)).collect()
    }
}

impl<O: Outputs> Outputs for Vec<O> {
    type Of<W: Wrap> = Vec<O::Of<W>>;

    fn visit(&self, see: &mut dyn FnMut(u64, usize)) {
        self.as_slice().visit(see);
    }

    fn fill<W: Wrap>(&self, source: &mut impl Source<W>) -> Result<Vec<O::Of<W>>> {
        self.as_slice().fill(source)
    }
}

impl<O: Outputs, const N: usize> Outputs for [O; N] {
    type Of<W: Wrap> = [O::Of<W>; N];

    fn visit(&self, see: &mut dyn FnMut(u64, usize)) {
        self.as_slice().visit(see);
    }

    fn fill<W: Wrap>(&self, source: &mut impl Source<W>) -> Result<[O::Of<W>; N]> {
        let all = self.as_slice().fill(source)?;
        Ok(all.try_into().unwrap_or_else(|_| unreachable!("there is one for each")))
    }
}

impl<O: Outputs> Outputs for Option<O> {
    type Of<W: Wrap> = Option<O::Of<W>>;

    fn visit(&self, see: &mut dyn FnMut(u64, usize)) {
        self.iter().for_each(|part| part.visit(see));
    }

    fn fill<W: Wrap>(&self, source: &mut impl Source<W>) -> Result<Option<O::Of<W>>> {
        self.as_ref().map(|part| part.fill(source)).transpose()
    }
}

macro_rules! tuple {
    ($($part:ident $name:ident)*) => {
        impl<$($part: Outputs),*> Outputs for ($($part,)*) {
            type Of<W: Wrap> = ($($part::Of<W>,)*);

            fn visit(&self, see: &mut dyn FnMut(u64, usize)) {
                let _ = &see;
                let ($($name,)*) = self;
                $($name.visit(see);)*
            }

            #[allow(clippy::unused_unit, reason = "a tuple of none")]
            fn fill<W: Wrap>(&self, source: &mut impl Source<W>) -> Result<($($part::Of<W>,)*)> {
                let _ = &source;
                let ($($name,)*) = self;
                Ok(($($name.fill(source)?,)*))
            }
        }
    };
}

tuple!();
tuple!(A a);
tuple!(A a B b);
tuple!(A a B b C c);
tuple!(A a B b C c D d);
tuple!(A a B b C c D d E e);
tuple!(A a B b C c D d E e F f);
tuple!(A a B b C c D d E e F f G g);
tuple!(A a B b C c D d E e F f G g H h);
