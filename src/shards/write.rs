//! Items to files: one file in the order of the items, or one for each rank; whole, or not there at all.

use std::fs::{self, File};
use std::io;
use std::marker::PhantomData;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::moves::Part;
use super::sharded::{Sharded, caught};
use crate::error::{Error, ErrorKind, Place, Result};
use crate::rank::Rank;
use crate::reduce::telling::{all_or_none, if_all};
use crate::world::World;

/// Bytes that are written at once.
const CHUNK: usize = 1 << 20;

impl<T> Sharded<'_, T>
where
    T: Serialize + DeserializeOwned + Send + Sync,
{
    /// Writes all items to one file, in their order. `format` appends an item's bytes, line end included. Collective: every
    /// rank must call it; it returns when all is on the disk.
    ///
    /// Each rank writes its own part at its place in the file, so all must see it. The file has another name until it is
    /// complete, so a job that is killed leaves none behind that is incomplete, and the next one writes it again. `format` is
    /// called twice with each item, first to learn how much there is. Memory: 1 MiB.
    ///
    /// # Errors
    ///
    /// The file cannot be written, with rank and reason, the same on every rank; `format` panics.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let path = std::env::temp_dir().join(format!("rankfold-doc-write-{}.txt", std::process::id()));
    /// let written = rankfold::threads(3, |world| {
    ///     let squares = world.over(0..4u64).shards(|i| i * i)?;
    ///     squares.write(&path, |square, out| out.extend(format!("{square}\n").bytes()))
    /// });
    /// written.into_iter().collect::<Result<Vec<_>, _>>()?;
    /// assert_eq!(std::fs::read_to_string(&path)?, "0\n1\n4\n9\n");
    /// # std::fs::remove_file(&path)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn write(&self, path: impl AsRef<Path>, format: impl Fn(&T, &mut Vec<u8>) + Sync) -> Result<()> {
        one_file(self.world, path.as_ref(), &self.part, format)
    }

    /// Writes the items of each rank to a file of its own in a folder, which is made if need be: `part-00000`, `part-00001`, …
    /// by rank. Together and in order, they are what [`write`](Self::write) writes; other jobs on other numbers of ranks divide
    /// the items in another way. Collective: every rank must call it; it returns when all files are on the disk.
    ///
    /// A file has another name until it is complete. Files of more parts, which an earlier job has left, are removed. Memory: 1 MiB.
    ///
    /// # Errors
    ///
    /// As for [`write`](Self::write).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = std::env::temp_dir().join(format!("rankfold-doc-parts-{}", std::process::id()));
    /// let written = rankfold::threads(2, |world| {
    ///     let squares = world.over(0..4u64).shards(|i| i * i)?;
    ///     squares.write_parts(&folder, |square, out| out.extend(format!("{square}\n").bytes()))
    /// });
    /// written.into_iter().collect::<Result<Vec<_>, _>>()?;
    /// assert_eq!(std::fs::read_to_string(folder.join("part-00001"))?, "4\n9\n");
    /// # std::fs::remove_dir_all(&folder)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn write_parts(&self, folder: impl AsRef<Path>, format: impl Fn(&T, &mut Vec<u8>) + Sync) -> Result<()> {
        file_of_each_rank(self.world, folder.as_ref(), &self.part, format)
    }
}

/// The items of a rank, in their order.
pub(super) trait Items<T>: Sync {
    /// Shows each item to somebody, with its number among those of all ranks.
    fn each(&self, call: &str, place: &Place, see: impl FnMut(u64, &T) -> Result<()> + Send) -> Result<()>;
}

impl<T: Sync> Items<T> for Part<T> {
    fn each(&self, _: &str, _: &Place, mut see: impl FnMut(u64, &T) -> Result<()> + Send) -> Result<()> {
        (self.start..).zip(&self.mine).try_for_each(|(number, item)| see(number, item))
    }
}

/// Writes the items of all ranks to one file. Collective.
pub(super) fn one_file<T>(
    world: &World,
    path: &Path,
    items: &impl Items<T>,
    format: impl Fn(&T, &mut Vec<u8>) + Sync,
) -> Result<()> {
    world.step("write", std::any::type_name::<T>(), |rank, call| {
        let output = Output { call, items, format: &format, place: rank.place.clone(), item: PhantomData };
        let length = rank.meanwhile(|| output.each_chunk(|_, _| Ok(())))?;
        let lengths = all_or_none(rank, &length)?;
        let [start, total]: [u64; 2] = [lengths[..rank.rank()].iter().sum(), lengths.iter().sum()];
        let unfinished = unfinished(path);
        // Rank 0 makes it, the others write to it, rank 0 gives it its name.
        on_root(rank, call, &unfinished, || File::create(&unfinished)?.set_len(total))?;
        let written = rank.meanwhile(|| {
            let cannot = |error: io::Error| cannot(call, &output.place, &unfinished, &error);
            let file = File::options().write(true).open(&unfinished).map_err(cannot)?;
            let written = output.each_chunk(|at, bytes| file.write_all_at(bytes, start + at).map_err(cannot))?;
            if written != lengths[output.place.rank] {
                return Err(changed(call, lengths[output.place.rank], written));
            }
            file.sync_all().map_err(cannot)
        })?;
        if let Err(error) = if_all(rank, written) {
            if rank.rank() == 0 {
                // It is of no use; that it stays where it cannot be removed is no news.
                let _ = fs::remove_file(&unfinished);
            }
            return Err(error);
        }
        on_root(rank, call, path, || put_in_place(&unfinished, path))
    })
}

/// Writes the items of each rank to a file of its own. Collective.
pub(super) fn file_of_each_rank<T>(
    world: &World,
    folder: &Path,
    items: &impl Items<T>,
    format: impl Fn(&T, &mut Vec<u8>) + Sync,
) -> Result<()> {
    world.step("write_parts", std::any::type_name::<T>(), |rank, call| {
        let output = Output { call, items, format: &format, place: rank.place.clone(), item: PhantomData };
        let size = rank.size();
        on_root(rank, call, folder, || {
            fs::create_dir_all(folder)?;
            remove_further_parts(folder, size)
        })?;
        let path = folder.join(name_of_part(rank.rank()));
        let unfinished = unfinished(&path);
        let written = rank.meanwhile(|| {
            let cannot = |error: io::Error| cannot(call, &output.place, &path, &error);
            let file = File::create(&unfinished).map_err(cannot)?;
            output.each_chunk(|at, bytes| file.write_all_at(bytes, at).map_err(cannot))?;
            file.sync_all().map_err(cannot)?;
            put_in_place(&unfinished, &path).map_err(cannot)
        })?;
        if written.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        if_all(rank, written)
    })
}

fn name_of_part(rank: usize) -> String {
    format!("part-{rank:05}")
}

/// Of a run on more ranks: they would be taken for parts of this one.
fn remove_further_parts(folder: &Path, parts: usize) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let number = name.strip_prefix("part-").and_then(|digits| digits.parse::<usize>().ok());
        if number.is_some_and(|number| number >= parts && name == name_of_part(number)) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Items on their way to a file.
struct Output<'o, I, F, T> {
    call: &'o str,
    items: &'o I,
    format: &'o F,
    place: Place,
    item: PhantomData<fn(&T)>,
}

impl<T, I: Items<T>, F: Fn(&T, &mut Vec<u8>) + Sync> Output<'_, I, F, T> {
    /// All bytes, some at a time, each with its place; gives how many there are.
    fn each_chunk(&self, mut take: impl FnMut(u64, &[u8]) -> Result<()> + Send) -> Result<u64> {
        let (mut chunk, mut at) = (Vec::with_capacity(CHUNK), 0);
        self.items.each(self.call, &self.place, |number, item| {
            caught(self.call, &self.place, number, || (self.format)(item, &mut chunk))?;
            if chunk.len() >= CHUNK {
                take(at, &chunk)?;
                at += chunk.len() as u64;
                chunk.clear();
            }
            Ok(())
        })?;
        take(at, &chunk)?;
        Ok(at + chunk.len() as u64)
    }
}

/// Beside the file, so that giving it its name moves no bytes.
fn unfinished(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.unfinished"))
}

/// The name stands for the old file or for the new one, whole, whatever happens (POSIX, `rename`); the folder is synced, so that
/// it does so after a power failure as well.
fn put_in_place(unfinished: &Path, path: &Path) -> io::Result<()> {
    fs::rename(unfinished, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Rank 0 does something for all. Collective.
fn on_root(rank: &mut Rank, call: &str, path: &Path, act: impl FnOnce() -> io::Result<()> + Send) -> Result<()> {
    let done = if rank.rank() == 0 {
        let place = rank.place.clone();
        rank.meanwhile(|| act().map_err(|error| cannot(call, &place, path, &error)))?
    } else {
        Ok(())
    };
    if_all(rank, done)
}

/// What was written first would not be where it belongs.
fn changed(call: &str, first: u64, then: u64) -> Error {
    let problem = format!("what is to be written had {first} bytes first, and {then} when it was written");
    let remedy = "give a format that makes the same bytes of the same item each time".to_owned();
    ErrorKind::Refused { call: call.to_owned(), problem, remedy }.into()
}

fn cannot(call: &str, place: &Place, path: &Path, error: &io::Error) -> Error {
    let problem = format!("{} cannot be written on {place}: {error}", path.display());
    let remedy = "see that its folder is there, seen by every node, with room, and yours to write to".to_owned();
    ErrorKind::Refused { call: call.to_owned(), problem, remedy }.into()
}
