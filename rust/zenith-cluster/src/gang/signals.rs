//! Signal masks, `signalfd` and dispositions.
//!
//! SIGNAL-1: every pointer that a call is given is to a live value of the type that the call reads or writes, and none is kept.
//! SIGNAL-2: a descriptor that a call has just returned belongs to nobody else.

#![expect(unsafe_code, reason = "signal masks, signalfd and sigaction have no safe wrapper")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;

/// What a fault of this very process raises: blocked, it would be fatal in another way.
const FAULTS: [i32; 7] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGABRT, libc::SIGSYS];

/// The mask of before `hold`. A process has one start, and one mask that its ranks are to have.
static HELD: OnceLock<Mask> = OnceLock::new();

/// Keeps all signals waiting until a gang takes them, so that none meets a launcher that has not begun (TW-13).
pub(crate) fn hold() {
    if let Ok(before) = Mask::full().set() {
        let _ = HELD.set(before);
    }
}

/// Undoes `hold`, for a program that takes the launcher's place.
pub(crate) fn release() {
    if let Some(before) = HELD.get() {
        let _ = before.set();
    }
}

pub(super) fn held() -> Option<Mask> {
    HELD.get().copied()
}

/// The signals that a thread does not take.
#[derive(Clone, Copy)]
pub(super) struct Mask(libc::sigset_t);

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let held: Vec<i32> = (1..=64).filter(|&signal| self.holds(signal)).collect();
        f.debug_tuple("Mask").field(&held).finish()
    }
}

impl Mask {
    fn empty() -> Self {
        let mut set = MaybeUninit::uninit();
        // SAFETY: SIGNAL-1, and sigemptyset initialises all of the set.
        Self(unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            set.assume_init()
        })
    }

    pub(super) fn of(signals: &[i32]) -> Self {
        let mut mask = Self::empty();
        for &signal in signals {
            // SAFETY: SIGNAL-1; a number that is no signal is refused by an error and changes nothing.
            unsafe { libc::sigaddset(&raw mut mask.0, signal) };
        }
        mask
    }

    /// All that can be blocked without harm.
    pub(super) fn full() -> Self {
        let all: Vec<i32> = (1..=64).filter(|signal| !FAULTS.contains(signal)).collect();
        Self::of(&all)
    }

    pub(super) fn and(self, other: Self) -> Self {
        let both: Vec<i32> = (1..=64).filter(|&signal| self.holds(signal) || other.holds(signal)).collect();
        Self::of(&both)
    }

    fn holds(&self, signal: i32) -> bool {
        // SAFETY: SIGNAL-1.
        unsafe { libc::sigismember(&raw const self.0, signal) == 1 }
    }

    /// Makes it the mask of the calling thread and gives back the one before.
    pub(super) fn set(&self) -> io::Result<Self> {
        let mut before = Self::empty();
        // SAFETY: SIGNAL-1.
        let error = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, &raw mut before.0) };
        if error == 0 { Ok(before) } else { Err(io::Error::from_raw_os_error(error)) }
    }

    /// A descriptor from which these signals are read. They must be blocked in every thread.
    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        // SAFETY: SIGNAL-1.
        let fd = unsafe { libc::signalfd(-1, &raw const self.0, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: SIGNAL-2.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

/// Whether a signal can be waited for and sent on: a named one that neither faults nor is beyond a process's reach.
pub(super) fn is_usable(signal: i32) -> bool {
    rustix::process::Signal::from_named_raw(signal).is_some()
        && !FAULTS.contains(&signal)
        && ![libc::SIGKILL, libc::SIGSTOP, libc::SIGCHLD].contains(&signal)
}

/// The next signal that waits in a descriptor of `Mask::descriptor`.
pub(super) fn next(descriptor: BorrowedFd<'_>) -> io::Result<Option<i32>> {
    let mut info = MaybeUninit::<libc::signalfd_siginfo>::zeroed();
    let size = size_of::<libc::signalfd_siginfo>();
    // SAFETY: SIGNAL-1; the kernel writes at most `size` bytes.
    let read = unsafe { libc::read(descriptor.as_raw_fd(), info.as_mut_ptr().cast(), size) };
    if read < 0 {
        let error = io::Error::last_os_error();
        return match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
            _ => Err(error),
        };
    }
    // SAFETY: all bytes were zero, which the type allows, and the kernel wrote whole values over them.
    let info = unsafe { info.assume_init() };
    Ok(i32::try_from(info.ssi_signo).ok().filter(|&signal| signal > 0))
}

pub(super) fn is_ignored(signal: i32) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: SIGNAL-1; with no new action, sigaction only writes the present one.
    let known = unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) } == 0;
    // SAFETY: all zero is a valid action (the default one), and so is what the kernel wrote.
    known && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
}

/// Gives a signal its default disposition.
pub(super) fn reset(signal: i32) {
    // SAFETY: SIGNAL-1; the default disposition runs no code of this process.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}
