//! Files laid end to end: which part of which file a range is, and the files that are open.
//!
//! An index is a byte, or a record of so many bytes. A compressed file has as many indices as its compressed bytes would have,
//! and all its contents belong to the first of them: that is where it is read.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::SourceError;
use super::compressed::Compression;

/// Files kept open. A rank works along a few stretches of the input, so few are in use at a time.
pub(super) const OPEN_FILES: usize = 64;

const NOT_SEEN_BY_ALL: &str =
    "every rank reads its own part: put the file where every node sees it, under the same path, readable to the user";

/// Regular files that every rank sees, in an order that is the same everywhere.
#[derive(Debug)]
pub(super) struct Files {
    paths: Vec<PathBuf>,
    /// The bytes of an index.
    unit: u64,
    /// Filled by the first question.
    laid: OnceLock<Vec<Laid>>,
    pub(super) open: Mutex<VecDeque<(usize, Arc<File>)>>,
}

/// Where a file is among all.
#[derive(Debug)]
struct Laid {
    /// Its length in bytes.
    length: u64,
    /// The index after its last one.
    end: u64,
}

/// What a range covers of one file.
pub(super) struct Part {
    pub file: usize,
    /// Indices, from the file's first one on.
    pub range: Range<u64>,
    /// The file's length in bytes.
    pub file_length: u64,
    /// How the file is compressed. Then its first index is in the range, and with it all contents.
    pub compression: Option<Compression>,
}

impl Files {
    /// Files whose indices have so many bytes.
    pub fn new<P: Into<PathBuf>>(paths: impl IntoIterator<Item = P>, unit: u64) -> Self {
        let paths = paths.into_iter().map(Into::into).collect();
        Self { paths, unit, laid: OnceLock::new(), open: Mutex::default() }
    }

    pub fn path(&self, file: usize) -> &Path {
        &self.paths[file]
    }

    /// The indices of all files.
    pub fn len(&self) -> Result<u64, SourceError> {
        Ok(self.laid()?.last().map_or(0, |laid| laid.end))
    }

    /// Of names and lengths. Folders may differ: a file system can have another mount point on another node.
    pub fn fingerprint(&self) -> u64 {
        let Ok(all) = self.laid() else { return 0 };
        let (mut hasher, mut end) = (crc32fast::Hasher::new(), 0);
        for (path, laid) in self.paths.iter().zip(all) {
            end += laid.length;
            hasher.update(path.file_name().unwrap_or_default().as_encoded_bytes());
            hasher.update(&[0]);
            hasher.update(&end.to_le_bytes());
        }
        u64::from(hasher.finalize())
    }

    fn laid(&self) -> Result<&[Laid], SourceError> {
        if let Some(all) = self.laid.get() {
            return Ok(all);
        }
        let (mut bytes, mut end) = (0u64, 0);
        let mut all = Vec::with_capacity(self.paths.len());
        for path in &self.paths {
            let length = length(path)?;
            bytes = bytes.checked_add(length).ok_or_else(|| {
                SourceError::new("the files have more than 2^64 bytes together", "pass them in several calls")
            })?;
            if Compression::of(path).is_some() {
                if length == 0 {
                    let problem = format!("{} is empty, which no compressed file is", path.display());
                    return Err(SourceError::new(problem, "see what became of whoever wrote it"));
                }
            } else if !length.is_multiple_of(self.unit) {
                return Err(self.no_whole_number(path, length));
            }
            end += length.div_ceil(self.unit);
            all.push(Laid { length, end });
        }
        Ok(self.laid.get_or_init(|| all))
    }

    /// What to say of a file whose contents end within a record.
    pub fn no_whole_number(&self, path: &Path, length: u64) -> SourceError {
        SourceError::new(
            format!("{} has {length} bytes, no whole number of records of {}", path.display(), self.unit),
            "see whether it was written to its end, and how long its records are",
        )
    }

    pub fn parts(&self, range: &Range<u64>) -> Result<Vec<Part>, SourceError> {
        let all = self.laid()?;
        let first = all.partition_point(|laid| laid.end <= range.start);
        let mut start = if first == 0 { 0 } else { all[first - 1].end };
        let mut parts = Vec::new();
        for (file, Laid { length, end }) in (first..).zip(&all[first..]) {
            if range.is_empty() || start >= range.end {
                break;
            }
            if start < *end {
                let range = range.start.max(start) - start..range.end.min(*end) - start;
                let compression = Compression::of(&self.paths[file]);
                if compression.is_none() || range.start == 0 {
                    parts.push(Part { file, range, file_length: *length, compression });
                }
            }
            start = *end;
        }
        Ok(parts)
    }

    pub fn open(&self, file: usize) -> Result<Arc<File>, SourceError> {
        let kept = || self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, handle)) = kept().iter().find(|(kept, _)| *kept == file) {
            return Ok(Arc::clone(handle));
        }
        // Not under the lock: a network file system takes its time. Opened by two threads at once, it is kept twice.
        let path = &self.paths[file];
        let handle = Arc::new(File::open(path).map_err(|error| cannot("open", path, &error))?);
        let mut kept = kept();
        if kept.len() == OPEN_FILES {
            kept.pop_front();
        }
        kept.push_back((file, Arc::clone(&handle)));
        Ok(handle)
    }
}

fn length(path: &Path) -> Result<u64, SourceError> {
    let found = fs::metadata(path).map_err(|error| cannot("find", path, &error))?;
    if found.is_dir() {
        return Err(SourceError::new(format!("{} is a folder", path.display()), "name the files in it"));
    }
    if !found.is_file() {
        let problem = format!("{} is not a regular file", path.display());
        return Err(SourceError::new(problem, "write its contents to a file: input is read from many places at once"));
    }
    File::open(path).map_err(|error| cannot("open", path, &error))?;
    Ok(found.len())
}

pub(super) fn cannot(verb: &str, path: &Path, error: &io::Error) -> SourceError {
    SourceError::new(format!("cannot {verb} {}: {error}", path.display()), NOT_SEEN_BY_ALL)
}
