//! What a rank does to itself, between fork and exec.
//!
//! PLACE-1: masks are arrays of whole words that outlive the call, and their size is given in bytes (`sched_setaffinity`) or bits
//! (`set_mempolicy`); the kernel copies them and keeps no pointer.

#![expect(unsafe_code, reason = "rustix ends at 1024 CPUs and has no memory policies")]

use rustix::io::Errno;

use super::CpuSet;
use crate::worker::Binding;

const MPOL_PREFERRED: libc::c_int = 1;
/// No policy has this number.
const MPOL_NONE: libc::c_int = 0x7fff;
const WORD_BITS: usize = libc::c_ulong::BITS as usize;

/// Binds the calling thread, and what it starts from now on.
pub(crate) fn apply(binding: &Binding) -> Result<(), Errno> {
    let cpus = mask(&binding.cpus);
    // SAFETY: PLACE-1.
    done(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(&cpus[..]), cpus.as_ptr()) })?;
    let Some(node) = binding.memory_node else { return Ok(()) };
    match set_policy(MPOL_PREFERRED, &mask(&[node].into_iter().collect())) {
        // The launcher has asked before; who forbids it meanwhile costs speed and not the run.
        Err(Errno::PERM | Errno::NOSYS) => Ok(()),
        other => other,
    }
}

/// Whether this process may set memory policies. Asked by setting none that exists: that is refused as wrong where policies
/// are allowed, and as forbidden where they are not.
pub(crate) fn may_prefer_memory() -> bool {
    set_policy(MPOL_NONE, &[0]) == Err(Errno::INVAL)
}

fn set_policy(policy: libc::c_int, nodes: &[libc::c_ulong]) -> Result<(), Errno> {
    // The kernel reads one bit less than it is told.
    let bits = nodes.len() * WORD_BITS + 1;
    // SAFETY: PLACE-1.
    done(unsafe { libc::syscall(libc::SYS_set_mempolicy, policy, nodes.as_ptr(), bits) })
}

fn done(result: libc::c_long) -> Result<(), Errno> {
    if result >= 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL))
}

fn mask(numbers: &CpuSet) -> Vec<libc::c_ulong> {
    let mut words = vec![0; numbers.last().unwrap_or(0) as usize / WORD_BITS + 1];
    for number in numbers.iter() {
        words[number as usize / WORD_BITS] |= 1 << (number as usize % WORD_BITS);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_have_a_word_for_every_64_cpus() {
        assert_eq!(mask(&CpuSet::parse("0,2,63").expect("a list")), [1 | 4 | 1 << 63]);
        assert_eq!(mask(&CpuSet::parse("64,130").expect("a list")), [0, 1, 4]);
    }

    #[test]
    fn a_thread_is_bound_and_prefers_a_node() {
        // In a thread of its own: others keep what they have.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let status = || std::fs::read_to_string("/proc/thread-self/status").expect("proc");
                let allowed = |status: &str| {
                    status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).and_then(CpuSet::parse)
                };
                let last = allowed(&status()).and_then(|cpus| cpus.last()).expect("a CPU");
                let cpus: CpuSet = [last].into_iter().collect();
                let memory_node = may_prefer_memory().then_some(0);
                apply(&Binding { cpus: cpus.clone(), memory_node }).expect("bound");
                assert_eq!(allowed(&status()), Some(cpus));
                if memory_node.is_some() {
                    let maps = std::fs::read_to_string("/proc/thread-self/numa_maps").unwrap_or_default();
                    assert!(maps.is_empty() || maps.contains("prefer"), "{maps}");
                }
            });
        });
    }

    #[test]
    fn a_cpu_that_does_not_exist_is_an_error() {
        let binding = Binding { cpus: CpuSet::parse("8191").expect("a list"), memory_node: None };
        assert_eq!(apply(&binding), Err(Errno::INVAL));
    }
}
