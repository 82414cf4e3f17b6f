//! The numbers in print.

use std::fmt::Write as _;

use crate::cells::{FACTORING, FIXED, GUIDED, Measured, RANKFOLD, SCHEMES, STATIC, geometric_mean};

/// A table of cells with the same number of ranks.
pub fn of(measured: &[Measured]) -> String {
    let Some(first) = measured.first() else { return String::new() };
    let mut text = format!(
        "{} ranks, {} s of work each; % of the ideal; the chunk in leaves, + where ranks ask ahead\n",
        grouped(first.cell.ranks as u64),
        first.cell.work
    );
    for it in several(measured) {
        let ((least, most), name, cost) = (it.1, it.0.cell.load.name, time(it.0.cell.cost));
        let _ = writeln!(
            text,
            "{name}, {cost}: the geometric mean of {} seeds; Rankfold / fixed is {least:.3} to {most:.3} with single ones",
            it.0.runs.len()
        );
    }
    let head = SCHEMES.map(|scheme| format!("{scheme:>12}")).concat();
    let _ = writeln!(text, "\n{:<23}{:>7}{head}{:>10}{:>18}", "workload", "item", "chunk", "Rankfold / fixed");
    for it in measured {
        let columns = (0..SCHEMES.len()).map(|scheme| format!("{:>12.1}", 100.0 * it.efficiency(scheme)));
        let (columns, ratio) = (columns.collect::<String>(), it.against(FIXED));
        let ahead = |asks: bool| if asks { "+" } else { " " };
        let chunk = it.chunk().map_or("varies ".to_owned(), |(leaves, asks)| format!("{leaves}{}", ahead(asks)));
        let (name, cost) = (it.cell.load.name, time(it.cell.cost));
        let _ = writeln!(text, "{name:<23}{cost:>7}{columns}{chunk:>10}{ratio:>18.3}");
    }
    let means = (0..SCHEMES.len()).map(|scheme| format!("{:>12.1}", 100.0 * mean(measured, scheme)));
    let ratio = mean(measured, RANKFOLD) / mean(measured, FIXED);
    let _ = writeln!(text, "{:<30}{}{:>10}{ratio:>18.3}", "geometric mean", means.collect::<String>(), "");
    text
}

/// Where Rankfold is not as good as it should be.
pub fn verdict(all: &[Measured]) -> String {
    let mut text = String::from("Rankfold should be");
    text.push_str(&list("within 3 % of the best fixed chunk", all, |it| it.against(FIXED) < 0.97));
    text.push_str(&list("nowhere more than 2 % below static", all, |it| it.against(STATIC) < 0.98));
    let mut ranks: Vec<usize> = all.iter().map(|it| it.cell.ranks).collect();
    ranks.dedup();
    let _ = writeln!(text, "\n* better than guided and factoring in the geometric mean:");
    for ranks in ranks {
        let of_machine = || all.iter().filter(|it| it.cell.ranks == ranks);
        let [guided, factoring, ours] = [GUIDED, FACTORING, RANKFOLD].map(|scheme| 100.0 * mean(of_machine(), scheme));
        let word = if ours > guided && ours > factoring { "it is" } else { "it is NOT" };
        let ranks = grouped(ranks as u64);
        let _ = writeln!(text, "  {ranks:>8} ranks: {ours:.1} against {guided:.1} and {factoring:.1}: {word}");
    }
    text
}

/// A line for each forecast.
pub fn csv(all: &[Measured]) -> String {
    let mut text = String::from(
        "ranks,workload,item_seconds,scheme,chunk_leaves,asks_ahead,efficiency,makespan,root_load,batches,messages,\
         recalls,seed\n",
    );
    for (cell, run) in all.iter().flat_map(|it| it.runs.iter().map(|run| (it.cell, run))) {
        for (number, scheme) in SCHEMES.iter().enumerate() {
            let forecast = &run.forecasts[number];
            let chunk = if number == FIXED { format!("{},{}", run.chunk.0, run.chunk.1) } else { ",".to_owned() };
            let _ = writeln!(
                text,
                "{},{},{},{scheme},{chunk},{:.5},{:.6},{:.5},{},{},{},{}",
                cell.ranks,
                cell.load.name,
                cell.cost,
                forecast.efficiency,
                forecast.makespan,
                forecast.root_load,
                forecast.batches,
                forecast.messages,
                forecast.recalls,
                run.seed,
            );
        }
    }
    text
}

/// The geometric mean of a scheme's efficiencies.
pub fn mean<'m>(cells: impl IntoIterator<Item = &'m Measured>, scheme: usize) -> f64 {
    geometric_mean(cells.into_iter().map(|it| it.efficiency(scheme)))
}

/// A number with commas between its thousands.
pub fn grouped(number: u64) -> String {
    match number {
        0..1000 => number.to_string(),
        _ => format!("{},{:03}", grouped(number / 1000), number % 1000),
    }
}

/// The cells with several seeds, and how far Rankfold's comparison with the best fixed chunk spreads over them.
fn several(cells: &[Measured]) -> impl Iterator<Item = (&Measured, (f64, f64))> {
    cells.iter().filter_map(|it| Some((it, it.spread(FIXED)?)))
}

fn list(goal: &str, all: &[Measured], misses: impl Fn(&Measured) -> bool) -> String {
    let mut cells: Vec<&Measured> = all.iter().filter(|it| misses(it)).collect();
    cells.sort_by(|a, b| a.against(FIXED).total_cmp(&b.against(FIXED)));
    let mut text = format!("\n* {goal}: it is in {} of {} cells\n", all.len() - cells.len(), all.len());
    for it in cells {
        let (ranks, name, cost) = (grouped(it.cell.ranks as u64), it.cell.load.name, time(it.cell.cost));
        let [ours, fixed, even] = [RANKFOLD, FIXED, STATIC].map(|scheme| 100.0 * it.efficiency(scheme));
        let _ = writeln!(
            text,
            "  {ranks:>8} ranks, {name:<22} {cost:>5}: {ours:5.1} against {fixed:.1} (fixed chunk), {even:.1} (static)"
        );
    }
    text
}

/// Seconds as people say them.
fn time(seconds: f64) -> String {
    let (scale, unit) = match seconds {
        1.0.. => (1.0, "s"),
        1e-3.. => (1e3, "ms"),
        _ => (1e6, "µs"),
    };
    format!("{} {unit}", (seconds * scale * 1e3).round() / 1e3)
}
