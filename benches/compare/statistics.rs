//! Medians and quartiles.

use std::fmt;

/// Measurements of one thing, sorted.
#[derive(Debug, Clone)]
pub(crate) struct Sample(Vec<f64>);

impl Sample {
    pub(crate) fn new(mut values: Vec<f64>) -> Self {
        assert!(!values.is_empty(), "nothing was measured");
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// Linear between the two nearest values.
    fn quantile(&self, part: f64) -> f64 {
        let position = part * (self.0.len() - 1) as f64;
        let (below, above) = (self.0[position.floor() as usize], self.0[position.ceil() as usize]);
        below + (above - below) * position.fract()
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The same in other units.
    pub(crate) fn scaled(&self, factor: f64) -> Self {
        Self(self.0.iter().map(|value| factor * value).collect())
    }

    pub(crate) fn quartiles(&self) -> (f64, f64) {
        (self.quantile(0.25), self.quantile(0.75))
    }
}

/// Median and quartiles: `1.234 (1.200 … 1.250)`, with the precision asked for.
impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(3);
        let (low, high) = self.quartiles();
        write!(f, "{:.digits$} ({low:.digits$} … {high:.digits$})", self.median())
    }
}
