//! What a task costs.

use crate::Context;
use crate::launch::{Result, run};
use crate::statistics::Sample;

const NAMES: [&str; 7] =
    ["rate", "trip", "ping", "efficiency_5us", "efficiency_10us", "efficiency_100us", "efficiency_1000us"];

/// On two ranks, both of which compute; on three; and on one with two threads.
pub(crate) fn tasks(context: &mut Context) -> Result<()> {
    let count = context.quickly("30000", "300000");
    for ranks in [2, 3, 1] {
        let mut values = vec![Vec::new(); NAMES.len()];
        for _ in 0..context.rounds.max(3) {
            let outcome = run(context.launcher.ranks(ranks, "bench_tasks", &[count]))?;
            for (values, name) in values.iter_mut().zip(NAMES) {
                values.push(outcome.number(name)?);
            }
        }
        let samples: Vec<Sample> = values.into_iter().map(Sample::new).collect();
        context.record.say(format!("  {ranks} ranks: {:.0} empty tasks a second", samples[0]));
        let [trip, ping] = [1, 2].map(|at: usize| samples[at].scaled(1e6));
        context.record.say(format!("    one empty task, there and back: {trip:.1} µs; a bare message: {ping:.1} µs"));
        for (name, sample) in NAMES.iter().zip(&samples).skip(3) {
            let length = name.trim_start_matches("efficiency_").trim_end_matches("us");
            context.record.say(format!("    tasks of {length} µs: efficiency {sample:.3}"));
        }
    }
    Ok(())
}
