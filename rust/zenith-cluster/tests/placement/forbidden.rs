//! A launcher to which the system refuses memory policies, as it is in a container.
//! TEST-4: what runs between fork and exec makes system calls alone, on memory that lives until then.
#![expect(unsafe_code, reason = "filters are installed in a forked child")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Codes of the filter's language, of linux/bpf_common.h.
const LOAD_WORD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// Lets `command` get EPERM from `set_mempolicy`.
pub(crate) fn without_memory_policies(command: &mut Command) {
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let filter = [
        // The call's number comes first.
        step(LOAD_WORD, 0, 0, 0),
        step(JUMP_IF_EQUAL, 0, 1, libc::SYS_set_mempolicy as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        // SAFETY: TEST-4.
        let done = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
        };
        if done { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: TEST-4.
    unsafe { command.pre_exec(install) };
}
