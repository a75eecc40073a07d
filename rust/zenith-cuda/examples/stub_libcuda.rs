//! A library that stands in for libcuda where `tests/loaded.rs` puts it: one device, copies that are done when their stream is
//! waited for, and an account of what was not given back. It names the functions that Zenith calls as the driver API does.
//! STUB-1: pointers are those of callers that keep the rules of the driver API.
#![expect(unsafe_code, reason = "a C library")]
#![expect(clippy::missing_safety_doc, reason = "the contracts are those of the driver API")]

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::SeqCst};

const SUCCESS: u32 = 0;
const NOT_READY: u32 = 600;
const RELAXED: u32 = 2;
const HANDLE: usize = 0x1000;

static REGISTERED: AtomicI64 = AtomicI64::new(0);
static EVENTS: AtomicI64 = AtomicI64::new(0);
static RETAINED: AtomicI64 = AtomicI64::new(0);
/// Contexts that are current, and the capture mode, of the one thread that calls.
static DEPTH: AtomicI64 = AtomicI64::new(0);
static MODE: AtomicI64 = AtomicI64::new(0);
/// Copies as (target, source, bytes), and how many of them were done when an event was recorded.
static COPIES: Mutex<Vec<(usize, usize, usize)>> = Mutex::new(Vec::new());
/// Memory of the device.
static MEMORY: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
static SUBMITTED: AtomicUsize = AtomicUsize::new(0);
static DONE: AtomicUsize = AtomicUsize::new(0);
static AWAITED: AtomicUsize = AtomicUsize::new(0);

/// Says what a caller did wrong.
fn expect(holds: bool, what: &str) {
    if !holds {
        eprintln!("stub: {what}");
    }
}

fn within() {
    expect(DEPTH.load(SeqCst) > 0, "no context is current");
    expect(MODE.load(SeqCst) == i64::from(RELAXED), "a capture elsewhere would be disturbed");
}

fn put<T>(place: *mut T, value: T) -> u32 {
    // SAFETY: STUB-1.
    unsafe { place.write(value) };
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuInit(_flags: c_uint) -> u32 {
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGetErrorName(_code: u32, text: *mut *const c_char) -> u32 {
    put(text, c"CUDA_ERROR_STUB".as_ptr())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGetErrorString(_code: u32, text: *mut *const c_char) -> u32 {
    put(text, c"of the stub".as_ptr())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetCount(count: *mut c_int) -> u32 {
    put(count, 1)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGet(device: *mut c_int, ordinal: c_int) -> u32 {
    put(device, ordinal)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxGetState(_device: c_int, _flags: *mut c_uint, active: *mut c_int) -> u32 {
    put(active, c_int::from(RETAINED.load(SeqCst) > 0))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxRetain(context: *mut usize, _device: c_int) -> u32 {
    RETAINED.fetch_add(1, SeqCst);
    put(context, HANDLE)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxRelease_v2(_device: c_int) -> u32 {
    let retained = RETAINED.fetch_sub(1, SeqCst) - 1;
    let (registered, events, depth) = (REGISTERED.load(SeqCst), EVENTS.load(SeqCst), DEPTH.load(SeqCst));
    eprintln!("stub: {registered} registered, {events} events, {retained} retained, {depth} current");
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxPushCurrent_v2(context: usize) -> u32 {
    expect(context == HANDLE, "a context that is none is pushed");
    DEPTH.fetch_add(1, SeqCst);
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxPopCurrent_v2(context: *mut usize) -> u32 {
    expect(MODE.load(SeqCst) == 0, "the capture mode was not given back");
    DEPTH.fetch_sub(1, SeqCst);
    put(context, HANDLE)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuThreadExchangeStreamCaptureMode(mode: *mut u32) -> u32 {
    // SAFETY: STUB-1.
    let before = MODE.swap(i64::from(unsafe { mode.read() }), SeqCst);
    put(mode, before as u32)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemHostRegister_v2(start: *mut c_void, bytes: usize, flags: c_uint) -> u32 {
    within();
    expect(flags == 1, "memory is not registered for all contexts");
    expect(start.addr().is_multiple_of(4096) && bytes.is_multiple_of(4096), "memory is not registered by pages");
    REGISTERED.fetch_add(1, SeqCst);
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemHostUnregister(_start: *mut c_void) -> u32 {
    within();
    REGISTERED.fetch_sub(1, SeqCst);
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventCreate(event: *mut usize, _flags: c_uint) -> u32 {
    within();
    EVENTS.fetch_add(1, SeqCst);
    put(event, HANDLE)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxRecordEvent(context: usize, event: usize) -> u32 {
    expect((context, event) == (HANDLE, HANDLE), "handles that are none are recorded");
    AWAITED.store(SUBMITTED.load(SeqCst), SeqCst);
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventQuery(_event: usize) -> u32 {
    within();
    if DONE.load(SeqCst) < AWAITED.load(SeqCst) { NOT_READY } else { SUCCESS }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventDestroy_v2(_event: usize) -> u32 {
    within();
    EVENTS.fetch_sub(1, SeqCst);
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamCreate(stream: *mut usize, _flags: c_uint) -> u32 {
    put(stream, HANDLE)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAlloc_v2(memory: *mut u64, bytes: usize) -> u32 {
    let mut bytes = vec![0u8; bytes];
    let address = bytes.as_mut_ptr().expose_provenance() as u64;
    expect(MEMORY.lock().map(|mut memory| memory.push(bytes)).is_ok(), "the list of memory is broken");
    put(memory, address)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyHtoDAsync_v2(target: u64, source: *const c_void, bytes: usize, _stream: usize) -> u32 {
    if let Ok(mut copies) = COPIES.lock() {
        copies.push((target as usize, source.expose_provenance(), bytes));
    }
    SUBMITTED.fetch_add(1, SeqCst);
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamSynchronize(_stream: usize) -> u32 {
    for (target, source, bytes) in COPIES.lock().map(|mut copies| std::mem::take(&mut *copies)).unwrap_or_default() {
        copy(target, source, bytes);
        DONE.fetch_add(1, SeqCst);
    }
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoH_v2(target: *mut c_void, source: u64, bytes: usize) -> u32 {
    copy(target.expose_provenance(), source as usize, bytes);
    SUCCESS
}

fn copy(target: usize, source: usize, bytes: usize) {
    let (source, target) = (std::ptr::with_exposed_provenance(source), std::ptr::with_exposed_provenance_mut(target));
    // SAFETY: STUB-1.
    unsafe { std::ptr::copy_nonoverlapping::<u8>(source, target, bytes) };
}
