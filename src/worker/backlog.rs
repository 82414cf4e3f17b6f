//! Tasks that a rank was given and has not begun: those whose inputs are on their way, and those that can run.
//!
//! Pure: it knows neither what a task is nor who runs it. Tasks begin in the order in which they became complete; until
//! then they can be taken back.

use std::collections::{BTreeMap, VecDeque};

use crate::master::tasks::TaskId;

#[derive(Debug)]
pub(crate) struct Backlog<W> {
    /// Tasks that lack inputs, with the number of those.
    incomplete: BTreeMap<TaskId, (W, usize)>,
    /// Values on their way here, by the rank that sends them and by the tasks that lack them.
    lacking: BTreeMap<TaskId, (usize, Vec<TaskId>)>,
    complete: VecDeque<(TaskId, W)>,
}

impl<W> Default for Backlog<W> {
    fn default() -> Self {
        Self { incomplete: BTreeMap::new(), lacking: BTreeMap::new(), complete: VecDeque::new() }
    }
}

impl<W> Backlog<W> {
    /// Takes a task that lacks these values, which these ranks have. Gives those of them that nobody lacked before: they
    /// have to be asked for.
    pub fn give(&mut self, task: TaskId, work: W, lacks: &BTreeMap<TaskId, usize>) -> Vec<(TaskId, usize)> {
        if lacks.is_empty() {
            self.complete.push_back((task, work));
            return Vec::new();
        }
        let mut new = Vec::new();
        for (value, rank) in lacks {
            let (_, waiting) = self.lacking.entry(*value).or_insert_with(|| {
                new.push((*value, *rank));
                (*rank, Vec::new())
            });
            waiting.push(task);
        }
        self.incomplete.insert(task, (work, lacks.len()));
        new
    }

    /// A value comes by itself from this rank: nobody has to ask for it.
    pub fn expect(&mut self, value: TaskId, from: usize) {
        self.lacking.entry(value).or_insert((from, Vec::new()));
    }

    /// A value does not come by itself after all. Whether somebody waits for it, and has to ask for it.
    pub fn still_needs(&mut self, value: TaskId) -> bool {
        let is_needed = self.lacking.get(&value).is_some_and(|(_, waiting)| !waiting.is_empty());
        if !is_needed {
            self.lacking.remove(&value);
        }
        is_needed
    }

    /// A value is here, or will never be: `fill` hands it to each task that has waited for it. False if nobody has asked
    /// for it, or wants it any more.
    pub fn arrived(&mut self, value: TaskId, mut fill: impl FnMut(&mut W)) -> bool {
        let Some((_, waiting)) = self.lacking.remove(&value) else { return false };
        for task in waiting {
            let Some((work, lacks)) = self.incomplete.get_mut(&task) else { continue };
            fill(work);
            *lacks -= 1;
            if *lacks == 0 {
                let (work, _) = self.incomplete.remove(&task).expect("it was just there");
                self.complete.push_back((task, work));
            }
        }
        true
    }

    /// Nobody waits for a value any more, should it come.
    pub fn forgo(&mut self, value: TaskId) {
        self.lacking.remove(&value);
    }

    /// A rank is lost: what it would have sent does not come. Gives the tasks that have waited for it back.
    pub fn miss(&mut self, lost: usize) -> Vec<TaskId> {
        let values: Vec<TaskId> =
            self.lacking.iter().filter(|(_, (rank, _))| *rank == lost).map(|(value, _)| *value).collect();
        let waiting: Vec<TaskId> =
            values.iter().filter_map(|value| self.lacking.remove(value)).flat_map(|(_, waiting)| waiting).collect();
        waiting.into_iter().filter(|task| self.remove(*task)).collect()
    }

    /// The next task to run.
    pub fn next(&mut self) -> Option<(TaskId, W)> {
        self.complete.pop_front()
    }

    /// Tasks that could run.
    pub fn runnable(&self) -> usize {
        self.complete.len()
    }

    /// Takes back one task, if it has not begun.
    pub fn remove(&mut self, task: TaskId) -> bool {
        if let Some(at) = self.complete.iter().position(|(other, _)| *other == task) {
            self.complete.remove(at);
            return true;
        }
        self.lacking.values_mut().for_each(|(_, waiting)| waiting.retain(|other| *other != task));
        self.incomplete.remove(&task).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_can_run_when_all_its_values_are_here_and_each_is_asked_for_once() {
        let mut backlog = Backlog::default();
        assert_eq!(backlog.give(10, Vec::new(), &[(1, 7), (2, 8)].into()), [(1, 7), (2, 8)]);
        assert_eq!(backlog.give(11, Vec::new(), &[(2, 9)].into()), []);
        backlog.give(12, Vec::new(), &BTreeMap::new());
        assert_eq!(backlog.next(), Some((12, vec![])));
        backlog.arrived(2, |work: &mut Vec<u64>| work.push(2));
        assert_eq!((backlog.next(), backlog.next()), (Some((11, vec![2])), None));
        backlog.arrived(1, |work| work.push(1));
        assert_eq!(backlog.next(), Some((10, vec![2, 1])));
    }

    #[test]
    fn a_task_is_given_back_until_it_has_begun() {
        let mut backlog = Backlog::default();
        (1..=3).for_each(|task| drop(backlog.give(task, (), &BTreeMap::new())));
        backlog.give(4, (), &[(100, 1)].into());
        assert_eq!(backlog.next(), Some((1, ())));
        assert!(!backlog.remove(1) && backlog.remove(2) && !backlog.remove(2) && backlog.remove(4));
        assert!(backlog.arrived(100, |()| panic!("nobody waits for it any more")));
        assert!(!backlog.arrived(100, |()| panic!("nobody has asked for it")));
        assert_eq!((backlog.next(), backlog.next()), (Some((3, ())), None));
    }

    #[test]
    fn what_comes_by_itself_is_not_asked_for_unless_it_does_not_come() {
        let mut backlog = Backlog::default();
        (100..103).for_each(|value| backlog.expect(value, 0));
        assert_eq!(backlog.give(1, 0, &[(100, 3), (101, 0)].into()), []);
        assert!(backlog.arrived(100, |work| *work += 1) && backlog.next().is_none());
        // Tasks wait for the second, so it is fetched; nobody for the third.
        assert!(backlog.still_needs(101) && !backlog.still_needs(102) && !backlog.still_needs(103));
        assert!(backlog.arrived(101, |work| *work += 1) && !backlog.arrived(102, |_| {}));
        assert_eq!(backlog.next(), Some((1, 2)));
    }

    #[test]
    fn what_waits_for_a_lost_rank_is_given_back() {
        let mut backlog = Backlog::default();
        backlog.give(1, (), &[(100, 1), (101, 2)].into());
        backlog.give(2, (), &[(101, 2)].into());
        assert_eq!((backlog.miss(1), backlog.miss(1)), (vec![1], vec![]));
        // It can be given again, with another place for the value.
        assert_eq!(backlog.give(1, (), &[(100, 3), (101, 2)].into()), [(100, 3)]);
        backlog.forgo(100);
        assert!(!backlog.arrived(100, |()| {}));
    }
}
