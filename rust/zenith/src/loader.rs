//! A configured loader over an opened dataset, and one epoch of it under way.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use zenith_data::dataset::Block;
use zenith_data::deliver::Delivery;
use zenith_data::memory::BatchMemory;
use zenith_data::pipeline::{Job, Limits, Next, Pipeline, Quarantine, Snapshot};
use zenith_data::plan::{self, Epoch, Order, Plan};
use zenith_data::rows::RowPool;
use zenith_data::state::{STATE_VERSION, State};
use zenith_data::{Error, ErrorKind, Result, Schema};
use zenith_host::fork;
use zenith_host::idle::capacity_for;
use zenith_io::TimedReads;

use crate::config::LoaderConfig;
use crate::dataset::OpenDataset;
use crate::interrupt::PATIENCE;
use crate::memory::{HostClock, HostMemory};
use crate::quarantine::ListedBlocks;

/// Decoded blocks are worked ahead by at least this much, so that small blocks keep every worker busy.
const AHEAD_BYTES_MIN: u64 = 16 << 20;
/// Finished batches that wait, as counted in `window_bytes`; the default of `prefetch_bytes`.
const BATCH_BYTES: u64 = 16 << 20;

/// Fewer open blocks mix too little for data that is sorted.
const OPEN_BLOCKS_FEW: u64 = 32;

/// A dataset with options; makes epochs.
#[derive(Debug)]
pub struct Loader {
    dataset: Arc<OpenDataset>,
    config: LoaderConfig,
    lanes: u32,
    window: u64,
    memory: HostMemory,
    row_pool: Arc<RowPool>,
    delivery: Delivery,
    schema: Schema,
}

impl Loader {
    /// Chooses lanes and window for this dataset. Errors: options out of range.
    pub fn new(dataset: Arc<OpenDataset>, config: LoaderConfig) -> Result<Self> {
        config.check()?;
        let opened = dataset.dataset();
        let bytes = window_bytes(config.shuffle_bytes, opened.working_bytes());
        let chosen = plan::choose_order(opened.blocks(), bytes, config.lanes)?;
        Self::with_order(dataset, config, chosen.lanes, chosen.window)
    }

    /// Continues the order that `state` was taken of: its seed, lanes, window and shuffling replace those of `config`.
    pub fn from_state(dataset: Arc<OpenDataset>, mut config: LoaderConfig, state: &State) -> Result<Self> {
        state.check(dataset.dataset().fingerprint(), dataset.len())?;
        config.check()?;
        config.seed = state.seed;
        config.shuffle = state.shuffle;
        Self::with_order(dataset, config, state.lanes, state.window)
    }

    fn with_order(dataset: Arc<OpenDataset>, config: LoaderConfig, lanes: u32, window: u64) -> Result<Self> {
        let own = dataset.dataset().schema();
        let delivery = Delivery::new(own, dataset.dataset().layout().slots(), &config.dtypes)?;
        let schema = delivery.schema(own);
        let shards = config.resolved_shards()?.own().len() as u64;
        let idle_bytes = config.prefetch_bytes.max(IDLE_BATCHES * shards * batch_bytes(&schema, config.batch_size));
        let memory = HostMemory::new(usize::try_from(idle_bytes).unwrap_or(usize::MAX));
        // Every chunk is kept until the loader goes: there are never more than were live at once, and memory that wanders
        // in and out of the allocator ends up in pieces.
        let row_pool = RowPool::new(usize::MAX);
        Ok(Self { dataset, config, lanes, window, memory, row_pool, delivery, schema })
    }

    /// The options, with what a state replaced.
    pub fn config(&self) -> &LoaderConfig {
        &self.config
    }

    /// The dataset.
    pub fn dataset(&self) -> &Arc<OpenDataset> {
        &self.dataset
    }

    /// The fields of a sample as they are delivered.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Lanes and window (in samples) of the order.
    pub fn order(&self) -> (u32, u64) {
        (self.lanes, self.window)
    }

    /// What the user should be told once: that shuffling mixes too few blocks.
    pub fn notices(&self) -> Vec<String> {
        let blocks = self.dataset.dataset().blocks();
        let rows = self.dataset.len();
        if !self.config.shuffle || self.window >= rows {
            return Vec::new();
        }
        // A lane's window lies in this many blocks, on average.
        let spanned = (self.window * blocks.len() as u64).div_ceil(rows.max(1)).max(1);
        let open = (spanned * u64::from(self.lanes)).min(blocks.len() as u64);
        if open >= OPEN_BLOCKS_FEW {
            return Vec::new();
        }
        vec![format!(
            "only {open} of {} blocks are open at a time while shuffling, fewer than {OPEN_BLOCKS_FEW}: neighbouring samples \
             of a file stay near each other. Write smaller row groups (record batches), or raise shuffle_bytes, now {}",
            blocks.len(),
            self.config.shuffle_bytes
        )]
    }

    /// Batches that this rank gets from `position` (global, in samples) to the end of an epoch.
    pub fn batches_from(&self, position: u64) -> Result<u64> {
        Ok(self.epoch_plan(position)?.batches())
    }

    fn epoch_plan(&self, position: u64) -> Result<Epoch> {
        let config = &self.config;
        let tail = config.resolved_tail();
        Epoch::of_shards(self.dataset.len(), position, config.batch_size, config.resolved_shards()?, tail)
    }

    /// The order of `epoch`.
    pub fn plan(&self, epoch: u64) -> Result<Plan> {
        let rows: Vec<u64> = self.dataset.dataset().blocks().iter().map(|block| block.rows).collect();
        let (lanes, window) = (self.lanes, self.window);
        let order = Order { seed: self.config.seed, epoch, lanes, window, shuffle: self.config.shuffle };
        match self.dataset.dataset().given_order() {
            Some(given) if !order.shuffle => Plan::in_given_order(&rows, &order, given.clone()),
            _ => Plan::new(&rows, &order),
        }
    }

    /// The checkpoint of `epoch` at a global `position`.
    pub fn state(&self, epoch: u64, position: u64) -> State {
        State {
            version: STATE_VERSION,
            fingerprint: self.dataset.dataset().fingerprint().to_owned(),
            shuffle: self.config.shuffle,
            seed: self.config.seed,
            epoch,
            lanes: self.lanes,
            window: self.window,
            tail: format!("{:?}", self.config.resolved_tail()).to_lowercase(),
            position,
            samples: self.dataset.len(),
        }
    }

    /// Where batches lie unless `epoch_in` says otherwise: this machine's memory, kept from epoch to epoch.
    pub fn memory(&self) -> &HostMemory {
        &self.memory
    }

    /// Starts `epoch` at a global `position` in samples (0 for its beginning).
    pub fn epoch(&self, epoch: u64, position: u64) -> Result<EpochIter> {
        self.epoch_in(self.memory.clone(), epoch, position)
    }

    /// As `epoch`, with batches that lie in `memory`, such as [`PinnedMemory`](crate::cuda::PinnedMemory), from which devices
    /// copy without another copy in between.
    pub fn epoch_in<M: BatchMemory>(&self, memory: M, epoch: u64, position: u64) -> Result<EpochIter<M>> {
        let dataset = self.dataset.at_epoch(epoch);
        let config = &self.config;
        if !config.shuffle && !dataset.is_readable_in_order(config.shuffle_bytes) {
            let message = format!(
                "a selection that jumps between blocks can be read in its own order only if it fits shuffle_bytes={}. \
                 Raise it, sort the indices, shuffle, or ask for its samples by index",
                config.shuffle_bytes
            );
            return Err(Error::invalid(message));
        }
        let blocks = dataset.dataset().blocks();
        let ahead_bytes = AHEAD_BYTES_MIN
            .max(largest(blocks, dataset.dataset().layout().stride()) * config.num_workers.max(1) as u64);
        let quarantine = match &config.quarantine_path {
            Some(path) => Some(Arc::new(ListedBlocks::open(path, dataset.dataset().clone())?) as Arc<dyn Quarantine>),
            None => None,
        };
        let storage = dataset.storage();
        let most = config.read_timeout_ms.map(Duration::from_millis);
        let patience = (config.num_workers == 0).then_some(PATIENCE);
        let storage = match (most, patience) {
            (None, None) => storage,
            _ => Arc::new(TimedReads::new(storage, most, patience)),
        };
        let job = Job {
            storage,
            dataset: dataset.dataset().clone(),
            memory,
            clock: Arc::new(HostClock::default()),
            plan: Arc::new(self.plan(epoch)?),
            epoch: self.epoch_plan(position)?,
            delivery: self.delivery.clone(),
            limits: Limits {
                prefetch_bytes: config.prefetch_bytes,
                prefetch_batches: config.prefetch_factor.map(|factor| factor * config.num_workers.max(1) as u64),
                ahead_bytes,
                on_error: config.on_error,
                skip_max: config.max_bad_samples.unwrap_or(u64::MAX),
            },
            workers: config.num_workers,
            cores: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            row_pool: self.row_pool.clone(),
            quarantine,
        };
        Ok(EpochIter { pipeline: Some(Pipeline::start(job)?), generation: fork::generation() })
    }
}

/// Batches whose memory is kept when they are dropped. Where a batch is larger than all that may be prefetched, it would
/// else come from the system each time, whose clearing of pages takes longer than writing them.
const IDLE_BATCHES: u64 = 2;

/// Bytes of the dense fields of a batch of one shard.
fn batch_bytes(schema: &Schema, batch_size: u64) -> u64 {
    let widths = schema.fields.iter().filter_map(|field| field.kind.width());
    let slabs =
        widths.map(|width| capacity_for(width.saturating_mul(usize::try_from(batch_size).unwrap_or(usize::MAX))));
    slabs.map(|bytes| bytes as u64).fold(0, u64::saturating_add)
}

/// Bytes of the largest block, by its estimate or as the pipeline counts it: every worker must find room for one.
fn largest(blocks: &[Block], stride: usize) -> u64 {
    let rows = |block: &Block| block.rows.saturating_mul(stride as u64);
    blocks.iter().map(|block| block.decoded_bytes.max(rows(block))).max().unwrap_or(0)
}

/// What of `shuffle_bytes` is left for decoded samples that wait for their turn: the rest goes to finished batches, and
/// to the bytes and columns of the blocks that two workers are decoding (measured: about two and a half times the block
/// each). Counted for two workers whatever their number, because the order must not depend on it.
fn window_bytes(shuffle_bytes: u64, block_bytes: u64) -> u64 {
    shuffle_bytes.saturating_sub(BATCH_BYTES + 5 * block_bytes).max(shuffle_bytes / 2)
}

/// One epoch under way. Dropping it stops its threads.
#[derive(Debug)]
pub struct EpochIter<M: BatchMemory = HostMemory> {
    pipeline: Option<Pipeline<M>>,
    generation: u64,
}

impl<M: BatchMemory> EpochIter<M> {
    /// The next batch, waiting at most `wait`. Errors: what the dataset raises; use in a forked child.
    pub fn next(&self, wait: Duration) -> Result<Next<M::Slab>> {
        if self.generation != fork::generation() {
            let message = "this iterator belongs to the parent process: its threads do not exist after a fork. \
                           Create a new iterator in the child";
            return Err(Error::new(ErrorKind::Forked, message));
        }
        match &self.pipeline {
            Some(pipeline) => pipeline.next(wait),
            None => Ok(Next::End),
        }
    }

    /// Counters so far.
    pub fn stats(&self) -> Snapshot {
        match &self.pipeline {
            Some(pipeline) if self.generation == fork::generation() => pipeline.stats(),
            _ => Snapshot::default(),
        }
    }
}

impl<M: BatchMemory> Drop for EpochIter<M> {
    fn drop(&mut self) {
        if self.generation != fork::generation()
            && let Some(pipeline) = self.pipeline.take()
        {
            pipeline.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DatasetSpec;
    use crate::cuda::testing::FakeDriver;
    use crate::cuda::{Device, PinnedMemory};
    use zenith_data::batch::FieldData;
    use zenith_data::format::tokens::TokensOptions;

    #[test]
    fn batches_in_pinned_memory_may_be_dropped_while_copies_of_them_wait() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("tokens.bin");
        std::fs::write(&path, (0..=5000u16).flat_map(u16::to_le_bytes).collect::<Vec<_>>()).unwrap();
        let options = TokensOptions { seq_len: 1, ..TokensOptions::default() };
        let spec = DatasetSpec::Tokens { paths: vec![path.to_str().unwrap().into()], options };
        let config = LoaderConfig { batch_size: 64, ..LoaderConfig::default() };
        let loader = Loader::new(OpenDataset::open(&spec).unwrap(), config).unwrap();
        let driver = FakeDriver::new(1);
        let (memory, stream) = (PinnedMemory::new(driver.clone(), Device(0), 64 << 20), driver.stream(Device(0)));
        let mut copies = Vec::new();
        let iter = loader.epoch_in(memory.clone(), 0, 0).unwrap();
        loop {
            match iter.next(Duration::from_secs(10)).unwrap() {
                Next::Batch(batch) => {
                    let FieldData::Dense(slab) = &batch.fields[0] else { panic!("x is dense") };
                    assert!(slab.is_pinned());
                    copies.push(driver.copy(stream, slab.as_ref()));
                }
                Next::Pending => panic!("a batch takes no ten seconds"),
                Next::End => break,
            }
            // All but the last eight copies are done, so that memory is used again meanwhile.
            if copies.len() > 8 {
                driver.complete(stream, 1);
            }
        }
        driver.complete(stream, 8);
        let arrived: Vec<u64> = copies
            .iter()
            .flat_map(|copy| copy.arrived().unwrap())
            .collect::<Vec<u8>>()
            .chunks(8)
            .map(|value| u64::from_ne_bytes(value.try_into().unwrap()))
            .collect();
        assert_eq!(arrived, (0..5000).collect::<Vec<u64>>());
        let usage = memory.usage();
        // Two fields of a page each, of the batches whose copies wait and a few more; 79 would be without reuse.
        assert!(usage.pinned_bytes <= 2 * 12 * 4096 && usage.ordinary_slabs == 0, "{usage:?}");
    }

    #[test]
    fn there_is_room_for_rows_that_are_padded_beyond_their_estimate() {
        let blocks = [Block { rows: 1000, decoded_bytes: 120_000 }, Block { rows: 10, decoded_bytes: 2000 }];
        assert_eq!(largest(&blocks, 128), 128_000);
        assert_eq!(largest(&blocks[1..], 8), 2000);
    }
}
