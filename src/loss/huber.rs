//! The Huber loss.

use super::Pointwise;
use crate::shader::{Part, part};

/// The mean over the outputs of error² / 2 where the error, output − target, is within ±1, and |error| − 1/2 beyond: no
/// outlier pulls with more than 1. Huber 1964, "Robust estimation of a location parameter"; PyTorch's `HuberLoss()`.
#[derive(Debug)]
pub struct Huber;

impl Pointwise for Huber {
    const NAME: &'static str = "huber";
    const LABEL: &'static str = "Huber loss, for real values with outliers: squared within ±1, linear beyond";
    const SHADER: Part = part!("loss/huber");

    fn value(error: f64) -> f64 {
        let size = error.abs();
        if size > 1.0 { size - 0.5 } else { 0.5 * error * error }
    }

    fn slope(error: f64) -> f64 {
        if error.abs() > 1.0 { error.signum() } else { error }
    }

    #[inline(always)]
    fn slope_f32(error: f32) -> f32 {
        // A NaN is not above 1, and stays one.
        if error.abs() > 1.0 { error.signum() } else { error }
    }
}
