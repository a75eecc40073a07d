//! Connections that were closed because of what they sent, for those who wonder why a client failed.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::protocol::Violation;

/// How many there were, and the last of them. Clones show the same.
#[derive(Debug, Clone, Default)]
pub struct Refusals {
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    count: u64,
    last: Option<(Option<SocketAddr>, Violation)>,
}

impl Refusals {
    pub fn count(&self) -> u64 {
        self.read(|seen| seen.count)
    }

    /// Of the last one, where it came from and what was wrong.
    pub fn last(&self) -> Option<String> {
        self.read(|seen| {
            let (peer, violation) = seen.last.as_ref()?;
            let peer = peer.map_or("an unknown address".to_owned(), |address| address.to_string());
            Some(format!("store: connection from {peer} was closed: {violation}"))
        })
    }

    pub(super) fn add(&self, peer: Option<SocketAddr>, violation: Violation) {
        self.read(|seen| {
            seen.count += 1;
            seen.last = Some((peer, violation));
        });
    }

    fn read<T>(&self, with: impl FnOnce(&mut Seen) -> T) -> T {
        with(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
