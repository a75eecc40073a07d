//! Giving up what takes long: opening a dataset, or a read that hangs.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use zenith_data::storage::{Pending, Range, Source, Storage, Tree};
use zenith_data::{Error, ErrorKind, Result};
use zenith_io::TimedReads;

/// How long a read may keep a caller who has Ctrl-C to look for.
pub(crate) const PATIENCE: Duration = Duration::from_millis(50);

/// Asked now and then during long work: whether to give it up.
pub type Interrupt = Arc<dyn Fn() -> bool + Send + Sync>;

/// A storage whose reads can be given up while they hang: `ErrorKind::Interrupted`.
pub(crate) struct Interruptible {
    reads: TimedReads,
    interrupt: Interrupt,
}

impl Interruptible {
    pub(crate) fn new(inner: Arc<dyn Storage>, interrupt: Interrupt) -> Self {
        Self { reads: TimedReads::new(inner, None, Some(PATIENCE)), interrupt }
    }
}

impl Storage for Interruptible {
    fn list(&self, pattern: &str) -> Result<Vec<Source>> {
        self.reads.list(pattern)
    }

    fn list_tree(&self, root: &str, wanted: &dyn Fn(&str) -> bool) -> Result<Tree> {
        self.reads.list_tree(root, wanted)
    }

    /// Reads at once.
    fn submit(&self, sources: &[Source], ranges: &[Range]) -> Result<Box<dyn Pending>> {
        loop {
            match self.reads.submit(sources, ranges).and_then(Pending::wait) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {
                    if (self.interrupt)() {
                        return Err(Error::new(ErrorKind::Interrupted, "a read that hangs was given up"));
                    }
                }
                outcome => return Ok(Box::new(Done(outcome?))),
            }
        }
    }

    fn will_need(&self, sources: &[Source], ranges: &[Range]) {
        self.reads.will_need(sources, ranges);
    }
}

struct Done(Vec<Bytes>);

impl Pending for Done {
    fn wait(self: Box<Self>) -> Result<Vec<Bytes>> {
        Ok(self.0)
    }
}
