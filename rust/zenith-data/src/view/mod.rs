//! Datasets made of datasets: a selection of samples, a random split, one after another. Each is read block by block like
//! the files below it, so that shuffling, resuming and random access need to know nothing of it.

mod concat;
mod draw;
mod hinted;
mod made;
mod select;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use concat::Concat;
pub use hinted::Hinted;
pub use made::Made;
pub use select::Select;

use crate::dataset::Dataset;
use crate::{Error, Result};

/// What is done to the datasets below.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum View {
    /// One dataset after another; their fields must be the same.
    Concat,
    /// These samples, in this order; repeats are allowed.
    Select(Indices),
    /// Samples drawn at random: `round(fraction * samples)` of them are part 0, the others part 1.
    Split {
        /// Share of part 0, from 0 to 1.
        fraction: f64,
        /// The same seed draws the same samples; a larger fraction adds to them.
        seed: u64,
        /// 0 or 1.
        part: u32,
    },
}

/// Sample numbers, written in the shorter of two ways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Indices {
    /// One by one.
    List(Vec<u64>),
    /// Consecutive ones, as first and count.
    Runs(Vec<(u64, u64)>),
}

impl Indices {
    /// Calls `each` with the longest runs of consecutive numbers, as first and end; empty ones are left out.
    fn for_each_run(&self, mut each: impl FnMut(u64, u64) -> Result<()>) -> Result<()> {
        let mut run = (0, 0);
        let mut add = |first: u64, count: u64| {
            let too_large = || Error::invalid(format!("{count} samples from {first} on are more than any dataset has"));
            let end = first.checked_add(count).ok_or_else(too_large)?;
            if count == 0 {
                return Ok(());
            }
            if run.0 < run.1 && run.1 == first {
                run.1 = end;
                return Ok(());
            }
            let before = std::mem::replace(&mut run, (first, end));
            if before.0 < before.1 { each(before.0, before.1) } else { Ok(()) }
        };
        match self {
            Self::List(numbers) => numbers.iter().try_for_each(|&number| add(number, 1))?,
            Self::Runs(runs) => runs.iter().try_for_each(|&(first, count)| add(first, count))?,
        }
        if run.0 < run.1 { each(run.0, run.1) } else { Ok(()) }
    }
}

impl View {
    /// The view of `of`: of one dataset, but for `Concat`. Errors: samples that do not exist, a fraction outside 0..=1,
    /// datasets whose fields differ.
    pub fn over(&self, of: &[Arc<dyn Dataset>]) -> Result<Arc<dyn Dataset>> {
        if let Self::Concat = self {
            return Ok(Arc::new(Concat::new(of)?));
        }
        let [base] = of else {
            return Err(Error::invalid(format!("this view is of one dataset, got {}", of.len())));
        };
        Ok(match self {
            Self::Select(indices) => Arc::new(Select::new(base.clone(), indices)?),
            Self::Split { fraction, seed, part } => Arc::new(Select::split(base.clone(), *fraction, *seed, *part)?),
            Self::Concat => base.clone(),
        })
    }
}
