//! The calls of [`Over`] whose results stay on the ranks.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Over;
use crate::error::Result;
use crate::kernel::Map;
use crate::reduce::collective::Value;
use crate::shards::external::{Sorting, bring_in_order};
use crate::shards::keep::keep_in_order;
use crate::shards::sharded::Sharded;
use crate::shards::sorted::Sorted;
use crate::source::Source;
use crate::worker::spool::Spool;

impl<'w, S: Source, I> Over<'w, S, I> {
    /// Maps every item and leaves the values on the ranks, an equal part on each, in the order of the items: for steps that
    /// follow each other without bringing everything to every rank. Collective: every rank must make the same call.
    ///
    /// **Cost.** Each value moves at most once, by `MPI_Ialltoallv`. Memory: a rank's values, up to three times while they move.
    ///
    /// # Errors
    ///
    /// As for [`map`](Self::map); a world of several ranks that share one `main`.
    ///
    /// # Examples
    ///
    /// ```
    /// let counts = rankfold::threads(3, |world| {
    ///     let squares = world.over(0..10u64).shards(|i| i * i)?;
    ///     Ok::<_, rankfold::Error>((squares.len(), squares.mine().len()))
    /// });
    /// assert_eq!(counts.into_iter().collect::<Result<Vec<_>, _>>()?, [(10, 4), (10, 3), (10, 3)]);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn shards<R, F>(self, mapper: F) -> Result<Sharded<'w, R>>
    where
        R: Serialize + DeserializeOwned + Send + Sync,
        F: Fn(S::Item) -> R + Sync,
    {
        let Self { world, source, mut spec, .. } = self;
        spec.operation = "shards".into();
        spec.stays = true;
        world.refuse_one_main("shards")?;
        let kernel = Map { mapper, value: PhantomData };
        let mine = match world.call(&spec, &source, &kernel, keep_in_order::<S, Map<F, R>, R>)? {
            Value::Here(mine) | Value::Part(mine) => mine,
            Value::OnRoot | Value::Empty => Vec::new(),
        };
        world.shards(mine)
    }

    /// Makes a key and a value of every item, and leaves the values on the ranks in the order of their keys; those with equal
    /// keys in the order of the items, so the result is the same on any number of ranks. Collective: every rank must make the
    /// same call.
    ///
    /// No rank has more than 1.3 times the mean, also if half of all keys are equal (with up to 1000 ranks, and enough items to
    /// draw samples from). Where `RANKFOLD_MEMORY` says what a rank may use, what is more goes to the rank's own disk
    /// (`RANKFOLD_SCRATCH`), twice at most.
    ///
    /// **Cost.** One gathering of 256 keys for each rank; then every item moves at most once, by `MPI_Ialltoallv`, in one round or
    /// in as many as there is no memory for fewer. Memory: a rank's items up to three times; with a bound on memory, that, and a
    /// [`journal`](Self::journal) has all of a rank's items in memory twice while it writes them.
    ///
    /// # Errors
    ///
    /// As for [`map`](Self::map); a world of several ranks that share one `main`.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let path = std::env::temp_dir().join(format!("rankfold-doc-sort-{}", std::process::id()));
    /// # std::fs::write(&path, b"b2a1c3a0")?;
    /// let world = rankfold::init()?;
    /// let records = world.over(rankfold::data::records::<2, _>([&path]));
    /// let sorted = records.sort_by_key(|record| (record[0], record))?;
    /// sorted.write(&path, |record, out| out.extend_from_slice(&record[..]))?;
    /// assert_eq!(std::fs::read(&path)?, b"a1a0b2c3");
    /// # std::fs::remove_file(&path)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn sort_by_key<K, T, F>(self, mapper: F) -> Result<Sorted<'w, K, T>>
    where
        K: Ord + Clone + Serialize + DeserializeOwned + Send + Sync,
        T: Serialize + DeserializeOwned + Send + Sync,
        F: Fn(S::Item) -> (K, T) + Sync,
    {
        let Self { world, source, mut spec, .. } = self;
        spec.operation = "sort_by_key".into();
        spec.stays = true;
        world.refuse_one_main("sort_by_key")?;
        let kernel = Sorting { mapper, budget: world.budget(), items: PhantomData };
        let mine = match world.call(&spec, &source, &kernel, bring_in_order)? {
            Value::Here(mine) | Value::Part(mine) => mine,
            Value::OnRoot | Value::Empty => Spool::default(),
        };
        world.sorted(mine)
    }
}
