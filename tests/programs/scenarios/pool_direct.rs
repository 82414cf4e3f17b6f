//! Pools whose programs put values on ranks themselves: results that are known, ranks that stop, memory that is short.

use std::time::Duration;

use rankfold::{Pool, Remote, Result, World, set_variable, variable};
use serde_bytes::ByteBuf;

use super::silence::stop;
use super::{Outcome, add};

pub fn play(world: &World, scenario: &str, arguments: &[String]) -> Option<Outcome> {
    let number = |at: usize| arguments.get(at).and_then(|text: &String| text.parse().ok());
    match scenario {
        "pool-direct" => Some(pool(world, results)),
        "pool-broadcasts" => Some(pool(world, broadcasts)),
        "pool-broadcast-stops" => Some(stops(world, number(0).unwrap_or(0), number(1))),
        "pool-broadcast-ends" => Some(pool(world, ends)),
        "pool-chain" => Some(pool(world, chain)),
        "pool-spills" => Some(pool(world, spills)),
        "pool-spills-and-panics" => Some(pool(world, |pool| {
            spills(pool)?;
            panic!("out of luck")
        })),
        "pool-huge" => Some(pool(world, huge)),
        _ => None,
    }
}

fn pool(world: &World, program: impl FnOnce(&Pool) -> Result<Vec<String>> + Send) -> Outcome {
    if let Some(lines) = world.pool(program)? {
        lines?.iter().for_each(|line| println!("{line}"));
    }
    Ok(())
}

/// Numbers that tell when one of them is lost, doubled or exchanged.
fn numbers(seed: u64, count: usize) -> Vec<u64> {
    (0..count as u64).map(|n| (n ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect()
}

fn digest(numbers: &[u64]) -> u64 {
    numbers.iter().fold(0, |digest: u64, number| digest.rotate_left(1) ^ number)
}

/// Everything there is, on values small and large.
fn results(pool: &Pool) -> Result<Vec<String>> {
    let parts = pool.scatter((0..20).map(|seed| numbers(seed, 3000)).collect())?;
    let digests = parts.iter().map(|part| pool.submit(digest, (part,))).collect::<Result<Vec<_>>>()?;
    let digests = pool.gather(digests)?;
    pool.replicate(&parts[7], 0..pool.size())?;
    assert!(pool.who_has(&parts[7])?.into_iter().eq(0..pool.size()));
    assert!(pool.gather(parts)?.into_iter().zip(0..).all(|(part, seed)| part == numbers(seed, 3000)));

    pool.push("small", 5u64)?;
    pool.push("large", numbers(5, 100_000))?;
    pool.prepare(|n: u64| set_variable("sum", n + *variable::<u64>("small").unwrap()), (7,))?;
    assert_eq!(pool.pull::<u64>("sum")?, vec![12; pool.size()]);
    let large = |at: usize| variable::<Vec<u64>>("large").unwrap()[at];
    let large = pool.gather(pool.on_each(large, (99_999,))?)?;
    assert!(large.iter().all(|number| *number == large[0]));
    assert!(pool.pull::<Vec<u64>>("large")?.iter().all(|large| *large == numbers(5, 100_000)));

    let sum = pool.map_reduce(0..5000u64, |n| 1.0 / (1.0 + n as f64), |a, b| a + b)?;
    let text = pool.map_reduce(0..3000u64, |n| format!("{n},"), |a, b| a + &b)?;
    assert!(text.split_terminator(',').map(str::parse).eq((0..3000u64).map(Ok)));
    let powers = pool.gather(pool.starmap(u64::pow, [(2, 10), (3, 20)])?)?;
    Ok(vec![format!("{:x} {:016x} {} {powers:?}", digest(&digests), sum.to_bits(), text.len())])
}

/// 64 MiB to all, and then many others of all sizes, with tasks in between.
fn broadcasts(pool: &Pool) -> Result<Vec<String>> {
    let large = pool.broadcast(numbers(1, 8 << 20))?;
    let mut all = pool.on_each(digest, (&large,))?;
    for seed in 0..100u64 {
        let shared = pool.broadcast(numbers(seed, [10, 1000, 100_000][seed as usize % 3]))?;
        all.push(pool.submit(digest, (&shared,))?);
        if seed % 10 == 3 {
            all.extend(pool.on_each(digest, (&shared,))?);
        }
        if seed % 7 == 0 {
            assert_eq!(shared.clone().fetch()?.len(), [10, 1000, 100_000][seed as usize % 3]);
        }
    }
    let all = pool.gather(all)?;
    let expected = digest(&numbers(1, 8 << 20));
    assert!(all[..pool.size()].iter().all(|found| *found == expected));
    let several = (0..100).flat_map(|seed| {
        let times = 1 + if seed % 10 == 3 { pool.size() } else { 0 };
        std::iter::repeat_n(digest(&numbers(seed, [10, 1000, 100_000][seed as usize % 3])), times)
    });
    assert!(all[pool.size()..].iter().copied().eq(several));
    Ok(vec![format!("{expected:x}")])
}

/// Rank 2 stops, in so many milliseconds, while a broadcast is under way: the others get the value without it. Whether it
/// wakes up later or not, the calls that follow are completed.
fn stops(world: &World, delay: u64, wake: Option<u64>) -> Outcome {
    pool(world, |pool| {
        pool.gather(pool.on_each(|n: u64| n, (1,))?)?;
        let stopped = pool.task().on(2).submit(
            |delay: u64, wake: Option<u64>| {
                std::thread::sleep(Duration::from_millis(delay));
                stop(wake);
            },
            (delay, wake),
        )?;
        if delay == 0 {
            // It does nothing any more when the broadcast begins.
            std::thread::sleep(Duration::from_millis(200));
        }
        let large = pool.broadcast(numbers(3, 4 << 20))?;
        let others = (0..pool.size()).filter(|rank| *rank != 2);
        let digests = others.clone().map(|rank| pool.task().on(rank).submit(digest, (&large,)));
        let digests = pool.gather(digests.collect::<Result<Vec<_>>>()?)?;
        assert_eq!(digests, vec![digest(&numbers(3, 4 << 20)); pool.size() - 1]);
        // Whoever has not got it is missed in the end.
        assert!(wake.is_some() || stopped.wait().is_err());
        let next = pool.broadcast(numbers(4, 100_000))?;
        let again = others.map(|rank| pool.task().on(rank).submit(digest, (&next,)));
        assert_eq!(
            pool.gather(again.collect::<Result<Vec<_>>>()?)?,
            vec![digest(&numbers(4, 100_000)); pool.size() - 1]
        );
        if wake.is_some() {
            // It wakes up in this pool, and stays in it for longer than silence is borne.
            std::thread::sleep(Duration::from_secs(8));
        }
        Ok(vec!["all have it".into()])
    })?;
    for _ in 0..3 {
        let slowly = |n: u64| {
            std::thread::sleep(Duration::from_millis(1));
            n
        };
        let sum = world.map_reduce(0..1000u64, slowly, add)?;
        if world.is_root() {
            println!("{sum}");
        }
    }
    pool(world, |pool| {
        let shared = pool.broadcast(numbers(5, 100_000))?;
        Ok(vec![format!("{:x}", pool.submit(digest, (&shared,))?.get()?)])
    })
}

/// The pool ends while a broadcast is under way that rank 2 will never take part in.
fn ends(pool: &Pool) -> Result<Vec<String>> {
    pool.gather(pool.on_each(|n: u64| n, (1,))?)?;
    let stopped = pool.task().on(2).submit(|()| stop(None), ((),))?;
    stopped.wait_for(Duration::from_millis(300))?;
    let shared = pool.broadcast(numbers(1, 100_000))?;
    // It is under way by now, and is not any more what the program waits for.
    std::thread::sleep(Duration::from_millis(100));
    drop(shared);
    Ok(vec!["over".into()])
}

/// A thousand tasks, one after the other, on 100 MB that were made on some rank, and a thousand on ever new values.
fn chain(pool: &Pool) -> Result<Vec<String>> {
    let before: u64 = pool.traffic()?.iter().map(|rank| rank.values).sum();
    let mesh = pool.task().on(pool.size() - 1).submit(numbers, (1, 100_000_000 / 8))?;
    let mut last = pool.submit(|mesh: &[u64]| mesh[0], (&mesh,))?;
    for n in 1..1000usize {
        last =
            pool.submit(|mesh: &[u64], last: &u64, n: usize| mesh[n * 10_000].wrapping_add(*last), (&mesh, &last, n))?;
    }
    let last = last.get()?;
    let mut part = pool.submit(|mesh: &[u64]| mesh[..10_000].to_vec(), (&mesh,))?;
    for _ in 0..1000 {
        part = pool.submit(|part: &[u64]| part.iter().map(|n| n + 1).collect::<Vec<_>>(), (&part,))?;
    }
    part.wait()?;
    let moved = pool.traffic()?.iter().map(|rank| rank.values).sum::<u64>() - before;
    Ok(vec![format!("{last:x} values moved: {moved}")])
}

/// More values than there may be in memory, used in an order that needs each again, and here and there.
fn spills(pool: &Pool) -> Result<Vec<String>> {
    let values = (0..40).map(|seed| pool.submit(numbers, (seed, 50_000))).collect::<Result<Vec<_>>>()?;
    let given = pool.broadcast(numbers(100, 50_000))?;
    let mix = |left: &[u64], right: &[u64]| left.iter().zip(right).map(|(a, b)| a ^ b).collect::<Vec<u64>>();
    let mut mixed = Vec::new();
    for step in [1, 7, 19] {
        let pairs = (0..40).map(|at| pool.submit(mix, (&values[at], &values[(at + step) % 40])));
        mixed.extend(pairs.collect::<Result<Vec<_>>>()?);
    }
    mixed.push(pool.submit(mix, (&values[0], &given))?);
    mixed.iter().try_for_each(Remote::wait)?;
    pool.replicate(&values[3], 0..pool.size())?;
    let digests = mixed.iter().map(|value| pool.submit(digest, (value,))).collect::<Result<Vec<_>>>()?;
    let digests = pool.gather(digests)?;
    assert_eq!(digests[1], digest(&mixed[1].fetch()?));
    assert!(pool.gather(values)?.into_iter().zip(0..).all(|(value, seed)| value == numbers(seed, 50_000)));
    Ok(vec![format!("{:x}", digest(&digests))])
}

/// A value of 3 GiB, which MPI's counts cannot tell the length of, moves from one rank to another.
fn huge(pool: &Pool) -> Result<Vec<String>> {
    const LENGTH: usize = 3 << 30;
    let made = |length: usize| {
        let mut bytes = vec![0u8; length];
        bytes.iter_mut().step_by(4099).zip(1u8..=255).for_each(|(byte, n)| *byte = n);
        bytes[length - 1] = 77;
        ByteBuf::from(bytes)
    };
    let value = pool.task().on(0).submit(made, (LENGTH,))?;
    let look = |bytes: &ByteBuf| (bytes.len(), bytes[4099], bytes[4099 * 200], bytes[bytes.len() - 1]);
    let seen = pool.task().on(1).submit(look, (&value,))?.get()?;
    assert_eq!(seen, (LENGTH, 2, 201, 77));
    assert_eq!(pool.who_has(&value)?, [0, 1]);
    let sent = pool.traffic()?;
    assert!(sent[0].value_bytes > LENGTH as u64 && sent[0].values == 1, "{sent:?}");
    Ok(vec!["3 GiB have moved".into()])
}
