//! What happens to blocks that cannot be read, and to samples that cannot be made: who is told, what stands in for them, how many may be lost.

use serde::{Deserialize, Serialize};

use crate::plan::SampleRef;
use crate::{Error, ErrorKind, Result};

/// What to do with a block that cannot be read or decoded, or a sample that cannot be made of what was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// The batch that needs it raises.
    #[default]
    Raise,
    /// Its samples are left out (one rank) or replaced (several), and counted.
    Skip,
    /// As `Skip`; the block is also listed, and not read again in later runs.
    Quarantine,
}

impl OnError {
    /// Whether an error of this kind costs its block alone. A dataset that changed, or a fault of ours, is never passed
    /// over: the other blocks could be wrong as well.
    pub(crate) fn skips(self, kind: ErrorKind) -> bool {
        let of_the_block = matches!(
            kind,
            ErrorKind::Corrupt
                | ErrorKind::Io
                | ErrorKind::TimedOut
                | ErrorKind::Unsupported
                | ErrorKind::Budget
                | ErrorKind::InvalidArgument
                | ErrorKind::NotFound
        );
        self != Self::Raise && of_the_block
    }
}

/// The list of blocks that were found bad, in this run or an earlier one.
pub trait Quarantine: Send + Sync {
    /// Why `block` is listed, if it is: then it is not read.
    fn listed(&self, block: u32) -> Option<Error>;

    /// Lists `block`. An error ends the epoch: a unit that is not listed would be lost without a trace.
    fn add(&self, block: u32, why: &Error) -> Result<()>;

    /// As `listed`, of one sample.
    fn listed_sample(&self, sample: SampleRef) -> Option<Error>;

    /// As `add`, of one sample.
    fn add_sample(&self, sample: SampleRef, why: &Error) -> Result<()>;
}

/// What one batch, or all batches so far, lost to bad blocks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Losses {
    /// Places left empty or filled by other samples.
    pub(crate) samples: u64,
    /// Batches that were left with no sample at all.
    pub(crate) batches: u64,
    /// The latest reason.
    pub(crate) why: Option<Error>,
}

impl Losses {
    pub(crate) fn one(&mut self, why: &Error) {
        self.samples += 1;
        if self.why.is_none() {
            self.why = Some(why.clone());
        }
    }

    /// Adds what a batch of `rows` samples lost. Errors: the sum is more than `most`.
    pub(crate) fn add(&mut self, batch: Self, rows: usize, most: u64) -> Result<()> {
        let Some(why) = batch.why else { return Ok(()) };
        self.samples += batch.samples;
        self.batches += u64::from(rows == 0);
        if self.samples > most {
            let message = format!(
                "{} bad samples in this epoch are more than max_bad_samples={most}. The latest: {}. Repair the files, or \
                 raise max_bad_samples",
                self.samples,
                why.message().trim_end_matches('.')
            );
            return Err(why.with_message(message));
        }
        self.why = Some(why);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_add_up_until_they_are_too_many() {
        let batch = |samples| Losses { samples, batches: 0, why: Some(Error::corrupt("bad page").in_file("a")) };
        let mut all = Losses::default();
        all.add(batch(3), 1, 5).unwrap();
        all.add(Losses::default(), 4, 5).unwrap();
        all.add(batch(2), 0, 5).unwrap();
        assert_eq!((all.samples, all.batches), (5, 1));
        let error = all.add(batch(1), 7, 5).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().starts_with("a: 6 bad samples in this epoch are more than max_bad_samples=5"));
    }

    #[test]
    fn only_errors_of_the_block_are_skipped() {
        let skipped: Vec<_> = ErrorKind::ALL.into_iter().filter(|&kind| OnError::Skip.skips(kind)).collect();
        assert!(!skipped.contains(&ErrorKind::DatasetChanged) && !skipped.contains(&ErrorKind::Internal));
        assert!(skipped.contains(&ErrorKind::Corrupt) && skipped.contains(&ErrorKind::Io));
        assert!(!ErrorKind::ALL.into_iter().any(|kind| OnError::Raise.skips(kind)));
    }
}
