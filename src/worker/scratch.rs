//! A private folder on a rank's own disk, for values that there is no memory for.
//!
//! Nobody else may look into it, and it is removed with the last of what is in it: also when a panic unwinds, and not when
//! the process is killed. A file holds one value; its name means nothing.

use std::fs::{DirBuilder, File, OpenOptions, remove_dir_all, remove_file};
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Folders of one process, of one rank or of several.
static FOLDERS: AtomicU64 = AtomicU64::new(0);

#[derive(Debug)]
pub(crate) struct Scratch {
    folder: PathBuf,
    files: AtomicU64,
}

/// A value in such a folder, as bytes; gone when this is dropped.
#[derive(Debug)]
pub(crate) struct Sheet {
    path: PathBuf,
    length: usize,
    /// Last, so that the folder is empty when it is removed.
    _folder: Arc<Scratch>,
}

/// Where such folders are made: `RANKFOLD_SCRATCH`, `TMPDIR` or /tmp.
pub(crate) fn place() -> PathBuf {
    let named = std::env::var_os("RANKFOLD_SCRATCH").filter(|folder| !folder.is_empty());
    named.map_or_else(std::env::temp_dir, PathBuf::from)
}

impl Scratch {
    /// Makes a folder that did not exist before.
    pub fn new() -> Result<Self> {
        loop {
            let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
            let folder = place().join(format!("rankfold-{}-{number}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&folder) {
                Ok(()) => return Ok(Self { folder, files: AtomicU64::new(0) }),
                // Left behind by a process of this number that was killed, or of another machine's.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::new(error.kind(), format!("{}: {error}", folder.display()))),
            }
        }
    }

    /// Writes a value.
    pub fn write(self: &Arc<Self>, bytes: &[u8]) -> Result<Sheet> {
        let path = self.folder.join(self.files.fetch_add(1, Ordering::Relaxed).to_string());
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        // Removed again if there is no room for all of it.
        let sheet = Sheet { path, length: bytes.len(), _folder: Arc::clone(self) };
        file.write_all(bytes)?;
        Ok(sheet)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is left to whoever cleans this disk.
        let _ = remove_dir_all(&self.folder);
    }
}

impl Sheet {
    pub fn length(&self) -> usize {
        self.length
    }

    /// Appends the value to what is in the buffer.
    pub fn read(&self, buffer: &mut Vec<u8>) -> Result<()> {
        buffer.reserve(self.length);
        let read = File::open(&self.path)?.read_to_end(buffer)?;
        if read == self.length {
            return Ok(());
        }
        let message = format!("{} has {read} bytes in place of {}", self.path.display(), self.length);
        Err(Error::new(ErrorKind::UnexpectedEof, message))
    }
}

impl Drop for Sheet {
    fn drop(&mut self) {
        let _ = remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{metadata, read_dir};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_written_can_be_read_by_nobody_else_and_is_gone_at_the_end() {
        let scratch = Arc::new(Scratch::new().unwrap());
        let folder = scratch.folder.clone();
        let (one, other) = (scratch.write(b"one").unwrap(), scratch.write(&vec![7; 100_000]).unwrap());
        let mode = |path: &PathBuf| metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&one.path), mode(&other.path)), (0o700, 0o600, 0o600));
        let mut bytes = vec![1];
        one.read(&mut bytes).unwrap();
        assert_eq!(bytes, [&[1], &b"one"[..]].concat());
        drop((one, scratch));
        assert_eq!(read_dir(&folder).unwrap().count(), 1);
        let mut bytes = Vec::new();
        other.read(&mut bytes).unwrap();
        assert_eq!(bytes, vec![7; 100_000]);
        drop(other);
        assert!(!folder.exists());
    }

    #[test]
    fn a_file_that_was_tampered_with_is_an_error() {
        let scratch = Arc::new(Scratch::new().unwrap());
        let sheet = scratch.write(b"three").unwrap();
        std::fs::write(&sheet.path, b"tw").unwrap();
        assert!(sheet.read(&mut Vec::new()).unwrap_err().to_string().contains("has 2 bytes in place of 5"));
        remove_file(&sheet.path).unwrap();
        assert!(sheet.read(&mut Vec::new()).is_err());
    }
}
