//! The command line: what a user wrote, before any look at the machine.
//!
//! `flags` is the one definition of every flag; parsing, help and completions walk it. torchrun's flags are read as Python's
//! argparse reads them, because scripts rely on its rules: both spellings, abbreviations, `PET_*` defaults, and everything
//! behind the script left to the script.

mod completions;
mod error;
mod flags;
mod help;
mod numbers;
mod options;
mod parse;

pub use completions::Shell;
pub use error::UsageError;
pub use options::{Options, StoreOwner};
pub use parse::{Parsed, parse, without_ours};

pub(crate) use numbers::{real, whole};
