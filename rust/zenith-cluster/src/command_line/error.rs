//! What may be wrong with a command line.

use std::fmt;

/// Why a command line cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UsageError {
    /// It breaks the grammar of flags; argparse ends with 2.
    Grammar(String),
    /// A boolean default in the environment is no number; Python ends with 1, as for any exception.
    Environment(String),
}

impl UsageError {
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Grammar(_) => 2,
            Self::Environment(_) => 1,
        }
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grammar(what) => write!(out, "{}\nzenith-run: error: {what}", super::help::USAGE),
            Self::Environment(what) => out.write_str(what),
        }
    }
}

impl std::error::Error for UsageError {}
