//! A private folder on a rank's own disk, for values that there is no memory for.
//!
//! Nobody else may look into it, and it is removed with the last of what is in it: also when a panic unwinds, and not when
//! the process is killed. A file holds one value; its name means nothing.
//!
//! Many short pieces that are read in another order go to a [`Pile`], a file without a name.

use std::fs::{DirBuilder, File, OpenOptions, remove_dir_all, remove_file};
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
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

/// Pieces one after the other, in a file that is gone with the process, however that ends.
#[derive(Debug)]
pub(crate) struct Pile {
    file: File,
    length: AtomicU64,
}

/// Makes what did not exist before, below the place for it.
fn make<T>(make: impl Fn(&PathBuf) -> Result<T>) -> Result<(PathBuf, T)> {
    loop {
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let path = place().join(format!("rankfold-{}-{number}", std::process::id()));
        match make(&path) {
            Ok(made) => return Ok((path, made)),
            // Left behind by a process of this number that was killed, or of another machine's.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::new(error.kind(), format!("{}: {error}", path.display()))),
        }
    }
}

impl Scratch {
    /// Makes a folder that did not exist before.
    pub fn new() -> Result<Self> {
        let (folder, ()) = make(|folder| DirBuilder::new().mode(0o700).create(folder))?;
        Ok(Self { folder, files: AtomicU64::new(0) })
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

impl Pile {
    pub fn new() -> Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let (path, file) = make(|path| options.open(path))?;
        remove_file(path)?;
        Ok(Self { file, length: AtomicU64::new(0) })
    }

    /// Adds a piece, and tells where it is.
    pub fn append(&self, bytes: &[u8]) -> Result<u64> {
        let at = self.length.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.file.write_all_at(bytes, at)?;
        Ok(at)
    }

    /// Reads a piece into a buffer of its length.
    pub fn read(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(buffer, at)
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
    fn pieces_of_a_pile_are_read_in_any_order() {
        let pile = Pile::new().unwrap();
        let places: Vec<u64> =
            [&b"one"[..], b"", b"three"].into_iter().map(|piece| pile.append(piece).unwrap()).collect();
        assert_eq!(places, [0, 3, 3]);
        let mut buffer = [0; 5];
        pile.read(places[2], &mut buffer).unwrap();
        assert_eq!(&buffer, b"three");
        pile.read(places[0], &mut buffer[..3]).unwrap();
        assert_eq!(&buffer[..3], b"one");
        assert!(pile.read(4, &mut buffer).is_err());
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
