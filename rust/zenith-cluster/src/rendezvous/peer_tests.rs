//! Whatever comes, a connection ends or goes on: no panic, no memory without bound.

use std::io::Write;
use std::net::TcpListener;

use proptest::prelude::*;

use super::super::caller::readable;
use super::super::messages::Facts;
use super::*;

const READ_BYTES: usize = 64 << 10;

struct Line {
    node: TcpStream,
    peer: Peer,
    run: Run,
}

impl Line {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let node = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        let (stream, address) = listener.accept().expect("a connection");
        let peer = Peer::new(stream, address, Instant::now()).expect("a peer");
        Self { node, peer, run: Run { id: "r".into(), secret: None, tls: None } }
    }

    /// What the host makes of `bytes`; an error once it has ended the connection.
    fn say(&mut self, bytes: &[u8]) -> Result<Vec<Said>, End> {
        let mut said = Vec::new();
        for piece in bytes.chunks(READ_BYTES) {
            // A host that has read enough takes no more.
            if self.node.write_all(piece).is_err() {
                break;
            }
            readable(self.peer.stream(), Duration::from_secs(5)).expect("a poll");
            let end = self.peer.on_readable(&self.run, &mut said).and_then(|()| self.peer.flush());
            assert!(
                self.peer.frames.len() <= 2 * READ_BYTES + FRAME_BYTES_MAX,
                "{} bytes wait",
                self.peer.frames.len()
            );
            assert!(self.peer.unsent.len() <= UNSENT_BYTES_MAX);
            end?;
        }
        Ok(said)
    }

    fn greeting(&self) -> Vec<u8> {
        let facts =
            Facts { name: "n".into(), address: None, topology: None, node_rank: 0, local_ranks: 1, nodes: (1, 1) };
        let join = Join { launcher: "l".into(), facts, door: None, door_address: None, was: None, promised: 0 };
        let hello = Seal::default().frame(&self.run.hello());
        [MAGIC.to_vec(), hello, Seal::default().frame(&Request::Join(join))].concat()
    }
}

/// A node's greeting and reports, of which bytes are changed, left out or repeated.
fn spoiled(mut bytes: Vec<u8>, changes: &[(usize, u8, u8)]) -> Vec<u8> {
    for &(at, byte, kind) in changes {
        let at = at % bytes.len().max(1);
        match kind % 3 {
            0 => bytes.iter_mut().skip(at).take(1).for_each(|old| *old = byte),
            1 => bytes.truncate(at.max(1)),
            _ => bytes.extend_from_within(at..),
        }
    }
    bytes
}

#[test]
fn a_greeting_makes_a_member_whose_reports_are_heard() {
    let mut line = Line::new();
    let greeting = line.greeting();
    let beat = Seal::default().frame(&Report::Beat);
    let mut said = line.say(&greeting).expect("a greeting");
    said.extend(line.say(&beat).expect("a report"));
    assert!(matches!(&said[..], [Said::Join(_), Said::Report(Report::Beat)]), "{said:?}");
    assert!(line.peer.is_member() && line.peer.is_known());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn random_bytes_do_no_harm(
        is_member in any::<bool>(),
        length in any::<u32>(),
        bytes in proptest::collection::vec(any::<u8>(), 1..3_000),
    ) {
        let mut line = Line::new();
        if is_member {
            let greeting = line.greeting();
            line.say(&greeting).expect("a greeting");
        }
        // As a frame of any length, and as they are.
        let _ = line.say(&[&length.to_be_bytes()[..], &bytes].concat()).and_then(|_| line.say(&bytes));
    }

    #[test]
    fn spoiled_greetings_do_no_harm(
        changes in proptest::collection::vec((any::<usize>(), any::<u8>(), any::<u8>()), 1..6),
    ) {
        let mut line = Line::new();
        let reports = [Report::Beat, Report::Accepted { serial: 1 }, Report::Left { what: "x".repeat(99) }];
        let reports = reports.iter().flat_map(|report| Seal::default().frame(report)).collect();
        let whole = [line.greeting(), reports].concat();
        let _ = line.say(&spoiled(whole, &changes));
    }
}
