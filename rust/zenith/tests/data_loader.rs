//! The public loader over files that arrow's own writers made: what comes out is what went in, in either form.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float32Array, Int64Array, LargeListArray, LargeStringArray,
};
use arrow::datatypes::{Float32Type, Int32Type, Int64Type};
use arrow::record_batch::RecordBatch;
use zenith::{Batch, DataLoader, DataLoaderConfig, DataSource, ErrorKind};

const ROWS: i64 = 5000;

fn rows() -> RecordBatch {
    let lists = (0..ROWS).map(|id| Some((0..id % 4).map(|i| Some((id + i) as i32)).collect::<Vec<_>>()));
    let columns: [(&str, ArrayRef); 5] = [
        ("id", Arc::new(Int64Array::from_iter_values(0..ROWS))),
        ("x", Arc::new(Float32Array::from_iter_values((0..ROWS).map(|id| id as f32 / 8.0)))),
        ("odd", Arc::new(BooleanArray::from_iter((0..ROWS).map(|id| Some(id % 2 == 1))))),
        ("name", Arc::new(LargeStringArray::from_iter_values((0..ROWS).map(|id| format!("n{id}"))))),
        ("list", Arc::new(LargeListArray::from_iter_primitive::<Int32Type, _, _>(lists))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn written(folder: &Path) -> [String; 2] {
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let rows = rows();
    let options =
        parquet::file::properties::WriterProperties::builder().set_max_row_group_row_count(Some(1000)).build();
    let file = File::create(path("a.parquet")).unwrap();
    let mut parquet = parquet::arrow::ArrowWriter::try_new(file, rows.schema(), Some(options)).unwrap();
    parquet.write(&rows).unwrap();
    parquet.close().unwrap();
    let file = File::create(path("a.arrow")).unwrap();
    let mut ipc = arrow::ipc::writer::FileWriter::try_new(file, &rows.schema()).unwrap();
    ipc.write(&rows).unwrap();
    ipc.finish().unwrap();
    [path("a.parquet"), path("a.arrow")]
}

fn config() -> DataLoaderConfig {
    DataLoaderConfig::default().with_batch_size(128).with_prefetch_batches(4).with_workers(2)
}

fn ids(batches: &[Batch]) -> Vec<i64> {
    batches.iter().flat_map(|batch| batch.values::<i64>("id").unwrap().to_vec()).collect()
}

#[test]
fn batches_hold_what_was_written_by_name_and_as_record_batches() {
    let folder = tempfile::tempdir().unwrap();
    for path in written(folder.path()) {
        let loader = DataLoader::new(DataSource::from_path(path), config().with_shuffle(1)).unwrap();
        let batches: Vec<Batch> = loader.into_iter().collect::<Result<_, _>>().unwrap();
        let found = ids(&batches);
        let mut sorted = found.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..ROWS).collect::<Vec<_>>());
        assert_ne!(sorted, found);
        for batch in &batches {
            let arrow = batch.to_record_batch().unwrap();
            assert_eq!(arrow.num_rows(), batch.rows());
            let column = |name: &str| arrow.column_by_name(name).unwrap();
            assert_eq!(column("id").to_data().buffers()[0].as_ptr(), batch.bytes("id").unwrap().as_ptr());
            for (row, &id) in batch.values::<i64>("id").unwrap().iter().enumerate() {
                assert_eq!(column("id").as_primitive::<Int64Type>().value(row), id);
                assert_eq!(batch.values::<f32>("x").unwrap()[row], id as f32 / 8.0);
                assert_eq!(column("x").as_primitive::<Float32Type>().value(row), id as f32 / 8.0);
                assert_eq!(batch.values::<u8>("odd").unwrap()[row], (id % 2) as u8);
                assert_eq!(column("odd").as_boolean().value(row), id % 2 == 1);
                assert_eq!(batch.value("name", row).unwrap(), format!("n{id}").as_bytes());
                assert_eq!(column("name").as_string::<i64>().value(row), format!("n{id}"));
                let list = column("list").as_list::<i64>().value(row);
                let expected: Vec<i32> = (0..id % 4).map(|i| (id + i) as i32).collect();
                assert_eq!(list.as_primitive::<Int32Type>().values(), &expected[..]);
            }
        }
    }
}

#[test]
fn stacked_columns_are_fixed_size_lists() {
    let folder = tempfile::tempdir().unwrap();
    let [path, _] = written(folder.path());
    let text = format!(
        r#"{{"format": "Parquet", "paths": [{path:?}], "options": {{"stack": [["m", ["id", "x"]]], "dtypes": [["m", "float32"]]}}}}"#
    );
    let spec = zenith::DatasetSpec::from_json(&text).unwrap();
    let loader = DataLoader::new(spec.into(), config()).unwrap();
    let batch = loader.into_iter().next().unwrap().unwrap();
    assert_eq!(batch.values::<f32>("m").unwrap()[..4], [0.0, 0.0, 1.0, 0.125]);
    let arrow = batch.to_record_batch().unwrap();
    let list = arrow.column(0).as_fixed_size_list();
    assert_eq!((list.len(), list.value_length()), (128, 2));
    assert_eq!(list.value(3).as_primitive::<Float32Type>().values(), &[3.0, 0.375]);
}

#[test]
fn a_state_continues_exactly_with_other_workers_and_batches() {
    let folder = tempfile::tempdir().unwrap();
    let [path, _] = written(folder.path());
    let source = || DataSource::from_path(path.clone());
    let open = || DataLoader::new(source(), config().with_shuffle(7)).unwrap();
    let epochs = |loader: &DataLoader| -> Vec<Vec<i64>> {
        (0..2).map(|_| ids(&loader.into_iter().collect::<Result<Vec<_>, _>>().unwrap())).collect()
    };
    let whole = epochs(&open());
    assert_ne!(whole[0], whole[1]);

    let loader = open();
    let before: Vec<Batch> = loader.into_iter().take(10).collect::<Result<_, _>>().unwrap();
    let state = loader.state();
    assert_eq!((state.epoch, state.position), (0, 1280));
    let other = DataLoaderConfig::default().with_batch_size(50);
    let resumed = DataLoader::from_state(source(), other, &state).unwrap();
    let after = epochs(&resumed);
    assert_eq!([ids(&before), after[0].clone()].concat(), whole[0]);
    assert_eq!(after[1], whole[1]);
    // What was handed out stays, though both loaders are gone.
    drop((loader, resumed));
    assert_eq!(ids(&before), whole[0][..1280]);
}

#[test]
fn what_is_wrong_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let [path, _] = written(folder.path());
    let zero = DataLoader::new(DataSource::from_path(path.clone()), config().with_batch_size(0)).unwrap_err();
    assert_eq!(zero.kind(), ErrorKind::InvalidArgument);
    let loader = DataLoader::new(DataSource::from_path(path), config()).unwrap();
    let batch = loader.into_iter().next().unwrap().unwrap();
    let messages: HashMap<&str, String> = HashMap::from([
        ("nope", batch.values::<f32>("nope").unwrap_err().to_string()),
        ("float32", batch.values::<i32>("x").unwrap_err().to_string()),
        ("Batch::value", batch.values::<i32>("list").unwrap_err().to_string()),
        ("Batch::values", batch.value("x", 0).unwrap_err().to_string()),
        ("no row 128", batch.value("name", 128).unwrap_err().to_string()),
    ]);
    for (part, message) in messages {
        assert!(message.contains(part), "{message}");
    }
}
