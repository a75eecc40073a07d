//! One pass over a file that knows of quotes: where its rows are, how many, and what its values look like.

use serde::{Deserialize, Serialize};

use super::dialect::RowScanner;
use super::feed::Feed;
use super::infer::Seen;
use super::text::{Checkpoint, Compression, Reader};
use super::{CsvOptions, ROW_BYTES_MAX};
use crate::sidecar::Progress;
use crate::storage::{Source, Storage};
use crate::{Error, ErrorKind, Result};

/// Text of one block: plain, and compressed, where some text before it is inflated in vain.
const BLOCK_BYTES_AIM: u64 = 2 << 20;
const COMPRESSED_BLOCK_BYTES_AIM: u64 = 4 << 20;
/// A block begins at most this far behind its checkpoint, as long as the format allows it.
const CHECKPOINT_DISTANCE: u64 = 1 << 20;
/// Text of one block where nothing but the start of a large zstd frame can be its checkpoint.
const BLOCK_BYTES_MAX: u64 = 1 << 30;
/// Text at the start of the file, and of each later block, whose values tell the types.
const FIRST_SAMPLE_BYTES: usize = 1 << 20;
const SAMPLE_BYTES: usize = 64 << 10;
/// A bomb is looked for from this much text on.
const RATIO_TEXT_BYTES: u64 = 16 << 20;
/// Columns that are read before a file counts as something else.
const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];
const COLUMNS_MAX: usize = 1 << 17;

/// What one pass finds out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct FileIndex {
    pub compression: Compression,
    /// The first row.
    pub header: Vec<String>,
    /// What the values of each column look like.
    pub seen: Vec<Seen>,
    pub blocks: Vec<TextBlock>,
    /// Where compressed blocks are read from; several blocks may share one.
    pub checkpoints: Vec<Checkpoint>,
    /// Number of the last line, if no newline ends it: it may have been cut.
    pub open_end: Option<u64>,
}

/// Whole rows, up to the start of the next block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TextBlock {
    /// Place and length of its text.
    pub start: u64,
    pub len: u64,
    pub rows: u64,
    /// Number of its first line, counted from 1.
    pub line: u64,
    /// Its checkpoint, and where the bytes end that hold its text.
    pub checkpoint: u32,
    pub bytes_end: u64,
}

impl FileIndex {
    pub(super) fn build(
        storage: &dyn Storage,
        sources: &[Source],
        source: u32,
        options: &CsvOptions,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let mut feed = Feed::of_file(storage, sources, source);
        let compression = Compression::of(feed.peek(4)?, &sources[source as usize].name)?;
        let mut reader = Reader::new(compression, &Checkpoint::start())?;
        let mut pass = Pass::new(options, compression);
        let mut head = Vec::new();
        let mut done = 0;
        while reader.next(&mut feed).map_err(|error| error.at_row(pass.lines))? {
            let offset = feed.offset();
            if pass.base == 0 && head.len() + reader.piece().len() < BYTE_ORDER_MARK.len() {
                // The first bytes are looked at together.
                head.extend_from_slice(reader.piece());
            } else if head.is_empty() {
                pass.take(reader.piece(), reader.checkpoint(), offset)?;
            } else {
                head.extend_from_slice(reader.piece());
                pass.take(&std::mem::take(&mut head), None, offset)?;
            }
            progress.advance(offset - done)?;
            done = offset;
        }
        pass.take(&head, None, feed.offset())?;
        pass.finish(feed.offset())
    }
}

/// One file's pass.
struct Pass<'a> {
    options: &'a CsvOptions,
    compression: Compression,
    scanner: RowScanner,
    /// Ends of rows in the piece at hand.
    ends: Vec<usize>,
    /// Text before the piece at hand, and the number of the line that it begins in.
    base: u64,
    lines: u64,
    /// Where the row at hand begins, and its line.
    row_start: u64,
    row_line: u64,
    /// The first row as far as it is known; then its fields.
    first_row: Vec<u8>,
    header: Option<Vec<String>>,
    block: TextBlock,
    blocks: Vec<TextBlock>,
    checkpoints: Vec<Checkpoint>,
    /// The beginning of the block at hand.
    sample: Vec<u8>,
    sample_max: usize,
    seen: Vec<Seen>,
    last_byte: u8,
}

impl<'a> Pass<'a> {
    fn new(options: &'a CsvOptions, compression: Compression) -> Self {
        Self {
            options,
            compression,
            scanner: RowScanner::new(options.dialect()),
            ends: Vec::new(),
            base: 0,
            lines: 1,
            row_start: 0,
            row_line: 1,
            first_row: Vec::new(),
            header: None,
            block: TextBlock { start: 0, len: 0, rows: 0, line: 1, checkpoint: 0, bytes_end: 0 },
            blocks: Vec::new(),
            checkpoints: vec![Checkpoint::start()],
            sample: Vec::new(),
            sample_max: FIRST_SAMPLE_BYTES,
            seen: Vec::new(),
            last_byte: b'\n',
        }
    }

    /// Takes the next piece of text; `offset` is where the bytes end that it came from.
    fn take(&mut self, mut piece: &[u8], checkpoint: Option<&Checkpoint>, offset: u64) -> Result<()> {
        if self.base == 0 {
            piece = self.skip_mark(piece)?;
        }
        let mut ends = std::mem::take(&mut self.ends);
        ends.clear();
        self.scanner.scan(piece, |end| {
            ends.push(end);
            Ok(())
        })?;
        // What is known of the piece: it was counted and sampled up to here.
        let mut known = 0;
        for &end in &ends {
            let place = self.base + end as u64;
            let is_row = place - self.row_start > 1;
            if is_row && self.header.is_none() {
                self.note(piece, &mut known, end);
                self.end_first_row(place)?;
            } else if is_row {
                self.block.rows += 1;
                if self.may_cut(place, checkpoint)? {
                    self.note(piece, &mut known, end);
                    self.cut(place, checkpoint, offset)?;
                }
            } else if self.header.is_none() {
                self.note(piece, &mut known, end);
                self.first_row.clear();
                (self.block.start, self.block.line) = (place, self.lines);
            }
            self.row_start = place;
        }
        if let Some(&end) = ends.last() {
            self.note(piece, &mut known, end);
            self.row_line = self.lines;
        }
        self.note(piece, &mut known, piece.len());
        self.ends = ends;
        self.base += piece.len() as u64;
        self.last_byte = piece.last().copied().unwrap_or(self.last_byte);
        if self.base - self.row_start > ROW_BYTES_MAX {
            let why = if self.scanner.is_inside_quotes() { ". A quote in it is opened and never closed" } else { "" };
            let message = format!("the row is longer than {ROW_BYTES_MAX} bytes{why}. Mend the file");
            return Err(Error::corrupt(message).at_row(self.row_line));
        }
        let ratio = self.base / offset.max(1);
        if self.base > RATIO_TEXT_BYTES && ratio > self.options.max_ratio {
            let message = format!(
                "the file unpacks to {ratio} times its size, the limit being {}. Raise max_ratio if that is meant",
                self.options.max_ratio
            );
            return Err(Error::new(ErrorKind::Budget, message));
        }
        Ok(())
    }

    fn skip_mark<'p>(&mut self, piece: &'p [u8]) -> Result<&'p [u8]> {
        if piece.starts_with(&[0xff, 0xfe]) || piece.starts_with(&[0xfe, 0xff]) {
            return Err(Error::unsupported("the text is UTF-16. Convert the file to UTF-8"));
        }
        let Some(rest) = piece.strip_prefix(&BYTE_ORDER_MARK) else { return Ok(piece) };
        self.base = BYTE_ORDER_MARK.len() as u64;
        self.row_start = self.base;
        self.block.start = self.base;
        Ok(rest)
    }

    /// Counts the lines of the piece up to `end`, and keeps what is wanted of its text.
    fn note(&mut self, piece: &[u8], known: &mut usize, end: usize) {
        let part = &piece[*known..end];
        self.lines += memchr::memchr_iter(b'\n', part).count() as u64;
        if self.header.is_none() {
            self.first_row.extend_from_slice(part);
        } else {
            let wanted = part.len().min(self.sample_max - self.sample.len());
            self.sample.extend_from_slice(&part[..wanted]);
        }
        *known = end;
    }

    fn end_first_row(&mut self, end: u64) -> Result<()> {
        let first_row = std::mem::take(&mut self.first_row);
        let mut fields = Vec::new();
        self.options
            .dialect()
            .row(&first_row, 0, |number, field| {
                if number >= COLUMNS_MAX {
                    return Err(Error::corrupt(format!(
                        "the first row has more than {COLUMNS_MAX} fields. Is it CSV?"
                    )));
                }
                let text = std::str::from_utf8(field.content)
                    .map_err(|_| Error::corrupt("the first row is not valid UTF-8. Write the file as UTF-8"))?;
                if text.contains('\0') {
                    return Err(Error::corrupt("the first row has a zero byte: this is no text"));
                }
                fields.push(text.to_owned());
                Ok(())
            })
            .map_err(|error| error.at_row(self.block.line))?;
        self.seen = vec![Seen::default(); fields.len()];
        if self.options.has_header() {
            (self.block.start, self.block.line) = (end, self.lines);
        } else {
            self.block.rows = 1;
            self.sample = first_row;
        }
        self.header = Some(fields);
        Ok(())
    }

    /// Whether a block may end here, at the end of a row.
    fn may_cut(&self, end: u64, checkpoint: Option<&Checkpoint>) -> Result<bool> {
        let len = end - self.block.start;
        if self.compression == Compression::None {
            return Ok(len >= BLOCK_BYTES_AIM);
        }
        if len < COMPRESSED_BLOCK_BYTES_AIM {
            return Ok(false);
        }
        if checkpoint.is_some_and(|checkpoint| checkpoint.text + CHECKPOINT_DISTANCE >= end) {
            return Ok(true);
        }
        if len > BLOCK_BYTES_MAX {
            let message = format!(
                "more than {BLOCK_BYTES_MAX} bytes of text stand in one compressed frame, which can only be read as a \
                 whole. Compress the file in several frames (pzstd does), or with gzip"
            );
            return Err(Error::new(ErrorKind::Budget, message));
        }
        Ok(false)
    }

    fn cut(&mut self, end: u64, checkpoint: Option<&Checkpoint>, offset: u64) -> Result<()> {
        self.end_block(end, offset)?;
        if let Some(checkpoint) = checkpoint
            && self.checkpoints.last().is_none_or(|last| last.text != checkpoint.text)
        {
            self.checkpoints.push(checkpoint.packed());
        }
        let checkpoint = self.checkpoints.len() as u32 - 1;
        self.block = TextBlock { start: end, len: 0, rows: 0, line: self.lines, checkpoint, bytes_end: 0 };
        Ok(())
    }

    /// Closes the block at `end`, and looks at the values of its first rows.
    fn end_block(&mut self, end: u64, offset: u64) -> Result<()> {
        let mut block = self.block;
        (block.len, block.bytes_end) = (end - block.start, offset);
        if block.rows > 0 {
            self.look(block.len == self.sample.len() as u64);
            self.blocks.push(block);
        }
        self.sample.clear();
        self.sample_max = SAMPLE_BYTES;
        Ok(())
    }

    /// Notes what the values of the sample look like; its last row counts only if it is known to be whole.
    fn look(&mut self, is_whole: bool) {
        let dialect = self.options.dialect();
        let sample = &self.sample;
        let mut rows = Vec::new();
        let mut start = 0;
        // The scanner reports no error of its own.
        let _ = RowScanner::new(dialect).scan(sample, |end| {
            rows.push(start..end);
            start = end;
            Ok(())
        });
        if is_whole {
            rows.push(start..sample.len());
        }
        for row in rows {
            // Of "\r\n" the second byte stands here.
            let newlines = sample[row.clone()].iter().take_while(|&&byte| byte == b'\n' || byte == b'\r').count();
            let text = &sample[row.start + newlines..row.end];
            if text.is_empty() {
                continue;
            }
            let _ = dialect.row(text, 0, |number, field| {
                if let Some(seen) = self.seen.get_mut(number)
                    && !self.options.is_null(field)
                {
                    *seen = seen.and(Seen::value(field.content));
                }
                Ok(())
            });
        }
    }

    fn finish(mut self, offset: u64) -> Result<FileIndex> {
        if self.scanner.is_inside_quotes() {
            let message = "a quote is opened and never closed. The file was cut short, or has a stray quote: mend it";
            return Err(Error::corrupt(message).at_row(self.row_line));
        }
        if self.row_start < self.base {
            if self.header.is_none() {
                self.end_first_row(self.base)?;
            } else {
                self.block.rows += 1;
            }
        }
        let open_end = (!matches!(self.last_byte, b'\n' | b'\r')).then_some(self.lines);
        self.end_block(self.base, offset)?;
        let Some(header) = self.header else {
            return Err(Error::corrupt("the file is empty: it has not even a header. Leave it out"));
        };
        Ok(FileIndex {
            compression: self.compression,
            header,
            seen: self.seen,
            blocks: self.blocks,
            checkpoints: self.checkpoints,
            open_end,
        })
    }
}
