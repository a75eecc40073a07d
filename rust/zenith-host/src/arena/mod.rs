//! Memory that a worker process writes batches into and the main process reads in place.
//!
//! One anonymous file per worker, which both map: it has no name that could be left behind, no limit but that of memory, and
//! grows as needed. It begins with a table of atomic reference counts, one per chunk; everything else about chunks is known
//! to the worker alone. The worker takes a chunk (count 1), counts once more for each message it sends, and takes it again
//! when the count is 0. So nothing waits for the consumer, who may keep what it has for ever.
//!
//! ARENA-1: a chunk whose count is not 0 is not written by the worker that owns the arena, except by whoever holds it there.
//! ARENA-2: only the owner raises a count from 0. ARENA-3: in a forked child, what was leased keeps its content, whatever the
//! parent does with it: by a copy, or by a `Loan` that the parent holds until the child has ended.

#![expect(unsafe_code, reason = "shared memory, and what happens to it around a fork")]

mod lease;
mod mapping;
mod writer;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

pub use lease::{Lease, Loan, lend};
pub use mapping::Mapping;
pub use writer::Writer;

/// Chunks that may be alive at once; what exceeds this goes another way.
const CHUNKS_MAX: usize = 1 << 20;
/// Where the chunks begin, behind the table of their counts.
const DATA_START: usize = CHUNKS_MAX * size_of::<u32>();

/// A new, empty arena: its file, to be mapped by `Mapping::new` in each process that uses it.
pub fn create() -> io::Result<OwnedFd> {
    // SAFETY: the name is a C string; what comes back is a descriptor of our own or -1.
    let raw = unsafe { libc::memfd_create(c"zenith-arena".as_ptr(), libc::MFD_CLOEXEC) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `raw` was just opened and belongs to nobody else.
    let file = unsafe { OwnedFd::from_raw_fd(raw) };
    resize(&file, DATA_START)?;
    Ok(file)
}

/// A descriptor of our own for the arena behind a number that came from elsewhere.
pub fn open(descriptor: RawFd) -> io::Result<OwnedFd> {
    if descriptor < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: borrowed for the call that duplicates it, which fails if it is not open.
    unsafe { BorrowedFd::borrow_raw(descriptor) }.try_clone_to_owned()
}

fn resize(file: &impl AsFd, bytes: usize) -> io::Result<()> {
    let length = libc::off_t::try_from(bytes).map_err(io::Error::other)?;
    // SAFETY: an open descriptor and a length.
    match unsafe { libc::ftruncate(file.as_fd().as_raw_fd(), length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests;
