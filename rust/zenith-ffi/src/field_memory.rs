//! Where the fields of a batch lie: in pinned tensors of the framework as far as it has some, else in slabs.

use std::sync::atomic::{AtomicBool, Ordering};

use zenith::data::memory::{BatchMemory, not_whole};
use zenith::data::{DType, Field, FieldKind, Result};
use zenith::memory::HostMemory;
use zenith::{Piece, Slab, pieces};

use crate::tensors::Tensor;

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
    type Piece = Piece<FieldSlab>;

    fn cut(&self, slab: Self::Slab, bytes: usize) -> Vec<Self::Piece> {
        pieces::cut(slab, bytes)
    }

    fn join(&self, pieces: Vec<Self::Piece>) -> Result<Self::Slab> {
        pieces::join(pieces).ok_or_else(not_whole)
    }

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
