//! The update of the weights by SGD, part of [`weight_gradient`](super::weight_gradient()) or
//! [`clipped_update`](super::clipped_update()).

use crate::optimizer::Sgd;
use crate::shader::{Part, part};

pub(super) const PART: Part = part!("optimizer/sgd");

pub(super) fn constants(sgd: &Sgd) -> [(&'static str, f64); 3] {
    [
        ("MOMENTUM", f64::from(sgd.momentum)),
        ("NESTEROV", f64::from(sgd.nesterov)),
        ("WEIGHT_DECAY", f64::from(sgd.weight_decay)),
    ]
}
