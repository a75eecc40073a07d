//! Slabs that devices read by DMA: page-locked once, recycled when no copy can be at them any more.
#![expect(unsafe_code, reason = "page-locks its own mappings and lends them as slices")]

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zenith_data::memory::BatchMemory;
use zenith_data::{Error, ErrorKind};
use zenith_host::idle::{Idle, capacity_for};
use zenith_host::{Mapping, Piece, Slab, SlabPool, pieces};

use crate::context::Contexts;
use crate::driver::{Device, Driver};
use crate::error::{CudaError, Result};
use crate::loaded::CudaDriver;
use crate::quarantine::Quarantine;
use crate::registration::Registration;

/// Page-locking covers whole pages.
const PAGE_BYTES: usize = 4096;

/// Batch memory that a Rust program may copy to devices asynchronously, on any stream, and drop at once. (For torch, batches
/// lie in memory of torch's own pinned allocator instead; see docs/architecture.md.)
///
/// Never waits and never fails for want of page-locked memory: beyond its bytes, where the system refuses, and without a
/// driver, slabs are ordinary ones, and `usage` says why. The memory is not write-combined: it is read as fast as any other. A
/// forked child does not have it, and faults where it reads a slab of its parent.
#[derive(Debug, Clone)]
pub struct PinnedMemory(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    /// `None` where there is no driver.
    lender: Option<Lender>,
    bytes_max: usize,
    state: Mutex<State>,
    ordinary: Arc<SlabPool>,
    ordinary_slabs: AtomicU64,
}

#[derive(Debug)]
struct Lender {
    quarantine: Quarantine<Pages>,
    contexts: Arc<Contexts>,
    device: Device,
}

#[derive(Debug, Default)]
struct State {
    idle: Idle<Pages>,
    /// Page-locked bytes: with readers, in quarantine, and idle.
    pinned_bytes: usize,
    refused: Option<CudaError>,
}

/// What a `PinnedMemory` holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// Page-locked bytes.
    pub pinned_bytes: usize,
    /// Those of them that wait for a batch.
    pub idle_bytes: usize,
    /// Slabs that were not page-locked.
    pub ordinary_slabs: u64,
    /// Why no more memory is page-locked, for people.
    pub refused: Option<String>,
}

impl PinnedMemory {
    /// Page-locks at most `bytes_max` bytes, in the context of `device`. Nothing is asked of the driver before the first slab.
    pub fn new(driver: Arc<dyn Driver>, device: Device, bytes_max: usize) -> Self {
        let contexts = Contexts::new(driver);
        let lender = Lender { quarantine: Quarantine::new(contexts.clone()), contexts, device };
        Self::with(Some(lender), None, bytes_max)
    }

    /// As `new`, with the driver of this machine; where it has none, all slabs are ordinary ones.
    pub fn open(device: Device, bytes_max: usize) -> Self {
        match CudaDriver::open() {
            Ok(driver) => Self::new(driver, device, bytes_max),
            Err(error) => Self::with(None, Some(error), bytes_max),
        }
    }

    fn with(lender: Option<Lender>, refused: Option<CudaError>, bytes_max: usize) -> Self {
        let state = Mutex::new(State { refused, ..State::default() });
        let ordinary = SlabPool::new(bytes_max);
        Self(Arc::new(Pool { lender, bytes_max, state, ordinary, ordinary_slabs: AtomicU64::new(0) }))
    }

    /// Makes slabs that no device reads any more available again. To be called by the thread that consumes batches; a loader
    /// does so at every batch.
    pub fn collect(&self) {
        let Some(lender) = &self.0.lender else { return };
        let passed = lender.quarantine.collect();
        if passed.is_empty() {
            return;
        }
        let mut state = self.0.state();
        for pages in passed {
            state.idle.put(pages.mapping.len(), pages);
        }
    }

    /// What is held now.
    pub fn usage(&self) -> Usage {
        let failure = self.0.lender.as_ref().and_then(|lender| lender.quarantine.failure());
        let state = self.0.state();
        Usage {
            pinned_bytes: state.pinned_bytes,
            idle_bytes: state.idle.bytes(),
            ordinary_slabs: self.0.ordinary_slabs.load(Ordering::Relaxed),
            refused: state.refused.as_ref().or(failure.as_ref()).map(CudaError::to_string),
        }
    }
}

impl Pool {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Page-locked memory of at least `bytes` bytes, where it may be had.
    fn pages(&self, bytes: usize) -> Option<Pages> {
        // In a forked child the idle pages are not there, and the lock may be held for ever (CUDA-2).
        let lender = self.lender.as_ref().filter(|lender| lender.contexts.is_ours())?;
        let capacity = capacity_for(bytes).checked_next_multiple_of(PAGE_BYTES)?;
        let mut given_up = Vec::new();
        {
            let mut state = self.state();
            if let Some((_, pages)) = state.idle.take(capacity) {
                return Some(pages);
            }
            if state.refused.is_some() || lender.quarantine.failure().is_some() {
                return None;
            }
            // Idle pieces of other sizes make room.
            while state.pinned_bytes.saturating_add(capacity) > self.bytes_max {
                let (freed, pages) = state.idle.take_largest()?;
                state.pinned_bytes -= freed;
                given_up.push(pages);
            }
            state.pinned_bytes += capacity;
        }
        // The driver is called outside the lock; it takes milliseconds.
        drop(given_up);
        match lender.lock(capacity) {
            Ok(pages) => Some(pages),
            Err(error) => {
                let mut state = self.state();
                state.pinned_bytes -= capacity;
                // Asking again at every batch would take time and come to the same.
                state.refused = Some(error);
                None
            }
        }
    }
}

impl Lender {
    fn lock(&self, bytes: usize) -> Result<Pages> {
        let no_memory = || CudaError::new("mmap", format!("no memory for a slab of {bytes} bytes"));
        let mut mapping = Mapping::new(bytes).ok_or_else(no_memory)?;
        if !mapping.keep_from_children() {
            return Err(CudaError::new("madvise", "the system cannot keep page-locked memory out of forked children"));
        }
        // SAFETY: CUDA-1: the mapping lies beside the registration and is dropped after it; both are dropped out of the idle
        // list, where only what has left quarantine comes to, and out of `Pages` that never were a slab.
        let registration = unsafe { Registration::new(&self.contexts, self.device, mapping.as_ptr(), bytes)? };
        Ok(Pages { _registration: registration, mapping })
    }
}

impl BatchMemory for PinnedMemory {
    type Slab = PinnedSlab;
    type Piece = Piece<PinnedSlab>;

    fn cut(&self, slab: Self::Slab, bytes: usize) -> Vec<Self::Piece> {
        pieces::cut(slab, bytes)
    }

    fn join(&self, pieces: Vec<Self::Piece>) -> zenith_data::Result<Self::Slab> {
        pieces::join(pieces).ok_or_else(zenith_data::memory::not_whole)
    }

    fn slab(&self, bytes: usize) -> zenith_data::Result<PinnedSlab> {
        if let Some(pages) = self.0.pages(bytes) {
            return Ok(PinnedSlab(Kind::Pinned { pages: Some(pages), bytes, pool: self.0.clone() }));
        }
        self.0.ordinary_slabs.fetch_add(1, Ordering::Relaxed);
        let slab = self.0.ordinary.slab(bytes).ok_or_else(|| {
            Error::new(ErrorKind::Budget, format!("no memory for a batch field of {bytes} bytes. Lower batch_size"))
        })?;
        Ok(PinnedSlab(Kind::Ordinary(slab)))
    }

    #[inline]
    fn prefetch(&self, bytes: &[u8]) {
        zenith_host::prefetch(bytes);
    }

    fn on_batch_asked(&self) {
        self.collect();
    }
}

/// A page-locked mapping; unlocked before it is unmapped, which is the order of the fields.
#[derive(Debug)]
struct Pages {
    _registration: Registration,
    mapping: Mapping,
}

/// Memory of one field of one batch. Dropping it sends page-locked memory into quarantine, so that copies which were
/// submitted before may go on reading it.
pub struct PinnedSlab(Kind);

enum Kind {
    /// The pool lives at least as long as its slabs: somebody must hold what was dropped.
    Pinned {
        pages: Option<Pages>,
        bytes: usize,
        pool: Arc<Pool>,
    },
    Ordinary(Slab),
}

impl PinnedSlab {
    /// Whether devices may read it asynchronously.
    pub fn is_pinned(&self) -> bool {
        matches!(self.0, Kind::Pinned { .. })
    }
}

impl AsRef<[u8]> for PinnedSlab {
    fn as_ref(&self) -> &[u8] {
        match &self.0 {
            Kind::Pinned { pages: Some(pages), bytes, .. } => &pages.mapping.as_ref()[..*bytes],
            Kind::Pinned { pages: None, .. } => &[],
            Kind::Ordinary(slab) => slab.as_ref(),
        }
    }
}

impl AsMut<[u8]> for PinnedSlab {
    fn as_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Kind::Pinned { pages: Some(pages), bytes, .. } => &mut pages.mapping.as_mut()[..*bytes],
            Kind::Pinned { pages: None, .. } => &mut [],
            Kind::Ordinary(slab) => slab.as_mut(),
        }
    }
}

impl Drop for PinnedSlab {
    fn drop(&mut self) {
        if let Kind::Pinned { pages, pool, .. } = &mut self.0
            && let (Some(pages), Some(lender)) = (pages.take(), &pool.lender)
        {
            lender.quarantine.admit(pages);
        }
    }
}

impl fmt::Debug for PinnedSlab {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_pinned() { "pinned" } else { "ordinary" };
        write!(out, "PinnedSlab({} bytes, {kind})", self.as_ref().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Call, FakeDriver};

    fn memory(bytes_max: usize) -> (Arc<FakeDriver>, PinnedMemory) {
        let driver = FakeDriver::new(1);
        (driver.clone(), PinnedMemory::new(driver, Device(0), bytes_max))
    }

    #[test]
    fn a_slab_is_locked_once_and_recycled() {
        let (driver, memory) = memory(1 << 20);
        let slab = memory.slab(5000).unwrap();
        assert!(slab.is_pinned());
        let first = slab.as_ref().as_ptr();
        assert_eq!((first as usize % 4096, slab.as_ref().len()), (0, 5000));
        for _ in 0..3 {
            let slab = memory.slab(5000);
            drop(slab);
            memory.collect();
        }
        drop(slab);
        memory.collect();
        assert_eq!(memory.slab(4900).unwrap().as_ref().as_ptr(), first);
        assert_eq!(driver.count(Call::Register), 2);
        assert_eq!(memory.usage().refused, None);
    }

    #[test]
    fn no_more_than_its_bytes_are_locked_and_idle_slabs_of_other_sizes_make_room() {
        let (driver, memory) = memory(64 << 10);
        let large = memory.slab(48 << 10).unwrap();
        let small: Vec<_> = (0..8).map(|_| memory.slab(4096).unwrap()).collect();
        assert_eq!(small.iter().filter(|slab| slab.is_pinned()).count(), 4);
        assert_eq!((memory.usage().pinned_bytes, memory.usage().ordinary_slabs), (64 << 10, 4));
        drop(large);
        assert!(!memory.slab(32 << 10).unwrap().is_pinned(), "what is in quarantine cannot make room");
        memory.collect();
        assert!(memory.slab(16 << 10).unwrap().is_pinned());
        assert_eq!(driver.registered_bytes(), memory.usage().pinned_bytes);
        assert!(memory.usage().pinned_bytes <= 64 << 10);
    }

    #[test]
    fn a_refusal_is_told_once_and_slabs_are_ordinary_from_then_on() {
        let (driver, memory) = memory(1 << 20);
        driver.fail_always(Call::Register, "CUDA_ERROR_OUT_OF_MEMORY");
        let mut slab = memory.slab(100).unwrap();
        assert!(!slab.is_pinned());
        slab.as_mut()[99] = 1;
        assert!(!memory.slab(100).unwrap().is_pinned());
        assert_eq!(driver.count(Call::Register), 1);
        let usage = memory.usage();
        assert_eq!(usage.refused.as_deref(), Some("cuMemHostRegister: CUDA_ERROR_OUT_OF_MEMORY"));
        assert_eq!((usage.pinned_bytes, usage.ordinary_slabs), (0, 2));
    }

    #[test]
    fn where_fences_fail_nothing_is_recycled_and_nothing_more_is_locked() {
        let (driver, memory) = memory(1 << 20);
        driver.activate(Device(0));
        let slab = memory.slab(100).unwrap();
        driver.fail_always(Call::Query, "CUDA_ERROR_CONTEXT_IS_DESTROYED");
        drop(slab);
        memory.collect();
        assert_eq!(memory.usage().idle_bytes, 0);
        assert!(!memory.slab(100).unwrap().is_pinned());
        assert!(memory.usage().refused.unwrap().contains("CONTEXT_IS_DESTROYED"));
    }

    #[test]
    fn all_is_unlocked_in_the_end_and_slabs_outlive_the_memory() {
        let (driver, memory) = memory(1 << 20);
        let mut slab = memory.slab(100).unwrap();
        drop(memory);
        slab.as_mut()[99] = 7;
        assert_eq!(slab.as_ref()[99], 7);
        assert!(driver.registered_bytes() > 0);
        drop(slab);
        assert_eq!(driver.registered_bytes(), 0);
        assert_eq!((driver.count(Call::Retain), driver.count(Call::Release)), (1, 1));
    }

    #[test]
    fn without_a_driver_slabs_are_ordinary_and_the_reason_is_told() {
        let error = CudaError::new("libcuda.so.1", "it is not here");
        let memory = PinnedMemory::with(None, Some(error), 1 << 20);
        assert!(!memory.slab(100).unwrap().is_pinned());
        memory.collect();
        assert_eq!(memory.usage().refused.as_deref(), Some("libcuda.so.1: it is not here"));
    }
}
