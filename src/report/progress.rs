//! How far a call is: a bar on rank 0's terminal, a line from time to time in a file.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

use crate::error::{Error, Result};

/// A call shorter than this shows no progress.
const QUIET: Duration = Duration::from_millis(500);
/// The first line in a file, and the least time between two.
const LINE_FIRST: Duration = Duration::from_secs(5);
const REDRAW: Duration = Duration::from_millis(100);

/// Rank 0's view of the current call; the other ranks' shows nothing.
#[derive(Debug)]
pub(crate) struct Progress {
    mode: Mode,
    current: Option<Current>,
}

/// From `RANKFOLD_PROGRESS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Off,
    Lines,
    Bar { relayed: bool },
}

#[derive(Debug)]
struct Current {
    call: String,
    items: u64,
    unit: &'static str,
    begun: Instant,
    bar: Option<ProgressBar>,
    next: Instant,
    waiting_said: bool,
}

impl Progress {
    pub fn silent() -> Self {
        Self { mode: Mode::Off, current: None }
    }

    /// As `RANKFOLD_PROGRESS` says: `bar`, `lines`, `off`, or by what standard error is.
    pub fn from_environment() -> Result<Self> {
        let value = std::env::var("RANKFOLD_PROGRESS").unwrap_or_default();
        let own = io::stderr().is_terminal();
        let mode = match value.trim() {
            "off" => Mode::Off,
            "lines" => Mode::Lines,
            "bar" => Mode::Bar { relayed: !own },
            "" | "auto" if own => Mode::Bar { relayed: false },
            "" | "auto" if launcher_has_terminal() => Mode::Bar { relayed: true },
            "" | "auto" => Mode::Lines,
            other => {
                let problem = format!("RANKFOLD_PROGRESS={other} is not a way to show progress");
                return Err(Error::launch(problem, "use one of bar, lines, off, auto"));
            }
        };
        Ok(Self { mode, current: None })
    }

    pub fn begin(&mut self, call: &str, items: u64, unit: &'static str) {
        let begun = Instant::now();
        if self.mode != Mode::Off {
            let first = if self.mode == Mode::Lines { LINE_FIRST } else { QUIET };
            let (call, next) = (call.to_owned(), begun + first);
            self.current = Some(Current { call, items, unit, begun, bar: None, next, waiting_said: false });
        }
    }

    /// So many items are done; `missing` tells the ranks that have not made the call, if it is worth asking.
    pub fn update(&mut self, done: u64, missing: impl FnOnce() -> Vec<usize>) {
        let (Some(current), mode) = (&mut self.current, self.mode) else { return };
        let now = Instant::now();
        if now < current.next {
            return;
        }
        if let Mode::Bar { relayed } = mode {
            current.next = now + REDRAW;
            let bar = current.bar.take().unwrap_or_else(|| new_bar(current, relayed));
            bar.set_position(done);
            current.bar = Some(bar);
        } else {
            let elapsed = now - current.begun;
            // A run of minutes gets a line every few seconds, one of days every few hours.
            current.next = now + LINE_FIRST.max(elapsed / 8);
            if done < current.items {
                eprintln!(
                    "rankfold: {}: {}",
                    current.call,
                    Line { done, items: current.items, unit: current.unit, elapsed }
                );
            }
        }
        if done == current.items && now - current.begun > LINE_FIRST && !current.waiting_said {
            current.waiting_said = true;
            let ranks = missing();
            if !ranks.is_empty() {
                let ranks: Vec<String> = ranks.iter().take(8).map(ToString::to_string).collect();
                let (call, ranks) = (&current.call, ranks.join(", "));
                eprintln!("rankfold: {call}: all items are done; waiting for ranks {ranks} to make this call");
            }
        }
    }

    pub fn end(&mut self) {
        if let Some(Current { bar: Some(bar), .. }) = self.current.take() {
            bar.finish_and_clear();
        }
    }
}

struct Line {
    done: u64,
    items: u64,
    unit: &'static str,
    elapsed: Duration,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = self.done as f64 / self.items.max(1) as f64;
        let seconds = self.elapsed.as_secs_f64();
        write!(f, "{:.1} % of {} {} in {seconds:.0} s", 100.0 * part, self.items, self.unit)?;
        if self.done > 0 { write!(f, ", {:.0} s to go", seconds * (1.0 - part) / part) } else { Ok(()) }
    }
}

fn new_bar(current: &Current, relayed: bool) -> ProgressBar {
    let target = if relayed {
        ProgressDrawTarget::term_like_with_hz(Box::new(RelayedTerminal), 10)
    } else {
        ProgressDrawTarget::stderr()
    };
    let template =
        format!("{{prefix}} {{bar:30}} {{percent:>3}} % of {{len}} {}, {{elapsed}}, {{eta}} to go", current.unit);
    let style = ProgressStyle::with_template(&template).expect("a template with known keys");
    ProgressBar::with_draw_target(Some(current.items), target)
        .with_style(style)
        .with_prefix(current.call.clone())
        .with_elapsed(current.begun.elapsed())
}

/// A terminal that the launcher passes our standard error on to: no terminal of our own to ask, but it obeys the codes.
#[derive(Debug)]
struct RelayedTerminal;

impl RelayedTerminal {
    fn write(text: &str) -> io::Result<()> {
        io::stderr().write_all(text.as_bytes())
    }
}

impl TermLike for RelayedTerminal {
    fn width(&self) -> u16 {
        80
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        if n == 0 { Ok(()) } else { Self::write(&format!("\x1b[{n}A")) }
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        if n == 0 { Ok(()) } else { Self::write(&format!("\x1b[{n}B")) }
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        if n == 0 { Ok(()) } else { Self::write(&format!("\x1b[{n}C")) }
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        if n == 0 { Ok(()) } else { Self::write(&format!("\x1b[{n}D")) }
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        Self::write(&format!("{text}\n"))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        Self::write(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        Self::write("\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Whether the launcher, up to three processes above this one, writes its standard error to a terminal.
fn launcher_has_terminal() -> bool {
    if crate::launch::launcher().is_none() {
        return false;
    }
    let mut process = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
    for _ in 0..3 {
        let Some(pid) = process.filter(|pid| *pid > 1) else { return false };
        let stderr = std::fs::read_link(format!("/proc/{pid}/fd/2")).unwrap_or_default();
        if stderr.starts_with("/dev/pts") || stderr.starts_with("/dev/tty") {
            return true;
        }
        process = parent_of(pid);
    }
    false
}

fn parent_of(pid: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_part_time_and_what_is_left() {
        let line = Line { done: 250, items: 1000, unit: "items", elapsed: Duration::from_secs(10) };
        assert_eq!(line.to_string(), "25.0 % of 1000 items in 10 s, 30 s to go");
        let line = Line { done: 0, items: 1000, unit: "items", elapsed: Duration::from_secs(10) };
        assert_eq!(line.to_string(), "0.0 % of 1000 items in 10 s");
    }
}
