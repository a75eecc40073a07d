//! Tensors of the framework that decode threads make and write into, so that a batch is born where it will be used.
//!
//! The torch module lends its allocator as two C functions when it is loaded; the engine cannot link to it, since it is the
//! torch module that links to the engine. FFI-4: a tensor is released by the functions that made it, once.
#![expect(unsafe_code, reason = "calls C functions of the torch module and writes into what they allocate")]

use std::ffi::c_void;
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use zenith::data::DType;

/// What a framework lends; the C++ side is `TensorFunctions` in cpp/bridge/tensor_functions.h.
#[repr(C)]
#[derive(Clone, Copy)]
struct TensorFunctions {
    /// A row-major tensor of this element type (as `DType` counts) and these extents, and where its values are; null where
    /// there is none to be had. `pinned` is 0 or 1. Called from any thread.
    allocate: unsafe extern "C" fn(
        dtype: u32,
        rank: usize,
        extents: *const i64,
        pinned: u32,
        data: *mut *mut u8,
    ) -> *mut c_void,
    release: unsafe extern "C" fn(tensor: *mut c_void),
}

static FUNCTIONS: OnceLock<TensorFunctions> = OnceLock::new();
/// The process is ending: what the functions need may be gone at any moment.
static IS_OVER: AtomicBool = AtomicBool::new(false);
/// Threads inside the functions.
static INSIDE: AtomicUsize = AtomicUsize::new(0);

/// How long the end waits for threads inside the functions; in a forked child, one of the parent's may be counted for ever.
const LEAVE_WAIT: Duration = Duration::from_secs(1);

/// Takes the functions from the torch module; those of the first one count.
///
/// # Safety
/// `functions` must point to a `TensorFunctions` whose functions stay valid until `end_lending`.
pub(crate) unsafe fn lend_tensor_functions(functions: *const u8) {
    // SAFETY: FFI-4: the caller's promise; the struct is read once and copied.
    let functions = unsafe { ptr::read_unaligned(functions.cast::<TensorFunctions>()) };
    FUNCTIONS.get_or_init(|| functions);
}

/// From here on decode threads leave the framework alone, whose statics are destroyed while they may still run: they make no
/// tensors, and leave those they have as they are.
pub(crate) fn end_lending() {
    IS_OVER.store(true, Ordering::SeqCst);
    let end = Instant::now() + LEAVE_WAIT;
    while INSIDE.load(Ordering::SeqCst) > 0 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Calls the framework, unless it lends nothing or the end has come.
fn with_functions<T>(call: impl FnOnce(&TensorFunctions) -> T) -> Option<T> {
    let functions = FUNCTIONS.get()?;
    INSIDE.fetch_add(1, Ordering::SeqCst);
    let result = (!IS_OVER.load(Ordering::SeqCst)).then(|| call(functions));
    INSIDE.fetch_sub(1, Ordering::SeqCst);
    result
}

const NO_STAND_INS: usize = usize::MAX;

/// Ordinary tensors that still stand in for pinned ones, where tests have no accelerator.
static STAND_INS: AtomicUsize = AtomicUsize::new(NO_STAND_INS);

/// Lets the next `count` tensors be ordinary ones and refuses those after them; `None` ends it. For `_engine._test_tensors`.
pub(crate) fn set_stand_ins(count: Option<usize>) {
    STAND_INS.store(count.unwrap_or(NO_STAND_INS), Ordering::Relaxed);
}

/// Whether the next tensor is to be pinned; `None`: it is refused.
fn next_is_pinned() -> Option<bool> {
    let one_less = |left: usize| if left == NO_STAND_INS { Some(left) } else { left.checked_sub(1) };
    let before = STAND_INS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).ok()?;
    Some(before == NO_STAND_INS)
}

/// A tensor of the framework that nobody else has yet.
pub(crate) struct Tensor {
    handle: NonNull<c_void>,
    data: Option<NonNull<u8>>,
    bytes: usize,
}

impl Tensor {
    /// A tensor in pinned memory, of these extents and so of `bytes` bytes; `None` where there is none to be had.
    pub(crate) fn new(dtype: DType, extents: &[i64], bytes: usize) -> Option<Self> {
        let held =
            extents.iter().try_fold(dtype.width(), |bytes, &extent| bytes.checked_mul(usize::try_from(extent).ok()?));
        if held != Some(bytes) {
            return None;
        }
        let pinned = u32::from(next_is_pinned()?);
        let mut data = ptr::null_mut();
        let handle = with_functions(|functions| {
            // SAFETY: FFI-4: the extents and the result outlive the call.
            unsafe { (functions.allocate)(dtype as u32, extents.len(), extents.as_ptr(), pinned, &raw mut data) }
        })?;
        let tensor = Self { handle: NonNull::new(handle)?, data: NonNull::new(data), bytes };
        // One without elements may have no address; any other has.
        (tensor.data.is_some() || bytes == 0).then_some(tensor)
    }

    /// Gives the tensor to the framework.
    pub(crate) fn into_handle(self) -> *mut c_void {
        std::mem::ManuallyDrop::new(self).handle.as_ptr()
    }
}

impl AsRef<[u8]> for Tensor {
    fn as_ref(&self) -> &[u8] {
        let Some(data) = self.data else { return &[] };
        // SAFETY: FFI-4: the tensor holds as many bytes (`new` compares), in memory that a C allocator gave, and has no other
        // user yet.
        unsafe { std::slice::from_raw_parts(data.as_ptr(), self.bytes) }
    }
}

impl AsMut<[u8]> for Tensor {
    fn as_mut(&mut self) -> &mut [u8] {
        let Some(data) = self.data else { return &mut [] };
        // SAFETY: FFI-4 as above, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(data.as_ptr(), self.bytes) }
    }
}

impl Drop for Tensor {
    fn drop(&mut self) {
        with_functions(|functions| {
            // SAFETY: FFI-4: not given to the framework, else it would not be dropped.
            unsafe { (functions.release)(self.handle.as_ptr()) };
        });
    }
}

// SAFETY: FFI-4: tensors may be made, written and released in any thread; nobody else has this one.
unsafe impl Send for Tensor {}
// SAFETY: as above; shared references only read.
unsafe impl Sync for Tensor {}

impl fmt::Debug for Tensor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Tensor({} bytes)", self.bytes)
    }
}
