//! The right to read a chunk, and what becomes of it in a forked child.
//!
//! A child inherits the tensors of its parent, and must find in them what was there at the fork: but their memory is shared,
//! and the parent goes on to drop them and the worker to reuse it. So around a fork every leased chunk is counted once
//! more, the child puts private memory with the same content in its place, and takes that count back. A parent that knows
//! when its child ends keeps that count itself until then (`lend`), and the child makes no copy.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, Once, PoisonError};

use super::mapping::Mapping;
use crate::fork;

/// A chunk of an arena with its content; gives up its count when dropped, on any thread.
#[derive(Debug)]
pub struct Lease {
    mapping: Arc<Mapping>,
    chunk: u32,
    start: NonNull<u8>,
    bytes: usize,
    /// Whether the count is this lease's to give up.
    is_counted: bool,
}

// SAFETY: a lease is memory that nobody else writes as long as its count is held (ARENA-1).
unsafe impl Send for Lease {}
// SAFETY: reading needs no synchronisation, writing needs `&mut`.
unsafe impl Sync for Lease {}

impl Lease {
    /// Takes over one count of the chunk.
    pub(super) fn new(mapping: Arc<Mapping>, chunk: u32, offset: usize, bytes: usize) -> Self {
        watch_forks();
        let start = mapping.at(offset);
        let counter = std::ptr::from_ref(mapping.count(chunk)).addr();
        let mut held = held();
        let new = || Held { leases: 0, start: start.addr().get(), bytes: 0, chunk: (mapping.clone(), chunk) };
        let entry = held.entry(counter).or_insert_with(new);
        entry.leases += 1;
        entry.bytes = entry.bytes.max(bytes);
        drop(held);
        Self { mapping, chunk, start, bytes, is_counted: true }
    }

    pub(super) fn chunk(&self) -> u32 {
        self.chunk
    }

    /// Leaves the count to whoever receives the message about it.
    pub(super) fn into_message(mut self) {
        self.is_counted = false;
    }

    fn forget_held(&self) {
        let counter = std::ptr::from_ref(self.mapping.count(self.chunk)).addr();
        let mut held = held();
        if let Some(entry) = held.get_mut(&counter) {
            entry.leases -= 1;
            if entry.leases == 0 {
                held.remove(&counter);
            }
        }
    }
}

impl AsRef<[u8]> for Lease {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: inside the mapping and below the end of the file, initialised (a file is zeroed), held by `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }
}

impl AsMut<[u8]> for Lease {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self`.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.mapping.generation != fork::generation() {
            // The parent's lease. This process has a copy of its content, and no count.
            return;
        }
        self.forget_held();
        if self.is_counted {
            self.mapping.count(self.chunk).fetch_sub(1, Ordering::Release);
        }
    }
}

/// A chunk, by the mapping that has its count.
type Counted = (Arc<Mapping>, u32);

/// What this process leases of one chunk.
struct Held {
    leases: u32,
    start: usize,
    bytes: usize,
    chunk: Counted,
}

type HeldChunks = HashMap<usize, Held>;

/// By the address of the chunk's count.
static HELD: LazyLock<Mutex<HeldChunks>> = LazyLock::new(Mutex::default);

fn held() -> MutexGuard<'static, HeldChunks> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    /// From the moment before a fork to the moment after it: nobody drops a lease meanwhile.
    static FORKING: RefCell<Option<Forking>> = const { RefCell::new(None) };
    /// What children that are forked now are lent; `None`: they are to make copies.
    static LENDING: RefCell<Option<Vec<Counted>>> = const { RefCell::new(None) };
}

/// Chunks that a child may read in place, whatever becomes of the leases of its parent; dropped when the child has ended.
#[derive(Debug)]
pub struct Loan {
    chunks: Vec<Counted>,
    generation: u64,
}

impl Drop for Loan {
    fn drop(&mut self) {
        // A child inherits the loans of others, and their counts are not its own.
        if self.generation == fork::generation() {
            for (mapping, chunk) in &self.chunks {
                mapping.count(*chunk).fetch_sub(1, Ordering::Release);
            }
        }
    }
}

/// Runs `start`, which forks a child; what this process has leased is lent to it.
pub fn lend<T>(start: impl FnOnce() -> T) -> (T, Loan) {
    let before = LENDING.replace(Some(Vec::new()));
    let started = start();
    let chunks = LENDING.replace(before).unwrap_or_default();
    (started, Loan { chunks, generation: fork::generation() })
}

struct Forking {
    held: MutexGuard<'static, HeldChunks>,
    /// Whole pages with leased chunks.
    pages: Vec<Range<usize>>,
}

fn watch_forks() {
    static REGISTER: Once = Once::new();
    REGISTER.call_once(|| {
        // The generation's own handler comes first, so that it is known in the child when ours runs.
        fork::generation();
        // SAFETY: the handlers live as long as the library, which is never unloaded.
        unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork_in_parent), Some(after_fork_in_child)) };
    });
}

fn counter(address: usize) -> &'static AtomicU32 {
    // SAFETY: the address of a count in a mapping that lives, because the chunk is in `HELD` and so leased.
    unsafe { &*std::ptr::with_exposed_provenance::<AtomicU32>(address) }
}

extern "C" fn before_fork() {
    let held = held();
    let page = page_size();
    let mut pages: Vec<Range<usize>> = Vec::with_capacity(held.len());
    let mut lent = LENDING.take();
    for (&address, chunk) in held.iter() {
        counter(address).fetch_add(1, Ordering::Relaxed);
        if let Some(lent) = &mut lent {
            lent.push(chunk.chunk.clone());
            continue;
        }
        pages.push(chunk.start / page * page..(chunk.start + chunk.bytes).next_multiple_of(page));
    }
    pages.sort_unstable_by_key(|range| range.start);
    pages.dedup_by(|next, last| {
        let touches = next.start <= last.end;
        if touches {
            last.end = last.end.max(next.end);
        }
        touches
    });
    LENDING.set(lent);
    FORKING.set(Some(Forking { held, pages }));
}

extern "C" fn after_fork_in_parent() {
    // The child gives the counts back when it has its copy.
    FORKING.set(None);
}

extern "C" fn after_fork_in_child() {
    let Some(Forking { mut held, pages }) = FORKING.take() else { return };
    if LENDING.take().is_some() {
        // What is lent stays in the list: children of this process make copies of it.
        return;
    }
    if pages.into_iter().all(make_private) {
        for &address in held.keys() {
            counter(address).fetch_sub(1, Ordering::Release);
        }
    }
    // Without memory for a copy the counts stay: those chunks are lost to the worker, and right in the child.
    held.clear();
}

/// Puts private memory with the same content in the place of shared pages.
fn make_private(pages: Range<usize>) -> bool {
    let bytes = pages.len();
    if bytes == 0 {
        return true;
    }
    let place = std::ptr::with_exposed_provenance_mut::<libc::c_void>(pages.start);
    // SAFETY: a new private mapping is filled from pages that this process has mapped and that lie below the end of the
    // file (pages of chunks), and moved over them as a whole. Only this thread exists.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let copy = libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        if copy == libc::MAP_FAILED {
            return false;
        }
        std::ptr::copy_nonoverlapping(place.cast::<u8>().cast_const(), copy.cast::<u8>(), bytes);
        libc::mremap(copy, bytes, bytes, libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED, place) != libc::MAP_FAILED
    }
}

fn page_size() -> usize {
    // SAFETY: a question with no preconditions.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}
