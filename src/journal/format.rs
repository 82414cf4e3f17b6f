//! Snapshot files, byte by byte: what `docs/journal.md` draws.
//!
//! A file is a header of 64 bytes and then records; all numbers are little-endian. The header and each record carry
//! checksums (CRC-32, IEEE 802.3), and the header knows the length of the whole file, so a file that ends early can be
//! told apart from one that was damaged: of the first, what is there counts; the second is refused.
//!
//! Pure: no clock, thread, file or MPI.

use std::ops::Range;

use crate::extent::Extent;

/// Raised when the layout changes. A file of another version is refused.
pub(crate) const VERSION: u32 = 1;

pub(super) const MAGIC: [u8; 8] = *b"rankfold";
const HEADER: usize = 64;
const RECORD: usize = 32;

/// What a file belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    /// The run, by the number it drew when it began.
    pub run: u64,
    /// The call of the run, counted from 1; 0 for what belongs to the run as a whole.
    pub call: u64,
    /// The number of leaves of the call.
    pub leaves: u64,
}

/// A file that was read: where its segments are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decoded {
    pub owner: Owner,
    /// Segments, with the place of their values in the file.
    pub segments: Vec<(Extent, Range<usize>)>,
    /// Some of it was computed without items that are poison.
    pub omits: bool,
    /// The file ends before its header says so: how many bytes it has, and how many it should have.
    pub torn: Option<(u64, u64)>,
}

/// Why a file is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("it does not begin like a file of a journal")]
    Foreign,
    #[error("it has format version {found}, and this program reads version {VERSION}")]
    Version { found: u32 },
    #[error("its {what} at byte {offset} is damaged: checksum {found:08x} instead of {expected:08x}")]
    Damaged { what: &'static str, offset: u64, found: u32, expected: u32 },
    #[error("its record at byte {offset} makes no sense: {problem}")]
    Senseless { offset: u64, problem: &'static str },
}

/// The bytes of a file.
pub(crate) fn encode(owner: Owner, segments: &[(Extent, Vec<u8>)]) -> Vec<u8> {
    encode_with(owner, segments, false)
}

/// The bytes of a file; whether some of it was computed without items that are poison.
pub(crate) fn encode_with(owner: Owner, segments: &[(Extent, Vec<u8>)], omits: bool) -> Vec<u8> {
    let length = HEADER + segments.iter().map(|(_, value)| RECORD + value.len()).sum::<usize>();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(u32::from(omits).to_le_bytes());
    for number in [owner.run, owner.call, owner.leaves, segments.len() as u64, length as u64] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend([0; 4]);
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    for (extent, value) in segments {
        let begin = bytes.len();
        for number in [extent.start, extent.len, value.len() as u64] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(crc32fast::hash(value).to_le_bytes());
        bytes.extend(crc32fast::hash(&bytes[begin..]).to_le_bytes());
        bytes.extend(value);
    }
    bytes
}

/// What a file holds.
///
/// # Errors
///
/// It is not of this format, or damaged: nothing in it is to be trusted.
pub(crate) fn decode(bytes: &[u8]) -> Result<Decoded, Refusal> {
    let nothing = Owner { run: 0, call: 0, leaves: 0 };
    let torn = |expected: u64| Some((bytes.len() as u64, expected));
    if !MAGIC.starts_with(&bytes[..bytes.len().min(MAGIC.len())]) {
        return Err(Refusal::Foreign);
    }
    let found = if bytes.len() < 12 { VERSION } else { number(bytes, 8, 4) as u32 };
    if found != VERSION {
        return Err(Refusal::Version { found });
    }
    if bytes.len() < HEADER {
        return Ok(Decoded { owner: nothing, segments: Vec::new(), omits: false, torn: torn(HEADER as u64) });
    }
    check(bytes, 0, HEADER, "header")?;
    let [run, call, leaves, count, length] = [16, 24, 32, 40, 48].map(|at| number(bytes, at, 8));
    if bytes.len() as u64 > length {
        return Err(Refusal::Senseless { offset: length, problem: "it lies behind the end of the file" });
    }
    let (owner, omits) = (Owner { run, call, leaves }, number(bytes, 12, 4) & 1 == 1);
    let (mut at, mut segments) = (HEADER, Vec::new());
    for _ in 0..count {
        if bytes.len() < at + RECORD {
            break;
        }
        check(bytes, at, RECORD, "record")?;
        let [start, len, size] = [0, 8, 16].map(|part| number(bytes, at + part, 8));
        let extent = Extent { start, len };
        let senseless = |problem| Refusal::Senseless { offset: at as u64, problem };
        let is_aligned = len.is_power_of_two() && start.is_multiple_of(len);
        // The root may reach beyond the last leaf, but not as far as twice.
        if !is_aligned || start >= leaves || len / 2 >= leaves || start.checked_add(len).is_none() {
            return Err(senseless("its leaves are not an aligned run of the call's"));
        }
        let value = at + RECORD..(at + RECORD).saturating_add(size as usize);
        if value.end as u64 > length {
            return Err(senseless("it ends behind the end of the file"));
        }
        if bytes.len() < value.end {
            break;
        }
        let (found, expected) = (crc32fast::hash(&bytes[value.clone()]), number(bytes, at + 24, 4) as u32);
        if found != expected {
            return Err(Refusal::Damaged { what: "value", offset: value.start as u64, found, expected });
        }
        at = value.end;
        segments.push((extent, value));
    }
    let torn = if (bytes.len() as u64) < length { torn(length) } else { None };
    Ok(Decoded { owner, segments, omits, torn })
}

/// A part of a file that ends with the checksum of what comes before in it.
pub(super) fn check(bytes: &[u8], at: usize, len: usize, what: &'static str) -> Result<(), Refusal> {
    let (found, expected) = (crc32fast::hash(&bytes[at..at + len - 4]), number(bytes, at + len - 4, 4) as u32);
    if found == expected { Ok(()) } else { Err(Refusal::Damaged { what, offset: at as u64, found, expected }) }
}

pub(super) fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    let mut number = [0; 8];
    number[..len].copy_from_slice(&bytes[at..at + len]);
    u64::from_le_bytes(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OWNER: Owner = Owner { run: 7, call: 3, leaves: 100 };

    fn example() -> Vec<u8> {
        encode(
            OWNER,
            &[(Extent::new(0, 4), b"first".to_vec()), (Extent::new(64, 64), vec![]), (Extent::new(8, 1), vec![9; 40])],
        )
    }

    fn values(bytes: &[u8], decoded: &Decoded) -> Vec<(Extent, Vec<u8>)> {
        decoded.segments.iter().map(|(extent, place)| (*extent, bytes[place.clone()].to_vec())).collect()
    }

    #[test]
    fn a_file_that_is_cut_anywhere_gives_whole_segments_or_none() {
        let whole = example();
        let all = values(&whole, &decode(&whole).unwrap());
        assert_eq!(all.len(), 3);
        for cut in 0..whole.len() {
            let part = &whole[..cut];
            let decoded = decode(part).unwrap();
            assert!(decoded.torn.is_some(), "cut at {cut}");
            assert!(all.starts_with(&values(part, &decoded)), "cut at {cut}");
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_refused() {
        let whole = example();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let refusal = decode(&bytes).expect_err(&format!("bit {bit}"));
            assert!(refusal.to_string().len() > 20, "{refusal}");
        }
    }

    #[test]
    fn what_was_left_out_is_written_on_the_file() {
        for omits in [false, true] {
            assert_eq!(decode(&encode_with(OWNER, &[], omits)).unwrap().omits, omits);
        }
    }

    #[test]
    fn another_version_is_named() {
        let mut bytes = example();
        bytes[8] = 2;
        assert_eq!(decode(&bytes), Err(Refusal::Version { found: 2 }));
        assert_eq!(decode(&bytes[..20]), Err(Refusal::Version { found: 2 }));
        assert_eq!(decode(b"PK\x03\x04"), Err(Refusal::Foreign));
    }

    #[test]
    fn leaves_beyond_the_root_are_refused() {
        let refused = |leaves: u64, extent: Extent| {
            let bytes = encode(Owner { leaves, ..OWNER }, &[(extent, vec![1])]);
            matches!(decode(&bytes), Err(Refusal::Senseless { offset: 64, .. }))
        };
        assert!(!refused(100, Extent::new(0, 128)), "the root reaches beyond the last leaf");
        assert!(refused(100, Extent::new(0, 256)));
        assert!(refused(100, Extent::new(128, 1)));
        assert!(refused(u64::MAX, Extent::new(1 << 63, 1 << 63)), "its end is no number");
        assert!(refused(100, Extent { start: 3, len: 2 }) && refused(100, Extent { start: 0, len: 0 }));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(parts in prop::collection::vec((0u64..20, 0u32..4, prop::collection::vec(any::<u8>(), 0..50)), 0..10)) {
            let segments: Vec<_> =
                parts.into_iter().map(|(index, level, value)| (Extent::new(index >> level << level, 1 << level), value)).collect();
            let bytes = encode(OWNER, &segments);
            let decoded = decode(&bytes).unwrap();
            prop_assert_eq!((decoded.owner, decoded.torn), (OWNER, None));
            prop_assert_eq!(values(&bytes, &decoded), segments);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), keep in 0usize..80) {
            let _ = decode(&bytes);
            let mut begun = example();
            begun.truncate(keep);
            begun.extend(bytes);
            let _ = decode(&begun);
        }
    }
}
