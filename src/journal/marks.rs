//! What this rank is computing, noted on the disk, so that the next job can tell with what this one crashed.
//!
//! Only after a job has crashed: marks are written by the threads that compute, before and after each batch. They are not
//! synced: what a process has written outlives the process; where the whole machine goes, its marks go with it, and say
//! nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::format::{self, Owner};
use super::storage::{Pen, Storage};
use super::suspects::Mark;
use super::{Notes, folder_of_call};
use crate::extent::Extent;

/// The marks of one rank in one call.
pub(crate) struct Marks {
    owner: Owner,
    state: Mutex<State>,
}

struct State {
    /// What is computed, and which item of it where that is watched.
    now: BTreeMap<Extent, Option<u64>>,
    /// Nothing any more when it cannot be written, or when the end of the job is known to be nobody's fault here.
    pen: Option<Box<dyn Pen>>,
}

impl Marks {
    /// Begins with an empty page; nothing where it cannot be written, which only makes a search longer.
    pub fn new(storage: &Arc<dyn Storage>, notes: &Notes, rank: usize) -> Self {
        let owner = Owner { run: notes.run, call: notes.call, leaves: notes.leaves };
        let name = format!("{}/{}", folder_of_call(notes.call), name_of(notes.job, rank));
        let marks = Self { owner, state: Mutex::new(State { now: BTreeMap::new(), pen: storage.pen(&name).ok() }) };
        marks.write(|_| {});
        marks
    }

    pub fn begin(&self, extent: Extent) {
        self.write(|now| _ = now.insert(extent, None));
    }

    /// An item of a leaf that is watched comes next.
    pub fn item(&self, leaf: Extent, nth: u64) {
        self.write(|now| _ = now.insert(leaf, Some(nth)));
    }

    pub fn end(&self, extent: Extent) {
        self.write(|now| now.retain(|other, _| !extent.contains(*other)));
    }

    /// This rank was told to end: whatever comes now, it is not the fault of what it computes.
    pub fn absolve(&self) {
        self.write(BTreeMap::clear);
        self.lock().pen = None;
    }

    fn write(&self, change: impl FnOnce(&mut BTreeMap<Extent, Option<u64>>)) {
        let mut state = self.lock();
        change(&mut state.now);
        let bytes = encode(self.owner, &state.now);
        if state.pen.as_mut().is_some_and(|pen| pen.write(&bytes).is_err()) {
            state.pen = None;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The file of a rank's marks, in the folder of the call.
fn name_of(job: u64, rank: usize) -> String {
    format!("m{job:04}-r{rank:05}")
}

/// The job whose marks a file holds, by its name.
pub(super) fn job_of_marks(name: &str) -> Option<u64> {
    name.rsplit('/').next()?.strip_prefix('m')?.split_once("-r")?.0.parse().ok()
}

fn encode(owner: Owner, now: &BTreeMap<Extent, Option<u64>>) -> Vec<u8> {
    let value = |nth: &Option<u64>| nth.map_or(Vec::new(), |nth| nth.to_le_bytes().to_vec());
    let records: Vec<(Extent, Vec<u8>)> = now.iter().map(|(extent, nth)| (*extent, value(nth))).collect();
    format::encode(owner, &records)
}

/// What a rank was computing. A page that makes no sense, as a power loss may leave it, says nothing.
pub(super) fn decode(owner: Owner, bytes: &[u8]) -> Option<Vec<Mark>> {
    let decoded = format::decode(bytes).ok()?;
    if decoded.owner != owner || decoded.torn.is_some() {
        return None;
    }
    let nth = |value: &[u8]| value.try_into().ok().map(u64::from_le_bytes);
    Some(decoded.segments.into_iter().map(|(extent, value)| Mark { extent, nth: nth(&bytes[value]) }).collect())
}

#[cfg(test)]
mod tests {
    use super::super::storage::memory::Memory;
    use super::*;

    #[test]
    fn the_page_shows_what_is_computed_now_and_nothing_once_it_is_told_to_end() {
        let memory = Memory::default();
        let storage: Arc<dyn Storage> = Arc::new(memory.clone());
        let notes = Notes { run: 7, job: 3, call: 2, leaves: 100, ..Notes::default() };
        let marks = Marks::new(&storage, &notes, 5);
        let page = || decode(marks.owner, &memory.read("calls/000002/m0003-r00005").unwrap()).unwrap();
        let mark = |start, len, nth| Mark { extent: Extent::new(start, len), nth };
        assert_eq!(page(), []);
        marks.begin(Extent::new(8, 4));
        marks.begin(Extent::new(32, 1));
        marks.item(Extent::new(32, 1), 17);
        assert_eq!(page(), [mark(8, 4, None), mark(32, 1, Some(17))]);
        marks.end(Extent::new(8, 4));
        assert_eq!(page(), [mark(32, 1, Some(17))]);
        marks.absolve();
        marks.begin(Extent::new(64, 1));
        assert_eq!(page(), []);
        assert_eq!(job_of_marks("calls/000002/m0003-r00005"), Some(3));
        assert_eq!(job_of_marks("calls/000002/g0003-r00005"), None);
    }
}
