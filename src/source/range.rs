//! Integer ranges as sources: an item is its own index, nothing travels, `N = 10^18` costs nothing.

#![allow(clippy::cast_lossless, reason = "the macro's casts are lossless for some of its types only")]

use std::ops::{Range, RangeInclusive};

use super::{Source, SourceError};

macro_rules! range_source {
    ($($integer:ty),*) => {$(
        impl Source for Range<$integer> {
            type Item = $integer;
            type Batch = Range<$integer>;
            type Parcel = ();

            fn kind(&self) -> &'static str {
                concat!("range of ", stringify!($integer))
            }

            fn len(&self) -> Result<u64, SourceError> {
                if self.start >= self.end {
                    return Ok(0);
                }
                // Two's complement: the difference of the bounds is exact even from MIN to MAX.
                Ok((self.end as i128 - self.start as i128) as u64)
            }

            fn fingerprint(&self) -> u64 {
                self.start as u64
            }

            fn unpack(&self, _range: Range<u64>, _bytes: &[u8]) -> Result<(), SourceError> {
                Ok(())
            }

            fn read(&self, _parcel: &(), range: Range<u64>) -> Result<Range<$integer>, SourceError> {
                let at = |index: u64| (self.start as i128 + i128::from(index)) as $integer;
                Ok(at(range.start)..at(range.end))
            }

            fn describe(&self, range: Range<u64>, nth: u64) -> String {
                format!("item {}", self.start as i128 + i128::from(range.start) + i128::from(nth))
            }
        }

        impl Source for RangeInclusive<$integer> {
            type Item = $integer;
            type Batch = RangeInclusive<$integer>;
            type Parcel = ();

            fn kind(&self) -> &'static str {
                concat!("inclusive range of ", stringify!($integer))
            }

            fn len(&self) -> Result<u64, SourceError> {
                if self.is_empty() {
                    return Ok(0);
                }
                u64::try_from(*self.end() as i128 - *self.start() as i128 + 1).map_err(|_| {
                    SourceError::new(format!("the range {self:?} has 2^64 items"), "leave one of them out")
                })
            }

            fn fingerprint(&self) -> u64 {
                *self.start() as u64
            }

            fn unpack(&self, _range: Range<u64>, _bytes: &[u8]) -> Result<(), SourceError> {
                Ok(())
            }

            fn read(&self, _parcel: &(), range: Range<u64>) -> Result<Self::Batch, SourceError> {
                let at = |index: u64| (*self.start() as i128 + i128::from(index)) as $integer;
                // The library never asks for an empty range, so the last item exists.
                Ok(at(range.start)..=at(range.end - 1))
            }

            fn describe(&self, range: Range<u64>, nth: u64) -> String {
                format!("item {}", *self.start() as i128 + i128::from(range.start) + i128::from(nth))
            }
        }
    )*};
}

range_source!(u64, u32, usize, i64, i32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_that_starts_below_zero_keeps_its_values() {
        let range = -5i64..5;
        assert_eq!(range.len(), Ok(10));
        assert_eq!(range.read(&(), 3..6), Ok(-2..1));
        assert_eq!(range.describe(0..10, 1), "item -4");
    }

    #[test]
    fn an_inclusive_range_has_its_last_item() {
        assert_eq!(Source::len(&(1u32..=10)), Ok(10));
        assert_eq!((1u32..=10).read(&(), 8..10), Ok(9..=10));
        assert_eq!(Source::len(&(i64::MIN..=i64::MAX - 1)), Ok(u64::MAX));
        assert!(Source::len(&(0..=u64::MAX)).is_err());
    }

    #[test]
    fn the_widest_range_has_an_exact_length() {
        assert_eq!(Source::len(&(i64::MIN..i64::MAX)), Ok(u64::MAX));
        #[expect(clippy::reversed_empty_ranges, reason = "users may pass one")]
        let reversed = 5u64..3;
        assert_eq!(Source::len(&reversed), Ok(0));
    }
}
