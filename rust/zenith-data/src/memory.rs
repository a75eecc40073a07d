//! The port through which batches get their memory.

use crate::Result;

/// Hands out slabs: aligned, writable, private memory that a batch's field is written into once and then leased.
pub trait BatchMemory: Send + Sync + 'static {
    /// One slab, owned; dropping it gives the memory back.
    type Slab: AsMut<[u8]> + AsRef<[u8]> + Send + Sync + 'static;

    /// A slab of exactly `bytes` bytes, aligned to 64; its content is unspecified but initialised. Never waits for
    /// slabs that are still leased: when the pool is empty it allocates.
    fn slab(&self, bytes: usize) -> Result<Self::Slab>;

    /// A hint that `bytes` will be read soon: shuffled rows lie all over memory, and waiting for each is what copying them
    /// costs. Returns at once.
    fn prefetch(&self, bytes: &[u8]) {
        let _ = bytes;
    }
}
