//! Tasks that a rank was given and has not begun: those whose inputs are on their way, and those that can run.
//!
//! Pure: it knows neither what a task is nor who runs it. Tasks begin in the order in which they became complete, but
//! those that other tasks wait for, inside of which they were submitted, before those. Until then they can be taken back.
//! Calls of one actor stand in line: each begins when the one before it has ended.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use crate::master::tasks::TaskId;

/// A task that has not begun.
#[derive(Debug)]
pub(crate) struct Job<W> {
    pub task: TaskId,
    /// How deep it was submitted in others.
    pub depth: u32,
    /// The actor that it is a call of.
    pub actor: Option<TaskId>,
    pub work: W,
}

#[derive(Debug)]
pub(crate) struct Backlog<W> {
    /// Tasks that lack inputs, with the number of those.
    incomplete: BTreeMap<TaskId, (Job<W>, usize)>,
    /// Values on their way here, by the rank that sends them and by the tasks that lack them.
    lacking: BTreeMap<TaskId, (usize, Vec<TaskId>)>,
    /// By how deep in others they were submitted.
    complete: BTreeMap<Reverse<u32>, VecDeque<Job<W>>>,
    runnable: usize,
    /// Calls behind the one that runs or could, for each actor that has such a one.
    lines: BTreeMap<TaskId, VecDeque<Job<W>>>,
}

impl<W> Default for Backlog<W> {
    fn default() -> Self {
        Self {
            incomplete: BTreeMap::new(),
            lacking: BTreeMap::new(),
            complete: BTreeMap::new(),
            runnable: 0,
            lines: BTreeMap::new(),
        }
    }
}

impl<W> Backlog<W> {
    /// Takes a task that lacks these values, which these ranks have. Gives those of them that nobody lacked before: they
    /// have to be asked for.
    pub fn give(&mut self, job: Job<W>, lacks: &BTreeMap<TaskId, usize>) -> Vec<(TaskId, usize)> {
        if lacks.is_empty() {
            self.put(job);
            return Vec::new();
        }
        let mut new = Vec::new();
        for (value, rank) in lacks {
            let (_, waiting) = self.lacking.entry(*value).or_insert_with(|| {
                new.push((*value, *rank));
                (*rank, Vec::new())
            });
            waiting.push(job.task);
        }
        self.incomplete.insert(job.task, (job, lacks.len()));
        new
    }

    /// It lacks nothing, but may have to stand in line.
    fn put(&mut self, job: Job<W>) {
        if let Some(actor) = job.actor {
            if let Some(line) = self.lines.get_mut(&actor) {
                return line.push_back(job);
            }
            self.lines.insert(actor, VecDeque::new());
        }
        self.put_first(job);
    }

    fn put_first(&mut self, job: Job<W>) {
        self.complete.entry(Reverse(job.depth)).or_default().push_back(job);
        self.runnable += 1;
    }

    /// A call of an actor has ended: the next in line can run.
    pub fn through(&mut self, actor: TaskId) {
        match self.lines.get_mut(&actor).map(VecDeque::pop_front) {
            Some(Some(next)) => self.put_first(next),
            Some(None) => drop(self.lines.remove(&actor)),
            None => {}
        }
    }

    /// An actor is dead: gives the calls back that have stood in line, or lack something.
    pub fn dissolve(&mut self, actor: TaskId) -> Vec<TaskId> {
        let mut back: Vec<TaskId> = self.lines.remove(&actor).into_iter().flatten().map(|job| job.task).collect();
        let lacking = self.incomplete.iter().filter(|(_, (job, _))| job.actor == Some(actor));
        let lacking: Vec<TaskId> = lacking.map(|(task, _)| *task).collect();
        back.extend(lacking.into_iter().filter(|task| self.remove(*task)));
        back
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
            let Some((job, lacks)) = self.incomplete.get_mut(&task) else { continue };
            fill(&mut job.work);
            *lacks -= 1;
            if *lacks == 0 {
                let (job, _) = self.incomplete.remove(&task).expect("it was just there");
                self.put(job);
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
    pub fn next(&mut self) -> Option<Job<W>> {
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
        let find = |line: &VecDeque<Job<W>>| line.iter().position(|job| job.task == task);
        let found = self.complete.iter_mut().find_map(|(depth, line)| find(line).map(|at| (*depth, line, at)));
        if let Some((depth, line, at)) = found {
            let job = line.remove(at);
            if line.is_empty() {
                self.complete.remove(&depth);
            }
            self.runnable -= 1;
            job.and_then(|job| job.actor).into_iter().for_each(|actor| self.through(actor));
            return true;
        }
        if let Some((line, at)) = self.lines.values_mut().find_map(|line| find(line).map(|at| (line, at))) {
            line.remove(at);
            return true;
        }
        self.lacking.values_mut().for_each(|(_, waiting)| waiting.retain(|other| *other != task));
        self.incomplete.remove(&task).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job<W>(task: TaskId, depth: u32, work: W) -> Job<W> {
        Job { task, depth, actor: None, work }
    }

    fn next<W>(backlog: &mut Backlog<W>) -> Option<(TaskId, W)> {
        backlog.next().map(|job| (job.task, job.work))
    }

    #[test]
    fn a_task_can_run_when_all_its_values_are_here_and_each_is_asked_for_once() {
        let mut backlog = Backlog::default();
        assert_eq!(backlog.give(job(10, 0, Vec::new()), &[(1, 7), (2, 8)].into()), [(1, 7), (2, 8)]);
        assert_eq!(backlog.give(job(11, 0, Vec::new()), &[(2, 9)].into()), []);
        backlog.give(job(12, 0, Vec::new()), &BTreeMap::new());
        assert_eq!(next(&mut backlog), Some((12, vec![])));
        backlog.arrived(2, |work: &mut Vec<u64>| work.push(2));
        assert_eq!((next(&mut backlog), next(&mut backlog)), (Some((11, vec![2])), None));
        backlog.arrived(1, |work| work.push(1));
        assert_eq!(next(&mut backlog), Some((10, vec![2, 1])));
    }

    #[test]
    fn a_task_is_given_back_until_it_has_begun() {
        let mut backlog = Backlog::default();
        (1..=3).for_each(|task| drop(backlog.give(job(task, 0, ()), &BTreeMap::new())));
        backlog.give(job(4, 0, ()), &[(100, 1)].into());
        assert_eq!(next(&mut backlog), Some((1, ())));
        assert!(!backlog.remove(1) && backlog.remove(2) && !backlog.remove(2) && backlog.remove(4));
        assert!(backlog.arrived(100, |()| panic!("nobody waits for it any more")));
        assert!(!backlog.arrived(100, |()| panic!("nobody has asked for it")));
        assert_eq!((next(&mut backlog), next(&mut backlog)), (Some((3, ())), None));
    }

    #[test]
    fn what_others_wait_for_comes_first() {
        let mut backlog = Backlog::default();
        for (task, depth) in [(1, 0), (2, 2), (3, 1), (4, 2)] {
            backlog.give(job(task, depth, ()), &BTreeMap::new());
        }
        assert!(backlog.remove(4) && backlog.runnable() == 3);
        let order: Vec<TaskId> = std::iter::from_fn(|| next(&mut backlog)).map(|(task, ())| task).collect();
        assert_eq!((order, backlog.runnable()), (vec![2, 3, 1], 0));
    }

    #[test]
    fn what_comes_by_itself_is_not_asked_for_unless_it_does_not_come() {
        let mut backlog = Backlog::default();
        (100..103).for_each(|value| backlog.expect(value, 0));
        assert_eq!(backlog.give(job(1, 0, 0), &[(100, 3), (101, 0)].into()), []);
        assert!(backlog.arrived(100, |work| *work += 1) && backlog.next().is_none());
        // Tasks wait for the second, so it is fetched; nobody for the third.
        assert!(backlog.still_needs(101) && !backlog.still_needs(102) && !backlog.still_needs(103));
        assert!(backlog.arrived(101, |work| *work += 1) && !backlog.arrived(102, |_| {}));
        assert_eq!(next(&mut backlog), Some((1, 2)));
    }

    #[test]
    fn what_waits_for_a_lost_rank_is_given_back() {
        let mut backlog = Backlog::default();
        backlog.give(job(1, 0, ()), &[(100, 1), (101, 2)].into());
        backlog.give(job(2, 0, ()), &[(101, 2)].into());
        assert_eq!((backlog.miss(1), backlog.miss(1)), (vec![1], vec![]));
        // It can be given again, with another place for the value.
        assert_eq!(backlog.give(job(1, 0, ()), &[(100, 3), (101, 2)].into()), [(100, 3)]);
        backlog.forgo(100);
        assert!(!backlog.arrived(100, |()| {}));
    }

    #[test]
    fn calls_of_an_actor_begin_one_after_the_other() {
        let mut backlog = Backlog::default();
        let call = |task, actor| Job { task, depth: 0, actor: Some(actor), work: () };
        for (task, actor) in [(1, 100), (2, 100), (3, 200), (4, 100), (5, 100)] {
            backlog.give(call(task, actor), &BTreeMap::new());
        }
        let begin = |backlog: &mut Backlog<()>| backlog.next().map(|job| job.task);
        assert_eq!((begin(&mut backlog), begin(&mut backlog), begin(&mut backlog)), (Some(1), Some(3), None));
        assert!(backlog.remove(4) && !backlog.remove(1));
        backlog.through(100);
        // One that could begin, and is taken back, keeps nobody waiting.
        assert!(backlog.remove(2));
        assert_eq!((begin(&mut backlog), begin(&mut backlog)), (Some(5), None));
        backlog.through(100);
        backlog.give(call(6, 100), &BTreeMap::new());
        backlog.give(call(7, 100), &BTreeMap::new());
        assert_eq!((begin(&mut backlog), backlog.dissolve(100), backlog.dissolve(100)), (Some(6), vec![7], vec![]));
        backlog.through(100);
        assert_eq!(begin(&mut backlog), None);
        backlog.give(call(8, 100), &[(1000, 3)].into());
        backlog.give(call(9, 300), &[(1000, 3)].into());
        assert_eq!(backlog.dissolve(100), [8]);
        assert!(backlog.arrived(1000, |()| {}) && begin(&mut backlog) == Some(9));
    }
}
