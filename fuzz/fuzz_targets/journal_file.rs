//! One file of a journal, of any bytes: the decoder refuses it, or what it accepts makes sense.
#![no_main]

use libfuzzer_sys::fuzz_target;

mod mended;

fuzz_target!(|bytes: &[u8]| {
    rankfold::journal::fuzzing::decode(&mended::file(bytes));
});
