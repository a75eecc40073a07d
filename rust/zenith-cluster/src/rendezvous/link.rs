//! A connection's bytes, as they are or through TLS.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use rustix::net::RecvFlags;
use rustls::Connection;

use super::wire::Frames;

const READ_BYTES: usize = 64 << 10;
/// What TLS is given at a time, so that little of it waits there.
const CHUNK_BYTES: usize = 16 << 10;

#[derive(Debug)]
pub(super) struct Link {
    stream: TcpStream,
    tls: Option<Box<Connection>>,
}

impl Link {
    pub(super) fn plain(stream: TcpStream) -> Self {
        Self { stream, tls: None }
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(super) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// All that follows is TLS.
    pub(super) fn secure(&mut self, tls: impl Into<Connection>) {
        self.tls = Some(Box::new(tls.into()));
    }

    /// What has come, without waiting for more. `false` at the end.
    pub(super) fn receive(&mut self, frames: &mut Frames) -> io::Result<bool> {
        let mut bytes = [0; READ_BYTES];
        let Some(tls) = &mut self.tls else {
            let count = Now(&self.stream).read(&mut bytes)?;
            frames.push(bytes.get(..count).unwrap_or_default());
            return Ok(count > 0);
        };
        if tls.read_tls(&mut Now(&self.stream))? == 0 {
            return Ok(false);
        }
        let state = tls.process_new_packets();
        // Answers of the handshake, or the reason why there is none; what does not fit goes with `flush`.
        while tls.wants_write() && tls.write_tls(&mut self.stream).is_ok() {}
        let state = state.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        let mut left = state.plaintext_bytes_to_read();
        while left > 0 {
            let count = tls.reader().read(&mut bytes)?;
            frames.push(bytes.get(..count).unwrap_or_default());
            left = left.saturating_sub(count.max(1));
        }
        Ok(!state.peer_has_closed())
    }

    /// Whether `flush` has something to send that it was not given.
    pub(super) fn wants_write(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Sends what the stream takes; the rest stays in `unsent`, or in TLS. An error of kind `WouldBlock` says that some does.
    pub(super) fn flush(&mut self, unsent: &mut Vec<u8>) -> io::Result<()> {
        loop {
            let written = match &mut self.tls {
                Some(tls) if tls.wants_write() => tls.write_tls(&mut self.stream).map(|_| 0),
                _ if unsent.is_empty() => return Ok(()),
                Some(tls) => {
                    let chunk = unsent.get(..CHUNK_BYTES).unwrap_or(unsent);
                    match tls.writer().write(chunk) {
                        // Until the handshake is over it takes little.
                        Ok(0) => return Err(ErrorKind::WouldBlock.into()),
                        other => other,
                    }
                }
                None => match self.stream.write(unsent) {
                    Ok(0) => return Err(ErrorKind::WriteZero.into()),
                    other => other,
                },
            };
            match written {
                Ok(count) => drop(unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The other side will see the end behind all that was sent.
    pub(super) fn finish(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = tls.write_tls(&mut self.stream);
        }
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}

/// Reads what is there, whether or not the stream's own reads and writes wait.
struct Now<'a>(&'a TcpStream);

impl Read for Now<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::net::recv(self.0, bytes, RecvFlags::DONTWAIT)?.0)
    }
}
