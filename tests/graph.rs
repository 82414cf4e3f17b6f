//! Graphs on ranks that are threads of one process: culling, fusion, errors, and values that are freed in between.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;
use rankfold::{ErrorKind, Graph, Node, Remote, Result};
use serde::{Deserialize, Serialize};

#[path = "support/pools.rs"]
mod pools;
use pools::{big, shifted, total, with};

fn joined(left: &[u64], right: &[u64]) -> Vec<u64> {
    left.iter().zip(right).map(|(left, right)| left.wrapping_mul(31) ^ right).collect()
}

#[test]
fn outputs_of_any_shape_come_back_in_that_shape() {
    let mut graph = Graph::new();
    let (a, b) = (graph.add(|n: u64| n, (1,)).unwrap(), graph.add(|n: u64| n.to_string(), (2,)).unwrap());
    let c = graph.add(big, (3,)).unwrap();
    let many = [a; 3];
    let shape = ((), &a, (&b, [Some(&c), None]), &many[..], vec![(&a, &b)], a);
    let expected = || ((), 1, ("2".to_owned(), [Some(big(3)), None]), vec![1; 3], vec![(1, "2".to_owned())], 1);
    assert_eq!(graph.run_here(&shape).unwrap(), expected());
    for ranks in [1, 3] {
        assert_eq!(with(ranks, |pool| graph.run(pool, &shape)).unwrap(), expected());
        // A node may be asked for several times: each place has a remote of its own.
        let (remotes, last) = with(ranks, |pool| -> Result<_> {
            let ((), one, (two, [three, none]), many, _, last) = graph.submit(pool, &shape)?;
            assert!(none.is_none());
            drop((one, two));
            let many = many.into_iter().map(Remote::get).collect::<Result<Vec<_>>>()?;
            Ok(((three.expect("it was asked for").get()?, many), last.get()?))
        })
        .unwrap();
        assert_eq!((remotes, last), ((big(3), vec![1; 3]), 1));
    }
}

#[test]
fn only_what_the_outputs_need_runs_and_chains_run_in_one_task() {
    static RUN: Mutex<Vec<(u32, String)>> = Mutex::new(Vec::new());
    fn note(number: u32) -> u32 {
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        RUN.lock().unwrap().push((number, thread));
        number
    }
    let mut graph = Graph::new();
    let a = graph.add(note, (0,)).unwrap();
    let b = graph.add(|before: &u32, number: u32| before + note(number), (&a, 1)).unwrap();
    let c = graph.add(|before: &u32, number: u32| before + note(number), (&b, 2)).unwrap();
    let unused = graph.add(|before: &u32, number: u32| before + note(number), (&c, 3)).unwrap();
    let plan = graph.plan(c).unwrap();
    assert_eq!((plan.nodes, plan.culled, plan.fused, plan.tasks), (4, 1, 2, 1));
    assert_eq!(with(3, |pool| graph.run(pool, &c)).unwrap(), 3);
    assert_eq!(graph.last_run(), Some(plan));
    let run = std::mem::take(&mut *RUN.lock().unwrap());
    assert_eq!(run.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(run.iter().all(|(_, thread)| *thread == run[0].1), "{run:?}");
    assert_eq!(with(2, |pool| graph.run(pool, (&b, &unused))).unwrap(), (1, 6));
    assert_eq!(graph.last_run().unwrap().tasks, 2);
}

#[test]
fn a_hundred_thousand_nodes_side_by_side_and_one_after_the_other_run() {
    let mut wide = Graph::new();
    let parts = (0..100_000).map(|n| wide.add(|n: u64| n * 3, (n,)).unwrap()).collect::<Vec<_>>();
    assert_eq!(with(2, |pool| wide.run(pool, &parts)).unwrap().into_iter().sum::<u64>(), 14_999_850_000);
    // One task; and a hundred thousand, whose values each have two readers.
    let mut chain = Graph::new();
    let mut last = chain.add(|n: u64| n, (0,)).unwrap();
    for _ in 0..100_000 {
        last = chain.add(|n: &u64| n + 1, (&last,)).unwrap();
    }
    assert_eq!(with(2, |pool| chain.run(pool, &last)).unwrap(), 100_000);
    assert_eq!(chain.last_run().unwrap().tasks, 1);
    assert_eq!(chain.run_here(&last).unwrap(), 100_000);
    let mut ladder = Graph::new();
    let (mut left, mut right) = (ladder.add(|n: u64| n, (0,)).unwrap(), ladder.add(|n: u64| n, (1,)).unwrap());
    for _ in 0..50_000 {
        let next = ladder.add(|a: &u64, b: &u64| a.wrapping_add(*b), (&left, &right)).unwrap();
        right = ladder.add(|a: &u64, b: &u64| a ^ b, (&left, &right)).unwrap();
        left = next;
    }
    let expected = ladder.run_here((&left, &right)).unwrap();
    assert_eq!(with(2, |pool| ladder.run(pool, (&left, &right))).unwrap(), expected);
    assert_eq!(ladder.last_run().unwrap().tasks, 100_002);
}

#[test]
fn a_graph_of_a_hundred_thousand_nodes_that_fails_at_its_beginning_ends_at_once() {
    let mut graph = Graph::new();
    let first = graph.named("the first").add(|n: u64| if n == 0 { panic!("no") } else { n }, (0,)).unwrap();
    let (mut left, mut right) = (first, first);
    for _ in 0..50_000 {
        let next = graph.add(|a: &u64, b: &u64| a + b, (&left, &right)).unwrap();
        right = graph.add(|a: &u64, b: &u64| a * b, (&left, &right)).unwrap();
        left = next;
    }
    let error = with(2, |pool| graph.run(pool, (&left, &right))).unwrap_err();
    assert!(error.to_string().starts_with("the first: the task panicked on rank "), "{error}");
}

/// Counts those that exist.
#[derive(Serialize, Deserialize)]
#[serde(from = "Vec<u8>", into = "Vec<u8>")]
struct Counted(Vec<u8>);

static ALIVE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

impl From<Vec<u8>> for Counted {
    fn from(bytes: Vec<u8>) -> Self {
        MOST.fetch_max(1 + ALIVE.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
        Self(bytes)
    }
}

impl From<Counted> for Vec<u8> {
    fn from(counted: Counted) -> Self {
        counted.0.clone()
    }
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        Self::from(self.0.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn values_in_between_are_freed_when_their_last_reader_has_run() {
    let mut graph = Graph::new();
    // Each value has two readers, so that nothing is fused.
    let mut last = graph.add(|| Counted::from(vec![1; 10_000]), ()).unwrap();
    for _ in 0..200 {
        let length = graph.add(|value: &Counted| value.0.len() as u64, (&last,)).unwrap();
        last = graph
            .add(|value: &Counted, length: &u64| Counted::from(vec![value.0[0]; *length as usize]), (&last, &length))
            .unwrap();
    }
    let length = graph.add(|value: &Counted| value.0.len(), (&last,)).unwrap();
    assert_eq!(with(1, |pool| graph.run(pool, &length)).unwrap(), 10_000);
    assert_eq!(ALIVE.load(Ordering::SeqCst), 0);
    assert!(MOST.load(Ordering::SeqCst) < 50, "{} at a time", MOST.load(Ordering::SeqCst));
}

#[test]
fn the_first_failure_ends_a_run_and_cancels_what_has_not_begun() {
    static RUN: AtomicUsize = AtomicUsize::new(0);
    fn slow(ms: u64) -> u64 {
        std::thread::sleep(Duration::from_millis(ms));
        RUN.fetch_add(1, Ordering::SeqCst);
        ms
    }
    let mut graph = Graph::new();
    let bad = graph.named("the bad one").priority(1).add(|n: u32| if n == 7 { panic!("no sevens") } else { n }, (7,));
    let next = graph.add(|n: &u32| n + 1, (&bad.unwrap(),)).unwrap();
    let others = (0..500).map(|_| graph.add(slow, (10,)).unwrap()).collect::<Vec<_>>();
    let error = with(2, |pool| graph.run(pool, (&others, &next))).unwrap_err();
    let ErrorKind::Panicked { call, message, place, .. } = error.kind() else { panic!("{error}") };
    assert!(message == "no sevens" && call == "the bad one" && place.rank < 2, "{error}");
    assert!(RUN.load(Ordering::SeqCst) < 250, "the rest did not run");
    let here = graph.run_here((&next, &others)).unwrap_err();
    assert!(matches!(here.kind(), ErrorKind::Panicked { .. }), "{here}");
}

#[test]
fn who_keeps_going_completes_what_does_not_depend_on_a_failure() {
    let mut graph = Graph::new();
    let parts =
        (0..6u32).map(|n| graph.node().retries(1).add(|n: u32| 60 / (n - 3), (n + 1,)).unwrap()).collect::<Vec<_>>();
    let sums = parts.windows(2).map(|pair| graph.add(|a: &u32, b: &u32| a + b, (&pair[0], &pair[1])).unwrap());
    let sums = sums.collect::<Vec<_>>();
    let shown = |results: (Vec<Result<u32>>, Vec<Result<u32>>)| {
        let show = |result: Result<u32>| {
            result.map_or_else(
                |error| {
                    let root = match error.kind() {
                        ErrorKind::Needed { cause, .. } => ("needed", cause.clone()),
                        _ => ("own", Box::new(error)),
                    };
                    let ErrorKind::Panicked { attempts, .. } = root.1.kind() else { panic!("{}", root.1) };
                    format!("{} after {attempts}", root.0)
                },
                |value| value.to_string(),
            )
        };
        (results.0.into_iter().map(show).collect::<Vec<_>>(), results.1.into_iter().map(show).collect::<Vec<_>>())
    };
    let here = shown(graph.keep_going().run_here((&parts, &sums)).unwrap());
    assert!(here.0.iter().filter(|text| *text == "own after 2").count() == 3, "{here:?}");
    assert_eq!(here.1[4], "50");
    for ranks in [1, 2, 4] {
        assert_eq!(shown(with(ranks, |pool| graph.keep_going().run(pool, (&parts, &sums))).unwrap()), here);
    }
}

#[test]
fn each_value_comes_as_it_is_made_with_its_place() {
    let mut graph = Graph::new();
    let nodes = (0..300u64).map(|n| graph.add(|n: u64| 1000 / (n % 100), (n,)).unwrap()).collect::<Vec<_>>();
    let twice = [nodes.as_slice(), &nodes[..10]].concat();
    let mut seen = vec![None; twice.len()];
    with(3, |pool| graph.keep_going().for_each(pool, &twice, |place, value| seen[place] = Some(value.ok()))).unwrap();
    let expected = (0..300u64).chain(0..10).map(|n| Some(1000u64.checked_div(n % 100)));
    assert!(seen.into_iter().eq(expected));
}

#[test]
fn a_panic_inside_of_a_chain_names_its_node() {
    let mut graph = Graph::new();
    let a = graph.named("load").add(|n: u32| n, (0,)).unwrap();
    let b = graph.named("clean").add(|n: &u32| 1 / n, (&a,)).unwrap();
    let c = graph.named("chart").add(|n: &u32| n + 1, (&b,)).unwrap();
    let error = with(2, |pool| graph.run(pool, &c)).unwrap_err().to_string();
    let words = "chart: the task panicked on rank ";
    assert!(error.starts_with(words) && error.contains(" at clean, which runs in the same task: "), "{error}");
    // Without a name, the function is named.
    let mut graph = Graph::new();
    let a = graph.add(big, (1,)).unwrap();
    let b = graph.add(|_: &[u64]| -> u64 { panic!("here") }, (&a,)).unwrap();
    let c = graph.add(|n: &u64| n + 1, (&b,)).unwrap();
    let error = with(2, |pool| graph.run(pool, &c)).unwrap_err().to_string();
    assert!(
        error.contains("a_panic_inside_of_a_chain_names_its_node::{{closure}}, which runs in the same task"),
        "{error}"
    );
}

#[test]
fn retries_try_a_whole_chain_again() {
    static TRIES: AtomicUsize = AtomicUsize::new(0);
    let mut graph = Graph::new();
    let a = graph.node().retries(3).add(|n: usize| n, (7,)).unwrap();
    let luck = |n: &usize| if TRIES.fetch_add(1, Ordering::SeqCst) < 3 { panic!("no luck") } else { *n };
    let b = graph.node().retries(3).add(luck, (&a,)).unwrap();
    assert_eq!(with(2, |pool| graph.run(pool, &b)).unwrap(), 7);
    assert_eq!((TRIES.load(Ordering::SeqCst), graph.last_run().unwrap().tasks), (4, 1));
}

#[test]
fn nodes_where_they_do_not_belong_are_refused_in_words() {
    let (mut one, mut other) = (Graph::new(), Graph::new());
    let node = one.add(|n: u32| n, (1,)).unwrap();
    let said = |result: Result<()>, words: &str| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    said(other.add(|n: &u32| *n, (&node,)).map(drop), "node 0 of another graph is an argument; add its function");
    said(other.run_here(&node).map(drop), "node 0 of another graph is an output");
    with(1, |pool| {
        said(
            pool.submit(|n: &u32| *n, (&node,)).map(drop),
            "node 0 of a graph is an argument of a task; run the graph first",
        );
        let remote = pool.submit(|n: u32| n, (1,)).unwrap();
        said(one.add(|n: &u32| *n, (&remote,)).map(drop), "is an argument in a graph, which may run in any pool");
        said(other.run(pool, &node).map(drop), "of another graph");
    });
    said(
        one.named("a").add(|n: u32| n, (1,)).and_then(|_| one.named("a").add(|n: u32| n, (2,))).map(drop),
        "name already",
    );
    assert_eq!(one.len(), 2, "what was refused is not in the graph");
}

#[test]
fn a_pool_that_is_over_ends_a_run_and_dropped_remotes_cancel_their_graph() {
    static RUN: AtomicUsize = AtomicUsize::new(0);
    let mut graph = Graph::new();
    let slow = |_: u32| {
        std::thread::sleep(Duration::from_millis(5));
        RUN.fetch_add(1, Ordering::SeqCst);
    };
    let nodes = (0..1000).map(|n| graph.add(slow, (n,)).unwrap()).collect::<Vec<_>>();
    with(2, |pool| drop(graph.submit(pool, &nodes).unwrap()));
    assert!(RUN.load(Ordering::SeqCst) < 500);
}

type Draw = (u8, u64, Vec<Index>);

type Drawn = (Graph, Vec<Node<Vec<u64>>>, Vec<Node<u64>>);

/// A graph of large and small values that are made of each other.
fn drawn(draws: &[Draw]) -> Drawn {
    let mut graph = Graph::new();
    let mut large = vec![graph.add(big, (1,)).unwrap()];
    let mut small = vec![graph.named("one").add(|n: u64| n, (1,)).unwrap()];
    for (kind, number, needs) in draws {
        let (vector, other) = (large[needs[0].index(large.len())], large[needs[1].index(large.len())]);
        let value = small[needs[2].index(small.len())];
        let options = graph.node().priority(i32::from(kind / 64)).retries(1);
        match kind % 5 {
            0 => large.push(options.add(shifted, (&vector, *number)).unwrap()),
            1 => large.push(options.add(joined, (&vector, &other)).unwrap()),
            2 => small.push(options.add(total, (&vector,)).unwrap()),
            3 => small.push(options.add(|a: &u64, b: u64| a.rotate_left(9) ^ b, (&value, *number)).unwrap()),
            _ => large.push(options.add(|v: &[u64], n: &u64| shifted(v, *n), (&vector, &value)).unwrap()),
        }
    }
    (graph, large, small)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_graph_gives_the_same_in_a_pool_as_here(
        draws in prop::collection::vec((any::<u8>(), any::<u64>(), prop::collection::vec(any::<Index>(), 3)), 1..60),
        picks in prop::collection::vec(any::<Index>(), 1..5), ranks in 1usize..5,
    ) {
        let (graph, large, small) = drawn(&draws);
        let outputs: (Vec<_>, Vec<_>) =
            picks.iter().map(|pick| (large[pick.index(large.len())], small[pick.index(small.len())])).unzip();
        let here = graph.run_here(&outputs).unwrap();
        prop_assert_eq!(with(ranks, |pool| graph.run(pool, &outputs)).unwrap(), here);
    }
}
