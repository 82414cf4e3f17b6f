//! What a task costs.

use crate::Context;
use crate::launch::{Result, run};
use crate::statistics::Sample;

const NAMES: [&str; 6] = ["rate", "trip", "slow_trip", "rested_trip", "far_trip", "ping"];
/// The lengths of tasks, in microseconds.
const LENGTHS: [u64; 4] = [5, 10, 100, 1000];

/// On two ranks, both of which compute; on three; and on one with two threads.
pub(crate) fn tasks(context: &mut Context) -> Result<()> {
    let count = context.quickly("30000", "300000");
    for ranks in [2, 3, 1] {
        let lengths = LENGTHS.iter().flat_map(|length| [format!("efficiency_{length}us"), format!("rayon_{length}us")]);
        let names: Vec<String> = NAMES.iter().map(ToString::to_string).chain(lengths).collect();
        let mut values = vec![Vec::new(); names.len()];
        for _ in 0..context.rounds.max(3) {
            let outcome = run(context.launcher.ranks(ranks, "bench_tasks", &[count]))?;
            for (values, name) in values.iter_mut().zip(&names) {
                values.push(outcome.number(name)?);
            }
        }
        let samples: Vec<Sample> = values.into_iter().map(Sample::new).collect();
        let ranks = if ranks == 1 { "1 rank".into() } else { format!("{ranks} ranks") };
        context.record.say(format!("  {ranks}: {:.0} empty tasks a second", samples[0]));
        let [trip, slow, rested, far, ping] = [1, 2, 3, 4, 5].map(|at: usize| samples[at].scaled(1e6));
        context.record.say(format!("    one empty task, there and back: {trip:.2} µs; a bare message: {ping:.2} µs"));
        context.record.say(format!(
            "    the slowest tenth takes {slow:.1} µs or more; after a pause of 2 ms {rested:.1} µs; on the last rank {far:.1} µs"
        ));
        for (length, pair) in LENGTHS.iter().zip(samples[NAMES.len()..].chunks(2)) {
            let (efficiency, against) = (&pair[0], &pair[1]);
            // The launcher binds nobody, so that rayon's threads have all cores as well.
            context.record.say(format!(
                "    tasks of {length} µs: efficiency {efficiency:.3}; {against:.3} of a loop of rayon's, with as many threads"
            ));
        }
    }
    Ok(())
}
