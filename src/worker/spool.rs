//! A list of a call's values that is partly on the disk where memory is short.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use super::budget::{Budget, Counted, SAMPLES, owned, until_next};
use super::run::{Run, spread};

/// Values in their order, some at a time in memory or on the disk.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "T: Serialize + DeserializeOwned")]
pub(crate) struct Spool<T> {
    blocks: Vec<Block<T>>,
    /// The length of the last block at which it is measured again.
    #[serde(skip)]
    due: u64,
}

/// Some values of a list.
#[derive(Debug)]
pub(crate) enum Block<T> {
    /// In memory, as far as they were measured.
    Here(Vec<T>, Counted),
    OnDisk(Run<T>),
}

impl<T> Default for Spool<T> {
    fn default() -> Self {
        Self { blocks: Vec::new(), due: 1 }
    }
}

impl<T> Spool<T> {
    pub fn len(&self) -> usize {
        self.blocks.iter().map(Block::len).sum()
    }

    /// Bytes, about: of what is on the disk exactly.
    pub fn bytes(&self) -> u64 {
        let bytes = |block: &Block<T>| match block {
            Block::Here(values, counted) => counted.bytes().max((values.len() * size_of::<T>()) as u64),
            Block::OnDisk(run) => run.bytes(),
        };
        self.blocks.iter().map(bytes).sum()
    }

    pub fn blocks(&self) -> &[Block<T>] {
        &self.blocks
    }

    /// This list, and another one after it.
    pub fn append(&mut self, other: Self) {
        self.blocks.extend(other.blocks);
    }
}

impl<T> Block<T> {
    pub fn len(&self) -> usize {
        match self {
            Self::Here(values, _) => values.len(),
            Self::OnDisk(run) => run.len(),
        }
    }
}

impl<T: Serialize> Block<T> {
    /// Goes to the disk where memory is short and there are at least so many bytes; tells how many were looked at to know that.
    fn relieve_of(&mut self, least: u64, budget: &Arc<Budget>) -> u64 {
        let Self::Here(values, counted) = self else { return 0 };
        let (owned, seen) = owned::<T, _>(values.iter().step_by((values.len() / SAMPLES).max(1)), values.len());
        let bytes = (values.capacity() * size_of::<T>()) as u64 + owned;
        counted.set(budget, bytes);
        if bytes >= least && budget.is_short() {
            match Run::write(values, |value| value, budget) {
                Ok(run) => *self = Self::OnDisk(run),
                Err(problem) => budget.is_exceeded(&problem),
            }
        }
        seen
    }
}

impl<T: Serialize> Spool<T> {
    /// One value more.
    pub fn push(&mut self, value: T, budget: Option<&Arc<Budget>>) {
        let Some(Block::Here(values, _)) = self.blocks.last_mut() else {
            self.blocks.push(Block::Here(vec![value], Counted::default()));
            self.due = 1;
            return;
        };
        values.push(value);
        if let Some(budget) = budget.filter(|_| values.len() as u64 >= self.due) {
            self.relieve_of(budget.worth_a_run(), budget);
        }
    }

    /// This list and another one after it, where memory is short.
    pub fn append_in_bounds(&mut self, other: Self, budget: &Arc<Budget>) {
        for block in other.blocks {
            match (self.blocks.last_mut(), block) {
                // What is too short to be written by itself may not be any more.
                (Some(Block::Here(values, _)), Block::Here(more, _)) => {
                    values.extend(more);
                    self.relieve_of(budget.worth_putting_away(), budget);
                }
                (_, block) => self.blocks.push(block),
            }
        }
    }

    /// No more values come for now: what is in memory goes to the disk, where memory is short, but for the shortest blocks.
    pub fn put_away(&mut self, budget: &Arc<Budget>) {
        for block in &mut self.blocks {
            block.relieve_of(budget.worth_putting_away(), budget);
        }
    }

    fn relieve_of(&mut self, least: u64, budget: &Arc<Budget>) {
        let Some(last) = self.blocks.last_mut() else { return };
        let seen = last.relieve_of(least, budget);
        self.due = last.len() as u64 + until_next(last.len() as u64, last.len(), seen);
    }

    /// Some values more, by themselves.
    pub fn add_block(&mut self, values: Vec<T>, budget: Option<&Arc<Budget>>) {
        self.blocks.push(Block::Here(values, Counted::default()));
        if let Some(budget) = budget {
            // It will never be longer.
            self.relieve_of(0, budget);
        }
    }
}

impl<T: DeserializeOwned> Spool<T> {
    /// What is picked of about so many values from all over the list, with their numbers.
    ///
    /// # Errors
    ///
    /// The disk does not give back what was written.
    pub fn samples<R>(&self, count: usize, pick: impl Fn(&T) -> R) -> Result<Vec<(usize, R)>, String> {
        let (mut samples, mut start, all) = (Vec::new(), 0, self.len().max(1));
        for block in &self.blocks {
            // Of all blocks together as many as are wanted, so that short ones may have none.
            let end = start + block.len();
            let wanted = (count * end / all - count * start / all).min(block.len());
            match block {
                Block::Here(values, _) => {
                    samples
                        .extend(spread(0..values.len(), wanted).map(|number| (start + number, pick(&values[number]))));
                }
                Block::OnDisk(run) => {
                    samples
                        .extend(run.samples(wanted)?.into_iter().map(|(number, value)| (start + number, pick(&value))));
                }
            }
            start = end;
        }
        Ok(samples)
    }
}

/// The values of a list, one after the other; those in memory are let go of block by block.
pub(crate) struct Values<T> {
    blocks: std::vec::IntoIter<Block<T>>,
    here: std::vec::IntoIter<T>,
    run: Option<Run<T>>,
}

impl<T> From<Spool<T>> for Values<T> {
    fn from(spool: Spool<T>) -> Self {
        Self { blocks: spool.blocks.into_iter(), here: Vec::new().into_iter(), run: None }
    }
}

impl<T> IntoIterator for Spool<T> {
    type Item = Self;
    type IntoIter = std::iter::Map<std::vec::IntoIter<Block<T>>, fn(Block<T>) -> Self>;

    /// Block by block.
    fn into_iter(self) -> Self::IntoIter {
        self.blocks.into_iter().map(|block| Self { blocks: vec![block], due: 1 })
    }
}

impl<T: DeserializeOwned> Values<T> {
    /// The next value.
    ///
    /// # Errors
    ///
    /// The disk does not give back what was written.
    pub fn next(&mut self) -> Result<Option<T>, String> {
        loop {
            if let Some(value) = self.here.next() {
                return Ok(Some(value));
            }
            if let Some(run) = &mut self.run
                && let Some(value) = run.next_if(|_| true)?
            {
                return Ok(Some(value));
            }
            match self.blocks.next() {
                Some(Block::Here(values, _)) => self.here = values.into_iter(),
                Some(Block::OnDisk(run)) => self.run = Some(run),
                None => return Ok(None),
            }
        }
    }
}

impl<T: Serialize + DeserializeOwned> Serialize for Block<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Here(values, _) => values.serialize(serializer),
            Self::OnDisk(run) => run.serialize(serializer),
        }
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Block<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::Here(Vec::deserialize(deserializer)?, Counted::default()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::Place;
    use crate::wire;

    fn budget(bound: u64) -> Arc<Budget> {
        Budget::new(bound, 1, &Place { rank: 0, host: "here".into() })
    }

    fn all(spool: Spool<String>) -> Vec<String> {
        let mut values = Values::from(spool);
        std::iter::from_fn(|| values.next().unwrap()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn values_come_back_in_their_order_wherever_they_are(
            lengths in prop::collection::vec(0usize..3000, 1..8), bound in 1u64..500_000, count in 1usize..50,
        ) {
            let (budget, mut whole, mut expected) = (budget(bound), Spool::default(), Vec::new());
            for length in lengths {
                let mut part = Spool::default();
                for _ in 0..length {
                    let value = expected.len().to_string();
                    part.push(value.clone(), Some(&budget));
                    expected.push(value);
                }
                part.put_away(&budget);
                whole.append_in_bounds(part, &budget);
            }
            prop_assert_eq!(whole.len(), expected.len());
            let samples = whole.samples(count, String::clone).unwrap();
            prop_assert!(samples.iter().all(|(number, value)| expected[*number] == *value));
            prop_assert!(samples.is_sorted_by_key(|(number, _)| *number) && samples.len() <= count);
            prop_assert!(expected.is_empty() || !samples.is_empty());
            let written: Spool<String> = wire::decode(&wire::encode(&whole).unwrap()).unwrap();
            prop_assert_eq!(all(written), &expected[..]);
            prop_assert_eq!(all(whole), expected);
        }
    }

    #[test]
    fn blocks_are_written_however_short_they_are_while_memory_is_short() {
        let (budget, mut spool) = (budget(100_000), Spool::default());
        (0..200).for_each(|_| spool.add_block(vec!["x".to_owned(); 10], Some(&budget)));
        let here = spool.blocks.iter().filter(|block| matches!(block, Block::Here(..))).count();
        assert!((10..100).contains(&here) && spool.len() == 2000 && !budget.is_short(), "{here}");
    }

    /// Each list ends with what was too little to be written while more was expected.
    #[test]
    fn the_ends_of_many_lists_are_written_as_well() {
        let (budget, mut spools) = (budget(64 << 20), Vec::new());
        for _ in 0..100 {
            let mut spool = Spool::default();
            (0..200_000u64).for_each(|number| spool.push(number, Some(&budget)));
            spool.put_away(&budget);
            spools.push(spool);
        }
        assert!(!budget.is_short());
    }

    #[test]
    fn a_list_that_grows_is_written_while_memory_is_short() {
        let (budget, mut spool) = (budget(100_000), Spool::default());
        (0..40_000).for_each(|number| spool.push(number.to_string(), Some(&budget)));
        let on_disk = spool.blocks.iter().filter(|block| matches!(block, Block::OnDisk(_))).count();
        assert!(on_disk > 10 && spool.blocks.len() <= on_disk + 1, "{on_disk}");
        assert!(!budget.is_short());
    }
}
