//! How text is taken apart: rows end at a newline, fields at the delimiter, and quotes hide both.
//!
//! As in Python's `csv` and in RFC 4180: a quote opens a quoted field only where a field begins, a doubled one inside
//! stands for itself, and what follows the closing one up to the delimiter is taken as it is. `\n`, `\r\n` and `\r` end
//! a row; rows without any byte are passed over.

use memchr::{memchr, memchr2, memchr3};

use crate::{Error, Result};

/// The bytes with a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dialect {
    pub delimiter: u8,
    pub quote: Option<u8>,
}

/// Where a field ends, and what it says.
pub(super) struct FieldText<'a> {
    /// The place of the delimiter or newline behind it, or the end of the text.
    pub end: usize,
    pub content: &'a [u8],
    pub quoted: bool,
}

impl Dialect {
    /// The field that begins at `start`. A doubled quote makes its content be put together in `scratch`.
    pub(super) fn field<'a>(&self, text: &'a [u8], start: usize, scratch: &'a mut Vec<u8>) -> Result<FieldText<'a>> {
        if self.quote.is_some() && text.get(start).copied() == self.quote {
            return self.quoted_field(text, start + 1, scratch);
        }
        let end = self.plain_end(text, start);
        Ok(FieldText { end, content: &text[start..end], quoted: false })
    }

    fn quoted_field<'a>(&self, text: &'a [u8], start: usize, scratch: &'a mut Vec<u8>) -> Result<FieldText<'a>> {
        let quote = self.quote.unwrap_or(b'"');
        let close = |from: usize| {
            memchr(quote, &text[from..])
                .map(|at| from + at)
                .ok_or_else(|| Error::corrupt("a quote is opened and never closed"))
        };
        let mut at = close(start)?;
        if text.get(at + 1).is_none_or(|&next| self.ends_field(next)) {
            return Ok(FieldText { end: at + 1, content: &text[start..at], quoted: true });
        }
        scratch.clear();
        let mut from = start;
        while text.get(at + 1) == Some(&quote) {
            scratch.extend_from_slice(&text[from..=at]);
            from = at + 2;
            at = close(from)?;
        }
        scratch.extend_from_slice(&text[from..at]);
        let end = self.plain_end(text, at + 1);
        scratch.extend_from_slice(&text[at + 1..end]);
        Ok(FieldText { end, content: scratch, quoted: true })
    }

    pub(super) fn ends_field(&self, byte: u8) -> bool {
        byte == self.delimiter || byte == b'\n' || byte == b'\r'
    }

    /// The end of what is not quoted: the next delimiter or newline. Eight bytes at a time, as fields are short.
    pub(super) fn plain_end(&self, text: &[u8], start: usize) -> usize {
        const ONES: u64 = 0x0101_0101_0101_0101;
        const HIGH: u64 = 0x8080_8080_8080_8080;
        // The lowest flag is exact; higher ones may be raised by a borrow.
        let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
        let delimiter = ONES * u64::from(self.delimiter);
        let mut at = start;
        while let Some(bytes) = text.get(at..).and_then(<[u8]>::first_chunk::<8>) {
            let word = u64::from_le_bytes(*bytes);
            let found = zeros(word ^ delimiter) | zeros(word ^ (ONES * 10)) | zeros(word ^ (ONES * 13));
            if found != 0 {
                return at + (found.trailing_zeros() / 8) as usize;
            }
            at += 8;
        }
        let rest = &text[at..];
        at + rest.iter().position(|&byte| self.ends_field(byte)).unwrap_or(rest.len())
    }

    /// The fields of the row that begins at `start`, and where it ends. `each` is given their numbers.
    pub(super) fn row(
        &self,
        text: &[u8],
        start: usize,
        mut each: impl FnMut(usize, &FieldText<'_>) -> Result<()>,
    ) -> Result<usize> {
        let mut scratch = Vec::new();
        let mut at = start;
        for number in 0.. {
            let field = self.field(text, at, &mut scratch)?;
            at = field.end;
            each(number, &field)?;
            if text.get(at) != Some(&self.delimiter) {
                break;
            }
            at += 1;
        }
        Ok(at)
    }
}

/// Finds the ends of rows in text that comes in pieces.
#[derive(Debug)]
pub(super) struct RowScanner {
    dialect: Dialect,
    state: ScanState,
    previous: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ScanState {
    Plain,
    Quoted,
    /// Behind a quote inside quotes: the next byte tells whether it closed them.
    Closing,
}

impl RowScanner {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self { dialect, state: ScanState::Plain, previous: b'\n' }
    }

    /// Whether the text so far ends inside quotes.
    pub(super) fn is_inside_quotes(&self) -> bool {
        self.state == ScanState::Quoted
    }

    /// Calls `end` with the place behind every newline that ends a row, also an empty one, of `piece`.
    pub(super) fn scan(&mut self, piece: &[u8], mut end: impl FnMut(usize) -> Result<()>) -> Result<()> {
        let mut at = 0;
        while at < piece.len() {
            match (self.state, self.dialect.quote) {
                (ScanState::Plain, None) => match memchr2(b'\n', b'\r', &piece[at..]) {
                    Some(found) => {
                        at += found + 1;
                        end(at)?;
                    }
                    None => break,
                },
                (ScanState::Plain, Some(quote)) => {
                    let Some(found) = memchr3(b'\n', b'\r', quote, &piece[at..]) else { break };
                    let place = at + found;
                    at = place + 1;
                    if piece[place] != quote {
                        end(at)?;
                        continue;
                    }
                    let before = if place == 0 { self.previous } else { piece[place - 1] };
                    if self.dialect.ends_field(before) {
                        self.state = ScanState::Quoted;
                    }
                }
                (ScanState::Quoted, quote) => {
                    let Some(found) = memchr(quote.unwrap_or(b'"'), &piece[at..]) else { break };
                    at += found + 1;
                    self.state = ScanState::Closing;
                }
                (ScanState::Closing, quote) => {
                    if Some(piece[at]) == quote {
                        self.state = ScanState::Quoted;
                        at += 1;
                    } else {
                        self.state = ScanState::Plain;
                    }
                }
            }
        }
        self.previous = piece.last().copied().unwrap_or(self.previous);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const COMMA: Dialect = Dialect { delimiter: b',', quote: Some(b'"') };

    /// Rows as the field splitter sees them.
    fn split(text: &[u8]) -> Option<Vec<Vec<Vec<u8>>>> {
        let mut rows = Vec::new();
        let mut at = 0;
        while at < text.len() {
            if matches!(text[at], b'\n' | b'\r') {
                at += 1;
                continue;
            }
            let mut row = Vec::new();
            at = COMMA
                .row(text, at, |_, field| {
                    row.push(field.content.to_vec());
                    Ok(())
                })
                .ok()?;
            rows.push(row);
        }
        Some(rows)
    }

    /// The rows that the scanner counts when the text comes in pieces of `size` bytes.
    fn count(text: &[u8], size: usize) -> Option<usize> {
        let mut scanner = RowScanner::new(COMMA);
        let (mut rows, mut start, mut base) = (0, 0, 0);
        for piece in text.chunks(size) {
            scanner
                .scan(piece, |end| {
                    rows += usize::from(base + end - start > 1);
                    start = base + end;
                    Ok(())
                })
                .unwrap();
            base += piece.len();
        }
        (!scanner.is_inside_quotes()).then_some(rows + usize::from(start < text.len()))
    }

    #[test]
    fn quotes_hide_what_they_enclose() {
        let rows = split(b"a,\"b,\n\"\"c\"\"\",d\r\n\r\n\"\"x,5\" disk,\"q\"tail\n").unwrap();
        let text: Vec<Vec<&str>> =
            rows.iter().map(|row| row.iter().map(|field| std::str::from_utf8(field).unwrap()).collect()).collect();
        assert_eq!(text, [vec!["a", "b,\n\"c\"", "d"], vec!["x", "5\" disk", "qtail"]]);
    }

    proptest! {
        #[test]
        fn scanner_and_splitter_agree(text in "[a,\"\n\r]{0,40}", size in 1usize..9) {
            let text = text.as_bytes();
            prop_assert_eq!(split(text).map(|rows| rows.len()), count(text, size));
        }
    }
}
