//! A block as Arrow columns, for those who want a table and no samples: here a missing value is a null.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanBuilder, Float64Builder, Int64Builder, RecordBatch, StringBuilder, UInt64Builder};
use arrow::datatypes::{DataType, Field as ArrowField, Schema as ArrowSchema, SchemaRef};
use bytes::Bytes;

use super::number;
use super::{Csv, block_text};
use crate::{Error, Result};

enum Column {
    Int(Int64Builder),
    UInt(UInt64Builder),
    Float(Float64Builder),
    Bool(BooleanBuilder),
    Text(StringBuilder),
}

impl Column {
    fn new(data_type: &DataType) -> Self {
        match data_type {
            DataType::Int64 => Self::Int(Int64Builder::new()),
            DataType::UInt64 => Self::UInt(UInt64Builder::new()),
            DataType::Boolean => Self::Bool(BooleanBuilder::new()),
            DataType::Utf8 => Self::Text(StringBuilder::new()),
            _ => Self::Float(Float64Builder::new()),
        }
    }

    /// Appends a field; `null` if it stands for nothing. `false`: it is not of the column's type.
    fn append(&mut self, content: &[u8], null: bool) -> bool {
        let text = content.trim_ascii();
        let integer = || number::integer(text);
        match self {
            Self::Text(column) => match std::str::from_utf8(content) {
                Ok(text) => column.append_value(text),
                Err(_) => return false,
            },
            Self::Int(column) if null => column.append_null(),
            Self::UInt(column) if null => column.append_null(),
            Self::Float(column) if null => column.append_null(),
            Self::Bool(column) if null => column.append_null(),
            Self::Int(column) => match integer().and_then(|value| i64::try_from(value).ok()) {
                Some(value) => column.append_value(value),
                None => return false,
            },
            Self::UInt(column) => match integer().and_then(|value| u64::try_from(value).ok()) {
                Some(value) => column.append_value(value),
                None => return false,
            },
            Self::Float(column) => match number::float(text) {
                Some(value) => column.append_value(value),
                None => return false,
            },
            Self::Bool(column) => match number::truth(text) {
                Some(value) => column.append_value(value),
                None => return false,
            },
        }
        true
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::Int(mut column) => Arc::new(column.finish()),
            Self::UInt(mut column) => Arc::new(column.finish()),
            Self::Float(mut column) => Arc::new(column.finish()),
            Self::Bool(mut column) => Arc::new(column.finish()),
            Self::Text(mut column) => Arc::new(column.finish()),
        }
    }
}

impl Csv {
    /// The delivered columns, each under its own name and of the type that its values have.
    pub fn arrow_schema(&self) -> ArrowSchema {
        let leaves = self.projection.leaves().iter();
        let fields = leaves.map(|leaf| ArrowField::new(&leaf.name, leaf.data_type.clone(), true));
        ArrowSchema::new(fields.collect::<Vec<_>>())
    }

    /// The columns of `schema`, which are some of `arrow_schema`, in the rows of a block, from the bytes of its ranges.
    pub fn record_batch(&self, block: usize, bytes: &[Bytes], schema: &SchemaRef) -> Result<RecordBatch> {
        let (source, _, place) = self.place(block);
        let text = block_text(self, block, bytes)?;
        let mut at = 0;
        let read = self.read_columns(&text, schema, &mut at).map_err(|error| {
            let before = memchr::memchr_iter(b'\n', &text[..at.min(text.len())]).count() as u64;
            error.in_file(&self.sources[source as usize].location).at_row(place.line + before)
        })?;
        RecordBatch::try_new(schema.clone(), read).map_err(|error| Error::internal(error.to_string()))
    }

    fn read_columns(&self, text: &[u8], schema: &SchemaRef, at: &mut usize) -> Result<Vec<ArrayRef>> {
        let mut columns: Vec<Column> = schema.fields().iter().map(|field| Column::new(field.data_type())).collect();
        let names = self.parser.names();
        let places: Vec<Option<usize>> =
            names.iter().map(|name| schema.fields().iter().position(|field| field.name() == *name)).collect();
        loop {
            while text.get(*at).is_some_and(|&byte| byte == b'\n' || byte == b'\r') {
                *at += 1;
            }
            if *at >= text.len() {
                return Ok(columns.into_iter().map(Column::finish).collect());
            }
            let mut count = 0;
            let end = self.parser.dialect().row(text, *at, |number, field| {
                count = number + 1;
                let Some(place) = places.get(number).copied().flatten() else { return Ok(()) };
                if columns[place].append(field.content, self.parser.is_null(field)) {
                    return Ok(());
                }
                let shown = String::from_utf8_lossy(&field.content[..field.content.len().min(40)]).into_owned();
                let kind = schema.field(place).data_type();
                let why = format!("{shown:?} is no {kind}. Mend the row, or read it with zenith.Csv and dtypes=");
                Err(Error::corrupt(why).in_field(schema.field(place).name()))
            })?;
            if count != names.len() {
                let why =
                    format!("the row has {count} fields where the file has {} columns. Mend the row", names.len());
                return Err(Error::corrupt(why));
            }
            *at = end;
        }
    }
}
