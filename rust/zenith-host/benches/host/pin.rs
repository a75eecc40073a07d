//! Threads on processors of their own: where the scheduler puts two that spin on one, a ring is measured at its whim.
//! BENCH-2: the kernel is told a set of processors, plain bits that it only reads.
#![expect(unsafe_code, reason = "the standard library does not pin threads")]

/// Keeps the calling thread, and what it starts, on a processor: 0 for consumers, 1 and up for producers, which share the
/// others. Where it may not, the thread stays where it is.
pub(crate) fn pin(index: usize) {
    // SAFETY: BENCH-2: asks for a number. (What the standard library says shrinks with the caller's own pinning.)
    let processors = usize::try_from(unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) }).unwrap_or(1);
    let processors = processors.min(libc::CPU_SETSIZE as usize);
    let processor = if index == 0 { 0 } else { 1 + (index - 1) % (processors - 1).max(1) };
    // SAFETY: BENCH-2: all zeros is an empty set, and `processor` is within its capacity.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(processor, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
    }
}
