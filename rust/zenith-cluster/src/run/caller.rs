//! The program that started the launcher, where it is more than a shell: it reads how the run ended, and its end is the run's.

use std::io;
use std::path::PathBuf;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use super::say;
use crate::command_line::Options;
use crate::console;
use crate::report::RunOutcome;

#[derive(Debug, Clone)]
pub(super) struct Caller {
    outcome_file: Option<PathBuf>,
}

impl Caller {
    /// From here on the end of `--with-parent` is a SIGTERM. A file that cannot be written is an error now, before the run.
    pub(super) fn of(options: &Options) -> io::Result<Self> {
        if let Some(parent) = options.with_parent {
            set_parent_process_death_signal(Some(Signal::TERM))?;
            // It may have ended before.
            if getppid().is_none_or(|pid| i64::from(pid.as_raw_nonzero().get()) != parent) {
                let what = format!("--with-parent: process {parent} is not the parent of this one, or has ended");
                return Err(io::Error::other(what));
            }
        }
        let outcome_file = options.outcome_file.as_ref().map(PathBuf::from);
        if let Some(path) = &outcome_file {
            std::fs::File::create(path).map_err(|error| named(path, error))?;
        }
        Ok(Self { outcome_file })
    }

    pub(super) fn is_there(&self) -> bool {
        self.outcome_file.is_some()
    }

    /// Tells it, or else says `text` on stderr.
    pub(super) fn tell(&self, outcome: &RunOutcome, text: &str) {
        match &self.outcome_file {
            None => console::tell(text.as_bytes()),
            Some(path) => {
                if let Err(error) = outcome.write(path) {
                    console::tell(text.as_bytes());
                    say(&named(path, error));
                }
            }
        }
    }
}

fn named(path: &std::path::Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("--outcome-file: {} cannot be written: {error}", path.display()))
}
