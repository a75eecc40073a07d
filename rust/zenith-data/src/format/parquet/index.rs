//! Where the pages of a large row group are, so that it can be read in parts: from the file's offset index, else by
//! walking the page headers.

use bytes::Bytes;
use parquet::basic::Compression;
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};

use super::flat;
use super::open::chunk_range;
use super::page::{HEADER_BYTES_MAX, PageHeader, PageKind};
use super::plan::FilePlan;
use super::thrift::{Compact, DEPTH_MAX, I32, I64, LIST};
use crate::storage::{Range, Source, Storage};
use crate::{Error, Result};

/// Bytes read for a header at first; most take fewer than 100.
const HEADER_BYTES_AIM: u64 = 256;
/// A chunk with more pages is not split.
const PAGES_MAX: usize = 1 << 20;

/// One data page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PagePlace {
    /// Where its header begins in the file.
    pub offset: u64,
    /// Bytes of header and body.
    pub bytes: u32,
    /// Its first row in the row group.
    pub first_row: u64,
    /// Whether its values are codes, as far as is known.
    pub dictionary: bool,
}

/// The data pages of a chunk, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PageTable {
    pub pages: Vec<PagePlace>,
    /// Offset and length of the dictionary page.
    pub dictionary: Option<(u64, u64)>,
    /// Whether all pages are such that the fast path reads them.
    pub flat: bool,
}

impl PageTable {
    /// The pages that rows `rows` of the row group lie in.
    pub(super) fn overlapping(&self, rows: std::ops::Range<u64>) -> &[PagePlace] {
        let after = |row: u64| self.pages.partition_point(|page| page.first_row <= row);
        let first = after(rows.start).saturating_sub(1);
        let last = self.pages.partition_point(|page| page.first_row < rows.end);
        self.pages.get(first..last).unwrap_or_default()
    }

    /// What must be read for `rows`: the dictionary where it is needed, and the pages.
    pub(super) fn spans(&self, rows: std::ops::Range<u64>) -> Vec<(u64, u64)> {
        let pages = self.overlapping(rows);
        let mut spans = Vec::new();
        // The general reader may ask for the dictionary even where no value needs it.
        if !self.flat || pages.iter().any(|page| page.dictionary) {
            spans.extend(self.dictionary);
        }
        if let (Some(first), Some(last)) = (pages.first(), pages.last()) {
            spans.push((first.offset, last.offset + u64::from(last.bytes) - first.offset));
        }
        spans
    }

    /// Bytes that would be decoded on both sides of a cut before `row`: the page around it, and the dictionary.
    pub(super) fn cut_cost(&self, row: u64) -> u64 {
        let index = self.pages.partition_point(|page| page.first_row < row);
        let starts_here = self.pages.get(index).is_some_and(|page| page.first_row == row);
        let around = index.checked_sub(1).and_then(|i| self.pages.get(i)).filter(|_| !starts_here);
        let right = if starts_here { self.pages.get(index) } else { around };
        let dictionary = self.dictionary.filter(|_| right.is_some_and(|page| page.dictionary));
        around.map_or(0, |page| u64::from(page.bytes)) + dictionary.map_or(0, |(_, len)| len)
    }
}

/// Finds the pages of every column that `plan` reads, or `None` where that cannot be done.
pub(super) fn find_pages(
    storage: &dyn Storage,
    sources: &[Source],
    file: usize,
    group: &RowGroupMetaData,
    plan: &FilePlan,
) -> Result<Option<Vec<PageTable>>> {
    let chunks: Vec<&ColumnChunkMetaData> = plan.columns.iter().map(|&column| group.column(column)).collect();
    let rows = group.num_rows() as u64;
    if chunks.iter().all(|chunk| index_range(chunk, sources[file].len).is_some()) {
        return read_indexes(storage, sources, file, &chunks, rows).map(Some);
    }
    if plan.columns.iter().any(|&column| plan.schema.descriptor.column(column).max_rep_level() > 0) {
        return Ok(None);
    }
    let mut walks: Vec<HeaderWalk> = plan
        .columns
        .iter()
        .zip(&chunks)
        .map(|(&column, chunk)| {
            let fast = plan.leaves.iter().any(|leaf| leaf.flat.is_some_and(|flat| flat.column == column));
            HeaderWalk::new(chunk, fast && flat::unpacks(chunk.compression()))
        })
        .collect::<Result<_>>()?;
    // One header of every column a round, so that their reads are under way together.
    loop {
        let open: Vec<usize> = (0..walks.len()).filter(|&i| walks[i].position < walks[i].end).collect();
        if open.is_empty() {
            break;
        }
        let ranges: Vec<Range> = open.iter().map(|&i| walks[i].range(file)).collect();
        let parts = storage.submit(sources, &ranges)?.wait()?;
        for (&i, bytes) in open.iter().zip(&parts) {
            walks[i].step(bytes).map_err(|error| error.at_offset(walks[i].position))?;
            if walks[i].table.pages.len() > PAGES_MAX {
                return Ok(None);
            }
        }
    }
    for walk in &walks {
        if walk.rows != rows {
            return Err(Error::corrupt(format!(
                "the pages of a column have {} rows of {rows}. Restore the file",
                walk.rows
            )));
        }
    }
    Ok(Some(walks.into_iter().map(|walk| walk.table).collect()))
}

struct HeaderWalk {
    position: u64,
    end: u64,
    /// Bytes to read at the next position.
    aim: u64,
    rows: u64,
    codec: Compression,
    table: PageTable,
}

impl HeaderWalk {
    fn new(chunk: &ColumnChunkMetaData, flat: bool) -> Result<Self> {
        let (start, len) = chunk_range(chunk).ok_or_else(|| Error::internal("a chunk was not checked"))?;
        let table = PageTable { pages: Vec::new(), dictionary: None, flat };
        Ok(Self {
            position: start,
            end: start + len,
            aim: HEADER_BYTES_AIM,
            rows: 0,
            codec: chunk.compression(),
            table,
        })
    }

    fn range(&self, file: usize) -> Range {
        Range { source: file as u32, offset: self.position, len: self.aim.min(self.end - self.position) }
    }

    fn step(&mut self, bytes: &Bytes) -> Result<()> {
        let header = match PageHeader::parse(bytes) {
            Ok(header) => header,
            // It may only be longer than what was read.
            Err(_) if (bytes.len() as u64) < self.end - self.position && self.aim < HEADER_BYTES_MAX as u64 => {
                self.aim *= 16;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let total = header.total_bytes() as u64;
        if total > self.end - self.position {
            return Err(Error::corrupt("a page is longer than its column chunk"));
        }
        match header.kind {
            PageKind::Dictionary { .. } => self.table.dictionary = Some((self.position, total)),
            PageKind::Other => {}
            _ => {
                self.table.flat &= flat::readable(&header, self.codec);
                self.table.pages.push(PagePlace {
                    offset: self.position,
                    bytes: u32::try_from(total).map_err(|_| Error::corrupt("a page is too long"))?,
                    first_row: self.rows,
                    dictionary: header.uses_dictionary(),
                });
                self.rows += header.values() as u64;
            }
        }
        self.position += total;
        self.aim = HEADER_BYTES_AIM;
        Ok(())
    }
}

fn index_range(chunk: &ColumnChunkMetaData, file_len: u64) -> Option<(u64, u64)> {
    let offset = u64::try_from(chunk.offset_index_offset()?).ok()?;
    let len = u64::try_from(chunk.offset_index_length()?).ok().filter(|&len| len > 0)?;
    (offset.checked_add(len)? <= file_len).then_some((offset, len))
}

fn read_indexes(
    storage: &dyn Storage,
    sources: &[Source],
    file: usize,
    chunks: &[&ColumnChunkMetaData],
    rows: u64,
) -> Result<Vec<PageTable>> {
    let range = |chunk: &ColumnChunkMetaData| {
        let (offset, len) = index_range(chunk, sources[file].len).unwrap_or_default();
        Range { source: file as u32, offset, len }
    };
    let ranges: Vec<Range> = chunks.iter().map(|chunk| range(chunk)).collect();
    let parts = storage.submit(sources, &ranges)?.wait()?;
    let tables = chunks.iter().zip(&parts).zip(&ranges).map(|((chunk, bytes), range)| {
        let (start, len) = chunk_range(chunk).ok_or_else(|| Error::internal("a chunk was not checked"))?;
        parse_index(bytes, start, len, rows).map_err(|error| error.at_offset(range.offset))
    });
    tables.collect()
}

/// An offset index: a list of offsets, sizes and first rows. Each must lie in its chunk and ascend.
fn parse_index(bytes: &[u8], start: u64, len: u64, rows: u64) -> Result<PageTable> {
    let mut pages: Vec<PagePlace> = Vec::new();
    let mut input = Compact::new(bytes);
    let wrong = || Error::corrupt("the offset index does not describe its column chunk. Restore the file");
    let mut last = 0;
    while let Some((wire, id)) = input.field(&mut last)? {
        if (id, wire) != (1, LIST) {
            input.skip(wire, DEPTH_MAX)?;
            continue;
        }
        let (_, count) = input.list()?;
        for _ in 0..count {
            let (mut offset, mut size, mut first_row) = (None, None, None);
            let mut last = 0;
            while let Some((wire, id)) = input.field(&mut last)? {
                match (id, wire) {
                    (1, I64) => offset = u64::try_from(input.signed()?).ok(),
                    (2, I32) => size = u32::try_from(input.i32()?).ok(),
                    (3, I64) => first_row = u64::try_from(input.signed()?).ok(),
                    (_, wire) => input.skip(wire, DEPTH_MAX)?,
                }
            }
            let (Some(offset), Some(bytes), Some(first_row)) = (offset, size, first_row) else { return Err(wrong()) };
            let after =
                pages.last().map_or((start, 0), |page| (page.offset + u64::from(page.bytes), page.first_row + 1));
            let inside = offset >= after.0 && offset.saturating_add(bytes.into()) <= start + len;
            if !inside || first_row >= rows || first_row < after.1 || (pages.is_empty() && first_row != 0) {
                return Err(wrong());
            }
            pages.push(PagePlace { offset, bytes, first_row, dictionary: true });
        }
    }
    let first = pages.first().ok_or_else(wrong)?.offset;
    let dictionary = (first > start).then_some((start, first - start));
    // What the pages hold is not known before they are read, so the dictionary is always brought.
    Ok(PageTable { pages, dictionary, flat: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_find_their_pages_and_cuts_their_cost() {
        let page = |offset, first_row| PagePlace { offset, bytes: 10, first_row, dictionary: first_row == 0 };
        let table =
            PageTable { pages: vec![page(14, 0), page(24, 100), page(34, 200)], dictionary: Some((4, 10)), flat: true };
        assert_eq!(table.spans(0..50), [(4, 10), (14, 10)]);
        assert_eq!(table.spans(99..101), [(4, 10), (14, 20)]);
        assert_eq!(table.spans(100..300), [(24, 20)]);
        assert_eq!([99, 100, 250].map(|row| table.cut_cost(row)), [20, 0, 10], "a dictionary counts like a page");
    }
}
