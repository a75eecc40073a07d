//! How the operating system schedules the calling thread.
#![expect(unsafe_code, reason = "sched_setscheduler has no safe wrapper in std")]

/// Marks the calling thread as one that computes for others: waking it does not take the processor from whoever runs there
/// (`SCHED_BATCH`). Its share of the processors stays the same. A hint: where the system refuses, or where somebody chose
/// a policy for this thread already, nothing changes.
pub fn yield_to_others() {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: the call takes no pointer; 0 is the calling thread.
        if unsafe { libc::sched_getscheduler(0) } != libc::SCHED_OTHER {
            return;
        }
        // SAFETY: all zeros are a valid `sched_param`, whose only field that counts here is a priority of 0.
        let parameter: libc::sched_param = unsafe { std::mem::zeroed() };
        // SAFETY: THREAD-1: the call reads the parameter, which outlives it, and changes nothing but this thread's policy.
        let _refused = unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameter) };
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::yield_to_others;

    #[test]
    fn only_the_calling_thread_is_changed() {
        // SAFETY: the call takes no pointer; 0 is the calling thread.
        let policy = || unsafe { libc::sched_getscheduler(0) };
        let before = policy();
        let inside = std::thread::spawn(move || {
            yield_to_others();
            policy()
        });
        assert_eq!(inside.join().ok(), Some(libc::SCHED_BATCH));
        assert_eq!(policy(), before);
    }
}
