//! The one place where a panic stops being a panic (FFI-1): unwinding into C++ would abort the process, and with it the
//! training job.

use std::panic::{AssertUnwindSafe, catch_unwind};

use zenith::data::format::guard::panic_text;
use zenith::data::{Error, Result};

/// Runs `work`; a panic in it becomes an `Internal` error that names the door it came through.
///
/// Unwind safety is asserted because whatever `work` may leave half done sits behind a mutex or is dropped with it.
pub(crate) fn guard<T>(door: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        Err(Error::internal(format!(
            "the engine panicked in {door}: {}. This is a fault of Zenith; please report it with this text",
            panic_text(payload.as_ref())
        )))
    })
}

/// Drops `value`; a panic in its destructor has nobody to go to and is left at what the panic hook printed.
pub(crate) fn guard_drop<T>(value: T) {
    drop(catch_unwind(AssertUnwindSafe(|| drop(value))));
}
