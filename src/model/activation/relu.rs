//! The rectifier.

use super::Entry;
use crate::shader::{Part, part};

/// max(z, 0).
#[derive(Debug)]
pub struct Relu;

impl Entry for Relu {
    const NAME: &'static str = "relu";
    const LABEL: &'static str = "ReLU";
    const KEEPS_INPUT: bool = false;
    const RECTIFIES: bool = true;
    const SHADERS: &'static [Part] = &[part!("not_a_number"), part!("activation/relu")];

    fn value(z: f64) -> f64 {
        // Not `max`, which would hide a NaN.
        if z < 0.0 { 0.0 } else { z }
    }

    fn derivative(z: f64) -> f64 {
        if z > 0.0 { 1.0 } else { 0.0 }
    }

    #[inline(always)]
    fn value_f32(z: f32) -> f32 {
        if z < 0.0 { 0.0 } else { z }
    }

    #[inline(always)]
    fn gradient_f32(d_output: f32, output: f32) -> f32 {
        if output > 0.0 { d_output } else { 0.0 }
    }

    fn value_error(z: f64, error: f64) -> f64 {
        if z < -error { 0.0 } else { error }
    }

    fn derivative_error(z: f64, error: f64) -> f64 {
        // If z is nearer to 0 than its error, its sign may differ on the device.
        if z.abs() > error { 0.0 } else { 1.0 }
    }
}
