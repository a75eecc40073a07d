//! Values of one element type, and their conversion to another: exact to integers, rounded to floats.

use bytemuck::{Pod, Zeroable};
use half::{bf16, f16};

use crate::field::DType;
use crate::rows::Column;

/// Values as the bits of their element type, so that four widths serve thirteen types.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    W1(Vec<u8>),
    W2(Vec<u16>),
    W4(Vec<u32>),
    W8(Vec<u64>),
}

/// Runs `$body` with `$vec` bound to the vector inside, whatever its width.
macro_rules! each_width {
    ($values:expr, $vec:ident => $body:expr) => {
        match $values {
            Values::W1($vec) => $body,
            Values::W2($vec) => $body,
            Values::W4($vec) => $body,
            Values::W8($vec) => $body,
        }
    };
}

impl Values {
    pub fn new(width: usize) -> Self {
        match width {
            1 => Values::W1(Vec::new()),
            2 => Values::W2(Vec::new()),
            4 => Values::W4(Vec::new()),
            _ => Values::W8(Vec::new()),
        }
    }

    pub fn width(&self) -> usize {
        match self {
            Values::W1(_) => 1,
            Values::W2(_) => 2,
            Values::W4(_) => 4,
            Values::W8(_) => 8,
        }
    }

    pub fn len(&self) -> usize {
        each_width!(self, v => v.len())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn clear(&mut self) {
        each_width!(self, v => v.clear());
    }

    pub fn bytes(&self) -> &[u8] {
        each_width!(self, v => bytemuck::cast_slice(v))
    }

    /// Room for `additional` more values, before they are appended.
    pub fn reserve(&mut self, additional: usize) -> crate::Result<()> {
        each_width!(self, v => crate::memory::room(v, additional))
    }

    /// Appends values given as little-endian bytes; a partial value at the end is left out.
    pub fn extend_bytes(&mut self, bytes: &[u8]) {
        each_width!(self, v => extend_pod(v, bytes));
    }

    /// Sets one value to the low bits of `bits`.
    pub fn set(&mut self, index: usize, bits: u64) {
        match self {
            Values::W1(v) => set(v, index, bits as u8),
            Values::W2(v) => set(v, index, bits as u16),
            Values::W4(v) => set(v, index, bits as u32),
            Values::W8(v) => set(v, index, bits),
        }
    }

    /// Grows or shrinks to `len` values, new ones being the low bits of `bits`.
    pub fn resize(&mut self, len: usize, bits: u64) {
        match self {
            Values::W1(v) => v.resize(len, bits as u8),
            Values::W2(v) => v.resize(len, bits as u16),
            Values::W4(v) => v.resize(len, bits as u32),
            Values::W8(v) => v.resize(len, bits),
        }
    }

    /// A column of `per_row` values a row.
    pub fn column(&self, per_row: usize) -> Column<'_> {
        column_of(self.bytes(), self.width(), per_row)
    }
}

/// A column over little-endian bytes; one that is not aligned, or has several values a row, goes by bytes.
pub fn column_of(bytes: &[u8], width: usize, per_row: usize) -> Column<'_> {
    let narrow = match (per_row, width) {
        (1, 1) => Some(Column::W1(bytes)),
        (1, 2) => bytemuck::try_cast_slice(bytes).ok().map(Column::W2),
        (1, 4) => bytemuck::try_cast_slice(bytes).ok().map(Column::W4),
        (1, 8) => bytemuck::try_cast_slice(bytes).ok().map(Column::W8),
        _ => None,
    };
    narrow.unwrap_or(Column::Wide { width: width * per_row, bytes })
}

fn set<T>(values: &mut [T], index: usize, value: T) {
    if let Some(slot) = values.get_mut(index) {
        *slot = value;
    }
}

/// Appends as many whole values as `bytes` holds, whatever its alignment.
pub(crate) fn extend_pod<T: Pod>(values: &mut Vec<T>, bytes: &[u8]) {
    let count = bytes.len() / size_of::<T>();
    let bytes = &bytes[..count * size_of::<T>()];
    match bytemuck::try_cast_slice(bytes) {
        Ok(aligned) => values.extend_from_slice(aligned),
        Err(_) => {
            let start = values.len();
            values.resize(start + count, T::zeroed());
            bytemuck::cast_slice_mut(&mut values[start..]).copy_from_slice(bytes);
        }
    }
}

/// A value that does not fit the element type it was to be converted to.
#[derive(Debug, Clone, PartialEq)]
pub struct Misfit {
    /// Its place in the slice that was given.
    pub index: usize,
    pub value: String,
}

/// Appends the values of `bytes`, whose type is `from`, to `out` as type `to`. `out` must have the width of `to`.
pub fn cast_append(bytes: &[u8], from: DType, to: DType, out: &mut Values) -> Result<(), Misfit> {
    if from == to || (from == DType::Bool && matches!(to, DType::U8 | DType::I8)) {
        out.extend_bytes(bytes);
        return Ok(());
    }
    macro_rules! to {
        ($a:ty, $( $dtype:ident $b:ty, $w:ident );* ) => {
            match (to, out) {
                $( (DType::$dtype, Values::$w(out)) => cast_slice::<$a, $b, _>(bytes, out), )*
                _ => Err(Misfit { index: 0, value: "a buffer of another width".into() }),
            }
        };
    }
    macro_rules! from {
        ($( $dtype:ident $a:ty );* ) => {
            match from {
                $( DType::$dtype => to!($a, Bool Truth, W1; U8 u8, W1; I8 i8, W1; U16 u16, W2; I16 i16, W2;
                    U32 u32, W4; I32 i32, W4; U64 u64, W8; I64 i64, W8; F16 f16, W2; BF16 bf16, W2; F32 f32, W4; F64 f64, W8), )*
            }
        };
    }
    from!(Bool Truth; U8 u8; I8 i8; U16 u16; I16 i16; U32 u32; I32 i32; U64 u64; I64 i64; F16 f16; BF16 bf16; F32 f32; F64 f64)
}

/// Converts values of one type to as many of another; the two slices have room for equally many.
pub type Cast = fn(&[u8], &mut [u8]) -> Result<(), Misfit>;

/// How values of type `from` become ones of type `to`. Finite numbers that would become infinite are misfits.
pub fn cast(from: DType, to: DType) -> Cast {
    macro_rules! to {
        ($a:ty, $( $dtype:ident $b:ty );* ) => {
            match to { $( DType::$dtype => cast_into::<$a, $b>, )* }
        };
    }
    macro_rules! from {
        ($( $dtype:ident $a:ty );* ) => {
            match from {
                $( DType::$dtype => to!($a, Bool Truth; U8 u8; I8 i8; U16 u16; I16 i16; U32 u32; I32 i32; U64 u64; I64 i64;
                    F16 f16; BF16 bf16; F32 f32; F64 f64), )*
            }
        };
    }
    from!(Bool Truth; U8 u8; I8 i8; U16 u16; I16 i16; U32 u32; I32 i32; U64 u64; I64 i64; F16 f16; BF16 bf16; F32 f32; F64 f64)
}

fn cast_into<A, B>(values: &[u8], into: &mut [u8]) -> Result<(), Misfit>
where
    A: Pod + CastTo<B> + Finite + std::fmt::Debug,
    B: Pod + Finite,
{
    let pairs = values.chunks_exact(size_of::<A>()).zip(into.chunks_exact_mut(size_of::<B>()));
    for (index, (from, target)) in pairs.enumerate() {
        let value: A = bytemuck::pod_read_unaligned(from);
        match value.cast_to() {
            Some(cast) if cast.is_finite() || !value.is_finite() => target.copy_from_slice(bytemuck::bytes_of(&cast)),
            _ => return Err(Misfit { index, value: format!("{value:?}") }),
        }
    }
    Ok(())
}

/// The bits of one number in type `to`, if it fits.
pub fn scalar_bits(bytes: &[u8], from: DType, to: DType) -> Option<u64> {
    let mut out = Values::new(to.width());
    cast_append(bytes, from, to, &mut out).ok()?;
    match out {
        Values::W1(v) => v.first().map(|&b| b.into()),
        Values::W2(v) => v.first().map(|&b| b.into()),
        Values::W4(v) => v.first().map(|&b| b.into()),
        Values::W8(v) => v.first().copied(),
    }
}

fn cast_slice<A, B, W>(bytes: &[u8], out: &mut Vec<W>) -> Result<(), Misfit>
where
    A: Pod + CastTo<B> + std::fmt::Debug,
    B: Pod,
    W: Pod,
{
    let count = bytes.len() / size_of::<A>();
    out.reserve(count);
    for (index, chunk) in bytes.chunks_exact(size_of::<A>()).enumerate() {
        let value: A = bytemuck::pod_read_unaligned(chunk);
        match value.cast_to() {
            Some(cast) => out.push(bytemuck::cast(cast)),
            None => return Err(Misfit { index, value: format!("{value:?}") }),
        }
    }
    Ok(())
}

/// A boolean as the byte 0 or 1.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(transparent)]
struct Truth(u8);

impl std::fmt::Debug for Truth {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (self.0 != 0).fmt(out)
    }
}

/// Whether a number is one: floats may also be infinite or no number.
trait Finite: Copy {
    #[inline(always)]
    fn is_finite(self) -> bool {
        true
    }
}

macro_rules! finite {
    ($( $integer:ty ),*; $( $float:ty ),*) => {
        $( impl Finite for $integer {} )*
        $( impl Finite for $float {
            #[inline(always)]
            fn is_finite(self) -> bool {
                <$float>::is_finite(self)
            }
        } )*
    };
}
finite!(Truth, u8, i8, u16, i16, u32, i32, u64, i64; f16, bf16, f32, f64);

/// Conversion that fails rather than lose an integer's value.
trait CastTo<B> {
    fn cast_to(self) -> Option<B>;
}

macro_rules! cast {
    ($( $a:ty => $b:ty, |$v:ident| $body:expr );* $(;)?) => { $( impl CastTo<$b> for $a { #[inline(always)] fn cast_to(self) -> Option<$b> { let $v = self; $body } } )* };
}

macro_rules! from_integer {
    ($( $a:ty ),*) => { $(
        cast! {
            $a => u8, |v| u8::try_from(v).ok(); $a => i8, |v| i8::try_from(v).ok();
            $a => u16, |v| u16::try_from(v).ok(); $a => i16, |v| i16::try_from(v).ok();
            $a => u32, |v| u32::try_from(v).ok(); $a => i32, |v| i32::try_from(v).ok();
            $a => u64, |v| u64::try_from(v).ok(); $a => i64, |v| i64::try_from(v).ok();
            $a => f32, |v| Some(v as f32); $a => f64, |v| Some(v as f64);
            $a => f16, |v| Some(f16::from_f64(v as f64)); $a => bf16, |v| Some(bf16::from_f64(v as f64));
            $a => Truth, |v| match v { 0 => Some(Truth(0)), 1 => Some(Truth(1)), _ => None };
        }
        cast! { Truth => $a, |v| Some(<$a>::from(v.0 != 0)); }
    )* };
}
from_integer!(u8, i8, u16, i16, u32, i32, u64, i64);

/// The integer that a float is, if it is one and fits.
macro_rules! whole {
    ($v:expr, $b:ty) => {{
        let v: f64 = $v;
        // Both bounds are powers of two (or zero), hence exact.
        let (low, high) = (<$b>::MIN as f64, 2.0 * ((<$b>::MAX / 2 + 1) as f64));
        (v.trunc() == v && v >= low && v < high).then_some(v as $b)
    }};
}

macro_rules! from_float {
    ($( $a:ty, |$w:ident| $wide:expr );*) => { $(
        cast! {
            $a => u8, |$w| whole!($wide, u8); $a => i8, |$w| whole!($wide, i8);
            $a => u16, |$w| whole!($wide, u16); $a => i16, |$w| whole!($wide, i16);
            $a => u32, |$w| whole!($wide, u32); $a => i32, |$w| whole!($wide, i32);
            $a => u64, |$w| whole!($wide, u64); $a => i64, |$w| whole!($wide, i64);
            $a => f64, |$w| Some($wide); $a => f32, |$w| Some($wide as f32);
            $a => f16, |$w| Some(f16::from_f64($wide)); $a => bf16, |$w| Some(bf16::from_f64($wide));
            $a => Truth, |$w| if $wide == 0.0 { Some(Truth(0)) } else if $wide == 1.0 { Some(Truth(1)) } else { None };
        }
    )* };
}
from_float!(f64, |v| v; f32, |v| f64::from(v); f16, |v| v.to_f64(); bf16, |v| v.to_f64());

cast! {
    Truth => Truth, |v| Some(v);
    Truth => f32, |v| Some(f32::from(v.0.min(1))); Truth => f64, |v| Some(f64::from(v.0.min(1)));
    Truth => f16, |v| Some(f16::from_f32(f32::from(v.0.min(1)))); Truth => bf16, |v| Some(bf16::from_f32(f32::from(v.0.min(1))));
}

/// The type that holds every value of both, as numpy promotes.
pub fn promote(a: DType, b: DType) -> DType {
    use DType::*;
    if a == b {
        return a;
    }
    let class = |dtype: DType| match dtype {
        Bool => 0,
        U8 | U16 | U32 | U64 => 1,
        I8 | I16 | I32 | I64 => 2,
        F16 | BF16 | F32 | F64 => 3,
    };
    let (low, high) = if class(a) <= class(b) { (a, b) } else { (b, a) };
    match (class(low), class(high)) {
        (0, _) => high,
        (1, 1) | (2, 2) => {
            if low.width() >= high.width() {
                low
            } else {
                high
            }
        }
        (1, 2) => match low.width().max(high.width() / 2) {
            _ if high.width() > low.width() => high,
            1 => I16,
            2 => I32,
            4 => I64,
            _ => F64,
        },
        (3, 3) if low.width() == high.width() => F32,
        (3, 3) => {
            if low.width() >= high.width() {
                low
            } else {
                high
            }
        }
        // An integer of n bytes needs a float of more than n bytes to stay exact, 64 bits being as far as it goes.
        _ => match low.width() {
            1 => high,
            2 if high.width() < 4 => F32,
            2 => high,
            _ => F64,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cast(from: DType, to: DType, bytes: &[u8]) -> Result<Values, Misfit> {
        let mut out = Values::new(to.width());
        cast_append(bytes, from, to, &mut out).map(|()| out)
    }

    #[test]
    fn integers_fit_or_are_refused_and_floats_are_rounded() {
        let ints = [1i64, -1, 300, i64::MAX];
        let bytes: &[u8] = bytemuck::cast_slice(&ints);
        assert_eq!(cast(DType::I64, DType::U8, bytes).unwrap_err().index, 1);
        assert_eq!(
            cast(DType::I64, DType::F32, bytes).unwrap(),
            Values::W4(ints.iter().map(|&v| (v as f32).to_bits()).collect())
        );
        let floats = [1.0f64, 255.0, 1.5];
        let error = cast(DType::F64, DType::U8, bytemuck::cast_slice(&floats)).unwrap_err();
        assert_eq!((error.index, error.value.as_str()), (2, "1.5"));
        for edge in [9_223_372_036_854_775_808.0f64, f64::NAN, f64::INFINITY] {
            assert!(cast(DType::F64, DType::I64, bytemuck::bytes_of(&edge)).is_err(), "{edge}");
        }
        assert!(cast(DType::F64, DType::U64, bytemuck::bytes_of(&18_446_744_073_709_551_616.0f64)).is_err());
        assert_eq!(
            cast(DType::F64, DType::I64, bytemuck::bytes_of(&(i64::MIN as f64))).unwrap(),
            Values::W8(vec![1 << 63])
        );
        assert_eq!(cast(DType::U8, DType::Bool, &[0, 1]).unwrap(), Values::W1(vec![0, 1]));
        assert!(cast(DType::U8, DType::Bool, &[2]).is_err());
    }

    #[test]
    fn rows_are_cast_as_columns_are_but_for_numbers_that_become_infinite() {
        let ints = [3i64, -5, 70_000];
        let bytes: &[u8] = bytemuck::cast_slice(&ints);
        for (from, to) in [(DType::I64, DType::I32), (DType::I64, DType::BF16), (DType::I64, DType::I64)] {
            let mut into = vec![0; 3 * to.width()];
            super::cast(from, to)(bytes, &mut into).unwrap();
            assert_eq!(into, cast(from, to, bytes).unwrap().bytes());
        }
        let error = super::cast(DType::I64, DType::I16)(bytes, &mut [0; 6]).unwrap_err();
        assert_eq!(error, Misfit { index: 2, value: "70000".into() });
        let mut into = [0; 16];
        let doubles = [f64::NAN, f64::INFINITY, 1.0 + f64::EPSILON, 1e39];
        let error = super::cast(DType::F64, DType::F32)(bytemuck::cast_slice(&doubles), &mut into).unwrap_err();
        assert_eq!(error, Misfit { index: 3, value: "1e39".into() });
        let singles: &[f32] = bytemuck::cast_slice(&into);
        assert!(singles[0].is_nan() && singles[1..3] == [f32::INFINITY, 1.0]);
    }

    #[test]
    fn promotion_is_numpys() {
        use DType::*;
        for (a, b, both) in [
            (U8, I8, I16),
            (U32, I8, I64),
            (U64, I8, F64),
            (I32, F32, F64),
            (I16, F32, F32),
            (U8, I64, I64),
            (I16, F16, F32),
            (F16, BF16, F32),
            (Bool, U8, U8),
            (F32, F64, F64),
            (U16, U32, U32),
            (U8, F16, F16),
        ] {
            assert_eq!((promote(a, b), promote(b, a)), (both, both), "{a:?} {b:?}");
        }
    }
}
