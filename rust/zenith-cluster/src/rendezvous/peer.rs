//! One connection of the host: who speaks, what was said, what is still to be sent.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use serde::Serialize;

use super::handshake::{Challenge, Hello, Join, Request, Run};
use super::link::Link;
use super::messages::Report;
use super::standing::Ask;
use super::tls;
use super::wire::{FRAME_BYTES_MAX, Frames, GREETING_BYTES_MAX, MAGIC, Seal};

/// To say who one is (RDZV-4), and to take a last message.
const PATIENCE: Duration = Duration::from_secs(3);
/// A node that takes nothing for so long does not live.
const UNSENT_BYTES_MAX: usize = 4 << 20;
/// What torch's store clients send first.
const STORE_CLIENT: u8 = 0;
/// A handshake of TLS begins so.
const TLS_CLIENT: u8 = 22;

#[derive(Debug)]
pub(super) struct Peer {
    link: Link,
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
    /// It has asked, and gets one answer.
    Asking,
    /// It gets what is unsent, and is not listened to.
    Leaving,
}

#[derive(Debug)]
pub(super) enum Said {
    Join(Join),
    Ask(Ask),
    Report(Report),
    /// What it says is no TLS that is taken.
    Nonsense(String),
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
        let link = Link::plain(stream);
        Ok(Self { link, address, deadline, frames, seal, stage: Stage::Unknown, unsent })
    }

    pub(super) fn stream(&self) -> &TcpStream {
        self.link.stream()
    }

    pub(super) fn into_stream(self) -> TcpStream {
        self.link.into_stream()
    }

    pub(super) fn interest(&self) -> PollFlags {
        if self.unsent.is_empty() && !self.link.wants_write() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT }
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
            match self.link.stream().peek(&mut first) {
                Ok(0) => return Err(End::Gone),
                Ok(_) => self.begin(first[0], run)?,
                Err(error) if is_passing(&error) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        let mut frames = Frames::default();
        let is_open = match self.link.receive(if self.is_heard() { &mut self.frames } else { &mut frames }) {
            Ok(is_open) => is_open,
            Err(error) if is_passing(&error) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::InvalidData && self.is_heard() => {
                // The other side is told what is wrong; it is closed once it has read that.
                said.push(Said::Nonsense(tls::explained(&error)));
                self.stage = Stage::Leaving;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        if self.is_heard() {
            self.understand(run, said).map_err(End::Stranger)?;
        }
        if is_open { Ok(()) } else { Err(End::Gone) }
    }

    fn is_heard(&self) -> bool {
        !matches!(self.stage, Stage::Leaving | Stage::Asking)
    }

    fn begin(&mut self, first: u8, run: &Run) -> Result<(), End> {
        match (first, &run.tls) {
            (STORE_CLIENT, _) => return Err(End::Store),
            (TLS_CLIENT, None) => {
                return Err(End::Stranger(
                    "it speaks TLS, and this node has no tls_cert; give all nodes the same".into(),
                ));
            }
            (TLS_CLIENT, Some(tls)) => self.link.secure(tls.host().map_err(|error| End::Stranger(error.to_string()))?),
            (_, Some(_)) if MAGIC.first() == Some(&first) => {
                let why =
                    "the host demands TLS, and this node has none; give it tls_cert, tls_key and tls_ca by --rdzv-conf";
                self.refuse(why.into());
                return Ok(());
            }
            (_, Some(_)) => return Err(End::Stranger("it does not speak TLS".into())),
            (_, None) => {}
        }
        self.stage = Stage::Beginning;
        Ok(())
    }

    /// It gets the reason, and is not listened to.
    fn refuse(&mut self, why: String) {
        self.unsent.extend(Seal::default().frame(&Challenge::Refused(why)));
        self.stage = Stage::Leaving;
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
                            self.refuse(why);
                            return Ok(());
                        }
                    }
                }
                Stage::Challenged => match self.seal.open(&body).map_err(|error| error.to_string())? {
                    Request::Join(join) => {
                        said.push(Said::Join(join));
                        self.stage = Stage::Member;
                        self.deadline = None;
                    }
                    Request::Ask(ask) => {
                        said.push(Said::Ask(ask));
                        self.stage = Stage::Asking;
                        return Ok(());
                    }
                },
                Stage::Member => said.push(Said::Report(self.seal.open(&body).map_err(|error| error.to_string())?)),
                Stage::Unknown | Stage::Beginning | Stage::Asking | Stage::Leaving => return Ok(()),
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
        match self.link.flush(&mut self.unsent) {
            Ok(()) => {}
            Err(error) if is_passing(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        if self.stage == Stage::Leaving {
            // It is closed when the other side has read this: to close with unread bytes would take back what was sent.
            self.link.finish();
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

#[cfg(test)]
#[path = "peer_tests.rs"]
mod tests;
