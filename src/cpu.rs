//! The CPU backend: the baseline that a GPU has to beat, and the fallback where there is none.
//!
//! The matrix products are those of the `gemm` library, one thread each. What threads share is the rows of a
//! product's result, and they are dealt out here rather than by the library: that was faster at every shape
//! measured, and the pass over the result (activation, its gradient, the update) finds the rows still in its core's cache.

mod activation;
mod convolution;
mod dropout;
mod gather;
mod loss;
mod matmul;
mod network;
mod normalisation;
mod pooling;
mod update;
mod workers;

use std::ops::Range;
use std::sync::Arc;

use crate::augmentation::Augmentation;
use crate::backend::{Backend, DeviceInfo, Epoch, Evaluation, Inference, Step, Training};
use crate::data::{Examples, Targets};
use crate::error::Result;
use crate::loss::{BatchSize, Link, Loss, Objective, of_two_classes, softmax_f32};
use crate::model::{Parameters, Weights};
use crate::optimizer::TrainingState;
use crate::plan::Plan;
use crate::ranks::Ranks;
use crate::shards::Sharding;
use loss::{argmax, loss_and_gradient};
use network::{Mode, Network};
use update::Updater;
use workers::{Workers, arch, arithmetic};

pub use workers::instruction_set;
#[cfg(not(target_arch = "wasm32"))]
pub use workers::limit_instruction_set;

/// A model on the CPU, for evaluation and prediction.
pub struct CpuModel {
    info: DeviceInfo,
    network: Network,
    loss: Loss,
}

/// A model in training on the CPU, with its own copy of the training examples.
pub struct CpuBackend {
    model: CpuModel,
    examples: Examples,
    epoch: Epoch,
    /// Shuffled indices of the epoch, `[examples]`; empty before the first epoch.
    order: Vec<u32>,
    label_smoothing: f32,
    /// `[classes]`, or empty where all are 1.
    class_weights: Vec<f32>,
    updater: Updater,
    sharding: Sharding,
    seed: u64,
    augmentation: Option<Augmentation>,
}

impl CpuModel {
    /// Creates a model with these parameters that was trained with this loss.
    ///
    /// # Errors
    /// [`Invalid`](crate::Error::Invalid) for weights that do not have the shapes of their architecture.
    pub fn new(parameters: &Parameters, loss: Loss) -> Result<Self> {
        Self::with_rows(parameters, loss, 0)
    }

    /// Creates a model with room for training on batches of `batch_size` examples.
    fn with_rows(parameters: &Parameters, loss: Loss, batch_size: usize) -> Result<Self> {
        parameters.check()?;
        Ok(Self { info: device_info(), network: Network::new(parameters.clone(), batch_size), loss })
    }

    /// Computes what [`probabilities`](Inference::probabilities) does; the CPU waits for nothing.
    pub(crate) fn outputs(&mut self, set: &Examples) -> Result<Vec<f32>> {
        let (outputs, link) = (self.network.outputs(), self.loss.link());
        let mut probabilities = Vec::new();
        self.for_each_part(set, |values, _| match link {
            Link::Softmax => {
                arch().dispatch(|| softmax_f32(values, outputs, |_| 0, |_, _| ()));
                probabilities.extend_from_slice(values);
            }
            Link::Sigmoid => probabilities.extend(of_two_classes(values)),
            Link::Identity => probabilities.extend_from_slice(values),
        })?;
        Ok(probabilities)
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
                network.gather(workers, Mode::Evaluation, set, rows, |row| first + row);
                network.forward(workers, Mode::Evaluation, rows)
            })?;
            visit(network.logits(rows), first..first + rows);
        }
        set.check_read()?;
        Ok(())
    }
}

impl CpuBackend {
    /// Creates a model with these initial parameters, in training.
    ///
    /// # Errors
    /// [`Invalid`](crate::Error::Invalid) for weights that do not have the shapes of their architecture, examples with
    /// other features or more classes than the model's, targets that the loss does not apply to, or settings out of
    /// range.
    pub fn new(parameters: &Parameters, training: &Training) -> Result<Self> {
        let batch_size = training.batch_size.min(training.examples.len());
        let model = CpuModel::with_rows(parameters, training.objective.loss, batch_size)?;
        training.check(parameters)?;
        let plan = Plan::new(&parameters.architecture);
        let sharding = Sharding::new(training.shards, training.batch_size);
        Ok(Self {
            model,
            examples: training.examples.clone(),
            epoch: Epoch::new(training),
            order: Vec::new(),
            label_smoothing: training.objective.label_smoothing,
            class_weights: training.objective.class_weights.to_vec(),
            updater: Updater::new(
                training.optimizer,
                training.clip_norm,
                !sharding.is_whole(),
                &plan,
                &parameters.layers,
            ),
            sharding,
            seed: training.seed,
            augmentation: training.augmentation,
        })
    }

    /// Shares the shards of every batch among these ranks.
    ///
    /// # Errors
    /// [`Invalid`](crate::Error::Invalid) unless the number of ranks is a power of two, and there is a shard for each.
    pub fn with_ranks(self, ranks: Arc<dyn Ranks>) -> Result<Self> {
        let sharding = self.sharding.with_ranks(ranks)?;
        Ok(Self { updater: self.updater.with_courier(&sharding), sharding, ..self })
    }
}

impl Inference for CpuModel {
    type Set = Examples;

    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn upload(&mut self, examples: &Examples) -> Result<Examples> {
        self.network.check(self.loss, examples)?;
        Ok(examples.clone())
    }

    async fn evaluate(&mut self, set: &Examples) -> Result<Evaluation> {
        let (outputs, arch) = (self.network.outputs(), arch());
        let objective = Objective { loss: self.loss, ..Objective::default() };
        let mut loss = 0.0;
        let mut predictions = Vec::new();
        let mut squares = 0.0;
        self.for_each_part(set, |values, rows| {
            match (&*set.targets, objective.loss.link()) {
                (Targets::Values(targets), _) => {
                    let errors =
                        values.iter().zip(&targets[rows.start * outputs..]).map(|(value, target)| value - target);
                    squares += errors.map(|error| f64::from(error) * f64::from(error)).sum::<f64>();
                }
                (_, Link::Sigmoid) => predictions.extend(values.iter().map(|&logit| u32::from(logit > 0.0))),
                _ => predictions.extend(values.chunks_exact(outputs).map(argmax)),
            }
            let example = |row| rows.start + row;
            let part = BatchSize { rows: rows.len(), weight: rows.len() as f64 };
            loss += loss_and_gradient(arch, &objective, values, outputs, &set.targets, part, example);
        })?;
        let loss = loss / set.len() as f64;
        match (&*set.targets, set.variance()) {
            (Targets::Classes(labels), _) => {
                let correct = predictions.iter().zip(labels).filter(|(prediction, label)| prediction == label).count();
                Ok(Evaluation { loss, correct, predictions, ..Evaluation::default() })
            }
            (Targets::Values(targets), variance) => {
                Ok(Evaluation::of_values(loss, squares / targets.len() as f64, variance.unwrap_or_default()))
            }
        }
    }

    async fn probabilities(&mut self, set: &Examples) -> Result<Vec<f32>> {
        self.outputs(set)
    }

    async fn parameters(&mut self) -> Result<Parameters> {
        Ok(self.network.parameters.clone())
    }
}

impl Inference for CpuBackend {
    type Set = Examples;

    fn info(&self) -> &DeviceInfo {
        self.model.info()
    }

    fn upload(&mut self, examples: &Examples) -> Result<Examples> {
        self.model.upload(examples)
    }

    async fn evaluate(&mut self, set: &Examples) -> Result<Evaluation> {
        self.model.evaluate(set).await
    }

    async fn probabilities(&mut self, set: &Examples) -> Result<Vec<f32>> {
        self.model.probabilities(set).await
    }

    async fn parameters(&mut self) -> Result<Parameters> {
        self.model.parameters().await
    }
}

impl Backend for CpuBackend {
    fn begin_epoch(&mut self, order: &[u32]) -> Result<()> {
        self.epoch.begin(order)?;
        self.order.clear();
        self.order.extend_from_slice(order);
        Ok(())
    }

    async fn step(&mut self, step: Step, losses: &mut Vec<f32>) -> Result<()> {
        self.epoch.check(step)?;
        let Step { first, batch, learning_rate } = step;
        let Self { model, examples, order, updater, sharding, seed, augmentation, .. } = self;
        let network = &mut model.network;
        updater.updates += 1;
        let cut = sharding.cut(batch);
        let rows = cut.rows();
        examples.ask_ahead(order, &(first + rows.start..first + rows.end), batch);
        let order = &order[first..first + batch];
        let own = &order[cut.rows()];
        let rows = own.len();
        let objective =
            Objective { loss: model.loss, label_smoothing: self.label_smoothing, class_weights: &self.class_weights };
        // As many operations again for the gradients of the weights, and almost as many for those of the inputs.
        let workers = Workers::new(3 * network.forward_operations(rows));
        let mode = Mode::Training { seed: *seed, step: updater.updates, augmentation: augmentation.as_ref(), cut };
        let statistics = network.parameters.statistics.clone();
        let loss = workers.run(|| {
            if rows > 0 {
                network.gather(workers, mode, examples, rows, |row| own[row] as usize);
            }
            // Nothing is learned from a row that could not be read.
            examples.check_read()?;
            network.forward(workers, mode, rows)?;
            let (outputs, targets) = (network.outputs(), &*examples.targets);
            let size = objective.batch_size(batch, |row| targets.target(order[row] as usize, outputs));
            let logits = network.logits(rows);
            let shards: Vec<_> = cut.own().collect();
            let mut loss = [0.0];
            cut.sum(&mut loss, &mut Vec::new(), |shard, loss| {
                let rows = shards[shard].clone();
                let example = |row: usize| own[rows.start + row] as usize;
                let logits = &mut logits[rows.start * outputs..rows.end * outputs];
                loss[0] = loss_and_gradient(workers.arch, &objective, logits, outputs, targets, size, example);
            })?;
            network.backward(workers, mode, cut, updater, learning_rate)?;
            Ok((loss[0] / batch as f64) as f32)
        });
        match loss {
            Ok(loss) => losses.push(loss),
            Err(error) => {
                // No weight is updated before the last sum over the ranks: the step has not been.
                updater.updates -= 1;
                network.parameters.statistics.clone_from(&statistics);
                return Err(error);
            }
        }
        Ok(())
    }

    async fn flush(&mut self, _losses: &mut Vec<f32>) -> Result<()> {
        Ok(()) // every step has run and delivered its loss
    }

    async fn state(&mut self) -> Result<TrainingState> {
        let parameters = &self.model.network.parameters;
        let like_parameters = |values: &[Vec<f32>]| Parameters {
            layers: (parameters.layers.iter().zip(values))
                .map(|(layer, values)| Weights { values: values.clone(), ..*layer })
                .collect(),
            architecture: parameters.architecture.clone(),
            statistics: Vec::new(),
        };
        let Updater { optimizer, ref moments, updates, .. } = self.updater;
        let moments = moments[..optimizer.moments()].iter().map(|moment| like_parameters(moment)).collect();
        Ok(TrainingState { parameters: parameters.clone(), moments, best: None, updates })
    }

    fn any(&self, flag: bool) -> Result<bool> {
        self.sharding.ranks().any(flag)
    }

    fn restore(&mut self, state: &TrainingState) -> Result<()> {
        let Self { updater, model, .. } = self;
        let parameters = &mut model.network.parameters;
        state.check(&parameters.architecture, updater.optimizer.moments())?;
        parameters.clone_from(&state.parameters);
        for (moment, values) in updater.moments.iter_mut().zip(&state.moments) {
            *moment = values.layers.iter().map(|layer| layer.values.clone()).collect();
        }
        updater.updates = state.updates;
        Ok(())
    }
}

/// Description of the CPU and of the code that runs on it.
pub fn device_info() -> DeviceInfo {
    DeviceInfo {
        backend: "cpu",
        name: processor_name(),
        device_type: "cpu",
        // What bits depend on: not the number of threads, nor the width of vectors.
        driver: format!("gemm 0.19, {}, {} {}", arithmetic(), std::env::consts::OS, std::env::consts::ARCH),
    }
}

/// Brand name of the processor, or else its architecture.
fn processor_name() -> String {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    if let Some(brand) = raw_cpuid::CpuId::new().get_processor_brand_string() {
        return brand.as_str().trim().to_owned();
    }
    // A browser does not say which processor it runs on.
    if cfg!(target_arch = "wasm32") { "CPU".into() } else { std::env::consts::ARCH.to_owned() }
}
