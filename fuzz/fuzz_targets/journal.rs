//! A whole journal of any bytes: what `rankfold inspect` reads. Each file is preceded by its length, two bytes.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;

mod mended;

const NAMES: [&str; 7] = [
    "run",
    "calls/000001/call",
    "calls/000001/g0001-r00000",
    "calls/000001/g0002-r00001",
    "calls/000001/result",
    "jobs/0001",
    "lock",
];

fuzz_target!(|bytes: &[u8]| {
    let (mut rest, mut files) = (bytes, BTreeMap::new());
    for name in NAMES {
        let Some((length, behind)) = rest.split_first_chunk() else { break };
        let (file, behind) = behind.split_at(behind.len().min(u16::from_le_bytes(*length).into()));
        files.insert(name.to_owned(), mended::file(file));
        rest = behind;
    }
    let _ = rankfold::journal::fuzzing::inspect(files);
});
