//! Turns an error of the engine into the Python exception of its kind.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use zenith::data::{Error, Result};

use crate::{bridge, guard};

/// The exception for `error`: `zenith.errors` defines one class per kind and chooses by number.
pub(crate) fn to_py_err(py: Python<'_>, error: &Error) -> PyErr {
    exception(py, error).map_or_else(|failure| failure, PyErr::from_value)
}

/// Runs what a Python call asked for, without the GIL; a panic or an error of the engine becomes an exception.
pub(crate) fn call<T: Send>(py: Python<'_>, door: &str, work: impl FnOnce() -> Result<T> + Send) -> PyResult<T> {
    py.detach(|| guard::guard(door, work)).map_err(|error| to_py_err(py, &error))
}

/// The exception behind the latest `zenith::next_batch` of this thread that returned status 3.
#[pyfunction]
pub(super) fn take_error(py: Python<'_>) -> PyErr {
    let error = bridge::take_error();
    to_py_err(py, &error.unwrap_or_else(|| Error::internal("take_error was called, but no error waits in this thread")))
}

fn exception<'py>(py: Python<'py>, error: &Error) -> PyResult<Bound<'py, PyAny>> {
    // Imported late: the classes live in the package that loads this module.
    static FROM_ENGINE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let from_engine = FROM_ENGINE.import(py, "zenith.errors", "from_engine")?;
    let place = error.place();
    from_engine.call1((
        error.kind() as u32,
        error.to_string(),
        place.file.as_deref(),
        place.offset,
        place.block,
        place.row,
        place.field.as_deref(),
    ))
}
