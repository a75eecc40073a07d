//! The port through which a field's value is made of what lies in the rows, at the moment a batch is put together: encoded
//! pictures wait for their turn as they are in the file, and are decoded straight into their place in the batch.

use crate::Result;
use crate::field::FieldKind;
use crate::plan::mix;

/// Makes the values of one field. Pure: the same bytes and the same key give the same value, in whichever thread and with
/// whichever hint.
pub trait Transform: Send + Sync + std::fmt::Debug {
    /// How a value is delivered; dense.
    fn kind(&self) -> FieldKind;

    /// Whether values depend on the key.
    fn is_random(&self) -> bool;

    /// Everything that values depend on but the bytes and the key: part of a dataset's fingerprint.
    fn describe(&self) -> String;

    /// Writes the value made of `encoded` to `into`, which is exactly as large as the kind says. Its content is unspecified
    /// before, and after an error.
    fn apply(&self, encoded: Encoded<'_>, key: DrawKey, into: &mut [u8]) -> Result<()>;

    /// The name of the hints that it makes, and of their layout: those of another name mean nothing to it. `None` if it makes
    /// none.
    fn hints(&self) -> Option<&'static str> {
        None
    }

    /// What makes a later `apply` to the same bytes quicker, and changes nothing else; empty where nothing does.
    fn hint(&self, bytes: &[u8]) -> Vec<u8> {
        let _ = bytes;
        Vec::new()
    }
}

/// What a value is made of.
#[derive(Debug, Clone, Copy, Default)]
pub struct Encoded<'a> {
    /// As they are in the file.
    pub bytes: &'a [u8],
    /// What `Transform::hint` once made of them, or nothing.
    pub hint: &'a [u8],
}

impl<'a> From<&'a [u8]> for Encoded<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self { bytes, hint: &[] }
    }
}

/// What all random draws of one sample in one epoch come from: not from workers, ranks or batches.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub struct DrawKey(pub u64);

impl DrawKey {
    /// `dataset` tells datasets apart that are read with the same seed.
    pub fn new(seed: u64, epoch: u64, dataset: u64, sample: u64) -> Self {
        Self(mix(mix(mix(seed ^ 0x7472_616e_7366) ^ epoch) ^ dataset) ^ mix(sample))
    }
}
