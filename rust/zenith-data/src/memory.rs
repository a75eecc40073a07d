//! The port through which batches get their memory, and room for what is decoded.

use crate::{Error, ErrorKind, Result};

/// Hands out slabs: aligned, writable, private memory that a batch's field is written into once and then leased.
pub trait BatchMemory: Send + Sync + 'static {
    /// One slab, owned; dropping it gives the memory back.
    type Slab: AsMut<[u8]> + AsRef<[u8]> + Send + Sync + 'static;

    /// A slab of exactly `bytes` bytes, aligned to 64; its content is unspecified but initialised. Never waits for
    /// slabs that are still leased: when the pool is empty it allocates.
    fn slab(&self, bytes: usize) -> Result<Self::Slab>;

    /// A part of a slab that one thread fills while others fill theirs.
    type Piece: AsMut<[u8]> + AsRef<[u8]> + Send + Sync + 'static;

    /// Cuts a slab at multiples of `bytes`; the last piece may be shorter, and an empty slab is one empty piece.
    fn cut(&self, slab: Self::Slab, bytes: usize) -> Vec<Self::Piece>;

    /// The slab that was cut into these, in this order.
    fn join(&self, pieces: Vec<Self::Piece>) -> Result<Self::Slab>;

    /// As `slab`, for `rows` values of a field that the schema names at `field`: for memory that has shapes and types.
    fn field(&self, field: usize, rows: usize, bytes: usize) -> Result<Self::Slab> {
        let _ = (field, rows);
        self.slab(bytes)
    }

    /// Called by the thread that consumes batches whenever it asks for one: the moment to see which slabs that it dropped may
    /// be used again.
    fn on_batch_asked(&self) {}

    /// A hint that `bytes` will be read soon: shuffled rows lie all over memory, and waiting for each is what copying them
    /// costs. Returns at once.
    fn prefetch(&self, bytes: &[u8]) {
        let _ = bytes;
    }
}

/// Room for `additional` more values. Where data says how many there are, this comes before they are appended: a plain
/// `Vec` that cannot grow ends the process.
pub(crate) fn room<T>(values: &mut Vec<T>, additional: usize) -> Result<()> {
    values.try_reserve(additional).map_err(|_| no_room(additional.saturating_mul(size_of::<T>())))
}

/// `len` zeros, as `room` is made.
pub(crate) fn zeros<T: bytemuck::Zeroable + Clone>(len: usize) -> Result<Vec<T>> {
    let mut values = Vec::new();
    values.try_reserve_exact(len).map_err(|_| no_room(len.saturating_mul(size_of::<T>())))?;
    values.resize(len, T::zeroed());
    Ok(values)
}

/// What `join` says when it is given other pieces than `cut` made.
pub fn not_whole() -> Error {
    Error::internal("a piece of a batch field is missing")
}

pub(crate) fn no_room(bytes: usize) -> Error {
    let message = format!(
        "no memory for {bytes} bytes of decoded samples. Lower shuffle_bytes or num_workers, or write smaller row groups \
         (record batches)"
    );
    Error::new(ErrorKind::Budget, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_had_is_an_error() {
        assert_eq!(room(&mut vec![0u64; 3], usize::MAX / 8).unwrap_err().kind(), ErrorKind::Budget);
        assert_eq!(zeros::<u64>(1 << 60).unwrap_err().kind(), ErrorKind::Budget);
        assert_eq!(zeros::<u16>(3).unwrap(), [0; 3]);
    }
}
