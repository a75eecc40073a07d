//! Telling a forked child from its parent without a system call on every look.
#![expect(unsafe_code, reason = "pthread_atfork and getpid have no safe wrapper in std")]

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

static GENERATION: AtomicU64 = AtomicU64::new(0);
static REGISTER: Once = Once::new();

/// How many forks lie between this process and the first one that asked. Threads, locks and pools of another generation
/// belong to a process that is not this one: locks may be held for ever and threads do not exist.
pub fn generation() -> u64 {
    REGISTER.call_once(|| {
        // SAFETY: the handler only adds to an atomic, which is async-signal-safe, and lives as long as the library,
        // which is never unloaded (Python does not dlclose extension modules).
        unsafe {
            libc::pthread_atfork(None, None, Some(on_fork_in_child));
        }
    });
    GENERATION.load(Ordering::Relaxed)
}

extern "C" fn on_fork_in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_sees_another_generation_and_the_parent_does_not() {
        let before = generation();
        // SAFETY: the child calls only `_exit` and an atomic load, both allowed after fork in a threaded process.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let changed = generation() == before + 1;
            // SAFETY: as above.
            unsafe { libc::_exit(if changed { 0 } else { 1 }) };
        }
        let mut status = -1;
        // SAFETY: `child` is our own child and `status` outlives the call.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!(status, 0);
        assert_eq!(generation(), before);
    }
}
