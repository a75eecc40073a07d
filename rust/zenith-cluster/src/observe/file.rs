//! The file of events: lines are handed to a thread, which appends each by one write.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

/// Lines that wait for the disk; more are dropped. Thousands of ranks start with one line each.
const WAITING_MAX: usize = 16 * 1024;
/// What the disk has not taken at the end by then is given up.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct EventsFile {
    path: PathBuf,
    lines: SyncSender<Vec<u8>>,
    /// Brings the first error, if there was one, when all is written.
    done: Receiver<Option<io::Error>>,
    lost: Arc<AtomicU64>,
}

impl EventsFile {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        // A pipe that nobody reads, or whose reader is slow, would keep the launcher; files take no notice.
        let opened = File::options().append(true).create(true).custom_flags(libc::O_NONBLOCK).open(path);
        let file = opened.map_err(|error| {
            let what = format!("--events-file: {} cannot be opened: {error}", path.display());
            io::Error::new(error.kind(), what)
        })?;
        let (lines, waiting) = sync_channel(WAITING_MAX);
        let (tell, done) = sync_channel(1);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lost);
        thread::Builder::new().name("zenith-events".into()).spawn(move || {
            let _ = tell.send(write(&file, &waiting, &counted));
        })?;
        Ok(Self { path: path.into(), lines, done, lost })
    }

    pub(super) fn push(&mut self, line: Vec<u8>) {
        if self.lines.try_send(line).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Says what is missing in the file.
    pub(super) fn finish(self) -> Option<String> {
        let Self { path, lines, done, lost } = self;
        drop(lines);
        let path = path.display();
        match done.recv_timeout(PATIENCE) {
            Err(_) => Some(format!("{path} takes no events: its disk does not answer")),
            Ok(error) => match lost.load(Ordering::Relaxed) {
                0 => None,
                count => {
                    let why = error.map(|error| format!(": {error}")).unwrap_or_default();
                    Some(format!("{count} events are missing in {path}{why}"))
                }
            },
        }
    }
}

fn write(file: &File, waiting: &Receiver<Vec<u8>>, lost: &AtomicU64) -> Option<io::Error> {
    let (mut first_error, mut is_broken) = (None, false);
    for mut line in waiting {
        if is_broken {
            // What is left of a line that was cut shall not spoil this one.
            line.insert(0, b'\n');
        }
        let written = rustix::io::retry_on_intr(|| rustix::io::write(file, &line));
        is_broken = match written {
            Ok(bytes) if bytes == line.len() => false,
            Ok(bytes) => {
                lost.fetch_add(1, Ordering::Relaxed);
                bytes > 0 || is_broken
            }
            Err(error) => {
                lost.fetch_add(1, Ordering::Relaxed);
                first_error.get_or_insert(error.into());
                is_broken
            }
        };
    }
    first_error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_appended() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("events");
        std::fs::write(&path, "before\n").expect("a file");
        let mut file = EventsFile::open(&path).expect("a file");
        file.push(b"one\n".to_vec());
        file.push(b"two\n".to_vec());
        assert_eq!(file.finish(), None);
        assert_eq!(std::fs::read_to_string(&path).expect("a file"), "before\none\ntwo\n");
        let error = EventsFile::open(&folder.path().join("no/such")).expect_err("no folder").to_string();
        assert!(error.contains("--events-file") && error.contains("no/such"), "{error}");
    }

    #[test]
    fn a_disk_that_is_full_loses_lines_and_counts_them() {
        let mut file = EventsFile::open(Path::new("/dev/full")).expect("a device");
        file.push(b"one\n".to_vec());
        file.push(b"two\n".to_vec());
        let told = file.finish().expect("both are lost");
        assert!(told.starts_with("2 events are missing in /dev/full: No space left"), "{told}");
    }
}
