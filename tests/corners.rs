//! Corners of pools: what waits where nobody expects it, what is dropped where it must not be waited for, and what is the
//! next one's fault.

use std::cell::RefCell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rankfold::{Graph, Pool, Remote, Result, stop_if_asked};

#[path = "support/pools.rs"]
mod pools;
use pools::pool;

fn nap(ms: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(ms));
    ms
}

#[test]
fn several_parts_of_a_task_may_wait_for_one_other() {
    fn outer() -> Result<u64> {
        let inner = Pool::here()?.submit(nap, (100,))?;
        let (one, other) = rayon::join(|| inner.wait(), || inner.wait());
        one.and(other)?;
        inner.get()
    }
    let naps = pool(1, |pool| pool.map(|()| outer(), [(); 6])?.into_iter().map(|nap| nap.get()?).sum::<Result<u64>>());
    assert_eq!(naps.unwrap(), 600);
}

#[test]
fn a_program_may_wait_on_threads_of_a_rayon_pool_of_its_own() {
    let threads = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let sum = pool(2, |pool| {
        let first = pool.submit(nap, (20,))?;
        let second = pool.submit(|n: &u64| nap(n + 20), (&first,))?;
        let (one, other) = threads.install(|| rayon::join(|| first.wait(), || second.wait()));
        one.and(other)?;
        Ok(first.get()? + second.get()? + pool.submit(nap, (1,))?.get()?)
    });
    assert_eq!(sum.unwrap(), 61);
}

#[test]
fn a_task_that_is_cancelled_ends_no_other_whose_part_it_has_taken() {
    fn looks_for_work() {
        loop {
            rayon::yield_now();
            stop_if_asked();
        }
    }
    fn victim() -> Result<u64> {
        let inner = Pool::here()?.submit(nap, (300,))?;
        let (napped, waited) = rayon::join(|| nap(150), || inner.wait());
        waited.map(|()| napped)
    }
    let napped = pool(1, |pool| {
        let thief = pool.submit(looks_for_work, ())?;
        nap(20);
        let victim = pool.submit(victim, ())?;
        nap(60);
        thief.cancel();
        victim.get()?
    });
    assert_eq!(napped.unwrap(), 150);
}

#[test]
fn none_of_a_resource_is_no_demand_and_demands_that_contradict_each_other_are_refused() {
    pool(2, |pool| {
        assert_eq!(pool.task().needs("gpu", 0).submit(nap, (1,))?.get()?, 1);
        for task in [pool.task().among([0]).on(1), pool.task().among([])] {
            let error = task.submit(nap, (1,))?.get().unwrap_err().to_string();
            assert!(
                error.contains("no rank is left of those") && error.contains("name ranks that there are"),
                "{error}"
            );
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn what_is_to_be_done_at_the_end_of_a_detached_task_is_done_on_every_rank() {
    static CALLED: AtomicUsize = AtomicUsize::new(0);
    fn outer() -> Result<()> {
        let inner = Pool::here()?.submit(nap, (20,))?;
        inner.on_done(|| _ = CALLED.fetch_add(1, Ordering::SeqCst));
        inner.detach();
        Ok(())
    }
    pool(3, |pool| {
        (0..3).try_for_each(|rank| pool.task().on(rank).submit(outer, ())?.get()?)?;
        while CALLED.load(Ordering::SeqCst) < 3 {
            nap(1);
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn an_item_that_cannot_be_encoded_is_an_error_in_its_place() {
    let items = (0..6u64).map(|n| {
        let item = RefCell::new(n);
        // One that is borrowed cannot be encoded.
        (n == 3).then(|| std::mem::forget(item.borrow_mut()));
        item
    });
    let values =
        pool(2, |pool| Ok(pool.each(|n: RefCell<u64>| n.into_inner(), items).map(Result::ok).collect::<Vec<_>>()));
    assert_eq!(values.unwrap(), [Some(0), Some(1), Some(2), None, Some(4), Some(5)]);
}

#[test]
fn a_state_may_wait_for_a_task_when_it_is_dropped() {
    static FLUSHED: AtomicBool = AtomicBool::new(false);
    struct Flushes(Pool);
    impl Drop for Flushes {
        fn drop(&mut self) {
            let flushed = self.0.submit(nap, (1,)).and_then(Remote::get).is_ok();
            FLUSHED.store(flushed, Ordering::SeqCst);
        }
    }
    pool(2, |pool| {
        let actor = pool.task().on(1).actor(|| Flushes(Pool::here().unwrap()), ())?;
        actor.wait()?;
        drop(actor);
        while !FLUSHED.load(Ordering::SeqCst) {
            nap(1);
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn what_a_callback_holds_may_panic_when_it_is_dropped() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    fn outer() -> Result<u64> {
        let pool = Pool::here()?;
        let (slow, bomb) = (pool.submit(nap, (50,))?, Bomb);
        slow.on_done(move || drop(bomb));
        drop(slow);
        pool.submit(nap, (1,))?.get()
    }
    for rank in [0, 1] {
        assert_eq!(pool(2, |pool| pool.task().on(rank).submit(outer, ())?.get()?).unwrap(), 1);
    }
}

#[test]
fn a_graph_runs_inside_of_a_task_on_any_rank_and_ends_with_it() {
    fn inside(ms: u64) -> Result<u64> {
        let mut graph = Graph::new();
        let one = graph.add(nap, (ms,))?;
        let other = graph.add(|n: &u64| n + 1, (&one,))?;
        Ok(graph.run(&Pool::here()?, (&one, &other))?.1)
    }
    for ranks in [1, 3] {
        pool(ranks, |pool| {
            for rank in 0..ranks {
                assert_eq!(pool.task().on(rank).submit(inside, (1,))?.get()??, 2);
            }
            let long = pool.task().named("long").submit(inside, (1500,))?;
            nap(100);
            long.cancel();
            assert_eq!(long.get().unwrap_err().to_string(), "long was cancelled");
            Ok(())
        })
        .unwrap();
    }
}

#[test]
fn a_thread_that_asks_for_a_value_at_the_end_of_the_pool_gets_it_or_an_error() {
    static THREADS: Mutex<Vec<JoinHandle<bool>>> = Mutex::new(Vec::new());
    static GO: AtomicBool = AtomicBool::new(false);
    fn leaves(microseconds: u64) -> Result<()> {
        let large = Pool::here()?.submit(|| vec![7u64; 10_000], ())?;
        let asks = move || {
            let is_there = large.wait().is_ok();
            while !GO.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            std::thread::sleep(Duration::from_micros(microseconds));
            is_there && large.get().is_ok()
        };
        THREADS.lock().unwrap().push(std::thread::spawn(asks));
        Ok(())
    }
    for round in 0..40u64 {
        GO.store(false, Ordering::SeqCst);
        pool(2, |pool| {
            (0..4).try_for_each(|n| pool.task().on(n as usize % 2).submit(leaves, (5 * round + 3 * n,))?.get()?)?;
            GO.store(true, Ordering::SeqCst);
            Ok(())
        })
        .unwrap();
        THREADS.lock().unwrap().drain(..).for_each(|thread| _ = thread.join().unwrap());
    }
}
