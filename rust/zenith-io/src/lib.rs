//! Brings bytes from local files into host buffers.
//! Start at `LocalFiles`, which implements `zenith_data::storage::Storage`; `SidecarFolder` keeps indexes of files;
//! `TimedReads` gives up reads that hang.
//! Invariants: IO-1 a read returns every byte asked for or an error; IO-2 a file that changed since it was listed is
//! `DatasetChanged`, never other bytes. Refuses to: decode formats, touch a GPU, read the environment. Tests: in each module.

mod deadline;
mod listing;
mod local;
mod map;
mod quarantine;
mod sidecar;

pub use deadline::TimedReads;
pub use local::LocalFiles;
pub use quarantine::{BadUnit, QuarantineFile};
pub use sidecar::{ShowProgress, SidecarFolder};
