//! The port through which a field's value is made of what lies in the rows, at the moment a batch is put together: encoded
//! pictures wait for their turn as they are in the file, and are decoded straight into their place in the batch.

use crate::Result;
use crate::field::FieldKind;
use crate::plan::mix;

/// Makes the values of one field. Pure: the same bytes and the same key give the same value, in whichever thread.
pub trait Transform: Send + Sync + std::fmt::Debug {
    /// How a value is delivered; dense.
    fn kind(&self) -> FieldKind;

    /// Whether values depend on the key.
    fn is_random(&self) -> bool;

    /// Everything that values depend on but the bytes and the key: part of a dataset's fingerprint.
    fn describe(&self) -> String;

    /// Writes the value made of `encoded` to `into`, which is exactly as large as the kind says. Its content is unspecified
    /// before, and after an error.
    fn apply(&self, encoded: &[u8], key: DrawKey, into: &mut [u8]) -> Result<()>;
}

/// What all random draws of one sample in one epoch come from: not from workers, ranks or batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub struct DrawKey(pub u64);

impl DrawKey {
    /// `dataset` tells datasets apart that are read with the same seed.
    pub fn new(seed: u64, epoch: u64, dataset: u64, sample: u64) -> Self {
        Self(mix(mix(mix(seed ^ 0x7472_616e_7366) ^ epoch) ^ dataset) ^ mix(sample))
    }
}
