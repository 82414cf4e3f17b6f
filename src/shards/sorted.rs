//! A call's input in the order of keys, on the ranks, in memory or on their disks.

use std::fmt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::external::{Entries, merge};
use super::sharded::Sharded;
use super::write::{Items, file_of_each_rank, one_file};
use crate::error::{Error, Place, Result, Role};
use crate::reduce::telling::{all_or_none, if_all};
use crate::worker::budget::Budget;
use crate::worker::caught::catch;
use crate::world::World;

/// Items in the order of their keys, spread over the ranks: rank 0 has the first ones. Where there is no memory for all, some
/// are on the ranks' own disks. From [`Over::sort_by_key`](crate::Over::sort_by_key).
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let path = std::env::temp_dir().join(format!("rankfold-doc-sorted-{}.txt", std::process::id()));
/// let written = rankfold::threads(3, |world| {
///     let sorted = world.over(0..100u64).sort_by_key(|i| (i * 7 % 100, i))?;
///     sorted.write(&path, |i, out| out.extend(format!("{i}\n").bytes()))
/// });
/// written.into_iter().collect::<Result<Vec<_>, _>>()?;
/// assert!(std::fs::read_to_string(&path)?.starts_with("0\n43\n86\n29\n"));
/// # std::fs::remove_file(&path)?;
/// # Ok(())
/// # }
/// ```
pub struct Sorted<'w, K, T> {
    world: &'w World,
    mine: Mine<K, T>,
    total: u64,
}

/// What a rank has: blocks that are sorted, and the number of the first item among all.
struct Mine<K, T> {
    blocks: Entries<K, T>,
    start: u64,
}

impl<K, T> fmt::Debug for Sorted<'_, K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sorted").field("len", &self.total).field("len_here", &self.len_here()).finish_non_exhaustive()
    }
}

impl World {
    /// Sorted items of which each rank has some. Collective.
    pub(crate) fn sorted<K, T>(&self, blocks: Entries<K, T>) -> Result<Sorted<'_, K, T>> {
        let (start, total) = self.step("sort_by_key", std::any::type_name::<(K, T)>(), |rank, _| {
            let lengths = all_or_none(rank, &Ok(blocks.len() as u64))?;
            Ok((lengths[..rank.rank()].iter().sum(), lengths.iter().sum()))
        })?;
        Ok(Sorted { world: self, mine: Mine { blocks, start }, total })
    }
}

impl<K, T> Sorted<'_, K, T> {
    /// Items of all ranks.
    ///
    /// # Examples
    ///
    /// ```
    /// # let world = rankfold::init()?;
    /// let sorted = world.over(0..100u64).sort_by_key(|i| (i % 10, i))?;
    /// assert_eq!((sorted.len(), sorted.is_empty()), (100, false));
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[must_use]
    pub fn len(&self) -> u64 {
        self.total
    }

    /// Whether no rank has an item.
    ///
    /// # Examples
    ///
    /// See [`len`](Self::len).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// Items of this rank.
    ///
    /// # Examples
    ///
    /// ```
    /// let sorted = rankfold::threads(4, |world| {
    ///     let sorted = world.over(0..10_000u64).sort_by_key(|i| (i % 10, i))?;
    ///     Ok::<_, rankfold::Error>(sorted.len_here())
    /// });
    /// let lengths = sorted.into_iter().collect::<Result<Vec<_>, _>>()?;
    /// assert_eq!(lengths.iter().sum::<u64>(), 10_000);
    /// assert!(lengths.iter().all(|length| *length < 3250));
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    #[must_use]
    pub fn len_here(&self) -> u64 {
        self.mine.blocks.len() as u64
    }
}

impl<'w, K, T> Sorted<'w, K, T>
where
    K: Ord + Serialize + DeserializeOwned + Send + Sync,
    T: Serialize + DeserializeOwned + Send + Sync,
{
    /// Writes all items to one file, in the order of their keys, as [`Sharded::write`] does. Collective: every rank must call it.
    ///
    /// What is on the disk is read twice, and merged on the way. Memory: 64 KiB at most for each part that was written there, and
    /// 1 MiB. Messages: nine collectives of a few bytes.
    ///
    /// # Errors
    ///
    /// As for [`Sharded::write`].
    ///
    /// # Examples
    ///
    /// See [`Sorted`].
    pub fn write(&self, path: impl AsRef<Path>, format: impl Fn(&T, &mut Vec<u8>) + Sync) -> Result<()> {
        one_file(self.world, path.as_ref(), &self.mine, format)
    }

    /// Writes the items of each rank to a file of its own, as [`Sharded::write_parts`] does. Collective: every rank must call it.
    ///
    /// # Errors
    ///
    /// As for [`Sharded::write_parts`].
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = std::env::temp_dir().join(format!("rankfold-doc-sorted-{}", std::process::id()));
    /// let written = rankfold::threads(2, |world| {
    ///     let sorted = world.over(0..100u64).sort_by_key(|i| (std::cmp::Reverse(i), i))?;
    ///     sorted.write_parts(&folder, |i, out| out.extend(format!("{i}\n").bytes()))
    /// });
    /// written.into_iter().collect::<Result<Vec<_>, _>>()?;
    /// assert!(std::fs::read_to_string(folder.join("part-00000"))?.starts_with("99\n98\n"));
    /// # std::fs::remove_dir_all(&folder)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn write_parts(&self, folder: impl AsRef<Path>, format: impl Fn(&T, &mut Vec<u8>) + Sync) -> Result<()> {
        file_of_each_rank(self.world, folder.as_ref(), &self.mine, format)
    }

    /// The items in memory, for further steps. Collective: every rank must call it; nothing moves but what makes them even.
    /// Memory: a rank's items, twice as long as they are copied.
    ///
    /// # Errors
    ///
    /// A disk that does not give back what was written.
    ///
    /// # Examples
    ///
    /// ```
    /// let first = rankfold::threads(3, |world| {
    ///     let sorted = world.over(0..100u64).sort_by_key(|i| (i % 10, i))?.shards()?;
    ///     Ok::<_, rankfold::Error>(sorted.gather()?.map(|all| all[..12].to_vec()))
    /// });
    /// let first = first.into_iter().next().unwrap()?.unwrap();
    /// assert_eq!(first, [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 1, 11]);
    /// # Ok::<(), rankfold::Error>(())
    /// ```
    pub fn shards(self) -> Result<Sharded<'w, T>>
    where
        T: Clone,
    {
        let Self { world, mine, .. } = self;
        let items = world.step("sort_by_key, shards", std::any::type_name::<(K, T)>(), |rank, call| {
            let place = rank.place.clone();
            let items = rank.meanwhile(|| {
                let mut items = Vec::with_capacity(mine.blocks.len());
                mine.each(call, &place, |_, item| {
                    items.push(item.clone());
                    Ok(())
                })?;
                Ok::<_, Error>(items)
            })?;
            if_all(rank, items)
        })?;
        world.shards(items)
    }
}

impl<K, T> Items<T> for Mine<K, T>
where
    K: Ord + DeserializeOwned + Send + Sync,
    T: DeserializeOwned + Send + Sync,
{
    fn each(&self, call: &str, place: &Place, mut see: impl FnMut(u64, &T) -> Result<()> + Send) -> Result<()> {
        let lost = |problem: String| Budget::unreadable(call, place, &problem);
        let mut number = self.start;
        let see = |item: &T| {
            see(number, item)?;
            number += 1;
            Ok(())
        };
        let item = || "two items that are merged".to_owned();
        catch(|| merge(&self.blocks, see, lost))
            .map_err(|caught| caught.into_error(call, place, Role::Combiner, item()))?
    }
}
