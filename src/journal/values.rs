//! Files with values of nodes, byte by byte: what `docs/journal.md` draws.
//!
//! Such a file is only ever appended to: a header of 64 bytes, and then a record for each value. Nobody knows at its
//! beginning how long it will be, so each record says how much of the file was on the disk when it was written. What is
//! wrong behind the last such place was never finished, as a kill or a power loss leaves it: the file is whole up to there,
//! and what follows does not count. What is wrong before it is damage, and refused.
//!
//! Pure: no clock, thread, file or MPI.

use std::ops::Range;

use super::format::{MAGIC, Refusal, VERSION, check, number};

pub(super) const HEADER: usize = 64;
const RECORD: usize = 48;
const RECORD_MAGIC: [u8; 4] = *b"node";
/// In the header: this file is appended to.
const APPENDED: u32 = 2;

/// A value in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub key: u128,
    pub name: Range<usize>,
    pub value: Range<usize>,
}

/// A file that was read.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Decoded {
    pub run: u64,
    pub values: Vec<Found>,
    /// So many bytes of it are sound; what follows was never finished.
    pub whole: usize,
}

/// The beginning of a file.
pub(super) fn header(run: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER);
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(APPENDED.to_le_bytes());
    bytes.extend(run.to_le_bytes());
    bytes.resize(HEADER - 4, 0);
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

/// A value, in a file of which so many bytes are on the disk.
pub(super) fn record(key: u128, name: &str, value: &[u8], durable: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(RECORD + name.len() + value.len());
    bytes.extend(RECORD_MAGIC);
    bytes.extend((name.len() as u32).to_le_bytes());
    bytes.extend(key.to_le_bytes());
    bytes.extend((value.len() as u64).to_le_bytes());
    bytes.extend(durable.to_le_bytes());
    let mut content = crc32fast::Hasher::new();
    content.update(name.as_bytes());
    content.update(value);
    bytes.extend(content.finalize().to_le_bytes());
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes.extend(name.as_bytes());
    bytes.extend(value);
    bytes
}

/// A record without a value, which tells that everything before it is on the disk.
pub(super) fn mark(durable: u64) -> Vec<u8> {
    record(0, "", b"", durable)
}

/// What a file holds.
///
/// # Errors
///
/// It is not of this format, or something in it is damaged that was on the disk.
pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, Refusal> {
    let mut decoded = Decoded::default();
    match run_of(bytes) {
        Ok(run) => decoded.run = run,
        Err(refusal @ (Refusal::Foreign | Refusal::Version { .. })) => return Err(refusal),
        Err(refusal) => return if was_durable(bytes, 0) { Err(refusal) } else { Ok(decoded) },
    }
    decoded.whole = HEADER;
    while decoded.whole < bytes.len() {
        match record_at(bytes, decoded.whole) {
            Ok(found) => {
                decoded.whole = found.value.end;
                if found.key != 0 {
                    decoded.values.push(found);
                }
            }
            Err(refusal) if was_durable(bytes, decoded.whole) => return Err(refusal),
            Err(_) => break,
        }
    }
    Ok(decoded)
}

fn run_of(bytes: &[u8]) -> Result<u64, Refusal> {
    // Zeros are what a power loss leaves of a file that was not on the disk yet.
    if bytes.first().is_some_and(|first| *first != MAGIC[0] && *first != 0) {
        return Err(Refusal::Foreign);
    }
    if bytes.len() < HEADER {
        return Err(early(0));
    }
    check(bytes, 0, HEADER, "header")?;
    let (version, flags) = (number(bytes, 8, 4) as u32, number(bytes, 12, 4) as u32);
    if bytes[..8] != MAGIC || flags != APPENDED {
        return Err(Refusal::Foreign);
    }
    if version == VERSION { Ok(number(bytes, 16, 8)) } else { Err(Refusal::Version { found: version }) }
}

fn record_at(bytes: &[u8], at: usize) -> Result<Found, Refusal> {
    if bytes.len() < at + RECORD {
        return Err(early(at));
    }
    check(bytes, at, RECORD, "record")?;
    let senseless = |problem| Refusal::Senseless { offset: at as u64, problem };
    if bytes[at..at + 4] != RECORD_MAGIC || number(bytes, at + 32, 8) > at as u64 {
        return Err(senseless("it is no record of a value"));
    }
    let key = u128::from(number(bytes, at + 8, 8)) | u128::from(number(bytes, at + 16, 8)) << 64;
    let name = at + RECORD..at + RECORD + number(bytes, at + 4, 4) as usize;
    let value = name.end..name.end.saturating_add(number(bytes, at + 24, 8) as usize);
    if bytes.len() < value.end {
        return Err(early(at));
    }
    let found = crc32fast::hash(&bytes[name.start..value.end]);
    let expected = number(bytes, at + 40, 4) as u32;
    if found != expected {
        return Err(Refusal::Damaged { what: "value", offset: name.start as u64, found, expected });
    }
    Ok(Found { key, name, value })
}

fn early(at: usize) -> Refusal {
    Refusal::Senseless { offset: at as u64, problem: "it ends behind the end of the file" }
}

/// Whether a record further on tells that what begins here was on the disk.
fn was_durable(bytes: &[u8], from: usize) -> bool {
    let tells = |at: usize| {
        let is_record = bytes[at..].starts_with(&RECORD_MAGIC) && bytes.len() >= at + RECORD;
        is_record && check(bytes, at, RECORD, "record").is_ok() && {
            let durable = number(bytes, at + 32, 8);
            durable > from as u64 && durable <= at as u64
        }
    };
    (from + 1..bytes.len()).any(tells)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Three values, of which two were on the disk when the third was written; and the end.
    fn example() -> Vec<u8> {
        let mut bytes = header(7);
        bytes.extend(record(1, "first", b"one", 0));
        bytes.extend(record(2, "", &[9; 100], 0));
        let durable = bytes.len() as u64;
        bytes.extend(record(u128::MAX, "third", b"", durable));
        let durable = bytes.len() as u64;
        bytes.extend(mark(durable));
        bytes
    }

    fn values(bytes: &[u8], decoded: &Decoded) -> Vec<(u128, Vec<u8>, Vec<u8>)> {
        let copy = |range: &Range<usize>| bytes[range.clone()].to_vec();
        decoded.values.iter().map(|found| (found.key, copy(&found.name), copy(&found.value))).collect()
    }

    #[test]
    fn a_file_that_is_cut_anywhere_gives_the_values_before() {
        let whole = example();
        let all = values(&whole, &decode(&whole).unwrap());
        assert!(all.len() == 3 && decode(&whole).unwrap().whole == whole.len());
        for cut in 0..whole.len() {
            let part = &whole[..cut];
            let decoded = decode(part).unwrap();
            assert!(all.starts_with(&values(part, &decoded)) && decoded.whole <= cut, "cut at {cut}");
        }
    }

    #[test]
    fn a_flipped_bit_is_refused_or_lies_in_the_mark_at_the_end() {
        let whole = example();
        let all = values(&whole, &decode(&whole).unwrap());
        let end = whole.len() - RECORD;
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            match decode(&bytes) {
                Ok(decoded) => {
                    assert!(bit / 8 >= end && decoded.whole == end && values(&bytes, &decoded) == all, "bit {bit}");
                }
                Err(refusal) => assert!(bit / 8 < end && refusal.to_string().len() > 20, "bit {bit}: {refusal}"),
            }
        }
    }

    #[test]
    fn what_was_not_on_the_disk_for_sure_is_cut_off_wherever_it_is_wrong() {
        let mut bytes = header(7);
        bytes.extend(record(1, "first", b"one", 0));
        let end = bytes.len();
        bytes.extend(record(2, "second", &[7; 300], end as u64));
        bytes.extend(record(3, "third", &[8; 300], end as u64));
        for at in end..bytes.len() {
            let mut torn = bytes.clone();
            torn[at..].fill(0);
            let decoded = decode(&torn).unwrap();
            assert!(!decoded.values.is_empty() && decoded.values.len() < 3, "zeros from {at}");
        }
        // A page of zeros in the middle, with a sound record behind.
        bytes[end + 100..end + 200].fill(0);
        assert_eq!(decode(&bytes).unwrap().whole, end);
    }

    #[test]
    fn other_files_and_other_versions_are_named() {
        assert_eq!(decode(b"PK\x03\x04"), Err(Refusal::Foreign));
        let mut bytes = header(7);
        bytes[8] = 9;
        let checksum = crc32fast::hash(&bytes[..60]).to_le_bytes();
        bytes[60..].copy_from_slice(&checksum);
        assert_eq!(decode(&bytes), Err(Refusal::Version { found: 9 }));
        assert_eq!(
            decode(&super::super::format::encode(super::super::Owner { run: 7, call: 0, leaves: 1 }, &[])),
            Err(Refusal::Foreign)
        );
        assert_eq!(decode(&[0; 500]).unwrap(), Decoded::default());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), keep in 0usize..400) {
            let _ = decode(&bytes);
            let mut begun = example();
            begun.truncate(keep);
            begun.extend(bytes);
            let _ = decode(&begun);
        }
    }
}
