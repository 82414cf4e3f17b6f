//! Arrays of all ranks, on ranks that are threads.

use std::time::Duration;

use ndarray::{Array2, ArrayView2, Axis, ShapeBuilder, s};
use proptest::prelude::*;
use rankfold::{World, data, op};

const SIZES: [usize; 6] = [1, 2, 3, 4, 7, 8];

/// Values that show in which order they were added.
fn value(rank: usize, at: usize) -> f64 {
    ((rank * 7919 + at * 104_729) % 1009) as f64 * if at.is_multiple_of(3) { 1e-9 } else { 1e7 } / 3.0
}

/// What a fixed tree over the ranks gives.
fn tree(values: &[f64], combine: &dyn Fn(f64, f64) -> f64) -> f64 {
    match values {
        [one] => *one,
        many => {
            let (left, right) = many.split_at(many.len().next_power_of_two() / 2);
            combine(tree(left, combine), tree(right, combine))
        }
    }
}

fn on_each<R: Send>(ranks: usize, program: impl Fn(&World) -> rankfold::Result<R> + Sync) -> Vec<R> {
    rankfold::threads(ranks, program).into_iter().collect::<Result<_, _>>().expect("no rank fails")
}

#[test]
fn the_order_of_a_sum_is_that_of_the_ranks_for_any_length() {
    // On a card; gathered by all; in slices, of which some ranks get none; in several chunks.
    for (len, sizes) in [(1, &SIZES[..]), (7, &SIZES), (800, &SIZES), (40_001, &SIZES), (2_200_003, &[1, 3])] {
        for ranks in sizes {
            let combine = |a: f64, b: f64| a * 0.75 + b;
            let results = on_each(*ranks, |world| {
                let mine: Vec<f64> = (0..len).map(|at| value(world.rank(), at)).collect();
                world.all_reduce(&mine, combine)
            });
            for at in [0, len / 3, len / 2, len - 1] {
                let values: Vec<f64> = (0..*ranks).map(|rank| value(rank, at)).collect();
                let expected = tree(&values, &combine).to_bits();
                assert!(results.iter().all(|result| result[at].to_bits() == expected), "{len} elements, {ranks} ranks");
            }
        }
    }
}

#[test]
fn relaxed_sums_are_sums() {
    for ranks in SIZES {
        let results = on_each(ranks, |world| {
            let mine = vec![world.rank() as u64 + 1; 50_000];
            let mut floats = vec![0.5f32; 50_000];
            world.all_reduce_relaxed_in_place(&mut floats, op::sum)?;
            Ok((world.all_reduce_relaxed(&mine, op::sum)?, world.all_reduce(&mine, op::bit_or)?, floats))
        });
        let bits = (1..=ranks as u64).fold(0, |all, one| all | one);
        for (sum, or, floats) in results {
            assert!(sum.iter().all(|sum| *sum == (ranks * (ranks + 1) / 2) as u64));
            assert!(or.iter().all(|or| *or == bits));
            assert!(floats.iter().all(|sum| sum.to_bits() == (0.5 * ranks as f32).to_bits()));
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C)]
struct Complex {
    re: f64,
    im: f64,
}

#[test]
fn elements_may_be_of_a_type_of_ones_own() {
    let results = on_each(3, |world| {
        let mine = vec![Complex { re: world.rank() as f64, im: 1.0 }; 10_000];
        let product = |a: Complex, b: Complex| Complex { re: a.re + b.re, im: a.im * b.im + 1.0 };
        world.all_reduce(&mine, product)
    });
    assert_eq!(results[1][9_999], Complex { re: 3.0, im: 3.0 });
}

#[test]
fn arrays_of_any_layout_are_combined_by_their_indices() {
    let results = on_each(4, |world| {
        let rank = world.rank();
        let rows = Array2::from_shape_fn((30, 40), |(i, j)| value(rank, 40 * i + j));
        let mut fortran = Array2::zeros((30, 40).f());
        fortran.assign(&rows);
        let strided = Array2::from_shape_fn((60, 40), |(i, j)| if i % 2 == 0 { rows[[i / 2, j]] } else { f64::NAN });
        let view: ArrayView2<f64> = strided.slice(s![..;2, ..]);
        Ok([world.all_reduce(&rows, op::sum)?, world.all_reduce(&fortran, op::sum)?, world.all_reduce(&view, op::sum)?])
    });
    assert!(results.iter().flatten().all(|result| *result == results[0][0]));
}

#[test]
fn what_rank_0_has_is_shared_out_and_comes_together_again() {
    for ranks in SIZES {
        let whole = Array2::from_shape_fn((11, 3), |(i, j)| (10 * i + j) as i32);
        let results = on_each(ranks, |world| {
            let mine = if world.is_root() { whole.clone() } else { Array2::zeros((0, 0)) };
            let copy = world.broadcast(&mine)?;
            let part = world.scatter(&mine)?;
            let (on_root, everywhere) = (world.gather(&part)?, world.all_gather(&part)?);
            Ok((copy, part.nrows(), on_root, everywhere))
        });
        let rows: Vec<usize> = results.iter().map(|result| result.1).collect();
        assert_eq!(rows.iter().sum::<usize>(), 11);
        assert!(rows.is_sorted_by(|a, b| a >= b) && rows[0] - rows[ranks - 1] <= 1, "{rows:?}");
        for (rank, (copy, _, on_root, everywhere)) in results.into_iter().enumerate() {
            assert_eq!((&copy, &everywhere), (&whole, &whole));
            assert_eq!(on_root, (rank == 0).then(|| whole.clone()));
        }
    }
}

#[test]
fn empty_arrays_are_arrays() {
    let results = on_each(3, |world| {
        let none = world.all_reduce(&Vec::<f64>::new(), op::sum)?;
        let only_last = vec![5u8; usize::from(world.rank() == 2)];
        Ok((none, world.all_gather(&only_last)?, world.scatter(&Vec::<u8>::new())?, world.broadcast(&[0u64; 0][..])?))
    });
    assert!(results.iter().all(|result| *result == (vec![], vec![5], vec![], vec![])));
}

#[test]
fn ranks_that_bring_different_arrays_are_told_what_differs() {
    let lengths = rankfold::threads(3, |world| world.all_reduce(&vec![1.0; 10 + world.rank() / 2], op::sum));
    for error in lengths.into_iter().map(Result::unwrap_err) {
        let text = error.to_string();
        assert!(text.contains("the ranks disagree about the kind of input"), "{text}");
        assert!(
            text.contains("has an array of 10\n") && text.contains("rank 2") && text.contains("an array of 11"),
            "{text}"
        );
    }
    let calls = rankfold::threads(2, |world| {
        if world.is_root() { world.all_gather(&[1u8][..]) } else { world.all_reduce(&[1u8][..], op::sum) }
    });
    let text = calls[0].as_ref().unwrap_err().to_string();
    assert!(text.contains("disagree about the operation") && text.contains("all_gather"), "{text}");
}

#[test]
fn a_rank_in_another_kind_of_call_is_told_of_and_nobody_waits_for_ever() {
    for elsewhere in [0, 1, 2] {
        let outcomes = rankfold::threads(3, |world| {
            if world.rank() == elsewhere {
                world.map_reduce(0..100u64, |i| i, |a, b| a + b).map(drop)
            } else {
                world.all_reduce(&1.0, op::sum).map(drop)
            }
        });
        for outcome in outcomes {
            let text = outcome.unwrap_err().to_string();
            assert!(text.contains("disagree about the operation"), "{text}");
            assert!(text.contains("has map_reduce") && text.contains("has all_reduce"), "{text}");
        }
    }
}

#[test]
fn after_a_meeting_was_called_off_there_is_no_other() {
    let outcomes = rankfold::threads(2, |world| {
        let first = if world.is_root() {
            world.over(0..9u64).for_each(drop)
        } else {
            world.all_reduce(&1.0, op::sum).map(drop)
        };
        first.unwrap_err();
        let second = world.all_reduce(&1.0, op::sum).unwrap_err().to_string();
        // What works by messages goes on working.
        (second, world.map_reduce(0..10u64, |i| i, op::sum))
    });
    for (second, third) in outcomes {
        assert!(second.contains("was called off"), "{second}");
        assert_eq!(third.ok(), Some(45));
    }
}

#[test]
fn a_rank_that_has_left_is_not_waited_for() {
    for leaver in [0, 2] {
        let outcomes =
            rankfold::threads(
                3,
                |world| {
                    if world.rank() == leaver { Ok(0.0) } else { world.all_reduce(&1.0, op::sum) }
                },
            );
        let errors = outcomes.into_iter().filter_map(Result::err).map(|error| error.to_string());
        assert_eq!(
            errors.filter(|text| text.contains(&format!("rank {leaver}")) && text.contains("left the program")).count(),
            2
        );
    }
}

#[test]
fn a_rank_that_has_left_is_named_also_to_those_who_come_late() {
    let outcomes = rankfold::threads(3, |world| match world.rank() {
        0 => Ok(0.0),
        rank => {
            // The first waits for long enough to wonder where the others are.
            std::thread::sleep(Duration::from_millis(400 * (rank as u64 - 1)));
            world.all_reduce(&1.0, op::sum)
        }
    });
    for outcome in outcomes.into_iter().skip(1) {
        let text = outcome.unwrap_err().to_string();
        assert!(text.contains("rank 0") && text.contains("left the program after 0 calls"), "{text}");
    }
}

#[test]
fn integers_wrap_around_whatever_the_length() {
    for len in [1, 7, 1000, 300_000] {
        for result in on_each(3, |world| {
            Ok((world.all_reduce(&vec![200u8; len], op::sum)?, world.all_reduce(&vec![usize::MAX; len], op::sum)?))
        }) {
            assert!(
                result.0.iter().all(|sum| *sum == 88) && result.1.iter().all(|sum| *sum == usize::MAX - 2),
                "{len}"
            );
        }
    }
}

#[test]
fn ranks_that_share_one_main_cannot_bring_their_parts() {
    let world = World::local(3).unwrap();
    let error = world.all_reduce(&1.0, op::sum).unwrap_err().to_string();
    assert!(error.contains("these 3 ranks share one main") && error.contains("rankfold::threads"), "{error}");
}

#[test]
fn what_has_no_parts_is_refused_with_what_to_do() {
    let refused = rankfold::threads(2, |world| {
        let fixed = [world.scatter(&[1, 2, 3, 4]).unwrap_err(), world.gather(&[1, 2]).unwrap_err()];
        let [scatter, gather] = [world.scatter(&1.0).unwrap_err(), world.gather(&1.0).unwrap_err()];
        let [part, whole] = fixed;
        [scatter, gather, part, whole].map(|error| error.to_string())
    });
    for [scatter, gather, fixed, whole] in refused {
        assert!(whole.contains("[i32; 2] cannot be of 4"), "{whole}");
        assert!(scatter.contains("a number has no parts") && scatter.contains("broadcast"), "{scatter}");
        assert!(gather.contains("no axis along which"), "{gather}");
        assert!(fixed.contains("[i32; 4] cannot be of 2 along its first axis"), "{fixed}");
    }
}

#[test]
fn arrays_are_input_along_any_axis_with_the_same_bits_on_any_number_of_ranks() {
    let table = Array2::from_shape_fn((300, 17), |(i, j)| value(i, j));
    for axis in [Axis(0), Axis(1)] {
        let sums = |ranks: usize| {
            let [replicated, shipped] = [false, true].map(|from_root| {
                on_each(ranks, |world| {
                    if from_root {
                        let mine = if world.is_root() { table.clone() } else { Array2::zeros((0, 0)) };
                        world.map_reduce(data::along_from_root(mine, axis), |item| item.sum(), op::sum)
                    } else {
                        world.map_reduce(data::along(&table, axis), |item| item.sum(), op::sum)
                    }
                })
            });
            (replicated[0].to_bits(), shipped[0].to_bits())
        };
        let (replicated, shipped) = sums(1);
        assert!(SIZES.iter().all(|ranks| sums(*ranks) == (replicated, shipped)));
    }
}

#[test]
fn arrays_that_differ_between_ranks_are_refused() {
    let outcomes = rankfold::threads(2, |world| {
        let table = Array2::from_elem((4, 4), world.rank() as f64);
        world.map_reduce(data::along(&table, Axis(0)), |row| row.sum(), op::sum)
    });
    assert!(outcomes.into_iter().all(|outcome| outcome.unwrap_err().to_string().contains("content of the input")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn parts_of_any_lengths_come_together_in_the_order_of_ranks(
        lengths in prop::collection::vec(0usize..50, 1..7), columns in 0usize..4,
    ) {
        let mine = |rank: usize| Array2::from_shape_fn((lengths[rank], columns), |(i, j)| 1000 * rank + 10 * i + j);
        let all = on_each(lengths.len(), |world| {
            Ok((world.all_gather(&mine(world.rank()))?, world.gather(&mine(world.rank()))?))
        });
        let parts: Vec<_> = (0..lengths.len()).map(mine).collect();
        let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
        let expected = ndarray::concatenate(Axis(0), &views).unwrap();
        prop_assert!(all.iter().all(|(everywhere, _)| *everywhere == expected));
        prop_assert_eq!(all[0].1.as_ref(), Some(&expected));
    }
}
