//! What the two threads of a node share: the one that follows a host, and the one that answers others, as the host or not.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use super::standing::Standing;
use super::state::State;

#[derive(Debug)]
pub(super) struct Office {
    standing: Mutex<Standing>,
    /// A host that was just elected and does not serve yet.
    appointed: Mutex<Option<State>>,
    /// Can be read when there is one, or when this launcher goes.
    pub(super) bell: OwnedFd,
    is_leaving: Mutex<bool>,
}

impl Office {
    pub(super) fn new(standing: Standing) -> io::Result<Self> {
        Ok(Self {
            standing: Mutex::new(standing),
            appointed: Mutex::default(),
            bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            is_leaving: Mutex::default(),
        })
    }

    pub(super) fn standing(&self) -> MutexGuard<'_, Standing> {
        lock(&self.standing)
    }

    pub(super) fn appoint(&self, state: State) {
        *lock(&self.appointed) = Some(state);
        self.ring();
    }

    pub(super) fn appointed(&self) -> Option<State> {
        lock(&self.appointed).take()
    }

    pub(super) fn leave(&self) {
        *lock(&self.is_leaving) = true;
        self.ring();
    }

    pub(super) fn is_leaving(&self) -> bool {
        *lock(&self.is_leaving)
    }

    pub(super) fn silence(&self) {
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
    }

    fn ring(&self) {
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }
}

fn lock<Value>(mutex: &Mutex<Value>) -> MutexGuard<'_, Value> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
