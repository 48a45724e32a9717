//! The leaky rectifier.

use super::Entry;
use crate::shader::{Part, part};

/// z if it is positive, otherwise z / 100: Maas et al. 2013, "Rectifier nonlinearities improve neural network acoustic
/// models"; `torch.nn.LeakyReLU()`.
#[derive(Debug)]
pub struct LeakyRelu;

/// Slope for negative inputs.
const SLOPE: f32 = 0.01;

impl Entry for LeakyRelu {
    const NAME: &'static str = "leaky_relu";
    const LABEL: &'static str = "leaky ReLU";
    const KEEPS_INPUT: bool = false;
    const RECTIFIES: bool = true;
    const SHADERS: &'static [Part] = &[part!("not_a_number"), part!("activation/leaky_relu")];

    fn value(z: f64) -> f64 {
        if z < 0.0 { f64::from(SLOPE) * z } else { z }
    }

    fn derivative(z: f64) -> f64 {
        if z > 0.0 { 1.0 } else { f64::from(SLOPE) }
    }

    #[inline(always)]
    fn value_f32(z: f32) -> f32 {
        if z < 0.0 { SLOPE * z } else { z }
    }

    // The output has the sign of the input.
    #[inline(always)]
    fn gradient_f32(d_output: f32, output: f32) -> f32 {
        if output > 0.0 { d_output } else { SLOPE * d_output }
    }

    fn value_error(z: f64, error: f64) -> f64 {
        if z < -error { f64::from(SLOPE) * (error + 2.0 * super::EPSILON * z.abs()) } else { error }
    }

    fn derivative_error(z: f64, error: f64) -> f64 {
        // If z is nearer to 0 than its error, its sign may differ on the device.
        if z.abs() > error { 0.0 } else { 1.0 }
    }
}
