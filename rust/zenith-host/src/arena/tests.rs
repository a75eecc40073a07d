use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::*;

fn arena() -> (Writer, Arc<Mapping>) {
    let file: OwnedFd = create().unwrap();
    let mapping = Mapping::new(&file).unwrap();
    (Writer::new(file).unwrap(), mapping)
}

/// Writes `content` and sends it, as a worker does; the lease is the main process's.
fn sent(writer: &mut Writer, mapping: &Arc<Mapping>, content: &[u8]) -> Lease {
    let mut lease = writer.allocate(content.len()).unwrap();
    lease.as_mut().copy_from_slice(content);
    let (chunk, offset) = writer.send(lease);
    mapping.receive(chunk, offset, content.len()).unwrap()
}

#[test]
fn what_is_sent_is_read_in_place_and_its_chunk_is_used_again_when_dropped() {
    let (mut writer, mapping) = arena();
    let first = sent(&mut writer, &mapping, &[7; 1000]);
    assert_eq!(first.as_ref(), [7; 1000]);
    let kept = sent(&mut writer, &mapping, &[8; 1000]);
    let address = first.as_ref().as_ptr();
    drop(first);
    let third = sent(&mut writer, &mapping, &[9; 1000]);
    assert_eq!(third.as_ref().as_ptr(), address);
    assert_eq!(kept.as_ref(), [8; 1000]);
}

#[test]
fn a_consumer_that_keeps_everything_never_stops_the_writer_nor_sees_a_change() {
    let (mut writer, mapping) = arena();
    let kept: Vec<Lease> = (0..200u8).map(|value| sent(&mut writer, &mapping, &[value; 5000])).collect();
    for (value, lease) in kept.iter().enumerate() {
        assert_eq!(lease.as_ref(), [value as u8; 5000]);
    }
}

#[test]
fn memory_of_the_arena_itself_is_sent_without_a_copy_and_stays_while_either_side_holds_it() {
    let (mut writer, mapping) = arena();
    let mut own = writer.allocate(4096).unwrap();
    own.as_mut().fill(3);
    let (chunk, offset) = writer.send(writer.find(own.as_ref().as_ptr(), 4096).unwrap());
    let received = mapping.receive(chunk, offset, 4096).unwrap();
    drop(received);
    let other = writer.allocate(4096).unwrap();
    assert_ne!(other.as_ref().as_ptr(), own.as_ref().as_ptr());
    drop(own);
    assert!(writer.find(std::ptr::from_ref(&0u8), 1).is_none());
}

#[test]
fn sizes_that_came_once_do_not_hold_their_memory() {
    let (mut writer, mapping) = arena();
    let mut most = 0;
    for turn in 0..30usize {
        let bytes = (turn + 1) << 20;
        drop(sent(&mut writer, &mapping, &vec![turn as u8; bytes]));
        most = most.max(writer.filled_bytes());
    }
    // Without giving back it would be the sum, 465 MiB.
    assert!(most < 160 << 20, "{most}");
}

#[test]
fn places_outside_the_arena_are_refused() {
    let (_writer, mapping) = arena();
    assert!(mapping.receive(0, 0, 64).is_none());
    assert!(mapping.receive(0, DATA_START + 1, 64).is_none());
    assert!(mapping.receive(0, usize::MAX - 63, 64).is_none());
    assert!(mapping.receive(u32::MAX, DATA_START, 64).is_none());
}

#[test]
fn a_forked_child_keeps_what_it_inherits_while_the_parent_goes_on() {
    let (mut writer, mapping) = arena();
    let lease = sent(&mut writer, &mapping, &[5; 100_000]);
    let mut pipe = [0; 2];
    // SAFETY: two descriptors are written.
    assert_eq!(unsafe { libc::pipe(pipe.as_mut_ptr()) }, 0);
    // SAFETY: the child reads memory, waits for a byte and calls `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let mut byte = 0u8;
        // SAFETY: one byte is read into one byte.
        let read = unsafe { libc::read(pipe[0], (&raw mut byte).cast(), 1) };
        let unchanged = lease.as_ref().iter().all(|&value| value == 5);
        drop(lease);
        // SAFETY: allowed after fork.
        unsafe { libc::_exit(if read == 1 && unchanged { 0 } else { 1 }) };
    }
    // The child has its copy once the parent gets the chunk again.
    let address = lease.as_ref().as_ptr();
    drop(lease);
    let mut tries = 0;
    while sent(&mut writer, &mapping, &[6; 100_000]).as_ref().as_ptr() != address {
        std::thread::yield_now();
        tries += 1;
        assert!(tries < 1_000_000);
    }
    // SAFETY: one byte of our own.
    assert_eq!(unsafe { libc::write(pipe[1], (&raw const tries).cast(), 1) }, 1);
    let mut status = -1;
    // SAFETY: our own child.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(status, 0);
}

#[test]
fn what_is_lent_to_a_child_is_not_copied_and_stays_until_the_loan_ends() {
    let (mut writer, mapping) = arena();
    let lease = sent(&mut writer, &mapping, &[5; 100_000]);
    let address = lease.as_ref().as_ptr();
    let mut pipe = [0; 2];
    // SAFETY: two descriptors are written.
    assert_eq!(unsafe { libc::pipe(pipe.as_mut_ptr()) }, 0);
    let (child, loan) = lend(|| {
        // SAFETY: the child reads memory, waits for a byte and calls `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let mut byte = 0u8;
            // SAFETY: one byte is read into one byte.
            let read = unsafe { libc::read(pipe[0], (&raw mut byte).cast(), 1) };
            let unchanged = lease.as_ref().iter().all(|&value| value == 5);
            // SAFETY: allowed after fork.
            unsafe { libc::_exit(if read == 1 && unchanged { 0 } else { 1 }) };
        }
        child
    });
    drop(lease);
    for _ in 0..100 {
        assert_ne!(sent(&mut writer, &mapping, &[6; 100_000]).as_ref().as_ptr(), address);
    }
    // SAFETY: one byte of our own.
    assert_eq!(unsafe { libc::write(pipe[1], [0u8].as_ptr().cast(), 1) }, 1);
    let mut status = -1;
    // SAFETY: our own child.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(status, 0);
    drop(loan);
    assert!((0..100).any(|_| sent(&mut writer, &mapping, &[7; 100_000]).as_ref().as_ptr() == address));
}
