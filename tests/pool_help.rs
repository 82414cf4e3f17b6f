//! Quick tasks that run on the program's own thread, which waits for them.

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

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
                            assert!(!remote.is_done(), "it has ended before it was cancelled");
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

/// Everything that can be done at the end of a task, where the remote is gone at once.
#[test]
fn a_task_that_the_program_runs_itself_stops_when_the_pool_cannot_go_on() {
    static RAN: Mutex<String> = Mutex::new(String::new());
    fn endless(goes_on: bool) {
        *RAN.lock().unwrap() = thread();
        if goes_on {
            loop {
                stop_if_asked();
            }
        }
    }
    for _ in 0..50 {
        let results = rankfold::threads(2, |world| {
            if world.rank() == 1 {
                // Not what the others do.
                std::thread::sleep(Duration::from_millis(50));
                return world.map_reduce(0..10u64, |n| n, |a, b| a + b).map(drop);
            }
            let program = |pool: &Pool| {
                (0..10).try_for_each(|_| pool.submit(endless, (false,))?.get())?;
                pool.submit(endless, (true,))?.get()
            };
            world.pool(program)?.expect("this is rank 0")
        });
        assert!(results.iter().all(Result::is_err), "{results:?}");
        if *RAN.lock().unwrap() == PROGRAM {
            return;
        }
    }
    panic!("no task has run on the program's thread");
}

#[test]
fn callbacks_are_called_although_the_value_was_got_before() {
    const COUNT: u64 = 2000;
    let (done, told) = channel();
    let helped = pool(2, |pool| {
        let mut helped = 0;
        for n in 0..COUNT {
            let remote = pool.submit(|n: u64| (thread(), n), (n,))?;
            let done = done.clone();
            remote.on_done(move || done.send(n).unwrap());
            let (thread, value) = remote.get()?;
            assert_eq!(value, n);
            helped += u64::from(thread == PROGRAM);
        }
        Ok(helped)
    });
    assert!(helped.unwrap() > 0);
    drop(done);
    let mut told: Vec<u64> = told.into_iter().collect();
    told.sort_unstable();
    assert!(told.into_iter().eq(0..COUNT));
}

#[test]
fn threads_of_the_program_get_their_own_values_and_run_no_tasks() {
    let sums = pool(2, |pool| {
        let square = |from: u64| {
            let one = |n: u64| {
                let (thread, value) = pool.submit(|n: u64| (thread(), n * n), (n,))?.get()?;
                assert!(thread.starts_with("rankfold-"), "{thread}");
                Ok(value)
            };
            (from..from + 1000).map(one).sum::<Result<u64>>()
        };
        std::thread::scope(|scope| {
            let start = |thread: u64| {
                std::thread::Builder::new().name("other".into()).spawn_scoped(scope, move || square(1000 * thread))
            };
            let threads: Vec<_> = (0..4).map(|thread| start(thread).unwrap()).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Result<Vec<_>>>()
        })
    });
    let square = |from: u64| (from..from + 1000).map(|n| n * n).sum::<u64>();
    assert_eq!(sums.unwrap(), [0, 1000, 2000, 3000].map(square));
}

#[test]
fn functions_in_turn_are_quick_each_and_slow_tasks_and_those_with_options_run_on_ranks_threads() {
    let slow = |ms: u64| {
        std::thread::sleep(Duration::from_millis(ms));
        thread()
    };
    let counts = pool(2, |pool| {
        let (mut one, mut other) = (0, 0);
        for n in 0..2000u64 {
            one += usize::from(pool.submit(|_: u64| thread(), (n,))?.get()? == PROGRAM);
            other += usize::from(pool.submit(|n: u64| (thread(), n), (n,))?.get()?.0 == PROGRAM);
            for task in [pool.task().on(0), pool.task().retries(1), pool.task().timeout(Duration::from_secs(60))] {
                assert_ne!(task.submit(|_: u64| thread(), (n,))?.get()?, PROGRAM);
            }
        }
        for _ in 0..20 {
            assert_ne!(pool.submit(slow, (1,))?.get()?, PROGRAM);
        }
        Ok((one, other))
    });
    assert!(matches!(counts, Ok((1.., 1..))), "{counts:?}");
}

/// On ranks of one thread, which the task that the program runs must not keep from what its parts wait for.
#[test]
fn parts_of_a_task_that_the_program_runs_itself_may_wait_for_others() {
    fn outer(waits: bool) -> (String, u64) {
        if !waits {
            return (thread(), 4);
        }
        let pool = Pool::here().expect("this is in a task");
        let part = || pool.submit(|n: u64| n + 1, (1,)).and_then(Remote::get).unwrap();
        let (one, other) = rayon::join(part, part);
        (thread(), one + other)
    }
    // No more cores than ranks: each has one thread.
    let ranks = std::thread::available_parallelism().map_or(1, usize::from);
    let helped = pool(ranks.max(2), |pool| {
        until_helped(
            |waits| pool.submit(outer, (waits,)),
            |remote| {
                let (thread, value) = remote.get()?;
                assert_eq!(value, 4);
                Ok(thread)
            },
        )
    });
    helped.unwrap();
}
