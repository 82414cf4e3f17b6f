//! What a range of text gives: [`Text`], whole lines in one buffer, and [`Line`], one of them.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Buffers kept for later texts. Each thread uses one at a time, and brings it back when it takes the next.
const SPARE_MOST: usize = 64;
/// One that a single long line has made longer, in bytes, is not kept.
const SPARE_LONGEST: usize = 32 << 20;

/// A run of whole lines, what `map_batches` and `fold_batches` are given over [`lines()`](super::lines()).
///
/// As an iterator it gives a [`Line`] each; [`Text::lines`] gives `&str` and counts no reference, which is faster.
#[derive(Debug, Clone)]
pub struct Text {
    buffer: Arc<Buffer>,
    /// Where the first line starts.
    begin: usize,
}

/// Every line has its line end, also where the file lacks it.
#[derive(Debug)]
struct Buffer {
    text: String,
    spare: Weak<Spare>,
}

/// Buffers of texts that nobody holds any more. A large one that is new each time costs the kernel a page fault every
/// 4 KiB, and the allocator a consolidation of all that is small.
#[derive(Debug, Default)]
pub(super) struct Spare(Mutex<Vec<String>>);

impl Spare {
    /// An empty buffer.
    pub fn take(&self) -> Vec<u8> {
        let mut text = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        text.clear();
        text.into_bytes()
    }

    fn bring_back(&self, text: String) {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE_MOST && text.capacity() <= SPARE_LONGEST {
            spare.push(text);
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(spare) = self.spare.upgrade() {
            spare.bring_back(std::mem::take(&mut self.text));
        }
    }
}

impl Text {
    /// Every line in `text` has its line end. The first line starts at `begin`.
    pub(super) fn new(text: String, begin: usize, spare: &Arc<Spare>) -> Text {
        Text { buffer: Arc::new(Buffer { text, spare: Arc::downgrade(spare) }), begin }
    }

    /// The lines as they are in the files, with their line ends. A line end that a file lacks at its end is added.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.buffer.text[self.begin..]
    }

    /// The lines without their line ends.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.as_str().lines()
    }
}

impl IntoIterator for Text {
    type Item = Line;
    type IntoIter = IntoLines;

    fn into_iter(self) -> IntoLines {
        IntoLines { buffer: self.buffer, at: self.begin }
    }
}

/// The lines of a [`Text`], one by one.
#[doc(hidden)]
#[derive(Debug)]
pub struct IntoLines {
    buffer: Arc<Buffer>,
    at: usize,
}

impl Iterator for IntoLines {
    type Item = Line;

    fn next(&mut self) -> Option<Line> {
        let text = &self.buffer.text;
        let length = text[self.at..].lines().next()?.len();
        let start = self.at;
        let end = start + length;
        self.at = end + if text.as_bytes()[end] == b'\r' { 2 } else { 1 };
        Some(Line { buffer: Arc::clone(&self.buffer), start, end })
    }
}

/// One line of a text file, without its line end: a `&str` that owns its text.
///
/// It shares the text of its leaf, and so is cheap to clone and to send. To keep a few of many lines, keep
/// `line.to_string()`: a `Line` keeps the whole leaf in memory.
#[derive(Clone)]
pub struct Line {
    buffer: Arc<Buffer>,
    start: usize,
    end: usize,
}

impl Deref for Line {
    type Target = str;

    fn deref(&self) -> &str {
        &self.buffer.text[self.start..self.end]
    }
}

impl AsRef<str> for Line {
    fn as_ref(&self) -> &str {
        self
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl PartialEq for Line {
    fn eq(&self, other: &Line) -> bool {
        **self == **other
    }
}

impl Eq for Line {}

impl PartialEq<str> for Line {
    fn eq(&self, other: &str) -> bool {
        **self == *other
    }
}

impl PartialEq<&str> for Line {
    fn eq(&self, other: &&str) -> bool {
        **self == **other
    }
}
