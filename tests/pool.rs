//! The root door on ranks that are threads of one process: tasks, remotes, and what becomes of them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize, Serializer};

use rankfold::{ErrorKind, Remote, Result, Until, World};

#[path = "support/pools.rs"]
mod pools;
use pools::with;

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
        let ErrorKind::Needed { cause, .. } = error.kind() else { panic!("{error}") };
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
fn many_are_waited_for_again_and_again() {
    fn nap(number: u64) -> u64 {
        std::thread::sleep(Duration::from_millis(if number == 19_999 { 300 } else { 0 }));
        number
    }
    with(2, |pool| -> Result<_> {
        let remotes = pool.map(nap, 0..20_000)?;
        for count in (0..=20_000).step_by(500) {
            let done = pool.wait(&remotes, Until::Count(count), None);
            assert!(done.len() >= count && done.is_sorted(), "{} of {count}", done.len());
        }
        // What has come to its end is there at once, also for who does not wait.
        assert_eq!(pool.wait(&remotes, Until::First, Some(Duration::ZERO)).len(), 20_000);
        assert_eq!(pool.wait(&remotes, Until::FirstError, None).len(), 20_000);
        assert_eq!(remotes.into_iter().map(Remote::get).sum::<Result<u64>>()?, 199_990_000);
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
            let program = |pool: &rankfold::Pool| {
                // Whoever makes another call has time to say so.
                std::thread::sleep(Duration::from_millis(500));
                pool.submit(|n: u64| n + 1, (1,)).and_then(Remote::get).map(drop).ok()
            };
            world.pool(program).unwrap_err()
        }
    });
    for error in errors {
        assert!(matches!(error.kind(), ErrorKind::Disagreement { .. }), "{error}");
    }
}

#[test]
fn a_remote_of_another_pool_is_refused_as_an_argument() {
    let world = World::local(2).unwrap();
    let old = world.pool(|pool| pool.submit(|n: u64| n, (1,))).unwrap().unwrap().unwrap();
    let error = world.pool(|pool| -> Result<u64> {
        let _other = pool.submit(|n: u64| n, (42,))?;
        pool.submit(|n: &u64| *n, (&old,))?.get()
    });
    let error = error.unwrap().unwrap().unwrap_err();
    assert!(error.to_string().contains("in another pool"), "{error}");
}

/// A value whose every step may panic.
#[derive(Debug, Deserialize)]
struct Touchy {
    panics: String,
    filling: Vec<u8>,
}

impl Serialize for Touchy {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        assert!(self.panics != "encode", "it does not like to travel");
        (&self.panics, &self.filling).serialize(serializer)
    }
}

impl Drop for Touchy {
    fn drop(&mut self) {
        assert!(self.panics != "drop" || std::thread::panicking(), "it does not like to go");
    }
}

fn touchy(panics: String) -> Touchy {
    Touchy { panics, filling: vec![7; 10_000] }
}

#[test]
fn what_panics_in_the_users_types_is_an_error_of_its_task_and_the_pool_goes_on() {
    with(2, |pool| -> Result<_> {
        let error = pool.submit(touchy, ("encode".to_owned(),))?.get().unwrap_err();
        assert!(error.to_string().contains("does not like to travel"), "{error}");
        pool.submit(touchy, ("drop".to_owned(),))?.wait()?;
        assert_eq!(pool.submit(touchy, ("nothing".to_owned(),))?.get()?.filling.len(), 10_000);
        let values = pool.map(|n: u64| n, 0..1000)?.into_iter().map(Remote::get).sum::<Result<u64>>()?;
        assert_eq!(values, 499_500);
        Ok(())
    })
    .unwrap();
}

#[test]
fn callbacks_may_panic_fetch_and_come_late() {
    let (sender, receiver) = channel();
    let receiver = with(2, move |pool| -> Result<_> {
        let bad = pool.submit(|n: u32| 1 / n, (0,))?;
        bad.on_done(|| panic!("in a callback"));
        assert!(bad.fetch().is_err());
        // What was asked for and failed is at its end, too.
        let late = sender.clone();
        bad.on_done(move || late.send("late").unwrap());
        assert_eq!(receiver.recv_timeout(Duration::from_secs(20)), Ok("late"));
        let (slow, value) = (pool.submit(pause, (50,))?, Arc::new(pool.submit(big, (1,))?));
        let (fetched, other) = (sender.clone(), Arc::clone(&value));
        slow.on_done(move || {
            assert_eq!(other.fetch().unwrap(), big(1));
            fetched.send("fetched").unwrap();
        });
        assert_eq!(receiver.recv_timeout(Duration::from_secs(20)), Ok("fetched"));
        let detached = pool.submit(pause, (100,))?;
        let done = sender.clone();
        detached.on_done(move || done.send("detached").unwrap());
        detached.detach();
        Ok(receiver)
    })
    .unwrap();
    assert_eq!(receiver.recv_timeout(Duration::from_secs(20)), Ok("detached"));
}

#[test]
fn a_value_is_had_while_the_rank_that_has_it_is_busy_with_many_tasks() {
    with(2, |pool| -> Result<_> {
        let value = pool.task().on(1).submit(big, (3,))?;
        value.wait()?;
        let mut busy = Vec::new();
        for _ in 0..400 {
            busy.push(pool.task().on(1).submit(pause, (20,))?);
        }
        assert_eq!(value.get()?, big(3));
        assert!(!busy[399].is_done());
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_task_that_uses_rayon_is_not_kept_waiting_by_other_tasks() {
    fn joins(ms: u64) -> u64 {
        let (a, b) = rayon::join(|| pause(ms), || pause(ms));
        a + b
    }
    with(1, |pool| -> Result<_> {
        let joined = pool.submit(joins, (100,))?;
        let others = pool.map(pause, vec![20; 500])?;
        joined.wait()?;
        assert!(!others[499].is_done());
        Ok(())
    })
    .unwrap();
}

#[test]
fn tasks_come_back_in_the_order_of_their_ends() {
    with(2, |pool| -> Result<_> {
        let remotes = vec![pool.submit(pause, (200,))?, pool.submit(pause, (0,))?];
        assert_eq!(pool.wait(&remotes, Until::All, Some(Duration::MAX)), [0, 1]);
        assert!(remotes[0].wait_for(Duration::MAX)?);
        let order = pool.as_completed(pool.map(pause, [200, 0])?).map(Remote::get).collect::<Result<Vec<_>>>()?;
        assert_eq!(order, [0, 200]);
        let many = pool.map(|n: u64| n, 0..20_000)?;
        let begun = Instant::now();
        assert_eq!(pool.as_completed(many).map(Remote::get).sum::<Result<u64>>()?, 199_990_000);
        eprintln!("{:?}", begun.elapsed());
        Ok(())
    })
    .unwrap();
}

#[test]
fn futures_are_woken_at_every_kind_of_end() {
    use std::future::IntoFuture;
    use std::task::{Context, Poll, Wake};

    struct Flag(Mutex<u32>);
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            *self.0.lock().unwrap() += 1;
        }
    }
    with(2, |pool| -> Result<_> {
        for (n, is_well) in [(0u32, false), (1, true)] {
            let flag = Arc::new(Flag(Mutex::new(0)));
            let waker = Arc::clone(&flag).into();
            let divide = |n: u32| {
                pause(50);
                vec![1 / n; 3000]
            };
            let mut getting = std::pin::pin!(pool.submit(divide, (n,))?.into_future());
            let value = loop {
                if let Poll::Ready(value) = getting.as_mut().poll(&mut Context::from_waker(&waker)) {
                    break value;
                }
                let begun = Instant::now();
                while std::mem::take(&mut *flag.0.lock().unwrap()) == 0 {
                    assert!(begun.elapsed() < Duration::from_secs(20), "nobody wakes it");
                    std::thread::yield_now();
                }
            };
            assert_eq!(value.is_ok(), is_well);
        }
        Ok(())
    })
    .unwrap();
}
