//! The hyperbolic tangent.

use super::{EPSILON, Entry};
use crate::math;
use crate::shader::{Part, part};

/// (e^z − e^−z) / (e^z + e^−z).
#[derive(Debug)]
pub struct Tanh;

impl Entry for Tanh {
    const NAME: &'static str = "tanh";
    const LABEL: &'static str = "tanh";
    const KEEPS_INPUT: bool = false;
    const RECTIFIES: bool = false;
    const SHADERS: &'static [Part] = &[part!("not_a_number"), part!("activation/logistic"), part!("activation/tanh")];

    fn value(z: f64) -> f64 {
        z.tanh()
    }

    fn derivative(z: f64) -> f64 {
        1.0 / z.cosh().powi(2)
    }

    #[inline(always)]
    fn value_f32(z: f32) -> f32 {
        2.0 * math::logistic(2.0 * z) - 1.0
    }

    #[inline(always)]
    fn gradient_f32(d_output: f32, output: f32) -> f32 {
        d_output * ((1.0 - output) * (1.0 + output))
    }

    // The first derivative is at most 1, the second below 0.77.
    fn value_error(_: f64, error: f64) -> f64 {
        error + 16.0 * EPSILON
    }

    fn derivative_error(_: f64, error: f64) -> f64 {
        0.77 * error + 48.0 * EPSILON
    }
}
