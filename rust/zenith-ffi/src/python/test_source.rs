//! Test hooks of `tests/torch`: a loader made of given bytes, and ordinary tensors in the place of pinned ones.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use zenith::data::{DType, Error, ErrorKind, Result};

use super::errors::call;
use crate::registry::{BatchSource, Memory, Next, Parts, Registration};
use crate::tensors::set_stand_ins;

/// Name of the element type, extents of one row, and the bytes of all rows.
type FieldArgument = (String, Vec<usize>, Vec<u8>);

/// Opens a source that repeats one batch of `rows` rows.
///
/// `script` says what each call answers: "b" a batch, "p" pending, "e" the error of kind `kind`, "!" a panic; after it
/// comes the end.
#[pyfunction]
#[pyo3(signature = (fields, rows, script = "b", kind = 4))]
pub(super) fn _test_source(
    py: Python<'_>,
    fields: Vec<FieldArgument>,
    rows: usize,
    script: &str,
    kind: u32,
) -> PyResult<_TestSource> {
    call(py, "_test_source", || {
        let fields = fields.into_iter().map(|field| Field::new(field, rows)).collect::<Result<_>>()?;
        let kind = ErrorKind::ALL.into_iter().find(|known| *known as u32 == kind);
        let kind = kind.ok_or_else(|| Error::invalid("kind must be the number of an error kind"))?;
        let script = Mutex::new(script.chars().rev().collect());
        let source = Arc::new(Source { fields, kind, script, counts: Arc::default() });
        let registration = Registration::new(Arc::clone(&source) as Arc<dyn BatchSource>);
        Ok(_TestSource { source, registration: Some(registration) })
    })
}

/// Lets the next `count` tensors that should be pinned be ordinary ones, and refuses those after them; `None` ends it. For
/// machines without an accelerator.
#[pyfunction]
#[pyo3(signature = (count = None))]
pub(super) fn _test_tensors(count: Option<usize>) {
    set_stand_ins(count);
}

#[pyclass(module = "zenith._engine")]
pub(super) struct _TestSource {
    source: Arc<Source>,
    registration: Option<Registration>,
}

#[pymethods]
impl _TestSource {
    /// The number that `torch.ops.zenith.next_batch` takes; 0 once closed.
    #[getter]
    fn id(&self) -> u64 {
        self.registration.as_ref().map_or(0, Registration::id)
    }

    /// Slabs given out so far.
    #[getter]
    fn leased(&self) -> u64 {
        self.source.counts.leased.load(Ordering::SeqCst)
    }

    /// Slabs that came back so far.
    #[getter]
    fn released(&self) -> u64 {
        self.source.counts.released.load(Ordering::SeqCst)
    }

    /// Addresses of the slabs of the latest batch.
    #[getter]
    fn pointers(&self) -> Vec<usize> {
        self.source.counts.pointers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Appends to the script.
    fn extend(&self, script: &str) {
        let mut waiting = self.source.script.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting = script.chars().rev().chain(waiting.drain(..)).collect();
    }

    /// Makes the id stale. Leased slabs stay valid.
    fn close(&mut self) {
        self.registration = None;
    }
}

struct Source {
    fields: Vec<Field>,
    kind: ErrorKind,
    /// Answers still to come, the next one last.
    script: Mutex<Vec<char>>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    leased: AtomicU64,
    released: AtomicU64,
    pointers: Mutex<Vec<usize>>,
}

impl BatchSource for Source {
    fn next(&self, _wait_ms: u32) -> Result<Next> {
        let answer = self.script.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match answer {
            Some('b') => self.batch().map(Next::Batch),
            Some('p') => Ok(Next::Pending),
            Some('e') => Err(Error::new(self.kind, "this error was asked for")
                .in_file("scripted.bin")
                .at_offset(4096)
                .in_block(3)
                .at_row(77)
                .in_field("x")),
            #[expect(clippy::panic, reason = "shows that a panic does not cross the door")]
            Some('!') => panic!("this panic was asked for"),
            Some(other) => Err(Error::invalid(format!("script must be made of b, p, e and !, got {other:?}"))),
            None => Ok(Next::End),
        }
    }
}

impl Source {
    fn batch(&self) -> Result<Parts> {
        let mut pointers = Vec::with_capacity(self.fields.len());
        let mut parts = Parts::with_capacity(self.fields.len());
        for field in &self.fields {
            let mut slab = Slab { bytes: field.content.clone(), counts: Arc::clone(&self.counts) };
            pointers.push(slab.bytes.as_mut_ptr().addr());
            self.counts.leased.fetch_add(1, Ordering::SeqCst);
            parts.push(Memory::Other(Box::new(slab)), field.rows, &field.shape, field.dtype)?;
        }
        *self.counts.pointers.lock().unwrap_or_else(PoisonError::into_inner) = pointers;
        Ok(parts)
    }
}

struct Field {
    dtype: DType,
    rows: usize,
    /// Extents of one row.
    shape: Vec<usize>,
    content: Vec<u8>,
}

impl Field {
    fn new((dtype, shape, content): FieldArgument, rows: usize) -> Result<Self> {
        let dtype = DType::parse(&dtype).ok_or_else(|| Error::invalid(format!("dtype {dtype:?} is unknown")))?;
        Ok(Self { dtype, rows, shape, content })
    }
}

/// Memory that counts how often it came back.
struct Slab {
    bytes: Vec<u8>,
    counts: Arc<Counts>,
}

impl AsMut<[u8]> for Slab {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        self.counts.released.fetch_add(1, Ordering::SeqCst);
    }
}
