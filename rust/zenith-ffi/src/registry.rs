//! Handles that cross a language boundary as plain numbers: a wrong or stale one is an error, never a crash (FFI-2).

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use zenith::Slab;
use zenith::data::{DType, Error, Result};

use crate::field_memory::FieldSlab;
use crate::tensors::Tensor;

/// What hands out batches: the seam between a loader and every framework.
pub(crate) trait BatchSource: Send + Sync + 'static {
    /// The next batch, or `Pending` when none is ready within `wait_ms` milliseconds (0 = do not wait).
    ///
    /// Called without the GIL, possibly from several threads.
    fn next(&self, wait_ms: u32) -> Result<Next>;

    /// Takes tensors to be sent; `false`: they cannot go this way.
    fn put(&self, _tensors: &[Outgoing<'_>]) -> Result<bool> {
        Err(Error::invalid("tensors can be put into an arena only, and this is a loader"))
    }
}

/// A contiguous tensor on its way out of this process.
pub(crate) struct Outgoing<'a> {
    pub(crate) values: &'a [u8],
    pub(crate) dtype: DType,
    pub(crate) extents: &'a [i64],
}

pub(crate) enum Next {
    Batch(Parts),
    Pending,
    End,
}

/// The tensors of a batch. Their extents lie in one list: a small allocation per part is what a hand-over would mostly cost.
#[derive(Default)]
pub(crate) struct Parts {
    parts: Vec<Part>,
    extents: Vec<i64>,
}

/// One tensor of a batch: row-major values and the memory that holds them.
struct Part {
    memory: Option<Memory>,
    extents: Range<usize>,
    dtype: DType,
}

/// The right to read and write the values of a part; dropping it gives the memory back (FFI-3).
pub(crate) enum Memory {
    Slab(Slab),
    Bytes(Vec<u8>),
    /// A tensor that the framework made itself.
    Tensor(Tensor),
    /// Bytes that live outside the value itself, as those of a `Vec` do, since the value moves.
    Other(Box<dyn AsMut<[u8]> + Send + Sync>),
}

impl Memory {
    fn bytes(&mut self) -> &mut [u8] {
        match self {
            Self::Slab(slab) => slab.as_mut(),
            Self::Bytes(bytes) => bytes,
            Self::Tensor(tensor) => tensor.as_mut(),
            Self::Other(other) => (**other).as_mut(),
        }
    }
}

impl From<FieldSlab> for Memory {
    fn from(slab: FieldSlab) -> Self {
        match slab {
            FieldSlab::Host(slab) => Self::Slab(slab),
            FieldSlab::Tensor(tensor) => Self::Tensor(tensor),
        }
    }
}

impl Parts {
    pub(crate) fn with_capacity(parts: usize) -> Self {
        Self { parts: Vec::with_capacity(parts), extents: Vec::with_capacity(2 * parts) }
    }

    /// Takes over `memory`, whose length must be that of `rows` values of `shape` and `dtype`.
    pub(crate) fn push(&mut self, memory: Memory, rows: usize, shape: &[usize], dtype: DType) -> Result<()> {
        self.push_shaped(memory, [rows].into_iter().chain(shape.iter().copied()), dtype)
    }

    /// The same for a tensor of these extents, which may have none.
    pub(crate) fn push_shaped(
        &mut self,
        mut memory: Memory,
        shape: impl Iterator<Item = usize>,
        dtype: DType,
    ) -> Result<()> {
        let start = self.extents.len();
        let mut bytes = Some(dtype.width());
        for extent in shape {
            bytes = bytes.and_then(|bytes| bytes.checked_mul(extent));
            // Each extent fits: at 0 elements it does not matter, else the product is checked.
            self.extents.push(i64::try_from(extent).unwrap_or(i64::MAX));
        }
        let length = memory.bytes().len();
        if bytes != Some(length) {
            let (name, shape) = (dtype.name(), &self.extents[start..]);
            let why = format!("a slab of {length} bytes cannot hold {name} of shape {shape:?}");
            return Err(Error::internal(why));
        }
        self.parts.push(Part { memory: Some(memory), extents: start..self.extents.len(), dtype });
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.parts.len()
    }

    /// Extents of a part; empty for an index that is out of range.
    pub(crate) fn shape(&self, index: usize) -> &[i64] {
        self.parts.get(index).map_or(&[], |part| &self.extents[part.extents.clone()])
    }

    pub(crate) fn dtype(&self, index: usize) -> Option<DType> {
        self.parts.get(index).map(|part| part.dtype)
    }

    /// First byte of a part whose memory is still here, else null.
    pub(crate) fn pointer(&mut self, index: usize) -> *mut u8 {
        let memory = self.parts.get_mut(index).and_then(|part| part.memory.as_mut());
        memory.map_or(std::ptr::null_mut(), |memory| memory.bytes().as_mut_ptr())
    }

    /// Whether there are parts, and every one is a tensor of the framework.
    pub(crate) fn are_tensors(&self) -> bool {
        !self.parts.is_empty() && self.parts.iter().all(|part| matches!(part.memory, Some(Memory::Tensor(_))))
    }

    /// Moves a part out that is a tensor of the framework.
    pub(crate) fn take_tensor(&mut self, index: usize) -> Option<Tensor> {
        let memory = &mut self.parts.get_mut(index)?.memory;
        match memory.take() {
            Some(Memory::Tensor(tensor)) => Some(tensor),
            other => {
                *memory = other;
                None
            }
        }
    }

    /// Moves the memory of a part out.
    pub(crate) fn take(&mut self, index: usize) -> Option<Memory> {
        self.parts.get_mut(index).and_then(|part| part.memory.take())
    }
}

/// Keeps a source reachable under its id; dropping it makes the id stale.
pub(crate) struct Registration {
    id: u64,
}

impl Registration {
    pub(crate) fn new(source: Arc<dyn BatchSource>) -> Self {
        // Ids are never used twice, so a stale one cannot reach a newer loader.
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        SOURCES.write().unwrap_or_else(PoisonError::into_inner).insert(id, source);
        Self { id }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let source = SOURCES.write().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
        // Outside the lock: the destructor of a loader may join threads.
        drop(source);
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Registration({})", self.id)
    }
}

/// The source with this id, kept alive for the caller even if it is closed meanwhile.
pub(crate) fn find(id: u64) -> Result<Arc<dyn BatchSource>> {
    let sources = SOURCES.read().unwrap_or_else(PoisonError::into_inner);
    sources.get(&id).map(Arc::clone).ok_or_else(|| {
        Error::invalid(format!("there is no open loader with id {}: it was closed or never opened", id.cast_signed()))
    })
}

static SOURCES: LazyLock<RwLock<HashMap<u64, Arc<dyn BatchSource>>>> = LazyLock::new(RwLock::default);
