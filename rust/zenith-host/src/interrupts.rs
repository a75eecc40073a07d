//! Counts SIGINT, for threads that wait while the interpreter, whose handler only leaves a note for its main thread, cannot
//! look at its notes: the main thread is in a compiled program.
#![expect(unsafe_code, reason = "sigaction has no safe wrapper, and a handler calls the one it took the place of")]

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

static COUNT: AtomicU64 = AtomicU64::new(0);
/// The handler that ours took the place of, as an address, and whether it takes three arguments.
static CHAINED: AtomicUsize = AtomicUsize::new(0);
static TAKES_INFO: AtomicUsize = AtomicUsize::new(0);

/// Interrupts since the first call of `watch`.
pub fn count() -> u64 {
    COUNT.load(Ordering::SeqCst)
}

/// Puts the counting handler before the present one, which is then called as before. Costs one system call where it is there
/// already. `signal.signal` and notebooks set handlers anew, so this is called again and again. Where the signal is ignored or
/// ends the process nothing is changed.
pub fn watch() {
    let Some(present) = present() else { return };
    let handler = present.sa_sigaction;
    if [libc::SIG_DFL, libc::SIG_IGN, address()].contains(&handler) {
        return;
    }
    // INTERRUPT-1: what is chained is set before ours can run. The handlers of a process are few (the interpreter's own and its
    // wakeups), and a signal between these stores would find one of them or the other.
    TAKES_INFO.store(usize::from(present.sa_flags & libc::SA_SIGINFO != 0), Ordering::SeqCst);
    CHAINED.store(handler, Ordering::SeqCst);
    let mut ours = present;
    ours.sa_sigaction = address();
    ours.sa_flags |= libc::SA_SIGINFO;
    // SAFETY: INTERRUPT-1: the handler uses atomics and the chained handler only, and lives as long as the process, for the
    // library is never unloaded.
    unsafe { libc::sigaction(libc::SIGINT, &raw const ours, std::ptr::null_mut()) };
}

fn present() -> Option<libc::sigaction> {
    // SAFETY: INTERRUPT-1: all-zero bytes are a valid `sigaction`, which the call fills.
    let mut present: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: INTERRUPT-1: nothing is set, and `present` outlives the call.
    let status = unsafe { libc::sigaction(libc::SIGINT, std::ptr::null(), &raw mut present) };
    (status == 0).then_some(present)
}

fn address() -> usize {
    on_interrupt as *const () as usize
}

extern "C" fn on_interrupt(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    COUNT.fetch_add(1, Ordering::SeqCst);
    let chained = CHAINED.load(Ordering::SeqCst);
    if chained == 0 {
        return;
    }
    if TAKES_INFO.load(Ordering::SeqCst) == 1 {
        type WithInfo = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
        // SAFETY: INTERRUPT-1: the kernel would have called this address in this way.
        let handler = unsafe { std::mem::transmute::<usize, WithInfo>(chained) };
        handler(signal, info, context);
    } else {
        // SAFETY: INTERRUPT-1: as above.
        let handler = unsafe { std::mem::transmute::<usize, extern "C" fn(libc::c_int)>(chained) };
        handler(signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static SEEN: AtomicU64 = AtomicU64::new(0);

    extern "C" fn seen(_: libc::c_int) {
        SEEN.fetch_add(1, Ordering::SeqCst);
    }

    fn set(handler: usize) {
        // SAFETY: INTERRUPT-1: zeroed but for the handler, which is a function of this test or a constant of the system.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler;
            libc::sigaction(libc::SIGINT, &raw const action, std::ptr::null_mut());
        }
    }

    #[test]
    fn an_interrupt_is_counted_and_handed_on() {
        set(libc::SIG_DFL);
        watch();
        assert_eq!(present().unwrap().sa_sigaction, libc::SIG_DFL, "what ends the process still does");
        set(seen as *const () as usize);
        for turn in 1..=3 {
            watch();
            let before = count();
            // SAFETY: the process handles the signal.
            unsafe { libc::raise(libc::SIGINT) };
            assert_eq!((count() - before, SEEN.load(Ordering::SeqCst)), (1, turn));
        }
        set(libc::SIG_DFL);
    }
}
