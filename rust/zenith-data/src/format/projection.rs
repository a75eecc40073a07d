//! Which columns become which fields: options and a schema, resolved into outputs that know their place in a row.

use std::collections::{BTreeSet, HashMap};

use arrow::datatypes::{DataType, Fields, Schema as ArrowSchema, TimeUnit};

use super::cast::{promote, scalar_bits};
use super::json;
use super::options::{ColumnOptions, Decimals, Fill, Nulls, Ragged};
use crate::field::{DType, Field, FieldKind, Schema};
use crate::rows::{RowLayout, Slot};
use crate::{Error, ErrorKind, Result};

/// Structs nested deeper than this are refused rather than walked.
const DEPTH_MAX: usize = 64;

/// The fields that are delivered and where the values of each come from.
#[derive(Debug, Clone, PartialEq)]
pub struct Projection {
    schema: Schema,
    leaves: Vec<Leaf>,
    outputs: Vec<Output>,
}

/// A column that is read, as far down as it is a struct.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// The names on the way to it, joined by dots.
    pub name: String,
    pub path: Vec<String>,
    pub data_type: DataType,
}

/// One leaf's way into a sample. A leaf may have several.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    pub leaf: usize,
    /// The field it is part of.
    pub field: usize,
    pub target: Target,
}

/// Where and as what the values are written.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// `per_row` elements at byte `offset` of the row. `fill` and `pad` are bits of `dtype`.
    Dense {
        offset: usize,
        dtype: DType,
        per_row: usize,
        fill: Option<u64>,
        pad: Option<u64>,
    },
    /// The elements of a list, one value of varying field `index`.
    Ragged {
        index: usize,
        dtype: DType,
        fill: Option<u64>,
    },
    /// Text or bytes as they are.
    Bytes {
        index: usize,
        fill: Option<Vec<u8>>,
    },
    Json {
        index: usize,
    },
}

/// What a column's type means to samples.
enum Class {
    /// `natural` as the values are stored, `delivered` unless the user chose.
    Dense {
        natural: DType,
        delivered: DType,
        shape: Vec<usize>,
        unit: Option<String>,
    },
    List {
        delivered: DType,
        unit: Option<String>,
    },
    Text,
    Binary,
    Json,
}

impl Projection {
    /// Resolves `options` against the columns of a file.
    pub fn new(schema: &ArrowSchema, options: &ColumnOptions) -> Result<Self> {
        let mut resolver = Resolver::new(options, flatten(schema.fields())?);
        let mut plans = Vec::new();
        for (name, source) in &options.stack {
            let mut leaves = Vec::new();
            for column in source.names() {
                leaves.extend(resolver.find(column)?);
            }
            let scalar = matches!(source, super::options::StackSource::One(_));
            plans.push(resolver.plan(name.clone(), leaves, scalar)?);
        }
        let stacked: BTreeSet<usize> = plans.iter().flat_map(|plan| plan.leaves.clone()).collect();
        let single: Vec<usize> = match &options.columns {
            Some(columns) => {
                let mut found = Vec::new();
                for column in columns {
                    if options.encoded.contains(column) {
                        found.push(resolver.find_encoded(column)?);
                        continue;
                    }
                    found.extend(resolver.find(column)?.into_iter().filter(|leaf| !stacked.contains(leaf)));
                }
                found
            }
            None if options.stack.is_empty() => (0..resolver.available.len()).collect(),
            None => Vec::new(),
        };
        for leaf in single {
            let name = resolver.field_name(leaf);
            plans.push(resolver.plan(name, vec![leaf], true)?);
        }
        resolver.finish(plans)
    }

    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The columns to read, in the order in which they are first used.
    pub fn leaves(&self) -> &[Leaf] {
        &self.leaves
    }

    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// Refuses `other`, another file's projection, unless it delivers the same fields from columns of the same types.
    pub(crate) fn check_same(&self, other: &Projection) -> Result<()> {
        for (one, two) in self.leaves.iter().zip(&other.leaves) {
            if one != two {
                let why = format!(
                    "the column is {} {}, but {} {} in the first file. Open files of one schema, or choose common columns",
                    two.name, two.data_type, one.name, one.data_type
                );
                return Err(Error::unsupported(why).in_field(&one.name));
            }
        }
        if self.leaves.len() != other.leaves.len() {
            let longer = if self.leaves.len() > other.leaves.len() { &self.leaves } else { &other.leaves };
            let name = longer.get(self.leaves.len().min(other.leaves.len())).map_or("", |leaf| leaf.name.as_str());
            let why = "the column is in some files and not in others. Choose common columns with columns=[..]";
            return Err(Error::unsupported(why).in_field(name));
        }
        if self != other {
            return Err(Error::unsupported("the fields differ from those of the first file"));
        }
        Ok(())
    }
}

/// One field before its place in the row is known.
struct FieldPlan {
    field: Field,
    /// Indices into the available columns.
    leaves: Vec<usize>,
    targets: Vec<Target>,
}

struct Resolver<'a> {
    options: &'a ColumnOptions,
    available: Vec<Leaf>,
    /// The numbers of the columns under their names: there may be a hundred thousand.
    by_name: HashMap<String, Vec<usize>>,
    /// Leaves of the projection, by their number among the available ones.
    places: HashMap<usize, usize>,
    leaves: Vec<usize>,
    /// Names in `dtypes` and `nulls` that were met.
    used: BTreeSet<String>,
}

impl<'a> Resolver<'a> {
    fn new(options: &'a ColumnOptions, available: Vec<Leaf>) -> Self {
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (number, leaf) in available.iter().enumerate() {
            // A struct's name stands for all its members.
            let ends = leaf.name.match_indices('.').map(|(end, _)| end).chain([leaf.name.len()]);
            for end in ends {
                by_name.entry(leaf.name[..end].to_owned()).or_default().push(number);
            }
        }
        Self { options, available, by_name, places: HashMap::new(), leaves: Vec::new(), used: BTreeSet::new() }
    }

    /// The columns that `name` stands for: itself, or the members of a struct.
    fn find(&self, name: &str) -> Result<Vec<usize>> {
        let found = self.by_name.get(name).cloned().unwrap_or_default();
        if found.is_empty() {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("there is no column {name:?}. There are: {}", self.names()),
            ));
        }
        Ok(found)
    }

    /// The column of bytes that `name` stands for.
    fn find_encoded(&self, name: &str) -> Result<usize> {
        let found = self.find(name)?;
        let member = format!("{name}.bytes");
        let bytes = found.iter().copied().find(|&leaf| [name, &member].contains(&self.available[leaf].name.as_str()));
        let class = bytes.map(|leaf| classify(&self.available[leaf].data_type, self.options)).transpose();
        match (bytes, class) {
            (Some(leaf), Ok(Some(Class::Binary))) => Ok(leaf),
            _ => {
                let types: Vec<_> = found
                    .iter()
                    .map(|&leaf| format!("{} {}", self.available[leaf].name, self.available[leaf].data_type))
                    .collect();
                let why = format!(
                    "no encoded pictures are in this column ({}): it must be bytes, or a struct with a member bytes. Paths \
                     are not opened: write the files' bytes into the column",
                    types.join(", ")
                );
                Err(Error::unsupported(why).in_field(name))
            }
        }
    }

    /// The name that a column is delivered by: its own, or that of the struct whose bytes it is.
    fn field_name(&self, leaf: usize) -> String {
        let name = &self.available[leaf].name;
        let of = name.strip_suffix(".bytes").filter(|of| self.options.encoded.iter().any(|encoded| encoded == of));
        of.unwrap_or(name).to_owned()
    }

    fn names(&self) -> String {
        let mut names: Vec<&str> = self.available.iter().take(20).map(|leaf| leaf.name.as_str()).collect();
        if self.available.len() > names.len() {
            names.push("...");
        }
        names.join(", ")
    }

    fn plan(&mut self, name: String, leaves: Vec<usize>, scalar: bool) -> Result<FieldPlan> {
        let classes = leaves
            .iter()
            .map(|&leaf| {
                classify(&self.available[leaf].data_type, self.options)
                    .map_err(|error| error.in_field(&self.available[leaf].name))
            })
            .collect::<Result<Vec<_>>>()?;
        let mut seen = BTreeSet::new();
        for leaf in &leaves {
            let name_of = |number: &usize| &self.available[*number].name;
            let twins = self.by_name.get(name_of(leaf)).into_iter().flatten();
            let duplicate = twins.filter(|number| name_of(number) == name_of(leaf)).count() > 1;
            if duplicate || !seen.insert(*leaf) {
                let why = format!("column {:?} occurs twice", self.available[*leaf].name);
                return Err(Error::unsupported(why).in_field(&name));
            }
        }
        match &classes[..] {
            [class] if scalar => self.plan_one(name, leaves[0], class),
            _ => self.plan_stack(name, leaves, &classes),
        }
    }

    fn plan_one(&mut self, name: String, leaf: usize, class: &Class) -> Result<FieldPlan> {
        let column = self.available[leaf].name.clone();
        let mut unit = None;
        let (kind, target) = match class {
            Class::Dense { delivered, shape, unit: of, .. } => {
                let dtype = self.dtype_for(&name, &[&column]).unwrap_or(*delivered);
                unit.clone_from(of);
                let per_row = shape.iter().product();
                let fill = self.fill_bits(&name, &column, dtype)?;
                (
                    FieldKind::Dense { dtype, shape: shape.clone() },
                    Target::Dense { offset: 0, dtype, per_row, fill, pad: None },
                )
            }
            Class::List { delivered, unit: of } => {
                let dtype = self.dtype_for(&name, &[&column]).unwrap_or(*delivered);
                unit.clone_from(of);
                let fill = self.fill_bits(&name, &column, dtype)?;
                if let Ragged::Pad { value, length } = &self.options.ragged {
                    let pad = bits_of(value, dtype).map_err(|error| error.in_field(&name))?;
                    let target = Target::Dense { offset: 0, dtype, per_row: *length, fill, pad: Some(pad) };
                    (FieldKind::Dense { dtype, shape: vec![*length] }, target)
                } else {
                    let jagged = self.options.ragged == Ragged::Jagged;
                    (FieldKind::Ragged { dtype, jagged }, Target::Ragged { index: 0, dtype, fill })
                }
            }
            Class::Text | Class::Binary => {
                let is_encoded = self.options.encoded.contains(&name);
                let fill = match self.fill_for(&name, &column) {
                    // Whoever makes pictures of them says that there are no bytes, which may have another reason here.
                    None if is_encoded => Some(Vec::new()),
                    None => None,
                    Some(Fill::Text(text)) => Some(text.clone().into_bytes()),
                    Some(other) => {
                        return Err(Error::invalid(format!("nulls: {other:?} cannot fill a text")).in_field(&name));
                    }
                };
                let kind = if matches!(class, Class::Text) { FieldKind::Text } else { FieldKind::Binary };
                (kind, Target::Bytes { index: 0, fill })
            }
            Class::Json => (FieldKind::Json, Target::Json { index: 0 }),
        };
        Ok(FieldPlan { field: Field { name, kind, unit }, leaves: vec![leaf], targets: vec![target] })
    }

    fn plan_stack(&mut self, name: String, leaves: Vec<usize>, classes: &[Class]) -> Result<FieldPlan> {
        let columns: Vec<String> = leaves.iter().map(|&leaf| self.available[leaf].name.clone()).collect();
        let mut common: Option<DType> = None;
        for (column, class) in columns.iter().zip(classes) {
            let Class::Dense { delivered, .. } = class else {
                let why =
                    format!("column {column:?} has values of varying size and cannot be stacked; name it in columns");
                return Err(Error::unsupported(why).in_field(&name));
            };
            common = Some(common.map_or(*delivered, |dtype| promote(dtype, *delivered)));
        }
        let names: Vec<&str> = columns.iter().map(String::as_str).collect();
        let Some(common) = common else { return Err(Error::invalid("stack: no columns are named").in_field(&name)) };
        let dtype = self.dtype_for(&name, &names).unwrap_or(common);
        let mut elements = 0;
        let mut targets = Vec::new();
        for (column, class) in columns.iter().zip(classes) {
            let Class::Dense { shape, .. } = class else { continue };
            let per_row = shape.iter().product();
            let fill = self.fill_bits(&name, column, dtype)?;
            targets.push(Target::Dense { offset: elements * dtype.width(), dtype, per_row, fill, pad: None });
            elements += per_row;
        }
        Ok(FieldPlan { field: Field::dense(name, dtype, vec![elements]), leaves, targets })
    }

    fn dtype_for(&mut self, field: &str, columns: &[&str]) -> Option<DType> {
        let chosen = |name: &str| self.options.dtypes.iter().find(|(key, _)| key == name);
        let (key, dtype) = chosen(field).or_else(|| columns.iter().find_map(|column| chosen(column)))?;
        let (key, dtype) = (key.clone(), *dtype);
        self.used.extend(columns.iter().map(|column| (*column).to_owned()));
        self.used.insert(key);
        Some(dtype)
    }

    fn fill_for(&mut self, field: &str, column: &str) -> Option<&Fill> {
        let Nulls::Fill(fills) = &self.options.nulls else { return None };
        let chosen = |name: &str| fills.iter().find(|(key, _)| key == name);
        let (key, fill) = chosen(column).or_else(|| chosen(field))?;
        self.used.insert(key.clone());
        Some(fill)
    }

    fn fill_bits(&mut self, field: &str, column: &str, dtype: DType) -> Result<Option<u64>> {
        self.fill_for(field, column).map(|fill| bits_of(fill, dtype)).transpose().map_err(|error| error.in_field(field))
    }

    /// Gives every field its place in the row.
    fn finish(mut self, plans: Vec<FieldPlan>) -> Result<Projection> {
        let names: BTreeSet<&str> = plans.iter().map(|plan| plan.field.name.as_str()).collect();
        if names.len() < plans.len() {
            return Err(Error::invalid(
                "two fields have the same name. Choose columns, or stack them under other names",
            ));
        }
        self.refuse_unused()?;
        let schema = Schema::new(plans.iter().map(|plan| plan.field.clone()).collect());
        let layout = RowLayout::new(&schema);
        let mut outputs = Vec::new();
        for ((field, plan), slot) in plans.into_iter().enumerate().zip(layout.slots()) {
            for (column, mut target) in plan.leaves.into_iter().zip(plan.targets) {
                match (&mut target, slot.clone()) {
                    (Target::Dense { offset, .. }, Slot::Dense { offset: start, .. }) => *offset += start,
                    (
                        Target::Ragged { index, .. } | Target::Bytes { index, .. } | Target::Json { index },
                        Slot::Varying { index: place },
                    ) => *index = place,
                    _ => return Err(Error::internal("a field and its place in the row disagree")),
                }
                let leaf = *self.places.entry(column).or_insert_with(|| {
                    self.leaves.push(column);
                    self.leaves.len() - 1
                });
                outputs.push(Output { leaf, field, target });
            }
        }
        let leaves = self.leaves.iter().map(|&i| self.available[i].clone()).collect();
        Ok(Projection { schema, leaves, outputs })
    }

    fn refuse_unused(&self) -> Result<()> {
        let fills: &[(String, Fill)] = if let Nulls::Fill(fills) = &self.options.nulls { fills } else { &[] };
        let dtypes = self.options.dtypes.iter().map(|(name, _)| ("dtypes", name));
        for (option, name) in dtypes.chain(fills.iter().map(|(name, _)| ("nulls", name))) {
            let named = self.by_name.get(name).into_iter().flatten();
            let known = named.into_iter().any(|&number| self.available[number].name == *name);
            if !known && !self.used.contains(name) {
                return Err(Error::invalid(format!(
                    "{option}: there is no column {name:?}. There are: {}",
                    self.names()
                )));
            }
        }
        Ok(())
    }
}

/// The columns of a schema with structs taken apart.
pub(crate) fn flatten(fields: &Fields) -> Result<Vec<Leaf>> {
    fn walk(fields: &Fields, path: &mut Vec<String>, leaves: &mut Vec<Leaf>) -> Result<()> {
        if path.len() >= DEPTH_MAX {
            return Err(Error::unsupported(format!("structs are nested more than {DEPTH_MAX} deep")));
        }
        for field in fields {
            path.push(field.name().clone());
            match field.data_type() {
                DataType::Struct(members) if !members.is_empty() => walk(members, path, leaves)?,
                data_type => {
                    leaves.push(Leaf { name: path.join("."), path: path.clone(), data_type: data_type.clone() })
                }
            }
            path.pop();
        }
        Ok(())
    }
    let mut leaves = Vec::new();
    walk(fields, &mut Vec::new(), &mut leaves)?;
    Ok(leaves)
}

fn bits_of(fill: &Fill, dtype: DType) -> Result<u64> {
    let bits = match fill {
        Fill::Bool(value) => scalar_bits(&[u8::from(*value)], DType::Bool, dtype),
        Fill::Int(value) => scalar_bits(&value.to_le_bytes(), DType::I64, dtype),
        Fill::Float(value) => scalar_bits(&value.to_le_bytes(), DType::F64, dtype),
        Fill::Text(_) => None,
    };
    bits.ok_or_else(|| {
        Error::invalid(format!(
            "the value {fill:?} is no {}. Give one that fits, or choose another dtype",
            dtype.name()
        ))
    })
}

/// The element type that the values of a type of fixed width are stored as.
pub(crate) fn natural_dtype(data_type: &DataType) -> Option<DType> {
    Some(match data_type {
        DataType::Boolean => DType::Bool,
        DataType::UInt8 => DType::U8,
        DataType::Int8 => DType::I8,
        DataType::UInt16 => DType::U16,
        DataType::Int16 => DType::I16,
        DataType::UInt32 => DType::U32,
        DataType::Int32 | DataType::Date32 | DataType::Time32(_) => DType::I32,
        DataType::UInt64 => DType::U64,
        DataType::Int64 | DataType::Date64 | DataType::Time64(_) | DataType::Timestamp(..) | DataType::Duration(_) => {
            DType::I64
        }
        DataType::Float16 => DType::F16,
        DataType::Float32 => DType::F32,
        DataType::Float64 => DType::F64,
        _ => return None,
    })
}

/// The unit of dates and times, as Arrow writes it.
fn unit_of(data_type: &DataType) -> Option<String> {
    let short = |unit: &TimeUnit| match unit {
        TimeUnit::Second => "s",
        TimeUnit::Millisecond => "ms",
        TimeUnit::Microsecond => "us",
        TimeUnit::Nanosecond => "ns",
    };
    Some(match data_type {
        DataType::Date32 => "date32[day]".into(),
        DataType::Date64 => "date64[ms]".into(),
        DataType::Time32(unit) => format!("time32[{}]", short(unit)),
        DataType::Time64(unit) => format!("time64[{}]", short(unit)),
        DataType::Duration(unit) => format!("duration[{}]", short(unit)),
        DataType::Timestamp(unit, None) => format!("timestamp[{}]", short(unit)),
        DataType::Timestamp(unit, Some(zone)) => format!("timestamp[{}, {zone}]", short(unit)),
        _ => return None,
    })
}

fn classify(data_type: &DataType, options: &ColumnOptions) -> Result<Class> {
    if let Some(natural) = natural_dtype(data_type) {
        let unit = unit_of(data_type);
        let delivered = if unit.is_some() { DType::I64 } else { natural };
        return Ok(Class::Dense { natural, delivered, shape: Vec::new(), unit });
    }
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Ok(Class::Text),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            Ok(Class::Binary)
        }
        DataType::Decimal32(_, scale)
        | DataType::Decimal64(_, scale)
        | DataType::Decimal128(_, scale)
        | DataType::Decimal256(_, scale) => {
            let natural = match (options.decimals, scale) {
                (Decimals::Float64, _) => DType::F64,
                (Decimals::Error, 0) => DType::I64,
                _ => {
                    let why = format!(
                        "{data_type} has no exact number type. Set decimals=\"float64\", or leave the column out"
                    );
                    return Err(Error::unsupported(why));
                }
            };
            Ok(Class::Dense { natural, delivered: natural, shape: Vec::new(), unit: None })
        }
        DataType::FixedSizeList(item, length) => match classify(item.data_type(), options)? {
            Class::Dense { natural, delivered, mut shape, unit } => {
                let length = usize::try_from(*length).map_err(|_| Error::corrupt("a list has a negative length"))?;
                shape.insert(0, length);
                Ok(Class::Dense { natural, delivered, shape, unit })
            }
            _ => json_class(data_type),
        },
        DataType::List(item) | DataType::LargeList(item) => match classify(item.data_type(), options)? {
            Class::Dense { delivered, shape, unit, .. } if shape.is_empty() => Ok(Class::List { delivered, unit }),
            _ => json_class(data_type),
        },
        DataType::Dictionary(_, values) => classify(values, options),
        _ => json_class(data_type),
    }
}

fn json_class(data_type: &DataType) -> Result<Class> {
    if json::supports(data_type, DEPTH_MAX) {
        Ok(Class::Json)
    } else {
        Err(Error::unsupported(format!(
            "columns of type {data_type} are not supported. Leave the column out with columns=[...]"
        )))
    }
}
