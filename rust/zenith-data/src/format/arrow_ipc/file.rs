//! The file format: a footer lists where the messages are.

use arrow::datatypes::Schema as ArrowSchema;
use arrow::ipc;
use bytes::Bytes;

use super::PADDING_MAX;
use super::message::{self, Envelope, METADATA_BYTES_MAX};
use crate::storage::{Range, Source, Storage};
use crate::{Error, ErrorKind, Result};

pub(super) const MAGIC: &[u8] = b"ARROW1";
/// What Feather V1, another format, begins with.
pub(super) const MAGIC_FEATHER1: &[u8] = b"FEA1";
/// The magic with its padding.
const START_BYTES: u64 = 8;
/// The footer's length and the magic.
const END_BYTES: u64 = 10;
/// The last bytes of a file are read at once; most footers fit.
const TAIL_BYTES: u64 = 64 << 10;
/// Messages of which the metadata is asked for at the same time.
const MESSAGES_AT_ONCE: usize = 256;

/// What a footer says.
pub(super) struct Footer {
    pub schema: ArrowSchema,
    /// Dictionaries, then record batches.
    pub places: Vec<Place>,
    pub bytes: Bytes,
}

/// Where a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub offset: u64,
    pub metadata_len: u64,
    pub body_len: u64,
    pub dictionary: bool,
}

pub(super) fn read_footer(storage: &dyn Storage, sources: &[Source], source: u32) -> Result<Footer> {
    let file_len = sources[source as usize].len;
    let cut = "the file does not end with ARROW1: it is cut short, or its writer was not closed. Restore it";
    if file_len < START_BYTES + END_BYTES {
        return Err(Error::corrupt(cut));
    }
    let tail_len = file_len.min(TAIL_BYTES);
    let tail = storage.read(sources, Range { source, offset: file_len - tail_len, len: tail_len })?;
    let end = tail.len() - END_BYTES as usize;
    if &tail[end + 4..] != MAGIC {
        return Err(Error::corrupt(cut));
    }
    let mut word = [0; 4];
    word.copy_from_slice(&tail[end..end + 4]);
    let claimed = i32::from_le_bytes(word);
    let len = u64::try_from(claimed).ok().filter(|&len| len > 0 && len + START_BYTES + END_BYTES <= file_len);
    let Some(len) = len else {
        let why = format!("the footer claims {claimed} bytes, but the file has {file_len}. Restore the file");
        return Err(Error::corrupt(why).at_offset(file_len - END_BYTES));
    };
    if len > METADATA_BYTES_MAX {
        let why = format!("the footer of {len} bytes is over the limit of {METADATA_BYTES_MAX}");
        return Err(Error::new(ErrorKind::Budget, why));
    }
    let offset = file_len - END_BYTES - len;
    let bytes = match end.checked_sub(len as usize) {
        Some(start) => tail.slice(start..end),
        None => storage.read(sources, Range { source, offset, len })?,
    };
    let first = first_message(storage, sources, source, offset)?;
    parse(bytes, first, offset).map_err(|error| error.at_offset(offset))
}

/// Where the schema's message at the beginning ends.
fn first_message(storage: &dyn Storage, sources: &[Source], source: u32, end: u64) -> Result<u64> {
    let len = (end - START_BYTES).min(PADDING_MAX + 8);
    let bytes = storage.read(sources, Range { source, offset: START_BYTES, len })?;
    // Writers may pad the magic further.
    let padding = bytes.chunks(8).take_while(|word| word.iter().all(|&byte| byte == 0)).count() * 8;
    let at = START_BYTES + padding as u64;
    let (skip, len) = message::prefix(bytes.get(padding..).unwrap_or_default()).map_err(|error| error.at_offset(at))?;
    Ok(at + skip + len)
}

fn parse(bytes: Bytes, first: u64, end: u64) -> Result<Footer> {
    let footer = ipc::root_as_footer_with_opts(&message::limits(bytes.len()), &bytes)
        .map_err(|error| Error::corrupt(format!("the footer is damaged ({error:?}). Restore the file")))?;
    message::check_version(footer.version())?;
    let schema = footer.schema().ok_or_else(|| Error::corrupt("the footer has no schema. Restore the file"))?;
    let schema = message::schema_of(schema)?;
    let mut places = Vec::new();
    for (blocks, dictionary) in [(footer.dictionaries(), true), (footer.recordBatches(), false)] {
        for block in blocks.into_iter().flatten() {
            places.push(place(block, dictionary, end)?);
        }
    }
    check_cover(&places, first, end)?;
    Ok(Footer { schema, places, bytes })
}

fn place(block: &ipc::Block, dictionary: bool, end: u64) -> Result<Place> {
    let sizes =
        (u64::try_from(block.offset()), u64::try_from(block.metaDataLength()), u64::try_from(block.bodyLength()));
    let place = match sizes {
        (Ok(offset), Ok(metadata_len), Ok(body_len)) => Some(Place { offset, metadata_len, body_len, dictionary }),
        _ => None,
    };
    let inside = |place: &Place| {
        let rest = place.offset.checked_add(place.metadata_len).and_then(|at| at.checked_add(place.body_len));
        place.metadata_len > 4 && rest.is_some_and(|at| at <= end)
    };
    place.filter(inside).ok_or_else(|| {
        let why = format!(
            "the footer places a message of {} + {} bytes at {}, outside the {end} bytes of messages. Restore the file",
            block.metaDataLength(),
            block.bodyLength(),
            block.offset()
        );
        Error::corrupt(why)
    })
}

/// The messages must fill the file from the schema to the footer: one that the footer does not list would be lost in
/// silence, and one that is listed twice, or with others inside, would let a small file claim much.
fn check_cover(places: &[Place], first: u64, end: u64) -> Result<()> {
    let mut sorted: Vec<&Place> = places.iter().collect();
    sorted.sort_unstable_by_key(|place| place.offset);
    let mut at = first;
    let ends = sorted.iter().map(|place| (place.offset, place.offset + place.metadata_len + place.body_len));
    for (start, next) in ends.chain([(end, end)]) {
        if start < at || start - at > PADDING_MAX {
            let why =
                format!("the footer lists nothing, or two messages, between bytes {at} and {start}. Restore the file");
            return Err(Error::corrupt(why));
        }
        at = next;
    }
    Ok(())
}

/// Reads the metadata of all messages and hands each on, with whether the footer lists it as a dictionary.
pub(super) fn read_messages(
    storage: &dyn Storage,
    sources: &[Source],
    source: u32,
    places: &[Place],
    mut each: impl FnMut(Envelope, bool) -> Result<()>,
) -> Result<()> {
    for group in places.chunks(MESSAGES_AT_ONCE) {
        let range = |place: &Place| Range { source, offset: place.offset, len: place.metadata_len };
        let ranges: Vec<Range> = group.iter().map(range).collect();
        let found = storage.submit(sources, &ranges)?.wait()?;
        if found.len() != group.len() {
            return Err(Error::internal("a message was not read"));
        }
        for (place, bytes) in group.iter().zip(found) {
            let envelope = envelope(place, &bytes).map_err(|error| error.at_offset(place.offset))?;
            each(envelope, place.dictionary).map_err(|error| error.at_offset(place.offset))?;
        }
    }
    Ok(())
}

fn envelope(place: &Place, bytes: &Bytes) -> Result<Envelope> {
    let (skip, len) = message::prefix(bytes)?;
    if len == 0 || skip + len > place.metadata_len {
        let why = format!("a message claims {len} bytes where the footer has {}. Restore the file", place.metadata_len);
        return Err(Error::corrupt(why));
    }
    let metadata = bytes.slice(skip as usize..(skip + len) as usize);
    let claimed = message::parse(&metadata)?.bodyLength();
    if u64::try_from(claimed) != Ok(place.body_len) {
        let why = format!("a message claims {claimed} bytes where the footer has {}. Restore the file", place.body_len);
        return Err(Error::corrupt(why));
    }
    Ok(Envelope { metadata, start: place.offset, body: place.offset + place.metadata_len, body_len: place.body_len })
}
