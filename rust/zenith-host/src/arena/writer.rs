//! The worker's side of an arena: where chunks come from.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::lease::Lease;
use super::mapping::Mapping;
use super::{CHUNKS_MAX, DATA_START, resize};
use crate::idle::capacity_for;

/// How many chunks of a size are looked at for one that is free. Consumers mostly drop what they had first, so the oldest
/// are looked at, and those still in use wait for the next round.
const LOOKS: usize = 8;
/// The file grows by at least this much.
const GROWTH: usize = 16 << 20;
/// Memory of idle chunks that is always kept.
const IDLE_KEPT: usize = 64 << 20;
/// Chunks below this size are not worth a call to give their memory back.
const PUNCHED_MIN: usize = 64 << 10;

struct Chunk {
    offset: usize,
    capacity: usize,
    /// Its memory was given back, and comes again when it is written.
    is_hollow: bool,
}

/// Hands out chunks. One per arena, in the worker.
pub struct Writer {
    mapping: Arc<Mapping>,
    file: OwnedFd,
    file_len: usize,
    end: usize,
    chunks: Vec<Chunk>,
    /// Chunks by capacity, those longest in use first.
    by_capacity: BTreeMap<usize, VecDeque<u32>>,
    by_offset: HashMap<usize, u32>,
    /// Bytes of chunks that are not hollow, and what they may come to before the idle ones among them are looked for.
    filled: usize,
    filled_max: usize,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Writer")
            .field("chunks", &self.chunks.len())
            .field("filled", &self.filled)
            .finish_non_exhaustive()
    }
}

impl Writer {
    /// Maps the arena of `file`.
    pub fn new(file: OwnedFd) -> std::io::Result<Self> {
        Ok(Self {
            mapping: Mapping::new(&file)?,
            file,
            file_len: DATA_START,
            end: DATA_START,
            chunks: Vec::new(),
            by_capacity: BTreeMap::new(),
            by_offset: HashMap::new(),
            filled: 0,
            filled_max: IDLE_KEPT,
        })
    }

    /// A chunk of at least `bytes` bytes with unspecified content; `None` when there is no room.
    pub fn allocate(&mut self, bytes: usize) -> Option<Lease> {
        let capacity = capacity_for(bytes);
        let chunk = match self.idle(capacity) {
            Some(chunk) => chunk,
            None => self.new_chunk(capacity)?,
        };
        let Chunk { offset, is_hollow, .. } = &mut self.chunks[chunk as usize];
        let offset = *offset;
        if std::mem::take(is_hollow) {
            self.filled += capacity;
        }
        self.mapping.count(chunk).store(1, Ordering::Relaxed);
        let lease = Lease::new(self.mapping.clone(), chunk, offset, bytes);
        if self.filled > self.filled_max {
            self.give_back_idle();
        }
        Some(lease)
    }

    /// Where the memory at `address` lies, if it is the beginning of a chunk: one more lease of it, ready to be sent.
    pub fn find(&self, address: *const u8, bytes: usize) -> Option<Lease> {
        let offset = self.mapping.offset_of(address)?;
        let chunk = *self.by_offset.get(&offset)?;
        (bytes <= self.chunks[chunk as usize].capacity).then(|| {
            self.mapping.count(chunk).fetch_add(1, Ordering::Relaxed);
            Lease::new(self.mapping.clone(), chunk, offset, bytes)
        })
    }

    /// Chunk and offset of a lease, for the message; its count goes with it.
    pub fn send(&self, lease: Lease) -> (u32, usize) {
        let place = (lease.chunk(), self.chunks[lease.chunk() as usize].offset);
        lease.into_message();
        place
    }

    /// Bytes that the arena holds, in use or idle.
    pub fn filled_bytes(&self) -> usize {
        self.filled
    }

    fn idle(&mut self, capacity: usize) -> Option<u32> {
        let queue = self.by_capacity.get_mut(&capacity)?;
        for _ in 0..LOOKS.min(queue.len()) {
            let chunk = queue.pop_front()?;
            queue.push_back(chunk);
            // Acquire: what the other process read is read before it is written again.
            if self.mapping.count(chunk).load(Ordering::Acquire) == 0 {
                return Some(chunk);
            }
        }
        None
    }

    fn new_chunk(&mut self, capacity: usize) -> Option<u32> {
        let (offset, end) = (self.end, self.end.checked_add(capacity)?);
        if self.chunks.len() == CHUNKS_MAX || end > self.mapping.len() {
            return None;
        }
        if end > self.file_len {
            let wanted = end.max(self.file_len + GROWTH).min(self.mapping.len());
            resize(&self.file, wanted).ok()?;
            self.file_len = wanted;
        }
        let chunk = u32::try_from(self.chunks.len()).ok()?;
        self.end = end;
        self.filled += capacity;
        self.chunks.push(Chunk { offset, capacity, is_hollow: false });
        self.by_capacity.entry(capacity).or_default().push_back(chunk);
        self.by_offset.insert(offset, chunk);
        Some(chunk)
    }

    /// Gives the memory of idle chunks back to the system: sizes that came once are not kept for ever.
    fn give_back_idle(&mut self) {
        for (index, chunk) in self.chunks.iter_mut().enumerate() {
            let is_idle = self.mapping.count(index as u32).load(Ordering::Acquire) == 0;
            if is_idle && !chunk.is_hollow && chunk.capacity >= PUNCHED_MIN {
                let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
                // SAFETY: an open file of our own; nobody reads the chunk (its count is 0). Other chunks' parts of its
                // first and last page are left alone by the kernel.
                let punched = unsafe {
                    libc::fallocate(
                        self.file.as_raw_fd(),
                        mode,
                        chunk.offset as libc::off_t,
                        chunk.capacity as libc::off_t,
                    )
                };
                if punched == 0 {
                    chunk.is_hollow = true;
                    self.filled -= chunk.capacity;
                }
            }
        }
        self.filled_max = (2 * self.filled).max(IDLE_KEPT);
    }
}
