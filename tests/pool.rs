//! The root door on ranks that are threads of one process: tasks, remotes, and what becomes of them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rankfold::{ErrorKind, Pool, Remote, Result, Until, World};

fn with<R: Send>(ranks: usize, program: impl FnOnce(&Pool) -> R + Send) -> R {
    World::local(ranks).unwrap().pool(program).unwrap().expect("rank 0 gets the result")
}

fn big(seed: u64) -> Vec<u64> {
    (0..200_000).map(|n| n ^ seed).collect()
}

fn sum(values: &[u64]) -> u64 {
    values.iter().sum()
}

fn pause(ms: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(ms));
    ms
}

#[test]
fn many_small_tasks_each_give_their_own_value() {
    for ranks in [1, 2, 5] {
        let values = with(ranks, |pool| {
            let remotes = pool.map(|n: u64| n * n, 0..20_000)?;
            remotes.into_iter().map(Remote::get).collect::<Result<Vec<_>>>()
        });
        assert!(values.unwrap().into_iter().eq((0..20_000u64).map(|n| n * n)), "{ranks} ranks");
    }
}

#[test]
fn values_that_stay_where_they_are_made_are_used_there_and_elsewhere() {
    for ranks in [1, 2, 4] {
        let (sums, joined) = with(ranks, |pool| -> Result<_> {
            let parts = pool.map(big, 0..12)?;
            let sums = parts.iter().map(|part| pool.submit(sum, (part,))?.get()).collect::<Result<Vec<_>>>()?;
            let joined =
                pool.submit(|a: &Vec<u64>, b: &Vec<u64>| [a.as_slice(), b].concat(), (&parts[3], &parts[8]))?;
            Ok((sums, joined.get()?))
        })
        .unwrap();
        assert!(sums.into_iter().eq((0..12).map(|seed| sum(&big(seed)))));
        assert_eq!(joined, [big(3), big(8)].concat());
    }
}

#[test]
fn a_task_may_need_one_value_several_times_and_several_small_ones() {
    let value = with(2, |pool| -> Result<_> {
        let (x, n) = (pool.submit(big, (1,))?, pool.submit(|n: u64| n, (5,))?);
        let twice = |a: &Vec<u64>, b: &Vec<u64>, n: &u64, m: &u64, k: u64| a[7] + b[7] + n + m + k;
        pool.submit(twice, (&x, &x, &n, &n, 100))?.get()
    });
    assert_eq!(value.unwrap(), 2 * (7 ^ 1) + 10 + 100);
}

#[test]
fn a_panic_arrives_with_its_place_and_those_who_need_the_value_fail_with_its_cause() {
    with(3, |pool| -> Result<_> {
        let bad = pool.submit(|n: u32| if n == 7 { panic!("no sevens") } else { n }, (7,))?;
        let next = pool.submit(|n: &u32| n + 1, (&bad,))?;
        let last = pool.submit(|n: &u32| n + 1, (&next,))?;
        let error = last.get().unwrap_err();
        let ErrorKind::Needed { cause } = error.kind() else { panic!("{error}") };
        let ErrorKind::Panicked { message, item, .. } = cause.kind() else { panic!("{cause}") };
        assert!(message == "no sevens" && item.contains("task"), "{error}");
        assert!(bad.wait().is_err() && next.wait().is_err());
        // The pool goes on.
        assert_eq!(pool.submit(|n: u32| n, (8,))?.get()?, 8);
        // What is submitted for a value that there will never be fails as well.
        assert!(pool.submit(|n: &u32| n + 1, (&bad,))?.get().is_err());
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_chain_of_failures_of_any_length_ends() {
    with(2, |pool| -> Result<_> {
        let mut last = pool.submit(|n: u32| if n == 0 { panic!("first") } else { n }, (0,))?;
        for _ in 0..50_000 {
            last = pool.submit(|n: &u32| n + 1, (&last,))?;
        }
        let error = last.get().unwrap_err();
        assert!(error.to_string().contains("first"), "{error}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_long_chain_gives_the_value_that_it_has_to() {
    let value = with(2, |pool| -> Result<_> {
        let mut last = pool.submit(|n: u32| n, (0,))?;
        for _ in 0..20_000 {
            last = pool.submit(|n: &u32| n + 1, (&last,))?;
        }
        last.get()
    });
    assert_eq!(value.unwrap(), 20_000);
}

#[test]
fn tasks_run_on_all_ranks_and_threads_at_once() {
    let threads = with(4, |pool| -> Result<_> {
        let names = pool.map(
            |_: u32| {
                pause(30);
                format!("{:?}", std::thread::current().name())
            },
            0..16,
        )?;
        names.into_iter().map(Remote::get).collect::<Result<BTreeSet<_>>>()
    });
    assert!(threads.as_ref().unwrap().len() >= 4, "{threads:?}");
}

#[test]
fn waiting_ends_when_enough_is_done() {
    with(4, |pool| -> Result<_> {
        let remotes = pool.map(pause, [0, 0, 3000])?;
        assert_eq!(pool.wait(&remotes, Until::Count(2), None), [0, 1]);
        assert_eq!(pool.wait(&remotes, Until::All, Some(Duration::from_millis(10))), [0, 1]);
        assert!(!remotes[2].wait_for(Duration::from_millis(1))?);
        let bad = vec![pool.submit(|n: u32| 1 / n, (0,))?, pool.submit(|n: u32| n, (0,))?];
        assert!(pool.wait(&bad, Until::FirstError, None).contains(&0));
        Ok(())
    })
    .unwrap();
}

#[test]
fn what_nobody_wants_does_not_run_and_what_is_detached_does() {
    static RUN: AtomicUsize = AtomicUsize::new(0);
    static DETACHED: AtomicUsize = AtomicUsize::new(0);
    with(1, |pool| -> Result<_> {
        let first = pool.submit(pause, (200,))?;
        let others = pool.map(
            |_: u32| {
                pause(20);
                RUN.fetch_add(1, Ordering::Relaxed);
            },
            0..1000,
        )?;
        pool.map(
            |_: u32| {
                DETACHED.fetch_add(1, Ordering::Relaxed);
            },
            0..50,
        )?
        .into_iter()
        .for_each(Remote::detach);
        drop(others);
        first.wait()
    })
    .unwrap();
    assert!(RUN.load(Ordering::Relaxed) < 1000);
    assert_eq!(DETACHED.load(Ordering::Relaxed), 50);
}

#[test]
fn a_cancelled_task_is_an_error_for_those_who_wait() {
    with(1, |pool| -> Result<_> {
        let slow = pool.map(pause, vec![50; 20])?;
        let last = pool.submit(|n: &u64| *n, (&slow[19],))?;
        slow[19].cancel();
        let error = last.get().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Needed { .. }) && error.to_string().contains("cancelled"), "{error}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn remotes_that_outlive_their_pool_say_so() {
    let world = World::local(2).unwrap();
    let remote = world.pool(|pool| pool.submit(big, (1,))).unwrap().unwrap().unwrap();
    let error = remote.get().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::PoolIsOver { .. }), "{error}");
    // The world is as it was.
    assert_eq!(world.map_reduce(0..10u64, |n| n, |a, b| a + b).unwrap(), 45);
    assert_eq!(world.pool(|pool| pool.submit(|n: u64| n, (3,))?.get()).unwrap().unwrap().unwrap(), 3);
}

#[test]
fn the_spmd_door_opens_the_root_door_on_every_rank() {
    let results = rankfold::threads(3, |world| world.pool(|pool| pool.submit(|n: u64| n + 1, (1,))?.get()).unwrap());
    let values: Vec<Option<u64>> = results.into_iter().map(|value| value.map(Result::unwrap)).collect();
    assert_eq!(values, [Some(2), None, None]);
}

#[test]
fn a_rank_that_makes_another_call_is_told_to_everybody() {
    let errors = rankfold::threads(3, |world| {
        if world.rank() == 2 {
            world.map_reduce(0..10u64, |n| n, |a, b| a + b).map(drop).unwrap_err()
        } else {
            world.pool(|pool| pool.submit(|n: u64| n + 1, (1,)).and_then(Remote::get).map(drop).ok()).unwrap_err()
        }
    });
    for error in errors {
        assert!(matches!(error.kind(), ErrorKind::Disagreement { .. }), "{error}");
    }
}
