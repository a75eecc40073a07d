//! Why there is no plan.

use std::fmt;

/// The texts of the first four are torchrun's where torchrun has the same error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanError {
    Value(String),
    Assertion(String),
    Runtime(String),
    NotADirectory(String),
    /// Something that torchrun does and this launcher does not.
    Unsupported(String),
}

impl fmt::Display for PlanError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, text) = match self {
            Self::Value(text) => ("ValueError", text),
            Self::Assertion(text) => ("AssertionError", text),
            Self::Runtime(text) => ("RuntimeError", text),
            Self::NotADirectory(text) => ("NotADirectoryError", text),
            Self::Unsupported(text) => ("zenith-run", text),
        };
        write!(out, "{kind}: {text}")
    }
}

impl std::error::Error for PlanError {}
