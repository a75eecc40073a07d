//! From the description of a picture's transforms to the transform itself.

use std::sync::Arc;

use zenith_data::Result;
use zenith_data::transform::Transform;
use zenith_image::transforms::Pipeline;

/// The transform that `description` (JSON of `zenith.transforms`) stands for.
pub(crate) fn transform(description: &serde_json::Value) -> Result<Arc<dyn Transform>> {
    Ok(Arc::new(Pipeline::from_json(&description.to_string())?))
}
