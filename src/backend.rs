//! What a backend is: the device side of training, evaluation and prediction.

use crate::augmentation::Augmentation;
use crate::data::Examples;
use crate::error::{Error, Result};
use crate::loss::Objective;
use crate::model::Parameters;
use crate::optimizer::{Optimizer, TrainingState};
use crate::verify::Verification;

/// What a backend needs to train, beside the initial parameters.
#[derive(Clone, Copy, Debug)]
pub struct Training<'a> {
    /// The examples that steps draw from.
    pub examples: &'a Examples,
    /// The most examples in a step.
    pub batch_size: usize,
    /// The optimizer.
    pub optimizer: Optimizer,
    /// The most that the L2 norm of all gradients together may be; those of a larger one are
    /// [clipped](crate::reference::clip_coefficient). Above 0 and finite.
    pub clip_norm: Option<f32>,
    /// What to make small.
    pub objective: Objective<'a>,
    /// Seed of dropout and augmentation, which draw from it, the step and the example: [`random`](crate::random).
    pub seed: u64,
    /// Random change of the images of a batch, before the model reads them.
    pub augmentation: Option<Augmentation>,
}

/// One training step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Where its batch starts in the epoch's order; a multiple of the batch size.
    pub first: usize,
    /// Examples in its batch: the batch size, or less in the last step of an epoch.
    pub batch: usize,
    /// Its learning rate.
    pub learning_rate: f32,
}

/// What a model makes of a data set whose targets are known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// The mean loss, without label smoothing and class weights: in nats for the cross-entropies.
    pub loss: f64,
    /// How many examples were predicted right.
    pub correct: usize,
    /// The predicted class of each example, `[examples]`: the most probable, the lowest where several are. Empty where
    /// the targets are real values.
    pub predictions: Vec<u32>,
    /// Of real-valued targets the coefficient of determination R²: the share of their variance that the model explains,
    /// 1 − mean squared error / variance, all outputs together.
    pub r_squared: Option<f64>,
}

impl Evaluation {
    /// Share of examples predicted right, in 0..1; `None` where the targets are real values.
    pub fn accuracy(&self) -> Option<f64> {
        self.r_squared.is_none().then(|| self.correct as f64 / self.predictions.len() as f64)
    }

    /// The evaluation on real values that vary so much.
    pub(crate) fn of_values(loss: f64, variance: f64) -> Self {
        Self { loss, correct: 0, predictions: Vec::new(), r_squared: Some(1.0 - loss / variance) }
    }
}

/// Where a backend runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// `gpu` or `cpu`.
    pub backend: &'static str,
    /// The adapter's or processor's name.
    pub name: String,
    /// `discrete-gpu`, `integrated-gpu`, `virtual-gpu`, `software` (an adapter that is a program on the CPU)
    /// or `cpu`.
    pub device_type: &'static str,
    /// Driver or library, with its version.
    pub driver: String,
}

/// What one kernel of a training step took so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KernelTime {
    /// The kernel.
    pub name: &'static str,
    /// How often it ran.
    pub dispatches: u64,
    /// How long, in all.
    pub seconds: f64,
}

/// A model on a device, with the data it trains on.
///
/// One step is: forward, loss, backward and update. Losses come back in the order of the steps; a backend may
/// deliver them some steps late, and [`finish`](Self::finish) waits for the rest.
#[allow(async_fn_in_trait)] // the trainer is generic over its backend and spawns nothing
pub trait Backend {
    /// A data set where this backend keeps it.
    type Set;

    /// Where it runs.
    fn info(&self) -> &DeviceInfo;

    /// Brings a data set to the device, for [`evaluate`](Self::evaluate) and
    /// [`probabilities`](Self::probabilities).
    ///
    /// # Errors
    /// [`Invalid`](crate::Error::Invalid) where features or classes are not the model's, or it does not fit.
    fn upload(&mut self, examples: &Examples) -> Result<Self::Set>;

    /// Starts an epoch: steps take the training examples in this order.
    ///
    /// # Errors
    /// [`Invalid`](crate::Error::Invalid) if the backend was made without [`Training`], or an index is out of range.
    fn begin_epoch(&mut self, order: &[u32]) -> Result<()>;

    /// Runs one training step and appends the mean losses of those steps that finished meanwhile.
    ///
    /// # Errors
    /// What the device reports.
    async fn step(&mut self, step: Step, losses: &mut Vec<f32>) -> Result<()>;

    /// Waits until every step has run and appends the remaining losses.
    ///
    /// # Errors
    /// What the device reports.
    async fn finish(&mut self, losses: &mut Vec<f32>) -> Result<()>;

    /// Loss and predictions on a data set.
    ///
    /// # Errors
    /// What the device reports.
    async fn evaluate(&mut self, set: &Self::Set) -> Result<Evaluation>;

    /// The probability of every class for every example, `[examples, classes]`, row-major; of a model trained with mean
    /// squared error its outputs, `[examples, outputs]`.
    ///
    /// # Errors
    /// What the device reports.
    async fn probabilities(&mut self, set: &Self::Set) -> Result<Vec<f32>>;

    /// The parameters as they are now.
    ///
    /// # Errors
    /// What the device reports.
    async fn parameters(&mut self) -> Result<Parameters>;

    /// Everything that the steps so far changed. Call it after [`finish`](Self::finish).
    ///
    /// # Errors
    /// [`Invalid`](crate::Error::Invalid) if the backend was made without [`Training`]; what the device reports.
    async fn state(&mut self) -> Result<TrainingState>;

    /// Goes on from this state: the next steps give the same bits as those of the backend it was taken from.
    /// Call it after [`finish`](Self::finish); the epoch that was begun goes on.
    ///
    /// # Errors
    /// [`Invalid`](crate::Error::Invalid) if the backend was made without [`Training`], or the state is that of another
    /// model or optimizer.
    fn restore(&mut self, state: &TrainingState) -> Result<()>;

    /// What each kernel of a training step took, in the order they run; empty where that was not measured.
    fn profile(&self) -> &[KernelTime] {
        &[]
    }

    /// What was verified of its steps, if any were to be.
    fn verification(&self) -> Option<&Verification> {
        None
    }
}

/// The steps that an epoch allows. Backends share it, so that they refuse the same in the same words.
#[derive(Debug)]
pub(crate) struct Epoch {
    examples: usize,
    batch_size: usize,
    /// Examples of the epoch that was begun; 0 before the first.
    length: usize,
}

impl Epoch {
    pub fn new(training: &Training<'_>) -> Result<Self> {
        if training.batch_size == 0 {
            return Err(Error::Invalid("a step needs at least one example: --batch-size 1 or more".into()));
        }
        if let Some(norm) = training.clip_norm.filter(|norm| !(*norm > 0.0 && norm.is_finite())) {
            return Err(Error::Invalid(format!("--clip-norm {norm}: must be above 0 and finite")));
        }
        Ok(Self { examples: training.examples.len(), batch_size: training.batch_size, length: 0 })
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

/// What a backend says to a step if it was made without [`Training`].
pub(crate) fn no_training() -> Error {
    Error::Invalid("this backend was made without training data: it can evaluate and predict, not train".into())
}
