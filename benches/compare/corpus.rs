//! Text to count words in: what is on the machine already, as one file.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::launch::{Launcher, Result};

/// Where a machine with Rust has text.
const FOLDERS: [&str; 7] = [
    "~/.rustup/toolchains",
    "~/.cargo/registry/src",
    "/usr/share/doc",
    "/usr/share/man",
    "/usr/include",
    "/usr/lib/python3",
    "~/.pyenv",
];

/// Extensions of text with lines, and of text that is taken when there is too little of that.
const PLAIN: [&str; 7] = ["txt", "md", "rst", "rs", "py", "h", "c"];
const MARKUP: [&str; 2] = ["html", "xml"];

pub(crate) struct Corpus {
    pub(crate) path: PathBuf,
    pub(crate) description: String,
}

/// A file of `size` bytes or little more, made once.
pub(crate) fn corpus(launcher: &Launcher, size: u64) -> Result<Corpus> {
    let target = launcher.programs.ancestors().nth(2).unwrap_or(Path::new("target"));
    let folder = target.join("bench-data");
    let (path, notes) = (folder.join(format!("text-{size}.txt")), folder.join(format!("text-{size}.about")));
    if !notes.exists() {
        fs::create_dir_all(&folder)?;
        let about = write(&path, size)?;
        fs::write(&notes, about)?;
    }
    // Into the page cache: what is measured is not the disk.
    std::io::copy(&mut File::open(&path)?, &mut std::io::sink())?;
    Ok(Corpus { description: fs::read_to_string(&notes)?, path })
}

fn write(path: &Path, size: u64) -> Result<String> {
    let home = std::env::var("HOME").unwrap_or_default();
    let mut files = Vec::new();
    for folder in FOLDERS {
        collect(Path::new(&folder.replace('~', &home)), &mut files);
    }
    let has = |file: &Path, known: &[&str]| file.extension().is_some_and(|e| known.iter().any(|known| e == *known));
    let (plain, markup): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| has(file, &PLAIN));
    let markup = markup.into_iter().filter(|file| has(file, &MARKUP));
    let mut out = BufWriter::new(File::create(path)?);
    let (mut written, mut used, mut rounds) = (0, 0, 0);
    let files: Vec<_> = plain.into_iter().chain(markup).collect();
    while written < size {
        let before = written;
        for file in &files {
            let Ok(text) = fs::read_to_string(file) else { continue };
            out.write_all(text.as_bytes())?;
            out.write_all(b"\n")?;
            written += text.len() as u64 + 1;
            used += 1;
            if written >= size {
                break;
            }
        }
        if written == before {
            return Err("there is no text on this machine to make a corpus of".into());
        }
        rounds += 1;
    }
    out.flush()?;
    let repeated = if rounds > 1 { format!(", repeated {rounds} times") } else { String::new() };
    Ok(format!("{written} bytes of UTF-8 from {used} files (documentation, sources){repeated}"))
}

/// All files below a folder in a fixed order; symbolic links are not followed.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut entries: Vec<_> = entries.flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => collect(&entry.path(), files),
            Ok(kind) if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
}
