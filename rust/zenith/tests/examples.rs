//! The example that the README names does what it says, and says what is wrong with what it is given.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../examples/train.rs"]
#[expect(dead_code, reason = "its main is for the command line")]
mod train;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, Int32Array, StringArray};
use arrow::record_batch::RecordBatch;

fn written(folder: &Path, name: &str, columns: Vec<(&str, ArrayRef)>) -> String {
    let path = folder.join(name);
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    let file = File::create(&path).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, rows.schema(), None).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
    path.to_str().unwrap().to_owned()
}

fn run(arguments: &[&str]) -> Result<f64, String> {
    train::run(arguments.iter().map(|&argument| argument.to_owned())).map_err(|error| error.to_string())
}

#[test]
fn train_finds_the_line_that_a_table_was_made_of() {
    let folder = tempfile::tempdir().unwrap();
    let x: Vec<i32> = (0..20_000).map(|row| row * 7919 % 101 - 50).collect();
    let y = x.iter().map(|&x| 3.0 * x as f32 + 2.0);
    let columns: Vec<(&str, ArrayRef)> =
        vec![("y", Arc::new(Float32Array::from_iter_values(y))), ("x", Arc::new(Int32Array::from(x)))];
    let path = written(folder.path(), "line.parquet", columns);
    // x from y: (y - 2) / 3.
    let error = run(&[&path, "8"]).unwrap();
    assert!(error < 0.05, "root mean square error {error}");
}

#[test]
fn train_says_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let words: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
    let text = written(folder.path(), "text.parquet", vec![("word", words)]);
    let none: ArrayRef = Arc::new(Float32Array::from(Vec::<f32>::new()));
    let empty = written(folder.path(), "empty.parquet", vec![("x", none)]);
    for wrong in [&[][..], &["--help"], &["a", "b"], &["a", "0"], &["a", "1", "2"]] {
        assert!(run(wrong).unwrap_err().starts_with("usage: "), "{wrong:?}");
    }
    assert!(run(&["missing.parquet"]).unwrap_err().contains("missing.parquet: "));
    assert!(run(&[&text]).unwrap_err().contains("\"word\" is not one number"));
    assert!(run(&[&empty]).unwrap_err().contains("the table is empty"));
}
