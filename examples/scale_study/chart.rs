//! The numbers as a picture: a panel for each number of ranks, a row for each workload, a mark for each scheduler.

use std::fmt::Write as _;

use crate::cells::{Load, Measured, RANKFOLD, SCHEMES};
use crate::table::{grouped, mean};

/// Panels side by side.
const COLUMNS: usize = 2;
/// Everything in pixels: the width of a panel's axis, the height of a row, where the rows' names end, and the borders.
const AXIS: f64 = 420.0;
const ROW: f64 = 36.0;
const NAMES: f64 = 190.0;
const HEAD: f64 = 122.0;
const PANEL_HEAD: f64 = 40.0;
const PANEL_FOOT: f64 = 42.0;
const BETWEEN: f64 = 104.0;
/// For whoever cannot tell red from green: the colours of Okabe and Ito ("Color universal design", 2008).
const COLOURS: [&str; SCHEMES.len()] = ["#777777", "#009e73", "#e69f00", "#56b4e9", "#d55e00"];
/// Marks of a row keep out of each other's way by so much.
const STEP: f64 = 5.6;

/// The picture of all cells, with the command that makes it.
pub fn svg(all: &[Measured], command: &str) -> String {
    let machines = distinct(all.iter().map(|it| it.cell.ranks));
    let loads = distinct(all.iter().map(|it| it.cell.load));
    let columns = COLUMNS.min(machines.len()).max(1);
    let panel_height = PANEL_HEAD + ROW * loads.len() as f64 + PANEL_FOOT;
    let width = (NAMES + columns as f64 * (AXIS + BETWEEN)).max(760.0);
    let height = HEAD + machines.len().div_ceil(columns) as f64 * panel_height;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"Helvetica, Arial, 'Liberation Sans', sans-serif\" font-size=\"13\" fill=\"#222\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    head(&mut out, all, command);
    for (number, ranks) in machines.into_iter().enumerate() {
        let (column, row) = ((number % columns) as f64, (number / columns) as f64);
        let (left, top) = (NAMES + column * (AXIS + BETWEEN), HEAD + row * panel_height + PANEL_HEAD);
        let cells: Vec<&Measured> = all.iter().filter(|it| it.cell.ranks == ranks).collect();
        panel(&mut out, &cells, &loads, [left, top], column == 0.0);
    }
    out.push_str("</svg>\n");
    out
}

fn head(out: &mut String, all: &[Measured], command: &str) {
    let work = all.first().map_or(0.0, |it| it.cell.work);
    text(out, [24.0, 34.0], "font-size=\"21\" font-weight=\"bold\"", "Efficiency of schedulers on simulated machines");
    let several = all.iter().find(|it| it.runs.len() > 1);
    let seeds =
        several.map_or(String::new(), |it| format!(", for {} over {} seeds too", it.cell.load.name, it.runs.len()));
    let what =
        format!("% of the ideal, {work} s of work for each rank; geometric mean over the costs of an item{seeds}");
    text(out, [24.0, 56.0], "", &what);
    text(out, [24.0, 76.0], "font-size=\"11\" fill=\"#666\" font-family=\"monospace\"", command);
    let mut x = 30.0;
    for (scheme, name) in SCHEMES.iter().enumerate() {
        let name = if *name == "fixed chunk" { "best fixed chunk (an oracle)" } else { name };
        mark(out, scheme, [x, 100.0]);
        text(out, [x + 12.0, 104.5], if scheme == RANKFOLD { "font-weight=\"bold\"" } else { "" }, name);
        x += 42.0 + 7.2 * name.len() as f64;
    }
}

/// The cells of one machine; its rows begin at the given place.
fn panel(out: &mut String, cells: &[&Measured], loads: &[Load], [left, top]: [f64; 2], with_names: bool) {
    let bottom = top + ROW * loads.len() as f64;
    let ranks = cells.first().map_or(0, |it| it.cell.ranks);
    let title = format!("{} ranks", grouped(ranks as u64));
    text(out, [left, top - 12.0], "font-size=\"15\" font-weight=\"bold\"", &title);
    text(out, [left + AXIS + 14.0, top - 12.0], &number_style(), "Rankfold");
    for row in (0..loads.len()).step_by(2) {
        let y = top + ROW * row as f64;
        let _ = writeln!(out, "<rect x=\"{left}\" y=\"{y}\" width=\"{AXIS}\" height=\"{ROW}\" fill=\"#f4f4f4\"/>");
    }
    for percent in (0..=100).step_by(20) {
        let x = left + AXIS * f64::from(percent) / 100.0;
        let _ = writeln!(out, "<path d=\"M{x} {top}V{bottom}\" stroke=\"#ccc\" stroke-width=\"1\"/>");
        let style = "text-anchor=\"middle\" font-size=\"11\" fill=\"#666\"";
        text(out, [x, bottom + 16.0], style, &format!("{percent} %"));
    }
    for (row, load) in loads.iter().enumerate() {
        let middle = top + ROW * (row as f64 + 0.5);
        if with_names {
            text(out, [left - 14.0, middle + 4.5], "text-anchor=\"end\"", load.name);
        }
        let of_load = || cells.iter().copied().filter(|it| it.cell.load == *load);
        for scheme in 0..SCHEMES.len() {
            let shift = STEP * (scheme as f64 - (SCHEMES.len() - 1) as f64 / 2.0);
            mark(out, scheme, [left + AXIS * mean(of_load(), scheme), middle + shift]);
        }
        let ours = format!("{:.0} %", 100.0 * mean(of_load(), RANKFOLD));
        text(out, [left + AXIS + 14.0, middle + 4.5], &number_style(), &ours);
    }
}

fn number_style() -> String {
    format!("font-size=\"12\" fill=\"{}\"", COLOURS[RANKFOLD])
}

/// A shape and a colour for each scheduler.
fn mark(out: &mut String, scheme: usize, [x, y]: [f64; 2]) {
    let shape = match scheme {
        0 => "<path d=\"M-4 -4L4 4M-4 4L4 -4\" stroke=\"#777777\" stroke-width=\"2.4\"/>",
        1 => "<path d=\"M0 -5.5L5.5 0L0 5.5L-5.5 0Z\"/>",
        2 => "<path d=\"M0 -5L5 4.2H-5Z\"/>",
        3 => "<rect x=\"-4\" y=\"-4\" width=\"8\" height=\"8\"/>",
        _ => "<circle r=\"5.5\"/>",
    };
    let colour = COLOURS[scheme];
    let _ = writeln!(
        out,
        "<g transform=\"translate({x:.1} {y:.1})\" fill=\"{colour}\" stroke=\"white\" stroke-width=\"0.8\">{shape}</g>"
    );
}

fn text(out: &mut String, [x, y]: [f64; 2], style: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{words}</text>");
}

/// Each once, in the order of their first appearance.
fn distinct<T: PartialEq>(all: impl Iterator<Item = T>) -> Vec<T> {
    all.fold(Vec::new(), |mut seen, it| {
        if !seen.contains(&it) {
            seen.push(it);
        }
        seen
    })
}
