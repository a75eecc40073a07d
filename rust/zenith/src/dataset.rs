//! An opened dataset: immutable data that survives a fork, and per-process storage behind it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use zenith_data::batch::{Batch, FieldData};
use zenith_data::dataset::Dataset;
use zenith_data::gather::{self, RowRef};
use zenith_data::rows::{Chunk, RowLayout, RowPool};
use zenith_data::storage::Storage;
use zenith_data::{Error, ErrorKind, Result};
use zenith_host::{Slab, fork};
use zenith_io::LocalFiles;

use crate::memory::HostMemory;
use crate::spec::DatasetSpec;

/// Decoded bytes that random access keeps, so that neighbouring samples do not decode their block again.
const CACHE_BYTES_MAX: u64 = 64 << 20;

/// A dataset that is ready to be indexed and iterated. Shared by `Arc`; cheap to use from any thread or forked child.
#[derive(Debug)]
pub struct OpenDataset {
    dataset: Arc<dyn Dataset>,
    /// Number of the first sample of each block, and the total last.
    starts: Vec<u64>,
    layout: Arc<RowLayout>,
    process: Mutex<Arc<Process>>,
}

/// What belongs to one process: open files, buffers, the cache of random access.
struct Process {
    generation: u64,
    storage: Arc<dyn Storage>,
    memory: HostMemory,
    row_pool: Arc<RowPool>,
    cache: Mutex<VecDeque<(usize, Arc<Vec<Chunk>>)>>,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Process").field("generation", &self.generation).finish_non_exhaustive()
    }
}

impl Process {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            generation: fork::generation(),
            storage: Arc::new(LocalFiles::new()),
            memory: HostMemory::new(4 << 20),
            row_pool: RowPool::new(0),
            cache: Mutex::default(),
        })
    }
}

impl OpenDataset {
    /// Opens what `spec` describes: lists the files and reads what their formats need (footers, headers).
    pub fn open(spec: &DatasetSpec) -> Result<Arc<Self>> {
        let process = Process::new();
        let dataset = spec.open(&*process.storage)?;
        Ok(Self::with_process(dataset, process))
    }

    fn with_process(dataset: Arc<dyn Dataset>, process: Arc<Process>) -> Arc<Self> {
        let mut starts = vec![0];
        let mut total = 0;
        for block in dataset.blocks() {
            total += block.rows;
            starts.push(total);
        }
        let layout = Arc::new(dataset.layout());
        Arc::new(Self { dataset, starts, layout, process: Mutex::new(process) })
    }

    /// The same dataset as it is in `epoch`; itself when its samples do not depend on the epoch.
    pub fn at_epoch(self: &Arc<Self>, epoch: u64) -> Arc<Self> {
        match self.dataset.at_epoch(epoch) {
            Some(dataset) => Self::with_process(dataset, Process::new()),
            None => self.clone(),
        }
    }

    /// The format behind it.
    pub fn dataset(&self) -> &Arc<dyn Dataset> {
        &self.dataset
    }

    /// Samples in it.
    pub fn len(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }

    /// Whether it has no samples.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Storage of this process. FORK-1: a forked child opens its own files and starts with empty caches.
    pub fn storage(&self) -> Arc<dyn Storage> {
        self.process().storage.clone()
    }

    fn process(&self) -> Arc<Process> {
        // The lock is held for a pointer copy only, but a fork can still hit that instant, so it is never waited for.
        match self.process.try_lock() {
            Ok(process) if process.generation == fork::generation() => process.clone(),
            Ok(mut process) => {
                *process = Process::new();
                process.clone()
            }
            Err(std::sync::TryLockError::Poisoned(process)) => process.into_inner().clone(),
            Err(std::sync::TryLockError::WouldBlock) => Process::new(),
        }
    }

    /// The samples at `indices` (any order, repeats allowed) as one batch.
    pub fn get(&self, indices: &[u64]) -> Result<Batch<Slab>> {
        let process = self.process();
        let chunk_rows = self.layout.chunk_rows() as u64;
        let mut order: Vec<usize> = (0..indices.len()).collect();
        order.sort_unstable_by_key(|&place| indices[place]);
        let mut blocks: Vec<Arc<Vec<Chunk>>> = Vec::new();
        let mut places = vec![(0_usize, 0_u64); indices.len()];
        let mut current = None;
        for place in order {
            let index = indices[place];
            if index >= self.len() {
                let message = format!("index {index} is out of range for a dataset of {} samples", self.len());
                return Err(Error::new(ErrorKind::InvalidArgument, message));
            }
            let block = self.starts.partition_point(|&start| start <= index) - 1;
            if current != Some(block) {
                blocks.push(self.block(&process, block)?);
                current = Some(block);
            }
            places[place] = (blocks.len() - 1, index - self.starts[block]);
        }
        let found: Vec<RowRef<'_>> = places
            .iter()
            .map(|&(block, row)| RowRef {
                chunk: &blocks[block][(row / chunk_rows) as usize],
                row: (row % chunk_rows) as usize,
            })
            .collect();
        let fields: Vec<FieldData<Slab>> = gather::gather(&self.layout, &found, &process.memory)?;
        Ok(Batch { rows: indices.len(), fields, position_after: 0 })
    }

    fn block(&self, process: &Process, block: usize) -> Result<Arc<Vec<Chunk>>> {
        let mut cache = process.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = cache.iter().position(|(cached, _)| *cached == block) {
            if let Some(entry) = cache.remove(at) {
                cache.push_front(entry);
            }
            return Ok(cache[0].1.clone());
        }
        drop(cache);
        let ranges = self.dataset.ranges(block);
        let bytes = process.storage.submit(self.dataset.sources(), &ranges)?.wait()?;
        let chunks = gather::decode_block(&*self.dataset, block, &bytes, &self.layout, &process.row_pool)?;
        let chunks = Arc::new(chunks);
        let mut cache = process.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.push_front((block, chunks.clone()));
        let mut kept = 0;
        let mut keep = 0;
        for (_, chunks) in cache.iter() {
            kept += chunks.iter().map(|chunk| chunk.heap_bytes() as u64).sum::<u64>();
            if keep > 0 && kept > CACHE_BYTES_MAX {
                break;
            }
            keep += 1;
        }
        cache.truncate(keep);
        Ok(chunks)
    }
}
