//! Fits a line through a table: the last column from the others, by normalised least mean squares, batch by batch.
//! `cargo run --release -p zenith --example train -- FILE [EPOCHS]`

use std::process::ExitCode;

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use arrow::record_batch::RecordBatch;
use zenith::data::{Field, FieldKind};
use zenith::{DataLoader, DataLoaderConfig, DataSource};

const USAGE: &str = "usage: train FILE [EPOCHS]\n\
    FILE is a table of numbers (Parquet, Arrow IPC or CSV); its last column is learnt from the others.";

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Trains as the arguments say and returns the root mean square error of the last epoch.
pub(crate) fn run(arguments: impl IntoIterator<Item = String>) -> Outcome<f64> {
    let arguments: Vec<String> = arguments.into_iter().collect();
    let (path, epochs) = match arguments.as_slice() {
        [path] if !path.starts_with('-') => (path, 3),
        [path, epochs] => (path, epochs.parse().ok().filter(|&epochs: &u32| epochs > 0).ok_or(USAGE)?),
        _ => return Err(USAGE.into()),
    };
    let config = DataLoaderConfig::default().with_batch_size(1024).with_shuffle(0).with_workers(2);
    let loader = DataLoader::new(DataSource::from_path(path), config)?;
    let names = loader.fields().iter().map(number_name).collect::<Outcome<Vec<String>>>()?;
    let Some((target, inputs)) = names.split_last().filter(|_| !loader.dataset().is_empty()) else {
        return Err(format!("{path}: nothing to learn from: the table is empty").into());
    };
    println!("{} samples; {target} from {}", loader.dataset().len(), inputs.join(", "));

    let mut weights = vec![0.0; inputs.len() + 1];
    let mut last = 0.0;
    for epoch in 1..=epochs {
        let (mut squares, mut rows) = (0.0, 0);
        for batch in &loader {
            let batch = batch?.to_record_batch()?;
            let columns = inputs.iter().map(|name| numbers(&batch, name)).collect::<Outcome<Vec<_>>>()?;
            for (row, wanted) in numbers(&batch, target)?.into_iter().enumerate() {
                let sample = || columns.iter().map(|column| column[row]).chain([1.0]);
                let error = wanted - sample().zip(&weights).map(|(x, weight)| x * weight).sum::<f64>();
                let step = 0.05 * error / sample().map(|x| x * x).sum::<f64>();
                weights.iter_mut().zip(sample()).for_each(|(weight, x)| *weight += step * x);
                squares += error * error;
            }
            rows += batch.num_rows();
        }
        last = (squares / rows as f64).sqrt();
        println!("epoch {epoch}: {rows} samples, root mean square error {last:.6}");
    }
    println!("weights {weights:.3?}");
    Ok(last)
}

/// The name of a field that has one number per sample.
fn number_name(field: &Field) -> Outcome<String> {
    match &field.kind {
        FieldKind::Dense { shape, .. } if shape.is_empty() => Ok(field.name.clone()),
        _ => Err(format!("column {:?} is not one number per row; this example takes nothing else", field.name).into()),
    }
}

/// A column as `f64`, whatever numbers it has.
fn numbers(batch: &RecordBatch, name: &str) -> Outcome<Vec<f64>> {
    let column = batch.column_by_name(name).ok_or_else(|| format!("there is no column {name:?}"))?;
    Ok(cast(column, &DataType::Float64)?.as_primitive::<Float64Type>().values().to_vec())
}
