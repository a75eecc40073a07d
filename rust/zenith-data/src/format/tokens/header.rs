//! How many tokens a file holds, of which type, and where they begin.

use super::TokenFile;
use crate::field::DType;
use crate::storage::{Range, Source, Storage};
use crate::{Error, Result};

const NPY_MAGIC: &[u8] = b"\x93NUMPY";
/// A `.npy` header of a one-dimensional array takes 128 bytes; far more is not one.
const NPY_HEADER_MAX: u64 = 64 << 10;

pub(super) fn inspect(storage: &dyn Storage, sources: &[Source], index: u32, dtype: &str) -> Result<TokenFile> {
    let source = &sources[index as usize];
    let file = if source.location.ends_with(".npy") { npy(storage, sources, index) } else { raw(source, dtype) };
    file.map_err(|error| error.in_file(&source.location))
}

fn raw(source: &Source, dtype: &str) -> Result<TokenFile> {
    let dtype = match dtype {
        "uint16" => DType::U16,
        "uint32" => DType::U32,
        other => return Err(Error::invalid(format!("dtype must be \"uint16\" or \"uint32\", got {other:?}"))),
    };
    let width = dtype.width() as u64;
    if !source.len.is_multiple_of(width) {
        let message = format!("{} bytes are not a whole number of {} tokens. Check dtype=", source.len, dtype.name());
        return Err(Error::corrupt(message).at_offset(source.len / width * width));
    }
    Ok(TokenFile { dtype, offset: 0, tokens: source.len / width })
}

fn npy(storage: &dyn Storage, sources: &[Source], index: u32) -> Result<TokenFile> {
    let source = &sources[index as usize];
    let head = storage.read(sources, Range { source: index, offset: 0, len: source.len.min(12) })?;
    if head.len() < 12 || &head[..6] != NPY_MAGIC {
        return Err(Error::corrupt("not a .npy file (its first bytes are not the magic)").at_offset(0));
    }
    let (start, len) = match head[6] {
        1 => (10, u64::from(u16::from_le_bytes([head[8], head[9]]))),
        2 | 3 => (12, u64::from(u32::from_le_bytes([head[8], head[9], head[10], head[11]]))),
        version => return Err(Error::unsupported(format!(".npy version {version} is not known"))),
    };
    if len > NPY_HEADER_MAX || start + len > source.len {
        return Err(Error::corrupt(format!("the .npy header claims {len} bytes")).at_offset(8));
    }
    let header = storage.read(sources, Range { source: index, offset: start, len })?;
    let header = String::from_utf8_lossy(&header);
    let dtype = match value_of(&header, "descr") {
        Some("'<u2'") => DType::U16,
        Some("'<u4'") => DType::U32,
        Some("'<i4'") => DType::I32,
        Some("'<i8'") => DType::I64,
        Some("'|u1'") => DType::U8,
        other => {
            let message = format!("tokens must be u1, u2, u4, i4 or i8 little-endian, got descr {other:?}");
            return Err(Error::unsupported(message));
        }
    };
    let tokens = shape_of(&header).ok_or_else(|| Error::unsupported("tokens must be a one-dimensional array"))?;
    let offset = start + len;
    let expected = tokens.checked_mul(dtype.width() as u64).and_then(|bytes| bytes.checked_add(offset));
    if expected != Some(source.len) {
        let message = format!("the .npy header promises {tokens} tokens but the file has {} bytes", source.len);
        return Err(Error::corrupt(message).at_offset(offset));
    }
    Ok(TokenFile { dtype, offset, tokens })
}

/// The text of `'key': value` in the header's dictionary, up to the next comma.
fn value_of<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    let rest = header.split_once(&format!("'{key}':"))?.1;
    Some(rest.split(',').next()?.trim())
}

fn shape_of(header: &str) -> Option<u64> {
    let rest = header.split_once("'shape':")?.1;
    let inside = rest.split_once('(')?.1.split_once(')')?.0;
    let mut sizes = inside.split(',').map(str::trim).filter(|part| !part.is_empty());
    let size = sizes.next()?.parse().ok()?;
    sizes.next().is_none().then_some(size)
}
