//! Hints of all samples (`Transform::hint`), made once and kept in a sidecar.
//!
//! HINT-1: a hint is used as it was made or not at all: each has its checksum, and the key of the sidecar holds the versions
//! of all files.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::dataset::{Block, Dataset, Ports};
use crate::rows::{Maker, RowLayout, Slot};
use crate::sidecar::{Kept, Progress, Task};
use crate::storage::{Range, Storage};
use crate::{Error, ErrorKind, Result};

/// Bytes of the checksum before a hint.
const CHECK_BYTES: usize = 4;
/// At the end of the file: where hints begin, the number of places, and the checksum of the places.
const TAIL_BYTES: usize = 16;

/// The hints of a dataset.
#[derive(Debug)]
pub struct Hints {
    kept: Arc<dyn Kept>,
    /// Where the hints of each sample begin, one for each field that is made, and the end of the last.
    places: Vec<u64>,
    /// Which fields are made.
    fields: Vec<usize>,
}

impl Hints {
    /// Those that are kept for the dataset, or else made now by `threads` threads, reading all of it. `None` where they
    /// cannot be kept. Errors: no transform of it makes hints, or none of its values can be read by itself.
    pub fn open(dataset: &dyn Dataset, ports: Ports<'_>, threads: usize) -> Result<Option<Self>> {
        let makers = makers(&dataset.layout());
        if makers.is_empty() {
            return Err(Error::invalid("an index of pictures needs a field of pictures: give it transforms"));
        }
        let Some(key) = key(dataset, &makers) else {
            let message = format!("{} does not keep pictures as they are in files: no index of them", dataset.format());
            return Err(Error::unsupported(message));
        };
        let samples: u64 = dataset.blocks().iter().map(|block| block.rows).sum();
        let Some(count) = usize::try_from(samples).ok().and_then(|samples| samples.checked_mul(makers.len())) else {
            return Err(Error::new(ErrorKind::Budget, format!("{samples} samples are too many for an index")));
        };
        let bytes = dataset.sources().iter().map(|source| source.len).sum();
        let task = Task { key, title: format!("indexing {samples} pictures"), bytes };
        let mut write = |progress: &dyn Progress, out: &mut dyn std::io::Write| {
            write(dataset, ports.storage, &makers, threads, progress, out)
        };
        let fields = makers.iter().map(|(field, _)| *field).collect::<Vec<_>>();
        for _ in 0..2 {
            let Some(kept) = ports.sidecar.get_or_write(&task, &mut write)? else { return Ok(None) };
            if let Some(places) = places(&*kept, count) {
                return Ok(Some(Self { kept, places, fields }));
            }
            ports.sidecar.forget(&task);
        }
        Ok(None)
    }

    /// Puts the hint of a field of a sample into `into`, or nothing.
    pub fn read(&self, sample: u64, field: usize, into: &mut Vec<u8>) {
        into.clear();
        let Some(at) = self.fields.iter().position(|&known| known == field) else { return };
        let number = sample as usize * self.fields.len() + at;
        let Some(&[start, end]) = self.places.get(number..number + 2) else { return };
        into.resize(end.saturating_sub(start) as usize, 0);
        let is_whole = |bytes: &[u8]| {
            let (check, hint) = bytes.split_first_chunk::<CHECK_BYTES>()?;
            (u32::from_le_bytes(*check) == check_of(hint)).then_some(())
        };
        if !into.is_empty() && self.kept.read_at(start, into) && is_whole(into).is_some() {
            into.drain(..CHECK_BYTES);
        } else {
            into.clear();
        }
    }
}

fn check_of(hint: &[u8]) -> u32 {
    xxh3_64(hint) as u32
}

/// The fields whose transforms make hints.
fn makers(layout: &RowLayout) -> Vec<(usize, Maker)> {
    let made = layout.slots().iter().enumerate().filter_map(|(field, slot)| match slot {
        Slot::Made { by, .. } if by.0.hints().is_some() => Some((field, by.clone())),
        _ => None,
    });
    made.collect()
}

/// Of the files, and of where in them the values are; not of what transforms make of them. `None` if they are not there as they
/// are in a file.
fn key(dataset: &dyn Dataset, makers: &[(usize, Maker)]) -> Option<String> {
    let mut hash = Xxh3::new();
    let mut add = |part: &[u8]| {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    };
    add(b"hints-1");
    for source in dataset.sources() {
        add(source.location.as_bytes());
        add(source.version.as_bytes());
    }
    for (_, by) in makers {
        add(by.0.hints().unwrap_or_default().as_bytes());
    }
    let rows = |(block, known): (usize, &Block)| (0..known.rows).map(move |row| (block, row));
    for (block, row) in dataset.blocks().iter().enumerate().flat_map(rows) {
        for (field, _) in makers {
            let Range { source, offset, len } = dataset.encoded_at(block, row, *field)?;
            add(&[u64::from(source), offset, len].map(u64::to_le_bytes).concat());
        }
    }
    Some(format!("{:032x}", hash.digest128()))
}

/// The places at the end of what is kept, if they are whole.
fn places(kept: &dyn Kept, count: usize) -> Option<Vec<u64>> {
    let bytes = count.checked_add(1)?.checked_mul(8)?;
    let start = kept.size().checked_sub((bytes + TAIL_BYTES) as u64)?;
    let mut table = Vec::new();
    table.try_reserve_exact(bytes + TAIL_BYTES).ok()?;
    table.resize(bytes + TAIL_BYTES, 0);
    kept.read_at(start, &mut table).then_some(())?;
    let (table, tail) = table.split_at(bytes);
    let number = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).unwrap_or_default();
    (number(&tail[..8]) == count as u64 && number(&tail[8..]) == xxh3_64(table)).then_some(())?;
    let places: Vec<u64> = table.chunks_exact(8).map(number).collect();
    (places.is_sorted() && places.last() == Some(&start)).then_some(places)
}

/// Threads take blocks in turn; what they make is written in order.
fn write(
    dataset: &dyn Dataset,
    storage: &dyn Storage,
    makers: &[(usize, Maker)],
    threads: usize,
    progress: &dyn Progress,
    out: &mut dyn std::io::Write,
) -> Result<()> {
    let failed = |error: std::io::Error| Error::new(ErrorKind::Io, format!("an index cannot be written: {error}"));
    let blocks = dataset.blocks().len();
    let (next, mut places, mut at) = (AtomicUsize::new(0), Vec::new(), 0u64);
    std::thread::scope(|scope| {
        let (made, hints) = mpsc::sync_channel(2 * threads.max(1));
        for _ in 0..threads.clamp(1, blocks.max(1)) {
            let (made, next) = (made.clone(), &next);
            scope.spawn(move || {
                loop {
                    let block = next.fetch_add(1, Ordering::Relaxed);
                    // Without a receiver something went wrong: nobody wants the rest.
                    if block >= blocks || made.send((block, of_block(dataset, storage, makers, block))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(made);
        let (mut waiting, mut due) = (BTreeMap::new(), 0);
        for (block, hints) in hints {
            waiting.insert(block, hints?);
            while let Some((hints, read)) = waiting.remove(&due) {
                for hint in hints {
                    places.push(at);
                    if !hint.is_empty() {
                        out.write_all(&check_of(&hint).to_le_bytes())
                            .and_then(|()| out.write_all(&hint))
                            .map_err(failed)?;
                        at += (CHECK_BYTES + hint.len()) as u64;
                    }
                }
                progress.advance(read)?;
                due += 1;
            }
        }
        Ok::<_, Error>(())
    })?;
    places.push(at);
    let count = places.len() as u64 - 1;
    let table: Vec<u8> = places.into_iter().flat_map(u64::to_le_bytes).collect();
    let check = xxh3_64(&table);
    let parts = [&table[..], &count.to_le_bytes(), &check.to_le_bytes()];
    parts.iter().try_for_each(|part| out.write_all(part)).map_err(failed)
}

/// The hints of a block, sample by sample, and the bytes that were read for them. What cannot be read is an error; what is no
/// picture has no hint.
fn of_block(
    dataset: &dyn Dataset,
    storage: &dyn Storage,
    makers: &[(usize, Maker)],
    block: usize,
) -> Result<(Vec<Vec<u8>>, u64)> {
    let rows = dataset.blocks()[block].rows;
    let (mut hints, mut read) = (Vec::new(), 0);
    for row in 0..rows {
        for (field, by) in makers {
            let range =
                dataset.encoded_at(block, row, *field).ok_or_else(|| Error::internal("a value was not found"))?;
            let bytes = storage.read(dataset.sources(), range)?;
            read += bytes.len() as u64;
            hints.push(by.0.hint(&bytes));
        }
    }
    Ok((hints, read))
}
