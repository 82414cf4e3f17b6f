//! What of a graph runs, and which of its nodes run together.
//!
//! Nodes are numbered in the order in which they were added, and need such alone as were added before, so their order is
//! one in which they can run: nothing here recurs, however deep a graph is.
//!
//! Pure: no clock, thread, file or MPI.

use std::fmt;

/// How much of a graph runs, and in how many tasks.
///
/// # Examples
///
/// ```
/// use rankfold::Graph;
///
/// let mut graph = Graph::new();
/// let a = graph.add(|n: u64| n, (1,))?;
/// let b = graph.add(|n: &u64| n + 1, (&a,))?;
/// let c = graph.add(|n: &u64| n * 2, (&b,))?;
/// let _unused = graph.add(|n: &u64| n * 3, (&b,))?;
/// let plan = graph.plan(c)?;
/// assert_eq!((plan.nodes, plan.culled, plan.fused, plan.tasks), (4, 1, 2, 1));
/// assert_eq!(plan.to_string(), "4 nodes: 1 that nobody needs, 2 that run in the task of another, 1 task");
/// # Ok::<(), rankfold::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Plan {
    /// Nodes of the graph.
    pub nodes: usize,
    /// Nodes that do not run, because no output needs them.
    pub culled: usize,
    /// Nodes whose values come from a journal.
    pub restored: usize,
    /// Nodes that run in the task of another one: all but one for each task.
    pub fused: usize,
    /// Tasks that run.
    pub tasks: usize,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { nodes, culled, restored, fused, tasks } = *self;
        let counted = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        write!(f, "{}: ", counted(nodes, "node"))?;
        let parts =
            [(culled, "that nobody needs"), (restored, "from the journal"), (fused, "that run in the task of another")];
        for (count, what) in parts.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, "{count} {what}, ")?;
        }
        f.write_str(&counted(tasks, "task"))
    }
}

/// A graph, as far as planning has to know it.
pub(super) trait Nodes {
    fn count(&self) -> usize;

    /// The nodes that this one needs, each as often as it is an argument.
    fn needs(&self, node: usize) -> &[usize];

    /// Whether what was asked for with these two is the same, so that they may be one task.
    fn are_alike(&self, one: usize, other: usize) -> bool;
}

/// What is handed to a pool, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Task {
    /// These nodes, one after the other; the first may need others, and each of the rest needs the one before it alone.
    Run(Vec<usize>),
    /// The value of a node that is known already, for tasks that need it.
    Give(usize),
}

#[derive(Debug)]
pub(super) struct Schedule {
    pub tasks: Vec<Task>,
    /// Tasks that need each node's value.
    pub readers: Vec<u32>,
    pub plan: Plan,
}

/// Decides what runs for these outputs, where some values are wanted besides (`kept`), and some are known already.
pub(super) fn schedule(
    nodes: &impl Nodes,
    outputs: &[usize],
    kept: impl Fn(usize) -> bool,
    known: impl Fn(usize) -> bool,
) -> Schedule {
    let count = nodes.count();
    let (mut is_output, mut readers) = (vec![false; count], vec![0u32; count]);
    outputs.iter().for_each(|output| is_output[*output] = true);
    let mut is_needed = is_output.clone();
    for node in (0..count).rev() {
        if is_needed[node] && !known(node) {
            for need in distinct(nodes.needs(node)) {
                is_needed[need] = true;
                readers[need] += 1;
            }
        }
    }
    let mut plan = Plan { nodes: count, culled: count, ..Plan::default() };
    // The task that each node runs in.
    let (mut tasks, mut place) = (Vec::new(), vec![usize::MAX; count]);
    for node in (0..count).filter(|node| is_needed[*node]) {
        plan.culled -= 1;
        if known(node) {
            plan.restored += 1;
            if readers[node] > 0 {
                tasks.push(Task::Give(node));
            }
            continue;
        }
        let ends_with = |before: &usize| {
            let is_inside = readers[*before] == 1 && !is_output[*before] && !kept(*before) && !known(*before);
            is_inside && nodes.are_alike(*before, node)
        };
        if let Some(before) = only(nodes.needs(node)).filter(ends_with) {
            let Task::Run(steps) = &mut tasks[place[before]] else { unreachable!("what is known is not continued") };
            steps.push(node);
            place[node] = place[before];
            plan.fused += 1;
        } else {
            place[node] = tasks.len();
            tasks.push(Task::Run(vec![node]));
            plan.tasks += 1;
        }
    }
    Schedule { tasks, readers, plan }
}

/// Each of these once, in their order; there are few, as a function has few parameters.
pub(super) fn distinct(needs: &[usize]) -> impl Iterator<Item = usize> {
    needs.iter().enumerate().filter(|(at, need)| !needs[..*at].contains(need)).map(|(_, need)| *need)
}

/// The one node that these are, if they are one.
fn only(needs: &[usize]) -> Option<usize> {
    needs.first().copied().filter(|first| needs.iter().all(|need| need == first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The needs of each node, and what was asked for with it.
    struct Drawn(Vec<(Vec<usize>, u8)>);

    impl Nodes for Drawn {
        fn count(&self) -> usize {
            self.0.len()
        }

        fn needs(&self, node: usize) -> &[usize] {
            &self.0[node].0
        }

        fn are_alike(&self, one: usize, other: usize) -> bool {
            self.0[one].1 == self.0[other].1
        }
    }

    fn drawn(needs: &[&[usize]]) -> Drawn {
        Drawn(needs.iter().map(|needs| (needs.to_vec(), 0)).collect())
    }

    fn never(_: usize) -> bool {
        false
    }

    fn run(steps: &[usize]) -> Task {
        Task::Run(steps.to_vec())
    }

    #[test]
    fn what_no_output_needs_is_left_out() {
        let nodes = drawn(&[&[], &[0], &[], &[2, 0], &[3]]);
        let Schedule { tasks, plan, .. } = schedule(&nodes, &[1], never, never);
        assert_eq!((tasks, plan.culled), (vec![run(&[0, 1])], 3));
        assert_eq!(schedule(&nodes, &[], never, never).plan.culled, 5);
    }

    #[test]
    fn a_chain_is_one_task_and_ends_where_a_value_is_used_twice_or_wanted() {
        let chain = drawn(&[&[], &[0], &[1, 1], &[2]]);
        assert_eq!(schedule(&chain, &[3], never, never).tasks, [run(&[0, 1, 2, 3])]);
        assert_eq!(schedule(&chain, &[3, 1], never, never).tasks, [run(&[0, 1]), run(&[2, 3])]);
        assert_eq!(schedule(&chain, &[3], |node| node == 2, never).tasks, [run(&[0, 1, 2]), run(&[3])]);
        let fork = drawn(&[&[], &[0], &[1], &[1], &[2, 3], &[4]]);
        let Schedule { tasks, plan, readers } = schedule(&fork, &[5], never, never);
        assert_eq!(tasks, [run(&[0, 1]), run(&[2]), run(&[3]), run(&[4, 5])]);
        assert_eq!((plan.fused, plan.tasks, readers[1]), (2, 4, 2));
    }

    #[test]
    fn nodes_of_different_options_are_tasks_of_their_own() {
        let nodes = Drawn(vec![(vec![], 0), (vec![0], 1), (vec![1], 1)]);
        assert_eq!(schedule(&nodes, &[2], never, never).tasks, [run(&[0]), run(&[1, 2])]);
    }

    #[test]
    fn what_is_known_is_given_to_those_who_need_it_and_what_it_needed_does_not_run() {
        let nodes = drawn(&[&[], &[0], &[1], &[2]]);
        let Schedule { tasks, plan, .. } = schedule(&nodes, &[3], never, |node| node == 1);
        assert_eq!(tasks, [Task::Give(1), run(&[2, 3])]);
        assert_eq!((plan.culled, plan.restored, plan.tasks), (1, 1, 1));
        let Schedule { tasks, plan, .. } = schedule(&nodes, &[1], never, |node| node == 1);
        assert_eq!((tasks, plan.culled, plan.restored), (vec![], 3, 1));
    }

    proptest! {
        #[test]
        fn every_node_that_is_needed_runs_once_and_after_what_it_needs(
            draws in prop::collection::vec((prop::collection::vec(any::<prop::sample::Index>(), 0..4), 0u8..2), 1..40),
            outputs in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
            known in any::<u64>(), kept in any::<u64>(),
        ) {
            let draw = |(at, (needs, kind)): (usize, (Vec<prop::sample::Index>, u8))| {
                (if at == 0 { vec![] } else { needs.iter().map(|need| need.index(at)).collect() }, kind)
            };
            let nodes = Drawn(draws.into_iter().enumerate().map(draw).collect());
            let count = nodes.count();
            let outputs: Vec<usize> = outputs.iter().map(|output| output.index(count)).collect();
            let known = |node: usize| node.is_multiple_of(5) && known >> (node % 64) & 1 == 1;
            let kept = |node: usize| kept >> (node % 64) & 1 == 1;
            let Schedule { tasks, plan, readers } = schedule(&nodes, &outputs, kept, known);
            // By the plain definition: what is needed, from the outputs backwards.
            let (mut needed, mut open) = (std::collections::BTreeSet::new(), outputs.clone());
            while let Some(node) = open.pop() {
                if needed.insert(node) && !known(node) {
                    open.extend(nodes.needs(node));
                }
            }
            let mut ended = std::collections::BTreeSet::new();
            let (mut ran, mut read) = (0, vec![0u32; count]);
            for task in &tasks {
                match task {
                    Task::Give(node) => prop_assert!(known(*node) && ended.insert(*node)),
                    Task::Run(steps) => {
                        ran += steps.len();
                        let head = nodes.needs(steps[0]);
                        prop_assert!(head.iter().all(|need| ended.contains(need)));
                        distinct(head).for_each(|need| read[need] += 1);
                        for pair in steps.windows(2) {
                            prop_assert!(nodes.needs(pair[1]).iter().all(|need| *need == pair[0]));
                            prop_assert!(!outputs.contains(&pair[0]) && !kept(pair[0]) && readers[pair[0]] == 1);
                        }
                        prop_assert!(steps.iter().all(|step| needed.contains(step) && !known(*step)));
                        prop_assert!(ended.insert(steps[steps.len() - 1]));
                    }
                }
            }
            prop_assert!(ended.iter().all(|node| read[*node] == readers[*node]));
            prop_assert_eq!(ran, needed.iter().filter(|node| !known(**node)).count());
            prop_assert_eq!(plan.nodes, plan.culled + plan.restored + plan.fused + plan.tasks);
            prop_assert_eq!(plan.culled, count - needed.len());
        }
    }
}
