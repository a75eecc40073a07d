//! One client: its socket, the bytes that were read and not understood yet, and those that it has not taken yet.
//!
//! CONNECTION-1: a client that does not read its answers is not served further once `UNSENT_BYTES_MAX` of them wait, so that
//! they never exceed that and one answer, and their buffer twice as much. CONNECTION-2: an idle connection holds no buffer larger than `KEPT_BYTES_MAX`.

use std::collections::VecDeque;
use std::net::TcpStream;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::SendFlags;

use super::keys::{Answers, Connection, Keys};
use super::protocol::{Decoder, Violation};

/// One read takes at least this, if it is there.
const READ_BYTES: usize = 64 << 10;
/// How often one connection is read before the others have their turn.
const READS_PER_TURN: usize = 4;
const UNSENT_BYTES_MAX: usize = 1 << 20;
const KEPT_BYTES_MAX: usize = 4 << 10;

#[derive(Debug)]
pub(super) struct Client {
    socket: TcpStream,
    decoder: Decoder,
    /// The start of a request whose rest has not arrived, or what is served when answers were taken.
    input: Vec<u8>,
    output: Vec<u8>,
    /// So many bytes of `output` are sent.
    sent: usize,
    /// Requests wait in `input` because of CONNECTION-1.
    held: bool,
    /// What epoll was last told to watch; at first, to read.
    watched: EventFlags,
}

/// Why a connection ends.
#[derive(Debug)]
pub(super) enum End {
    /// The peer closed it, or the network did.
    Gone,
    Refused(Violation),
}

/// Where the bytes to be served are: what was kept, or what was read when nothing was.
#[derive(Debug, Clone, Copy)]
enum Source {
    Scratch,
    Input,
}

enum Read {
    /// `full` if there may be more.
    Some {
        full: bool,
    },
    End,
}

/// All that serving a connection needs besides it.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) keys: Keys,
    pub(super) released: VecDeque<Connection>,
    /// What is read comes here first, for all connections.
    pub(super) scratch: Vec<u8>,
}

impl Client {
    pub(super) fn new(socket: TcpStream) -> Self {
        Self {
            socket,
            decoder: Decoder::default(),
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            held: false,
            watched: EventFlags::IN,
        }
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Reads what has arrived, serves it, and sends the answers in one piece.
    pub(super) fn on_readable(&mut self, id: Connection, store: &mut Store) -> Result<(), End> {
        for _ in 0..READS_PER_TURN {
            if self.held {
                break;
            }
            store.scratch.clear();
            let source = if self.input.is_empty() { Source::Scratch } else { Source::Input };
            let target = match source {
                Source::Scratch => &mut store.scratch,
                Source::Input => &mut self.input,
            };
            let full = match read(&self.socket, target) {
                Ok(Read::Some { full }) => full,
                Ok(Read::End) => return Err(End::Gone),
                Err(Errno::AGAIN | Errno::INTR) => break,
                Err(_) => return Err(End::Gone),
            };
            self.serve(id, store, source)?;
            if !full {
                break;
            }
        }
        self.send(id, store)
    }

    /// The peer took some answers: sends more of them, and serves what was held back meanwhile.
    pub(super) fn on_writable(&mut self, id: Connection, store: &mut Store) -> Result<(), End> {
        self.send(id, store)
    }

    /// Sends that the waiting of this connection is over.
    pub(super) fn release(&mut self, id: Connection, store: &mut Store) -> Result<(), End> {
        self.output.push(super::keys::STOP_WAITING);
        self.send(id, store)
    }

    /// What epoll should watch now, if that has changed.
    pub(super) fn interest(&mut self) -> Option<EventFlags> {
        let reads = if self.held { EventFlags::empty() } else { EventFlags::IN };
        let writes = if self.output.is_empty() { EventFlags::empty() } else { EventFlags::OUT };
        let interest = reads | writes;
        (interest != std::mem::replace(&mut self.watched, interest)).then_some(interest)
    }

    /// Serves all complete requests, as long as the peer takes the answers.
    fn serve(&mut self, id: Connection, store: &mut Store, source: Source) -> Result<(), End> {
        let input = std::mem::take(&mut self.input);
        let all = match source {
            Source::Scratch => &store.scratch[..],
            Source::Input => &input[..],
        };
        let mut rest = all;
        let mut answers = Answers { from: id, own: &mut self.output, released: &mut store.released };
        self.held = loop {
            if answers.own.len() - self.sent >= UNSENT_BYTES_MAX {
                break !rest.is_empty();
            }
            let Some(request) = self.decoder.next(&mut rest).map_err(End::Refused)? else { break false };
            store.keys.serve(request, &mut answers).map_err(End::Refused)?;
        };
        let served = all.len() - rest.len();
        match source {
            Source::Scratch => self.input = rest.to_vec(),
            Source::Input => {
                self.input = input;
                self.input.drain(..served);
                if self.input.is_empty() {
                    self.input = Vec::new();
                } else if served > 0 {
                    self.input.shrink_to(2 * READ_BYTES);
                }
            }
        }
        Ok(())
    }

    /// What a refused connection is still owed, if the system takes it at once.
    pub(super) fn send_last(&mut self) {
        let _ = rustix::net::send(&self.socket, &self.output[self.sent..], SendFlags::NOSIGNAL);
    }

    /// A peer may always be behind and never stand still. What it took goes when it is most of the buffer, so that each
    /// byte is moved once at most.
    fn drop_sent(&mut self) {
        if self.sent > self.output.len() / 2 {
            self.output.drain(..self.sent);
            self.sent = 0;
        }
    }

    fn send(&mut self, id: Connection, store: &mut Store) -> Result<(), End> {
        loop {
            while self.sent < self.output.len() {
                match rustix::net::send(&self.socket, &self.output[self.sent..], SendFlags::NOSIGNAL) {
                    Ok(bytes) => self.sent += bytes,
                    Err(Errno::AGAIN) => {
                        self.drop_sent();
                        return Ok(());
                    }
                    Err(Errno::INTR) => {}
                    Err(_) => return Err(End::Gone),
                }
            }
            self.sent = 0;
            self.output.clear();
            if self.output.capacity() > KEPT_BYTES_MAX {
                self.output = Vec::new();
            }
            if !self.held {
                return Ok(());
            }
            self.serve(id, store, Source::Input)?;
        }
    }
}

/// Adds to `target` what one read gives. Its memory grows with what arrived, not with what was announced.
fn read(socket: &TcpStream, target: &mut Vec<u8>) -> Result<Read, Errno> {
    target.reserve(READ_BYTES);
    let room = target.capacity() - target.len();
    match rustix::io::read(socket, spare_capacity(target))? {
        0 => Ok(Read::End),
        bytes => Ok(Read::Some { full: bytes == room }),
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
