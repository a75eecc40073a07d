//! What guardian and template say to each other, over pairs of SEQPACKET sockets.
//!
//! On the template's own: from it `ready`, or `no:` and the reason; to it a byte for each rank, with files: a memfd, the rank's own
//! connection, its stdout and stderr, and the control group that it is to enter, if there is one. The memfd holds, with zero bytes
//! between them, a JSON object (`request`), the arguments behind the script, and the environment. On a rank's connection: a byte and
//! a pidfd of the rank when it is ready, or `no:` and the reason; then the guardian's leave; its end says that the program begins.

use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType,
};
use rustix::process::{Pid, WaitId, WaitIdOptions};
use serde_json::json;

use super::super::spawn::{self, Conditions};
use crate::worker::Worker;

/// Longer than what a template says.
const PACKET_BYTES: usize = 4096;

/// The second end is for another process, which waits at it; this one does not.
pub(super) fn connection() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    Ok((ours, theirs))
}

/// Asks for a rank. Gives back our end of its connection.
pub(super) fn ask(
    template: BorrowedFd<'_>,
    worker: &Worker,
    arguments: &[OsString],
    conditions: &Conditions<'_>,
) -> io::Result<OwnedFd> {
    let (channel, theirs) = connection()?;
    let memory = rustix::fs::memfd_create("zenith-rank", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut memory = std::fs::File::from(memory);
    memory.write_all(&request(worker, arguments, conditions)?)?;
    let (stdout, stderr) = (spawn::opened(&worker.stdout)?, spawn::opened(&worker.stderr)?);
    let stdout = stdout.as_ref().map_or_else(|| rustix::stdio::stdout(), AsFd::as_fd);
    let stderr = stderr.as_ref().map_or_else(|| rustix::stdio::stderr(), AsFd::as_fd);
    let files = [memory.as_fd(), theirs.as_fd(), stdout, stderr];
    let files: Vec<_> = files.into_iter().chain(conditions.cgroup.map(|cgroup| cgroup.members())).collect();
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(5))];
    let mut ancillary = SendAncillaryBuffer::new(&mut room);
    ancillary.push(SendAncillaryMessage::ScmRights(&files));
    rustix::net::sendmsg(template, &[IoSlice::new(b"?")], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(channel)
}

fn request(worker: &Worker, arguments: &[OsString], conditions: &Conditions<'_>) -> io::Result<Vec<u8>> {
    let binding = worker.binding.as_ref();
    let head = json!({
        "guardian": rustix::process::getpid().as_raw_nonzero(),
        "dies_with_parent": conditions.dies_with_parent,
        "arguments": arguments.len(),
        "cpus": binding.map(|binding| binding.cpus.iter().collect::<Vec<_>>()),
        "memory_node": binding.and_then(|binding| binding.memory_node),
        "set_mempolicy": libc::SYS_set_mempolicy,
    });
    let mut bytes = head.to_string().into_bytes();
    let mut put = |parts: &[&[u8]]| -> io::Result<()> {
        bytes.push(0);
        for part in parts {
            if part.contains(&0) {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            bytes.extend_from_slice(part);
        }
        Ok(())
    };
    for argument in arguments {
        put(&[argument.as_bytes()])?;
    }
    for (name, value) in &worker.environment {
        put(&[name.as_bytes(), b"=", value.as_bytes()])?;
    }
    Ok(bytes)
}

/// What a template has said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Word {
    Ready,
    No(String),
    /// It will say nothing more.
    End,
}

/// `None` if there is nothing yet.
pub(super) fn word(template: BorrowedFd<'_>) -> Option<Word> {
    let mut packet = [0; PACKET_BYTES];
    match rustix::net::recv(template, &mut packet[..], RecvFlags::DONTWAIT) {
        Ok((bytes, _)) => Some(match &packet[..bytes] {
            b"ready" => Word::Ready,
            other => match other.strip_prefix(b"no:") {
                Some(reason) => Word::No(String::from_utf8_lossy(reason).into_owned()),
                None => Word::End,
            },
        }),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => None,
        Err(_) => Some(Word::End),
    }
}

/// A process that waits for leave to be a rank.
pub(super) struct Newborn {
    pub(super) pid: Pid,
    pub(super) process: OwnedFd,
}

/// The process at the other end of `channel`, if it is ready and a child of this one that has not been reaped; else why not.
pub(super) fn newborn(channel: BorrowedFd<'_>) -> Result<Newborn, String> {
    const ENDED: &str = "its process ended too early";
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut room);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let mut packet = [0; PACKET_BYTES];
    let received = rustix::net::recvmsg(channel, &mut [IoSliceMut::new(&mut packet)], &mut ancillary, flags)
        .map_err(|_| ENDED.to_owned())?;
    if let Some(reason) = packet[..received.bytes].strip_prefix(b"no:") {
        return Err(String::from_utf8_lossy(reason).into_owned());
    }
    let process = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    process.and_then(child).ok_or_else(|| ENDED.to_owned())
}

fn child(process: OwnedFd) -> Option<Newborn> {
    // Refused for any process but a child that can still be waited for, whose number is nobody else's as long as it is one.
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    rustix::process::waitid(WaitId::PidFd(process.as_fd()), options).ok()?;
    let about = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", process.as_raw_fd())).ok()?;
    let number = about.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    Some(Newborn { pid: Pid::from_raw(number.trim().parse().ok()?)?, process })
}

/// Lets the process at the other end be a rank.
pub(super) fn give_leave(channel: BorrowedFd<'_>) -> io::Result<()> {
    rustix::net::send(channel, b"!", SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
    Ok(())
}
