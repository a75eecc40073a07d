//! Token files: windows of `seq_len` tokens from `.bin` (raw little-endian) or `.npy`, with the target shifted by one.
//!
//! A window is kept as it lies in the file and is widened to int64 when the batch is written, so that a token costs two
//! bytes, not sixteen, while it waits for its turn.

mod header;

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3Default;

use crate::dataset::{Block, Dataset};
use crate::field::{DType, Field, Schema};
use crate::format::ends;
use crate::plan::mix;
use crate::rows::{Boundary, Column, RowLayout, Rows, Slot};
use crate::storage::{Range, Source, Storage};
use crate::{Error, Result};

/// Bytes of tokens in one block: one read, and the unit that is shuffled.
const BLOCK_BYTES: u64 = 4 << 20;

/// How windows are cut from the files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokensOptions {
    /// Element type of `.bin` files: `uint16` (default) or `uint32`. A `.npy` file says it itself.
    pub dtype: String,
    /// Tokens in `x` and in `y`; at least 1.
    pub seq_len: u64,
    /// Tokens between the starts of neighbouring windows; `seq_len` when not given.
    pub stride: Option<u64>,
    /// Draw every window's start anew each epoch, uniformly within its 4 MiB of the file.
    pub random: bool,
    /// Seed of the random starts.
    pub seed: u64,
    /// The token between documents: targets that belong to another document than the token before them are -100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boundary: Option<Boundary>,
}

impl Default for TokensOptions {
    fn default() -> Self {
        Self { dtype: "uint16".into(), seq_len: 1024, stride: None, random: false, seed: 0, boundary: None }
    }
}

/// Windows over token files. Fields `x` and `y`, both int64 `[seq_len]`; `y` is `x` moved on by one token.
#[derive(Debug, Clone)]
pub struct Tokens {
    options: TokensOptions,
    sources: Arc<[Source]>,
    files: Arc<[TokenFile]>,
    schema: Schema,
    spans: Arc<[Span]>,
    blocks: Arc<[Block]>,
    fingerprint: String,
    epoch: u64,
}

/// Where the tokens of a file lie.
#[derive(Debug, Clone, Copy)]
struct TokenFile {
    dtype: DType,
    offset: u64,
    tokens: u64,
}

/// The windows of one block.
#[derive(Debug, Clone, Copy)]
struct Span {
    source: u32,
    /// First token that a window of this block may start at.
    start: u64,
    windows: u64,
    /// Tokens that the block needs, from `start`.
    tokens: u64,
    /// Number of its first window in the dataset.
    first_window: u64,
}

impl Tokens {
    pub fn open(storage: &dyn Storage, sources: Vec<Source>, options: TokensOptions) -> Result<Self> {
        if options.seq_len == 0 {
            return Err(Error::invalid("seq_len must be >= 1, got 0"));
        }
        let stride = options.stride.unwrap_or(options.seq_len);
        if stride == 0 {
            return Err(Error::invalid("stride must be >= 1, got 0"));
        }
        let mut files = Vec::with_capacity(sources.len());
        let mut hash = Xxh3Default::new();
        for index in 0..sources.len() {
            let file = header::inspect(storage, &sources, index as u32, &options.dtype)?;
            ends::hash(storage, &sources, index as u32, &mut hash)?;
            files.push(file);
        }
        let item = files.first().map_or(DType::U16, |file| file.dtype);
        if let Some(index) = files.iter().position(|file| file.dtype != item) {
            let message =
                format!("tokens are {} here and {} in the first file", files[index].dtype.name(), item.name());
            return Err(Error::invalid(message).in_file(&sources[index].location));
        }
        if let Some(Boundary { token, .. }) = options.boundary
            && item == DType::U16
            && u16::try_from(token).is_err()
        {
            return Err(Error::invalid(format!("boundary {token} is not a token of {} files", item.name())));
        }
        let spans = spans(&files, &options, stride, item);
        let row_bytes = (options.seq_len + 1) * item.width() as u64;
        let blocks = spans.iter().map(|span| Block { rows: span.windows, decoded_bytes: span.windows * row_bytes });
        hash.update(serde_json::to_string(&options).unwrap_or_default().as_bytes());
        let shape = vec![options.seq_len as usize];
        Ok(Self {
            schema: Schema::new(vec![
                Field::dense("x", DType::I64, shape.clone()),
                Field::dense("y", DType::I64, shape),
            ]),
            blocks: blocks.collect(),
            spans: spans.into(),
            fingerprint: format!("{:032x}", hash.digest128()),
            sources: sources.into(),
            files: files.into(),
            options,
            epoch: 0,
        })
    }

    fn item(&self) -> DType {
        self.files.first().map_or(DType::U16, |file| file.dtype)
    }

    /// Where window `index` of `span` starts, in tokens from the start of the span.
    fn window_start(&self, span: &Span, index: u64) -> u64 {
        let stride = self.options.stride.unwrap_or(self.options.seq_len);
        if !self.options.random {
            return index * stride;
        }
        let choices = span.tokens - self.options.seq_len;
        let key = mix(mix(self.options.seed ^ 0x746f_6b65_6e73) ^ mix(self.epoch)) ^ (span.first_window + index);
        // Multiply-shift maps 64 random bits onto the choices with a bias below 2^-40.
        ((u128::from(mix(key)) * u128::from(choices)) >> 64) as u64
    }
}

/// Cuts the files into blocks. A window never runs from one file into the next.
fn spans(files: &[TokenFile], options: &TokensOptions, stride: u64, item: DType) -> Vec<Span> {
    let per_block = (BLOCK_BYTES / (stride.min(options.seq_len) * item.width() as u64)).clamp(1, u64::from(u32::MAX));
    let mut spans = Vec::new();
    let mut first_window = 0;
    for (source, file) in files.iter().enumerate() {
        let Some(last) = file.tokens.checked_sub(options.seq_len + 1) else { continue };
        let windows = last / stride + 1;
        let mut done = 0;
        while done < windows {
            let count = per_block.min(windows - done);
            let start = done * stride;
            let needed = (count - 1) * stride + options.seq_len + 1;
            // Random starts may use the tokens up to the next block's first window as well.
            let wanted = if options.random { count * stride + options.seq_len } else { needed };
            let tokens = wanted.min(file.tokens - start);
            spans.push(Span { source: source as u32, start, windows: count, tokens, first_window });
            done += count;
            first_window += count;
        }
    }
    spans
}

impl Dataset for Tokens {
    fn format(&self) -> &'static str {
        "Tokens"
    }

    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn sources(&self) -> &[Source] {
        &self.sources
    }

    fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn layout(&self) -> RowLayout {
        let from = self.item();
        let elements = self.options.seq_len as usize;
        let boundary = self.options.boundary;
        let slots = vec![
            Slot::Widened { offset: 0, elements, from, boundary: None },
            Slot::Widened { offset: from.width(), elements, from, boundary },
        ];
        RowLayout::with_slots((elements + 1) * from.width(), slots)
    }

    fn at_epoch(&self, epoch: u64) -> Option<Arc<dyn Dataset>> {
        let moved = self.options.random && epoch != self.epoch;
        moved.then(|| Arc::new(Self { epoch, ..self.clone() }) as Arc<dyn Dataset>)
    }

    fn ranges(&self, block: usize) -> Vec<Range> {
        let span = self.spans[block];
        let file = self.files[span.source as usize];
        let width = file.dtype.width() as u64;
        vec![Range { source: span.source, offset: file.offset + span.start * width, len: span.tokens * width }]
    }

    fn decode(&self, block: usize, bytes: &[Bytes], rows: &mut Rows) -> Result<()> {
        let span = &self.spans[block];
        let width = self.item().width();
        let row_bytes = (self.options.seq_len as usize + 1) * width;
        let tokens = bytes.first().ok_or_else(|| Error::internal("a token block came without bytes"))?;
        for index in 0..span.windows {
            let start = self.window_start(span, index) as usize * width;
            let window = tokens.get(start..start + row_bytes).ok_or_else(|| {
                Error::corrupt("the file ends inside a window").in_file(&self.sources[span.source as usize].location)
            })?;
            rows.append_columns(&[(0, Column::Wide { width: row_bytes, bytes: window })])?;
        }
        Ok(())
    }
}
