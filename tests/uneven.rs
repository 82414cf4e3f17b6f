//! Steps and calls on shards whose items take some ranks far longer than others: items move while they run.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use rankfold::{Result, World, op};

fn on_each<R: Send>(ranks: usize, program: impl Fn(&World) -> Result<R> + Sync) -> Vec<R> {
    rankfold::threads(ranks, program).into_iter().collect::<Result<_>>().expect("no rank fails")
}

/// One rank has all that takes time, at one end of the collection or the other.
#[test]
fn a_rank_that_is_through_gets_items_of_others_while_the_step_runs() {
    for slow in [0, 2] {
        let visits: [AtomicU64; 240] = std::array::from_fn(|_| AtomicU64::new(0));
        let program = |world: &World| {
            let count = if world.rank() == slow { 120 } else { 60 };
            let numbered = world.shards(vec![(); count])?;
            let (first, total) = (numbered.start(), numbered.len());
            let here = world.rank();
            let items = world.shards((first..first + count as u64).map(|number| (number, here)).collect())?;
            let work = |owner: usize| std::thread::sleep(Duration::from_millis(if owner == slow { 8 } else { 0 }));
            let visited = AtomicU64::new(0);
            items.for_each(|(number, owner)| {
                work(*owner);
                visits[*number as usize].fetch_add(1, Ordering::Relaxed);
                visited.fetch_add(1, Ordering::Relaxed);
            })?;
            let made = items.map(|(number, owner)| {
                work(owner);
                (number, here)
            })?;
            let (mine, odd) = (made.mine().len(), made.filter(|(number, _)| number % 2 == 1)?);
            assert_eq!((total, odd.len()), (240, 120));
            Ok((visited.into_inner(), mine, odd.gather()?))
        };
        let results = on_each(3, program);
        assert!(visits.iter().all(|visits| visits.load(Ordering::Relaxed) == 1));
        for (rank, (visited, mine, _)) in results.iter().enumerate() {
            let is_shared = if rank == slow { *visited < 120 } else { *visited > 60 };
            assert!(is_shared, "rank {rank}, {slow} is slow: {visited} items visited");
            assert!(*mine > 20, "rank {rank} of {slow}: {mine} values");
        }
        let odd = results.into_iter().next().and_then(|(.., odd)| odd).unwrap();
        assert!(odd.iter().map(|(number, _)| *number).eq((0..240).filter(|number| number % 2 == 1)));
        let makers = (0..3).filter(|rank| odd.iter().any(|(_, maker)| maker == rank)).count();
        let of_the_slow = odd.iter().filter(|(_, maker)| *maker == slow).count();
        assert!(makers == 3 && of_the_slow < 60, "{of_the_slow} of {makers}");
    }
}

/// Calls of any kind; what takes time is all on rank 1.
#[test]
fn a_rank_that_is_through_computes_items_of_others_in_calls_too() {
    let term = |i: u64| if i.is_multiple_of(3) { -1e9 / (i as f64 + 0.1) } else { 1.0 / (i as f64 + 0.3) };
    let terms: Vec<f64> = (0..400).map(term).collect();
    let combine = |a: f64, b: f64| a * 0.99 + b;
    let alone = World::local(1).unwrap();
    let expected = alone.map_reduce(rankfold::data::replicated(&terms), |x| *x, combine).unwrap().to_bits();
    let slowly = |_: &f64| std::thread::sleep(Duration::from_millis(2));
    let results = on_each(3, |world| {
        let mine = if world.rank() == 1 { 0..terms.len() } else { 0..0 };
        let shards = world.shards(terms[mine].to_vec())?;
        let computed = AtomicU64::new(0);
        let visit = |term: &f64| {
            slowly(term);
            computed.fetch_add(1, Ordering::Relaxed);
        };
        let mut counts = Vec::new();
        let mut counted = || counts.push(computed.swap(0, Ordering::Relaxed));
        let sum = world.map_reduce(
            shards.items(),
            |term| {
                visit(&term);
                *term
            },
            combine,
        )?;
        counted();
        let texts = world.over(shards.items()).map(|term| {
            visit(&term);
            term.to_string()
        })?;
        counted();
        let by_sign = world.over(shards.items()).reduce_by_key(
            |term, pairs| {
                visit(&term);
                pairs.add(*term < 0.0, 1u64);
            },
            op::sum,
        );
        let by_sign = by_sign.collect()?;
        counted();
        world.over(shards.items()).for_each(|term| visit(&term))?;
        counted();
        let lengths = world.over(shards.items()).map_batches(
            |terms| {
                terms.iter().for_each(visit);
                terms.len() as u64
            },
            op::sum,
        )?;
        counted();
        assert_eq!((sum.to_bits(), lengths, by_sign), (expected, 400, vec![(false, 266), (true, 134)]));
        assert!(texts.iter().zip(&terms).all(|(text, term)| *text == term.to_string()));
        assert!(world.report().is_none_or(|report| report.ranks.iter().map(|rank| rank.leaves).sum::<u64>() == 400));
        Ok(counts)
    });
    // Whole batches cannot be cut short, so there may be too few left of the last call.
    for call in 0..5 {
        let each: Vec<u64> = results.iter().map(|counts| counts[call]).collect();
        assert_eq!(each.iter().sum::<u64>(), 400, "call {call}: {each:?}");
        assert!(call == 4 || each.iter().all(|count| *count > 20), "call {call}: {each:?}");
    }
}

/// Leaves of two items, the last one of a single item, and results that stay.
#[test]
fn whole_leaves_move_and_results_have_the_bits_of_even_ranks() {
    let count = (1u64 << 20) + 4001;
    let term = |i: u64| 1.0 / (i as f64 + 0.3);
    let terms: Vec<f64> = (0..count).map(term).collect();
    let combine = |a: f64, b: f64| a * 0.999 + b;
    let alone = World::local(1).unwrap();
    let expected = alone.map_reduce(rankfold::data::replicated(&terms), |x| *x, combine).unwrap().to_bits();
    let results = on_each(3, |world| {
        let shards = world.shards(if world.is_root() { terms.clone() } else { Vec::new() })?;
        let computed = AtomicU64::new(0);
        let sum = world.map_reduce(
            shards.items(),
            |x| {
                // 400 items of a millisecond, all at the end.
                if *x < term(count - 401) {
                    std::thread::sleep(Duration::from_millis(1));
                    computed.fetch_add(1, Ordering::Relaxed);
                }
                *x
            },
            combine,
        )?;
        let slow = |x: f64| std::thread::sleep(Duration::from_micros(if x < term(count - 401) { 1000 } else { 0 }));
        let rows = world.over(shards.items()).shards(|x| {
            slow(*x);
            *x
        })?;
        let again = world.map_reduce(rows.items(), |x| *x, combine)?;
        Ok((sum.to_bits(), again.to_bits(), computed.into_inner()))
    });
    assert!(results.iter().all(|(sum, again, _)| *sum == expected && *again == expected));
    assert_eq!(results.iter().map(|(.., computed)| computed).sum::<u64>(), 400);
    assert!(results.iter().all(|(.., computed)| *computed > 20), "{results:?}");
}

#[test]
fn items_of_no_size_move_and_a_moved_item_that_fails_in_a_call_is_told_by_its_number() {
    let visits = AtomicU64::new(0);
    let visited = on_each(2, |world| {
        let items = world.shards(vec![(); if world.is_root() { 100 } else { 0 }])?;
        let here = AtomicU64::new(0);
        items.for_each(|()| {
            std::thread::sleep(Duration::from_millis(2));
            here.fetch_add(1, Ordering::Relaxed);
            visits.fetch_add(1, Ordering::Relaxed);
        })?;
        Ok(here.into_inner())
    });
    assert!(visits.into_inner() == 100 && visited[1] > 10, "{visited:?}");

    for retries in [0, 1] {
        let failures = AtomicU64::new(0);
        let results = rankfold::threads(3, |world| {
            let items = world.shards((0..if world.is_root() { 120u64 } else { 0 }).collect())?;
            let count = |i: &u64| {
                std::thread::sleep(Duration::from_millis(4));
                assert!(*i != 118 || failures.fetch_add(1, Ordering::Relaxed) > 0, "unlucky");
                *i
            };
            world.over(items.items()).retries(retries).map_reduce(|i| count(&i), |a, b| a + b)
        });
        for result in results {
            match result {
                Ok(sum) => assert!(retries == 1 && sum == 7140, "{sum}"),
                Err(error) => {
                    let text = error.to_string();
                    assert!(retries == 0 && text.contains("item 118") && text.contains("unlucky"), "{text}");
                }
            }
        }
    }
}

/// An item that can be written, and not read back.
#[test]
fn items_that_cannot_travel_are_an_error_on_every_rank() {
    #[derive(Debug, Clone, serde::Serialize)]
    struct Stubborn(u64);
    impl<'de> serde::Deserialize<'de> for Stubborn {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
            let number = <u64 as serde::Deserialize>::deserialize(deserializer)?;
            Err(serde::de::Error::custom(format!("{number} stays at home")))
        }
    }
    for result in rankfold::threads(3, |world| {
        let items =
            || world.shards((0..if world.is_root() { 90u64 } else { 0 }).map(Stubborn).collect::<Vec<Stubborn>>());
        let slowly = |_: &Stubborn| std::thread::sleep(Duration::from_millis(4));
        let step = items()?.for_each(slowly).unwrap_err().to_string();
        let call = world.over(items()?.items()).for_each(|item| slowly(&item)).unwrap_err().to_string();
        Ok::<_, rankfold::Error>((step, call))
    }) {
        let (step, call) = result.unwrap();
        assert!(step.contains("stays at home") && call.contains("stays at home"), "{step}\n{call}");
    }
}

#[test]
fn an_item_that_has_moved_and_panics_is_told_by_its_number() {
    for result in rankfold::threads(3, |world| {
        let items = world.shards((0..if world.is_root() { 90u64 } else { 0 }).collect())?;
        let unlucky = |i: u64| {
            std::thread::sleep(Duration::from_millis(5));
            assert!(i != 88, "unlucky");
        };
        items.map(unlucky).map(drop)
    }) {
        let text = result.unwrap_err().to_string();
        assert!(text.contains("item 88") && text.contains("unlucky"), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// Whatever items take, and whoever makes what of them: it is all there, in order.
    #[test]
    fn uneven_steps_lose_nothing_and_keep_the_order(
        parts in prop::collection::vec(prop::collection::vec(0u64..2500, 0..40), 1..6), kept in 1u64..4,
    ) {
        let found = on_each(parts.len(), |world| {
            let keep = |micros: &u64| {
                std::thread::sleep(Duration::from_micros(*micros));
                !micros.is_multiple_of(kept)
            };
            let left = world.shards(parts[world.rank()].clone())?.filter(keep)?;
            let number = left.len();
            let texts = left.map(|micros| format!("{micros}"))?.gather()?;
            assert!(texts.as_ref().is_none_or(|texts| texts.len() as u64 == number));
            Ok(texts)
        });
        let all = parts.concat().into_iter().filter(|micros| !micros.is_multiple_of(kept));
        let found = found.into_iter().next().flatten();
        prop_assert_eq!(found, Some(all.map(|micros| micros.to_string()).collect::<Vec<_>>()));
    }
}
