//! The values that simulated leaves have: numbers that show every mistake.

use serde::{Deserialize, Serialize};

use crate::extent::Extent;

/// A partial: combining neither commutes nor associates, so any other tree than the right one gives another value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Value {
    hash: u64,
    leaves: u64,
}

impl Value {
    /// The value of an extent, of which the part before `leaves` exists: the tree as it is defined.
    pub fn of(extent: Extent, leaves: u64) -> Self {
        if extent.len == 1 {
            return Self::leaf(extent.start);
        }
        let [left, right] = extent.halves();
        let value = Self::of(left, leaves);
        if right.start < leaves { value.combined(Self::of(right, leaves)) } else { value }
    }

    /// The value of one leaf, which its number makes another one than any other's.
    pub fn leaf(number: u64) -> Self {
        Self { hash: mixed(number.wrapping_add(0x9E37_79B9_7F4A_7C15)), leaves: 1 }
    }

    pub fn combined(self, right: Self) -> Self {
        let hash = mixed(self.hash.rotate_left(17) ^ right.hash.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        Self { hash, leaves: self.leaves + right.leaves }
    }
}

/// The finalizer of `SplitMix64` (Steele, Lea and Flood, OOPSLA 2014).
fn mixed(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
