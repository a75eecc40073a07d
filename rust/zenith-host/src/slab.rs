//! Slabs: the memory of one field of one batch, recycled when the last reader has dropped it.
#![expect(unsafe_code, reason = "64-byte aligned allocation with an owner that crosses to C++")]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::HashMap;
use std::fmt;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::fork;

/// JAX aliases host memory only when it lies on 64 bytes; AVX-512 loads want the same.
pub const SLAB_ALIGNMENT: usize = 64;

/// Recycles slabs. Never blocks on slabs that are out: when none is free, it allocates.
pub struct SlabPool {
    free: Mutex<Free>,
    idle_bytes_max: usize,
    generation: u64,
}

#[derive(Default)]
struct Free {
    by_capacity: HashMap<usize, Vec<Memory>>,
    idle_bytes: usize,
}

impl SlabPool {
    /// Keeps at most `idle_bytes_max` bytes of returned slabs for reuse; more is given back to the system.
    pub fn new(idle_bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { free: Mutex::default(), idle_bytes_max, generation: fork::generation() })
    }

    /// A slab of `bytes` bytes with unspecified (but initialised) content; `None` when the system has no memory.
    pub fn slab(self: &Arc<Self>, bytes: usize) -> Option<Slab> {
        let capacity = capacity_for(bytes);
        let recycled = {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            let memory = free.by_capacity.get_mut(&capacity).and_then(Vec::pop);
            if memory.is_some() {
                free.idle_bytes -= capacity;
            }
            memory
        };
        let memory = match recycled {
            Some(memory) => memory,
            None => Memory::allocate(capacity)?,
        };
        Some(Slab { memory: Some(memory), bytes, pool: Arc::downgrade(self) })
    }

    /// Bytes that lie in the pool unused.
    pub fn idle_bytes(&self) -> usize {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).idle_bytes
    }

    fn put(&self, memory: Memory) {
        if self.generation != fork::generation() {
            // SLAB-2: the lock may have been held at the fork; the memory is simply freed.
            return;
        }
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let capacity = memory.layout.size();
        if free.idle_bytes + capacity <= self.idle_bytes_max {
            free.idle_bytes += capacity;
            free.by_capacity.entry(capacity).or_default().push(memory);
        }
    }
}

impl fmt::Debug for SlabPool {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("SlabPool").field("idle_bytes_max", &self.idle_bytes_max).finish_non_exhaustive()
    }
}

/// Slabs of nearly the same size share a class, so that the last, shorter batch reuses memory too.
fn capacity_for(bytes: usize) -> usize {
    let grain = (bytes / 8).next_power_of_two().clamp(SLAB_ALIGNMENT, 1 << 20);
    bytes.max(1).next_multiple_of(grain)
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
        self.memory.as_ref().map_or(std::ptr::null_mut(), |memory| memory.start.as_ptr())
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
        unsafe { std::slice::from_raw_parts(memory.start.as_ptr(), self.bytes) }
    }
}

impl AsMut<[u8]> for Slab {
    fn as_mut(&mut self) -> &mut [u8] {
        let Some(memory) = &mut self.memory else { return &mut [] };
        // SAFETY: SLAB-1 as above, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(memory.start.as_ptr(), self.bytes) }
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

struct Memory {
    start: NonNull<u8>,
    layout: Layout,
}

impl Memory {
    fn allocate(capacity: usize) -> Option<Self> {
        let layout = Layout::from_size_align(capacity, SLAB_ALIGNMENT).ok()?;
        // SAFETY: SLAB-1: `capacity_for` never gives zero, so the layout has a size.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Self { start, layout })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: SLAB-1: allocated with exactly this layout and owned by `self` alone.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

// SAFETY: SLAB-1: the memory has one owner and no thread affinity; shared references only read.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

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
