//! Which members make up samples: neighbours of one key.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::fields::MemberField;
use super::index::{Member, ShardIndex};
use super::name;
use crate::{Error, Result};

/// Which one counts of members of one name, or of samples of one key in a shard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Duplicate {
    #[default]
    Error,
    First,
    Last,
}

/// What becomes of samples that lack a member.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    #[default]
    Error,
    Skip,
}

/// The samples of a shard: of each its key, and the member of each field that has one.
#[derive(Debug, Default)]
pub(super) struct Samples {
    keys: Vec<u8>,
    /// Where each key ends in `keys`.
    key_ends: Vec<usize>,
    /// Members, as many for each sample.
    members: Vec<Member>,
    per_sample: usize,
    /// Samples left out because they lack a member.
    pub incomplete: u64,
}

impl Samples {
    pub(super) fn len(&self) -> usize {
        self.key_ends.len()
    }

    /// The key as it stands in the shard.
    pub(super) fn key(&self, sample: usize) -> &[u8] {
        let start = if sample == 0 { 0 } else { self.key_ends[sample - 1] };
        &self.keys[start..self.key_ends[sample]]
    }

    /// The members of a sample, in the order of the fields that have any.
    pub(super) fn members(&self, sample: usize) -> &[Member] {
        &self.members[sample * self.per_sample..(sample + 1) * self.per_sample]
    }

    fn push(&mut self, key: &[u8], members: &[Member]) {
        self.keys.extend_from_slice(key);
        self.key_ends.push(self.keys.len());
        self.members.extend_from_slice(members);
    }
}

/// The extensions of the first sample, in the order of its members.
pub(super) fn first_extensions(index: &ShardIndex) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut first = None;
    for (name, _) in index.named().filter(|(name, _)| !name::is_metadata(name)) {
        let Some((key, extension)) = name::split(name) else { continue };
        if *first.get_or_insert(key) != key {
            break;
        }
        let extension = name::lower(extension);
        if !found.contains(&extension) {
            found.push(extension);
        }
    }
    found
}

/// Collects the samples of a shard. The last one of a shard that was cut is left out: members of it may be lost.
pub(super) fn group(
    index: &ShardIndex,
    fields: &[MemberField],
    duplicate: Duplicate,
    missing: Missing,
    is_cut: bool,
) -> Result<Samples> {
    let mut grouping = Grouping::new(fields, duplicate, missing);
    let mut current: Option<&[u8]> = None;
    for (name, member) in index.named().filter(|(name, _)| !name::is_metadata(name)) {
        let Some((key, extension)) = name::split(name) else { continue };
        if current != Some(key) {
            if let Some(key) = current {
                grouping.end(key)?;
            }
            current = Some(key);
        }
        grouping.add(name, extension, member)?;
    }
    match current {
        Some(key) if !is_cut => grouping.end(key)?,
        _ => {}
    }
    Ok(grouping.finish())
}

struct Grouping<'a> {
    fields: Vec<&'a MemberField>,
    duplicate: Duplicate,
    missing: Missing,
    samples: Samples,
    /// The members at hand by extension, and where the first of them begins.
    at_hand: HashMap<String, Member>,
    start: u64,
    /// The samples so far by key; a later one of the same key leaves the earlier one out.
    known: HashMap<Vec<u8>, usize>,
    dropped: HashSet<usize>,
}

impl<'a> Grouping<'a> {
    fn new(fields: &'a [MemberField], duplicate: Duplicate, missing: Missing) -> Self {
        let fields: Vec<_> = fields.iter().filter(|field| !field.is_key()).collect();
        let samples = Samples { per_sample: fields.len(), ..Samples::default() };
        Self {
            fields,
            duplicate,
            missing,
            samples,
            at_hand: HashMap::new(),
            start: 0,
            known: HashMap::new(),
            dropped: HashSet::new(),
        }
    }

    fn add(&mut self, name: &[u8], extension: &[u8], member: &Member) -> Result<()> {
        if self.at_hand.is_empty() {
            self.start = member.header;
        }
        let extension = name::lower(extension);
        if self.at_hand.contains_key(&extension) {
            match self.duplicate {
                Duplicate::Error => return Err(twice("member", name, member.header)),
                Duplicate::First => return Ok(()),
                Duplicate::Last => {}
            }
        }
        self.at_hand.insert(extension, *member);
        Ok(())
    }

    /// The sample of `key` has no more members.
    fn end(&mut self, key: &[u8]) -> Result<()> {
        let found = std::mem::take(&mut self.at_hand);
        let number = self.samples.len();
        match (self.known.get(key).copied(), self.duplicate) {
            (Some(_), Duplicate::Error) => return Err(twice("sample", key, self.start)),
            (Some(_), Duplicate::First) => return Ok(()),
            (earlier, _) => self.dropped.extend(earlier),
        }
        let mut members = Vec::with_capacity(self.fields.len());
        for field in &self.fields {
            match field.members.iter().find_map(|extension| found.get(&name::lower(extension.as_bytes()))) {
                Some(member) => members.push(*member),
                None if self.missing == Missing::Skip => {
                    self.samples.incomplete += 1;
                    self.known.remove(key);
                    return Ok(());
                }
                None => return Err(lacking(key, field, found, self.start)),
            }
        }
        self.samples.push(key, &members);
        self.known.insert(key.to_vec(), number);
        Ok(())
    }

    fn finish(self) -> Samples {
        if self.dropped.is_empty() {
            return self.samples;
        }
        let all = self.samples;
        let mut kept = Samples { per_sample: all.per_sample, incomplete: all.incomplete, ..Samples::default() };
        for sample in (0..all.len()).filter(|sample| !self.dropped.contains(sample)) {
            kept.push(all.key(sample), all.members(sample));
        }
        kept
    }
}

fn twice(what: &str, name: &[u8], offset: u64) -> Error {
    let shown = String::from_utf8_lossy(name);
    let message = format!(
        "{what} {shown:?} stands in the shard a second time. Write it once, or say which one counts: duplicate=\"first\" or \
         \"last\""
    );
    Error::invalid(message).at_offset(offset)
}

fn lacking(key: &[u8], field: &MemberField, found: HashMap<String, Member>, offset: u64) -> Error {
    let mut has: Vec<_> = found.into_keys().collect();
    has.sort_unstable();
    let message = format!(
        "sample {:?} has no member {}; it has {}. Write one, or leave such samples out: missing=\"skip\"",
        String::from_utf8_lossy(key),
        field.members.join(" or "),
        has.join(", ")
    );
    Error::invalid(message).at_offset(offset).in_field(&field.name)
}

/// Cuts samples into blocks: runs of samples that take about `bytes` of the shard.
pub(super) fn cut(samples: &Samples, bytes: u64, rows_max: usize) -> Vec<Range<usize>> {
    let mut blocks = Vec::new();
    let mut start = 0;
    let mut from = None;
    for sample in 0..samples.len() {
        let members = samples.members(sample);
        let first = *from.get_or_insert(members.iter().map(|member| member.header).min().unwrap_or(0));
        let end = members.iter().map(Member::end).max().unwrap_or(0);
        if end.saturating_sub(first) >= bytes || sample + 1 - start >= rows_max {
            blocks.push(start..sample + 1);
            (start, from) = (sample + 1, None);
        }
    }
    if start < samples.len() {
        blocks.push(start..samples.len());
    }
    blocks
}
