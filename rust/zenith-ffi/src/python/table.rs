//! `_engine.load`: whole files as a table that pyarrow takes over through the Arrow C stream interface.

use arrow::ffi_stream::FFI_ArrowArrayStream;
use arrow::record_batch::RecordBatchIterator;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use zenith::FileFormat;
use zenith::table::LoadOptions;

use super::errors::call;

/// Record batches in memory; `pyarrow.table(it)` takes them without a copy.
#[pyclass(module = "zenith._engine", frozen)]
pub(super) struct Table {
    table: zenith::table::Table,
}

#[pymethods]
impl Table {
    /// The Arrow PyCapsule protocol. The buffers are shared, not copied.
    #[pyo3(signature = (requested_schema = None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        // A consumer may ask for other types but must take what it gets.
        drop(requested_schema);
        let batches = self.table.batches.clone().into_iter().map(Ok);
        let reader = RecordBatchIterator::new(batches, self.table.schema.clone());
        PyCapsule::new_with_value(py, FFI_ArrowArrayStream::new(Box::new(reader)), c"arrow_array_stream")
    }
}

/// Reads the files that `pattern` means.
#[pyfunction]
#[pyo3(signature = (pattern, columns = None, mmap = false))]
pub(super) fn load(py: Python<'_>, pattern: &str, columns: Option<Vec<String>>, mmap: bool) -> PyResult<Table> {
    let options = LoadOptions { columns, threads: zenith::env::processors(), mmap };
    let table = call(py, "load", || zenith::table::load(pattern, &options))?;
    Ok(Table { table })
}

/// The class of the format that a name tells, and its delimiter where it has one.
#[pyfunction]
pub(super) fn format_of(name: &str) -> Option<(&'static str, Option<char>)> {
    FileFormat::of_name(name).map(|format| match format {
        FileFormat::Parquet => ("Parquet", None),
        FileFormat::ArrowIpc => ("ArrowIpc", None),
        FileFormat::Csv { delimiter } => ("Csv", Some(delimiter)),
        FileFormat::Tokens => ("Tokens", None),
        FileFormat::WebDataset => ("WebDataset", None),
    })
}

/// What names can end in.
#[pyfunction]
pub(super) fn suffixes() -> &'static str {
    FileFormat::SUFFIXES
}
