//! What a driver refuses.

use std::fmt;

/// A call of the driver that failed, or a driver that is not there. Nothing is lost by it: whoever gets one goes on with
/// memory that is not page-locked, and says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CudaError {
    call: &'static str,
    why: String,
}

/// What a call of the driver comes to.
pub type Result<T> = std::result::Result<T, CudaError>;

impl CudaError {
    /// `call` as the driver API names it; `why` in the driver's words, or what is missing and what to do.
    pub fn new(call: &'static str, why: impl Into<String>) -> Self {
        Self { call, why: why.into() }
    }

    /// The call that failed.
    pub fn call(&self) -> &'static str {
        self.call
    }
}

impl fmt::Display for CudaError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.call, self.why)
    }
}

impl std::error::Error for CudaError {}
