//! What `fuzz/` reaches of journals: files that nobody has written, as they are on a disk that lies.

use std::collections::BTreeMap;
use std::io;

use super::format::{self, Decoded};
use super::inspect::{Inspection, read};
use super::storage::{Pen, Roll, Storage};
use super::values;

/// Decodes one file, as one with segments and as one with values. What is accepted lies inside of the file, in order, and is the same again once it is written anew.
pub fn decode(bytes: &[u8]) {
    if let Ok(decoded) = values::decode(bytes) {
        assert!(decoded.whole <= bytes.len(), "{decoded:?}");
        let ends = decoded.values.iter().map(|found| found.value.end);
        assert!(ends.clone().is_sorted() && ends.max().is_none_or(|end| end <= decoded.whole), "{decoded:?}");
    }
    let Ok(Decoded { owner, segments, omits, torn }) = format::decode(bytes) else { return };
    let mut end = 0;
    for (extent, place) in &segments {
        assert!(end <= place.start && place.start <= place.end && place.end <= bytes.len(), "{place:?}");
        assert!(extent.len.is_power_of_two() && extent.start.is_multiple_of(extent.len), "{extent:?}");
        assert!(extent.start < owner.leaves && extent.start.checked_add(extent.len).is_some(), "{extent:?}");
        end = place.end;
    }
    assert!(torn.is_none_or(|(found, expected)| found == bytes.len() as u64 && found < expected), "{torn:?}");
    let values: Vec<_> = segments.iter().map(|(extent, place)| (*extent, bytes[place.clone()].to_vec())).collect();
    let again = format::encode_with(owner, &values, omits);
    let decoded = format::decode(&again).expect("what was written just now");
    let read = decoded.segments.iter().map(|(extent, place)| (*extent, again[place.clone()].to_vec()));
    assert!(decoded.torn.is_none() && decoded.omits == omits && decoded.owner == owner && read.eq(values));
}

/// Reads a whole journal of such files, by their names.
#[must_use]
pub fn inspect(files: BTreeMap<String, Vec<u8>>) -> Option<Inspection> {
    let inspection = read(&Found(files)).ok()?;
    for call in &inspection.calls {
        let missing: u64 = call.missing.iter().map(|(start, end)| end - start).sum();
        let is_all = call.missing.len() < 100;
        assert!(call.done <= call.items && (!is_all || call.done + missing == call.items), "{call:?}");
    }
    Some(inspection)
}

/// Files that can be read, and nothing else.
struct Found(BTreeMap<String, Vec<u8>>);

impl Storage for Found {
    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        Ok(self.0.keys().filter(|name| name.starts_with(folder)).cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.0.get(name).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn make_folder(&self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn create(&self, _: &str, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn put(&self, _: &str, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn put_durably(&self, _: &str, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync_folder(&self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn roll(&self, _: &str) -> io::Result<Box<dyn Roll>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn pen(&self, _: &str) -> io::Result<Box<dyn Pen>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_nobody_has_written_are_refused_or_read() {
        let dice = &mut crate::random::rng(1, 2);
        for length in 0..300usize {
            let bytes: Vec<u8> = (0..length).map(|_| rand::RngExt::random(dice)).collect();
            decode(&bytes);
            let _ = inspect(BTreeMap::from([("m1-r0".to_owned(), bytes)]));
        }
    }
}
