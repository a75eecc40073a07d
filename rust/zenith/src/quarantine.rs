//! The blocks and samples of one dataset that a quarantine file lists.

use std::ops::Range;
use std::sync::Arc;

use zenith_data::dataset::{Dataset, Unit};
use zenith_data::pipeline::Quarantine;
use zenith_data::plan::SampleRef;
use zenith_data::storage::Source;
use zenith_data::{Error, ErrorKind, Result};
use zenith_io::{BadUnit, QuarantineFile};

pub(crate) struct ListedBlocks {
    list: QuarantineFile,
    dataset: Arc<dyn Dataset>,
    units: Vec<Unit>,
}

impl ListedBlocks {
    pub(crate) fn open(path: &str, dataset: Arc<dyn Dataset>) -> Result<Self> {
        let list = QuarantineFile::open(path)?;
        Ok(Self { list, units: dataset.units(), dataset })
    }

    fn unit(&self, block: u32) -> Option<(&Source, &Unit)> {
        let unit = self.units.get(block as usize)?;
        Some((self.dataset.sources().get(unit.source as usize)?, unit))
    }
}

impl ListedBlocks {
    fn find(&self, source: &Source, unit: &Unit, rows: &Range<u64>) -> Option<Error> {
        let known = self.list.find(source, rows)?;
        let kind = ErrorKind::ALL.into_iter().find(|kind| format!("{kind:?}") == known.kind);
        let error = Error::new(kind.unwrap_or(ErrorKind::Corrupt), format!("quarantined: {}", known.message));
        Some(error.in_file(&source.name).in_block(unit.number))
    }

    /// The sample's row of the file, which is the same for all of its fields.
    fn row_of(&self, unit: &Unit, sample: SampleRef) -> Range<u64> {
        let place = self.dataset.place(sample.block as usize, u64::from(sample.row), 0);
        let row = place.row.unwrap_or(unit.rows.start + u64::from(sample.row));
        row..row + 1
    }

    fn list(&self, block: u32, rows: impl FnOnce(&Unit) -> Range<u64>, why: &Error) -> Result<()> {
        let (source, unit) =
            self.unit(block).ok_or_else(|| Error::internal(format!("block {block} has no place in a file")))?;
        let rows = rows(unit);
        self.list.add(BadUnit {
            file: source.location.clone(),
            block: unit.number,
            rows: (rows.start, rows.end),
            kind: format!("{:?}", why.kind()),
            message: why.to_string(),
            version: source.version.clone(),
        })
    }
}

impl Quarantine for ListedBlocks {
    fn listed(&self, block: u32) -> Option<Error> {
        let (source, unit) = self.unit(block)?;
        self.find(source, unit, &unit.rows)
    }

    fn add(&self, block: u32, why: &Error) -> Result<()> {
        self.list(block, |unit| unit.rows.clone(), why)
    }

    fn listed_sample(&self, sample: SampleRef) -> Option<Error> {
        let (source, unit) = self.unit(sample.block)?;
        self.find(source, unit, &self.row_of(unit, sample))
    }

    fn add_sample(&self, sample: SampleRef, why: &Error) -> Result<()> {
        self.list(sample.block, |unit| self.row_of(unit, sample), why)
    }
}
