//! The port at which rank 0 serves JAX's coordinator: new for every attempt, and kept for it until it does.
//!
//! The coordinator is a gRPC server in rank 0 and starts seconds after its port was chosen, when the rank has imported JAX. So long a socket that is bound
//! and never listens holds the port: Linux gives it neither to who asks for any port nor to a connection that goes out. Who asks for this very
//! port gets it if both sides allow that, by `SO_REUSEADDR` or `SO_REUSEPORT`; gRPC sets both, as this socket does.

use std::io::{self, Error};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with, sockopt};

/// The port of the attempt that runs.
#[derive(Debug, Default)]
pub(crate) struct Coordinator {
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    port: u16,
    /// Closed with it.
    _socket: OwnedFd,
}

impl Coordinator {
    /// A port that the last attempt did not have. `master_port` may be free as well, but is what rank 0 binds for torch.
    pub(crate) fn renew(&mut self, master_port: u16) -> io::Result<u16> {
        let held = other_than(master_port, || hold(Ipv6Addr::UNSPECIFIED).or_else(|_| hold(Ipv4Addr::UNSPECIFIED)));
        let held = held.map_err(|error| {
            Error::new(
                error.kind(),
                format!("no port can be had for JAX's coordinator ($JAX_COORDINATOR_ADDRESS): {error}"),
            )
        })?;
        Ok(self.held.insert(held).port)
    }
}

fn other_than(port: u16, mut hold: impl FnMut() -> io::Result<Held>) -> io::Result<Held> {
    let held = hold()?;
    // As long as this one is held, the next is another.
    if held.port == port { hold() } else { Ok(held) }
}

/// A free port at all addresses; with the unspecified one of IPv6 at those of both families.
fn hold(address: impl Into<IpAddr>) -> io::Result<Held> {
    let address = SocketAddr::new(address.into(), 0);
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    bind(&socket, &address)?;
    let port = SocketAddr::try_from(getsockname(&socket)?)?.port();
    Ok(Held { port, _socket: socket })
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// As somebody who shares with nobody.
    fn bind_alone(port: u16) -> io::Result<()> {
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        Ok(bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?)
    }

    #[test]
    fn a_port_is_held_until_the_next_one_and_is_another() {
        let mut coordinator = Coordinator::default();
        let first = coordinator.renew(0).expect("a port");
        assert_eq!(bind_alone(first).expect_err("held").kind(), ErrorKind::AddrInUse);
        let second = coordinator.renew(0).expect("a port");
        assert_ne!(first, second);
        assert_eq!(bind_alone(second).expect_err("held").kind(), ErrorKind::AddrInUse);
        drop(coordinator);
        bind_alone(second).expect("nobody's any more");
    }

    #[test]
    fn a_server_that_shares_its_address_gets_the_port_and_all_connections() {
        for address in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv4Addr::UNSPECIFIED.into()] {
            let mut coordinator = Coordinator::default();
            let port = coordinator.renew(0).expect("a port");
            assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err(), "nobody listens yet");
            // The standard library's listeners set SO_REUSEADDR alone.
            let server = TcpListener::bind((address, port)).expect("rank 0");
            for _ in 0..32 {
                TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a connection");
                server.accept().expect("the same");
            }
        }
    }

    #[test]
    fn the_masters_port_is_passed_over() {
        let mut first = hold(Ipv4Addr::UNSPECIFIED).ok();
        let master_port = first.as_ref().map(|held| held.port).expect("a port");
        let held = other_than(master_port, || first.take().map_or_else(|| hold(Ipv4Addr::UNSPECIFIED), Ok));
        assert_ne!(held.expect("another").port, master_port);
    }
}
