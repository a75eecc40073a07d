//! One connection of the host: who speaks, what was said, what is still to be sent.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use serde::Serialize;

use super::handshake::{Answer, Hello, Join, Run};
use super::messages::Report;
use super::wire::{FRAME_BYTES_MAX, Frames, GREETING_BYTES_MAX, MAGIC, Seal};

/// To say who one is (RDZV-4), and to take a last message.
const PATIENCE: Duration = Duration::from_secs(3);
const READ_BYTES: usize = 64 << 10;
/// A node that takes nothing for so long does not live.
const UNSENT_BYTES_MAX: usize = 4 << 20;
/// What torch's store clients send first.
const STORE_CLIENT: u8 = 0;

#[derive(Debug)]
pub(super) struct Peer {
    stream: TcpStream,
    pub(super) address: SocketAddr,
    deadline: Option<Instant>,
    frames: Frames,
    seal: Seal,
    stage: Stage,
    unsent: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Not a byte has come.
    Unknown,
    /// Its first byte is not a store client's.
    Beginning,
    /// It began as our nodes do.
    Greeting,
    Challenged,
    Member,
    /// It gets what is unsent, and is not listened to.
    Leaving,
}

#[derive(Debug)]
pub(super) enum Said {
    Join(Join),
    Report(Report),
}

/// Why a connection ends.
#[derive(Debug)]
pub(super) enum End {
    Gone,
    /// It is a client of a store.
    Store,
    /// It is none of ours.
    Stranger(String),
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

impl Peer {
    pub(super) fn new(stream: TcpStream, address: SocketAddr, now: Instant) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let deadline = Some(now + PATIENCE);
        let (frames, seal, unsent) = (Frames::default(), Seal::default(), Vec::new());
        Ok(Self { stream, address, deadline, frames, seal, stage: Stage::Unknown, unsent })
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(super) fn into_stream(self) -> TcpStream {
        self.stream
    }

    pub(super) fn interest(&self) -> PollFlags {
        if self.unsent.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT }
    }

    pub(super) fn is_member(&self) -> bool {
        self.stage == Stage::Member
    }

    /// Whether it has used up its time.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| now >= deadline)
    }

    pub(super) fn is_known(&self) -> bool {
        self.deadline.is_none()
    }

    pub(super) fn on_readable(&mut self, run: &Run, said: &mut Vec<Said>) -> Result<(), End> {
        if self.stage == Stage::Unknown {
            let mut first = [0];
            match self.stream.peek(&mut first) {
                Ok(0) => return Err(End::Gone),
                Ok(_) if first[0] == STORE_CLIENT => return Err(End::Store),
                Ok(_) => self.stage = Stage::Beginning,
                Err(error) if is_passing(&error) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        let mut bytes = [0; READ_BYTES];
        let count = match self.stream.read(&mut bytes) {
            Ok(0) => return Err(End::Gone),
            Ok(count) => count,
            Err(error) if is_passing(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if self.stage != Stage::Leaving {
            self.frames.push(bytes.get(..count).unwrap_or_default());
            self.understand(run, said).map_err(End::Stranger)?;
        }
        Ok(())
    }

    fn understand(&mut self, run: &Run, said: &mut Vec<Said>) -> Result<(), String> {
        if self.stage == Stage::Beginning {
            match self.frames.take(MAGIC.len()) {
                None => return Ok(()),
                Some(magic) if magic == MAGIC => self.stage = Stage::Greeting,
                Some(_) => return Err("it does not speak as zenith-run does".into()),
            }
        }
        let limit = if self.stage == Stage::Member { FRAME_BYTES_MAX } else { GREETING_BYTES_MAX };
        while let Some(body) = self.frames.next(limit).map_err(|error| error.to_string())? {
            match self.stage {
                Stage::Greeting => {
                    let hello: Hello = Seal::default().open(&body).map_err(|error| error.to_string())?;
                    match run.answer(&hello) {
                        Ok((answer, seal)) => {
                            self.unsent.extend(Seal::default().frame(&answer));
                            self.seal = seal;
                            self.stage = Stage::Challenged;
                        }
                        Err(why) => {
                            self.unsent.extend(Seal::default().frame(&Answer::Refused(why)));
                            self.stage = Stage::Leaving;
                            return Ok(());
                        }
                    }
                }
                Stage::Challenged => {
                    said.push(Said::Join(self.seal.open(&body).map_err(|error| error.to_string())?));
                    self.stage = Stage::Member;
                    self.deadline = None;
                }
                Stage::Member => said.push(Said::Report(self.seal.open(&body).map_err(|error| error.to_string())?)),
                Stage::Unknown | Stage::Beginning | Stage::Leaving => return Ok(()),
            }
        }
        Ok(())
    }

    pub(super) fn send(&mut self, message: &impl Serialize) -> Result<(), End> {
        let frame = self.seal.frame(message);
        if self.unsent.len() + frame.len() > UNSENT_BYTES_MAX {
            return Err(End::Gone);
        }
        self.unsent.extend(frame);
        self.flush()
    }

    pub(super) fn flush(&mut self) -> Result<(), End> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(0) => return Err(End::Gone),
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_passing(&error) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        if self.stage == Stage::Leaving {
            // It is closed when the other side has read this: to close with unread bytes would take back what was sent.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        Ok(())
    }

    /// Is not listened to from now on.
    pub(super) fn leave(&mut self, now: Instant) -> Result<(), End> {
        self.stage = Stage::Leaving;
        self.deadline = Some(now + PATIENCE);
        self.flush()
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
