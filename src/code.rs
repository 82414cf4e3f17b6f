//! Functions that travel: as their offset in the executable, of which every rank runs the same build.
//!
//! A closure without captures has no size: whoever knows its type has it. So what travels is the place of a function that
//! was made for that type, the [`Entry`]; where the executable is loaded differs from process to process, the offset does
//! not. Builds are compared when the ranks meet, and journals hold names, never offsets.
#![allow(unsafe_code, reason = "an offset becomes a function again; this is the one file that does so")]

use std::ptr::NonNull;

use serde::{Deserialize, Serialize};

use crate::worker::runner::{Made, Reader, Trouble};

/// Runs a task: takes the arguments apart, calls the user's function, and keeps or encodes the result.
pub(crate) type Entry = fn(&mut Reader<'_>) -> Result<Made, Trouble>;

/// An entry, as all ranks know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[expect(clippy::unsafe_derive_deserialize, reason = "offsets come from ranks that run the same build")]
pub(crate) struct Code(u64);

// Where the executable begins, and where its functions end: defined by the linker (GNU ld, gold, lld and mold).
unsafe extern "C" {
    static __executable_start: u8;
    static etext: u8;
}

/// The addresses between which the functions of this executable lie.
fn functions() -> std::ops::Range<usize> {
    (&raw const __executable_start).addr()..(&raw const etext).addr()
}

impl Code {
    /// `None` if the function is not part of the executable but of a shared library, whose place nobody else knows.
    pub fn of(entry: Entry) -> Option<Self> {
        let (address, functions) = (entry as usize, functions());
        functions.contains(&address).then(|| Self((address - functions.start) as u64))
    }

    /// The same for the same function.
    pub fn number(self) -> u64 {
        self.0
    }

    /// The function, or `None` if this executable ends before it.
    pub fn entry(self) -> Option<Entry> {
        let functions = functions();
        let address = functions.start.checked_add(usize::try_from(self.0).ok()?)?;
        if !functions.contains(&address) {
            return None;
        }
        // SAFETY: offsets are made by `of` alone, from an `Entry` of this executable or of a rank's that runs the same
        // build, which was compared when the ranks met; so there is a function of this type at this address.
        Some(unsafe { std::mem::transmute::<usize, Entry>(address) })
    }
}

/// The value of a function type that captures nothing.
///
/// Called by entries alone, for the type that they were made for: `submit` was given a value of it.
pub(crate) fn conjure<F: Copy + 'static>() -> F {
    const { assert!(size_of::<F>() == 0, "a function for other ranks must not capture anything") };
    // SAFETY: reading nothing from an aligned pointer is sound; the type has a value, since `submit` had one, and has as
    // many as one likes, since it is Copy.
    unsafe { NonNull::<F>::dangling().read() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(_: &mut Reader<'_>) -> Result<Made, Trouble> {
        unreachable!("only its address counts")
    }

    #[test]
    fn a_function_is_found_again_by_its_offset() {
        let code = Code::of(one).unwrap();
        assert_eq!(code.entry().unwrap() as usize, one as Entry as usize);
        assert!(Code(u64::MAX).entry().is_none() && Code(1 << 40).entry().is_none());
    }

    #[test]
    fn a_closure_without_captures_comes_from_its_type() {
        fn again<F: Fn(u32) -> u32 + Copy + 'static>(_: F) -> u32 {
            conjure::<F>()(20)
        }
        assert_eq!(again(|n| n + 1), 21);
    }
}
