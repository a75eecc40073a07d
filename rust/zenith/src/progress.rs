//! Progress bars of long work at opening.

use std::cell::Cell;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use zenith_data::sidecar::{Progress, Task};
use zenith_data::{Error, ErrorKind, Result};

use crate::interrupt::Interrupt;

/// Work that is done sooner shows nothing.
const QUIET: Duration = Duration::from_millis(300);

/// A bar on standard error where that is a terminal.
pub(crate) struct Bar {
    bar: ProgressBar,
    started: Instant,
    shown: Cell<bool>,
    interrupt: Interrupt,
}

impl Bar {
    pub(crate) fn new(task: &Task, interrupt: Interrupt) -> Self {
        let bar = ProgressBar::with_draw_target(Some(task.bytes), ProgressDrawTarget::hidden());
        let line = "{msg} [{bar:30}] {bytes} of {total_bytes}, {binary_bytes_per_sec}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(line) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(task.title.clone());
        Self { bar, started: Instant::now(), shown: Cell::new(false), interrupt }
    }
}

impl Progress for Bar {
    fn advance(&self, bytes: u64) -> Result<()> {
        if (self.interrupt)() {
            return Err(Error::new(ErrorKind::Interrupted, "opening was interrupted"));
        }
        self.bar.inc(bytes);
        if !self.shown.get() && self.started.elapsed() > QUIET {
            self.shown.set(true);
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        Ok(())
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
