//! The ranks that failed, in the order in which they ended.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use super::error_file::{self, Recorded};
use crate::signals;
use crate::worker::{Exit, Status};

/// Ranks that end so close to each other may have failed of one cause, or the later one first.
const TIE: Duration = Duration::from_millis(2);

/// What is known of one failed rank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub exit: Exit,
    /// If the rank wrote one.
    pub error_file: Option<PathBuf>,
    pub message: String,
    pub time: Timestamp,
}

/// The failures among `exits`, the root cause first (TW-11); `error_file` says where a local rank would have written.
pub fn failures(exits: &[Exit], error_file: impl Fn(u32) -> Option<PathBuf>) -> Vec<Failure> {
    let failed = exits.iter().filter(|exit| !exit.status.is_success());
    failed.map(|exit| failure(*exit, error_file(exit.local_rank))).collect()
}

fn failure(exit: Exit, path: Option<PathBuf>) -> Failure {
    let noticed = Timestamp::try_from(exit.at).unwrap_or(Timestamp::UNIX_EPOCH);
    let read = path.as_deref().and_then(error_file::read);
    let (recorded, unreadable) = match read {
        Some(Ok(recorded)) => (Some(recorded), None),
        Some(Err(why)) => (None, Some(format!("The error file cannot be used: {why}"))),
        None => (None, None),
    };
    let has_file = recorded.is_some() || unreadable.is_some();
    let (message, time) = match recorded {
        Some(Recorded { message, timestamp }) => (message, Timestamp::from_second(timestamp).unwrap_or(noticed)),
        None => (unreadable.unwrap_or_default(), noticed),
    };
    let message = if message.is_empty() { without_file(exit) } else { message };
    Failure { exit, error_file: path.filter(|_| has_file), message, time }
}

/// What a status alone tells (T-51, TB-7).
fn without_file(exit: Exit) -> String {
    match exit.status {
        Status::Signal(signal) => {
            let name = signals::name(signal).unwrap_or("<N/A>");
            format!("Signal {signal} ({name}) received by PID {}", exit.pid)
        }
        Status::Code(_) => "To enable traceback see: https://pytorch.org/docs/stable/elastic/errors.html".into(),
    }
}

/// Ranks that failed by themselves at the time of the first failure, so that it may not be the cause (TW-11).
pub fn ties(failures: &[Failure]) -> Vec<u32> {
    let Some((first, others)) = failures.split_first() else { return Vec::new() };
    let is_own = |status| !matches!(status, Status::Signal(libc::SIGTERM | libc::SIGKILL));
    let since = |failure: &Failure| failure.exit.at.duration_since(first.exit.at).unwrap_or_default();
    others
        .iter()
        .filter(|other| is_own(other.exit.status) && since(other) <= TIE)
        .map(|other| other.exit.rank)
        .collect()
}

impl Failure {
    /// As Python has it: negative for signals.
    pub fn exit_code(&self) -> i32 {
        match self.exit.status {
            Status::Code(code) => code,
            Status::Signal(signal) => -signal,
        }
    }
}
