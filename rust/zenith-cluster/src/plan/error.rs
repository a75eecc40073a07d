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

impl PlanError {
    /// The name of Python's exception, or of this program; and what there is to say.
    pub fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Value(text) => ("ValueError", text),
            Self::Assertion(text) => ("AssertionError", text),
            Self::Runtime(text) => ("RuntimeError", text),
            Self::NotADirectory(text) => ("NotADirectoryError", text),
            Self::Unsupported(text) => ("zenith-run", text),
        }
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, text) = self.parts();
        write!(out, "{kind}: {text}")
    }
}

impl std::error::Error for PlanError {}
