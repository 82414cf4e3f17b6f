//! The work of one block of a Monte Carlo run: one source for the program by hand and the one with Rankfold.

use rand::Rng;
use rand::rand_core::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Points of a block where all blocks cost the same: a fraction of a millisecond.
const POINTS: u64 = 1 << 16;
/// Points of the first block of a ramp; the last one has [`STEEPNESS`] times as many.
const RAMP_LEAST: u64 = 1 << 12;
const STEEPNESS: f64 = 100.0;

/// How the cost of a block depends on its position.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    Uniform,
    /// Grows exponentially, a hundredfold from the first block to the last.
    Ramp,
}

impl Shape {
    pub(crate) fn from_argument(argument: &str) -> Self {
        match argument {
            "uniform" => Shape::Uniform,
            "ramp" => Shape::Ramp,
            other => panic!("the shape is uniform or ramp, not {other}"),
        }
    }

    /// The points of one of `blocks` blocks.
    pub(crate) fn points(self, block: u64, blocks: u64) -> u64 {
        match self {
            Shape::Uniform => POINTS,
            Shape::Ramp => (RAMP_LEAST as f64 * STEEPNESS.powf(block as f64 / blocks as f64)) as u64,
        }
    }

    pub(crate) fn all_points(self, blocks: u64) -> u64 {
        (0..blocks).map(|block| self.points(block, blocks)).sum()
    }
}

/// How many points of a block fall inside the quarter circle. Each block has a random stream of its own.
///
/// Not inlined: all programs of an executable run the same instructions.
#[inline(never)]
pub(crate) fn count_inside(block: u64, points: u64) -> u64 {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    rng.set_stream(block);
    let mut inside = 0;
    for _ in 0..points {
        let bits = rng.next_u64();
        let (x, y) = ((bits >> 32) | 1, (bits & 0xFFFF_FFFF) | 1);
        // In units of 2^-32: inside where the sum of squares stays below 2^64, that is, does not overflow.
        let (_, outside) = (x * x).overflowing_add(y * y);
        inside += u64::from(!outside);
    }
    inside
}
