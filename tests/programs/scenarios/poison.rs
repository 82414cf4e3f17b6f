//! Items that end the process which computes them, or take long: the variables `POISON` and `SLOW` name them, as
//! `call:item,call:item`.

use std::time::Duration;

use rankfold::{World, data};

use super::Outcome;

pub fn play(world: &World, scenario: &str, arguments: &[String]) -> Option<Outcome> {
    match scenario {
        "poisoned" => Some(poisoned(world, false)),
        "poisoned-skipped" => Some(poisoned(world, true)),
        "poisoned-lines" => Some(lines(world, arguments.first().map_or("", String::as_str))),
        _ => None,
    }
}

/// Text in order, a list of items that rank 0 has, and whole batches: what is left out shows in each of them.
fn poisoned(world: &World, skips: bool) -> Outcome {
    let text = world.over(0..600u64).leaf(8).named("text");
    let list = world.over(data::from_root((0..100u64).collect())).named("list");
    let batches = world.over(0..300u64).leaf(2).named("batches");
    let (text, list, batches) = if skips {
        (text.skip_poisoned(), list.skip_poisoned(), batches.skip_poisoned())
    } else {
        (text, list, batches)
    };
    let text = text.map_reduce(
        |item| {
            compute("text", item);
            format!("{item} ")
        },
        |left, right| left + &right,
    )?;
    let mut left_out = world.report().map_or(Vec::new(), |report| report.left_out);
    let list = list.map(|item| {
        compute("list", item);
        item
    })?;
    left_out.extend(world.report().map_or(Vec::new(), |report| report.left_out));
    let batches = batches.map_batches(
        |items| {
            items.clone().for_each(|item| compute("batches", item));
            items.sum::<u64>()
        },
        |left, right| left + right,
    )?;
    if world.is_root() {
        println!("{text}\n{list:?}\n{batches}\n{left_out:?}");
    }
    Ok(())
}

fn lines(world: &World, file: &str) -> Outcome {
    let longest = world.over(data::lines([file])).named("lines").map_reduce(
        |line| {
            let number = line.parse().expect("a number on each line");
            compute("lines", number);
            format!("{number} ")
        },
        |left, right| left + &right,
    )?;
    if world.is_root() {
        println!("{longest}");
    }
    Ok(())
}

fn compute(call: &str, item: u64) {
    std::thread::sleep(Duration::from_micros(300));
    let is_in = |variable: &str| {
        let names = std::env::var(variable).unwrap_or_default();
        names.split(',').any(|name| name == format!("{call}:{item}"))
    };
    if is_in("SLOW") {
        std::thread::sleep(Duration::from_secs(30));
    }
    if is_in("POISON") {
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).expect("it lives");
        std::thread::sleep(Duration::from_secs(60));
    }
}
