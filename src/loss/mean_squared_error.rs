//! Mean squared error.

use super::Pointwise;
use crate::shader::{Part, part};

/// The mean over the outputs of (output − target)²; PyTorch's `MSELoss`.
#[derive(Debug)]
pub struct MeanSquaredError;

impl Pointwise for MeanSquaredError {
    const NAME: &'static str = "mse";
    const LABEL: &'static str = "Mean squared error, for real values; of classes against one-hot labels";
    const SHADER: Part = part!("loss/mean_squared_error");

    fn value(error: f64) -> f64 {
        error * error
    }

    fn slope(error: f64) -> f64 {
        2.0 * error
    }

    #[inline(always)]
    fn slope_f32(error: f32) -> f32 {
        2.0 * error
    }
}
