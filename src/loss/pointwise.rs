//! Losses that compare each output with its target.

use super::{BatchSize, Entry, Link, Objective, RowLoss, Target};
use crate::reference::{EPSILON, rounding};
use crate::shader::Part;

/// A loss that is the mean over the outputs of a function of the error, output − target: with real values as targets,
/// or one-hot classes. The function must be convex, which is what its error bounds rest on.
pub trait Pointwise {
    /// Name on the command line and in files.
    const NAME: &'static str;
    /// Description for the command-line help.
    const LABEL: &'static str;
    /// WGSL part of a kernel: the functions `error_loss` and `error_slope`.
    const SHADER: Part;

    /// The loss of an error, in f64.
    fn value(error: f64) -> f64;

    /// Its derivative, in f64.
    fn slope(error: f64) -> f64;

    /// Its derivative in f32; a loop over it compiles to vector instructions. NaN propagates.
    fn slope_f32(error: f32) -> f32;
}

impl<P: Pointwise> Entry for P {
    const NAME: &'static str = P::NAME;
    const LABEL: &'static str = P::LABEL;
    const LINK: Link = Link::Identity;
    const SHADER: Part = P::SHADER;

    fn row(_: &Objective<'_>, outputs: &[f64], errors: &[f64], target: Target<'_>) -> RowLoss {
        let count = outputs.len() as f64;
        let mut row = RowLoss::default();
        for (at, (&output, &error)) in outputs.iter().zip(errors).enumerate() {
            let difference = output - f64::from(target.value(at));
            let error = error + EPSILON * difference.abs();
            let (value, slope) = (P::value(difference), P::slope(difference));
            // The slope of a convex function does not fall: at the ends of the error interval it is farthest off.
            let [low, high] = [difference - error, difference + error].map(P::slope);
            row.loss += value / count;
            row.error += (low.abs().max(high.abs()) * error + 4.0 * EPSILON * value) / count;
            row.gradient.values.push(slope / count);
            row.gradient.errors.push(((high - slope).max(slope - low) + EPSILON * slope.abs()) / count);
        }
        row.error += rounding(outputs.len()) * row.loss;
        row
    }

    #[inline(always)]
    fn batch_f32<'a>(
        _: &Objective<'_>,
        values: &mut [f32],
        outputs: usize,
        batch: BatchSize,
        target: impl Fn(usize) -> Target<'a> + Copy,
    ) -> f64 {
        let count = batch.rows * outputs;
        let scale = 1.0 / count as f32;
        let mut sum = 0.0;
        for (row, values) in values.chunks_exact_mut(outputs).enumerate() {
            let target = target(row);
            for (at, value) in values.iter_mut().enumerate() {
                let error = *value - target.value(at);
                sum += P::value(f64::from(error));
                *value = scale * P::slope_f32(error);
            }
        }
        // The mean over the outputs, times the rows.
        batch.rows as f64 * (sum / count as f64)
    }
}
