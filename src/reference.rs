//! Reference implementation in f64: everything that the kernels compute, written as plainly as the formulas read.
//! Tests, `softstep doctor` and [`verify`](crate::verify) compare with it. All matrices are row-major.
//!
//! The functions panic if lengths do not fit the shapes. [`Network`] lowers a whole [`Plan`](crate::plan::Plan).

mod attribution;
mod network;

pub use crate::deviation::Deviation;
pub use attribution::attribution;
pub use network::{BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM, Bounded, Mode, Network, Pass, rounding};
pub(crate) use network::{EPSILON, TOO_LARGE};

use crate::data::Targets;
use crate::loss::{Entry as _, Link, Objective, RowLoss, with_loss};
use crate::model::Activation;
use crate::model::activation::{Entry, with_entry};
use crate::optimizer::{AdamW, Entry as _, Optimizer, Sgd, with_optimizer};

/// Matrix product `a · b`: `[m, k] · [k, n] -> [m, n]`, row-major.
pub fn matmul(a: &[f64], b: &[f64], [m, k, n]: [usize; 3]) -> Vec<f64> {
    assert_eq!([a.len(), b.len()], [m * k, k * n], "[{m}, {k}] · [{k}, {n}]");
    let mut out = vec![0.0; m * n];
    for (out, a) in out.chunks_exact_mut(n).zip(a.chunks_exact(k)) {
        for (&a, b) in a.iter().zip(b.chunks_exact(n)) {
            out.iter_mut().zip(b).for_each(|(out, b)| *out += a * b);
        }
    }
    out
}

/// Matrix product `aᵀ · b`: `[k, m]ᵀ · [k, n] -> [m, n]`.
pub fn matmul_at_b(a: &[f64], b: &[f64], [m, k, n]: [usize; 3]) -> Vec<f64> {
    matmul(&transpose(a, k, m), b, [m, k, n])
}

/// Matrix product `a · bᵀ`: `[m, k] · [n, k]ᵀ -> [m, n]`.
pub fn matmul_a_bt(a: &[f64], b: &[f64], [m, k, n]: [usize; 3]) -> Vec<f64> {
    matmul(a, &transpose(b, n, k), [m, k, n])
}

/// Transpose: `[rows, columns] -> [columns, rows]`.
pub fn transpose(values: &[f64], rows: usize, columns: usize) -> Vec<f64> {
    assert_eq!(values.len(), rows * columns);
    (0..columns).flat_map(|j| (0..rows).map(move |i| values[i * columns + j])).collect()
}

/// Appends a constant 1 to every row: `[rows, width] -> [rows, width + 1]`.
pub fn with_ones(values: &[f64], width: usize) -> Vec<f64> {
    values.chunks_exact(width).flat_map(|row| row.iter().copied().chain([1.0])).collect()
}

/// Applies an activation to each value. NaN propagates.
pub fn activate(activation: Activation, values: &[f64]) -> Vec<f64> {
    with_entry!(activation, E => values.iter().map(|&z| E::value(z)).collect())
}

/// The derivative of an activation at each value.
pub fn activation_derivative(activation: Activation, values: &[f64]) -> Vec<f64> {
    with_entry!(activation, E => values.iter().map(|&z| E::derivative(z)).collect())
}

/// log Σ exp of a row, computed without overflow.
pub fn log_sum_exp(row: &[f64]) -> f64 {
    let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    largest + row.iter().map(|x| (x - largest).exp()).sum::<f64>().ln()
}

/// Softmax of logits, both `[rows, classes]`.
pub fn softmax(logits: &[f64], classes: usize) -> Vec<f64> {
    let row = |row: &'_ [f64]| {
        let log_sum = log_sum_exp(row);
        row.iter().map(|x| (x - log_sum).exp()).collect::<Vec<_>>()
    };
    logits.chunks_exact(classes).flat_map(row).collect()
}

/// Cross-entropy of each row, `[rows]`, in nats.
pub fn cross_entropies(logits: &[f64], labels: &[u32], classes: usize) -> Vec<f64> {
    assert_eq!(logits.len(), labels.len() * classes);
    logits.chunks_exact(classes).zip(labels).map(|(row, &label)| log_sum_exp(row) - row[label as usize]).collect()
}

/// Mean cross-entropy, in nats.
pub fn cross_entropy(logits: &[f64], labels: &[u32], classes: usize) -> f64 {
    cross_entropies(logits, labels, classes).iter().sum::<f64>() / labels.len() as f64
}

/// Gradient of the mean cross-entropy with respect to the logits, `[rows, classes]`.
pub fn cross_entropy_backward(logits: &[f64], labels: &[u32], classes: usize) -> Vec<f64> {
    let mut d_logits = softmax(logits, classes);
    for (row, &label) in d_logits.chunks_exact_mut(classes).zip(labels) {
        row[label as usize] -= 1.0;
    }
    d_logits.iter().map(|d| d / labels.len() as f64).collect()
}

/// Loss of each row, `[rows]`, from a model's outputs, `[rows, outputs]`; the mean of the rows is the loss of the
/// batch.
pub fn losses(objective: &Objective<'_>, values: &[f64], targets: &Targets, outputs: usize) -> Vec<f64> {
    let rows = row_losses(objective, values, targets, outputs);
    rows.zip(row_scales(objective, targets, outputs)).map(|(row, scale)| scale * row.loss).collect()
}

/// Gradient of the batch's loss with respect to a model's outputs, `[rows, outputs]`.
pub fn loss_backward(objective: &Objective<'_>, values: &[f64], targets: &Targets, outputs: usize) -> Vec<f64> {
    let batch = (values.len() / outputs) as f64;
    let rows = row_losses(objective, values, targets, outputs).zip(row_scales(objective, targets, outputs));
    rows.flat_map(|(row, scale)| row.gradient.values.into_iter().map(move |d| d * (scale / batch))).collect()
}

/// Loss and gradient of each row by the entry of the loss.
fn row_losses<'a>(
    objective: &'a Objective<'_>,
    values: &'a [f64],
    targets: &'a Targets,
    outputs: usize,
) -> impl Iterator<Item = RowLoss> + 'a {
    let exact = vec![0.0; outputs];
    values.chunks_exact(outputs).enumerate().map(move |(row, values)| {
        let target = targets.target(row, outputs);
        with_loss!(objective.loss, E => E::row(objective, values, &exact, target))
    })
}

/// Predicted class of each row of outputs, `[rows]`, the lowest if several tie.
pub fn predictions(link: Link, outputs: &[f64], columns: usize) -> Vec<u32> {
    match link {
        Link::Sigmoid => outputs.iter().map(|&logit| u32::from(logit > 0.0)).collect(),
        Link::Softmax | Link::Identity => argmax(outputs, columns),
    }
}

/// Logistic function, 1 / (1 + e^−x).
pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Softplus, log (1 + e^x).
pub fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// Scale that turns a plain mean over rows into the class-weighted mean: rows / sum of the weights.
pub(crate) fn row_scales(objective: &Objective<'_>, targets: &Targets, outputs: usize) -> Vec<f64> {
    match targets {
        Targets::Classes(labels) => {
            let weight: f64 = labels.iter().map(|&label| f64::from(objective.weight(label))).sum();
            vec![labels.len() as f64 / weight; labels.len()]
        }
        Targets::Values(values) => vec![1.0; values.len() / outputs],
    }
}

/// Class with the largest logit of each row; the lowest if several tie.
pub fn argmax(logits: &[f64], classes: usize) -> Vec<u32> {
    let largest = |row: &[f64]| row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    logits.chunks_exact(classes).map(|row| row.iter().position(|&x| x == largest(row)).unwrap() as u32).collect()
}

/// Global L2 norm of the gradients.
pub fn gradient_norm<'a>(gradients: impl IntoIterator<Item = &'a [f64]>) -> f64 {
    gradients.into_iter().flatten().map(|g| g * g).sum::<f64>().sqrt()
}

/// Coefficient that scales gradients of this L2 norm to at most `max_norm`: min(1, max_norm / (norm + 1e-6)), as in
/// `torch.nn.utils.clip_grad_norm_`; NaN if the norm is not finite. The weight decay of SGD is added to the gradient
/// after clipping. Source: Pascanu, Mikolov and Bengio 2013, "On the difficulty of training recurrent neural networks".
pub fn clip_coefficient(norm: f64, max_norm: f64) -> f64 {
    let limit = norm + 1e-6;
    if !norm.is_finite() {
        f64::NAN
    } else if max_norm < limit {
        max_norm / limit
    } else {
        1.0
    }
}

/// Performs one update by stochastic gradient descent; all three slices have the same length.
pub fn sgd_update(sgd: &Sgd, learning_rate: f64, values: &mut [f64], gradient: &[f64], velocity: &mut [f64]) {
    sgd.update(1, learning_rate, values, gradient, [velocity, &mut []]);
}

/// Performs update number `step`, from 1, by AdamW; all four slices have the same length.
pub fn adamw_update(
    adamw: &AdamW,
    step: u64,
    learning_rate: f64,
    values: &mut [f64],
    gradient: &[f64],
    moments: [&mut [f64]; 2],
) {
    adamw.update(step, learning_rate, values, gradient, moments);
}

/// Performs update number `step`, from 1, by any optimizer; moments that the optimizer lacks are not touched.
pub fn update(
    optimizer: &Optimizer,
    step: u64,
    learning_rate: f64,
    values: &mut [f64],
    gradient: &[f64],
    [first, second]: &mut [Vec<f64>; 2],
) {
    with_optimizer!(optimizer, entry => entry.update(step, learning_rate, values, gradient, [first, second]));
}

/// Converts values to f64.
pub fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}
