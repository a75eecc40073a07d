//! What the clients of a store have written, and who waits for more: a request in, answers out. No I/O, no clock.
//!
//! - KEYS-1: a connection that waits stands in the lists of exactly those of its keys that have not appeared.
//! - KEYS-2: a connection waits for one thing at a time: a new WAIT or BARRIER takes the place of the one before.
//! - KEYS-3: while a queue has values, a client that was woken for it has yet to ask for its value, or none waits for it.

use std::collections::{HashMap, HashSet, VecDeque};

use super::protocol::{Names, Request, Violation};

/// Which connection, as the server counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Connection(pub(super) u32);

type Bytes = Box<[u8]>;

/// What a request does to connections: bytes to the one that made it, the end of waiting to others.
#[derive(Debug)]
pub(super) struct Answers<'a> {
    pub(super) from: Connection,
    pub(super) own: &'a mut Vec<u8>,
    /// Each of these gets `STOP_WAITING`.
    pub(super) released: &'a mut VecDeque<Connection>,
}

/// The answer to WAIT and BARRIER.
pub(super) const STOP_WAITING: u8 = 0;
/// The answer to CANCEL_WAIT.
const WAIT_CANCELED: u8 = 1;

/// The maps hash with a random seed, so that nobody can choose keys that collide.
#[derive(Debug, Default)]
pub(super) struct Keys {
    values: HashMap<Bytes, Vec<u8>>,
    /// None of them is empty.
    queues: HashMap<Bytes, VecDeque<Bytes>>,
    waits: HashMap<Connection, Wait>,
    waiters: HashMap<Bytes, VecDeque<Connection>>,
    barriers: HashMap<Bytes, Vec<AtBarrier>>,
}

/// What a connection waits for.
#[derive(Debug)]
enum Wait {
    Keys {
        keys: Vec<Bytes>,
        missing: usize,
    },
    Barrier {
        key: Bytes,
    },
    /// It was told that this queue has a value and has not come for it.
    Value {
        queue: Bytes,
    },
}

#[derive(Debug)]
struct AtBarrier {
    connection: Connection,
    world_size: i64,
}

impl Keys {
    /// Does what a connection asks for. An error is a reason to close it.
    pub(super) fn serve(&mut self, request: Request<'_>, answers: &mut Answers<'_>) -> Result<(), Violation> {
        self.come_back(&request, answers);
        match request {
            Request::Set { key, value } => self.set(key, value.to_vec(), answers),
            Request::CompareSet { key, expected, desired } => self.compare_set(key, expected, desired, answers),
            Request::Get { key } => write_text(self.values.get(key).map_or(&[][..], |value| value), answers.own),
            Request::Add { key, delta } => {
                let sum = self.add(key, delta, answers)?;
                answers.own.extend_from_slice(&sum.to_ne_bytes());
            }
            Request::Check { mut keys } => answers.own.push(u8::from(!keys.all(|key| self.exists(key)))),
            Request::Wait { keys } => self.wait(keys, answers),
            Request::CountKeys => write_count(self.values.len(), answers.own),
            Request::Delete { key } => write_count(usize::from(self.values.remove(key).is_some()), answers.own),
            Request::Append { key, value } => self.append(key, value, answers),
            Request::CancelWait => {
                self.forget(answers.from, answers.released);
                answers.own.push(WAIT_CANCELED);
            }
            Request::Ping { nonce } => answers.own.extend_from_slice(&nonce.to_ne_bytes()),
            Request::QueuePush { key, value } => {
                match self.queues.get_mut(key) {
                    Some(queue) => queue.push_back(value.into()),
                    None => drop(self.queues.insert(key.into(), VecDeque::from([value.into()]))),
                }
                self.offer(key, answers);
            }
            Request::QueuePop { key } => self.pop(key, answers.own),
            Request::QueueLength { key } => write_count(self.queues.get(key).map_or(0, VecDeque::len), answers.own),
            Request::ListKeys => {
                write_count(self.values.len(), answers.own);
                self.values.keys().for_each(|key| write_text(key, answers.own));
            }
            Request::Barrier { key, world_size } => self.barrier(key, world_size, answers)?,
        }
        Ok(())
    }

    /// The connection is gone, and whatever it waited for. Those in `released` get what it was to get.
    pub(super) fn forget(&mut self, connection: Connection, released: &mut VecDeque<Connection>) {
        match self.waits.remove(&connection) {
            Some(Wait::Keys { keys, .. }) => {
                let distinct: HashSet<Bytes> = keys.into_iter().collect();
                for key in distinct {
                    if let Some(waiters) = self.waiters.get_mut(&key) {
                        waiters.retain(|waiter| *waiter != connection);
                        if waiters.is_empty() {
                            self.waiters.remove(&key);
                        }
                    }
                }
            }
            Some(Wait::Barrier { key }) => {
                if let Some(present) = self.barriers.get_mut(&key) {
                    present.retain(|waiter| waiter.connection != connection);
                    if present.is_empty() {
                        self.barriers.remove(&key);
                    }
                }
            }
            Some(Wait::Value { queue }) if self.queues.contains_key(&queue) => {
                if let Some(next) = self.next_waiter(&queue) {
                    released.push_back(next);
                }
            }
            Some(Wait::Value { .. }) | None => {}
        }
    }

    /// A client that was woken for a queue does not always take the value: it timed out meanwhile, or only wanted to know.
    /// Then the next one is woken, which torch's server leaves asleep.
    fn come_back(&mut self, request: &Request<'_>, answers: &mut Answers<'_>) {
        if self.waits.is_empty() {
            return;
        }
        let Some(Wait::Value { queue }) = self.waits.get(&answers.from) else { return };
        if matches!(request, Request::QueuePop { key } if *key == &queue[..]) {
            self.waits.remove(&answers.from);
        } else {
            self.forget(answers.from, answers.released);
        }
    }

    fn exists(&self, key: &[u8]) -> bool {
        self.values.contains_key(key) || self.queues.contains_key(key)
    }

    fn set(&mut self, key: &[u8], value: Vec<u8>, answers: &mut Answers<'_>) {
        match self.values.get_mut(key) {
            Some(old) => *old = value,
            None => drop(self.values.insert(key.into(), value)),
        }
        self.appeared(key, answers);
    }

    fn append(&mut self, key: &[u8], value: &[u8], answers: &mut Answers<'_>) {
        match self.values.get_mut(key) {
            Some(old) => {
                old.extend_from_slice(value);
                self.appeared(key, answers);
            }
            None => self.set(key, value.to_vec(), answers),
        }
    }

    fn compare_set(&mut self, key: &[u8], expected: &[u8], desired: &[u8], answers: &mut Answers<'_>) {
        let current = self.values.get(key);
        let equal = current.map_or(expected.is_empty(), |value| value == expected);
        if equal {
            write_text(desired, answers.own);
            self.set(key, desired.to_vec(), answers);
        } else {
            // A missing key is answered by what was expected of it.
            write_text(current.map_or(expected, |value| value), answers.own);
        }
    }

    /// The counter is text, because `get` shows it. It wraps around, as torch's does.
    fn add(&mut self, key: &[u8], delta: i64, answers: &mut Answers<'_>) -> Result<i64, Violation> {
        let before = self.values.get(key).map_or(Some(0), |value| number(value));
        let before = before.ok_or_else(|| Violation::NotANumber(String::from_utf8_lossy(key).into_owned()))?;
        let sum = before.wrapping_add(delta);
        self.set(key, sum.to_string().into_bytes(), answers);
        Ok(sum)
    }

    fn pop(&mut self, key: &[u8], out: &mut Vec<u8>) {
        let Some(queue) = self.queues.get_mut(key) else { return write_count(0, out) };
        write_count(queue.len(), out);
        if let Some(value) = queue.pop_front() {
            write_text(&value, out);
        }
        if queue.is_empty() {
            self.queues.remove(key);
        }
    }

    fn wait(&mut self, keys: Names<'_>, answers: &mut Answers<'_>) {
        self.forget(answers.from, answers.released);
        let missing: Vec<Bytes> = keys.filter(|key| !self.exists(key)).map(Bytes::from).collect();
        if missing.is_empty() {
            return answers.own.push(STOP_WAITING);
        }
        for key in &missing {
            self.waiters.entry(key.clone()).or_default().push_back(answers.from);
        }
        self.waits.insert(answers.from, Wait::Keys { missing: missing.len(), keys: missing });
    }

    /// The count is an ordinary value, and stays when a waiter goes; so one that comes again counts again, as in torch.
    fn barrier(&mut self, key: &[u8], world_size: i64, answers: &mut Answers<'_>) -> Result<(), Violation> {
        self.forget(answers.from, answers.released);
        if self.add(key, 1, answers)? >= world_size {
            answers.own.push(STOP_WAITING);
        } else {
            let present = self.barriers.entry(key.into()).or_default();
            present.push(AtBarrier { connection: answers.from, world_size });
            self.waits.insert(answers.from, Wait::Barrier { key: key.into() });
        }
        Ok(())
    }

    /// A value was written. Everybody who waits for the key hears of it, and a barrier that its count completes opens.
    fn appeared(&mut self, key: &[u8], answers: &mut Answers<'_>) {
        if !self.waiters.is_empty()
            && let Some(waiters) = self.waiters.remove(key)
        {
            for connection in waiters {
                if self.count_down(connection) {
                    self.waits.remove(&connection);
                    answers.release(connection);
                }
            }
        }
        if self.barriers.is_empty() {
            return;
        }
        let Some(present) = self.barriers.get_mut(key) else { return };
        let count = self.values.get(key).and_then(|value| number(value)).unwrap_or(0);
        for opened in present.extract_if(.., |waiter| waiter.world_size <= count) {
            self.waits.remove(&opened.connection);
            answers.release(opened.connection);
        }
        if present.is_empty() {
            self.barriers.remove(key);
        }
    }

    /// A queue got a value: one waiter is told, because one can have it.
    fn offer(&mut self, queue: &[u8], answers: &mut Answers<'_>) {
        if !self.waiters.is_empty()
            && let Some(next) = self.next_waiter(queue)
        {
            answers.release(next);
        }
    }

    /// The first in line for a queue that waits for nothing else. Those before it have seen the queue with a value.
    fn next_waiter(&mut self, queue: &[u8]) -> Option<Connection> {
        let mut waiters = self.waiters.remove(queue)?;
        let mut next = None;
        while let Some(connection) = waiters.pop_front() {
            if self.count_down(connection) {
                self.waits.insert(connection, Wait::Value { queue: queue.into() });
                next = Some(connection);
                break;
            }
        }
        if !waiters.is_empty() {
            self.waiters.insert(queue.into(), waiters);
        }
        next
    }

    /// One key fewer to wait for; whether it was the last.
    fn count_down(&mut self, connection: Connection) -> bool {
        match self.waits.get_mut(&connection) {
            Some(Wait::Keys { missing, .. }) => {
                *missing = missing.saturating_sub(1);
                *missing == 0
            }
            _ => false,
        }
    }
}

impl Answers<'_> {
    /// Bytes to the connection itself keep their order among its other answers.
    fn release(&mut self, connection: Connection) {
        if connection == self.from {
            self.own.push(STOP_WAITING);
        } else {
            self.released.push_back(connection);
        }
    }
}

/// The number at the start of a text, by the rules of C's `strtoll`, which torch's server follows.
fn number(text: &[u8]) -> Option<i64> {
    let start = text.iter().position(|byte| !matches!(byte, b' ' | b'\t'..=b'\r'))?;
    let text = text.get(start..)?;
    let signs = usize::from(matches!(text.first(), Some(b'+' | b'-')));
    let digits = text.iter().skip(signs).take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(text.get(..signs + digits)?).ok()?.parse().ok()
}

/// As many bytes as torch expects of a count, signed or not: it is never negative.
fn write_count(count: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&(count as u64).to_ne_bytes());
}

fn write_text(text: &[u8], out: &mut Vec<u8>) {
    write_count(text.len(), out);
    out.extend_from_slice(text);
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
