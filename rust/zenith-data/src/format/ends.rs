//! What a file is known by where it has no footer: its name, its size, and its first and last bytes.

use xxhash_rust::xxh3::Xxh3Default;

use crate::Result;
use crate::storage::{Range, Source, Storage};

/// Bytes at either end.
const END_BYTES: u64 = 64 << 10;

pub(crate) fn hash(storage: &dyn Storage, sources: &[Source], index: u32, hash: &mut Xxh3Default) -> Result<()> {
    let source = &sources[index as usize];
    hash.update(source.name.as_bytes());
    hash.update(&source.len.to_le_bytes());
    let len = source.len.min(END_BYTES);
    hash.update(&storage.read(sources, Range { source: index, offset: 0, len })?);
    hash.update(&storage.read(sources, Range { source: index, offset: source.len - len, len })?);
    Ok(())
}
