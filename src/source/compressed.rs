//! Files that are compressed: told by their names, and read as a whole, since nobody can begin in the middle of one.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
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

    /// Adds the contents of a file to `contents`.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is cut off, damaged, or not compressed that way.
    pub fn read(self, path: &Path, file: &File, contents: &mut Vec<u8>) -> Result<(), SourceError> {
        let from_start = BufReader::with_capacity(READ_AT_ONCE, FromStart { file, at: 0 });
        let (name, test) = match self {
            Self::Gzip => ("gzip", "gzip -t"),
            Self::Zstd => ("zstd", "zstd -t"),
        };
        self.read_all(from_start, contents).map_err(|error| {
            let path = path.display();
            let problem = format!("cannot decompress {path}: {error}");
            let remedy =
                format!("see what `{test} {path}` says; what is not from {name} needs a name that does not say so");
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
                io::copy(&mut source.by_ref().take(length.into()), &mut io::sink())?;
            }
            Err(error) => return Err(io::Error::other(error)),
        }
    }
    Ok(())
}

/// A file from its start, whoever else reads it at the same time.
struct FromStart<'f> {
    file: &'f File,
    at: u64,
}

impl Read for FromStart<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(bytes, self.at)?;
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

    #[test]
    fn names_tell_how_files_are_compressed() {
        let of = |name: &str| Compression::of(Path::new(name));
        assert_eq!([of("a/b.txt.gz"), of("b.zst")], [Some(Compression::Gzip), Some(Compression::Zstd)]);
        assert_eq!([of("gz"), of("a.gz/b"), of(".gz")], [None; 3]);
    }
}
