//! What a range of text gives: [`Text`], whole lines in one buffer, and [`Line`], one of them.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// A run of whole lines, what `map_batches` is given over [`lines()`](super::lines()).
///
/// As an iterator it gives a [`Line`] each; [`Text::lines`] gives `&str` and counts no reference, which is faster.
#[derive(Debug, Clone)]
pub struct Text {
    /// Every line has its line end, also where the file lacks it.
    text: Arc<String>,
}

impl Text {
    /// Every line in `text` has its line end.
    pub(super) fn new(text: String) -> Text {
        Text { text: Arc::new(text) }
    }

    /// The lines as they are in the files, with their line ends. A line end that a file lacks at its end is added.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The lines without their line ends.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.lines()
    }
}

impl IntoIterator for Text {
    type Item = Line;
    type IntoIter = IntoLines;

    fn into_iter(self) -> IntoLines {
        IntoLines { text: self.text, at: 0 }
    }
}

/// The lines of a [`Text`], one by one.
#[doc(hidden)]
#[derive(Debug)]
pub struct IntoLines {
    text: Arc<String>,
    at: usize,
}

impl Iterator for IntoLines {
    type Item = Line;

    fn next(&mut self) -> Option<Line> {
        let length = self.text[self.at..].lines().next()?.len();
        let start = self.at;
        let end = start + length;
        self.at = end + if self.text.as_bytes()[end] == b'\r' { 2 } else { 1 };
        Some(Line { text: Arc::clone(&self.text), start, end })
    }
}

/// One line of a text file, without its line end: a `&str` that owns its text.
///
/// It shares the text of its leaf, and so is cheap to clone and to send. To keep a few of many lines, keep
/// `line.to_string()`: a `Line` keeps the whole leaf in memory.
#[derive(Clone)]
pub struct Line {
    text: Arc<String>,
    start: usize,
    end: usize,
}

impl Deref for Line {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text[self.start..self.end]
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
