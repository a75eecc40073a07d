//! What users choose about columns, whatever the format they come from.

use serde::{Deserialize, Serialize};

use crate::field::DType;

/// Which columns become which fields, and how. As the user wrote it; `projection::Projection` is the resolved form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ColumnOptions {
    /// The columns to deliver, by name; a member of a struct is `outer.inner`, and `outer` stands for all its members.
    /// `None`: every column, or with `stack` those that it names and no others.
    pub columns: Option<Vec<String>>,
    /// Fields made of columns, in order: `("x", Many(["f0", "f1"]))` is one `[2]` field of a sample, `("y",
    /// One("label"))` is a scalar under another name. They come before the fields of `columns`.
    pub stack: Vec<(String, StackSource)>,
    /// Element type of a field or column. To an integer the values must fit exactly; to a float they are rounded.
    pub dtypes: Vec<(String, DType)>,
    /// Columns of encoded pictures: bytes, or a struct that has a member `bytes`, whose name stands for that member.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub encoded: Vec<String>,
    pub nulls: Nulls,
    pub ragged: Ragged,
    pub decimals: Decimals,
}

impl Default for ColumnOptions {
    fn default() -> Self {
        Self {
            columns: None,
            stack: Vec::new(),
            dtypes: Vec::new(),
            encoded: Vec::new(),
            nulls: Nulls::Error,
            ragged: Ragged::List,
            decimals: Decimals::Error,
        }
    }
}

/// What a stacked field is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum StackSource {
    /// One column under a new name.
    One(String),
    /// Columns side by side.
    Many(Vec<String>),
}

impl StackSource {
    pub fn names(&self) -> &[String] {
        match self {
            StackSource::One(name) => std::slice::from_ref(name),
            StackSource::Many(names) => names,
        }
    }
}

/// What a missing value means.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Nulls {
    /// An error that names the row.
    #[default]
    Error,
    /// A value by field or column; others are an error.
    Fill(Vec<(String, Fill)>),
}

/// What stands for a missing value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Fill {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

/// How lists of differing length are delivered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ragged {
    /// One array a sample.
    #[default]
    List,
    /// Dense `[length]`, filled up with `value`; a longer list is an error.
    Pad { value: Fill, length: usize },
    /// All values of a batch in one array, with the offsets of the samples.
    Jagged,
}

/// What becomes of decimal numbers. Those of scale 0 are exact `int64` in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decimals {
    #[default]
    Error,
    /// The nearest `float64`.
    Float64,
}
