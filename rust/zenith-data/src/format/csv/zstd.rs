//! Text out of zstd files, with a checkpoint at each frame: inside a frame nothing can be read without what comes before.

use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};

use super::feed::Feed;
use super::text::{Checkpoint, truncated};
use crate::{Error, Result};

/// The most text in a piece: two zstd blocks.
const PIECE_BYTES: usize = 256 << 10;

pub(super) struct Zstd {
    decoder: Decoder<'static>,
    piece: Vec<u8>,
    filled: usize,
    checkpoint: Checkpoint,
    text: u64,
    inside_frame: bool,
}

impl Zstd {
    pub(super) fn new(from: &Checkpoint) -> Result<Self> {
        let decoder = Decoder::new().map_err(|error| Error::internal(format!("zstd does not start: {error}")))?;
        let piece = vec![0; PIECE_BYTES];
        Ok(Self { decoder, piece, filled: 0, checkpoint: from.clone(), text: from.text, inside_frame: false })
    }

    pub(super) fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    pub(super) fn piece(&self) -> &[u8] {
        &self.piece[..self.filled]
    }

    /// A piece is never of two frames.
    pub(super) fn next(&mut self, feed: &mut Feed<'_>) -> Result<bool> {
        let mut filled = 0;
        loop {
            let offset = feed.offset();
            let input = feed.peek(1)?;
            if !self.inside_frame {
                if input.is_empty() {
                    self.filled = 0;
                    return Ok(false);
                }
                self.checkpoint = Checkpoint { text: self.text, offset, deflate: None };
                self.inside_frame = true;
            }
            let mut source = InBuffer::around(input);
            let mut target = OutBuffer::around_pos(&mut self.piece, filled);
            let hint = self.decoder.run(&mut source, &mut target);
            let (read, written) = (source.pos(), target.pos());
            let hint =
                hint.map_err(|error| Error::corrupt(format!("the zstd data is damaged ({error}). Restore the file")))?;
            feed.consume(read);
            let stuck = read == 0 && written == filled;
            filled = written;
            if hint == 0 {
                self.inside_frame = false;
            }
            let exhausted = stuck && hint != 0 && feed.is_last();
            if exhausted && filled == 0 {
                return Err(truncated("zstd"));
            }
            if filled == PIECE_BYTES || (filled > 0 && (hint == 0 || exhausted)) {
                break;
            }
        }
        self.filled = filled;
        self.text += filled as u64;
        Ok(true)
    }
}
