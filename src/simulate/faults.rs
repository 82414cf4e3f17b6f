//! What goes wrong in a simulated run, all of it drawn from one seed.

use rand::RngExt;

use crate::extent::Extent;
use crate::random::ItemRng;

/// What happens to a rank.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    /// It never does anything again.
    Dies,
    /// It does nothing for so many seconds: stopped, swapped out, or behind a network that is down.
    Sleeps(f64),
}

/// The luck of a run. The default is one in which nothing goes wrong.
#[derive(Debug, Clone, Default)]
pub(crate) struct Luck {
    pub seed: u64,
    /// At which second which rank suffers what.
    pub faults: Vec<(f64, usize, Fault)>,
    /// How many seconds later than the others a rank enters the call.
    pub late: Vec<f64>,
    /// Messages take up to so many seconds longer, so that those of different ranks overtake each other.
    pub delay: f64,
    /// The part of messages that takes a hundred times longer still.
    pub spikes: f64,
    /// The part of attempts in which the mapper panics.
    pub panics: f64,
    /// At which second the run is told to end, and how many seconds it has for that.
    pub drain: Option<(f64, f64)>,
    /// A leaf whose mapper always panics.
    pub poison: Option<u64>,
}

impl Luck {
    pub fn late(&self, rank: usize) -> f64 {
        self.late.get(rank).copied().unwrap_or(0.0)
    }

    pub fn delay(&self, dice: &mut ItemRng) -> f64 {
        if self.delay == 0.0 {
            return 0.0;
        }
        let spike = if dice.random::<f64>() < self.spikes { 100.0 } else { 1.0 };
        dice.random::<f64>() * self.delay * spike
    }

    pub fn panics(&self, batch: Extent, dice: &mut ItemRng) -> bool {
        self.poison.is_some_and(|leaf| batch.contains(Extent::new(leaf, 1)))
            || (self.panics > 0.0 && dice.random::<f64>() < self.panics)
    }

    /// The last moment at which something goes wrong by itself.
    pub fn calm_after(&self) -> f64 {
        let faults = self.faults.iter().map(|(at, _, fault)| match fault {
            Fault::Dies => *at,
            Fault::Sleeps(length) => at + length,
        });
        faults.chain(self.late.iter().copied()).fold(0.0, f64::max)
    }
}
