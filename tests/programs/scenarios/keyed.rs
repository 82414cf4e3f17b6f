//! Partials that are merged part by part: arrays element by element, tables key by key.

use std::time::Duration;

use rankfold::{Error, World, op};

use super::Outcome;
use super::results::agree_and_print;

/// The first argument is the number of milliseconds of work.
pub fn play(world: &World, scenario: &str, arguments: &[String]) -> Option<Outcome> {
    let millis: u64 = arguments.first().and_then(|text| text.parse().ok()).unwrap_or(0);
    match scenario {
        "in-parts" => {
            Some(all(world, millis, || {}).and_then(|lines| agree_and_print(world, &lines)).map_err(Into::into))
        }
        _ => None,
    }
}

/// What these calls come to, as digests of their bits; `on_the_way` is called with every item.
pub fn all(world: &World, millis: u64, on_the_way: impl Fn() + Sync) -> Result<Vec<String>, Error> {
    let items = millis.max(300);
    let pause = || {
        if millis > 0 {
            std::thread::sleep(Duration::from_micros(500));
        }
        on_the_way();
    };
    let term = |item: u64, at: u64| ((item * 7919 + at) % 1009) as f64 * if at.is_multiple_of(3) { 1e-9 } else { 1e7 };
    let arrays = world.over(0..items).named("arrays").elementwise().map_reduce(
        |item| {
            pause();
            (0..2000).map(|at| term(item, at)).collect::<Vec<f64>>()
        },
        op::sum,
    )?;
    let sums = world.over(0..items).named("sums").reduce_by_key(
        |item, pairs| {
            pause();
            (0..20).for_each(|at| pairs.add((item * at) % 501, term(item, at)));
        },
        |a: f64, b| a + b,
    );
    let sums = sums.collect()?;
    let words = world.over(0..items).named("words").reduce_by_key(
        |item, pairs| (0..20).for_each(|at| pairs.add_borrowed(&*format!("{}", item * at % 777), 1u64)),
        op::sum,
    );
    let words = words.top(20)?;
    let digest = |values: &mut dyn Iterator<Item = u64>| {
        values.fold(0u64, |digest, value| digest.rotate_left(5).wrapping_mul(31) ^ value)
    };
    let sums = digest(&mut sums.iter().flat_map(|(key, sum)| [*key, sum.to_bits()]));
    let arrays = digest(&mut arrays.iter().map(|sum| sum.to_bits()));
    Ok(vec![format!("arrays {arrays:016x}"), format!("sums {sums:016x}"), format!("words {words:?}")])
}
