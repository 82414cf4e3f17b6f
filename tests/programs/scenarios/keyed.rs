//! Partials that are merged part by part: arrays element by element, tables key by key, lists by ranges of keys.

use std::time::Duration;

use rankfold::{Error, World, op};

use super::Outcome;
use super::results::agree_and_print;

/// The first argument is the number of milliseconds of work, the second one a file to write to.
pub fn play(world: &World, scenario: &str, arguments: &[String]) -> Option<Outcome> {
    let millis: u64 = arguments.first().and_then(|text| text.parse().ok()).unwrap_or(0);
    match scenario {
        "in-parts" => {
            Some(all(world, millis, || {}).and_then(|lines| agree_and_print(world, &lines)).map_err(Into::into))
        }
        "sorted" => Some(sorted(world, millis, arguments.get(1).map_or("sorted", String::as_str))),
        _ => None,
    }
}

/// Text of many lengths in the order of keys of which many are equal, as a digest of the file that it is written to.
fn sorted(world: &World, millis: u64, path: &str) -> Outcome {
    let key = |item: u64| if item.is_multiple_of(3) { 500 } else { item * 7919 % 1009 };
    let sorted = world.over(0..millis.max(300) * 20).sort_by_key(|item| {
        if millis > 0 && item.is_multiple_of(20) {
            std::thread::sleep(Duration::from_millis(1));
        }
        (key(item), format!("{} {item} {}", key(item), "x".repeat((item % 50) as usize)))
    })?;
    let most = world.all_reduce(&sorted.len_here(), op::max)?;
    sorted.write(path, |line, out| out.extend(line.bytes()))?;
    if world.is_root() {
        let bytes = std::fs::read(path)?;
        std::fs::remove_file(path)?;
        let balanced = most * world.size() as u64 * 10 <= sorted.len() * 13;
        println!(
            "{} items, {} bytes, {:08x}, balanced: {balanced}",
            sorted.len(),
            bytes.len(),
            crc32fast::hash(&bytes)
        );
    }
    Ok(())
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
    // Whose order cannot be seen.
    let counts = world.over(0..items).named("counts").elementwise().map_reduce(
        |item| {
            pause();
            (0..300).map(|at| item * at % 501).collect::<Vec<u64>>()
        },
        op::sum,
    )?;
    let least =
        world.over(0..items).named("least").elementwise().relaxed().map_reduce(|item| [term(item, 1)], op::min)?;
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
    let counts = digest(&mut counts.iter().copied().chain(least.map(f64::to_bits)));
    Ok(vec![
        format!("arrays {arrays:016x}"),
        format!("counts {counts:016x}"),
        format!("sums {sums:016x}"),
        format!("words {words:?}"),
    ])
}
