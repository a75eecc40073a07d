use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use super::protocol::MAGIC;
use super::*;

fn start() -> StoreServer {
    StoreServer::start(TcpListener::bind("127.0.0.1:0").unwrap()).unwrap()
}

fn raw(store: &StoreServer) -> TcpStream {
    let connection = TcpStream::connect((Ipv4Addr::LOCALHOST, store.port())).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    connection
}

fn connect(store: &StoreServer) -> TcpStream {
    let mut connection = raw(store);
    connection.write_all(&[&[0], &MAGIC.to_ne_bytes()[..], &[13, 1, 2, 3, 4]].concat()).unwrap();
    assert_eq!(read(&mut connection, 4), [1, 2, 3, 4]);
    connection
}

fn read(connection: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut answer = vec![0; bytes];
    connection.read_exact(&mut answer).unwrap();
    answer
}

/// What comes until the server closes; a reset is an end too.
fn rest(connection: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    match connection.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
    answer
}

fn text(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_ne_bytes(), bytes].concat()
}

fn set(key: &[u8], value: &[u8]) -> Vec<u8> {
    [&[1], &text(key)[..], &text(value)].concat()
}

fn get(key: &[u8]) -> Vec<u8> {
    [&[3], &text(key)[..]].concat()
}

fn wait(key: &[u8]) -> Vec<u8> {
    [&[6], &1u64.to_ne_bytes()[..], &text(key)].concat()
}

const COUNT_KEYS: &[u8] = &[7];

fn count(connection: &mut TcpStream) -> u64 {
    connection.write_all(COUNT_KEYS).unwrap();
    u64::from_ne_bytes(read(connection, 8).try_into().unwrap())
}

#[test]
fn clients_share_keys_and_wake_each_other() {
    let store = start();
    let (mut a, mut b) = (connect(&store), connect(&store));
    a.write_all(&wait(b"/k")).unwrap();
    assert_eq!(count(&mut a), 0, "the wait was seen");
    b.write_all(&set(b"/k", b"v")).unwrap();
    assert_eq!(read(&mut a, 1), [0]);
    a.write_all(&get(b"/k")).unwrap();
    assert_eq!(read(&mut a, 9), text(b"v"));
}

#[test]
fn a_message_may_come_byte_by_byte() {
    let store = start();
    let mut connection = raw(&store);
    let greeting = [&[0], &MAGIC.to_ne_bytes()[..]].concat();
    for byte in [greeting, set(b"/k", b"value"), get(b"/k")].concat() {
        connection.write_all(&[byte]).unwrap();
    }
    assert_eq!(read(&mut connection, 13), text(b"value"));
}

#[test]
fn large_values_pass_and_the_others_are_served_meanwhile() {
    let store = start();
    let (mut a, mut b) = (connect(&store), connect(&store));
    let value: Vec<u8> = (0..protocol::VALUE_BYTES_MAX).map(|n| (n % 251) as u8).collect();
    let message = set(b"/large", &value);
    let (half, other) = message.split_at(message.len() / 2);
    a.write_all(half).unwrap();
    assert_eq!(count(&mut b), 0);
    a.write_all(other).unwrap();
    a.write_all(&get(b"/large")).unwrap();
    assert_eq!(read(&mut a, 8 + value.len()), text(&value));
    assert_eq!(count(&mut b), 1);
}

#[test]
fn who_does_not_read_is_served_no_further_and_gets_all_in_the_end() {
    let store = start();
    let (mut a, mut b) = (connect(&store), connect(&store));
    let value = vec![7; 1 << 20];
    a.write_all(&set(b"/k", &value)).unwrap();
    assert_eq!(count(&mut a), 1);
    // 400 MiB of answers. The last request is only served when most of them are taken.
    a.write_all(&[get(b"/k").repeat(400), set(b"/last", b"")].concat()).unwrap();
    assert_eq!(count(&mut b), 1);
    for _ in 0..400 {
        assert_eq!(read(&mut a, 8 + value.len()).len(), 8 + value.len());
    }
    b.write_all(&wait(b"/last")).unwrap();
    assert_eq!(read(&mut b, 1), [0]);
}

#[test]
fn a_peer_that_breaks_the_protocol_is_closed_after_its_answers_and_told_of() {
    let store = start();
    let mut other = connect(&store);
    assert_eq!((store.refusals().count(), store.refusals().last()), (0, None));
    let mut broken = connect(&store);
    broken.write_all(&[COUNT_KEYS, &[77]].concat()).unwrap();
    assert_eq!(rest(&mut broken), 0u64.to_ne_bytes());
    let address = broken.local_addr().unwrap();
    let said = format!("store: connection from {address} was closed: operation 77 is not known");
    assert!(store.refusals().last().unwrap().starts_with(&said), "{:?}", store.refusals());
    let mut stranger = raw(&store);
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert!(rest(&mut stranger).is_empty());
    assert_eq!(store.refusals().count(), 2);
    assert_eq!(count(&mut other), 0);
}

#[test]
fn who_goes_while_it_waits_is_forgotten() {
    let store = start();
    let mut a = connect(&store);
    for _ in 0..3 {
        let mut b = connect(&store);
        b.write_all(&wait(b"/k")).unwrap();
        assert_eq!(count(&mut b), 0);
    }
    // Their places are taken by others, who did not ask.
    let mut later: Vec<TcpStream> = (0..3).map(|_| connect(&store)).collect();
    a.write_all(&set(b"/k", b"")).unwrap();
    assert_eq!(count(&mut a), 1);
    later.iter_mut().for_each(|connection| assert_eq!(count(connection), 1));
}

#[test]
fn renewing_cuts_everybody_and_empties_the_store() {
    let mut store = start();
    let port = store.port();
    let (mut a, mut b) = (connect(&store), connect(&store));
    a.write_all(&[set(b"/k", b"v"), wait(b"/never")].concat()).unwrap();
    assert_eq!(count(&mut a), 1);
    store.renew().unwrap();
    assert_eq!((rest(&mut a), rest(&mut b)), (vec![], vec![]));
    assert_eq!(store.port(), port);
    assert_eq!(count(&mut connect(&store)), 0);
    store.renew().unwrap();
    assert_eq!(count(&mut connect(&store)), 0);
}

#[test]
fn renewing_also_cuts_who_was_not_accepted_yet() {
    let mut store = start();
    store.stop();
    let mut waiting = raw(&store);
    waiting.write_all(&[&[0], &MAGIC.to_ne_bytes()[..], &set(b"/stale", b"")].concat()).unwrap();
    store.renew().unwrap();
    assert!(rest(&mut waiting).is_empty());
    assert_eq!(count(&mut connect(&store)), 0);
}

#[test]
fn dropping_it_closes_everything() {
    let store = start();
    let port = store.port();
    let mut connection = connect(&store);
    drop(store);
    assert!(rest(&mut connection).is_empty());
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
}
