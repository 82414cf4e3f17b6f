//! Files that are compressed: told by their names, and read as a whole, since nobody can begin in the middle of one.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::StreamingDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};

use super::SourceError;

/// What a decoder of Zstandard has in memory at most, beside the contents: as much as the command `zstd` takes unasked.
const LONGEST_WINDOW: u64 = 1 << 27;
/// Bytes that are read from a file at a time.
const READ_AT_ONCE: usize = 256 << 10;

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    /// Members of gzip, one after the other (RFC 1952).
    Gzip,
    /// Frames of Zstandard, one after the other (RFC 8878).
    Zstd,
}

impl Compression {
    /// As the name says.
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "gz" => Some(Self::Gzip),
            "zst" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Adds the contents of a file to `contents`: of its first `length` bytes, since others may add to it.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is cut off, damaged, or not compressed that way.
    pub fn read(self, path: &Path, file: &File, length: u64, contents: &mut Vec<u8>) -> Result<(), SourceError> {
        let from_start = BufReader::with_capacity(READ_AT_ONCE, FromStart { file, at: 0, length });
        let name = match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        };
        self.read_all(from_start, contents).map_err(|error| {
            let path = path.display();
            if error.kind() == ErrorKind::OutOfMemory {
                let problem = format!("the contents of {path} do not fit in memory");
                return SourceError::new(problem, "cut the file into several, or decompress it");
            }
            let problem = format!("cannot decompress {path}: {error}");
            let remedy =
                format!("see what `{name} -t {path}` says; what is not from {name} needs a name that does not say so");
            SourceError::new(problem, remedy)
        })
    }

    fn read_all(self, source: impl BufRead, contents: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Gzip => MultiGzDecoder::new(source).read_to_end(contents).map(drop),
            Self::Zstd => read_frames(source, contents),
        }
    }
}

/// All frames; those that decoders are to skip are skipped.
fn read_frames(mut source: impl BufRead, contents: &mut Vec<u8>) -> io::Result<()> {
    while !source.fill_buf()?.is_empty() {
        match StreamingDecoder::new_with_max_window_size(&mut source, LONGEST_WINDOW) {
            Ok(mut frame) => {
                frame.read_to_end(contents)?;
                let [written, found] =
                    [frame.decoder.get_checksum_from_data(), frame.decoder.get_calculated_checksum()];
                if written.is_some() && written != found {
                    return Err(io::Error::other("the contents do not have the checksum that was written with them"));
                }
            }
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                let length = u64::from(length);
                if io::copy(&mut source.by_ref().take(length), &mut io::sink())? < length {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
            }
            Err(error) => return Err(io::Error::other(error)),
        }
    }
    Ok(())
}

/// The first bytes of a file, whoever else reads it, or adds to it, at the same time.
struct FromStart<'f> {
    file: &'f File,
    at: u64,
    length: u64,
}

impl Read for FromStart<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let most = bytes.len().min((self.length - self.at) as usize);
        let count = self.file.read_at(&mut bytes[..most], self.at)?;
        if count == 0 && most > 0 {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "it has become shorter while it was read"));
        }
        self.at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    impl Compression {
        pub fn compress(self, contents: &[u8]) -> Vec<u8> {
            match self {
                Self::Gzip => {
                    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                    encoder.write_all(contents).unwrap();
                    encoder.finish().unwrap()
                }
                Self::Zstd => ruzstd::encoding::compress_to_vec(contents, ruzstd::encoding::CompressionLevel::Fastest),
            }
        }

        fn decompress(self, mut bytes: &[u8]) -> io::Result<Vec<u8>> {
            let mut contents = Vec::new();
            self.read_all(&mut bytes, &mut contents).map(|()| contents)
        }
    }

    const ALL: [Compression; 2] = [Compression::Gzip, Compression::Zstd];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn files_that_are_laid_end_to_end_give_all_their_contents(
            contents in prop::collection::vec("[a-d\n]{0,400}", 1..5),
        ) {
            for compression in ALL {
                let all: Vec<u8> = contents.iter().flat_map(|text| compression.compress(text.as_bytes())).collect();
                prop_assert_eq!(compression.decompress(&all).unwrap(), contents.concat().into_bytes());
            }
        }

        #[test]
        fn what_was_cut_off_is_an_error(text in "[a-z ]{1,300}", cut in 1usize..1000) {
            for compression in ALL {
                let whole = compression.compress(text.as_bytes());
                let cut = 1 + cut % (whole.len() - 1);
                prop_assert!(compression.decompress(&whole[..cut]).is_err());
            }
        }
    }

    #[test]
    fn damage_is_an_error() {
        for compression in ALL {
            let mut bytes = compression.compress(b"what was written, and nothing else");
            let last = bytes.len() - 6;
            bytes[last] ^= 1;
            compression.decompress(&bytes).expect_err("a checksum tells");
        }
    }

    #[test]
    fn frames_of_somebody_elses_are_skipped() {
        let [one, two] = [&b"one"[..], b"two"].map(|text| Compression::Zstd.compress(text));
        let theirs = [&0x184D_2A50u32.to_le_bytes()[..], &5u32.to_le_bytes(), b"which"].concat();
        let all = [&theirs[..], &one, &theirs, &two, &theirs].concat();
        assert_eq!(Compression::Zstd.decompress(&all).unwrap(), b"onetwo");
    }

    /// What these commands write: gzip -9n, gzip -1n, zstd -19 --check.
    #[test]
    fn files_of_the_commands_are_read() {
        let members = [
            &b"\x1f\x8b\x08\0\0\0\0\0\x02\x03\xcb\xcf\x4b\xe5\x2a\x29\xcf\xe7\x02\0\xe6\x0b\xba\x12\x08\0\0\0"[..],
            b"\x1f\x8b\x08\0\0\0\0\0\x04\x03\x2b\xc9\x28\x4a\x4d\xe5\x02\0\xd8\xc5\x46\xff\x06\0\0\0",
        ];
        assert_eq!(Compression::Gzip.decompress(&members.concat()).unwrap(), b"one\ntwo\nthree\n");
        let frame = b"\x28\xb5\x2f\xfd\x04\x68\x41\0\0\x6f\x6e\x65\x0a\x74\x77\x6f\x0a\xe6\xa6\x0e\x40";
        assert_eq!(Compression::Zstd.decompress(frame).unwrap(), b"one\ntwo\n");
        let theirs = [&0x184D_2A50u32.to_le_bytes()[..], &5u32.to_le_bytes(), b"cut"].concat();
        Compression::Zstd.decompress(&[&frame[..], &theirs].concat()).expect_err("two bytes lack");
    }

    #[test]
    fn names_tell_how_files_are_compressed() {
        let of = |name: &str| Compression::of(Path::new(name));
        assert_eq!([of("a/b.txt.gz"), of("b.zst")], [Some(Compression::Gzip), Some(Compression::Zstd)]);
        assert_eq!([of("gz"), of("a.gz/b"), of(".gz")], [None; 3]);
    }
}
