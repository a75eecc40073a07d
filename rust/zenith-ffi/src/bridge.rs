//! What the thin C++ modules call: the next batch of a loader, its parts, and a lease for each; what XLA's handlers do.
//!
//! No function here fails: an error is a status, and its content waits in the calling thread for `take_error`, so that
//! it reaches Python with its kind and place instead of as text.
#![expect(unsafe_code, unreachable_pub, reason = "the cxx macro writes both; nothing else here does")]

use std::cell::RefCell;

use zenith::data::{DType, Error};

use crate::guard::{guard, guard_drop};
use crate::registry::{self, Memory, Next, Outgoing, Parts};
use crate::tensors::{Tensor, lend_tensor_functions};
use crate::xla::{self, Normalization, feed_request};

pub(crate) use ffi::{FeedRequest, TensorView};

#[cxx::bridge(namespace = "zenith")]
mod ffi {
    /// What a call of `next_batch` came to.
    #[repr(u32)]
    enum Status {
        Batch = 0,
        Pending = 1,
        End = 2,
        Error = 3,
        /// A batch, all parts of which are tensors of the framework.
        Tensors = 4,
    }

    /// Element types; the numbers are those of `zenith::data::DType`.
    #[repr(u32)]
    enum DType {
        Bool = 1,
        U8 = 2,
        I8 = 3,
        U16 = 4,
        I16 = 5,
        U32 = 6,
        I32 = 7,
        U64 = 8,
        I64 = 9,
        F16 = 10,
        BF16 = 11,
        F32 = 12,
        F64 = 13,
    }

    /// A contiguous tensor in the memory of this process.
    struct TensorView {
        /// Address of its first value.
        data: usize,
        bytes: usize,
        dtype: DType,
        rank: usize,
    }

    /// What a device program asks of a feed.
    struct FeedRequest {
        feed: u64,
        /// The execution of the program, the same number on all its devices.
        run: i64,
        batch: u64,
        shard: u32,
        device: i32,
        /// Where an i32 is written: samples of the whole batch.
        valid: usize,
        /// Where two u32 are written: the number of the next batch, its low half first.
        next: usize,
    }

    extern "Rust" {
        /// Puts tensors into an arena, to be sent: their extents lie in one list. `false`: they cannot go that way.
        ///
        /// # Safety
        /// Each `data` must be readable for its `bytes` during the call.
        unsafe fn arena_put(arena: u64, tensors: &[TensorView], extents: &[i64]) -> bool;

        /// One answer of a loader. Not shared between threads.
        type BatchView;
        /// Keeps the memory of one part; destroying it releases the memory, on any thread.
        type Lease;

        /// Waits up to `wait_ms` milliseconds for the next batch of `loader`. Never fails: see `status`.
        fn next_batch(loader: u64, wait_ms: u32) -> Box<BatchView>;
        fn status(self: &BatchView) -> Status;
        /// How many parts the batch has; 0 unless the status is `Batch` or `Tensors`.
        fn parts(self: &BatchView) -> usize;
        /// Extents of a part. For an index that is out of range this and the next two answer with nothing.
        fn shape(self: &BatchView, index: usize) -> &[i64];
        fn dtype(self: &BatchView, index: usize) -> DType;
        /// First byte of a part, valid as long as its lease lives.
        fn data(self: &mut BatchView, index: usize) -> *mut u8;
        /// Moves the lease of a part to the caller; a part that is not taken is released with the view.
        fn take_lease(self: &mut BatchView, index: usize) -> Box<Lease>;
        /// Moves a part to the caller that is a tensor of the framework, as `TensorFunctions` made it; null for another,
        /// whose lease is to be taken.
        fn take_tensor(self: &mut BatchView, index: usize) -> *mut u8;

        /// Lends the engine what makes tensors.
        ///
        /// # Safety
        /// `functions` must point to a `TensorFunctions` whose functions stay valid as long as the process lives.
        unsafe fn lend_tensor_functions(functions: *const u8);

        /// Waits for a batch and writes a shard's rows of it to `fields`. 0, or the number of the kind of error that
        /// `take_error_text` has.
        ///
        /// # Safety
        /// All addresses must be valid during the call, and nobody else's.
        unsafe fn feed_request(request: &FeedRequest, fields: &[TensorView]) -> u32;

        /// What the levels of pictures become.
        type Normalization;

        /// `(level * scale - mean) / std` as a float type; `planes`: as [channels, height, width].
        fn normalization(mean: &[f32], std: &[f32], scale: f32, dtype: DType, planes: bool) -> Box<Normalization>;
        /// `false`: it was refused, and `take_error_text` says why.
        fn is_valid(self: &Normalization) -> bool;
        /// Writes whole pictures. `false`: they do not fill `output`.
        fn apply(self: &Normalization, levels: &[u8], height: usize, width: usize, output: &mut [u8]) -> bool;

        /// The text of the latest error of this thread.
        fn take_error_text() -> String;
    }
}

/// The error behind the latest `Status::Error` of this thread.
pub(crate) fn take_error() -> Option<Error> {
    ERROR.take()
}

/// Leaves an error for `take_error`.
pub(crate) fn set_error(error: Error) {
    ERROR.set(Some(error));
}

/// The engine's name for an element type; `None` for one that it does not have.
pub(crate) fn known_dtype(dtype: ffi::DType) -> Option<DType> {
    DType::ALL.into_iter().find(|known| *known as u32 == dtype.repr)
}

fn take_error_text() -> String {
    take_error().map_or_else(|| "no error waits in this thread".into(), |error| error.to_string())
}

fn normalization(mean: &[f32], std: &[f32], scale: f32, dtype: ffi::DType, planes: bool) -> Box<Normalization> {
    xla::normalization(mean, std, scale, known_dtype(dtype), planes)
}

thread_local! {
    static ERROR: RefCell<Option<Error>> = const { RefCell::new(None) };
}

struct BatchView {
    status: ffi::Status,
    parts: Parts,
}

struct Lease {
    memory: Option<Memory>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        guard_drop(self.memory.take());
    }
}

fn next_batch(loader: u64, wait_ms: u32) -> Box<BatchView> {
    let (status, parts) = match guard("next_batch", || registry::find(loader)?.next(wait_ms)) {
        Ok(Next::Batch(parts)) if parts.are_tensors() => (ffi::Status::Tensors, parts),
        Ok(Next::Batch(parts)) => (ffi::Status::Batch, parts),
        Ok(Next::Pending) => (ffi::Status::Pending, Parts::default()),
        Ok(Next::End) => (ffi::Status::End, Parts::default()),
        Err(error) => {
            ERROR.set(Some(error));
            (ffi::Status::Error, Parts::default())
        }
    };
    Box::new(BatchView { status, parts })
}

unsafe fn arena_put(arena: u64, tensors: &[ffi::TensorView], extents: &[i64]) -> bool {
    let put = guard("arena_put", || {
        let mut extents = extents;
        let mut outgoing = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            let (own, rest) =
                extents.split_at_checked(tensor.rank).ok_or_else(|| Error::internal("extents are missing"))?;
            extents = rest;
            let Some(dtype) = known_dtype(tensor.dtype) else {
                return Ok(false);
            };
            let values = if tensor.bytes == 0 {
                &[][..]
            } else {
                // SAFETY: the caller's promise.
                unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance(tensor.data), tensor.bytes) }
            };
            outgoing.push(Outgoing { values, dtype, extents: own });
        }
        registry::find(arena)?.put(&outgoing)
    });
    put.unwrap_or_else(|error| {
        ERROR.set(Some(error));
        false
    })
}

impl BatchView {
    fn status(&self) -> ffi::Status {
        self.status
    }

    fn parts(&self) -> usize {
        self.parts.len()
    }

    fn shape(&self, index: usize) -> &[i64] {
        self.parts.shape(index)
    }

    fn dtype(&self, index: usize) -> ffi::DType {
        ffi::DType { repr: self.parts.dtype(index).map_or(0, |dtype| dtype as u32) }
    }

    fn data(&mut self, index: usize) -> *mut u8 {
        self.parts.pointer(index)
    }

    fn take_lease(&mut self, index: usize) -> Box<Lease> {
        Box::new(Lease { memory: self.parts.take(index) })
    }

    fn take_tensor(&mut self, index: usize) -> *mut u8 {
        self.parts.take_tensor(index).map_or(std::ptr::null_mut(), Tensor::into_handle).cast()
    }
}

/// The two lists of element types must not drift apart.
const _: () = {
    assert!(ffi::DType::Bool.repr == DType::Bool as u32);
    assert!(ffi::DType::U8.repr == DType::U8 as u32);
    assert!(ffi::DType::I8.repr == DType::I8 as u32);
    assert!(ffi::DType::U16.repr == DType::U16 as u32);
    assert!(ffi::DType::I16.repr == DType::I16 as u32);
    assert!(ffi::DType::U32.repr == DType::U32 as u32);
    assert!(ffi::DType::I32.repr == DType::I32 as u32);
    assert!(ffi::DType::U64.repr == DType::U64 as u32);
    assert!(ffi::DType::I64.repr == DType::I64 as u32);
    assert!(ffi::DType::F16.repr == DType::F16 as u32);
    assert!(ffi::DType::BF16.repr == DType::BF16 as u32);
    assert!(ffi::DType::F32.repr == DType::F32 as u32);
    assert!(ffi::DType::F64.repr == DType::F64 as u32);
};
