//! The GPU backend: everything of a step runs on the device; the host records dispatches and reads losses.

mod data_set;
pub mod device;
pub mod kernel;
pub mod kernels;
pub mod matrix;
mod network;
#[cfg(not(target_arch = "wasm32"))]
mod pipeline_cache;
pub mod profile;
pub mod readback;
pub mod self_test;
pub mod tensor;

use std::ops::Range;

pub use device::{AdapterChoice, AdapterEntry, Content, Gpu, REMEDY, adapters};

use data_set::{DataSet, EXAMPLES};
use kernel::{Kernel, StepRecord, StepRecords};
use kernels::{LossKernel, LossKind, Results, Targets};
use matrix::Matrix;
use network::{Network, TrainingParts};
use profile::Profiler;
use readback::{Ring, poll, read_buffer};

use crate::backend::{Backend, DeviceInfo, Epoch, Evaluation, KernelTime, Step, Training, no_training};
use crate::data::{self, Examples};
use crate::error::{Error, Result};
use crate::loss::{Link, Loss, Objective, of_two_classes};
use crate::model::{Parameters, check_fit};
use crate::optimizer::{Optimizer, TrainingState};
use crate::random::step_key;

/// Delivery of the losses of training steps to the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Readback {
    /// Up to 8 steps in a submission and 4 submissions under way: a loss arrives at most 40 steps late, and the
    /// device never waits for the host.
    #[default]
    Pipelined,
    /// Each loss before the next step.
    Blocking,
}

impl Readback {
    /// Steps in a submission, and submissions under way.
    fn depth(self) -> (usize, usize) {
        match self {
            Self::Pipelined => (8, 4),
            Self::Blocking => (1, 1),
        }
    }
}

/// A data set on the device, and the kernels that read it in evaluation.
pub struct Set {
    data: DataSet,
    losses: wgpu::Buffer,
    predictions: wgpu::Buffer,
    correct: wgpu::Buffer,
    /// The one that reads the data set.
    first_kernel: Kernel,
    evaluate: Kernel,
}

/// The part of the backend that only training needs.
struct Trainer {
    data: DataSet,
    optimizer: Optimizer,
    /// Per moment and layer, shaped like its weights; nobody reads those that the optimizer does not have.
    moments: [Vec<Matrix>; 2],
    /// Seed of dropout and augmentation.
    seed: u64,
    /// Steps since the start of training, those that are pending included.
    updates: u64,
    /// The dispatches of a step, in order.
    kernels: Vec<Kernel>,
    /// Steps of the next submission.
    pending: Vec<StepRecord>,
    /// The part of the epoch's order that each of them takes.
    batches: Vec<Range<usize>>,
    steps: StepRecords,
    steps_per_submission: usize,
    /// A step is so long that each of its kernels is submitted alone, and in so many parts, where it is more than 1.
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

/// A model on a GPU.
pub struct GpuBackend {
    gpu: Gpu,
    network: Network,
    /// Evaluation, but for the kernel that reads the data set.
    later_kernels: Vec<Kernel>,
    softmax: Kernel,
    steps: StepRecords,
    loss: Loss,
    trainer: Option<Trainer>,
}

impl GpuBackend {
    /// Puts a model on the device, and with `training` its data set, and compiles what a training step needs; what
    /// evaluation needs is compiled when it is.
    ///
    /// # Errors
    /// [`Error::Invalid`] where data and model do not fit together, or something is larger than the adapter allows;
    /// [`Error::Gpu`] for what the device reports.
    ///
    /// Without `training` the loss is cross-entropy; [`with_loss`](Self::with_loss) takes another.
    pub async fn new(
        gpu: &Gpu,
        parameters: &Parameters,
        training: Option<&Training<'_>>,
        readback: Readback,
    ) -> Result<Self> {
        parameters.check()?;
        let gpu = gpu.clone();
        let network = Network::new(&gpu, parameters, training.map(|training| training.batch_size))?;
        let steps = StepRecords::new(&gpu, 1)?;
        let later_kernels = network.evaluation(&gpu, &steps);
        let softmax = kernels::softmax(&gpu, &steps, &network.logits);
        let loss = training.map_or_else(Loss::default, |training| training.objective.loss);
        let mut backend = Self { gpu, network, later_kernels, softmax, steps, loss, trainer: None };
        check_grids(&backend.gpu, backend.later_kernels.iter().chain([&backend.softmax]), backend.rows_at_once())?;
        if let Some(training) = training {
            backend.trainer = Some(backend.trainer(training, readback)?);
        }
        backend.gpu.check()?;
        Ok(backend)
    }

    /// Sets the loss that the model was trained with, for evaluation and prediction.
    pub fn with_loss(mut self, loss: Loss) -> Self {
        self.loss = loss;
        self
    }

    /// Turns on [`profile`](Backend::profile): the host then waits for every submission.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the adapter has no timestamp queries, or the backend was made without training data.
    pub fn with_profile(mut self) -> Result<Self> {
        let Some(trainer) = &mut self.trainer else { return Err(no_training()) };
        let names = trainer.kernels.iter().map(|kernel| kernel.name);
        trainer.profiler = Some(Profiler::new(&self.gpu, trainer.steps_per_submission, names)?);
        Ok(self)
    }

    fn trainer(&self, training: &Training<'_>, readback: Readback) -> Result<Trainer> {
        let gpu = &self.gpu;
        let batch_size = training.batch_size;
        let epoch = Epoch::new(training)?;
        let objective = &training.objective;
        objective.check(training.examples)?;
        let (steps_per_submission, slots) = readback.depth();
        let operations = self.network.plan.step_operations(batch_size).max(1);
        let steps_per_submission =
            (gpu.submission_operations / operations).clamp(1, steps_per_submission as u64) as usize;
        let data = self.data_set(training.examples, batch_size, steps_per_submission)?;
        let steps = StepRecords::new(gpu, steps_per_submission)?;
        let ring = Ring::new(gpu, slots, steps_per_submission, batch_size)?;

        let targets = Targets { order: &data.order, labels: &data.targets, losses: &ring.losses };
        let class_weights = self.class_weights(objective, training.examples.outputs)?;
        let kind = LossKind::of(objective, &training.examples.targets);
        let loss = LossKernel::new(kind, objective.label_smoothing, &class_weights);
        let example_weights = match &*training.examples.targets {
            data::Targets::Classes(labels) if !objective.class_weights.is_empty() => {
                labels.iter().map(|&label| objective.weight(label)).collect()
            }
            _ => Vec::new(),
        };
        let moment = |index: usize| {
            let is_read = index < training.optimizer.moments();
            self.network.like_weights(gpu, "what the optimizer remembers", is_read)
        };
        let moments = [moment(0)?, moment(1)?];
        let parts = TrainingParts {
            data: &data,
            batch_size,
            optimizer: &training.optimizer,
            moments: &moments,
            clip_norm: training.clip_norm,
            augmentation: training.augmentation.as_ref(),
            targets,
            loss,
        };
        let kernels = self.network.training_step(gpu, &steps, &parts)?;
        check_grids(gpu, &kernels, batch_size)?;
        kernel::compile(gpu, &kernels);
        Ok(Trainer {
            data,
            optimizer: training.optimizer,
            moments,
            seed: training.seed,
            updates: 0,
            kernels,
            pending: Vec::new(),
            batches: Vec::new(),
            steps,
            steps_per_submission,
            parts: operations.div_ceil(gpu.submission_operations),
            readback,
            ring,
            epoch,
            example_weights,
            order_weights: Vec::new(),
            profiler: None,
        })
    }

    /// Brings examples to the device.
    fn data_set(&self, examples: &Examples, batch_size: usize, batches: usize) -> Result<DataSet> {
        check_fit(self.network.plan.input.len(), self.network.logits.columns, self.loss, examples)?;
        DataSet::new(&self.gpu, examples, batch_size, batches)
    }

    /// The weights of so many classes.
    fn class_weights(&self, objective: &Objective<'_>, classes: usize) -> Result<wgpu::Buffer> {
        let mut weights = objective.weights(classes);
        weights.resize(classes.next_multiple_of(4), 0.0);
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let buffer = self.gpu.buffer("the class weights", 4 * weights.len() as u64, usage)?;
        self.gpu.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&weights));
        Ok(buffer)
    }

    /// Rows of a chunk in evaluation; whole blocks of 4.
    fn rows_at_once(&self) -> usize {
        let row_operations = self.network.plan.forward_operations().max(1);
        (self.gpu.submission_operations / row_operations / 4 * 4).clamp(4, self.network.rows as u64) as usize
    }

    /// Runs the model on a data set, chunk by chunk, each followed by `last`.
    async fn chunks(&mut self, set: &Set, last: Last) -> Result<Vec<f32>> {
        let mut outputs = Vec::new();
        let rows = self.rows_at_once();
        for first in (0..set.data.count).step_by(rows) {
            let batch = rows.min(set.data.count - first);
            set.data.bring(&self.gpu, std::slice::from_ref(&(first..first + batch)));
            let record = StepRecord {
                first_block: set.data.first_block(first, 0),
                batch: batch as u32,
                first_row: first as u32,
                weight: batch as f32,
                ..StepRecord::default()
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
                outputs.extend(self.network.logits.read(&self.gpu, batch).await?);
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

impl Trainer {
    /// Submits the pending steps.
    async fn submit(&mut self, gpu: &Gpu, losses: &mut Vec<f32>) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.data.bring(gpu, &self.batches);
        let encoder = if self.parts > 1 && self.profiler.is_none() {
            for &step in &self.pending {
                for kernel in &self.kernels {
                    let parts = self.parts.min(kernel.tile_rows(step.batch).into()) as u32;
                    for part in 0..parts {
                        let encoder = self.steps.record_part(gpu, step, kernel, (part, parts));
                        gpu.submit([encoder.finish()])?;
                    }
                }
            }
            gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
        } else {
            self.steps.record(gpu, &self.pending, self.kernels.iter(), self.profiler.as_ref())
        };
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

/// Refuses a batch that is too large for one of these kernels.
fn check_grids<'a>(gpu: &Gpu, kernels: impl IntoIterator<Item = &'a Kernel>, batch: usize) -> Result<()> {
    kernels.into_iter().try_for_each(|kernel| kernel.check_grid(gpu, batch))
}

impl Backend for GpuBackend {
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
        let losses = gpu.buffer(Content { name: "the losses", ..EXAMPLES }, 4 * count as u64, usage)?;
        let predictions = gpu.buffer(Content { name: "the predictions", ..EXAMPLES }, 4 * count as u64, usage)?;
        let correct = gpu.buffer("the count of right predictions", 4, usage)?;
        let first_kernel = self.network.first_kernel(gpu, &self.steps, &data);
        let first_kernel = first_kernel.ok_or_else(|| gpu.error("no kernel reads the data set"))?;
        let targets = Targets { order: &data.order, labels: &data.targets, losses: &losses };
        let results = Results { predictions: &predictions, correct: &correct };
        let kind = LossKind::of(&Objective { loss: self.loss, ..Objective::default() }, &examples.targets);
        let evaluate = kernels::evaluate(gpu, &self.steps, &self.network.logits, targets, results, kind);
        check_grids(gpu, [&first_kernel, &evaluate], self.rows_at_once())?;
        gpu.check()?;
        Ok(Set { data, losses, predictions, correct, first_kernel, evaluate })
    }

    fn begin_epoch(&mut self, order: &[u32]) -> Result<()> {
        let Some(trainer) = &mut self.trainer else { return Err(no_training()) };
        if !trainer.pending.is_empty() {
            return Err(Error::Invalid("finish the epoch before the next one begins".into()));
        }
        trainer.epoch.begin(order)?;
        trainer.data.set_order(&self.gpu, order);
        if !trainer.example_weights.is_empty() {
            trainer.order_weights.clear();
            trainer.order_weights.extend(order.iter().map(|&example| trainer.example_weights[example as usize]));
        }
        Ok(())
    }

    async fn step(&mut self, step: Step, losses: &mut Vec<f32>) -> Result<()> {
        let Some(trainer) = &mut self.trainer else { return Err(no_training()) };
        trainer.epoch.check(step)?;
        let weight = match &trainer.order_weights[..] {
            [] => step.batch as f32,
            weights => weights[step.first..][..step.batch].iter().map(|&weight| f64::from(weight)).sum::<f64>() as f32,
        };
        trainer.updates += 1;
        let moment_scales = trainer.optimizer.moment_scales(trainer.updates).map(|scale| scale as f32);
        trainer.pending.push(StepRecord {
            first_block: trainer.data.first_block(step.first, trainer.pending.len()),
            batch: step.batch as u32,
            first_row: trainer.ring.first_row(trainer.pending.len()) as u32,
            learning_rate: step.learning_rate,
            weight,
            moment_scales,
            key: step_key(trainer.seed, trainer.updates),
            ..StepRecord::default()
        });
        trainer.batches.push(step.first..step.first + step.batch);
        if trainer.pending.len() == trainer.steps_per_submission {
            trainer.submit(&self.gpu, losses).await?;
            if trainer.readback == Readback::Blocking {
                trainer.ring.drain(&self.gpu, losses).await?;
            }
        }
        Ok(())
    }

    async fn finish(&mut self, losses: &mut Vec<f32>) -> Result<()> {
        let Some(trainer) = &mut self.trainer else { return Ok(()) };
        trainer.submit(&self.gpu, losses).await?;
        trainer.ring.drain(&self.gpu, losses).await
    }

    async fn evaluate(&mut self, set: &Set) -> Result<Evaluation> {
        self.gpu.queue.write_buffer(&set.correct, 0, &[0; 4]);
        self.chunks(set, Last::Evaluate).await?;
        let bytes = 4 * set.data.count as u64;
        let losses: Vec<f32> = read_buffer(&self.gpu, &set.losses, bytes).await?;
        let loss = losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() / losses.len() as f64;
        if let Some(variance) = set.data.variance {
            let squares: Vec<f32> = read_buffer(&self.gpu, &set.predictions, bytes).await?;
            let squared_error = squares.iter().map(|&square| f64::from(square)).sum::<f64>() / squares.len() as f64;
            return Ok(Evaluation::of_values(loss, squared_error, variance));
        }
        let predictions: Vec<u32> = read_buffer(&self.gpu, &set.predictions, bytes).await?;
        let correct: Vec<u32> = read_buffer(&self.gpu, &set.correct, 4).await?;
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

    async fn state(&mut self) -> Result<TrainingState> {
        let Some(trainer) = &self.trainer else { return Err(no_training()) };
        let parameters = self.network.parameters(&self.gpu).await?;
        let mut moments = Vec::new();
        for moment in &trainer.moments[..trainer.optimizer.moments()] {
            moments.push(self.network.read_layers(&self.gpu, moment).await?);
        }
        Ok(TrainingState { parameters, moments, best: None, updates: trainer.updates })
    }

    fn restore(&mut self, state: &TrainingState) -> Result<()> {
        let Some(trainer) = &mut self.trainer else { return Err(no_training()) };
        state.check(self.network.architecture(), trainer.optimizer.moments())?;
        self.network.write_parameters(&self.gpu, &state.parameters)?;
        for (moment, values) in trainer.moments.iter().zip(&state.moments) {
            self.network.write_layers(&self.gpu, moment, values)?;
        }
        trainer.updates = state.updates;
        self.gpu.check()
    }

    fn profile(&self) -> &[KernelTime] {
        self.trainer.as_ref().and_then(|trainer| trainer.profiler.as_ref()).map_or(&[], Profiler::kernels)
    }
}
