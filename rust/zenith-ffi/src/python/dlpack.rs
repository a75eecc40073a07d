//! `_engine.next_parts` and `_engine.Part`: batches for frameworks that take memory over by DLPack.
//!
//! DLPACK-1: what a capsule points to is owned by the tensor in it, and released by the tensor's deleter, which is called
//! once: by whoever consumed the capsule, else by the capsule's destructor.
#![expect(unsafe_code, reason = "DLPack hands memory over by C structs in capsules")]

use std::ffi::CStr;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dlpack_rs::ffi::{
    DLDataType, DLDataTypeCode, DLDevice, DLManagedTensor, DLManagedTensorVersioned, DLPACK_FLAG_BITMASK_READ_ONLY,
    K_DL_CPU,
};
use dlpack_rs::safe::{TensorInfo, pack, pack_versioned};
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use zenith::data::{DType, Error};

use super::errors::call;
use crate::guard::guard_drop;
use crate::registry::{self, Memory, Next, Parts};

const NAME: &CStr = c"dltensor";
const NAME_VERSIONED: &CStr = c"dltensor_versioned";

/// Parts that somebody holds, here or in arrays made of them.
static LEASES: AtomicU64 = AtomicU64::new(0);

/// How many parts of batches are held now, by arrays above all.
#[pyfunction]
pub(super) fn leases() -> u64 {
    LEASES.load(Ordering::SeqCst)
}

/// The next batch of a loader: what the call came to (0 a batch, 1 none yet, 2 the end), and its parts. Waits at most
/// `wait_ms` milliseconds, without the GIL.
#[pyfunction]
pub(super) fn next_parts(py: Python<'_>, loader: u64, wait_ms: u32) -> PyResult<(u32, Vec<Part>)> {
    call(py, "next_parts", || {
        Ok(match registry::find(loader)?.next(wait_ms)? {
            Next::Batch(mut parts) => {
                let taken = (0..parts.len()).map(|index| Part::take(&mut parts, index));
                (0, taken.collect::<Result<_, Error>>()?)
            }
            Next::Pending => (1, Vec::new()),
            Next::End => (2, Vec::new()),
        })
    })
}

/// Memory of one part of a batch, on the CPU. Any number of arrays may be made of it.
#[pyclass(module = "zenith._engine", frozen)]
pub(super) struct Part {
    held: Arc<Held>,
    device: i32,
    /// Told as plain bytes, for consumers that do not know the element type.
    is_raw: bool,
}

struct Held {
    memory: Option<Memory>,
    data: usize,
    shape: Vec<i64>,
    dtype: DType,
}

impl Drop for Held {
    fn drop(&mut self) {
        guard_drop(self.memory.take());
        LEASES.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Part {
    fn take(parts: &mut Parts, index: usize) -> Result<Self, Error> {
        let missing = || Error::internal("a part of a batch is missing");
        let data = parts.pointer(index).expose_provenance();
        let (shape, dtype) = (parts.shape(index).to_vec(), parts.dtype(index).ok_or_else(missing)?);
        let memory = Some(parts.take(index).ok_or_else(missing)?);
        LEASES.fetch_add(1, Ordering::SeqCst);
        Ok(Self { held: Arc::new(Held { memory, data, shape, dtype }), device: 0, is_raw: false })
    }

    fn info(&self) -> TensorInfo {
        let data = ptr::with_exposed_provenance_mut(self.held.data);
        let device = DLDevice { device_type: K_DL_CPU, device_id: self.device };
        let (dtype, shape) = if self.is_raw {
            (DType::U8, vec![i64::try_from(self.nbytes()).unwrap_or(i64::MAX)])
        } else {
            (self.held.dtype, self.held.shape.clone())
        };
        TensorInfo::contiguous(data, device, data_type(dtype), shape)
    }
}

#[pymethods]
impl Part {
    /// The same memory as seen from CPU device `device`: frameworks that divide the CPU into several take it from there.
    fn on(&self, device: i32) -> Self {
        Self { held: self.held.clone(), device, is_raw: self.is_raw }
    }

    /// The same memory as bytes in one dimension.
    fn raw(&self) -> Self {
        Self { held: self.held.clone(), device: self.device, is_raw: true }
    }

    #[getter]
    fn shape(&self) -> Vec<i64> {
        self.held.shape.clone()
    }

    #[getter]
    fn dtype(&self) -> &'static str {
        self.held.dtype.name()
    }

    #[getter]
    fn nbytes(&self) -> usize {
        let values: i64 = self.held.shape.iter().product();
        usize::try_from(values).unwrap_or(0) * self.held.dtype.width()
    }

    /// Address of the first byte.
    #[getter]
    fn pointer(&self) -> usize {
        self.held.data
    }

    fn __dlpack_device__(&self) -> (u32, i32) {
        (K_DL_CPU, self.device)
    }

    /// A capsule of the protocol's version 1 for those who know it, else of the one before.
    #[pyo3(signature = (*, stream = None, max_version = None, dl_device = None, copy = None))]
    fn __dlpack__<'py>(
        &self,
        py: Python<'py>,
        stream: Option<i64>,
        max_version: Option<(u32, u32)>,
        dl_device: Option<(u32, i32)>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if copy == Some(true) || stream.is_some() || dl_device.is_some_and(|device| device != self.__dlpack_device__())
        {
            let message = "a part of a batch is handed over as it is: without a stream, on its own device, uncopied. \
                           Copy the array that is made of it";
            return Err(PyBufferError::new_err(message));
        }
        let capsule = if max_version.is_some_and(|(major, _)| major >= 1) {
            let flags = DLPACK_FLAG_BITMASK_READ_ONLY;
            let tensor = pack_versioned(self.held.clone(), self.info(), flags);
            // SAFETY: DLPACK-1: the tensor is new, and the destructor is that of its kind.
            unsafe { ffi::PyCapsule_New(tensor.cast(), NAME_VERSIONED.as_ptr(), Some(release_versioned)) }
        } else {
            let tensor = pack(self.held.clone(), self.info());
            // SAFETY: as above.
            unsafe { ffi::PyCapsule_New(tensor.cast(), NAME.as_ptr(), Some(release)) }
        };
        // SAFETY: a new reference, or null with an exception set.
        unsafe { Bound::from_owned_ptr_or_err(py, capsule) }
    }
}

/// Releases a tensor that nobody consumed; a consumer gives its capsule another name.
unsafe extern "C" fn release(capsule: *mut ffi::PyObject) {
    // SAFETY: DLPACK-1: Python calls this once, for a capsule made above; under its first name the tensor is still its own.
    unsafe {
        if ffi::PyCapsule_IsValid(capsule, NAME.as_ptr()) == 0 {
            return;
        }
        let tensor = ffi::PyCapsule_GetPointer(capsule, NAME.as_ptr()).cast::<DLManagedTensor>();
        if let Some(deleter) = tensor.as_ref().and_then(|tensor| tensor.deleter) {
            deleter(tensor);
        }
    }
}

unsafe extern "C" fn release_versioned(capsule: *mut ffi::PyObject) {
    // SAFETY: as in `release`.
    unsafe {
        if ffi::PyCapsule_IsValid(capsule, NAME_VERSIONED.as_ptr()) == 0 {
            return;
        }
        let tensor = ffi::PyCapsule_GetPointer(capsule, NAME_VERSIONED.as_ptr()).cast::<DLManagedTensorVersioned>();
        if let Some(deleter) = tensor.as_ref().and_then(|tensor| tensor.deleter) {
            deleter(tensor);
        }
    }
}

fn data_type(dtype: DType) -> DLDataType {
    let code = match dtype {
        DType::Bool => DLDataTypeCode::kDLBool,
        DType::U8 | DType::U16 | DType::U32 | DType::U64 => DLDataTypeCode::kDLUInt,
        DType::I8 | DType::I16 | DType::I32 | DType::I64 => DLDataTypeCode::kDLInt,
        DType::F16 | DType::F32 | DType::F64 => DLDataTypeCode::kDLFloat,
        DType::BF16 => DLDataTypeCode::kDLBfloat,
    };
    DLDataType { code: code as u8, bits: 8 * dtype.width() as u8, lanes: 1 }
}
