//! Input in the order of keys, on ranks that are threads.

use std::path::PathBuf;

use proptest::prelude::*;
use rankfold::{ErrorKind, Result, World};

const SIZES: [usize; 6] = [1, 2, 3, 4, 7, 8];

fn on_each<R: Send>(ranks: usize, program: impl Fn(&World) -> Result<R> + Sync) -> Vec<R> {
    rankfold::threads(ranks, program).into_iter().collect::<Result<_>>().expect("no rank fails")
}

fn path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("rankfold-test-{name}-{}", std::process::id()))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape of a format")]
fn line(number: &u64, out: &mut Vec<u8>) {
    out.extend(format!("{number}\n").bytes());
}

/// Keys of which half are equal; the numbers of items show that these keep their order.
fn key(i: u64) -> u64 {
    if i.is_multiple_of(2) { 500 } else { i * 7919 % 1000 }
}

fn expected(items: u64) -> String {
    let mut items: Vec<u64> = (0..items).collect();
    items.sort_by_key(|i| key(*i));
    items.iter().map(|i| format!("{i}\n")).collect()
}

#[test]
fn items_with_equal_keys_keep_their_order_and_do_not_pile_up() {
    let file = path("sorted");
    for ranks in SIZES {
        let lengths = on_each(ranks, |world| {
            let sorted = world.over(0..20_000u64).sort_by_key(|i| (key(i), i))?;
            sorted.write(&file, line)?;
            assert_eq!(sorted.len(), 20_000);
            Ok(sorted.len_here())
        });
        assert_eq!(lengths.iter().sum::<u64>(), 20_000);
        assert!(lengths.iter().max().unwrap() * ranks as u64 <= 26_000, "{lengths:?}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), expected(20_000));
    }
    std::fs::remove_file(file).unwrap();
}

/// One leaf is computed by one rank.
#[test]
fn items_that_one_rank_has_come_to_all() {
    for ranks in [3, 8] {
        let lengths =
            on_each(ranks, |world| Ok(world.over(0..20_000u64).leaf(1 << 15).sort_by_key(|i| (key(i), i))?.len_here()));
        assert!(lengths.iter().max().unwrap() * ranks as u64 <= 26_000, "{lengths:?}");
    }
}

#[test]
fn a_file_of_each_rank_has_its_part_and_steps_go_on_from_there() {
    let folder = path("sorted-parts");
    let results = on_each(3, |world| {
        let sorted = world.over(0..5000u64).sort_by_key(|i| (key(i), i))?;
        sorted.write_parts(&folder, line)?;
        sorted.shards()?.map(|i| i + 1)?.gather()
    });
    let parts: String =
        (0..3).map(|rank| std::fs::read_to_string(folder.join(format!("part-0000{rank}"))).unwrap()).collect();
    assert_eq!(parts, expected(5000));
    let next: String = results[0].as_ref().unwrap().iter().map(|i| format!("{}\n", i - 1)).collect();
    assert_eq!(next, parts);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn there_may_be_no_item_and_fewer_than_ranks() {
    let file = path("sorted-few");
    for (ranks, items) in [(1, 0u64), (3, 0), (4, 1), (8, 3)] {
        on_each(ranks, |world| world.over(0..items).sort_by_key(|i| (key(i), i))?.write(&file, line));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), expected(items));
    }
    std::fs::remove_file(file).unwrap();
}

#[test]
fn what_goes_wrong_is_told_on_every_rank_and_nobody_waits() {
    #[derive(Debug, Clone, PartialEq, PartialOrd, serde::Serialize, serde::Deserialize)]
    struct Real(f64);
    impl Eq for Real {}
    #[expect(clippy::derive_ord_xor_partial_ord, reason = "as people do")]
    impl Ord for Real {
        fn cmp(&self, other: &Self) -> std::cmp::Ordering {
            self.partial_cmp(other).expect("no NaN")
        }
    }
    for ranks in [1, 3] {
        for result in rankfold::threads(ranks, |world| {
            let key = |i: u64| {
                assert!(i != 777, "unlucky");
                (i, i)
            };
            world.over(0..1000u64).sort_by_key(key).map(drop)
        }) {
            let error = result.unwrap_err();
            let ErrorKind::Panicked { call, message, .. } = error.kind() else { panic!("{error}") };
            assert_eq!((call.as_str(), message.as_str()), ("sort_by_key", "unlucky"));
        }
        for result in rankfold::threads(ranks, |world| {
            world.over(0..1000u64).sort_by_key(|i| (Real(if i == 500 { f64::NAN } else { i as f64 }), i)).map(drop)
        }) {
            let text = result.unwrap_err().to_string();
            assert!(text.contains("the comparison of two keys") && text.contains("no NaN"), "{text}");
        }
        for result in rankfold::threads(ranks, |world| {
            let sorted = world.over(0..1000u64).sort_by_key(|i| (i, i))?;
            sorted.write("/nowhere/at/all", line)
        }) {
            let text = result.unwrap_err().to_string();
            assert!(text.contains("/nowhere/at/") && text.contains("cannot be written"), "{text}");
        }
    }
    let world = World::local(2).unwrap();
    assert!(world.over(0..9u64).sort_by_key(|i| (i, i)).unwrap_err().to_string().contains("share one main"));
}

#[test]
fn a_sort_is_not_computed_again_by_the_next_job() {
    use std::sync::atomic::{AtomicU64, Ordering};
    let (folder, computed) = (path("sorted-journal"), AtomicU64::new(0));
    let run = |ranks| {
        on_each(ranks, |world| {
            let count = |i| {
                computed.fetch_add(1, Ordering::Relaxed);
                (key(i), i)
            };
            world.over(0..500u64).journal(&folder).sort_by_key(count)?.shards()?.gather()
        })
    };
    let first = run(3).swap_remove(0);
    for ranks in [2, 1, 3] {
        assert_eq!(run(ranks).swap_remove(0), first);
    }
    assert_eq!(computed.load(Ordering::Relaxed), 500);
    std::fs::remove_dir_all(folder).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    /// Any keys, any number of ranks, ranks that get nothing: every item comes once, where a stable sort has it.
    #[test]
    fn nothing_is_lost_and_nothing_doubled(
        keys in prop::collection::vec(prop_oneof![Just(7u16), any::<u16>(), 0u16..4], 0..300), ranks in 1usize..9,
    ) {
        let keys = &keys;
        let found = on_each(ranks, |world| {
            world.over(0..keys.len()).sort_by_key(|at| (keys[at], (keys[at], at)))?.shards()?.gather()
        });
        let mut expected: Vec<(u16, usize)> = keys.iter().copied().zip(0..).collect();
        expected.sort_unstable();
        prop_assert_eq!(found[0].as_ref().unwrap(), &expected);
    }
}
