//! The formats: how samples lie in files, without I/O. Each implements `dataset::Dataset`; all turn columns into rows
//! through `projection` and `columns`, so that a dtype, a null or a list means the same in every format.

pub mod arrow_ipc;
pub mod cast;
pub mod columns;
pub mod csv;
pub mod filter;
pub mod image_folder;
pub mod literal;
pub mod options;
pub mod parquet;
pub mod partition;
pub mod projection;
pub mod tokens;
pub mod webdataset;

mod ends;
pub mod guard;
mod json;
mod ranges;
mod sample_rows;

pub use arrow_ipc::{ArrowIpc, ArrowIpcOptions};
pub use csv::{Csv, CsvOptions};
pub use filter::{Condition, Filters, Test};
pub use image_folder::{ImageFolder, ImageFolderOptions};
pub use literal::Literal;
pub use options::{ColumnOptions, Decimals, Fill, Nulls, Ragged, StackSource};
pub use parquet::{Parquet, ParquetOptions};
pub use partition::Partitioning;
pub use webdataset::{WebDataset, WebDatasetOptions};
