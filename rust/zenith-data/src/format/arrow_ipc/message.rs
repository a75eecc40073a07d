//! Encapsulated messages: found, bounded by the file and verified before anything is built from them.

use arrow::datatypes::Schema as ArrowSchema;
use arrow::error::ArrowError;
use arrow::ipc::{self, Message, MetadataVersion};
use bytes::Bytes;
use flatbuffers::VerifierOptions;

use crate::format::guard::guard;
use crate::storage::{Range, Source, Storage};
use crate::{Error, ErrorKind, Result};

/// What stands before a message since 0.15 of the format.
const CONTINUATION: u32 = u32::MAX;
/// Longer metadata is refused.
pub(super) const METADATA_BYTES_MAX: u64 = 256 << 20;
/// Tables that a message may have whatever its length.
const TABLES_MIN: usize = 1024;
const TABLES_MAX: usize = 1_000_000;
/// A message is walked as if parts that are shared were written out each time; this many times its length at most.
const SHARING_MAX: usize = 8;
const SHARING_FREE_BYTES: usize = 64 << 10;
/// Read at once where a message is expected in a stream.
const WINDOW_BYTES: u64 = 16 << 10;

/// A message's metadata and where its body lies.
#[derive(Debug, Clone)]
pub(super) struct Envelope {
    pub metadata: Bytes,
    /// Where the message begins.
    pub start: u64,
    pub body: u64,
    pub body_len: u64,
}

/// Bounds on what a flatbuffer of `len` bytes may expand to, so that one whose parts share parts is not walked forever.
pub(super) fn limits(len: usize) -> VerifierOptions {
    VerifierOptions {
        max_tables: (len / 8).clamp(TABLES_MIN, TABLES_MAX),
        max_apparent_size: len.saturating_mul(SHARING_MAX).saturating_add(SHARING_FREE_BYTES),
        ..VerifierOptions::default()
    }
}

/// The message in `metadata`, verified.
pub(super) fn parse(metadata: &[u8]) -> Result<Message<'_>> {
    let message = ipc::root_as_message_with_opts(&limits(metadata.len()), metadata)
        .map_err(|error| Error::corrupt(format!("a message is damaged ({error:?}). Restore the file")))?;
    check_version(message.version())?;
    Ok(message)
}

pub(super) fn check_version(version: MetadataVersion) -> Result<()> {
    if version == MetadataVersion::V4 || version == MetadataVersion::V5 {
        return Ok(());
    }
    let why = format!("version {} of Arrow's metadata is not supported. Write the file anew", version.0 + 1);
    Err(Error::unsupported(why))
}

pub(super) fn schema_of(schema: ipc::Schema<'_>) -> Result<ArrowSchema> {
    if !schema.endianness().equals_to_target_endianness() {
        return Err(Error::unsupported("the file is big-endian. Write it anew on a little-endian machine"));
    }
    guard("the schema", || ipc::convert::try_fb_to_schema(schema).map_err(arrow_error))
}

pub(super) fn arrow_error(error: ArrowError) -> Error {
    match error {
        ArrowError::NotYetImplemented(why) => Error::unsupported(why),
        other => Error::corrupt(format!("{other}. Restore the file")),
    }
}

/// Splits what stands before the metadata from its length: the bytes of the prefix, and of the metadata.
pub(super) fn prefix(bytes: &[u8]) -> Result<(u64, u64)> {
    let word = |at: usize| {
        let bytes = bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u32::from_le_bytes).ok_or_else(|| Error::corrupt("a message is cut short. Restore the file"))
    };
    let (skip, len) = match word(0)? {
        CONTINUATION => (8, word(4)?),
        len => (4, len),
    };
    if len > i32::MAX as u32 {
        return Err(Error::corrupt("a message has a negative length. Restore the file"));
    }
    Ok((skip, u64::from(len)))
}

/// Reads the messages of a stream one after another, passing over their bodies.
pub(super) struct StreamWalk<'a> {
    storage: &'a dyn Storage,
    sources: &'a [Source],
    source: u32,
    position: u64,
    /// Bytes at hand and where they begin.
    window: (u64, Bytes),
}

impl<'a> StreamWalk<'a> {
    pub(super) fn new(storage: &'a dyn Storage, sources: &'a [Source], source: u32) -> Self {
        Self { storage, sources, source, position: 0, window: (0, Bytes::new()) }
    }

    fn file_len(&self) -> u64 {
        self.sources[self.source as usize].len
    }

    fn get(&mut self, offset: u64, len: u64) -> Result<Bytes> {
        let left = self.file_len().saturating_sub(offset);
        if len > left {
            let why = format!("the stream ends early: {len} bytes are claimed where {left} are left. Restore the file");
            return Err(Error::corrupt(why).at_offset(offset));
        }
        let (start, bytes) = &self.window;
        let at_hand = offset >= *start && offset + len <= start + bytes.len() as u64;
        if !at_hand {
            let range = Range { source: self.source, offset, len: len.max(WINDOW_BYTES).min(left) };
            self.window = (offset, self.storage.read(self.sources, range)?);
        }
        let (start, bytes) = &self.window;
        let skip = (offset - start) as usize;
        Ok(bytes.slice(skip..skip + len as usize))
    }

    /// The next message, or `None` at the marker that ends the stream.
    pub(super) fn next(&mut self) -> Result<Option<Envelope>> {
        let start = self.position;
        let left = self.file_len().saturating_sub(start);
        if left == 0 {
            let why = "the stream has no end marker: it is cut short, or its writer was not closed. Write it anew";
            return Err(Error::corrupt(why).at_offset(start));
        }
        let bytes = self.get(start, left.clamp(4, 8))?;
        let (skip, len) = prefix(&bytes).map_err(|error| error.at_offset(start))?;
        if len == 0 {
            self.check_end(start + skip)?;
            return Ok(None);
        }
        if len > left - skip {
            let why = format!("a message claims {len} bytes where {} are left. Restore the file", left - skip);
            return Err(Error::corrupt(why).at_offset(start));
        }
        if len > METADATA_BYTES_MAX {
            let why = format!("a message of {len} bytes is over the limit of {METADATA_BYTES_MAX}");
            return Err(Error::new(ErrorKind::Budget, why).at_offset(start));
        }
        let metadata = Bytes::copy_from_slice(&self.get(start + skip, len)?);
        let message = parse(&metadata).map_err(|error| error.at_offset(start))?;
        let body = start + skip + len;
        let body_len = u64::try_from(message.bodyLength()).ok().filter(|&len| len <= self.file_len() - body);
        let Some(body_len) = body_len else {
            let why = format!(
                "a message claims a body of {} bytes where {} are left: the stream is cut short. Restore the file",
                message.bodyLength(),
                self.file_len() - body
            );
            return Err(Error::corrupt(why).at_offset(start));
        };
        self.position = body + body_len;
        Ok(Some(Envelope { metadata, start, body, body_len }))
    }

    /// Nothing but a little padding may follow the end marker: a second stream would be lost in silence.
    fn check_end(&mut self, end: u64) -> Result<()> {
        let left = self.file_len() - end;
        if left == 0 {
            return Ok(());
        }
        if left > super::PADDING_MAX || self.get(end, left)?.iter().any(|&byte| byte != 0) {
            let why = format!(
                "{left} bytes follow the end of the stream. Write one stream to a file, or restore the file if it \
                 was one"
            );
            return Err(Error::corrupt(why).at_offset(end));
        }
        Ok(())
    }
}
