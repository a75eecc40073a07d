//! The shape of a sample: its fields, their element types and how each is delivered.

use serde::{Deserialize, Serialize};

/// Element type of a delivered field. The number crosses language boundaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u32)]
pub enum DType {
    #[serde(rename = "bool")]
    Bool = 1,
    #[serde(rename = "uint8")]
    U8 = 2,
    #[serde(rename = "int8")]
    I8 = 3,
    #[serde(rename = "uint16")]
    U16 = 4,
    #[serde(rename = "int16")]
    I16 = 5,
    #[serde(rename = "uint32")]
    U32 = 6,
    #[serde(rename = "int32")]
    I32 = 7,
    #[serde(rename = "uint64")]
    U64 = 8,
    #[serde(rename = "int64")]
    I64 = 9,
    #[serde(rename = "float16")]
    F16 = 10,
    #[serde(rename = "bfloat16")]
    BF16 = 11,
    #[serde(rename = "float32")]
    F32 = 12,
    #[serde(rename = "float64")]
    F64 = 13,
}

impl DType {
    pub const ALL: [DType; 13] = [
        DType::Bool,
        DType::U8,
        DType::I8,
        DType::U16,
        DType::I16,
        DType::U32,
        DType::I32,
        DType::U64,
        DType::I64,
        DType::F16,
        DType::BF16,
        DType::F32,
        DType::F64,
    ];

    /// Bytes of one element.
    pub const fn width(self) -> usize {
        match self {
            DType::Bool | DType::U8 | DType::I8 => 1,
            DType::U16 | DType::I16 | DType::F16 | DType::BF16 => 2,
            DType::U32 | DType::I32 | DType::F32 => 4,
            DType::U64 | DType::I64 | DType::F64 => 8,
        }
    }

    /// The name that numpy, torch and jax use.
    pub const fn name(self) -> &'static str {
        match self {
            DType::Bool => "bool",
            DType::U8 => "uint8",
            DType::I8 => "int8",
            DType::U16 => "uint16",
            DType::I16 => "int16",
            DType::U32 => "uint32",
            DType::I32 => "int32",
            DType::U64 => "uint64",
            DType::I64 => "int64",
            DType::F16 => "float16",
            DType::BF16 => "bfloat16",
            DType::F32 => "float32",
            DType::F64 => "float64",
        }
    }

    pub fn parse(name: &str) -> Option<DType> {
        DType::ALL.into_iter().find(|dtype| dtype.name() == name)
    }
}

/// How the values of a field are laid out in a sample.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FieldKind {
    /// The same number of elements in every sample; `shape` is the shape of one sample (empty for a scalar).
    Dense { dtype: DType, shape: Vec<usize> },
    /// A list of numbers whose length differs from sample to sample; `jagged` where a batch is wanted as one array with
    /// offsets rather than as a list of arrays.
    Ragged { dtype: DType, jagged: bool },
    /// Text, delivered as `str`.
    Text,
    /// Bytes, delivered as `bytes`.
    Binary,
    /// Anything else (maps, nested lists): one JSON document a sample, delivered as Python objects.
    Json,
}

impl FieldKind {
    /// Bytes of one sample of a dense field; `None` for a field of varying size.
    pub fn width(&self) -> Option<usize> {
        match self {
            FieldKind::Dense { dtype, shape } => Some(dtype.width() * shape.iter().product::<usize>()),
            _ => None,
        }
    }
}

/// One named part of a sample.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    pub name: String,
    pub kind: FieldKind,
    /// Unit of dates and times as Arrow writes it, such as `timestamp[us, UTC]`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unit: Option<String>,
}

impl Field {
    pub fn dense(name: impl Into<String>, dtype: DType, shape: Vec<usize>) -> Self {
        Self { name: name.into(), kind: FieldKind::Dense { dtype, shape }, unit: None }
    }
}

/// The fields of a sample, in the order in which they are delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Schema {
    pub fields: Vec<Field>,
}

impl Schema {
    pub fn new(fields: Vec<Field>) -> Self {
        Self { fields }
    }

    pub fn position(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name)
    }
}
