//! The driver of this machine: libcuda, opened at run time by cudarc. Nothing of CUDA is needed to build or to start.
//! LOADED-1: every function that is called here was found in the library when it was opened; handles come from the driver.
#![expect(unsafe_code, reason = "the driver API is C")]

use std::ffi::{CStr, c_int};
use std::ptr;
use std::sync::{Arc, OnceLock};

use cudarc::driver::result::DriverError;
use cudarc::driver::sys::{self, CUcontext, CUdevice, CUevent, CUresult, CUstreamCaptureMode};

use crate::driver::{Context, Device, Driver, Event};
use crate::error::{CudaError, Result};

/// All that is called below, by name: cudarc panics at a function that is not there.
const FUNCTIONS: [&str; 17] = [
    "cuInit",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuDeviceGet",
    "cuDeviceGetCount",
    "cuDevicePrimaryCtxGetState",
    "cuDevicePrimaryCtxRetain",
    "cuDevicePrimaryCtxRelease_v2",
    "cuCtxPushCurrent_v2",
    "cuCtxPopCurrent_v2",
    "cuThreadExchangeStreamCaptureMode",
    "cuMemHostRegister_v2",
    "cuMemHostUnregister",
    "cuEventCreate",
    "cuEventQuery",
    "cuEventDestroy_v2",
    "cuCtxRecordEvent",
];

/// Calls libcuda.
#[derive(Debug)]
pub struct CudaDriver(());

impl CudaDriver {
    /// Opens the driver, once in a process. Errors: there is none, or it is older than CUDA 12.5, which was the first that
    /// could record an event behind all streams.
    ///
    /// Afterwards the process cannot be forked into one that uses CUDA; so this is for when a device is about to be used.
    pub fn open() -> Result<Arc<dyn Driver>> {
        static OPENED: OnceLock<Result<Arc<CudaDriver>>> = OnceLock::new();
        OPENED.get_or_init(open).clone().map(|driver| driver as Arc<dyn Driver>)
    }
}

fn open() -> Result<Arc<CudaDriver>> {
    // SAFETY: libcuda runs nothing but its own initialisers when it is opened.
    if !unsafe { sys::is_culib_present() } {
        return Err(CudaError::new("libcuda.so.1", "there is no NVIDIA driver on this machine"));
    }
    for name in FUNCTIONS {
        // SAFETY: as above; the symbol is looked at and not called.
        if unsafe { sys::culib().get::<unsafe extern "C" fn()>(name.as_bytes()) }.is_err() {
            let why = format!("it has no {name}; a driver for CUDA 12.5 or newer (555 or newer) is needed");
            return Err(CudaError::new("libcuda.so.1", why));
        }
    }
    // SAFETY: LOADED-1; initialising twice is allowed.
    check("cuInit", unsafe { sys::cuInit(0) })?;
    Ok(Arc::new(CudaDriver(())))
}

impl Driver for CudaDriver {
    fn active_devices(&self) -> Result<Vec<Device>> {
        let mut count: c_int = 0;
        // SAFETY: LOADED-1; the count outlives the call.
        check("cuDeviceGetCount", unsafe { sys::cuDeviceGetCount(&raw mut count) })?;
        let mut active = Vec::new();
        for device in (0..u32::try_from(count).unwrap_or(0)).map(Device) {
            let (mut flags, mut is_active) = (0, 0);
            // SAFETY: LOADED-1; both results outlive the call.
            let code =
                unsafe { sys::cuDevicePrimaryCtxGetState(handle_of(device)?, &raw mut flags, &raw mut is_active) };
            check("cuDevicePrimaryCtxGetState", code)?;
            if is_active != 0 {
                active.push(device);
            }
        }
        Ok(active)
    }

    fn retain(&self, device: Device) -> Result<Context> {
        let mut context: CUcontext = ptr::null_mut();
        // SAFETY: LOADED-1; the context outlives the call.
        let code = unsafe { sys::cuDevicePrimaryCtxRetain(&raw mut context, handle_of(device)?) };
        check("cuDevicePrimaryCtxRetain", code)?;
        Ok(Context(context.expose_provenance()))
    }

    fn release(&self, device: Device) -> Result<()> {
        // SAFETY: LOADED-1.
        check("cuDevicePrimaryCtxRelease", unsafe { sys::cuDevicePrimaryCtxRelease_v2(handle_of(device)?) })
    }

    unsafe fn register(&self, context: Context, start: *mut u8, bytes: usize) -> Result<()> {
        within(context, || {
            // SAFETY: LOADED-1; the caller keeps the range mapped.
            let code = unsafe { sys::cuMemHostRegister_v2(start.cast(), bytes, sys::CU_MEMHOSTREGISTER_PORTABLE) };
            check("cuMemHostRegister", code)
        })
    }

    unsafe fn unregister(&self, context: Context, start: *mut u8) -> Result<()> {
        within(context, || {
            // SAFETY: LOADED-1; the caller registered the range, and no device is at it.
            check("cuMemHostUnregister", unsafe { sys::cuMemHostUnregister(start.cast()) })
        })
    }

    fn create_event(&self, context: Context) -> Result<Event> {
        within(context, || {
            let mut event: CUevent = ptr::null_mut();
            let flags = sys::CUevent_flags_enum::CU_EVENT_DISABLE_TIMING as u32;
            // SAFETY: LOADED-1; the event outlives the call.
            check("cuEventCreate", unsafe { sys::cuEventCreate(&raw mut event, flags) })?;
            Ok(Event(event.expose_provenance()))
        })
    }

    fn record(&self, context: Context, event: Event) -> Result<()> {
        // SAFETY: LOADED-1: the event is of this context.
        check("cuCtxRecordEvent", unsafe { sys::cuCtxRecordEvent(raw_context(context), raw_event(event)) })
    }

    fn has_passed(&self, context: Context, event: Event) -> Result<bool> {
        within(context, || {
            // SAFETY: LOADED-1.
            match unsafe { sys::cuEventQuery(raw_event(event)) } {
                CUresult::CUDA_ERROR_NOT_READY => Ok(false),
                code => check("cuEventQuery", code).map(|()| true),
            }
        })
    }

    fn destroy_event(&self, context: Context, event: Event) -> Result<()> {
        within(context, || {
            // SAFETY: LOADED-1: destroyed once, by whoever created it.
            check("cuEventDestroy", unsafe { sys::cuEventDestroy_v2(raw_event(event)) })
        })
    }
}

fn handle_of(device: Device) -> Result<CUdevice> {
    let mut handle: CUdevice = 0;
    let number = c_int::try_from(device.0).unwrap_or(c_int::MAX);
    // SAFETY: LOADED-1; the handle outlives the call.
    check("cuDeviceGet", unsafe { sys::cuDeviceGet(&raw mut handle, number) })?;
    Ok(handle)
}

fn raw_context(context: Context) -> CUcontext {
    ptr::with_exposed_provenance_mut(context.0)
}

fn raw_event(event: Event) -> CUevent {
    ptr::with_exposed_provenance_mut(event.0)
}

/// Makes a context current for `work`, and lets the thread do what a graph capture in another thread would forbid: nothing
/// that is called here belongs to anybody's capture.
fn within<T>(context: Context, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let mut mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
    // SAFETY: LOADED-1; the context is retained.
    check("cuCtxPushCurrent", unsafe { sys::cuCtxPushCurrent_v2(raw_context(context)) })?;
    // SAFETY: LOADED-1; the mode outlives the call, and afterwards is the thread's former one.
    let exchanged =
        check("cuThreadExchangeStreamCaptureMode", unsafe { sys::cuThreadExchangeStreamCaptureMode(&raw mut mode) });
    let result = exchanged.and_then(|()| {
        let result = work();
        // SAFETY: as above; gives the thread its former mode back.
        unsafe { sys::cuThreadExchangeStreamCaptureMode(&raw mut mode) };
        result
    });
    let mut popped: CUcontext = ptr::null_mut();
    // SAFETY: LOADED-1: pops what was pushed above, since `work` leaves the thread's contexts as they were.
    unsafe { sys::cuCtxPopCurrent_v2(&raw mut popped) };
    result
}

fn check(call: &'static str, code: CUresult) -> Result<()> {
    code.result().map_err(|error| CudaError::new(call, text(&error)))
}

/// Name and description, such as `CUDA_ERROR_OUT_OF_MEMORY (out of memory)`.
fn text(error: &DriverError) -> String {
    let part = |text: std::result::Result<&CStr, DriverError>| text.map(|text| text.to_string_lossy().into_owned());
    match (part(error.error_name()), part(error.error_string())) {
        (Ok(name), Ok(description)) => format!("{name} ({description})"),
        _ => format!("error {}", error.0 as u32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_opens_or_says_why_not() {
        match CudaDriver::open() {
            Ok(driver) => assert!(driver.active_devices().is_ok()),
            Err(error) => assert!(["libcuda.so.1", "cuInit"].contains(&error.call()), "{error}"),
        }
    }
}
