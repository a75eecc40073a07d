//! The text of a file, plain or compressed, from its start or from a checkpoint.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::feed::Feed;
use super::gzip::{Gzip, WINDOW_BYTES};
use super::zstd::Zstd;
use crate::{Error, Result};

/// How the bytes of a file become text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// What the first bytes tell. A name that promises compression must not stand for a file that has lost its head.
    pub(super) fn of(head: &[u8], name: &str) -> Result<Self> {
        let found = match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A frame of user data may stand first.
            [low, 0x2a, 0x4d, 0x18, ..] if low & 0xf0 == 0x50 => Self::Zstd,
            _ => Self::None,
        };
        let promised = if name.ends_with(".gz") { Self::Gzip } else { Self::Zstd };
        if found != promised && (name.ends_with(".gz") || name.ends_with(".zst")) {
            let message =
                format!("the name says {promised:?}, but the file does not begin as such data does. Restore it");
            return Err(Error::corrupt(message));
        }
        Ok(found)
    }
}

/// A place from which text can be had without what comes before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    /// The text before it, in bytes.
    pub text: u64,
    /// Its place in the file.
    pub offset: u64,
    /// Where it is inside a deflate stream.
    pub deflate: Option<Deflate>,
}

/// What a deflate stream needs to go on between two of its blocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Deflate {
    pub bits: u8,
    pub bit_buffer: u8,
    /// The text before, at most 32 KiB; in the index it is compressed, for there are many.
    pub window: Vec<u8>,
    pub is_packed: bool,
}

impl Checkpoint {
    pub(super) fn start() -> Self {
        Self { text: 0, offset: 0, deflate: None }
    }

    /// The same, with its window compressed.
    pub(super) fn packed(&self) -> Self {
        let mut packed = self.clone();
        if let Some(deflate) = &mut packed.deflate
            && !deflate.is_packed
            && let Ok(window) = zstd::bulk::compress(&deflate.window, 1)
        {
            (deflate.window, deflate.is_packed) = (window, true);
        }
        packed
    }
}

impl Deflate {
    pub(super) fn window(&self) -> Result<Cow<'_, [u8]>> {
        if !self.is_packed {
            return Ok(Cow::Borrowed(&self.window));
        }
        let window = zstd::bulk::decompress(&self.window, WINDOW_BYTES);
        window.map(Cow::Owned).map_err(|error| Error::internal(format!("a checkpoint cannot be read: {error}")))
    }
}

/// Text, piece by piece.
pub(super) enum Reader {
    Plain(Bytes),
    Gzip(Box<Gzip>),
    Zstd(Box<Zstd>),
}

impl Reader {
    pub(super) fn new(compression: Compression, from: &Checkpoint) -> Result<Self> {
        Ok(match compression {
            Compression::None => Self::Plain(Bytes::new()),
            Compression::Gzip => Self::Gzip(Box::new(Gzip::new(from)?)),
            Compression::Zstd => Self::Zstd(Box::new(Zstd::new(from)?)),
        })
    }

    /// Goes to the next piece; `false` at the end.
    pub(super) fn next(&mut self, feed: &mut Feed<'_>) -> Result<bool> {
        let more = match self {
            Self::Plain(piece) => {
                *piece = feed.take()?;
                Ok(!piece.is_empty())
            }
            Self::Gzip(gzip) => gzip.next(feed),
            Self::Zstd(zstd) => zstd.next(feed),
        };
        let offset = feed.offset();
        more.map_err(|error| error.at_offset(offset))
    }

    pub(super) fn piece(&self) -> &[u8] {
        match self {
            Self::Plain(piece) => piece,
            Self::Gzip(gzip) => gzip.piece(),
            Self::Zstd(zstd) => zstd.piece(),
        }
    }

    /// The latest checkpoint that is not behind the start of the piece.
    pub(super) fn checkpoint(&self) -> Option<&Checkpoint> {
        match self {
            Self::Plain(_) => None,
            Self::Gzip(gzip) => Some(gzip.checkpoint()),
            Self::Zstd(zstd) => Some(zstd.checkpoint()),
        }
    }
}

pub(super) fn truncated(what: &str) -> Error {
    Error::corrupt(format!("the {what} data ends in the middle. The file was cut short: restore it"))
}
