//! Footers: found, fetched and checked before the decoder that allocates by what they claim sees them.

use bytes::Bytes;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use super::thrift::{Compact, DEPTH_MAX, I32, LIST, STRUCT};
use crate::format::guard::guard;
use crate::storage::{Range, Source, Storage};
use crate::{Error, ErrorKind, Result};

/// The last bytes of every file are read at once; most footers fit.
const TAIL_BYTES: u64 = 64 << 10;
/// A longer footer is refused.
const FOOTER_BYTES_MAX: u64 = 256 << 20;
/// Files of which tails are held at the same time.
const FILES_AT_ONCE: usize = 256;
/// Columns and groups of a schema.
const SCHEMA_ELEMENTS_MAX: usize = 100_000;
/// Magic and length, twice the magic.
const FILE_BYTES_MIN: u64 = 12;
const MAGIC: &[u8] = b"PAR1";
const MAGIC_ENCRYPTED: &[u8] = b"PARE";

/// A footer's bytes and what they say.
#[derive(Debug)]
pub(super) struct Footer {
    pub metadata: ParquetMetaData,
    pub hash: u128,
}

/// Reads the footers of all sources and hands each to `each` with its index.
pub(super) fn read_footers(
    storage: &dyn Storage,
    sources: &[Source],
    mut each: impl FnMut(usize, Footer) -> Result<()>,
) -> Result<()> {
    for first in (0..sources.len()).step_by(FILES_AT_ONCE) {
        let batch = first..sources.len().min(first + FILES_AT_ONCE);
        for index in batch.clone() {
            check_len(&sources[index])?;
        }
        let tail = |index: usize| {
            let len = sources[index].len.min(TAIL_BYTES);
            Range { source: index as u32, offset: sources[index].len - len, len }
        };
        let ranges: Vec<Range> = batch.clone().map(tail).collect();
        let tails = storage.submit(sources, &ranges)?.wait()?;
        let mut missing = Vec::new();
        let mut footers = Vec::new();
        for (index, bytes) in batch.zip(tails) {
            let name = &sources[index].name;
            let len = footer_len(&bytes, sources[index].len).map_err(|error| error.in_file(name))?;
            let end = bytes.len() - 8;
            if len as usize <= end {
                footers.push((index, Some(bytes.slice(end - len as usize..end))));
            } else {
                missing.push(Range { source: index as u32, offset: sources[index].len - 8 - len, len });
                footers.push((index, None));
            }
        }
        // Long footers are brought one by one, as each may be large.
        let mut missing = missing.into_iter();
        for (index, bytes) in footers {
            let bytes = match (bytes, &mut missing) {
                (Some(bytes), _) => bytes,
                (None, missing) => match missing.next() {
                    Some(range) => storage.read(sources, range)?,
                    None => return Err(Error::internal("a footer was not read")),
                },
            };
            let footer = parse(&bytes).map_err(|error| error.in_file(&sources[index].name))?;
            each(index, footer)?;
        }
    }
    Ok(())
}

fn check_len(source: &Source) -> Result<()> {
    if source.len < FILE_BYTES_MIN {
        let why = format!("the file has {} bytes and is no Parquet file. Restore it, or leave it out", source.len);
        return Err(Error::corrupt(why).in_file(&source.name));
    }
    Ok(())
}

/// The length of the footer, from the last eight bytes of the file.
fn footer_len(tail: &Bytes, file_len: u64) -> Result<u64> {
    let (Some(magic), Some(len)) = (tail.len().checked_sub(4), tail.len().checked_sub(8)) else {
        return Err(Error::corrupt("the file is too short"));
    };
    if &tail[magic..] == MAGIC_ENCRYPTED {
        return Err(Error::unsupported("the file is encrypted. Decrypt it first"));
    }
    if &tail[magic..] != MAGIC {
        return Err(Error::corrupt("the file does not end with PAR1: it is cut short or no Parquet file. Restore it"));
    }
    let mut word = [0; 4];
    word.copy_from_slice(&tail[len..magic]);
    let len = u64::from(u32::from_le_bytes(word));
    if len + FILE_BYTES_MIN > file_len {
        let why = format!("the footer claims {len} bytes, but the file has {file_len}. Restore the file");
        return Err(Error::corrupt(why).at_offset(file_len - 8));
    }
    if len > FOOTER_BYTES_MAX {
        return Err(Error::new(
            ErrorKind::Budget,
            format!("the footer of {len} bytes is over the limit of {FOOTER_BYTES_MAX}"),
        ));
    }
    Ok(len)
}

fn parse(bytes: &Bytes) -> Result<Footer> {
    check_structure(bytes)?;
    let metadata = guard("the footer", || ParquetMetaDataReader::decode_metadata(bytes).map_err(super::parquet_error))?;
    Ok(Footer { metadata, hash: xxhash_rust::xxh3::xxh3_128(bytes) })
}

/// Walks the whole footer: lists within the bytes, nothing nested too deep, a schema tree of bounded size and depth.
fn check_structure(bytes: &[u8]) -> Result<()> {
    let mut input = Compact::new(bytes);
    let mut last = 0;
    while let Some((wire, id)) = input.field(&mut last)? {
        if (id, wire) == (2, LIST) {
            check_schema(input)?;
        }
        input.skip(wire, DEPTH_MAX)?;
    }
    Ok(())
}

fn check_schema(mut input: Compact<'_>) -> Result<()> {
    let (element, count) = input.list()?;
    if element != STRUCT || count > SCHEMA_ELEMENTS_MAX {
        return Err(Error::corrupt(format!("the schema claims {count} elements; {SCHEMA_ELEMENTS_MAX} are the limit")));
    }
    // How many members each group that is open still lacks.
    let mut open: Vec<i32> = Vec::new();
    for index in 0..count {
        let mut children = 0;
        let mut last = 0;
        while let Some((wire, id)) = input.field(&mut last)? {
            if (id, wire) == (5, I32) {
                children = input.i32()?;
            } else {
                input.skip(wire, DEPTH_MAX)?;
            }
        }
        match open.last_mut() {
            Some(left) => *left -= 1,
            None if index > 0 => return Err(Error::corrupt("the schema has elements outside its root")),
            None => {}
        }
        if children < 0 || children as usize > count {
            return Err(Error::corrupt("a group of the schema claims more members than there are elements"));
        }
        if children > 0 {
            open.push(children);
        }
        if open.len() > DEPTH_MAX {
            return Err(Error::corrupt(format!("the schema is nested more than {DEPTH_MAX} deep")));
        }
        while open.last() == Some(&0) {
            open.pop();
        }
    }
    if open.is_empty() { Ok(()) } else { Err(Error::corrupt("the schema ends early")) }
}
