//! Copies of the ranks' log files on the console, line by line, while the files grow (T-46, T-57, TW-12).
//!
//! Ranks write files and never wait for the console. What the console does not take stays in the files; if it falls too far
//! behind, lines are left out and counted. `lines` cuts bytes into lines, `sink` is one of the launcher's streams, `follower`
//! a file; the thread here moves bytes from one to the other. `tell` is for what the launcher itself has to say.

mod follower;
mod lines;
mod sink;
mod tell;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};

use crate::plan::{Duplicate, Tail, TailedStream};
pub(crate) use tell::tell;

use follower::{DuplicateFile, Follower, Progress};
use sink::Sink;

/// How long the end of an attempt waits for a console that takes nothing.
const STALL_MAX: Duration = Duration::from_secs(2);
/// Where files cannot be watched, they are looked at this often.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The thread that shows the files of an attempt.
#[derive(Debug)]
pub struct Console {
    finish: OwnedFd,
    thread: JoinHandle<Shown>,
}

/// What became of the lines.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Lines that the console did not get because it was too slow.
    pub lost: u64,
    /// Why a file could not be read or written to its end.
    pub errors: Vec<String>,
}

impl Console {
    /// Makes the files of `tails`, so that they can be watched before a rank opens them. `None`: there is nothing to show.
    pub fn start(tails: &[Tail], duplicates: &[Duplicate]) -> io::Result<Option<Self>> {
        Self::start_on(tails, duplicates, [io::stdout().as_fd(), io::stderr().as_fd()])
    }

    fn start_on(tails: &[Tail], duplicates: &[Duplicate], streams: [BorrowedFd<'_>; 2]) -> io::Result<Option<Self>> {
        let duplicates = duplicates.iter().map(DuplicateFile::create).collect::<io::Result<Vec<_>>>()?;
        if tails.is_empty() {
            return Ok(None);
        }
        let followers = tails.iter().map(Follower::create).collect::<io::Result<Vec<_>>>()?;
        let finish = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let copier = Copier {
            finish: finish.try_clone()?,
            // Without inotify (some machines have few instances) files are looked at from time to time.
            watch: watch(tails).ok(),
            followers,
            duplicates,
            sinks: [Sink::new(streams[0])?, Sink::new(streams[1])?],
        };
        let thread = thread::Builder::new().name("zenith-console".into()).spawn(move || copier.run())?;
        Ok(Some(Self { finish, thread }))
    }

    /// Shows what the files hold, to their ends. To be called when no rank writes any more.
    pub fn finish(self) -> Shown {
        // The counter of an eventfd has room for one more, so this cannot fail.
        let _ = rustix::io::write(&self.finish, &1u64.to_ne_bytes());
        let broken = |_| Shown { lost: 0, errors: vec!["the thread of the console ended by itself".into()] };
        self.thread.join().unwrap_or_else(broken)
    }
}

fn watch(tails: &[Tail]) -> io::Result<OwnedFd> {
    let watch = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    for tail in tails {
        add_watch(&watch, &tail.file, WatchFlags::MODIFY)?;
    }
    Ok(watch)
}

struct Copier {
    finish: OwnedFd,
    watch: Option<OwnedFd>,
    followers: Vec<Follower>,
    duplicates: Vec<DuplicateFile>,
    sinks: [Sink; 2],
}

impl Copier {
    fn run(mut self) -> Shown {
        let mut is_last = false;
        loop {
            let progress = self.read();
            self.sinks.iter_mut().for_each(Sink::flush);
            match progress {
                Progress::Read => continue,
                Progress::AtEnd if is_last => return self.end(),
                Progress::AtEnd | Progress::Held => is_last |= self.wait(is_last),
            }
            if is_last {
                self.sinks.iter_mut().filter(|sink| sink.stalls_since(STALL_MAX)).for_each(Sink::give_up);
            }
        }
    }

    /// A piece of every file whose stream has room.
    fn read(&mut self) -> Progress {
        let mut progress = Progress::AtEnd;
        for follower in &mut self.followers {
            let sink = &mut self.sinks[index(follower.stream())];
            progress = progress.max(follower.read(sink, &mut self.duplicates));
        }
        self.duplicates.iter_mut().for_each(DuplicateFile::flush);
        progress
    }

    /// Until a file grows, the console takes something, or all is to end. Whether the latter is the case.
    fn wait(&self, is_last: bool) -> bool {
        let mut waits = vec![PollFd::new(&self.finish, if is_last { PollFlags::empty() } else { PollFlags::IN })];
        waits.extend(self.watch.iter().map(|watch| PollFd::new(watch, PollFlags::IN)));
        let busy = self.sinks.iter().filter(|sink| sink.has_pending());
        waits.extend(busy.map(|sink| PollFd::from_borrowed_fd(sink.as_fd(), PollFlags::OUT)));
        let limit = if is_last || self.watch.is_none() { Some(LOOK_EVERY) } else { None };
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        // An interrupted or refused wait is one that ended early.
        let _ = poll(&mut waits, limit.as_ref());
        let asked = !waits[0].revents().is_empty();
        if let Some(watch) = &self.watch {
            // All files are read after any event, so what the events say is of no use.
            let mut events = [0; 4096];
            while rustix::io::read(watch, &mut events).is_ok_and(|read| read > 0) {}
        }
        asked
    }

    /// Lines without an end, then what the streams still hold.
    fn end(mut self) -> Shown {
        for follower in &mut self.followers {
            let sink = &mut self.sinks[index(follower.stream())];
            follower.end(sink, &mut self.duplicates);
        }
        self.duplicates.iter_mut().for_each(DuplicateFile::flush);
        while self.sinks.iter().any(Sink::has_pending) {
            self.sinks.iter_mut().for_each(Sink::flush);
            self.sinks.iter_mut().filter(|sink| sink.stalls_since(STALL_MAX)).for_each(Sink::give_up);
            if self.sinks.iter().any(Sink::has_pending) {
                self.wait(true);
            }
        }
        let errors = self.followers.iter_mut().filter_map(Follower::take_error);
        let errors = errors.chain(self.duplicates.iter_mut().filter_map(DuplicateFile::take_error)).collect();
        Shown { lost: self.sinks.iter().map(Sink::lost).sum(), errors }
    }
}

fn index(stream: TailedStream) -> usize {
    match stream {
        TailedStream::Stdout => 0,
        TailedStream::Stderr => 1,
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
