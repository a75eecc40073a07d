//! Files written by the parquet crate's writer into memory, read back through the ports.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{DataType, Field as ArrowField, Fields, Float32Type, Int32Type, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding};
use parquet::file::properties::{WriterProperties, WriterVersion};

use super::*;
use crate::ErrorKind;
use crate::dataset::Ports;
use crate::field::{DType, FieldKind};
use crate::format::filter::{Condition, Test};
use crate::format::literal::Literal;
use crate::format::options::{Decimals, Fill, Nulls, Ragged, StackSource};
use crate::rows::{RowLayout, RowPool, Slot};
use crate::storage::Storage;
use crate::testing::MemoryStorage;

fn write_with(batches: &[RecordBatch], properties: WriterProperties) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batches[0].schema(), Some(properties)).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    writer.close().unwrap();
    bytes
}

fn write(batch: &RecordBatch) -> Vec<u8> {
    write_with(std::slice::from_ref(batch), WriterProperties::default())
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

fn open(bytes: Vec<u8>, select: ColumnOptions) -> Result<(MemoryStorage, Parquet)> {
    let storage = MemoryStorage::new().with("a.parquet", bytes);
    let dataset = Parquet::open_all(&storage, storage.sources(), &ParquetOptions { select, ..Default::default() })?;
    Ok((storage, dataset))
}

fn decode(storage: &MemoryStorage, dataset: &Parquet, block: usize) -> Result<Rows> {
    let mut rows = Rows::new(Arc::new(RowLayout::new(dataset.schema())), RowPool::new(4));
    let bytes = storage.submit(dataset.sources(), &dataset.ranges(block))?.wait()?;
    dataset.decode(block, &bytes, &mut rows)?;
    assert_eq!(rows.complete_rows()?, dataset.blocks()[block].rows as usize);
    Ok(rows)
}

/// All samples of one field, each as its bytes.
fn samples(storage: &MemoryStorage, dataset: &Parquet, field: &str) -> Result<Vec<Vec<u8>>> {
    let position = dataset.schema().position(field).unwrap();
    let mut samples = Vec::new();
    for block in 0..dataset.blocks().len() {
        let rows = decode(storage, dataset, block)?;
        for row in 0..rows.complete_rows()? {
            samples.push(match rows.layout().slots()[position].clone() {
                Slot::Dense { offset, width } => rows.dense_row(row)[offset..offset + width].to_vec(),
                Slot::Varying { index } => rows.varying(index, row).to_vec(),
                Slot::Widened { .. } | Slot::Made { .. } => return Err(Error::internal("Parquet widens nothing")),
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

fn stacked(name: &str, columns: &[&str]) -> (String, StackSource) {
    (name.into(), StackSource::Many(columns.iter().map(|c| (*c).to_owned()).collect()))
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
    for dictionary in [true, false] {
        let properties = WriterProperties::builder().set_dictionary_enabled(dictionary).build();
        let (storage, dataset) =
            open(write_with(std::slice::from_ref(&batch), properties), ColumnOptions::default()).unwrap();
        for (name, array, dtype) in &columns {
            let field = &dataset.schema().fields[dataset.schema().position(name).unwrap()];
            assert_eq!(field.kind, FieldKind::Dense { dtype: *dtype, shape: vec![] }, "{name}");
            let expected: Vec<Vec<u8>> = match dtype {
                DType::Bool => array.as_boolean().values().iter().map(|v| vec![u8::from(v)]).collect(),
                _ => array.to_data().buffers()[0].chunks(dtype.width()).map(<[u8]>::to_vec).collect(),
            };
            assert_eq!(samples(&storage, &dataset, name).unwrap(), expected, "{name}");
        }
    }
}

#[test]
fn every_codec_page_version_and_encoding_gives_the_same_rows() {
    let count = 5000;
    let x = Float32Array::from_iter_values((0..count).map(|i| (i as f32 * 0.37).sin()));
    let few = Float64Array::from_iter_values((0..count).map(|i| f64::from(i % 7)));
    let id = Int64Array::from_iter_values((0..i64::from(count)).map(|i| i * i));
    let table = batch(vec![("x", Arc::new(x.clone())), ("few", Arc::new(few)), ("id", Arc::new(id.clone()))]);
    let codecs = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::ZSTD(Default::default()),
        Compression::GZIP(Default::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
        Compression::BROTLI(Default::default()),
    ];
    for codec in codecs {
        for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
            for encoding in [None, Some(Encoding::PLAIN), Some(Encoding::BYTE_STREAM_SPLIT)] {
                let mut properties = WriterProperties::builder()
                    .set_compression(codec)
                    .set_writer_version(version)
                    .set_data_page_row_count_limit(700)
                    .set_write_batch_size(100)
                    .set_max_row_group_row_count(Some(2100));
                if let Some(encoding) = encoding {
                    properties = properties.set_dictionary_enabled(false).set_encoding(encoding);
                }
                let bytes = write_with(std::slice::from_ref(&table), properties.build());
                let select = ColumnOptions {
                    stack: vec![stacked("x", &["x", "few"]), stacked("id", &["id"])],
                    ..Default::default()
                };
                let (storage, dataset) = open(bytes, select).unwrap();
                assert_eq!(dataset.blocks().len(), 3);
                let got = samples(&storage, &dataset, "x").unwrap();
                let expected: Vec<Vec<u8>> = (0..count)
                    .map(|i| [f64::from(x.value(i as usize)), f64::from(i % 7)])
                    .map(|pair| bytemuck::bytes_of(&pair).to_vec())
                    .collect();
                assert_eq!(got, expected, "{codec:?} {version:?} {encoding:?}");
                assert_eq!(
                    samples(&storage, &dataset, "id").unwrap(),
                    le(id.values()),
                    "{codec:?} {version:?} {encoding:?}"
                );
            }
        }
    }
}

#[test]
fn a_null_names_its_row_and_remedy_and_can_be_filled() {
    let values = Int32Array::from_iter((0..3000).map(|i| (i != 2500).then_some(i)));
    let bytes = write(&batch(vec![
        ("a", Arc::new(values)),
        ("t", Arc::new(StringArray::from_iter((0..3000).map(|i| (i > 0).then_some("x"))))),
    ]));
    let only = |name: &str| ColumnOptions { columns: Some(vec![name.into()]), ..Default::default() };
    let error = read(bytes.clone(), only("a"), "a").unwrap_err();
    let place = error.place();
    assert_eq!((place.file.as_deref(), place.row, place.field.as_deref()), (Some("a.parquet"), Some(2500), Some("a")));
    assert!(error.message().contains("nulls="), "{error}");
    let filled = ColumnOptions { nulls: Nulls::Fill(vec![("a".into(), Fill::Int(-7))]), ..only("a") };
    let mut expected: Vec<i32> = (0..3000).collect();
    expected[2500] = -7;
    assert_eq!(read(bytes.clone(), filled, "a").unwrap(), le(&expected));
    assert_eq!(read(bytes.clone(), only("t"), "t").unwrap_err().place().row, Some(0));
    let filled = ColumnOptions { nulls: Nulls::Fill(vec![("t".into(), Fill::Text("none".into()))]), ..only("t") };
    assert_eq!(read(bytes.clone(), filled, "t").unwrap()[..2], [b"none".to_vec(), b"x".to_vec()]);
    let misfit = ColumnOptions { nulls: Nulls::Fill(vec![("a".into(), Fill::Float(0.5))]), ..only("a") };
    assert_eq!(open(bytes, misfit).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn dtypes_convert_exactly_or_say_where_not() {
    let bytes = write(&batch(vec![
        ("a", Arc::new(Int64Array::from_iter_values(0..300))),
        ("b", Arc::new(Float64Array::from_iter_values((0..300).map(|i| f64::from(i) / 3.0)))),
    ]));
    let to = |column: &str, dtype| ColumnOptions {
        columns: Some(vec![column.into()]),
        dtypes: vec![(column.into(), dtype)],
        ..Default::default()
    };
    let floats: Vec<f32> = (0..300).map(|i| (f64::from(i) / 3.0) as f32).collect();
    assert_eq!(read(bytes.clone(), to("b", DType::F32), "b").unwrap(), le(&floats));
    assert_eq!(read(bytes.clone(), to("a", DType::I16), "a").unwrap(), le(&(0..300i16).collect::<Vec<_>>()));
    let error = read(bytes.clone(), to("a", DType::U8), "a").unwrap_err();
    assert_eq!((error.place().row, error.place().field.as_deref()), (Some(256), Some("a")));
    assert!(read(bytes.clone(), to("b", DType::I64), "b").is_err());
    assert_eq!(open(bytes.clone(), to("nope", DType::F32)).unwrap_err().kind(), ErrorKind::NotFound);
    let unknown = ColumnOptions { dtypes: vec![("nope".into(), DType::F32)], ..Default::default() };
    assert_eq!(open(bytes, unknown).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn dates_lists_text_structs_decimals_and_maps() {
    let times = TimestampMicrosecondArray::from_iter_values([1, 2, -3]).with_timezone("UTC");
    let fixed = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(
        [[1.0f32, 2.0], [3.0, 4.0], [5.0, 6.0]].map(|pair| Some(pair.map(Some))),
        2,
    );
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(
        [vec![1, 2], vec![], vec![3]].map(|v| Some(v.into_iter().map(Some).collect::<Vec<_>>())),
    );
    let inner: Fields =
        vec![ArrowField::new("u", DataType::Int32, true), ArrowField::new("v", DataType::Utf8, true)].into();
    let structs = StructArray::new(
        inner,
        vec![Arc::new(Int32Array::from(vec![7, 8, 9])), Arc::new(StringArray::from(vec!["p", "q", "r"]))],
        None,
    );
    let decimals = Decimal128Array::from(vec![12_345, -1, 0]).with_precision_and_scale(20, 2).unwrap();
    let whole = Decimal128Array::from(vec![5, -6, 7]).with_precision_and_scale(30, 0).unwrap();
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    for i in 0..3 {
        map.keys().append_value("k\"");
        map.values().append_value(i);
        map.append(true).unwrap();
    }
    let words: DictionaryArray<Int32Type> = ["red", "blue", "red"].into_iter().collect();
    let table = batch(vec![
        ("time", Arc::new(times)),
        ("date", Arc::new(Date32Array::from(vec![10, 20, -30]))),
        ("took", Arc::new(DurationSecondArray::from(vec![1, 2, 3]))),
        ("fixed", Arc::new(fixed)),
        ("lists", Arc::new(lists)),
        ("s", Arc::new(structs)),
        ("money", Arc::new(decimals)),
        ("whole", Arc::new(whole)),
        ("map", Arc::new(map.finish())),
        ("words", Arc::new(words)),
        ("raw", Arc::new(BinaryArray::from_vec(vec![b"\x00", b"", b"\xff\xfe"]))),
    ]);
    let bytes = write(&table);
    let error = open(bytes.clone(), ColumnOptions::default()).unwrap_err();
    assert_eq!((error.kind(), error.place().field.as_deref()), (ErrorKind::Unsupported, Some("money")));
    let options = ColumnOptions { decimals: Decimals::Float64, ..Default::default() };
    let (storage, dataset) = open(bytes.clone(), options).unwrap();
    let get = |field: &str| samples(&storage, &dataset, field).unwrap();
    let unit = |field: &str| dataset.schema().fields[dataset.schema().position(field).unwrap()].unit.clone();
    assert_eq!((get("time"), unit("time").as_deref()), (le(&[1i64, 2, -3]), Some("timestamp[us, UTC]")));
    assert_eq!((get("date"), unit("date").as_deref()), (le(&[10i64, 20, -30]), Some("date32[day]")));
    assert_eq!((get("took"), unit("took").as_deref()), (le(&[1i64, 2, 3]), Some("duration[s]")));
    assert_eq!(get("fixed"), le(&[[1.0f32, 2.0], [3.0, 4.0], [5.0, 6.0]]));
    assert_eq!(get("lists"), vec![bytemuck::bytes_of(&[1i32, 2]).to_vec(), vec![], 3i32.to_le_bytes().to_vec()]);
    assert_eq!(get("s.u"), le(&[7i32, 8, 9]));
    assert_eq!(get("s.v"), [b"p", b"q", b"r"].map(|v| v.to_vec()));
    assert_eq!(get("money"), le(&[123.45f64, -0.01, 0.0]));
    assert_eq!(get("map"), (0..3).map(|i| format!("[[\"k\\\"\",{i}]]").into_bytes()).collect::<Vec<_>>());
    assert_eq!(get("words"), ["red", "blue", "red"].map(|v| v.as_bytes().to_vec()));
    assert_eq!(get("raw"), [b"\x00".to_vec(), vec![], b"\xff\xfe".to_vec()]);
    let pad = Ragged::Pad { value: Fill::Int(-1), length: 3 };
    let some = ColumnOptions {
        columns: Some(vec!["lists".into(), "s".into(), "whole".into()]),
        ragged: pad,
        ..Default::default()
    };
    let (storage, dataset) = open(bytes, some).unwrap();
    assert_eq!(samples(&storage, &dataset, "lists").unwrap(), le(&[[1i32, 2, -1], [-1, -1, -1], [3, -1, -1]]));
    assert_eq!(samples(&storage, &dataset, "whole").unwrap(), le(&[5i64, -6, 7]));
    assert_eq!(dataset.schema().fields.len(), 4);
}

#[test]
fn files_of_two_schemas_are_refused_by_name() {
    let one = write(&batch(vec![
        ("a", Arc::new(Int32Array::from(vec![1, 2]))),
        ("b", Arc::new(Int32Array::from(vec![1, 2]))),
    ]));
    let two =
        write(&batch(vec![("b", Arc::new(Int32Array::from(vec![3]))), ("a", Arc::new(Int64Array::from(vec![4])))]));
    let storage = MemoryStorage::new().with("1.parquet", one).with("2.parquet", two);
    let open = |columns: &[&str]| {
        let columns = Some(columns.iter().map(|c| (*c).to_owned()).collect());
        let select = ColumnOptions { columns, ..Default::default() };
        Parquet::open_all(&storage, storage.sources(), &ParquetOptions { select, ..Default::default() })
    };
    let error = open(&["a"]).unwrap_err();
    assert_eq!((error.place().file.as_deref(), error.place().field.as_deref()), (Some("2.parquet"), Some("a")));
    let dataset = open(&["b"]).unwrap();
    assert_eq!(samples(&storage, &dataset, "b").unwrap(), le(&[1i32, 2, 3]));
    assert_eq!(dataset.fingerprint().len(), 32);
    assert_ne!(
        dataset.fingerprint(),
        Parquet::open_all(&storage, storage.sources()[..1].to_vec(), &ParquetOptions::default()).unwrap().fingerprint()
    );
}

/// A small file with a flat column, one with nulls, text and lists.
fn small_file(codec: Compression) -> Vec<u8> {
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(
        (0..40).map(|i| Some((0..i % 3).map(Some).collect::<Vec<_>>())),
    );
    let table = batch(vec![
        ("a", Arc::new(Int32Array::from_iter_values(0..40))),
        ("n", Arc::new(Float64Array::from_iter((0..40).map(|i| (i % 5 > 0).then_some(f64::from(i)))))),
        ("t", Arc::new(StringArray::from_iter_values((0..40).map(|i| format!("text {}", i % 4))))),
        ("l", Arc::new(lists)),
    ]);
    write_with(
        &[table],
        WriterProperties::builder()
            .set_compression(codec)
            .set_data_page_row_count_limit(16)
            .set_write_batch_size(8)
            .build(),
    )
}

fn lenient() -> ColumnOptions {
    ColumnOptions { nulls: Nulls::Fill(vec![("n".into(), Fill::Int(0))]), ..Default::default() }
}

/// Everything that a file delivers.
fn all_samples(bytes: Vec<u8>) -> Result<Vec<Vec<Vec<u8>>>> {
    let (storage, dataset) = open(bytes, lenient())?;
    dataset.schema().fields.iter().map(|field| samples(&storage, &dataset, &field.name)).collect()
}

#[test]
fn a_file_cut_at_any_byte_is_an_error() {
    let bytes = small_file(Compression::SNAPPY);
    assert!(all_samples(bytes.clone()).is_ok());
    for len in 0..bytes.len() {
        let error = all_samples(bytes[..len].to_vec()).unwrap_err();
        assert_eq!(error.place().file.as_deref(), Some("a.parquet"), "{len}: {error}");
    }
}

#[test]
fn flipped_bits_never_panic() {
    for codec in [Compression::UNCOMPRESSED, Compression::SNAPPY] {
        let bytes = small_file(codec);
        let mut refused = 0;
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // Without page checksums a changed value may pass; a panic or a wrong count may not.
            if let Err(error) = all_samples(damaged) {
                assert_ne!(error.kind(), ErrorKind::Internal, "bit {bit}: {error}");
                refused += 1;
            }
        }
        assert!(refused > bytes.len(), "{refused} flips were noticed");
    }
}

/// A row group of 36 MB decoded, of columns whose pages do not line up, with nulls, text and a list.
fn large_table(rows: usize, with_list: bool) -> RecordBatch {
    let wide =
        |c: usize| Arc::new(Float64Array::from_iter_values((0..rows).map(move |i| (i * (c + 1)) as f64))) as ArrayRef;
    let names: Vec<String> = (0..13).map(|c| format!("f{c}")).collect();
    let mut columns: Vec<(&str, ArrayRef)> =
        names.iter().enumerate().map(|(c, name)| (name.as_str(), wide(c))).collect();
    columns.push(("few", Arc::new(Int32Array::from_iter_values((0..rows).map(|i| (i / 1000) as i32)))));
    columns.push(("n", Arc::new(Int64Array::from_iter((0..rows).map(|i| (i % 11 > 0).then_some(i as i64))))));
    columns.push(("t", Arc::new(StringArray::from_iter_values((0..rows).map(|i| (i % 1003).to_string())))));
    if with_list {
        let lists = (0..rows).map(|i| Some((0..i % 3).map(|v| Some(v as i32)).collect::<Vec<_>>()));
        columns.push(("l", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists))));
    }
    batch(columns)
}

#[test]
fn a_large_row_group_is_read_in_parts() {
    let rows = 300_000;
    for (index, with_list, codec) in [
        (false, false, Compression::SNAPPY),
        (false, false, Compression::ZSTD(Default::default())),
        (false, false, Compression::LZ4_RAW),
        (true, true, Compression::SNAPPY),
        (true, false, Compression::UNCOMPRESSED),
    ] {
        let properties = WriterProperties::builder()
            .set_compression(codec)
            .set_offset_index_disabled(!index)
            .set_statistics_enabled(parquet::file::properties::EnabledStatistics::None)
            .set_dictionary_page_size_limit(100_000)
            .set_data_page_size_limit(200_000)
            .set_data_page_row_count_limit(70_000)
            .build();
        let bytes = write_with(&[large_table(rows, with_list)], properties);
        let nulls = Nulls::Fill(vec![("n".into(), Fill::Int(-1))]);
        let names: Vec<String> = (0..13).map(|c| format!("f{c}")).collect();
        let mut columns = vec!["few".to_owned(), "n".into(), "t".into()];
        columns.extend(with_list.then(|| "l".into()));
        let select = ColumnOptions {
            stack: vec![("x".into(), StackSource::Many(names))],
            columns: Some(columns),
            nulls,
            ..Default::default()
        };
        let len = bytes.len() as u64;
        let (storage, dataset) = open(bytes, select).unwrap();
        assert!(dataset.blocks().len() >= 2, "{index} {codec:?}: {:?}", dataset.blocks());
        assert!(dataset.blocks().iter().all(|block| block.decoded_bytes <= 33 << 20));
        storage.take_reads();
        let mut row = 0;
        for block in 0..dataset.blocks().len() {
            let block = decode(&storage, &dataset, block).unwrap();
            for i in 0..block.complete_rows().unwrap() {
                let dense = block.dense_row(i);
                assert_eq!(bytemuck::pod_read_unaligned::<f64>(&dense[..8]), row as f64);
                assert_eq!(bytemuck::pod_read_unaligned::<f64>(&dense[96..104]), (row * 13) as f64);
                assert_eq!(bytemuck::pod_read_unaligned::<i32>(&dense[104..108]), (row / 1000) as i32);
                let n = if row % 11 > 0 { row as i64 } else { -1 };
                assert_eq!(bytemuck::pod_read_unaligned::<i64>(&dense[108..116]), n);
                assert_eq!(block.varying(0, i), (row % 1003).to_string().as_bytes());
                if with_list {
                    assert_eq!(block.varying(1, i).len(), row % 3 * 4);
                }
                row += 1;
            }
        }
        assert_eq!(row, rows);
        let read: u64 = storage.take_reads().iter().map(|range| range.len).sum();
        assert!(read < len * 13 / 10, "{read} bytes were read of {len}");
    }
}

#[test]
fn a_schema_has_its_timestamps_in_every_unit() {
    for (unit, name) in [(TimeUnit::Millisecond, "timestamp[ms]"), (TimeUnit::Nanosecond, "timestamp[ns]")] {
        let array = arrow::compute::cast(&Int64Array::from(vec![5]), &DataType::Timestamp(unit, None)).unwrap();
        let (_, dataset) = open(write(&batch(vec![("t", array)])), ColumnOptions::default()).unwrap();
        assert_eq!(dataset.schema().fields[0].unit.as_deref(), Some(name));
    }
}

#[test]
fn claims_beyond_the_file_are_refused_before_memory_is_taken() {
    // A valid file whose footer length, then whose magic, lies.
    let bytes = small_file(Compression::SNAPPY);
    let mut long = bytes.clone();
    let at = long.len() - 8;
    long[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(open(long, lenient()).unwrap_err().kind(), ErrorKind::Corrupt);
    for bad in [vec![], vec![0; 1000], b"PAR1PAR1".to_vec(), b"PAR1\x00\x00\x00\x00PAR1".to_vec()] {
        assert_eq!(open(bad, lenient()).unwrap_err().kind(), ErrorKind::Corrupt);
    }
    // Lists nested without end: 0x19 is "field 1: a list", 0x19 within a list header "one list".
    let mut nested = b"PAR1".to_vec();
    nested.extend(std::iter::repeat_n(0x19, 100_000));
    nested.extend_from_slice(&100_000u32.to_le_bytes());
    nested.extend_from_slice(b"PAR1");
    assert_eq!(open(nested, lenient()).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn only_what_is_needed_is_read() {
    let bytes = small_file(Compression::SNAPPY);
    let len = bytes.len() as u64;
    let (storage, dataset) =
        open(bytes, ColumnOptions { columns: Some(vec!["a".into()]), ..Default::default() }).unwrap();
    storage.take_reads();
    decode(&storage, &dataset, 0).unwrap();
    assert!(storage.take_reads().iter().map(|range| range.len).sum::<u64>() < len / 4);
}

#[test]
fn filters_read_only_what_they_test_and_only_where_it_may_match() {
    let ids = |range: std::ops::Range<i32>| -> ArrayRef { Arc::new(Int32Array::from_iter_values(range)) };
    let wide = |count: i32| -> ArrayRef { Arc::new(Float64Array::from_iter_values((0..count).map(f64::from))) };
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(1000)).build();
    let bytes = write_with(&[batch(vec![("id", ids(0..4000)), ("wide", wide(4000))])], properties);
    let storage = MemoryStorage::new().with("a.parquet", bytes);
    let ports = Ports { storage: &storage, sidecar: &crate::sidecar::NoSidecar };
    let condition = |column: &str, test| Condition { column: column.into(), test };
    let below = |end: i64| condition("id", Test::Less(Literal::Int(end)));
    let options = |filters: Filters| ParquetOptions {
        select: ColumnOptions { columns: Some(vec!["wide".into()]), ..Default::default() },
        filters,
        ..Default::default()
    };
    let open = |filters: Filters| {
        storage.take_reads();
        let dataset = Parquet::open(ports, storage.sources(), &options(filters)).unwrap();
        (dataset.blocks().iter().map(|block| block.rows).collect::<Vec<_>>(), storage.take_reads())
    };
    let (rows, reads) = open(vec![vec![below(1001)]]);
    assert_eq!(rows, [1000, 1]);
    // The footer, and the tested column of the two row groups that may match.
    assert_eq!(reads.len(), 3);
    assert!(reads[1..].iter().all(|range| range.len < 6000), "{reads:?}");
    assert_eq!(open(vec![vec![below(0)]]).1.len(), 1);
    let either = vec![vec![below(1)], vec![condition("id", Test::Equal(Literal::Int(3999)))]];
    assert_eq!(open(either).0, [1, 1]);
    let unknown = Parquet::open(ports, storage.sources(), &options(vec![vec![condition("no", Test::In(vec![]))]]));
    assert_eq!(unknown.unwrap_err().kind(), ErrorKind::NotFound);
}
