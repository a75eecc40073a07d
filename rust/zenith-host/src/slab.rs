//! Slabs: the memory of one field of one batch, recycled when the last reader has dropped it.
#![expect(unsafe_code, reason = "64-byte aligned allocation with an owner that crosses to C++")]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::fork;
use crate::idle::{Idle, capacity_for};
use crate::mapping::Mapping;

/// JAX aliases host memory only when it lies on 64 bytes; AVX-512 loads want the same.
pub const SLAB_ALIGNMENT: usize = 64;

/// From this size on memory is mapped on its own, so that it goes back to the system as a whole and never lies in pieces
/// between smaller allocations.
const MAPPED_BYTES_MIN: usize = 1 << 20;

/// Slabs from this size on are worth a moment's wait for one that is about to come back.
const AWAITED_BYTES_MIN: usize = 4 << 20;

/// How long such a wait is, far below the time that it takes to fill so much memory. A loop over batches drops one within
/// microseconds of getting the next.
const RETURN_PATIENCE: Duration = Duration::from_micros(300);

/// After so many waits in vain the readers keep what they get, and only one request in `VAIN_PERIOD` waits again.
const VAIN_MAX: u32 = 4;
const VAIN_PERIOD: u32 = 32;

/// Recycles slabs. When none is free it allocates, and never blocks on readers of slabs that are out: a patient pool waits a
/// moment for a large one.
pub struct SlabPool {
    free: Mutex<Idle<Memory>>,
    returned: Condvar,
    idle_bytes_max: usize,
    generation: u64,
    is_patient: bool,
    /// Large slabs that are out.
    large_out: AtomicUsize,
    /// Requests since a wait was last of use.
    vain: AtomicU32,
}

impl SlabPool {
    /// Keeps at most `idle_bytes_max` bytes of returned slabs for reuse; more is given back to the system.
    pub fn new(idle_bytes_max: usize) -> Arc<Self> {
        Self::with(idle_bytes_max, false)
    }

    /// As `new`, for batches: where the consumer holds one large slab and the next is ready for it, a third is not allocated while the
    /// consumer changes from one to the other.
    pub fn patient(idle_bytes_max: usize) -> Arc<Self> {
        Self::with(idle_bytes_max, true)
    }

    fn with(idle_bytes_max: usize, is_patient: bool) -> Arc<Self> {
        Arc::new(Self {
            free: Mutex::default(),
            returned: Condvar::new(),
            idle_bytes_max,
            generation: fork::generation(),
            is_patient,
            large_out: AtomicUsize::new(0),
            vain: AtomicU32::new(0),
        })
    }

    /// A slab of `bytes` bytes with unspecified (but initialised) content; `None` when the system has no memory.
    pub fn slab(self: &Arc<Self>, bytes: usize) -> Option<Slab> {
        let capacity = capacity_for(bytes);
        // SLAB-2: in a forked child the lock may be held for ever.
        let recycled = (self.generation == fork::generation()).then(|| self.recycled(capacity)).flatten();
        let memory = match recycled {
            Some(memory) => memory,
            None => Memory::allocate(capacity)?,
        };
        if memory.capacity() >= AWAITED_BYTES_MIN {
            self.large_out.fetch_add(1, Ordering::Relaxed);
        }
        Some(Slab { memory: Some(memory), bytes, pool: Arc::downgrade(self) })
    }

    fn free(&self) -> MutexGuard<'_, Idle<Memory>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn recycled(&self, capacity: usize) -> Option<Memory> {
        let mut free = self.free();
        let idle = free.take(capacity);
        if idle.is_some() || !self.awaits(capacity) {
            return idle.map(|(_, memory)| memory);
        }
        let mut found = None;
        let is_missing = |free: &mut Idle<Memory>| {
            found = free.take(capacity);
            found.is_none()
        };
        // The time is taken as a whole: other slabs may come back meanwhile.
        drop(self.returned.wait_timeout_while(free, RETURN_PATIENCE, is_missing));
        if found.is_some() {
            self.vain.store(0, Ordering::Relaxed);
        }
        found.map(|(_, memory)| memory)
    }

    /// Whether a slab is likely to come back at once: one is the consumer's, and another is ready for it.
    fn awaits(&self, capacity: usize) -> bool {
        if !self.is_patient || capacity < AWAITED_BYTES_MIN || self.large_out.load(Ordering::Relaxed) < 2 {
            return false;
        }
        let vain = self.vain.fetch_add(1, Ordering::Relaxed);
        vain < VAIN_MAX || vain.is_multiple_of(VAIN_PERIOD)
    }

    /// Bytes that lie in the pool unused.
    pub fn idle_bytes(&self) -> usize {
        self.free().bytes()
    }

    fn put(&self, memory: Memory) {
        if self.generation != fork::generation() {
            // SLAB-2: the lock may have been held at the fork; the memory is simply freed.
            return;
        }
        let capacity = memory.capacity();
        if capacity >= AWAITED_BYTES_MIN {
            self.large_out.fetch_sub(1, Ordering::Relaxed);
        }
        let mut free = self.free();
        if free.bytes() + capacity <= self.idle_bytes_max {
            free.put(capacity, memory);
            drop(free);
            self.returned.notify_one();
        }
    }
}

impl fmt::Debug for SlabPool {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("SlabPool").field("idle_bytes_max", &self.idle_bytes_max).finish_non_exhaustive()
    }
}

/// Exclusively owned, writable memory of one field of one batch. Dropping it returns the memory to its pool.
pub struct Slab {
    memory: Option<Memory>,
    bytes: usize,
    pool: Weak<SlabPool>,
}

impl Slab {
    /// Where the bytes are; valid as long as the slab lives.
    pub fn as_ptr(&self) -> *mut u8 {
        self.memory.as_ref().map_or(std::ptr::null_mut(), Memory::as_ptr)
    }

    pub fn len(&self) -> usize {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }
}

impl AsRef<[u8]> for Slab {
    fn as_ref(&self) -> &[u8] {
        let Some(memory) = &self.memory else { return &[] };
        // SAFETY: SLAB-1: `bytes` ≤ capacity, all of it initialised (zeroed at allocation), owned by `self`.
        unsafe { std::slice::from_raw_parts(memory.as_ptr(), self.bytes) }
    }
}

impl AsMut<[u8]> for Slab {
    fn as_mut(&mut self) -> &mut [u8] {
        let Some(memory) = &mut self.memory else { return &mut [] };
        // SAFETY: SLAB-1 as above, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(memory.as_ptr(), self.bytes) }
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        if let (Some(memory), Some(pool)) = (self.memory.take(), self.pool.upgrade()) {
            pool.put(memory);
        }
    }
}

impl fmt::Debug for Slab {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Slab({} bytes)", self.bytes)
    }
}

enum Memory {
    Allocated(Allocation),
    Mapped(Mapping),
}

impl Memory {
    fn allocate(capacity: usize) -> Option<Self> {
        if capacity >= MAPPED_BYTES_MIN {
            return Mapping::new(capacity).map(Self::Mapped);
        }
        let layout = Layout::from_size_align(capacity, SLAB_ALIGNMENT).ok()?;
        // SAFETY: SLAB-1: `capacity_for` never gives zero, so the layout has a size.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Self::Allocated(Allocation { start, layout }))
    }

    fn as_ptr(&self) -> *mut u8 {
        match self {
            Self::Allocated(allocation) => allocation.start.as_ptr(),
            Self::Mapped(mapping) => mapping.as_ptr(),
        }
    }

    fn capacity(&self) -> usize {
        match self {
            Self::Allocated(allocation) => allocation.layout.size(),
            Self::Mapped(mapping) => mapping.len(),
        }
    }
}

struct Allocation {
    start: NonNull<u8>,
    layout: Layout,
}

impl Drop for Allocation {
    fn drop(&mut self) {
        // SAFETY: SLAB-1: allocated with exactly this layout and owned by `self` alone.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

// SAFETY: SLAB-1: the memory has one owner and no thread affinity; shared references only read.
unsafe impl Send for Allocation {}
// SAFETY: as above.
unsafe impl Sync for Allocation {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slab_is_aligned_and_recycled() {
        let pool = SlabPool::new(1 << 20);
        let slab = pool.slab(1000).unwrap();
        let first = slab.as_ptr();
        assert_eq!(first as usize % SLAB_ALIGNMENT, 0);
        assert_eq!(slab.as_ref().len(), 1000);
        drop(slab);
        assert_eq!(pool.slab(1000).unwrap().as_ptr(), first);
    }

    #[test]
    fn a_nearby_size_reuses_memory_and_large_slabs_are_mapped() {
        let pool = SlabPool::new(64 << 20);
        let mut large = pool.slab(5 << 20).unwrap();
        large.as_mut()[(5 << 20) - 1] = 1;
        let first = large.as_ptr();
        assert_eq!(first as usize % 4096, 0);
        drop(large);
        assert_eq!(pool.slab(1 << 20).unwrap().len(), 1 << 20);
        assert_eq!(pool.slab(4 << 20).unwrap().as_ptr(), first);
    }

    #[test]
    fn a_patient_pool_waits_for_a_large_slab_that_comes_back_and_not_for_one_that_is_kept() {
        let pool = SlabPool::patient(64 << 20);
        let (held, ready) = (pool.slab(8 << 20).unwrap(), pool.slab(8 << 20).unwrap());
        let first = held.as_ptr() as usize;
        // Whichever of the two threads comes first: the memory is the one that came back, or new if the other was late.
        let third = std::thread::scope(|scope| {
            scope.spawn(move || drop(held));
            pool.slab(8 << 20).unwrap()
        });
        let fourth = pool.slab(8 << 20).unwrap();
        assert!([third.as_ptr() as usize, fourth.as_ptr() as usize].contains(&first));
        drop(ready);
        let kept: Vec<_> = (0..50).map(|_| pool.slab(8 << 20).unwrap()).collect();
        let started = std::time::Instant::now();
        let more: Vec<_> = (0..20).map(|_| pool.slab(8 << 20).unwrap()).collect();
        assert!(started.elapsed() < 20 * RETURN_PATIENCE, "{:?}", started.elapsed());
        drop((kept, more));
        assert!(pool.idle_bytes() <= 64 << 20);
    }

    #[test]
    fn the_pool_keeps_no_more_than_it_may_and_slabs_outlive_it() {
        let pool = SlabPool::new(100_000);
        let slabs: Vec<_> = (0..20).map(|_| pool.slab(50_000).unwrap()).collect();
        drop(slabs);
        assert!(pool.idle_bytes() <= 100_000 && pool.idle_bytes() > 0);
        let mut last = pool.slab(10).unwrap();
        drop(pool);
        last.as_mut()[9] = 7;
        assert_eq!(last.as_ref()[9], 7);
    }
}
