//! The transforms of torchvision.transforms.v2, on pictures of 8 bits: each is a value that serde describes.
//! `Pipeline` is what a dataset does with its pictures; `Chain` the same for pictures of any size.

mod chain;
mod compose;
mod pipeline;

mod arguments;
mod blurred;
mod color;
mod crops;
mod erasing;
mod flips;
mod numbers;
mod random_resized_crop;
mod resized;

pub mod mix;

mod auto;
mod draws;
mod ops;
pub(crate) mod output;
mod render;
mod view;

pub use chain::{Chain, Made};
pub use compose::{Compose, DecodeMode, PictureMode, Spec};
pub use draws::Draws;
pub use output::Layout;
pub use pipeline::Pipeline;
pub use view::View;
