//! The fast path: columns of fixed width without nulls, from pages straight to values. Anything else is left to the
//! general reader, and `read` says so before it has done harm.

use bytemuck::Pod;
use bytes::Bytes;
use parquet::basic::{Compression, Encoding, Type};

use super::levels::{Run, Runs, all_equal, unpack};
use super::page::{PageHeader, PageKind, Walk};
use crate::field::DType;
use crate::format::cast::{Values, extend_pod};
use crate::{Error, Result};

/// A column that the fast path may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FlatColumn {
    /// Index among the file's columns.
    pub column: usize,
    /// What its values are stored as.
    pub dtype: DType,
    /// The definition level of a value that is there.
    pub definition: u32,
}

impl FlatColumn {
    /// The type that values of `physical` are read as, if they are delivered as, or convert exactly from, `natural`.
    pub(super) fn stored_as(physical: Type, type_length: i32, natural: DType) -> Option<DType> {
        match (physical, natural) {
            (Type::INT32, DType::U32 | DType::I32) | (Type::FLOAT, DType::F32) => Some(natural),
            (Type::INT64, DType::U64 | DType::I64) | (Type::DOUBLE, DType::F64) => Some(natural),
            (Type::INT32, DType::U8 | DType::I8 | DType::U16 | DType::I16) => Some(DType::I32),
            (Type::FIXED_LEN_BYTE_ARRAY, DType::F16) if type_length == 2 => Some(DType::F16),
            _ => None,
        }
    }
}

/// Memory that is used again from column to column.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    page: Vec<u8>,
    /// `u64` elements, so that every width finds its alignment.
    dictionary: Vec<u64>,
}

/// Rows of a chunk that are wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub skip: usize,
    pub take: usize,
}

/// Appends the values of `window` to `out`, whose width is that of the column's dtype. The pages lie in `spans`, in
/// order. Returns false where the general reader is needed; `out` is then of no use.
pub(super) fn read(
    spans: &[Bytes],
    codec: Compression,
    column: FlatColumn,
    window: Window,
    scratch: &mut Scratch,
    out: &mut Values,
) -> Result<bool> {
    match out {
        Values::W1(_) => Ok(false),
        Values::W2(out) => read_width(spans, codec, column, window, scratch, out),
        Values::W4(out) => read_width(spans, codec, column, window, scratch, out),
        Values::W8(out) => read_width(spans, codec, column, window, scratch, out),
    }
}

fn read_width<T: Pod>(
    spans: &[Bytes],
    codec: Compression,
    column: FlatColumn,
    mut window: Window,
    scratch: &mut Scratch,
    out: &mut Vec<T>,
) -> Result<bool> {
    if !matches!(codec, Compression::UNCOMPRESSED | Compression::SNAPPY) {
        return Ok(false);
    }
    let mut dictionary_values = None;
    for span in spans {
        let mut pages = Walk::new(span);
        while window.take > 0 {
            let Some((header, body)) = pages.next_page()? else { break };
            if let PageKind::Dictionary { values, encoding } = header.kind {
                if !matches!(encoding, Encoding::PLAIN | Encoding::PLAIN_DICTIONARY) || dictionary_values.is_some() {
                    return Ok(false);
                }
                read_dictionary::<T>(body, &header, codec, values, &mut scratch.dictionary)?;
                dictionary_values = Some(values);
                continue;
            }
            let count = header.values();
            if window.skip >= count {
                window.skip -= count;
                continue;
            }
            let Some(values) = unpack_data(body, &header, codec, column.definition, &mut scratch.page)? else {
                return Ok(false);
            };
            let part = Window { skip: window.skip, take: (count - window.skip).min(window.take) };
            if header.uses_dictionary() {
                let known =
                    dictionary_values.ok_or_else(|| Error::corrupt("a page needs a dictionary, but there is none"))?;
                let dictionary: &[T] = &bytemuck::cast_slice(&scratch.dictionary)[..known];
                read_codes(values, dictionary, part, out)?;
            } else {
                let width = size_of::<T>();
                if values.len() < count * width {
                    return Err(Error::corrupt(format!("a page has {count} values, but only {} bytes", values.len())));
                }
                extend_pod(out, &values[part.skip * width..(part.skip + part.take) * width]);
            }
            window = Window { skip: 0, take: window.take - part.take };
        }
    }
    if window.take > 0 {
        return Err(Error::corrupt(format!("the pages of a column lack {} rows", window.take)));
    }
    Ok(true)
}

/// Decompresses into `out`, which must be filled exactly.
fn decompress(body: &[u8], codec: Compression, out: &mut [u8]) -> Result<()> {
    let written = match codec {
        Compression::SNAPPY if !out.is_empty() => snap::raw::Decoder::new()
            .decompress(body, out)
            .map_err(|error| Error::corrupt(format!("a page is damaged: {error}")))?,
        Compression::SNAPPY => 0,
        _ => {
            if body.len() != out.len() {
                return Err(Error::corrupt("an uncompressed page has two sizes"));
            }
            out.copy_from_slice(body);
            body.len()
        }
    };
    if written == out.len() { Ok(()) } else { Err(Error::corrupt("a page is shorter than it claims")) }
}

fn read_dictionary<T: Pod>(
    body: &[u8],
    header: &PageHeader,
    codec: Compression,
    values: usize,
    out: &mut Vec<u64>,
) -> Result<()> {
    let bytes = header.unpacked_bytes;
    if values.checked_mul(size_of::<T>()).is_none_or(|needed| needed > bytes) {
        return Err(Error::corrupt(format!("a dictionary of {values} values has only {bytes} bytes")));
    }
    if out.len() * 8 < bytes {
        out.resize(bytes.div_ceil(8), 0);
    }
    decompress(body, codec, &mut bytemuck::cast_slice_mut(out)[..bytes])
}

/// The values of a data page without its levels, or `None` where they are not plain or codes, or not all there.
fn unpack_data<'a>(
    body: &'a [u8],
    header: &PageHeader,
    codec: Compression,
    definition: u32,
    page: &'a mut Vec<u8>,
) -> Result<Option<&'a [u8]>> {
    let level_bits = 32 - definition.leading_zeros();
    let mut unpack = |body: &'a [u8], bytes: usize, packed: bool| -> Result<(&'a [u8], bool)> {
        if codec == Compression::UNCOMPRESSED || !packed {
            return Ok((body, false));
        }
        if page.len() < bytes {
            page.resize(bytes, 0);
        }
        decompress(body, codec, &mut page[..bytes])?;
        Ok((&[], true))
    };
    match header.kind {
        PageKind::Data { values, encoding, definition: levels } => {
            if !readable(encoding) || (definition > 0 && levels != Encoding::RLE) {
                return Ok(None);
            }
            let (plain, in_page) = unpack(body, header.unpacked_bytes, true)?;
            let bytes = if in_page { &page[..header.unpacked_bytes] } else { plain };
            if definition == 0 {
                return Ok(Some(bytes));
            }
            let ends_early = || Error::corrupt("the levels of a page end early");
            let (length, rest) = bytes.split_at_checked(4).ok_or_else(ends_early)?;
            let length = length.iter().rev().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
            let (levels, rest) = rest.split_at_checked(length).ok_or_else(ends_early)?;
            Ok(all_equal(levels, level_bits, values, definition)?.then_some(rest))
        }
        PageKind::DataV2 { encoding, nulls, definition_bytes, repetition_bytes, packed, .. } => {
            if !readable(encoding) || nulls > 0 || repetition_bytes > 0 {
                return Ok(None);
            }
            let wrong = || Error::corrupt("the levels of a page are longer than the page");
            let bytes = header.unpacked_bytes.checked_sub(definition_bytes).ok_or_else(wrong)?;
            let (_, rest) = body.split_at_checked(definition_bytes).ok_or_else(wrong)?;
            let (plain, in_page) = unpack(rest, bytes, packed)?;
            Ok(Some(if in_page { &page[..bytes] } else { plain }))
        }
        _ => Ok(None),
    }
}

fn readable(encoding: Encoding) -> bool {
    matches!(encoding, Encoding::PLAIN | Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY)
}

/// Appends what the codes of a page stand for.
fn read_codes<T: Pod>(bytes: &[u8], dictionary: &[T], part: Window, out: &mut Vec<T>) -> Result<()> {
    let (&width, bytes) = bytes.split_first().ok_or_else(|| Error::corrupt("a page of codes is empty"))?;
    let mut runs = Runs::new(bytes, u32::from(width))?;
    let (mut skip, mut take) = (part.skip, part.take);
    let wrong = || Error::corrupt("a code lies outside the dictionary");
    while take > 0 {
        match runs.next_run(skip + take)? {
            Some(Run::Same { value, count }) => {
                let value = *dictionary.get(value as usize).ok_or_else(wrong)?;
                let skipped = skip.min(count);
                skip -= skipped;
                take -= count - skipped;
                out.resize(out.len() + count - skipped, value);
            }
            Some(Run::Packed { bytes, count }) => {
                let mut inside = true;
                out.reserve(count);
                let last = u32::try_from(dictionary.len()).unwrap_or(u32::MAX);
                unpack(bytes, u32::from(width), count, |codes| {
                    inside &= codes.iter().fold(0, |max, &code| max.max(code)) < last;
                    let wanted = &codes[skip.min(codes.len())..];
                    skip -= codes.len() - wanted.len();
                    take -= wanted.len();
                    if inside {
                        out.extend(wanted.iter().map(|&code| dictionary[code as usize]));
                    }
                });
                if !inside {
                    return Err(wrong());
                }
            }
            None => return Err(Error::corrupt("the codes of a page end early")),
        }
    }
    Ok(())
}
