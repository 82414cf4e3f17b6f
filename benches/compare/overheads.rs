//! What Rankfold costs where there is little or nothing to compute.

use crate::Context;
use crate::launch::{Result, run};
use crate::statistics::Sample;

/// One number that a program prints, of several runs.
fn sample(context: &Context, ranks: usize, arguments: &[&str], names: &[&str]) -> Result<Vec<Sample>> {
    let mut values = vec![Vec::new(); names.len()];
    for _ in 0..context.rounds.max(3) {
        let outcome = run(context.launcher.ranks(ranks, "bench_probe", arguments))?;
        for (values, name) in values.iter_mut().zip(names) {
            values.push(outcome.number(name)?);
        }
    }
    Ok(values.into_iter().map(Sample::new).collect())
}

/// A whole call whose function does nothing, and a batch within a long call.
pub(crate) fn batches(context: &mut Context) -> Result<()> {
    let calls = context.quickly("2000", "20000");
    let found = sample(context, 2, &["calls", calls], &["call_of_1", "call_of_2"])?;
    let [one, two] = [&found[0], &found[1]].map(|sample| sample.scaled(1e6));
    context
        .record
        .say(format!("  empty batch, a whole call each: {one:.1} µs; one batch for each of 2 ranks: {two:.1} µs"));
    let items = context.quickly("1000000", "5000000");
    let found = sample(context, 2, &["batches", items], &["overhead", "batches", "efficiency", "wall"])?;
    let [overhead, wall] = [&found[0], &found[3]].map(Sample::median);
    context.record.say(format!(
        "  within a call of {items} items of 1 to 2 µs: {:.1} µs of all threads for each of {:.0} batches \
         (start and end of the call included), {:.2} s, efficiency {:.4}",
        1e6 * overhead,
        found[1].median(),
        wall,
        found[2].clone()
    ));
    Ok(())
}

/// An item of an empty function.
pub(crate) fn items(context: &mut Context) -> Result<()> {
    let items = context.quickly("100000000", "2000000000");
    let found = sample(context, 2, &["items", items], &["item", "plain"])?;
    let [item, plain] = [&found[0], &found[1]].map(|sample| sample.scaled(1e9));
    context.record.say(format!("  {items} empty items: {item:.2} ns of a thread each; a plain loop: {plain:.2} ns"));
    Ok(())
}

/// The cost of an item at which half of the time is lost.
pub(crate) fn costs(context: &mut Context) -> Result<()> {
    let time = context.quickly("100000000", "500000000");
    let mut runs = Vec::new();
    for _ in 0..context.rounds.max(3) {
        let outcome = run(context.launcher.ranks(2, "bench_probe", &["costs", time]))?;
        runs.push((outcome.numbers("cost")?, outcome.numbers("efficiency")?));
    }
    let mut half = None;
    for row in 0..runs[0].0.len() {
        let cost = Sample::new(runs.iter().map(|(costs, _)| 1e9 * costs[row]).collect());
        let efficiency = Sample::new(runs.iter().map(|(_, efficiencies)| efficiencies[row]).collect());
        context.record.say(format!("  items of {cost:.2} ns: efficiency {efficiency:.3}"));
        if efficiency.median() >= 0.5 && half.is_none() {
            half = Some((row, cost.median()));
        }
    }
    context.record.say(match half {
        Some((0, cost)) => format!("  even the cheapest items, of {cost:.2} ns, are computed at 50 % or more"),
        Some((_, cost)) => format!("  the cheapest of these items with 50 % or more: {cost:.2} ns"),
        None => "  none of these items is worth it".to_owned(),
    });
    Ok(())
}

/// The memory of each rank for 10^12 items, above that of a program that only calls `init`.
pub(crate) fn memory(context: &mut Context) -> Result<()> {
    for ranks in [1, 2, 8] {
        let peak = |what: &str| run(context.launcher.ranks(ranks, "bench_probe", &[what]));
        let (before, after) = (peak("init")?, peak("trillion")?);
        let mib = |kib: Vec<f64>| kib.into_iter().fold(0.0, f64::max) / 1024.0;
        let (before, after_each) = (mib(before.numbers("peak_kib")?), after.numbers("peak_kib")?);
        let (seconds, after) = (after.number("seconds")?, mib(after_each));
        let figure = format!(
            "10^12 items on {ranks} ranks in {:.1} ms: at most {after:.1} MiB a rank, {before:.1} MiB after init alone, {:.1} MiB more",
            1e3 * seconds,
            after - before
        );
        context.record.goal(&figure, "64 MiB or less", after - before <= 64.0);
    }
    Ok(())
}
