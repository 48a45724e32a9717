//! The CPU backend: the baseline that a GPU has to beat, and the fallback where there is none.
//!
//! The matrix products are those of the `gemm` library, one thread each. What threads share is the rows of a
//! product's result, and they are dealt out here rather than by the library: that was faster at every shape
//! measured, and the pass over the result (activation, its gradient, the update) finds the rows still in its core's cache.

use std::ops::Range;

use gemm_common::Parallelism;
use pulp::Arch;
use rayon::prelude::*;

use crate::backend::{Backend, DeviceInfo, Epoch, Evaluation, Step, Training, no_training};
use crate::data::{Examples, Features, Targets};
use crate::error::Result;
use crate::loss::{Loss, Objective, of_two_classes};
use crate::model::{Activation, Parameters, Weights, check_fit};
use crate::optimizer::{AdamW, Optimizer, Sgd, TrainingState};
use crate::reference;

/// Examples that evaluation passes through the model at a time, if they are no larger than these bytes allow.
const EVALUATION_ROWS: usize = 1_000;
const EVALUATION_BYTES: usize = 64 << 20;

/// Below this many floating-point operations one thread does a whole step: it takes about 12 µs to wake another,
/// in which one core does a million of them.
const PARALLEL_STEP: usize = 5_000_000;

/// The same for one pass within a step that is shared among threads; the others are awake then.
const PARALLEL_PASS: usize = 1_000_000;

/// What gathering a feature costs, in floating-point operations of a product: it waits for memory.
const GATHER_COST: usize = 25;

/// The same of an update by a gradient that is in memory, for each parameter.
const UPDATE_COST: usize = 10;

/// A model on the CPU, with its own copy of the training examples.
pub struct CpuBackend {
    info: DeviceInfo,
    network: Network,
    loss: Loss,
    training: Option<Trainer>,
}

/// The part of the backend that only training needs.
struct Trainer {
    examples: Examples,
    epoch: Epoch,
    /// The epoch's order, `[examples]`; empty before the first epoch.
    order: Vec<u32>,
    label_smoothing: f32,
    /// `[classes]`, or empty where all are 1.
    class_weights: Vec<f32>,
    updater: Updater,
}

impl CpuBackend {
    /// A backend with these parameters, and with what training needs where it is to train.
    ///
    /// # Errors
    /// [`Invalid`](crate::Error::Invalid) for layers that do not follow on each other, examples with other features or
    /// more classes than the model's, targets that the loss is not for, or a batch size of 0.
    ///
    /// Without `training` the loss is cross-entropy; [`with_loss`](Self::with_loss) takes another.
    pub fn new(parameters: &Parameters, training: Option<&Training>) -> Result<Self> {
        parameters.check()?;
        let objective = training.map_or_else(Objective::default, |training| training.objective);
        let batch_size = training.map_or(0, |training| training.batch_size.min(training.examples.len()));
        let widest = parameters.sizes().into_iter().max().unwrap_or_default();
        let evaluation_rows = (EVALUATION_BYTES / 4 / widest.max(1)).clamp(1, EVALUATION_ROWS);
        let network = Network::new(parameters.clone(), batch_size, evaluation_rows)?;
        let training = match training {
            None => None,
            Some(training) => {
                network.check(training.objective.loss, training.examples)?;
                training.objective.check(training.examples)?;
                Some(Trainer {
                    examples: training.examples.clone(),
                    epoch: Epoch::new(training)?,
                    order: Vec::new(),
                    label_smoothing: training.objective.label_smoothing,
                    class_weights: training.objective.class_weights.to_vec(),
                    updater: Updater::new(training.optimizer, training.clip_norm, &parameters.layers),
                })
            }
        };
        let threads = rayon::current_num_threads();
        let info = DeviceInfo {
            backend: "cpu",
            name: processor_name(),
            device_type: "cpu",
            driver: format!("gemm 0.19, {threads} {}", if threads == 1 { "thread" } else { "threads" }),
        };
        let loss = objective.loss;
        Ok(Self { info, network, loss, training })
    }

    /// The same, for a model that was trained with this loss: for evaluation and prediction.
    pub fn with_loss(mut self, loss: Loss) -> Self {
        self.loss = loss;
        self
    }

    /// Passes `set` through the model in parts: `visit` gets a part's outputs, `[rows, outputs]`, and which examples they
    /// are of.
    fn for_each_part(&mut self, set: &Examples, mut visit: impl FnMut(&mut [f32], Range<usize>)) -> Result<()> {
        self.network.check(self.loss, set)?;
        let network = &mut self.network;
        for first in (0..set.len()).step_by(network.evaluation_rows) {
            let rows = network.evaluation_rows.min(set.len() - first);
            let workers = Workers::new(network.forward_operations(rows));
            workers.run(|| {
                network.gather(workers, set, rows, |row| first + row);
                network.forward(workers, rows);
            });
            visit(network.logits(rows), first..first + rows);
        }
        Ok(())
    }
}

impl Backend for CpuBackend {
    type Set = Examples;

    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn upload(&mut self, examples: &Examples) -> Result<Examples> {
        self.network.check(self.loss, examples)?;
        Ok(examples.clone())
    }

    fn begin_epoch(&mut self, order: &[u32]) -> Result<()> {
        let training = self.training.as_mut().ok_or_else(no_training)?;
        training.epoch.begin(order)?;
        training.order.clear();
        training.order.extend_from_slice(order);
        Ok(())
    }

    async fn step(&mut self, step: Step, losses: &mut Vec<f32>) -> Result<()> {
        let training = self.training.as_mut().ok_or_else(no_training)?;
        let (network, examples) = (&mut self.network, &training.examples);
        let Step { first, batch, learning_rate } = step;
        training.epoch.check(step)?;
        training.updater.updates += 1;
        let order = &training.order[first..first + batch];
        let objective = Objective {
            loss: self.loss,
            label_smoothing: training.label_smoothing,
            class_weights: &training.class_weights,
        };
        // As many operations again for the gradients of the weights, and almost as many for those of the inputs.
        let workers = Workers::new(3 * network.forward_operations(batch));
        let loss = workers.run(|| {
            network.gather(workers, examples, batch, |row| order[row] as usize);
            network.forward(workers, batch);
            let loss = network.loss(workers, batch, &objective, &examples.targets, |row| order[row] as usize);
            let (updater, layers) = (&mut training.updater, network.parameters.layers.len());
            match updater.clip_norm {
                None => {
                    for index in (0..layers).rev() {
                        network.backward_input(workers, batch, index);
                        network.update(workers, batch, index, updater, learning_rate);
                    }
                }
                Some(max_norm) => {
                    for index in (0..layers).rev() {
                        network.backward_input(workers, batch, index);
                        network.store_gradient(workers, batch, index, updater);
                    }
                    let coefficient = clip_coefficient(workers.arch, &updater.gradients, max_norm);
                    for (index, layer) in network.parameters.layers.iter_mut().enumerate() {
                        let gradient = Gradient::Stored { width: layer.outputs, coefficient };
                        updater.update(workers, index, &mut layer.values, gradient, learning_rate);
                    }
                }
            }
            loss
        });
        losses.push(loss);
        Ok(())
    }

    async fn finish(&mut self, _losses: &mut Vec<f32>) -> Result<()> {
        Ok(()) // every step has run and told its loss
    }

    async fn evaluate(&mut self, set: &Examples) -> Result<Evaluation> {
        let (outputs, arch) = (self.network.outputs(), Arch::new());
        let objective = Objective { loss: self.loss, ..Objective::default() };
        let mut loss = 0.0;
        let mut predictions = Vec::new();
        self.for_each_part(set, |values, rows| {
            match (&*set.targets, objective.loss) {
                (Targets::Values(_), _) => {}
                (_, Loss::BinaryCrossEntropy) => predictions.extend(values.iter().map(|&logit| u32::from(logit > 0.0))),
                _ => predictions.extend(values.chunks_exact(outputs).map(argmax)),
            }
            let example = |row| rows.start + row;
            loss += loss_and_gradient(arch, &objective, values, outputs, &set.targets, example);
        })?;
        let loss = loss / set.len() as f64;
        match (&*set.targets, set.variance()) {
            (Targets::Classes(labels), _) => {
                let correct = predictions.iter().zip(labels).filter(|(prediction, label)| prediction == label).count();
                Ok(Evaluation { loss, correct, predictions, r_squared: None })
            }
            (Targets::Values(_), variance) => Ok(Evaluation::of_values(loss, variance.unwrap_or_default())),
        }
    }

    async fn probabilities(&mut self, set: &Examples) -> Result<Vec<f32>> {
        let (outputs, loss) = (self.network.outputs(), self.loss);
        let mut probabilities = Vec::new();
        self.for_each_part(set, |values, _| match loss {
            Loss::CrossEntropy => {
                let labels = std::iter::repeat_n(0, values.len() / outputs);
                Arch::new().dispatch(|| softmax(values, outputs, labels, |_, _| ()));
                probabilities.extend_from_slice(values);
            }
            Loss::BinaryCrossEntropy => probabilities.extend(of_two_classes(values)),
            Loss::MeanSquaredError => probabilities.extend_from_slice(values),
        })?;
        Ok(probabilities)
    }

    async fn parameters(&mut self) -> Result<Parameters> {
        Ok(self.network.parameters.clone())
    }

    async fn state(&mut self) -> Result<TrainingState> {
        let training = self.training.as_ref().ok_or_else(no_training)?;
        let parameters = &self.network.parameters;
        let like_parameters = |values: &[Vec<f32>]| Parameters {
            layers: (parameters.layers.iter().zip(values))
                .map(|(layer, values)| Weights { values: values.clone(), ..*layer })
                .collect(),
            architecture: parameters.architecture.clone(),
            statistics: Vec::new(),
        };
        let Updater { optimizer, ref moments, updates, .. } = training.updater;
        let moments = moments[..optimizer.moments()].iter().map(|moment| like_parameters(moment)).collect();
        Ok(TrainingState { parameters: parameters.clone(), moments, best: None, updates })
    }

    fn restore(&mut self, state: &TrainingState) -> Result<()> {
        let updater = &mut self.training.as_mut().ok_or_else(no_training)?.updater;
        let parameters = &mut self.network.parameters;
        state.check(&parameters.architecture, updater.optimizer.moments())?;
        parameters.clone_from(&state.parameters);
        for (moment, values) in updater.moments.iter_mut().zip(&state.moments) {
            *moment = values.layers.iter().map(|layer| layer.values.clone()).collect();
        }
        updater.updates = state.updates;
        Ok(())
    }
}

/// The parameters, and room for what a batch leaves behind on its way through them and back.
struct Network {
    parameters: Parameters,
    activation: Activation,
    /// What each layer reads, `[rows, inputs + 1]`; the last column is 1.
    inputs: Vec<Vec<f32>>,
    /// For GELU the sums that each hidden layer activates, `[rows, outputs + 1]`; else none.
    pre_activations: Vec<Vec<f32>>,
    /// The gradient of the loss by what each layer gives, `[rows, outputs]`. The last one starts as the logits.
    d_outputs: Vec<Vec<f32>>,
    /// Examples that evaluation passes through at a time.
    evaluation_rows: usize,
}

impl Network {
    fn new(parameters: Parameters, batch_size: usize, evaluation_rows: usize) -> Result<Self> {
        let (_, activation) = parameters.architecture.dense_only()?;
        let rows = batch_size.max(evaluation_rows);
        let layers = &parameters.layers;
        let inputs = layers.iter().map(|layer| {
            let mut input = vec![0.0; rows * (layer.inputs + 1)];
            input.chunks_exact_mut(layer.inputs + 1).for_each(|row| row[layer.inputs] = 1.0);
            input
        });
        let hidden = if activation == Activation::Gelu { &layers[1..] } else { &[] };
        let pre_activations = hidden.iter().map(|layer| vec![0.0; rows * (layer.inputs + 1)]).collect();
        let d_outputs = layers.iter().map(|layer| vec![0.0; rows * layer.outputs]);
        let (inputs, d_outputs) = (inputs.collect(), d_outputs.collect());
        Ok(Self { inputs, pre_activations, d_outputs, evaluation_rows, activation, parameters })
    }

    fn outputs(&self) -> usize {
        self.parameters.layers[self.parameters.layers.len() - 1].outputs
    }

    fn logits(&mut self, rows: usize) -> &mut [f32] {
        let last = self.parameters.layers.len() - 1;
        &mut self.d_outputs[last][..rows * self.parameters.layers[last].outputs]
    }

    fn check(&self, loss: Loss, examples: &Examples) -> Result<()> {
        check_fit(self.parameters.layers[0].inputs, self.outputs(), loss, examples)
    }

    /// Floating-point operations of [`forward`](Self::forward).
    fn forward_operations(&self, rows: usize) -> usize {
        self.parameters.layers.iter().map(|layer| 2 * rows * layer.values.len()).sum()
    }

    /// Fills row `row` of the first layer's input with example `example(row)`.
    fn gather(&mut self, workers: Workers, set: &Examples, rows: usize, example: impl Fn(usize) -> usize + Sync) {
        let width = set.features + 1;
        let input = &mut self.inputs[0][..rows * width];
        workers.for_each_block(GATHER_COST * input.len(), width, input, |rows, block| {
            workers.arch.dispatch(
                #[inline(always)]
                || {
                    for (row, input) in rows.zip(block.chunks_exact_mut(width)) {
                        let (at, input) = (example(row) * set.features, &mut input[..set.features]);
                        match &*set.inputs {
                            Features::Bytes(bytes) => {
                                for (value, &byte) in input.iter_mut().zip(&bytes[at..]) {
                                    *value = f32::from(byte) * (1.0 / 255.0);
                                }
                            }
                            Features::Floats(values) => input.copy_from_slice(&values[at..][..set.features]),
                        }
                    }
                },
            );
        });
    }

    /// From the first layer's input to the logits.
    fn forward(&mut self, workers: Workers, rows: usize) {
        let last = self.parameters.layers.len() - 1;
        let activation = self.activation;
        for (index, layer) in self.parameters.layers.iter().enumerate() {
            let (before, after) = self.inputs.split_at_mut(index + 1);
            let input = Matrix::new(&before[index], rows, layer.inputs + 1);
            let weights = Matrix::new(&layer.values, layer.inputs + 1, layer.outputs);
            // A hidden layer's output is the next one's input, and leaves the constant 1 there alone.
            let (output, width) = match after.first_mut() {
                Some(next) => (next, layer.outputs + 1),
                None => (&mut self.d_outputs[index], layer.outputs),
            };
            let operations = 2 * rows * layer.values.len();
            let output = &mut output[..rows * width];
            if let Some(kept) = self.pre_activations.get_mut(index) {
                let kept = &mut kept[..rows * width];
                workers.for_each_block(operations, width, kept, |rows, block| {
                    matmul(block, width, 0.0, 1.0, input.rows(rows), weights);
                });
                workers.for_each_block(operations, width, output, |rows, block| {
                    let kept = kept[rows.start * width..].chunks_exact(width);
                    for (row, kept) in block.chunks_exact_mut(width).zip(kept) {
                        row[..width - 1].copy_from_slice(&kept[..width - 1]);
                    }
                    activate(workers.arch, activation, block, width);
                });
                continue;
            }
            workers.for_each_block(operations, width, output, |rows, block| {
                matmul(block, width, 0.0, 1.0, input.rows(rows), weights);
                if index < last {
                    activate(workers.arch, activation, block, width);
                }
            });
        }
    }

    /// Turns the outputs into the gradient of their mean loss by them, and returns that mean. `example` says which example
    /// a row is of.
    fn loss(
        &mut self,
        workers: Workers,
        rows: usize,
        objective: &Objective<'_>,
        targets: &Targets,
        example: impl Fn(usize) -> usize + Copy,
    ) -> f32 {
        let outputs = self.outputs();
        let sum = loss_and_gradient(workers.arch, objective, self.logits(rows), outputs, targets, example);
        (sum / rows as f64) as f32
    }

    /// From the gradient by a layer's output to that by the sums of the layer before: `d_output · weightsᵀ`, and back
    /// through the activation between them.
    fn backward_input(&mut self, workers: Workers, rows: usize, index: usize) {
        let layer = &self.parameters.layers[index];
        let (before, after) = self.d_outputs.split_at_mut(index);
        let Some(d_input) = before.last_mut() else { return };
        let d_output = Matrix::new(&after[0], rows, layer.outputs);
        let weights = Matrix::new(&layer.values, layer.inputs, layer.outputs);
        let activation = self.activation;
        let (width, input) = (layer.inputs, self.pre_activations.get(index - 1).unwrap_or(&self.inputs[index]));
        let operations = 2 * rows * layer.values.len();
        workers.for_each_block(operations, width, &mut d_input[..rows * width], |rows, block| {
            let input = &input[rows.start * (width + 1)..];
            matmul(block, width, 0.0, 1.0, d_output.rows(rows), weights.transposed());
            activate_backward(workers.arch, activation, block, input, width);
        });
    }

    /// Moves a layer's values against their gradient, `inputᵀ · d_output`.
    fn update(&mut self, workers: Workers, rows: usize, index: usize, updater: &mut Updater, learning_rate: f32) {
        let layer = &mut self.parameters.layers[index];
        let input = Matrix::new(&self.inputs[index], rows, layer.inputs + 1);
        let d_output = Matrix::new(&self.d_outputs[index], rows, layer.outputs);
        let gradient = Gradient::Product(input.transposed(), d_output);
        updater.update(workers, index, &mut layer.values, gradient, learning_rate);
    }

    /// Writes a layer's gradient down, `inputᵀ · d_output`.
    fn store_gradient(&self, workers: Workers, rows: usize, index: usize, updater: &mut Updater) {
        let layer = &self.parameters.layers[index];
        let input = Matrix::new(&self.inputs[index], rows, layer.inputs + 1).transposed();
        let d_output = Matrix::new(&self.d_outputs[index], rows, layer.outputs);
        let operations = 2 * rows * layer.values.len();
        workers.for_each_block(operations, layer.outputs, &mut updater.gradients[index], |rows, block| {
            matmul(block, layer.outputs, 0.0, 1.0, input.rows(rows), d_output);
        });
    }
}

/// What all gradients are multiplied with so that their norm is `max_norm` at most, as
/// [`clip_coefficient`](crate::reference::clip_coefficient); NaN where the sum of their squares leaves f32.
fn clip_coefficient(arch: Arch, gradients: &[Vec<f32>], max_norm: f32) -> f32 {
    let sum: f64 = gradients.iter().map(|gradient| arch.dispatch(|| sum_of_squares(gradient))).sum();
    let norm = if sum <= f64::from(f32::MAX) { sum.sqrt() } else { f64::NAN };
    reference::clip_coefficient(norm, f64::from(max_norm)) as f32
}

/// Σ x², in the same order whatever the number of threads.
#[inline(always)]
fn sum_of_squares(values: &[f32]) -> f64 {
    let mut sums = [0.0; 16];
    for chunk in values.chunks(sums.len()) {
        for (sum, &value) in sums.iter_mut().zip(chunk) {
            *sum += f64::from(value) * f64::from(value);
        }
    }
    sums.iter().sum()
}

/// Where an update takes the gradient of its layer from.
#[derive(Clone, Copy)]
enum Gradient<'a> {
    /// It is this product.
    Product(Matrix<'a>, Matrix<'a>),
    /// From [`Updater::gradients`], in rows of `width`, times `coefficient`.
    Stored { width: usize, coefficient: f32 },
}

/// The optimizer and what it remembers.
struct Updater {
    optimizer: Optimizer,
    /// Per moment and layer, shaped like its values; empty where the optimizer has fewer.
    moments: [Vec<Vec<f32>>; 2],
    clip_norm: Option<f32>,
    /// To be clipped, the gradient of each layer, shaped like its values. Else room for the one of the largest layer; empty
    /// for plain SGD.
    gradients: Vec<Vec<f32>>,
    /// Steps since the start of training.
    updates: u64,
}

impl Updater {
    fn new(optimizer: Optimizer, clip_norm: Option<f32>, layers: &[Weights]) -> Self {
        let sizes = || layers.iter().map(|layer| layer.values.len());
        let moment = |index: usize| {
            let is_read = index < optimizer.moments();
            sizes().map(|size| vec![0.0; if is_read { size } else { 0 }]).collect()
        };
        let gradients = match clip_norm {
            Some(_) => sizes().map(|size| vec![0.0; size]).collect(),
            None if optimizer.moments() == 0 => vec![Vec::new()],
            None => vec![vec![0.0; sizes().max().unwrap_or(0)]],
        };
        Self { optimizer, moments: [moment(0), moment(1)], clip_norm, gradients, updates: 0 }
    }

    /// One update of layer `index`.
    fn update(
        &mut self,
        workers: Workers,
        index: usize,
        values: &mut [f32],
        gradient: Gradient<'_>,
        learning_rate: f32,
    ) {
        let (width, operations) = match gradient {
            Gradient::Product(a, b) => (b.columns, 2 * a.columns * values.len()),
            Gradient::Stored { width, .. } => (width, UPDATE_COST * values.len()),
        };
        let block_length = width * workers.rows_per_block(operations, values.len() / width);
        let [first, second] = &mut self.moments;
        let (first, second) = (&mut first[index], &mut second[index]);
        let room = &mut self.gradients[if self.clip_norm.is_some() { index } else { 0 }];
        // The gradient of a block of rows, from its first row on.
        let compute = |block: &mut [f32], first: usize| match gradient {
            Gradient::Product(a, b) => {
                matmul(block, width, 0.0, 1.0, a.rows(first..first + block.len() / width), b);
            }
            Gradient::Stored { coefficient, .. } => block.iter_mut().for_each(|value| *value *= coefficient),
        };
        match (self.optimizer, gradient) {
            (Optimizer::Sgd(Sgd { momentum: 0.0, weight_decay, .. }), Gradient::Product(a, b)) => {
                // The gradient is never written down: the product goes into the values.
                workers.for_each_block(operations, width, values, |rows, block| {
                    if weight_decay != 0.0 {
                        block.iter_mut().for_each(|value| *value -= learning_rate * (weight_decay * *value));
                    }
                    matmul(block, width, 1.0, -learning_rate, a.rows(rows), b);
                });
            }
            (Optimizer::Sgd(Sgd { momentum: 0.0, weight_decay, .. }), Gradient::Stored { coefficient, .. }) => {
                workers.for_each_block(operations, width, values, |rows, block| {
                    for (value, gradient) in block.iter_mut().zip(&room[rows.start * width..]) {
                        *value -= learning_rate * (coefficient * gradient + weight_decay * *value);
                    }
                });
            }
            (Optimizer::Sgd(Sgd { momentum, nesterov, weight_decay }), _) => values
                .par_chunks_mut(block_length)
                .zip(first.par_chunks_mut(block_length))
                .zip(room.par_chunks_mut(block_length))
                .enumerate()
                .for_each(|(block, ((values, velocity), gradient))| {
                    let gradient = &mut gradient[..values.len()];
                    compute(gradient, block * (block_length / width));
                    workers.arch.dispatch(|| {
                        for ((value, velocity), gradient) in values.iter_mut().zip(velocity).zip(gradient) {
                            let gradient = *gradient + weight_decay * *value;
                            *velocity = momentum * *velocity + gradient;
                            let direction = if nesterov { gradient + momentum * *velocity } else { *velocity };
                            *value -= learning_rate * direction;
                        }
                    });
                }),
            (Optimizer::AdamW(adamw), _) => {
                let AdamW { beta1, beta2, epsilon, weight_decay } = adamw;
                let [first_scale, second_scale] = adamw.moment_scales(self.updates).map(|scale| scale as f32);
                let (rest1, rest2, epsilon) = ((1.0 - beta1) as f32, (1.0 - beta2) as f32, epsilon as f32);
                let (beta1, beta2) = (beta1 as f32, beta2 as f32);
                values
                    .par_chunks_mut(block_length)
                    .zip(first.par_chunks_mut(block_length))
                    .zip(second.par_chunks_mut(block_length))
                    .zip(room.par_chunks_mut(block_length))
                    .enumerate()
                    .for_each(|(block, (((values, first), second), gradient))| {
                        let gradient = &mut gradient[..values.len()];
                        compute(gradient, block * (block_length / width));
                        workers.arch.dispatch(|| {
                            let moments = first.iter_mut().zip(second);
                            for ((value, (first, second)), gradient) in values.iter_mut().zip(moments).zip(gradient) {
                                *first = beta1 * *first + rest1 * *gradient;
                                *second = beta2 * *second + rest2 * (*gradient * *gradient);
                                let direction = first_scale * *first / (second_scale * second.sqrt() + epsilon);
                                *value -= learning_rate * (weight_decay * *value + direction);
                            }
                        });
                    });
            }
        }
    }
}

/// Who does the work: the best instruction set the processor has, on one thread or all of the pool.
#[derive(Clone, Copy)]
struct Workers {
    arch: Arch,
    threads: usize,
}

impl Workers {
    /// Those worth calling for so many floating-point operations.
    fn new(operations: usize) -> Self {
        let threads = if operations < PARALLEL_STEP { 1 } else { rayon::current_num_threads() };
        Self { arch: Arch::new(), threads }
    }

    /// Runs `work` on a thread of the pool, if more than one is to share it: from there, sharing costs little.
    fn run<T: Send>(self, work: impl FnOnce() -> T + Send) -> T {
        if self.threads > 1 { rayon::scope(|_| work()) } else { work() }
    }

    fn rows_per_block(self, operations: usize, rows: usize) -> usize {
        if operations < PARALLEL_PASS { rows } else { rows.div_ceil(self.threads) }
    }

    /// Deals out the rows of `values`, `[rows, width]`, in blocks: `work` gets which rows, and their values.
    fn for_each_block(
        self,
        operations: usize,
        width: usize,
        values: &mut [f32],
        work: impl Fn(Range<usize>, &mut [f32]) + Sync,
    ) {
        let rows = self.rows_per_block(operations, values.len() / width);
        let work = |(block, values): (usize, &mut [f32])| {
            let first = block * rows;
            work(first..first + values.len() / width, values);
        };
        if rows * width == values.len() {
            work((0, values));
        } else {
            values.par_chunks_mut(rows * width).enumerate().for_each(work);
        }
    }
}

/// A matrix in memory that someone else owns.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// The first rows of a row-major buffer.
    fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self { values: &values[..rows * columns], rows, columns, row_stride: columns, column_stride: 1 }
    }

    fn transposed(self) -> Self {
        let Self { values, rows, columns, row_stride, column_stride } = self;
        Self { values, rows: columns, columns: rows, row_stride: column_stride, column_stride: row_stride }
    }

    fn rows(self, rows: Range<usize>) -> Self {
        assert!(rows.start < rows.end && rows.end <= self.rows);
        Self { values: &self.values[rows.start * self.row_stride..], rows: rows.len(), ..self }
    }
}

/// `out = keep · out + scale · a · b`, for the first `b.columns` columns of `out`, `[a.rows, out_stride]`.
#[allow(unsafe_code)] // the library takes pointers
fn matmul(out: &mut [f32], out_stride: usize, keep: f32, scale: f32, a: Matrix, b: Matrix) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    let last = |matrix: &Matrix| (matrix.rows - 1) * matrix.row_stride + (matrix.columns - 1) * matrix.column_stride;
    assert!(m > 0 && k > 0 && n > 0 && k == b.rows && n <= out_stride && (m - 1) * out_stride + n <= out.len());
    assert!(last(&a) < a.values.len() && last(&b) < b.values.len());
    // A factor, as the library wants it: pointer, stride between columns, stride between rows.
    let factor = |x: Matrix| (x.values.as_ptr(), x.column_stride as isize, x.row_stride as isize);
    let product = gemm_f32::gemm::f32::get_gemm_fn();
    let mut call = |m, n, out_strides: (isize, isize), left: Matrix, right: Matrix| {
        let ((left, left_columns, left_rows), (right, right_columns, right_rows)) = (factor(left), factor(right));
        // SAFETY: every element of the three matrices lies within its slice, as asserted above; the borrows see to
        // it that `out` overlaps neither factor, and the strides that no two of its elements are one.
        unsafe {
            product(
                m,
                n,
                k,
                out.as_mut_ptr(),
                out_strides.0,
                out_strides.1,
                keep != 0.0,
                left,
                left_columns,
                left_rows,
                right,
                right_columns,
                right_rows,
                keep,
                scale,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
    };
    // The lanes of a vector hold the left factor's rows, which had better lie side by side in memory. As `b`'s columns
    // mostly do, the product is turned round: outᵀ = bᵀ · aᵀ.
    if b.column_stride == 1 {
        call(n, m, (out_stride as isize, 1), b.transposed(), a.transposed());
    } else {
        call(m, n, (1, out_stride as isize), a, b);
    }
}

/// Turns outputs, `[rows, outputs]`, into the gradient of their mean loss by them, and returns that mean times the rows.
fn loss_and_gradient(
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

/// Activates the sums of a hidden layer, `[rows, width]`; the constant 1 at the end of each row stays.
fn activate(arch: Arch, activation: Activation, values: &mut [f32], width: usize) {
    match activation {
        // Not `max`, which would hide a NaN. The constant 1 passes.
        Activation::Relu => values.iter_mut().for_each(|value| *value = if *value < 0.0 { 0.0 } else { *value }),
        Activation::Sigmoid => activate_each(arch, values, width, logistic),
        Activation::Tanh => activate_each(
            arch,
            values,
            width,
            #[inline(always)]
            |z| 2.0 * logistic(2.0 * z) - 1.0,
        ),
        Activation::Gelu => activate_each(
            arch,
            values,
            width,
            #[inline(always)]
            |z| z * logistic(GELU_SCALE * (z + GELU_CUBIC * z * z * z)),
        ),
    }
}

fn activate_each(arch: Arch, values: &mut [f32], width: usize, function: impl Fn(f32) -> f32) {
    arch.dispatch(
        #[inline(always)]
        || {
            for row in values.chunks_exact_mut(width) {
                row[..width - 1].iter_mut().for_each(|value| *value = function(*value));
            }
        },
    );
}

/// From the gradient by a hidden layer's outputs, `[rows, width]`, to that by its sums; `from` are its outputs, for GELU
/// its sums, `[rows, width + 1]`.
fn activate_backward(arch: Arch, activation: Activation, gradient: &mut [f32], from: &[f32], width: usize) {
    match activation {
        Activation::Relu => {
            for (d_row, row) in gradient.chunks_exact_mut(width).zip(from.chunks_exact(width + 1)) {
                d_row.iter_mut().zip(row).for_each(|(d, &value)| *d = if value > 0.0 { *d } else { 0.0 });
            }
        }
        Activation::Sigmoid => multiply_each(
            arch,
            gradient,
            from,
            width,
            #[inline(always)]
            |output| output * (1.0 - output),
        ),
        Activation::Tanh => multiply_each(
            arch,
            gradient,
            from,
            width,
            #[inline(always)]
            |output| (1.0 - output) * (1.0 + output),
        ),
        Activation::Gelu => multiply_each(arch, gradient, from, width, gelu_derivative),
    }
}

fn multiply_each(arch: Arch, gradient: &mut [f32], from: &[f32], width: usize, factor: impl Fn(f32) -> f32) {
    arch.dispatch(
        #[inline(always)]
        || {
            for (d_row, row) in gradient.chunks_exact_mut(width).zip(from.chunks_exact(width + 1)) {
                d_row.iter_mut().zip(row).for_each(|(d, &value)| *d *= factor(value));
            }
        },
    );
}

/// √(8 / π) and the factor of the cube, as in `gelu.wgsl`.
const GELU_SCALE: f32 = 1.595_769_2;
const GELU_CUBIC: f32 = 0.044_715;

/// The derivative of GELU: with u = √(8/π) (z + 0.044715 z³), logistic(u) + z du/dz e^−|u| / (1 + e^−|u|)².
#[inline(always)]
fn gelu_derivative(z: f32) -> f32 {
    // Beyond 20 it is 0 or 1, and z³ may overflow. A NaN passes.
    let near = if z.abs() > 20.0 { 20.0f32.copysign(z) } else { z };
    let square = GELU_CUBIC * near * near;
    let u = GELU_SCALE * near * (1.0 + square);
    let e = exp(-u.abs());
    let slope = near * (GELU_SCALE * (1.0 + 3.0 * square));
    logistic(u) + slope * (e / ((1.0 + e) * (1.0 + e)))
}

/// 1 / (1 + e^−x), from e^−|x|, which cannot overflow.
#[inline(always)]
fn logistic(x: f32) -> f32 {
    let e = exp(-x.abs());
    let positive = 1.0 / (1.0 + e);
    if x < 0.0 { e * positive } else { positive }
}

/// Turns logits, `[rows, classes]`, into probabilities and returns the sum of the rows' cross-entropies, in nats:
/// log Σ exp(logit) − logit of the label. `finish` gets every row of probabilities and its label.
#[inline(always)]
fn softmax(
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

/// e^x for x ≤ 0, within 2 units in the last place; 0 where that is below 1e-37. Unlike the standard library's, a loop
/// over it compiles to vector instructions. The polynomial is that of `expf` in the Cephes library.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // e^x = 2^n · e^r: adding 1.5 · 2^23 rounds x / ln 2 to the integer n and leaves it in the lowest bits. ln 2 is in
    // two parts, of which the first has few enough digits that n times it is exact.
    const ROUND: f32 = 12_582_912.0;
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * r + coefficient;
    }
    let power = f32::from_bits((rounded.to_bits() << 23).wrapping_add(1.0f32.to_bits()));
    // A NaN is not below, and stays one.
    if x < -85.0 { 0.0 } else { (p * (r * r) + r + 1.0) * power }
}

/// The position of the largest logit, the first of equals.
fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (class, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = class;
        }
    }
    best as u32
}

/// What the processor calls itself, or else its architecture.
fn processor_name() -> String {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    if let Some(brand) = raw_cpuid::CpuId::new().get_processor_brand_string() {
        return brand.as_str().trim().to_owned();
    }
    std::env::consts::ARCH.to_owned()
}
