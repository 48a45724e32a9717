//! Element-wise activations and their gradients: loops over the f32 functions of an activation's
//! [`Entry`](crate::model::activation::Entry).

use super::workers::Arch;
use crate::model::Activation;
use crate::model::activation::{Entry, with_entry};

/// Activates numbers in place.
pub fn activate(arch: Arch, activation: Activation, values: &mut [f32]) {
    with_entry!(activation, E => arch.dispatch(
        #[inline(always)]
        || values.iter_mut().for_each(|value| *value = E::value_f32(*value))
    ));
}

/// Turns the gradient by an activation's outputs into that by its inputs, in place. `kept` are its inputs if
/// [`Activation::keeps_input`], else its outputs.
pub fn activate_backward(arch: Arch, activation: Activation, gradient: &mut [f32], kept: &[f32]) {
    with_entry!(activation, E => arch.dispatch(
        #[inline(always)]
        || {
            for (d, &kept) in gradient.iter_mut().zip(kept) {
                *d = E::gradient_f32(*d, kept);
            }
        }
    ));
}
