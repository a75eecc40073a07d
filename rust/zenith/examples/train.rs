//! Fits a line through a table: the last column from the others, by normalised least mean squares, batch by batch.
//! `cargo run --release -p zenith --example train -- FILE [EPOCHS]` (Parquet or Arrow IPC; columns of numbers)

use zenith::{Batch, DataLoader, DataLoaderConfig, DataSource};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("which file? train FILE [EPOCHS]")?;
    let epochs: usize = arguments.next().map_or(Ok(3), |text| text.parse())?;
    let config = DataLoaderConfig::default().with_batch_size(1024).with_shuffle(0).with_workers(2);
    let loader = DataLoader::new(DataSource::from_path(path), config)?;
    let names: Vec<String> = loader.fields().iter().map(|field| field.name.clone()).collect();
    let (target, inputs) = names.split_last().ok_or("the file has no columns")?;
    println!("{} samples; {target} from {}", loader.dataset().len(), inputs.join(", "));

    let mut weights = vec![0.0; inputs.len() + 1];
    for epoch in 1..=epochs {
        let (mut squares, mut rows) = (0.0, 0);
        for batch in &loader {
            let batch = batch?;
            let columns = inputs.iter().map(|name| numbers(&batch, name)).collect::<Result<Vec<_>, _>>()?;
            for (row, wanted) in numbers(&batch, target)?.into_iter().enumerate() {
                let sample = || columns.iter().map(|column| column[row]).chain([1.0]);
                let error = wanted - sample().zip(&weights).map(|(x, weight)| x * weight).sum::<f64>();
                let step = 0.05 * error / sample().map(|x| x * x).sum::<f64>();
                weights.iter_mut().zip(sample()).for_each(|(weight, x)| *weight += step * x);
                squares += error * error;
            }
            rows += batch.rows();
        }
        println!("epoch {epoch}: {rows} samples, root mean square error {:.6}", (squares / rows as f64).sqrt());
    }
    println!("weights {weights:.3?}");
    Ok(())
}

/// A column as `f64`, whatever numbers it has.
fn numbers(batch: &Batch, name: &str) -> zenith::Result<Vec<f64>> {
    if let Ok(values) = batch.values::<f32>(name) {
        Ok(values.iter().map(|&value| f64::from(value)).collect())
    } else if let Ok(values) = batch.values::<i64>(name) {
        Ok(values.iter().map(|&value| value as f64).collect())
    } else {
        batch.values::<f64>(name).map(<[f64]>::to_vec)
    }
}
