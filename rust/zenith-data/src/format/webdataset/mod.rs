//! WebDataset: tar shards whose neighbouring members of one key are a sample. Opening passes over the headers of each shard
//! once and keeps what it found in a sidecar. A block is a run of samples, which is read at once; members are cut out of it.
//! Names of members are names and nothing else: no file is ever opened or written by them.

mod extended;
mod fields;
mod group;
mod header;
mod index;
mod name;
mod npy;
mod open;
mod value;
mod window;

#[cfg(test)]
mod tests;

use std::ops::Range as Span;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::dataset::{Block, Dataset, Unit};
use crate::error::Place;
use crate::field::Schema;
use crate::format::ranges::{Pieces, merge};
use crate::format::sample_rows::SampleRows;
use crate::rows::{RowLayout, Rows};
use crate::storage::{Range, Source};
use crate::transform::{DrawKey, Transform};
use crate::{Error, Result};
pub use fields::{Decode, KEY, MemberField};
use group::Samples;
pub use group::{Duplicate, Missing};
use index::Member;
pub use open::refuse_urls;
use value::Value;

/// Bytes that are read at a time: what is cut out of them is found in the cache.
const PART_BYTES_AIM: u64 = 512 << 10;

/// How shards are read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebDatasetOptions {
    /// What is delivered; by default every member of the first sample, decoded as its extension asks for.
    pub fields: Option<Vec<MemberField>>,
    /// Seed of the transforms that draw.
    pub seed: u64,
    /// What happens where a name or a key stands in a shard twice.
    pub duplicate: Duplicate,
    /// What happens where a sample lacks a member.
    pub missing: Missing,
    /// What happens where a shard was cut short.
    pub truncated: Truncated,
}

/// What becomes of a shard that ends inside a member.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Truncated {
    #[default]
    Error,
    /// Its samples are read but for the last, of which members may be lost.
    Skip,
}

/// Opened shards, as they are in one epoch.
#[derive(Debug, Clone)]
pub struct WebDataset {
    content: Arc<Content>,
    epoch: u64,
}

/// What does not change from epoch to epoch.
#[derive(Debug)]
struct Content {
    sources: Vec<Source>,
    /// The samples of each shard.
    shards: Vec<Samples>,
    runs: Vec<Run>,
    blocks: Vec<Block>,
    fields: Vec<MemberField>,
    values: Vec<Value>,
    /// Which of a sample's members each field is made of; `None` for its key.
    member_of: Vec<Option<usize>>,
    schema: Schema,
    transforms: Vec<Option<Arc<dyn Transform>>>,
    seed: u64,
    /// Tells datasets apart that are read with one seed.
    identity: u64,
    fingerprint: String,
    notices: Vec<String>,
}

/// The samples of a block.
#[derive(Debug, Clone)]
struct Run {
    shard: u32,
    samples: Span<usize>,
    /// Number of the first of them in the dataset.
    first: u64,
}

impl Content {
    fn run(&self, block: usize) -> (&Run, &Samples) {
        let run = &self.runs[block];
        (run, &self.shards[run.shard as usize])
    }

    /// The bytes that some samples of a shard lie in.
    fn ranges(&self, shard: u32, samples: Span<usize>) -> Vec<Range> {
        let known = &self.shards[shard as usize];
        let members = samples.flat_map(|sample| known.members(sample));
        merge(shard, members.map(|member| (member.header, member.end() - member.header)).collect())
    }

    /// The samples of a block, cut where about `PART_BYTES_AIM` are full.
    fn parts(&self, block: usize) -> impl Iterator<Item = Span<usize>> {
        let (run, samples) = self.run(block);
        let mut left = run.samples.clone();
        let bytes =
            |sample: usize| samples.members(sample).iter().map(|member| member.end() - member.header).sum::<u64>();
        std::iter::from_fn(move || {
            let start = left.start;
            let mut held = 0;
            while held < PART_BYTES_AIM
                && let Some(sample) = left.next()
            {
                held += bytes(sample);
            }
            (left.start > start).then_some(start..left.start)
        })
    }

    /// Appends one sample from the pieces of the shard. An error comes with the field that it is about.
    fn append(
        &self,
        samples: &Samples,
        sample: usize,
        pieces: &Pieces,
        rows: &mut SampleRows<'_>,
    ) -> std::result::Result<(), (Error, usize)> {
        for (field, value) in self.values.iter().enumerate() {
            let about = |error: Error| (error, field);
            let Some(at) = self.member_of[field] else {
                rows.varying(field, String::from_utf8_lossy(samples.key(sample)).as_bytes()).map_err(about)?;
                continue;
            };
            let bytes = content(&samples.members(sample)[at], pieces).map_err(about)?;
            match rows.dense(field) {
                Some(into) => value.write(&bytes, into).map_err(about)?,
                None => value.check(&bytes).and_then(|()| rows.varying(field, &bytes)).map_err(about)?,
            }
        }
        Ok(())
    }
}

/// The bytes of a member, whose headers must be those that were indexed.
fn content(member: &Member, pieces: &Pieces) -> Result<Bytes> {
    let whole = pieces
        .get(member.header, member.end() - member.header)
        .ok_or_else(|| Error::internal("a member was not read"))?;
    let head = (member.data - member.header) as usize;
    if xxh3_64(&whole[..head]) != member.check {
        let message = "the header is not what it was when the shard was indexed. Restore the shard, or open it anew";
        return Err(Error::corrupt(message));
    }
    Ok(whole.slice(head..))
}

impl WebDataset {
    /// Appends some samples of a block, given the bytes of their ranges.
    fn append(&self, block: usize, part: Span<usize>, bytes: &[Bytes], rows: &mut Rows) -> Result<()> {
        let content = &*self.content;
        let (run, samples) = content.run(block);
        let pieces = Pieces::new(&content.ranges(run.shard, part.clone()), bytes)?;
        let mut into = SampleRows::new(rows, part.len())?;
        for sample in part {
            let row = (sample - run.samples.start) as u64;
            into.begin(DrawKey::new(content.seed, self.epoch, content.identity, run.first + row));
            content
                .append(samples, sample, &pieces, &mut into)
                .map_err(|(error, field)| error.at(self.place(block, row, field)))?;
        }
        into.finish()
    }
}

impl Dataset for WebDataset {
    fn format(&self) -> &'static str {
        "WebDataset"
    }

    fn schema(&self) -> &Schema {
        &self.content.schema
    }

    fn sources(&self) -> &[Source] {
        &self.content.sources
    }

    fn layout(&self) -> RowLayout {
        RowLayout::with_transforms(&self.content.schema, &self.content.transforms)
    }

    fn at_epoch(&self, epoch: u64) -> Option<Arc<dyn Dataset>> {
        let draws = self.content.transforms.iter().flatten().any(|transform| transform.is_random());
        (draws && epoch != self.epoch)
            .then(|| Arc::new(Self { content: self.content.clone(), epoch }) as Arc<dyn Dataset>)
    }

    fn blocks(&self) -> &[Block] {
        &self.content.blocks
    }

    fn fingerprint(&self) -> &str {
        &self.content.fingerprint
    }

    fn notices(&self) -> Vec<String> {
        self.content.notices.clone()
    }

    fn ranges(&self, block: usize) -> Vec<Range> {
        let (run, _) = self.content.run(block);
        self.content.ranges(run.shard, run.samples.clone())
    }

    /// A block of keys alone needs no bytes, and has its shard all the same.
    fn units(&self) -> Vec<Unit> {
        let mut units: Vec<Unit> = Vec::with_capacity(self.content.runs.len());
        for run in &self.content.runs {
            let number = units.last().filter(|unit| unit.source == run.shard).map_or(0, |unit| unit.number + 1);
            let rows = run.samples.start as u64..run.samples.end as u64;
            units.push(Unit { source: run.shard, number, rows });
        }
        units
    }

    fn place(&self, block: usize, row: u64, field: usize) -> Place {
        let content = &*self.content;
        let (run, samples) = content.run(block);
        let sample = run.samples.start + row as usize;
        let member = content.member_of.get(field).copied().flatten().map(|at| &samples.members(sample)[at]);
        let key = String::from_utf8_lossy(samples.key(sample));
        Place {
            file: Some(content.sources[run.shard as usize].location.clone()),
            offset: member.map(|member| member.data),
            row: Some(sample as u64),
            member: member.map(|_| format!("{key}.{}", content.fields[field].members.join("|"))),
            field: content.fields.get(field).map(|field| field.name.clone()),
            block: None,
        }
    }

    fn encoded_at(&self, block: usize, row: u64, field: usize) -> Option<Range> {
        let (run, samples) = self.content.run(block);
        let at = self.content.member_of.get(field).copied().flatten()?;
        let member = &samples.members(run.samples.start + row as usize)[at];
        Some(Range { source: run.shard, offset: member.data, len: member.end() - member.data })
    }

    fn parts(&self, block: usize) -> Vec<Vec<Range>> {
        let (run, _) = self.content.run(block);
        self.content.parts(block).map(|part| self.content.ranges(run.shard, part)).collect()
    }

    fn decode(&self, block: usize, bytes: &[Bytes], rows: &mut Rows) -> Result<()> {
        let (run, _) = self.content.run(block);
        self.append(block, run.samples.clone(), bytes, rows)
    }

    fn decode_part(&self, block: usize, part: usize, bytes: &[Bytes], rows: &mut Rows) -> Result<()> {
        match self.content.parts(block).nth(part) {
            Some(samples) => self.append(block, samples, bytes, rows),
            None => Err(Error::internal("a part was brought that the block does not have")),
        }
    }
}
