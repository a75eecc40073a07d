//! Pages of our own: mapped fresh and zeroed, unmapped when dropped.
#![expect(unsafe_code, reason = "mmap, munmap and madvise have no safe wrapper in std")]

use std::fmt;
use std::ptr::NonNull;

use crate::fork;

/// Writable private memory that nobody else has; starts on a page.
pub struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
    /// The process (as `fork::generation` counts) that alone has the pages; in its children something else may lie there.
    only_in: Option<u64>,
}

impl Mapping {
    /// `bytes` (more than 0) zeroed bytes, in huge pages where the system has them; `None` when it has no memory.
    pub fn new(bytes: usize) -> Option<Self> {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: PAGES-1: a new private mapping touches no memory that exists.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, kind, -1, 0) };
        if start == libc::MAP_FAILED {
            return None;
        }
        // SAFETY: PAGES-1: the range is the mapping made above; the advice changes no content, and its failure does not matter.
        unsafe { libc::madvise(start, bytes, libc::MADV_HUGEPAGE) };
        NonNull::new(start.cast()).map(|start| Self { start, bytes, only_in: None })
    }

    /// Keeps the pages out of processes that are forked from now on, where reading them is then a fault. Pages that a device
    /// reads must stay where they are: after a fork a write of the parent may move a page that both processes have, while the
    /// device goes on reading the old one. `false` when the system refuses.
    #[must_use]
    pub fn keep_from_children(&mut self) -> bool {
        // SAFETY: PAGES-1: the range is our own mapping; what this process sees of it does not change.
        let kept = unsafe { libc::madvise(self.start.as_ptr().cast(), self.bytes, libc::MADV_DONTFORK) == 0 };
        if kept {
            self.only_in = Some(fork::generation());
        }
        kept
    }

    /// Where the bytes are; valid as long as the mapping lives.
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    pub fn len(&self) -> usize {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: PAGES-1: mapped with this length, zeroed by the kernel, owned by `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }
}

impl AsMut<[u8]> for Mapping {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: PAGES-1 as above, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.only_in.is_some_and(|process| process != fork::generation()) {
            return;
        }
        // SAFETY: PAGES-1: mapped with exactly this length and owned by `self` alone.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

// SAFETY: PAGES-1: the memory has one owner and no thread affinity; shared references only read.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl fmt::Debug for Mapping {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Mapping({} bytes)", self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_is_zeroed_and_writable() {
        let mut mapping = Mapping::new(10_000).unwrap();
        assert_eq!(mapping.as_ptr() as usize % 4096, 0);
        assert!(mapping.as_ref().iter().all(|byte| *byte == 0));
        mapping.as_mut()[9_999] = 7;
        assert_eq!(mapping.as_ref()[9_999], 7);
    }

    #[test]
    fn a_child_does_not_have_what_is_kept_from_it() {
        let mut mapping = Mapping::new(4096).unwrap();
        assert!(mapping.keep_from_children());
        // SAFETY: the child calls only `mincore` and `_exit`, both allowed after fork in a threaded process.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let mut resident = 0u8;
            // SAFETY: `mincore` answers about any address, and fails where nothing is mapped.
            let code = unsafe { libc::mincore(mapping.as_ptr().cast(), 4096, &raw mut resident) };
            // SAFETY: as above.
            unsafe { libc::_exit(i32::from(code == 0)) };
        }
        let mut status = -1;
        // SAFETY: `child` is our own child and `status` outlives the call.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!(status, 0);
    }
}
