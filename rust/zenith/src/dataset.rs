//! An opened dataset: immutable data that survives a fork, and per-process storage behind it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use zenith_data::batch::{Batch, FieldData};
use zenith_data::dataset::{Dataset, Ports};
use zenith_data::gather::{self, RowRef};
use zenith_data::plan::SampleRef;
use zenith_data::rows::{Chunk, RowLayout, RowPool};
use zenith_data::sidecar::{NoSidecar, Sidecar};
use zenith_data::storage::{Range, Storage};
use zenith_data::view::View;
use zenith_data::{Error, ErrorKind, Result};
use zenith_host::{Slab, fork};
use zenith_io::{LocalFiles, ShowProgress, SidecarFolder};

use crate::env;
use crate::interrupt::{Interrupt, Interruptible};
use crate::memory::HostMemory;
use crate::progress::Bar;
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
    /// The way back from `Dataset::given_order`, once it was needed.
    numbers: Mutex<Option<Arc<[u64]>>>,
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
        Self::open_interruptible(spec, &(Arc::new(|| false) as Interrupt))
    }

    /// As `open`; where that takes long (an index is built, a read hangs), `interrupt` is asked again and again, and once it
    /// says yes the error is `ErrorKind::Interrupted`.
    pub fn open_interruptible(spec: &DatasetSpec, interrupt: &Interrupt) -> Result<Arc<Self>> {
        let process = Process::new();
        let folder = env::cache_folder().map(|folder| {
            let interrupt = interrupt.clone();
            let show: ShowProgress = Box::new(move |task| Box::new(Bar::new(task, interrupt.clone())));
            SidecarFolder::new(folder.join("index"), show)
        });
        let sidecar: &dyn Sidecar = folder.as_ref().map_or(&NoSidecar, |folder| folder);
        let storage = Interruptible::new(process.storage.clone(), interrupt.clone());
        let dataset = spec.open(Ports { storage: &storage, sidecar })?;
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
        Arc::new(Self { dataset, starts, layout, numbers: Mutex::default(), process: Mutex::new(process) })
    }

    /// A view of datasets that are open already.
    pub fn view(view: &View, of: &[Arc<Self>]) -> Result<Arc<Self>> {
        let of: Vec<_> = of.iter().map(|open| open.dataset.clone()).collect();
        Ok(Self::with_process(view.over(&of)?, Process::new()))
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

    /// Whether the samples can be read natively in the order in which they are counted: they stand in the blocks like
    /// that, or all of them may be held decoded, within `bytes`.
    pub fn is_readable_in_order(&self, bytes: u64) -> bool {
        let held = || self.dataset.blocks().iter().map(|block| u128::from(block.decoded_bytes)).sum::<u128>();
        self.dataset.given_order().is_none() || held() <= u128::from(bytes)
    }

    /// The numbers that users know these samples by.
    pub fn numbers(&self, samples: &[SampleRef]) -> Vec<u64> {
        let places = samples.iter().map(|sample| self.starts[sample.block as usize] + u64::from(sample.row));
        match self.dataset.given_order() {
            None => places.collect(),
            Some(order) => {
                let numbers = self.numbers_of(order);
                places.map(|place| numbers[place as usize]).collect()
            }
        }
    }

    fn numbers_of(&self, order: &[u64]) -> Arc<[u64]> {
        // As in `process`, a lock that a fork may have left held is never waited for.
        let mut known = self.numbers.try_lock().ok();
        if let Some(numbers) = known.as_deref().and_then(Option::as_ref) {
            return numbers.clone();
        }
        let mut numbers = vec![0; order.len()];
        for (number, &place) in (0..).zip(order) {
            numbers[place as usize] = number;
        }
        let numbers: Arc<[u64]> = numbers.into();
        if let Some(known) = known.as_deref_mut() {
            *known = Some(numbers.clone());
        }
        numbers
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
        self.get_interruptible(indices, &(Arc::new(|| false) as Interrupt))
    }

    /// As `get`; while a read hangs, `interrupt` is asked again and again, and once it says yes the error is
    /// `ErrorKind::Interrupted`.
    pub fn get_interruptible(&self, indices: &[u64], interrupt: &Interrupt) -> Result<Batch<Slab>> {
        if let Some(&index) = indices.iter().find(|&&index| index >= self.len()) {
            let message = format!("index {index} is out of range for a dataset of {} samples", self.len());
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        match self.dataset.given_order() {
            Some(order) => {
                let places: Vec<u64> = indices.iter().map(|&index| order[index as usize]).collect();
                self.get_places(&places, interrupt)
            }
            None => self.get_places(indices, interrupt),
        }
    }

    /// The samples at these places, counted as they stand in the blocks.
    fn get_places(&self, indices: &[u64], interrupt: &Interrupt) -> Result<Batch<Slab>> {
        let process = self.process();
        let storage = Interruptible::new(process.storage.clone(), interrupt.clone());
        let chunk_rows = self.layout.chunk_rows() as u64;
        let mut order: Vec<usize> = (0..indices.len()).collect();
        order.sort_unstable_by_key(|&place| indices[place]);
        let mut blocks: Vec<Arc<Vec<Chunk>>> = Vec::new();
        let mut numbers = Vec::new();
        let mut places = vec![(0_usize, 0_u64); indices.len()];
        let mut current = None;
        for place in order {
            let index = indices[place];
            let block = self.starts.partition_point(|&start| start <= index) - 1;
            if current != Some(block) {
                blocks.push(self.block(&process, &storage, block)?);
                numbers.push(block);
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
        let place = |row: usize, field: usize| {
            let (block, row) = places[row];
            self.dataset.place(numbers[block], row, field)
        };
        let fields: Vec<FieldData<Slab>> = gather::gather(&self.layout, &found, &process.memory, place)?;
        Ok(Batch { rows: indices.len(), fields, position_after: 0 })
    }

    fn block(&self, process: &Process, storage: &dyn Storage, block: usize) -> Result<Arc<Vec<Chunk>>> {
        let mut cache = process.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = cache.iter().position(|(cached, _)| *cached == block) {
            if let Some(entry) = cache.remove(at) {
                cache.push_front(entry);
            }
            return Ok(cache[0].1.clone());
        }
        drop(cache);
        let read = |ranges: &[Range]| storage.submit(self.dataset.sources(), ranges)?.wait();
        let chunks = gather::decode_block(&*self.dataset, block, &self.layout, &process.row_pool, read)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Loader, LoaderConfig, Next};
    use std::time::Duration;
    use zenith_data::format::tokens::TokensOptions;
    use zenith_data::view::Indices;

    const COUNT: u64 = 5000;

    /// Windows of one token: the `x` of sample `i` is `i`.
    fn tokens(root: &std::path::Path) -> Arc<OpenDataset> {
        let path = root.join("tokens.bin");
        std::fs::write(&path, (0..=COUNT as u16).flat_map(u16::to_le_bytes).collect::<Vec<_>>()).unwrap();
        let options = TokensOptions { seq_len: 1, ..TokensOptions::default() };
        OpenDataset::open(&DatasetSpec::Tokens { paths: vec![path.to_str().unwrap().into()], options }).unwrap()
    }

    fn values(batch: &Batch<Slab>) -> Vec<u64> {
        let FieldData::Dense(slab) = &batch.fields[0] else { return Vec::new() };
        slab.as_ref().chunks(8).map(|part| u64::from_ne_bytes(part.try_into().unwrap())).collect()
    }

    fn read(dataset: &Arc<OpenDataset>, shuffle: bool, position: u64) -> Vec<u64> {
        let config = LoaderConfig { batch_size: 64, shuffle, seed: 1, ..LoaderConfig::default() };
        let iter = Loader::new(dataset.clone(), config).unwrap().epoch(0, position).unwrap();
        let mut found = Vec::new();
        while let Next::Batch(batch) = iter.next(Duration::from_secs(10)).unwrap() {
            found.extend(values(&batch));
        }
        found
    }

    #[test]
    fn a_loader_reads_views_like_files() {
        let root = tempfile::tempdir().unwrap();
        let base = tokens(root.path());
        let split =
            |part| OpenDataset::view(&View::Split { fraction: 0.3, seed: 0, part }, std::slice::from_ref(&base));
        let parts = [split(0).unwrap(), split(1).unwrap()];
        let joined = OpenDataset::view(&View::Concat, &parts).unwrap();
        assert_eq!((parts[0].len(), joined.len()), (1500, COUNT));
        let whole = read(&joined, false, 0);
        let every: Vec<u64> = (0..COUNT).collect();
        assert_eq!(whole, values(&joined.get(&every).unwrap()));
        assert_eq!(whole, [read(&parts[0], false, 0), read(&parts[1], false, 0)].concat());
        let shuffled = read(&joined, true, 0);
        assert_ne!(shuffled, whole);
        assert_eq!(read(&joined, true, 640), shuffled[640..]);
        let mut sorted = shuffled;
        sorted.sort_unstable();
        assert_eq!(sorted, every);
    }

    #[test]
    fn a_selection_that_jumps_about_is_shuffled_natively_and_indexed_in_its_order() {
        let root = tempfile::tempdir().unwrap();
        let base = tokens(root.path());
        let both = OpenDataset::view(&View::Concat, &[base.clone(), base]).unwrap();
        let given: Vec<u64> = (0..2 * COUNT).map(|i| i * 4999 % (2 * COUNT)).collect();
        let view = OpenDataset::view(&View::Select(Indices::List(given.clone())), &[both]).unwrap();
        assert!(!view.is_readable_in_order(1000) && view.is_readable_in_order(1 << 20));
        let expected: Vec<u64> = given.iter().map(|number| number % COUNT).collect();
        let every: Vec<u64> = (0..2 * COUNT).collect();
        assert_eq!(values(&view.get(&every).unwrap()), expected);
        assert!(view.get(&[2 * COUNT]).is_err());
        let config = LoaderConfig { shuffle: true, seed: 1, ..LoaderConfig::default() };
        let plan = Loader::new(view.clone(), config).unwrap().plan(0).unwrap();
        let mut samples = Vec::new();
        plan.resolve(0, 1, view.len() as usize, &mut samples);
        assert_eq!(values(&view.get(&view.numbers(&samples)).unwrap()), read(&view, true, 0));
        assert_eq!(read(&view, false, 0), expected);
        assert_eq!(read(&view, false, 700), expected[700..]);
        let config = LoaderConfig { shuffle_bytes: 1000, ..LoaderConfig::default() };
        let error = Loader::new(view, config).unwrap().epoch(0, 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
}
