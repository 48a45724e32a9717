//! The logistic function.

use super::{EPSILON, Entry, logistic};
use crate::math;
use crate::shader::{Part, part};

/// 1 / (1 + e^−z).
#[derive(Debug)]
pub struct Sigmoid;

impl Entry for Sigmoid {
    const NAME: &'static str = "sigmoid";
    const LABEL: &'static str = "sigmoid";
    const KEEPS_INPUT: bool = false;
    const RECTIFIES: bool = false;
    const SHADERS: &'static [Part] =
        &[part!("not_a_number"), part!("activation/logistic"), part!("activation/sigmoid")];

    fn value(z: f64) -> f64 {
        logistic(z)
    }

    fn derivative(z: f64) -> f64 {
        logistic(z) * logistic(-z)
    }

    #[inline(always)]
    fn value_f32(z: f32) -> f32 {
        math::logistic(z)
    }

    #[inline(always)]
    fn gradient_f32(d_output: f32, output: f32) -> f32 {
        d_output * (output * (1.0 - output))
    }

    // The first derivative is at most 1/4, the second below 0.1.
    fn value_error(_: f64, error: f64) -> f64 {
        0.25 * error + 16.0 * EPSILON
    }

    fn derivative_error(_: f64, error: f64) -> f64 {
        0.1 * error + 48.0 * EPSILON
    }
}
