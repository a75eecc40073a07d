//! What the kernel alone knows of shared memory.
//!
//! LEASE-1: the call takes numbers; the descriptor is open while it lasts.

#![expect(unsafe_code, reason = "leases and segments of System V have no safe wrapper")]

use std::os::fd::{AsRawFd, BorrowedFd};

/// Whether no other descriptor and no mapping of this file is left, in any process of any container. Until `file` is closed, who
/// opens it anew waits, and this process is sent SIGIO, which the guardian has blocked.
pub(super) fn is_held_by_nobody_else(file: BorrowedFd<'_>) -> bool {
    // SAFETY: LEASE-1.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) == 0 }
}

pub(super) fn remove_segment(id: i32) -> bool {
    // SAFETY: LEASE-1; to remove a segment no structure is read or written.
    unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) == 0 }
}
