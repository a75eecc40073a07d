//! Where the ranks of an attempt find their store, and the server behind it (T-9, T-34, TW-1).

use std::io;
use std::net::TcpListener;

use crate::command_line::StoreOwner;
use crate::plan::Meeting;
use crate::store::StoreServer;

const LOOPBACK: &str = "127.0.0.1";

/// The store of the attempt that runs.
#[derive(Debug)]
pub(crate) struct MeetingPoint {
    meeting: Meeting,
    owner: StoreOwner,
    server: Option<StoreServer>,
}

impl MeetingPoint {
    pub(crate) fn new(meeting: Meeting, owner: StoreOwner) -> Self {
        Self { meeting, owner, server: None }
    }

    /// Address and port for a new attempt, of which no earlier one has left anything there.
    pub(crate) fn open(&mut self) -> io::Result<(String, u16)> {
        match (&self.meeting, self.owner, &mut self.server) {
            (Meeting::FreePort, StoreOwner::Launcher, server) => {
                let listener = bind(LOOPBACK, 0)?;
                let port = server.insert(StoreServer::start(listener)?).port();
                Ok((LOOPBACK.into(), port))
            }
            // Rank 0 binds it again; until then it is anybody's, as under torchrun (TP-3).
            (Meeting::FreePort, StoreOwner::Rank0, _) => Ok((LOOPBACK.into(), bind(LOOPBACK, 0)?.local_addr()?.port())),
            (Meeting::At { host, port: 0 }, StoreOwner::Rank0, _) => {
                Ok((host.clone(), bind(host, 0)?.local_addr()?.port()))
            }
            (Meeting::At { host, port }, StoreOwner::Rank0, _) => Ok((host.clone(), *port)),
            (Meeting::At { host, .. }, StoreOwner::Launcher, Some(server)) => {
                server.renew()?;
                Ok((host.clone(), server.port()))
            }
            (Meeting::At { host, port }, StoreOwner::Launcher, server) => {
                let port = server.insert(StoreServer::start(bind(host, *port)?)?).port();
                Ok((host.clone(), port))
            }
        }
    }
}

fn bind(host: &str, port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((host, port)).map_err(|error| {
        let what = format!("the store of the ranks cannot listen at {host} port {port}: {error}");
        io::Error::new(error.kind(), format!("{what}. Choose others by --master-addr and --master-port, or none"))
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_free_port_is_new_for_every_attempt_and_served() {
        let mut point = MeetingPoint::new(Meeting::FreePort, StoreOwner::Launcher);
        let first = point.open().expect("a port");
        TcpStream::connect((first.0.as_str(), first.1)).expect("a server");
        let second = point.open().expect("a port");
        assert_ne!(first.1, second.1);
        assert!(TcpStream::connect(("127.0.0.1", first.1)).is_err(), "the first is closed");
        TcpStream::connect(("127.0.0.1", second.1)).expect("a server");
    }

    #[test]
    fn a_given_port_stays_and_may_be_taken() {
        let port = bind(LOOPBACK, 0).and_then(|listener| listener.local_addr()).expect("a port").port();
        let meeting = Meeting::At { host: "localhost".into(), port };
        let mut point = MeetingPoint::new(meeting.clone(), StoreOwner::Launcher);
        for _ in 0..2 {
            assert_eq!(point.open().expect("a port"), ("localhost".into(), port));
            TcpStream::connect(("localhost", port)).expect("a server");
        }
        let error =
            MeetingPoint::new(meeting.clone(), StoreOwner::Launcher).open().expect_err("it is taken").to_string();
        assert!(error.contains(&format!("localhost port {port}")) && error.contains("--master-port"), "{error}");
        drop(point);
        let mut of_rank_0 = MeetingPoint::new(meeting, StoreOwner::Rank0);
        assert_eq!(of_rank_0.open().expect("no server"), ("localhost".into(), port));
        assert!(TcpStream::connect(("localhost", port)).is_err(), "rank 0 serves it");
    }
}
