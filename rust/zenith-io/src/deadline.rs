//! Reads that must end in time. A read that hangs cannot be called back, so each is made by a helper thread; one that
//! takes too long is an error for who waits, and its thread is left to itself until the system answers.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use zenith_data::storage::{Pending, Range, Source, Storage, Tree};
use zenith_data::{Error, ErrorKind, Result};

/// Threads that may hang at once. With so many no further read is tried: a mount is gone, not a block.
const STUCK_MAX: usize = if cfg!(test) { 4 } else { 64 };

/// A storage that gives up reads that take too long, or tells that they go on.
pub struct TimedReads {
    inner: Arc<dyn Storage>,
    limits: Limits,
    shared: Arc<Shared>,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    /// A read of one range that takes longer is an error.
    most: Option<Duration>,
    /// One that takes longer is told to go on: `ErrorKind::Interrupted`, and the same request again waits for the rest.
    patience: Option<Duration>,
}

#[derive(Default)]
struct Shared {
    helpers: Helpers,
    /// Reads that were told to go on.
    going_on: Mutex<Vec<UnderWay>>,
}

impl TimedReads {
    /// Each read of `inner` may take `most`, and keep its caller for `patience`; where there is no `most`, reads that cannot
    /// hang are left alone.
    pub fn new(inner: Arc<dyn Storage>, most: Option<Duration>, patience: Option<Duration>) -> Self {
        Self { inner, limits: Limits { most, patience }, shared: Arc::default() }
    }
}

impl fmt::Debug for TimedReads {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("TimedReads").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Storage for TimedReads {
    fn list(&self, pattern: &str) -> Result<Vec<Source>> {
        self.inner.list(pattern)
    }

    fn list_tree(&self, root: &str, wanted: &dyn Fn(&str) -> bool) -> Result<Tree> {
        self.inner.list_tree(root, wanted)
    }

    fn submit(&self, sources: &[Source], ranges: &[Range]) -> Result<Box<dyn Pending>> {
        let mut going_on = self.shared.going_on.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = going_on.iter().position(|read| read.ranges == ranges) {
            let read = going_on.swap_remove(at);
            return Ok(Box::new(Waiting { read, limits: self.limits, shared: self.shared.clone() }));
        }
        drop(going_on);
        if self.limits.most.is_none() && !self.inner.may_hang(sources, ranges) {
            return self.inner.submit(sources, ranges);
        }
        let one = |range| self.inner.submit(sources, std::slice::from_ref(range));
        let reads = ranges.iter().map(one).collect::<Result<_>>()?;
        let location = |range: &Range| sources.get(range.source as usize).map(|source| source.location.clone());
        let locations = ranges.iter().map(|range| location(range).unwrap_or_default()).collect();
        let read = UnderWay::start(&self.shared, reads, ranges.to_vec(), locations)?;
        Ok(Box::new(Waiting { read, limits: self.limits, shared: self.shared.clone() }))
    }

    fn will_need(&self, sources: &[Source], ranges: &[Range]) {
        self.inner.will_need(sources, ranges);
    }

    /// Reads that must end in time are made once.
    fn reads_again_at_once(&self) -> bool {
        self.limits.most.is_none() && self.inner.reads_again_at_once()
    }

    /// Needs no helper: what comes again at once does so even if another file, of another machine, was opened since.
    fn read_into(&self, sources: &[Source], range: Range, into: &mut Vec<u8>) -> Result<()> {
        self.inner.read_into(sources, range, into)
    }
}

/// Ranges that a helper reads one after another.
struct UnderWay {
    ranges: Vec<Range>,
    locations: Vec<String>,
    answered: Receiver<Result<Vec<Bytes>>>,
    parts: Vec<Bytes>,
    /// When the range that is being read was begun.
    since: Instant,
    helper: Sender<Work>,
    ended: Arc<AtomicBool>,
}

impl UnderWay {
    fn start(
        shared: &Arc<Shared>,
        reads: Vec<Box<dyn Pending>>,
        ranges: Vec<Range>,
        locations: Vec<String>,
    ) -> Result<Self> {
        let (answers, answered) = mpsc::channel();
        let ended = Arc::new(AtomicBool::new(false));
        let (ended_there, there) = (ended.clone(), shared.clone());
        let helper = shared.helpers.start(Box::new(move || {
            for read in reads {
                let outcome = catch_unwind(AssertUnwindSafe(|| read.wait()))
                    .unwrap_or_else(|_| Err(Error::internal("a read panicked. Please report this")));
                if outcome.is_err() | answers.send(outcome).is_err() {
                    break;
                }
            }
            if ended_there.swap(true, Ordering::AcqRel) {
                there.helpers.stuck.fetch_sub(1, Ordering::AcqRel);
            }
        }))?;
        Ok(Self { ranges, locations, answered, parts: Vec::new(), since: Instant::now(), helper, ended })
    }

    /// What is said of the range that takes too long.
    fn late(&self, kind: ErrorKind, message: String) -> Error {
        let number = self.parts.len().min(self.ranges.len() - 1);
        Error::new(kind, message).in_file(&self.locations[number]).at_offset(self.ranges[number].offset)
    }
}

struct Waiting {
    read: UnderWay,
    limits: Limits,
    shared: Arc<Shared>,
}

impl Pending for Waiting {
    fn wait(self: Box<Self>) -> Result<Vec<Bytes>> {
        let Self { mut read, limits: Limits { most, patience }, shared } = *self;
        let called = Instant::now();
        while read.parts.len() < read.ranges.len() {
            let left = [
                most.map(|most| most.saturating_sub(read.since.elapsed())),
                patience.map(|patience| patience.saturating_sub(called.elapsed())),
            ];
            let left = left.into_iter().flatten().min().unwrap_or(Duration::MAX);
            match read.answered.recv_timeout(left) {
                Ok(outcome) => {
                    read.parts.extend(outcome?);
                    read.since = Instant::now();
                }
                Err(RecvTimeoutError::Disconnected) => return Err(Error::internal("a read was lost")),
                Err(RecvTimeoutError::Timeout) => return Err(give_up(read, most, &shared)),
            }
        }
        shared.helpers.put_back(read.helper);
        Ok(read.parts)
    }
}

/// Ends a read that took too long, or sets it aside to go on.
fn give_up(read: UnderWay, most: Option<Duration>, shared: &Shared) -> Error {
    let Some(most) = most.filter(|most| read.since.elapsed() >= *most) else {
        let error = read.late(ErrorKind::Interrupted, "the read goes on. Ask again".into());
        shared.going_on.lock().unwrap_or_else(PoisonError::into_inner).push(read);
        return error;
    };
    let stuck = &shared.helpers.stuck;
    stuck.fetch_add(1, Ordering::AcqRel);
    if read.ended.swap(true, Ordering::AcqRel) {
        stuck.fetch_sub(1, Ordering::AcqRel);
    }
    // Without its sender the helper ends when its read does.
    timed_out(&read, most)
}

fn timed_out(read: &UnderWay, most: Duration) -> Error {
    let bytes = read.ranges.get(read.parts.len()).map_or(0, |range| range.len);
    let message = format!(
        "a read of {bytes} bytes took longer than read_timeout_ms={}. Look after the disk or the mount, or raise \
         read_timeout_ms",
        most.as_millis()
    );
    read.late(ErrorKind::TimedOut, message)
}

type Work = Box<dyn FnOnce() + Send>;

/// Threads that make reads, used again and again.
#[derive(Default)]
struct Helpers {
    idle: Mutex<Vec<Sender<Work>>>,
    /// Threads whose reads were given up and still hang.
    stuck: AtomicUsize,
}

impl Helpers {
    /// Lets an idle thread, or a new one, do `work`. Errors: too many hang already; no thread can be started.
    fn start(&self, work: Work) -> Result<Sender<Work>> {
        let stuck = self.stuck.load(Ordering::Acquire);
        if stuck >= STUCK_MAX {
            let message = format!("{stuck} reads hang, no more are tried. Look after the disk or the mount");
            return Err(Error::new(ErrorKind::TimedOut, message));
        }
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let helper = match idle {
            Some(helper) => helper,
            None => spawn()?,
        };
        helper.send(work).map_err(|_| Error::internal("a thread that reads is gone"))?;
        Ok(helper)
    }

    fn put_back(&self, helper: Sender<Work>) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(helper);
    }
}

fn spawn() -> Result<Sender<Work>> {
    let (helper, asked) = mpsc::channel::<Work>();
    let spawned = std::thread::Builder::new().name("zenith-read".into()).spawn(move || {
        for work in asked {
            work();
        }
    });
    spawned.map(|_| helper).map_err(|error| {
        let message = format!("cannot start a thread for reads: {error}. Raise the limit of threads");
        Error::new(ErrorKind::Io, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads of source 0 answer at once, those of others when told to.
    struct Slow(Mutex<Vec<Sender<()>>>);

    struct Answer(Option<mpsc::Receiver<()>>, u64);

    impl Pending for Answer {
        fn wait(self: Box<Self>) -> Result<Vec<Bytes>> {
            if let Some(told) = self.0 {
                assert!(told.recv().is_err(), "the other side only hangs up");
            }
            Ok(vec![Bytes::from(vec![self.1 as u8])])
        }
    }

    impl Storage for Slow {
        fn list(&self, _pattern: &str) -> Result<Vec<Source>> {
            Ok(Vec::new())
        }

        fn list_tree(&self, _root: &str, _wanted: &dyn Fn(&str) -> bool) -> Result<Tree> {
            Ok(Tree::default())
        }

        fn submit(&self, _sources: &[Source], ranges: &[Range]) -> Result<Box<dyn Pending>> {
            let told = (ranges[0].source > 0).then(|| {
                let (tell, told) = mpsc::channel();
                self.0.lock().unwrap().push(tell);
                told
            });
            Ok(Box::new(Answer(told, ranges[0].offset)))
        }

        fn will_need(&self, _sources: &[Source], _ranges: &[Range]) {}
    }

    fn sources() -> Vec<Source> {
        let source =
            |name: &str| Source { location: format!("/{name}"), name: name.into(), len: 99, version: "".into() };
        vec![source("quick"), source("slow")]
    }

    #[test]
    fn a_read_that_hangs_is_named_and_the_others_go_on() {
        let slow = Arc::new(Slow(Mutex::default()));
        let timed = TimedReads::new(slow.clone(), Some(Duration::from_millis(500)), None);
        let range = |source, offset| Range { source, offset, len: 7 };
        let quick = [range(0, 1), range(0, 2)];
        for turn in 0..STUCK_MAX {
            let error = timed.submit(&sources(), &[range(0, 3), range(1, 4)]).unwrap().wait().unwrap_err();
            let place = (error.place().file.as_deref(), error.place().offset);
            assert_eq!((error.kind(), place), (ErrorKind::TimedOut, (Some("/slow"), Some(4))), "{turn}: {error}");
            if turn < STUCK_MAX - 1 {
                assert_eq!(timed.submit(&sources(), &quick).unwrap().wait().unwrap(), [&[1][..], &[2]]);
            }
        }
        let error = timed.submit(&sources(), &quick).and_then(Pending::wait).unwrap_err();
        assert!(error.to_string().contains("4 reads hang"), "{error}");
        // They answer at last: the threads end, and reads are tried again.
        slow.0.lock().unwrap().clear();
        let started = Instant::now();
        while timed.submit(&sources(), &quick).and_then(Pending::wait).is_err() {
            assert!(started.elapsed() < Duration::from_secs(10));
        }
        assert_eq!(timed.shared.helpers.stuck.load(Ordering::Acquire), 0);
    }

    #[test]
    fn idle_threads_are_used_again_and_errors_pass() {
        let timed = TimedReads::new(Arc::new(crate::LocalFiles::new()), Some(Duration::from_secs(10)), None);
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a");
        std::fs::write(&path, b"0123456789").unwrap();
        let sources = timed.list(path.to_str().unwrap()).unwrap();
        let ranges = [Range { source: 0, offset: 7, len: 3 }, Range { source: 0, offset: 0, len: 2 }];
        for _ in 0..100 {
            assert_eq!(timed.submit(&sources, &ranges).unwrap().wait().unwrap(), [&b"789"[..], b"01"]);
        }
        assert_eq!(timed.shared.helpers.idle.lock().unwrap().len(), 1);
        std::fs::write(&path, b"01").unwrap();
        let error = timed.submit(&sources, &ranges).unwrap().wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DatasetChanged);
    }

    #[test]
    fn a_read_that_goes_on_is_waited_for_again() {
        let slow = Arc::new(Slow(Mutex::default()));
        let (most, patience) = (Duration::from_secs(60), Duration::from_millis(5));
        for most in [None, Some(most)] {
            let timed = TimedReads::new(slow.clone(), most, Some(patience));
            let ranges = [Range { source: 0, offset: 3, len: 1 }, Range { source: 1, offset: 4, len: 1 }];
            for _ in 0..3 {
                let error = timed.submit(&sources(), &ranges).unwrap().wait().unwrap_err();
                assert_eq!((error.kind(), error.place().offset), (ErrorKind::Interrupted, Some(4)));
            }
            // The read was made once, and its answer is that of the next who asks.
            let told = std::mem::take(&mut *slow.0.lock().unwrap());
            assert_eq!(told.len(), 1);
            drop(told);
            let started = Instant::now();
            let parts = loop {
                match timed.submit(&sources(), &ranges).unwrap().wait() {
                    Ok(parts) => break parts,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Interrupted),
                }
                assert!(started.elapsed() < Duration::from_secs(10));
            };
            assert_eq!(parts, [&[3][..], &[4]]);
        }
    }

    #[test]
    fn open_files_of_this_machine_are_read_at_once() {
        let files = crate::LocalFiles::new();
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a");
        std::fs::write(&path, b"0123456789").unwrap();
        let sources = files.list(path.to_str().unwrap()).unwrap();
        let range = Range { source: 0, offset: 1, len: 2 };
        assert!(files.may_hang(&sources, &[range]), "the file has to be opened first");
        files.read(&sources, range).unwrap();
        assert!(!files.may_hang(&sources, &[range]), "a temporary folder is on this machine");
        let timed = TimedReads::new(Arc::new(files), None, Some(Duration::ZERO));
        assert_eq!(timed.read(&sources, range).unwrap(), &b"12"[..]);
        assert!(timed.shared.helpers.idle.lock().unwrap().is_empty());
    }
}
