//! The GPU backend: everything of a step runs on the device; the host records dispatches and reads losses.

mod compiler;
mod data_set;
pub mod device;
pub mod kernel;
pub mod kernels;
pub mod matmul;
pub mod matrix;
mod network;
#[cfg(not(target_arch = "wasm32"))]
mod pipeline_cache;
pub mod profile;
pub mod readback;
pub mod self_test;
pub mod tensor;
mod uniforms;

use std::ops::Range;
use std::sync::Arc;

pub use device::{AdapterChoice, AdapterEntry, BufferLabel, Gpu, REMEDY, adapters};

use data_set::{DataSet, EXAMPLES};
use kernel::{Kernel, StepUniformBuffer, StepUniforms};
use kernels::{LossKernel, LossKind, Results, Targets};
use matrix::Matrix;
use network::{Dispatch, Network, TrainingParts, TrainingStep};
use profile::Profiler;
use readback::{Reading, Ring, poll};

pub use crate::backend::Readback;

use crate::backend::{Backend, DeviceInfo, Epoch, Evaluation, Inference, KernelTime, Step, Training, check_shards};
use crate::data::Examples;
use crate::error::{Error, Result};
use crate::loss::{Link, Loss, Objective, example_weights, of_two_classes};
use crate::model::{Parameters, check_fit};
use crate::optimizer::{Optimizer, TrainingState};
use crate::random::step_key;
use crate::ranks::{Ranks, partners};
use crate::shards::Sharding;

/// A data set on the device, and the kernels that read it in evaluation.
pub struct Set {
    data: DataSet,
    losses: wgpu::Buffer,
    predictions: wgpu::Buffer,
    correct: wgpu::Buffer,
    /// Kernel that reads the data set.
    first_kernel: Kernel,
    evaluate: Kernel,
}

/// A model on a GPU, for evaluation and prediction.
pub struct GpuModel {
    gpu: Gpu,
    network: Network,
    /// Evaluation, but for the kernel that reads the data set.
    later_kernels: Vec<Kernel>,
    softmax: Kernel,
    steps: StepUniformBuffer,
    loss: Loss,
}

/// A model in training on a GPU.
pub struct GpuBackend {
    model: GpuModel,
    data: DataSet,
    optimizer: Optimizer,
    /// Per moment and layer, shaped like its weights; nobody reads those that the optimizer does not have.
    moments: [Vec<Matrix>; 2],
    /// Seed of dropout and augmentation.
    seed: u64,
    /// Steps since the start of training, those that are pending included.
    updates: u64,
    /// The kernels of a step.
    training_step: TrainingStep,
    /// The cut of every batch.
    sharding: Sharding,
    /// Set when a step failed in which other ranks had a part: nobody knows how far it went.
    is_broken: bool,
    /// Steps of the next submission, with a record for each shard of this rank.
    pending: Vec<StepUniforms>,
    /// Range of each pending step's batch in the epoch's shuffled indices.
    batches: Vec<Range<usize>>,
    steps: StepUniformBuffer,
    steps_per_submission: usize,
    /// Number of submissions that each kernel of a long step is split into; more than 1 only for long steps.
    parts: u64,
    readback: Readback,
    ring: Ring,
    epoch: Epoch,
    /// The weight of each example by its class; empty where all are 1.
    example_weights: Vec<f32>,
    /// The weights in the order of the epoch.
    order_weights: Vec<f32>,
    profiler: Option<Profiler>,
}

impl GpuModel {
    /// Uploads a model that was trained with this loss.
    ///
    /// # Errors
    /// [`Error::Invalid`] for weights that do not have the shapes of their architecture, or if something is larger than
    /// the adapter allows; [`Error::Gpu`] for what the device reports.
    pub async fn new(gpu: &Gpu, parameters: &Parameters, loss: Loss) -> Result<Self> {
        let model = Self::with_batches(gpu, parameters, loss, None)?;
        model.gpu.check()?;
        Ok(model)
    }

    /// Uploads a model with tensors for training on batches of `batch_size` examples, if that is given.
    fn with_batches(gpu: &Gpu, parameters: &Parameters, loss: Loss, batch_size: Option<usize>) -> Result<Self> {
        parameters.check()?;
        let gpu = gpu.clone();
        let network = Network::new(&gpu, parameters, batch_size)?;
        let steps = StepUniformBuffer::new(&gpu, 1)?;
        let later_kernels = network.evaluation(&gpu, &steps);
        let softmax = kernels::softmax(&gpu, &steps, &network.tensors.logits);
        let model = Self { gpu, network, later_kernels, softmax, steps, loss };
        check_grids(&model.gpu, model.later_kernels.iter().chain([&model.softmax]), model.rows_at_once())?;
        Ok(model)
    }

    /// Uploads examples, or prepares their streaming.
    fn data_set(&self, examples: &Examples, batch_size: usize, batches: usize) -> Result<DataSet> {
        check_fit(self.network.plan.input.len(), self.network.tensors.logits.columns, self.loss, examples)?;
        DataSet::new(&self.gpu, examples, batch_size, batches)
    }

    /// Creates and compiles the kernels of a training step.
    fn training_step(
        &self,
        training: &Training<'_>,
        steps: &StepUniformBuffer,
        data: &DataSet,
        moments: &[Vec<Matrix>; 2],
        ring: &Ring,
    ) -> Result<TrainingStep> {
        let (gpu, objective) = (&self.gpu, &training.objective);
        let class_weights = class_weights(gpu, objective, training.examples.outputs)?;
        let kind = LossKind::of(objective, &training.examples.targets);
        let parts = TrainingParts {
            data,
            batch_size: ring.sharding.rows(),
            optimizer: &training.optimizer,
            moments,
            clip_norm: training.clip_norm,
            sharding: &ring.sharding,
            augmentation: training.augmentation.as_ref(),
            targets: Targets { order: &data.order, labels: &data.targets, losses: &ring.losses },
            loss: LossKernel::new(kind, objective.label_smoothing, &class_weights),
        };
        let step = self.network.training_step(gpu, steps, &parts)?;
        check_grids(gpu, step.all(), ring.sharding.rows())?;
        kernel::compile(gpu, step.all());
        Ok(step)
    }

    /// Rows of a chunk in evaluation; whole blocks of 4.
    fn rows_at_once(&self) -> usize {
        let row_operations = self.network.plan.forward_operations().max(1);
        (self.gpu.submission_operations / row_operations / 4 * 4).clamp(4, self.network.tensors.rows as u64) as usize
    }

    /// Runs the model on a data set, chunk by chunk, each followed by `last`.
    async fn chunks(&mut self, set: &Set, last: Last) -> Result<Vec<f32>> {
        let mut outputs = Vec::new();
        let rows = self.rows_at_once();
        for first in (0..set.data.count).step_by(rows) {
            let batch = rows.min(set.data.count - first);
            set.data.upload_batches(&self.gpu, std::slice::from_ref(&(first..first + batch)))?;
            let record = StepUniforms {
                first_block: set.data.first_block(first, 0),
                batch: batch as u32,
                first_row: first as u32,
                weight: batch as f32,
                ..StepUniforms::default()
            };
            let last_kernel = match last {
                Last::Evaluate => Some(&set.evaluate),
                Last::Softmax => Some(&self.softmax),
                Last::Outputs => None,
            };
            let kernels = [&set.first_kernel].into_iter().chain(&self.later_kernels).chain(last_kernel);
            let encoder = self.steps.record(&self.gpu, &[record], kernels, None);
            let submission = self.gpu.submit([encoder.finish()])?;
            poll(&self.gpu, submission)?;
            if last != Last::Evaluate {
                outputs.extend(self.network.tensors.logits.read(&self.gpu, batch).await?);
            }
        }
        Ok(outputs)
    }
}

/// Last kernel of a chunk in evaluation and prediction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Evaluate,
    Softmax,
    Outputs,
}

impl GpuBackend {
    /// Uploads a model with its training examples, and compiles what a training step needs; what evaluation needs is
    /// compiled at the first evaluation.
    ///
    /// # Errors
    /// [`Error::Invalid`] if data, model and settings do not fit together, or something is larger than the adapter
    /// allows; [`Error::Gpu`] for what the device reports.
    pub async fn new(gpu: &Gpu, parameters: &Parameters, training: &Training<'_>, readback: Readback) -> Result<Self> {
        check_shards(training.shards)?;
        let sharding = Sharding::new(training.shards, training.batch_size);
        let model = GpuModel::with_batches(gpu, parameters, training.objective.loss, Some(sharding.rows()))?;
        training.check(parameters)?;
        let batch_size = training.batch_size;
        let (steps_per_submission, slots) = readback.depth();
        let operations = model.network.plan.step_operations(batch_size).max(1);
        let steps_per_submission =
            (gpu.submission_operations / operations).clamp(1, steps_per_submission as u64) as usize;
        let data = model.data_set(training.examples, batch_size, steps_per_submission)?;
        let steps = StepUniformBuffer::new(gpu, steps_per_submission * training.shards)?;
        let ring = Ring::new(gpu, slots, steps_per_submission, batch_size, sharding.clone())?;
        let moment = |index: usize| {
            let is_read = index < training.optimizer.moments();
            model.network.like_weights(gpu, "what the optimizer remembers", is_read)
        };
        let moments = [moment(0)?, moment(1)?];
        let training_step = model.training_step(training, &steps, &data, &moments, &ring)?;
        let backend = Self {
            model,
            data,
            optimizer: training.optimizer,
            moments,
            seed: training.seed,
            updates: 0,
            training_step,
            sharding,
            is_broken: false,
            pending: Vec::new(),
            batches: Vec::new(),
            steps,
            steps_per_submission,
            parts: operations.div_ceil(gpu.submission_operations),
            readback,
            ring,
            epoch: Epoch::new(training),
            example_weights: example_weights(training.examples, training.objective.class_weights)?,
            order_weights: Vec::new(),
            profiler: None,
        };
        gpu.check()?;
        Ok(backend)
    }

    /// Shares the shards of every batch among these ranks. Each step then waits for its loss.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless the number of ranks is a power of two, and there is a shard for each.
    pub fn with_ranks(mut self, ranks: Arc<dyn Ranks>) -> Result<Self> {
        if ranks.size() > 1 {
            self.steps_per_submission = 1;
        }
        self.sharding = self.sharding.with_ranks(ranks)?;
        self.ring.sharding = self.sharding.clone();
        let own = self.sharding.own_count();
        self.training_step.segments.iter_mut().for_each(|segment| segment.shards.truncate(own));
        Ok(self)
    }

    /// Turns on [`profile`](Backend::profile): the host then waits for every submission.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the adapter has no timestamp queries, or batches are cut into shards.
    pub fn with_profile(mut self) -> Result<Self> {
        if !self.sharding.is_whole() {
            return Err(Error::Invalid("a profile times the kernels of whole batches: use `shards` 1".into()));
        }
        let names = self.training_step.all().map(|kernel| kernel.name);
        self.profiler = Some(Profiler::new(&self.model.gpu, self.steps_per_submission, names)?);
        Ok(self)
    }

    /// Submits the pending steps.
    async fn submit(&mut self, losses: &mut Vec<f32>) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.data.upload_batches(&self.model.gpu, &self.batches)?;
        let encoder = if self.sharding.ranks().size() > 1 {
            self.step_with_ranks().await?
        } else {
            self.record(TrainingStep::dispatches)?
        };
        let gpu = &self.model.gpu;
        self.pending.clear();
        let batches: Vec<usize> = self.batches.drain(..).map(|batch| batch.len()).collect();
        let steps = batches.len();
        self.ring.submit(gpu, encoder, batches, losses).await?;
        match &mut self.profiler {
            Some(profiler) => profiler.add(gpu, steps).await,
            None => Ok(()),
        }
    }
}

impl GpuBackend {
    /// Records dispatches of each pending step, or submits them in parts; `of_step` gets the rows of the step's shards.
    fn record(
        &mut self,
        of_step: impl for<'a> Fn(&'a TrainingStep, &[usize]) -> Vec<Dispatch<'a>>,
    ) -> Result<wgpu::CommandEncoder> {
        let Self { model, training_step, sharding, steps, pending, batches, profiler, .. } = self;
        let gpu = &model.gpu;
        let mut dispatches = Vec::new();
        for (step, batch) in batches.iter().enumerate() {
            let first = step * sharding.own_count();
            let rows: Vec<usize> = sharding.cut(batch.len()).own().map(|rows| rows.len()).collect();
            let of_step = of_step(training_step, &rows).into_iter();
            dispatches.extend(of_step.map(|(shard, kernel)| (first + shard, kernel)));
        }
        if self.parts == 1 || profiler.is_some() {
            return Ok(steps.record_each(gpu, pending, dispatches.into_iter(), profiler.as_ref()));
        }
        for (record, kernel) in dispatches {
            let record = pending[record];
            let parts = self.parts.min(kernel.tile_rows(record.batch).into()) as u32;
            for part in 0..parts {
                let encoder = steps.record_part(gpu, record, kernel, (part, parts));
                gpu.submit([encoder.finish()])?;
            }
        }
        Ok(gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default()))
    }

    /// Computes the pending step with the other ranks, up to the last kernels, which it records.
    async fn step_with_ranks(&mut self) -> Result<wgpu::CommandEncoder> {
        let segments = self.training_step.segments.len();
        for segment in 0..segments {
            if segment > 0 {
                let encoder = self.record(|step, _| step.segments[segment - 1].after_sums().collect())?;
                self.model.gpu.submit([encoder.finish()])?;
            }
            self.sum_over_ranks(segment).await?;
        }
        self.record(|step, _| step.segments[segments - 1].after_sums().collect())
    }

    /// Computes the sums of a segment over all ranks. A sum travels while the device computes the next ones. All additions are
    /// the device's own, so that they have the same bits as those of a rank that has all shards.
    async fn sum_over_ranks(&mut self, segment: usize) -> Result<()> {
        let gpu = self.model.gpu.clone();
        let read = |encoder, sum: &Matrix| Reading::start(&gpu, encoder, &sum.buffer, sum.buffer.size());
        let mut readings = Vec::new();
        for index in 0..self.training_step.segments[segment].sums().len() {
            let encoder = self.record(|step, rows| step.segments[segment].up_to_sum(index, rows))?;
            readings.push(read(encoder, &self.training_step.segments[segment].sums()[index])?);
        }
        let Self { training_step, sharding, steps, pending, .. } = self;
        let (ranks, Some(sums)) = (sharding.ranks(), &training_step.segments[segment].sums) else { return Ok(()) };
        let mut partners = partners(ranks.rank(), ranks.size()).peekable();
        while let Some(partner) = partners.next() {
            for (index, reading) in std::mem::take(&mut readings).into_iter().enumerate() {
                let own: Vec<f32> = reading.values(&gpu).await?;
                let mut others = vec![0f32; own.len()];
                ranks.exchange(partner, bytemuck::cast_slice(&own), bytemuck::cast_slice_mut(&mut others))?;
                gpu.queue.write_buffer(&sums.others[index].buffer, 0, bytemuck::cast_slice(&others));
                let encoder = steps.record(&gpu, &pending[..1], sums.add_others[index..=index].iter(), None);
                if partners.peek().is_some() {
                    readings.push(read(encoder, &sums.sums[index])?);
                } else {
                    gpu.submit([encoder.finish()])?;
                }
            }
        }
        Ok(())
    }
}

/// Uploads the class weights of an objective for `classes` classes.
fn class_weights(gpu: &Gpu, objective: &Objective<'_>, classes: usize) -> Result<wgpu::Buffer> {
    let mut weights = objective.weights(classes);
    weights.resize(classes.next_multiple_of(4), 0.0);
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
    let buffer = gpu.buffer("the class weights", 4 * weights.len() as u64, usage)?;
    gpu.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&weights));
    Ok(buffer)
}

/// Refuses a batch that is too large for one of these kernels.
fn check_grids<'a>(gpu: &Gpu, kernels: impl IntoIterator<Item = &'a Kernel>, batch: usize) -> Result<()> {
    kernels.into_iter().try_for_each(|kernel| kernel.check_grid(gpu, batch))
}

impl Inference for GpuModel {
    type Set = Set;

    fn info(&self) -> &DeviceInfo {
        self.gpu.info()
    }

    fn upload(&mut self, examples: &Examples) -> Result<Set> {
        let gpu = &self.gpu;
        let count = examples.len();
        let mut data = self.data_set(examples, self.rows_at_once(), 1)?;
        data.set_order(gpu, &(0..count as u32).collect::<Vec<_>>());

        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let losses = gpu.buffer(BufferLabel { name: "the losses", ..EXAMPLES }, 4 * count as u64, usage)?;
        let predictions = gpu.buffer(BufferLabel { name: "the predictions", ..EXAMPLES }, 4 * count as u64, usage)?;
        let correct = gpu.buffer("the count of right predictions", 4, usage)?;
        let first_kernel = self.network.first_kernel(gpu, &self.steps, &data);
        let first_kernel = first_kernel.ok_or_else(|| gpu.error("no kernel reads the data set"))?;
        let targets = Targets { order: &data.order, labels: &data.targets, losses: &losses };
        let results = Results { predictions: &predictions, correct: &correct };
        let kind = LossKind::of(&Objective { loss: self.loss, ..Objective::default() }, &examples.targets);
        let evaluate = kernels::evaluate(gpu, &self.steps, &self.network.tensors.logits, targets, results, kind);
        check_grids(gpu, [&first_kernel, &evaluate], self.rows_at_once())?;
        gpu.check()?;
        Ok(Set { data, losses, predictions, correct, first_kernel, evaluate })
    }

    async fn evaluate(&mut self, set: &Set) -> Result<Evaluation> {
        self.gpu.queue.write_buffer(&set.correct, 0, &[0; 4]);
        self.chunks(set, Last::Evaluate).await?;
        let bytes = 4 * set.data.count as u64;
        let gpu = &self.gpu;
        let [losses, predictions] = [&set.losses, &set.predictions].map(|buffer| Reading::of(gpu, buffer, bytes));
        let correct = Reading::of(gpu, &set.correct, 4);
        let losses: Vec<f32> = losses?.values(gpu).await?;
        let loss = losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() / losses.len() as f64;
        if let Some(variance) = set.data.variance {
            let squares: Vec<f32> = predictions?.values(gpu).await?;
            let squared_error = squares.iter().map(|&square| f64::from(square)).sum::<f64>() / squares.len() as f64;
            return Ok(Evaluation::of_values(loss, squared_error, variance));
        }
        let predictions: Vec<u32> = predictions?.values(gpu).await?;
        let correct: Vec<u32> = correct?.values(gpu).await?;
        Ok(Evaluation { loss, correct: correct[0] as usize, predictions, ..Evaluation::default() })
    }

    async fn probabilities(&mut self, set: &Set) -> Result<Vec<f32>> {
        match self.loss.link() {
            Link::Softmax => self.chunks(set, Last::Softmax).await,
            Link::Sigmoid => Ok(of_two_classes(&self.chunks(set, Last::Outputs).await?)),
            Link::Identity => self.chunks(set, Last::Outputs).await,
        }
    }

    async fn parameters(&mut self) -> Result<Parameters> {
        self.network.parameters(&self.gpu).await
    }
}

impl Inference for GpuBackend {
    type Set = Set;

    fn info(&self) -> &DeviceInfo {
        self.model.info()
    }

    fn upload(&mut self, examples: &Examples) -> Result<Set> {
        self.model.upload(examples)
    }

    async fn evaluate(&mut self, set: &Set) -> Result<Evaluation> {
        self.model.evaluate(set).await
    }

    async fn probabilities(&mut self, set: &Set) -> Result<Vec<f32>> {
        self.model.probabilities(set).await
    }

    async fn parameters(&mut self) -> Result<Parameters> {
        self.model.parameters().await
    }
}

impl Backend for GpuBackend {
    fn begin_epoch(&mut self, order: &[u32]) -> Result<()> {
        if !self.pending.is_empty() {
            return Err(Error::Invalid("finish the epoch before the next one begins".into()));
        }
        self.epoch.begin(order)?;
        self.data.set_order(&self.model.gpu, order);
        if !self.example_weights.is_empty() {
            self.order_weights.clear();
            self.order_weights.extend(order.iter().map(|&example| self.example_weights[example as usize]));
        }
        Ok(())
    }

    async fn step(&mut self, step: Step, losses: &mut Vec<f32>) -> Result<()> {
        self.epoch.check(step)?;
        let weight = match &self.order_weights[..] {
            [] => step.batch as f32,
            weights => weights[step.first..][..step.batch].iter().map(|&weight| f64::from(weight)).sum::<f64>() as f32,
        };
        self.updates += 1;
        let moment_scales = self.optimizer.moment_scales(self.updates).map(|scale| scale as f32);
        let slot = self.batches.len();
        let (first_block, first_row) = (self.data.first_block(step.first, slot), self.ring.first_row(slot));
        let cut = self.sharding.cut(step.batch);
        let first = cut.rows().start;
        self.pending.extend(cut.own().map(|shard| StepUniforms {
            first_block: first_block + ((first + shard.start) / 4) as u32,
            batch: shard.len() as u32,
            first_row: (first_row + first + shard.start) as u32,
            learning_rate: step.learning_rate,
            weight,
            moment_scales,
            key: step_key(self.seed, self.updates),
            others: (step.batch - shard.len()) as u32,
            batch_row: (first + shard.start) as u32,
            ..StepUniforms::default()
        }));
        self.batches.push(step.first..step.first + step.batch);
        if self.batches.len() == self.steps_per_submission {
            self.is_broken = self.sharding.ranks().size() > 1;
            self.submit(losses).await?;
            if self.readback == Readback::Blocking || self.is_broken {
                self.ring.drain(&self.model.gpu, losses).await?;
            }
            self.is_broken = false;
        }
        Ok(())
    }

    async fn flush(&mut self, losses: &mut Vec<f32>) -> Result<()> {
        self.submit(losses).await?;
        self.ring.drain(&self.model.gpu, losses).await
    }

    async fn state(&mut self) -> Result<TrainingState> {
        if self.is_broken {
            return Err(Error::Invalid("the state after a step that another rank failed in is not known".into()));
        }
        let parameters = self.model.network.parameters(&self.model.gpu).await?;
        let mut moments = Vec::new();
        for moment in &self.moments[..self.optimizer.moments()] {
            moments.push(self.model.network.read_layers(&self.model.gpu, moment).await?);
        }
        Ok(TrainingState { parameters, moments, best: None, updates: self.updates })
    }

    fn any(&self, flag: bool) -> Result<bool> {
        self.sharding.ranks().any(flag)
    }

    fn restore(&mut self, state: &TrainingState) -> Result<()> {
        state.check(self.model.network.architecture(), self.optimizer.moments())?;
        self.model.network.write_parameters(&self.model.gpu, &state.parameters)?;
        for (moment, values) in self.moments.iter().zip(&state.moments) {
            self.model.network.write_layers(&self.model.gpu, moment, values)?;
        }
        self.updates = state.updates;
        self.model.gpu.check()
    }

    fn profile(&self) -> &[KernelTime] {
        self.profiler.as_ref().map_or(&[], Profiler::kernels)
    }
}
