//! Binary cross-entropy.

use super::{BatchSize, Entry, Link, Objective, RowLoss, Target};
use crate::math::exp;
use crate::reference::{Bounded, EPSILON, sigmoid, softplus};
use crate::shader::{Part, part};

/// −log p or −log (1 − p) of the label, 0 or 1, where p is the sigmoid of the one output z, computed from z: max(z, 0) −
/// z·label + log(1 + exp(−|z|)); PyTorch's `BCEWithLogitsLoss`. Class weights make the loss of a batch the mean
/// weighted by the weights of its labels.
#[derive(Debug)]
pub struct BinaryCrossEntropy;

impl Entry for BinaryCrossEntropy {
    const NAME: &'static str = "bce";
    const LABEL: &'static str = "Sigmoid of one output and binary cross-entropy, for two classes";
    const LINK: Link = Link::Sigmoid;
    const WEIGHS: bool = true;
    const SHADER: Part = part!("loss/binary_cross_entropy");

    fn row(objective: &Objective<'_>, outputs: &[f64], errors: &[f64], target: Target<'_>) -> RowLoss {
        let (z, error, label) = (outputs[0], errors[0], f64::from(target.class()));
        let (weight, p) = (f64::from(objective.weight(target.class())), sigmoid(z));
        let slope = p - label;
        // The errors of exp and log are as in `CrossEntropy`; near 0, the loss is the difference of equal numbers, or
        // the log of about 1.
        let loss_error = error * (slope.abs() + error).min(1.0) + EPSILON * (16.0 + 4.0 * z.abs());
        let exp_error = (error + EPSILON * (32.0 + 2.0 * z.abs())).exp_m1();
        RowLoss {
            loss: weight * (softplus(z) - z * label),
            error: weight * loss_error,
            gradient: Bounded {
                values: vec![weight * slope],
                errors: vec![weight * ((p * (1.0 - p) * exp_error).min(1.0) + 8.0 * EPSILON * (p + label))],
            },
        }
    }

    #[inline(always)]
    fn batch_f32<'a>(
        objective: &Objective<'_>,
        logits: &mut [f32],
        _: usize,
        batch: BatchSize,
        target: impl Fn(usize) -> Target<'a> + Copy,
    ) -> f64 {
        let scale = (1.0 / batch.weight) as f32;
        let mut sum = 0.0;
        for (row, value) in logits.iter_mut().enumerate() {
            let label = target(row).class();
            let (z, weight, label) = (*value, objective.weight(label), label as f32);
            let small = exp(-z.abs());
            // Not `max`, which would hide a NaN.
            let ramp = f64::from(if z < 0.0 { 0.0 } else { z });
            sum += f64::from(weight) * (ramp - f64::from(z) * f64::from(label) + f64::from(small).ln_1p());
            let sigmoid = (if z < 0.0 { small } else { 1.0 }) / (1.0 + small);
            *value = scale * weight * (sigmoid - label);
        }
        batch.rows as f64 * (sum / batch.weight)
    }
}
