//! Opening: the messages of every file walked, its schema held against the first one's, batches cut into blocks.

use std::sync::Arc;

use arrow::buffer::Buffer;
use arrow::ipc::MessageHeader;
use arrow::ipc::reader::read_dictionary;
use xxhash_rust::xxh3::Xxh3Default;

use super::batch::{Batch, Lists};
use super::message::{self, Envelope, StreamWalk};
use super::plan::Plan;
use super::{ArrowIpc, ArrowIpcOptions, BlockPlace, Dictionaries, FileEntry, PART_ROWS, decode, file};
use crate::dataset::Block;
use crate::format::guard::guard;
use crate::format::partition::Partitions;
use crate::storage::{Range, Source, Storage};
use crate::{Error, ErrorKind, Result};

/// Batches and dictionaries that would take more than this are refused where they cannot be read in parts.
const WHOLE_BYTES_MAX: u64 = 4 << 30;

/// How large batches are cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    /// A batch of more bytes is cut.
    pub over: u64,
    /// Bytes aimed at in a part.
    pub aim: u64,
}

const CUT: Cut = Cut { over: 32 << 20, aim: 16 << 20 };

impl ArrowIpc {
    /// Opens `sources`, reading their footers and the metadata of their messages.
    pub fn open(storage: &dyn Storage, sources: Vec<Source>, options: ArrowIpcOptions) -> Result<ArrowIpc> {
        Self::open_with(storage, sources, options, CUT)
    }

    pub(super) fn open_with(
        storage: &dyn Storage,
        sources: Vec<Source>,
        options: ArrowIpcOptions,
        cut: Cut,
    ) -> Result<ArrowIpc> {
        if sources.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, "there are no Arrow IPC files to open"));
        }
        let partitions = Partitions::read(options.partitioning, &sources)?;
        let mut hash = Xxh3Default::new();
        let mut files: Vec<FileEntry> = Vec::new();
        let (mut blocks, mut places) = (Vec::new(), Vec::new());
        for (index, source) in sources.iter().enumerate() {
            hash.update(source.name.as_bytes());
            hash.update(&[0]);
            hash.update(&source.len.to_le_bytes());
            partitions.hash(index, &mut hash);
            let opening = Opening {
                storage,
                sources: &sources,
                source: index as u32,
                options: &options,
                partitions: &partitions,
                before: files.last().map(|file| &file.plan),
                hash: &mut hash,
                file: None,
                batches: Vec::new(),
                dictionaries: vec![Dictionaries::new()],
                state_used: false,
                rows: 0,
            };
            let opened = opening.run().and_then(|file| {
                if let Some(first) = files.first() {
                    first.plan.projection.check_same(&file.plan.projection)?;
                }
                for (number, batch) in file.batches.iter().enumerate() {
                    let cuts = parts(batch, &file.plan, cut).map_err(|error| error.in_block(number as u64))?;
                    for (skip, block) in cuts {
                        blocks.push(block);
                        places.push(BlockPlace { file: index as u32, batch: number as u32, skip });
                    }
                }
                Ok(file)
            });
            files.push(opened.map_err(|error| error.in_file(&source.name))?);
        }
        let Some(first) = files.first() else { return Err(Error::internal("no file was opened")) };
        let projection = first.plan.projection.clone();
        let described =
            serde_json::to_vec(&(projection.schema(), &options)).map_err(|error| Error::internal(error.to_string()))?;
        hash.update(&described);
        let fingerprint = format!("{:032x}", hash.digest128());
        Ok(ArrowIpc { sources, partitions, projection, files, blocks, places, fingerprint })
    }
}

/// The blocks of a batch with the rows before each: itself, or parts of it where it is large and plain.
fn parts(batch: &Batch, plan: &Plan, cut: Cut) -> Result<Vec<(u64, Block)>> {
    if batch.rows == 0 {
        return Ok(Vec::new());
    }
    let bytes = batch.decoded_bytes(plan);
    let flat = batch.is_plain();
    if !flat && bytes > WHOLE_BYTES_MAX {
        let why = format!(
            "the record batch of {} rows would take {bytes} bytes, the limit for what cannot be read in parts being \
             {WHOLE_BYTES_MAX}. Write smaller record batches",
            batch.rows
        );
        return Err(Error::new(ErrorKind::Budget, why));
    }
    let row_bytes = bytes.div_ceil(batch.rows);
    let step = if flat && bytes > cut.over {
        (cut.aim / row_bytes.max(1) / PART_ROWS * PART_ROWS).max(PART_ROWS)
    } else {
        batch.rows
    };
    let part = |skip: u64| {
        let rows = step.min(batch.rows - skip);
        (skip, Block { rows, decoded_bytes: rows.saturating_mul(row_bytes) })
    };
    let mut parts = Vec::new();
    let mut skip = 0;
    while skip < batch.rows {
        parts.push(part(skip));
        skip += step;
    }
    Ok(parts)
}

/// One file while its messages are walked.
struct Opening<'a> {
    storage: &'a dyn Storage,
    sources: &'a [Source],
    source: u32,
    options: &'a ArrowIpcOptions,
    partitions: &'a Partitions,
    /// The plan of the file before.
    before: Option<&'a Arc<Plan>>,
    hash: &'a mut Xxh3Default,
    file: Option<Arc<Plan>>,
    batches: Vec<Batch>,
    dictionaries: Vec<Dictionaries>,
    /// Whether a batch refers to the last state of the dictionaries.
    state_used: bool,
    rows: u64,
}

impl Opening<'_> {
    fn run(mut self) -> Result<FileEntry> {
        let len = self.sources[self.source as usize].len.min(file::MAGIC.len() as u64);
        let start = self.storage.read(self.sources, Range { source: self.source, offset: 0, len })?;
        if &start[..] == file::MAGIC {
            self.walk_file()?;
        } else if start.starts_with(file::MAGIC_FEATHER1) {
            return Err(Error::unsupported("Feather V1 is not supported. Write the file anew as Feather V2"));
        } else {
            self.walk_stream()?;
        }
        let plan = self.file.ok_or_else(|| Error::corrupt("there is no schema. Restore the file"))?;
        Ok(FileEntry { plan, batches: self.batches, dictionaries: self.dictionaries })
    }

    fn walk_file(&mut self) -> Result<()> {
        let footer = file::read_footer(self.storage, self.sources, self.source)?;
        self.hash.update(&footer.bytes);
        self.plan(footer.schema)?;
        file::read_messages(self.storage, self.sources, self.source, &footer.places, |envelope, dictionary| {
            self.message(&envelope, Some(dictionary))
        })
    }

    fn walk_stream(&mut self) -> Result<()> {
        let mut walk = StreamWalk::new(self.storage, self.sources, self.source);
        let Some(first) = walk.next().map_err(|error| not_arrow(error, &self.sources[self.source as usize]))? else {
            return Err(Error::corrupt("the stream has no schema. Restore the file"));
        };
        self.hash.update(&first.metadata);
        let schema = message::parse(&first.metadata)?;
        let schema = schema.header_as_schema();
        let schema =
            schema.ok_or_else(|| Error::corrupt("the stream does not begin with a schema. Restore the file"))?;
        self.plan(message::schema_of(schema)?)?;
        while let Some(envelope) = walk.next()? {
            self.message(&envelope, None).map_err(|error| error.at_offset(envelope.start))?;
        }
        Ok(())
    }

    fn plan(&mut self, schema: arrow::datatypes::Schema) -> Result<()> {
        self.file = Some(match self.before {
            Some(before) if *before.schema == schema && same_dictionaries(&before.schema, &schema) => before.clone(),
            _ => Arc::new(Plan::new(schema, &self.options.select, self.partitions)?),
        });
        Ok(())
    }

    /// Takes a message; `dictionary` is what it must be, where that is known.
    fn message(&mut self, envelope: &Envelope, dictionary: Option<bool>) -> Result<()> {
        self.hash.update(&envelope.metadata);
        let kind = message::parse(&envelope.metadata)?.header_type();
        match (kind, dictionary) {
            (MessageHeader::RecordBatch, None | Some(false)) => self.batch(envelope),
            (MessageHeader::DictionaryBatch, None | Some(true)) => self.dictionary(envelope),
            (other, _) => Err(Error::corrupt(format!("there is an unexpected message: {other:?}. Restore the file"))),
        }
        .map_err(|error| error.in_block(self.batches.len() as u64))
    }

    fn batch(&mut self, envelope: &Envelope) -> Result<()> {
        let plan = self.file.as_ref().ok_or_else(|| Error::internal("a batch came before its schema"))?;
        let batch = Batch::new(plan, envelope, self.rows, self.dictionaries.len() - 1)?;
        let rows = self.rows.checked_add(batch.rows);
        self.rows = rows.ok_or_else(|| Error::corrupt("the batches claim too many rows. Restore the file"))?;
        self.state_used = true;
        self.batches.push(batch);
        Ok(())
    }

    /// Reads a dictionary, if a delivered column uses it.
    fn dictionary(&mut self, envelope: &Envelope) -> Result<()> {
        let plan = self.file.as_ref().ok_or_else(|| Error::internal("a dictionary came before its schema"))?;
        let message = message::parse(&envelope.metadata)?;
        let parts = message.header_as_dictionary_batch().and_then(|header| Some((header, header.data()?)));
        let (header, data) = parts.ok_or_else(|| Error::corrupt("a dictionary has no data. Restore the file"))?;
        let lists = Lists::new(data, envelope.body, envelope.body_len)?;
        if !plan.dictionaries.contains(&header.id()) {
            let known = plan.known_dictionaries.contains(&header.id());
            let why = format!("the schema has no dictionary of number {}. Restore the file", header.id());
            return if known { Ok(()) } else { Err(Error::corrupt(why)) };
        }
        if envelope.body_len > WHOLE_BYTES_MAX {
            let why = format!("a dictionary of {} bytes is over the limit of {WHOLE_BYTES_MAX}", envelope.body_len);
            return Err(Error::new(ErrorKind::Budget, why));
        }
        let range = Range { source: self.source, offset: envelope.body, len: envelope.body_len };
        let bytes = if range.len > 0 { self.storage.read(self.sources, range)? } else { bytes::Bytes::new() };
        let body = Buffer::from(bytes);
        if lists.compressed {
            let packed = lists.buffers.iter().map(|&(offset, len)| {
                let start = (offset - envelope.body) as usize;
                &body[start..start + len as usize]
            });
            decode::check_growth(packed)?;
        }
        let last = self.dictionaries.last().cloned().unwrap_or_default();
        if self.state_used && !header.isDelta() && last.contains_key(&header.id()) {
            self.dictionaries.push(last);
            self.state_used = false;
        }
        // A delta only adds values, so that batches which came before it may share its state.
        let state = self.dictionaries.last_mut().ok_or_else(|| Error::internal("there is no state of dictionaries"))?;
        guard("a dictionary", || {
            read_dictionary(&body, header, &plan.schema, state, &message.version()).map_err(message::arrow_error)
        })
    }
}

/// Equality of schemas leaves the numbers of dictionaries out.
fn same_dictionaries(one: &arrow::datatypes::Schema, other: &arrow::datatypes::Schema) -> bool {
    one.fields().iter().zip(other.fields()).all(|(one, other)| {
        #[expect(deprecated, reason = "the number is what dictionary batches are found by; there is no other access")]
        let same = one.dict_id() == other.dict_id();
        same && !super::plan::members(one.data_type()).iter().any(|member| super::plan::has_dictionary(member))
    })
}

/// What cannot be read from its first message on was perhaps never this format.
fn not_arrow(error: Error, source: &Source) -> Error {
    if error.kind() != ErrorKind::Corrupt {
        return error;
    }
    let why = format!("the {} bytes are no Arrow IPC file or stream: {}", source.len, error.message());
    error.with_message(why)
}
