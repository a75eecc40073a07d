//! The store of the workers: a server for torch's `TCPStore` clients.
//!
//! `protocol` says what bytes mean, `keys` what they do, and `server` moves them: one thread, which waits for all connections
//! at once. Both of the former are pure. There is no authentication, because torch's clients know none: whoever can connect
//! can read and write, so the caller binds as narrow an address as the workers can reach.

mod connection;
mod keys;
mod protocol;
mod refusals;
mod server;
mod source;

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::thread::{self, JoinHandle};

use rustix::event::{EventfdFlags, eventfd};

pub use refusals::Refusals;
use server::Server;
pub use source::Doorkeeper;
use source::Source;

/// A running store. Dropping it closes its connections and its port.
///
/// ```
/// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let mut store = zenith_cluster::store::StoreServer::start(listener)?;
/// println!("MASTER_PORT={}", store.port());
/// store.renew()?; // For the next attempt: nobody is connected, and nothing is set.
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct StoreServer {
    source: Source,
    port: u16,
    refusals: Refusals,
    running: Option<Running>,
}

/// One namespace and its clients.
#[derive(Debug)]
struct Running {
    stop: OwnedFd,
    thread: JoinHandle<()>,
}

impl StoreServer {
    /// Serves on `listener`, which the caller has bound, from a thread named `zenith-store`.
    ///
    /// # Errors
    /// If the system gives no epoll, no thread or no descriptors.
    pub fn start(listener: TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        Self::serve(Source::Port(listener), port)
    }

    /// Serves the connections that are handed to it; it has no port of its own, and `port` is 0.
    ///
    /// # Errors
    /// As `start`.
    pub fn behind(doorkeeper: &Doorkeeper) -> io::Result<Self> {
        Self::serve(Source::Handed(doorkeeper.clone()), 0)
    }

    fn serve(source: Source, port: u16) -> io::Result<Self> {
        let refusals = Refusals::default();
        let running = Some(Running::start(&source, &refusals)?);
        Ok(Self { source, port, refusals, running })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Connections that were closed because of what they sent.
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Cuts all connections and forgets all keys; the port stays. When it returns, whoever connected before is gone, also
    /// who had not been accepted yet, and whoever connects from then on finds an empty store.
    ///
    /// # Errors
    /// As `start`. Then nothing is served, and connections wait until a later call succeeds.
    pub fn renew(&mut self) -> io::Result<()> {
        self.stop();
        server::refuse_waiting(&self.source);
        self.running = Some(Running::start(&self.source, &self.refusals)?);
        Ok(())
    }

    fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            // The counter of an eventfd has room for one more, so this cannot fail.
            let _ = rustix::io::write(&running.stop, &1u64.to_ne_bytes());
            let _ = running.thread.join();
        }
    }
}

impl Drop for StoreServer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Running {
    fn start(source: &Source, refusals: &Refusals) -> io::Result<Self> {
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let server = Server::new(source.try_clone()?, &stop, refusals.clone())?;
        let thread = thread::Builder::new().name("zenith-store".to_owned()).spawn(move || server.run())?;
        Ok(Self { stop, thread })
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
