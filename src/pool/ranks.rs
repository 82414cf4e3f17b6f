//! Direct control of the ranks: values put where they are wanted, something done once on each.

use std::collections::VecDeque;
use std::sync::mpsc::channel;

use super::Pool;
use super::desk::{Note, over};
use super::encoded::Encoded;
use super::function::{Data, Function};
use super::remote::Remote;
use crate::error::{ErrorKind, Result};
use crate::worker::runner::{Made, Reader, Trouble};

impl Pool {
    /// Puts values on the ranks: contiguous parts of them, as large as the ranks' parts of all threads. Returns at once.
    ///
    /// Tasks that need one of these values run where it is. Each is a value of its own, with a handle of its own; of many
    /// small ones, make a few large ones first.
    ///
    /// # Errors
    ///
    /// A value cannot be encoded, or the pool is over. A rank that is lost is an error of the [`Remote`]s there.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::World::local(3)?;
    /// let sums = world.pool(|pool| {
    ///     let parts = pool.scatter((0..6).map(|part| vec![part; 2000]).collect())?;
    ///     parts[5].wait()?;
    ///     assert_eq!(pool.who_has(&parts[5])?, [2]);
    ///     let sums = parts.iter().map(|part| pool.submit(|xs: &[u32]| xs.iter().sum::<u32>(), (part,)));
    ///     pool.gather(sums.collect::<rankfold::Result<Vec<_>>>()?)
    /// })?;
    /// assert_eq!(sums.unwrap()?, [0, 2000, 4000, 6000, 8000, 10_000]);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn scatter<T: Data>(&self, items: Vec<T>) -> Result<Vec<Remote<T>>> {
        let (all, count) = (self.total_threads(), items.len());
        // The first item of each rank but rank 0, and the end.
        let threads = self.threads.iter().scan(0, |sum, threads| {
            *sum += *threads as usize;
            Some(*sum)
        });
        let mut ends: VecDeque<usize> = threads.map(|threads| count * threads / all).collect();
        let mut rank = 0;
        let place = |(at, item)| {
            while ends.front().is_some_and(|end| at >= *end) {
                ends.pop_front();
                rank += 1;
            }
            self.task().named("scatter").on(rank).submit(|value: T| value, (item,))
        };
        items.into_iter().enumerate().map(place).collect()
    }

    /// Brings values to rank 0, in order. All of them are on their way at once.
    ///
    /// # Errors
    ///
    /// The first error among them, as of [`Remote::get`].
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::World::local(2)?;
    /// let squares = world.pool(|pool| pool.gather(pool.map(|n: u64| n * n, 0..5)?))?;
    /// assert_eq!(squares.unwrap()?, [0, 1, 4, 9, 16]);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn gather<T: Data>(&self, remotes: impl IntoIterator<Item = Remote<T>>) -> Result<Vec<T>> {
        let remotes: Vec<Remote<T>> = remotes.into_iter().collect();
        remotes.iter().for_each(|remote| remote.ask(true));
        remotes.into_iter().map(Remote::get).collect()
    }

    /// Has a function run once on every rank, with the same arguments. Gives the handles in the order of ranks, at once.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit). A rank that is lost is an error of its [`Remote`].
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::World::local(3)?;
    /// let hosts = world.pool(|pool| {
    ///     let host = |file: String| std::fs::read_to_string(file).unwrap_or_default().trim().to_owned();
    ///     pool.gather(pool.on_each(host, ("/proc/sys/kernel/hostname".to_owned(),))?)
    /// })?;
    /// assert_eq!(hosts.unwrap()?.len(), 3);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[expect(clippy::needless_pass_by_value, reason = "as submit takes them")]
    pub fn on_each<F, A, R, M>(&self, function: F, arguments: A) -> Result<Vec<Remote<R>>>
    where
        F: Function<A, R, M>,
        R: Data,
    {
        let _ = function;
        self.task().encode::<F, A, R, M>(&arguments)?.on(self, 0..self.size(), 0)
    }

    /// Has an initialiser run once on every rank, and waits until it has: for what has to be there before the first task,
    /// such as a library that is set up, a file that is read, or [variables](crate::set_variable).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OnRanks`], with the error of each rank on which it panicked or that is lost.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::World::local(2)?;
    /// let error = world.pool(|pool| {
    ///     pool.prepare(|seed: u64| rankfold::set_variable("seed", seed), (42,))?;
    ///     assert_eq!(pool.submit(|n: u64| n + *rankfold::variable::<u64>("seed").unwrap(), (1,))?.get()?, 43);
    ///     pool.prepare(|path: String| assert!(path.starts_with('/'), "{path} is no whole path"), ("data".to_owned(),))
    /// })?.unwrap().unwrap_err();
    /// assert!(error.to_string().contains("failed on 2 of 2 ranks"), "{error}");
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn prepare<F, A, M>(&self, function: F, arguments: A) -> Result<()>
    where
        F: Function<A, (), M>,
    {
        self.all_of("prepare", self.on_each(function, arguments)?).map(drop)
    }

    /// What every rank has given, or the error of each that has failed.
    pub(super) fn all_of<T: Data>(&self, call: &str, remotes: Vec<Remote<T>>) -> Result<Vec<T>> {
        remotes.iter().for_each(|remote| remote.ask(true));
        let (mut values, mut failures) = (Vec::new(), Vec::new());
        for remote in remotes {
            match remote.get() {
                Ok(value) => values.push(value),
                Err(error) => failures.push(error),
            }
        }
        if failures.is_empty() {
            return Ok(values);
        }
        Err(ErrorKind::OnRanks { call: call.to_owned(), ranks: self.size(), failures }.into())
    }

    /// Copies a value to these ranks, and waits until it is there: tasks that need it then find it on any of them. Ranks
    /// that have it pass it on, twice as many with each step.
    ///
    /// A rank whose threads are all busy gets it when the first of them is through with its task. Values of at most 4 KiB
    /// go with the tasks that need them, and need no copies.
    ///
    /// # Errors
    ///
    /// As [`Remote::wait`]; and a rank that does not exist, or is lost.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::World::local(4)?;
    /// world.pool(|pool| {
    ///     let mesh = pool.task().on(2).submit(|n: usize| vec![0.5; n], (10_000,))?;
    ///     pool.replicate(&mesh, [0, 3])?;
    ///     assert_eq!(pool.who_has(&mesh)?, [0, 2, 3]);
    ///     Ok::<_, rankfold::Error>(())
    /// })?.unwrap()?;
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn replicate<T: Data>(&self, remote: &Remote<T>, ranks: impl IntoIterator<Item = usize>) -> Result<()> {
        self.outside_of_tasks("replicate", "tasks, which run where most of it is")?;
        remote.wait()?;
        let there = self.who_has(remote)?;
        let (mut ranks, mut copies): (VecDeque<usize>, _) = (ranks.into_iter().collect(), there.len().max(1));
        ranks.retain(|rank| !there.contains(rank));
        let read = Encoded::new(&self.desk, "replicate", read::<T>, |writer| writer.need(remote))?;
        while !ranks.is_empty() {
            let next: Vec<usize> = ranks.drain(..copies.min(ranks.len())).collect();
            copies += next.len();
            self.gather(read.on::<()>(self, next, i32::MAX)?)?;
        }
        Ok(())
    }

    /// The ranks that have a value, in order: none as long as the task has not come to its end. Values of at most 4 KiB
    /// are on rank 0, and go with the tasks that need them.
    ///
    /// # Errors
    ///
    /// The task has failed, its value is lost, it belongs to another pool, the pool is over, or this is the pool of a task.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::World::local(2)?;
    /// world.pool(|pool| {
    ///     let mesh = pool.task().on(1).submit(|n: usize| vec![0.5; n], (10_000,))?;
    ///     mesh.wait()?;
    ///     assert_eq!(pool.who_has(&mesh)?, [1]);
    ///     Ok::<_, rankfold::Error>(())
    /// })?.unwrap()?;
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn who_has<T>(&self, remote: &Remote<T>) -> Result<Vec<usize>> {
        self.outside_of_tasks("who_has", "tasks, which run where most of it is")?;
        let name = remote.name();
        if !remote.is_of(&self.desk) {
            let problem = "its ranks are asked for in another pool than the one that it was made in".into();
            return Err(ErrorKind::Refused { call: name.into(), problem, remedy: "ask its own pool".into() }.into());
        }
        // An end of the pool drops the sender, so that nobody waits for an answer then.
        let (answer, answered) = channel();
        self.desk.post(Note::Locate { task: remote.task(), answer }).map_err(|why| over(why.as_ref(), name))?;
        answered.recv().unwrap_or_else(|_| Err(over(None, name)))
    }
}

/// Reads a value, so that this rank has it.
fn read<T: Data>(reader: &mut Reader<'_>) -> Result<Made, Trouble> {
    reader.input::<T>()?;
    Made::of(())
}
