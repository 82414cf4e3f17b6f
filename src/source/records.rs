//! Records of a fixed size: each rank reads those that it works on, nothing travels.

use std::io::ErrorKind;
use std::ops::{Deref, Range};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::files::{Files, Part, cannot};
use super::{Source, SourceError};

/// What a batch has in memory at most.
const LONGEST_BATCH: usize = 16 << 20;
/// And a piece of one.
const LONGEST_PIECE: usize = 1 << 20;
/// A leaf is at least so long, unless there are few records.
const LEAF_BYTES: usize = 64 << 10;

/// The records of files; the mapper is given a [`Record`]. Made by [`records`].
#[derive(Debug)]
pub struct Records<const N: usize> {
    files: Files,
}

/// Some bytes, as they are in a file; as good as an array of them ([`Deref`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Record<const N: usize>(#[serde(with = "serde_bytes")] pub [u8; N]);

impl<const N: usize> Deref for Record<N> {
    type Target = [u8; N];

    fn deref(&self) -> &[u8; N] {
        &self.0
    }
}

/// Records of `N` bytes each, from files in the order of the paths. Each rank reads its own part, so every rank must see the
/// files. Files are held in memory in parts of 16 MiB at most, for each thread.
///
/// A file whose name ends in `.gz` or `.zst` is decompressed by whoever works on its first record, all of it at once, as with
/// [`lines`](super::lines()), and in memory twice for a moment. How many records it has is seen then; in progress and report, it counts as if it were not
/// compressed.
///
/// A file that is missing, is no regular file, has no whole number of records, differs in name or length between ranks, or
/// shrinks while it is read, is an error.
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let path = std::env::temp_dir().join(format!("rankfold-doc-records-{}.bin", std::process::id()));
/// std::fs::write(&path, b"1.cat2.dog3.cow")?;
///
/// let world = rankfold::init()?;
/// let digits = world.over(rankfold::data::records::<5, _>([&path])).map(|record| record[0])?;
/// assert_eq!(digits, *b"123");
/// # std::fs::remove_file(&path)?;
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn records<const N: usize, P: Into<PathBuf>>(paths: impl IntoIterator<Item = P>) -> Records<N> {
    const { assert!(N > 0, "a record has at least one byte") };
    Records { files: Files::new(paths, N as u64) }
}

impl<const N: usize> Source for Records<N> {
    type Item = Record<N>;
    type Batch = Vec<Record<N>>;
    type Parcel = ();

    fn kind(&self) -> &'static str {
        "records of files"
    }

    fn unit(&self) -> &'static str {
        "records"
    }

    fn len(&self) -> Result<u64, SourceError> {
        self.files.len()
    }

    fn fingerprint(&self) -> u64 {
        self.files.fingerprint()
    }

    fn batch(&self) -> u64 {
        (LONGEST_BATCH / N).max(1) as u64
    }

    fn piece(&self) -> u64 {
        (LONGEST_PIECE / N).max(1) as u64
    }

    fn leaf(&self, len: u64) -> u64 {
        // Small enough that few records are spread over all ranks.
        (len >> 8).clamp(1, (LEAF_BYTES / N).max(1) as u64)
    }

    fn unpack(&self, _range: Range<u64>, _bytes: &[u8]) -> Result<(), SourceError> {
        Ok(())
    }

    fn read(&self, _parcel: &(), range: Range<u64>) -> Result<Vec<Record<N>>, SourceError> {
        let mut records = Vec::new();
        for part in self.files.parts(&range)? {
            self.read_part(&part, &mut records)?;
        }
        Ok(records.into_iter().map(Record).collect())
    }

    /// Where compressed files are in the range, reads again what comes before the record.
    fn describe(&self, range: Range<u64>, nth: u64) -> String {
        let mut nth = nth;
        for part in self.files.parts(&range).unwrap_or_default() {
            let mut records = Vec::new();
            let count = match part.compression {
                None => part.range.end - part.range.start,
                // A part that cannot be read now has no records to count.
                Some(_) => self.read_part(&part, &mut records).map_or(0, |()| records.len() as u64),
            };
            if nth < count {
                return format!("record {} of {}", part.range.start + nth, self.files.path(part.file).display());
            }
            nth -= count;
        }
        format!("record {nth} after {} of the input", range.start)
    }
}

impl<const N: usize> Records<N> {
    /// Adds the records that are in `part`.
    fn read_part(&self, part: &Part, records: &mut Vec<[u8; N]>) -> Result<(), SourceError> {
        let (path, file) = (self.files.path(part.file), self.files.open(part.file)?);
        if let Some(compression) = part.compression {
            let mut contents = Vec::new();
            compression.read(path, &file, part.file_length, &mut contents)?;
            let (whole, rest) = contents.as_chunks();
            if !rest.is_empty() {
                return Err(self.files.no_whole_number(path, contents.len() as u64));
            }
            records.extend_from_slice(whole);
            return Ok(());
        }
        let before = records.len();
        records.resize(before + (part.range.end - part.range.start) as usize, [0; N]);
        let bytes = records[before..].as_flattened_mut();
        file.read_exact_at(bytes, part.range.start * N as u64).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => SourceError::new(
                format!("{} has become shorter while it was read", path.display()),
                "start again when nothing writes to it",
            ),
            _ => cannot("read", path, &error),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::compressed::Compression;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_of_any_range_are_those_of_the_files(counts in prop::collection::vec(0usize..20, 1..5), cut in 0u64..100) {
            let folder = std::env::temp_dir();
            let name = |file: usize| folder.join(format!("rankfold-records-{}-{file}", std::process::id()));
            let record = |file: usize, at: usize| [file as u8, at as u8, 7];
            let mut expected = Vec::new();
            for (file, count) in counts.iter().enumerate() {
                let records: Vec<[u8; 3]> = (0..*count).map(|at| record(file, at)).collect();
                std::fs::write(name(file), records.as_flattened()).unwrap();
                expected.extend(records);
            }
            let source = records::<3, _>((0..counts.len()).map(name));
            let len = source.len().unwrap();
            prop_assert_eq!(len, expected.len() as u64);
            let cut = cut.min(len);
            let mut found = Vec::new();
            for range in [0..cut, cut..len].into_iter().filter(|range| range.start < range.end) {
                found.extend(source.read(&(), range).unwrap().into_iter().map(|record| record.0));
            }
            (0..counts.len()).for_each(|file| std::fs::remove_file(name(file)).unwrap());
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn records_of_compressed_files_are_counted_when_they_are_read() {
        let folder = std::env::temp_dir();
        let name = |file: &str| folder.join(format!("rankfold-records-{}-{file}", std::process::id()));
        let paths = [name("one.gz"), name("two"), name("three.zst")];
        let contents: [Vec<u8>; 3] = [300, 200, 100].map(|count| (0..count).map(|at| (at / 10) as u8).collect());
        for (path, contents) in paths.iter().zip(&contents) {
            let bytes = Compression::of(path).map_or_else(|| contents.clone(), |how| how.compress(contents));
            std::fs::write(path, bytes).unwrap();
        }
        let source = records::<10, _>(&paths);
        let len = source.len().unwrap();
        let parts = [0..1, 1..len - 1, len - 1..len].map(|range| source.read(&(), range).unwrap());
        assert_eq!(parts[0].len(), 30);
        let all: Vec<u8> = parts.iter().flatten().flat_map(|record| record.0).collect();
        assert_eq!(all, contents.concat());
        assert!(
            source.describe(0..len, 29).ends_with("-one.gz") && source.describe(0..len, 30).contains("record 0 of ")
        );
        assert!(
            source.describe(0..len, 59).contains("record 9 of ") && source.describe(0..len, 59).ends_with("-three.zst")
        );
        let error = records::<7, _>(&paths[..1]).read(&(), 0..1).unwrap_err().to_string();
        assert!(error.contains("has 300 bytes, no whole number of records of 7"), "{error}");
        paths.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    }

    #[test]
    fn a_file_that_was_not_written_to_its_end_is_named() {
        let path = std::env::temp_dir().join(format!("rankfold-records-short-{}", std::process::id()));
        std::fs::write(&path, [0; 250]).unwrap();
        let error = records::<100, _>([&path]).len().unwrap_err().to_string();
        std::fs::remove_file(&path).unwrap();
        assert!(error.contains("has 250 bytes, no whole number of records of 100"), "{error}");
    }
}
