//! What calls have cost, kept from job to job, so that the next one starts with batches of the right length.
//!
//! Nothing depends on it but time: it is written without a sync, and where it cannot be read, nothing is known.

use std::collections::BTreeMap;

use super::storage::{Storage, UNFINISHED};
use super::{pack, unpack};
use crate::master::policy::Learned;

/// By the names of the call and of its functions' types.
pub(crate) type Costs = BTreeMap<String, Learned>;

pub(super) const COSTS: &str = "costs";

/// Keeps it; a failure costs nothing but time.
pub(super) fn write(storage: &dyn Storage, run: u64, costs: &Costs) {
    let unfinished = format!("{COSTS}{UNFINISHED}");
    let _ = storage.put(&unfinished, &pack(run, 0, costs)).and_then(|()| storage.rename(&unfinished, COSTS));
}

/// What is known.
pub(super) fn read(storage: &dyn Storage, run: u64) -> Costs {
    let found = storage.read(COSTS).ok().and_then(|bytes| unpack::<Costs>(COSTS, &bytes).ok());
    found.filter(|(of, _)| *of == run).map(|(_, costs)| costs).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::storage::memory::Memory;
    use super::*;

    #[test]
    fn costs_are_kept_and_damage_means_that_nothing_is_known() {
        let memory = Memory::default();
        assert_eq!(read(&memory, 7), Costs::new());
        let costs = Costs::from([("energy".to_owned(), Learned { leaf: 4, mean: Some(0.5), ..Learned::default() })]);
        write(&memory, 7, &costs);
        assert_eq!((read(&memory, 7), read(&memory, 8)), (costs, Costs::new()));
        let mut bytes = memory.read(COSTS).unwrap();
        bytes[80] ^= 1;
        memory.put(COSTS, &bytes).unwrap();
        assert_eq!(read(&memory, 7), Costs::new());
    }
}
