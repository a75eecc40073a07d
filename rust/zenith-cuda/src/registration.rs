//! Page-locks a mapping that exists already, such as shared memory.
#![expect(unsafe_code, reason = "what is page-locked must stay mapped, which only its owner can promise")]

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::context::Contexts;
use crate::driver::{Context, Device};
use crate::error::{CudaError, Result};

/// Memory that all devices may read and write by DMA, until this is dropped. It does not own the memory.
///
/// Registering takes time in proportion to the bytes (the pages are faulted in and locked): once for an arena, never for a
/// batch. A file that backs the mapping must reach as far as the range, so an arena that grows is registered piece by piece.
/// Drop it only behind a [`Quarantine`](crate::Quarantine) or where no copy can be under way (CUDA-1).
pub struct Registration {
    contexts: Arc<Contexts>,
    context: Context,
    start: NonNull<u8>,
    bytes: usize,
}

impl Registration {
    /// Page-locks `bytes` bytes from `start`, in the context of `device` and portably for all others. Errors: limits of
    /// locked memory, memory that is locked already, no driver.
    ///
    /// # Safety
    /// The range must be mapped, to the same pages, until the registration is dropped: a device goes on using the pages of
    /// this moment, so no hole may be punched, nothing truncated and nothing mapped over it. And when it is dropped, no work
    /// that was submitted to a device may still read or write it.
    pub unsafe fn new(contexts: &Arc<Contexts>, device: Device, start: *mut u8, bytes: usize) -> Result<Self> {
        let Some(start) = NonNull::new(start).filter(|_| bytes > 0) else {
            return Err(CudaError::new("cuMemHostRegister", "there is no memory to lock: 0 bytes, or a null address"));
        };
        let context = contexts.of(device)?;
        // SAFETY: CUDA-1: the caller keeps the range mapped until `drop`, which unregisters it.
        unsafe { contexts.driver().register(context, start.as_ptr(), bytes)? };
        Ok(Self { contexts: contexts.clone(), context, start, bytes })
    }

    /// First byte and length of the range.
    pub fn range(&self) -> (*mut u8, usize) {
        (self.start.as_ptr(), self.bytes)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if !self.contexts.is_ours() {
            return;
        }
        // SAFETY: CUDA-1: registered by `new`, and by its contract no device is at it. An error (the context is gone, the
        // process is ending) leaves nothing that could be done.
        drop(unsafe { self.contexts.driver().unregister(self.context, self.start.as_ptr()) });
    }
}

// SAFETY: the address is only handed to the driver, whose calls may come from any thread.
unsafe impl Send for Registration {}
// SAFETY: as above; nothing is changed through a shared reference.
unsafe impl Sync for Registration {}

impl fmt::Debug for Registration {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Registration({} bytes)", self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Call, FakeDriver};
    use zenith_host::Mapping;

    fn register(driver: &Arc<FakeDriver>, mapping: &Mapping) -> Result<Registration> {
        // SAFETY: every test drops the registration before the mapping, and submits no work.
        unsafe { Registration::new(&Contexts::new(driver.clone()), Device(0), mapping.as_ptr(), mapping.len()) }
    }

    #[test]
    fn a_range_is_locked_while_the_registration_lives() {
        let (driver, mapping) = (FakeDriver::new(1), Mapping::new(8192).unwrap());
        let registration = register(&driver, &mapping).unwrap();
        assert_eq!(registration.range(), (mapping.as_ptr(), 8192));
        assert_eq!(driver.registered_bytes(), 8192);
        let twice = register(&driver, &mapping).unwrap_err();
        assert!(twice.to_string().contains("ALREADY_REGISTERED"), "{twice}");
        drop(registration);
        assert_eq!(driver.registered_bytes(), 0);
    }

    #[test]
    fn what_cannot_be_locked_is_an_error_that_says_why() {
        let (driver, mapping) = (FakeDriver::new(1), Mapping::new(4096).unwrap());
        driver.fail(Call::Register, 0, "CUDA_ERROR_OUT_OF_MEMORY");
        let error = register(&driver, &mapping).unwrap_err();
        assert_eq!(error.to_string(), "cuMemHostRegister: CUDA_ERROR_OUT_OF_MEMORY");
        // SAFETY: nothing is locked.
        let error = unsafe { Registration::new(&Contexts::new(driver), Device(0), std::ptr::null_mut(), 4096) };
        assert!(error.unwrap_err().to_string().contains("no memory to lock"));
    }
}
