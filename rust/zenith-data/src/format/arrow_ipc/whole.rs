//! A whole file as record batches whose buffers are parts of its bytes, for those who want a table and no samples.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::{Schema as ArrowSchema, SchemaRef};
use arrow::ipc::reader::{read_dictionary, read_record_batch};
use bytes::Bytes;

use super::batch::Lists;
use super::message::{self, Envelope, StreamWalk};
use super::{Dictionaries, decode, file};
use crate::format::guard::guard;
use crate::storage::{Source, Storage};
use crate::{Error, Result};

/// Reads every record batch of file `source`, whose content is `bytes`. `choose` gives the numbers of the columns to
/// keep, in rising order; it is shown the schema. What is not compressed is not copied.
pub fn record_batches(
    storage: &dyn Storage,
    sources: &[Source],
    source: u32,
    bytes: &Bytes,
    choose: impl FnOnce(&ArrowSchema) -> Result<Vec<usize>>,
) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    if bytes.starts_with(file::MAGIC) {
        let footer = file::read_footer(storage, sources, source)?;
        let mut whole = Whole::new(footer.schema, bytes, choose)?;
        file::read_messages(storage, sources, source, &footer.places, |envelope, _| whole.message(&envelope))?;
        return Ok((whole.delivered, whole.batches));
    }
    let mut walk = StreamWalk::new(storage, sources, source);
    let first = walk.next()?;
    let metadata = first.as_ref().map(|first| message::parse(&first.metadata)).transpose()?;
    let schema = metadata.and_then(|message| message.header_as_schema());
    let schema = schema.ok_or_else(|| Error::corrupt("the file does not begin with a schema. Is it Arrow IPC?"))?;
    let mut whole = Whole::new(message::schema_of(schema)?, bytes, choose)?;
    while let Some(envelope) = walk.next()? {
        whole.message(&envelope).map_err(|error| error.at_offset(envelope.start))?;
    }
    Ok((whole.delivered, whole.batches))
}

struct Whole<'a> {
    bytes: &'a Bytes,
    schema: SchemaRef,
    columns: Vec<usize>,
    delivered: SchemaRef,
    dictionaries: Dictionaries,
    batches: Vec<RecordBatch>,
}

impl<'a> Whole<'a> {
    fn new(
        schema: ArrowSchema,
        bytes: &'a Bytes,
        choose: impl FnOnce(&ArrowSchema) -> Result<Vec<usize>>,
    ) -> Result<Self> {
        let columns = choose(&schema)?;
        let delivered = schema.project(&columns).map_err(message::arrow_error)?;
        let (dictionaries, batches) = (Dictionaries::new(), Vec::new());
        Ok(Self { bytes, schema: Arc::new(schema), columns, delivered: Arc::new(delivered), dictionaries, batches })
    }

    fn message(&mut self, envelope: &Envelope) -> Result<()> {
        let message = message::parse(&envelope.metadata)?;
        let version = message.version();
        let dictionary = message.header_as_dictionary_batch();
        let data = dictionary.map_or_else(|| message.header_as_record_batch(), |header| header.data());
        let data = data.ok_or_else(|| Error::corrupt("there is an unexpected message. Restore the file"))?;
        let lists = Lists::new(data, envelope.body, envelope.body_len)?;
        let (start, len) = (envelope.body as usize, envelope.body_len as usize);
        let inside = start.checked_add(len).filter(|&end| end <= self.bytes.len());
        let end = inside.ok_or_else(|| Error::corrupt("a message lies outside the file. Restore it"))?;
        if lists.compressed {
            let part = |&(offset, len): &(u64, u64)| &self.bytes[offset as usize..(offset + len) as usize];
            decode::check_growth(lists.buffers.iter().map(part))?;
        }
        let body = Buffer::from(self.bytes.slice(start..end));
        guard("a message", || {
            if let Some(header) = dictionary {
                return read_dictionary(&body, header, &self.schema, &mut self.dictionaries, &version)
                    .map_err(message::arrow_error);
            }
            let (schema, columns) = (self.schema.clone(), Some(&self.columns[..]));
            let batch = read_record_batch(&body, data, schema, &self.dictionaries, columns, &version);
            self.batches.push(batch.map_err(message::arrow_error)?);
            Ok(())
        })
    }
}
