//! Text out of gzip files of one member or several, with checkpoints between deflate blocks (after Mark Adler's zran.c).

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{BlockBoundaryState, DecompressorOxide, decompress, inflate_flags};

use super::feed::Feed;
use super::text::{Checkpoint, Deflate, truncated};
use crate::{Error, Result};

/// How far back a match may reach.
pub(super) const WINDOW_BYTES: usize = 32 << 10;
/// The most text in a piece.
const PIECE_BYTES: usize = 256 << 10;
/// The longest member header that is looked for: names and comments have no limit of their own.
const HEADER_BYTES_MAX: usize = 64 << 10;

pub(super) struct Gzip {
    state: State,
    inflate: Box<DecompressorOxide>,
    /// The window, then the piece.
    buffer: Vec<u8>,
    start: usize,
    filled: usize,
    checkpoint: Checkpoint,
    /// The checkpoint at the end of the piece that was handed out.
    pending: Option<Checkpoint>,
    /// Checksum and length of the member's text; unknown where reading began inside it.
    check: Option<(crc32fast::Hasher, u32)>,
    text: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    Body,
    Trailer,
    End,
}

impl Gzip {
    pub(super) fn new(from: &Checkpoint) -> Result<Self> {
        let mut buffer = vec![0; WINDOW_BYTES + PIECE_BYTES];
        let (mut state, mut inflate, mut filled) = (State::Header, Box::default(), 0);
        if let Some(deflate) = &from.deflate {
            let boundary =
                BlockBoundaryState { num_bits: deflate.bits, bit_buf: deflate.bit_buffer, ..Default::default() };
            inflate = Box::new(DecompressorOxide::from_block_boundary_state(&boundary));
            let window = deflate.window()?;
            filled = window.len().min(WINDOW_BYTES);
            buffer[..filled].copy_from_slice(&window[..filled]);
            state = State::Body;
        }
        let checkpoint = from.clone();
        let text = checkpoint.text;
        Ok(Self { state, inflate, buffer, start: filled, filled, checkpoint, pending: None, check: None, text })
    }

    pub(super) fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    pub(super) fn piece(&self) -> &[u8] {
        &self.buffer[self.start..self.filled]
    }

    pub(super) fn next(&mut self, feed: &mut Feed<'_>) -> Result<bool> {
        if let Some(checkpoint) = self.pending.take() {
            self.checkpoint = checkpoint;
        }
        loop {
            match self.state {
                State::Header => {
                    if !self.header(feed)? {
                        self.state = State::End;
                    }
                }
                State::Body => {
                    self.body(feed)?;
                    let new_text = self.filled - self.start;
                    self.text += new_text as u64;
                    if new_text > 0 {
                        return Ok(true);
                    }
                }
                State::Trailer => self.trailer(feed)?,
                State::End => return Ok(false),
            }
        }
    }

    /// Reads a member's header; `false` where there is none.
    fn header(&mut self, feed: &mut Feed<'_>) -> Result<bool> {
        let mut padded = false;
        // Zeros behind the last member are padding, as gzip itself takes them.
        while feed.offset() > 0 && !feed.peek(1)?.is_empty() && feed.peek(1)?.iter().all(|&byte| byte == 0) {
            let zeros = feed.peek(1)?.len();
            feed.consume(zeros);
            padded = true;
        }
        let offset = feed.offset();
        let bytes = feed.peek(HEADER_BYTES_MAX)?;
        if bytes.is_empty() {
            return Ok(false);
        }
        if padded {
            return Err(Error::corrupt("zeros stand before what follows, which is no gzip data. Restore the file"));
        }
        let length = header_length(bytes)?;
        feed.consume(length);
        *self.inflate = DecompressorOxide::new();
        (self.start, self.filled) = (0, 0);
        self.check = Some((crc32fast::Hasher::new(), 0));
        self.checkpoint = Checkpoint { text: self.text, offset, deflate: None };
        self.state = State::Body;
        Ok(true)
    }

    /// Inflates up to the next block of deflate, or as much as fits.
    fn body(&mut self, feed: &mut Feed<'_>) -> Result<()> {
        if self.filled > WINDOW_BYTES {
            self.buffer.copy_within(self.filled - WINDOW_BYTES..self.filled, 0);
            self.filled = WINDOW_BYTES;
        }
        let start = self.filled;
        self.start = start;
        loop {
            let mut flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF
                | inflate_flags::TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY;
            feed.peek(1)?;
            if !feed.is_last() {
                flags |= inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
            }
            let input = feed.peek(1)?;
            let (status, read, written) = decompress(&mut self.inflate, input, &mut self.buffer, self.filled, flags);
            feed.consume(read);
            self.filled += written;
            match status {
                TINFLStatus::NeedsMoreInput if read > 0 || !feed.is_last() => {}
                TINFLStatus::HasMoreOutput => break,
                TINFLStatus::BlockBoundary if self.filled > start => {
                    self.pending = self.boundary(feed.offset(), (self.filled - start) as u64);
                    break;
                }
                TINFLStatus::BlockBoundary => {
                    if let Some(checkpoint) = self.boundary(feed.offset(), 0) {
                        self.checkpoint = checkpoint;
                    }
                }
                TINFLStatus::Done => {
                    self.state = State::Trailer;
                    break;
                }
                // The bytes of a block end where its text does, which need not be where a piece does.
                TINFLStatus::NeedsMoreInput | TINFLStatus::FailedCannotMakeProgress if self.filled > start => break,
                TINFLStatus::NeedsMoreInput | TINFLStatus::FailedCannotMakeProgress => return Err(truncated("gzip")),
                _ => return Err(Error::corrupt("the gzip data is damaged. Restore the file")),
            }
        }
        if let Some((crc, length)) = &mut self.check {
            crc.update(&self.buffer[start..self.filled]);
            *length = length.wrapping_add((self.filled - start) as u32);
        }
        Ok(())
    }

    /// The checkpoint between two blocks of deflate, `new_text` bytes behind the pieces handed out.
    fn boundary(&self, offset: u64, new_text: u64) -> Option<Checkpoint> {
        let state = self.inflate.block_boundary_state()?;
        let window = self.buffer[self.filled.saturating_sub(WINDOW_BYTES)..self.filled].to_vec();
        let deflate = Some(Deflate { bits: state.num_bits, bit_buffer: state.bit_buf, window, is_packed: false });
        Some(Checkpoint { text: self.text + new_text, offset, deflate })
    }

    fn trailer(&mut self, feed: &mut Feed<'_>) -> Result<()> {
        let Some(trailer) = feed.peek(8)?.first_chunk::<8>().copied() else { return Err(truncated("gzip")) };
        let (sum, length) = (&trailer[..4], &trailer[4..]);
        if let Some((crc, count)) = self.check.take()
            && (sum != crc.finalize().to_le_bytes() || length != count.to_le_bytes())
        {
            return Err(Error::corrupt("the gzip checksum does not match. The file is damaged: restore it"));
        }
        feed.consume(8);
        self.state = State::Header;
        Ok(())
    }
}

/// Bytes of the header of a member (RFC 1952).
fn header_length(bytes: &[u8]) -> Result<usize> {
    let Some(fixed) = bytes.first_chunk::<10>() else { return Err(truncated("gzip")) };
    if fixed[..3] != [0x1f, 0x8b, 8] {
        return Err(Error::corrupt("what follows is not gzip data. Restore the file"));
    }
    let flags = fixed[3];
    let mut length = 10;
    let missing = || truncated("gzip");
    if flags & 4 != 0 {
        let extra = bytes.get(length..length + 2).ok_or_else(missing)?;
        length += 2 + usize::from(u16::from_le_bytes([extra[0], extra[1]]));
    }
    for flag in [8, 16] {
        if flags & flag != 0 {
            let text = bytes.get(length..).ok_or_else(missing)?;
            length += 1 + memchr::memchr(0, text).ok_or_else(missing)?;
        }
    }
    if flags & 2 != 0 {
        length += 2;
    }
    if length > bytes.len() { Err(missing()) } else { Ok(length) }
}
