//! What a journal costs: the same run with one, at the default interval, and without.

use std::fs;
use std::path::Path;

use crate::Context;
use crate::launch::{Outcome, Result, run};
use crate::statistics::Sample;

const RANKS: usize = 2;

/// What is measured of a run.
#[derive(Debug, Default)]
struct Runs {
    seconds: Vec<f64>,
    /// The longest time between two items, on any rank.
    gaps: Vec<f64>,
    /// MiB that all ranks have written.
    written: Vec<f64>,
}

/// Runs of some 10 s, in turns, with partials of 8 bytes and of 1 MiB.
pub(crate) fn journal(context: &mut Context) -> Result<()> {
    let target = context.launcher.programs.ancestors().nth(2).unwrap_or(Path::new("target"));
    let folder = target.join("bench-data").join("journal");
    for partial in ["scalar", "wide"] {
        let start = |items: u64, with: bool| {
            let mut command = context.launcher.ranks(RANKS, "bench_journal", &[partial, &items.to_string()]);
            command.env("RANKFOLD_THREADS", "1").env("RANKFOLD_PROGRESS", "off");
            command.env_remove("RANKFOLD_JOURNAL_INTERVAL").env_remove("RANKFOLD_JOURNAL");
            if with {
                // Each run begins a journal of its own.
                let _ = fs::remove_dir_all(&folder);
                command.env("RANKFOLD_JOURNAL", &folder);
            }
            run(command)
        };
        let trial = 400;
        let wanted = context.quickly(2.0, 10.0);
        let items = (trial as f64 * wanted / start(trial, false)?.number("seconds")?) as u64;
        let (mut runs, mut result) = ([Runs::default(), Runs::default()], None);
        for round in 0..context.rounds {
            for turn in 0..2 {
                let with = (round + turn) % 2;
                let outcome = start(items, with == 1)?;
                let found = outcome.values("result");
                if *result.get_or_insert_with(|| found.clone()) != found {
                    return Err(format!("different results: {found:?} and {result:?}").into());
                }
                runs[with].add(&outcome)?;
            }
        }
        let _ = fs::remove_dir_all(&folder);
        report(context, partial, items, runs);
    }
    Ok(())
}

impl Runs {
    fn add(&mut self, outcome: &Outcome) -> Result<()> {
        self.seconds.push(outcome.number("seconds")?);
        self.gaps.push(outcome.numbers("gap")?.into_iter().fold(0.0, f64::max));
        self.written.push(outcome.numbers("written")?.into_iter().sum::<f64>() / f64::from(1 << 20));
        Ok(())
    }
}

fn report(context: &mut Context, partial: &str, items: u64, runs: [Runs; 2]) {
    let pairs = runs[1].seconds.iter().zip(&runs[0].seconds).map(|(with, without)| with / without).collect();
    let (low, high) = Sample::new(pairs).quartiles();
    let [without, with] = runs.map(|Runs { seconds, gaps, written }| [seconds, gaps, written].map(Sample::new));
    let (times, ratio) = ([&without[0], &with[0]], with[0].median() / without[0].median());
    context.record.say(format!(
        "  {partial} partials, {items} items on {RANKS} ranks: without {:.3} s, with a journal {:.3} s; {:.1} MiB written",
        times[0],
        times[1],
        with[2].clone()
    ));
    let figure = format!("  {ratio:.4} times as long (pairs {low:.4} … {high:.4})");
    context.record.goal(&figure, "1.01 or less", ratio <= 1.01);
    let [before, after] = [&without[1], &with[1]].map(|gaps| gaps.scaled(1e3));
    context
        .record
        .say(format!("    longest time between two items of a rank: without {before:.2} ms, with {after:.2} ms"));
}
