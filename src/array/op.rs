//! Operations on two numbers, for arrays that are combined element by element.
//!
//! They are plain functions, so they serve as combiners of single values as well, and any function of one's own can take
//! their place. What is special about these: the MPI library knows them too (MPI 4.0, section 6.9.2), so that it can reduce
//! with them by itself where the order does not matter.
//!
//! # Examples
//!
//! ```
//! use rankfold::op;
//!
//! # fn main() -> rankfold::Result<()> {
//! let world = rankfold::init()?;
//! assert_eq!(world.map_reduce(1..=10u64, |i| i, op::sum)?, 55);
//! assert_eq!(world.all_reduce(&vec![1.0, -2.0], op::max)?, [1.0, -2.0]);
//! # Ok(())
//! # }
//! ```

use std::any::TypeId;
use std::num::Wrapping;
use std::ops::{Add, BitAnd, BitOr, BitXor, Mul};

use bytemuck::Pod;

use super::fold_bytes;

/// `a + b`.
///
/// # Examples
///
/// ```
/// assert_eq!(rankfold::op::sum(2, 3), 5);
/// ```
#[inline]
pub fn sum<T: Add<Output = T>>(a: T, b: T) -> T {
    a + b
}

/// `a * b`.
///
/// # Examples
///
/// ```
/// assert_eq!(rankfold::op::prod(2, 3), 6);
/// ```
#[inline]
pub fn prod<T: Mul<Output = T>>(a: T, b: T) -> T {
    a * b
}

/// The smaller one; the first where neither is, as with a NaN.
///
/// # Examples
///
/// ```
/// assert_eq!(rankfold::op::min(2.5, 3.5), 2.5);
/// ```
#[inline]
pub fn min<T: PartialOrd>(a: T, b: T) -> T {
    if b < a { b } else { a }
}

/// The greater one; the first where neither is, as with a NaN.
///
/// # Examples
///
/// ```
/// assert_eq!(rankfold::op::max(2.5, 3.5), 3.5);
/// ```
#[inline]
pub fn max<T: PartialOrd>(a: T, b: T) -> T {
    if b > a { b } else { a }
}

/// The bits that are set in both.
///
/// # Examples
///
/// ```
/// assert_eq!(rankfold::op::bit_and(0b110, 0b011), 0b010);
/// ```
#[inline]
pub fn bit_and<T: BitAnd<Output = T>>(a: T, b: T) -> T {
    a & b
}

/// The bits that are set in one or both.
///
/// # Examples
///
/// ```
/// assert_eq!(rankfold::op::bit_or(0b110, 0b011), 0b111);
/// ```
#[inline]
pub fn bit_or<T: BitOr<Output = T>>(a: T, b: T) -> T {
    a | b
}

/// The bits that are set in exactly one.
///
/// # Examples
///
/// ```
/// assert_eq!(rankfold::op::bit_xor(0b110, 0b011), 0b101);
/// ```
#[inline]
pub fn bit_xor<T: BitXor<Output = T>>(a: T, b: T) -> T {
    a ^ b
}

/// An operation of this module on one type of number, by which the MPI library knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BuiltIn {
    pub number: Number,
    pub operation: Operation,
}

/// The numbers that MPI can reduce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Number {
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    F32,
    F64,
}

impl Number {
    /// What `isize` and `usize` are: clusters have had 64 bits for long, and 32 before.
    const INT: Self = if size_of::<isize>() == 8 { Self::I64 } else { Self::I32 };
    const UINT: Self = if size_of::<usize>() == 8 { Self::U64 } else { Self::U32 };

    /// Its bytes.
    pub fn size(self) -> usize {
        match self {
            Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::I64 | Self::U64 | Self::F64 => 8,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Sum,
    Prod,
    Min,
    Max,
    And,
    Or,
    Xor,
}

impl BuiltIn {
    /// What the function `O` on two `E` is, if it is one of this module.
    pub fn of<E: 'static, O: 'static>() -> Option<Self> {
        let (element, function) = (TypeId::of::<E>(), TypeId::of::<O>());
        macro_rules! look {
            ($($number:ident $type:ty: $($operation:ident $name:ident)*;)*) => {$(
                if element == TypeId::of::<$type>() {
                    let number = Number::$number;
                    $(if function == id($name::<$type>) { return Some(Self { number, operation: Operation::$operation }); })*
                }
            )*};
        }
        look! {
            I8 i8: Sum sum Prod prod Min min Max max And bit_and Or bit_or Xor bit_xor;
            I16 i16: Sum sum Prod prod Min min Max max And bit_and Or bit_or Xor bit_xor;
            I32 i32: Sum sum Prod prod Min min Max max And bit_and Or bit_or Xor bit_xor;
            I64 i64: Sum sum Prod prod Min min Max max And bit_and Or bit_or Xor bit_xor;
            U8 u8: Sum sum Prod prod Min min Max max And bit_and Or bit_or Xor bit_xor;
            U16 u16: Sum sum Prod prod Min min Max max And bit_and Or bit_or Xor bit_xor;
            U32 u32: Sum sum Prod prod Min min Max max And bit_and Or bit_or Xor bit_xor;
            U64 u64: Sum sum Prod prod Min min Max max And bit_and Or bit_or Xor bit_xor;
            INT isize: Sum sum Prod prod Min min Max max And bit_and Or bit_or Xor bit_xor;
            UINT usize: Sum sum Prod prod Min min Max max And bit_and Or bit_or Xor bit_xor;
            F32 f32: Sum sum Prod prod Min min Max max;
            F64 f64: Sum sum Prod prod Min min Max max;
        }
        None
    }

    /// Whether the result is the same in any order.
    pub fn is_exact(self) -> bool {
        !matches!(self.number, Number::F32 | Number::F64)
    }

    /// Folds numbers, as bytes, into others, for transports that are no MPI library. Integers wrap around, as MPI's do.
    pub fn fold(self, into: &mut [u8], other: &[u8]) {
        match self.number {
            Number::I8 => self.fold_integers::<Wrapping<i8>>(into, other),
            Number::I16 => self.fold_integers::<Wrapping<i16>>(into, other),
            Number::I32 => self.fold_integers::<Wrapping<i32>>(into, other),
            Number::I64 => self.fold_integers::<Wrapping<i64>>(into, other),
            Number::U8 => self.fold_integers::<Wrapping<u8>>(into, other),
            Number::U16 => self.fold_integers::<Wrapping<u16>>(into, other),
            Number::U32 => self.fold_integers::<Wrapping<u32>>(into, other),
            Number::U64 => self.fold_integers::<Wrapping<u64>>(into, other),
            Number::F32 => self.fold_floats::<f32>(into, other),
            Number::F64 => self.fold_floats::<f64>(into, other),
        }
    }

    /// Writes numbers that change nothing when they are combined with others.
    pub fn make_neutral(self, numbers: &mut [u8]) {
        if self.operation == Operation::And {
            return numbers.fill(0xFF);
        }
        macro_rules! fill {
            ($($number:ident $type:ty: $zero:expr, $least:expr, $most:expr;)*) => {
                match self.number {
                    $(Number::$number => {
                        let neutral: $type = match self.operation {
                            Operation::Sum | Operation::And | Operation::Or | Operation::Xor => $zero,
                            Operation::Prod => 1 as $type,
                            Operation::Min => $most,
                            Operation::Max => $least,
                        };
                        numbers.chunks_exact_mut(size_of::<$type>()).for_each(|number| number.copy_from_slice(bytemuck::bytes_of(&neutral)));
                    })*
                }
            };
        }
        fill! {
            I8 i8: 0, i8::MIN, i8::MAX;
            I16 i16: 0, i16::MIN, i16::MAX;
            I32 i32: 0, i32::MIN, i32::MAX;
            I64 i64: 0, i64::MIN, i64::MAX;
            U8 u8: 0, u8::MIN, u8::MAX;
            U16 u16: 0, u16::MIN, u16::MAX;
            U32 u32: 0, u32::MIN, u32::MAX;
            U64 u64: 0, u64::MIN, u64::MAX;
            // The sum of it and 0.0 is 0.0, and of it and itself is itself.
            F32 f32: -0.0, f32::NEG_INFINITY, f32::INFINITY;
            F64 f64: -0.0, f64::NEG_INFINITY, f64::INFINITY;
        }
    }

    // Each operation has a loop of its own, which the compiler can see through.
    fn fold_floats<F: Pod + Add<Output = F> + Mul<Output = F> + PartialOrd>(self, into: &mut [u8], other: &[u8]) {
        match self.operation {
            Operation::Sum => fold_bytes(into, other, &sum::<F>),
            Operation::Prod => fold_bytes(into, other, &prod::<F>),
            Operation::Min => fold_bytes(into, other, &min::<F>),
            Operation::Max => fold_bytes(into, other, &max::<F>),
            Operation::And | Operation::Or | Operation::Xor => unreachable!("floats have no bit operations"),
        }
    }

    fn fold_integers<I>(self, into: &mut [u8], other: &[u8])
    where
        I: Pod
            + Add<Output = I>
            + Mul<Output = I>
            + PartialOrd
            + BitAnd<Output = I>
            + BitOr<Output = I>
            + BitXor<Output = I>,
    {
        match self.operation {
            Operation::Sum => fold_bytes(into, other, &sum::<I>),
            Operation::Prod => fold_bytes(into, other, &prod::<I>),
            Operation::Min => fold_bytes(into, other, &min::<I>),
            Operation::Max => fold_bytes(into, other, &max::<I>),
            Operation::And => fold_bytes(into, other, &bit_and::<I>),
            Operation::Or => fold_bytes(into, other, &bit_or::<I>),
            Operation::Xor => fold_bytes(into, other, &bit_xor::<I>),
        }
    }
}

fn id<F: 'static>(_: F) -> TypeId {
    TypeId::of::<F>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_functions_of_this_module_are_recognised_and_no_others() {
        fn of<E: 'static, O: Fn(E, E) -> E + 'static>(_: O) -> Option<BuiltIn> {
            BuiltIn::of::<E, O>()
        }
        let sum_of = |number| Some(BuiltIn { number, operation: Operation::Sum });
        assert_eq!(of(sum::<f64>), sum_of(Number::F64));
        assert_eq!(of(sum::<u8>), sum_of(Number::U8));
        assert_eq!(of(bit_xor::<i16>), Some(BuiltIn { number: Number::I16, operation: Operation::Xor }));
        assert_eq!(of(|a: f64, b: f64| a + b), None);
        assert_eq!(of(sum::<i128>), None);
        let most = of(max::<usize>).map(|known| (known.number.size(), known.operation));
        assert_eq!(most, Some((size_of::<usize>(), Operation::Max)));
    }

    #[test]
    fn what_is_neutral_changes_no_number() {
        fn check<E: Pod + PartialEq + std::fmt::Debug>(number: Number, operations: &[Operation], values: &[E]) {
            for operation in operations {
                let known = BuiltIn { number, operation: *operation };
                let mut bytes = vec![0; size_of_val(values)];
                known.make_neutral(&mut bytes);
                known.fold(&mut bytes, bytemuck::cast_slice(values));
                assert_eq!(bytes, bytemuck::cast_slice::<E, u8>(values), "{known:?}");
            }
        }
        use Operation::*;
        check(Number::I16, &[Sum, Prod, Min, Max, And, Or, Xor], &[i16::MIN, -1, 0, 1, i16::MAX]);
        check(Number::U64, &[Sum, Prod, Min, Max, And, Or, Xor], &[0, 1, 7, u64::MAX]);
        check(Number::F32, &[Sum, Prod, Min, Max], &[f32::NEG_INFINITY, -1.5, -0.0, 0.0, f32::MAX, f32::INFINITY]);
    }

    #[test]
    fn numbers_are_folded_as_bytes() {
        let sums = BuiltIn { number: Number::I32, operation: Operation::Sum };
        let mut bytes = bytemuck::cast_slice::<i32, u8>(&[1, i32::MAX]).to_vec();
        sums.fold(&mut bytes, bytemuck::cast_slice(&[5i32, 1]));
        assert_eq!(bytemuck::pod_collect_to_vec::<u8, i32>(&bytes), [6, i32::MIN]);
        let least = BuiltIn { number: Number::F64, operation: Operation::Min };
        let mut bytes = bytemuck::cast_slice::<f64, u8>(&[1.0, -0.5]).to_vec();
        least.fold(&mut bytes, bytemuck::cast_slice(&[0.5, 7.0]));
        assert_eq!(bytemuck::pod_collect_to_vec::<u8, f64>(&bytes), [0.5, -0.5]);
    }
}
