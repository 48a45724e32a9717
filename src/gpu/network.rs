//! The lowering of a plan: each operation becomes one or a few kernels on tensors of the device. Nothing is computed
//! here: functions with the names of passes, such as `forward`, make kernels, which [`kernel`](super::kernel) dispatches.

use super::data_set::DataSet;
use super::device::{BufferLabel, Gpu};
use super::kernel::{Kernel, StepUniformBuffer};
use super::kernels::{self, Clipping, Dropout, Epilogue, Hidden, Inputs, LossKernel, PartialSums, Targets};
use super::matrix::Matrix;
use super::tensor::{Layout, Tensor, View, WeightRows};
use crate::augmentation::Augmentation;
use crate::error::Result;
use crate::model::{Activation, Architecture, Parameters, Shape, Statistics, Weights};
use crate::optimizer::Optimizer;
use crate::plan::{Node, Op, Operation, Plan};
use crate::shards::Sharding;

/// Rows of a chunk in evaluation, where the batch size is not larger.
const EVALUATION_ROWS: usize = 1024;

/// Bytes of a tensor, at most, where the batch size does not ask for more.
const TENSOR_BYTES: usize = 64 << 20;

const WEIGHTS: BufferLabel = BufferLabel { name: "a layer's weights", remedy: "smaller `hidden` or `layers`" };
const ACTIVATIONS: BufferLabel =
    BufferLabel { name: "a layer's activations", remedy: "a smaller `batch_size`, or smaller `hidden` or `layers`" };
const GRADIENT: BufferLabel = BufferLabel { name: "a layer's gradient", ..ACTIVATIONS };
const LOGITS: BufferLabel = BufferLabel { name: "the logits", remedy: "a smaller `batch_size`" };

/// A model on the device: its weights, and the tensors between its nodes. A clone has the same ones.
#[derive(Clone)]
pub(super) struct Network {
    pub plan: Plan,
    architecture: Architecture,
    /// Weights of each node that has any.
    weights: Vec<Matrix>,
    weight_rows: Vec<WeightRows>,
    /// Running mean and variance of each batch normalisation, `[2, channels]`.
    statistics: Vec<Matrix>,
    pub tensors: Tensors,
}

/// The tensors between the nodes of a model, for the rows of a batch or of a shard.
#[derive(Clone)]
pub(super) struct Tensors {
    /// The images of a batch, where the first node is not linear.
    images: Option<Tensor>,
    /// Outputs of each node but the last; of dropout only for training.
    outputs: Vec<Option<Tensor>>,
    /// Pre-activations of each node, where its activation's gradient needs them.
    kept: Vec<Option<Matrix>>,
    /// Outputs of the last node, `[rows, outputs]`; then their gradient, or probabilities.
    pub logits: Matrix,
    /// Rows of the tensors.
    pub rows: usize,
}

/// Inputs of a training step beside the model.
pub(super) struct TrainingParts<'a> {
    pub data: &'a DataSet,
    pub batch_size: usize,
    pub optimizer: &'a Optimizer,
    /// Per moment and node with weights, shaped like these.
    pub moments: &'a [Vec<Matrix>; 2],
    pub clip_norm: Option<f32>,
    /// The cut of batches; tensors have room for a shard.
    pub sharding: &'a Sharding,
    pub augmentation: Option<&'a Augmentation>,
    pub targets: Targets<'a>,
    pub loss: LossKernel<'a>,
}

/// The kernels of a training step: one segment, or in shards as many as there are times when a sum over all shards is
/// needed. Most models need one before the updates alone; each batch normalisation needs two for its statistics, and one for
/// its gradient.
pub(super) struct TrainingStep {
    pub segments: Vec<Segment>,
}

/// The part of a step that every shard computes before any begins the next one.
pub(super) struct Segment {
    /// Kernels of each shard of this rank; of a step of one segment a single list, for all of them: they use the same tensors
    /// in turn.
    pub shards: Vec<Vec<Kernel>>,
    /// Sums over the shards, with what follows them; none without shards.
    pub sums: Option<ShardSums>,
    /// For each of these sums, the number of a shard's kernels after which that of the shard is there.
    ends: Vec<usize>,
}

/// Sums over the shards of a batch, and what follows them.
pub(super) struct ShardSums {
    /// The sums over a shard, or over several.
    pub sums: Vec<Matrix>,
    /// Room for the sums of another rank.
    pub others: Vec<Matrix>,
    /// Kernels that clear the sums.
    pub clear: Vec<Kernel>,
    /// Kernels that keep the sums, at each level of the tree.
    pub keep: Vec<Vec<Kernel>>,
    /// Kernels that add what is kept at a level to the sums.
    pub add: Vec<Vec<Kernel>>,
    /// Kernels that add the sums of another rank.
    pub add_others: Vec<Kernel>,
    /// Kernels that need the sums over the batch, and run once: statistics, or the clip coefficient and the updates.
    pub then: Vec<Kernel>,
}

impl TrainingStep {
    /// Every kernel.
    pub fn all(&self) -> impl Iterator<Item = &Kernel> {
        self.segments.iter().flat_map(|segment| {
            let sums = segment.sums.iter().flat_map(|sums| {
                let levels = sums.keep.iter().chain(&sums.add).flatten();
                sums.clear.iter().chain(levels).chain(&sums.add_others).chain(&sums.then)
            });
            segment.shards.iter().flatten().chain(sums)
        })
    }

    /// All dispatches of a step on shards of so many rows each.
    pub fn dispatches(&self, rows: &[usize]) -> Vec<Dispatch<'_>> {
        let mut dispatches = Vec::new();
        for segment in &self.segments {
            if segment.sums.is_none() {
                dispatches.extend(segment.shards[0].iter().map(|kernel| (0, kernel)));
            }
            (0..segment.sums().len()).for_each(|sum| dispatches.extend(segment.up_to_sum(sum, rows)));
            dispatches.extend(segment.after_sums());
        }
        dispatches
    }
}

/// A kernel, with the number of the shard that it works on.
pub(super) type Dispatch<'a> = (usize, &'a Kernel);

impl Segment {
    /// Dispatches that complete a sum over the shards of this rank, of so many rows each, behind those of the sums before it.
    /// The first ones take along all shards but the last.
    pub fn up_to_sum(&self, sum: usize, rows: &[usize]) -> Vec<Dispatch<'_>> {
        let mut dispatches = Vec::new();
        let last = rows.len() - 1;
        if sum == 0 {
            for shard in rows.iter().copied().enumerate().take(last) {
                (0..self.ends.len()).for_each(|sum| self.push_sum(&mut dispatches, sum, shard, false));
            }
        }
        self.push_sum(&mut dispatches, sum, (last, rows[last]), true);
        dispatches
    }

    /// Adds the dispatches of a sum of a shard of so many rows, and of those over shards that it completes.
    fn push_sum<'a>(
        &'a self,
        dispatches: &mut Vec<Dispatch<'a>>,
        sum: usize,
        (shard, rows): (usize, usize),
        is_last: bool,
    ) {
        let Some(sums) = &self.sums else { return };
        let start = if sum == 0 { 0 } else { self.ends[sum - 1] };
        let kernels = &self.shards[shard % self.shards.len()][start..self.ends[sum]];
        // As many sums of shards are complete with this one as its number has ones at the end.
        let complete = shard.trailing_ones() as usize;
        let own = if rows == 0 { std::slice::from_ref(&sums.clear[sum]) } else { kernels };
        let added = sums.add[..complete].iter().map(|level| &level[sum]);
        let kept = (!is_last).then(|| &sums.keep[complete][sum]);
        dispatches.extend(own.iter().chain(added).chain(kept).map(|kernel| (shard, kernel)));
    }

    /// The sums over shards, in the order in which they are complete; none without shards.
    pub fn sums(&self) -> &[Matrix] {
        self.sums.as_ref().map_or(&[], |sums| &sums.sums)
    }

    /// Dispatches that follow the sums over the shards of the batch.
    pub fn after_sums(&self) -> impl Iterator<Item = Dispatch<'_>> {
        self.sums.iter().flat_map(|sums| sums.then.iter().map(|kernel| (0, kernel)))
    }
}

impl ShardSums {
    fn new(
        gpu: &Gpu,
        steps: &StepUniformBuffer,
        sharding: &Sharding,
        sums: Vec<Matrix>,
        then: Vec<Kernel>,
    ) -> Result<Self> {
        let content = BufferLabel { name: "sums over shards", ..WEIGHTS };
        let like_sums =
            || sums.iter().map(|sum| Matrix::new(gpu, content, sum.rows, sum.columns)).collect::<Result<_>>();
        let each = |kept: &[Matrix], kernel: fn(&Gpu, &StepUniformBuffer, &Matrix, &Matrix) -> Kernel| -> Vec<Kernel> {
            sums.iter().zip(kept).map(|(sum, kept)| kernel(gpu, steps, sum, kept)).collect()
        };
        let others: Vec<Matrix> = like_sums()?;
        let (mut keep, mut add) = (Vec::new(), Vec::new());
        for _ in 0..sharding.count().ilog2() {
            let kept: Vec<Matrix> = like_sums()?;
            keep.push(each(&kept, kernels::keep_sum));
            add.push(each(&kept, kernels::add_sum));
        }
        let clear = sums.iter().map(|sum| kernels::clear_sum(gpu, steps, sum)).collect();
        let add_others = each(&others, kernels::add_sum);
        Ok(Self { sums, others, clear, keep, add, add_others, then })
    }
}

fn is_element_wise(node: &Node) -> bool {
    matches!(node.operation, Operation::Activation(_) | Operation::Dropout(_))
}

/// The activation of a node's results: fused to it, or what it is itself.
fn activation(node: &Node) -> Option<Activation> {
    match node.operation {
        Operation::Activation(activation) => Some(activation),
        _ => node.activation,
    }
}

/// Shapes before and behind a node. What a first linear layer reads is features, also where it is an image.
fn shapes(plan: &Plan, index: usize) -> [Shape; 2] {
    let node = &plan.nodes[index];
    let first = plan.nodes.iter().position(|node| !is_element_wise(node)).unwrap_or(0);
    if index > first || plan.nodes[first].operation != Operation::Linear {
        return [node.input, node.output];
    }
    let features = Shape::Flat(node.input.len());
    [features, if index == first { node.output } else { features }]
}

/// Layout of what node `index` reads: as the next one wants it that does more than take element by element.
fn layout_before(plan: &Plan, index: usize) -> Layout {
    let [shape, _] = shapes(plan, index);
    let reader = plan.nodes[index..].iter().find(|node| !is_element_wise(node)).map(|node| node.operation);
    match reader {
        Some(Operation::Linear) => Layout::with_ones(shape),
        Some(Operation::Conv2d(window)) if index == 0 && plan.nodes[0].weights.is_some() && shape.channels() < 4 => {
            Layout::overlapping(shape, window)
        }
        Some(Operation::Conv2d(window)) => Layout::padded(shape, window),
        _ => Layout::plain(shape),
    }
}

/// Layouts of what each node reads.
fn layouts(plan: &Plan) -> Vec<Layout> {
    (0..plan.nodes.len()).map(|node| layout_before(plan, node)).collect()
}

impl Tensors {
    fn new(gpu: &Gpu, plan: &Plan, rows: usize, is_training: bool) -> Result<Self> {
        let layouts = layouts(plan);
        let images = (plan.nodes[0].operation != Operation::Linear)
            .then(|| Tensor::new(gpu, BufferLabel { name: "the images of a batch", ..ACTIVATIONS }, rows, layouts[0]))
            .transpose()?;
        let (mut outputs, mut kept) = (Vec::new(), Vec::new());
        for (node, &layout) in plan.nodes.iter().zip(&layouts[1..]) {
            let is_skipped = !is_training && matches!(node.operation, Operation::Dropout(_));
            let tensor = (!is_skipped).then(|| Tensor::new(gpu, ACTIVATIONS, rows, layout)).transpose()?;
            let keeps = tensor.as_ref().filter(|_| activation(node).is_some_and(Activation::keeps_input));
            let label = BufferLabel { name: "a layer's pre-activations", ..ACTIVATIONS };
            kept.push(keeps.map(|tensor| Matrix::new(gpu, label, rows, tensor.matrix.columns)).transpose()?);
            outputs.push(tensor);
        }
        let logits = Matrix::new(gpu, LOGITS, rows, plan.outputs)?;
        Ok(Self { images, outputs, kept, logits, rows })
    }
}

impl Network {
    /// Puts a model on the device, with tensors for batches of `batch_size` in training, if there is one.
    pub fn new(gpu: &Gpu, parameters: &Parameters, batch_size: Option<usize>) -> Result<Self> {
        let plan = Plan::new(&parameters.architecture);
        let layouts = layouts(&plan);
        let largest = layouts.iter().map(|layout| 16 * layout.example).max().unwrap_or(1);
        let rows = (TENSOR_BYTES / largest / 4 * 4).clamp(4, EVALUATION_ROWS).max(batch_size.unwrap_or(0));
        let rows = rows.checked_next_multiple_of(4).ok_or_else(|| {
            crate::Error::Invalid(format!("`batch_size` {rows}: more than there can be; use a smaller one"))
        })?;

        let nodes = || plan.nodes.iter().zip(&layouts);
        let weight_rows: Vec<WeightRows> = nodes()
            .filter(|(node, _)| node.weights.is_some())
            .map(|(node, &layout)| match node.operation {
                Operation::Conv2d(window) => WeightRows::conv2d(layout, window),
                Operation::BatchNorm => WeightRows::plain(1),
                _ => WeightRows::linear(layout),
            })
            .collect();
        let weights = weight_rows
            .iter()
            .zip(&parameters.layers)
            .map(|(rows, layer)| {
                let values = rows.spread(&layer.values, layer.outputs);
                Matrix::from_values(gpu, WEIGHTS, rows.bias() + 1, layer.outputs, &values)
            })
            .collect::<Result<Vec<_>>>()?;
        let statistics = parameters
            .statistics
            .iter()
            .map(|Statistics { mean, variance }| {
                let label = BufferLabel { name: "running statistics", ..WEIGHTS };
                Matrix::from_values(gpu, label, 2, mean.len(), &[mean.as_slice(), variance].concat())
            })
            .collect::<Result<Vec<_>>>()?;

        let tensors = Tensors::new(gpu, &plan, rows, batch_size.is_some())?;
        let architecture = parameters.architecture.clone();
        Ok(Self { plan, architecture, weights, weight_rows, statistics, tensors })
    }

    /// Returns the same model with tensors of its own, for a shard of `rows` rows.
    fn with_other_tensors(&self, gpu: &Gpu, rows: usize) -> Result<Self> {
        Ok(Self { tensors: Tensors::new(gpu, &self.plan, rows.next_multiple_of(4), true)?, ..self.clone() })
    }

    /// The node before, whose output a node reads; without dropouts in evaluation. `None` for the batch.
    fn before(&self, node: usize, is_training: bool) -> Option<usize> {
        (0..node).rev().find(|&node| is_training || !matches!(self.plan.nodes[node].operation, Operation::Dropout(_)))
    }

    /// Tensor that a node reads; `None` for the examples themselves.
    fn input(&self, node: usize, is_training: bool) -> Option<&Tensor> {
        match self.before(node, is_training) {
            None => self.tensors.images.as_ref(),
            Some(before) => self.tensors.outputs[before].as_ref(),
        }
    }

    /// Tensor that a node writes.
    fn output(&self, node: usize) -> View<'_> {
        match self.tensors.outputs.get(node) {
            Some(Some(tensor)) => tensor.into(),
            _ => (&self.tensors.logits).into(),
        }
    }

    /// The activation of a node's results.
    fn hidden(&self, node: usize) -> Option<Hidden<'_>> {
        let activation = activation(&self.plan.nodes[node])?;
        let output = self.tensors.outputs.get(node)?.as_ref()?;
        Some(Hidden::new(activation, self.tensors.kept[node].as_ref().unwrap_or(&output.matrix)))
    }

    fn dropout(&self, node: usize) -> Option<Dropout> {
        let node = &self.plan.nodes[node];
        match node.operation {
            Operation::Dropout(p) => Some(Dropout { p, layer: node.layer }),
            _ => None,
        }
    }

    /// The kernels of evaluation behind the one that [`first_kernel`](Self::first_kernel) makes.
    pub fn evaluation(&self, gpu: &Gpu, steps: &StepUniformBuffer) -> Vec<Kernel> {
        let nodes = self.plan.evaluation().filter(|&node| node > 0 || self.tensors.images.is_some());
        nodes.filter_map(|node| self.forward(gpu, steps, node, None, Pass::Evaluation)).collect()
    }

    /// The kernel that reads the data set.
    pub fn first_kernel(&self, gpu: &Gpu, steps: &StepUniformBuffer, data: &DataSet) -> Option<Kernel> {
        match &self.tensors.images {
            Some(images) => kernels::gather_images(gpu, steps, data.inputs(), None, images),
            None => self.forward(gpu, steps, 0, Some(data.inputs()), Pass::Evaluation),
        }
    }

    /// Forward through a node, but for the statistics of a batch. `examples` is what the first node reads, where that is
    /// not a tensor.
    fn forward<'a>(
        &'a self,
        gpu: &Gpu,
        steps: &StepUniformBuffer,
        index: usize,
        examples: Option<Inputs<'a>>,
        pass: Pass<'a>,
    ) -> Option<Kernel> {
        let node = &self.plan.nodes[index];
        let (output, hidden) = (self.output(index), self.hidden(index));
        let input = self.input(index, !matches!(pass, Pass::Evaluation));
        let weights = node.weights.map(|weights| &self.weights[weights]);
        Some(match node.operation {
            Operation::Linear => {
                let inputs = examples.or(input.map(|tensor| Inputs::Activations(&tensor.matrix)))?;
                kernels::forward(gpu, steps, inputs, weights?, output, hidden)
            }
            Operation::Conv2d(window) => {
                let inputs = Inputs::Patches { images: input?.into(), window };
                kernels::forward(gpu, steps, inputs, weights?, output, hidden)
            }
            Operation::MaxPool2d(window) => kernels::max_pool(gpu, steps, input?, window, output),
            Operation::Activation(_) | Operation::Dropout(_) => {
                kernels::element_wise(gpu, steps, input?, self.dropout(index), hidden, output)
            }
            Operation::BatchNorm => {
                let statistics = match pass {
                    Pass::Evaluation => &self.statistics[node.statistics?],
                    Pass::Training(batch) => batch.get(index)?.as_ref()?,
                };
                kernels::batch_norm(gpu, steps, input?, statistics, weights?, hidden, output)
            }
        })
    }

    /// A matrix for each one of weights, of the same shape; where `is_read` is not, of one number.
    pub fn like_weights(&self, gpu: &Gpu, name: &'static str, is_read: bool) -> Result<Vec<Matrix>> {
        let matrix = |weights: &Matrix| {
            let (rows, columns) = if is_read { (weights.rows, weights.columns) } else { (1, 1) };
            Matrix::new(gpu, BufferLabel { name, ..WEIGHTS }, rows, columns)
        };
        self.weights.iter().map(matrix).collect()
    }

    /// The kernels of a training step, in order.
    pub fn training_step(
        &self,
        gpu: &Gpu,
        steps: &StepUniformBuffer,
        parts: &TrainingParts<'_>,
    ) -> Result<TrainingStep> {
        // Where no shard goes on before all have come as far, each needs tensors of its own.
        let others = if self.statistics.is_empty() { 1 } else { parts.sharding.count() };
        let others = (1..others).map(|_| self.with_other_tensors(gpu, parts.batch_size)).collect::<Result<Vec<_>>>()?;
        Lowering::new(self, gpu, steps, parts)?.into_step(&others)
    }

    /// Layers and shapes of the model.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Reads the weights, and the running statistics.
    pub async fn parameters(&self, gpu: &Gpu) -> Result<Parameters> {
        let readings: Vec<_> = self.statistics.iter().map(|matrix| matrix.start_reading(gpu, 2)).collect();
        let mut parameters = self.read_layers(gpu, &self.weights).await?;
        for (matrix, reading) in self.statistics.iter().zip(readings) {
            let mean = matrix.finish_reading(gpu, reading?).await?;
            let (mean, variance) = mean.split_at(matrix.columns);
            parameters.statistics.push(Statistics { mean: mean.to_vec(), variance: variance.to_vec() });
        }
        Ok(parameters)
    }

    /// Reads a matrix for each one of weights.
    pub async fn read_layers(&self, gpu: &Gpu, matrices: &[Matrix]) -> Result<Parameters> {
        let readings: Vec<_> = matrices.iter().map(|matrix| matrix.start_reading(gpu, matrix.rows)).collect();
        let mut layers = Vec::with_capacity(matrices.len());
        for ((matrix, rows), reading) in matrices.iter().zip(&self.weight_rows).zip(readings) {
            let values = rows.gather(&matrix.finish_reading(gpu, reading?).await?, matrix.columns);
            layers.push(Weights { inputs: rows.groups * rows.group, outputs: matrix.columns, values });
        }
        Ok(Parameters { architecture: self.architecture.clone(), layers, statistics: Vec::new() })
    }

    /// Writes the weights, and the running statistics.
    pub fn write_parameters(&self, gpu: &Gpu, parameters: &Parameters) -> Result<()> {
        for (matrix, Statistics { mean, variance }) in self.statistics.iter().zip(&parameters.statistics) {
            matrix.write(gpu, &[mean.as_slice(), variance].concat());
        }
        self.write_layers(gpu, &self.weights, parameters)
    }

    /// Writes a matrix for each one of weights.
    pub fn write_layers(&self, gpu: &Gpu, matrices: &[Matrix], values: &Parameters) -> Result<()> {
        for ((matrix, rows), layer) in matrices.iter().zip(&self.weight_rows).zip(&values.layers) {
            matrix.write(gpu, &rows.spread(&layer.values, layer.outputs));
        }
        gpu.submit([]).map(drop)
    }
}

/// Mode of a forward pass.
#[derive(Clone, Copy)]
enum Pass<'a> {
    Evaluation,
    /// Training: with dropout, and with these batch statistics for each node that normalises.
    Training(&'a [Option<Matrix>]),
}

/// The lowering of a training step.
struct Lowering<'a> {
    network: &'a Network,
    gpu: &'a Gpu,
    steps: &'a StepUniformBuffer,
    parts: &'a TrainingParts<'a>,
    clipping: Option<Clipping>,
    /// The first node's inputs, where they are augmented features.
    augmented: Option<Tensor>,
    /// Mean and variance of the batch, of each node that normalises.
    statistics: Vec<Option<Matrix>>,
    /// In shards, the sums that these come from.
    moments: Vec<Option<Matrix>>,
    /// Gradient by the outputs of each node but the last, where it is needed.
    gradients: Vec<Option<Tensor>>,
    /// Gradient by the weights of each node that has some, where it is stored.
    d_weights: Vec<Option<Matrix>>,
    /// Room for the partial sums of each node with weights, which all shards use in turn.
    partial_sums: Vec<Option<PartialSums>>,
    /// Kernels and sums of the segment that is being lowered.
    piece: Piece,
    /// The segments before it.
    pieces: Vec<Piece>,
    /// Kernels of a sharded step that follow the sums of all gradients.
    updates: Vec<Kernel>,
}

/// A segment of a step, for one shard.
#[derive(Default)]
struct Piece {
    kernels: Vec<Kernel>,
    /// Matrices that are summed over the shards, in the order in which they are computed.
    sums: Vec<Matrix>,
    /// For each of them, the number of kernels after which it is there.
    ends: Vec<usize>,
    /// Kernels that follow the sums.
    then: Vec<Kernel>,
}

impl<'a> Lowering<'a> {
    fn new(
        network: &'a Network,
        gpu: &'a Gpu,
        steps: &'a StepUniformBuffer,
        parts: &'a TrainingParts<'a>,
    ) -> Result<Self> {
        let plan = &network.plan;
        let of_channels = |is_needed: bool| {
            let label = BufferLabel { name: "statistics of a batch", ..WEIGHTS };
            let matrix = |node: &Node| Matrix::new(gpu, label, 2, node.output.channels());
            let nodes = plan.nodes.iter();
            let matrices = nodes.map(|node| node.statistics.filter(|_| is_needed).map(|_| matrix(node)).transpose());
            matrices.collect::<Result<Vec<_>>>()
        };
        let (statistics, moments) = (of_channels(true)?, of_channels(!parts.sharding.is_whole())?);
        let clipping = match parts.clip_norm {
            Some(max_norm) => Some(Clipping::new(gpu, max_norm)?),
            None if !parts.sharding.is_whole() => Some(Clipping::none(gpu)?),
            None => None,
        };
        let mut lowering = Self {
            network,
            gpu,
            steps,
            parts,
            clipping,
            augmented: None,
            statistics,
            moments,
            gradients: Vec::new(),
            d_weights: vec![None; network.weights.len()],
            partial_sums: vec![None; network.weights.len()],
            piece: Piece::default(),
            pieces: Vec::new(),
            updates: Vec::new(),
        };
        lowering.use_tensors_of(network)?;
        Ok(lowering)
    }

    /// Takes the tensors of a network, for another shard.
    fn use_tensors_of(&mut self, network: &'a Network) -> Result<()> {
        let Self { gpu, parts, .. } = *self;
        let plan = &network.plan;
        let rows = parts.batch_size.next_multiple_of(4);
        let first = plan.first_weights();
        let mut gradients = Vec::new();
        for (index, node) in plan.nodes[..plan.nodes.len() - 1].iter().enumerate() {
            let layout = match node.operation {
                Operation::Conv2d(window) if index > first => Layout::gradient(node.output, node.input, window),
                _ => Layout::plain(shapes(plan, index)[1]),
            };
            let tensor = (index >= first).then(|| Tensor::new(gpu, GRADIENT, rows, layout)).transpose()?;
            gradients.push(tensor);
        }
        let is_features = network.tensors.images.is_none() && parts.augmentation.is_some();
        let augmented = is_features
            .then(|| {
                let label = BufferLabel { name: "the images of a batch", ..ACTIVATIONS };
                Tensor::new(gpu, label, rows, layout_before(plan, 0))
            })
            .transpose()?;
        (self.network, self.gradients, self.augmented) = (network, gradients, augmented);
        Ok(())
    }

    /// Lowers the step for a shard with the network's tensors, and for others with those of other networks.
    fn into_step(mut self, others: &'a [Network]) -> Result<TrainingStep> {
        let Self { gpu, steps, parts, .. } = self;
        let mut segments = Vec::new();
        for Piece { kernels, sums, ends, then } in self.lower()? {
            let is_whole = parts.sharding.is_whole();
            let sums = (!is_whole).then(|| ShardSums::new(gpu, steps, parts.sharding, sums, then)).transpose()?;
            segments.push(Segment { shards: vec![kernels], sums, ends });
        }
        for network in others {
            self.use_tensors_of(network)?;
            let pieces = self.lower()?.into_iter();
            segments.iter_mut().zip(pieces).for_each(|(segment, piece)| segment.shards.push(piece.kernels));
        }
        Ok(TrainingStep { segments })
    }

    /// Ends a segment: all that follows needs sums over the shards, and `then` follows these first, once for all shards.
    fn cut(&mut self, then: Vec<Kernel>) {
        self.piece.then = then;
        // The last sum takes along what follows it.
        self.piece.ends.pop();
        self.end_sum();
        self.pieces.push(std::mem::take(&mut self.piece));
    }

    /// Notes that the kernels so far compute another of the segment's sums.
    fn end_sum(&mut self) {
        self.piece.ends.push(self.piece.kernels.len());
    }

    /// Lowers each operation of the plan for a shard, in order.
    fn lower(&mut self) -> Result<Vec<Piece>> {
        let clips = self.parts.clip_norm.is_some();
        let images = self.augmented.as_ref().or(self.network.tensors.images.as_ref());
        if let Some(images) = images {
            let (inputs, augmentation) = (self.parts.data.inputs(), self.parts.augmentation);
            self.piece.kernels.extend(kernels::gather_images(self.gpu, self.steps, inputs, augmentation, images));
        }
        let ops = self.network.plan.training_step(self.clipping.is_some());
        let mut ops = ops.into_iter().peekable();
        while let Some(op) = ops.next() {
            match op {
                Op::Forward(node) if ops.peek() == Some(&Op::Loss) => self.push_outputs_and_loss(node)?,
                Op::Forward(node) => self.push_forward(node)?,
                Op::Loss => {}
                Op::InputGradient(node) => self.push_input_gradient(node)?,
                Op::WeightGradient(node) => {
                    let is_fused = ops.next_if_eq(&Op::Update(node)).is_some();
                    self.push_weight_gradient(node, is_fused)?;
                }
                Op::SquaredNorm(node) => {
                    if let (Some(clipping), Some(d_weights), true) = (&self.clipping, self.stored(node), clips) {
                        let kernel = kernels::sum_of_squares(self.gpu, self.steps, d_weights, clipping);
                        self.after_sums().push(kernel);
                    }
                }
                Op::ClipCoefficient => {
                    let clipping = self.clipping.as_ref().filter(|_| clips);
                    let kernel = clipping.map(|clipping| kernels::clip_coefficient(self.gpu, self.steps, clipping));
                    self.after_sums().extend(kernel);
                }
                Op::Update(node) => self.push_clipped_update(node),
            }
        }
        let updates = std::mem::take(&mut self.updates);
        self.cut(updates);
        Ok(std::mem::take(&mut self.pieces))
    }

    /// Where the kernels go that need the gradients of the whole batch.
    fn after_sums(&mut self) -> &mut Vec<Kernel> {
        if self.parts.sharding.is_whole() { &mut self.piece.kernels } else { &mut self.updates }
    }

    /// Inputs of the first node, where it reads no tensor of the network.
    fn examples(&self, node: usize) -> Option<Inputs<'_>> {
        (node == 0 && self.network.tensors.images.is_none()).then(|| match &self.augmented {
            Some(tensor) => Inputs::Activations(&tensor.matrix),
            None => self.parts.data.inputs(),
        })
    }

    /// Inputs of a matrix product.
    fn inputs(&self, node: usize) -> Option<Inputs<'_>> {
        self.examples(node).or_else(|| {
            let tensor = self.network.input(node, true)?;
            Some(match self.network.plan.nodes[node].operation {
                Operation::Conv2d(window) => Inputs::Patches { images: tensor.into(), window },
                _ => Inputs::Activations(&tensor.matrix),
            })
        })
    }

    /// Adds the kernels of a node's forward pass.
    fn push_forward(&mut self, node: usize) -> Result<()> {
        let Self { network, gpu, steps, .. } = *self;
        if network.plan.nodes[node].operation == Operation::BatchNorm {
            self.push_statistics(node)?;
        }
        let kernel = network.forward(gpu, steps, node, self.examples(node), Pass::Training(&self.statistics));
        self.piece.kernels.extend(kernel);
        Ok(())
    }

    /// Adds the kernels of the statistics of a batch, or, in shards, ends a segment for each sum that they need.
    fn push_statistics(&mut self, index: usize) -> Result<()> {
        let Self { network, gpu, steps, .. } = *self;
        let node = &network.plan.nodes[index];
        let (Some(running), Some(weights), Some(batch), Some(input)) =
            (node.statistics, node.weights, self.statistics[index].clone(), network.input(index, true))
        else {
            return Ok(());
        };
        let running = &network.statistics[running];
        let parts = self.channel_sums(weights, input)?;
        let Some(sums) = self.moments[index].clone() else {
            self.piece.kernels.extend(kernels::batch_statistics(gpu, steps, input, &parts, &batch, running));
            return Ok(());
        };
        let moments = kernels::batch_moments(gpu, steps, input.layout, &sums, &batch, running);
        for (centers, moment) in [running, &batch].into_iter().zip(moments) {
            self.piece.kernels.extend([
                kernels::batch_sums(gpu, steps, input, centers, &parts),
                kernels::sum_parts(gpu, steps, &parts, network.weight_rows[weights], Epilogue::Store(&sums)),
            ]);
            self.piece.sums.push(sums.clone());
            self.end_sum();
            self.cut(vec![moment]);
        }
        Ok(())
    }

    /// Room for partial sums of two numbers for each channel of a node that normalises.
    fn channel_sums(&mut self, weights: usize, input: &Tensor) -> Result<PartialSums> {
        let pixels = self.parts.batch_size * input.layout.shape.positions();
        self.partial_sums(weights, |gpu, weights| kernels::channel_sums(gpu, weights, pixels))
    }

    /// Room for the partial sums of a node with weights.
    fn partial_sums(
        &mut self,
        at: usize,
        new: impl FnOnce(&Gpu, &Matrix) -> Result<PartialSums>,
    ) -> Result<PartialSums> {
        let room = match self.partial_sums[at].take() {
            Some(room) => room,
            None => new(self.gpu, &self.network.weights[at])?,
        };
        Ok(self.partial_sums[at].insert(room).clone())
    }

    /// Adds the kernels of the last layer and of the loss; the gradient takes the place of the logits.
    fn push_outputs_and_loss(&mut self, node: usize) -> Result<()> {
        let Self { network, gpu, steps, .. } = *self;
        let (targets, loss) = (self.parts.targets, self.parts.loss);
        let weights = network.plan.nodes[node].weights.map(|weights| &network.weights[weights]);
        let fused = self.inputs(node).zip(weights).and_then(|(inputs, weights)| {
            kernels::forward_with_loss(gpu, steps, inputs, weights, &network.tensors.logits, targets, loss)
        });
        match fused {
            Some(fused) => self.piece.kernels.push(fused),
            None => {
                self.push_forward(node)?;
                self.piece.kernels.push(kernels::loss(gpu, steps, &network.tensors.logits, targets, loss));
            }
        }
        Ok(())
    }

    /// The gradient by a node's outputs.
    fn d_output(&self, node: usize) -> View<'_> {
        match self.gradients.get(node) {
            Some(Some(tensor)) => tensor.into(),
            _ => (&self.network.tensors.logits).into(),
        }
    }

    /// Adds the kernels of the gradient by a node's inputs.
    fn push_input_gradient(&mut self, index: usize) -> Result<()> {
        let Self { network, gpu, steps, .. } = *self;
        let node = &network.plan.nodes[index];
        if node.operation == Operation::BatchNorm {
            self.push_batch_norm_gradient(index)?;
            if !self.parts.sharding.is_whole() {
                // The gradient by the inputs needs that by scales and shifts.
                self.cut(Vec::new());
            }
        }
        let Some(before) = network.before(index, true) else { return Ok(()) };
        let (d_output, d_input) = (self.d_output(index), self.d_output(before));
        let (Some(input), hidden) = (network.input(index, true), network.hidden(before)) else { return Ok(()) };
        let weights = node.weights.map(|weights| &network.weights[weights]);
        let kernel = match (node.operation, weights) {
            (Operation::Linear, Some(weights)) => {
                kernels::input_gradient(gpu, steps, d_output, weights, input, hidden, d_input)
            }
            (Operation::Conv2d(window), Some(weights)) => {
                kernels::conv2d_input_gradient(gpu, steps, d_output, weights, input, hidden, d_input, window)
            }
            (Operation::BatchNorm, Some(weights)) => {
                let (Some(statistics), Some(d_weights)) = (&self.statistics[index], self.stored(index)) else {
                    return Ok(());
                };
                kernels::batch_norm_input_gradient(
                    gpu, steps, d_output, input, statistics, weights, d_weights, hidden, d_input,
                )
            }
            (Operation::MaxPool2d(window), _) => {
                kernels::max_pool_backward(gpu, steps, d_output, input, window, hidden, d_input)
            }
            _ => {
                let dropout = network.dropout(index);
                kernels::element_wise_backward(gpu, steps, d_output, dropout, input, hidden, d_input)
            }
        };
        self.piece.kernels.push(kernel);
        Ok(())
    }

    /// The stored gradient of a node's weights.
    fn stored(&self, node: usize) -> Option<&Matrix> {
        self.d_weights[self.network.plan.nodes[node].weights?].as_ref()
    }

    /// Makes room for the gradient of a node's weights, which all shards use in turn.
    fn store(&mut self, weights: usize) -> Result<()> {
        if self.d_weights[weights].is_none() {
            let Matrix { rows, columns, .. } = self.network.weights[weights];
            let label = BufferLabel { name: "the gradient of a layer's weights", ..WEIGHTS };
            let matrix = Matrix::new(self.gpu, label, rows, columns)?;
            self.piece.sums.push(matrix.clone());
            self.d_weights[weights] = Some(matrix);
        }
        Ok(())
    }

    /// Adds the kernels of the gradient by scales and shifts. It is stored, as the gradient by the inputs needs it.
    fn push_batch_norm_gradient(&mut self, index: usize) -> Result<()> {
        let Self { network, gpu, steps, .. } = *self;
        let Some(weights) = network.plan.nodes[index].weights else { return Ok(()) };
        self.store(weights)?;
        let Some(input) = network.input(index, true) else { return Ok(()) };
        let sums = self.channel_sums(weights, input)?;
        if let (Some(statistics), Some(d_weights)) = (&self.statistics[index], &self.d_weights[weights]) {
            let rows = network.weight_rows[weights];
            let d_output = self.d_output(index);
            let kernels = [
                kernels::batch_norm_weight_gradient(gpu, steps, input, statistics, d_output, &sums),
                kernels::sum_parts(gpu, steps, &sums, rows, Epilogue::Store(d_weights)),
            ];
            self.piece.kernels.extend(kernels);
            self.end_sum();
        }
        Ok(())
    }

    /// Adds the kernels of the gradient by a node's weights: with the update by it, or storing it for a later one.
    fn push_weight_gradient(&mut self, index: usize, with_update: bool) -> Result<()> {
        let Self { network, gpu, steps, parts, .. } = *self;
        let node = &network.plan.nodes[index];
        let Some(at) = node.weights else { return Ok(()) };
        let (weights, rows) = (&network.weights[at], network.weight_rows[at]);
        let (moments, optimizer) = ([&parts.moments[0][at], &parts.moments[1][at]], parts.optimizer);
        let update = Epilogue::Update { weights, moments, optimizer };
        if node.operation == Operation::BatchNorm {
            // Behind the first node with weights it was stored for the gradient by the inputs.
            if index == network.plan.first_weights() {
                self.push_batch_norm_gradient(index)?;
            }
            if let (true, Some(d_weights)) = (with_update, self.stored(index)) {
                let sums = PartialSums::of_matrix(d_weights);
                self.piece.kernels.push(kernels::sum_parts(gpu, steps, &sums, rows, update));
            }
            return Ok(());
        }
        if !with_update {
            self.store(at)?;
        }
        let sums = match node.operation {
            Operation::Conv2d(_) => {
                let places = parts.batch_size * node.output.positions();
                Some(self.partial_sums(at, |gpu, weights| PartialSums::of_conv2d(gpu, weights, places))?)
            }
            _ => None,
        };
        let Some(inputs) = self.inputs(index) else { return Ok(()) };
        let d_output = self.d_output(index);
        let epilogue = self.d_weights[at].as_ref().map_or(update, Epilogue::Store);
        let kernels = match &sums {
            Some(sums) => {
                let product = kernels::weight_gradient(gpu, steps, inputs, d_output, Epilogue::Parts(sums));
                vec![product, kernels::sum_parts(gpu, steps, sums, rows, epilogue)]
            }
            None => vec![kernels::weight_gradient(gpu, steps, inputs, d_output, epilogue)],
        };
        self.piece.kernels.extend(kernels);
        if !with_update {
            self.end_sum();
        }
        Ok(())
    }

    /// Adds the kernel that updates a node's weights by its clipped gradient.
    fn push_clipped_update(&mut self, node: usize) {
        let Self { network, gpu, steps, parts, .. } = *self;
        let Some(at) = network.plan.nodes[node].weights else { return };
        let moments = [&parts.moments[0][at], &parts.moments[1][at]];
        if let (Some(clipping), Some(d_weights)) = (&self.clipping, &self.d_weights[at]) {
            let weights = &network.weights[at];
            let kernel = kernels::clipped_update(gpu, steps, d_weights, clipping, weights, moments, parts.optimizer);
            self.after_sums().push(kernel);
        }
    }
}
