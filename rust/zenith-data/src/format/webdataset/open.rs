//! Opening: every shard indexed (or its index found in the sidecar), members grouped into samples, samples into blocks.

use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3Default;

use super::fields::{self, Decode, MemberField};
use super::group::{self, Samples};
use super::index::{End, ShardIndex};
use super::npy;
use super::value::Value;
use super::{Content, Run, Truncated, WebDataset, WebDatasetOptions};
use crate::dataset::{Block, Ports};
use crate::field::{Field, FieldKind, Schema};
use crate::rows::RowLayout;
use crate::sidecar::{self, Task};
use crate::storage::{Range, Source};
use crate::transform::Transform;
use crate::{Error, ErrorKind, Result};

/// Changes when the index does.
const INDEX_KIND: &str = "webdataset-1";
/// Bytes of a shard that one block takes, and the samples it has at most.
const BLOCK_BYTES_AIM: u64 = 4 << 20;
const BLOCK_ROWS_MAX: usize = 1 << 16;
/// What other libraries take as the address of a shard.
const SCHEMES: [&str; 12] =
    ["pipe:", "file:", "http:", "https:", "s3:", "gs:", "gcs:", "hf:", "ftp:", "sftp:", "htgs:", "ais:"];

/// Errors where a path is what the WebDataset library would run or fetch.
pub fn refuse_urls(paths: &[String]) -> Result<()> {
    for path in paths {
        let Some(scheme) = SCHEMES.into_iter().find(|scheme| path.trim_start().starts_with(scheme)) else { continue };
        let why = match scheme {
            "pipe:" => "it would run a program. Run it beforehand, and give the shards that it writes",
            "file:" => "give the path without it",
            _ => "shards are read from files: copy or mount them",
        };
        return Err(Error::unsupported(format!("{scheme} is not opened: {why}")).in_file(path));
    }
    Ok(())
}

impl WebDataset {
    /// `transforms` has one for every field of `options.fields` that is a picture.
    pub fn open(
        ports: Ports<'_>,
        sources: Vec<Source>,
        options: &WebDatasetOptions,
        transforms: Vec<Option<Arc<dyn Transform>>>,
    ) -> Result<Self> {
        if let Some(fields) = &options.fields {
            fields::check(fields)?;
        }
        let mut indexes = Vec::with_capacity(sources.len());
        for source in 0..sources.len() {
            let index = index_of(ports, &sources, source as u32)
                .and_then(|index| index.check(sources[source].len).map(|()| index))
                .map_err(|error| error.in_file(&sources[source].location))?;
            indexes.push(index);
        }
        let fields = match &options.fields {
            Some(fields) => fields.clone(),
            None => default_fields(&indexes)?,
        };
        let mut shards = Vec::with_capacity(sources.len());
        for (source, index) in sources.iter().zip(&indexes) {
            shards.push(samples(index, &fields, options).map_err(|error| error.in_file(&source.location))?);
        }
        if shards.iter().all(|shard| shard.len() == 0) {
            let message =
                "there is no sample in the shards: no member has a name like key.extension, or each lacks a field";
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        let values = values(ports, &sources, &shards, &fields, &transforms)?;
        let schema = Schema::new(
            fields
                .iter()
                .zip(&values)
                .map(|(field, value)| Field { name: field.name.clone(), kind: value.kind(), unit: None })
                .collect(),
        );
        let stride = RowLayout::with_transforms(&schema, &transforms).stride() as u64;
        let (blocks, runs) = blocks(&shards, &values, &fields, stride);
        let identity = identity(&sources, &indexes);
        Ok(Self {
            content: Arc::new(Content {
                fingerprint: fingerprint(identity, &schema, &fields, &transforms, options),
                notices: notices(&sources, &indexes, &shards),
                identity: identity as u64,
                seed: options.seed,
                sources,
                shards,
                runs,
                blocks,
                member_of: member_of(&fields),
                fields,
                values,
                schema,
                transforms,
            }),
            epoch: 0,
        })
    }
}

fn index_of(ports: Ports<'_>, sources: &[Source], source: u32) -> Result<ShardIndex> {
    let shard = &sources[source as usize];
    let key = sidecar::key(INDEX_KIND, shard, &())?;
    let task = Task { key, title: format!("indexing {}", shard.name), bytes: shard.len };
    sidecar::value(ports.sidecar, &task, &mut |progress| ShardIndex::build(ports.storage, sources, source, progress))
}

fn default_fields(indexes: &[ShardIndex]) -> Result<Vec<MemberField>> {
    let extensions = indexes.iter().map(group::first_extensions).find(|found| !found.is_empty());
    fields::default_fields(&extensions.unwrap_or_default())
}

fn samples(index: &ShardIndex, fields: &[MemberField], options: &WebDatasetOptions) -> Result<Samples> {
    let is_cut = matches!(index.end, End::Cut(_));
    let samples = group::group(index, fields, options.duplicate, options.missing, is_cut)?;
    match index.end {
        End::Cut(offset) if options.truncated == Truncated::Error => {
            let message = format!(
                "the shard is cut short: the member that begins here is not whole. {} samples before it are. Restore the \
                 shard, or read only those: truncated=\"skip\"",
                samples.len()
            );
            Err(Error::corrupt(message).at_offset(offset))
        }
        _ => Ok(samples),
    }
}

/// How the values of each field are made.
fn values(
    ports: Ports<'_>,
    sources: &[Source],
    shards: &[Samples],
    fields: &[MemberField],
    transforms: &[Option<Arc<dyn Transform>>],
) -> Result<Vec<Value>> {
    let mut values = Vec::with_capacity(fields.len());
    let member_of = member_of(fields);
    for (place, field) in fields.iter().enumerate() {
        values.push(match &field.decode {
            Decode::Int => Value::Int,
            Decode::Float => Value::Float,
            Decode::Text => Value::Text,
            Decode::Json => Value::Json,
            Decode::Bytes => Value::Bytes,
            Decode::Npy => first_array(ports, sources, shards, member_of[place].unwrap_or(0))
                .map_err(|error| error.in_field(&field.name))?,
            Decode::Image(_) => match transforms.get(place).and_then(Option::as_ref) {
                Some(transform) => Value::Made(transform.kind()),
                None => return Err(Error::internal("a picture has no transform").in_field(&field.name)),
            },
        });
    }
    Ok(values)
}

fn member_of(fields: &[MemberField]) -> Vec<Option<usize>> {
    let mut next = 0..;
    fields.iter().map(|field| if field.is_key() { None } else { next.next() }).collect()
}

/// What the array is like that member `number` of the first sample is.
fn first_array(ports: Ports<'_>, sources: &[Source], shards: &[Samples], number: usize) -> Result<Value> {
    let first = shards.iter().enumerate().find(|(_, samples)| samples.len() > 0);
    let Some((source, samples)) = first else { return Err(Error::internal("there is no first sample")) };
    let member = samples.members(0)[number];
    let range = Range { source: source as u32, offset: member.data, len: member.size.min(npy::HEADER_BYTES_MAX) };
    let bytes = ports.storage.read(sources, range)?;
    let (array, _) = npy::header(&bytes).map_err(|error| {
        let key = String::from_utf8_lossy(samples.key(0)).into_owned();
        let message = format!("sample {key:?}: {}", error.message());
        error.with_message(message).in_file(&sources[source].location).at_offset(member.data)
    })?;
    Ok(Value::Npy(array))
}

fn blocks(shards: &[Samples], values: &[Value], fields: &[MemberField], stride: u64) -> (Vec<Block>, Vec<Run>) {
    let has_key = fields.iter().any(MemberField::is_key);
    // Which members are kept as bytes until the batch is put together.
    let with_members = fields.iter().zip(values).filter(|(field, _)| !field.is_key());
    let kept: Vec<bool> = with_members
        .map(|(_, value)| matches!(value, Value::Made(_)) || !matches!(value.kind(), FieldKind::Dense { .. }))
        .collect();
    let (mut blocks, mut runs, mut first) = (Vec::new(), Vec::new(), 0);
    for (shard, samples) in shards.iter().enumerate() {
        for run in group::cut(samples, BLOCK_BYTES_AIM, BLOCK_ROWS_MAX) {
            let rows = run.len() as u64;
            let bytes = |sample: usize| {
                let members = samples.members(sample).iter().zip(&kept).filter(|(_, is_kept)| **is_kept);
                let key = if has_key { samples.key(sample).len() as u64 } else { 0 };
                members.map(|(member, _)| member.size).sum::<u64>() + key
            };
            let decoded_bytes = rows * stride + run.clone().map(bytes).sum::<u64>();
            blocks.push(Block { rows, decoded_bytes });
            runs.push(Run { shard: shard as u32, samples: run, first });
            first += rows;
        }
    }
    (blocks, runs)
}

/// Names, sizes and headers of the shards.
fn identity(sources: &[Source], indexes: &[ShardIndex]) -> u128 {
    let mut hash = Xxh3Default::new();
    for (source, index) in sources.iter().zip(indexes) {
        hash.update(source.name.as_bytes());
        hash.update(&[0]);
        hash.update(&source.len.to_le_bytes());
        for member in &index.members {
            hash.update(&member.data.to_le_bytes());
            hash.update(&member.check.to_le_bytes());
        }
    }
    hash.digest128()
}

fn fingerprint(
    identity: u128,
    schema: &Schema,
    fields: &[MemberField],
    transforms: &[Option<Arc<dyn Transform>>],
    options: &WebDatasetOptions,
) -> String {
    let mut hash = Xxh3Default::new();
    hash.update(&identity.to_le_bytes());
    let mut part = |text: &str| {
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    };
    for (place, field) in fields.iter().enumerate() {
        part(&field.members.join(";"));
        part(field.decode.label());
        part(&transforms.get(place).and_then(Option::as_ref).map(|transform| transform.describe()).unwrap_or_default());
    }
    let kinds = schema.fields.iter().map(|field| format!("{}:{:?}", field.name, field.kind));
    kinds.for_each(|kind| part(&kind));
    part(&format!("{:?} {:?} {:?}", options.duplicate, options.missing, options.truncated));
    format!("{:032x}", hash.digest128())
}

fn notices(sources: &[Source], indexes: &[ShardIndex], shards: &[Samples]) -> Vec<String> {
    let mut notices = Vec::new();
    let mut tell = |is_meant: &dyn Fn(End) -> Option<u64>, what: &str| {
        let mut found = sources.iter().zip(indexes).filter_map(|(source, index)| Some((source, is_meant(index.end)?)));
        let Some((source, offset)) = found.next() else { return };
        let others = found.count();
        let others = if others > 0 { format!(" ({others} other shards too)") } else { String::new() };
        notices.push(format!("{}, byte {offset}: {what}{others}", source.name));
    };
    tell(
        &|end| if let End::Cut(offset) = end { Some(offset) } else { None },
        "the shard is cut short here; this sample and what followed are lost",
    );
    tell(
        &|end| if let End::Followed(offset) = end { Some(offset) } else { None },
        "something follows the end marker of the shard and is not read. Join archives with tar --concatenate",
    );
    let unmarked =
        sources.iter().zip(indexes).filter(|(_, index)| index.end == End::Unmarked).map(|(source, _)| source);
    let unmarked: Vec<_> = unmarked.collect();
    if let Some(source) = unmarked.first() {
        let others =
            if unmarked.len() > 1 { format!(" ({} other shards too)", unmarked.len() - 1) } else { String::new() };
        notices.push(format!(
            "{}: no end marker stands behind the last member{others}. If the shard was cut short, samples are lost",
            source.name
        ));
    }
    let incomplete: u64 = shards.iter().map(|shard| shard.incomplete).sum();
    if incomplete > 0 {
        notices.push(format!("{incomplete} samples lack a member and are left out"));
    }
    notices
}
