//! How the columns of one file are read: resolved once for all files of the same schema.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema as ArrowSchema};
use parquet::arrow::parquet_to_arrow_schema;
use parquet::basic::Type;
use parquet::file::metadata::ParquetMetaData;
use parquet::schema::types::SchemaDescriptor;

use super::flat::FlatColumn;
use super::parquet_error;
use crate::format::guard::guard;
use crate::format::options::ColumnOptions;
use crate::format::partition::Partitions;
use crate::format::projection::{Leaf, Projection, natural_dtype};
use crate::{Error, Result};

/// What a file says about its columns.
#[derive(Debug)]
pub(super) struct FileSchema {
    pub descriptor: Arc<SchemaDescriptor>,
    /// The whole schema, dictionaries and views replaced by plain values.
    pub arrow: ArrowSchema,
}

impl FileSchema {
    fn new(metadata: &ParquetMetaData) -> Result<Self> {
        let file = metadata.file_metadata();
        let descriptor = file.schema_descr_ptr();
        let arrow = guard("the schema", || {
            parquet_to_arrow_schema(&descriptor, file.key_value_metadata()).map_err(parquet_error)
        })?;
        let arrow = ArrowSchema::new(arrow.fields().iter().map(|field| plain_field(field)).collect::<Fields>());
        Ok(Self { descriptor, arrow })
    }

    /// The columns of the file that hold the values of a leaf, ascending.
    pub(super) fn columns(&self, leaf: &Leaf) -> Result<Vec<usize>> {
        let parts = |column: usize| self.descriptor.column(column).path().parts().to_vec();
        let columns: Vec<usize> =
            (0..self.descriptor.num_columns()).filter(|&column| parts(column).starts_with(&leaf.path)).collect();
        if columns.is_empty() {
            return Err(Error::corrupt("the column has no data in the file").in_field(&leaf.name));
        }
        Ok(columns)
    }
}

/// The columns of a file that are read.
#[derive(Debug)]
pub(super) struct FilePlan {
    pub schema: FileSchema,
    pub projection: Projection,
    /// For each leaf of the projection.
    pub leaves: Vec<LeafPlan>,
    /// All columns that are read, ascending.
    pub columns: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LeafPlan {
    /// Its columns in the file.
    pub columns: Vec<usize>,
    /// The column of the directories that it is, if it is none of the file.
    pub partition: Option<usize>,
    pub flat: Option<FlatColumn>,
}

impl FilePlan {
    pub(super) fn new(metadata: &ParquetMetaData, options: &ColumnOptions, partitions: &Partitions) -> Result<Self> {
        let schema = FileSchema::new(metadata)?;
        let projection = Projection::new(&partitions.extend(&schema.arrow)?, options)?;
        let mut leaves = Vec::new();
        for leaf in projection.leaves() {
            let partition = leaf.path.first().and_then(|name| partitions.position(name));
            leaves.push(if partition.is_some() {
                LeafPlan { columns: Vec::new(), partition, flat: None }
            } else {
                let columns = schema.columns(leaf)?;
                LeafPlan { flat: flat(&schema.descriptor, &columns, &leaf.data_type), partition, columns }
            });
        }
        let mut columns: Vec<usize> = leaves.iter().flat_map(|leaf| leaf.columns.clone()).collect();
        columns.sort_unstable();
        columns.dedup();
        Ok(Self { schema, projection, leaves, columns })
    }
}

fn flat(descriptor: &SchemaDescriptor, columns: &[usize], data_type: &DataType) -> Option<FlatColumn> {
    let &[column] = columns else { return None };
    let description = descriptor.column(column);
    if description.max_rep_level() != 0 {
        return None;
    }
    let length = if description.physical_type() == Type::FIXED_LEN_BYTE_ARRAY { description.type_length() } else { 0 };
    let dtype = FlatColumn::stored_as(description.physical_type(), length, natural_dtype(data_type)?)?;
    Some(FlatColumn { column, dtype, definition: u32::try_from(description.max_def_level()).ok()? })
}

fn plain_field(field: &Field) -> Field {
    Field::new(field.name(), plain_type(field.data_type()), field.is_nullable())
}

/// The type as it is read: values in place of dictionary codes and views.
fn plain_type(data_type: &DataType) -> DataType {
    let inner = |field: &Arc<Field>| Arc::new(plain_field(field));
    match data_type {
        DataType::Dictionary(_, values) => plain_type(values),
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::List(item) | DataType::ListView(item) => DataType::List(inner(item)),
        DataType::LargeList(item) | DataType::LargeListView(item) => DataType::LargeList(inner(item)),
        DataType::FixedSizeList(item, length) => DataType::FixedSizeList(inner(item), *length),
        DataType::Map(entries, sorted) => DataType::Map(inner(entries), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inner).collect()),
        other => other.clone(),
    }
}
