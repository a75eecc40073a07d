//! Which nodes and buffers of a record batch belong to which column: their order follows the schema, depth first.

use arrow::datatypes::{DataType, Fields, UnionMode};
use arrow::ipc::MetadataVersion;

use super::plan::members;
use crate::{Error, Result};

/// Buffers of one view column at most.
const BUFFERS_MAX: usize = 1 << 24;

/// A place in the lists of nodes, buffers and variadic counts.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    pub node: usize,
    pub buffer: usize,
    pub variadic: &'a [i64],
    pub version: MetadataVersion,
}

impl Cursor<'_> {
    /// Passes over a column.
    pub(super) fn skip(&mut self, data_type: &DataType) -> Result<()> {
        self.node += 1;
        self.buffer += match data_type {
            DataType::Null | DataType::RunEndEncoded(..) => 0,
            DataType::Struct(_) | DataType::FixedSizeList(..) => 1,
            DataType::Utf8 | DataType::Binary | DataType::LargeUtf8 | DataType::LargeBinary => 3,
            DataType::ListView(_) | DataType::LargeListView(_) => 3,
            DataType::Utf8View | DataType::BinaryView => {
                let wrong = || Error::corrupt("a view column has no sound count of buffers. Restore the file");
                let (&count, rest) = self.variadic.split_first().ok_or_else(wrong)?;
                self.variadic = rest;
                usize::try_from(count).ok().filter(|&count| count <= BUFFERS_MAX).ok_or_else(wrong)? + 2
            }
            DataType::Union(_, mode) => {
                usize::from(self.version < MetadataVersion::V5) + if *mode == UnionMode::Dense { 2 } else { 1 }
            }
            _ => 2,
        };
        if matches!(data_type, DataType::Dictionary(..)) {
            return Ok(());
        }
        members(data_type).into_iter().try_for_each(|member| self.skip(member.data_type()))
    }

    /// Goes from the start of struct members to the member `path`, noting the (node, validity buffer) of each struct
    /// that is entered. Ends at the member's own node; gives its type.
    pub(super) fn descend<'f>(
        &mut self,
        fields: &'f Fields,
        path: &[String],
        structs: &mut Vec<(usize, usize)>,
    ) -> Result<&'f DataType> {
        let missing = || Error::internal("a member of a struct was not found again");
        let (name, rest) = path.split_first().ok_or_else(missing)?;
        for field in fields {
            if field.name() != name {
                self.skip(field.data_type())?;
                continue;
            }
            return match (field.data_type(), rest) {
                (data_type, []) => Ok(data_type),
                (DataType::Struct(inner), rest) => {
                    structs.push((self.node, self.buffer));
                    self.node += 1;
                    self.buffer += 1;
                    self.descend(inner, rest, structs)
                }
                _ => Err(missing()),
            };
        }
        Err(missing())
    }
}
