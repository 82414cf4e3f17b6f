//! Many more ranks than cores: what idle ranks use of the machine, and what many ranks add to a run.

use std::time::Duration;

use crate::Context;
use crate::launch::{Result, run, watch};
use crate::machine::{Meter, ticks_of_descendants};
use crate::statistics::Sample;

const MANY: usize = 135;

/// One item sleeps, on one rank; all the others have nothing to do.
pub(crate) fn idle(context: &mut Context) -> Result<()> {
    let cores = std::thread::available_parallelism()?.get() as f64;
    for ranks in [2, MANY] {
        let mut seen = None;
        let command = context.launcher.ranks(ranks, "bench_probe", &["idle", "15"]);
        watch(command, |launcher, line| {
            if !line.contains("started=1") {
                return Ok(());
            }
            std::thread::sleep(Duration::from_secs(3));
            let (meter, before) = (Meter::now(), ticks_of_descendants(launcher, "bench_probe"));
            std::thread::sleep(Duration::from_secs(10));
            let after = ticks_of_descendants(launcher, "bench_probe");
            seen = Some((before, after, meter.busy()));
            Ok(())
        })?;
        let Some(([before, _], [after, launcher], machine)) = seen else {
            return Err("the program never started".into());
        };
        if after.1 != ranks || before.1 != ranks {
            return Err(format!("{} processes were found instead of {ranks}", after.1).into());
        }
        // 10 s of 100 ticks on each core.
        let used = (after.0 - before.0) as f64 / (10.0 * cores);
        context.record.say(format!(
            "  (the machine as a whole {machine:.1} % busy meanwhile; the launcher's {} processes not counted)",
            launcher.1
        ));
        context.record.goal(&format!("{ranks} idle ranks use {used:.2} % of the machine"), "below 10 %", used < 10.0);
    }
    Ok(())
}

/// A run that takes 20 s on two ranks, on many.
pub(crate) fn many(context: &mut Context) -> Result<()> {
    let wanted = context.quickly(5.0, 20.0);
    let start = |ranks: usize, blocks: u64| {
        let mut command =
            context.launcher.ranks(ranks, "bench_monte_carlo", &["with-rankfold", "uniform", &blocks.to_string()]);
        command.env("RANKFOLD_THREADS", "1");
        run(command)
    };
    let trial = 60_000;
    let blocks = (trial as f64 * wanted / start(2, trial)?.number("seconds")?) as u64;
    let mut times = [[Vec::new(), Vec::new()], [Vec::new(), Vec::new()]];
    let mut result = None;
    for round in 0..context.quickly(1, context.rounds.min(3)) {
        for turn in 0..2 {
            let which = (round + turn) % 2;
            let outcome = start([2, MANY][which], blocks)?;
            let found = outcome.values("result");
            if *result.get_or_insert_with(|| found.clone()) != found {
                return Err(format!("different results: {found:?} and {result:?}").into());
            }
            for (times, name) in times.iter_mut().zip(["seconds", "from_call"]) {
                times[which].push(outcome.number(name)?);
            }
        }
    }
    for (times, name) in times.into_iter().zip(["from the return of init", "from the call of init"]) {
        let [few, many] = times.map(Sample::new);
        context.record.say(format!("  {name} to the result: 2 ranks {few:.2} s, {MANY} ranks {many:.2} s"));
        let ratio = many.median() / few.median();
        context.record.goal(&format!("  {ratio:.3} times as long"), "1.3 or less", ratio <= 1.3);
    }
    Ok(())
}
