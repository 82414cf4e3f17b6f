//! Calls whose partials are arrays, on ranks that are threads.

mod support;

use ndarray::{Array2, Axis};
use rankfold::{ErrorKind, World, data, op};
use support::folder::Folder;

const SIZES: [usize; 6] = [1, 2, 3, 4, 7, 8];

fn term(item: u64, at: usize) -> f64 {
    ((item * 7919 + at as u64 * 104_729) % 1009) as f64 * if item.is_multiple_of(3) { 1e-9 } else { 1e7 } / 3.0
}

/// Of all three ways, as bits.
fn sums(world: &World, width: usize) -> rankfold::Result<Vec<Vec<u64>>> {
    let row = |item: u64| -> Vec<f64> { (0..width).map(|at| term(item, at)).collect() };
    let mapped = world.over(0..333u64).elementwise().map_reduce(row, op::sum)?;
    let folded = world.over(0..333u64).leaf(8).elementwise().fold(
        || vec![0.5; width],
        |mut sum, item| {
            sum.iter_mut().zip(row(item)).for_each(|(sum, term)| *sum += term);
            sum
        },
        |a, b| a * 0.75 + b,
    )?;
    let counted =
        world.over(0..333u64).elementwise().map_batches(|items| vec![items.end - items.start; width], op::sum)?;
    let bits = |values: Vec<f64>| values.into_iter().map(f64::to_bits).collect();
    Ok(vec![bits(mapped), bits(folded), counted])
}

#[test]
fn arrays_have_the_same_bits_on_any_number_of_ranks() {
    for width in [0, 1, 2, 5, 3000] {
        let alone = sums(&World::local(1).unwrap(), width).unwrap();
        assert!(alone[2].iter().all(|count| *count == 333));
        // What a plain reduction of each element gives.
        for at in [0, width / 2].into_iter().filter(|at| *at < width) {
            let world = World::local(3).unwrap();
            let one = world.map_reduce(0..333u64, |item| term(item, at), |a, b| a + b).unwrap();
            assert_eq!(one.to_bits(), alone[0][at]);
        }
        for ranks in SIZES {
            for result in rankfold::threads(ranks, |world| sums(world, width)) {
                assert_eq!(result.unwrap(), alone, "{ranks} ranks, {width} elements");
            }
            assert_eq!(sums(&World::local(ranks).unwrap(), width).unwrap(), alone);
        }
    }
}

#[test]
fn in_any_order_integers_have_the_same_bits_and_others_nearly() {
    for (ranks, items) in [(1, 5u64), (3, 333), (8, 2), (8, 333)] {
        let check = |world: &World| {
            let row = |item: u64| -> Vec<f64> { (0..50).map(|at| term(item, at)).collect() };
            let fixed: Vec<f64> = world.over(0..items).elementwise().map_reduce(row, op::sum)?;
            let relaxed: Vec<f64> = world.over(0..items).elementwise().relaxed().map_reduce(row, op::sum)?;
            assert!(fixed.iter().zip(&relaxed).all(|(a, b)| (a - b).abs() <= 1e-9 * a.abs()), "{fixed:?} {relaxed:?}");
            // A rank that has computed nothing changes nothing.
            let least =
                world.over(0..items).elementwise().relaxed().map_reduce(|i| [i as f32, -1.0 - i as f32], op::min)?;
            assert_eq!(least.map(|value| value as i64), [0, -(items as i64)]);
            let (ored, product) = (
                world.over(0..items).elementwise().map_reduce(|i| [1u8 << (i % 8), 0], op::bit_or)?,
                world.over(0..items).elementwise().map_reduce(|i| [1 + i32::from(i < 9); 3], op::prod)?,
            );
            assert_eq!((ored, product), ([((1u32 << items.min(8)) - 1) as u8, 0], [1 << items.min(9); 3]));
            // Integers wrap around, wherever they meet.
            assert_eq!(
                world.over(0..items).elementwise().map_reduce(|_| [1i32 << 30], op::sum)?,
                [(items as i32) << 30]
            );
            assert_eq!(world.over(0..items).elementwise().map_reduce(|_| Vec::<u8>::new(), op::sum)?, []);
            // A function that MPI does not know.
            let both = || world.over(0..items).elementwise();
            let mix = |a: f64, b: f64| a * 0.75 + b;
            assert_eq!(both().relaxed().map_reduce(row, mix)?, both().map_reduce(row, mix)?);
            Ok::<_, rankfold::Error>(())
        };
        rankfold::threads(ranks, |world| check(world)).into_iter().for_each(|result| result.unwrap());
        check(&World::local(ranks).unwrap()).unwrap();
    }
}

#[test]
fn results_have_the_type_and_shape_of_the_partials() {
    let world = World::local(3).unwrap();
    let table = Array2::from_shape_fn((50, 4), |(i, j)| (i * j) as i64);
    let rows = || world.over(data::along(&table, Axis(0))).elementwise();
    let outer = rows().map_batches(|rows| rows.t().dot(&*rows), op::sum).unwrap();
    assert_eq!(outer, table.t().dot(&table));
    assert_eq!(rows().map_reduce(|row| row.to_owned(), op::max).unwrap(), table.row(49).to_owned());
    assert_eq!(rows().map_reduce(|row| row.sum(), op::sum).unwrap(), table.sum());
}

#[test]
fn empty_input_needs_an_identity_but_for_folds() {
    let world = World::local(2).unwrap();
    let error = world.over(0..0u64).elementwise().map_reduce(|i| [i], op::sum).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::EmptyInput { .. }), "{error}");
    assert_eq!(world.over(0..0u64).identity([7]).elementwise().map_reduce(|i| [i], op::sum).unwrap(), [7]);
    assert_eq!(world.over(0..0u64).elementwise().fold(|| [1, 2], |sum, _| sum, op::sum).unwrap(), [1, 2]);
}

#[test]
fn arrays_of_different_shapes_are_an_error_that_names_both() {
    for ranks in [1, 3] {
        for result in rankfold::threads(ranks, |world| {
            world.over(0..10u64).elementwise().map_reduce(|i| vec![0.0; if i == 7 { 3 } else { 2 }], op::sum)
        }) {
            let text = result.unwrap_err().to_string();
            assert!(text.contains("an array of 2") && text.contains("an array of 3"), "{text}");
        }
        // Each has one of two arrays, and both are told.
        let both = std::sync::Barrier::new(2);
        for result in rankfold::threads(2, |world| {
            world.over(0..2u64).elementwise().map_reduce(
                |i| {
                    both.wait();
                    vec![i; 2 + i as usize]
                },
                op::sum,
            )
        }) {
            let text = result.unwrap_err().to_string();
            assert!(text.contains("an array of 2") && text.contains("an array of 3"), "{text}");
        }
        for result in rankfold::threads(ranks, |world| {
            world.over(0..10u64).elementwise().map_reduce(|i| vec![i; if i == 7 { 3 } else { 2 }], op::sum)
        }) {
            let text = result.unwrap_err().to_string();
            assert!(text.contains("an array of 2") && text.contains("an array of 3"), "{text}");
        }
    }
}

#[test]
fn a_finished_call_returns_its_arrays_from_the_journal() {
    let folder = Folder::new("elementwise");
    let computed = std::sync::atomic::AtomicU64::new(0);
    let run = |ranks| {
        let world = World::local(ranks)?;
        let count = |i: u64| {
            computed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            [i as f64, 1.0 / (1.0 + i as f64)]
        };
        let sums = world.over(0..500u64).journal(folder.path()).elementwise().map_reduce(count, op::sum)?;
        let keys = world.over(0..500u64).journal(folder.path()).reduce_by_key(
            |i, pairs| {
                computed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                pairs.add(i % 7, 1.0 / (1.0 + i as f64));
            },
            |a, b| a + b,
        );
        Ok::<_, rankfold::Error>((sums, keys.collect()?))
    };
    let first = run(3).unwrap();
    assert_eq!(computed.load(std::sync::atomic::Ordering::Relaxed), 1000);
    assert_eq!(run(2).unwrap(), first);
    assert_eq!(computed.load(std::sync::atomic::Ordering::Relaxed), 1000);
}
