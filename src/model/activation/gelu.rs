//! The Gaussian error linear unit.

use super::{EPSILON, Entry};
use crate::math::{self, exp};
use crate::shader::{Part, part};

/// z (1 + tanh(√(2/π) (z + 0.044715 z³))) / 2: Hendrycks and Gimpel 2016, "Gaussian error linear units", in its tanh
/// form, `torch.nn.GELU(approximate="tanh")`. It is within 5e-4 of the exact form, which needs erf; neither WGSL nor
/// Rust has that function.
#[derive(Debug)]
pub struct Gelu;

const SCALE: f64 = std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;
const CUBIC: f64 = 0.044715;

/// √(2/π) (z + 0.044715 z³).
fn argument(z: f64) -> f64 {
    SCALE * (z + CUBIC * z.powi(3))
}

/// √(8 / π) and the factor of the cube, as in `gelu.wgsl`.
const SCALE_F32: f32 = 1.595_769_2;
const CUBIC_F32: f32 = 0.044_715;

impl Entry for Gelu {
    const NAME: &'static str = "gelu";
    const LABEL: &'static str = "GELU";
    // Two inputs can have the same output.
    const KEEPS_INPUT: bool = true;
    const RECTIFIES: bool = true;
    const SHADERS: &'static [Part] = &[part!("not_a_number"), part!("activation/logistic"), part!("activation/gelu")];

    fn value(z: f64) -> f64 {
        0.5 * z * (1.0 + argument(z).tanh())
    }

    fn derivative(z: f64) -> f64 {
        let inner = SCALE * (1.0 + 3.0 * CUBIC * z * z);
        0.5 * (1.0 + argument(z).tanh()) + 0.5 * z * inner / argument(z).cosh().powi(2)
    }

    #[inline(always)]
    fn value_f32(z: f32) -> f32 {
        z * math::logistic(SCALE_F32 * (z + CUBIC_F32 * z * z * z))
    }

    // With u = √(8/π) (z + 0.044715 z³): logistic(u) + z du/dz e^−|u| / (1 + e^−|u|)².
    #[inline(always)]
    fn gradient_f32(d_output: f32, z: f32) -> f32 {
        // Beyond 20 the derivative is 0 or 1, and z³ may overflow. NaN propagates.
        let near = if z.abs() > 20.0 { 20.0f32.copysign(z) } else { z };
        let square = CUBIC_F32 * near * near;
        let u = SCALE_F32 * near * (1.0 + square);
        let e = exp(-u.abs());
        let slope = near * (SCALE_F32 * (1.0 + 3.0 * square));
        d_output * (math::logistic(u) + slope * (e / ((1.0 + e) * (1.0 + e))))
    }

    // The first derivative is below 1.13, the second below 0.81.
    fn value_error(z: f64, error: f64) -> f64 {
        1.13 * error + 16.0 * EPSILON * z.abs().min(8.0).max(z)
    }

    fn derivative_error(_: f64, error: f64) -> f64 {
        0.81 * error + 64.0 * EPSILON
    }
}
