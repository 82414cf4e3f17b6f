//! Values and functions that a program puts on ranks itself, on ranks that are threads of one process.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

mod support;
use support::folder::Folder;
use support::run_alone;

use rankfold::{ErrorKind, Pool, Remote, Result, World, set_variable, variable};

#[path = "support/pools.rs"]
mod pools;
use pools::with;

fn big(seed: u64) -> Vec<u64> {
    (0..20_000).map(|n| n ^ seed).collect()
}

fn sum(values: &[u64]) -> u64 {
    values.iter().sum()
}

#[test]
fn scattered_values_are_contiguous_parts_on_the_ranks_and_come_back_in_order() {
    for (ranks, items) in [(1, 5), (3, 7), (4, 3), (5, 40), (2, 0)] {
        let (places, back) = with(ranks, |pool| -> Result<_> {
            let parts = pool.scatter((0..items).map(big).collect())?;
            parts.iter().try_for_each(Remote::wait)?;
            let places = parts.iter().map(|part| pool.who_has(part)).collect::<Result<Vec<_>>>()?;
            Ok((places.concat(), pool.gather(parts)?))
        })
        .unwrap();
        assert!(places.is_sorted() && places.len() == items as usize, "{places:?}");
        if items >= 2 * ranks as u64 {
            assert_eq!(places.iter().collect::<BTreeSet<_>>().len(), ranks, "{places:?}");
        }
        assert!(back.into_iter().eq((0..items).map(big)));
    }
}

#[test]
fn a_function_runs_once_on_each_rank_with_the_same_arguments() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let count = |what: String, shared: &Vec<u64>| {
        CALLS.fetch_add(1, Ordering::Relaxed);
        (what, shared.len())
    };
    let all = with(4, |pool| {
        let values = pool.submit(big, (3,))?;
        pool.gather(pool.on_each(count, ("x".to_owned(), &values))?)
    });
    assert_eq!(all.unwrap(), vec![("x".to_owned(), 20_000); 4]);
    assert_eq!(CALLS.load(Ordering::Relaxed), 4);
}

#[test]
fn copies_are_where_they_were_asked_for_and_a_value_that_is_lost_to_its_handle_is_nowhere() {
    with(7, |pool| -> Result<_> {
        let value = pool.task().on(4).submit(big, (1,))?;
        pool.replicate(&value, [6, 1, 4, 0])?;
        assert_eq!(pool.who_has(&value)?, [0, 1, 4, 6]);
        pool.replicate(&value, 0..7)?;
        assert_eq!(pool.who_has(&value)?, [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(pool.submit(sum, (&value,))?.get()?, sum(&big(1)));
        assert!(pool.replicate(&value, [7]).unwrap_err().to_string().contains("there are 7 ranks"));
        let small = pool.task().on(5).submit(|n: u32| n, (7,))?;
        small.wait()?;
        assert_eq!(pool.who_has(&small)?, [0]);
        let failed = pool.submit(|n: u32| 1 / n, (0,))?;
        assert!(failed.wait().is_err() && pool.who_has(&failed).is_err() && pool.replicate(&failed, [1]).is_err());
        Ok(())
    })
    .unwrap();
}

#[test]
fn variables_are_set_on_every_rank_and_end_with_the_pool() {
    let world = World::local(3).unwrap();
    let program = |pool: &Pool| -> Result<_> {
        assert!(
            pool.gather(pool.on_each(|| variable::<Vec<u64>>("table").is_none(), ())?)?.into_iter().all(|none| none)
        );
        pool.push("table", big(5))?;
        pool.push("name", "small".to_owned())?;
        let read = |n: usize| variable::<Vec<u64>>("table").map_or(0, |table| table[n]);
        assert_eq!(pool.gather(pool.on_each(read, (10,))?)?, [15; 3]);
        let change = |rank: u64| set_variable("table", big(rank));
        pool.gather(
            (0..2).map(|rank| pool.task().on(rank as usize).submit(change, (rank,))).collect::<Result<Vec<_>>>()?,
        )?;
        let tables: Vec<Vec<u64>> = pool.pull("table")?;
        assert_eq!(tables, [big(0), big(1), big(5)]);
        assert_eq!(pool.pull::<String>("name")?, ["small"; 3]);
        Ok(())
    };
    // The second pool finds nothing of the first's.
    (0..2).for_each(|_| world.pool(program).unwrap().unwrap().unwrap());
}

#[test]
fn a_variable_of_another_type_or_that_nobody_has_set_is_an_error_with_rank_name_and_types() {
    with(2, |pool| -> Result<_> {
        pool.push("seed", 5u64)?;
        let wrong = pool.task().on(1).submit(|| *variable::<f64>("seed").unwrap(), ())?.get().unwrap_err().to_string();
        for part in ["the variable `seed` of rank 1 (", "is of type u64", "asked for as f64"] {
            assert!(wrong.contains(part), "{wrong}");
        }
        let error = pool.pull::<f64>("seed").unwrap_err();
        let ErrorKind::OnRanks { failures, .. } = error.kind() else { panic!("{error}") };
        assert!(failures.len() == 2 && error.to_string().contains("of type u64, and is asked for as f64"), "{error}");
        let error = pool.pull::<u64>("sead").unwrap_err().to_string();
        assert!(error.contains("rank 0 (") && error.contains("rank 1 (") && error.contains("`sead`"), "{error}");
        Ok(())
    })
    .unwrap();
    assert!(std::panic::catch_unwind(|| variable::<u64>("seed")).is_err(), "this thread is not in a task");
}

#[test]
fn an_initialiser_names_each_rank_on_which_it_fails() {
    let error = with(4, |pool| {
        pool.push("is_bad", false)?;
        pool.task().on(1).submit(|| set_variable("is_bad", true), ())?.get()?;
        pool.task().on(3).submit(|| set_variable("is_bad", true), ())?.get()?;
        let picky = |text: String| assert!(!*variable::<bool>("is_bad").unwrap(), "no {text}");
        pool.prepare(picky, ("licence".to_owned(),))
    });
    let error = error.unwrap_err();
    let ErrorKind::OnRanks { failures, ranks: 4, .. } = error.kind() else { panic!("{error}") };
    let text = error.to_string();
    assert!(failures.len() == 2 && text.contains("rank 1 (") && text.contains("rank 3 ("), "{text}");
    assert!(text.contains("prepare failed on 2 of 4 ranks") && text.matches("no licence").count() == 2, "{text}");
}

#[test]
fn map_reduce_gives_the_same_bits_on_any_number_of_ranks_and_as_the_world_does() {
    let term = |n: u64| 1.0 / (1.0 + n as f64);
    let add = |a: f64, b: f64| a + b;
    for count in [1, 2, 3, 100, 1000, 4097] {
        let expected = World::local(1).unwrap().map_reduce(0..count, term, add).unwrap();
        for ranks in [1, 2, 3, 5] {
            let sum = with(ranks, |pool| pool.map_reduce(0..count, term, add)).unwrap();
            assert_eq!(sum.to_bits(), expected.to_bits(), "{count} items on {ranks} ranks");
        }
    }
}

#[test]
fn map_reduce_keeps_the_order_of_large_values_and_of_inputs_of_unknown_length() {
    let join = |a: Vec<u64>, b: Vec<u64>| [a, b].concat();
    let joined = with(3, |pool| pool.map_reduce((0..100u64).filter(|n| n % 2 == 0), |n| vec![n; 500], join)).unwrap();
    assert!(joined.into_iter().eq((0..100).filter(|n| n % 2 == 0).flat_map(|n| [n; 500])));
}

#[test]
fn map_reduce_tells_what_went_wrong_in_which_function() {
    with(2, |pool| {
        let add = |a: u64, b: u64| a + b;
        let nothing = pool.map_reduce(0..0u64, |n| n, add).unwrap_err();
        assert!(matches!(nothing.kind(), ErrorKind::EmptyInput { .. }), "{nothing}");
        let odd = |n: u64| if n == 77 { panic!("no {n}") } else { n };
        let mapper = pool.map_reduce(0..100u64, odd, add).unwrap_err();
        assert!(matches!(mapper.kind(), ErrorKind::Panicked { message, .. } if message == "no 77"), "{mapper}");
        let careful = |a: u64, b: u64| if a + b > 100 { panic!("too much") } else { a + b };
        let combiner = pool.map_reduce(0..100u64, |n| n, careful).unwrap_err();
        assert!(matches!(combiner.kind(), ErrorKind::Panicked { message, .. } if message == "too much"), "{combiner}");
    });
}

/// What tells when the last copy of it is dropped.
#[derive(Serialize, Deserialize)]
struct Counted(Vec<u64>);

static ALIVE: AtomicUsize = AtomicUsize::new(0);

impl Drop for Counted {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn a_shared_value_is_on_every_rank_and_freed_there_with_its_last_handle() {
    ALIVE.store(1, Ordering::SeqCst);
    with(4, |pool| -> Result<_> {
        let shared = pool.broadcast(Counted(big(9)))?;
        let other = shared.clone();
        drop(shared);
        let count = |value: &Counted| {
            ALIVE.fetch_add(1, Ordering::SeqCst);
            value.0.len()
        };
        assert_eq!(pool.gather(pool.on_each(count, (&other,))?)?, [20_000; 4]);
        // Rank 0 has the value itself, and the others a copy each.
        assert_eq!(ALIVE.fetch_sub(1, Ordering::SeqCst), 5);
        assert_eq!(pool.who_has(&other)?, [0, 1, 2, 3]);
        let last = pool.submit(|value: &Counted| value.0[1], (&other,))?;
        drop(other);
        assert_eq!(last.get()?, 8);
        let begun = Instant::now();
        while ALIVE.load(Ordering::SeqCst) > 0 {
            assert!(begun.elapsed() < Duration::from_secs(20), "{} copies are left", ALIVE.load(Ordering::SeqCst));
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn many_broadcasts_of_all_sizes_with_tasks_in_between_arrive_whole() {
    for ranks in [1, 2, 4] {
        with(ranks, |pool| -> Result<_> {
            let mut sums = Vec::new();
            for n in 0..60u64 {
                let length = [1, 100, 10_000, 100_000][n as usize % 4];
                let shared = pool.broadcast(vec![n; length])?;
                sums.push((n * length as u64, pool.submit(sum, (&shared,))?));
                if n % 7 == 0 {
                    pool.replicate(&shared, [ranks - 1])?;
                }
                if n % 5 == 0 {
                    // Nobody needs it: it may be freed before its turn.
                    drop(pool.broadcast(big(n))?);
                }
                let words = pool.broadcast("a b c".to_owned())?;
                assert_eq!(pool.submit(|text: &str| text.split(' ').count(), (&words,))?.get()?, 3);
                assert_eq!(shared.fetch()?, vec![n; length]);
            }
            sums.into_iter().try_for_each(|(expected, sum)| sum.get().map(|sum| assert_eq!(sum, expected)))
        })
        .unwrap();
    }
}

#[test]
fn tasks_that_need_a_shared_value_use_all_ranks() {
    let ranks = with(4, |pool| -> Result<_> {
        let shared = pool.broadcast(vec![1u64; 2_000_000])?;
        for rank in 0..4 {
            pool.task().on(rank).submit(move_in, (rank,))?.get()?;
        }
        let at = |values: &[u64]| {
            std::thread::sleep(Duration::from_millis(20));
            assert_eq!(values.len(), 2_000_000);
            *variable::<usize>("me").unwrap()
        };
        pool.gather((0..40).map(|_| pool.submit(at, (&shared,))).collect::<Result<Vec<_>>>()?)
    })
    .unwrap();
    assert_eq!(ranks.into_iter().collect::<BTreeSet<_>>().len(), 4);
}

fn move_in(rank: usize) {
    set_variable("me", rank);
}

#[test]
fn what_is_broadcast_at_the_end_of_a_pool_does_not_keep_it() {
    let shared = with(3, |pool| {
        let shared = pool.broadcast(big(1)).unwrap();
        (0..5).for_each(|n| drop(pool.broadcast(big(n))));
        shared
    });
    assert!(shared.fetch().unwrap_err().to_string().contains("over"));
    with(3, |pool| assert!(pool.submit(sum, (&shared,)).is_err()));
    let kept: Arc<Remote<u64>> = Arc::new(with(1, |pool| pool.submit(|n: u64| n, (1,)).unwrap()));
    with(1, |pool| assert!(pool.who_has(&kept).is_err()));
}

#[test]
fn values_that_do_not_fit_in_memory_go_to_the_disk_and_leave_nothing_behind() {
    let (folder, command) = (Folder::new("spills"), ["test-spmd", "pool-spills"]);
    std::fs::create_dir_all(folder.path()).unwrap();
    let short = [("RANKFOLD_MEMORY", "2MiB"), ("RANKFOLD_SCRATCH", folder.path())];
    let on = |ranks| [&short[..], &[("RANKFOLD_RANKS", ranks)]].concat();
    let files = || std::fs::read_dir(folder.path()).unwrap().count();
    let expected = run_alone(&[], &command);
    for ranks in ["1", "3"] {
        let ended = run_alone(&on(ranks), &command);
        assert_eq!((ended.output(), files()), (expected.output(), 0), "{ended}");
    }
    let panicked = run_alone(&on("2"), &["test-spmd", "pool-spills-and-panics"]);
    assert_eq!((panicked.says(&["out of luck"]).code, files()), (Some(101), 0));
}

#[test]
fn memory_that_cannot_be_bounded_is_refused_and_values_that_cannot_be_written_stay_there() {
    let command = ["test-spmd", "pool-spills"];
    let bad = run_alone(&[("RANKFOLD_MEMORY", "4 apples")], &command);
    bad.says(&["RANKFOLD_MEMORY=4 apples is no number of bytes", "such as 4GiB"]);
    let slip = run_alone(&[("RANKFOLD_MEMORY", "4")], &command);
    slip.says(&["RANKFOLD_MEMORY=4 is less than 16 KiB", "such as 4GiB"]);
    let nowhere = [("RANKFOLD_MEMORY", "2MiB"), ("RANKFOLD_SCRATCH", "/nowhere"), ("RANKFOLD_RANKS", "2")];
    let ended = run_alone(&nowhere, &command);
    assert_eq!(ended.output(), run_alone(&[], &command).output());
    ended.times(1, "rank 0 @: values stay in memory").times(1, "rank 1 @: values stay in memory");
}
