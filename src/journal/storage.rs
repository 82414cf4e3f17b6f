//! Where a journal lives: files in a folder, or memory that can lose its power.
//!
//! Names are relative to the journal's folder. A file is written under a temporary name, synced, renamed, and the folder
//! synced, in this order (`write`): at any moment the name means either the old content or the new one, whatever happens.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// The steps that journals are made of.
pub(crate) trait Storage: Send + Sync {
    /// The names of the files below a folder, in order; none if there is no such folder.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;

    fn read(&self, name: &str) -> io::Result<Vec<u8>>;

    /// Makes a folder and those above it, where they are missing.
    fn make_folder(&self, folder: &str) -> io::Result<()>;

    /// A new file with this content, durable or not; an error if there is one already.
    fn create(&self, name: &str, content: &[u8]) -> io::Result<()>;

    /// Replaces the content of a file, durable or not.
    fn put(&self, name: &str, content: &[u8]) -> io::Result<()>;

    /// Replaces the content of a file, which is durable when this returns.
    fn put_durably(&self, name: &str, content: &[u8]) -> io::Result<()>;

    /// What files there are in a folder is durable when this returns.
    fn sync_folder(&self, folder: &str) -> io::Result<()>;

    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    fn remove(&self, name: &str) -> io::Result<()>;

    /// A new file that is appended to; an error if there is one already.
    fn roll(&self, name: &str) -> io::Result<Box<dyn Roll>>;

    /// A new file that is written over and over, and never durable.
    fn pen(&self, name: &str) -> io::Result<Box<dyn Pen>>;
}

/// A file that is open to be written over.
pub(crate) trait Pen: Send {
    /// Replaces the content.
    fn write(&mut self, content: &[u8]) -> io::Result<()>;
}

/// A file that is open to be appended to.
pub(crate) trait Roll: Send {
    /// After an error it may hold a part of this.
    fn append(&mut self, content: &[u8]) -> io::Result<()>;

    /// What was appended is durable when this returns; the name of a new file once its folder is synced as well.
    fn sync(&mut self) -> io::Result<()>;
}

/// Files with this ending are not finished.
pub(crate) const UNFINISHED: &str = ".new";

/// Writes a file so that its name means the old content or the new one at any moment.
pub(crate) fn write(storage: &dyn Storage, name: &str, content: &[u8]) -> io::Result<()> {
    let unfinished = format!("{name}{UNFINISHED}");
    let written = storage
        .put_durably(&unfinished, content)
        .and_then(|()| storage.rename(&unfinished, name))
        .and_then(|()| storage.sync_folder(folder_of(name)));
    if written.is_err() {
        // What is left of it takes space, which may be what there is too little of.
        let _ = storage.remove(&unfinished);
    }
    written
}

/// The folder that a file is in.
pub(crate) fn folder_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// An open file, with the length that it has.
struct Page {
    file: File,
    length: usize,
}

impl Pen for Page {
    fn write(&mut self, content: &[u8]) -> io::Result<()> {
        self.file.write_all_at(content, 0)?;
        if content.len() < self.length {
            self.file.set_len(content.len() as u64)?;
        }
        self.length = content.len();
        Ok(())
    }
}

impl Roll for File {
    fn append(&mut self, content: &[u8]) -> io::Result<()> {
        self.write_all(content)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

/// Real files, which nobody else may read. Symbolic links inside of the folder are not followed.
#[derive(Debug)]
pub(crate) struct Files {
    root: PathBuf,
}

impl Files {
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.root.clone() } else { self.root.join(name) }
    }

    fn open(&self, name: &str, options: &mut OpenOptions) -> io::Result<File> {
        options.mode(0o600).custom_flags(OFlags::NOFOLLOW.bits() as i32).open(self.path(name))
    }
}

impl Storage for Files {
    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
        while let Some(folder) = folders.pop() {
            let entries = match std::fs::read_dir(self.path(&folder)) {
                Ok(entries) => entries,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for entry in entries {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                let name = if folder.is_empty() { name } else { format!("{folder}/{name}") };
                if entry.file_type()?.is_dir() { folders.push(name) } else { files.push(name) }
            }
        }
        files.sort_unstable();
        Ok(files)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(name, OpenOptions::new().read(true))?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn make_folder(&self, folder: &str) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(self.path(folder))
    }

    fn create(&self, name: &str, content: &[u8]) -> io::Result<()> {
        self.open(name, OpenOptions::new().write(true).create_new(true))?.write_all(content)
    }

    fn put(&self, name: &str, content: &[u8]) -> io::Result<()> {
        self.open(name, OpenOptions::new().write(true).create(true).truncate(true))?.write_all(content)
    }

    fn put_durably(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut file = self.open(name, OpenOptions::new().write(true).create(true).truncate(true))?;
        file.write_all(content)?;
        // By the handle that wrote: some file systems tell it alone that there was no room.
        file.sync_all()
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        File::open(self.path(folder))?.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(name))
    }

    fn roll(&self, name: &str) -> io::Result<Box<dyn Roll>> {
        Ok(Box::new(self.open(name, OpenOptions::new().append(true).create_new(true))?))
    }

    fn pen(&self, name: &str) -> io::Result<Box<dyn Pen>> {
        let file = self.open(name, OpenOptions::new().write(true).create(true).truncate(true))?;
        Ok(Box::new(Page { file, length: 0 }))
    }
}

#[cfg(test)]
pub(crate) mod memory;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_private_and_links_are_not_followed() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let root = std::env::temp_dir().join(format!("rankfold-storage-{}", std::process::id()));
        let files = Files::new(&root);
        files.make_folder("calls/1").unwrap();
        write(&files, "calls/1/a", b"one").unwrap();
        write(&files, "calls/1/a", b"two").unwrap();
        assert_eq!(files.read("calls/1/a").unwrap(), b"two");
        assert_eq!(files.list("").unwrap(), ["calls/1/a"]);
        let mode = |name: &str| std::fs::metadata(root.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("calls"), mode("calls/1/a")), (0o700, 0o600));
        let outside = root.with_extension("outside");
        std::fs::write(&outside, "precious").unwrap();
        symlink(&outside, root.join("calls/1/b")).unwrap();
        assert!(files.read("calls/1/b").is_err() && files.put("calls/1/b", b"x").is_err());
        assert_eq!(std::fs::read(&outside).unwrap(), b"precious");
        std::fs::remove_dir_all(&root).unwrap();
        std::fs::remove_file(&outside).unwrap();
    }
}
