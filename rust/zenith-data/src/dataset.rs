//! What a format is to the rest of the engine: a schema, blocks, and a decoder that is brought bytes.

use std::sync::Arc;

use bytes::Bytes;

use crate::Result;
use crate::error::Place;
use crate::field::Schema;
use crate::rows::{RowLayout, Rows};
use crate::sidecar::Sidecar;
use crate::storage::{Range, Source, Storage};

/// What opening a dataset works with.
#[derive(Clone, Copy)]
pub struct Ports<'a> {
    pub storage: &'a dyn Storage,
    pub sidecar: &'a dyn Sidecar,
}

impl std::fmt::Debug for Ports<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Ports").finish_non_exhaustive()
    }
}

/// An independently readable unit: a Parquet row group (or a page-aligned part of one), an Arrow record batch, a span
/// of a CSV file, 4 MiB of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    pub rows: u64,
    /// Bytes of its samples once decoded, estimated before decoding.
    pub decoded_bytes: u64,
}

/// Which part of a file a block was cut from: what reports about bad ones name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Index into the dataset's sources.
    pub source: u32,
    /// The number that errors give it: of its row group, record batch or other unit of the file.
    pub number: u64,
    /// Rows of the file.
    pub rows: std::ops::Range<u64>,
}

/// An opened dataset of one format: immutable, and pure but for the bytes it is brought.
pub trait Dataset: Send + Sync + std::fmt::Debug {
    /// The name users know the format by, such as `Parquet`.
    fn format(&self) -> &'static str;

    fn schema(&self) -> &Schema;

    fn sources(&self) -> &[Source];

    /// Names of the classes that labels are numbers of, where the files tell them.
    fn classes(&self) -> &[String] {
        &[]
    }

    /// How its samples lie in `Rows`.
    fn layout(&self) -> RowLayout {
        RowLayout::new(self.schema())
    }

    /// The dataset as it is in `epoch`, where its samples themselves depend on it (random windows); `None` if they do
    /// not, or if this is it.
    fn at_epoch(&self, epoch: u64) -> Option<Arc<dyn Dataset>> {
        let _ = epoch;
        None
    }

    /// The blocks in file order; sample numbers run through them.
    fn blocks(&self) -> &[Block];

    /// Where the samples stand that users count 0, 1, ...: sample `i` is the `order[i]`-th of the blocks. `None` if they
    /// are counted as they stand, which they are everywhere but in selections that jump about.
    fn given_order(&self) -> Option<&Arc<[u64]>> {
        None
    }

    /// The most decoded bytes that decoding one block holds, estimated: more than it yields where rows are left out.
    fn working_bytes(&self) -> u64 {
        self.blocks().iter().map(|block| block.decoded_bytes).max().unwrap_or(0)
    }

    /// Identity of the content: relative names, sizes, row counts, footers or samples of the bytes, schema,
    /// projection and filter; no times and no directories. 32 hexadecimal digits.
    fn fingerprint(&self) -> &str;

    /// What the user should be told once, such as a last row that may have been cut.
    fn notices(&self) -> Vec<String> {
        Vec::new()
    }

    /// Which ranges must be brought to decode `block`. Sorted by offset, merged where they are near.
    fn ranges(&self, block: usize) -> Vec<Range>;

    /// The unit of every block.
    fn units(&self) -> Vec<Unit> {
        let mut units: Vec<Unit> = Vec::with_capacity(self.blocks().len());
        for (index, block) in self.blocks().iter().enumerate() {
            let source = self.ranges(index).first().map_or(0, |range| range.source);
            let before = units.last().filter(|unit| unit.source == source);
            let (number, start) = before.map_or((0, 0), |unit| (unit.number + 1, unit.rows.end));
            units.push(Unit { source, number, rows: start..start + block.rows });
        }
        units
    }

    /// Where the value of a field comes from, given the row in its block: what errors about that value name.
    fn place(&self, block: usize, row: u64, field: usize) -> Place {
        let units = self.units();
        let unit = units.get(block);
        let source = unit.and_then(|unit| self.sources().get(unit.source as usize));
        Place {
            file: source.map(|source| source.location.clone()),
            row: unit.map(|unit| unit.rows.start + row),
            field: self.schema().fields.get(field).map(|field| field.name.clone()),
            ..Place::default()
        }
    }

    /// Where in its source the encoded value of a field lies as it is, given the row in its block: a transform's input, which may
    /// be read there when it is needed. `None` where it has to be decoded, or is not there.
    fn encoded_at(&self, block: usize, row: u64, field: usize) -> Option<Range> {
        let _ = (block, row, field);
        None
    }

    /// Puts the hint that is known for the value of a field into `into`, given the row in its block, or nothing
    /// (`Transform::hint`).
    fn hint(&self, block: usize, row: u64, field: usize, into: &mut Vec<u8>) {
        let _ = (block, row, field);
        into.clear();
    }

    /// What is read and decoded at a time: the ranges of each part of `block`, in row order. More than one where a part's
    /// bytes can be turned into rows while they are still in the cache.
    fn parts(&self, block: usize) -> Vec<Vec<Range>> {
        vec![self.ranges(block)]
    }

    /// Decodes part `part` of `block` from the bytes of its ranges, appending to the rows of the parts before it.
    fn decode_part(&self, block: usize, part: usize, bytes: &[Bytes], rows: &mut Rows) -> Result<()> {
        debug_assert_eq!(part, 0, "a block is one part unless `parts` says otherwise");
        self.decode(block, bytes, rows)
    }

    /// Decodes `block` from the bytes of `ranges(block)`, in that order, appending its samples to `rows` (which is
    /// empty and has this dataset's layout). Appends exactly `blocks()[block].rows` samples or returns an error.
    fn decode(&self, block: usize, bytes: &[Bytes], rows: &mut Rows) -> Result<()>;
}
