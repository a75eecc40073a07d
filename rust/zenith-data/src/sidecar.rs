//! The port for what is dear to find out about files (an index of rows, the matches of a filter): kept from one opening
//! to the next, rebuilt when it does not fit, and never required.

use std::sync::Arc;

use crate::storage::Source;
use crate::{Error, ErrorKind, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::Xxh3;

/// One thing to be found out.
#[derive(Debug, Clone)]
pub struct Task {
    /// 32 hexadecimal digits; whatever the outcome depends on goes into it. See `key`.
    pub key: String,
    /// What people read while they wait, such as `indexing train.csv`.
    pub title: String,
    /// Bytes of work in all, for the progress.
    pub bytes: u64,
}

/// Is told how far long work has come.
pub trait Progress {
    /// `bytes` more are done. `ErrorKind::Interrupted` asks the work to be given up.
    fn advance(&self, bytes: u64) -> Result<()>;
}

/// Keeps the outcomes of tasks.
pub trait Sidecar: Send + Sync {
    /// The bytes kept under the task's key, or else those that `build` makes. Where several processes want the same,
    /// one builds and the others wait. That nothing can be kept (a full or read-only disk) is no error.
    fn get_or_build(&self, task: &Task, build: &mut dyn FnMut(&dyn Progress) -> Result<Vec<u8>>) -> Result<Vec<u8>>;

    /// As `get_or_build`, for what is too large to be held: `write` writes it, and parts of it are read. `None` where it cannot
    /// be kept.
    fn get_or_write(&self, task: &Task, write: Write<'_>) -> Result<Option<Arc<dyn Kept>>>;

    /// Drops what is kept under the task's key.
    fn forget(&self, task: &Task);
}

/// Writes the outcome of a task.
pub type Write<'a> = &'a mut dyn FnMut(&dyn Progress, &mut dyn std::io::Write) -> Result<()>;

/// What is kept, read by parts. It stays as it is even if it is dropped meanwhile.
pub trait Kept: Send + Sync + std::fmt::Debug {
    /// In bytes.
    fn size(&self) -> u64;

    /// Fills `into` from there on; false where that cannot be.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> bool;
}

/// A key of everything that `source` and `options` say; another kind of outcome or another layout of it needs another
/// `kind`, such as `csv-1`. The version of the source is part of it: an index must never serve a file that changed.
pub fn key(kind: &str, source: &Source, options: &impl Serialize) -> Result<String> {
    let options = serde_json::to_vec(options).map_err(|error| Error::internal(error.to_string()))?;
    let mut hash = Xxh3::new();
    for part in [kind.as_bytes(), source.location.as_bytes(), source.version.as_bytes(), &options] {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.update(&source.len.to_le_bytes());
    Ok(format!("{:032x}", hash.digest128()))
}

/// `Sidecar::get_or_build` for a value. What is kept but cannot be read is built anew.
pub fn value<T: Serialize + DeserializeOwned>(
    sidecar: &dyn Sidecar,
    task: &Task,
    build: &mut dyn FnMut(&dyn Progress) -> Result<T>,
) -> Result<T> {
    let mut build = |progress: &dyn Progress| {
        let value = build(progress)?;
        postcard::to_stdvec(&value).map_err(|error| Error::internal(format!("a sidecar cannot be written: {error}")))
    };
    let bytes = sidecar.get_or_build(task, &mut build)?;
    if let Ok(value) = postcard::from_bytes(&bytes) {
        return Ok(value);
    }
    sidecar.forget(task);
    let bytes = sidecar.get_or_build(task, &mut build)?;
    postcard::from_bytes(&bytes)
        .map_err(|error| Error::new(ErrorKind::Internal, format!("a sidecar cannot be read back: {error}")))
}

/// Keeps nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSidecar;

impl Sidecar for NoSidecar {
    fn get_or_build(&self, _task: &Task, build: &mut dyn FnMut(&dyn Progress) -> Result<Vec<u8>>) -> Result<Vec<u8>> {
        build(&Silent)
    }

    fn get_or_write(&self, _task: &Task, _write: Write<'_>) -> Result<Option<Arc<dyn Kept>>> {
        Ok(None)
    }

    fn forget(&self, _task: &Task) {}
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn advance(&self, _bytes: u64) -> Result<()> {
        Ok(())
    }
}
