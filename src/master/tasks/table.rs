//! What is known by the numbers of tasks.
//!
//! Each rank numbers its tasks in a row, and there may be a million of them: they lie in blocks, side by side, and only the
//! blocks are searched for.

use std::collections::BTreeMap;
use std::ops::Index;

use super::TaskId;

/// Tasks in a block. It is kept for as long as one of them is there, so that a task that outlives its neighbours takes the
/// place of so many.
const TOGETHER: usize = 16;

#[derive(Debug)]
pub(super) struct Table<T> {
    blocks: BTreeMap<TaskId, Box<Block<T>>>,
}

#[derive(Debug)]
struct Block<T> {
    entries: [Option<T>; TOGETHER],
    used: usize,
}

/// The number of the block, and the place in it.
fn place(task: TaskId) -> (TaskId, usize) {
    let together = TOGETHER as TaskId;
    (task / together, (task % together) as usize)
}

impl<T> Table<T> {
    pub fn new() -> Self {
        Self { blocks: BTreeMap::new() }
    }

    pub fn insert(&mut self, task: TaskId, entry: T) {
        let (number, place) = place(task);
        let new = || Box::new(Block { entries: [const { None }; TOGETHER], used: 0 });
        let block = self.blocks.entry(number).or_insert_with(new);
        block.used += usize::from(block.entries[place].replace(entry).is_none());
    }

    pub fn remove(&mut self, task: TaskId) -> Option<T> {
        let (number, place) = place(task);
        let block = self.blocks.get_mut(&number)?;
        let entry = block.entries[place].take()?;
        block.used -= 1;
        if block.used == 0 {
            self.blocks.remove(&number);
        }
        Some(entry)
    }

    pub fn get(&self, task: TaskId) -> Option<&T> {
        let (number, place) = place(task);
        self.blocks.get(&number)?.entries[place].as_ref()
    }

    pub fn get_mut(&mut self, task: TaskId) -> Option<&mut T> {
        let (number, place) = place(task);
        self.blocks.get_mut(&number)?.entries[place].as_mut()
    }

    /// All of them, by their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (TaskId, &T)> {
        self.blocks.iter().flat_map(|(number, block)| {
            let tasks = number * TOGETHER as TaskId..;
            tasks.zip(&block.entries).filter_map(|(task, entry)| Some((task, entry.as_ref()?)))
        })
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (TaskId, &mut T)> {
        self.blocks.iter_mut().flat_map(|(number, block)| {
            let tasks = number * TOGETHER as TaskId..;
            tasks.zip(&mut block.entries).filter_map(|(task, entry)| Some((task, entry.as_mut()?)))
        })
    }

    pub fn keys(&self) -> impl Iterator<Item = TaskId> {
        self.iter().map(|(task, _)| task)
    }

    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.iter().map(|(_, entry)| entry)
    }
}

impl<T> Index<&TaskId> for Table<T> {
    type Output = T;

    fn index(&self, task: &TaskId) -> &T {
        self.get(*task).expect("a task that is relied on is known")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::Table;
    use crate::master::tasks::FIRST_OF_RANK;

    proptest! {
        #[test]
        fn a_table_does_what_a_map_does(
            changes in prop::collection::vec((any::<bool>(), 0..3u64, 0..100u64, any::<u8>()), 0..400),
        ) {
            let (mut table, mut map) = (Table::new(), BTreeMap::new());
            for (adds, rank, number, value) in changes {
                let task = rank * FIRST_OF_RANK + number;
                if adds {
                    table.insert(task, value);
                    map.insert(task, value);
                } else {
                    prop_assert_eq!(table.remove(task), map.remove(&task));
                }
                prop_assert_eq!(table.get(task), map.get(&task));
                prop_assert_eq!(table.get_mut(task), map.get_mut(&task));
            }
            prop_assert!(table.iter().eq(map.iter().map(|(task, value)| (*task, value))));
            prop_assert!(table.keys().eq(map.keys().copied()) && table.values().eq(map.values()));
            prop_assert!(table.iter_mut().eq(map.iter_mut().map(|(task, value)| (*task, value))));
            for task in map.into_keys() {
                prop_assert!(table.remove(task).is_some());
            }
            prop_assert!(table.blocks.is_empty());
        }
    }
}
