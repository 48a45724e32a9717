//! The Gaussian error linear unit.

use super::{EPSILON, Entry};
use crate::shader::{Part, part};

/// z (1 + tanh(√(2/π) (z + 0.044715 z³))) / 2: Hendrycks and Gimpel 2016, "Gaussian error linear units", in its tanh
/// form, `torch.nn.GELU(approximate="tanh")`. Within 5e-4 of the exact form, which needs erf, and that neither WGSL nor
/// Rust has.
#[derive(Debug)]
pub struct Gelu;

const SCALE: f64 = std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;
const CUBIC: f64 = 0.044715;

/// √(2/π) (z + 0.044715 z³).
fn argument(z: f64) -> f64 {
    SCALE * (z + CUBIC * z.powi(3))
}

impl Entry for Gelu {
    const NAME: &'static str = "gelu";
    const LABEL: &'static str = "GELU";
    // Two inputs can have the same output.
    const KEEPS_INPUT: bool = true;
    const RECTIFIES: bool = true;
    const SHADERS: &'static [Part] = &[part!("activation/logistic"), part!("activation/gelu")];

    fn value(z: f64) -> f64 {
        0.5 * z * (1.0 + argument(z).tanh())
    }

    fn derivative(z: f64) -> f64 {
        let inner = SCALE * (1.0 + 3.0 * CUBIC * z * z);
        0.5 * (1.0 + argument(z).tanh()) + 0.5 * z * inner / argument(z).cosh().powi(2)
    }

    // Its first derivative is below 1.13, its second below 0.81.
    fn value_error(z: f64, error: f64) -> f64 {
        1.13 * error + 16.0 * EPSILON * z.abs().min(8.0).max(z)
    }

    fn derivative_error(_: f64, error: f64) -> f64 {
        0.81 * error + 64.0 * EPSILON
    }
}
