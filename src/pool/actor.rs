//! Actors: a state that stays on one rank, and calls that use it one after the other.

use std::any::type_name;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use super::encoded::Encoded;
use super::function::{Argument, Data, Refused, Writer, arities, write_all};
use super::handle::Handle;
use super::remote::Remote;
use super::task::Task;
use crate::code::{Entry, conjure};
use crate::error::Result;
use crate::master::tasks::{Order, TaskId};
use crate::worker::caught::catch;
use crate::worker::runner::{Made, Trouble};

/// A handle on a state of type `S`, which lives on one rank; made by [`Pool::actor`](crate::Pool::actor) or
/// [`Task::actor`].
///
/// Its calls run one after the other, in the order in which they were submitted; calls of different actors run at the same
/// time. The state is any type that can be sent to another thread, and never travels. It is dropped with the last handle,
/// when all calls have run. Where nothing else is asked for, an actor begins on the rank that has the fewest.
///
/// A call that panics may leave the state half changed, so it ends the actor: later calls fail with that as the cause, or
/// the actor begins anew, from what it was made of, as often as [`Task::restarts`] says. So it is where its rank is lost.
///
/// # Examples
///
/// ```
/// struct Account { cents: i64 }
///
/// impl Account {
///     fn open(cents: i64) -> Self { Self { cents } }
///     fn add(&mut self, cents: i64) -> i64 { self.cents += cents; self.cents }
/// }
///
/// # let world = rankfold::World::local(2)?;
/// let balance = world.pool(|pool| {
///     let account = pool.actor(Account::open, (100,))?;
///     for cents in [20, -50] {
///         account.call(Account::add, (cents,))?.detach();
///     }
///     account.call(|account: &mut Account| account.cents, ())?.get()
/// })?;
/// assert_eq!(balance.unwrap()?, 70);
/// # Ok::<(), rankfold::Error>(())
/// ```
pub struct Actor<S> {
    held: Arc<Held>,
    kind: PhantomData<fn() -> S>,
}

/// What all handles on an actor share.
struct Held {
    handle: Handle,
    priority: i32,
    timeout: Option<Duration>,
    around: (Option<TaskId>, u32),
}

impl<S> Clone for Actor<S> {
    fn clone(&self) -> Self {
        Self { held: Arc::clone(&self.held), kind: PhantomData }
    }
}

impl<S> fmt::Debug for Actor<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Actor")
            .field("task", &self.held.handle.task)
            .field("name", &self.held.handle.name)
            .finish_non_exhaustive()
    }
}

impl<S: Send + 'static> Actor<S> {
    /// Has a function run on the actor's state, after all calls that were submitted before. Returns at once.
    ///
    /// The function gets the state as `&mut S`, and then its arguments as a task does: values, and `&Remote`s.
    ///
    /// # Errors
    ///
    /// As [`Pool::submit`](crate::Pool::submit). A call of an actor that is dead is an error of the [`Remote`].
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::World::local(2)?;
    /// let error = world.pool(|pool| {
    ///     let list = pool.task().named("list").actor(Vec::<u32>::new, ())?;
    ///     list.call(|list: &mut Vec<u32>, n: u32| list.push(n), (7,))?.wait()?;
    ///     let bad = list.call(|list: &mut Vec<u32>, at: usize| list[at], (3,))?;
    ///     let after = list.call(|list: &mut Vec<u32>| list.len(), ())?;
    ///     Ok::<_, rankfold::Error>((bad.get().unwrap_err(), after.get().unwrap_err()))
    /// })?.unwrap()?;
    /// assert!(error.0.to_string().contains("list, ") && error.0.to_string().contains("index is 3"), "{}", error.0);
    /// assert!(error.1.to_string().contains("index is 3"), "{}", error.1); // the actor is dead
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[expect(clippy::needless_pass_by_value, reason = "the type of the method is what counts")]
    pub fn call<F, A, R, M>(&self, method: F, arguments: A) -> Result<Remote<R>>
    where
        F: Method<S, A, R, M>,
        R: Data,
    {
        let _ = method;
        const {
            assert!(
                size_of::<F>() == 0,
                "a function for other ranks must not capture anything: pass it as an argument instead"
            );
        };
        let Held { handle: Handle { task, desk, name, places, .. }, priority, timeout, around } = &*self.held;
        let name = format!("{name}, {}", type_name::<F>());
        let encoded = Encoded::new(desk, name, F::entry(), |writer| {
            writer.needs.push(*task);
            F::write(&arguments, writer)
        })?;
        // They keep their order, so that all are of one priority.
        let order = Order { actor: Some(*task), priority: *priority, ..Order::default() };
        let mut prepared = encoded.prepare(*around, order);
        prepared.payload.timeout = *timeout;
        prepared.post(desk, places).map(Remote::of)
    }

    /// Waits until the actor is there.
    ///
    /// # Errors
    ///
    /// Making its state has panicked, or needs a value that there is not.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::World::local(2)?;
    /// let error = world.pool(|pool| pool.actor(|n: u32| 1 / n, (0,))?.wait())?.unwrap().unwrap_err();
    /// assert!(error.to_string().contains("divide by zero"), "{error}");
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn wait(&self) -> Result<()> {
        self.held.handle.wait()
    }
}

impl Task<'_> {
    /// As [`Pool::actor`](crate::Pool::actor), with what was asked for: [`restarts`](Self::restarts), a place, resources,
    /// which it keeps as long as it lives; its [`timeout`](Self::timeout) and [`priority`](Self::priority) are those of each
    /// call as well, and one that takes longer ends the actor as a panic does. [`retries`](Self::retries) are of the making of
    /// its state.
    ///
    /// # Errors
    ///
    /// As [`Pool::submit`](crate::Pool::submit).
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::World::local(3)?;
    /// let rank = world.pool(|pool| {
    ///     let there = pool.task().on(2).actor(|| 0u32, ())?;
    ///     let call = there.call(|n: &mut u32| { *n += 1; *n }, ())?;
    ///     call.wait()?;
    ///     Ok::<_, rankfold::Error>(call.timing().map(|timing| timing.rank))
    /// })?.unwrap()?;
    /// assert_eq!(rank, Some(2));
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[expect(clippy::needless_pass_by_value, reason = "the type of the function is what counts")]
    pub fn actor<F, A, S, M>(&self, make: F, arguments: A) -> Result<Actor<S>>
    where
        F: Maker<A, S, M>,
        S: Send + 'static,
    {
        let _ = make;
        const {
            assert!(
                size_of::<F>() == 0,
                "a function for other ranks must not capture anything: pass it as an argument instead"
            );
        };
        let pool = self.pool;
        let name = self.name_or(type_name::<S>());
        let mut prepared =
            self.prepare(Encoded::new(&pool.desk, name, F::entry(), |writer| F::write(&arguments, writer))?);
        prepared.order.restarts = Some(self.restarts);
        prepared.payload.may_run_again = true;
        let (priority, timeout, around) = (prepared.order.priority, prepared.payload.timeout, pool.around());
        let held = Held { handle: prepared.post(&pool.desk, &pool.places)?, priority, timeout, around };
        Ok(Actor { held: Arc::new(held), kind: PhantomData })
    }
}

/// A function that makes the state of an actor, on any rank: one without captures, of up to eight parameters.
pub trait Maker<A, S, M>: Copy + Send + 'static {
    #[doc(hidden)]
    fn write(arguments: &A, writer: &mut Writer) -> Result<(), Refused>;
    #[doc(hidden)]
    fn entry() -> Entry;
}

/// A function that an actor's state can be used with: one without captures, whose first parameter is `&mut S`, and of up to
/// eight further ones.
pub trait Method<S, A, R, M>: Copy + Send + 'static {
    #[doc(hidden)]
    fn write(arguments: &A, writer: &mut Writer) -> Result<(), Refused>;
    #[doc(hidden)]
    fn entry() -> Entry;
}

macro_rules! of_actors {
    ($($argument:ident $parameter:ident $kind:ident $held:ident)*) => {
        const _: () = {
            impl<F, S, $($argument, $parameter, $kind,)*>
                Maker<($($argument,)*), S, (fn($($parameter,)*), $($kind,)*)> for F
            where
                F: Fn($($parameter,)*) -> S + for<'h> Fn($($argument::Lent<'h>,)*) -> S + Copy + Send + 'static,
                S: Send + 'static,
                $($argument: Argument<$parameter, $kind>,)*
            {
                fn write(arguments: &($($argument,)*), writer: &mut Writer) -> Result<(), Refused> {
                    write_all!(arguments writer $($held)*)
                }

                fn entry() -> Entry {
                    |reader| {
                        let _ = &reader;
                        $(let mut $held = <$argument as Argument<$parameter, $kind>>::read(reader)?;)*
                        let make = conjure::<F>();
                        let made = catch(|| make($(<$argument as Argument<$parameter, $kind>>::lend(&mut $held),)*));
                        made.map(|state| Made::State(Box::new(state))).map_err(Trouble::Panicked)
                    }
                }
            }

            impl<F, S, R, $($argument, $parameter, $kind,)*>
                Method<S, ($($argument,)*), R, (fn($($parameter,)*), $($kind,)*)> for F
            where
                F: Fn(&mut S, $($parameter,)*) -> R
                    + for<'s, 'h> Fn(&'s mut S, $($argument::Lent<'h>,)*) -> R
                    + Copy
                    + Send
                    + 'static,
                S: Send + 'static,
                R: Data,
                $($argument: Argument<$parameter, $kind>,)*
            {
                fn write(arguments: &($($argument,)*), writer: &mut Writer) -> Result<(), Refused> {
                    write_all!(arguments writer $($held)*)
                }

                fn entry() -> Entry {
                    |reader| {
                        let state = reader.state::<S>()?;
                        $(let mut $held = <$argument as Argument<$parameter, $kind>>::read(reader)?;)*
                        let method = conjure::<F>();
                        let result =
                            catch(|| method(state, $(<$argument as Argument<$parameter, $kind>>::lend(&mut $held),)*));
                        reader.make(result.map_err(Trouble::Panicked)?)
                    }
                }
            }
        };
    };
}

arities!(of_actors);
