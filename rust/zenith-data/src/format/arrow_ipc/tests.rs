//! Files and streams written by arrow's writers into memory, read back through the ports.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{DataType, Field as ArrowField, Fields, Float32Type, Int32Type, SchemaRef};
use arrow::ipc::CompressionType;
use arrow::ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};

use super::open::Cut;
use super::*;
use crate::ErrorKind;
use crate::field::{DType, FieldKind};
use crate::format::options::{Fill, Nulls, StackSource};
use crate::rows::{RowLayout, RowPool, Slot};
use crate::storage::Storage;
use crate::testing::MemoryStorage;

fn options(compression: Option<CompressionType>) -> IpcWriteOptions {
    IpcWriteOptions::default().try_with_compression(compression).unwrap()
}

fn file_with(batches: &[RecordBatch], options: IpcWriteOptions) -> Vec<u8> {
    let mut writer = FileWriter::try_new_with_options(Vec::new(), &batches[0].schema(), options).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.into_inner().unwrap()
}

fn stream_with(batches: &[RecordBatch], options: IpcWriteOptions) -> Vec<u8> {
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &batches[0].schema(), options).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.into_inner().unwrap()
}

/// The batches as a file and as a stream, plain and packed.
fn every_way(batches: &[RecordBatch]) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for compression in [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)] {
        found.push((format!("file {compression:?}"), file_with(batches, options(compression))));
        found.push((format!("stream {compression:?}"), stream_with(batches, options(compression))));
    }
    found
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

fn open(bytes: Vec<u8>, select: ColumnOptions) -> Result<(MemoryStorage, ArrowIpc)> {
    let storage = MemoryStorage::new().with("a.arrow", bytes);
    let dataset =
        ArrowIpc::open(&storage, storage.sources(), ArrowIpcOptions { select, ..ArrowIpcOptions::default() })?;
    Ok((storage, dataset))
}

fn decode(storage: &MemoryStorage, dataset: &ArrowIpc, block: usize) -> Result<Rows> {
    let mut rows = Rows::new(Arc::new(RowLayout::new(dataset.schema())), RowPool::new(4));
    let bytes = storage.submit(dataset.sources(), &dataset.ranges(block))?.wait()?;
    dataset.decode(block, &bytes, &mut rows)?;
    assert_eq!(rows.complete_rows()?, dataset.blocks()[block].rows as usize);
    Ok(rows)
}

/// Part by part the block gives the same rows.
fn check_parts(storage: &MemoryStorage, dataset: &ArrowIpc, block: usize, whole: &Rows) -> Result<()> {
    let mut rows = whole.sibling();
    for (part, ranges) in dataset.parts(block).iter().enumerate() {
        let bytes = storage.submit(dataset.sources(), ranges)?.wait()?;
        dataset.decode_part(block, part, &bytes, &mut rows)?;
    }
    assert_eq!(rows.complete_rows()?, whole.complete_rows()?);
    for row in 0..rows.complete_rows()? {
        for slot in rows.layout().slots() {
            match slot.clone() {
                Slot::Dense { offset, width } => {
                    let value = offset..offset + width;
                    assert_eq!(rows.dense_row(row)[value.clone()], whole.dense_row(row)[value]);
                }
                Slot::Varying { index } => assert_eq!(rows.varying(index, row), whole.varying(index, row)),
                Slot::Widened { .. } | Slot::Made { .. } => {}
            }
        }
    }
    Ok(())
}

/// All samples of one field, each as its bytes.
fn samples(storage: &MemoryStorage, dataset: &ArrowIpc, field: &str) -> Result<Vec<Vec<u8>>> {
    let position = dataset.schema().position(field).unwrap();
    let mut samples = Vec::new();
    for block in 0..dataset.blocks().len() {
        let rows = decode(storage, dataset, block)?;
        for row in 0..rows.complete_rows()? {
            samples.push(match rows.layout().slots()[position].clone() {
                Slot::Dense { offset, width } => rows.dense_row(row)[offset..offset + width].to_vec(),
                Slot::Varying { index } => rows.varying(index, row).to_vec(),
                Slot::Widened { .. } | Slot::Made { .. } => return Err(crate::Error::internal("nothing is widened")),
            });
        }
    }
    Ok(samples)
}

fn read(bytes: Vec<u8>, select: ColumnOptions, field: &str) -> Result<Vec<Vec<u8>>> {
    let (storage, dataset) = open(bytes, select)?;
    samples(&storage, &dataset, field)
}

fn le<T: bytemuck::Pod>(values: &[T]) -> Vec<Vec<u8>> {
    values.iter().map(|value| bytemuck::bytes_of(value).to_vec()).collect()
}

fn texts(values: &[&str]) -> Vec<Vec<u8>> {
    values.iter().map(|value| value.as_bytes().to_vec()).collect()
}

fn stacked(name: &str, columns: &[&str]) -> (String, StackSource) {
    (name.into(), StackSource::Many(columns.iter().map(|c| (*c).to_owned()).collect()))
}

fn fills(fills: &[(&str, Fill)]) -> Nulls {
    Nulls::Fill(fills.iter().map(|(name, fill)| ((*name).to_owned(), fill.clone())).collect())
}

#[test]
fn numbers_of_every_type_arrive_as_they_are() {
    let halves: Vec<half::f16> = (0..50).map(|i| half::f16::from_f32(i as f32 / 4.0)).collect();
    let columns: Vec<(&str, ArrayRef, DType)> = vec![
        ("u8", Arc::new(UInt8Array::from_iter_values(200..250)), DType::U8),
        ("i8", Arc::new(Int8Array::from_iter_values(-25..25)), DType::I8),
        ("u16", Arc::new(UInt16Array::from_iter_values(65_000..65_050)), DType::U16),
        ("i16", Arc::new(Int16Array::from_iter_values(-25..25)), DType::I16),
        ("u32", Arc::new(UInt32Array::from_iter_values(u32::MAX - 50..u32::MAX)), DType::U32),
        ("i32", Arc::new(Int32Array::from_iter_values(-25..25)), DType::I32),
        ("u64", Arc::new(UInt64Array::from_iter_values(u64::MAX - 50..u64::MAX)), DType::U64),
        ("i64", Arc::new(Int64Array::from_iter_values(i64::MIN..i64::MIN + 50)), DType::I64),
        ("f16", Arc::new(Float16Array::from(halves)), DType::F16),
        ("f32", Arc::new(Float32Array::from_iter_values((0..50).map(|i| i as f32 / 3.0))), DType::F32),
        ("f64", Arc::new(Float64Array::from_iter_values((0..50).map(|i| f64::from(i) / 3.0))), DType::F64),
        ("bool", Arc::new(BooleanArray::from_iter((0..50).map(|i| Some(i % 3 == 0)))), DType::Bool),
    ];
    let batch = batch(columns.iter().map(|(name, array, _)| (*name, array.clone())).collect());
    // A slice begins in the middle of a byte of bits.
    let batches = [batch.slice(0, 13), batch.slice(13, 0), batch.slice(13, 37)];
    for (way, bytes) in every_way(&batches) {
        let (storage, dataset) = open(bytes, ColumnOptions::default()).unwrap();
        for (name, array, dtype) in &columns {
            let field = &dataset.schema().fields[dataset.schema().position(name).unwrap()];
            assert_eq!(field.kind, FieldKind::Dense { dtype: *dtype, shape: vec![] }, "{way} {name}");
            let expected: Vec<Vec<u8>> = match dtype {
                DType::Bool => array.as_boolean().values().iter().map(|v| vec![u8::from(v)]).collect(),
                _ => array.to_data().buffers()[0].chunks(dtype.width()).map(<[u8]>::to_vec).collect(),
            };
            assert_eq!(samples(&storage, &dataset, name).unwrap(), expected, "{way} {name}");
        }
    }
}

#[test]
fn columns_are_stacked_converted_and_filled() {
    let a: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None, Some(3)]));
    let b: ArrayRef = Arc::new(Float32Array::from(vec![0.5, 1.5, 2.5]));
    let members = Fields::from(vec![ArrowField::new("u", DataType::Int64, true)]);
    let inner: ArrayRef = Arc::new(Int64Array::from(vec![Some(10), Some(20), None]));
    let nulls = Some(vec![false, true, true].into());
    let s: ArrayRef = Arc::new(StructArray::new(members, vec![inner], nulls));
    let rows = batch(vec![("a", a), ("b", b), ("s", s)]);
    for (way, bytes) in every_way(&[rows]) {
        let select = ColumnOptions {
            stack: vec![stacked("x", &["a", "b"])],
            columns: Some(vec!["s".into(), "b".into()]),
            dtypes: vec![("x".into(), DType::F64)],
            nulls: fills(&[("a", Fill::Int(-1)), ("s.u", Fill::Int(7))]),
            ..Default::default()
        };
        let x = le(&[[1.0f64, 0.5], [-1.0, 1.5], [3.0, 2.5]]);
        assert_eq!(read(bytes.clone(), select.clone(), "x").unwrap(), x, "{way}");
        assert_eq!(read(bytes.clone(), select, "s.u").unwrap(), le(&[7i64, 20, 7]), "{way}");
        let error = read(bytes, ColumnOptions::default(), "a").unwrap_err();
        assert_eq!((error.kind(), error.place().row), (ErrorKind::Corrupt, Some(1)), "{way} {error}");
        assert!(error.place().file.is_some() && error.place().field.is_some(), "{way} {error}");
    }
}

fn mixed() -> RecordBatch {
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
        Some(vec![Some(1), Some(2)]),
        Some(vec![]),
        Some(vec![Some(3)]),
        Some(vec![Some(4), Some(5), Some(6)]),
    ]);
    let fixed = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(
        (0..4).map(|i| Some(vec![Some(i as f32), Some(i as f32 + 0.5)])),
        2,
    );
    batch(vec![
        ("id", Arc::new(Int64Array::from_iter_values(0..4)) as ArrayRef),
        ("text", Arc::new(StringArray::from(vec!["a", "", "long enough not to be inlined", "d"]))),
        ("view", Arc::new(StringViewArray::from(vec!["a", "", "long enough not to be inlined", "d"]))),
        ("list", Arc::new(lists)),
        ("fixed", Arc::new(fixed)),
        ("code", Arc::new(DictionaryArray::<Int32Type>::from_iter(["red", "blue", "red", "red"]))),
        ("last", Arc::new(Int16Array::from(vec![5, 6, 7, 8]))),
    ])
}

#[test]
fn texts_lists_and_dictionaries_arrive() {
    for (way, bytes) in every_way(&[mixed()]) {
        let (storage, dataset) = open(bytes, ColumnOptions::default()).unwrap();
        let all = |field: &str| samples(&storage, &dataset, field).unwrap();
        let long = "long enough not to be inlined";
        assert_eq!(all("id"), le(&[0i64, 1, 2, 3]), "{way}");
        assert_eq!(all("text"), texts(&["a", "", long, "d"]), "{way}");
        assert_eq!(all("view"), texts(&["a", "", long, "d"]), "{way}");
        assert_eq!(all("code"), texts(&["red", "blue", "red", "red"]), "{way}");
        let lists: Vec<Vec<u8>> = [vec![1i32, 2], vec![], vec![3], vec![4, 5, 6]]
            .iter()
            .map(|list| bytemuck::cast_slice(list).to_vec())
            .collect();
        assert_eq!(all("list"), lists, "{way}");
        assert_eq!(all("fixed"), le(&[[0f32, 0.5], [1.0, 1.5], [2.0, 2.5], [3.0, 3.5]]), "{way}");
        assert_eq!(all("last"), le(&[5i16, 6, 7, 8]), "{way}");
    }
}

#[test]
fn a_stream_may_replace_its_dictionaries() {
    let of = |values: [&str; 2]| -> RecordBatch {
        batch(vec![("code", Arc::new(DictionaryArray::<Int32Type>::from_iter(values)) as ArrayRef)])
    };
    let bytes = stream_with(&[of(["a", "b"]), of(["c", "d"]), of(["e", "e"])], options(None));
    let found = read(bytes, ColumnOptions::default(), "code").unwrap();
    assert_eq!(found, texts(&["a", "b", "c", "d", "e", "e"]));
}

#[test]
fn a_large_batch_is_read_in_parts() {
    let rows = 100_001;
    let array = |c: i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values((0..rows).map(|r| r * 3 + c))) };
    let bits: ArrayRef = Arc::new(BooleanArray::from_iter((0..rows).map(|r| Some(r % 7 == 0))));
    let holes: ArrayRef = Arc::new(Int32Array::from_iter((0..rows).map(|r| (r % 5 > 0).then_some(r as i32))));
    let unread: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(|r| format!("{r:0>40}"))));
    let columns = vec![("a", array(0)), ("text", unread), ("b", array(1)), ("bits", bits), ("holes", holes)];
    for bytes in [file_with(&[batch(columns.clone())], options(None)), stream_with(&[batch(columns)], options(None))] {
        let len = bytes.len() as u64;
        let storage = MemoryStorage::new().with("a.arrow", bytes);
        let select = ColumnOptions {
            columns: Some(["a", "b", "bits", "holes"].map(str::to_owned).to_vec()),
            nulls: fills(&[("holes", Fill::Int(-1))]),
            ..Default::default()
        };
        let cut = Cut { over: 1_000_000, aim: 300_000 };
        let dataset = ArrowIpc::open_with(
            &storage,
            storage.sources(),
            ArrowIpcOptions { select, ..ArrowIpcOptions::default() },
            cut,
        )
        .unwrap();
        assert!(dataset.blocks().len() >= 5, "{:?}", dataset.blocks());
        assert!(dataset.blocks().iter().rev().skip(1).all(|block| block.rows % 64 == 0));
        assert_eq!(dataset.blocks().iter().map(|block| block.rows).sum::<u64>(), rows as u64);
        storage.take_reads();
        let all = |field: &str| samples(&storage, &dataset, field).unwrap();
        assert_eq!(all("a"), le(&(0..rows).map(|r| r * 3).collect::<Vec<i64>>()));
        let read: u64 = storage.take_reads().iter().map(|range| range.len).sum();
        assert!(read < len * 2 / 3, "{read} bytes were read of {len}");
        assert_eq!(all("b"), le(&(0..rows).map(|r| r * 3 + 1).collect::<Vec<i64>>()));
        assert_eq!(all("bits"), le(&(0..rows).map(|r| u8::from(r % 7 == 0)).collect::<Vec<u8>>()));
        let holes = (0..rows).map(|r| if r % 5 > 0 { r as i32 } else { -1 });
        assert_eq!(all("holes"), le(&holes.collect::<Vec<i32>>()));
    }
}

#[test]
fn only_the_delivered_columns_are_read() {
    let rows = 200_000;
    let columns = (0..8).map(|c| {
        let values = Int64Array::from_iter_values((0..rows).map(|r| r * 8 + c));
        (format!("c{c}"), Arc::new(values) as ArrayRef)
    });
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    for bytes in [file_with(std::slice::from_ref(&batch), options(None)), stream_with(&[batch], options(None))] {
        let len = bytes.len() as u64;
        let select = ColumnOptions { columns: Some(vec!["c5".into(), "c1".into()]), ..Default::default() };
        let (storage, dataset) = open(bytes, select).unwrap();
        let at_open: u64 = storage.take_reads().iter().map(|range| range.len).sum();
        assert!(at_open < 200_000, "{at_open} bytes were read at open");
        assert_eq!(decode(&storage, &dataset, 0).unwrap().dense_row(7), le(&[[61i64, 57]])[0]);
        let read: u64 = storage.take_reads().iter().map(|range| range.len).sum();
        assert!(read < len / 4 + 200_000, "{read} bytes were read of {len}");
    }
}

#[test]
fn unaligned_bytes_are_copied() {
    let (storage, dataset) = open(file_with(&[mixed()], options(None)), ColumnOptions::default()).unwrap();
    let brought = storage.submit(dataset.sources(), &dataset.ranges(0)).unwrap().wait().unwrap();
    let moved: Vec<Bytes> = brought.iter().map(|bytes| Bytes::from([&[0u8][..], bytes].concat()).slice(1..)).collect();
    let mut rows = Rows::new(Arc::new(RowLayout::new(dataset.schema())), RowPool::new(4));
    dataset.decode(0, &moved, &mut rows).unwrap();
    assert_eq!(rows.dense_row(3)[..8], 3i64.to_le_bytes());
}

#[test]
fn the_fingerprint_follows_content_and_options() {
    let numbers = |start: i64| batch(vec![("a", Arc::new(Int64Array::from_iter_values(start..start + 9)) as ArrayRef)]);
    let print = |bytes: Vec<u8>, select: ColumnOptions| open(bytes, select).unwrap().1.fingerprint().to_owned();
    let one = file_with(&[numbers(0)], options(None));
    let first = print(one.clone(), ColumnOptions::default());
    assert_eq!(first, print(one.clone(), ColumnOptions::default()));
    assert_ne!(first, print(file_with(&[numbers(0), numbers(0)], options(None)), ColumnOptions::default()));
    let wide = ColumnOptions { dtypes: vec![("a".into(), DType::F64)], ..Default::default() };
    assert_ne!(first, print(one, wide));
}

#[test]
fn files_of_other_schemas_are_refused() {
    let one = batch(vec![("a", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]);
    let other = batch(vec![("a", Arc::new(Int32Array::from(vec![1])) as ArrayRef)]);
    let storage = MemoryStorage::new()
        .with("1.arrow", file_with(&[one], options(None)))
        .with("2.arrow", stream_with(&[other], options(None)));
    let error = ArrowIpc::open(&storage, storage.sources(), ArrowIpcOptions::default()).unwrap_err();
    assert_eq!((error.kind(), error.place().file.as_deref()), (ErrorKind::Unsupported, Some("2.arrow")), "{error}");
}

fn lenient() -> ColumnOptions {
    let names = ["id", "text", "view", "list", "fixed", "code", "last"];
    let fill = |name: &'static str| match name {
        "text" | "view" | "code" => (name, Fill::Text(String::new())),
        name => (name, Fill::Int(0)),
    };
    ColumnOptions { nulls: fills(&names.map(fill)), ..Default::default() }
}

/// Opens and decodes everything; the number of rows, or the error.
fn try_all(bytes: Vec<u8>) -> Result<usize> {
    let (storage, dataset) = open(bytes, lenient())?;
    let mut rows = 0;
    for block in 0..dataset.blocks().len() {
        rows += decode(&storage, &dataset, block)?.complete_rows()?;
    }
    Ok(rows)
}

fn small() -> Vec<RecordBatch> {
    // A file has one dictionary for all of its batches.
    vec![mixed(), mixed().slice(1, 2)]
}

#[test]
fn a_cut_file_or_stream_is_an_error() {
    for (way, bytes) in every_way(&small()) {
        assert_eq!(try_all(bytes.clone()).unwrap(), 6, "{way}");
        for len in 0..bytes.len() {
            let error = try_all(bytes[..len].to_vec()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{way} cut to {len}: {error}");
            assert!(error.place().file.is_some(), "{way} cut to {len}: {error}");
        }
    }
}

#[test]
fn a_flipped_bit_is_an_error_or_leaves_the_number_of_rows() {
    for (way, bytes) in every_way(&small()) {
        // Packed bytes have the same structure around them, so that one bit of each byte is enough.
        let bits = (0..bytes.len() * 8).filter(|bit| way.ends_with("None") || bit % 8 == bit / 8 % 8);
        for bit in bits {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            match try_all(bad) {
                Ok(rows) => assert_eq!(rows, 6, "{way} bit {bit}"),
                Err(error) => assert_ne!(error.kind(), ErrorKind::DatasetChanged, "{way} bit {bit}: {error}"),
            }
        }
    }
}

#[test]
fn claims_beyond_the_file_are_refused() {
    for bad in [&b""[..], b"A", b"ARROW1\0\0ARROW1", &[0; 4], &[0; 300], &[0xff; 300], b"FEA1....FEA1"] {
        assert!(open(bad.to_vec(), ColumnOptions::default()).is_err());
    }
    let bytes = file_with(&[mixed()], options(None));
    for claim in [0, -1, i32::MAX] {
        let mut bad = bytes.clone();
        let at = bad.len() - 10;
        bad[at..at + 4].copy_from_slice(&claim.to_le_bytes());
        assert_eq!(open(bad, ColumnOptions::default()).unwrap_err().kind(), ErrorKind::Corrupt);
    }
    let mut two = stream_with(&[mixed()], options(None));
    two.extend(two.clone());
    let error = open(two, ColumnOptions::default()).unwrap_err();
    assert!(error.message().contains("follow the end"), "{error}");
}

#[test]
fn a_bomb_is_refused() {
    let zeros: ArrayRef = Arc::new(Int64Array::from(vec![0; 3 << 20]));
    let bytes = file_with(&[batch(vec![("a", zeros)])], options(Some(CompressionType::ZSTD)));
    let error = read(bytes, ColumnOptions::default(), "a").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Budget, "{error}");
}

#[test]
fn an_empty_table_has_no_blocks() {
    let schema: SchemaRef = mixed().schema();
    let none = RecordBatch::new_empty(schema);
    for (way, bytes) in every_way(&[none]) {
        assert_eq!(open(bytes, ColumnOptions::default()).unwrap().1.blocks().len(), 0, "{way}");
    }
}

#[test]
fn plain_batches_are_read_in_parts_that_stay_in_the_cache() {
    let rows = 200_000;
    let numbers = |from: i64| Arc::new(Int64Array::from_iter_values(from..from + rows)) as ArrayRef;
    let bits = Arc::new(BooleanArray::from_iter((0..rows).map(|row| (row % 7 != 0).then_some(row % 3 == 0))));
    let batch = batch(vec![("a", numbers(0)), ("b", numbers(rows)), ("c", bits)]);
    let nulls = Nulls::Fill(vec![("c".into(), Fill::Bool(false))]);
    let select = ColumnOptions { nulls, ..ColumnOptions::default() };
    let (storage, dataset) = open(file_with(&[batch], IpcWriteOptions::default()), select).unwrap();
    assert_eq!((dataset.blocks().len(), dataset.parts(0).len()), (1, 4));
    check_parts(&storage, &dataset, 0, &decode(&storage, &dataset, 0).unwrap()).unwrap();
    let expected = |from: i64| (from..from + rows).map(|number| number.to_le_bytes().to_vec()).collect::<Vec<_>>();
    assert_eq!(samples(&storage, &dataset, "a").unwrap(), expected(0));
    assert_eq!(samples(&storage, &dataset, "b").unwrap(), expected(rows));
    let bits: Vec<Vec<u8>> = (0..rows).map(|row| vec![u8::from(row % 7 != 0 && row % 3 == 0)]).collect();
    assert_eq!(samples(&storage, &dataset, "c").unwrap(), bits);
}
