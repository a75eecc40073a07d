//! The text of a block to rows. Text is row-major as rows are, so a value goes straight to its place.

use std::collections::HashMap;

use lexical_core::FromLexical;

use super::dialect::{Dialect, FieldText};
use super::number;
use crate::field::DType;
use crate::format::projection::{Projection, Target};
use crate::rows::{Column, Rows};
use crate::{Error, Result};

/// Rows are put together in this much memory, which stays in the first-level cache, and copied to where they wait.
const TILE_BYTES: usize = 16 << 10;

/// How the columns of a file become samples.
#[derive(Debug, Clone)]
pub(super) struct Parser {
    dialect: Dialect,
    null_values: Vec<Vec<u8>>,
    columns: Vec<ColumnPlan>,
    stride: usize,
    has_text: bool,
}

#[derive(Debug, Clone)]
struct ColumnPlan {
    name: String,
    way: Way,
    outputs: Vec<Target>,
}

/// How a value is read where it is written in the plain way; what is not goes the long way round.
#[derive(Debug, Clone, Copy)]
enum Way {
    Skip,
    F32(usize),
    F64(usize),
    Integer(usize, DType),
    Text(usize),
    Long,
}

impl Parser {
    /// `names` are the columns of the file; the projection's leaves are some of them, and of those of the directories.
    pub(super) fn new(
        dialect: Dialect,
        null_values: &[String],
        names: &[String],
        projection: &Projection,
        stride: usize,
    ) -> Self {
        let mut columns: Vec<ColumnPlan> =
            names.iter().map(|name| ColumnPlan { name: name.clone(), way: Way::Skip, outputs: Vec::new() }).collect();
        // Of two columns of one name the projection takes neither.
        let numbers: HashMap<&str, usize> =
            names.iter().enumerate().map(|(number, name)| (name.as_str(), number)).collect();
        for output in projection.outputs() {
            if let Some(&number) = numbers.get(projection.leaves()[output.leaf].name.as_str()) {
                columns[number].outputs.push(output.target.clone());
            }
        }
        for column in &mut columns {
            column.way = match column.outputs[..] {
                [] => Way::Skip,
                [Target::Dense { offset, dtype: DType::F32, .. }] => Way::F32(offset),
                [Target::Dense { offset, dtype: DType::F64, .. }] => Way::F64(offset),
                [Target::Dense { offset, dtype, .. }] if !matches!(dtype, DType::Bool | DType::F16 | DType::BF16) => {
                    Way::Integer(offset, dtype)
                }
                [Target::Bytes { index, fill: None }] => Way::Text(index),
                _ => Way::Long,
            };
        }
        let mut targets = columns.iter().flat_map(|column| &column.outputs);
        let has_text = targets.any(|target| matches!(target, Target::Bytes { .. }));
        let null_values = null_values.iter().map(|text| text.clone().into_bytes()).collect();
        Self { dialect, null_values, columns, stride, has_text }
    }

    /// Bytes of the dense part of a row.
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    pub(super) fn dialect(&self) -> &Dialect {
        &self.dialect
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.columns.iter().map(|column| column.name.as_str()).collect()
    }

    pub(super) fn is_null(&self, field: &FieldText<'_>) -> bool {
        self.is_null_value(field.content.trim_ascii())
    }

    fn is_null_value(&self, trimmed: &[u8]) -> bool {
        trimmed.is_empty() || self.null_values.iter().any(|null| null == trimmed)
    }

    /// Appends every row of `text`. `line` is the number of its first line, for messages; `blank` is a row of which only
    /// what the columns of the text do not write counts.
    pub(super) fn parse(&self, text: &[u8], line: u64, blank: &[u8], rows: &mut Rows) -> Result<()> {
        let mut at = 0;
        self.parse_rows(text, &mut at, blank, rows).map_err(|error| {
            let before = memchr::memchr_iter(b'\n', &text[..at.min(text.len())]).count() as u64;
            error.at_row(line + before)
        })
    }

    fn parse_rows(&self, text: &[u8], at: &mut usize, blank: &[u8], rows: &mut Rows) -> Result<()> {
        if self.has_text {
            std::str::from_utf8(text).map_err(|error| {
                *at = error.valid_up_to();
                Error::corrupt("the text is not valid UTF-8. Write the file as UTF-8")
            })?;
        }
        let tile_rows = (TILE_BYTES / self.stride.max(1)).max(1);
        let mut tile = blank.repeat(tile_rows);
        let mut scratch = Vec::new();
        let mut filled = 0;
        loop {
            while text.get(*at).is_some_and(|&byte| byte == b'\n' || byte == b'\r') {
                *at += 1;
            }
            if *at >= text.len() {
                break;
            }
            let row = tile.get_mut(filled * self.stride..(filled + 1) * self.stride).unwrap_or_default();
            *at = self.parse_row(text, *at, row, rows, &mut scratch)?;
            filled += 1;
            if filled == tile_rows {
                self.flush(&tile, filled, rows)?;
                filled = 0;
            }
        }
        self.flush(&tile, filled, rows)
    }

    fn flush(&self, tile: &[u8], count: usize, rows: &mut Rows) -> Result<()> {
        if self.stride == 0 || count == 0 {
            return Ok(());
        }
        rows.append_columns(&[(0, Column::Wide { width: self.stride, bytes: &tile[..count * self.stride] })])
    }

    /// The row that begins at `start`; returns where it ends.
    fn parse_row(
        &self,
        text: &[u8],
        start: usize,
        row: &mut [u8],
        rows: &mut Rows,
        scratch: &mut Vec<u8>,
    ) -> Result<usize> {
        let mut at = start;
        let last = self.columns.len().saturating_sub(1);
        for (number, column) in self.columns.iter().enumerate() {
            let end = match column.way {
                Way::F32(offset) => self.quick::<f32, 4>(text, at, row, offset, f32::to_le_bytes),
                Way::F64(offset) => self.quick::<f64, 8>(text, at, row, offset, f64::to_le_bytes),
                Way::Integer(offset, dtype) => self.quick_integer(text, at, row, offset, dtype),
                Way::Skip if !self.is_quoted(text, at) => Some(self.dialect.plain_end(text, at)),
                Way::Text(index) if !self.is_quoted(text, at) => {
                    let end = self.dialect.plain_end(text, at);
                    rows.push_varying(index, &text[at..end]);
                    Some(end)
                }
                _ => None,
            };
            let end = match end {
                Some(end) => end,
                None => {
                    let field = self.dialect.field(text, at, scratch).map_err(|error| error.in_field(&column.name))?;
                    let end = field.end;
                    self.long(&field, column, row, rows).map_err(|error| error.in_field(&column.name))?;
                    end
                }
            };
            match (text.get(end), number == last) {
                (Some(&byte), false) if byte == self.dialect.delimiter => at = end + 1,
                (Some(&byte), true) if byte == self.dialect.delimiter => return Err(self.wrong_count(text, start)),
                (_, false) => return Err(self.wrong_count(text, start)),
                (_, true) => at = end,
            }
        }
        Ok(at)
    }

    fn is_quoted(&self, text: &[u8], at: usize) -> bool {
        self.dialect.quote.is_some() && text.get(at).copied() == self.dialect.quote
    }

    fn wrong_count(&self, text: &[u8], start: usize) -> Error {
        let mut count = 0;
        let counted = self.dialect.row(text, start, |number, _| {
            count = number + 1;
            Ok(())
        });
        counted.err().unwrap_or_else(|| {
            let columns = self.columns.len();
            Error::corrupt(format!("the row has {count} fields where the file has {columns} columns. Mend the row"))
        })
    }

    /// A number that ends where its field does. `None`: anything else.
    #[inline]
    fn quick<T: FromLexical, const N: usize>(
        &self,
        text: &[u8],
        at: usize,
        row: &mut [u8],
        offset: usize,
        bytes: impl Fn(T) -> [u8; N],
    ) -> Option<usize> {
        let (value, length) = lexical_core::parse_partial::<T>(&text[at..]).ok()?;
        let end = at + length;
        if length == 0 || text.get(end).is_some_and(|&byte| !self.dialect.ends_field(byte)) {
            return None;
        }
        *row.get_mut(offset..)?.first_chunk_mut::<N>()? = bytes(value);
        Some(end)
    }

    #[inline]
    fn quick_integer(&self, text: &[u8], at: usize, row: &mut [u8], offset: usize, dtype: DType) -> Option<usize> {
        let (value, length) = lexical_core::parse_partial::<i64>(&text[at..]).ok()?;
        let end = at + length;
        if length == 0 || text.get(end).is_some_and(|&byte| !self.dialect.ends_field(byte)) {
            return None;
        }
        write_bits(row, offset, dtype, number::integer_bits(value.into(), dtype)?);
        Some(end)
    }

    /// Any field, to all of its places.
    fn long(&self, field: &FieldText<'_>, column: &ColumnPlan, row: &mut [u8], rows: &mut Rows) -> Result<()> {
        let trimmed = field.content.trim_ascii();
        for target in &column.outputs {
            match target {
                Target::Dense { offset, dtype, fill, .. } => {
                    let value = if self.is_null_value(trimmed) {
                        fill.ok_or_else(|| {
                            let why = "the value is missing. Give one for such fields with nulls={column: value}";
                            Error::unsupported(why)
                        })?
                    } else {
                        number::bits(trimmed, *dtype).ok_or_else(|| misfit(field.content, *dtype))?
                    };
                    write_bits(row, *offset, *dtype, value);
                }
                Target::Bytes { index, fill: Some(fill) } if !field.quoted && self.is_null_value(trimmed) => {
                    rows.push_varying(*index, fill);
                }
                Target::Bytes { index, .. } => rows.push_varying(*index, field.content),
                Target::Ragged { .. } | Target::Json { .. } => {
                    return Err(Error::internal("a CSV column was to become a list"));
                }
            }
        }
        Ok(())
    }
}

#[inline]
fn write_bits(row: &mut [u8], offset: usize, dtype: DType, bits: u64) {
    let width = dtype.width();
    if let Some(place) = row.get_mut(offset..offset + width) {
        place.copy_from_slice(&bits.to_le_bytes()[..width]);
    }
}

fn misfit(content: &[u8], dtype: DType) -> Error {
    let text = String::from_utf8_lossy(&content[..content.len().min(40)]);
    let dtype = dtype.name();
    Error::corrupt(format!(
        "{text:?} is no {dtype}. Choose a type that holds every value with dtypes={{column: ...}} (\"str\" keeps the text), \
         or name it in null_values if it stands for a missing one"
    ))
}
