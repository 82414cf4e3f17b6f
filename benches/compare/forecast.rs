//! Whether the simulator is right about this machine.

use crate::Context;
use crate::launch::{Result, run};
use crate::statistics::Sample;

const WORKLOADS: [&str; 3] = ["uniform", "ramp up", "1 % a hundredfold"];

/// Real runs on 1, 2 and 4 ranks against what the simulator foretells with the latency and speeds measured before each.
pub(crate) fn forecast(context: &mut Context) -> Result<()> {
    let arguments = context.quickly(&["quick"][..], &[][..]);
    for ranks in [1, 2, 4] {
        let mut ratios = vec![Vec::new(); WORKLOADS.len()];
        let mut times = vec![Vec::new(); WORKLOADS.len()];
        for _ in 0..context.rounds {
            let mut command = context.launcher.ranks(ranks, "bench_forecast", arguments);
            command.env("RANKFOLD_THREADS", "1").env("RANKFOLD_PROGRESS", "off");
            let outcome = run(command)?;
            let (real, foretold) = (outcome.numbers("real")?, outcome.numbers("foretold")?);
            for number in 0..WORKLOADS.len() {
                ratios[number].push(real[number] / foretold[number]);
                times[number].push(real[number]);
            }
        }
        for (number, name) in WORKLOADS.iter().enumerate() {
            let [ratio, time] = [&ratios, &times].map(|values| Sample::new(values[number].clone()));
            let figure = format!("{ranks} ranks, {name}: {time:.3} s, {ratio:.3} of what was foretold");
            let off = (ratio.median() - 1.0).abs();
            context.record.goal(&figure, "0.85 to 1.15", off <= 0.15);
        }
    }
    Ok(())
}
