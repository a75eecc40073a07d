//! Which files an attempt has, and what of them is shown (T-44 to T-47, section 6 of torchrun's behaviour).

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::Settings;
use super::settings::{LogFolder, Logs};
use super::template::substitute;
use crate::worker::Output;

/// A file that is shown on the console while it grows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    pub file: PathBuf,
    pub stream: TailedStream,
    /// In front of every line.
    pub prefix: OsString,
}

/// Which of the launcher's own streams a file goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TailedStream {
    Stdout,
    Stderr,
}

/// A file with the tee'd lines in which one of `texts` stands (T-57).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duplicate {
    pub file: PathBuf,
    pub stream: TailedStream,
    pub texts: Vec<String>,
}

/// The files of one rank.
pub(super) struct RankFiles {
    pub(super) stdout: Output,
    pub(super) stderr: Output,
    /// Where torch's `@record` writes.
    pub(super) error: Option<PathBuf>,
}

impl Settings {
    pub(super) fn files(&self, attempt: Option<&Path>, local_rank: u32) -> RankFiles {
        let Some(attempt) = attempt else {
            return RankFiles { stdout: Output::Inherited, stderr: Output::Inherited, error: None };
        };
        let folder = attempt.join(local_rank.to_string());
        let in_files = self.logs.redirects.of(local_rank).and(self.logs.tee.of(local_rank));
        let output = |is_file: bool, name| match (is_file, self.logs.shows(local_rank)) {
            (true, _) => Output::File(folder.join(name)),
            (false, true) => Output::Inherited,
            (false, false) => Output::Discarded,
        };
        RankFiles {
            stdout: output(in_files.stdout, STDOUT),
            stderr: output(in_files.stderr, STDERR),
            error: Some(folder.join("error.json")),
        }
    }

    /// The error file of a rank, whether it has written one or not.
    pub fn error_file(&self, attempt: Option<&Path>, local_rank: u32) -> Option<PathBuf> {
        self.files(attempt, local_rank).error
    }

    /// What the console shows of the files of an attempt. `first_rank` is that of this node's first.
    pub fn tails(&self, attempt: Option<&Path>, first_rank: u32) -> Vec<Tail> {
        let Some(attempt) = attempt else { return Vec::new() };
        let mut tails = Vec::new();
        for rank in (0..self.ranks).filter(|&rank| self.logs.shows(rank)) {
            let tee = self.logs.tee.of(rank);
            let streams = [(tee.stdout, STDOUT, TailedStream::Stdout), (tee.stderr, STDERR, TailedStream::Stderr)];
            for (_, name, stream) in streams.into_iter().filter(|(is_teed, ..)| *is_teed) {
                tails.push(Tail {
                    file: attempt.join(rank.to_string()).join(name),
                    stream,
                    prefix: self.prefix(rank, first_rank),
                });
            }
        }
        tails
    }

    pub fn duplicates(&self, attempt: Option<&Path>) -> Vec<Duplicate> {
        let Some(attempt) = attempt else { return Vec::new() };
        let all = [
            ("filtered_stdout.log", TailedStream::Stdout, &self.logs.duplicate_stdout),
            ("filtered_stderr.log", TailedStream::Stderr, &self.logs.duplicate_stderr),
        ];
        let wanted = all.into_iter().filter(|(_, _, texts)| !texts.is_empty());
        wanted
            .map(|(name, stream, texts)| Duplicate { file: attempt.join(name), stream, texts: texts.clone() })
            .collect()
    }

    /// `[role0]:`, or what the user's template gives (T-46).
    fn prefix(&self, local_rank: u32, first_rank: u32) -> OsString {
        let (rank, local_rank) = ((first_rank + local_rank).to_string(), local_rank.to_string());
        match &self.logs.prefix {
            Some(template) => {
                substitute(template, &[("role_name", &self.role), ("rank", &rank), ("local_rank", &local_rank)])
            }
            None => [OsStr::new("["), OsStr::new(&self.role), OsStr::new(&local_rank), OsStr::new("]:")]
                .into_iter()
                .collect(),
        }
    }
}

const STDOUT: &str = "stdout.log";
const STDERR: &str = "stderr.log";

impl LogFolder {
    /// Where the first attempt's files would lie, for a run that makes none.
    pub fn shown(&self, run_id: &str) -> Option<PathBuf> {
        let base = match self {
            Self::Nowhere => return None,
            Self::Temporary => "torchelastic_...".into(),
            Self::At(folder) => folder.clone(),
        };
        Some(base.join(format!("{run_id}_...")).join("attempt_0"))
    }
}

impl Logs {
    fn shows(&self, local_rank: u32) -> bool {
        self.shown.is_empty() || self.shown.contains(&i64::from(local_rank))
    }
}
