//! Cross-entropy.

use super::{BatchSize, Entry, Link, Objective, RowLoss, Target};
use crate::math::exp;
use crate::reference::{EPSILON, log_sum_exp, rounding};
use crate::shader::{Part, part};

/// −log p\[label\], where p is the softmax of the outputs, one for each class; PyTorch's `CrossEntropyLoss`.
///
/// With label smoothing and class weights, every class has a coefficient t = weight · ((1 − smoothing) · onehot +
/// smoothing / classes): the loss of a row is Σ −t log p, its gradient p Σ t − t, and the loss of a batch the mean
/// weighted by the weights of its labels.
#[derive(Debug)]
pub struct CrossEntropy;

impl Entry for CrossEntropy {
    const NAME: &'static str = "cross-entropy";
    const LABEL: &'static str = "Softmax and cross-entropy, for classes";
    const LINK: Link = Link::Softmax;
    const SMOOTHS: bool = true;
    const WEIGHS: bool = true;
    const SHADER: Part = part!("loss/weighted_cross_entropy");
    const PLAIN_SHADER: Option<Part> = Some(part!("loss/cross_entropy"));

    fn row(objective: &Objective<'_>, outputs: &[f64], errors: &[f64], target: Target<'_>) -> RowLoss {
        let classes = outputs.len();
        let coefficients = coefficients(objective, target.class(), classes);
        let largest = outputs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let log_sum = log_sum_exp(outputs);
        let probability = |class: usize| (outputs[class] - log_sum).exp();
        // WGSL's exp(x) may be off by (3 + 2 |x|) ε, its log, its division and the sum by a few ε more.
        let exp_error = |class: usize| errors[class] + EPSILON * (32.0 + 2.0 * (largest - outputs[class]));
        let sum_error: f64 = (0..classes).map(|class| probability(class) * exp_error(class)).sum();
        let sum_error = sum_error + rounding(classes);
        let coefficient_sum: f64 = coefficients.iter().sum();
        let mut row = RowLoss::default();
        for (class, &coefficient) in coefficients.iter().enumerate() {
            if coefficient > 0.0 {
                row.loss += coefficient * (log_sum - outputs[class]);
                let rounding = EPSILON * (16.0 + 2.0 * log_sum.abs() + 2.0 * outputs[class].abs());
                row.error += coefficient * (sum_error + errors[class] + rounding);
            }
            let probability = probability(class);
            let error = (probability * (exp_error(class) + sum_error).exp_m1()).min(1.0);
            row.gradient.values.push(coefficient_sum * probability - coefficient);
            let rounding = 2.0 * EPSILON * (coefficient_sum * probability + coefficient);
            row.gradient.errors.push(coefficient_sum * error + rounding);
        }
        row.error += rounding(classes) * row.loss;
        row
    }

    #[inline(always)]
    fn batch_f32<'a>(
        objective: &Objective<'_>,
        logits: &mut [f32],
        classes: usize,
        batch: BatchSize,
        target: impl Fn(usize) -> Target<'a> + Copy,
    ) -> f64 {
        if !objective.is_plain() {
            return weighted_f32(objective, logits, classes, batch, target);
        }
        let scale = 1.0 / batch.rows as f32;
        softmax_f32(
            logits,
            classes,
            |row| target(row).class(),
            |probabilities, label| {
                probabilities[label] -= 1.0;
                probabilities.iter_mut().for_each(|value| *value *= scale);
            },
        )
    }
}

/// Coefficients of the classes in the loss of an example: class weight times share of the label.
fn coefficients(objective: &Objective<'_>, label: u32, classes: usize) -> Vec<f64> {
    let smoothing = f64::from(objective.label_smoothing);
    let share = |class: u32| f64::from(u8::from(class == label)) * (1.0 - smoothing) + smoothing / classes as f64;
    (0..classes as u32).map(|class| f64::from(objective.weight(class)) * share(class)).collect()
}

/// [`CrossEntropy::batch_f32`] with label smoothing and class weights.
#[inline(always)]
fn weighted_f32<'a>(
    objective: &Objective<'_>,
    logits: &mut [f32],
    classes: usize,
    batch: BatchSize,
    target: impl Fn(usize) -> Target<'a> + Copy,
) -> f64 {
    let scale = (1.0 / batch.weight) as f32;
    let weights = objective.weights(classes);
    let smoothing = objective.label_smoothing;
    let smooth: Vec<f32> = weights.iter().map(|weight| weight * (smoothing / classes as f32)).collect();
    let smooth_sum: f32 = smooth.iter().sum();
    let mut sum = 0.0;
    for (index, row) in logits.chunks_exact_mut(classes).enumerate() {
        let label = target(index).class() as usize;
        let sharp = weights[label] * (1.0 - smoothing);
        let largest =
            row.iter().fold(f32::NEG_INFINITY, |largest, &logit| if logit > largest { logit } else { largest });
        row.iter_mut().for_each(|logit| *logit -= largest);
        let logit_sum = f64::from(sharp) * f64::from(row[label])
            + smooth.iter().zip(&*row).map(|(&share, &logit)| f64::from(share) * f64::from(logit)).sum::<f64>();
        row.iter_mut().for_each(|logit| *logit = exp(*logit));
        let total: f32 = row.iter().sum();
        sum += f64::from(sharp + smooth_sum) * f64::from(total).ln() - logit_sum;
        let probability = (sharp + smooth_sum) / total;
        for (value, share) in row.iter_mut().zip(&smooth) {
            *value = scale * (*value * probability - share);
        }
        row[label] -= scale * sharp;
    }
    batch.rows as f64 * (sum / batch.weight)
}

/// Turns logits, `[rows, classes]`, into probabilities in f32 and returns the sum of the rows' cross-entropies, in nats:
/// log Σ exp(logit) − logit of the label. `finish` gets every row of probabilities and its label.
#[inline(always)]
pub(crate) fn softmax_f32(
    logits: &mut [f32],
    classes: usize,
    label: impl Fn(usize) -> u32,
    finish: impl Fn(&mut [f32], usize),
) -> f64 {
    let mut sum = 0.0;
    // Less the row's largest, no exponential overflows and one of them is 1.
    for (index, row) in logits.chunks_exact_mut(classes).enumerate() {
        let largest =
            row.iter().fold(f32::NEG_INFINITY, |largest, &logit| if logit > largest { logit } else { largest });
        row.iter_mut().for_each(|logit| *logit -= largest);
        sum -= f64::from(row[label(index) as usize]);
    }
    logits.iter_mut().for_each(|logit| *logit = exp(*logit));
    for (index, row) in logits.chunks_exact_mut(classes).enumerate() {
        let total: f32 = row.iter().sum();
        sum += f64::from(total).ln();
        row.iter_mut().for_each(|exponential| *exponential /= total);
        finish(row, label(index) as usize);
    }
    sum
}
