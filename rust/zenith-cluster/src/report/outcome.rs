//! How a run ended, for the program that started the launcher and reports failures itself (`--outcome-file`).

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Failure;
use crate::plan::PlanError;

/// Written as one JSON object; `outcome` names the variant. docs/zenith-run.md, "The outcome file", is its description.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum RunOutcome {
    Succeeded,
    /// Ranks of this node failed; the root cause comes first.
    Failed {
        entry: String,
        failures: Vec<FailedRank>,
    },
    /// A signal to the launcher stopped the run.
    Stopped {
        signal: i32,
    },
    /// There was no run, or it cannot go on. `kind` is the Python exception that says the same.
    Error {
        kind: &'static str,
        message: String,
    },
    /// Only Python's torchrun can do what is asked for.
    Python {
        reason: String,
    },
}

/// With the fields of torch's `ProcessFailure`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FailedRank {
    pub rank: u32,
    pub local_rank: u32,
    pub pid: i32,
    /// Negative for signals.
    pub exit_code: i32,
    pub error_file: Option<PathBuf>,
    pub message: String,
    /// Seconds since the epoch, of the error file if there is one.
    pub timestamp: i64,
}

impl RunOutcome {
    pub fn failed(entry: String, failures: &[Failure]) -> Self {
        let rank = |failure: &Failure| FailedRank {
            rank: failure.exit.rank,
            local_rank: failure.exit.local_rank,
            pid: failure.exit.pid,
            exit_code: failure.exit_code(),
            error_file: failure.error_file.clone(),
            message: failure.message.clone(),
            timestamp: failure.time.as_second(),
        };
        Self::Failed { entry, failures: failures.iter().map(rank).collect() }
    }

    pub fn refused(error: &PlanError) -> Self {
        let (kind, text) = error.parts();
        Self::Error { kind: if kind == "zenith-run" { "RuntimeError" } else { kind }, message: text.into() }
    }

    pub fn broken(error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => "FileNotFoundError",
            io::ErrorKind::PermissionDenied => "PermissionError",
            _ => "RuntimeError",
        };
        Self::Error { kind, message: error.to_string() }
    }

    /// Another node, or that too few came, has ended the run.
    pub fn ended_by_others(why: &str) -> Self {
        Self::Error { kind: "RendezvousError", message: why.into() }
    }

    pub fn write(&self, path: &Path) -> io::Result<()> {
        let file = File::create(path)?;
        Ok(serde_json::to_writer(file, self)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_objects_with_a_name() {
        let failure = FailedRank {
            rank: 3,
            local_rank: 1,
            pid: 7,
            exit_code: -9,
            error_file: None,
            message: "Signal 9".into(),
            timestamp: 17,
        };
        let refused = RunOutcome::refused(&PlanError::Assertion("max_restarts must be >= 0".into()));
        let missing = RunOutcome::broken(&io::Error::new(io::ErrorKind::NotFound, "no program"));
        for (outcome, json) in [
            (RunOutcome::Succeeded, r#"{"outcome":"succeeded"}"#),
            (RunOutcome::Stopped { signal: 15 }, r#"{"outcome":"stopped","signal":15}"#),
            (RunOutcome::Python { reason: "--run-path".into() }, r#"{"outcome":"python","reason":"--run-path"}"#),
            (refused, r#"{"outcome":"error","kind":"AssertionError","message":"max_restarts must be >= 0"}"#),
            (missing, r#"{"outcome":"error","kind":"FileNotFoundError","message":"no program"}"#),
            (
                RunOutcome::Failed { entry: "train.py".into(), failures: vec![failure] },
                r#"{"outcome":"failed","entry":"train.py","failures":[{"rank":3,"local_rank":1,"pid":7,"exit_code":-9,"error_file":null,"message":"Signal 9","timestamp":17}]}"#,
            ),
        ] {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("outcome.json");
            outcome.write(&path).expect("a file");
            assert_eq!(std::fs::read_to_string(&path).expect("its text"), json);
        }
    }
}
