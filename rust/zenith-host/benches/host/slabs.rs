//! Slabs from a pool against memory that is asked for and given back each time, a byte written on every page.
//! BENCH-1: memory is freed once, with the layout that it was allocated with, by the one owner that it has.
#![expect(unsafe_code, reason = "the aligned allocation that the pool competes with")]

use std::alloc::{Layout, alloc, dealloc};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Instant;

use zenith_host::slab::SLAB_ALIGNMENT;
use zenith_host::{Slab, SlabPool};

use crate::pin::pin;
use crate::queues::spin;
use crate::table;

const PAGE: usize = 4096;
/// As many slabs are on their way to the thread that drops them.
const ON_THE_WAY: usize = 4;

pub(crate) fn print() {
    for bytes in [64 << 10, 1 << 20, 8 << 20] {
        let (keeping, empty) = (SlabPool::new(16 * bytes), SlabPool::new(0));
        let times = (256 << 20) / bytes;
        let title = format!("{} KiB taken, written to and given back, ns", bytes >> 10);
        table::print(
            &title,
            &mut [
                ("pool, one thread", &mut || here(times, || slab(&keeping, bytes))),
                ("allocator, one thread", &mut || here(times, || Allocated::new(bytes))),
                ("pool that keeps nothing, one thread", &mut || here(times, || slab(&empty, bytes))),
                ("pool, dropped by another thread", &mut || across(times, || slab(&keeping, bytes))),
                ("allocator, dropped by another thread", &mut || across(times, || Allocated::new(bytes))),
            ],
        );
    }
}

fn slab(pool: &Arc<SlabPool>, bytes: usize) -> Slab {
    let mut slab = pool.slab(bytes).expect("memory");
    slab.as_mut().iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
    slab
}

/// Nanoseconds per piece when the thread that made it drops it.
fn here<T>(times: usize, make: impl Fn() -> T) -> f64 {
    let started = Instant::now();
    (0..times).for_each(|_| drop(make()));
    started.elapsed().as_nanos() as f64 / times as f64
}

/// The same when another thread does, as the consumer of tensors.
fn across<T: Send>(times: usize, make: impl Fn() -> T) -> f64 {
    let (mut sender, mut receiver) = rtrb::RingBuffer::new(ON_THE_WAY);
    let started = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            pin(1);
            (0..times).for_each(|_| drop(spin(|| receiver.pop().ok())));
        });
        for _ in 0..times {
            spin(|| (!sender.is_full()).then_some(()));
            assert!(sender.push(make()).is_ok(), "there was room");
        }
    });
    started.elapsed().as_nanos() as f64 / times as f64
}

struct Allocated {
    start: NonNull<u8>,
    layout: Layout,
}

impl Allocated {
    fn new(bytes: usize) -> Self {
        let layout = Layout::from_size_align(bytes, SLAB_ALIGNMENT).expect("a layout");
        // SAFETY: BENCH-1: the layout has a size.
        let start = NonNull::new(unsafe { alloc(layout) }).expect("memory");
        for offset in (0..bytes).step_by(PAGE) {
            // SAFETY: BENCH-1: `offset` lies in what was just allocated, which nobody else has.
            unsafe { start.add(offset).write_volatile(1) };
        }
        Self { start, layout }
    }
}

impl Drop for Allocated {
    fn drop(&mut self) {
        // SAFETY: BENCH-1: allocated with this layout and owned by `self` alone.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

// SAFETY: BENCH-1: the memory has one owner and no thread affinity.
unsafe impl Send for Allocated {}
