//! Handles that cross a language boundary as plain numbers: a wrong or stale one is an error, never a crash (FFI-2).

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use zenith::data::{DType, Error, Result};

/// What hands out batches: the seam between a loader and every framework.
pub(crate) trait BatchSource: Send + Sync + 'static {
    /// The next batch, or `Pending` when none is ready within `wait_ms` milliseconds (0 = do not wait).
    ///
    /// Called without the GIL, possibly from several threads.
    fn next(&self, wait_ms: u32) -> Result<Next>;
}

pub(crate) enum Next {
    Batch(Vec<Part>),
    Pending,
    End,
}

/// One tensor of a batch: row-major values and the lease on the memory that holds them.
pub(crate) struct Part {
    pub(crate) lease: Box<dyn Lease>,
    pub(crate) shape: Vec<i64>,
    pub(crate) dtype: DType,
}

impl Part {
    /// Takes over `slab`, whose length must be what `shape` and `dtype` say.
    ///
    /// The bytes must live outside the slab value itself (as those of a `Vec` do), since the value moves.
    pub(crate) fn new<S>(mut slab: S, shape: &[usize], dtype: DType) -> Result<Self>
    where
        S: AsMut<[u8]> + Send + Sync + 'static,
    {
        let bytes = shape.iter().try_fold(dtype.width(), |bytes, &extent| bytes.checked_mul(extent));
        let length = slab.as_mut().len();
        if bytes != Some(length) {
            let name = dtype.name();
            return Err(Error::internal(format!("a slab of {length} bytes cannot hold {shape:?} of {name}")));
        }
        // Each extent fits: at 0 elements it does not matter, else the product was checked.
        let shape = shape.iter().map(|&extent| i64::try_from(extent).unwrap_or(i64::MAX)).collect();
        Ok(Self { lease: Box::new(slab), shape, dtype })
    }
}

/// The right to read and write a slab; dropping it gives the slab back (FFI-3).
pub(crate) trait Lease: Send + Sync {
    fn pointer(&mut self) -> *mut u8;
}

impl<S: AsMut<[u8]> + Send + Sync> Lease for S {
    fn pointer(&mut self) -> *mut u8 {
        self.as_mut().as_mut_ptr()
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
