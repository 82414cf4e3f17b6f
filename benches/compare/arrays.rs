//! Arrays of all ranks against `MPI_Allreduce` by hand.

use crate::Context;
use crate::launch::{Result, run};
use crate::statistics::Sample;

/// What is measured, in elements of eight bytes, and the goals: in a fixed order, and in any.
const SIZES: [(&str, usize, f64, f64); 2] = [("a number", 1, 1.3, 1.3), ("8 MiB", 1 << 20, 1.5, 1.05)];
const RANKS: usize = 4;

pub(crate) fn arrays(context: &mut Context) -> Result<()> {
    for (size, elements, fixed_goal, relaxed_goal) in SIZES {
        let (mut times, mut ratios) = ([const { Vec::new() }; 3], [const { Vec::new() }; 2]);
        for _ in 0..context.rounds.max(3) {
            let rounds = context.quickly("5", "31");
            let outcome = run(context.launcher.ranks(RANKS, "bench_arrays", &[&elements.to_string(), rounds]))?;
            let found = [outcome.number("mpi")?, outcome.number("fixed")?, outcome.number("relaxed")?];
            times.iter_mut().zip(found).for_each(|(times, found)| times.push(1e6 * found));
            ratios
                .iter_mut()
                .zip([found[1], found[2]])
                .for_each(|(ratios, found_here)| ratios.push(found_here / found[0]));
        }
        let [mpi, fixed, relaxed] = times.map(Sample::new);
        context.record.say(format!(
            "  {size} on {RANKS} ranks: MPI_Allreduce {mpi:.1} µs, in a fixed order {fixed:.1} µs, in any {relaxed:.1} µs"
        ));
        for ((order, goal), ratios) in [("a fixed order", fixed_goal), ("any order", relaxed_goal)].iter().zip(ratios) {
            let ratio = Sample::new(ratios);
            let verdict = if ratio.median() <= *goal { "reached" } else { "MISSED" };
            context.record.say(format!("    {order}: {ratio:.3} times as long; goal {goal} or less: {verdict}"));
        }
    }
    Ok(())
}
