//! Which leaves end the jobs that compute them: who was computed when a job crashed, how often, and whether alone.
//!
//! A job that crashed leaves marks: what each rank was computing. All of it is suspect, for one rank takes the others
//! along. What was computed in too many crashes is quarantined: the next job does everything else first, and these
//! leaves last, a few at a time and in the end one by one (`master/scheduler/quarantine.rs`). The one that is computed
//! when nothing else is, and with which the job crashes each time, is guilty; its marks name the item.
//!
//! Pure: no clock, thread, file or MPI.

use serde::{Deserialize, Serialize};

use crate::extent::Extent;
use crate::master::coverage::Coverage;
use crate::worker::precautions::Poison;

/// What was computed in so many crashes is quarantined. There was one before: marks are made from the second job on.
const CRASHES: u32 = 2;
/// A leaf with which so many jobs in a row have crashed at the same item, when nothing else was computed, is guilty: once
/// or twice somebody may have ended the job who had nothing to do with it.
const ALONE: u32 = 3;
/// A leaf with which so many jobs have crashed is given up as a whole, wherever in it that was.
const HOPELESS: u32 = 12;

/// What a rank was computing when its job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub extent: Extent,
    /// In a leaf that is watched: which of its items, counted from 0.
    pub nth: Option<u64>,
}

/// The leaves of a call that were being computed when jobs crashed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Suspects {
    /// The build of the program: another one may be mended.
    pub build: u64,
    /// The last job whose crash is counted in.
    counted: u64,
    /// Disjoint, in order.
    all: Vec<Suspect>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Suspect {
    pub extent: Extent,
    /// Jobs that crashed while it was computed.
    pub crashes: u32,
    /// Of these, the last ones in a row in which nothing else was computed, and it always came to the same item.
    alone: u32,
    nth: Option<u64>,
    pub poison: Option<Poison>,
}

impl Suspects {
    /// Nobody is suspected yet, in this build.
    pub fn none(build: u64) -> Self {
        Self { build, ..Self::default() }
    }

    /// A job has crashed, and these are its marks, of all its ranks if `are_all`. Each job counts once, in their order.
    pub fn crashed(&mut self, job: u64, marks: &[Mark], are_all: bool) {
        if job <= self.counted || marks.is_empty() {
            return;
        }
        self.counted = job;
        let lone = lone_leaf(marks).filter(|mark| are_all && self.is_quarantined(mark.extent));
        let mut computed = Coverage::default();
        marks.iter().for_each(|mark| drop(computed.insert(mark.extent)));
        computed.runs().for_each(|run| self.blame(run));
        if lone.is_none() {
            // Jobs crash with others, too: whoever was alone then may have been so by chance.
            self.all.iter_mut().for_each(Suspect::forget_accusation);
        }
        self.all.sort_unstable_by_key(|suspect| suspect.extent.start);
        if let Some(Mark { extent, nth }) = lone {
            self.all.iter_mut().filter(|suspect| suspect.extent == extent).for_each(|suspect| suspect.accuse(nth));
        }
    }

    /// What is done is above suspicion, unless it was done by leaving something out.
    pub fn acquit(&mut self, done: &Coverage) {
        self.all.retain(|suspect| suspect.poison.is_some() || !done.contains(suspect.extent));
    }

    /// What is to be computed after everything else, with the number of crashes in which it was computed although it was
    /// quarantined already.
    pub fn quarantined(&self) -> impl Iterator<Item = (u32, Extent)> {
        let quarantined = self.all.iter().filter(|suspect| suspect.crashes >= CRASHES);
        quarantined.map(|suspect| (suspect.crashes - CRASHES, suspect.extent))
    }

    /// The leaves that are known to end the rank that computes them.
    pub fn poisoned(&self) -> impl Iterator<Item = (Extent, &Poison)> {
        self.all.iter().filter_map(|suspect| Some((suspect.extent, suspect.poison.as_ref()?)))
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn is_quarantined(&self, extent: Extent) -> bool {
        self.quarantined().any(|(_, suspect)| suspect.contains(extent))
    }

    /// One more crash for these leaves.
    fn blame(&mut self, run: Extent) {
        while let Some(around) = self.all.iter().position(|it| it.extent.contains(run) && it.extent != run) {
            let suspect = self.all.swap_remove(around);
            let halves = suspect.extent.halves();
            self.all.extend(halves.map(|extent| Suspect { extent, ..suspect.clone() }));
        }
        let mut known = Coverage::default();
        for suspect in self.all.iter_mut().filter(|suspect| run.contains(suspect.extent)) {
            suspect.crashes += 1;
            known.insert(suspect.extent);
        }
        let fresh = |extent| Suspect { extent, crashes: 1, alone: 0, nth: None, poison: None };
        self.all.extend(known.gaps(run).into_iter().map(fresh));
    }
}

impl Suspect {
    fn forget_accusation(&mut self) {
        (self.alone, self.nth) = (0, None);
    }

    /// A job has crashed with this leaf and nothing else; it was about to compute an item.
    fn accuse(&mut self, nth: Option<u64>) {
        self.alone = if self.nth == nth { self.alone + 1 } else { 1 };
        self.nth = nth;
        let is_hopeless = self.crashes >= HOPELESS;
        if self.alone < ALONE && !is_hopeless {
            return;
        }
        self.poison = Some(match (self.poison.take(), nth) {
            (None, Some(nth)) if !is_hopeless => Poison::Items(vec![nth]),
            (Some(Poison::Items(mut items)), Some(nth)) if !is_hopeless => {
                items.push(nth);
                items.sort_unstable();
                Poison::Items(items)
            }
            _ => Poison::Leaf,
        });
        // Its other items are innocent until they crash, too.
        (self.crashes, self.alone, self.nth) = (CRASHES, 0, None);
    }
}

/// The one leaf that was computed, if that is all.
fn lone_leaf(marks: &[Mark]) -> Option<Mark> {
    let (first, others) = marks.split_first()?;
    let nth = first.nth.filter(|_| others.iter().all(|mark| mark.nth == first.nth));
    let is_lone = first.extent.len == 1 && others.iter().all(|mark| mark.extent == first.extent);
    is_lone.then_some(Mark { extent: first.extent, nth })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mark(start: u64, len: u64) -> Mark {
        Mark { extent: Extent::new(start, len), nth: None }
    }

    fn at(leaf: u64, nth: u64) -> Mark {
        Mark { nth: Some(nth), ..mark(leaf, 1) }
    }

    fn quarantined(suspects: &Suspects) -> Vec<(u32, Extent)> {
        suspects.quarantined().collect()
    }

    #[test]
    fn what_is_computed_in_every_crash_is_quarantined_and_the_rest_is_not() {
        let mut suspects = Suspects::default();
        suspects.crashed(2, &[mark(0, 8), mark(16, 4)], true);
        assert_eq!(quarantined(&suspects), []);
        suspects.crashed(3, &[mark(4, 4), mark(32, 16)], true);
        assert_eq!(quarantined(&suspects), [(0, Extent::new(4, 4))]);
        suspects.crashed(3, &[mark(4, 4)], true);
        assert_eq!(quarantined(&suspects), [(0, Extent::new(4, 4))], "the same crash does not count twice");
        suspects.crashed(4, &[mark(6, 1), mark(0, 4)], true);
        assert_eq!(
            quarantined(&suspects),
            [(0, Extent::new(0, 4)), (0, Extent::new(4, 2)), (1, Extent::new(6, 1)), (0, Extent::new(7, 1))]
        );
    }

    #[test]
    fn a_leaf_with_which_jobs_crash_alone_three_times_at_one_item_is_guilty_of_it() {
        let mut suspects = Suspects::default();
        for (job, marks) in [(2, vec![mark(4, 4)]), (3, vec![mark(4, 4)]), (4, vec![at(5, 9)]), (5, vec![at(5, 9)])] {
            suspects.crashed(job, &marks, true);
            assert_eq!(suspects.poisoned().count(), 0, "job {job}");
        }
        suspects.crashed(6, &[at(5, 9), at(5, 9)], true);
        let poison = Poison::Items(vec![9]);
        assert_eq!(suspects.poisoned().collect::<Vec<_>>(), [(Extent::new(5, 1), &poison)]);
        for job in 7..10 {
            suspects.crashed(job, &[at(5, 3)], true);
        }
        let poison = Poison::Items(vec![3, 9]);
        assert_eq!(suspects.poisoned().collect::<Vec<_>>(), [(Extent::new(5, 1), &poison)]);
        suspects.acquit(&[Extent::new(0, 8)].into_iter().fold(Coverage::default(), |mut done, extent| {
            done.insert(extent);
            done
        }));
        assert_eq!(suspects.all.len(), 1, "what was done without some items is remembered: {suspects:?}");
    }

    #[test]
    fn only_crashes_in_a_row_make_a_leaf_guilty() {
        let mut suspects = Suspects::default();
        for job in 2..4 {
            suspects.crashed(job, &[mark(4, 4)], true);
        }
        for job in 4..10 {
            let between = if job % 2 == 0 { [at(5, 9)] } else { [mark(32, 1)] };
            suspects.crashed(job, &between, true);
        }
        assert_eq!(suspects.poisoned().count(), 0, "{suspects:?}");
    }

    #[test]
    fn who_is_not_alone_or_comes_to_other_items_is_not_guilty_and_not_tried_for_ever() {
        let mut suspects = Suspects::default();
        for job in 2..10 {
            suspects.crashed(job, &[at(5, 9), mark(7, 1)], true);
        }
        assert_eq!(suspects.poisoned().count(), 0, "two were computed each time");
        for job in 10..13 {
            suspects.crashed(job, &[at(5, 9)], false);
        }
        assert_eq!(suspects.poisoned().count(), 0, "some rank left no marks each time");
        suspects.all.iter_mut().for_each(|suspect| suspect.crashes -= 3);
        suspects.crashed(13, &[at(5, 1)], true);
        suspects.crashed(14, &[at(5, 2)], true);
        assert_eq!(suspects.poisoned().count(), 0);
        suspects.crashed(15, &[at(5, 3)], true);
        suspects.crashed(16, &[at(5, 4)], true);
        assert_eq!(suspects.poisoned().collect::<Vec<_>>(), [(Extent::new(5, 1), &Poison::Leaf)]);
    }

    proptest! {
        /// Against a count for each leaf.
        #[test]
        fn crashes_are_counted_by_the_leaf(
            jobs in prop::collection::vec(prop::collection::vec((0u64..64, 0u32..5), 0..5), 1..8)
        ) {
            let (mut suspects, mut counts) = (Suspects::default(), [0u32; 64]);
            for (job, marks) in jobs.into_iter().enumerate() {
                let marks: Vec<Mark> = marks.into_iter().map(|(at, level)| mark(at >> level << level, 1 << level)).collect();
                for (leaf, count) in counts.iter_mut().enumerate() {
                    let leaf = Extent::new(leaf as u64, 1);
                    *count += u32::from(marks.iter().any(|mark| mark.extent.contains(leaf)));
                }
                suspects.crashed(job as u64 + 1, &marks, true);
                let mut found = [0u32; 64];
                for suspect in suspects.all.iter().filter(|suspect| suspect.poison.is_none()) {
                    let extent = suspect.extent;
                    found[extent.start as usize..extent.end() as usize].iter_mut().for_each(|count| *count += suspect.crashes);
                }
                if suspects.poisoned().count() == 0 {
                    prop_assert_eq!(found, counts);
                }
                prop_assert!(suspects.all.is_sorted_by(|a, b| a.extent.end() <= b.extent.start));
            }
        }
    }
}
