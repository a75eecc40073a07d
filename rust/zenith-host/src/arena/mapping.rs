//! The file of an arena in the address space of this process.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use super::lease::Lease;
use super::{CHUNKS_MAX, DATA_START};
use crate::fork;
use crate::slab::SLAB_ALIGNMENT;

/// Address space that is asked for, largest first: where the process may not have as much, a batch of that size goes another
/// way. None of it costs memory before the file grows into it.
const RESERVED: [usize; 4] = [64 << 30, 8 << 30, 1 << 30, 128 << 20];

/// A mapped arena. It stays mapped as long as anything of it is leased, also when the worker is gone.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    len: usize,
    pub(super) generation: u64,
}

// SAFETY: the pointer is that of a shared mapping which lives as long as the value; what is behind it is reached by atomics
// (the table) or through leases.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the arena of `file`, which may be closed afterwards.
    pub fn new(file: &impl AsFd) -> io::Result<Arc<Self>> {
        let mut refused = io::Error::from(io::ErrorKind::OutOfMemory);
        for len in RESERVED {
            // SAFETY: a new mapping at an address of the kernel's choice. What lies beyond the end of the file is not
            // touched: chunks are handed out when the file has grown over them.
            let start = unsafe {
                libc::mmap(
                    std::ptr::null_mut(),
                    len,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_SHARED | libc::MAP_NORESERVE,
                    file.as_fd().as_raw_fd(),
                    0,
                )
            };
            match NonNull::new(start.cast::<u8>()) {
                Some(start) if start.as_ptr().cast() != libc::MAP_FAILED => {
                    return Ok(Arc::new(Self { start, len, generation: fork::generation() }));
                }
                _ => refused = io::Error::last_os_error(),
            }
        }
        Err(refused)
    }

    /// The chunk that a message of the worker names; takes over the count that the worker made for it. `None`: no such place.
    pub fn receive(self: &Arc<Self>, chunk: u32, offset: usize, bytes: usize) -> Option<Lease> {
        let is_inside = offset >= DATA_START && offset.is_multiple_of(SLAB_ALIGNMENT);
        let end = offset.checked_add(bytes)?;
        (is_inside && end <= self.len && (chunk as usize) < CHUNKS_MAX)
            .then(|| Lease::new(self.clone(), chunk, offset, bytes))
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn count(&self, chunk: u32) -> &AtomicU32 {
        debug_assert!((chunk as usize) < CHUNKS_MAX);
        // SAFETY: the table lies at the start of the file, which is never shorter, and is aligned to pages; every process
        // reaches it as atomics only. `chunk` is below CHUNKS_MAX, as `receive` and `Writer` see to.
        unsafe { self.start.cast::<AtomicU32>().add(chunk as usize).as_ref() }
    }

    pub(super) fn at(&self, offset: usize) -> NonNull<u8> {
        debug_assert!(offset <= self.len);
        // SAFETY: within the mapping, as `receive` and `Writer` see to.
        unsafe { self.start.add(offset) }
    }

    /// The offset of an address inside this mapping.
    pub(super) fn offset_of(&self, address: *const u8) -> Option<usize> {
        let offset = address.addr().checked_sub(self.start.addr().get())?;
        (offset < self.len).then_some(offset)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length; no lease is left, since each holds the mapping.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}
