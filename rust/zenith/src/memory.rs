//! Adapters from the host's memory and clock to the ports of `zenith-data`.

use std::sync::Arc;
use std::time::Instant;

use zenith_data::memory::{BatchMemory, not_whole};
use zenith_data::pipeline::Clock;
use zenith_data::{Error, ErrorKind, Result};
use zenith_host::{Piece, Slab, SlabPool, pieces};

/// Batch memory from this machine's RAM.
#[derive(Debug, Clone)]
pub struct HostMemory(Arc<SlabPool>);

impl HostMemory {
    /// Keeps at most `idle_bytes_max` bytes of returned slabs.
    pub fn new(idle_bytes_max: usize) -> Self {
        Self(SlabPool::patient(idle_bytes_max))
    }
}

impl BatchMemory for HostMemory {
    type Slab = Slab;
    type Piece = Piece<Slab>;

    fn cut(&self, slab: Self::Slab, bytes: usize) -> Vec<Self::Piece> {
        pieces::cut(slab, bytes)
    }

    fn join(&self, pieces: Vec<Self::Piece>) -> Result<Self::Slab> {
        pieces::join(pieces).ok_or_else(not_whole)
    }

    fn slab(&self, bytes: usize) -> Result<Slab> {
        self.0.slab(bytes).ok_or_else(|| {
            Error::new(ErrorKind::Budget, format!("no memory for a batch field of {bytes} bytes. Lower batch_size"))
        })
    }

    #[inline]
    fn prefetch(&self, bytes: &[u8]) {
        zenith_host::prefetch(bytes);
    }
}

/// Monotonic time since the clock was made.
#[derive(Debug)]
pub struct HostClock(Instant);

impl Default for HostClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for HostClock {
    fn now_ns(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}
