//! A dataset with the hints of its samples: what it gives is the same, sooner.

use std::sync::Arc;

use bytes::Bytes;

use crate::Result;
use crate::dataset::{Block, Dataset, Unit};
use crate::error::Place;
use crate::field::Schema;
use crate::hints::Hints;
use crate::rows::{RowLayout, Rows};
use crate::storage::{Range, Source};

/// The dataset below and its hints.
#[derive(Debug, Clone)]
pub struct Hinted {
    base: Arc<dyn Dataset>,
    hints: Arc<Hints>,
    /// Number of the first sample of each block.
    starts: Arc<[u64]>,
}

impl Hinted {
    pub fn new(base: Arc<dyn Dataset>, hints: Hints) -> Self {
        let starts = base.blocks().iter().scan(0, |next, block| {
            let start = *next;
            *next += block.rows;
            Some(start)
        });
        Self { starts: starts.collect(), hints: Arc::new(hints), base }
    }
}

impl Dataset for Hinted {
    fn hint(&self, block: usize, row: u64, field: usize, into: &mut Vec<u8>) {
        self.hints.read(self.starts[block] + row, field, into);
    }

    fn at_epoch(&self, epoch: u64) -> Option<Arc<dyn Dataset>> {
        Some(Arc::new(Self { base: self.base.at_epoch(epoch)?, ..self.clone() }))
    }

    fn format(&self) -> &'static str {
        self.base.format()
    }

    fn schema(&self) -> &Schema {
        self.base.schema()
    }

    fn sources(&self) -> &[Source] {
        self.base.sources()
    }

    fn classes(&self) -> &[String] {
        self.base.classes()
    }

    fn layout(&self) -> RowLayout {
        self.base.layout()
    }

    fn blocks(&self) -> &[Block] {
        self.base.blocks()
    }

    fn given_order(&self) -> Option<&Arc<[u64]>> {
        self.base.given_order()
    }

    fn working_bytes(&self) -> u64 {
        self.base.working_bytes()
    }

    fn fingerprint(&self) -> &str {
        self.base.fingerprint()
    }

    fn notices(&self) -> Vec<String> {
        self.base.notices()
    }

    fn ranges(&self, block: usize) -> Vec<Range> {
        self.base.ranges(block)
    }

    fn units(&self) -> Vec<Unit> {
        self.base.units()
    }

    fn place(&self, block: usize, row: u64, field: usize) -> Place {
        self.base.place(block, row, field)
    }

    fn encoded_at(&self, block: usize, row: u64, field: usize) -> Option<Range> {
        self.base.encoded_at(block, row, field)
    }

    fn parts(&self, block: usize) -> Vec<Vec<Range>> {
        self.base.parts(block)
    }

    fn decode_part(&self, block: usize, part: usize, bytes: &[Bytes], rows: &mut Rows) -> Result<()> {
        self.base.decode_part(block, part, bytes, rows)
    }

    fn decode(&self, block: usize, bytes: &[Bytes], rows: &mut Rows) -> Result<()> {
        self.base.decode(block, bytes, rows)
    }
}
