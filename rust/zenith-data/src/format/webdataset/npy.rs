//! Arrays as `numpy.save` writes them.

use crate::field::DType;
use crate::{Error, Result};

const MAGIC: &[u8] = b"\x93NUMPY";
/// Headers are about as long as their shape is written; numpy itself refuses longer ones.
pub(super) const HEADER_BYTES_MAX: u64 = 10_000 + 12;
/// More dimensions than numpy has.
const DIMENSIONS_MAX: usize = 64;

/// What all arrays of a field are like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Array {
    pub dtype: DType,
    pub shape: Vec<usize>,
}

impl Array {
    /// Bytes of its elements.
    fn bytes(&self) -> Option<usize> {
        self.shape.iter().try_fold(self.dtype.width(), |bytes, &size| bytes.checked_mul(size))
    }
}

/// What the array is like, and where its elements begin. `bytes` may end behind the header.
pub(super) fn header(bytes: &[u8]) -> Result<(Array, usize)> {
    if bytes.get(..6) != Some(MAGIC) {
        return Err(Error::corrupt("it is no .npy array: its first bytes are not the magic"));
    }
    let cut = || Error::corrupt("the .npy array ends inside its header");
    let (start, len) = match bytes.get(6..12).ok_or_else(cut)? {
        [1, _, low, high, ..] => (10, u32::from(u16::from_le_bytes([*low, *high]))),
        [2 | 3, _, a, b, c, d] => (12, u32::from_le_bytes([*a, *b, *c, *d])),
        other => return Err(Error::unsupported(format!(".npy version {} is not known", other[0]))),
    };
    let end = start + len as usize;
    if end as u64 > HEADER_BYTES_MAX {
        return Err(Error::corrupt(format!("the .npy header claims {len} bytes")));
    }
    let text = String::from_utf8_lossy(bytes.get(start..end).ok_or_else(cut)?);
    let array = Array { dtype: dtype(&text)?, shape: shape(&text)? };
    if value(&text, "fortran_order") != Some("False") && array.shape.len() > 1 {
        return Err(Error::unsupported("the array is stored by columns. Save numpy.ascontiguousarray(array)"));
    }
    array.bytes().ok_or_else(|| Error::corrupt("the .npy array claims more elements than any memory holds"))?;
    Ok((array, end))
}

/// Copies the elements of an array that must be like `expected`.
pub(super) fn copy(bytes: &[u8], expected: &Array, into: &mut [u8]) -> Result<()> {
    let (found, start) = header(bytes)?;
    if found != *expected {
        let text = |array: &Array| format!("{} {:?}", array.dtype.name(), array.shape);
        let message = format!(
            "the array is {}, and that of the first sample {}. Save arrays of one shape and type, or ask for bytes",
            text(&found),
            text(expected)
        );
        return Err(Error::corrupt(message));
    }
    if bytes.len() - start != into.len() {
        let message = format!(
            "the .npy array has {} bytes of elements where its shape asks for {}",
            bytes.len() - start,
            into.len()
        );
        return Err(Error::corrupt(message));
    }
    into.copy_from_slice(&bytes[start..]);
    Ok(())
}

/// The text of `'key': value`, up to the next comma.
fn value<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    let rest = header.split_once(&format!("'{key}':"))?.1;
    Some(rest.split([',', '}']).next()?.trim())
}

fn dtype(header: &str) -> Result<DType> {
    let described = value(header, "descr").unwrap_or_default().trim_matches('\'');
    let dtype = match described {
        "|b1" => DType::Bool,
        "|u1" => DType::U8,
        "|i1" => DType::I8,
        "<u2" => DType::U16,
        "<i2" => DType::I16,
        "<u4" => DType::U32,
        "<i4" => DType::I32,
        "<u8" => DType::U64,
        "<i8" => DType::I64,
        "<f2" => DType::F16,
        "<f4" => DType::F32,
        "<f8" => DType::F64,
        _ => {
            let message =
                format!("arrays of descr {described:?} are not delivered: numbers and bools in little-endian are");
            return Err(Error::unsupported(message));
        }
    };
    Ok(dtype)
}

fn shape(header: &str) -> Result<Vec<usize>> {
    let inside = header.split_once("'shape':").and_then(|(_, rest)| rest.trim_start().strip_prefix('('));
    let inside = inside.and_then(|rest| rest.split_once(')')).map(|(inside, _)| inside);
    let sizes = inside.and_then(|inside| {
        let parts = inside.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(|part| part.parse().ok()).collect::<Option<Vec<usize>>>()
    });
    sizes
        .filter(|sizes| sizes.len() <= DIMENSIONS_MAX)
        .ok_or_else(|| Error::corrupt("the .npy header has no shape that makes sense"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn saved(header: &str, elements: &[u8]) -> Vec<u8> {
        let mut bytes = [MAGIC, &[1, 0], &(header.len() as u16).to_le_bytes(), header.as_bytes()].concat();
        bytes.extend_from_slice(elements);
        bytes
    }

    const HEADER: &str = "{'descr': '<i2', 'fortran_order': False, 'shape': (2, 3), }\n";

    #[test]
    fn elements_are_copied_and_other_arrays_refused() {
        let bytes = saved(HEADER, &[7; 12]);
        let (array, start) = header(&bytes).unwrap();
        assert_eq!((array.dtype, &array.shape[..], start), (DType::I16, &[2, 3][..], bytes.len() - 12));
        let mut into = [0; 12];
        copy(&bytes, &array, &mut into).unwrap();
        assert_eq!(into, [7; 12]);
        assert!(copy(&bytes[..bytes.len() - 1], &array, &mut into).is_err());
        let other = saved(&HEADER.replace("(2, 3)", "(3, 2)"), &[7; 12]);
        assert!(copy(&other, &array, &mut into).unwrap_err().message().contains("int16 [3, 2]"));
        assert_eq!(header(&saved(&HEADER.replace("(2, 3)", "()"), &[7; 2])).unwrap().0.shape, [0; 0]);
    }

    #[test]
    fn damage_is_an_error() {
        let bytes = saved(HEADER, &[7; 12]);
        for cut in 0..bytes.len() - 12 {
            assert_eq!(header(&bytes[..cut]).unwrap_err().kind(), ErrorKind::Corrupt, "cut at {cut}");
        }
        for (from, to) in
            [("<i2", ">i2"), ("<i2", "O"), ("False", "True"), ("2, 3", "2, x"), ("2, 3", "4294967296, 4294967296")]
        {
            header(&saved(&HEADER.replace(from, to), &[7; 12])).unwrap_err();
        }
    }
}
