//! The lifetime trap: a copy that was submitted is still reading when its source has been dropped and asked for again.
#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(unsafe_code, reason = "registers memory that the test itself keeps mapped, and forks")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use zenith_cuda::testing::{FakeDriver, Stream};
use zenith_cuda::{Contexts, Device, PinnedMemory, Quarantine, Registration};
use zenith_data::memory::BatchMemory;
use zenith_host::{Mapping, SlabPool};

const BYTES: usize = 1 << 20;
const POISON: u8 = 0xEE;

/// What a batch would hold, different for each.
fn fill(slab: &mut [u8], batch: usize) {
    for (index, byte) in slab.iter_mut().enumerate() {
        *byte = (batch * 31 + index % 199) as u8 & 0x7F;
    }
}

fn expected(batch: usize) -> Vec<u8> {
    let mut bytes = vec![0; BYTES];
    fill(&mut bytes, batch);
    bytes
}

/// The user's loop of `x.to("cuda", non_blocking=True); del x`: a batch is written, its copy submitted, and it is dropped.
fn send(driver: &FakeDriver, stream: Stream, memory: &PinnedMemory, batch: usize) -> zenith_cuda::testing::Copy {
    memory.on_batch_asked();
    let mut slab = memory.slab(BYTES).unwrap();
    assert!(slab.is_pinned());
    fill(slab.as_mut(), batch);
    driver.copy(stream, slab.as_ref())
}

/// Overwrites all memory that would be handed out now, as the next batches do.
fn poison(memory: &PinnedMemory) {
    memory.on_batch_asked();
    let slabs: Vec<_> = (0..8).map(|_| memory.slab(BYTES).unwrap()).collect();
    for mut slab in slabs {
        slab.as_mut().fill(POISON);
    }
}

#[test]
fn memory_that_is_reused_at_once_shows_the_trap() {
    let driver = FakeDriver::new(1);
    let (pool, contexts) = (SlabPool::new(2 * BYTES), Contexts::new(driver.clone()));
    let mut slab = pool.slab(BYTES).unwrap();
    fill(slab.as_mut(), 1);
    // SAFETY: the pool keeps the slab mapped, and the work is done before the registration goes.
    let registration = unsafe { Registration::new(&contexts, Device(0), slab.as_ptr(), BYTES) }.unwrap();
    let stream = driver.stream(Device(0));
    let copy = driver.copy(stream, slab.as_ref());
    drop(slab);
    pool.slab(BYTES).unwrap().as_mut().fill(POISON);
    let again = pool.slab(BYTES).unwrap();
    assert_eq!(again.as_ptr(), registration.range().0);
    driver.complete(stream, 1);
    assert_eq!(copy.arrived().unwrap(), vec![POISON; BYTES], "the control: the copy came too late");
}

#[test]
fn a_late_copy_reads_what_was_in_the_batch() {
    let driver = FakeDriver::new(2);
    let memory = PinnedMemory::new(driver.clone(), Device(0), 16 * BYTES);
    // Streams of the user's own, on both devices: nobody told the memory of them.
    let streams = [driver.stream(Device(0)), driver.stream(Device(0)), driver.stream(Device(1))];
    let copies: Vec<_> = (0..6).map(|batch| send(&driver, streams[batch % 3], &memory, batch)).collect();
    poison(&memory);
    for stream in [2, 0, 1] {
        driver.complete(streams[stream], 1);
        poison(&memory);
    }
    for stream in streams {
        driver.complete(stream, 1);
    }
    for (batch, copy) in copies.iter().enumerate() {
        assert!(copy.arrived().unwrap() == expected(batch), "batch {batch} arrived changed");
    }
    memory.collect();
    assert_eq!(memory.usage().idle_bytes, memory.usage().pinned_bytes);
}

#[test]
fn memory_is_recycled_while_copies_keep_up() {
    let driver = FakeDriver::new(1);
    let memory = PinnedMemory::new(driver.clone(), Device(0), 16 * BYTES);
    let stream = driver.stream(Device(0));
    for batch in 0..100 {
        let copy = send(&driver, stream, &memory, batch);
        driver.complete(stream, 1);
        assert!(copy.arrived().unwrap() == expected(batch));
    }
    assert!(memory.usage().pinned_bytes <= 2 * BYTES, "{:?}", memory.usage());
}

#[test]
fn copies_that_outlive_the_memory_read_what_was_in_the_batch() {
    let driver = FakeDriver::new(1);
    let memory = PinnedMemory::new(driver.clone(), Device(0), 4 * BYTES);
    let stream = driver.stream(Device(0));
    let copy = send(&driver, stream, &memory, 3);
    drop(memory);
    driver.complete(stream, 1);
    assert!(copy.arrived().unwrap() == expected(3), "unlocked or unmapped under the copy");
}

/// A shared-memory arena, as a worker process fills: a chunk may be written anew once its lease is dropped.
struct Lease(Arc<AtomicBool>);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn a_chunk_of_a_registered_arena_is_free_once_its_copy_is_done() {
    let driver = FakeDriver::new(1);
    let contexts = Contexts::new(driver.clone());
    let mut arena = Mapping::new(4 * BYTES).unwrap();
    // SAFETY: the arena is dropped after the registration, and no copy is left then.
    let registration = unsafe { Registration::new(&contexts, Device(0), arena.as_ptr(), arena.len()) }.unwrap();
    let leases = Quarantine::new(contexts);
    let stream = driver.stream(Device(0));
    let free = Arc::new(AtomicBool::new(false));
    fill(&mut arena.as_mut()[BYTES..2 * BYTES], 5);
    let copy = driver.copy(stream, &arena.as_ref()[BYTES..2 * BYTES]);
    leases.admit(Lease(free.clone()));
    drop(leases.collect());
    assert!(!free.load(Ordering::Acquire));
    driver.complete(stream, 1);
    drop(leases.collect());
    assert!(free.load(Ordering::Acquire));
    arena.as_mut().fill(POISON);
    assert!(copy.arrived().unwrap() == expected(5));
    drop(registration);
}

#[test]
fn a_forked_child_leaves_the_driver_and_the_memory_to_its_parent() {
    let driver = FakeDriver::new(1);
    let memory = PinnedMemory::new(driver.clone(), Device(0), 4 * BYTES);
    let slabs: Vec<_> = (0..3).map(|_| memory.slab(BYTES).unwrap()).collect();
    let [slab, idle, dropped] = <[_; 3]>::try_from(slabs).unwrap();
    drop(idle);
    memory.collect();
    drop(dropped);
    let before = driver.calls();
    // SAFETY: TEST-3: the child takes no lock that another thread may have had, and leaves by `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        drop(slab);
        memory.collect();
        let more = memory.slab(BYTES);
        let is_ordinary = more.is_ok_and(|slab| !slab.is_pinned());
        drop(memory);
        // SAFETY: as above.
        unsafe { libc::_exit(if is_ordinary && driver.calls() == before { 0 } else { 1 }) };
    }
    let mut status = -1;
    // SAFETY: `child` is our own child and `status` outlives the call.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(status, 0);
    drop(slab);
    memory.collect();
    assert_eq!(memory.usage().idle_bytes, 3 * BYTES);
}
