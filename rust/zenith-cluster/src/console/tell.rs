//! What the launcher itself says, on its stderr.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::sink::WRITE_BYTES_MAX;

/// A reader that takes nothing for so long does not get the rest: signals and deaths must not wait for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Says it, unless nobody listens.
pub(crate) fn tell(text: &[u8]) {
    tell_to(io::stderr(), text, PATIENCE);
}

fn tell_to(stream: impl AsFd, mut text: &[u8], patience: Duration) {
    let Ok(patience) = Timespec::try_from(patience) else { return };
    while !text.is_empty() {
        let mut wait = [PollFd::new(&stream, PollFlags::OUT)];
        match poll(&mut wait, Some(&patience)) {
            Err(rustix::io::Errno::INTR) => continue,
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
        match rustix::io::write(&stream, &text[..text.len().min(WRITE_BYTES_MAX)]) {
            Ok(written) => text = &text[written..],
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::Instant;

    use super::*;

    #[test]
    fn who_listens_hears_all_and_who_does_not_delays_nothing() {
        let (mut read, write) = io::pipe().expect("a pipe");
        tell_to(&write, &[b'x'; 10_000], PATIENCE);
        read.read_exact(&mut [0; 10_000]).expect("all of it");
        let start = Instant::now();
        tell_to(&write, &[b'x'; 1 << 20], Duration::from_millis(20));
        assert!(start.elapsed() < PATIENCE);
        drop(read);
        tell_to(&write, b"x", PATIENCE);
    }
}
