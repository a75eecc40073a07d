//! The options of a loader, defined once: Python's keywords, their defaults and their checks come from here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use zenith_data::pipeline::OnError;
use zenith_data::plan::{Shards, Tail};
use zenith_data::{DType, Error, Result};

/// What to do with the samples that do not fill a global batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TailPolicy {
    /// Repeat the epoch's first samples so that all ranks get equally many.
    Pad,
    /// Repeat the epoch's first samples so that the last batch is as large as the others.
    Fill,
    /// Hand out what there is; ranks may differ by one sample.
    Uneven,
}

/// A loader as the user wrote it. Sizes are in bytes, counts in samples unless they say otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoaderConfig {
    /// Samples in a batch, per rank or shard; at least 1.
    pub batch_size: u64,
    /// Shuffle every epoch anew; `false` is file order.
    pub shuffle: bool,
    /// Leave out the last, incomplete batch.
    pub drop_last: bool,
    /// Decode threads; 0 decodes in the thread that asks for batches.
    pub num_workers: usize,
    /// Finished batches that may wait, per worker; without it `prefetch_bytes` is the bound.
    pub prefetch_factor: Option<u64>,
    /// Bytes of finished batches that may wait for the consumer.
    pub prefetch_bytes: u64,
    /// Seed of the order.
    pub seed: u64,
    /// Equal parts whose weave is the order; a power of two, chosen from the data when not given.
    pub lanes: Option<u32>,
    /// Bytes that shuffling may hold in all: samples that wait for their turn, blocks being decoded, finished batches.
    pub shuffle_bytes: u64,
    /// The tail; by default padded when there are several ranks, uneven when there is one.
    pub tail: Option<TailPolicy>,
    /// This process's place among those that share the epoch.
    pub rank: u64,
    /// Processes that share the epoch, or shards of it; at least 1.
    pub world_size: u64,
    /// The shards that this process reads where it feeds several devices, of which each has its own rows: in place of
    /// `rank`, each below `world_size`. A batch then has the fields of each shard by themselves.
    pub shards: Option<Vec<u64>>,
    /// Element types in which fields are delivered, by name, where they are not the dataset's. To integers values must fit
    /// exactly; to floats they are rounded, and finite ones must stay finite.
    pub dtypes: BTreeMap<String, DType>,
    /// What to do with a block that cannot be read.
    pub on_error: OnError,
    /// Samples that may be skipped in an epoch (from where this iterator began) before it raises after all; no bound when
    /// not given.
    pub max_bad_samples: Option<u64>,
    /// File to which `on_error="quarantine"` appends a JSON line for every bad block; blocks listed there are not read.
    pub quarantine_path: Option<String>,
    /// Milliseconds that a single read may take; one that takes longer is an error of its block. No bound when not given.
    pub read_timeout_ms: Option<u64>,
}

impl Default for LoaderConfig {
    fn default() -> Self {
        Self {
            batch_size: 1,
            shuffle: false,
            drop_last: false,
            num_workers: 0,
            prefetch_factor: None,
            prefetch_bytes: 16 << 20,
            seed: 0,
            lanes: None,
            shuffle_bytes: 256 << 20,
            tail: None,
            rank: 0,
            world_size: 1,
            shards: None,
            dtypes: BTreeMap::new(),
            on_error: OnError::Raise,
            max_bad_samples: None,
            quarantine_path: None,
            read_timeout_ms: None,
        }
    }
}

impl LoaderConfig {
    /// Reads options from JSON. Errors name the unknown or ill-typed option.
    pub fn from_json(text: &str) -> Result<Self> {
        let config: Self =
            serde_json::from_str(text).map_err(|error| Error::invalid(format!("bad loader options: {error}")))?;
        config.check()?;
        Ok(config)
    }

    /// The defaults as JSON, which Python's signature is tested against.
    pub fn defaults_json() -> String {
        serde_json::to_string(&Self::default()).unwrap_or_default()
    }

    /// Sets the batch size.
    #[must_use]
    pub fn with_batch_size(mut self, batch_size: u64) -> Self {
        self.batch_size = batch_size;
        self
    }

    /// Sets how many finished batches may wait, for a loader with one worker.
    #[must_use]
    pub fn with_prefetch_batches(mut self, batches: u64) -> Self {
        self.prefetch_factor = Some(batches.div_ceil(self.num_workers.max(1) as u64));
        self
    }

    /// Sets the number of decode threads.
    #[must_use]
    pub fn with_workers(mut self, workers: usize) -> Self {
        self.num_workers = workers;
        self
    }

    /// Shuffles by `seed`.
    #[must_use]
    pub fn with_shuffle(mut self, seed: u64) -> Self {
        self.shuffle = true;
        self.seed = seed;
        self
    }

    /// Errors for values that no dataset could make sense of.
    pub fn check(&self) -> Result<()> {
        if self.batch_size == 0 {
            return Err(Error::invalid("batch_size must be >= 1, got 0"));
        }
        if self.rank >= self.world_size {
            let message = format!("rank must be below world_size {}, got {}", self.world_size, self.rank);
            return Err(Error::invalid(message));
        }
        self.resolved_shards()?;
        if self.num_workers > 1024 {
            return Err(Error::invalid(format!("num_workers must be at most 1024, got {}", self.num_workers)));
        }
        if self.read_timeout_ms == Some(0) {
            return Err(Error::invalid("read_timeout_ms must be >= 1 (or not given: no bound), got 0"));
        }
        match (self.on_error, &self.quarantine_path) {
            (OnError::Quarantine, None) => {
                let message = "on_error=\"quarantine\" needs quarantine_path=, the file that bad blocks are listed in";
                Err(Error::invalid(message))
            }
            (OnError::Raise | OnError::Skip, Some(path)) => {
                let message = format!("quarantine_path={path:?} is used with on_error=\"quarantine\" only");
                Err(Error::invalid(message))
            }
            _ => Ok(()),
        }
    }

    /// The shards as the plan knows them. Errors: one that does not exist, or none.
    pub fn resolved_shards(&self) -> Result<Shards> {
        match &self.shards {
            Some(own) => Shards::new(self.world_size, own),
            None => Shards::of_rank(self.rank, self.world_size),
        }
    }

    /// The tail as the plan knows it.
    pub fn resolved_tail(&self) -> Tail {
        match (self.drop_last, self.tail) {
            (true, _) => Tail::DropLast,
            (false, Some(TailPolicy::Uneven)) => Tail::Uneven,
            (false, Some(TailPolicy::Pad)) => Tail::Pad,
            (false, Some(TailPolicy::Fill)) => Tail::Fill,
            (false, None) if self.world_size > 1 => Tail::Pad,
            (false, None) => Tail::Uneven,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_survive_json_and_unknown_ones_are_named() {
        let config = LoaderConfig::default().with_batch_size(7).with_shuffle(3);
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(LoaderConfig::from_json(&text).unwrap(), config);
        let error = LoaderConfig::from_json(r#"{"batch_sise": 3}"#).unwrap_err();
        assert!(error.to_string().contains("batch_sise"), "{error}");
        let error = LoaderConfig::from_json(r#"{"batch_size": 0}"#).unwrap_err();
        assert!(error.to_string().contains("got 0"), "{error}");
        let config = LoaderConfig::from_json(r#"{"world_size": 4, "shards": [3, 1], "tail": "fill"}"#).unwrap();
        assert_eq!((config.resolved_shards().unwrap().own(), config.resolved_tail()), (&[1, 3][..], Tail::Fill));
        let error = LoaderConfig::from_json(r#"{"world_size": 4, "shards": [4]}"#).unwrap_err();
        assert!(error.to_string().contains("got 4"), "{error}");
    }
}
