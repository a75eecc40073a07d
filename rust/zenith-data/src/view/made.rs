//! A dataset of which some fields of bytes are made into values by transforms: pictures in columns.

use std::sync::Arc;

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use crate::dataset::{Block, Dataset, Unit};
use crate::error::Place;
use crate::field::{Field, FieldKind, Schema};
use crate::memory::zeros;
use crate::rows::{Column, RowLayout, RowPool, Rows, Slot};
use crate::storage::{Range, Source};
use crate::transform::{DrawKey, Encoded, Transform};
use crate::{Error, ErrorKind, Result};

/// The dataset below with transforms over it, as it is in one epoch.
#[derive(Debug, Clone)]
pub struct Made {
    base: Arc<dyn Dataset>,
    schema: Schema,
    /// One for each field that is made.
    transforms: Vec<Option<Arc<dyn Transform>>>,
    seed: u64,
    epoch: u64,
    /// Number of the first sample of each block.
    starts: Arc<[u64]>,
    blocks: Arc<[Block]>,
    /// Tells datasets apart that are read with one seed.
    identity: u64,
    fingerprint: String,
}

impl Made {
    /// Errors: no such field, or one that is not of bytes.
    pub fn new(base: Arc<dyn Dataset>, given: Vec<(String, Arc<dyn Transform>)>, seed: u64) -> Result<Self> {
        let mut schema = base.schema().clone();
        let mut transforms: Vec<Option<Arc<dyn Transform>>> = vec![None; schema.fields.len()];
        let mut hash = Xxh3::new();
        hash.update(b"made");
        hash.update(base.fingerprint().as_bytes());
        for (name, transform) in given {
            let Some(place) = schema.position(&name) else {
                return Err(Error::new(ErrorKind::NotFound, format!("there is no field {name:?}")).in_field(&name));
            };
            if schema.fields[place].kind != FieldKind::Binary {
                let kind = &schema.fields[place].kind;
                let message = format!("pictures are made of bytes, and the field is {kind:?}");
                return Err(Error::invalid(message).in_field(&name));
            }
            hash.update(&(place as u64).to_le_bytes());
            hash.update(transform.describe().as_bytes());
            schema.fields[place] = Field { name, kind: transform.kind(), unit: None };
            transforms[place] = Some(Arc::new(NeedsBytes(transform)));
        }
        let fingerprint = format!("{:032x}", hash.digest128());
        let mut starts = vec![0];
        starts.extend(base.blocks().iter().scan(0, |total, block| {
            *total += block.rows;
            Some(*total)
        }));
        // A row has its key besides.
        let more = size_of::<DrawKey>() as u64;
        let blocks = base.blocks().iter();
        let blocks = blocks
            .map(|block| Block { decoded_bytes: block.decoded_bytes.saturating_add(more * block.rows), ..*block });
        let mut identity = Xxh3::new();
        identity.update(base.fingerprint().as_bytes());
        Ok(Self {
            schema,
            transforms,
            seed,
            epoch: 0,
            starts: starts.into(),
            blocks: blocks.collect(),
            identity: identity.digest(),
            fingerprint,
            base,
        })
    }

    /// The dense part of each row: its key, and the fields of the dataset below at their new places.
    fn dense(&self, block: usize, below: &Rows, layout: &RowLayout, count: usize) -> Result<Vec<u8>> {
        let stride = layout.stride();
        let mut dense = zeros(count.saturating_mul(stride))?;
        let moves: Vec<_> = (below.layout().slots().iter().zip(layout.slots()))
            .filter_map(|(from, to)| match (from, to) {
                (&Slot::Dense { offset: from, width }, &Slot::Dense { offset: to, .. }) => Some((from, to, width)),
                _ => None,
            })
            .collect();
        for (row, into) in dense.chunks_exact_mut(stride.max(1)).enumerate() {
            if let Some(at) = layout.key() {
                let key = DrawKey::new(self.seed, self.epoch, self.identity, self.starts[block] + row as u64);
                into[at..at + size_of::<DrawKey>()].copy_from_slice(bytemuck::bytes_of(&key));
            }
            for &(from, to, width) in &moves {
                into[to..to + width].copy_from_slice(&below.dense_row(row)[from..from + width]);
            }
        }
        Ok(dense)
    }
}

impl Dataset for Made {
    fn format(&self) -> &'static str {
        self.base.format()
    }

    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn sources(&self) -> &[Source] {
        self.base.sources()
    }

    fn classes(&self) -> &[String] {
        self.base.classes()
    }

    fn layout(&self) -> RowLayout {
        RowLayout::with_transforms(&self.schema, &self.transforms)
    }

    fn at_epoch(&self, epoch: u64) -> Option<Arc<dyn Dataset>> {
        let draws = self.transforms.iter().flatten().any(|transform| transform.is_random());
        let below = self.base.at_epoch(epoch);
        if below.is_none() && (!draws || epoch == self.epoch) {
            return None;
        }
        Some(Arc::new(Self { base: below.unwrap_or_else(|| self.base.clone()), epoch, ..self.clone() }))
    }

    fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    fn given_order(&self) -> Option<&Arc<[u64]>> {
        self.base.given_order()
    }

    /// While a block is moved, its bytes are there twice.
    fn working_bytes(&self) -> u64 {
        self.base.working_bytes().saturating_mul(2)
    }

    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn notices(&self) -> Vec<String> {
        self.base.notices()
    }

    fn ranges(&self, block: usize) -> Vec<Range> {
        self.base.ranges(block)
    }

    fn units(&self) -> Vec<Unit> {
        self.base.units()
    }

    fn place(&self, block: usize, row: u64, field: usize) -> Place {
        self.base.place(block, row, field)
    }

    fn decode(&self, block: usize, bytes: &[Bytes], rows: &mut Rows) -> Result<()> {
        let mut below = Rows::new(Arc::new(self.base.layout()), RowPool::new(0));
        self.base.decode(block, bytes, &mut below)?;
        let count = below.complete_rows()?;
        let layout = rows.layout().clone();
        let width = layout.stride();
        if width > 0 {
            let dense = self.dense(block, &below, &layout, count)?;
            rows.append_columns(&[(0, Column::Wide { width, bytes: &dense })])?;
        }
        for slot in below.layout().slots() {
            let &Slot::Varying { index } = slot else { continue };
            for row in 0..count {
                // What is made later has its bytes where they were.
                rows.push_varying(index, below.varying(index, row));
            }
        }
        Ok(())
    }
}

/// A transform of a column, in which bytes may be missing: then that sample alone is bad.
#[derive(Debug)]
struct NeedsBytes(Arc<dyn Transform>);

impl Transform for NeedsBytes {
    fn kind(&self) -> FieldKind {
        self.0.kind()
    }

    fn is_random(&self) -> bool {
        self.0.is_random()
    }

    fn describe(&self) -> String {
        self.0.describe()
    }

    fn hints(&self) -> Option<&'static str> {
        self.0.hints()
    }

    fn hint(&self, bytes: &[u8]) -> Vec<u8> {
        self.0.hint(bytes)
    }

    fn apply(&self, encoded: Encoded<'_>, key: DrawKey, into: &mut [u8]) -> Result<()> {
        if encoded.bytes.is_empty() {
            return Err(Error::unsupported(
                "the picture has no bytes: it is missing, or only a path, and paths are not opened. Write the files' bytes \
                 into the column",
            ));
        }
        self.0.apply(encoded, key, into)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, BinaryArray, Float64Array, Int64Array, RecordBatch, StringArray, StructArray};
    use arrow::datatypes::{DataType, Field as ArrowField};
    use parquet::arrow::ArrowWriter;

    use super::*;
    use crate::batch::FieldData;
    use crate::dataset::Ports;
    use crate::field::DType;
    use crate::format::{ColumnOptions, Parquet, ParquetOptions};
    use crate::gather::{RowRef, decode_block, gather};
    use crate::sidecar::NoSidecar;
    use crate::storage::Storage;
    use crate::testing::{FaultyMemory, MemoryStorage};

    /// The length of the bytes, and the key.
    #[derive(Debug)]
    struct Measured;

    impl Transform for Measured {
        fn kind(&self) -> FieldKind {
            FieldKind::Dense { dtype: DType::U64, shape: vec![2] }
        }

        fn is_random(&self) -> bool {
            true
        }

        fn describe(&self) -> String {
            "measured".into()
        }

        fn apply(&self, encoded: Encoded<'_>, key: DrawKey, into: &mut [u8]) -> Result<()> {
            into[..8].copy_from_slice(&(encoded.bytes.len() as u64).to_ne_bytes());
            into[8..].copy_from_slice(&key.0.to_ne_bytes());
            Ok(())
        }
    }

    /// Three rows: a number, a picture as Hugging Face has it, a text, the same picture as plain bytes.
    fn table(bytes: [Option<&[u8]>; 3]) -> MemoryStorage {
        let member = |name: &str, data_type| Arc::new(ArrowField::new(name, data_type, true));
        let pictures: ArrayRef = Arc::new(BinaryArray::from_iter(bytes));
        let paths: ArrayRef = Arc::new(StringArray::from(vec![Some("x.jpg"), None, Some("z.jpg")]));
        let picture = StructArray::from(vec![
            (member("bytes", DataType::Binary), pictures.clone()),
            (member("path", DataType::Utf8), paths.clone()),
        ]);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("x", Arc::new(Float64Array::from(vec![1.5, 2.5, 3.5]))),
            ("image", Arc::new(picture)),
            ("text", Arc::new(StringArray::from(vec!["one", "two", "three"]))),
            ("raw", pictures),
            ("path", paths),
            ("n", Arc::new(Int64Array::from(vec![1, 2, 3]))),
        ];
        let columns = columns.into_iter().map(|(name, array)| (name, array, true));
        let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        let mut file = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        MemoryStorage::new().with("a.parquet", file)
    }

    fn open(storage: &MemoryStorage, columns: &[&str], encoded: &[&str]) -> Result<Made> {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let select =
            ColumnOptions { columns: Some(names(columns)), encoded: names(encoded), ..ColumnOptions::default() };
        let options = ParquetOptions { select, ..ParquetOptions::default() };
        let base = Parquet::open(Ports { storage, sidecar: &NoSidecar }, storage.sources(), &options)?;
        let transforms = encoded.iter().map(|&name| (name.to_owned(), Arc::new(Measured) as Arc<dyn Transform>));
        Made::new(base, transforms.collect(), 7)
    }

    /// The rows 2, 0, 1.
    fn read(storage: &MemoryStorage, dataset: &dyn Dataset) -> Result<Vec<FieldData<Vec<u8>>>> {
        let layout = Arc::new(dataset.layout());
        let bring = |ranges: &[Range]| storage.submit(dataset.sources(), ranges)?.wait();
        let chunks = decode_block(dataset, 0, &layout, &RowPool::new(0), bring)?;
        let found = [2, 0, 1].map(|row| RowRef { chunk: &chunks[0], row });
        gather(&layout, &found, &FaultyMemory::new(usize::MAX), |_, _| Place::default())
    }

    fn numbers(field: &FieldData<Vec<u8>>) -> Vec<u64> {
        match field {
            FieldData::Dense(slab) => slab.chunks(8).map(|part| u64::from_ne_bytes(part.try_into().unwrap())).collect(),
            FieldData::Varying { .. } => Vec::new(),
        }
    }

    const WHOLE: [Option<&[u8]>; 3] = [Some(b"abc"), Some(b"de"), Some(b"f")];

    #[test]
    fn bytes_become_values_and_other_fields_stay() {
        let storage = table(WHOLE);
        let made = open(&storage, &["n", "image", "x", "text", "raw"], &["image", "raw"]).unwrap();
        let names: Vec<&str> = made.schema().fields.iter().map(|field| field.name.as_str()).collect();
        assert_eq!(names, ["n", "image", "x", "text", "raw"]);
        let fields = read(&storage, &made).unwrap();
        assert_eq!(numbers(&fields[0]), [3, 1, 2]);
        let pictures = numbers(&fields[1]);
        assert_eq!([pictures[0], pictures[2], pictures[4]], [1, 3, 2]);
        assert_eq!(numbers(&fields[2]), [3.5, 1.5, 2.5].map(f64::to_bits));
        let FieldData::Varying { bytes, .. } = &fields[3] else { panic!("text varies") };
        assert_eq!(bytes, b"threeonetwo");
        assert_eq!(numbers(&fields[4]), pictures);
        let later = made.at_epoch(1).unwrap();
        assert_ne!(numbers(&read(&storage, &*later).unwrap()[1])[1], pictures[1]);
        assert_eq!(numbers(&read(&storage, &*later.at_epoch(0).unwrap()).unwrap()[1]), pictures);
    }

    #[test]
    fn what_holds_no_picture_is_refused() {
        let storage = table(WHOLE);
        for (column, kind) in
            [("n", ErrorKind::Unsupported), ("path", ErrorKind::Unsupported), ("q", ErrorKind::NotFound)]
        {
            let error = open(&storage, &[column], &[column]).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
        }
        for missing in [None, Some(&b""[..])] {
            let storage = table([WHOLE[0], missing, WHOLE[2]]);
            let error = read(&storage, &open(&storage, &["image", "n"], &["image"]).unwrap()).unwrap_err();
            assert!(error.message().contains("only a path"), "{error}");
        }
    }
}
