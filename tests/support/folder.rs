//! A folder for one test.

use std::fs;
use std::path::PathBuf;

/// A folder that is gone when the test is over.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("rankfold-test-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    pub fn path(&self) -> &str {
        self.0.to_str().expect("a path of ours")
    }

    /// The snapshots of a journal in it that are whole.
    pub fn snapshots(&self) -> Vec<PathBuf> {
        let is_whole = |file: &PathBuf| file.extension().is_none();
        self.files("-r0").into_iter().filter(is_whole).collect()
    }

    /// The files below it whose names have this part, in order.
    pub fn files(&self, part: &str) -> Vec<PathBuf> {
        let (mut found, mut folders) = (Vec::new(), vec![self.0.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                match path.is_dir() {
                    true => folders.push(path),
                    false if path.display().to_string().contains(part) => found.push(path),
                    false => {}
                }
            }
        }
        found.sort();
        found
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
