//! Quick tasks that run on the program's own thread, which waits for them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rankfold::{Data, Pool, Remote, Result, stop_if_asked};

#[path = "support/pools.rs"]
mod pools;
use pools::pool;

const PROGRAM: &str = "rankfold-program";
/// Whoever serves the pool may take a task before the program waits for it; not so often.
const TRIES: usize = 20_000;

/// The name of the thread that this runs on.
fn thread() -> String {
    std::thread::current().name().unwrap_or_default().to_owned()
}

/// Has tasks of a function run until one of those that are to `act` runs on the program's own thread. Those before it are
/// quick, which is why that does.
fn until_helped<T: Data>(
    submit: impl Fn(bool) -> Result<Remote<T>>,
    mut act: impl FnMut(Remote<T>) -> Result<String>,
) -> Result<()> {
    for _ in 0..TRIES {
        (0..10).try_for_each(|_| submit(false)?.get().map(drop))?;
        if act(submit(true)?)? == PROGRAM {
            return Ok(());
        }
    }
    panic!("no task has run on the program's thread")
}

#[test]
fn a_quick_task_runs_on_the_thread_that_waits_for_it() {
    fn square(n: u64) -> (String, u64) {
        (thread(), n * n)
    }
    for ranks in [1, 3] {
        let helped = pool(ranks, |pool| {
            until_helped(
                |_| pool.submit(square, (7,)),
                |remote| {
                    remote.wait()?;
                    let rank = remote.timing().expect("it has run").rank;
                    // It is a value like any other, which others can use.
                    let next = pool.submit(|(_, n): &(String, u64)| n + 1, (&remote,))?.get()?;
                    let (thread, value) = remote.get()?;
                    assert_eq!((value, next), (49, 50));
                    assert!(thread != PROGRAM || rank == 0, "the program is on rank 0, and not on {rank}");
                    Ok(thread)
                },
            )
        });
        helped.unwrap();
    }
}

#[test]
fn an_error_of_a_task_that_the_program_runs_itself_is_that_of_any_task() {
    static RAN: Mutex<String> = Mutex::new(String::new());
    fn inverse(n: u64) -> u64 {
        *RAN.lock().unwrap() = thread();
        7 / n
    }
    let helped = pool(2, |pool| {
        until_helped(
            |panics| pool.submit(inverse, (u64::from(!panics),)),
            |remote| {
                let error = remote.get().unwrap_err().to_string();
                let parts = ["inverse: the task panicked on rank ", "divide by zero", "pool_help.rs"];
                assert!(parts.iter().all(|part| error.contains(part)), "{error}");
                Ok(RAN.lock().unwrap().clone())
            },
        )
    });
    helped.unwrap();
}

#[test]
fn a_task_that_the_program_runs_itself_may_wait_for_others() {
    fn outer(waits: bool) -> Result<(String, u64)> {
        let inner = |n: u64| n + 1;
        Ok((thread(), if waits { Pool::here()?.submit(inner, (1,))?.get()? } else { 2 }))
    }
    for ranks in [1, 3] {
        let helped = pool(ranks, |pool| {
            until_helped(
                |waits| pool.submit(outer, (waits,)),
                |remote| {
                    let (thread, value) = remote.get()??;
                    assert_eq!(value, 2);
                    Ok(thread)
                },
            )
        });
        helped.unwrap();
    }
}

#[test]
fn a_large_value_of_a_task_that_the_program_runs_itself_arrives() {
    fn bytes(is_large: bool) -> (String, Vec<u8>) {
        (thread(), vec![7; if is_large { 10_000 } else { 10 }])
    }
    let helped = pool(2, |pool| {
        until_helped(
            |is_large| pool.submit(bytes, (is_large,)),
            |remote| {
                let (thread, bytes) = remote.get()?;
                assert_eq!(bytes, [7; 10_000]);
                Ok(thread)
            },
        )
    });
    helped.unwrap();
}

#[test]
fn a_task_that_the_program_runs_itself_stops_when_another_thread_cancels_it() {
    static BEGUN: Mutex<Option<String>> = Mutex::new(None);
    fn endless(goes_on: bool) {
        if goes_on {
            *BEGUN.lock().unwrap() = Some(thread());
            loop {
                stop_if_asked();
            }
        }
    }
    let begun = || BEGUN.lock().unwrap().take();
    let helped = pool(2, |pool| {
        until_helped(
            |goes_on| pool.submit(endless, (goes_on,)),
            |remote| {
                let ran = std::thread::scope(|scope| {
                    let cancel = scope.spawn(|| {
                        loop {
                            if let Some(thread) = begun() {
                                remote.cancel();
                                return thread;
                            }
                            std::thread::yield_now();
                        }
                    });
                    let error = remote.wait().unwrap_err().to_string();
                    assert!(error.contains("endless was cancelled"), "{error}");
                    cancel.join().unwrap()
                });
                Ok(ran)
            },
        )
    });
    helped.unwrap();
}

#[test]
fn callbacks_are_called_and_threads_get_their_own_values() {
    static DONE: AtomicUsize = AtomicUsize::new(0);
    let sums = pool(2, |pool| {
        let square = |from: u64| {
            let one = |n: u64| {
                let remote = pool.submit(|n: u64| n * n, (n,))?;
                remote.on_done(|| _ = DONE.fetch_add(1, Ordering::Relaxed));
                remote.wait()?;
                let value = remote.fetch()?;
                // Callbacks of what is dropped are not called.
                remote.detach();
                Ok(value)
            };
            (from..from + 1000).map(one).sum::<Result<u64>>()
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|thread| scope.spawn(move || square(1000 * thread))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Result<Vec<_>>>()
        })
    });
    let square = |from: u64| (from..from + 1000).map(|n| n * n).sum::<u64>();
    assert_eq!(sums.unwrap(), [0, 1000, 2000, 3000].map(square));
    assert_eq!(DONE.load(Ordering::Relaxed), 4000);
}
