//! Values by key, on ranks that are threads.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rankfold::{ErrorKind, World, data, op};

const SIZES: [usize; 6] = [1, 2, 3, 4, 7, 8];

/// What each rank returns, which must be the same.
fn everywhere<R: Send + PartialEq + std::fmt::Debug>(
    ranks: usize,
    program: impl Fn(&World) -> rankfold::Result<R> + Sync,
) -> R {
    let mut results = rankfold::threads(ranks, program).into_iter().map(|result| result.expect("no rank fails"));
    let first = results.next().expect("a rank");
    assert!(results.all(|result| result == first));
    first
}

fn words() -> Vec<String> {
    (0..5000u64).map(|i| format!("w{}", (i * i * 31 + i) % 997 % (1 + i % 300))).collect()
}

#[test]
fn borrowed_keys_are_kept_in_whatever_can_be_made_of_them() {
    use compact_str::CompactString;

    let lines = ["to be or not to be", "that is the question", "a word that is far too long to lie in the key itself"];
    let alone = World::local(1).unwrap();
    let source = || data::replicated(&lines);
    let strings: Vec<(String, u64)> = alone
        .over(source())
        .reduce_by_key(|line, pairs| line.split(' ').for_each(|word| pairs.add_borrowed(word, 1)), op::sum)
        .collect()
        .unwrap();
    for ranks in [1, 3] {
        for result in rankfold::threads(ranks, |world| {
            let split = |line: &&str, mut add: Box<dyn FnMut(&str) + '_>| line.split(' ').for_each(&mut add);
            let compact: Vec<(CompactString, u64)> = world
                .over(source())
                .reduce_by_key(|line, pairs| split(line, Box::new(|word| pairs.add_from(word, 1))), op::sum)
                .collect()?;
            let boxed: Vec<(Box<str>, u64)> = world
                .over(source())
                .reduce_by_key(|line, pairs| split(line, Box::new(|word| pairs.add_from(word, 1))), op::sum)
                .collect()?;
            Ok::<_, rankfold::Error>((compact, boxed))
        }) {
            let (compact, boxed) = result.unwrap();
            assert!(compact.iter().zip(&strings).all(|(a, b)| (&*a.0, a.1) == (&*b.0, b.1)), "{compact:?}");
            assert!(boxed.iter().zip(&strings).all(|(a, b)| (&*a.0, a.1) == (&*b.0, b.1)), "{boxed:?}");
            assert_eq!([compact.len(), boxed.len()], [strings.len(); 2]);
        }
    }
}

#[test]
fn words_are_counted_as_by_hand_on_any_number_of_ranks() {
    let words = words();
    let mut expected = BTreeMap::<String, u64>::new();
    words.iter().for_each(|word| *expected.entry(word.clone()).or_default() += 1);
    let expected: Vec<_> = expected.into_iter().collect();
    let mut top = expected.clone();
    top.sort_by_key(|(word, count)| (std::cmp::Reverse(*count), word.clone()));
    for ranks in SIZES {
        let count = |world: &World| {
            let pairs = || {
                world
                    .over(data::replicated(&words))
                    .reduce_by_key(|word, pairs| pairs.add_borrowed(&**word, 1), op::sum)
            };
            Ok((pairs().collect()?, pairs().top(10)?, pairs().top(0)?, pairs().top(1_000_000)?))
        };
        let (all, ten, none, every) = everywhere(ranks, count);
        assert_eq!((&all, &ten[..], none.len(), &every), (&expected, &top[..10], 0, &top));
    }
}

/// Floating-point sums show the order in which they were made.
#[test]
fn sums_by_key_have_the_same_bits_on_any_number_of_ranks() {
    let sums = |ranks: usize| {
        everywhere(ranks, |world| {
            let term = |i: u64| if i.is_multiple_of(3) { -1e9 / (i as f64 + 0.1) } else { 1.0 / (i as f64 + 0.3) };
            let sums =
                world.over(0..20_011u64).reduce_by_key(|i, pairs| pairs.add(i % 13, term(i)), |a: f64, b| a * 0.99 + b);
            Ok(sums.collect()?.into_iter().map(|(key, sum)| (key, sum.to_bits())).collect::<Vec<_>>())
        })
    };
    let alone = sums(1);
    assert!(SIZES.iter().all(|ranks| sums(*ranks) == alone));
}

#[test]
fn values_of_a_key_are_combined_in_the_order_of_items() {
    for ranks in SIZES {
        let texts = everywhere(ranks, |world| {
            let pairs = world.over(0..100u32).reduce_by_key(
                |i, pairs| {
                    pairs.add(i % 3, format!("{i} "));
                    pairs.add(3, format!("{i},"));
                },
                |a, b| a + &b,
            );
            pairs.collect()
        });
        let join = |step: usize, start: u32, end: &str| -> String {
            (start..100).step_by(step).map(|i| format!("{i}{end}")).collect()
        };
        let expected = [join(3, 0, " "), join(3, 1, " "), join(3, 2, " "), join(1, 0, ",")];
        assert_eq!(texts, (0..4).zip(expected).collect::<Vec<_>>());
    }
}

#[test]
fn pairs_may_stay_on_the_ranks() {
    let words = words();
    for ranks in SIZES {
        let results = rankfold::threads(ranks, |world| {
            let count = |word: &String, pairs: &mut rankfold::Pairs<'_, String, u64, _>| pairs.add(word.clone(), 1);
            let pairs = || world.over(data::replicated(&words)).reduce_by_key(count, op::sum);
            let shards = pairs().shards()?;
            let mine = shards.mine().len();
            assert!(shards.mine().is_sorted());
            Ok::<_, rankfold::Error>((
                mine,
                shards.sort_by_key(|(word, _)| word.clone())?.gather()?,
                pairs().collect()?,
            ))
        });
        for (rank, result) in results.into_iter().enumerate() {
            let (mine, gathered, collected) = result.unwrap();
            assert_eq!(gathered, (rank == 0).then(|| collected.clone()));
            assert!(
                mine * ranks <= 2 * collected.len(),
                "{mine} of {} keys on rank {rank} of {ranks}",
                collected.len()
            );
        }
    }
}

#[test]
fn there_may_be_no_item_and_no_pair() {
    for ranks in [1, 3] {
        let [nothing, no_pairs] = everywhere(ranks, |world| {
            let count = |items: u64| {
                world
                    .over(0..items)
                    .reduce_by_key(
                        |_, pairs| {
                            if false {
                                pairs.add(0u8, 0u8);
                            }
                        },
                        op::sum,
                    )
                    .collect()
            };
            Ok([count(0)?, count(1000)?])
        });
        assert_eq!((nothing, no_pairs), (vec![], vec![]));
    }
}

#[test]
fn one_main_for_several_ranks_gets_the_whole_result() {
    let world = World::local(4).unwrap();
    let counts = world.over(0..1000u64).reduce_by_key(|i, pairs| pairs.add(i % 5, 1u32), op::sum).collect();
    assert_eq!(counts.unwrap(), (0..5).map(|key| (key, 200)).collect::<Vec<_>>());
    let sums = world.over(0..1000u64).elementwise().map_reduce(|i| vec![i, 1], op::sum);
    assert_eq!(sums.unwrap(), [499_500, 1000]);
}

#[test]
fn functions_that_panic_are_told_of_on_every_rank() {
    for ranks in [1, 3] {
        for (item, place) in [(700u64, "mapper"), (1 << 40, "combiner")] {
            let errors = rankfold::threads(ranks, |world| {
                let mapper = |i: u64, pairs: &mut rankfold::Pairs<'_, u64, u64, _>| {
                    assert!(i != item, "no way");
                    pairs.add(i % 2, i);
                };
                let combine = move |a: u64, b: u64| {
                    assert!(item < 1000 || a + b < 200_000, "too many");
                    a + b
                };
                world.over(0..1000u64).reduce_by_key(mapper, combine).collect().unwrap_err()
            });
            for error in errors {
                assert!(matches!(error.kind(), ErrorKind::Panicked { .. }), "{error}");
                assert!(
                    error.to_string().contains("reduce_by_key") && (item > 1000 || error.to_string().contains(place))
                );
            }
        }
    }
}

#[test]
fn a_value_that_cannot_be_compared_is_an_error_and_nobody_waits() {
    #[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
    struct Odd(u64);
    impl PartialOrd for Odd {
        fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
            Some(self.cmp(other))
        }
    }
    impl Ord for Odd {
        fn cmp(&self, _: &Self) -> std::cmp::Ordering {
            panic!("these cannot be compared")
        }
    }
    let errors = rankfold::threads(3, |world| {
        let pairs = world.over(0..100u64).reduce_by_key(|i, pairs| pairs.add(i, Odd(i)), |a, _| a);
        pairs.top(3).unwrap_err().to_string()
    });
    assert!(errors.iter().all(|error| error.contains("these cannot be compared")), "{errors:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    /// Any keys, among them ones with half of all values, any number of ranks, parts that get nothing.
    #[test]
    fn nothing_is_lost_and_nothing_doubled(
        keys in prop::collection::vec(prop_oneof![Just(7u16), any::<u16>(), 0u16..4], 0..300), ranks in 1usize..9,
    ) {
        let mut expected = BTreeMap::<u16, Vec<usize>>::new();
        keys.iter().enumerate().for_each(|(at, key)| expected.entry(*key).or_default().push(at));
        let found = everywhere(ranks, |world| {
            let pairs = world.over(0..keys.len()).reduce_by_key(
                |at, pairs| pairs.add(keys[at], vec![at]),
                |mut a: Vec<usize>, b| { a.extend(b); a },
            );
            pairs.collect()
        });
        prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
    }
}
