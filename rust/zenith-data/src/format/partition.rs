//! Columns that the names of directories hold: `year=2024/month=03/x.parquet` has the columns `year` and `month`.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3Default;

use crate::storage::Source;
use crate::{Error, Result};

/// How directories name columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Partitioning {
    /// `key=value`, both URL-encoded.
    Hive,
}

/// What stands for a missing value.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// The columns that directories give, and each file's values of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Partitions {
    pub fields: Vec<Field>,
    files: Vec<Vec<Option<String>>>,
}

impl Partitions {
    /// Reads the names of `sources`. Errors: a file that lacks a key which the first has, or has others.
    pub(crate) fn read(partitioning: Option<Partitioning>, sources: &[Source]) -> Result<Self> {
        let Some(Partitioning::Hive) = partitioning else { return Ok(Self::default()) };
        let mut keys: Option<Vec<String>> = None;
        let mut files = Vec::with_capacity(sources.len());
        for source in sources {
            let mut pairs = pairs(source).map_err(|error| error.in_file(&source.location))?;
            let keys = keys.get_or_insert_with(|| pairs.iter().map(|(key, _)| key.clone()).collect());
            let mut values = Vec::with_capacity(keys.len());
            for key in keys.iter() {
                let at = pairs.iter().position(|(found, _)| found == key);
                values.push(pairs.remove(at.ok_or_else(|| uneven(key, source))?).1);
            }
            if let Some((key, _)) = pairs.first() {
                return Err(uneven(key, source));
            }
            files.push(values);
        }
        let field = |(at, key): (usize, &String)| {
            let mut values = files.iter().filter_map(|file: &Vec<Option<String>>| file[at].as_deref()).peekable();
            let whole = values.peek().is_some() && values.all(|value| integer(value).is_some());
            Field::new(key, if whole { DataType::Int64 } else { DataType::Utf8 }, true)
        };
        Ok(Self { fields: keys.unwrap_or_default().iter().enumerate().map(field).collect(), files })
    }

    /// The same with the columns `names` as text, whatever their values look like.
    pub(crate) fn with_texts(mut self, names: &[String]) -> Self {
        for field in self.fields.iter_mut().filter(|field| names.contains(field.name())) {
            field.set_data_type(DataType::Utf8);
        }
        self
    }

    /// The column of this name.
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name() == name)
    }

    /// `rows` times the value that column `at` has in `file`.
    pub(crate) fn column(&self, file: usize, at: usize, rows: usize) -> ArrayRef {
        let value = self.files[file][at].as_deref();
        match self.fields[at].data_type() {
            DataType::Int64 => Arc::new(Int64Array::from(vec![value.and_then(integer); rows])),
            _ => Arc::new(StringArray::from(vec![value; rows])),
        }
    }

    /// Adds the columns to those of a file. Errors: the file has one of them itself.
    pub(crate) fn extend(&self, schema: &Schema) -> Result<Schema> {
        let mut fields: Vec<FieldRef> = schema.fields().iter().cloned().collect();
        for field in &self.fields {
            if fields.iter().any(|known| known.name() == field.name()) {
                let why = "the column is in the file and in the names of its directories. Rename one of them";
                return Err(Error::invalid(why).in_field(field.name()));
            }
            fields.push(Arc::new(field.clone()));
        }
        Ok(Schema::new(fields))
    }

    /// Adds a file's values to a fingerprint; nothing where directories hold no columns.
    pub(crate) fn hash(&self, file: usize, hash: &mut Xxh3Default) {
        for value in self.files.get(file).into_iter().flatten() {
            hash.update(value.as_deref().map_or("", |_| "=").as_bytes());
            hash.update(value.as_deref().unwrap_or_default().as_bytes());
            hash.update(&[0]);
        }
    }
}

fn uneven(key: &str, source: &Source) -> Error {
    let why = format!(
        "the key {key:?} is in the directories of some files and not in those of others. Open files that lie in \
         directories of the same keys"
    );
    Error::invalid(why).in_file(&source.location)
}

/// Decimal digits, perhaps with a minus sign, that fit.
fn integer(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// The keys and values on the way to a file: in its name below what was listed, and in the directories right above that,
/// so that a glob or a single file inside a partition has all of its columns.
fn pairs(source: &Source) -> Result<Vec<(String, Option<String>)>> {
    let above = source.location.strip_suffix(source.name.as_str()).unwrap_or("").trim_end_matches('/');
    let mut parts: Vec<&str> = above.rsplit('/').take_while(|part| part.contains('=')).collect();
    parts.reverse();
    let directories = source.name.rsplit_once('/').map_or("", |(directories, _)| directories);
    parts.extend(directories.split('/'));
    let mut pairs: Vec<(String, Option<String>)> = Vec::new();
    for (key, value) in parts.iter().filter_map(|part| part.split_once('=')) {
        let (key, value) = (decoded(key)?, decoded(value)?);
        if pairs.iter().any(|(known, _)| *known == key) {
            return Err(Error::invalid(format!("the key {key:?} occurs twice in the directories of the file")));
        }
        pairs.push((key, (value != NULL).then_some(value)));
    }
    Ok(pairs)
}

/// Takes `%41` for `A`; what is no such code stays as it is.
fn decoded(text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let code = tail.get(..2).filter(|_| byte == b'%').filter(|code| code.iter().all(u8::is_ascii_hexdigit));
        let code =
            code.and_then(|code| std::str::from_utf8(code).ok()).and_then(|code| u8::from_str_radix(code, 16).ok());
        bytes.push(code.unwrap_or(byte));
        rest = if code.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8(bytes)
        .map_err(|_| Error::invalid(format!("the directory name {text:?} is not valid UTF-8 once decoded")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(root: &str, name: &str) -> Source {
        Source { location: format!("{root}{name}"), name: name.into(), len: 0, version: String::new() }
    }

    fn read(names: &[(&str, &str)]) -> Result<Partitions> {
        let sources: Vec<Source> = names.iter().map(|(root, name)| source(root, name)).collect();
        Partitions::read(Some(Partitioning::Hive), &sources)
    }

    #[test]
    fn integers_are_numbers_where_all_are() {
        let found = read(&[
            ("/d/", "year=2024/city=a%2Fb/x"),
            ("/d/", "year=03/city=7/x"),
            ("/d/", "year=__HIVE_DEFAULT_PARTITION__/city=-1/x"),
        ])
        .unwrap();
        let types: Vec<_> = found.fields.iter().map(|field| field.data_type().clone()).collect();
        assert_eq!(types, [DataType::Int64, DataType::Utf8]);
        assert_eq!(*found.column(1, 0, 2), Int64Array::from(vec![3, 3]));
        assert_eq!(*found.column(2, 0, 1), Int64Array::from(vec![None]));
        assert_eq!(*found.column(0, 1, 1), StringArray::from(vec!["a/b"]));
    }

    #[test]
    fn keys_above_what_was_listed_count_up_to_the_first_other_directory() {
        let found = read(&[("/run=5/data/year=1/", "month=2/x"), ("/run=5/data/year=2/", "month=2/x")]).unwrap();
        assert_eq!(found.fields.iter().map(|field| field.name().as_str()).collect::<Vec<_>>(), ["year", "month"]);
    }

    #[test]
    fn uneven_and_repeated_keys_are_refused() {
        assert!(read(&[("/d/", "a=1/x"), ("/d/", "b=1/x")]).is_err());
        assert!(read(&[("/d/", "a=1/x"), ("/d/", "a=1/b=2/x")]).is_err());
        assert!(read(&[("/d/", "a=1/x"), ("/d/", "x")]).is_err());
        assert!(read(&[("/d/", "a=1/a=2/x")]).is_err());
        assert!(read(&[("/d/", "a=%ff/x")]).is_err());
        assert!(read(&[("/d/", "x")]).unwrap().fields.is_empty());
    }
}
