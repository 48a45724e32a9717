//! The update of the weights by AdamW, part of [`weight_gradient`](super::weight_gradient()) or
//! [`clipped_update`](super::clipped_update()).

use crate::optimizer::AdamW;
use crate::shader::{Part, part};

pub(super) const PART: Part = part!("optimizer/adamw");

pub(super) fn constants(adamw: &AdamW) -> [(&'static str, f64); 6] {
    [
        ("BETA1", adamw.beta1),
        ("BETA2", adamw.beta2),
        ("REST1", 1.0 - adamw.beta1),
        ("REST2", 1.0 - adamw.beta2),
        ("EPSILON", adamw.epsilon),
        ("WEIGHT_DECAY", f64::from(adamw.weight_decay)),
    ]
}
