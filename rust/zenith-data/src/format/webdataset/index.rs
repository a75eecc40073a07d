//! Where the members of a shard lie: found by one pass over its headers, kept in a sidecar.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3Default;

use super::extended::{Extended, sparse};
use super::header::{BLOCK_BYTES, Header, Kind, is_sealed, is_zero, until_zero};
use super::window::Window;
use crate::sidecar::Progress;
use crate::storage::{Source, Storage};
use crate::{Error, Result};

/// Names and PAX records that are longer are refused.
const EXTENDED_BYTES_MAX: u64 = 1 << 20;
/// Headers that say something of one member; tar writes three at most.
const EXTENDED_HEADERS_MAX: u32 = 16;
/// Members between two looks at whether to go on.
const MEMBERS_PER_LOOK: usize = 256;
/// Bytes behind the end marker that are looked at: tar fills its last record with zeros.
const TAIL_BYTES: u64 = 64 << 10;

/// The regular files of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ShardIndex {
    /// Their names, one after another, as they are: bytes that are never taken for paths.
    pub names: Vec<u8>,
    pub members: Vec<Member>,
    pub end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Member {
    pub name_len: u32,
    /// Where its first header begins.
    pub header: u64,
    /// Where its content lies.
    pub data: u64,
    pub size: u64,
    /// xxh3 of its headers, all bytes from `header` to `data`.
    pub check: u64,
}

impl Member {
    pub(super) fn end(&self) -> u64 {
        self.data + self.size
    }
}

/// How the shard ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum End {
    /// With a marker: blocks of zeros.
    Marked,
    /// With a whole member and no marker behind it.
    Unmarked,
    /// Inside the member that begins here.
    Cut(u64),
    /// With a marker, and something that is not zeros behind it, from here on.
    Followed(u64),
}

impl ShardIndex {
    /// Members with their names.
    pub(super) fn named(&self) -> impl Iterator<Item = (&[u8], &Member)> {
        let mut rest = &self.names[..];
        self.members.iter().map(move |member| {
            let (name, after) = rest.split_at_checked(member.name_len as usize).unwrap_or((rest, &[]));
            rest = after;
            (name, member)
        })
    }

    /// Errors unless every member lies in a file of `file_bytes`: what was kept is not believed blindly.
    pub(super) fn check(&self, file_bytes: u64) -> Result<()> {
        let names: u64 = self.members.iter().map(|member| u64::from(member.name_len)).sum();
        let lies_within = |member: &Member| {
            member.header <= member.data && member.data.checked_add(member.size).is_some_and(|end| end <= file_bytes)
        };
        if names == self.names.len() as u64 && self.members.iter().all(lies_within) {
            return Ok(());
        }
        Err(Error::internal("the kept index of the shard does not fit it. Remove the folder of indexes"))
    }

    pub(super) fn build(
        storage: &dyn Storage,
        sources: &[Source],
        source: u32,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let mut window = Window::new(storage, sources, source);
        let file_bytes = window.file_bytes();
        if (1..BLOCK_BYTES).contains(&file_bytes) {
            let block = window.at(0, file_bytes)?.unwrap_or_default();
            return Err(named(0, &block, Error::corrupt("the shard ends inside its first header")).at_offset(0));
        }
        let mut pass = Pass { window, globals: Extended::default(), names: Vec::new(), members: Vec::new(), offset: 0 };
        let mut told = 0;
        let end = loop {
            if let Some(end) = pass.step()? {
                break end;
            }
            if pass.members.len().is_multiple_of(MEMBERS_PER_LOOK) {
                progress.advance(pass.offset - told)?;
                told = pass.offset;
            }
        };
        progress.advance(pass.window.file_bytes().saturating_sub(told))?;
        Ok(Self { names: pass.names, members: pass.members, end })
    }
}

/// One pass over the headers of a shard.
struct Pass<'a> {
    window: Window<'a>,
    globals: Extended,
    names: Vec<u8>,
    members: Vec<Member>,
    /// Where the next header begins.
    offset: u64,
}

impl Pass<'_> {
    /// Goes past the next member; returns the end if there is none.
    fn step(&mut self) -> Result<Option<End>> {
        let start = self.offset;
        if start >= self.window.file_bytes() {
            return if start == 0 {
                Err(Error::corrupt("the shard is empty. Leave it out"))
            } else {
                Ok(Some(End::Unmarked))
            };
        }
        let mut said = Extended::default();
        let mut hash = Xxh3Default::new();
        for _ in 0..EXTENDED_HEADERS_MAX {
            let at = self.offset;
            let Some(block) = self.window.at(at, BLOCK_BYTES)? else { return Ok(Some(End::Cut(start))) };
            if at == start && is_zero(&block) {
                return self.end().map(Some);
            }
            let header = Header::parse(&block).map_err(|error| named(at, &block, error).at_offset(at))?;
            hash.update(&block);
            let data = at + BLOCK_BYTES;
            match header.kind {
                Kind::Pax | Kind::PaxGlobal | Kind::LongName | Kind::LongLink => {
                    let Some(content) = self.extended(data, header.size)? else { return Ok(Some(End::Cut(start))) };
                    hash.update(&content);
                    self.offset = data + content.len() as u64;
                    let content = &content[..header.size as usize];
                    let outcome = match header.kind {
                        // What came first stands, as in Python's tarfile.
                        Kind::LongName => {
                            said.name.get_or_insert_with(|| until_zero(content).to_vec());
                            Ok(())
                        }
                        Kind::LongLink => Ok(()),
                        Kind::PaxGlobal => self.globals.read(content),
                        _ => {
                            let mut here = Extended::default();
                            here.read(content).map(|()| said = std::mem::take(&mut said).over(&here))
                        }
                    };
                    outcome.map_err(|error| error.at_offset(at))?;
                }
                Kind::Sparse => return Err(sparse().at_offset(at)),
                Kind::Bare => {
                    self.offset = data;
                    return Ok(None);
                }
                Kind::File | Kind::Passed => {
                    let said = said.over(&self.globals);
                    let size = said.size.unwrap_or(header.size);
                    let file_bytes = self.window.file_bytes();
                    let Some(end) = data.checked_add(size).filter(|&end| end <= file_bytes) else {
                        return Ok(Some(End::Cut(start)));
                    };
                    if header.kind == Kind::File {
                        let name = said.name.unwrap_or(header.name);
                        let check = hash.digest();
                        let name_len = u32::try_from(name.len()).unwrap_or(u32::MAX);
                        self.members.push(Member { name_len, header: start, data, size, check });
                        self.names.extend_from_slice(&name);
                    }
                    // Of the last member the filling may be missing.
                    self.offset = end.next_multiple_of(BLOCK_BYTES).min(file_bytes);
                    return Ok(None);
                }
            }
        }
        let message = format!("more than {EXTENDED_HEADERS_MAX} headers stand before one member. Restore the shard");
        Err(Error::corrupt(message).at_offset(start))
    }

    /// The content of a header that says something of others, up to the next block; `None` if the file ends before.
    fn extended(&mut self, offset: u64, size: u64) -> Result<Option<bytes::Bytes>> {
        if size > EXTENDED_BYTES_MAX {
            let message = format!("a name or PAX header of {size} bytes is beyond the limit of {EXTENDED_BYTES_MAX}");
            return Err(Error::corrupt(message).at_offset(offset));
        }
        self.window.at(offset, size.next_multiple_of(BLOCK_BYTES))
    }

    /// What stands behind the first block of zeros.
    fn end(&mut self) -> Result<End> {
        let after = self.offset + BLOCK_BYTES;
        let Some(second) = self.window.at(after, BLOCK_BYTES)? else { return Ok(End::Marked) };
        if !is_zero(&second) {
            let message = "a block of zeros stands where a header should be, and more follows. Restore the shard";
            return Err(Error::corrupt(message).at_offset(self.offset));
        }
        let tail = after + BLOCK_BYTES;
        let rest = self.window.file_bytes() - tail;
        let looked_at = self.window.at(tail, rest.min(TAIL_BYTES))?.unwrap_or_default();
        let is_filling = rest <= TAIL_BYTES && is_zero(&looked_at);
        Ok(if is_filling { End::Marked } else { End::Followed(tail) })
    }
}

/// The error of a block that is no header; at the beginning of a file it says what the file is instead.
fn named(offset: u64, block: &[u8], error: Error) -> Error {
    if offset > 0 || is_sealed(block) {
        return error;
    }
    match block {
        [0x1f, 0x8b, ..] | [b'B', b'Z', b'h', ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] | [0xfd, b'7', b'z', ..] => {
            Error::unsupported(
                "the shard is compressed as a whole, so that no sample could be read without those before it. Unpack it: \
                 pictures are compressed already",
            )
        }
        _ => Error::corrupt("this is no tar file: its first block is no header of one"),
    }
}
