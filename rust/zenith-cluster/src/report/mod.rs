//! What is told of a failed run: which rank failed first, and why, in torchrun's form.

mod block;
mod error_file;
mod failure;
mod given_up;
mod host;
mod last_lines;
mod outcome;

pub use block::block;
pub use error_file::copy_with_code;
pub use failure::{Failure, failures, ties};
pub use given_up::{put_first, record, unseen};
pub use host::host_name;
pub use last_lines::last_lines;
pub use outcome::{FailedRank, RunOutcome};
