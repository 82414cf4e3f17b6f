//! Which of the values that a rank keeps goes to its disk next, where they are more than may be in memory.
//!
//! Pure: it knows the sizes of values and the order in which they were used, and neither the values nor the disk. The one
//! that was not used for longest goes first, as long as all together are over the bound.

use std::collections::{BTreeMap, BTreeSet};

use crate::master::tasks::TaskId;

/// A use of a value: a later one has a higher number.
pub(crate) type Use = u64;

#[derive(Debug)]
pub(crate) struct Spill {
    /// So many bytes may be in memory.
    bound: u64,
    in_memory: u64,
    values: BTreeMap<TaskId, Value>,
    /// The values in memory, the one that was used last at the end.
    by_use: BTreeSet<(Use, TaskId)>,
    uses: Use,
}

#[derive(Debug)]
struct Value {
    bytes: u64,
    used: Use,
    is_on_disk: bool,
}

impl Spill {
    pub fn new(bound: u64) -> Self {
        Self { bound, in_memory: 0, values: BTreeMap::new(), by_use: BTreeSet::new(), uses: 0 }
    }

    /// A value of so many bytes is kept from now on.
    pub fn keep(&mut self, value: TaskId, bytes: u64) {
        self.forget(value);
        self.values.insert(value, Value { bytes, used: 0, is_on_disk: true });
        self.used(value);
    }

    /// A value is used, and is in memory from now on.
    pub fn used(&mut self, value: TaskId) {
        let Some(entry) = self.values.get_mut(&value) else { return };
        self.uses += 1;
        if entry.is_on_disk {
            self.in_memory += entry.bytes;
        } else {
            self.by_use.remove(&(entry.used, value));
        }
        (entry.used, entry.is_on_disk) = (self.uses, false);
        self.by_use.insert((self.uses, value));
    }

    /// A value is not kept any more. Whether it was on the disk.
    pub fn forget(&mut self, value: TaskId) -> bool {
        let Some(entry) = self.values.remove(&value) else { return false };
        if !entry.is_on_disk {
            self.in_memory -= entry.bytes;
            self.by_use.remove(&(entry.used, value));
        }
        entry.is_on_disk
    }

    /// Whether more is in memory than may be.
    pub fn is_over(&self) -> bool {
        self.in_memory > self.bound
    }

    /// The value to write next, of those that may go, with its last use.
    pub fn next(&self, may_go: impl Fn(TaskId) -> bool) -> Option<(TaskId, Use)> {
        let mut oldest = self.by_use.iter().filter(|_| self.is_over());
        oldest.find(|(_, value)| may_go(*value)).map(|(last, value)| (*value, *last))
    }

    /// A value is on the disk, unless it was used again since it was chosen.
    pub fn spilled(&mut self, value: TaskId, last: Use) {
        let Some(entry) = self.values.get_mut(&value).filter(|entry| entry.used == last && !entry.is_on_disk) else {
            return;
        };
        entry.is_on_disk = true;
        self.in_memory -= entry.bytes;
        self.by_use.remove(&(last, value));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Writes what has to be written, in order.
    fn write(spill: &mut Spill, may_go: impl Fn(TaskId) -> bool) -> Vec<TaskId> {
        let mut written = Vec::new();
        while let Some((value, last)) = spill.next(&may_go) {
            spill.spilled(value, last);
            written.push(value);
        }
        written
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first_and_no_more_than_has_to() {
        let mut spill = Spill::new(100);
        (1..=4).for_each(|value| spill.keep(value, 30));
        assert_eq!(write(&mut spill, |_| true), [1]);
        spill.used(2);
        // It is read back for that, so another has to go.
        spill.used(1);
        assert_eq!(write(&mut spill, |_| true), [3]);
        assert!(spill.forget(3) && !spill.forget(3) && !spill.forget(4));
        spill.keep(5, 31);
        assert_eq!(write(&mut spill, |_| true), []);
        spill.keep(6, 10);
        assert_eq!(write(&mut spill, |value| value != 2), [1]);
    }

    #[test]
    fn a_value_that_is_used_while_it_is_written_counts_as_in_memory() {
        let mut spill = Spill::new(10);
        spill.keep(1, 30);
        let (value, last) = spill.next(|_| true).unwrap();
        spill.used(1);
        spill.spilled(value, last);
        assert!(spill.is_over() && spill.next(|_| true).is_some_and(|(value, _)| value == 1));
        assert_eq!(spill.next(|_| false), None);
    }

    proptest! {
        #[test]
        fn what_is_over_the_bound_goes_unless_nothing_may(
            steps in proptest::collection::vec((0u8..4, 0u64..12, 0u64..50), 1..200),
            bound in 0u64..200,
            stuck in 0u64..12,
        ) {
            let mut spill = Spill::new(bound);
            // Value, size, whether it is in memory; the one that was used last is last.
            let mut model: Vec<(u64, u64, bool)> = Vec::new();
            for (what, value, bytes) in steps {
                let at = model.iter().position(|(other, ..)| *other == value);
                match what {
                    0 => {
                        at.map(|at| model.remove(at));
                        model.push((value, bytes, true));
                        spill.keep(value, bytes);
                    }
                    1 => {
                        spill.used(value);
                        if let Some(at) = at {
                            let (_, bytes, _) = model.remove(at);
                            model.push((value, bytes, true));
                        }
                    }
                    2 => {
                        let was = at.map(|at| model.remove(at)).is_some_and(|(.., in_memory)| !in_memory);
                        prop_assert_eq!(spill.forget(value), was);
                    }
                    _ => {
                        let mut expected = Vec::new();
                        let total = |model: &[(u64, u64, bool)]| -> u64 {
                            model.iter().filter(|(.., in_memory)| *in_memory).map(|(_, bytes, _)| bytes).sum()
                        };
                        while total(&model) > bound {
                            let first = model.iter_mut().find(|(other, _, in_memory)| *in_memory && *other != stuck);
                            let Some(first) = first else { break };
                            first.2 = false;
                            expected.push(first.0);
                        }
                        prop_assert_eq!(write(&mut spill, |value| value != stuck), expected);
                    }
                }
                let in_memory: u64 = model.iter().filter(|(.., in_memory)| *in_memory).map(|(_, bytes, _)| bytes).sum();
                prop_assert_eq!((spill.in_memory, spill.is_over()), (in_memory, in_memory > bound));
            }
        }
    }
}
