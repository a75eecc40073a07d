//! The Python module `zenith._engine`: its list of members is its whole interface.

mod arena;
mod dataset;
mod dlpack;
mod errors;
mod feed;
mod info;
mod loader;
mod numbers;
mod pictures;
mod table;
mod test_source;
mod transforms;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
mod _engine {
    #[pymodule_export]
    use super::arena::{ArenaReader, ArenaWriter, Loan, create_arena, lend};
    #[pymodule_export]
    use super::dataset::Dataset;
    #[pymodule_export]
    use super::dlpack::{Part, leases, next_parts};
    #[pymodule_export]
    use super::errors::take_error;
    #[pymodule_export]
    use super::feed::Feed;
    #[pymodule_export]
    use super::info::{check_options, info, loader_defaults};
    #[pymodule_export]
    use super::loader::{Epoch, Loader, end_lending};
    #[pymodule_export]
    use super::numbers::columns;
    #[pymodule_export]
    use super::pictures::decode_image;
    #[pymodule_export]
    use super::table::{Table, format_of, load, suffixes};
    #[pymodule_export]
    use super::test_source::{_TestSource, _test_source, _test_tensors};
    #[pymodule_export]
    use super::transforms::{Transforms, batch_key, check_transforms, draw_cut_mix, draw_mix_up};
}
