//! `_engine.ArenaWriter` and `_engine.ArenaReader`: tensors from a worker process to the main one, by shared memory.
//!
//! The tensors themselves cross at the torch module (`arena_put`, `next_batch`); here are the descriptors of what was sent:
//! native-endian i64 numbers, for each tensor chunk, offset, element type, rank and extents.

use std::os::fd::{IntoRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use zenith::arena::{self, Lease, Mapping, Writer};
use zenith::data::{DType, Error, ErrorKind, Result};

use super::errors::call;
use crate::registry::{BatchSource, Memory, Next, Outgoing, Parts, Registration};

fn refused(what: &str, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot {what} memory that is shared with workers: {error}"))
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The descriptor of a new arena, which the caller closes.
#[pyfunction]
pub(super) fn create_arena(py: Python<'_>) -> PyResult<RawFd> {
    call(py, "create_arena", || arena::create().map(IntoRawFd::into_raw_fd).map_err(|error| refused("make", error)))
}

/// What a forked child may read in place; to be dropped when the child has ended.
#[pyclass(module = "zenith._engine", frozen)]
pub(super) struct Loan(#[expect(dead_code, reason = "what matters is when it is dropped")] arena::Loan);

/// Calls `start`, which forks a child of this process, and lends it the batches that are held here.
#[pyfunction]
pub(super) fn lend(start: &Bound<'_, PyAny>) -> PyResult<Loan> {
    let (started, loan) = arena::lend(|| start.call0());
    started.map(|_| Loan(loan))
}

/// A worker's arena: memory for its batches, and the descriptors of what it sends.
#[pyclass(module = "zenith._engine", frozen)]
pub(super) struct ArenaWriter {
    source: Arc<Sender>,
    registration: Registration,
}

#[pymethods]
impl ArenaWriter {
    /// Maps the arena of an open descriptor, which may be closed afterwards.
    #[new]
    fn new(py: Python<'_>, descriptor: RawFd) -> PyResult<Self> {
        call(py, "ArenaWriter", || {
            let writer = arena::open(descriptor).and_then(Writer::new).map_err(|error| refused("map", error))?;
            let source =
                Arc::new(Sender { writer: Mutex::new(writer), wanted: Mutex::default(), sent: Mutex::default() });
            let registration = Registration::new(Arc::clone(&source) as Arc<dyn BatchSource>);
            Ok(Self { source, registration })
        })
    }

    /// The number that `torch.ops.zenith.next_batch` and `arena_put` take.
    #[getter]
    fn id(&self) -> u64 {
        self.registration.id()
    }

    /// Lets the next `next_batch` return one tensor of unspecified content in the arena; `False`: there is no room.
    fn request(&self, dtype: &str, shape: Vec<usize>) -> bool {
        let Some(dtype) = DType::parse(dtype) else { return false };
        let bytes = shape.iter().try_fold(dtype.width(), |bytes, &extent| bytes.checked_mul(extent));
        let Some(lease) = bytes.and_then(|bytes| lock(&self.source.writer).allocate(bytes)) else { return false };
        *lock(&self.source.wanted) = Some((lease, dtype, shape));
        true
    }

    /// Descriptors of what `arena_put` took last; they are to be sent.
    fn descriptors<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &std::mem::take(&mut *lock(&self.source.sent)))
    }
}

struct Sender {
    writer: Mutex<Writer>,
    wanted: Mutex<Option<(Lease, DType, Vec<usize>)>>,
    sent: Mutex<Vec<u8>>,
}

impl BatchSource for Sender {
    fn next(&self, _wait_ms: u32) -> Result<Next> {
        let Some((lease, dtype, shape)) = lock(&self.wanted).take() else { return Ok(Next::End) };
        let mut parts = Parts::with_capacity(1);
        parts.push_shaped(Memory::Other(Box::new(lease)), shape.into_iter(), dtype)?;
        Ok(Next::Batch(parts))
    }

    fn put(&self, tensors: &[Outgoing<'_>]) -> Result<bool> {
        if overlap(tensors) {
            // They share memory, and are to share it at the other side too.
            return Ok(false);
        }
        let mut writer = lock(&self.writer);
        let mut leases = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            let lease = writer.find(tensor.values.as_ptr(), tensor.values.len()).or_else(|| {
                let mut lease = writer.allocate(tensor.values.len())?;
                lease.as_mut().copy_from_slice(tensor.values);
                Some(lease)
            });
            let Some(lease) = lease else { return Ok(false) };
            leases.push(lease);
        }
        let mut sent = lock(&self.sent);
        sent.clear();
        for (tensor, lease) in tensors.iter().zip(leases) {
            let (chunk, offset) = writer.send(lease);
            let head = [i64::from(chunk), offset as i64, i64::from(tensor.dtype as u32), tensor.extents.len() as i64];
            sent.extend(head.iter().chain(tensor.extents).flat_map(|number| number.to_ne_bytes()));
        }
        Ok(true)
    }
}

fn overlap(tensors: &[Outgoing<'_>]) -> bool {
    let mut ranges: Vec<(usize, usize)> = Vec::with_capacity(tensors.len());
    for tensor in tensors.iter().filter(|tensor| !tensor.values.is_empty()) {
        let start = tensor.values.as_ptr().addr();
        ranges.push((start, start + tensor.values.len()));
    }
    ranges.sort_unstable();
    ranges.windows(2).any(|pair| pair[1].0 < pair[0].1)
}

/// The main process's side of a worker's arena.
#[pyclass(module = "zenith._engine", frozen)]
pub(super) struct ArenaReader {
    source: Arc<Receiver>,
    registration: Registration,
}

#[pymethods]
impl ArenaReader {
    /// Maps the arena of an open descriptor, which may be closed afterwards.
    #[new]
    fn new(py: Python<'_>, descriptor: RawFd) -> PyResult<Self> {
        call(py, "ArenaReader", || {
            let file = arena::open(descriptor).map_err(|error| refused("open", error))?;
            let mapping = Mapping::new(&file).map_err(|error| refused("map", error))?;
            let source = Arc::new(Receiver { mapping, received: Mutex::default() });
            let registration = Registration::new(Arc::clone(&source) as Arc<dyn BatchSource>);
            Ok(Self { source, registration })
        })
    }

    /// The number that `torch.ops.zenith.next_batch` takes.
    #[getter]
    fn id(&self) -> u64 {
        self.registration.id()
    }

    /// Takes the tensors that these descriptors name over from the worker; the next `next_batch` returns them.
    fn load(&self, py: Python<'_>, descriptors: &[u8]) -> PyResult<()> {
        call(py, "ArenaReader.load", || {
            let parts = self.source.parts(descriptors)?;
            *lock(&self.source.received) = Some(parts);
            Ok(())
        })
    }
}

struct Receiver {
    mapping: Arc<Mapping>,
    received: Mutex<Option<Parts>>,
}

impl BatchSource for Receiver {
    fn next(&self, _wait_ms: u32) -> Result<Next> {
        Ok(lock(&self.received).take().map_or(Next::End, Next::Batch))
    }
}

impl Receiver {
    fn parts(&self, descriptors: &[u8]) -> Result<Parts> {
        let broken = || Error::internal("a worker sent a message that cannot be read");
        let (numbers, rest) = descriptors.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(broken());
        }
        let mut numbers = numbers.iter().map(|bytes| i64::from_ne_bytes(*bytes));
        let mut parts = Parts::with_capacity(descriptors.len() / 40);
        while let Some(chunk) = numbers.next() {
            let mut number = || usize::try_from(numbers.next().ok_or_else(broken)?).map_err(|_| broken());
            let (offset, dtype, rank) = (number()?, number()?, number()?);
            let dtype = DType::ALL.into_iter().find(|known| *known as usize == dtype).ok_or_else(broken)?;
            let shape = (0..rank).map(|_| number()).collect::<Result<Vec<usize>>>()?;
            let bytes = shape.iter().try_fold(dtype.width(), |bytes, &extent| bytes.checked_mul(extent));
            let chunk = u32::try_from(chunk).map_err(|_| broken())?;
            let lease = bytes.and_then(|bytes| self.mapping.receive(chunk, offset, bytes)).ok_or_else(broken)?;
            parts.push_shaped(Memory::Other(Box::new(lease)), shape.into_iter(), dtype)?;
        }
        Ok(parts)
    }
}
