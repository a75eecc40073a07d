//! Pictures in folders, one folder a class, as torchvision's `ImageFolder` takes them: a file is a sample, its label is the
//! number of its class. A block is a few dozen files, each read whole.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3Default;

use crate::dataset::{Block, Dataset};
use crate::error::Place;
use crate::field::{DType, Field, FieldKind, Schema};
use crate::format::sample_rows::SampleRows;
use crate::rows::{RowLayout, Rows};
use crate::storage::{Range, Source, Storage, Tree};
use crate::transform::{DrawKey, Transform};
use crate::{Error, ErrorKind, Result};

/// Torchvision's `IMG_EXTENSIONS`.
const EXTENSIONS: [&str; 9] = [".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"];
/// Bytes and files of one block: as many as are read at a time.
const BLOCK_BYTES_AIM: u64 = 4 << 20;
const BLOCK_FILES_MAX: usize = 64;

/// How a folder is read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImageFolderOptions {
    /// What pictures go through, as the facade knows it; without it their bytes are delivered.
    pub transform: Option<serde_json::Value>,
    /// Seed of the transforms that draw.
    pub seed: u64,
    /// Whether classes without a picture are taken too.
    pub allow_empty: bool,
}

/// A listed folder, as it is in one epoch.
#[derive(Debug, Clone)]
pub struct ImageFolder {
    content: Arc<Content>,
    epoch: u64,
}

#[derive(Debug)]
struct Content {
    classes: Vec<String>,
    /// A source a sample.
    sources: Vec<Source>,
    /// The class of each sample.
    labels: Vec<u32>,
    /// The number of the first sample of each block, and of all samples.
    starts: Vec<usize>,
    blocks: Vec<Block>,
    schema: Schema,
    transforms: Vec<Option<Arc<dyn Transform>>>,
    seed: u64,
    /// Tells datasets apart that are read with one seed.
    identity: u64,
    fingerprint: String,
}

impl ImageFolder {
    /// Lists `root`; `transform` makes the pictures, whose bytes are delivered without one.
    pub fn open(
        storage: &dyn Storage,
        root: &str,
        options: &ImageFolderOptions,
        transform: Option<Arc<dyn Transform>>,
    ) -> Result<Self> {
        let Tree { folders: classes, files } = storage.list_tree(root, &is_picture)?;
        if classes.is_empty() {
            let message = "the folder holds no folders: each class needs one, with its pictures in it";
            return Err(Error::new(ErrorKind::NotFound, message).in_file(root));
        }
        let (sources, labels) = labelled(&classes, files);
        check(root, &classes, &labels, options)?;
        let identity = identity(&classes, &sources);
        let image = transform.as_ref().map_or(FieldKind::Binary, |transform| transform.kind());
        let schema = Schema::new(vec![
            Field { name: "image".into(), kind: image, unit: None },
            Field::dense("label", DType::I64, Vec::new()),
        ]);
        let mut hash = Xxh3Default::new();
        hash.update(&identity.to_le_bytes());
        let described = transform.as_ref().map(|transform| transform.describe());
        hash.update(format!("{:?} {described:?}", schema.fields[0].kind).as_bytes());
        let transforms = vec![transform, None];
        let stride = RowLayout::with_transforms(&schema, &transforms).stride() as u64;
        let (blocks, starts) = blocks(&sources, stride);
        Ok(Self {
            content: Arc::new(Content {
                classes,
                labels,
                starts,
                blocks,
                schema,
                transforms,
                seed: options.seed,
                identity: identity as u64,
                fingerprint: format!("{:032x}", hash.digest128()),
                sources,
            }),
            epoch: 0,
        })
    }

    /// The samples of a block.
    fn samples(&self, block: usize) -> std::ops::Range<usize> {
        self.content.starts[block]..self.content.starts[block + 1]
    }
}

/// Whether torchvision takes a file of this name for a picture.
fn is_picture(name: &str) -> bool {
    let name = name.to_lowercase();
    EXTENSIONS.iter().any(|extension| name.ends_with(extension))
}

/// The files in the order of torchvision, with their classes: class by class, folder by folder, name by name.
fn labelled(classes: &[String], mut files: Vec<Source>) -> (Vec<Source>, Vec<u32>) {
    fn place(source: &Source) -> (&str, &str, &str) {
        let (class, _) = source.name.split_once('/').unwrap_or(("", ""));
        let (folder, file) = source.name.rsplit_once('/').unwrap_or(("", &source.name));
        (class, folder, file)
    }
    files.retain(|source| source.name.contains('/'));
    // Nearly sorted as they were listed, which this sort makes use of.
    files.sort_by(|one, other| place(one).cmp(&place(other)));
    let label = |source: &Source| {
        let (class, ..) = place(source);
        classes.binary_search_by(|known| known.as_str().cmp(class)).unwrap_or_default() as u32
    };
    let labels = files.iter().map(label).collect();
    (files, labels)
}

fn check(root: &str, classes: &[String], labels: &[u32], options: &ImageFolderOptions) -> Result<()> {
    let mut is_used = vec![false; classes.len()];
    for &label in labels {
        is_used[label as usize] = true;
    }
    let empty: Vec<_> =
        classes.iter().zip(is_used).filter(|(_, is_used)| !is_used).map(|(class, _)| class.as_str()).collect();
    if empty.is_empty() || (options.allow_empty && !labels.is_empty()) {
        return Ok(());
    }
    let message = format!(
        "no picture ({}) is in the folder of {} of the {} classes: {}{}. Remove such folders, or pass allow_empty=True",
        EXTENSIONS.join(", "),
        empty.len(),
        classes.len(),
        empty[..empty.len().min(5)].join(", "),
        if empty.len() > 5 { ", ..." } else { "" }
    );
    Err(Error::new(ErrorKind::NotFound, message).in_file(root))
}

/// Classes, names and sizes.
fn identity(classes: &[String], sources: &[Source]) -> u128 {
    let mut hash = Xxh3Default::new();
    let mut part = |text: &str, len: u64| {
        hash.update(text.as_bytes());
        hash.update(&[0]);
        hash.update(&len.to_le_bytes());
    };
    classes.iter().for_each(|class| part(class, 0));
    sources.iter().for_each(|source| part(&source.name, source.len));
    hash.digest128()
}

fn blocks(sources: &[Source], stride: u64) -> (Vec<Block>, Vec<usize>) {
    let (mut blocks, mut starts, mut bytes) = (Vec::new(), vec![0], 0);
    for (sample, source) in sources.iter().enumerate() {
        bytes += source.len;
        let first = starts.last().copied().unwrap_or(0);
        let rows = sample + 1 - first;
        if bytes >= BLOCK_BYTES_AIM || rows >= BLOCK_FILES_MAX || sample + 1 == sources.len() {
            blocks.push(Block { rows: rows as u64, decoded_bytes: rows as u64 * stride + bytes });
            starts.push(sample + 1);
            bytes = 0;
        }
    }
    (blocks, starts)
}

impl Dataset for ImageFolder {
    fn format(&self) -> &'static str {
        "ImageFolder"
    }

    fn schema(&self) -> &Schema {
        &self.content.schema
    }

    fn sources(&self) -> &[Source] {
        &self.content.sources
    }

    fn classes(&self) -> &[String] {
        &self.content.classes
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

    /// Rows count within a file, and a file has one.
    fn place(&self, block: usize, row: u64, field: usize) -> Place {
        let source = self.content.sources.get(self.content.starts[block] + row as usize);
        Place {
            file: source.map(|source| source.location.clone()),
            field: self.content.schema.fields.get(field).map(|field| field.name.clone()),
            ..Place::default()
        }
    }

    fn ranges(&self, block: usize) -> Vec<Range> {
        let whole = |sample: usize| Range { source: sample as u32, offset: 0, len: self.content.sources[sample].len };
        self.samples(block).map(whole).collect()
    }

    fn encoded_at(&self, block: usize, row: u64, field: usize) -> Option<Range> {
        let sample = self.content.starts[block] + row as usize;
        let source = self.content.sources.get(sample).filter(|_| field == 0)?;
        Some(Range { source: sample as u32, offset: 0, len: source.len })
    }

    fn decode(&self, block: usize, bytes: &[Bytes], rows: &mut Rows) -> Result<()> {
        let (content, samples) = (&*self.content, self.samples(block));
        if bytes.len() != samples.len() {
            return Err(Error::internal("other files were brought than were asked for"));
        }
        let mut into = SampleRows::new(rows, samples.len())?;
        for (sample, bytes) in samples.zip(bytes) {
            into.begin(DrawKey::new(content.seed, self.epoch, content.identity, sample as u64));
            into.varying(0, bytes)?;
            if let Some(label) = into.dense(1) {
                label.copy_from_slice(&i64::from(content.labels[sample]).to_ne_bytes());
            }
        }
        into.finish()
    }
}
