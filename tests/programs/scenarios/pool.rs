//! Pools: results that are known, and everything that can go wrong in them.

use std::sync::mpsc::channel;
use std::time::Duration;

use rankfold::{Pool, Remote, Result, Until, World, stop_if_asked};

use super::silence::stop;
use super::{Outcome, add};

pub fn play(world: &World, scenario: &str, arguments: &[String]) -> Option<Outcome> {
    let number = |at: usize| arguments.get(at).and_then(|text: &String| text.parse().ok());
    let is_culprit = number(0).is_some_and(|culprit: usize| culprit == world.rank());
    match scenario {
        "pool" => Some(pool(world, results)),
        "pool-panics" => Some(pool(world, panics)),
        "pool-quick" => Some(pool(world, quick)),
        "pool-futures" => Some(pool(world, futures)),
        "pool-forgets" => Some(pool(world, forgets)),
        "pool-stops" => Some(pool(world, stops)),
        "pool-inner" => Some(pool(world, inner)),
        "pool-actors" => Some(pool(world, actors)),
        "pool-actor-stops" => Some(pool(world, actor_stops)),
        "pool-resources" => Some(pool(world, resources)),
        "pool-starved" => Some(pool(world, starved)),
        "pool-hangs" => Some(pool(world, hangs)),
        "pool-or-call" if is_culprit => Some(world.map_reduce(0..10u64, |n| n, add).map(drop).map_err(Into::into)),
        "pool-or-call" => Some(pool(world, results)),
        "pool-or-leave" if is_culprit => Some(Ok(())),
        "pool-or-leave" => Some(pool(world, results)),
        _ => None,
    }
}

fn pool(world: &World, program: fn(&Pool) -> Result<Vec<String>>) -> Outcome {
    if let Some(lines) = world.pool(program)? {
        lines?.iter().for_each(|line| println!("{line}"));
    }
    Ok(())
}

fn squares(from: u64) -> Vec<u64> {
    (from..from + 50_000).map(|n| n * n).collect()
}

fn total(numbers: &[u64]) -> u64 {
    numbers.iter().fold(0, |sum, number| sum.rotate_left(1) ^ number)
}

fn joined(left: &[u64], right: &[u64]) -> Vec<u64> {
    [left, right].concat()
}

/// Small values and large ones, used where they are and elsewhere.
fn results(pool: &Pool) -> Result<Vec<String>> {
    let small = pool.map(|n: u64| n * 3, 0..3000)?;
    let mut parts = pool.map(squares, (0..16).map(|n| n * 1000))?;
    let totals = parts.iter().map(|part| pool.submit(total, (part,))).collect::<Result<Vec<_>>>()?;
    while parts.len() > 1 {
        let pairs = parts.chunks(2).map(|pair| pool.submit(joined, (&pair[0], &pair[1])));
        parts = pairs.collect::<Result<_>>()?;
    }
    let places = (0..pool.size()).map(|rank| pool.task().on(rank).submit(|rank: usize| rank, (rank,)));
    let places = places.map(|place| place?.get()).collect::<Result<Vec<_>>>()?;
    assert!(places.into_iter().eq(0..pool.size()));
    let small = small.into_iter().map(Remote::get).sum::<Result<u64>>()?;
    let totals = totals.into_iter().map(Remote::get).collect::<Result<Vec<_>>>()?;
    let all = parts.pop().expect("one is left").get()?;
    Ok(vec![format!("{small} {totals:x?}"), format!("{} {:x}", all.len(), total(&all))])
}

/// A panic is an error where its value is wanted, and of what needs it; the pool goes on.
fn panics(pool: &Pool) -> Result<Vec<String>> {
    let bad = pool.task().named("the seventh").submit(|n: u64| if n == 7 { panic!("no sevens") } else { n }, (7,))?;
    let next = pool.submit(|n: &u64| n + 1, (&bad,))?;
    let error = next.get().unwrap_err().to_string();
    assert!(error.contains("the seventh") && error.contains("no sevens") && error.contains("rank"), "{error}");
    let others = pool.map(|n: u64| n, 0..100)?.into_iter().map(Remote::get).sum::<Result<u64>>()?;
    bad.get().map(|n| vec![format!("{n} {others}")])
}

/// Quick tasks that are waited for one by one: most of them run on the program's own thread, some panic or wait for others.
fn quick(pool: &Pool) -> Result<Vec<String>> {
    fn task(n: u64) -> (u64, bool) {
        let value = match n % 50 {
            48 => panic!("no {n}"),
            49 => Pool::here().and_then(|pool| pool.submit(|n: u64| n + 1, (n,))?.get()).expect("it runs somewhere"),
            _ => n + 1,
        };
        (value, std::thread::current().name() == Some("rankfold-program"))
    }
    let (mut sum, mut errors, mut own) = (0, 0, 0);
    for n in 0..6_000 {
        match pool.submit(task, (n,))?.get() {
            Ok((value, is_own)) => (sum, own) = (sum + value, own + u64::from(is_own)),
            Err(error) => {
                assert!(error.to_string().contains(&format!("no {n}\n")), "{error}");
                errors += 1;
            }
        }
    }
    assert!(own > 0, "none has run on the program's thread");
    Ok(vec![format!("{sum} {errors}")])
}

/// What can be done with a remote, whichever rank its task is on: cancel it, wait for it in every way, try it again.
fn futures(pool: &Pool) -> Result<Vec<String>> {
    let last = pool.size() - 1;
    let endless = || -> u64 {
        loop {
            stop_if_asked();
        }
    };
    let endless = pool.task().named("endless").on(last).submit(endless, ())?;
    let waits = pool.task().named("next").submit(|n: &u64| *n, (&endless,))?;
    waits.cancel();
    assert_eq!(waits.get().unwrap_err().to_string(), "next was cancelled");
    assert!(!endless.is_done());
    endless.cancel();
    assert_eq!(endless.wait().unwrap_err().to_string(), "endless was cancelled");
    assert!(endless.is_done());

    let (done, told) = channel();
    let calls = pool.map(|n: u64| if n == 7 { panic!("no sevens") } else { n }, 0..10)?;
    for (n, call) in calls.iter().enumerate() {
        let done = done.clone();
        call.on_done(move || done.send(n).expect("somebody listens"));
    }
    // One that is lost ends the wait below.
    drop(done);
    let mut called: Vec<usize> = (0..10).map(|_| told.recv().expect("each is called")).collect();
    called.sort_unstable();
    assert!(called.into_iter().eq(0..10));
    let there = pool.task().among([last]).priority(1).submit(|n: u64| n, (1,))?;
    there.wait()?;
    assert_eq!(there.timing().map(|timing| timing.rank), Some(last));
    assert!(!pool.wait(&calls, Until::First, None).is_empty());
    let sum = pool.as_completed(calls).filter_map(|call| call.get().ok()).sum::<u64>();

    // An input without end, of which more is under way than the ranks have at a time.
    let lazily = pool.each(|n: u64| n * n, 0..).take(5000).sum::<Result<u64>>()?;
    Ok(vec![format!("{sum} {lazily} {:?}", [1, 2, 3].map(|retries| tries(pool, retries)))])
}

/// How often a task is tried that comes to a good end the third time, and whether it comes to that.
fn tries(pool: &Pool, retries: u32) -> (u64, bool) {
    use std::io::Write;
    let third_time = |path: String| {
        let mut file = std::fs::File::options().create(true).append(true).open(path).expect("a file");
        file.write_all(b".").expect("there is room");
        assert!(file.metadata().expect("it is there").len() >= 3, "not yet");
    };
    let path = std::env::temp_dir().join(format!("rankfold-tries-{}-{retries}", std::process::id()));
    let task = pool.task().retries(retries).backoff(Duration::from_millis(1));
    let task = task.submit(third_time, (path.display().to_string(),)).expect("it can be submitted");
    let is_well = task.wait().is_ok();
    let tries = std::fs::metadata(&path).expect("it was tried").len();
    std::fs::remove_file(&path).expect("it is there");
    (tries, is_well)
}

/// Values and tasks that nobody wants, some of them while they travel.
fn forgets(pool: &Pool) -> Result<Vec<String>> {
    for round in 0..20 {
        let parts = pool.map(squares, (0..8).map(|n| n + round))?;
        let joins =
            parts.windows(2).map(|pair| pool.submit(joined, (&pair[0], &pair[1]))).collect::<Result<Vec<_>>>()?;
        assert!(pool.wait(&joins, Until::Count(3), None).len() >= 3);
    }
    pool.map(|_: u64| std::thread::sleep(Duration::from_millis(1)), 0..50)?.into_iter().for_each(Remote::detach);
    Ok(vec!["nothing is left".into()])
}

/// Rank 2 stops in a task, and has the only copy of a value: what does not need that is completed.
fn stops(pool: &Pool) -> Result<Vec<String>> {
    let there = pool.task().on(2).submit(squares, (1,))?;
    there.wait()?;
    let stopped = pool.task().on(2).submit(|()| stop(None), ((),))?;
    let others = pool.map(
        |n: u64| {
            std::thread::sleep(Duration::from_millis(2));
            n
        },
        0..2000,
    )?;
    let sum = others.into_iter().map(Remote::get).sum::<Result<u64>>()?;
    assert!(pool.submit(total, (&there,))?.get().is_err() && stopped.get().is_err());
    assert!(pool.task().on(2).submit(|n: u64| n, (1,))?.get().is_err());
    Ok(vec![format!("{sum}")])
}

/// A sum of squares, each half of it a task of its own, with parts that stay where they are made.
fn halves(from: u64, to: u64) -> Result<Vec<u64>> {
    if to - from <= 2 {
        return Ok((from..to).flat_map(|n| squares(n * 50_000)).collect());
    }
    let (pool, middle) = (Pool::here()?, u64::midpoint(from, to));
    let (left, right) = (pool.submit(halves, (from, middle))?, pool.submit(halves, (middle, to))?);
    let joined = |left: &Result<Vec<u64>>, right: &Result<Vec<u64>>| {
        let parts = [left, right].map(|part| part.as_ref().map_err(Clone::clone));
        let [left, right] = parts;
        Ok::<_, rankfold::Error>(joined(left?, right?))
    };
    pool.submit(joined, (&left, &right))?.get()?
}

fn fibonacci(n: u64) -> Result<u64> {
    if n < 2 {
        return Ok(n);
    }
    let pool = Pool::here()?;
    let (one, other) = (pool.submit(fibonacci, (n - 1,))?, pool.submit(fibonacci, (n - 2,))?);
    Ok(one.get()?? + other.get()??)
}

/// Tasks that submit tasks.
fn inner(pool: &Pool) -> Result<Vec<String>> {
    let small = pool.submit(fibonacci, (14,))?;
    let all = pool.submit(halves, (0, 16))?.get()??;
    Ok(vec![format!("{} {} {:x}", small.get()??, all.len(), total(&all))])
}

/// Rank 1 has two of something, the others have none.
fn resources(pool: &Pool) -> Result<Vec<String>> {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static RUNNING: AtomicUsize = AtomicUsize::new(0);
    let uses = |ms: u64| {
        let together = RUNNING.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(ms));
        RUNNING.fetch_sub(1, Ordering::SeqCst);
        together
    };
    let tasks = (0..20).map(|_| pool.task().needs("gpu", 1).submit(uses, (2,))).collect::<Result<Vec<_>>>()?;
    assert_eq!(pool.wait(&tasks, Until::All, None).len(), 20);
    assert!(tasks.iter().all(|task| task.timing().is_some_and(|timing| timing.rank == 1)));
    let most = tasks.into_iter().map(Remote::get).collect::<Result<Vec<_>>>()?.into_iter().max();
    assert!(most < Some(2), "{most:?} others had it at the same time");
    pool.task().named("greedy").needs("gpu", 3).submit(|n: u64| n, (1,))?.get().map(|n| vec![n.to_string()])
}

/// An actor has the one device as long as it lives, and a task waits for it.
fn starved(pool: &Pool) -> Result<Vec<String>> {
    let model = pool.task().named("model").needs("gpu", 1).actor(|n: u64| n, (40,))?;
    assert_eq!(model.call(|model: &mut u64| *model, ())?.get()?, 40);
    let waits = pool.task().named("train").needs("gpu", 1).submit(|n: u64| n + 2, (40,))?;
    assert!(!waits.wait_for(Duration::from_secs(8))?, "somebody else has what it needs");
    drop(model);
    waits.get().map(|value| vec![value.to_string()])
}

/// A task on rank 1 goes on for ever after its time was up: the rank is given up, and what it had as well.
fn hangs(pool: &Pool) -> Result<Vec<String>> {
    let there = pool.task().on(1).submit(squares, (1,))?;
    there.wait()?;
    let endless = pool.task().named("endless").on(1).timeout(Duration::from_millis(100));
    let endless = endless.submit(|| std::thread::sleep(Duration::from_secs(3600)), ())?;
    assert!(endless.get().unwrap_err().to_string().contains("endless has not come to its end on rank 1"));
    let lost = loop {
        match pool.submit(total, (&there,))?.get() {
            Ok(_) => std::thread::sleep(Duration::from_millis(50)),
            Err(error) => break error.to_string(),
        }
    };
    assert!(
        lost.contains("is given up, since endless goes on there") || lost.contains("is given up, since task"),
        "{lost}"
    );
    Ok(vec![pool.map(|n: u64| n, 0..100)?.into_iter().map(Remote::get).sum::<Result<u64>>()?.to_string()])
}

/// Calls keep their order though their arguments come from everywhere, and an actor begins anew.
fn actors(pool: &Pool) -> Result<Vec<String>> {
    let last = pool.size() - 1;
    let log = pool.task().on(last).actor(Vec::<u64>::new, ())?;
    for n in 0..40 {
        let part = pool.task().on(n as usize % pool.size()).submit(squares, (n,))?;
        log.call(|log: &mut Vec<u64>, part: &[u64]| log.push(total(part)), (&part,))?.detach();
        (0..20).try_for_each(|m| log.call(|log: &mut Vec<u64>, m: u64| log.push(m), (m,)).map(Remote::detach))?;
    }
    let log = log.call(|log: &mut Vec<u64>| log.clone(), ())?.get()?;
    let counter = pool.task().restarts(1).actor(|| 100u64, ())?;
    let take = |left: &mut u64, n: u64| {
        *left = left.checked_sub(n).expect("there is enough");
        *left
    };
    let takes = [30, 90, 50].map(|n| counter.call(take, (n,)));
    let takes = takes.into_iter().map(|take| Ok(take?.get().ok())).collect::<Result<Vec<_>>>()?;
    Ok(vec![format!("{} {:x} {takes:?}", log.len(), total(&log))])
}

/// The rank of an actor stops: the calls that it had are errors, and the actor begins anew on another rank.
fn actor_stops(pool: &Pool) -> Result<Vec<String>> {
    let count = |n: &mut u64| {
        *n += 1;
        *n
    };
    let actor = pool.task().among([1, 2]).restarts(1).actor(|| 0u64, ())?;
    (0..4).try_for_each(|_| actor.call(count, ()).map(Remote::detach))?;
    let fifth = actor.call(count, ())?;
    fifth.wait()?;
    let rank = fifth.timing().expect("it has run").rank;
    let stopped = pool.task().on(rank).submit(|()| stop(None), ((),))?;
    assert!(stopped.get().is_err());
    let mut counts = vec![fifth.get()?];
    while counts.len() < 4 {
        // What the rank had when it stopped is lost with it.
        counts.extend(actor.call(count, ())?.get().ok());
    }
    Ok(vec![format!("{counts:?}")])
}
