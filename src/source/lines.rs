//! Lines of text files, by byte ranges: each rank reads the bytes that it works on, nothing travels.
//!
//! An index is a byte of the files laid end to end, and a line belongs to its first byte. So a range is cut anywhere:
//!
//! ```text
//! index      0        a                   b
//! text       ...one\ntwo\nthree\nfo|ur\n...      read(a..b) starts at the first line start in a..b (`three` here)
//!               |------ range -----|--| past b   and ends where the last of its lines ends (`four`)
//! ```
//!
//! Whether a line starts at `a` is seen from the byte before. Cuts fall on line ends only, so no character is split. All lines
//! of a compressed file belong to its first byte.

mod text;

use std::fs::File;
use std::io::ErrorKind;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use text::Spare;
pub use text::{Line, Text};

use super::files::{Files, Part, cannot};
use super::{Source, SourceError};

/// The first look past the end of a range, in bytes: longer than most lines, so one system call reads most ranges.
const LOOK_AHEAD: u64 = 1 << 10;

/// What `map_batches` is given at most, besides the end of its last line: it is in memory, once for each thread.
const LONGEST_BATCH: u64 = 16 << 20;

/// What `fold_batches` is given at most, besides the end of its last line: it is in the cache of a core still when it is
/// looked at, after it was read and checked.
const LONGEST_PIECE: u64 = 1 << 20;

/// Each further look is twice as long, up to this.
const LONGEST_LOOK_AHEAD: u64 = 1 << 20;

/// The lines of text files; the mapper is given a [`Line`]. Made by [`lines()`].
#[derive(Debug)]
pub struct Lines {
    files: Files,
    lossy: bool,
    spare: Arc<Spare>,
}

/// The lines of text files, in the order of the paths. Each rank reads its own part, so every rank must see the files.
///
/// A line is what [`str::lines`] gives, file by file: without its `\n` or `\r\n`; an empty line is a line; the end of a
/// file ends its last line. A byte order mark is left in place. A line is held in memory in full, the files never are.
/// Text that is not UTF-8 is an error that names the byte, unless [`Lines::lossy`] is asked for.
///
/// A file whose name ends in `.gz` or `.zst` is decompressed by whoever works on its first byte, all of it at once, and nobody
/// helps with it: many files of some 100 MB are better than one of 100 GB. The text of all such files that begin in a range is
/// in memory while a thread works on the range: a leaf, or what `map_batches` is given.
///
/// A file that is missing, is no regular file, differs in name or length between ranks, or shrinks while it is read,
/// is an error. What is added to a file after the call has begun is not looked at.
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let path = std::env::temp_dir().join(format!("rankfold-doc-lines-{}.txt", std::process::id()));
/// std::fs::write(&path, "to be\nor not to be\n")?;
///
/// let world = rankfold::init()?;
/// let words = |line: rankfold::data::Line| line.split_whitespace().count();
/// let total = world.map_reduce(rankfold::data::lines([&path]), words, |a, b| a + b)?;
/// assert_eq!(total, 6);
/// # std::fs::remove_file(&path)?;
/// # Ok(())
/// # }
/// ```
///
/// Over gigabytes, a whole batch of text at a time is faster still:
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let path = std::env::temp_dir().join(format!("rankfold-doc-batches-{}.txt", std::process::id()));
/// # std::fs::write(&path, "to be\nor not to be\n")?;
/// # let world = rankfold::init()?;
/// let longest = |text: rankfold::data::Text| text.lines().map(str::len).max().unwrap_or(0);
/// let length = world.over(rankfold::data::lines([&path])).map_batches(longest, usize::max)?;
/// assert_eq!(length, 12);
/// # std::fs::remove_file(&path)?;
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn lines<P: Into<PathBuf>>(paths: impl IntoIterator<Item = P>) -> Lines {
    Lines { files: Files::new(paths, 1), lossy: false, spare: Arc::default() }
}

impl Lines {
    /// Puts U+FFFD in the place of bytes that are not UTF-8, instead of an error.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let path = std::env::temp_dir().join(format!("rankfold-doc-lossy-{}.txt", std::process::id()));
    /// std::fs::write(&path, b"caf\xE9\n")?; // ISO 8859-1
    ///
    /// let world = rankfold::init()?;
    /// let lines = rankfold::data::lines([&path]).lossy();
    /// let all = world.over(lines).map(|line| line.to_string())?;
    /// assert_eq!(all, ["caf\u{FFFD}"]);
    /// # std::fs::remove_file(&path)?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn lossy(mut self) -> Self {
        self.lossy = true;
        self
    }

    /// Adds the lines that start in `part` to `text`, each with its line end. What was read before the first of them is
    /// made line ends, since moving all that follows takes longer. Returns how many these are, and where in the file the
    /// lines start.
    fn read_part(&self, part: &Part, text: &mut Vec<u8>) -> Result<(usize, u64), SourceError> {
        let path = self.files.path(part.file);
        let file = self.files.open(part.file)?;
        let base = text.len();
        if let Some(compression) = part.compression {
            compression.read(path, &file, part.file_length, text)?;
            end_line(text, base);
            return Ok((0, 0));
        }
        let from = part.range.start.saturating_sub(1);
        let mut to = part.range.end.saturating_add(LOOK_AHEAD).min(part.file_length);
        append(path, &file, from..to, text)?;

        let last = base + (part.range.end - 1 - from) as usize;
        let skipped = match newline(&text[base..last]) {
            _ if part.range.start == 0 => 0,
            Some(at) => at + 1,
            None => {
                text.truncate(base);
                return Ok((0, part.range.end));
            }
        };

        let mut searched = last;
        let mut look_ahead = LOOK_AHEAD;
        loop {
            if let Some(at) = newline(&text[searched..]) {
                text.truncate(searched + at + 1);
                break;
            }
            if to == part.file_length {
                end_line(text, base);
                break;
            }
            searched = text.len();
            look_ahead = (look_ahead * 2).min(LONGEST_LOOK_AHEAD);
            let next = to.saturating_add(look_ahead).min(part.file_length);
            append(path, &file, to..next, text)?;
            to = next;
        }
        text[base..base + skipped].fill(b'\n');
        Ok((skipped, from + skipped as u64))
    }

    /// `starts`: for each part, where it starts in `text`, its file, and where it starts in the file.
    fn decode(&self, text: Vec<u8>, starts: &[(usize, usize, u64)]) -> Result<String, SourceError> {
        String::from_utf8(text).or_else(|error| {
            if self.lossy {
                return Ok(String::from_utf8_lossy(error.as_bytes()).into_owned());
            }
            let at = error.utf8_error().valid_up_to();
            let (start, file, offset) = starts[starts.partition_point(|(start, ..)| *start <= at) - 1];
            Err(SourceError::new(
                format!(
                    "{} is not UTF-8: no character begins with the byte 0x{:02X} at offset {}",
                    self.files.path(file).display(),
                    error.as_bytes()[at],
                    offset + (at - start) as u64,
                ),
                "convert the file (iconv), or take U+FFFD for such bytes: lines(..).lossy()",
            ))
        })
    }
}

impl Source for Lines {
    type Item = Line;
    type Batch = Text;
    type Parcel = ();

    fn kind(&self) -> &'static str {
        "lines of text files"
    }

    fn unit(&self) -> &'static str {
        "bytes"
    }

    fn len(&self) -> Result<u64, SourceError> {
        self.files.len()
    }

    fn fingerprint(&self) -> u64 {
        self.files.fingerprint()
    }

    fn batch(&self) -> u64 {
        LONGEST_BATCH
    }

    fn piece(&self) -> u64 {
        LONGEST_PIECE
    }

    fn leaf(&self, len: u64) -> u64 {
        // Small enough that a short list of long jobs is spread over all ranks, large enough to be worth a read.
        (len >> 20).max((len >> 8).clamp(64, 4 << 20))
    }

    fn unpack(&self, _range: Range<u64>, _bytes: &[u8]) -> Result<(), SourceError> {
        Ok(())
    }

    fn read(&self, _parcel: &(), range: Range<u64>) -> Result<Text, SourceError> {
        let mut text = self.spare.take();
        let (mut begin, mut starts) = (0, Vec::new());
        for part in self.files.parts(&range)? {
            let start = text.len();
            let (skipped, offset) = self.read_part(&part, &mut text)?;
            // Only the first part can begin in the middle of a line: the others begin where their files do.
            begin += skipped;
            starts.push((start + skipped, part.file, offset));
        }
        Ok(Text::new(self.decode(text, &starts)?, begin, &self.spare))
    }

    /// Where several files are in the range, reads again what comes before the line.
    fn describe(&self, range: Range<u64>, nth: u64) -> String {
        let parts = self.files.parts(&range).unwrap_or_default();
        let mut nth = nth;
        let mut text = Vec::new();
        for (number, part) in parts.iter().enumerate() {
            if number + 1 < parts.len() {
                text.clear();
                // A part that cannot be read now has no lines to count.
                let skipped = self.read_part(part, &mut text).map_or(0, |(skipped, _)| skipped);
                let count = text[skipped..].split_inclusive(|byte| *byte == b'\n').count() as u64;
                if nth >= count {
                    nth -= count;
                    continue;
                }
            }
            let after = if part.range.start == 0 { String::new() } else { format!("after byte {} ", part.range.start) };
            return format!("line {} {after}of {}", nth + 1, self.files.path(part.file).display());
        }
        format!("line {} after byte {} of the input", nth + 1, range.start)
    }
}

/// Adds the line end that a file lacks. A "\r" that ends the file stays part of its line, as in `str::lines`.
fn end_line(text: &mut Vec<u8>, base: usize) {
    if text.len() > base && !text.ends_with(b"\n") {
        text.extend_from_slice(if text.ends_with(b"\r") { b"\r\n" } else { b"\n" });
    }
}

fn newline(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == b'\n')
}

/// Reads exactly `range` of a file to the end of `text`.
fn append(path: &Path, file: &File, range: Range<u64>, text: &mut Vec<u8>) -> Result<(), SourceError> {
    let old = text.len();
    let more = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
    text.try_reserve(more).map_err(|_| {
        SourceError::new(
            format!("{} bytes of {} do not fit in memory", range.end - range.start, path.display()),
            "ask for smaller leaves, .leaf(bytes), or for shorter lines",
        )
    })?;
    text.resize(old + more, 0);
    file.read_exact_at(&mut text[old..], range.start).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => SourceError::new(
            format!("{} has become shorter while it was read: byte {} is gone", path.display(), range.end - 1),
            "start again when nothing writes to it",
        ),
        _ => cannot("read", path, &error),
    })
}

#[cfg(test)]
mod tests;
