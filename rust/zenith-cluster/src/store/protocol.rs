//! The wire format of torch's TCPStore (torch 2.13): bytes in, requests out.
//!
//! Nothing here does I/O or keeps bytes: the caller shows what has arrived and keeps what was not taken. Integers are in
//! the order of the machine, as torch writes them. PROTOCOL-1: what has to be kept for an unfinished request is never
//! longer than `LIST_BYTES_MAX` and one key, whatever lengths it announces.

use thiserror::Error;

/// What a client of torch says first.
pub(super) const MAGIC: u32 = 0x3C85_F7CE;

// The limits of torch's own server.
pub(super) const KEY_BYTES_MAX: usize = 8 << 10;
pub(super) const VALUE_BYTES_MAX: usize = 8 << 20;
pub(super) const KEYS_MAX: u64 = 128 << 10;
/// Of all keys of a CHECK or WAIT together, which have to be complete before they are answered. torch's server has no such
/// limit, so that one request may hold a GiB.
pub(super) const LIST_BYTES_MAX: usize = 64 << 20;

/// What a client asks for. MULTI_GET and MULTI_SET come as one GET or SET for each key: their answers are the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request<'a> {
    Set { key: &'a [u8], value: &'a [u8] },
    CompareSet { key: &'a [u8], expected: &'a [u8], desired: &'a [u8] },
    Get { key: &'a [u8] },
    Add { key: &'a [u8], delta: i64 },
    Check { keys: Names<'a> },
    Wait { keys: Names<'a> },
    CountKeys,
    Delete { key: &'a [u8] },
    Append { key: &'a [u8], value: &'a [u8] },
    CancelWait,
    Ping { nonce: u32 },
    QueuePush { key: &'a [u8], value: &'a [u8] },
    QueuePop { key: &'a [u8] },
    QueueLength { key: &'a [u8] },
    ListKeys,
    Barrier { key: &'a [u8], world_size: i64 },
}

/// Why a connection is closed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum Violation {
    #[error("its first bytes are not those of a TCPStore client of torch 2.x in this machine's byte order")]
    NoGreeting,
    #[error("operation {0} is not known; torch up to 2.13 has 0 to 18")]
    UnknownOperation(u8),
    #[error("a key of {0} bytes; at most {KEY_BYTES_MAX} are allowed")]
    LongKey(u64),
    #[error("a value of {0} bytes; at most {VALUE_BYTES_MAX} are allowed, so split it")]
    LongValue(u64),
    #[error("{0} keys in one request; at most {KEYS_MAX} are allowed, so split it")]
    ManyKeys(u64),
    #[error("the keys of one request are longer than {LIST_BYTES_MAX} bytes, so split it")]
    LongList,
    #[error("key {0:?} is to be added to and does not hold a number of 64 bits")]
    NotANumber(String),
}

/// The keys of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names<'a> {
    bytes: &'a [u8],
}

impl<'a> Iterator for Names<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        text(&mut self.bytes, KEY_BYTES_MAX, Violation::LongKey).ok()
    }
}

/// Where one connection is in its stream of requests.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    greeted: bool,
    /// The rest of a MULTI_GET or MULTI_SET.
    several: Option<Several>,
    scanned: Scanned,
}

#[derive(Debug, Clone, Copy)]
struct Several {
    sets: bool,
    left: u64,
}

/// How much of an unfinished list of keys was looked at already: it is not read again from its start whenever a piece
/// of it arrives.
#[derive(Debug, Clone, Copy, Default)]
struct Scanned {
    keys: u64,
    bytes: usize,
}

enum Stop {
    /// The rest of the request has not arrived.
    Short,
    Broken(Violation),
}

impl Decoder {
    /// The next request of `input`, which is moved past it; `None` if it is not complete. Then the next call has to show
    /// the same bytes again, with more of them.
    pub(super) fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Request<'a>>, Violation> {
        match self.request(input) {
            Ok(request) => Ok(Some(request)),
            Err(Stop::Short) => Ok(None),
            Err(Stop::Broken(violation)) => Err(violation),
        }
    }

    fn request<'a>(&mut self, input: &mut &'a [u8]) -> Result<Request<'a>, Stop> {
        let mut rest = *input;
        if !self.greeted {
            greeting(&mut rest)?;
            self.greeted = true;
            *input = rest;
        }
        loop {
            if let Some(several) = self.several {
                let key = key(&mut rest)?;
                let request =
                    if several.sets { Request::Set { key, value: value(&mut rest)? } } else { Request::Get { key } };
                self.several = (several.left > 1).then(|| Several { left: several.left - 1, ..several });
                *input = rest;
                return Ok(request);
            }
            let [operation] = array(&mut rest)?;
            if let Some(request) = self.operation(operation, &mut rest)? {
                *input = rest;
                return Ok(request);
            }
            // The head of a MULTI_GET or MULTI_SET was read; without keys it asks for nothing.
            *input = rest;
        }
    }

    fn operation<'a>(&mut self, operation: u8, rest: &mut &'a [u8]) -> Result<Option<Request<'a>>, Stop> {
        Ok(Some(match operation {
            1 => Request::Set { key: key(rest)?, value: value(rest)? },
            2 => Request::CompareSet { key: key(rest)?, expected: value(rest)?, desired: value(rest)? },
            3 => Request::Get { key: key(rest)? },
            4 => Request::Add { key: key(rest)?, delta: i64::from_ne_bytes(array(rest)?) },
            5 => Request::Check { keys: self.names(rest)? },
            6 => Request::Wait { keys: self.names(rest)? },
            7 => Request::CountKeys,
            8 => Request::Delete { key: key(rest)? },
            9 => Request::Append { key: key(rest)?, value: value(rest)? },
            10 | 11 => {
                let left = count(rest)?;
                self.several = (left > 0).then_some(Several { sets: operation == 11, left });
                return Ok(None);
            }
            12 => Request::CancelWait,
            13 => Request::Ping { nonce: u32::from_ne_bytes(array(rest)?) },
            14 => Request::QueuePush { key: key(rest)?, value: value(rest)? },
            15 => Request::QueuePop { key: key(rest)? },
            16 => Request::QueueLength { key: key(rest)? },
            17 => Request::ListKeys,
            18 => Request::Barrier { key: key(rest)?, world_size: i64::from_ne_bytes(array(rest)?) },
            unknown => return Err(Stop::Broken(Violation::UnknownOperation(unknown))),
        }))
    }

    fn names<'a>(&mut self, rest: &mut &'a [u8]) -> Result<Names<'a>, Stop> {
        let count = count(rest)?;
        let mut scanned = self.scanned;
        let mut ahead = rest.get(scanned.bytes..).ok_or(Stop::Short)?;
        while scanned.keys < count {
            let before = ahead.len();
            if let Err(stop) = key(&mut ahead) {
                self.scanned = scanned;
                return Err(stop);
            }
            scanned.keys += 1;
            scanned.bytes += before - ahead.len();
            if scanned.bytes > LIST_BYTES_MAX {
                return Err(Stop::Broken(Violation::LongList));
            }
        }
        self.scanned = Scanned::default();
        Ok(Names { bytes: take(rest, scanned.bytes)? })
    }
}

/// VALIDATE and the magic number. Refused at the first byte that is wrong: a stranger may wait for an answer before it
/// says more.
fn greeting(rest: &mut &[u8]) -> Result<(), Stop> {
    let mut expected = [0; 5];
    expected[1..].copy_from_slice(&MAGIC.to_ne_bytes());
    let arrived = rest.len().min(expected.len());
    if rest[..arrived] != expected[..arrived] {
        return Err(Stop::Broken(Violation::NoGreeting));
    }
    take(rest, expected.len()).map(|_| ())
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> Result<&'a [u8], Stop> {
    let (taken, after) = rest.split_at_checked(bytes).ok_or(Stop::Short)?;
    *rest = after;
    Ok(taken)
}

fn array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Stop> {
    let (taken, after) = rest.split_first_chunk().ok_or(Stop::Short)?;
    *rest = after;
    Ok(*taken)
}

fn count(rest: &mut &[u8]) -> Result<u64, Stop> {
    let count = u64::from_ne_bytes(array(rest)?);
    if count > KEYS_MAX { Err(Stop::Broken(Violation::ManyKeys(count))) } else { Ok(count) }
}

fn key<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Stop> {
    text(rest, KEY_BYTES_MAX, Violation::LongKey)
}

fn value<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Stop> {
    text(rest, VALUE_BYTES_MAX, Violation::LongValue)
}

/// A length and as many bytes. The length is judged before the bytes are there, so that a wrong one ends the connection
/// and not its patience.
fn text<'a>(rest: &mut &'a [u8], bytes_max: usize, too_long: fn(u64) -> Violation) -> Result<&'a [u8], Stop> {
    let length = u64::from_ne_bytes(array(rest)?);
    match usize::try_from(length) {
        Ok(bytes) if bytes <= bytes_max => take(rest, bytes),
        _ => Err(Stop::Broken(too_long(length))),
    }
}

#[cfg(test)]
#[path = "protocol_tests.rs"]
mod tests;
