//! What is done to levels: Pillow's arithmetic, to the last bit. Each takes a picture of 1 or 3 channels.

pub(super) mod affine;
pub(super) mod blur;
pub(super) mod enhance;
pub(super) mod hue;
pub(super) mod levels;
