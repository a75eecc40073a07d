//! A stream of the launcher, written to without waiting for its reader.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// More is not read from files before some of it is taken.
const PENDING_BYTES_MAX: usize = 1 << 20;
/// A pipe that says it can be written to takes as much without blocking (PIPE_BUF). The stream's description is shared with
/// other processes, so it cannot be made non-blocking.
pub(super) const WRITE_BYTES_MAX: usize = 4096;

/// Who takes what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    There,
    /// It has closed the stream: it does not want the lines, and none is lost.
    Gone,
    /// It is not waited for any more.
    TooSlow,
}

#[derive(Debug)]
pub(super) struct Sink {
    stream: OwnedFd,
    pending: Vec<u8>,
    /// Bytes of `pending` that are written.
    written: usize,
    /// When the reader last took something, or had nothing to take.
    moved: Instant,
    reader: Reader,
    lost: u64,
}

impl Sink {
    pub(super) fn new(stream: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self {
            stream: stream.try_clone_to_owned()?,
            pending: Vec::new(),
            written: 0,
            moved: Instant::now(),
            reader: Reader::There,
            lost: 0,
        })
    }

    pub(super) fn push(&mut self, parts: &[&[u8]]) {
        if self.reader != Reader::There {
            self.lost += u64::from(self.reader == Reader::TooSlow);
            return;
        }
        if self.pending.is_empty() {
            self.moved = Instant::now();
        }
        parts.iter().for_each(|part| self.pending.extend_from_slice(part));
    }

    /// Writes what the stream takes now.
    pub(super) fn flush(&mut self) {
        while self.has_pending() && self.takes_more() {
            let end = self.pending.len().min(self.written + WRITE_BYTES_MAX);
            match rustix::io::write(&self.stream, &self.pending[self.written..end]) {
                Ok(written) => {
                    self.written += written;
                    self.moved = Instant::now();
                }
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return,
                Err(_) => {
                    self.reader = Reader::Gone;
                    self.written = self.pending.len();
                }
            }
        }
        if !self.has_pending() {
            self.pending.clear();
            self.written = 0;
        } else if self.written > PENDING_BYTES_MAX {
            self.pending.drain(..self.written);
            self.written = 0;
        }
    }

    fn takes_more(&self) -> bool {
        let mut wait = [PollFd::new(&self.stream, PollFlags::OUT)];
        poll(&mut wait, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
    }

    pub(super) fn has_pending(&self) -> bool {
        self.written < self.pending.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.pending.len() - self.written >= PENDING_BYTES_MAX
    }

    pub(super) fn stalls_since(&self, time: Duration) -> bool {
        self.has_pending() && self.moved.elapsed() >= time
    }

    /// Leaves out what is pending and all that comes, and counts it.
    pub(super) fn give_up(&mut self) {
        if self.stalls_since(Duration::ZERO) {
            self.lose(self.pending[self.written..].iter().filter(|byte| **byte == b'\n').count() as u64);
            self.pending.clear();
            self.written = 0;
            self.reader = Reader::TooSlow;
        }
    }

    pub(super) fn lose(&mut self, lines: u64) {
        self.lost += lines;
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost
    }
}

impl AsFd for Sink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
