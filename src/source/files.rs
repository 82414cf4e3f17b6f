//! Files laid end to end: which bytes of which file a range is, and the files that are open.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::SourceError;

/// Files kept open. A rank works along a few stretches of the input, so few are in use at a time.
pub(super) const OPEN_FILES: usize = 64;

const NOT_SEEN_BY_ALL: &str =
    "every rank reads its own part: put the file where every node sees it, under the same path, readable to the user";

/// Regular files that every rank sees, in an order that is the same everywhere.
#[derive(Debug)]
pub(super) struct Files {
    paths: Vec<PathBuf>,
    /// For each file, the index after its last byte. Filled by the first question.
    ends: OnceLock<Vec<u64>>,
    pub(super) open: Mutex<VecDeque<(usize, Arc<File>)>>,
}

/// What a range covers of one file.
pub(super) struct Part {
    pub file: usize,
    pub bytes: Range<u64>,
    pub file_length: u64,
}

impl Files {
    pub fn new<P: Into<PathBuf>>(paths: impl IntoIterator<Item = P>) -> Self {
        let paths = paths.into_iter().map(Into::into).collect();
        Self { paths, ends: OnceLock::new(), open: Mutex::default() }
    }

    pub fn path(&self, file: usize) -> &Path {
        &self.paths[file]
    }

    /// The bytes of all files.
    pub fn len(&self) -> Result<u64, SourceError> {
        Ok(self.ends()?.last().copied().unwrap_or(0))
    }

    /// Of names and lengths. Folders may differ: a file system can have another mount point on another node.
    pub fn fingerprint(&self) -> u64 {
        let Ok(ends) = self.ends() else { return 0 };
        let mut hasher = crc32fast::Hasher::new();
        for (path, end) in self.paths.iter().zip(ends) {
            hasher.update(path.file_name().unwrap_or_default().as_encoded_bytes());
            hasher.update(&[0]);
            hasher.update(&end.to_le_bytes());
        }
        u64::from(hasher.finalize())
    }

    pub fn ends(&self) -> Result<&[u64], SourceError> {
        if let Some(ends) = self.ends.get() {
            return Ok(ends);
        }
        let mut total = 0u64;
        let mut ends = Vec::with_capacity(self.paths.len());
        for path in &self.paths {
            total = total.checked_add(length(path)?).ok_or_else(|| {
                SourceError::new("the files have more than 2^64 bytes together", "pass them in several calls")
            })?;
            ends.push(total);
        }
        Ok(self.ends.get_or_init(|| ends))
    }

    pub fn parts(&self, range: &Range<u64>) -> Result<Vec<Part>, SourceError> {
        let ends = self.ends()?;
        let first = ends.partition_point(|end| *end <= range.start);
        let mut start = if first == 0 { 0 } else { ends[first - 1] };
        let mut parts = Vec::new();
        for (file, end) in (first..).zip(&ends[first..]) {
            if range.is_empty() || start >= range.end {
                break;
            }
            if start < *end {
                let bytes = range.start.max(start) - start..range.end.min(*end) - start;
                parts.push(Part { file, bytes, file_length: *end - start });
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
