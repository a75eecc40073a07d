//! What another process says, for as long as one wants to wait for it.

use std::os::fd::AsFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec};

/// What comes from there until its end, until that moment, or until there is as much as `enough`; then a part more, at most.
pub(crate) fn said(from: impl AsFd, until: Instant, enough: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let mut awaited = [PollFd::new(&from, PollFlags::IN)];
        let left = Timespec::try_from(until.saturating_duration_since(Instant::now())).ok();
        match rustix::event::poll(&mut awaited, left.as_ref()) {
            Ok(0) => break,
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => break,
        }
        let mut part = [0; 4096];
        match rustix::io::read(&from, &mut part) {
            Ok(count) if count > 0 && bytes.len() < enough => bytes.extend(&part[..count]),
            _ => break,
        }
    }
    bytes
}
