//! What launcher and guardian tell each other: one packet is one message.
//!
//! The workers of a gang, whose arguments and environments may be larger than a packet, are written to a memfd that travels
//! with the message `Start`.

use std::ffi::{OsStr, OsString};
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};

use super::leftovers::Removed;
use super::tree::Process;
use crate::placement::CpuSet;
use crate::worker::{Binding, Output, Status, Worker};

/// No message but the workers themselves is longer.
const PACKET_BYTES: usize = 16 * 1024;
/// A list of processes names no more than these; the rest is a number.
pub(super) const LISTED: usize = 64;
/// A reason is cut there.
const REASON_BYTES: usize = 4096;

/// From the launcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Order {
    /// Start the workers in the memfd that comes with it.
    Start,
    Signal {
        signal: i32,
        to: Target,
    },
    /// Kill until no descendant is left.
    Kill,
    /// Say which descendants there are.
    List,
    /// Leave those that are left alone, now and at the end.
    Leave,
    /// Start the worker in the memfd that comes with it, beside the next ranks, as the template of those that replace them.
    Warm {
        limit_ms: u32,
    },
}

/// Whom a signal is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// The processes that were started, without their children.
    Ranks,
    /// The groups of the ranks that run, and all descendants that ranks have left behind.
    Groups,
}

/// From the guardian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Report {
    Started {
        index: u32,
        pid: i32,
    },
    NotStarted {
        index: u32,
        failure: Failure,
    },
    Ended {
        index: u32,
        pid: i32,
        status: Status,
        at: SystemTime,
    },
    Descendants {
        count: u32,
        first: Vec<Process>,
    },
    /// Shared memory that the attempt has left. Comes before `Empty`.
    Removed(Removed),
    /// All that was started has ended, and so has everything that it started.
    Empty,
    /// Ranks can be forked from this process.
    Warm {
        pid: i32,
    },
    /// Ranks are started without the template.
    Cold {
        reason: String,
    },
}

/// Why a process could not be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) step: Step,
    pub(super) errno: i32,
}

/// What is done on the way to a running rank and may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Fork,
    Session,
    Stdout,
    Stderr,
    Binding,
    Exec,
    /// Another rank could not be started.
    Together,
}

const STEPS: [Step; 7] =
    [Step::Fork, Step::Session, Step::Stdout, Step::Stderr, Step::Binding, Step::Exec, Step::Together];

impl Step {
    pub(super) fn number(self) -> u8 {
        STEPS.iter().position(|&step| step == self).map_or(0, |place| place as u8)
    }

    pub(super) fn from_number(number: u8) -> Option<Self> {
        STEPS.get(usize::from(number)).copied()
    }
}

pub(super) fn send_order(socket: BorrowedFd<'_>, order: &Order, workers: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let packet = order.encode();
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut room);
    let descriptors: Vec<BorrowedFd<'_>> = workers.into_iter().collect();
    if !descriptors.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(socket, &[IoSlice::new(&packet)], &mut ancillary, SendFlags::NOSIGNAL)
    })?;
    Ok(())
}

/// The next order, with the workers' memfd if one came along; `None` when the launcher has closed its end.
pub(super) fn receive_order(socket: BorrowedFd<'_>) -> io::Result<Option<(Order, Option<OwnedFd>)>> {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut room);
    let mut packet = vec![0; PACKET_BYTES];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut packet)], &mut ancillary, flags)?;
    if received.bytes == 0 {
        return Ok(None);
    }
    let mut workers = None;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            workers = descriptors.last();
        }
    }
    match Order::decode(&packet[..received.bytes]) {
        Some(order) => Ok(Some((order, workers))),
        None => Err(unreadable("an order of the launcher")),
    }
}

/// The next report; `None` when the guardian has closed its end.
pub(super) fn receive_report(socket: BorrowedFd<'_>) -> io::Result<Option<Report>> {
    let mut packet = vec![0; PACKET_BYTES];
    let (bytes, _) = rustix::net::recv(socket, &mut packet[..], RecvFlags::DONTWAIT)?;
    if bytes == 0 {
        return Ok(None);
    }
    Report::decode(&packet[..bytes]).map(Some).ok_or_else(|| unreadable("a report of the guardian"))
}

fn unreadable(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} cannot be read"))
}

/// Writes workers where the guardian reads them.
pub(super) fn write_workers(workers: &[Worker]) -> io::Result<OwnedFd> {
    let mut out = Vec::new();
    put_u32(&mut out, workers.len() as u32);
    for worker in workers {
        put_u32(&mut out, worker.local_rank);
        put_u32(&mut out, worker.rank);
        put_bytes(&mut out, worker.program.as_bytes());
        put_u32(&mut out, worker.arguments.len() as u32);
        worker.arguments.iter().for_each(|argument| put_bytes(&mut out, argument.as_bytes()));
        put_u32(&mut out, worker.environment.len() as u32);
        for (name, value) in &worker.environment {
            put_bytes(&mut out, name.as_bytes());
            put_bytes(&mut out, value.as_bytes());
        }
        for output in [&worker.stdout, &worker.stderr] {
            match output {
                Output::Inherited => out.push(0),
                Output::Discarded => out.push(1),
                Output::File(path) => {
                    out.push(2);
                    put_bytes(&mut out, path.as_os_str().as_bytes());
                }
            }
        }
        match &worker.binding {
            None => out.push(0),
            Some(binding) => {
                out.push(1);
                put_bytes(&mut out, binding.cpus.to_string().as_bytes());
                put_bytes(&mut out, binding.memory_node.map(|node| node.to_string()).unwrap_or_default().as_bytes());
            }
        }
    }
    let memory = rustix::fs::memfd_create("zenith-workers", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(memory);
    file.write_all(&out)?;
    Ok(file.into())
}

pub(super) fn read_workers(memory: OwnedFd) -> io::Result<Vec<Worker>> {
    let mut file = std::fs::File::from(memory);
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    decode_workers(&bytes).ok_or_else(|| unreadable("the list of workers"))
}

fn decode_workers(bytes: &[u8]) -> Option<Vec<Worker>> {
    let mut from = Reader(bytes);
    let count = from.u32()?;
    let mut workers = Vec::new();
    for _ in 0..count {
        let local_rank = from.u32()?;
        let rank = from.u32()?;
        let program = from.os_string()?;
        let arguments = (0..from.u32()?).map(|_| from.os_string()).collect::<Option<_>>()?;
        let environment =
            (0..from.u32()?).map(|_| Some((from.os_string()?, from.os_string()?))).collect::<Option<_>>()?;
        let (stdout, stderr) = (from.output()?, from.output()?);
        let binding = from.binding()?;
        workers.push(Worker { local_rank, rank, program, arguments, environment, stdout, stderr, binding });
    }
    Some(workers)
}

impl Order {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match *self {
            Self::Start => out.push(0),
            Self::Signal { signal, to } => {
                out.extend([1, u8::from(to == Target::Groups)]);
                put_u32(&mut out, signal as u32);
            }
            Self::Kill => out.push(2),
            Self::List => out.push(3),
            Self::Leave => out.push(4),
            Self::Warm { limit_ms } => {
                out.push(5);
                put_u32(&mut out, limit_ms);
            }
        }
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes);
        Some(match from.u8()? {
            0 => Self::Start,
            1 => {
                let to = if from.u8()? == 1 { Target::Groups } else { Target::Ranks };
                Self::Signal { signal: from.i32()?, to }
            }
            2 => Self::Kill,
            3 => Self::List,
            4 => Self::Leave,
            5 => Self::Warm { limit_ms: from.u32()? },
            _ => return None,
        })
    }
}

impl Report {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Started { index, pid } => {
                out.push(0);
                put_u32(&mut out, *index);
                put_u32(&mut out, *pid as u32);
            }
            Self::NotStarted { index, failure } => {
                out.push(1);
                put_u32(&mut out, *index);
                out.push(failure.step.number());
                put_u32(&mut out, failure.errno as u32);
            }
            Self::Ended { index, pid, status, at } => {
                out.push(2);
                put_u32(&mut out, *index);
                put_u32(&mut out, *pid as u32);
                let (kind, number) = match *status {
                    Status::Code(code) => (0, code),
                    Status::Signal(signal) => (1, signal),
                };
                out.push(kind);
                put_u32(&mut out, number as u32);
                let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                out.extend(since.as_secs().to_le_bytes());
                put_u32(&mut out, since.subsec_nanos());
            }
            Self::Descendants { count, first } => {
                out.push(3);
                put_u32(&mut out, *count);
                put_u32(&mut out, first.len() as u32);
                for process in first {
                    put_u32(&mut out, process.pid as u32);
                    out.push(process.state);
                    put_bytes(&mut out, process.name.as_bytes());
                }
            }
            Self::Empty => out.push(4),
            Self::Removed(removed) => {
                out.push(5);
                put_u32(&mut out, removed.files);
                put_u32(&mut out, removed.segments);
                out.extend(removed.bytes.to_le_bytes());
            }
            Self::Warm { pid } => {
                out.push(6);
                put_u32(&mut out, *pid as u32);
            }
            Self::Cold { reason } => {
                out.push(7);
                put_bytes(&mut out, &reason.as_bytes()[..reason.len().min(REASON_BYTES)]);
            }
        }
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes);
        Some(match from.u8()? {
            0 => Self::Started { index: from.u32()?, pid: from.i32()? },
            1 => {
                let index = from.u32()?;
                let step = Step::from_number(from.u8()?)?;
                Self::NotStarted { index, failure: Failure { step, errno: from.i32()? } }
            }
            2 => {
                let (index, pid) = (from.u32()?, from.i32()?);
                let kind = from.u8()?;
                let number = from.i32()?;
                let status = if kind == 0 { Status::Code(number) } else { Status::Signal(number) };
                let since = Duration::from_secs(from.u64()?).checked_add(Duration::from_nanos(from.u32()?.into()))?;
                Self::Ended { index, pid, status, at: SystemTime::UNIX_EPOCH.checked_add(since)? }
            }
            3 => {
                let count = from.u32()?;
                let process = |from: &mut Reader<'_>| {
                    let (pid, state) = (from.i32()?, from.u8()?);
                    Some(Process { pid, state, name: String::from_utf8_lossy(from.bytes()?).into_owned() })
                };
                let first = (0..from.u32()?).map(|_| process(&mut from)).collect::<Option<_>>()?;
                Self::Descendants { count, first }
            }
            4 => Self::Empty,
            5 => Self::Removed(Removed { files: from.u32()?, segments: from.u32()?, bytes: from.u64()? }),
            6 => Self::Warm { pid: from.i32()? },
            7 => Self::Cold { reason: String::from_utf8_lossy(from.bytes()?).into_owned() },
            _ => return None,
        })
    }
}

/// Whether a packet can be sent without waiting; one that cannot is kept by the caller.
pub(super) fn try_send(socket: impl AsFd, packet: &[u8]) -> io::Result<bool> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    match rustix::io::retry_on_intr(|| rustix::net::send(&socket, packet, flags)) {
        Ok(_) => Ok(true),
        Err(rustix::io::Errno::AGAIN) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend(value.to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u32(out, bytes.len() as u32);
    out.extend(bytes);
}

/// Takes values from the front; lengths are believed only as far as there are bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn i32(&mut self) -> Option<i32> {
        self.u32().map(|value| value as i32)
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = self.u32()? as usize;
        self.take(count)
    }

    fn os_string(&mut self) -> Option<OsString> {
        self.bytes().map(|bytes| OsString::from_vec(bytes.to_vec()))
    }

    fn binding(&mut self) -> Option<Option<Binding>> {
        if self.u8()? == 0 {
            return Some(None);
        }
        let (cpus, node) = (std::str::from_utf8(self.bytes()?).ok()?, std::str::from_utf8(self.bytes()?).ok()?);
        let memory_node = if node.is_empty() { None } else { Some(node.parse().ok()?) };
        Some(Some(Binding { cpus: CpuSet::parse(cpus)?, memory_node }))
    }

    fn output(&mut self) -> Option<Output> {
        Some(match self.u8()? {
            0 => Output::Inherited,
            1 => Output::Discarded,
            2 => Output::File(PathBuf::from(OsStr::from_bytes(self.bytes()?))),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn os_string() -> impl Strategy<Value = OsString> {
        prop::collection::vec(any::<u8>(), 0..40).prop_map(OsString::from_vec)
    }

    fn output() -> impl Strategy<Value = Output> {
        prop_oneof![
            Just(Output::Inherited),
            Just(Output::Discarded),
            os_string().prop_map(|path| Output::File(path.into()))
        ]
    }

    fn worker() -> impl Strategy<Value = Worker> {
        let environment = prop::collection::vec((os_string(), os_string()), 0..5);
        let arguments = prop::collection::vec(os_string(), 0..5);
        let binding = (prop::collection::btree_set(0..300_u32, 1..9), prop::option::of(0..9_u32))
            .prop_map(|(cpus, memory_node)| Binding { cpus: cpus.into_iter().collect(), memory_node });
        let binding = prop::option::of(binding);
        (any::<u32>(), any::<u32>(), os_string(), arguments, environment, output(), output(), binding).prop_map(
            |(local_rank, rank, program, arguments, environment, stdout, stderr, binding)| Worker {
                local_rank,
                rank,
                program,
                arguments,
                environment,
                stdout,
                stderr,
                binding,
            },
        )
    }

    fn report() -> impl Strategy<Value = Report> {
        let status = prop_oneof![any::<i32>().prop_map(Status::Code), any::<i32>().prop_map(Status::Signal)];
        let process =
            (any::<i32>(), any::<u8>(), ".{0,20}").prop_map(|(pid, state, name)| Process { pid, state, name });
        prop_oneof![
            (any::<u32>(), any::<i32>()).prop_map(|(index, pid)| Report::Started { index, pid }),
            (any::<u32>(), prop::sample::select(&STEPS[..]), any::<i32>())
                .prop_map(|(index, step, errno)| Report::NotStarted { index, failure: Failure { step, errno } }),
            (any::<u32>(), any::<i32>(), status, 0..1_u64 << 40, 0..1_000_000_000_u64).prop_map(
                |(index, pid, status, secs, nanos)| {
                    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(secs) + Duration::from_nanos(nanos);
                    Report::Ended { index, pid, status, at }
                }
            ),
            (any::<u32>(), prop::collection::vec(process, 0..LISTED))
                .prop_map(|(count, first)| Report::Descendants { count, first }),
            any::<(u32, u32, u64)>().prop_map(|(files, segments, bytes)| Report::Removed(Removed {
                files,
                segments,
                bytes
            })),
            Just(Report::Empty),
            any::<i32>().prop_map(|pid| Report::Warm { pid }),
            ".{0,200}".prop_map(|reason| Report::Cold { reason }),
        ]
    }

    proptest! {
        #[test]
        fn workers_arrive_as_they_were(workers in prop::collection::vec(worker(), 0..5)) {
            prop_assert_eq!(read_workers(write_workers(&workers).unwrap()).unwrap(), workers);
        }

        #[test]
        fn reports_arrive_as_they_were(report in report()) {
            let packet = report.encode();
            prop_assert!(packet.len() <= PACKET_BYTES);
            prop_assert_eq!(Report::decode(&packet), Some(report));
        }

        #[test]
        fn other_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            Report::decode(&bytes);
            Order::decode(&bytes);
            decode_workers(&bytes);
        }
    }

    #[test]
    fn orders_cross_with_their_workers() {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
        let (here, there) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let value = "v".repeat(300_000);
        let worker = Worker {
            local_rank: 1,
            rank: 3,
            program: "train".into(),
            arguments: vec!["--x".into()],
            environment: vec![("LARGE".into(), value.into())],
            stdout: Output::Inherited,
            stderr: Output::Discarded,
            binding: None,
        };
        let memory = write_workers(std::slice::from_ref(&worker)).unwrap();
        send_order(here.as_fd(), &Order::Start, Some(memory.as_fd())).unwrap();
        let (order, workers) = receive_order(there.as_fd()).unwrap().unwrap();
        assert_eq!(order, Order::Start);
        assert_eq!(read_workers(workers.unwrap()).unwrap(), [worker]);
        let signal = Order::Signal { signal: libc::SIGTERM, to: Target::Groups };
        for order in [signal, Order::Kill, Order::List, Order::Leave, Order::Warm { limit_ms: 7 }] {
            send_order(here.as_fd(), &order, None).unwrap();
            let (received, workers) = receive_order(there.as_fd()).unwrap().unwrap();
            assert_eq!(received, order);
            assert!(workers.is_none());
        }
        drop(here);
        assert!(receive_order(there.as_fd()).unwrap().is_none());
    }
}
