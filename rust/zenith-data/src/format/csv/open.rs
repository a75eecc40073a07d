//! Opening: every file indexed (or its index found in the sidecar), types settled over all of them, columns chosen.

use std::collections::{HashMap, HashSet};

use arrow::datatypes::{DataType, Field as ArrowField, Schema as ArrowSchema};
use xxhash_rust::xxh3::Xxh3Default;

use super::index::FileIndex;
use super::infer::Seen;
use super::parse::Parser;
use super::{Csv, CsvOptions};
use crate::dataset::{Block, Ports};
use crate::field::DType;
use crate::format::ends;
use crate::format::guard::guard;
use crate::format::partition::Partitions;
use crate::format::projection::{Projection, Target};
use crate::rows::RowLayout;
use crate::sidecar::{self, Task};
use crate::storage::Source;
use crate::{Error, ErrorKind, Result};

/// Changes when the index does.
const INDEX_KIND: &str = "csv-1";

impl Csv {
    pub fn open(ports: Ports<'_>, sources: Vec<Source>, options: &CsvOptions) -> Result<Self> {
        check(options)?;
        let mut files = Vec::with_capacity(sources.len());
        for index in 0..sources.len() {
            let file = index_of(ports, &sources, index as u32, options)
                .map_err(|error| error.in_file(&sources[index].location))?;
            files.push(file);
        }
        let names = names(&sources, &files, options)?;
        let partitions = Partitions::read(options.partitioning, &sources)?.with_texts(&options.text);
        let schema = partitions.extend(&schema(&names, &files, options, &partitions)?)?;
        let projection = Projection::new(&schema, &options.select)?;
        let stride = RowLayout::new(projection.schema()).stride();
        let parser = Parser::new(options.dialect(), &options.null_values, &names, &projection, stride);
        let has_text = projection.outputs().iter().any(|output| matches!(output.target, Target::Bytes { .. }));
        let (mut blocks, mut places) = (Vec::new(), Vec::new());
        for (source, file) in files.iter().enumerate() {
            for (number, block) in file.blocks.iter().enumerate() {
                let text = if has_text { block.len } else { 0 };
                blocks.push(Block { rows: block.rows, decoded_bytes: block.rows * stride as u64 + text });
                places.push((source as u32, number as u32));
            }
        }
        let mut hash = Xxh3Default::new();
        for (index, file) in files.iter().enumerate() {
            ends::hash(ports.storage, &sources, index as u32, &mut hash)?;
            hash.update(&file.blocks.iter().map(|block| block.rows).sum::<u64>().to_le_bytes());
            partitions.hash(index, &mut hash);
        }
        let described = serde_json::to_vec(&(projection.schema(), options));
        hash.update(&described.map_err(|error| Error::internal(error.to_string()))?);
        let fingerprint = format!("{:032x}", hash.digest128());
        Ok(Self { sources, partitions, projection, parser, files, blocks, places, fingerprint })
    }
}

fn check(options: &CsvOptions) -> Result<()> {
    for (option, character) in [("delimiter", Some(options.delimiter)), ("quote", options.quote)] {
        let Some(character) = character else { continue };
        if !character.is_ascii() || matches!(character, '\n' | '\r' | '\0') {
            return Err(Error::invalid(format!("{option} must be one ASCII character, got {character:?}")));
        }
    }
    if options.quote == Some(options.delimiter) {
        return Err(Error::invalid(format!("delimiter and quote are both {:?}", options.delimiter)));
    }
    Ok(())
}

fn index_of(ports: Ports<'_>, sources: &[Source], index: u32, options: &CsvOptions) -> Result<FileIndex> {
    let source = &sources[index as usize];
    // What else the index depends on; what is chosen of the columns is none of it.
    let dialect = (options.delimiter, options.quote, options.has_header(), &options.null_values, options.max_ratio);
    let key = sidecar::key(INDEX_KIND, source, &dialect)?;
    let task = Task { key, title: format!("indexing {}", source.name), bytes: source.len };
    sidecar::value(ports.sidecar, &task, &mut |progress| {
        guard("the text", || FileIndex::build(ports.storage, sources, index, options, progress))
    })
}

/// The names of the columns, which every file must have.
fn names(sources: &[Source], files: &[FileIndex], options: &CsvOptions) -> Result<Vec<String>> {
    let Some(first) = files.first() else {
        return Err(Error::new(ErrorKind::NotFound, "there are no CSV files to open"));
    };
    for (source, file) in sources.iter().zip(files) {
        let differs = if options.has_header() && options.names.is_none() {
            file.header.iter().zip(&first.header).position(|(one, other)| one != other)
        } else {
            None
        };
        if let Some(column) = differs {
            let message = format!(
                "column {} is {:?} here and {:?} in the first file. Open files of the same columns",
                column + 1,
                file.header[column],
                first.header[column]
            );
            return Err(Error::invalid(message).in_file(&source.location));
        }
        if file.header.len() != first.header.len() {
            let message = format!(
                "the file has {} columns and the first one {}. Open files of the same columns",
                file.header.len(),
                first.header.len()
            );
            return Err(Error::invalid(message).in_file(&source.location));
        }
    }
    match &options.names {
        Some(names) if names.len() != first.header.len() => {
            let message = format!("{} names are given for the {} columns", names.len(), first.header.len());
            Err(Error::invalid(message).in_file(&sources[0].location))
        }
        Some(names) => Ok(names.clone()),
        None if options.has_header() => Ok(first.header.clone()),
        None => Ok((0..first.header.len()).map(|column| format!("f{column}")).collect()),
    }
}

/// The types of the columns of the text: as the user gave them, or else as their values in all files ask for.
fn schema(names: &[String], files: &[FileIndex], options: &CsvOptions, partitions: &Partitions) -> Result<ArrowSchema> {
    let known: HashSet<&String> = names.iter().collect();
    let is_known = |name: &String| known.contains(name) || partitions.position(name).is_some();
    if let Some(unknown) = options.text.iter().find(|name| !is_known(name)) {
        return Err(Error::new(ErrorKind::NotFound, format!("dtypes: there is no column {unknown:?}")));
    }
    let given = given(options);
    let text: HashSet<&String> = options.text.iter().collect();
    let fields = names.iter().enumerate().map(|(column, name)| {
        let seen = files.iter().filter_map(|file| file.seen.get(column).copied()).fold(Seen::default(), Seen::and);
        let data_type = if text.contains(name) {
            DataType::Utf8
        } else {
            given.get(name.as_str()).map_or_else(|| seen.data_type(), |&dtype| arrow_type(dtype))
        };
        ArrowField::new(name, data_type, true)
    });
    Ok(ArrowSchema::new(fields.collect::<Vec<_>>()))
}

/// The element types that the user chose for columns, or for the fields that they are stacked into.
fn given(options: &CsvOptions) -> HashMap<&str, DType> {
    let select = &options.select;
    let chosen: HashMap<&str, DType> = select.dtypes.iter().map(|(name, dtype)| (name.as_str(), *dtype)).collect();
    let mut given = HashMap::new();
    for (field, of) in &select.stack {
        if let Some(&dtype) = chosen.get(field.as_str()) {
            given.extend(of.names().iter().map(|column| (column.as_str(), dtype)));
        }
    }
    given.extend(chosen);
    given
}

fn arrow_type(dtype: DType) -> DataType {
    match dtype {
        DType::Bool => DataType::Boolean,
        DType::U8 => DataType::UInt8,
        DType::I8 => DataType::Int8,
        DType::U16 => DataType::UInt16,
        DType::I16 => DataType::Int16,
        DType::U32 => DataType::UInt32,
        DType::I32 => DataType::Int32,
        DType::U64 => DataType::UInt64,
        DType::I64 => DataType::Int64,
        DType::F16 | DType::BF16 | DType::F32 => DataType::Float32,
        DType::F64 => DataType::Float64,
    }
}
