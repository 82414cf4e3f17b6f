//! Actors: states that stay on one rank, and calls that keep their order whatever happens.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rankfold::{Actor, Pool, Remote, Result};

#[path = "support/pools.rs"]
mod pools;
use pools::pool;

/// What was written, in order; nothing of it can travel but as a copy.
struct Log {
    lines: Vec<u64>,
    _stays: std::sync::mpsc::Sender<()>,
}

impl Log {
    fn new(first: u64) -> Self {
        Self { lines: vec![first], _stays: std::sync::mpsc::channel().0 }
    }

    fn write(&mut self, line: u64) -> usize {
        self.lines.push(line);
        self.lines.len()
    }

    fn write_all(&mut self, lines: &[u64]) {
        self.lines.extend(lines);
    }

    fn read(&mut self) -> Vec<u64> {
        self.lines.clone()
    }
}

#[test]
fn calls_run_in_the_order_in_which_they_were_submitted() {
    for ranks in [1, 2, 5] {
        let lines = pool(ranks, |pool| {
            let log = pool.actor(Log::new, (0,))?;
            (1..3000).try_for_each(|line| log.call(Log::write, (line,)).map(Remote::detach))?;
            log.call(Log::read, ())?.get()
        });
        assert!(lines.unwrap().into_iter().eq(0..3000), "{ranks} ranks");
    }
}

#[test]
fn a_call_that_waits_for_a_value_keeps_those_behind_it_waiting() {
    fn late(n: u64) -> Vec<u64> {
        std::thread::sleep(Duration::from_millis(5 * (n % 3)));
        vec![n; 5000]
    }
    let lines = pool(4, |pool| {
        let log = pool.task().on(1).actor(Log::new, (0,))?;
        for n in 1..20 {
            let value = pool.task().on(n as usize % 4).submit(late, (n,))?;
            log.call(Log::write_all, (&value,))?.detach();
            log.call(Log::write, (100 + n,))?.detach();
        }
        log.call(Log::read, ())?.get()
    });
    let expected = (1..20).flat_map(|n| std::iter::repeat_n(n, 5000).chain([100 + n]));
    assert!(lines.unwrap().into_iter().eq([0].into_iter().chain(expected)));
}

#[test]
fn different_actors_work_at_the_same_time_and_each_on_its_own_state() {
    let sums = pool(3, |pool| {
        let actors = (0..6).map(|n| pool.actor(|n: u64| n, (n,))).collect::<Result<Vec<Actor<u64>>>>()?;
        for round in 0..50 {
            for actor in &actors {
                actor.call(|sum: &mut u64, n: u64| *sum += n, (round,))?.detach();
            }
        }
        actors.iter().map(|actor| actor.call(|sum: &mut u64| *sum, ())?.get()).collect::<Result<Vec<_>>>()
    });
    assert!(sums.unwrap().into_iter().eq((0..6).map(|n| n + 49 * 25)));
}

#[test]
fn a_state_is_dropped_when_nobody_has_a_handle_and_all_calls_have_run() {
    static ALIVE: AtomicUsize = AtomicUsize::new(0);
    struct Counted(u64);
    impl Drop for Counted {
        fn drop(&mut self) {
            ALIVE.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let begin = |n: u64| {
        ALIVE.fetch_add(1, Ordering::SeqCst);
        Counted(n)
    };
    let last = pool(2, |pool| {
        let actor = pool.actor(begin, (5,))?;
        let other = actor.clone();
        drop(actor);
        let last = other.call(|counted: &mut Counted| counted.0, ())?;
        drop(other);
        last.wait()?;
        while ALIVE.load(Ordering::SeqCst) > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        last.get()
    });
    assert_eq!(last.unwrap(), 5);
}

fn halve(n: &mut u64, by: u64) -> u64 {
    *n /= by;
    *n
}

#[test]
fn an_actor_that_has_panicked_is_an_error_for_later_calls_and_for_nothing_else() {
    let others = pool(2, |pool| {
        let (actor, other) = (pool.task().named("halver").actor(|| 100u64, ())?, pool.actor(|| 7u64, ())?);
        assert_eq!(actor.call(halve, (2,))?.get()?, 50);
        let calls = [0, 5, 1].map(|by| actor.call(halve, (by,)));
        for call in calls {
            let error = call?.get().unwrap_err().to_string();
            assert!(error.contains("halver, ") && error.contains("divide by zero"), "{error}");
        }
        // Also for one that is submitted when that is known.
        assert!(actor.call(halve, (1,))?.get().is_err());
        other.call(halve, (7,))?.get()
    });
    assert_eq!(others.unwrap(), 1);
}

#[test]
fn an_actor_begins_anew_as_often_as_it_may_and_the_calls_behind_run_on_the_new_state() {
    let results = pool(3, |pool| {
        let big = pool.submit(|n: u64| vec![n; 2000], (3,))?;
        let actor = pool.task().restarts(2).actor(|big: &[u64]| big.iter().sum::<u64>(), (&big,))?;
        drop(big);
        let calls = [2, 0, 3, 0, 4, 0, 5].map(|by| actor.call(halve, (by,)));
        calls.into_iter().map(|call| Ok(call?.get().ok())).collect::<Result<Vec<_>>>()
    });
    let (first, second, third) = (Some(3000), Some(2000), Some(1500));
    assert_eq!(results.unwrap(), [first, None, second, None, third, None, None]);
}

#[test]
fn a_state_that_cannot_be_made_is_the_error_of_its_calls() {
    let error = pool(2, |pool| {
        let actor = pool.task().named("unready").actor(|n: u64| 1 / n, (0,))?;
        let call = actor.call(halve, (1,))?;
        assert!(actor.wait().unwrap_err().to_string().contains("unready: the task panicked"));
        call.get()
    });
    let error = error.unwrap_err().to_string();
    assert!(error.contains("did not run, because what it needs has failed") && error.contains("unready"), "{error}");
}

#[test]
fn calls_may_submit_tasks_and_wait_for_them_while_others_stand_behind() {
    fn grow(n: &mut u64, by: u64) -> Result<u64> {
        *n += Pool::here()?.submit(|by: u64| 2 * by, (by,))?.get()?;
        Ok(*n)
    }
    for ranks in [1, 3] {
        let all = pool(ranks, |pool| {
            let actor = pool.actor(|| 0u64, ())?;
            let calls = (0..200).map(|by| actor.call(grow, (by,))).collect::<Result<Vec<_>>>()?;
            calls.into_iter().map(|call| call.get()?).collect::<Result<Vec<_>>>()
        });
        assert!(all.unwrap().into_iter().eq((0..200).map(|n| n * (n + 1))), "{ranks} ranks");
    }
}

#[test]
fn a_call_that_takes_too_long_ends_the_actor_and_those_behind_it_wait_for_the_new_state() {
    fn nap(naps: &mut u64, ms: u64) -> u64 {
        std::thread::sleep(Duration::from_millis(ms));
        *naps += 1;
        *naps
    }
    pool(3, |pool| {
        let actor = pool.task().on(1).restarts(1).timeout(Duration::from_millis(200)).actor(|| 0u64, ())?;
        let calls = [0, 1000, 0, 0].map(|ms| actor.call(nap, (ms,)));
        let [one, long, other, last] = calls;
        assert_eq!(one?.get()?, 1);
        assert!(long?.get().unwrap_err().to_string().contains("within 200ms"));
        assert_eq!((other?.get()?, last?.get()?), (1, 2));
        Ok(())
    })
    .unwrap();
}

#[test]
fn the_end_of_the_pool_ends_actors_when_what_is_detached_has_run() {
    static SUM: AtomicUsize = AtomicUsize::new(0);
    pool(2, |pool| {
        let actor = pool.actor(|| (), ())?;
        (0..100).try_for_each(|n: usize| {
            let add = |(): &mut (), n: usize| {
                SUM.fetch_add(n, Ordering::SeqCst);
            };
            actor.call(add, (n,)).map(Remote::detach)
        })
    })
    .unwrap();
    assert_eq!(SUM.load(Ordering::SeqCst), 4950);
}
