//! The losses, their gradients, and what outputs predict.

use pulp::Arch;

use crate::data::Targets;
use crate::loss::{Loss, Objective};
use crate::math::exp;

/// Turns outputs, `[rows, outputs]`, into the gradient of their mean loss by them, and returns that mean times the rows.
pub fn loss_and_gradient(
    arch: Arch,
    objective: &Objective<'_>,
    values: &mut [f32],
    outputs: usize,
    targets: &Targets,
    example: impl Fn(usize) -> usize + Copy,
) -> f64 {
    let rows = values.len() / outputs;
    match (objective.loss, targets) {
        (Loss::MeanSquaredError, Targets::Values(targets)) => {
            let target = |at: usize| targets[example(at / outputs) * outputs + at % outputs];
            rows as f64 * arch.dispatch(|| squared_error(values, target))
        }
        (Loss::MeanSquaredError, Targets::Classes(labels)) => {
            let target = |at: usize| f32::from(u8::from(labels[example(at / outputs)] as usize == at % outputs));
            rows as f64 * arch.dispatch(|| squared_error(values, target))
        }
        (_, Targets::Values(_)) => f64::NAN, // refused when the data came
        (Loss::CrossEntropy, Targets::Classes(labels)) if objective.is_plain() => {
            let labels = (0..rows).map(|row| labels[example(row)]);
            let scale = 1.0 / rows as f32;
            let d_logits = |probabilities: &mut [f32], label: usize| {
                probabilities[label] -= 1.0;
                probabilities.iter_mut().for_each(|value| *value *= scale);
            };
            arch.dispatch(|| softmax(values, outputs, labels, d_logits))
        }
        (Loss::CrossEntropy, Targets::Classes(labels)) => {
            let labels = (0..rows).map(|row| labels[example(row)]);
            rows as f64 * arch.dispatch(|| weighted_cross_entropy(values, outputs, labels, objective))
        }
        (Loss::BinaryCrossEntropy, Targets::Classes(labels)) => {
            let labels = (0..rows).map(|row| labels[example(row)]);
            rows as f64 * arch.dispatch(|| binary_cross_entropy(values, labels, objective))
        }
    }
}

/// The mean of (value − target)², and its gradient in the place of the values.
#[inline(always)]
fn squared_error(values: &mut [f32], target: impl Fn(usize) -> f32) -> f64 {
    let count = values.len();
    let scale = 2.0 / count as f32;
    let mut sum = 0.0;
    for (at, value) in values.iter_mut().enumerate() {
        let error = *value - target(at);
        sum += f64::from(error) * f64::from(error);
        *value = scale * error;
    }
    sum / count as f64
}

/// Cross-entropy with label smoothing and class weights, and its gradient in the place of the logits, `[rows, classes]`.
/// Of a label every class has a share t = weight · ((1 − smoothing) · onehot + smoothing / classes); the loss of a row is
/// Σ −t log p, its gradient p Σ t − t, and the mean that by the weights of the labels.
#[inline(always)]
fn weighted_cross_entropy(
    logits: &mut [f32],
    classes: usize,
    labels: impl Iterator<Item = u32> + Clone,
    objective: &Objective<'_>,
) -> f64 {
    let weight: f64 = labels.clone().map(|label| f64::from(objective.weight(label))).sum();
    let scale = (1.0 / weight) as f32;
    let weights = objective.weights(classes);
    let smoothing = objective.label_smoothing;
    let smooth: Vec<f32> = weights.iter().map(|weight| weight * (smoothing / classes as f32)).collect();
    let smooth_sum: f32 = smooth.iter().sum();
    let mut sum = 0.0;
    for (row, label) in logits.chunks_exact_mut(classes).zip(labels) {
        let label = label as usize;
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
    sum / weight
}

/// Cross-entropy of the sigmoid of a logit and a label of 0 or 1, and its gradient in the place of the logits, `[rows]`:
/// max(z, 0) − z · label + log(1 + e^−|z|), the mean by the weights of the labels.
#[inline(always)]
fn binary_cross_entropy(
    logits: &mut [f32],
    labels: impl Iterator<Item = u32> + Clone,
    objective: &Objective<'_>,
) -> f64 {
    let sum_of_weights: f64 = labels.clone().map(|label| f64::from(objective.weight(label))).sum();
    let scale = (1.0 / sum_of_weights) as f32;
    let mut sum = 0.0;
    for (value, label) in logits.iter_mut().zip(labels) {
        let (z, weight, label) = (*value, objective.weight(label), label as f32);
        let small = exp(-z.abs());
        // Not `max`, which would hide a NaN.
        let ramp = f64::from(if z < 0.0 { 0.0 } else { z });
        sum += f64::from(weight) * (ramp - f64::from(z) * f64::from(label) + f64::from(small).ln_1p());
        let sigmoid = (if z < 0.0 { small } else { 1.0 }) / (1.0 + small);
        *value = scale * weight * (sigmoid - label);
    }
    sum / sum_of_weights
}

/// Turns logits, `[rows, classes]`, into probabilities and returns the sum of the rows' cross-entropies, in nats:
/// log Σ exp(logit) − logit of the label. `finish` gets every row of probabilities and its label.
#[inline(always)]
pub fn softmax(
    logits: &mut [f32],
    classes: usize,
    labels: impl Iterator<Item = u32> + Clone,
    finish: impl Fn(&mut [f32], usize),
) -> f64 {
    let mut sum = 0.0;
    // Less the row's largest, no exponential overflows and one of them is 1.
    for (row, label) in logits.chunks_exact_mut(classes).zip(labels.clone()) {
        let largest =
            row.iter().fold(f32::NEG_INFINITY, |largest, &logit| if logit > largest { logit } else { largest });
        row.iter_mut().for_each(|logit| *logit -= largest);
        sum -= f64::from(row[label as usize]);
    }
    logits.iter_mut().for_each(|logit| *logit = exp(*logit));
    for (row, label) in logits.chunks_exact_mut(classes).zip(labels) {
        let total: f32 = row.iter().sum();
        sum += f64::from(total).ln();
        row.iter_mut().for_each(|exponential| *exponential /= total);
        finish(row, label as usize);
    }
    sum
}

/// The position of the largest logit, the first of equals.
pub fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (class, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = class;
        }
    }
    best as u32
}
