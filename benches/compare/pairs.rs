//! Two programs for the same work, run in turns: the one by hand and the one with Rankfold.

use std::process::Command;

use crate::launch::{Outcome, Result, run};
use crate::statistics::Sample;
use crate::{Context, corpus};

/// One of the times of a run, in seconds.
type Clock = (&'static str, fn(&Outcome) -> Result<f64>);

const INSIDE: Clock = ("from after init to the result", |outcome| outcome.number("seconds"));
const WHOLE: Clock = ("the whole command", |outcome| Ok(outcome.wall.as_secs_f64()));

/// The times of two programs, by clock and then by round.
struct Pair {
    names: [&'static str; 2],
    times: Vec<(&'static str, [Vec<f64>; 2])>,
}

impl Pair {
    /// Runs the programs in the order A B B A A B …, once each before anything is measured. `result` must agree.
    fn measure(
        context: &mut Context,
        names: [&'static str; 2],
        commands: [&dyn Fn() -> Command; 2],
        clocks: &[Clock],
        result: impl Fn(&Outcome) -> Result<String>,
    ) -> Result<Self> {
        let mut times: Vec<_> = clocks.iter().map(|(name, _)| (*name, [Vec::new(), Vec::new()])).collect();
        let expected = result(&run(commands[0]())?)?;
        run(commands[1]())?;
        for round in 0..context.rounds {
            for turn in 0..2 {
                let which = (round + turn) % 2;
                let outcome = run(commands[which]())?;
                let found = result(&outcome)?;
                if found != expected {
                    return Err(format!("{} gives {found}, not {expected}", names[which]).into());
                }
                for ((_, times), (_, clock)) in times.iter_mut().zip(clocks) {
                    times[which].push(clock(&outcome)?);
                }
            }
        }
        Ok(Self { names, times })
    }

    /// Speeds, of the second program in units of the first one; the goal is for the clock with the number `judged`.
    fn report(&self, context: &mut Context, judged: Option<(usize, f64)>) {
        for (number, (clock, times)) in self.times.iter().enumerate() {
            let [a, b] = times.each_ref().map(|times| Sample::new(times.clone()));
            let paired = Sample::new(times[0].iter().zip(&times[1]).map(|(a, b)| a / b).collect());
            let (speed, (low, high)) = (a.median() / b.median(), paired.quartiles());
            context.record.say(format!("  {clock}: {} {a:.3} s, {} {b:.3} s", self.names[0], self.names[1]));
            let figure = format!("  speed {speed:.3}, paired {low:.3} … {high:.3}");
            match judged {
                Some((judged, goal)) if judged == number => {
                    context.record.goal(&figure, &format!("{goal}"), speed >= goal);
                }
                _ => context.record.say(format!("  {figure}")),
            }
        }
    }
}

fn total(outcome: &Outcome) -> Result<String> {
    Ok(outcome.values("result").concat())
}

/// Blocks of 2^16 points: at least 10^9 points in a run that is measured.
fn blocks(context: &Context) -> String {
    if context.quick { "4000" } else { "76300" }.to_owned()
}

pub(crate) fn monte_carlo(context: &mut Context) -> Result<()> {
    let blocks = blocks(context);
    context.record.say(format!("  2 ranks of 1 thread, {blocks} blocks of 65536 points"));
    let by_hand = || context.launcher.ranks(2, "bench_by_hand", &["uniform", &blocks, "halves"]);
    let with_rankfold = || context.launcher.ranks(2, "bench_with_rankfold", &["uniform", &blocks]);
    let (by_hand, with_rankfold) = (context.fresh(&by_hand), context.fresh(&with_rankfold));
    let names = ["by hand", "Rankfold"];
    let pair = Pair::measure(context, names, [&by_hand, &with_rankfold], &[INSIDE, WHOLE], total)?;
    pair.report(context, Some((0, 0.97)));
    Ok(())
}
