//! Numbers and truth values out of text.

use lexical_core::FromLexical;

use crate::field::DType;
use crate::format::cast::scalar_bits;

/// Whether it is written as an integer, however large.
pub(super) fn is_integer(text: &[u8]) -> bool {
    let digits = match text {
        [b'+' | b'-', digits @ ..] => digits,
        digits => digits,
    };
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

/// An integer of at most 64 bits.
pub(super) fn integer(text: &[u8]) -> Option<i128> {
    if let Ok(value) = lexical_core::parse::<i64>(text) {
        return Some(i128::from(value));
    }
    lexical_core::parse::<u64>(text).ok().map(i128::from)
}

/// The nearest float; also `nan`, `inf` and `infinity`, in any case.
pub(super) fn float<T: FromLexical>(text: &[u8]) -> Option<T> {
    lexical_core::parse(text).ok()
}

pub(super) fn truth(text: &[u8]) -> Option<bool> {
    match text {
        b"true" | b"True" | b"TRUE" => Some(true),
        b"false" | b"False" | b"FALSE" => Some(false),
        _ => None,
    }
}

/// The bits of what `text` says as a `dtype`. To an integer it must fit exactly, to a float it is rounded.
pub(super) fn bits(text: &[u8], dtype: DType) -> Option<u64> {
    match dtype {
        DType::F32 => float::<f32>(text).map(|value| u64::from(value.to_bits())),
        DType::F64 => float::<f64>(text).map(f64::to_bits),
        DType::F16 | DType::BF16 => scalar_bits(&float::<f64>(text)?.to_le_bytes(), DType::F64, dtype),
        DType::Bool => match text {
            b"1" => Some(1),
            b"0" => Some(0),
            _ => truth(text).map(u64::from),
        },
        _ => match integer(text) {
            Some(value) => integer_bits(value, dtype),
            None if is_integer(text) => None,
            // 3.0 and 1e3 are integers to whoever asked for one.
            None => scalar_bits(&float::<f64>(text)?.to_le_bytes(), DType::F64, dtype),
        },
    }
}

/// The bits of `value` as an integer type, if it fits.
pub(super) fn integer_bits(value: i128, dtype: DType) -> Option<u64> {
    let (least, most): (i128, i128) = match dtype {
        DType::U8 => (0, u8::MAX.into()),
        DType::U16 => (0, u16::MAX.into()),
        DType::U32 => (0, u32::MAX.into()),
        DType::U64 => (0, u64::MAX.into()),
        DType::I8 => (i8::MIN.into(), i8::MAX.into()),
        DType::I16 => (i16::MIN.into(), i16::MAX.into()),
        DType::I32 => (i32::MIN.into(), i32::MAX.into()),
        DType::I64 => (i64::MIN.into(), i64::MAX.into()),
        _ => return None,
    };
    // The low bits of a two's complement are those of the narrower type.
    (least..=most).contains(&value).then_some(value as u64)
}
