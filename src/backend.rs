//! The traits of a device: [`Inference`] evaluates and predicts, [`Backend`] also trains.

pub use crate::any_backend::{AnyBackend, AnyModel, AnySet};

use crate::augmentation::Augmentation;
use crate::data::Examples;
use crate::error::{Error, Result};
use crate::loss::Objective;
use crate::model::{Parameters, check_fit};
use crate::optimizer::{Optimizer, TrainingState};
use crate::shards::MOST_SHARDS;
use crate::verify::Verification;

/// Everything that a backend needs for training, except the initial parameters.
#[derive(Clone, Copy, Debug)]
pub struct Training<'a> {
    /// The training examples.
    pub examples: &'a Examples,
    /// Upper limit of the examples in a step.
    pub batch_size: usize,
    /// The optimizer.
    pub optimizer: Optimizer,
    /// Upper limit of the global L2 norm of the gradients, above 0 and finite; larger gradients are
    /// [clipped](crate::reference::clip_coefficient).
    pub clip_norm: Option<f32>,
    /// The loss to minimise, with its label smoothing and class weights.
    pub objective: Objective<'a>,
    /// Seed of dropout and augmentation, which draw from the seed, the step and the example: [`random`](crate::random).
    pub seed: u64,
    /// Random augmentation of the images of a batch, before the model reads them.
    pub augmentation: Option<Augmentation>,
    /// Number of shards that the rows of a batch are cut into, a power of two: gradients are summed over each, and then in a
    /// binary tree. The [`ranks`](crate::ranks) of a run share them; 1 for batches that are not cut.
    pub shards: usize,
}

impl<'a> Training<'a> {
    /// Creates training with the default optimizer and cross-entropy, and with nothing else that is optional.
    pub fn new(examples: &'a Examples, batch_size: usize) -> Self {
        Self {
            examples,
            batch_size,
            optimizer: Optimizer::default(),
            clip_norm: None,
            objective: Objective::default(),
            seed: 0,
            augmentation: None,
            shards: 1,
        }
    }

    /// Checks the settings, and that they and the examples fit a model with these parameters.
    pub(crate) fn check(&self, parameters: &Parameters) -> Result<()> {
        if self.batch_size == 0 {
            return Err(Error::Invalid("a step needs at least one example: `batch_size` 1 or more".into()));
        }
        if let Some(norm) = self.clip_norm.filter(|norm| !(*norm > 0.0 && norm.is_finite())) {
            return Err(Error::Invalid(format!("`clip_norm` {norm}: must be above 0 and finite")));
        }
        check_shards(self.shards)?;
        self.optimizer.check()?;
        check_fit(parameters.features(), parameters.outputs(), self.objective.loss, self.examples)?;
        self.objective.check(self.examples)?;
        match self.augmentation {
            Some(Augmentation { image, .. }) if image.len() != self.examples.features => Err(Error::Invalid(format!(
                "augmentation of images of {image}, but the examples have {} features",
                self.examples.features
            ))),
            _ => Ok(()),
        }
    }
}

/// Checks a number of shards.
pub(crate) fn check_shards(shards: usize) -> Result<()> {
    match shards.is_power_of_two() && shards <= MOST_SHARDS {
        true => Ok(()),
        false => Err(Error::Invalid(format!("`shards` {shards}: must be a power of two, at most {MOST_SHARDS}"))),
    }
}

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
    pub(crate) fn depth(self) -> (usize, usize) {
        match self {
            Self::Pipelined => (8, 4),
            Self::Blocking => (1, 1),
        }
    }
}

/// One training step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Start of the batch in the epoch's shuffled indices; a multiple of the batch size.
    pub first: usize,
    /// Examples in the batch: the batch size, or less in the last step of an epoch.
    pub batch: usize,
    /// Learning rate of the step.
    pub learning_rate: f32,
}

/// Loss and predictions of a model on examples with known targets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// Mean loss, without label smoothing and class weights; in nats for the cross-entropies.
    pub loss: f64,
    /// Number of correctly predicted examples.
    pub correct: usize,
    /// Predicted class of each example, `[examples]`: the most probable one, the lowest if several tie. Empty for real
    /// targets.
    pub predictions: Vec<u32>,
    /// Coefficient of determination R² of real targets: the share of their variance that the model explains, 1 − mean
    /// squared error / variance, over all outputs together. `None` where they do not vary, and for classes.
    pub r_squared: Option<f64>,
    /// Mean squared error of real targets, over all outputs together; `None` for classes.
    pub squared_error: Option<f64>,
}

impl Evaluation {
    /// Share of correctly predicted examples, in 0..1; `None` for real targets.
    pub fn accuracy(&self) -> Option<f64> {
        self.squared_error.is_none().then(|| self.correct as f64 / self.predictions.len() as f64)
    }

    /// Builds the evaluation of real targets from mean loss, mean squared error, and the variance of the targets.
    pub(crate) fn of_values(loss: f64, squared_error: f64, variance: f64) -> Self {
        let r_squared = (variance > 0.0).then(|| 1.0 - squared_error / variance);
        Self { loss, r_squared, squared_error: Some(squared_error), ..Self::default() }
    }
}

/// Description of the device that a backend runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// `gpu` or `cpu`.
    pub backend: &'static str,
    /// Name of the adapter or processor.
    pub name: String,
    /// `discrete-gpu`, `integrated-gpu`, `virtual-gpu`, `software` (an adapter implemented on the CPU) or `cpu`.
    pub device_type: &'static str,
    /// Driver or library, with its version.
    pub driver: String,
}

/// Accumulated time of one kernel of the training step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KernelTime {
    /// Name of the kernel.
    pub name: &'static str,
    /// Number of dispatches.
    pub dispatches: u64,
    /// Total time.
    pub seconds: f64,
}

/// A model on a device, for evaluation and prediction.
#[allow(async_fn_in_trait)] // callers are generic over their device and spawn nothing
pub trait Inference {
    /// A data set in the form that the device keeps it in.
    type Set;

    /// Returns the device that the model runs on.
    fn info(&self) -> &DeviceInfo;

    /// Uploads a data set for [`evaluate`](Self::evaluate) and [`probabilities`](Self::probabilities).
    ///
    /// # Errors
    /// [`Invalid`](crate::Error::Invalid) if features or targets do not fit the model, or if the data exceeds the device.
    fn upload(&mut self, examples: &Examples) -> Result<Self::Set>;

    /// Computes loss and predictions on a data set.
    ///
    /// # Errors
    /// Errors of the device.
    async fn evaluate(&mut self, set: &Self::Set) -> Result<Evaluation>;

    /// Computes the probability of every class for every example, `[examples, classes]`, row-major; for a model trained
    /// with [`Link::Identity`](crate::loss::Link::Identity), its outputs, `[examples, outputs]`.
    ///
    /// # Errors
    /// Errors of the device.
    async fn probabilities(&mut self, set: &Self::Set) -> Result<Vec<f32>>;

    /// Reads the current parameters.
    ///
    /// # Errors
    /// Errors of the device.
    async fn parameters(&mut self) -> Result<Parameters>;
}

/// A model in training on a device, with its training examples.
///
/// A step is forward, loss, backward and update. Losses arrive in the order of the steps; a backend may deliver them
/// some steps late, and [`flush`](Self::flush) waits for the rest.
#[allow(async_fn_in_trait)] // the trainer is generic over its backend and spawns nothing
pub trait Backend: Inference {
    /// Starts an epoch whose steps take the training examples in the order of these indices.
    ///
    /// # Errors
    /// [`Invalid`](crate::Error::Invalid) if an index is out of range.
    fn begin_epoch(&mut self, order: &[u32]) -> Result<()>;

    /// Runs one training step, or queues it for a later submission, and appends the mean losses of those steps that
    /// finished meanwhile.
    ///
    /// # Errors
    /// Errors of the device.
    async fn step(&mut self, step: Step, losses: &mut Vec<f32>) -> Result<()>;

    /// Waits until every step has run and appends the remaining losses.
    ///
    /// # Errors
    /// Errors of the device.
    async fn flush(&mut self, losses: &mut Vec<f32>) -> Result<()>;

    /// Reads everything that the steps so far changed. Call [`flush`](Self::flush) first.
    ///
    /// # Errors
    /// Errors of the device.
    async fn state(&mut self) -> Result<TrainingState>;

    /// Restores a state: the next steps give the same bits as those of the backend that the state was read from. Call
    /// [`flush`](Self::flush) first; an epoch that was begun continues.
    ///
    /// # Errors
    /// [`Invalid`](crate::Error::Invalid) if the state belongs to another model or optimizer.
    fn restore(&mut self, state: &TrainingState) -> Result<()>;

    /// Returns true if the flag is set, or on any other rank that trains the same model.
    ///
    /// # Errors
    /// [`Rank`](crate::Error::Rank) if another rank has failed.
    fn any(&self, flag: bool) -> Result<bool> {
        Ok(flag)
    }

    /// Accumulated time of each kernel of a training step, in dispatch order; empty if the backend does not measure it.
    fn profile(&self) -> &[KernelTime] {
        &[]
    }

    /// Result of the verification of the steps; `None` if the backend does not verify them.
    fn verification(&self) -> Option<&Verification> {
        None
    }
}

/// Checks of an epoch and its steps, shared by the backends so that they refuse the same input with the same message.
#[derive(Debug)]
pub(crate) struct Epoch {
    examples: usize,
    batch_size: usize,
    /// Number of examples of the current epoch; 0 before the first.
    length: usize,
}

impl Epoch {
    pub fn new(training: &Training<'_>) -> Self {
        Self { examples: training.examples.len(), batch_size: training.batch_size, length: 0 }
    }

    pub fn begin(&mut self, order: &[u32]) -> Result<()> {
        let examples = self.examples;
        if order.len() > examples {
            return Err(Error::Invalid(format!("an epoch of {} examples, but there are {examples}", order.len())));
        }
        if let Some(index) = order.iter().find(|&&index| index as usize >= examples) {
            return Err(Error::Invalid(format!(
                "the epoch's order names example {index}, but there are {examples}, counted from 0"
            )));
        }
        self.length = order.len();
        Ok(())
    }

    pub fn check(&self, step: Step) -> Result<()> {
        let Step { first, batch, .. } = step;
        let Self { batch_size, length, .. } = *self;
        if batch == 0 || batch > batch_size || first % batch_size != 0 || first.saturating_add(batch) > length {
            return Err(Error::Invalid(format!(
                "a step on {batch} examples from {first} on does not fit an epoch of {length} in batches of {batch_size}"
            )));
        }
        Ok(())
    }
}
