//! Faults that were found once, each by the program that showed it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rankfold::{ErrorKind, World, data};
use serde::{Deserialize, Serialize, Serializer};

mod support;

#[test]
fn no_rank_returns_an_error_while_another_still_computes() {
    // A rank that unwraps the error ends all ranks, and rank 0, which has yet to tell it, with them.
    let (slow_has_begun, slow_is_done) = (AtomicBool::new(false), AtomicBool::new(false));
    let mapper = |item: u64| match item {
        0 => {
            while !slow_has_begun.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            panic!("the real reason")
        }
        1 => {
            slow_has_begun.store(true, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(700));
            slow_is_done.store(true, Ordering::Relaxed);
        }
        _ => {}
    };
    let errors = rankfold::threads(3, |world| {
        let error = world.over(0..2u64).for_each(mapper).unwrap_err();
        assert!(slow_is_done.load(Ordering::Relaxed), "rank {} is back too early", world.rank());
        error
    });
    assert!(errors.iter().all(|error| error.to_string().contains("the real reason")));
}

#[test]
fn ranks_that_want_the_result_in_different_places_are_refused() {
    let errors = rankfold::threads(2, |world| {
        let over = world.over(0..10u64);
        let sum = |a, b| a + b;
        if world.is_root() { over.on_root().map_reduce(|i| i, sum).err() } else { over.map_reduce(|i| i, sum).err() }
    });
    for error in errors {
        let Some(ErrorKind::Disagreement { what, .. }) = error.as_ref().map(rankfold::Error::kind) else {
            panic!("{error:?}")
        };
        assert_eq!(what, "ranks that get the result");
    }
}

#[derive(Clone, Deserialize)]
struct Explosive;

impl Serialize for Explosive {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("not in the mail")
    }
}

#[test]
fn an_item_that_panics_on_its_way_is_an_error_of_the_call() {
    let errors = rankfold::threads(2, |world| {
        let items = vec![Explosive; 100];
        world.over(data::from_root(items)).for_each(|_| std::thread::sleep(Duration::from_millis(1))).unwrap_err()
    });
    for error in errors {
        assert!(matches!(error.kind(), ErrorKind::Source { .. }) && error.to_string().contains("not in the mail"));
    }
}

#[test]
fn a_leaf_of_many_items_is_left_in_the_middle_when_the_call_has_failed() {
    // Leaves of 2048 items that take 2 ms each: to wait for their end would be to give up after the grace time.
    let mapper = |item: u64| {
        std::thread::sleep(Duration::from_millis(2));
        assert!(item % 2048 != 20, "enough");
        item
    };
    let error = World::local(3).unwrap().map_reduce(0..1u64 << 31, mapper, |a, b| a + b).unwrap_err();
    assert!(error.to_string().contains("enough"), "{error}");
}

#[test]
fn time_in_a_mapper_that_uses_rayon_itself_is_counted_once() {
    let world = World::local(1).unwrap();
    let nap = || std::thread::sleep(Duration::from_millis(1));
    world.over(0..64u64).map_batches(|_| rayon::join(nap, nap).0, |(), ()| ()).unwrap();
    let report = world.report().unwrap();
    assert!(report.busy() <= report.wall * report.threads(), "{report}");
}

#[test]
fn more_ranks_than_a_process_can_hold_are_refused() {
    let error = World::local(usize::MAX).unwrap_err();
    assert!(error.to_string().contains("do not fit in one process"), "{error}");
}

#[test]
fn copies_that_cannot_see_each_other_refuse_to_do_the_work_several_times() {
    let ended = support::run_alone(&[("SLURM_STEP_NUM_TASKS", "4"), ("SLURM_PROCID", "0")], &["test-spmd", "results"]);
    ended.says(&["srun started 4 copies of this program", "srun --mpi=pmix"]);
}
