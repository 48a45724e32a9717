//! The f64 lowering of a plan: the forward and the backward pass of every layer, with bounds on the errors of a device
//! that computes them in f32.
//!
//! Every number comes with an error bound. A sum of `n` products in f32, in whatever order, is off by at most `ε (4 + 2
//! √n)` times the sum of their magnitudes (ε = 2⁻²³; rounding errors grow with √n: Higham and Mary 2019, "A new
//! approach to probabilistic rounding error analysis"; the constants leave room). Errors propagate through weights by
//! their magnitudes, through an activation by its largest derivative, and through a maximum by the largest error of its
//! candidates. Where a ReLU's input is nearer to 0, or a rival nearer to the maximum, than its error, a device may or
//! may not pass the gradient.

use super::{matmul, matmul_a_bt, matmul_at_b, widen};
use crate::augmentation::Augmentation;
use crate::data::Examples;
use crate::model::activation::{Entry, with_entry};
use crate::model::{Activation, Parameters, Shape, Window};
use crate::plan::{Node, Operation, Plan};
use crate::random::{Stream, dropout_threshold, step_key, stream_key, word};

/// Rounding unit of f32.
pub(crate) const EPSILON: f64 = f32::EPSILON as f64;

/// Term added to the variance in batch normalisation, PyTorch's `eps`.
pub const BATCH_NORM_EPSILON: f64 = 1e-5;

/// Share of the newest batch in running statistics, PyTorch's `momentum`.
pub const BATCH_NORM_MOMENTUM: f64 = 0.1;

/// Magnitude beyond which a run is about to diverge, and f32 overflows where f64 does not.
pub(crate) const TOO_LARGE: f64 = 1e36;

/// Error bound of a sum of `products` products in f32, relative to the sum of their magnitudes.
pub fn rounding(products: usize) -> f64 {
    EPSILON * (4.0 + 2.0 * (products as f64).sqrt())
}

/// Numbers with bounds on the errors of a device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bounded {
    /// The numbers.
    pub values: Vec<f64>,
    /// Error bound of each number.
    pub errors: Vec<f64>,
}

impl Bounded {
    /// Numbers that a device stores exactly.
    pub fn exact(values: Vec<f64>) -> Self {
        let errors = vec![0.0; values.len()];
        Self { values, errors }
    }

    /// Inputs of a batch, `[batch, features]`, from the examples `rows`. Bytes are scaled, floats unchanged.
    pub fn inputs(examples: &Examples, rows: &[u32]) -> Self {
        let values: Vec<f64> = rows.iter().flat_map(|&row| examples.input(row as usize)).collect();
        let scaling = if examples.inputs.is_bytes() { 2.0 * EPSILON } else { 0.0 };
        let errors = values.iter().map(|value| scaling * value.abs()).collect();
        Self { values, errors }
    }

    /// Augments images, `[batch, image]`, as in step `step` of a run with this seed.
    pub fn augmented(&self, augmentation: &Augmentation, seed: u64, step: u64) -> Self {
        let shape = augmentation.image;
        let [height, width, channels] = [shape.height(), shape.width(), shape.channels()];
        let mut augmented = Self::default();
        // Positions are off by a few roundings relative to the size of the image.
        let place_error = 16.0 * EPSILON * (height + width) as f64;
        for (row, (values, errors)) in self.rows(shape.len()).enumerate() {
            let most = values.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
            let [a, b, c, d, e, f] = augmentation.map(seed, step, row as u32).map(f64::from);
            let clamped = |place: i64, side: usize| place.clamp(0, side as i64 - 1) as usize;
            for pixel in 0..height * width {
                let (x, y) = ((pixel % width) as f64, (pixel / width) as f64);
                let (from_x, from_y) = (a * x + b * y + c, d * x + e * y + f);
                let (left, top) = (from_x.floor(), from_y.floor());
                let (right_share, bottom_share) = (from_x - left, from_y - top);
                for channel in 0..channels {
                    let at = |dx: i64, dy: i64| {
                        let (x, y) = (clamped(left as i64 + dx, width), clamped(top as i64 + dy, height));
                        (y * width + x) * channels + channel
                    };
                    let corners = [at(0, 0), at(1, 0), at(0, 1), at(1, 1)];
                    let [p, q, r, s] = corners.map(|at| values[at]);
                    let upper = p + right_share * (q - p);
                    let lower = r + right_share * (s - r);
                    augmented.values.push(upper + bottom_share * (lower - upper));
                    let error = corners.map(|at| errors[at]).into_iter().fold(0.0, f64::max);
                    // A position with that error may lie between other pixels, which differ by at most 2 `most`.
                    augmented.errors.push(error + 4.0 * place_error * most + 16.0 * EPSILON * most);
                }
            }
        }
        augmented
    }

    /// Rows of `width` numbers and of their errors.
    fn rows(&self, width: usize) -> impl Iterator<Item = (&[f64], &[f64])> {
        self.values.chunks_exact(width).zip(self.errors.chunks_exact(width))
    }

    /// Returns true if all numbers are well within the range of f32.
    pub(crate) fn is_within_f32(&self) -> bool {
        self.values.iter().chain(&self.errors).all(|value| value.abs() < TOO_LARGE)
    }

    /// Errors of the values, plus the rounding error of a sum of `products` products with them.
    pub(crate) fn errors_in_product(&self, products: usize) -> Vec<f64> {
        self.errors.iter().zip(&self.values).map(|(error, value)| error + rounding(products) * value.abs()).collect()
    }

    /// Appends a constant 1 to every row.
    fn with_ones(&self, width: usize) -> Self {
        let append = |values: &[f64], last: f64| {
            values.chunks_exact(width).flat_map(|row| row.iter().copied().chain([last])).collect()
        };
        Self { values: append(&self.values, 1.0), errors: append(&self.errors, 0.0) }
    }

    /// Multiplies each number by a factor that has its own error bound.
    fn multiply(&mut self, factors: &Self) {
        let factors = factors.values.iter().zip(&factors.errors);
        for ((value, error), (factor, off)) in self.values.iter_mut().zip(&mut self.errors).zip(factors) {
            *error = *error * factor.abs() + (value.abs() + *error) * off;
            *value *= factor;
        }
    }

    fn map(&self, function: impl Fn(&[f64]) -> Vec<f64>) -> Self {
        Self { values: function(&self.values), errors: function(&self.errors) }
    }
}

/// Mode of a forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Evaluation: no dropout, running statistics.
    Evaluation,
    /// Training: dropout, and the statistics of the batch.
    Training {
        /// Seed of the run.
        seed: u64,
        /// Number of the step, from 1.
        step: u64,
    },
}

/// A model in f64.
#[derive(Clone, Debug)]
pub struct Network {
    /// Operations of the model.
    pub plan: Plan,
    /// Weights of each layer that has any, `[inputs + 1, outputs]`; the last row is the bias.
    pub weights: Vec<Vec<f64>>,
    /// Running mean and variance of each batch normalisation, `[channels]` each.
    pub statistics: Vec<[Vec<f64>; 2]>,
}

/// Intermediate results of a forward pass, kept for the backward pass.
#[derive(Clone, Debug)]
pub struct Pass {
    /// Number of examples in the batch.
    pub batch: usize,
    /// Input of each node, `[batch, input]`.
    pub inputs: Vec<Bounded>,
    /// Pre-activations of each node: its output before the fused activation, `[batch, output]`.
    pub sums: Vec<Bounded>,
    /// Derivative of each node's fused activation at the pre-activations; `None` without one.
    derivatives: Vec<Option<Bounded>>,
    /// Output of the last node, `[batch, outputs]`.
    pub outputs: Bounded,
    /// Running mean and variance of each batch normalisation after this batch; empty in evaluation.
    pub statistics: Vec<[Bounded; 2]>,
    mode: Mode,
}

impl Network {
    /// Builds the model with these parameters.
    pub fn new(parameters: &Parameters) -> Self {
        Self {
            plan: Plan::new(&parameters.architecture),
            weights: parameters.layers.iter().map(|layer| widen(&layer.values)).collect(),
            statistics: parameters.statistics.iter().map(|s| [widen(&s.mean), widen(&s.variance)]).collect(),
        }
    }

    /// Runs the forward pass on inputs, `[batch, features]`; `None` if numbers exceed f32.
    pub fn forward(&self, inputs: Bounded, mode: Mode) -> Option<Pass> {
        let batch = inputs.values.len() / self.plan.input.len();
        let mut pass = Pass {
            batch,
            inputs: Vec::new(),
            sums: Vec::new(),
            derivatives: Vec::new(),
            outputs: inputs,
            statistics: Vec::new(),
            mode,
        };
        for node in &self.plan.nodes {
            let input = std::mem::take(&mut pass.outputs);
            let sums = self.forward_node(node, &input, &mut pass);
            if !sums.is_within_f32() {
                return None;
            }
            let (output, derivative) = match node.activation {
                None => (sums.clone(), None),
                Some(activation) => {
                    let (output, derivative) = activated(activation, &sums);
                    (output, Some(derivative))
                }
            };
            pass.inputs.push(input);
            pass.sums.push(sums);
            pass.derivatives.push(derivative);
            pass.outputs = output;
        }
        Some(pass)
    }

    fn forward_node(&self, node: &Node, input: &Bounded, pass: &mut Pass) -> Bounded {
        match node.operation {
            Operation::Linear => self.product(node, &input.with_ones(node.input.len())),
            Operation::Conv2d(window) => {
                let read = input.map(|values| patches(values, node.input, window));
                self.product(node, &read.with_ones(window.size * window.size * node.input.channels()))
            }
            Operation::MaxPool2d(window) => max_pool(input, node.input, window),
            Operation::Activation(activation) => activated(activation, input).0,
            Operation::Dropout(p) => match pass.mode {
                Mode::Evaluation => input.clone(),
                Mode::Training { seed, step } => dropout(input, p, (seed, step, node)),
            },
            Operation::BatchNorm => self.batch_norm(node, input, pass),
        }
    }

    /// Matrix product `read · weights`: `[rows, inputs + 1] · [inputs + 1, outputs]`.
    fn product(&self, node: &Node, read: &Bounded) -> Bounded {
        let (Some(weights), Some([inputs, outputs])) = (node.weights, node.weights_shape()) else {
            return Bounded::default();
        };
        let weights = &self.weights[weights];
        let shape = [read.values.len() / (inputs + 1), inputs + 1, outputs];
        Bounded {
            values: matmul(&read.values, weights, shape),
            errors: matmul(&read.errors_in_product(inputs + 1), &magnitude(weights), shape),
        }
    }

    fn batch_norm(&self, node: &Node, input: &Bounded, pass: &mut Pass) -> Bounded {
        let channels = node.output.channels();
        let (Some(weights), Some(statistics)) = (node.weights, node.statistics) else { return Bounded::default() };
        let running = &self.statistics[statistics];
        let [mean, variance] = match pass.mode {
            Mode::Evaluation => running.each_ref().map(|values| Bounded::exact(values.clone())),
            Mode::Training { .. } => {
                let [mean, variance] = batch_statistics(input, channels);
                let rows = input.values.len() / channels;
                let unbiased = rows as f64 / (rows.max(2) - 1) as f64;
                let average = |old: &[f64], new: &Bounded, scale: f64| {
                    let new = new.values.iter().zip(&new.errors).map(|(value, error)| (scale * value, scale * error));
                    let (mut values, mut errors) = (Vec::new(), Vec::new());
                    for (old, (new, error)) in old.iter().zip(new) {
                        values.push((1.0 - BATCH_NORM_MOMENTUM) * old + BATCH_NORM_MOMENTUM * new);
                        errors.push(BATCH_NORM_MOMENTUM * error + 4.0 * EPSILON * (old.abs() + new.abs()));
                    }
                    Bounded { values, errors }
                };
                pass.statistics.push([average(&running[0], &mean, 1.0), average(&running[1], &variance, unbiased)]);
                [mean, variance]
            }
        };
        let normalized = normalized(input, &mean, &variance).0;
        let (scale, shift) = self.weights[weights].split_at(channels);
        let mut output = Bounded::default();
        for (at, (value, error)) in normalized.values.iter().zip(&normalized.errors).enumerate() {
            let (scale, shift) = (scale[at % channels], shift[at % channels]);
            output.values.push(scale * value + shift);
            output.errors.push(scale.abs() * error + 4.0 * EPSILON * ((scale * value).abs() + shift.abs()));
        }
        output
    }

    /// Runs the backward pass from the gradient of the outputs, `[batch, outputs]`; returns the gradient of each
    /// layer's weights, or `None` if numbers exceed f32.
    pub fn backward(&self, pass: &Pass, d_outputs: Bounded) -> Option<Vec<Bounded>> {
        let mut gradients = vec![Bounded::default(); self.weights.len()];
        let first = self.plan.first_weights();
        let mut d_sums = d_outputs;
        for (index, node) in self.plan.nodes.iter().enumerate().rev() {
            if let Some(weights) = node.weights {
                gradients[weights] = self.weight_gradient(node, &pass.inputs[index], &d_sums);
                if !gradients[weights].is_within_f32() {
                    return None;
                }
            }
            if index <= first {
                break;
            }
            d_sums = self.input_gradient(node, pass, index, &d_sums);
            if let Some(derivative) = &pass.derivatives[index - 1] {
                d_sums.multiply(derivative);
            }
        }
        Some(gradients)
    }

    /// Computes, from the gradient of the outputs, `[batch, outputs]`, the gradient of the inputs, `[batch, features]`,
    /// followed by those of each node's pre-activations.
    pub fn gradients(&self, pass: &Pass, d_outputs: Bounded) -> Vec<Bounded> {
        let mut gradients = vec![d_outputs];
        for (index, node) in self.plan.nodes.iter().enumerate().rev() {
            let mut before = self.input_gradient(node, pass, index, &gradients[gradients.len() - 1]);
            if let Some(derivative) = index.checked_sub(1).and_then(|before| pass.derivatives[before].as_ref()) {
                before.multiply(derivative);
            }
            gradients.push(before);
        }
        gradients.reverse();
        gradients
    }

    /// Gradient of a node's weights, `[inputs, 1]ᵀ · d_outputs`: `[inputs + 1, outputs]`.
    pub(crate) fn weight_gradient(&self, node: &Node, input: &Bounded, d_output: &Bounded) -> Bounded {
        let Some([inputs, outputs]) = node.weights_shape() else { return Bounded::default() };
        let read = match node.operation {
            Operation::Conv2d(window) => input.map(|values| patches(values, node.input, window)),
            // The scales multiply the normalised values, the shifts a constant 1, so the gradients are sums over rows.
            Operation::BatchNorm => return batch_norm_weight_gradient(input, d_output, outputs),
            _ => input.clone(),
        };
        let read = read.with_ones(inputs);
        let rows = read.values.len() / (inputs + 1);
        let shape = [inputs + 1, rows, outputs];
        let values = matmul_at_b(&read.values, &d_output.values, shape);
        let mut errors = matmul_at_b(&magnitude(&read.values), &d_output.errors_in_product(rows), shape);
        let from_input = matmul_at_b(&read.errors, &magnitude(&d_output.values), shape);
        errors.iter_mut().zip(from_input).for_each(|(error, more)| *error += more);
        Bounded { values, errors }
    }

    /// Gradient of the pre-activations of the node before, `[batch, input]`: the gradient of node `index`'s input,
    /// multiplied by the derivative of the activation that it comes from. If node `index` is itself an activation, its
    /// gradient passes unchanged, because the kernel of the node after it has already applied its derivative.
    pub(crate) fn gradient_before(&self, pass: &Pass, index: usize, d_output: &Bounded) -> Bounded {
        let node = &self.plan.nodes[index];
        let mut d_input = match node.operation {
            Operation::Activation(_) => d_output.clone(),
            _ => self.input_gradient(node, pass, index, d_output),
        };
        let before = &self.plan.nodes[index - 1];
        match (&pass.derivatives[index - 1], before.operation) {
            (Some(derivative), _) => d_input.multiply(derivative),
            (None, Operation::Activation(_)) => d_input = self.input_gradient(before, pass, index - 1, &d_input),
            _ => {}
        }
        d_input
    }

    /// Gradient of a node's input, `[batch, input]`.
    fn input_gradient(&self, node: &Node, pass: &Pass, index: usize, d_output: &Bounded) -> Bounded {
        let input = &pass.inputs[index];
        match (node.operation, node.weights, node.weights_shape()) {
            (Operation::Linear, Some(weights), Some([inputs, outputs])) => {
                // The last row of the weights is the bias, which does not depend on the input.
                let weights = &self.weights[weights][..inputs * outputs];
                let shape = [pass.batch, outputs, inputs];
                Bounded {
                    values: matmul_a_bt(&d_output.values, weights, shape),
                    errors: matmul_a_bt(&d_output.errors_in_product(outputs), &magnitude(weights), shape),
                }
            }
            (Operation::Conv2d(window), Some(weights), Some([inputs, outputs])) => {
                let weights = &self.weights[weights][..inputs * outputs];
                let shape = [d_output.values.len() / outputs, outputs, inputs];
                let errors = d_output.errors_in_product(outputs * window.size * window.size);
                Bounded {
                    values: add_patches(&matmul_a_bt(&d_output.values, weights, shape), node.input, window),
                    errors: add_patches(&matmul_a_bt(&errors, &magnitude(weights), shape), node.input, window),
                }
            }
            (Operation::MaxPool2d(window), ..) => max_pool_backward(input, d_output, node.input, window),
            (Operation::Activation(activation), ..) => {
                let mut d_input = d_output.clone();
                d_input.multiply(&activated(activation, input).1);
                d_input
            }
            (Operation::Dropout(p), ..) => match pass.mode {
                Mode::Evaluation => d_output.clone(),
                Mode::Training { seed, step } => dropout(d_output, p, (seed, step, node)),
            },
            (Operation::BatchNorm, Some(weights), _) => {
                let scales = &self.weights[weights][..node.output.channels()];
                match (pass.mode, node.statistics) {
                    // The running statistics do not depend on the input.
                    (Mode::Evaluation, Some(statistics)) => {
                        let variance = &self.statistics[statistics][1];
                        let factor = |channel: usize| scales[channel] / (variance[channel] + BATCH_NORM_EPSILON).sqrt();
                        let scaled = |values: &[f64], factor: &dyn Fn(usize) -> f64| {
                            values.iter().enumerate().map(|(at, value)| value * factor(at % scales.len())).collect()
                        };
                        Bounded {
                            values: scaled(&d_output.values, &factor),
                            errors: scaled(&d_output.errors, &|channel| factor(channel).abs()),
                        }
                    }
                    _ => batch_norm_backward(input, d_output, scales),
                }
            }
            _ => Bounded::default(),
        }
    }
}

/// Value and derivative of an activation.
fn activated(activation: Activation, sums: &Bounded) -> (Bounded, Bounded) {
    let pairs = || sums.values.iter().zip(&sums.errors);
    with_entry!(activation, E => {
        let value = Bounded {
            values: sums.values.iter().map(|&z| E::value(z)).collect(),
            errors: pairs().map(|(&z, &error)| E::value_error(z, error)).collect(),
        };
        let derivative = Bounded {
            values: sums.values.iter().map(|&z| E::derivative(z)).collect(),
            errors: pairs().map(|(&z, &error)| E::derivative_error(z, error)).collect(),
        };
        (value, derivative)
    })
}

/// Extracts the patches of images, `[batch, shape]`, that a convolution reads: one row for each position of the window,
/// `[positions, size · size · channels]`; 0 in the padding.
pub(crate) fn patches(values: &[f64], shape: Shape, window: Window) -> Vec<f64> {
    let mut read = Vec::new();
    for_each_patch(values.len() / shape.len(), shape, window, |_, at| read.push(at.map_or(0.0, |at| values[at])));
    read
}

/// Adds the rows of [`patches`] back to the images they come from: the transpose of that function.
pub(crate) fn add_patches(rows: &[f64], shape: Shape, window: Window) -> Vec<f64> {
    let Some([places_y, places_x]) = places(shape, window) else { return Vec::new() };
    let width = window.size * window.size * shape.channels();
    let mut values = vec![0.0; rows.len() / (places_y * places_x * width) * shape.len()];
    for_each_patch(values.len() / shape.len(), shape, window, |index, at| {
        if let Some(at) = at {
            values[at] += rows[index];
        }
    });
    values
}

fn places(shape: Shape, window: Window) -> Option<[usize; 2]> {
    Some([window.places(shape.height())?, window.places(shape.width())?])
}

/// Calls `visit` for each number of each patch, in the order of [`patches`], with its index there and its index in the
/// images; `None` in the padding.
fn for_each_patch(batch: usize, shape: Shape, window: Window, mut visit: impl FnMut(usize, Option<usize>)) {
    let Some([places_y, places_x]) = places(shape, window) else { return };
    let [height, width, channels] = [shape.height(), shape.width(), shape.channels()];
    let mut index = 0;
    for place in 0..batch * places_y * places_x {
        let (image, y, x) = (place / (places_y * places_x), place / places_x % places_y, place % places_x);
        for (row, column) in (0..window.size * window.size).map(|at| (at / window.size, at % window.size)) {
            let inside = |start: usize, offset: usize, side: usize| {
                (start * window.stride + offset).checked_sub(window.padding).filter(|&at| at < side)
            };
            let pixel =
                inside(y, row, height).zip(inside(x, column, width)).map(|(y, x)| (image * height + y) * width + x);
            for channel in 0..channels {
                visit(index, pixel.map(|pixel| pixel * channels + channel));
                index += 1;
            }
        }
    }
}

/// Calls `visit` with the candidates of each window and channel, `[positions, channels]`; the candidates are row by
/// row.
fn for_each_window(batch: usize, shape: Shape, window: Window, mut visit: impl FnMut(&[usize])) {
    let channels = shape.channels();
    let candidates = window.size * window.size;
    let mut patch: Vec<usize> = Vec::new();
    for_each_patch(batch, shape, window, |_, at| {
        patch.extend(at); // never `None`, because pooling has no padding
        if patch.len() == candidates * channels {
            for channel in 0..channels {
                visit(&(0..candidates).map(|at| patch[at * channels + channel]).collect::<Vec<_>>());
            }
            patch.clear();
        }
    });
}

/// Index of the largest candidate, the first if several tie; NaN is larger than any number.
fn first_largest(values: &[f64], candidates: &[usize]) -> usize {
    let mut best = candidates[0];
    for &at in candidates {
        if values[at] > values[best] || (values[at].is_nan() && !values[best].is_nan()) {
            best = at;
        }
    }
    best
}

fn max_pool(input: &Bounded, shape: Shape, window: Window) -> Bounded {
    let Bounded { values, errors } = input;
    let mut output = Bounded::default();
    for_each_window(values.len() / shape.len(), shape, window, |candidates| {
        let best = first_largest(values, candidates);
        let near = candidates.iter().filter(|&&at| values[at] + errors[at] >= values[best] - errors[best]);
        output.values.push(values[best]);
        output.errors.push(near.map(|&at| errors[at]).fold(errors[best], f64::max));
    });
    output
}

fn max_pool_backward(input: &Bounded, d_output: &Bounded, shape: Shape, window: Window) -> Bounded {
    let Bounded { values, errors } = input;
    let mut d_input = Bounded::exact(vec![0.0; values.len()]);
    let mut index = 0;
    for_each_window(values.len() / shape.len(), shape, window, |candidates| {
        let best = first_largest(values, candidates);
        let (d, error) = (d_output.values[index], d_output.errors[index]);
        d_input.values[best] += d;
        // Overlapping windows sum their gradients.
        d_input.errors[best] += error + 8.0 * EPSILON * d.abs();
        let is_rival = |at: usize| {
            let is_tie = values[at] == values[best] && errors[at] == 0.0 && errors[best] == 0.0;
            at != best && !is_tie && values[at] + errors[at] >= values[best] - errors[best]
        };
        let mut is_unsure = false;
        for &at in candidates.iter().filter(|&&at| is_rival(at)) {
            d_input.errors[at] += d.abs() + error;
            is_unsure = true;
        }
        if is_unsure {
            d_input.errors[best] += d.abs();
        }
        index += 1;
    });
    d_input
}

/// Applies dropout to values or to their gradient, `[batch, shape]`.
fn dropout(values: &Bounded, p: f32, (seed, step, node): (u64, u64, &Node)) -> Bounded {
    let key = stream_key(step_key(seed, step), Stream::Dropout { layer: node.layer });
    let (threshold, scale) = (dropout_threshold(p), 1.0 / (1.0 - f64::from(p)));
    let mut output = values.clone();
    let width = node.input.len();
    for (at, (value, error)) in output.values.iter_mut().zip(&mut output.errors).enumerate() {
        let is_kept = word(key, (at / width) as u32, (at % width) as u32) >= threshold;
        let factor = if is_kept { scale } else { 0.0 };
        *value *= factor;
        *error = factor * *error + 4.0 * EPSILON * value.abs();
    }
    output
}

/// Mean and (biased) variance of each channel over the rows, `[rows, channels]`.
fn batch_statistics(input: &Bounded, channels: usize) -> [Bounded; 2] {
    let rows = input.values.len() / channels;
    let count = rows as f64;
    let mut statistics = [Bounded::default(), Bounded::default()];
    for channel in 0..channels {
        let values = || input.values.iter().skip(channel).step_by(channels);
        let errors = || input.errors.iter().skip(channel).step_by(channels);
        let mean = values().sum::<f64>() / count;
        let magnitude = values().map(|value| value.abs()).sum::<f64>() / count;
        let mean_error = errors().sum::<f64>() / count + rounding(rows) * magnitude;
        let variance = values().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
        let off = |(value, error): (&f64, &f64)| {
            let error = error + mean_error + EPSILON * (value.abs() + mean.abs());
            (2.0 * (value - mean).abs() + error) * error
        };
        let variance_error = values().zip(errors()).map(off).sum::<f64>() / count + rounding(rows) * variance;
        for (statistic, value, error) in [(0, mean, mean_error), (1, variance, variance_error)] {
            statistics[statistic].values.push(value);
            statistics[statistic].errors.push(error);
        }
    }
    statistics
}

/// Normalised values `(x − mean) / √(variance + ε)` of each channel, `[rows, channels]`, and the scales 1 / √(variance
/// + ε), `[channels]`.
fn normalized(input: &Bounded, mean: &Bounded, variance: &Bounded) -> (Bounded, Bounded) {
    let channels = mean.values.len();
    let mut scale = Bounded::default();
    for (value, error) in variance.values.iter().zip(&variance.errors) {
        let safe = value + BATCH_NORM_EPSILON;
        let inverse = 1.0 / safe.sqrt();
        // Covers the smallest variance within its error, and the error of WGSL's inverse square root.
        let least = (value - error).max(0.0) + BATCH_NORM_EPSILON;
        scale.values.push(inverse);
        scale.errors.push(1.0 / least.sqrt() - inverse + 8.0 * EPSILON * inverse);
    }
    let mut output = Bounded::default();
    for (at, (value, error)) in input.values.iter().zip(&input.errors).enumerate() {
        let channel = at % channels;
        let centered = value - mean.values[channel];
        let centered_error = error + mean.errors[channel] + EPSILON * (value.abs() + mean.values[channel].abs());
        let (scale, scale_error) = (scale.values[channel], scale.errors[channel]);
        output.values.push(centered * scale);
        let error = centered_error * (scale + scale_error) + centered.abs() * scale_error;
        output.errors.push(error + 4.0 * EPSILON * (centered * scale).abs());
    }
    (output, scale)
}

/// Gradients of scale and shift, `[2, channels]`: the sums over the rows of `d_output · normalised` and of `d_output`.
fn batch_norm_weight_gradient(input: &Bounded, d_output: &Bounded, channels: usize) -> Bounded {
    let [mean, variance] = batch_statistics(input, channels);
    let (normalized, _) = normalized(input, &mean, &variance);
    let rows = input.values.len() / channels;
    let mut gradient = Bounded::exact(vec![0.0; 2 * channels]);
    for (at, (d, d_error)) in d_output.values.iter().zip(&d_output.errors).enumerate() {
        let (x, x_error) = (normalized.values[at], normalized.errors[at]);
        let channel = at % channels;
        gradient.values[channel] += d * x;
        gradient.values[channels + channel] += d;
        let error = d_error + rounding(rows) * d.abs();
        gradient.errors[channel] += error * (x.abs() + x_error) + d.abs() * x_error;
        gradient.errors[channels + channel] += error;
    }
    gradient
}

/// Gradient of the input of batch normalisation, `scale / √(variance + ε) · (d − mean(d) − x̂ mean(d x̂))` with the
/// normalised values x̂: Ioffe and Szegedy 2015.
fn batch_norm_backward(input: &Bounded, d_output: &Bounded, scales: &[f64]) -> Bounded {
    let channels = scales.len();
    let count = (input.values.len() / channels) as f64;
    let [mean, variance] = batch_statistics(input, channels);
    let (normalized, inverse) = normalized(input, &mean, &variance);
    let sums = batch_norm_weight_gradient(input, d_output, channels);
    let mut d_input = Bounded::default();
    for (at, (d, d_error)) in d_output.values.iter().zip(&d_output.errors).enumerate() {
        let channel = at % channels;
        let (x, x_error) = (normalized.values[at], normalized.errors[at]);
        let [(along, along_error), (mean, mean_error)] =
            [channel, channels + channel].map(|at| (sums.values[at] / count, sums.errors[at] / count));
        let centered = d - mean - x * along;
        let error = d_error
            + mean_error
            + x.abs() * along_error
            + x_error * (along.abs() + along_error)
            + 8.0 * EPSILON * (d.abs() + mean.abs() + (x * along).abs());
        let scale = scales[channel] * inverse.values[channel];
        let scale_error = scales[channel].abs() * inverse.errors[channel] + 4.0 * EPSILON * scale.abs();
        d_input.values.push(scale * centered);
        d_input.errors.push(scale.abs() * error + scale_error * (centered.abs() + error));
    }
    d_input
}

fn magnitude(values: &[f64]) -> Vec<f64> {
    values.iter().map(|value| value.abs()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Architecture, parse_layers};

    const BATCH: usize = 3;

    /// Builds a network with random weights, biases, scales and shifts, and a batch of random images.
    fn network(height: usize, width: usize, channels: usize, layers: &str) -> (Network, Vec<f64>) {
        let architecture =
            Architecture::new(Shape::Image { height, width, channels }, parse_layers(layers).unwrap()).unwrap();
        let mut network = Network::new(&Parameters::initialize(&architecture, 5).unwrap());
        let mut count = 0;
        let mut random = move || {
            count += 1;
            f64::from(crate::random::signed_unit(word(11, 0, count)))
        };
        network.weights.iter_mut().flatten().for_each(|value| *value += 0.3 * random());
        let inputs = (0..BATCH * architecture.input().len()).map(|_| random()).collect();
        (network, inputs)
    }

    /// A loss whose gradients differ between outputs: Σ (i + 1) outputs[i]² / 2.
    fn loss(network: &Network, inputs: &[f64], mode: Mode) -> f64 {
        let outputs = network.forward(Bounded::exact(inputs.to_vec()), mode).unwrap().outputs.values;
        outputs.iter().enumerate().map(|(index, value)| 0.5 * (index + 1) as f64 * value * value).sum()
    }

    #[test]
    fn gradients_of_every_layer_equal_finite_differences() {
        let mode = Mode::Training { seed: 3, step: 9 };
        for (height, width, channels, layers) in [
            (6, 5, 1, "conv:3x3,tanh,linear:4"),
            (5, 6, 3, "conv:2x3s2p0,sigmoid,conv:5x2p1,linear:3"),
            (7, 4, 5, "conv:3x4p3,gelu,pool:2,linear:2"),
            (5, 5, 2, "conv:3x5p0,relu,linear:3"),
            (6, 6, 2, "conv:3x3,tanh,pool:3s1,dropout:0.5,linear:7,tanh,dropout:0.3,linear:3"),
            (4, 4, 1, "conv:2x3s3p2,batchnorm,tanh,linear:3"),
            (4, 3, 2, "pool:2s1,conv:3x2,tanh,batchnorm,linear:5,batchnorm,gelu,linear:2"),
            (3, 3, 1, "tanh,linear:4,sigmoid,tanh,linear:2"),
            (5, 7, 3, "conv:4x5s2p2,leaky_relu,pool:3s2,linear:2"),
            (6, 4, 5, "conv:2x4p0,gelu,dropout:0.4,linear:3"),
            (1, 1, 5, "conv:3x1,tanh,batchnorm,linear:2"),
        ] {
            let (mut network, inputs) = network(height, width, channels, layers);
            let pass = network.forward(Bounded::exact(inputs.clone()), mode).unwrap();
            let d_outputs = pass.outputs.values.iter().enumerate().map(|(i, value)| (i + 1) as f64 * value).collect();
            let gradients = network.backward(&pass, Bounded::exact(d_outputs)).unwrap();
            let h = 1e-5;
            for (layer, gradient) in gradients.iter().enumerate() {
                for (at, &actual) in gradient.values.iter().enumerate() {
                    let value = network.weights[layer][at];
                    let mut loss_at = |value| {
                        network.weights[layer][at] = value;
                        loss(&network, &inputs, mode)
                    };
                    let expected = (loss_at(value + h) - loss_at(value - h)) / (2.0 * h);
                    network.weights[layer][at] = value;
                    let close = (actual - expected).abs() <= 1e-6 * (1.0 + expected.abs());
                    assert!(close, "{layers}: weights {layer} [{at}]: {actual} is not {expected}");
                }
            }
        }
    }

    #[test]
    fn a_convolution_is_the_sum_over_its_window() {
        let (network, inputs) = network(4, 5, 2, "conv:3x3s2p1,linear:1");
        let pass = network.forward(Bounded::exact(inputs.clone()), Mode::Evaluation).unwrap();
        let mut at = 0;
        for (image, y, x, channel) in (0..BATCH)
            .flat_map(|i| (0..2).flat_map(move |y| (0..3).flat_map(move |x| (0..3).map(move |c| (i, y, x, c)))))
        {
            let mut sum = network.weights[0][18 * 3 + channel];
            for (row, column, from) in (0..3).flat_map(|r| (0..3).flat_map(move |k| (0..2).map(move |f| (r, k, f)))) {
                let (from_y, from_x) = (2 * y + row as i64 - 1, 2 * x + column as i64 - 1);
                if (0..4).contains(&from_y) && (0..5).contains(&from_x) {
                    let pixel = ((image as i64 * 4 + from_y) * 5 + from_x) as usize;
                    sum += inputs[pixel * 2 + from] * network.weights[0][((row * 3 + column) * 2 + from) * 3 + channel];
                }
            }
            assert!((pass.sums[0].values[at] - sum).abs() < 1e-12);
            at += 1;
        }
        assert_eq!(at, pass.sums[0].values.len());
    }

    #[test]
    fn the_first_of_equal_maxima_takes_the_gradient_and_a_nan_is_kept() {
        let shape = Shape::Image { height: 2, width: 4, channels: 1 };
        let window = Window { size: 2, stride: 2, padding: 0 };
        let input = Bounded::exact(vec![1.0, 2.0, 3.0, 3.0, 2.0, 2.0, 3.0, f64::NAN]);
        let output = max_pool(&input, shape, window);
        assert!(output.values[0] == 2.0 && output.values[1].is_nan());
        let input = Bounded::exact(vec![1.0, 2.0, 3.0, 3.0, 2.0, 2.0, 3.0, 0.0]);
        let d_input = max_pool_backward(&input, &Bounded::exact(vec![5.0, 7.0]), shape, window);
        assert_eq!(d_input.values, [0.0, 5.0, 7.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert!(d_input.errors[0] == 0.0 && d_input.errors[3] == 0.0);
    }
}
