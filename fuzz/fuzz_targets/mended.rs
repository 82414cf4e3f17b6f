//! Chance never finds a checksum. The first byte says what of a file is made right, as `docs/journal.md` draws it; the
//! rest is the file.

const HEADER: usize = 64;
const RECORD: usize = 32;

pub fn file(bytes: &[u8]) -> Vec<u8> {
    let Some((wanted, file)) = bytes.split_first() else { return Vec::new() };
    let mut file = file.to_vec();
    let length = file.len() as u64;
    if file.len() < HEADER {
        return file;
    }
    if wanted & 1 == 0 {
        file[..16].copy_from_slice(b"rankfold\x01\0\0\0\0\0\0\0");
    }
    if wanted & 2 == 0 {
        file[48..56].copy_from_slice(&length.to_le_bytes());
    }
    if wanted & 4 == 0 {
        checksums(&mut file);
    }
    file
}

fn checksums(file: &mut [u8]) {
    seal(&mut file[..HEADER]);
    let mut rest = &mut file[HEADER..];
    while rest.len() >= RECORD {
        let (record, behind) = rest.split_at_mut(RECORD);
        let size = u64::from_le_bytes(record[16..24].try_into().expect("eight bytes"));
        let size = usize::try_from(size).unwrap_or(usize::MAX).min(behind.len());
        let (value, behind) = behind.split_at_mut(size);
        record[24..28].copy_from_slice(&crc32fast::hash(value).to_le_bytes());
        seal(record);
        rest = behind;
    }
}

/// The last four bytes are the checksum of those before.
fn seal(part: &mut [u8]) {
    let (content, checksum) = part.split_at_mut(part.len() - 4);
    checksum.copy_from_slice(&crc32fast::hash(content).to_le_bytes());
}
