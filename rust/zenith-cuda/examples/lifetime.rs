//! The lifetime trap on a real device: copies on a stream of our own go on while their source is dropped and its pool asked for
//! more. `cargo run -p zenith-cuda --example lifetime`; the built program needs nothing but a driver, and says so where there
//! is none.
//! EXAMPLE-1: handles come from the driver and live until the end; every range that is copied is as long as it is said to be.
#![expect(unsafe_code, reason = "copies by the driver API, which is C")]
#![expect(clippy::expect_used, reason = "an example may panic")]

use std::ptr;

use cudarc::driver::sys;
use zenith_cuda::{CudaDriver, Device, PinnedMemory};
use zenith_data::memory::BatchMemory;

const BYTES: usize = 64 << 20;
/// Together they take some tens of milliseconds.
const COPIES: usize = 30;
const POISON: u8 = 0xEE;

fn main() {
    let driver = match CudaDriver::open() {
        Ok(driver) => driver,
        Err(error) => return println!("nothing to show: {error}"),
    };
    let memory = PinnedMemory::new(driver, Device(0), 8 * BYTES);
    let mut slab = memory.slab(BYTES).expect("memory");
    assert!(slab.is_pinned(), "not pinned: {:?}", memory.usage());
    let sent = (0..199).cycle().take(BYTES).collect::<Vec<u8>>();
    slab.as_mut().copy_from_slice(&sent);

    let target = target();
    for _ in 0..COPIES {
        // SAFETY: EXAMPLE-1: the slab has `BYTES` bytes, and so has the target. Whether the source may be dropped before the
        // copy is done is what this program examines.
        let code =
            unsafe { sys::cuMemcpyHtoDAsync_v2(target.memory, slab.as_ref().as_ptr().cast(), BYTES, target.stream) };
        code.result().expect("cuMemcpyHtoDAsync");
    }
    drop(slab);
    memory.collect();
    let waited = memory.usage().idle_bytes == 0;
    for _ in 0..4 {
        memory.slab(BYTES).expect("memory").as_mut().fill(POISON);
        memory.collect();
    }
    // SAFETY: EXAMPLE-1.
    unsafe { sys::cuStreamSynchronize(target.stream) }.result().expect("cuStreamSynchronize");
    let mut arrived = vec![0u8; BYTES];
    // SAFETY: EXAMPLE-1: both ranges have `BYTES` bytes.
    unsafe { sys::cuMemcpyDtoH_v2(arrived.as_mut_ptr().cast(), target.memory, BYTES) }.result().expect("cuMemcpyDtoH");
    let unchanged = arrived == sent;
    memory.collect();
    println!("the slab was held while copies were under way: {waited}");
    println!("what arrived is what was sent: {unchanged}");
    println!("{:?}", memory.usage());
    assert!(waited && unchanged);
}

struct Target {
    stream: sys::CUstream,
    memory: sys::CUdeviceptr,
}

/// A stream that the default stream does not wait for, and memory on device 0, whose context becomes this thread's.
fn target() -> Target {
    let (mut context, mut stream, mut memory) = (ptr::null_mut(), ptr::null_mut(), 0);
    let flags = sys::CUstream_flags_enum::CU_STREAM_NON_BLOCKING as u32;
    // SAFETY: EXAMPLE-1: the driver was opened and initialised; all results outlive their calls.
    unsafe {
        sys::cuDevicePrimaryCtxRetain(&raw mut context, 0).result().expect("cuDevicePrimaryCtxRetain");
        sys::cuCtxPushCurrent_v2(context).result().expect("cuCtxPushCurrent");
        sys::cuStreamCreate(&raw mut stream, flags).result().expect("cuStreamCreate");
        sys::cuMemAlloc_v2(&raw mut memory, BYTES).result().expect("cuMemAlloc");
    }
    Target { stream, memory }
}
