//! The blocks of one dataset that a quarantine file lists.

use zenith_data::dataset::{Dataset, Unit};
use zenith_data::pipeline::Quarantine;
use zenith_data::storage::Source;
use zenith_data::{Error, ErrorKind, Result};
use zenith_io::{BadUnit, QuarantineFile};

pub(crate) struct ListedBlocks {
    list: QuarantineFile,
    sources: Vec<Source>,
    units: Vec<Unit>,
}

impl ListedBlocks {
    pub(crate) fn open(path: &str, dataset: &dyn Dataset) -> Result<Self> {
        let list = QuarantineFile::open(path)?;
        Ok(Self { list, sources: dataset.sources().to_vec(), units: dataset.units() })
    }

    fn unit(&self, block: u32) -> Option<(&Source, &Unit)> {
        let unit = self.units.get(block as usize)?;
        Some((self.sources.get(unit.source as usize)?, unit))
    }
}

impl Quarantine for ListedBlocks {
    fn listed(&self, block: u32) -> Option<Error> {
        let (source, unit) = self.unit(block)?;
        let known = self.list.find(source, &unit.rows)?;
        let kind = ErrorKind::ALL.into_iter().find(|kind| format!("{kind:?}") == known.kind);
        let error = Error::new(kind.unwrap_or(ErrorKind::Corrupt), format!("quarantined: {}", known.message));
        Some(error.in_file(&source.name).in_block(unit.number))
    }

    fn add(&self, block: u32, why: &Error) -> Result<()> {
        let (source, unit) =
            self.unit(block).ok_or_else(|| Error::internal(format!("block {block} has no place in a file")))?;
        self.list.add(BadUnit {
            file: source.location.clone(),
            block: unit.number,
            rows: (unit.rows.start, unit.rows.end),
            kind: format!("{:?}", why.kind()),
            message: why.to_string(),
            version: source.version.clone(),
        })
    }
}
