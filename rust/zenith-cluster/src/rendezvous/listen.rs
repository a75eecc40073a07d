//! Whether this machine is the host's, and where the host listens.
//!
//! Nothing is guessed from names: an address is this machine's if it can be bound.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs, UdpSocket};

use super::view::Door;
use crate::plan::{Hosting, Nodes};

/// What this node listens at.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) listener: TcpListener,
    /// What others call it, where it is one of the endpoints.
    pub(super) endpoint: Option<Door>,
    pub(super) is_host: bool,
}

/// The host's port, or that at which this node answers others; `None` where nobody asks it.
pub(super) fn listen(nodes: &Nodes) -> io::Result<Option<Listening>> {
    let endpoints = endpoints(nodes);
    if nodes.hosting == Hosting::Yes {
        let listener = must_bind(&nodes.host, nodes.port).map_err(|error| {
            let what = format!("the rendezvous cannot listen at {} port {}: {error}", nodes.host, nodes.port);
            io::Error::new(error.kind(), format!("{what}. Choose another port, or end what uses it"))
        })?;
        return Ok(Some(Listening { listener, endpoint: endpoints.into_iter().next(), is_host: true }));
    }
    if nodes.hosting == Hosting::IfOurs {
        for (place, endpoint) in endpoints.into_iter().enumerate() {
            // Others are another machine's; another launcher's of this one; or names that nobody knows yet.
            if let Ok(listener) = bind_if_ours(&endpoint.address, endpoint.port) {
                return Ok(Some(Listening { listener, endpoint: Some(endpoint), is_host: place == 0 }));
            }
        }
    }
    if !nodes.terms.elects {
        return Ok(None);
    }
    let listener = door(nodes)?;
    Ok(Some(Listening { listener, endpoint: None, is_host: false }))
}

/// Where nodes meet, the first host's first.
pub(super) fn endpoints(nodes: &Nodes) -> Vec<Door> {
    let first = Door { address: nodes.host.clone(), port: nodes.port };
    let others = nodes.other_endpoints.iter().map(|(address, port)| Door { address: address.clone(), port: *port });
    std::iter::once(first).chain(others).collect()
}

/// At the address by which this node reaches the endpoint, which is the one that others see.
fn door(nodes: &Nodes) -> io::Result<TcpListener> {
    let given = nodes.local_address.as_deref().and_then(literal);
    let towards = || {
        let endpoint = (nodes.host.as_str(), nodes.port).to_socket_addrs().ok()?.next()?;
        let any: IpAddr = if endpoint.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).ok()?;
        // Of a datagram socket this sends nothing.
        socket.connect(endpoint).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    let address = if nodes.local_address.is_some() { given } else { towards() };
    match address.map(|address| TcpListener::bind((address, 0))) {
        Some(Ok(listener)) => Ok(listener),
        // Others reach this node by an address or a name that is not its own.
        _ => bind_everywhere(0).map_err(|error| {
            io::Error::new(error.kind(), format!("the rendezvous cannot listen at any port of this node: {error}"))
        }),
    }
}

/// An address to listen at that a name or address of this machine leads to.
pub(crate) fn bind_literally(host: &str, port: u16) -> io::Result<TcpListener> {
    match literal(host) {
        Some(address) => TcpListener::bind((address, port)),
        // Machines often call themselves by a loopback address, which others cannot reach.
        None => bind_everywhere(port),
    }
}

fn must_bind(host: &str, port: u16) -> io::Result<TcpListener> {
    bind_literally(host, port).or_else(|error| match error.kind() {
        // Forwarded to this machine from an address that it does not have itself.
        ErrorKind::AddrNotAvailable => bind_everywhere(port),
        _ => Err(error),
    })
}

fn bind_if_ours(host: &str, port: u16) -> io::Result<TcpListener> {
    if literal(host).is_none() {
        let mut addresses = (host, port).to_socket_addrs()?;
        let is_ours = |address: SocketAddr| UdpSocket::bind((address.ip(), 0)).is_ok();
        if !addresses.any(is_ours) {
            return Err(ErrorKind::AddrNotAvailable.into());
        }
    }
    bind_literally(host, port)
}

fn literal(host: &str) -> Option<IpAddr> {
    if host == "localhost" { Some(Ipv4Addr::LOCALHOST.into()) } else { host.parse().ok() }
}

fn bind_everywhere(port: u16) -> io::Result<TcpListener> {
    // It takes both families, where there is IPv6.
    TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).or_else(|error| match error.kind() {
        ErrorKind::AddrInUse => Err(error),
        _ => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)),
    })
}

/// How this very process reaches a port.
pub(super) fn own_address(listener: &TcpListener) -> io::Result<SocketAddr> {
    let mut address = listener.local_addr()?;
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_ours_if_it_can_be_bound() {
        let first = bind_if_ours("127.0.0.1", 0).expect("loopback");
        let port = first.local_addr().expect("an address").port();
        assert_eq!(bind_if_ours("localhost", port).expect_err("taken").kind(), ErrorKind::AddrInUse);
        // From a range that is kept for documentation.
        assert_eq!(bind_if_ours("192.0.2.1", 0).expect_err("not ours").kind(), ErrorKind::AddrNotAvailable);
        let forwarded = must_bind("192.0.2.1", 0).expect("all addresses");
        assert!(own_address(&forwarded).expect("an address").ip().is_loopback());
    }
}
