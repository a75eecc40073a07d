//! Batch memory that belongs to a framework: decode threads write straight into its tensors.
//!
//! The torch module lends its allocator as two C functions when it is loaded; the engine cannot link to it, since it is the
//! torch module that links to the engine. FFI-4: a tensor is released by the functions that made it, once.
#![expect(unsafe_code, reason = "calls C functions of the torch module and writes into what they allocate")]

use std::ffi::c_void;
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use zenith::Slab;
use zenith::data::memory::BatchMemory;
use zenith::data::{DType, Field, FieldKind, Result};
use zenith::memory::HostMemory;

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

/// Takes the functions from the torch module; those of the first one count.
///
/// # Safety
/// `functions` must point to a `TensorFunctions` whose functions stay valid as long as the process lives.
pub(crate) unsafe fn lend_tensor_functions(functions: *const u8) {
    // SAFETY: FFI-4: the caller's promise; the struct is read once and copied.
    let functions = unsafe { ptr::read_unaligned(functions.cast::<TensorFunctions>()) };
    FUNCTIONS.get_or_init(|| functions);
}

/// Ordinary tensors that still stand in for pinned ones, where tests have no accelerator; `None` unless a test asked for it by
/// `_engine._test_tensors`.
static STAND_INS: Mutex<Option<usize>> = Mutex::new(None);

/// Lets the next `count` tensors be ordinary ones and refuses those after them; `None` ends it.
pub(crate) fn set_stand_ins(count: Option<usize>) {
    *STAND_INS.lock().unwrap_or_else(PoisonError::into_inner) = count;
}

/// Whether the next tensor is to be pinned; `None`: it is refused.
fn next_is_pinned() -> Option<bool> {
    match &mut *STAND_INS.lock().unwrap_or_else(PoisonError::into_inner) {
        None => Some(true),
        Some(0) => None,
        Some(left) => {
            *left -= 1;
            Some(false)
        }
    }
}

/// Memory of a batch's fields: tensors in pinned memory of the framework, or slabs.
pub(crate) struct FieldMemory {
    host: HostMemory,
    /// Element type and extents of one row, for each field that is one tensor; empty where nothing is pinned.
    pinned: Vec<Option<(DType, Vec<i64>)>>,
    /// The framework had no pinned memory. It is not asked again: older ones write to standard error each time.
    is_refused: AtomicBool,
}

impl FieldMemory {
    pub(crate) fn new(host: HostMemory, fields: &[Field], pin: bool) -> Self {
        let shape = |field: &Field| match &field.kind {
            FieldKind::Dense { dtype, shape } => {
                let extents = shape.iter().map(|&extent| i64::try_from(extent).unwrap_or(i64::MAX));
                Some((*dtype, extents.collect()))
            }
            _ => None,
        };
        let pinned = if pin { fields.iter().map(shape).collect() } else { Vec::new() };
        Self { host, pinned, is_refused: AtomicBool::new(false) }
    }

    fn tensor(&self, field: usize, rows: usize, bytes: usize) -> Option<Tensor> {
        let (dtype, row) = self.pinned.get(field)?.as_ref()?;
        if self.is_refused.load(Ordering::Relaxed) {
            return None;
        }
        let rows = i64::try_from(rows).ok()?;
        let extents: Vec<i64> = [rows].iter().chain(row).copied().collect();
        let tensor = Tensor::new(*dtype, &extents, bytes);
        self.is_refused.fetch_or(tensor.is_none(), Ordering::Relaxed);
        tensor
    }
}

impl BatchMemory for FieldMemory {
    type Slab = FieldSlab;

    fn slab(&self, bytes: usize) -> Result<FieldSlab> {
        self.host.slab(bytes).map(FieldSlab::Host)
    }

    fn field(&self, field: usize, rows: usize, bytes: usize) -> Result<FieldSlab> {
        match self.tensor(field, rows, bytes) {
            Some(tensor) => Ok(FieldSlab::Tensor(tensor)),
            // Python pins what comes unpinned by torch's own means, whose error then is torch's.
            None => self.slab(bytes),
        }
    }

    #[inline]
    fn prefetch(&self, bytes: &[u8]) {
        self.host.prefetch(bytes);
    }
}

/// Memory of one field of one batch.
pub(crate) enum FieldSlab {
    Host(Slab),
    Tensor(Tensor),
}

impl AsRef<[u8]> for FieldSlab {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Host(slab) => slab.as_ref(),
            Self::Tensor(tensor) => tensor.as_ref(),
        }
    }
}

impl AsMut<[u8]> for FieldSlab {
    fn as_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Host(slab) => slab.as_mut(),
            Self::Tensor(tensor) => tensor.as_mut(),
        }
    }
}

/// A tensor of the framework that nobody else has yet.
pub(crate) struct Tensor {
    handle: NonNull<c_void>,
    data: NonNull<u8>,
    bytes: usize,
    release: unsafe extern "C" fn(*mut c_void),
}

impl Tensor {
    fn new(dtype: DType, extents: &[i64], bytes: usize) -> Option<Self> {
        let held =
            extents.iter().try_fold(dtype.width(), |bytes, &extent| bytes.checked_mul(usize::try_from(extent).ok()?));
        if held != Some(bytes) {
            return None;
        }
        let functions = FUNCTIONS.get()?;
        let pinned = u32::from(next_is_pinned()?);
        let mut data = ptr::null_mut();
        // SAFETY: FFI-4: the extents and the result outlive the call.
        let handle =
            unsafe { (functions.allocate)(dtype as u32, extents.len(), extents.as_ptr(), pinned, &raw mut data) };
        let handle = NonNull::new(handle)?;
        // A tensor without elements may have no address.
        let data = if bytes == 0 { Some(NonNull::dangling()) } else { NonNull::new(data) };
        let Some(data) = data else {
            // SAFETY: FFI-4: made above, and given back at once.
            unsafe { (functions.release)(handle.as_ptr()) };
            return None;
        };
        Some(Self { handle, data, bytes, release: functions.release })
    }

    /// Gives the tensor to the framework.
    pub(crate) fn into_handle(self) -> *mut c_void {
        std::mem::ManuallyDrop::new(self).handle.as_ptr()
    }
}

impl AsRef<[u8]> for Tensor {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: FFI-4: the tensor holds as many bytes (`new` compares), in memory that a C allocator gave, and has no other
        // user yet.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.bytes) }
    }
}

impl AsMut<[u8]> for Tensor {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: FFI-4 as above, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), self.bytes) }
    }
}

impl Drop for Tensor {
    fn drop(&mut self) {
        // SAFETY: FFI-4: not given to the framework, else it would not be dropped.
        unsafe { (self.release)(self.handle.as_ptr()) };
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
