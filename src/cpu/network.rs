//! The lowering of a plan: its operations in stages, and the memory that a batch passes through.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::activation::{activate, activate_backward};
use super::convolution::{self, Convolution};
use super::dropout::Dropout;
use super::gather;
use super::matmul::{Matrix, matmul, transpose};
use super::normalisation::{Batch, Normalisation};
use super::pooling::Pooling;
use super::update::{Gradient, Updater};
use super::workers::{Workers, split};
use crate::augmentation::Augmentation;
use crate::data::Examples;
use crate::error::Result;
use crate::loss::Loss;
use crate::model::{Parameters, check_fit};
use crate::plan::{Node, Operation, Plan};
use crate::shards::Cut;

/// Examples that evaluation passes through the model at a time, if they are no larger than these bytes allow.
const EVALUATION_ROWS: usize = 1_000;
const EVALUATION_BYTES: usize = 64 << 20;

/// Cost of gathering a feature, in floating-point operations of a product: it waits for memory.
const GATHER_COST: usize = 25;

/// Cost of an element of an operation without products, in floating-point operations of a product.
const ELEMENT_COST: usize = 4;

/// Cost of transposing a number, in floating-point operations of a product.
const TRANSPOSE_COST: usize = 50;

/// The most inputs of a linear layer for each row of a batch with which its weights are transposed before the product with
/// them. That product is a fifth faster then; with fewer rows transposing costs more than it saves.
const TRANSPOSE_SHARE: usize = 4;

/// Consecutive nodes that a batch passes through together.
enum Stage {
    /// A product of the whole batch with weights.
    Linear(usize),
    /// A normalisation of the whole batch.
    BatchNorm(usize),
    /// Nodes that each example passes through by itself, one after the other, while it is in its core's cache.
    Examples(Range<usize>),
}

impl Stage {
    fn of(plan: &Plan) -> Vec<Self> {
        let mut stages = Vec::new();
        for (index, node) in plan.nodes.iter().enumerate() {
            match (node.operation, stages.last_mut()) {
                (Operation::Linear, _) => stages.push(Self::Linear(index)),
                (Operation::BatchNorm, _) => stages.push(Self::BatchNorm(index)),
                (_, Some(Self::Examples(nodes))) => nodes.end = index + 1,
                _ => stages.push(Self::Examples(index..index + 1)),
            }
        }
        stages
    }

    fn nodes(&self) -> Range<usize> {
        match self {
            Self::Linear(index) | Self::BatchNorm(index) => *index..index + 1,
            Self::Examples(nodes) => nodes.clone(),
        }
    }
}

/// Rows of numbers. Where a product reads them, a constant 1 follows each.
struct Buffer {
    values: Vec<f32>,
    length: usize,
    stride: usize,
}

impl Buffer {
    fn new(rows: usize, length: usize, is_factor: bool) -> Self {
        let stride = length + usize::from(is_factor);
        let mut values = vec![0.0; rows * stride];
        if is_factor {
            values.chunks_exact_mut(stride).for_each(|row| row[length] = 1.0);
        }
        Self { values, length, stride }
    }

    fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.stride..][..self.length]
    }

    /// The first rows with what follows each.
    fn rows_mut(&mut self, rows: usize) -> &mut [f32] {
        &mut self.values[..rows * self.stride]
    }

    fn batch(&self, rows: usize) -> Batch<'_> {
        Batch { values: &self.values[..rows * self.stride], stride: self.stride, length: self.length }
    }
}

/// Room for one example, of which each thread has its own: it stays in its core's cache.
#[derive(Default)]
struct Scratch {
    /// Per node.
    rooms: Vec<convolution::Room>,
    /// The gradient by the output and by the input of a node.
    gradients: [Vec<f32>; 2],
    image: Vec<f32>,
}

/// Mode of a forward pass.
#[derive(Clone, Copy)]
pub enum Mode<'a> {
    /// No dropout, no augmentation, and running statistics.
    Evaluation,
    /// With dropout, augmentation and the statistics of the batch, of which the rows at hand are this rank's.
    Training { seed: u64, step: u64, augmentation: Option<&'a Augmentation>, cut: Cut<'a> },
}

/// The parameters, and room for what a batch leaves behind on its way through them and back.
pub struct Network {
    pub parameters: Parameters,
    /// Examples that evaluation passes through at a time.
    pub evaluation_rows: usize,
    plan: Plan,
    stages: Vec<Stage>,
    /// Inputs of each node, and the outputs of the last, `[rows, length]`. The backward pass overwrites them with the
    /// gradient of the loss by them.
    values: Vec<Buffer>,
    /// Per node, where its activation keeps them for the way back, what it activates, `[rows, output]`; else none.
    pre_activations: Vec<Vec<f32>>,
    /// Per stage but the last, the gradient of the loss by the sums of its last node, `[rows, output]`.
    d_sums: Vec<Vec<f32>>,
    /// Weights of the linear layer that the backward pass is at, without biases, `[outputs, inputs]`.
    transposed_weights: Vec<f32>,
    /// Per node, of convolutions.
    convolutions: Vec<Option<Convolution>>,
    /// Per node, of convolutions the gradient by the weights from each part of the batch.
    partial_gradients: Vec<Vec<f32>>,
    /// Per batch normalisation, of the batch.
    normalisations: Vec<Normalisation>,
    /// Per thread.
    scratches: Vec<Mutex<Scratch>>,
}

impl Network {
    /// `batch_size` is 0 where the model is not to be trained.
    pub fn new(parameters: Parameters, batch_size: usize) -> Self {
        let plan = Plan::new(&parameters.architecture);
        let nodes = &plan.nodes;
        let largest = nodes.iter().flat_map(|node| [node.input.len(), node.output.len()]).max().unwrap_or(1);
        let evaluation_rows = (EVALUATION_BYTES / 4 / largest).clamp(1, EVALUATION_ROWS);
        let rows = batch_size.max(evaluation_rows);
        let is_factor = |node: Option<&Node>| node.is_some_and(|node| node.operation == Operation::Linear);
        let inputs = nodes.iter().map(|node| Buffer::new(rows, node.input.len(), is_factor(Some(node))));
        let values = inputs.chain([Buffer::new(rows, plan.outputs, false)]).collect();
        let keeps = |node: &Node| node.activation.is_some_and(|activation| activation.keeps_input());
        let pre_activations =
            nodes.iter().map(|node| vec![0.0; if keeps(node) { rows * node.output.len() } else { 0 }]).collect();
        let convolution = |node: &Node| match node.operation {
            Operation::Conv2d(window) => Some(Convolution::new(window, node.input, node.output)),
            _ => None,
        };
        let stages = Stage::of(&plan);
        let d_sums = stages[..stages.len() - 1].iter().map(|stage| {
            let last = stage.nodes().end - 1;
            vec![0.0; batch_size * nodes[last].output.len()]
        });
        Self {
            evaluation_rows,
            values,
            pre_activations,
            d_sums: d_sums.collect(),
            transposed_weights: Vec::new(),
            convolutions: nodes.iter().map(convolution).collect(),
            partial_gradients: vec![Vec::new(); nodes.len()],
            normalisations: vec![Normalisation::default(); parameters.statistics.len()],
            scratches: (0..Workers::most_threads()).map(|_| Mutex::default()).collect(),
            stages,
            plan,
            parameters,
        }
    }

    pub fn outputs(&self) -> usize {
        self.plan.outputs
    }

    /// The outputs, `[rows, outputs]`.
    pub fn logits(&mut self, rows: usize) -> &mut [f32] {
        let last = self.values.len() - 1;
        self.values[last].rows_mut(rows)
    }

    pub fn check(&self, loss: Loss, examples: &Examples) -> Result<()> {
        check_fit(self.plan.input.len(), self.outputs(), loss, examples)
    }

    /// Floating-point operations of [`forward`](Self::forward).
    pub fn forward_operations(&self, rows: usize) -> usize {
        (0..self.plan.nodes.len()).map(|node| self.operations(node, rows)).sum()
    }

    fn operations(&self, node: usize, rows: usize) -> usize {
        let node = &self.plan.nodes[node];
        match (node.operation, node.weights_shape()) {
            (Operation::Linear | Operation::Conv2d(_), Some([inputs, _])) => {
                2 * rows * (inputs + 1) * node.output.len()
            }
            _ => ELEMENT_COST * rows * node.input.len(),
        }
    }

    /// Fills row `row` of the input with example `example(row)`.
    pub fn gather(
        &mut self,
        workers: Workers,
        mode: Mode<'_>,
        set: &Examples,
        rows: usize,
        example: impl Fn(usize) -> usize + Sync,
    ) {
        let scratches = &self.scratches;
        let Buffer { length, stride, .. } = self.values[0];
        let input = self.values[0].rows_mut(rows);
        workers.for_each_block(GATHER_COST * input.len(), stride, input, |rows, block| {
            let end = rows.end;
            let rows = rows.zip(block.chunks_exact_mut(stride).map(|row| &mut row[..length]));
            match mode {
                Mode::Training { seed, step, augmentation: Some(augmentation), cut } => {
                    let first = cut.rows().start;
                    let image = &mut own(scratches).image;
                    image.resize(length, 0.0);
                    workers.arch.dispatch(
                        #[inline(always)]
                        || {
                            for (row, input) in rows {
                                gather::gather(set, example(row), image);
                                let map = augmentation.map(seed, step, (first + row) as u32);
                                gather::augment(augmentation, map, image, input);
                            }
                        },
                    );
                }
                _ => workers.arch.dispatch(
                    #[inline(always)]
                    || {
                        // `for_each` would be a function of its own, without the instruction set.
                        for (row, input) in rows {
                            if row + gather::AHEAD < end {
                                gather::touch(set, example(row + gather::AHEAD));
                            }
                            gather::gather(set, example(row), input);
                        }
                    },
                ),
            }
        });
    }

    /// From the input to the outputs.
    ///
    /// # Errors
    /// [`Error::Rank`](crate::Error::Rank) if another rank has failed.
    pub fn forward(&mut self, workers: Workers, mode: Mode<'_>, rows: usize) -> Result<()> {
        for stage in 0..self.stages.len() {
            match self.stages[stage] {
                Stage::BatchNorm(node) => self.forward_batch_norm(workers, mode, node, rows)?,
                // A rank without a row of the batch still has a part in its statistics.
                _ if rows == 0 => {}
                Stage::Linear(node) => self.forward_linear(workers, node, rows),
                Stage::Examples(ref nodes) => {
                    let nodes = nodes.clone();
                    self.forward_examples(workers, mode, nodes, rows);
                }
            }
        }
        Ok(())
    }

    fn forward_linear(&mut self, workers: Workers, index: usize, rows: usize) {
        let operations = self.operations(index, rows);
        let Node { activation, weights: Some(weights), .. } = self.plan.nodes[index] else { return };
        let layer = &self.parameters.layers[weights];
        let (before, after) = self.values.split_at_mut(index + 1);
        let input = Matrix::new(&before[index].values, rows, layer.inputs + 1);
        let weights = Matrix::new(&layer.values, layer.inputs + 1, layer.outputs);
        let Buffer { length, stride, .. } = after[0];
        let output = after[0].rows_mut(rows);
        let kept = &mut self.pre_activations[index];
        let Some(activation) = activation else {
            workers.for_each_block(operations, stride, output, |rows, block| {
                matmul(block, stride, 0.0, 1.0, input.rows(rows), weights);
            });
            return;
        };
        if kept.is_empty() {
            workers.for_each_block(operations, stride, output, |rows, block| {
                matmul(block, stride, 0.0, 1.0, input.rows(rows), weights);
                for row in block.chunks_exact_mut(stride) {
                    activate(workers.arch, activation, &mut row[..length]);
                }
            });
            return;
        }
        workers.for_each_block(operations, length, &mut kept[..rows * length], |rows, block| {
            matmul(block, length, 0.0, 1.0, input.rows(rows), weights);
        });
        workers.for_each_block(operations, stride, output, |rows, block| {
            let kept = kept[rows.start * length..].chunks_exact(length);
            for (row, kept) in block.chunks_exact_mut(stride).zip(kept) {
                row[..length].copy_from_slice(kept);
                activate(workers.arch, activation, &mut row[..length]);
            }
        });
    }

    fn forward_batch_norm(&mut self, workers: Workers, mode: Mode<'_>, index: usize, rows: usize) -> Result<()> {
        let operations = self.operations(index, rows);
        let Node { activation, weights: Some(weights), statistics: Some(statistics), .. } = self.plan.nodes[index]
        else {
            return Ok(());
        };
        let (before, after) = self.values.split_at_mut(index + 1);
        let input = &before[index];
        let statistics_of_run = &mut self.parameters.statistics[statistics];
        let normalisation = &mut self.normalisations[statistics];
        *normalisation = match mode {
            Mode::Evaluation => Normalisation::of_statistics(statistics_of_run),
            Mode::Training { cut, .. } => Normalisation::of_batch(workers, input.batch(rows), cut, statistics_of_run)?,
        };
        let weights = &self.parameters.layers[weights].values;
        let Buffer { length, stride, .. } = after[0];
        let kept = &mut self.pre_activations[index];
        let keeps = !kept.is_empty();
        let kept = kept.chunks_mut(length).map(Some).chain(std::iter::repeat_with(|| None));
        let outputs = after[0].rows_mut(rows).chunks_exact_mut(stride).zip(kept).enumerate().collect::<Vec<_>>();
        debug_assert_eq!(outputs.len(), rows);
        let mut outputs = outputs;
        let parts = workers.parts(rows);
        let length_of_part = parts.first().map_or(1, ExactSizeIterator::len);
        workers.for_each(operations, outputs.chunks_mut(length_of_part), |part| {
            for (row, (output, kept)) in part {
                let output = &mut output[..length];
                normalisation.forward(workers.arch, weights, input.row(*row), output);
                if let (true, Some(kept)) = (keeps, kept) {
                    kept.copy_from_slice(output);
                }
                if let Some(activation) = activation {
                    activate(workers.arch, activation, output);
                }
            }
        });
        Ok(())
    }

    fn forward_examples(&mut self, workers: Workers, mode: Mode<'_>, nodes: Range<usize>, rows: usize) {
        let operations = nodes.clone().map(|node| self.operations(node, rows)).sum();
        for index in nodes.clone() {
            if let (Some(convolution), Some(weights)) = (&mut self.convolutions[index], self.plan.nodes[index].weights)
            {
                convolution.set_weights(&self.parameters.layers[weights].values);
            }
        }
        let (before, after) = self.values.split_at_mut(nodes.start + 1);
        let input = &before[nodes.start];
        let ranges = workers.parts(rows);
        let part_rows = ranges.first().map_or(1, ExactSizeIterator::len);
        let mut parts: Vec<Part<'_>> =
            ranges.into_iter().map(|rows| Part { rows, outputs: Vec::new(), kept: Vec::new() }).collect();
        for (buffer, kept) in after.iter_mut().zip(&mut self.pre_activations[nodes.clone()]) {
            let Buffer { length, stride, .. } = *buffer;
            let mut kept = kept.chunks_mut(part_rows * length);
            for (part, values) in parts.iter_mut().zip(buffer.rows_mut(rows).chunks_mut(part_rows * stride)) {
                part.outputs.push(Rows { values, length, stride });
                part.kept.push(Rows { values: kept.next().unwrap_or_default(), length, stride: length });
            }
        }
        let example = ExampleOps { nodes: &self.plan.nodes, convolutions: &self.convolutions, workers, mode };
        let scratches = &self.scratches;
        workers.for_each(operations, parts.into_iter(), |mut part| {
            let scratch = &mut *own(scratches);
            for (at, row) in part.rows.clone().enumerate() {
                for (index, node) in nodes.clone().enumerate() {
                    let (done, rest) = part.outputs.split_at_mut(index);
                    let input = done.last().map_or(input.row(row), |output| output.row(at));
                    let (output, kept) = (rest[0].row_mut(at), &mut part.kept[index]);
                    example.forward(node, row, input, output, scratch);
                    if !kept.values.is_empty() {
                        kept.row_mut(at).copy_from_slice(output);
                    }
                    if let Some(activation) = example.nodes[node].activation {
                        activate(workers.arch, activation, output);
                    }
                }
            }
        });
    }

    /// From the gradient by the outputs to the gradients by all parameters, and to the new parameters.
    ///
    /// # Errors
    /// [`Error::Rank`](crate::Error::Rank) if another rank has failed.
    pub fn backward(
        &mut self,
        workers: Workers,
        mode: Mode<'_>,
        cut: Cut<'_>,
        updater: &mut Updater,
        learning_rate: f32,
    ) -> Result<()> {
        let rows = cut.rows().len();
        for stage in (0..self.stages.len()).rev() {
            match self.stages[stage] {
                Stage::Linear(node) => {
                    if rows > 0 {
                        self.backward_linear(workers, stage, node, rows);
                    }
                    if updater.stores() {
                        self.store_linear_gradient(workers, stage, node, cut, updater)?;
                    }
                }
                Stage::BatchNorm(node) => self.backward_batch_norm(workers, stage, node, cut, updater)?,
                Stage::Examples(ref nodes) => {
                    let nodes = nodes.clone();
                    self.backward_examples(workers, mode, stage, nodes, cut, updater)?;
                }
            }
            if !updater.stores() {
                self.update(workers, stage, rows, updater, learning_rate);
            }
        }
        if updater.stores() {
            updater.collect()?;
            let coefficient = updater.clip_coefficient(workers.arch);
            for (index, layer) in self.parameters.layers.iter_mut().enumerate() {
                let gradient = Gradient::Stored { width: layer.outputs, coefficient };
                updater.update(workers, index, &mut layer.values, gradient, learning_rate);
            }
        }
        Ok(())
    }

    /// Updates the weights of a stage.
    fn update(&mut self, workers: Workers, stage: usize, rows: usize, updater: &mut Updater, learning_rate: f32) {
        for node in self.stages[stage].nodes() {
            let Some(weights) = self.plan.nodes[node].weights else { continue };
            let layer = &mut self.parameters.layers[weights];
            let gradient = match self.stages[stage] {
                Stage::Linear(node) => {
                    let input = Matrix::new(&self.values[node].values, rows, layer.inputs + 1);
                    let d_sums = d_sums(&self.d_sums, &self.values, stage);
                    Gradient::Product(input.transposed(), Matrix::new(d_sums, rows, layer.outputs))
                }
                _ => Gradient::Stored { width: layer.outputs, coefficient: 1.0 },
            };
            updater.update(workers, weights, &mut layer.values, gradient, learning_rate);
        }
    }

    /// Writes the gradient of a linear layer down, `inputᵀ · d_sums`.
    fn store_linear_gradient(
        &self,
        workers: Workers,
        stage: usize,
        index: usize,
        cut: Cut<'_>,
        updater: &mut Updater,
    ) -> Result<()> {
        let Some(weights) = self.plan.nodes[index].weights else { return Ok(()) };
        let layer = &self.parameters.layers[weights];
        let (width, outputs) = (layer.inputs + 1, layer.outputs);
        let (input, d_sums) = (&self.values[index].values, d_sums(&self.d_sums, &self.values, stage));
        let shards: Vec<Range<usize>> = cut.own().collect();
        updater.sum_gradient(weights, cut, |shard, gradient| {
            let (first, rows) = (shards[shard].start, shards[shard].len());
            if rows == 0 {
                return gradient.fill(0.0);
            }
            let input = Matrix::new(&input[first * width..], rows, width).transposed();
            let d_sums = Matrix::new(&d_sums[first * outputs..], rows, outputs);
            workers.for_each_block(self.operations(index, rows), outputs, gradient, |rows, block| {
                matmul(block, outputs, 0.0, 1.0, input.rows(rows), d_sums);
            });
        })
    }

    /// Computes the gradient by the pre-activations of the node before from that by a linear layer's outputs:
    /// `d_outputs · weightsᵀ`, times the derivative of the activation between them.
    fn backward_linear(&mut self, workers: Workers, stage: usize, index: usize, rows: usize) {
        let operations = self.operations(index, rows);
        let (before, after) = self.d_sums.split_at_mut(stage);
        let (Some(d_input), Some(weights)) = (before.last_mut(), self.plan.nodes[index].weights) else { return };
        if index <= self.plan.first_weights() {
            return;
        }
        let layer = &self.parameters.layers[weights];
        let d_sums = after.first().unwrap_or(&self.values[self.plan.nodes.len()].values);
        let d_sums = Matrix::new(d_sums, rows, layer.outputs);
        let kept = Kept { nodes: &self.plan.nodes, values: &self.values, pre_activations: &self.pre_activations };
        let width = layer.inputs;
        let mut weights = Matrix::new(&layer.values, width, layer.outputs).transposed();
        if TRANSPOSE_SHARE * rows >= width {
            let length = layer.outputs * width;
            if self.transposed_weights.len() < length {
                self.transposed_weights.resize(length, 0.0);
            }
            let transposed = &mut self.transposed_weights[..length];
            workers.for_each_block(TRANSPOSE_COST * length, width, transposed, |outputs, block| {
                transpose(workers.arch, weights.rows(outputs), block);
            });
            weights = Matrix::new(transposed, layer.outputs, width);
        }
        workers.for_each_block(operations, width, &mut d_input[..rows * width], |rows, block| {
            matmul(block, width, 0.0, 1.0, d_sums.rows(rows.clone()), weights);
            for (row, d_input) in rows.zip(block.chunks_exact_mut(width)) {
                kept.backward(workers, index, row, d_input);
            }
        });
    }

    fn backward_batch_norm(
        &mut self,
        workers: Workers,
        stage: usize,
        index: usize,
        cut: Cut<'_>,
        updater: &mut Updater,
    ) -> Result<()> {
        let rows = cut.rows().len();
        let operations = self.operations(index, rows);
        let Node { weights: Some(weights), statistics: Some(statistics), input: shape, .. } = self.plan.nodes[index]
        else {
            return Ok(());
        };
        let (before, after) = self.d_sums.split_at_mut(stage);
        let Some(d_sums) = after.first() else { return Ok(()) };
        let (input, normalisation) = (&self.values[index], &self.normalisations[statistics]);
        let length = input.length;
        // The exchanges of all ranks are in one order.
        updater.collect()?;
        let gradient = updater.gradient(weights);
        // The whole gradient, which that by the input needs too.
        let summed = normalisation.weight_gradient(workers, input.batch(rows), cut, &d_sums[..rows * length])?;
        gradient.copy_from_slice(&summed);
        let Some(d_input) = before.last_mut() else { return Ok(()) };
        if index <= self.plan.first_weights() {
            return Ok(());
        }
        let kept = Kept { nodes: &self.plan.nodes, values: &self.values, pre_activations: &self.pre_activations };
        let (weights, gradient) = (&self.parameters.layers[weights].values, &*gradient);
        let count = cut.batch * shape.positions();
        workers.for_each_block(operations, length, &mut d_input[..rows * length], |rows, block| {
            for (row, d_input) in rows.zip(block.chunks_exact_mut(length)) {
                let d_sums = &d_sums[row * length..][..length];
                normalisation.backward(workers.arch, weights, (gradient, count), [input.row(row), d_sums], d_input);
                kept.backward(workers, index, row, d_input);
            }
        });
        Ok(())
    }

    fn backward_examples(
        &mut self,
        workers: Workers,
        mode: Mode<'_>,
        stage: usize,
        nodes: Range<usize>,
        cut: Cut<'_>,
        updater: &mut Updater,
    ) -> Result<()> {
        let first_weights = self.plan.first_weights();
        if nodes.end <= first_weights {
            return Ok(());
        }
        let rows = cut.rows().len();
        let operations = 2 * nodes.clone().map(|node| self.operations(node, rows)).sum::<usize>();
        let (before, after) = self.d_sums.split_at_mut(stage);
        let Some(d_sums) = after.first() else { return Ok(()) };
        // The parts of each shard, and the numbers of a shard's parts.
        let (mut ranges, mut parts_of_shards) = (Vec::new(), Vec::new());
        for shard in cut.own() {
            let parts = workers.parts_of_shard(shard.len(), cut.count());
            parts_of_shards.push(ranges.len()..ranges.len() + parts.len());
            ranges.extend(parts.into_iter().map(|rows| shard.start + rows.start..shard.start + rows.end));
        }
        let count = ranges.len();
        let mut parts: Vec<BackwardPart<'_>> = (ranges.iter().cloned())
            .map(|rows| BackwardPart { rows, gradients: Vec::new(), d_input: Default::default() })
            .collect();
        for (index, gradients) in nodes.clone().zip(&mut self.partial_gradients[nodes.clone()]) {
            let Some(convolution) = &self.convolutions[index] else {
                parts.iter_mut().for_each(|part| part.gradients.push(Default::default()));
                continue;
            };
            let length = convolution.gradient_length();
            gradients.clear();
            gradients.resize(count * length, 0.0);
            for (part, gradient) in parts.iter_mut().zip(gradients.chunks_exact_mut(length)) {
                part.gradients.push(gradient);
            }
        }
        if let Some(d_input) = before.last_mut().filter(|_| nodes.start > first_weights) {
            let length = self.plan.nodes[nodes.start].input.len();
            for (part, d_input) in parts.iter_mut().zip(split(&mut d_input[..rows * length], &ranges, length)) {
                part.d_input = d_input;
            }
        }
        let example = ExampleOps { nodes: &self.plan.nodes, convolutions: &self.convolutions, workers, mode };
        let kept = Kept { nodes: &self.plan.nodes, values: &self.values, pre_activations: &self.pre_activations };
        let scratches = &self.scratches;
        let length = self.plan.nodes[nodes.end - 1].output.len();
        workers.for_each(operations, parts.into_iter(), |mut part| {
            let scratch = &mut *own(scratches);
            let mut gradients = std::mem::take(&mut scratch.gradients);
            for (at, row) in part.rows.clone().enumerate() {
                let [d_output, d_input] = &mut gradients;
                d_output.clear();
                d_output.extend_from_slice(&d_sums[row * length..][..length]);
                for index in nodes.clone().rev() {
                    let gradient = &mut part.gradients[index - nodes.start];
                    let [input, output] = [index, index + 1].map(|values| kept.values[values].row(row));
                    example.add_weight_gradient(index, input, d_output, gradient, scratch);
                    if index <= first_weights {
                        break;
                    }
                    d_input.resize(input.len(), 0.0);
                    example.backward(index, row, [input, output, d_output], d_input, scratch);
                    kept.backward(workers, index, row, d_input);
                    std::mem::swap(d_output, d_input);
                }
                if !part.d_input.is_empty() {
                    part.d_input[at * d_output.len()..][..d_output.len()].copy_from_slice(d_output);
                }
            }
            scratch.gradients = gradients;
        });
        for index in nodes {
            if let (Some(convolution), Some(weights)) = (&self.convolutions[index], self.plan.nodes[index].weights) {
                let (partial, length) = (&self.partial_gradients[index], convolution.gradient_length());
                updater.sum_gradient(weights, cut, |shard, gradient| {
                    let Range { start, end } = parts_of_shards[shard];
                    convolution.sum_gradients(&partial[start * length..end * length], gradient);
                })?;
            }
        }
        Ok(())
    }
}

/// The gradient by the sums of a stage's last node.
fn d_sums<'a>(d_sums: &'a [Vec<f32>], values: &'a [Buffer], stage: usize) -> &'a [f32] {
    d_sums.get(stage).unwrap_or(&values[values.len() - 1].values)
}

/// The scratch of the thread that asks.
fn own(scratches: &[Mutex<Scratch>]) -> MutexGuard<'_, Scratch> {
    let thread = crate::parallel::current_thread_index().unwrap_or(0);
    scratches[thread % scratches.len()].lock().unwrap_or_else(PoisonError::into_inner)
}

/// Rows that someone else owns.
#[derive(Default)]
struct Rows<'a> {
    values: &'a mut [f32],
    length: usize,
    stride: usize,
}

impl Rows<'_> {
    fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.stride..][..self.length]
    }

    fn row_mut(&mut self, row: usize) -> &mut [f32] {
        &mut self.values[row * self.stride..][..self.length]
    }
}

/// A part of a batch on its way through a stage.
struct Part<'a> {
    rows: Range<usize>,
    /// Per node of the stage.
    outputs: Vec<Rows<'a>>,
    kept: Vec<Rows<'a>>,
}

/// A part of a batch on its way back.
struct BackwardPart<'a> {
    rows: Range<usize>,
    /// Per node of the stage, of convolutions that by the weights.
    gradients: Vec<&'a mut [f32]>,
    /// The gradient by the sums of the stage before; empty where nobody needs it.
    d_input: &'a mut [f32],
}

/// Results of the forward pass that the backward pass needs.
#[derive(Clone, Copy)]
struct Kept<'a> {
    nodes: &'a [Node],
    values: &'a [Buffer],
    pre_activations: &'a [Vec<f32>],
}

impl Kept<'_> {
    /// Turns the gradient by the inputs of node `index` into that by the pre-activations of the node before, in place.
    fn backward(&self, workers: Workers, index: usize, row: usize, gradient: &mut [f32]) {
        let Some(activation) = index.checked_sub(1).and_then(|before| self.nodes[before].activation) else { return };
        let pre_activations = &self.pre_activations[index - 1];
        let kept = match pre_activations.get(row * gradient.len()..) {
            Some(kept) if !pre_activations.is_empty() => kept,
            _ => self.values[index].row(row),
        };
        activate_backward(workers.arch, activation, gradient, kept);
    }
}

/// The operations of the plan on one example.
#[derive(Clone, Copy)]
struct ExampleOps<'a> {
    nodes: &'a [Node],
    convolutions: &'a [Option<Convolution>],
    workers: Workers,
    mode: Mode<'a>,
}

impl ExampleOps<'_> {
    fn pooling(&self, index: usize) -> Option<Pooling> {
        let Node { operation: Operation::MaxPool2d(window), input, output, .. } = self.nodes[index] else {
            return None;
        };
        Some(Pooling { window, input, output })
    }

    /// Computes a node's outputs, before the activation that is fused to it.
    fn forward(&self, index: usize, row: usize, input: &[f32], output: &mut [f32], scratch: &mut Scratch) {
        let arch = self.workers.arch;
        if let Some(convolution) = &self.convolutions[index] {
            convolution.forward(arch, input, scratch.room(index), output);
        } else if let Some(pooling) = self.pooling(index) {
            arch.dispatch(
                #[inline(always)]
                || pooling.forward(input, output),
            );
        } else {
            match (self.nodes[index].operation, self.mode) {
                (Operation::Dropout(p), Mode::Training { seed, step, cut, .. }) => {
                    let row = cut.rows().start + row;
                    Dropout::new(&self.nodes[index], p, seed, step).apply(arch, row, input, output);
                }
                (Operation::Activation(activation), _) => {
                    output.copy_from_slice(input);
                    activate(arch, activation, output);
                }
                _ => output.copy_from_slice(input),
            }
        }
    }

    fn add_weight_gradient(
        &self,
        index: usize,
        input: &[f32],
        d_output: &[f32],
        gradient: &mut [f32],
        scratch: &mut Scratch,
    ) {
        if let Some(convolution) = &self.convolutions[index] {
            let arch = self.workers.arch;
            convolution.add_weight_gradient(arch, input, d_output, scratch.room(index), gradient);
        }
    }

    /// The gradient by the node's input.
    fn backward(
        &self,
        index: usize,
        row: usize,
        [input, output, d_output]: [&[f32]; 3],
        d_input: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let arch = self.workers.arch;
        if let Some(convolution) = &self.convolutions[index] {
            convolution.backward(arch, d_output, scratch.room(index), d_input);
        } else if let Some(pooling) = self.pooling(index) {
            arch.dispatch(
                #[inline(always)]
                || pooling.backward(input, output, d_output, d_input),
            );
        } else {
            match (self.nodes[index].operation, self.mode) {
                (Operation::Dropout(p), Mode::Training { seed, step, cut, .. }) => {
                    let row = cut.rows().start + row;
                    Dropout::new(&self.nodes[index], p, seed, step).apply(arch, row, d_output, d_input);
                }
                (Operation::Activation(activation), _) => {
                    d_input.copy_from_slice(d_output);
                    activate_backward(arch, activation, d_input, if activation.keeps_input() { input } else { output });
                }
                _ => d_input.copy_from_slice(d_output),
            }
        }
    }
}

impl Scratch {
    fn room(&mut self, node: usize) -> &mut convolution::Room {
        if self.rooms.len() <= node {
            self.rooms.resize_with(node + 1, Default::default);
        }
        &mut self.rooms[node]
    }
}
