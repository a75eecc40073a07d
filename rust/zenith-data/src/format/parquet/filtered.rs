//! Which rows the filters want: statistics of the row groups first, then the values of the columns that are tested.
//! What was found is kept in a sidecar, one bit a row, so that opening again decodes nothing.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanBufferBuilder};
use arrow::buffer::{BooleanBuffer, Buffer};
use arrow::datatypes::DataType;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::basic::Type;

use super::chunks::Chunks;
use super::decode::check_pages;
use super::flat::Window;
use super::general::Group;
use super::open::{WHOLE_BYTES_MAX, check_chunks, chunk_range};
use super::{FileEntry, Parquet, ParquetOptions};
use crate::dataset::{Dataset, Ports};
use crate::format::columns::find_leaf;
use crate::format::filter::{Check, Filters};
use crate::format::guard::guard;
use crate::format::projection::{Leaf, flatten};
use crate::format::ranges::merge;
use crate::sidecar::{self, Task};
use crate::storage::{Source, Storage};
use crate::view::Select;
use crate::{Error, ErrorKind, Result};

impl Parquet {
    /// Opens `sources`: reads their footers and, where there are filters that were not asked before, the columns that
    /// these test. Errors: no such column, or a value that cannot be of its column's type.
    pub fn open(ports: Ports<'_>, sources: Vec<Source>, options: &ParquetOptions) -> Result<Arc<dyn Dataset>> {
        let all = Parquet::open_all(ports.storage, sources, options)?;
        if options.filters.is_empty() {
            return Ok(Arc::new(all));
        }
        let mut marks = BooleanBufferBuilder::new(0);
        for index in 0..all.files.len() {
            let source = &all.sources[index];
            let found = all.file_matches(index, ports, options).map_err(|error| error.in_file(&source.name))?;
            marks.append_buffer(&found);
        }
        Ok(Arc::new(Select::marked(Arc::new(all), &marks.finish())?))
    }

    /// The bit of each row of a file.
    fn file_matches(&self, index: usize, ports: Ports<'_>, options: &ParquetOptions) -> Result<BooleanBuffer> {
        let file = &self.files[index];
        let search = Search::new(self, index, &options.filters)?;
        check_chunks(&file.metadata, &file.plan.schema.descriptor, &search.columns, self.sources[index].len)?;
        let rows = file.metadata.file_metadata().num_rows() as usize;
        let groups = 0..file.metadata.num_row_groups();
        let asked = (&options.filters, options.partitioning, format!("{:032x}", file.footer_hash));
        let task = Task {
            key: sidecar::key("parquet-filter-1", &self.sources[index], &asked)?,
            title: format!("filtering {}", self.sources[index].name),
            bytes: groups.clone().map(|group| search.bytes(group)).sum(),
        };
        let bits: Vec<u8> = sidecar::value(ports.sidecar, &task, &mut |progress| {
            let mut marks = BooleanBufferBuilder::new(rows);
            for group in groups.clone() {
                search.group(ports.storage, group, &mut marks).map_err(|error| error.in_block(group as u64))?;
                progress.advance(search.bytes(group))?;
            }
            Ok(marks.as_slice().to_vec())
        })?;
        if bits.len() != rows.div_ceil(8) {
            ports.sidecar.forget(&task);
            return Err(Error::internal("what was kept about the filters does not fit the file. Open it again"));
        }
        Ok(BooleanBuffer::new(Buffer::from_vec(bits), 0, rows))
    }
}

/// One condition of a filter, for one file.
struct Condition {
    /// Index into the columns that are tested.
    tested: usize,
    check: Check,
}

struct Tested {
    leaf: Leaf,
    /// Its columns in the file; none for a column of the directories.
    columns: Vec<usize>,
    partition: Option<usize>,
}

/// The filters made ready for one file.
struct Search<'a> {
    dataset: &'a Parquet,
    index: usize,
    file: &'a FileEntry,
    tested: Vec<Tested>,
    any_of: Vec<Vec<Condition>>,
    /// All columns to read, ascending.
    columns: Vec<usize>,
}

impl<'a> Search<'a> {
    fn new(dataset: &'a Parquet, index: usize, filters: &Filters) -> Result<Self> {
        let file = &dataset.files[index];
        let schema = &file.plan.schema;
        let mut leaves = flatten(schema.arrow.fields())?;
        leaves.extend(flatten(&dataset.partitions.fields.clone().into())?);
        let mut tested: Vec<Tested> = Vec::new();
        let mut any_of = Vec::new();
        for group in filters {
            let mut all_of = Vec::new();
            for condition in group {
                let name = &condition.column;
                let mut found = leaves.iter().filter(|leaf| leaf.name == *name);
                let leaf = found.next().ok_or_else(|| no_column(name, &leaves))?;
                if found.next().is_some() {
                    return Err(Error::unsupported("filters: the column occurs twice").in_field(name));
                }
                let check = Check::new(name, &leaf.data_type, &condition.test)?;
                let known = tested.iter().position(|known| known.leaf.name == *name);
                let at = match known {
                    Some(at) => at,
                    None => {
                        let partition = dataset.partitions.position(name);
                        let columns = if partition.is_some() { Vec::new() } else { schema.columns(leaf)? };
                        tested.push(Tested { leaf: leaf.clone(), columns, partition });
                        tested.len() - 1
                    }
                };
                all_of.push(Condition { tested: at, check });
            }
            any_of.push(all_of);
        }
        let mut columns: Vec<usize> = tested.iter().flat_map(|tested| tested.columns.clone()).collect();
        columns.sort_unstable();
        Ok(Self { dataset, index, file, tested, any_of, columns })
    }

    /// Bytes of the tested columns of a row group.
    fn bytes(&self, group: usize) -> u64 {
        let group = self.file.metadata.row_group(group);
        self.columns.iter().filter_map(|&column| chunk_range(group.column(column))).map(|(_, len)| len).sum()
    }

    /// Appends the bits of one row group.
    fn group(&self, storage: &dyn Storage, index: usize, marks: &mut BooleanBufferBuilder) -> Result<()> {
        let group = self.file.metadata.row_group(index);
        let rows = group.num_rows() as usize;
        let possible = self.possible(index)?;
        if rows == 0 || possible.is_empty() {
            marks.append_n(rows, false);
            return Ok(());
        }
        // Conditions on directories alone have been decided for the whole file.
        if possible.iter().any(|all_of| all_of.iter().all(|one| self.tested[one.tested].partition.is_some())) {
            marks.append_n(rows, true);
            return Ok(());
        }
        let (bytes, claimed) = (self.bytes(index), self.columns.iter().map(|&at| group.column(at).uncompressed_size()));
        let claimed: u64 = claimed.map(|size| size as u64).fold(bytes, u64::saturating_add);
        if claimed > WHOLE_BYTES_MAX {
            let why = format!(
                "the columns that are filtered take {claimed} bytes in one row group, over the limit of \
                 {WHOLE_BYTES_MAX}. Write smaller row groups"
            );
            return Err(Error::new(ErrorKind::Budget, why));
        }
        let spans = self.columns.iter().filter_map(|&column| chunk_range(group.column(column))).collect();
        let ranges = merge(self.index as u32, spans);
        let bytes = storage.submit(&self.dataset.sources, &ranges)?.wait()?;
        let chunks = Chunks::new(&ranges, &bytes, self.dataset.sources[self.index].len)?;
        let chunks = Arc::new(chunks);
        let metadata = &self.file.metadata;
        let reader = Group { metadata, index, chunks: &chunks, tables: None, schema: &self.file.plan.schema };
        let window = Window { skip: 0, take: rows };
        let found = guard("the row group", || {
            for &column in &self.columns {
                if let Some((offset, len)) = chunk_range(group.column(column)) {
                    check_pages(&chunks.get(offset, len)?)?;
                }
            }
            reader.read(&self.columns, window, |batch, _| {
                let column = |tested: &Tested| match tested.partition {
                    Some(at) => Ok(self.dataset.partitions.column(self.index, at, batch.num_rows())),
                    None => find_leaf(&tested.leaf, batch),
                };
                let arrays = self.tested.iter().map(column).collect::<Result<Vec<_>>>()?;
                marks.append_buffer(&wanted(&possible, &arrays, batch.num_rows())?);
                Ok(())
            })
        });
        found.map_err(|error| {
            self.blame(error, |column| {
                let (offset, len) = chunk_range(group.column(column)).unwrap_or_default();
                check_pages(&chunks.get(offset, len)?)?;
                reader.read(&[column], window, |_, _| Ok(()))
            })
        })
    }

    /// Says which column is damaged, by reading each for itself, and what can be done: which rows the filters want must be
    /// known before there is a loader whose `on_error` could tell to pass over the row group.
    fn blame(&self, error: Error, read: impl Fn(usize) -> Result<()>) -> Error {
        if error.kind() != ErrorKind::Corrupt {
            return error;
        }
        let descriptor = &self.file.plan.schema.descriptor;
        let bad = self.columns.iter().find(|&&column| guard("the column", || read(column)).is_err());
        let why = error.message().trim_end_matches(". Restore the file").trim_end_matches('.').to_owned();
        let error = error.with_message(format!(
            "{why}. The filters test this column in every row group when the dataset is opened: restore the file, leave it \
             out, or open without filters, where a loader's on_error=\"skip\" passes over the row group"
        ));
        match bad {
            Some(&column) => error.in_field(&descriptor.column(column).path().string()),
            None => error,
        }
    }

    /// The groups of conditions that some row of a row group may meet, as far as statistics tell.
    fn possible(&self, group: usize) -> Result<Vec<&[Condition]>> {
        let mut possible = Vec::new();
        for all_of in &self.any_of {
            let mut may = true;
            for condition in all_of {
                may = may && self.may_match(condition, group)?;
            }
            if may {
                possible.push(&all_of[..]);
            }
        }
        Ok(possible)
    }

    /// Whether any row of a row group may meet a condition. Where statistics are missing or in doubt, it may.
    fn may_match(&self, condition: &Condition, group: usize) -> Result<bool> {
        let tested = &self.tested[condition.tested];
        if let Some(at) = tested.partition {
            let value = self.dataset.partitions.column(self.index, at, 1);
            return Ok(condition.check.matches(&value)?.value(0));
        }
        // Statistics that cannot be read are no reason to refuse a file that can be.
        let bounds = guard("statistics", || Ok(self.bounds(tested, group))).unwrap_or(None);
        match bounds {
            None => Ok(true),
            Some(Bounds::AllNull) => Ok(false),
            Some(Bounds::Within(min, max)) => condition.check.may_match(&min, &max),
        }
    }

    fn bounds(&self, tested: &Tested, group: usize) -> Option<Bounds> {
        let (&[column], [name]) = (&tested.columns[..], &tested.leaf.path[..]) else { return None };
        let schema = &self.file.plan.schema;
        let group = self.file.metadata.row_group(group);
        let statistics = group.column(column).statistics()?;
        // Times of 96 bits have no defined order, nor have the bounds that old writers gave to some types.
        if schema.descriptor.column(column).physical_type() == Type::INT96 || statistics.is_min_max_deprecated() {
            return None;
        }
        if statistics.null_count_opt() == Some(group.num_rows() as u64) {
            return Some(Bounds::AllNull);
        }
        let converter = StatisticsConverter::try_new(name, &schema.arrow, &schema.descriptor).ok()?;
        let min = converter.row_group_mins(std::iter::once(group)).ok()?;
        let max = converter.row_group_maxes(std::iter::once(group)).ok()?;
        let fits = |array: &ArrayRef| array.len() == 1 && *array.data_type() == tested.leaf.data_type;
        (fits(&min) && fits(&max) && !matches!(min.data_type(), DataType::Null)).then_some(Bounds::Within(min, max))
    }
}

/// What statistics say about the values of a column in a row group.
enum Bounds {
    AllNull,
    /// The smallest and the largest, each null where it is not known.
    Within(ArrayRef, ArrayRef),
}

/// The rows that meet every condition of any group.
fn wanted(any_of: &[&[Condition]], arrays: &[ArrayRef], rows: usize) -> Result<BooleanBuffer> {
    let mut any = BooleanBuffer::new_unset(rows);
    for all_of in any_of {
        let mut all = BooleanBuffer::new_set(rows);
        for condition in *all_of {
            all = &all & &condition.check.matches(&arrays[condition.tested])?;
        }
        any = &any | &all;
    }
    Ok(any)
}

fn no_column(name: &str, leaves: &[Leaf]) -> Error {
    let names: Vec<&str> = leaves.iter().take(20).map(|leaf| leaf.name.as_str()).collect();
    let why = format!("filters: there is no column {name:?} with plain values. There are: {}", names.join(", "));
    Error::new(ErrorKind::NotFound, why)
}
