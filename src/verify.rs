//! Verification of a device: at regular intervals, the CPU recomputes a training step in f64 and compares loss,
//! gradients and updated parameters.
//!
//! The tolerance of each number is computed with the number: [`Network`] describes how, up to the gradients. The clip
//! coefficient is bounded by those of the smallest and the largest norm that the gradients may have.

use crate::backend::{Backend, DeviceInfo, Evaluation, Inference, KernelTime, Step, Training};
use crate::data::{Examples, Targets};
use crate::error::{Error, Result};
use crate::loss::{Entry as _, Objective, with_loss};
use crate::model::Parameters;
use crate::optimizer::{Entry as _, Optimizer, TrainingState, with_optimizer};
use crate::random;
use crate::reference::{
    Bounded, Deviation, EPSILON, Mode, Network, TOO_LARGE, clip_coefficient, gradient_norm, rounding, row_scales, widen,
};

/// Absolute tolerance for values lost to underflow in f32, with ample room.
const UNDERFLOW: f64 = 1e-33;

/// Result of the verification so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verification {
    /// Number of verified steps.
    pub steps: usize,
    /// The worst deviation of loss, gradients and parameters, relative to the tolerance, with its step, from 1.
    pub worst: Vec<(usize, Deviation)>,
}

impl Verification {
    /// Keeps the worst deviation of each kind; the kinds come in the same order every time.
    fn add(&mut self, step: usize, found: Vec<Deviation>) {
        self.steps += 1;
        if self.worst.is_empty() {
            self.worst = found.into_iter().map(|deviation| (step, deviation)).collect();
            return;
        }
        for (worst, deviation) in self.worst.iter_mut().zip(found) {
            if deviation.excess() > worst.1.excess() {
                *worst = (step, deviation);
            }
        }
    }
}

/// A backend wrapper that verifies the first step, and every `every`-th after it. Everything else is delegated to the
/// wrapped backend.
#[derive(Debug)]
pub struct Verified<'a, B> {
    backend: B,
    training: Training<'a>,
    every: usize,
    /// Number of steps so far.
    steps: usize,
    order: Vec<u32>,
    found: Verification,
}

impl<'a, B: Backend> Verified<'a, B> {
    /// Verifies the first step of a run, and every `every`-th after it. `backend` must have been made with this
    /// `training`, and `steps` steps of the run have already been taken.
    pub fn new(backend: B, training: Training<'a>, every: usize, steps: usize) -> Self {
        let found = Verification::default();
        Self { backend, training, every: every.max(1), steps, order: Vec::new(), found }
    }

    async fn verify(&mut self, step: Step, losses: &mut Vec<f32>) -> Result<()> {
        self.backend.flush(losses).await?;
        let before = self.backend.state().await?;
        self.backend.step(step, losses).await?;
        self.backend.flush(losses).await?;
        let after = self.backend.state().await?;
        let Some(&loss) = losses.last() else { return Ok(()) };
        let rows = &self.order[step.first..step.first + step.batch];
        let Some(found) = check(&self.training, rows, step.learning_rate, &before, &after, loss) else {
            return Ok(());
        };
        if let Some(wrong) = found.iter().find(|deviation| !deviation.is_within_tolerance()) {
            return Err(Error::WrongStep {
                step: self.steps,
                adapter: self.backend.info().name.clone(),
                deviation: wrong.clone(),
            });
        }
        self.found.add(self.steps, found);
        Ok(())
    }
}

impl<B: Backend> Inference for Verified<'_, B> {
    type Set = B::Set;

    fn info(&self) -> &DeviceInfo {
        self.backend.info()
    }

    fn upload(&mut self, examples: &Examples) -> Result<B::Set> {
        self.backend.upload(examples)
    }

    async fn evaluate(&mut self, set: &B::Set) -> Result<Evaluation> {
        self.backend.evaluate(set).await
    }

    async fn probabilities(&mut self, set: &B::Set) -> Result<Vec<f32>> {
        self.backend.probabilities(set).await
    }

    async fn parameters(&mut self) -> Result<Parameters> {
        self.backend.parameters().await
    }
}

impl<B: Backend> Backend for Verified<'_, B> {
    fn begin_epoch(&mut self, order: &[u32]) -> Result<()> {
        self.backend.begin_epoch(order)?;
        self.order.clear();
        self.order.extend_from_slice(order);
        Ok(())
    }

    async fn step(&mut self, step: Step, losses: &mut Vec<f32>) -> Result<()> {
        self.steps += 1;
        if (self.steps - 1).is_multiple_of(self.every) {
            self.verify(step, losses).await
        } else {
            self.backend.step(step, losses).await
        }
    }

    async fn flush(&mut self, losses: &mut Vec<f32>) -> Result<()> {
        self.backend.flush(losses).await
    }

    async fn state(&mut self) -> Result<TrainingState> {
        self.backend.state().await
    }

    fn restore(&mut self, state: &TrainingState) -> Result<()> {
        self.backend.restore(state)
    }

    fn any(&self, flag: bool) -> Result<bool> {
        self.backend.any(flag)
    }

    fn profile(&self) -> &[KernelTime] {
        self.backend.profile()
    }

    fn verification(&self) -> Option<&Verification> {
        Some(&self.found)
    }
}

/// Factor between the distance of the twin in [`Replay`] and the distance that is allowed between the losses of two
/// correct runs. The twin is moved by bounds of rounding errors, which are larger than most roundings.
pub const TWIN_FACTOR: f64 = 2.0;

/// A run in f64 from a state on, with bounds of the losses that a device computes in f32 from the same state.
///
/// The bound of the first loss is that of verification. From then on a device has other parameters, and what that makes of
/// its losses grows with every step, by as much as the model amplifies it. A twin measures this: the same run, whose
/// parameters are moved after each step by the bound of that step's rounding errors, each number up or down at random. A
/// loss may be off by its own rounding, and by [`TWIN_FACTOR`] times the most that those of the twin were so far.
#[derive(Debug)]
pub struct Replay<'a> {
    training: Training<'a>,
    own: Trajectory,
    twin: Trajectory,
    /// Updates since the start of the run.
    updates: u64,
    /// The most that a loss of the twin was off.
    spread: f64,
}

/// A model in f64, and what the optimizer remembers.
#[derive(Clone, Debug)]
struct Trajectory {
    network: Network,
    /// Moments of each layer with weights.
    moments: Vec<[Vec<f64>; 2]>,
}

impl Trajectory {
    fn update(&mut self, optimizer: &Optimizer, step: u64, learning_rate: f64, found: &Expected) {
        let layers = self.network.weights.iter_mut().zip(&mut self.moments);
        for ((values, moments), gradient) in layers.zip(&found.gradients) {
            crate::reference::update(optimizer, step, learning_rate, values, &gradient.values, moments);
        }
        for (statistics, new) in self.network.statistics.iter_mut().zip(&found.statistics) {
            *statistics = new.each_ref().map(|new| new.values.clone());
        }
    }
}

impl<'a> Replay<'a> {
    /// A run that goes on from this state.
    pub fn new(training: Training<'a>, state: &TrainingState) -> Self {
        let moment = |which: usize, layer: usize| {
            state.moments.get(which).map_or_else(Vec::new, |moment| widen(&moment.layers[layer].values))
        };
        let layers = 0..state.parameters.layers.len();
        let moments = layers.map(|layer| [moment(0, layer), moment(1, layer)]).collect();
        let own = Trajectory { network: Network::new(&state.parameters), moments };
        Self { training, twin: own.clone(), own, updates: state.updates, spread: 0.0 }
    }

    /// Runs the next step, on the examples `rows`: the loss that a device should have, and by how much it may be off;
    /// `None` where numbers leave f32.
    pub fn step(&mut self, rows: &[u32], learning_rate: f32) -> Option<Bounded> {
        let (step, rate) = (self.updates + 1, f64::from(learning_rate));
        let [mut found, mut of_twin] = [
            expected(&self.training, rows, step, &self.own.network)?,
            expected(&self.training, rows, step, &self.twin.network)?,
        ];
        if let Some(max_norm) = self.training.clip_norm {
            clip(&mut found.gradients, f64::from(max_norm))?;
            clip(&mut of_twin.gradients, f64::from(max_norm))?;
        }
        self.spread = self.spread.max((of_twin.loss.values[0] - found.loss.values[0]).abs());
        let mut errors = Vec::new();
        for (layer, gradient) in found.gradients.iter().enumerate() {
            let old = &self.own.network.weights[layer];
            let moments = self.own.moments[layer].each_ref().map(|moment| (!moment.is_empty()).then_some(&moment[..]));
            let update = with_optimizer!(&self.training.optimizer, entry => {
                entry.bounded_update(step, rate, gradient, old, moments)?
            });
            errors.push(update.parameters.errors);
        }
        self.own.update(&self.training.optimizer, step, rate, &found);
        self.twin.update(&self.training.optimizer, step, rate, &of_twin);
        let key = random::step_key(self.training.seed, step);
        let up_or_down = |layer: usize, at: usize| {
            f64::from(random::signed_unit(random::word(key, layer as u32, at as u32))).signum()
        };
        for (layer, (values, errors)) in self.twin.network.weights.iter_mut().zip(&errors).enumerate() {
            for (at, (value, error)) in values.iter_mut().zip(errors).enumerate() {
                *value += error * up_or_down(layer, at);
            }
        }
        self.updates = step;
        let Bounded { values, errors } = found.loss;
        Some(Bounded { values, errors: vec![errors[0] + TWIN_FACTOR * self.spread] })
    }
}

/// The mean loss of the examples `rows` in step `step` of a run, one by one, and the gradient of their mean by the weights
/// of each layer, as they are before clipping; `None` where numbers leave f32.
pub fn dissected(
    training: &Training<'_>,
    rows: &[u32],
    step: u64,
    parameters: &Parameters,
) -> Option<(Vec<f64>, Vec<Vec<f64>>)> {
    let network = Network::new(parameters);
    let found = expected(training, rows, step, &network)?;
    Some((found.losses, found.gradients.into_iter().map(|gradient| gradient.values).collect()))
}

/// Finds the worst deviation of the loss, the gradients and the parameters after a step on the examples `rows`; `None`
/// if the run diverges beyond the range of f32.
fn check(
    training: &Training<'_>,
    rows: &[u32],
    learning_rate: f32,
    before: &TrainingState,
    after: &TrainingState,
    loss: f32,
) -> Option<Vec<Deviation>> {
    let Expected { loss: expected_loss, mut gradients, statistics, .. } =
        expected(training, rows, after.updates, &Network::new(&before.parameters))?;
    if let Some(max_norm) = training.clip_norm {
        clip(&mut gradients, f64::from(max_norm))?;
    }
    let tolerance = expected_loss.errors[0];
    let loss = Deviation::worst("loss", 1, &[f64::from(loss)], &expected_loss.values, |_| tolerance)?;
    let mut worst_gradient: Option<Deviation> = None;
    let mut worst_parameter: Option<Deviation> = None;
    let keep = |worst: &mut Option<Deviation>, found: Option<Deviation>| {
        if let Some(found) = found
            && worst.as_ref().is_none_or(|worst| found.excess() > worst.excess())
        {
            *worst = Some(found);
        }
    };
    let count = gradients.len();
    for (index, gradient) in gradients.iter().enumerate() {
        let layer = &before.parameters.layers[index];
        let (old, new) = (widen(&layer.values), widen(&after.parameters.layers[index].values));
        let moment = |state: &TrainingState, which: usize| {
            state.moments.get(which).map(|moment| widen(&moment.layers[index].values))
        };
        let (old_moments, new_moments) = ([moment(before, 0), moment(before, 1)], [moment(after, 0), moment(after, 1)]);
        let rate = f64::from(learning_rate);
        let moments = [old_moments[0].as_deref(), old_moments[1].as_deref()];
        let update = with_optimizer!(&training.optimizer, entry => {
            entry.bounded_update(after.updates, rate, gradient, &old, moments)?
        });
        if !update.parameters.is_within_f32() {
            return None;
        }
        // The gradient itself is never stored: it follows from the change that it caused.
        let first_moment = old_moments[0].as_deref().zip(new_moments[0].as_deref()).map(<[_; 2]>::from);
        let derived = with_optimizer!(&training.optimizer, entry => {
            entry.derived_gradient(rate, [&old, &new], first_moment)?
        });
        let name = |what| format!("{what} of layer {} of {count}", index + 1);
        let tolerance = |at: usize| update.gradient_errors[at] + UNDERFLOW;
        let what = name(if training.clip_norm.is_some() { "the clipped gradient" } else { "the gradient" });
        let found = Deviation::worst(&what, layer.outputs, &derived, &gradient.values, tolerance);
        keep(&mut worst_gradient, found);
        if let (Some(expected), Some(actual)) = (&update.second_moment, &new_moments[1]) {
            let tolerance = |at: usize| expected.errors[at] + UNDERFLOW;
            let what = name("the mean squared gradient");
            keep(&mut worst_gradient, Deviation::worst(&what, layer.outputs, actual, &expected.values, tolerance));
        }
        let tolerance = |at: usize| update.parameters.errors[at] + UNDERFLOW;
        let found =
            Deviation::worst(&name("the parameters"), layer.outputs, &new, &update.parameters.values, tolerance);
        keep(&mut worst_parameter, found);
    }
    for (index, (expected, actual)) in statistics.iter().zip(&after.parameters.statistics).enumerate() {
        for (what, expected, actual) in
            [("mean", &expected[0], &actual.mean), ("variance", &expected[1], &actual.variance)]
        {
            let what = format!("the running {what} of batch normalisation {} of {}", index + 1, statistics.len());
            let tolerance = |at: usize| expected.errors[at] + UNDERFLOW;
            let found = Deviation::worst(&what, actual.len(), &widen(actual), &expected.values, tolerance);
            keep(&mut worst_parameter, found);
        }
    }
    Some(vec![loss, worst_gradient?, worst_parameter?])
}

/// Clips the gradients of all layers; `None` if the sum of their squares exceeds f32.
fn clip(gradients: &mut [Bounded], max_norm: f64) -> Option<()> {
    let norm = gradient_norm(gradients.iter().map(|gradient| &gradient.values[..]));
    // By the triangle inequality, the error of the norm is at most the norm of the errors.
    let from_gradients = gradient_norm(gradients.iter().map(|gradient| &gradient.errors[..]));
    if (norm + from_gradients).powi(2) >= TOO_LARGE {
        return None;
    }
    // The sum of squares is rounded, and its root has half the relative error; squares below the range of f32 are lost.
    let count: usize = gradients.iter().map(|gradient| gradient.values.len()).sum();
    let lost = (count as f64 * f64::from(f32::MIN_POSITIVE)).sqrt();
    let error = from_gradients + norm * (rounding(count) / 2.0 + 4.0 * EPSILON) + lost;
    // The coefficient falls as the norm grows; the division is rounded, unless there is none.
    let coefficient = clip_coefficient(norm, max_norm);
    let most = (clip_coefficient((norm - error).max(0.0), max_norm) * (1.0 + 8.0 * EPSILON)).min(1.0);
    let least = clip_coefficient(norm + error, max_norm);
    let least = if least < 1.0 { least * (1.0 - 8.0 * EPSILON) } else { 1.0 };
    let coefficient_error = (most - coefficient).max(coefficient - least);
    let rounding = if least < 1.0 { EPSILON } else { 0.0 };
    for gradient in gradients {
        for (value, error) in gradient.values.iter_mut().zip(&mut gradient.errors) {
            *error = most * *error + value.abs() * (coefficient_error + rounding * coefficient);
            *value *= coefficient;
        }
    }
    Some(())
}

/// Expected results of a step on the examples `rows`.
struct Expected {
    loss: Bounded,
    /// Loss of each example, times its weight.
    losses: Vec<f64>,
    /// Gradients of the weights of each layer that has any.
    gradients: Vec<Bounded>,
    /// Running mean and variance of each batch normalisation.
    statistics: Vec<[Bounded; 2]>,
}

/// Runs step `step` on the examples `rows` in f64; `None` if numbers exceed f32.
fn expected(training: &Training<'_>, rows: &[u32], step: u64, network: &Network) -> Option<Expected> {
    let examples = training.examples;
    let mut inputs = Bounded::inputs(examples, rows);
    if let Some(augmentation) = &training.augmentation {
        inputs = inputs.augmented(augmentation, training.seed, step);
    }
    let pass = network.forward(inputs, Mode::Training { seed: training.seed, step })?;
    let targets = examples.targets.select(rows, examples.outputs);
    let (loss, losses, d_outputs) = loss(&training.objective, &pass.outputs, &targets, network.plan.outputs);
    let gradients = network.backward(&pass, d_outputs)?;
    Some(Expected { loss, losses, gradients, statistics: pass.statistics })
}

/// Mean loss, the losses of the examples, and the gradient of the mean with respect to the outputs, `[batch, outputs]`.
fn loss(
    objective: &Objective<'_>,
    values: &Bounded,
    targets: &Targets,
    outputs: usize,
) -> (Bounded, Vec<f64>, Bounded) {
    let scales = row_scales(objective, targets, outputs);
    let batch = scales.len() as f64;
    let (mut loss, mut loss_error) = (0.0, 0.0);
    let mut losses = Vec::new();
    let mut d_values = Bounded { values: Vec::new(), errors: Vec::new() };
    let rows = values.values.chunks_exact(outputs).zip(values.errors.chunks_exact(outputs));
    for (row, (values, errors)) in rows.enumerate() {
        let target = targets.target(row, outputs);
        let row_loss = with_loss!(objective.loss, E => E::row(objective, values, errors, target));
        let scale = scales[row];
        loss += scale * row_loss.loss;
        losses.push(scale * row_loss.loss);
        loss_error += scale * (row_loss.error + 8.0 * EPSILON * row_loss.loss.abs());
        for (value, error) in row_loss.gradient.values.into_iter().zip(row_loss.gradient.errors) {
            let value = value * (scale / batch);
            d_values.values.push(value);
            d_values.errors.push((error * scale + f64::from(f32::MIN_POSITIVE)) / batch + 8.0 * EPSILON * value.abs());
        }
    }
    (Bounded { values: vec![loss / batch], errors: vec![loss_error / batch] }, losses, d_values)
}
