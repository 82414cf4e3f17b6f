//! The values that a rank keeps; and where its memory is bounded, which of them are on its disk.
//!
//! The thread that serves a rank says what is kept, used and freed. Another one writes, since a disk may be slow; reading
//! back is done by whoever needs a value, in [`Kept`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use super::kept::{Kept, discard};
use super::scratch::{self, Scratch};
use super::spill::{Spill, Use};
use crate::error::Place;
use crate::lock::lock;
use crate::master::tasks::TaskId;

#[derive(Debug)]
pub(crate) struct Store {
    values: BTreeMap<TaskId, Arc<Kept>>,
    memory: Option<Arc<Memory>>,
}

/// What is in memory, of a rank with a bound on that.
#[derive(Debug)]
pub(crate) struct Memory {
    place: Place,
    books: Mutex<Books>,
    /// Held by who writes.
    pen: Mutex<()>,
    /// Somebody is going to write.
    is_asked: AtomicBool,
    is_told: AtomicBool,
}

#[derive(Debug)]
struct Books {
    spill: Spill,
    values: BTreeMap<TaskId, Weak<Kept>>,
    scratch: Option<Arc<Scratch>>,
    /// There was no room, and nothing was removed since.
    is_full: bool,
    /// Nothing is kept any more.
    is_closed: bool,
}

impl Store {
    /// A store, with the bytes that may be in memory if there is a bound.
    pub fn new(place: &Place, bound: Option<u64>) -> Self {
        let memory = |bound| {
            let books = Books {
                spill: Spill::new(bound),
                values: BTreeMap::new(),
                scratch: None,
                is_full: false,
                is_closed: false,
            };
            let (place, books) = (place.clone(), Mutex::new(books));
            let (is_asked, is_told) = (AtomicBool::new(false), AtomicBool::new(false));
            Arc::new(Memory { place, books, pen: Mutex::default(), is_asked, is_told })
        };
        Self { values: BTreeMap::new(), memory: bound.map(memory) }
    }

    /// Keeps a value of about so many bytes.
    pub fn insert(&mut self, value: TaskId, kept: Arc<Kept>, bytes: u64) {
        if let Some(memory) = &self.memory {
            let mut books = lock(&memory.books);
            books.spill.keep(value, bytes);
            books.values.insert(value, Arc::downgrade(&kept));
        }
        self.values.insert(value, kept);
    }

    /// A value that is about to be used.
    pub fn get(&self, value: TaskId) -> Option<&Arc<Kept>> {
        let kept = self.values.get(&value)?;
        if let Some(memory) = &self.memory {
            lock(&memory.books).spill.used(value);
        }
        Some(kept)
    }

    /// A value that is about to be sent: wherever it is, it stays there.
    pub fn look_at(&self, value: TaskId) -> Option<&Arc<Kept>> {
        self.values.get(&value)
    }

    pub fn remove(&mut self, value: TaskId) -> Option<Arc<Kept>> {
        if let Some(memory) = &self.memory {
            let mut books = lock(&memory.books);
            books.values.remove(&value);
            if books.spill.forget(value) {
                books.is_full = false;
            }
        }
        self.values.remove(&value)
    }

    /// Where something has to be written, and nobody is asked to do so yet: who can.
    pub fn overflow(&self) -> Option<Arc<Memory>> {
        let memory = self.memory.as_ref()?;
        let books = lock(&memory.books);
        let has_to = books.spill.is_over() && !books.is_full && !memory.is_asked.swap(true, Ordering::Relaxed);
        has_to.then(|| Arc::clone(memory))
    }
}

impl Drop for Store {
    /// The folder is gone when this returns, unless somebody outside has a value that is there. Who writes is waited for,
    /// which is no longer than one value takes.
    fn drop(&mut self) {
        if let Some(memory) = &self.memory {
            lock(&memory.books).is_closed = true;
            let _pen = lock(&memory.pen);
            let scratch = lock(&memory.books).scratch.take();
            drop(scratch);
        }
        std::mem::take(&mut self.values).into_values().for_each(discard);
    }
}

impl Memory {
    /// Writes values that nobody shares until what is left may be in memory. What there is no room for stays there.
    pub fn spill(&self) {
        let _pen = lock(&self.pen);
        // Asked from now on, it looks again.
        self.is_asked.store(false, Ordering::Relaxed);
        let mut tried = BTreeSet::new();
        while let Some((value, last, kept)) = self.next(&tried) {
            tried.insert(value);
            let spilled = self.scratch().and_then(|scratch| kept.spill(&scratch));
            // The last to have it frees it, and its type is the user's.
            discard(kept);
            match spilled {
                Ok(true) => lock(&self.books).spill.spilled(value, last),
                Ok(false) => {}
                Err(problem) => {
                    lock(&self.books).is_full = true;
                    self.tell(&problem);
                    return;
                }
            }
        }
    }

    fn next(&self, tried: &BTreeSet<TaskId>) -> Option<(TaskId, Use, Arc<Kept>)> {
        let books = lock(&self.books);
        if books.is_closed {
            return None;
        }
        // The store has it, and nobody else.
        let is_idle = |value| books.values.get(&value).is_some_and(|kept| kept.strong_count() == 1);
        let (value, last) = books.spill.next(|value| !tried.contains(&value) && is_idle(value))?;
        Some((value, last, books.values[&value].upgrade()?))
    }

    fn scratch(&self) -> std::io::Result<Arc<Scratch>> {
        if let Some(scratch) = &lock(&self.books).scratch {
            return Ok(Arc::clone(scratch));
        }
        let scratch = Arc::new(Scratch::new()?);
        lock(&self.books).scratch = Some(Arc::clone(&scratch));
        Ok(scratch)
    }

    fn tell(&self, problem: &std::io::Error) {
        if !self.is_told.swap(true, Ordering::Relaxed) {
            eprintln!(
                "rankfold: warning: {}: values stay in memory, beyond RANKFOLD_MEMORY, since they cannot be written below \
                 {}: {problem}; make room there, or name another folder with RANKFOLD_SCRATCH",
                self.place,
                scratch::place().display()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(bound: u64) -> Store {
        Store::new(&Place { rank: 0, host: "h".into() }, Some(bound))
    }

    fn keep(store: &mut Store, value: TaskId) {
        store.insert(value, Arc::new(Kept::value(vec![value; 1000])), 8000);
    }

    fn on_disk(store: &Store) -> Vec<TaskId> {
        store.values.iter().filter(|(_, kept)| kept.is_on_disk()).map(|(value, _)| *value).collect()
    }

    #[test]
    fn values_that_nobody_shares_go_to_the_disk_and_come_back_when_they_are_used() {
        let mut store = store(20_000);
        (1..=5).for_each(|value| keep(&mut store, value));
        let shared = store.look_at(1).unwrap().share::<Vec<u64>>().unwrap();
        let given = Arc::clone(store.look_at(2).unwrap());
        let memory = store.overflow().unwrap();
        assert!(store.overflow().is_none(), "it is asked once");
        memory.spill();
        assert_eq!(on_disk(&store), [3, 4, 5], "1 is shared, and 2 given to a task");
        drop((shared, given));
        let back = Arc::clone(store.get(4).unwrap()).share::<Vec<u64>>().unwrap();
        assert_eq!((*back).clone(), vec![4; 1000]);
        store.overflow().unwrap().spill();
        assert_eq!(on_disk(&store), [1, 3, 5]);
        let mut bytes = Vec::new();
        store.look_at(1).unwrap().write(&mut bytes).unwrap();
        assert_eq!(crate::wire::decode(&bytes), Ok(vec![1u64; 1000]));
        assert_eq!(store.look_at(3).unwrap().copy::<Vec<u64>>().unwrap(), [3; 1000]);
        assert_eq!(on_disk(&store), [1, 3, 5]);
        assert_eq!(store.remove(5).unwrap().take::<Vec<u64>>().unwrap(), [5; 1000]);
        drop(back);
        assert!(store.overflow().is_none());
    }

    #[test]
    fn without_a_bound_nothing_is_written() {
        let mut store = Store::new(&Place { rank: 0, host: "h".into() }, None);
        (1..=5).for_each(|value| keep(&mut store, value));
        assert!(store.overflow().is_none() && on_disk(&store).is_empty());
    }
}
