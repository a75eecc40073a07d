//! The fast path: columns of numbers outside of lists, from pages straight to values. Anything else is left to the
//! general reader.

use bytemuck::Pod;
use bytes::Bytes;
use parquet::basic::{Compression, Encoding, Type};

use super::levels::{Run, Runs, all_equal, unpack};
use super::page::{PageHeader, PageKind, Walk};
use crate::field::DType;
use crate::format::cast::{Values, extend_pod};
use crate::memory::room;
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
    /// For each value of a page with nulls, whether it is there.
    present: Vec<bool>,
}

/// Rows of a chunk that are wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub skip: usize,
    pub take: usize,
}

/// The rows of a column, nulls as zeros.
#[derive(Debug)]
pub(super) struct FlatValues {
    /// Of the width of the column's dtype.
    pub values: Values,
    /// Which are null, ascending.
    pub nulls: Vec<usize>,
}

/// Whether the fast path decompresses `codec`.
pub(super) fn unpacks(codec: Compression) -> bool {
    matches!(codec, Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::ZSTD(_))
}

/// Whether the fast path reads a page.
pub(super) fn readable(header: &PageHeader, codec: Compression) -> bool {
    let plain = |encoding| matches!(encoding, Encoding::PLAIN | Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY);
    unpacks(codec)
        && match header.kind {
            PageKind::Data { encoding, definition, .. } => plain(encoding) && definition == Encoding::RLE,
            PageKind::DataV2 { encoding, repetition_bytes, .. } => plain(encoding) && repetition_bytes == 0,
            PageKind::Dictionary { encoding, .. } => plain(encoding),
            PageKind::Other => false,
        }
}

/// Replaces `out` by the values of `window`, which counts from the first data page in `spans`. Returns false where the
/// general reader is needed; `out` is then of no use.
pub(super) fn read(
    spans: &[Bytes],
    codec: Compression,
    column: FlatColumn,
    window: Window,
    scratch: &mut Scratch,
    out: &mut FlatValues,
) -> Result<bool> {
    out.values.clear();
    out.nulls.clear();
    let nulls = &mut out.nulls;
    match &mut out.values {
        Values::W1(_) => Ok(false),
        Values::W2(values) => read_width(spans, codec, column, window, scratch, values, nulls),
        Values::W4(values) => read_width(spans, codec, column, window, scratch, values, nulls),
        Values::W8(values) => read_width(spans, codec, column, window, scratch, values, nulls),
    }
}

fn read_width<T: Pod>(
    spans: &[Bytes],
    codec: Compression,
    column: FlatColumn,
    mut window: Window,
    scratch: &mut Scratch,
    out: &mut Vec<T>,
    nulls: &mut Vec<usize>,
) -> Result<bool> {
    // A dictionary is unpacked when the first page needs it.
    let (mut packed_dictionary, mut dictionary_len) = (None, None);
    for span in spans {
        let mut pages = Walk::new(span);
        while window.take > 0 {
            let Some((header, body)) = pages.next_page()? else { break };
            if header.kind == PageKind::Other {
                continue;
            }
            if !readable(&header, codec) {
                return Ok(false);
            }
            let count = header.values();
            if let PageKind::Dictionary { values, .. } = header.kind {
                packed_dictionary = Some((header, body, values));
                continue;
            }
            if window.skip >= count {
                window.skip -= count;
                continue;
            }
            if header.uses_dictionary()
                && let Some((header, body, values)) = packed_dictionary.take()
            {
                read_dictionary::<T>(body, &header, codec, values, &mut scratch.dictionary)?;
                dictionary_len = Some(values);
            }
            let part = Window { skip: window.skip, take: (count - window.skip).min(window.take) };
            let Scratch { page, dictionary, present } = &mut *scratch;
            let (levels, values) = unpack_data(body, &header, codec, column.definition, page)?;
            let bits = 32 - column.definition.leading_zeros();
            let full = column.definition == 0 || all_equal(levels, bits, count, column.definition)?;
            let stored = if full { part } else { find_present(levels, bits, count, column.definition, part, present)? };
            let start = out.len();
            room(out, part.take)?;
            if header.uses_dictionary() {
                let known =
                    dictionary_len.ok_or_else(|| Error::corrupt("a page needs a dictionary, but there is none"))?;
                read_codes(values, &bytemuck::cast_slice(dictionary)[..known], stored, out)?;
            } else {
                let width = size_of::<T>();
                let bytes = values.get(stored.skip * width..(stored.skip + stored.take) * width);
                let short =
                    || Error::corrupt(format!("a page of {count} values has only {} bytes of them", values.len()));
                extend_pod(out, bytes.ok_or_else(short)?);
            }
            if !full {
                spread(out, start, &present[part.skip..part.skip + part.take], nulls);
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
    let damaged =
        |error: &dyn std::fmt::Display| Error::corrupt(format!("a page is damaged: {error}. Restore the file"));
    let written = match codec {
        _ if out.is_empty() => 0,
        Compression::SNAPPY => snap::raw::Decoder::new().decompress(body, out).map_err(|error| damaged(&error))?,
        Compression::ZSTD(_) => zstd::bulk::decompress_to_buffer(body, out).map_err(|error| damaged(&error))?,
        _ => {
            let source = body.get(..out.len()).filter(|_| body.len() == out.len());
            out.copy_from_slice(source.ok_or_else(|| damaged(&"it has two sizes"))?);
            body.len()
        }
    };
    if written == out.len() { Ok(()) } else { Err(damaged(&"it is shorter than it claims")) }
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
        let words = bytes.div_ceil(8);
        room(out, words - out.len())?;
        out.resize(words, 0);
    }
    decompress(body, codec, &mut bytemuck::cast_slice_mut(out)[..bytes])
}

/// The definition levels and the values of a data page, decompressed into `page` if need be.
fn unpack_data<'a>(
    body: &'a [u8],
    header: &PageHeader,
    codec: Compression,
    definition: u32,
    page: &'a mut Vec<u8>,
) -> Result<(&'a [u8], &'a [u8])> {
    let too_long = || Error::corrupt("the levels of a page are longer than the page");
    // Pages of the second version keep their levels outside what is compressed.
    let (levels, body, bytes, packed) = match header.kind {
        PageKind::DataV2 { definition_bytes, packed, .. } => {
            let bytes = header.unpacked_bytes.checked_sub(definition_bytes).ok_or_else(too_long)?;
            let (levels, body) = body.split_at_checked(definition_bytes).ok_or_else(too_long)?;
            (Some(levels), body, bytes, packed)
        }
        _ => (None, body, header.unpacked_bytes, true),
    };
    let values = if codec == Compression::UNCOMPRESSED || !packed {
        body
    } else {
        if page.len() < bytes {
            room(page, bytes - page.len())?;
            page.resize(bytes, 0);
        }
        decompress(body, codec, &mut page[..bytes])?;
        &page[..bytes]
    };
    match levels {
        Some(levels) => Ok((levels, values)),
        None if definition == 0 => Ok((&[], values)),
        None => {
            let (length, rest) = values.split_at_checked(4).ok_or_else(too_long)?;
            let length = length.iter().rev().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
            rest.split_at_checked(length).ok_or_else(too_long)
        }
    }
}

/// Notes which of a page's values are there, and says where among the stored ones those of `part` lie.
fn find_present(
    levels: &[u8],
    bits: u32,
    count: usize,
    definition: u32,
    part: Window,
    present: &mut Vec<bool>,
) -> Result<Window> {
    present.clear();
    let mut runs = Runs::new(levels, bits)?;
    while present.len() < count {
        match runs.next_run(count - present.len())? {
            Some(Run::Same { value, count }) => present.resize(present.len() + count, value == definition),
            Some(Run::Packed { bytes, count }) => unpack(bytes, bits, count, |values| {
                present.extend(values.iter().map(|&value| value == definition));
            }),
            None => return Err(Error::corrupt("the levels of a page end early")),
        }
    }
    let there = |range: std::ops::Range<usize>| present[range].iter().filter(|&&present| present).count();
    Ok(Window { skip: there(0..part.skip), take: there(part.skip..part.skip + part.take) })
}

/// Moves the values from `start` on to their rows, with zeros between them.
fn spread<T: Pod>(out: &mut Vec<T>, start: usize, present: &[bool], nulls: &mut Vec<usize>) {
    let mut stored = out.len();
    out.resize(start + present.len(), T::zeroed());
    for (i, &is_present) in present.iter().enumerate().rev() {
        out[start + i] = if is_present && stored > start {
            stored -= 1;
            out[stored]
        } else {
            T::zeroed()
        };
    }
    nulls.extend(present.iter().enumerate().filter(|(_, present)| !**present).map(|(i, _)| start + i));
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
