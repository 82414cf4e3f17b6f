//! Tasks that a rank was given and has not begun: those whose inputs are on their way, and those that can run.
//!
//! Pure: it knows neither what a task is nor who runs it. Tasks begin in the order in which they became complete, but
//! those that other tasks wait for, inside of which they were submitted, before those. Until then they can be taken back.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use crate::master::tasks::TaskId;

#[derive(Debug)]
pub(crate) struct Backlog<W> {
    /// Tasks that lack inputs, with the number of those.
    incomplete: BTreeMap<TaskId, Incomplete<W>>,
    /// Values on their way here, by the rank that sends them and by the tasks that lack them.
    lacking: BTreeMap<TaskId, (usize, Vec<TaskId>)>,
    /// By how deep in others they were submitted.
    complete: BTreeMap<Reverse<u32>, VecDeque<(TaskId, W)>>,
    runnable: usize,
}

#[derive(Debug)]
struct Incomplete<W> {
    work: W,
    depth: u32,
    lacks: usize,
}

impl<W> Default for Backlog<W> {
    fn default() -> Self {
        Self { incomplete: BTreeMap::new(), lacking: BTreeMap::new(), complete: BTreeMap::new(), runnable: 0 }
    }
}

impl<W> Backlog<W> {
    /// Takes a task that lacks these values, which these ranks have. Gives those of them that nobody lacked before: they
    /// have to be asked for.
    pub fn give(&mut self, task: TaskId, depth: u32, work: W, lacks: &BTreeMap<TaskId, usize>) -> Vec<(TaskId, usize)> {
        if lacks.is_empty() {
            self.put(task, depth, work);
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
        self.incomplete.insert(task, Incomplete { work, depth, lacks: lacks.len() });
        new
    }

    fn put(&mut self, task: TaskId, depth: u32, work: W) {
        self.complete.entry(Reverse(depth)).or_default().push_back((task, work));
        self.runnable += 1;
    }

    /// A value is here, or will never be: `fill` hands it to each task that has waited for it. False if nobody has asked
    /// for it, or wants it any more.
    pub fn arrived(&mut self, value: TaskId, mut fill: impl FnMut(&mut W)) -> bool {
        let Some((_, waiting)) = self.lacking.remove(&value) else { return false };
        for task in waiting {
            let Some(incomplete) = self.incomplete.get_mut(&task) else { continue };
            fill(&mut incomplete.work);
            incomplete.lacks -= 1;
            if incomplete.lacks == 0 {
                let Incomplete { work, depth, .. } = self.incomplete.remove(&task).expect("it was just there");
                self.put(task, depth, work);
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
        let mut deepest = self.complete.first_entry()?;
        let next = deepest.get_mut().pop_front();
        if deepest.get().is_empty() {
            deepest.remove();
        }
        self.runnable -= 1;
        next
    }

    /// Tasks that could run.
    pub fn runnable(&self) -> usize {
        self.runnable
    }

    /// Takes back one task, if it has not begun.
    pub fn remove(&mut self, task: TaskId) -> bool {
        let find = |line: &VecDeque<(TaskId, W)>| line.iter().position(|(other, _)| *other == task);
        let found = self.complete.iter_mut().find_map(|(depth, line)| find(line).map(|at| (*depth, line, at)));
        if let Some((depth, line, at)) = found {
            line.remove(at);
            if line.is_empty() {
                self.complete.remove(&depth);
            }
            self.runnable -= 1;
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
        assert_eq!(backlog.give(10, 0, Vec::new(), &[(1, 7), (2, 8)].into()), [(1, 7), (2, 8)]);
        assert_eq!(backlog.give(11, 0, Vec::new(), &[(2, 9)].into()), []);
        backlog.give(12, 0, Vec::new(), &BTreeMap::new());
        assert_eq!(backlog.next(), Some((12, vec![])));
        backlog.arrived(2, |work: &mut Vec<u64>| work.push(2));
        assert_eq!((backlog.next(), backlog.next()), (Some((11, vec![2])), None));
        backlog.arrived(1, |work| work.push(1));
        assert_eq!(backlog.next(), Some((10, vec![2, 1])));
    }

    #[test]
    fn a_task_is_given_back_until_it_has_begun() {
        let mut backlog = Backlog::default();
        (1..=3).for_each(|task| drop(backlog.give(task, 0, (), &BTreeMap::new())));
        backlog.give(4, 0, (), &[(100, 1)].into());
        assert_eq!(backlog.next(), Some((1, ())));
        assert!(!backlog.remove(1) && backlog.remove(2) && !backlog.remove(2) && backlog.remove(4));
        assert!(backlog.arrived(100, |()| panic!("nobody waits for it any more")));
        assert!(!backlog.arrived(100, |()| panic!("nobody has asked for it")));
        assert_eq!((backlog.next(), backlog.next()), (Some((3, ())), None));
    }

    #[test]
    fn what_others_wait_for_comes_first() {
        let mut backlog = Backlog::default();
        for (task, depth) in [(1, 0), (2, 2), (3, 1), (4, 2)] {
            backlog.give(task, depth, (), &BTreeMap::new());
        }
        assert!(backlog.remove(4) && backlog.runnable() == 3);
        let order: Vec<TaskId> = std::iter::from_fn(|| backlog.next()).map(|(task, ())| task).collect();
        assert_eq!((order, backlog.runnable()), (vec![2, 3, 1], 0));
    }

    #[test]
    fn what_waits_for_a_lost_rank_is_given_back() {
        let mut backlog = Backlog::default();
        backlog.give(1, 0, (), &[(100, 1), (101, 2)].into());
        backlog.give(2, 0, (), &[(101, 2)].into());
        assert_eq!((backlog.miss(1), backlog.miss(1)), (vec![1], vec![]));
        // It can be given again, with another place for the value.
        assert_eq!(backlog.give(1, 0, (), &[(100, 3), (101, 2)].into()), [(100, 3)]);
        backlog.forgo(100);
        assert!(!backlog.arrived(100, |()| {}));
    }
}
