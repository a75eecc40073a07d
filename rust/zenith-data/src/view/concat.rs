//! One dataset after another.

use std::sync::Arc;

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use crate::dataset::{Block, Dataset, Unit};
use crate::error::Place;
use crate::field::Schema;
use crate::rows::{RowLayout, Rows};
use crate::storage::{Range, Source};
use crate::{Error, Result};

/// Datasets of one schema, end to end.
#[derive(Debug, Clone)]
pub struct Concat {
    parts: Vec<Part>,
    sources: Arc<[Source]>,
    blocks: Arc<[Block]>,
    order: Option<Arc<[u64]>>,
    fingerprint: String,
}

#[derive(Debug, Clone)]
struct Part {
    dataset: Arc<dyn Dataset>,
    first_block: usize,
    first_source: u32,
}

impl Part {
    /// Ranges of the part as ranges of the whole.
    fn moved(&self, mut ranges: Vec<Range>) -> Vec<Range> {
        ranges.iter_mut().for_each(|range| *range = self.moved_one(*range));
        ranges
    }

    fn moved_one(&self, range: Range) -> Range {
        Range { source: range.source + self.first_source, ..range }
    }
}

impl Concat {
    /// Errors: no dataset, or fields that differ.
    pub fn new(datasets: &[Arc<dyn Dataset>]) -> Result<Self> {
        let Some((first, others)) = datasets.split_first() else {
            return Err(Error::invalid("concat needs at least one dataset"));
        };
        for (number, other) in (1..).zip(others) {
            check_same(first.schema(), other.schema(), number)?;
            if first.layout() != other.layout() {
                let message = format!("dataset {number} of concat stores its elements in other types than the first");
                return Err(Error::invalid(message));
            }
        }
        let mut parts = Vec::with_capacity(datasets.len());
        let (mut sources, mut blocks) = (Vec::new(), Vec::new());
        let mut hash = Xxh3::new();
        hash.update(b"concat");
        for dataset in datasets {
            let first_source =
                u32::try_from(sources.len()).map_err(|_| Error::invalid("concat of more than 2^32 files"))?;
            parts.push(Part { dataset: dataset.clone(), first_block: blocks.len(), first_source });
            sources.extend_from_slice(dataset.sources());
            blocks.extend_from_slice(dataset.blocks());
            hash.update(dataset.fingerprint().as_bytes());
        }
        Ok(Self {
            order: order_of(datasets),
            parts,
            sources: sources.into(),
            blocks: blocks.into(),
            fingerprint: format!("{:032x}", hash.digest128()),
        })
    }

    /// The part that holds `block`; of parts that begin there the last, as all others are empty.
    fn part(&self, block: usize) -> &Part {
        &self.parts[self.parts.partition_point(|part| part.first_block <= block) - 1]
    }
}

/// Errors unless dataset `number` has the fields of the first.
fn check_same(first: &Schema, other: &Schema, number: usize) -> Result<()> {
    for (ours, theirs) in first.fields.iter().zip(&other.fields) {
        if ours != theirs {
            let message = format!(
                "dataset {number} of concat has field {:?} ({:?}) where the first has {:?} ({:?}). Open them with the \
                 same columns and dtypes",
                theirs.name, theirs.kind, ours.name, ours.kind
            );
            return Err(Error::invalid(message).in_field(&ours.name));
        }
    }
    let (ours, theirs) = (first.fields.len(), other.fields.len());
    if ours == theirs {
        return Ok(());
    }
    let extra = first.fields.get(theirs).or(other.fields.get(ours));
    let message = format!("dataset {number} of concat has {theirs} fields, the first {ours}");
    Err(Error::invalid(message).in_field(extra.map_or("", |field| &field.name)))
}

fn order_of(datasets: &[Arc<dyn Dataset>]) -> Option<Arc<[u64]>> {
    if datasets.iter().all(|dataset| dataset.given_order().is_none()) {
        return None;
    }
    let mut order = Vec::new();
    for dataset in datasets {
        let start = order.len() as u64;
        match dataset.given_order() {
            Some(places) => order.extend(places.iter().map(|place| start + place)),
            None => order.extend(start..start + dataset.blocks().iter().map(|block| block.rows).sum::<u64>()),
        }
    }
    Some(order.into())
}

impl Dataset for Concat {
    fn format(&self) -> &'static str {
        "Concat"
    }

    fn schema(&self) -> &Schema {
        self.parts[0].dataset.schema()
    }

    fn sources(&self) -> &[Source] {
        &self.sources
    }

    fn layout(&self) -> RowLayout {
        self.parts[0].dataset.layout()
    }

    fn at_epoch(&self, epoch: u64) -> Option<Arc<dyn Dataset>> {
        let moved: Vec<_> = self.parts.iter().map(|part| part.dataset.at_epoch(epoch)).collect();
        if moved.iter().all(Option::is_none) {
            return None;
        }
        let mut concat = self.clone();
        for (part, moved) in concat.parts.iter_mut().zip(moved) {
            if let Some(dataset) = moved {
                part.dataset = dataset;
            }
        }
        Some(Arc::new(concat))
    }

    fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    fn given_order(&self) -> Option<&Arc<[u64]>> {
        self.order.as_ref()
    }

    fn working_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.dataset.working_bytes()).max().unwrap_or(0)
    }

    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn units(&self) -> Vec<Unit> {
        let of = |part: &Part| {
            let first = part.first_source;
            part.dataset.units().into_iter().map(move |unit| Unit { source: unit.source + first, ..unit })
        };
        self.parts.iter().flat_map(of).collect()
    }

    fn place(&self, block: usize, row: u64, field: usize) -> Place {
        let part = self.part(block);
        part.dataset.place(block - part.first_block, row, field)
    }

    fn ranges(&self, block: usize) -> Vec<Range> {
        let part = self.part(block);
        part.moved(part.dataset.ranges(block - part.first_block))
    }

    fn encoded_at(&self, block: usize, row: u64, field: usize) -> Option<Range> {
        let part = self.part(block);
        part.dataset.encoded_at(block - part.first_block, row, field).map(|range| part.moved_one(range))
    }

    fn hint(&self, block: usize, row: u64, field: usize, into: &mut Vec<u8>) {
        let part = self.part(block);
        part.dataset.hint(block - part.first_block, row, field, into);
    }

    fn parts(&self, block: usize) -> Vec<Vec<Range>> {
        let part = self.part(block);
        part.dataset.parts(block - part.first_block).into_iter().map(|ranges| part.moved(ranges)).collect()
    }

    fn decode_part(&self, block: usize, number: usize, bytes: &[Bytes], rows: &mut Rows) -> Result<()> {
        let part = self.part(block);
        part.dataset.decode_part(block - part.first_block, number, bytes, rows)
    }

    fn decode(&self, block: usize, bytes: &[Bytes], rows: &mut Rows) -> Result<()> {
        let part = self.part(block);
        part.dataset.decode(block - part.first_block, bytes, rows)
    }
}
