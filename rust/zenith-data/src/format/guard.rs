//! The one door to decoders that are not ours: a panic on hostile bytes becomes an error.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{Error, Result};

/// Runs `work`; a panic inside it is reported as corrupt input. The state that `work` borrows must be thrown away
/// after an error, which every caller does: a block that failed to decode is never used.
pub fn guard<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        Err(Error::corrupt(format!("{what} cannot be decoded ({}). Restore the file", panic_text(&*payload))))
    })
}

/// What a panic said.
pub fn panic_text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no reason was given")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn a_panic_becomes_a_typed_error() {
        let error = guard::<()>("page 3", || panic!("index {} out of range", 7)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.message().contains("page 3") && error.message().contains("index 7"), "{error}");
    }
}
