//! The loss of a batch, by the f32 loop of its entry in [`loss`](crate::loss), where softmax is, too; and the classes
//! that outputs predict.

use super::workers::Arch;
use crate::data::Targets;
use crate::loss::{BatchSize, Entry, Link, Objective, with_loss};

/// Replaces the outputs of rows of a batch, `[rows, outputs]`, by the gradient of the batch's mean loss, and returns what
/// the rows contribute to that mean, times the number of rows in the batch. `example` returns the example of a row.
pub fn loss_and_gradient(
    arch: Arch,
    objective: &Objective<'_>,
    values: &mut [f32],
    outputs: usize,
    targets: &Targets,
    batch: BatchSize,
    example: impl Fn(usize) -> usize + Copy,
) -> f64 {
    if matches!(targets, Targets::Values(_)) && objective.loss.link() != Link::Identity {
        return f64::NAN; // refused when the data came
    }
    let target = |row: usize| targets.target(example(row), outputs);
    with_loss!(objective.loss, E => arch.dispatch(|| E::batch_f32(objective, values, outputs, batch, target)))
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
