//! How the columns of one file are read: resolved once for all files of the same schema.

use std::collections::BTreeSet;

use arrow::datatypes::{DataType, Field, FieldRef, Schema as ArrowSchema, SchemaRef};

use crate::field::DType;
use crate::format::guard::guard;
use crate::format::options::ColumnOptions;
use crate::format::partition::Partitions;
use crate::format::projection::{Projection, natural_dtype};
use crate::{Error, Result};

/// A sample of one column has at most this many elements.
const ELEMENTS_MAX: u64 = 1 << 28;

#[derive(Debug)]
pub(super) struct Plan {
    pub schema: SchemaRef,
    pub projection: Projection,
    /// For each leaf of the projection.
    pub leaves: Vec<LeafPlan>,
    /// Numbers of the dictionaries that the columns need.
    pub dictionaries: BTreeSet<i64>,
    /// Numbers of all dictionaries.
    pub known_dictionaries: BTreeSet<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LeafPlan {
    /// The column of the file that it is, or is a member of.
    Stored { root: usize, flat: Option<Flat> },
    /// A column that the directories hold, by its number among them.
    Partition(usize),
}

impl LeafPlan {
    pub(super) fn flat(&self) -> Option<Flat> {
        match self {
            Self::Stored { flat, .. } => *flat,
            Self::Partition(_) => None,
        }
    }
}

/// Numbers side by side: the stored element type, and how many a row has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flat {
    pub dtype: DType,
    pub per_row: usize,
}

impl Flat {
    /// Where the first `rows` rows end in the buffer of values.
    pub(super) fn bytes(self, rows: u64) -> u64 {
        match self.dtype {
            DType::Bool => rows.div_ceil(8),
            dtype => rows.saturating_mul((dtype.width() * self.per_row) as u64),
        }
    }

    fn new(data_type: &DataType) -> Option<Self> {
        match data_type {
            DataType::FixedSizeList(item, length) => {
                let inner = Self::new(item.data_type()).filter(|flat| flat.dtype != DType::Bool)?;
                let length = usize::try_from(*length).ok().filter(|&length| length > 0)?;
                Some(Self { per_row: inner.per_row.checked_mul(length)?, ..inner })
            }
            other => natural_dtype(other).map(|dtype| Self { dtype, per_row: 1 }),
        }
    }
}

impl Plan {
    pub(super) fn new(schema: ArrowSchema, options: &ColumnOptions, partitions: &Partitions) -> Result<Self> {
        for field in schema.fields() {
            check_sizes(field, 1).map_err(|error| error.in_field(field.name()))?;
        }
        let projection = guard("the schema", || Projection::new(&partitions.extend(&schema)?, options))?;
        let mut leaves = Vec::new();
        let mut dictionaries = BTreeSet::new();
        for leaf in projection.leaves() {
            let first = leaf.path.first();
            if let Some(at) = first.and_then(|name| partitions.position(name)) {
                leaves.push(LeafPlan::Partition(at));
                continue;
            }
            let root = schema.fields().iter().position(|field| Some(field.name()) == first);
            let root = root.ok_or_else(|| Error::internal("a column was not found again").in_field(&leaf.name))?;
            dictionaries_of(schema.field(root), &mut dictionaries);
            leaves.push(LeafPlan::Stored { root, flat: Flat::new(&leaf.data_type) });
        }
        let mut known_dictionaries = BTreeSet::new();
        schema.fields().iter().for_each(|field| dictionaries_of(field, &mut known_dictionaries));
        Ok(Self { schema: schema.into(), projection, leaves, dictionaries, known_dictionaries })
    }
}

/// Refuses sizes in types that are negative or would make a sample huge.
fn check_sizes(field: &Field, elements: u64) -> Result<()> {
    let size = |length: i32| {
        let total = u64::try_from(length).ok().and_then(|length| length.max(1).checked_mul(elements));
        total.filter(|&total| total <= ELEMENTS_MAX).ok_or_else(|| {
            Error::corrupt(format!("the type {} has an absurd size. Restore the file", field.data_type()))
        })
    };
    match field.data_type() {
        DataType::FixedSizeBinary(length) => size(*length).map(drop),
        DataType::FixedSizeList(item, length) => check_sizes(item, size(*length)?),
        data_type => members(data_type).into_iter().try_for_each(|member| check_sizes(member, elements)),
    }
}

/// The fields within a type.
pub(super) fn members(data_type: &DataType) -> Vec<&FieldRef> {
    match data_type {
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => vec![item],
        DataType::Struct(fields) => fields.iter().collect(),
        DataType::RunEndEncoded(ends, values) => vec![ends, values],
        DataType::Union(fields, _) => fields.iter().map(|(_, field)| field).collect(),
        DataType::Dictionary(_, values) => members(values),
        _ => Vec::new(),
    }
}

fn dictionaries_of(field: &Field, found: &mut BTreeSet<i64>) {
    if matches!(field.data_type(), DataType::Dictionary(..)) {
        #[expect(deprecated, reason = "the number is what dictionary batches are found by; there is no other access")]
        found.extend(field.dict_id());
    }
    for member in members(field.data_type()) {
        dictionaries_of(member, found);
    }
}

pub(super) fn has_dictionary(field: &Field) -> bool {
    matches!(field.data_type(), DataType::Dictionary(..))
        || members(field.data_type()).into_iter().any(|member| has_dictionary(member))
}
