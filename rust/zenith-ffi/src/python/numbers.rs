//! `_engine.columns`: samples of Python numbers as arrays, in one pass. For loaders whose samples are small, reading the
//! numbers one by one is what a batch mostly costs.

use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyFloat, PyInt, PyList, PyTuple};

/// The columns of a batch of tuples: each is `("q", bytes)` where all its values are ints of 64 bits, `("d", bytes)` where
/// all are floats, else `("", tuple of the values)`. `None` unless all samples are tuples of one length, and nothing
/// derived from tuples, ints or floats.
#[pyfunction]
pub(super) fn columns<'py>(py: Python<'py>, batch: &Bound<'py, PyList>) -> PyResult<Option<Bound<'py, PyList>>> {
    let mut samples = Vec::with_capacity(batch.len());
    for sample in batch.iter() {
        match sample.cast_into_exact::<PyTuple>() {
            Ok(sample) => samples.push(sample),
            Err(_) => return Ok(None),
        }
    }
    let Some(length) = samples.first().map(|sample| sample.len()) else { return Ok(None) };
    if samples.iter().any(|sample| sample.len() != length) {
        return Ok(None);
    }
    let columns = PyList::empty(py);
    for place in 0..length {
        let numbers = match packed(&samples, place, integer)? {
            Some(bytes) => Some(("q", bytes)),
            None => packed(&samples, place, float)?.map(|bytes| ("d", bytes)),
        };
        match numbers {
            Some((kind, bytes)) => columns.append((kind, PyByteArray::new(py, &bytes)))?,
            None => {
                let values = samples.iter().map(|sample| sample.get_item(place)).collect::<PyResult<Vec<_>>>()?;
                columns.append(("", PyTuple::new(py, values)?))?;
            }
        }
    }
    Ok(Some(columns))
}

type Read = fn(&Borrowed<'_, '_, PyAny>) -> Option<[u8; 8]>;

fn packed(samples: &[Bound<'_, PyTuple>], place: usize, read: Read) -> PyResult<Option<Vec<u8>>> {
    let mut bytes = Vec::with_capacity(8 * samples.len());
    for sample in samples {
        match read(&sample.get_borrowed_item(place)?) {
            Some(number) => bytes.extend(number),
            None => return Ok(None),
        }
    }
    Ok(Some(bytes))
}

fn integer(value: &Borrowed<'_, '_, PyAny>) -> Option<[u8; 8]> {
    if !value.is_exact_instance_of::<PyInt>() {
        return None;
    }
    // One that does not fit is an error, which torch words better.
    value.extract::<i64>().ok().map(i64::to_ne_bytes)
}

fn float(value: &Borrowed<'_, '_, PyAny>) -> Option<[u8; 8]> {
    value.cast_exact::<PyFloat>().ok().map(|number| number.value().to_ne_bytes())
}
