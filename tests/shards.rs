//! Items that stay on the ranks, on ranks that are threads.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use rankfold::{ErrorKind, Result, World, op};

const SIZES: [usize; 6] = [1, 2, 3, 4, 7, 8];

fn on_each<R: Send>(ranks: usize, program: impl Fn(&World) -> Result<R> + Sync) -> Vec<R> {
    rankfold::threads(ranks, program).into_iter().collect::<Result<_>>().expect("no rank fails")
}

/// What rank 0 gets.
fn on_root<R: Send>(ranks: usize, program: impl Fn(&World) -> Result<Option<R>> + Sync) -> R {
    on_each(ranks, program).into_iter().next().flatten().expect("rank 0 gets it")
}

#[test]
fn steps_keep_the_order_of_items_on_any_number_of_ranks() {
    let expected: Vec<String> = (0..5000u64).map(|i| i * i % 97).filter(|i| i % 3 > 0).map(|i| i.to_string()).collect();
    for ranks in SIZES {
        let found = on_root(ranks, |world| {
            let steps = world.over(0..5000u64).shards(|i| i * i % 97)?.filter(|i| i % 3 > 0)?.map(|i| i.to_string())?;
            assert_eq!(steps.len(), expected.len() as u64);
            steps.gather()
        });
        assert_eq!(found, expected);
    }
}

#[test]
fn calls_of_shards_have_the_bits_that_calls_of_all_items_have() {
    let term = |i: u64| if i.is_multiple_of(3) { -1e9 / (i as f64 + 0.1) } else { 1.0 / (i as f64 + 0.3) };
    let alone = World::local(1).unwrap().map_reduce(0..20_011u64, term, |a, b| a * 0.99 + b).unwrap().to_bits();
    for ranks in SIZES {
        let sums = on_each(ranks, |world| {
            let terms = world.over(0..20_011u64).shards(term)?;
            let sum: f64 = world.map_reduce(terms.items(), |term| *term, |a, b| a * 0.99 + b)?;
            let columns =
                world.over(terms.items()).elementwise().map_reduce(|term| [*term, 1.0], |a, b| a * 0.99 + b)?;
            let signs = world.over(terms.items()).reduce_by_key(|term, pairs| pairs.add(*term < 0.0, 1u64), op::sum);
            let count = world.over(terms.items()).map_batches(|terms| terms.len() as u64, op::sum)?;
            assert_eq!((signs.collect()?, count), (vec![(false, 13_340), (true, 6671)], 20_011));
            if let Some(report) = world.report() {
                assert_eq!((report.items, report.ranks.len()), (20_011, ranks));
            }
            Ok([sum.to_bits(), columns[0].to_bits()])
        });
        assert!(sums.iter().flatten().all(|sum| *sum == alone), "{ranks} ranks");
    }
}

/// With more than 2^20 items a leaf has several, and must not be divided between ranks.
#[test]
fn leaves_are_whole_also_after_steps_that_leave_any_number_of_items() {
    let keep = |i: &u64| i * i % 11 > 1;
    let values: Vec<f64> = (0..1_500_000u64).filter(keep).map(|i| 1.0 / (i as f64 + 0.3)).collect();
    let alone = World::local(1).unwrap();
    let expected = alone.map_reduce(rankfold::data::replicated(&values), |x| *x, op::sum).unwrap().to_bits();
    for ranks in [1, 3] {
        let sums = on_each(ranks, |world| {
            let items = world.over(0..1_500_000u64).shards(|i| i)?.filter(keep)?.map(|i| 1.0 / (i as f64 + 0.3))?;
            world.map_reduce(items.items(), |x| *x, op::sum)
        });
        assert!(sums.iter().all(|sum| sum.to_bits() == expected));
    }
}

#[test]
fn items_move_to_ranks_that_were_sooner_through() {
    let counts = on_each(3, |world| {
        let items = world.shards(vec![1u64; 60])?;
        // Rank 0 takes eight times as long for each of its items.
        let slow = if world.is_root() { 8 } else { 1 };
        let items = items.map(|item| {
            std::thread::sleep(Duration::from_millis(slow));
            item
        })?;
        Ok((items.mine().len(), items.len()))
    });
    assert!(counts[0].0 < 40 && counts.iter().all(|(_, total)| *total == 180), "{counts:?}");
}

#[test]
fn items_with_equal_keys_keep_their_order_and_do_not_pile_up() {
    for ranks in SIZES {
        let program = |world: &World| {
            let items = world.over(0..20_000u64).shards(|i| (if i % 2 == 0 { 500 } else { i * 7919 % 1000 }, i))?;
            let sorted = items.sort_by_key(|(key, _)| *key)?;
            Ok((sorted.mine().len(), sorted.gather()?))
        };
        let results = on_each(ranks, program);
        let most = results.iter().map(|(mine, _)| *mine).max().unwrap();
        assert!(most * ranks <= 26_000, "{most} of 20000 items on one of {ranks} ranks");
        let sorted = results.into_iter().next().unwrap().1.unwrap();
        let mut expected: Vec<(u64, u64)> =
            (0..20_000).map(|i| (if i % 2 == 0 { 500 } else { i * 7919 % 1000 }, i)).collect();
        expected.sort_by_key(|(key, _)| *key);
        assert_eq!(sorted, expected);
    }
}

#[test]
fn a_step_that_panics_names_the_item_on_every_rank() {
    for ranks in [1, 3] {
        for result in rankfold::threads(ranks, |world| {
            world.over(0..100u64).shards(|i| i)?.map(|i| assert!(i != 77, "unlucky")).map(drop)
        }) {
            let error = result.unwrap_err();
            let ErrorKind::Panicked { call, item, message, .. } = error.kind() else { panic!("{error}") };
            assert_eq!((call.as_str(), item.as_str(), message.as_str()), ("map", "item 77", "unlucky"));
        }
        for result in rankfold::threads(ranks, |world| {
            let items = world.over(0..100u64).shards(|i| i)?;
            world.map_reduce(
                items.items(),
                |i| {
                    assert!(*i != 77, "unlucky");
                    *i
                },
                |a, b| a + b,
            )
        }) {
            let text = result.unwrap_err().to_string();
            assert!(text.contains("item 77") && text.contains("unlucky"), "{text}");
        }
    }
}

#[test]
fn keys_that_cannot_be_compared_or_encoded_are_an_error_on_every_rank() {
    use std::cmp::Ordering;
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    use std::path::PathBuf;

    #[derive(Debug, Clone, PartialEq, PartialOrd, serde::Serialize, serde::Deserialize)]
    struct Real(f64);
    impl Eq for Real {}
    #[expect(clippy::derive_ord_xor_partial_ord, reason = "as people do")]
    impl Ord for Real {
        fn cmp(&self, other: &Self) -> Ordering {
            self.partial_cmp(other).expect("no NaN")
        }
    }
    for result in rankfold::threads(3, |world| {
        let one = || world.shards(vec![world.rank() as u8]);
        let nan = one()?.sort_by_key(|_| Real(f64::NAN)).map(drop).unwrap_err().to_string();
        let not_text = |byte: &u8| PathBuf::from(OsString::from_vec(vec![b'a', 0xff - *byte]));
        let path = one()?.sort_by_key(not_text).map(drop).unwrap_err().to_string();
        let group = one()?.group_by_key(|byte| not_text(byte)).map(drop).unwrap_err().to_string();
        Ok::<_, rankfold::Error>((nan, path, group))
    }) {
        let (nan, path, group) = result.unwrap();
        assert!(nan.contains("the comparison of two keys") && nan.contains("no NaN"), "{nan}");
        assert!(path.contains("cannot be encoded") && path.contains("PathBuf"), "{path}");
        assert!(group.contains("cannot be encoded"), "{group}");
    }
}

#[test]
fn a_format_that_changes_its_mind_leaves_no_file() {
    let path = std::env::temp_dir().join(format!("rankfold-test-format-{}.txt", std::process::id()));
    for result in rankfold::threads(2, |world| {
        let (items, called) = (world.over(0..20u64).shards(|i| i)?, AtomicU64::new(0));
        let count = |_: &u64, out: &mut Vec<u8>| out.extend(called.fetch_add(1, Ordering::Relaxed).to_string().bytes());
        items.write(&path, count)
    }) {
        let text = result.unwrap_err().to_string();
        assert!(text.contains("had 10 bytes first, and 20 when it was written"), "{text}");
    }
    assert!(!path.exists());
}

#[test]
fn items_are_written_to_one_file_in_order_or_to_one_for_each_rank() {
    let folder = std::env::temp_dir().join(format!("rankfold-test-write-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let expected: String = (0..70_000u64).map(|i| format!("item {i} of many\n")).collect();
    for ranks in [4, 1, 3] {
        let (one, parts) = (folder.join("all.txt"), folder.join("parts"));
        on_each(ranks, |world| {
            let items = world.over(0..70_000u64).shards(|i| i)?;
            let format = |item: &u64, out: &mut Vec<u8>| out.extend(format!("item {item} of many\n").bytes());
            items.write(&one, format)?;
            items.write_parts(&parts, format)
        });
        assert_eq!(std::fs::read_to_string(&one).unwrap(), expected);
        let mut names: Vec<_> = std::fs::read_dir(&parts).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        assert_eq!(names.len(), ranks, "{names:?}");
        assert_eq!(names.iter().map(|part| std::fs::read_to_string(part).unwrap()).collect::<String>(), expected);
    }
    let left: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_file_that_cannot_be_written_is_an_error_on_every_rank_and_leaves_nothing() {
    let folder = std::env::temp_dir().join(format!("rankfold-test-unwritten-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for result in rankfold::threads(3, |world| {
        let items = world.over(0..100u64).shards(|i| i)?;
        let nowhere = items.write(folder.join("missing/all.txt"), |_, _| {}).unwrap_err().to_string();
        let unlucky = |item: &u64, out: &mut Vec<u8>| {
            assert!(*item != 77, "unlucky");
            out.push(b'.');
        };
        Ok::<_, rankfold::Error>((nowhere, items.write(folder.join("all.txt"), unlucky).unwrap_err().to_string()))
    }) {
        let (nowhere, unlucky) = result.unwrap();
        assert!(
            nowhere.contains("cannot be written on rank 0") && nowhere.contains("see that its folder is there"),
            "{nowhere}"
        );
        assert!(unlucky.contains("item 77"), "{unlucky}");
    }
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_call_whose_results_stay_on_the_ranks_is_not_computed_again_by_the_next_job() {
    let folder = std::env::temp_dir().join(format!("rankfold-test-shards-{}", std::process::id()));
    let computed = AtomicU64::new(0);
    let run = |ranks| {
        on_root(ranks, |world| {
            let count = |i: u64| {
                computed.fetch_add(1, Ordering::Relaxed);
                i * i
            };
            let squares = world.over(0..500u64).journal(&folder).shards(count)?;
            let digits = world
                .over(0..500u64)
                .journal(&folder)
                .reduce_by_key(|i, pairs| pairs.add(count(i) % 10, 1u64), op::sum);
            let digits = digits.shards()?.sort_by_key(|(digit, _)| *digit)?;
            let sum: u64 = world.map_reduce(squares.items(), |square| *square, op::sum)?;
            Ok(digits.gather()?.map(|digits| (sum, digits)))
        })
    };
    let first = run(3);
    assert_eq!((first.0, computed.load(Ordering::Relaxed)), (41_541_750, 1000));
    for ranks in [2, 1, 3] {
        assert_eq!(run(ranks), first);
    }
    assert_eq!(computed.load(Ordering::Relaxed), 1000);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_makes_no_sense_for_shards_is_refused() {
    for result in rankfold::threads(2, |world| {
        let items = world.shards(vec![1u64; 3])?;
        let leaf = world.over(items.items()).leaf(2).map_reduce(|i| *i, op::sum).unwrap_err().to_string();
        let journal = world.over(items.items()).journal("nowhere").map_reduce(|i| *i, op::sum).unwrap_err().to_string();
        Ok::<_, rankfold::Error>((leaf, journal))
    }) {
        let (leaf, journal) = result.unwrap();
        assert!(leaf.contains("in leaves already") && journal.contains("in memory alone"), "{leaf}\n{journal}");
    }
    let world = World::local(2).unwrap();
    assert!(world.over(0..9u64).shards(|i| i).unwrap_err().to_string().contains("share one main"));
    assert!(world.shards(vec![1]).unwrap_err().to_string().contains("share one main"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    /// Any lengths, empty ones too, any keys: every item is where it belongs, once.
    #[test]
    fn groups_and_pairs_have_every_item_once(
        parts in prop::collection::vec(prop::collection::vec((0u8..9, any::<u16>()), 0..30), 1..7),
        others in prop::collection::vec((0u8..9, any::<u32>()), 0..20),
    ) {
        let all: Vec<(u8, u16)> = parts.concat();
        let mut expected = BTreeMap::<u8, Vec<(u8, u16)>>::new();
        all.iter().for_each(|item| expected.entry(item.0).or_default().push(*item));
        let (groups, pairs, balanced) = on_root(parts.len(), |world| {
            let shards = || world.shards(parts[world.rank()].clone());
            let groups = shards()?.group_by_key(|item| item.0)?.sort_by_key(|(key, _)| *key)?.gather()?;
            let others = world.shards_from_root(others.clone())?;
            let pairs = shards()?.join(others, |item| item.0, |other| other.0)?.sort_by_key(|(item, _)| item.0)?.gather()?;
            let balanced = shards()?.rebalance()?.gather()?;
            Ok(groups.zip(pairs).zip(balanced).map(|((groups, pairs), balanced)| (groups, pairs, balanced)))
        });
        prop_assert_eq!(groups, expected.clone().into_iter().collect::<Vec<_>>());
        let of_key = |key: u8| others.iter().filter(move |other| other.0 == key);
        let each = expected.values().flatten();
        let expected: Vec<_> = each.flat_map(|item| of_key(item.0).map(|other| (*item, *other))).collect();
        prop_assert_eq!(pairs, expected);
        prop_assert_eq!(balanced, all);
    }

    #[test]
    fn any_items_are_sorted_as_one_rank_would(parts in prop::collection::vec(prop::collection::vec(0u16..50, 0..60), 1..9)) {
        let sorted = on_root(parts.len(), |world| {
            let marked = parts[world.rank()].iter().enumerate().map(|(at, key)| (*key, world.rank(), at)).collect();
            world.shards(marked)?.sort_by_key(|item| item.0)?.gather()
        });
        let mut expected: Vec<_> =
            parts.iter().enumerate().flat_map(|(rank, keys)| keys.iter().enumerate().map(move |(at, key)| (*key, rank, at))).collect();
        expected.sort_unstable();
        prop_assert_eq!(sorted, expected);
    }
}
