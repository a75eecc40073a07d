//! Facts that Python asks for: the machine, and the defaults of the options.

use pyo3::prelude::*;

/// What the machine and this build have, as JSON.
#[pyfunction]
pub(super) fn info() -> String {
    serde_json::to_string(&zenith::info::info()).unwrap_or_default()
}

/// Every option of a loader with its default, as JSON.
#[pyfunction]
pub(super) fn loader_defaults() -> String {
    zenith::LoaderConfig::defaults_json()
}
