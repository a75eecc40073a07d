//! CSV, plain or compressed by gzip or zstd. Opening makes one pass over each file that finds its rows, with quoted newlines
//! in mind, and looks at values to tell the types; what it found is kept in a sidecar. A block is some MiB of text, and
//! goes from text to rows in one go. Compressed files have checkpoints from which a block can be unpacked.

mod dialect;
mod feed;
mod gzip;
mod index;
mod infer;
mod number;
mod open;
mod parse;
mod table;
mod text;
mod zstd;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::dataset::{Block, Dataset};
use crate::field::Schema;
use crate::format::guard::guard;
use crate::format::options::ColumnOptions;
use crate::format::partition::{Partitioning, Partitions};
use crate::format::projection::{Projection, Target};
use crate::memory::room;
use crate::rows::Rows;
use crate::storage::{Range, Source};
use crate::{Error, Result};
use dialect::{Dialect, FieldText};
use feed::Feed;
use index::{FileIndex, TextBlock};
use parse::Parser;
use text::{Compression, Reader};

/// The longest row, and with it the longest field, that is read: what is longer is a lost quote.
const ROW_BYTES_MAX: u64 = 16 << 20;

/// How CSV files are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CsvOptions {
    #[serde(flatten)]
    pub select: ColumnOptions,
    /// What separates fields: one ASCII character.
    pub delimiter: char,
    /// What encloses fields that hold delimiters or newlines: one ASCII character, or nothing does.
    pub quote: Option<char>,
    /// Whether every file begins with the names of the columns; by default it does unless `names` are given.
    pub header: Option<bool>,
    /// Names of the columns, instead of the header's if there is one.
    pub names: Option<Vec<String>>,
    /// Columns that are text whatever they look like.
    pub text: Vec<String>,
    /// What stands for a missing value, besides nothing at all.
    pub null_values: Vec<String>,
    /// Compressed files that unpack to more than this many times their size are refused, from 16 MiB of text on.
    pub max_ratio: u64,
    /// Whether the names of directories hold columns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitioning: Option<Partitioning>,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self {
            select: ColumnOptions::default(),
            delimiter: ',',
            quote: Some('"'),
            header: None,
            names: None,
            text: Vec::new(),
            null_values: ["NA", "N/A", "#N/A", "n/a", "NULL", "null", "None"].map(str::to_owned).to_vec(),
            max_ratio: 200,
            partitioning: None,
        }
    }
}

impl CsvOptions {
    fn has_header(&self) -> bool {
        self.header.unwrap_or(self.names.is_none())
    }

    fn dialect(&self) -> Dialect {
        Dialect { delimiter: self.delimiter as u8, quote: self.quote.map(|quote| quote as u8) }
    }

    fn is_null(&self, field: &FieldText<'_>) -> bool {
        let text = field.content.trim_ascii();
        text.is_empty() || self.null_values.iter().any(|null| null.as_bytes() == text)
    }
}

/// Opened CSV files of the same columns.
#[derive(Debug)]
pub struct Csv {
    sources: Vec<Source>,
    partitions: Partitions,
    projection: Projection,
    parser: Parser,
    files: Vec<FileIndex>,
    blocks: Vec<Block>,
    /// The file of each block, and its number there.
    places: Vec<(u32, u32)>,
    fingerprint: String,
}

impl Csv {
    fn place(&self, block: usize) -> (u32, &FileIndex, &TextBlock) {
        let (source, number) = self.places[block];
        let file = &self.files[source as usize];
        (source, file, &file.blocks[number as usize])
    }

    /// The columns of the directories, for all rows of a block: texts go to `rows`, numbers stand in the row returned,
    /// which every row of the block begins as.
    fn constants(&self, source: usize, place: &TextBlock, rows: &mut Rows) -> Result<Vec<u8>> {
        let mut blank = vec![0; self.parser.stride()];
        if self.partitions.fields.is_empty() {
            return Ok(blank);
        }
        let mut values = self.projection.dense_buffers();
        for (number, output) in self.projection.outputs().iter().enumerate() {
            let Some(at) = self.partitions.position(&self.projection.leaves()[output.leaf].name) else { continue };
            let count = if let Target::Dense { .. } = output.target { 1 } else { place.rows as usize };
            let column = self.partitions.column(source, at, count);
            self.projection.append_output(number, &column, place.line, &mut values, rows)?;
            if let Target::Dense { offset, dtype, .. } = output.target {
                blank[offset..offset + dtype.width()].copy_from_slice(values[number].bytes());
            }
        }
        Ok(blank)
    }
}

impl Dataset for Csv {
    fn format(&self) -> &'static str {
        "Csv"
    }

    fn schema(&self) -> &Schema {
        self.projection.schema()
    }

    fn sources(&self) -> &[Source] {
        &self.sources
    }

    fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn notices(&self) -> Vec<String> {
        let open: Vec<_> = self.sources.iter().zip(&self.files).filter(|(_, file)| file.open_end.is_some()).collect();
        let Some((source, file)) = open.first() else { return Vec::new() };
        let others = if open.len() > 1 { format!(" ({} other files too)", open.len() - 1) } else { String::new() };
        vec![format!(
            "{}, line {}: no newline ends the last row{others}. If the file was cut short, its last value may be too",
            source.name,
            file.open_end.unwrap_or(0)
        )]
    }

    fn ranges(&self, block: usize) -> Vec<Range> {
        let (source, file, place) = self.place(block);
        let (offset, end) = match file.compression {
            Compression::None => (place.start, place.start + place.len),
            _ => (file.checkpoints[place.checkpoint as usize].offset, place.bytes_end),
        };
        vec![Range { source, offset, len: end - offset }]
    }

    fn decode(&self, block: usize, bytes: &[Bytes], rows: &mut Rows) -> Result<()> {
        let (source, _, place) = self.place(block);
        let text = block_text(self, block, bytes)?;
        self.constants(source as usize, place, rows)
            .and_then(|blank| self.parser.parse(&text, place.line, &blank, rows))
            .map_err(|error| error.in_file(&self.sources[source as usize].location))
    }
}

/// The text of a block from the bytes of its range.
fn block_text(csv: &Csv, block: usize, bytes: &[Bytes]) -> Result<Bytes> {
    let (source, file, place) = csv.place(block);
    let bytes = bytes.first().ok_or_else(|| Error::internal("a block of text came without bytes"))?;
    match file.compression {
        Compression::None => Ok(bytes.clone()),
        _ => guard("the compressed text", || unpack(file, place, bytes))
            .map_err(|error| error.in_file(&csv.sources[source as usize].location)),
    }
}

/// The text of a block of a compressed file.
fn unpack(file: &FileIndex, place: &TextBlock, bytes: &Bytes) -> Result<Bytes> {
    let checkpoint = &file.checkpoints[place.checkpoint as usize];
    let mut feed = Feed::of_bytes(bytes.clone(), checkpoint.offset);
    let mut reader = Reader::new(file.compression, checkpoint)?;
    let mut skip = place.start - checkpoint.text;
    let len = place.len as usize;
    let mut text = Vec::new();
    room(&mut text, len)?;
    while text.len() < len && reader.next(&mut feed)? {
        let piece = reader.piece();
        let unwanted = skip.min(piece.len() as u64);
        skip -= unwanted;
        let piece = &piece[unwanted as usize..];
        text.extend_from_slice(&piece[..piece.len().min(len - text.len())]);
    }
    if text.len() < len {
        return Err(Error::corrupt("the compressed data ends before its rows do. Restore the file"));
    }
    Ok(text.into())
}
