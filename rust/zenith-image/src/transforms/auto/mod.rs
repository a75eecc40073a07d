//! Augmentations that choose their operations at random: `AutoAugment`, `RandAugment`, `TrivialAugmentWide`.

mod augment;
mod policies;
mod space;

pub(super) use augment::{AutoAugment, RandAugment, TrivialAugmentWide};
