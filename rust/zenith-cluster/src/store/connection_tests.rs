use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::super::protocol::MAGIC;
use super::*;

const ID: Connection = Connection(0);

fn pair() -> (Client, TcpStream, Store) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (socket, _) = listener.accept().unwrap();
    socket.set_nonblocking(true).unwrap();
    let store = Store { keys: Keys::default(), released: VecDeque::new(), scratch: Vec::new() };
    (Client::new(socket), peer, store)
}

fn text(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_ne_bytes(), bytes].concat()
}

/// CONNECTION-1: a peer that is always behind does not make the buffer keep what it took.
#[test]
fn what_was_taken_is_dropped_while_the_rest_waits() {
    const BYTES: usize = 32 << 20;
    let (mut client, mut peer, mut store) = pair();
    peer.set_nonblocking(true).unwrap();
    client.output = vec![7; BYTES];
    let (mut taken, mut waits, start) = (0, 0, Instant::now());
    while taken < BYTES && start.elapsed() < Duration::from_secs(20) {
        client.on_writable(ID, &mut store).unwrap();
        assert!(2 * client.sent <= client.output.len(), "{} of {} bytes", client.sent, client.output.len());
        waits += usize::from(!client.output.is_empty());
        taken += peer.read(&mut [0; 64 << 10]).unwrap_or(0);
    }
    assert_eq!(taken, BYTES);
    assert!(waits > 1);
}

/// CONNECTION-2.
#[test]
fn what_is_served_leaves_no_buffers() {
    let (mut client, mut peer, mut store) = pair();
    let hello = [&[0], &MAGIC.to_ne_bytes()[..]].concat();
    let set = [&[1], &text(b"/k")[..], &text(&[7; 100_000])].concat();
    peer.write_all(&[hello, set, [&[3], &text(b"/k")[..]].concat()].concat()).unwrap();
    let mut answer = vec![0; 8 + 100_000];
    peer.set_nonblocking(true).unwrap();
    let mut taken = 0;
    while taken < answer.len() {
        client.on_readable(ID, &mut store).unwrap();
        client.on_writable(ID, &mut store).unwrap();
        taken += peer.read(&mut answer[taken..]).unwrap_or(0);
    }
    assert_eq!(answer, text(&[7; 100_000]));
    assert_eq!(client.interest(), None, "only to read, as at first");
    assert!(client.input.capacity() <= KEPT_BYTES_MAX && client.output.capacity() <= KEPT_BYTES_MAX);
}
