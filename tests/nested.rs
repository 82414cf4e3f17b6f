//! Tasks that submit tasks, tasks that are asked to stop, and tasks that only some ranks can run.

use std::time::Duration;

use rankfold::{Pool, Remote, Result, Until, stop_if_asked};

#[path = "support/pools.rs"]
mod pools;
use pools::pool;

fn fibonacci(n: u64) -> Result<u64> {
    if n < 2 {
        return Ok(n);
    }
    let pool = Pool::here()?;
    let parts = pool.map(fibonacci, [n - 1, n - 2])?;
    parts.into_iter().map(|part| part.get()?).sum()
}

#[test]
fn tasks_may_submit_tasks_and_wait_for_them_however_few_threads_there_are() {
    for ranks in [1, 2, 5] {
        assert_eq!(pool(ranks, |pool| pool.submit(fibonacci, (15,))?.get()?).unwrap(), 610, "{ranks} ranks");
    }
}

/// A sum that needs all of its parts at once, each of which needs its own.
fn spread(depth: u32) -> Result<u64> {
    if depth == 0 {
        return Ok(1);
    }
    let pool = Pool::here()?;
    let parts = pool.map(spread, vec![depth - 1; 4])?;
    assert_eq!(pool.wait(&parts, Until::All, None).len(), 4);
    parts.into_iter().map(|part| part.get()?).sum()
}

#[test]
fn many_tasks_may_wait_at_a_time() {
    let sums =
        pool(3, |pool| pool.map(spread, vec![3; 50])?.into_iter().map(|sum| sum.get()?).collect::<Result<Vec<_>>>());
    assert_eq!(sums.unwrap(), vec![64; 50]);
}

fn large(n: u64) -> Vec<u64> {
    (0..20_000).map(|i| i * n).collect()
}

fn of_large(n: u64) -> Result<u64> {
    let pool = Pool::here()?;
    let parts = pool.map(large, [n, n + 1, n + 2])?;
    let last = parts[2].fetch()?;
    let sums: Vec<Remote<u64>> =
        parts.iter().map(|part| pool.submit(|part: &[u64]| part.iter().sum(), (part,))).collect::<Result<_>>()?;
    let sums = sums.into_iter().map(Remote::get).sum::<Result<u64>>()?;
    Ok(sums + last[1])
}

#[test]
fn values_of_inner_tasks_stay_where_they_are_and_travel_where_they_are_wanted() {
    let sum: u64 = (0..20_000).sum();
    let all = pool(4, |pool| pool.map(of_large, 0..40)?.into_iter().map(|one| one.get()?).collect::<Result<Vec<_>>>());
    assert!(all.unwrap().into_iter().eq((0..40).map(|n| sum * (3 * n + 3) + n + 2)));
}

#[test]
fn an_error_of_an_inner_task_is_a_value_or_an_error_of_the_outer_one() {
    fn outer(n: u64) -> Result<u64> {
        Pool::here()?.task().named("inner").submit(|n: u64| 7 / n, (n,))?.get()
    }
    let error = pool(2, |pool| pool.submit(outer, (0,))?.get()?).unwrap_err().to_string();
    assert!(error.contains("inner: the task panicked on rank") && error.contains("divide by zero"), "{error}");
}

#[test]
fn what_a_task_lets_go_of_ends_with_it() {
    fn drops(n: u64) -> Result<u64> {
        let endless = || loop {
            stop_if_asked();
        };
        // Whether it has begun or not, the pool would not end with it.
        let endless: Remote<u8> = Pool::here()?.submit(endless, ())?;
        endless.wait_for(Duration::from_millis(n))?;
        Ok(n)
    }
    for ms in [0, 30] {
        assert_eq!(pool(1, |pool| pool.submit(drops, (ms,))?.get()?).unwrap(), ms);
    }
}

#[test]
fn a_detached_inner_task_outlives_the_outer_one() {
    fn detaches(path: String) -> Result<()> {
        let write = |path: String| std::fs::write(path, "done").unwrap();
        Pool::here()?.submit(write, (path,))?.detach();
        Ok(())
    }
    let path = std::env::temp_dir().join(format!("rankfold-detached-{}", std::process::id()));
    pool(2, |pool| pool.submit(detaches, (path.display().to_string(),))?.get()?).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "done");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn outside_of_tasks_there_is_no_pool() {
    assert!(Pool::here().unwrap_err().to_string().contains("this thread runs no task"));
}

#[test]
fn a_task_that_is_cancelled_stops_where_it_can_and_so_do_its_own() {
    fn outer() -> Result<u8> {
        Pool::here()?
            .submit(
                || loop {
                    stop_if_asked();
                },
                (),
            )?
            .get()
    }
    let error = pool(2, |pool| {
        let task = pool.task().named("outer").submit(outer, ())?;
        while !task.wait_for(Duration::from_millis(20))? {
            task.cancel();
        }
        Ok(())
    })
    .unwrap_err();
    assert_eq!(error.to_string(), "outer was cancelled");
    // Also where the program asks for the value only after the end.
    let error = pool(1, |pool| {
        let task = pool.task().named("late").submit(outer, ())?;
        task.cancel();
        assert!(task.wait().is_err());
        task.get()?
    });
    assert_eq!(error.unwrap_err().to_string(), "late was cancelled");
}

#[test]
fn a_task_that_takes_too_long_is_an_error_and_is_tried_again_if_asked() {
    fn slow_once(path: String) -> u32 {
        if std::fs::File::create_new(&path).is_ok() {
            loop {
                stop_if_asked();
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        std::fs::remove_file(path).unwrap();
        5
    }
    let path = std::env::temp_dir().join(format!("rankfold-slow-{}", std::process::id())).display().to_string();
    pool(2, |pool| {
        let brief = pool.task().named("brief").timeout(Duration::from_millis(50));
        let error = brief.submit(|| std::thread::sleep(Duration::from_millis(400)), ())?.get().unwrap_err().to_string();
        assert!(
            error.starts_with("brief has not come to its end on rank ") && error.contains("within 50ms"),
            "{error}"
        );
        let again = pool.task().timeout(Duration::from_millis(300)).retries(3).backoff(Duration::from_millis(5));
        assert_eq!(again.submit(slow_once, (path,))?.get()?, 5);
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_part_of_the_ranks_runs_what_it_is_given_and_nothing_else_is_touched() {
    pool(4, |pool| {
        let some = pool.task().among([1, 2]);
        // Long enough for both to take part, on a busy machine as well.
        let pause = |ms: u64| std::thread::sleep(Duration::from_millis(ms));
        let tasks = (0..40).map(|_| some.submit(pause, (5,))).collect::<Result<Vec<_>>>()?;
        assert_eq!(pool.wait(&tasks, Until::All, None).len(), 40);
        let ranks: Vec<usize> = tasks.iter().map(|task| task.timing().unwrap().rank).collect();
        assert!(
            ranks.contains(&1) && ranks.contains(&2) && ranks.iter().all(|rank| [1, 2].contains(rank)),
            "{ranks:?}"
        );
        let error = pool.task().among([7, 9]).submit(|n: u64| n, (1,))?.get().unwrap_err().to_string();
        assert!(error.contains("ranks of {7, 9} alone, and none of them is there"), "{error}");
        let error = pool.task().on(1).needs("gpu", 1).submit(|n: u64| n, (1,))?.get().unwrap_err().to_string();
        assert!(error.contains("it needs gpu=1, and no rank of {1} has any gpu; ask for less, or declare"), "{error}");
        Ok(())
    })
    .unwrap();
}
