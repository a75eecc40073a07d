//! The engine's public Rust API: open a dataset, configure a loader, iterate batches.
//! Start at `DataLoader::new`; `OpenDataset` and `Loader` below it know neither epochs nor places.
//! Invariants: OPT-1 every option and default is defined once, in `LoaderConfig` or `DatasetSpec`; FORK-1 nothing of a
//! parent process is used in its forked child but immutable data. Refuses to: decide anything that a lower crate can
//! decide. Tests: in each module.
#![warn(missing_docs)]

pub mod batch;
pub mod config;
pub mod data_loader;
pub mod dataset;
pub mod env;
pub mod feed;
mod file_format;
pub mod info;
mod interrupt;
pub mod loader;
pub mod memory;
mod pictures;
mod progress;
mod quarantine;
pub mod source;
pub mod spec;
pub mod table;

pub use batch::Batch;
pub use config::LoaderConfig;
/// The options under the name that goes with `DataLoader`.
pub use config::LoaderConfig as DataLoaderConfig;
pub use data_loader::DataLoader;
pub use dataset::OpenDataset;
pub use file_format::FileFormat;
pub use interrupt::Interrupt;
pub use loader::{EpochIter, Loader};
pub use source::DataSource;
pub use spec::DatasetSpec;
pub use zenith_cuda as cuda;
pub use zenith_data as data;
pub use zenith_data::pipeline::Next;
pub use zenith_data::{Error, ErrorKind, Result};
pub use zenith_host::{Piece, Slab, arena, fork, pieces};
pub use zenith_image as image;
