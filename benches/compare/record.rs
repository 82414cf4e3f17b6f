//! What is printed is kept in a file, too.

use std::fs;
use std::path::PathBuf;

/// The lines so far, and what must not be in them: paths of this machine.
#[derive(Debug)]
pub(crate) struct Record {
    lines: Vec<String>,
    private: Vec<(String, &'static str)>,
}

impl Record {
    pub(crate) fn new() -> Self {
        let private = [
            (std::env::var("CARGO_TARGET_DIR").ok(), "target"),
            (Some(env!("CARGO_MANIFEST_DIR").to_owned()), "."),
            (std::env::var("HOME").ok(), "~"),
        ];
        let private = private.into_iter().filter_map(|(path, name)| Some((path.filter(|path| path.len() > 1)?, name)));
        Self { lines: Vec::new(), private: private.collect() }
    }

    pub(crate) fn say(&mut self, line: impl AsRef<str>) {
        let mut line = line.as_ref().to_owned();
        for (path, name) in &self.private {
            line = line.replace(path, name);
        }
        println!("{line}");
        self.lines.push(line);
    }

    /// A figure with its goal.
    pub(crate) fn goal(&mut self, figure: &str, goal: &str, reached: bool) {
        self.say(format!("  {figure}; goal {goal}: {}", if reached { "reached" } else { "MISSED" }));
    }

    /// Writes `benches/runs/<date>/<name>-<time>.txt`.
    pub(crate) fn save(&self, name: &str) -> std::io::Result<PathBuf> {
        let [date, time] = ["+%F", "+%H%M%S"].map(|format| super::machine::first_line("date", &["-u", format]));
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/runs").join(date);
        fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{name}-{time}.txt"));
        fs::write(&path, self.lines.join("\n") + "\n")?;
        Ok(path)
    }
}
