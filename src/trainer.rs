//! The training loop: epochs of shuffled mini-batches, a learning rate for every step, and events that tell an observer
//! what happened. The loop uses backends through their trait only, prints nothing and reads no clock.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::augmentation::Augment;
use crate::backend::{Backend, Evaluation, Step};
use crate::error::{Error, Result};
use crate::loss::{ClassWeights, Loss, check_settings};
use crate::model::{Activation, Architecture, Layer, MAX_VALUES, Parameters, Shape};
use crate::optimizer::{Optimizer, Schedule, Sgd, TrainingState, Warmup};

/// The settings that, with the data, determine a training run: the same settings and data give the same steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingConfig {
    /// Sizes of the hidden layers; empty for softmax regression.
    pub hidden: Vec<usize>,
    /// Activation of the hidden layers.
    #[serde(default)]
    pub activation: Activation,
    /// Every layer except the final linear one; replaces `hidden` and `activation`.
    #[serde(default)]
    pub layers: Option<Vec<Layer>>,
    /// Passes over the training examples.
    pub epochs: usize,
    /// Examples per step.
    pub batch_size: usize,
    /// Base learning rate of the schedule; the peak rate of [`Schedule::OneCycle`].
    pub learning_rate: f32,
    /// The optimizer.
    #[serde(flatten)]
    pub optimizer: Optimizer,
    /// Upper limit of the global L2 norm of the gradients: [`Training::clip_norm`](crate::backend::Training).
    #[serde(default)]
    pub clip_norm: Option<f32>,
    /// Schedule of the learning rate over the run.
    pub schedule: Schedule,
    /// Linear warm-up before the schedule.
    #[serde(default)]
    pub warmup: Option<Warmup>,
    /// Random augmentation of the images of each batch.
    #[serde(default)]
    pub augment: Option<Augment>,
    /// Seed of the initial parameters, the shuffling, the choice of the validation part, dropout and augmentation.
    pub seed: u64,
    /// Share of the training examples that is held out for validation, in 0..1; see
    /// [`Examples::split`](crate::data::Examples::split).
    pub validation: f64,
    /// The loss.
    #[serde(default)]
    pub loss: Loss,
    /// Label smoothing of the cross-entropy: the share of each label that is spread evenly over all classes, in 0..1.
    #[serde(default)]
    pub label_smoothing: f32,
    /// Class weights of the cross-entropies.
    #[serde(default)]
    pub class_weights: Option<ClassWeights>,
    /// Early stopping: the number of epochs without a lower validation loss after which the run ends.
    #[serde(default)]
    pub patience: Option<NonZeroUsize>,
    /// Choice of the parameters that the run ends with.
    #[serde(default)]
    pub keep: Keep,
}

/// Choice of the parameters that a run ends with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// The parameters after the last step.
    #[default]
    Last,
    /// The parameters after the epoch with the lowest validation loss; the first such epoch where several tie.
    Best,
}

impl Default for TrainingConfig {
    /// Settings that do well on digit-like data, with and without hidden layers.
    fn default() -> Self {
        Self {
            hidden: Vec::new(),
            activation: Activation::Relu,
            layers: None,
            epochs: 10,
            batch_size: 64,
            learning_rate: 0.15,
            optimizer: Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 }.into(),
            clip_norm: None,
            schedule: Schedule::Cosine,
            warmup: None,
            augment: None,
            seed: 0,
            validation: 0.0,
            loss: Loss::default(),
            label_smoothing: 0.0,
            class_weights: None,
            patience: None,
            keep: Keep::Last,
        }
    }
}

impl TrainingConfig {
    /// Checks the range of every setting.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the first setting out of range by its flag of `softstep train`.
    pub fn check(&self) -> Result<()> {
        let rules = [
            (
                self.hidden.len() < 1000,
                "--hidden with",
                format!("{} layers", self.hidden.len()),
                "fewer than 1000 layers",
            ),
            (
                self.hidden.iter().all(|size| (1..=MAX_VALUES).contains(size)),
                "--hidden",
                self.hidden.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
                "sizes from 1 to 268435456",
            ),
            (self.epochs >= 1, "--epochs", self.epochs.to_string(), "1 or more"),
            (self.batch_size >= 1, "--batch-size", self.batch_size.to_string(), "1 or more"),
            (
                self.learning_rate > 0.0 && self.learning_rate.is_finite(),
                "--lr",
                self.learning_rate.to_string(),
                "above 0 and finite",
            ),
            (
                self.clip_norm.is_none_or(|norm| norm > 0.0 && norm.is_finite()),
                "--clip-norm",
                self.clip_norm.unwrap_or_default().to_string(),
                "above 0 and finite",
            ),
            (
                (0.0..1.0).contains(&self.validation),
                "--validation",
                self.validation.to_string(),
                "a share: at least 0 and below 1",
            ),
        ];
        if let Some((_, flag, value, rule)) = rules.into_iter().find(|(holds, ..)| !holds) {
            return Err(Error::Invalid(format!("{flag} {value}: must be {rule}")));
        }
        if let Some(Warmup::Share(share)) = self.warmup
            && !(0.0..1.0).contains(&share)
        {
            return Err(Error::Invalid(format!("--warmup {share}: must be a number of steps, or a share below 1")));
        }
        self.augment.map_or(Ok(()), Augment::check)?;
        self.optimizer.check()?;
        check_settings(self.loss, self.label_smoothing, self.class_weights.is_some())?;
        self.class_weights.as_ref().map_or(Ok(()), ClassWeights::check)?;
        if self.validation == 0.0 {
            let without_validation = |flag| {
                Err(Error::Invalid(format!(
                    "{flag} needs a validation loss: hold out a share, as with --validation 0.1"
                )))
            };
            if self.patience.is_some() {
                return without_validation("--patience");
            }
            if self.keep == Keep::Best {
                return without_validation("--keep best");
            }
        }
        Ok(())
    }

    /// Returns true if a run at `position` has finished: every epoch has run, or patience ran out at the end of an
    /// epoch.
    pub fn ended(&self, position: &Position) -> bool {
        let since_best = |patience: NonZeroUsize| {
            let best = position.best.map_or(0, |best| best.epoch);
            position.steps == 0 && position.epoch.saturating_sub(1) >= best.saturating_add(patience.get())
        };
        position.epoch > self.epochs || self.patience.is_some_and(since_best)
    }

    /// Number of training steps of a run on `examples` examples.
    pub fn steps(&self, examples: usize) -> usize {
        Plan::new(self, examples).steps()
    }

    /// Epoch, from 1, and step with index `index`, from 0, of a run on `examples` examples.
    pub fn step_at(&self, index: usize, examples: usize) -> (usize, Step) {
        let plan = Plan::new(self, examples);
        (index / plan.steps_per_epoch.max(1) + 1, plan.step(index))
    }

    /// Checks that a run on `examples` examples has at least one step after its warm-up.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the warm-up and the number of steps of the run.
    pub fn check_warmup(&self, examples: usize) -> Result<()> {
        let steps = self.steps(examples);
        match self.warmup {
            Some(warmup) if steps > 0 && warmup.steps(steps) >= steps => {
                Err(Error::Invalid(format!("--warmup {warmup}: must be fewer than the {steps} steps of the run")))
            }
            _ => Ok(()),
        }
    }

    /// Learning rate of step `step` (from 0) of a run of `steps` steps.
    pub fn learning_rate_of(&self, step: usize, steps: usize) -> f32 {
        match self.warmup {
            Some(warmup) => warmup.learning_rate(self.schedule, self.learning_rate, step, steps),
            None => self.schedule.learning_rate(self.learning_rate, step, steps),
        }
    }

    /// Builds the model of these settings for examples of shape `input`: the configured layers, then a linear layer
    /// with `outputs` outputs.
    ///
    /// The input is flattened if no layer needs images.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the layer that does not fit, after the flag `--layers`.
    pub fn architecture(&self, input: Shape, outputs: usize) -> Result<Architecture> {
        let last = Layer::Linear { outputs };
        let Some(layers) = &self.layers else {
            let hidden = self.hidden.iter();
            let hidden = hidden.flat_map(|&outputs| [Layer::Linear { outputs }, Layer::Activation(self.activation)]);
            return Architecture::new(Shape::Flat(input.len()), hidden.chain([last]));
        };
        let needs_image = |layer: &Layer| matches!(layer, Layer::Conv2d { .. } | Layer::MaxPool2d { .. });
        let input = if layers.iter().any(needs_image) { input } else { Shape::Flat(input.len()) };
        Architecture::new(input, layers.iter().copied().chain([last]))
            .map_err(|error| Error::Invalid(format!("--layers: {error}")))
    }
}

/// Progress of a run between two steps.
///
/// Together with the seed, a position determines the rest of the run: each epoch's shuffling draws from its own stream
/// of the seed, and the learning rate follows from the step. There is no other random state to save.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The current epoch, from 1; after the end of the run, one more than the last epoch.
    pub epoch: usize,
    /// Completed steps of the current epoch. If all of them are complete, the epoch is trained but not evaluated yet.
    pub steps: usize,
    /// Sum over the completed steps of this epoch of mean loss times batch size.
    pub loss_sum: f64,
    /// The best epoch so far, if the settings need it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<Best>,
}

/// The epoch with the lowest validation loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// The epoch, from 1.
    pub epoch: usize,
    /// Validation loss after the epoch.
    pub loss: f64,
}

impl Position {
    /// The position before the first step.
    pub const START: Self = Self { epoch: 1, steps: 0, loss_sum: 0.0, best: None };

    /// Number of steps since the start of a run on `examples` examples.
    pub fn step(&self, config: &TrainingConfig, examples: usize) -> usize {
        Plan::new(config, examples).steps_before(self.epoch).saturating_add(self.steps)
    }
}

/// Start, stop signal and checkpoint interval of a run.
#[derive(Clone, Copy, Debug)]
pub struct Course<'a> {
    /// Start position. Other than at [`Position::START`], the backend's state must be restored first.
    pub from: Position,
    /// Parameters of the best epoch so far, if they are kept: [`TrainingState::best`].
    pub best: Option<&'a Parameters>,
    /// Interval, in steps, of the checkpoints beyond those at the start of the run and after each epoch.
    pub checkpoint_every: Option<NonZeroUsize>,
    /// Stop signal: once it is set, the run completes its step, emits a checkpoint and ends.
    pub stop: &'a AtomicBool,
}

/// Events of a run, in order: for each epoch `EpochStarted`, its `Step`s, `EpochTrained` and `EpochEvaluated`. Epochs
/// and steps count from 1. A `Checkpoint` follows the start of the run, each epoch, and the steps that [`Course`]
/// selects.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// An epoch starts.
    EpochStarted {
        /// The epoch.
        epoch: usize,
    },
    /// The loss of a step arrived. A backend may deliver losses some steps late, but always in order.
    Step {
        /// The step, counted over the whole run.
        step: usize,
        /// The epoch of the step.
        epoch: usize,
        /// Examples in the batch.
        batch: usize,
        /// Mean loss over the batch, before the update.
        loss: f32,
        /// Learning rate of the step.
        learning_rate: f32,
    },
    /// Every step of the epoch has run and every loss arrived; evaluation begins.
    EpochTrained {
        /// The epoch.
        epoch: usize,
    },
    /// The epoch was evaluated.
    EpochEvaluated {
        /// The epoch.
        epoch: usize,
        /// Mean of the losses of the epoch's steps over its examples.
        train_loss: f64,
        /// Evaluation on the validation part, if there is one.
        validation: Option<&'a Evaluation>,
        /// Evaluation on the test part.
        test: &'a Evaluation,
    },
    /// A state that a run can resume from. Every value in it is finite, as was every loss before it.
    Checkpoint {
        /// Position of the run.
        position: Position,
        /// Everything that the steps changed.
        state: &'a TrainingState,
    },
}

/// Result of a finished run.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Completed epochs; fewer than configured if the run ended early.
    pub epochs: usize,
    /// Completed training steps.
    pub steps: usize,
    /// Mean training loss of the last epoch.
    pub train_loss: f64,
    /// The best epoch, if the settings need it.
    pub best: Option<Best>,
    /// Evaluation of the final parameters on the validation part, if there is one.
    pub validation: Option<Evaluation>,
    /// Evaluation of the final parameters on the test part.
    pub test: Evaluation,
}

/// Trains for `config.epochs` epochs on the `examples` training examples that the backend was made with, or for what is
/// left of them from `course.from` on. `None` is a run that was stopped. In the end the backend has the parameters that
/// `config.keep` asks for.
///
/// # Errors
/// [`Error::Invalid`] for settings or a position out of range; [`Error::NonFiniteLoss`] at the first step whose loss is
/// infinite or not a number, after its event; [`Error::NonFiniteState`] instead of a checkpoint that is not finite;
/// [`Error::NonFiniteTestLoss`] if an epoch's test loss is not; what the backend or the observer reports.
pub async fn train<B: Backend>(
    backend: &mut B,
    config: &TrainingConfig,
    examples: usize,
    validation: Option<&B::Set>,
    test: &B::Set,
    course: &Course<'_>,
    mut observe: impl FnMut(Event<'_>) -> Result<()>,
) -> Result<Option<Summary>> {
    config.check()?;
    config.check_warmup(examples)?;
    let plan = Plan::new(config, examples);
    let mut ledger = Ledger::new(&plan, course.from)?;
    let mut best = course.best.cloned();
    if course.from == Position::START {
        hand_out(backend, &ledger, best.as_ref(), &mut observe).await?;
    }
    let stopped = || course.stop.load(Ordering::Relaxed);
    for epoch in course.from.epoch..=config.epochs {
        observe(Event::EpochStarted { epoch })?;
        backend.begin_epoch(&epoch_order(config.seed, epoch, examples))?;
        for index in plan.steps_of(epoch).skip(ledger.position.steps) {
            if let Err(error) = backend.step(plan.step(index), &mut ledger.arrived).await {
                rescue(backend, &mut ledger, index + 1, &error, best.as_ref(), &mut observe).await;
                return Err(error);
            }
            ledger.settle(&mut observe)?;
            if stopped() || course.checkpoint_every.is_some_and(|every| (index + 1) % every == 0) {
                ledger.finish(backend, index + 1, &mut observe).await?;
                hand_out(backend, &ledger, best.as_ref(), &mut observe).await?;
            }
            if stopped() {
                return Ok(None);
            }
        }
        ledger.finish(backend, plan.steps_of(epoch).end, &mut observe).await?;
        let train_loss = ledger.position.loss_sum / examples as f64;
        observe(Event::EpochTrained { epoch })?;

        let (mut of_validation, mut of_test) = match evaluate(backend, validation, test).await {
            Ok(evaluations) => evaluations,
            Err(error) => {
                rescue(backend, &mut ledger, plan.steps_of(epoch).end, &error, best.as_ref(), &mut observe).await;
                return Err(error);
            }
        };
        observe(Event::EpochEvaluated { epoch, train_loss, validation: of_validation.as_ref(), test: &of_test })?;
        if !of_test.loss.is_finite() {
            return Err(Error::NonFiniteTestLoss { epoch, loss: of_test.loss, base_rate: config.learning_rate });
        }
        ledger.position = Position { epoch: epoch + 1, best: ledger.position.best, ..Position::START };
        if (config.patience.is_some() || config.keep == Keep::Best)
            && let Some(Evaluation { loss, .. }) = of_validation
            && ledger.position.best.map_or(loss.is_finite(), |best| loss < best.loss)
        {
            ledger.position.best = Some(Best { epoch, loss });
            if config.keep == Keep::Best {
                best = Some(backend.parameters().await?);
            }
        }
        hand_out(backend, &ledger, best.as_ref(), &mut observe).await?;
        let position = ledger.position;
        if config.ended(&position) {
            if let (Some(parameters), true) = (best, position.best.is_some_and(|best| best.epoch < epoch)) {
                let state = TrainingState { parameters, ..backend.state().await? };
                backend.restore(&state)?;
                (of_validation, of_test) = evaluate(backend, validation, test).await?;
            }
            return Ok(Some(Summary {
                epochs: epoch,
                steps: plan.steps_of(epoch).end,
                train_loss,
                best: position.best,
                validation: of_validation,
                test: of_test,
            }));
        }
        if stopped() {
            return Ok(None);
        }
    }
    Ok(None)
}

/// Evaluates the validation part, if there is one, and the test part.
async fn evaluate<B: Backend>(
    backend: &mut B,
    validation: Option<&B::Set>,
    test: &B::Set,
) -> Result<(Option<Evaluation>, Evaluation)> {
    let validation = match validation {
        Some(set) => Some(backend.evaluate(set).await?),
        None => None,
    };
    Ok((validation, backend.evaluate(test).await?))
}

/// Emits a checkpoint after an error, if the backend still yields its state and the losses of all `ran` steps arrived,
/// so that the state is known to be the one after these steps.
async fn rescue<B: Backend>(
    backend: &mut B,
    ledger: &mut Ledger<'_>,
    ran: usize,
    error: &Error,
    best: Option<&Parameters>,
    observe: &mut impl FnMut(Event<'_>) -> Result<()>,
) {
    // A lost device yields no state, and a device that computes wrong numbers yields none worth keeping.
    let hopeless = matches!(error, Error::DeviceLost { .. } | Error::DeviceHung { .. } | Error::WrongStep { .. });
    if !hopeless && ledger.finish(backend, ran, observe).await.is_ok() {
        let _ = hand_out(backend, ledger, best, observe).await;
    }
}

/// Emits a checkpoint. Every step so far must have run, and its loss must have arrived.
async fn hand_out<B: Backend>(
    backend: &mut B,
    ledger: &Ledger<'_>,
    best: Option<&Parameters>,
    observe: &mut impl FnMut(Event<'_>) -> Result<()>,
) -> Result<()> {
    let state = TrainingState { best: best.cloned(), ..backend.state().await? };
    if let Some(what) = state.non_finite() {
        let step = ledger.settled();
        let learning_rate = ledger.plan.step(step.saturating_sub(1)).learning_rate;
        let base_rate = ledger.plan.config.learning_rate;
        return Err(Error::NonFiniteState { step, what, learning_rate, base_rate });
    }
    observe(Event::Checkpoint { position: ledger.position, state: &state })
}

/// Shuffled indices of the training examples for an epoch (from 1): a permutation of `0..examples`.
///
/// Each epoch draws from its own stream of the seed, so a permutation does not depend on earlier epochs.
pub fn epoch_order(seed: u64, epoch: usize, examples: usize) -> Vec<u32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(epoch as u64);
    let mut order: Vec<u32> = (0..examples as u32).collect();
    order.shuffle(&mut random);
    order
}

/// All steps of a run, by index from 0. The last batch of an epoch may be smaller than the others.
struct Plan<'a> {
    config: &'a TrainingConfig,
    examples: usize,
    steps_per_epoch: usize,
}

impl<'a> Plan<'a> {
    fn new(config: &'a TrainingConfig, examples: usize) -> Self {
        Self { config, examples, steps_per_epoch: examples.div_ceil(config.batch_size.max(1)) }
    }

    fn steps(&self) -> usize {
        self.config.epochs.saturating_mul(self.steps_per_epoch)
    }

    fn steps_before(&self, epoch: usize) -> usize {
        epoch.saturating_sub(1).saturating_mul(self.steps_per_epoch)
    }

    fn steps_of(&self, epoch: usize) -> std::ops::Range<usize> {
        self.steps_before(epoch)..self.steps_before(epoch + 1)
    }

    fn step(&self, index: usize) -> Step {
        let first = index % self.steps_per_epoch * self.config.batch_size;
        Step {
            first,
            batch: self.config.batch_size.min(self.examples - first),
            learning_rate: self.config.learning_rate_of(index, self.steps()),
        }
    }
}

/// Matches losses with their steps as they arrive.
struct Ledger<'a> {
    plan: &'a Plan<'a>,
    arrived: Vec<f32>,
    position: Position,
}

impl<'a> Ledger<'a> {
    fn new(plan: &'a Plan<'a>, position: Position) -> Result<Self> {
        let Position { epoch, steps, loss_sum, .. } = position;
        let epochs = plan.config.epochs;
        if epoch == 0 || plan.config.ended(&position) || steps > plan.steps_per_epoch || !loss_sum.is_finite() {
            return Err(Error::Invalid(format!(
                "there is nothing to train from step {steps} of epoch {epoch} on, in a run of {epochs} epochs of {} steps",
                plan.steps_per_epoch
            )));
        }
        Ok(Self { plan, arrived: Vec::new(), position })
    }

    /// Number of steps whose losses arrived.
    fn settled(&self) -> usize {
        self.plan.steps_before(self.position.epoch) + self.position.steps
    }

    fn settle(&mut self, observe: &mut impl FnMut(Event<'_>) -> Result<()>) -> Result<()> {
        for loss in self.arrived.drain(..) {
            let Position { epoch, ref mut steps, ref mut loss_sum, .. } = self.position;
            let index = self.plan.steps_before(epoch) + *steps;
            let Step { batch, learning_rate, .. } = self.plan.step(index);
            let step = index + 1;
            *steps += 1;
            observe(Event::Step { step, epoch, batch, loss, learning_rate })?;
            if !loss.is_finite() {
                return Err(Error::NonFiniteLoss {
                    step,
                    loss,
                    learning_rate,
                    base_rate: self.plan.config.learning_rate,
                });
            }
            *loss_sum += f64::from(loss) * batch as f64;
        }
        Ok(())
    }

    /// Waits until all `ran` steps have run and their losses arrived.
    async fn finish<B: Backend>(
        &mut self,
        backend: &mut B,
        ran: usize,
        observe: &mut impl FnMut(Event<'_>) -> Result<()>,
    ) -> Result<()> {
        backend.finish(&mut self.arrived).await?;
        self.settle(observe)?;
        if self.settled() != ran {
            return Err(Error::Invalid(format!(
                "the backend reported {} losses for {ran} steps: this is an error in softstep",
                self.settled()
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::backend::DeviceInfo;
    use crate::data::Examples;
    use crate::optimizer::AdamW;

    /// An error that a step returns although the step ran.
    struct Failure {
        step: usize,
        error: fn() -> Error,
        loses_loss: bool,
    }

    /// Test backend that reports the loss `1 / index` for the step `index` (from 1), `delay` steps late, and records
    /// its calls.
    #[derive(Default)]
    struct Recorder {
        delay: usize,
        broken_step: Option<usize>,
        failure: Option<Failure>,
        orders: Vec<Vec<u32>>,
        steps: Vec<Step>,
        pending: VecDeque<f32>,
        /// Stop signal, set after `stop_after` steps.
        stop: AtomicBool,
        stop_after: Option<usize>,
    }

    impl Backend for Recorder {
        type Set = ();

        fn info(&self) -> &DeviceInfo {
            unimplemented!()
        }

        fn upload(&mut self, _: &Examples) -> Result<()> {
            Ok(())
        }

        fn begin_epoch(&mut self, order: &[u32]) -> Result<()> {
            self.orders.push(order.to_vec());
            Ok(())
        }

        async fn step(&mut self, step: Step, losses: &mut Vec<f32>) -> Result<()> {
            self.steps.push(step);
            let index = self.steps.len();
            if self.stop_after == Some(index) {
                self.stop.store(true, Ordering::Relaxed);
            }
            self.pending.push_back(if self.broken_step == Some(index) { f32::NAN } else { 1.0 / index as f32 });
            while self.pending.len() > self.delay {
                losses.extend(self.pending.pop_front());
            }
            match self.failure {
                Some(Failure { step, error, loses_loss }) if step == index => {
                    if loses_loss {
                        self.pending.pop_back();
                    }
                    Err(error())
                }
                _ => Ok(()),
            }
        }

        async fn finish(&mut self, losses: &mut Vec<f32>) -> Result<()> {
            losses.extend(self.pending.drain(..));
            Ok(())
        }

        async fn evaluate(&mut self, (): &()) -> Result<Evaluation> {
            Ok(Evaluation { loss: 0.5, correct: 1, predictions: vec![0, 1], ..Evaluation::default() })
        }

        async fn probabilities(&mut self, (): &()) -> Result<Vec<f32>> {
            unimplemented!()
        }

        async fn parameters(&mut self) -> Result<Parameters> {
            unimplemented!()
        }

        async fn state(&mut self) -> Result<TrainingState> {
            assert!(self.pending.is_empty(), "a checkpoint with steps under way");
            Ok(TrainingState { parameters: Parameters::new(&[1, 2], 0)?, moments: vec![], best: None, updates: 0 })
        }

        fn restore(&mut self, _: &TrainingState) -> Result<()> {
            unimplemented!()
        }
    }

    /// Trains a whole run and returns its result with a log of its events.
    fn run(backend: &mut Recorder, config: &TrainingConfig, examples: usize) -> (Result<Summary>, Vec<String>) {
        let (ended, log) = run_from(backend, config, examples, Position::START, None);
        (ended.map(|summary| summary.expect("nothing stopped it")), log)
    }

    fn run_from(
        backend: &mut Recorder,
        config: &TrainingConfig,
        examples: usize,
        from: Position,
        checkpoint_every: Option<usize>,
    ) -> (Result<Option<Summary>>, Vec<String>) {
        let mut log = Vec::new();
        let stop = std::mem::take(&mut backend.stop);
        let course =
            Course { from, best: None, checkpoint_every: checkpoint_every.and_then(NonZeroUsize::new), stop: &stop };
        let ended = pollster::block_on(train(backend, config, examples, None, &(), &course, |event| {
            log.push(match event {
                Event::EpochStarted { epoch } => format!("start {epoch}"),
                Event::Step { step, epoch, batch, loss, learning_rate } => {
                    assert!(loss.is_nan() || loss == 1.0 / step as f32);
                    assert_eq!(learning_rate, backend_rate(config, examples, step));
                    format!("step {step} of {epoch}, {batch}")
                }
                Event::EpochTrained { epoch } => format!("trained {epoch}"),
                Event::EpochEvaluated { epoch, train_loss, .. } => format!("evaluated {epoch}: {train_loss:.6}"),
                Event::Checkpoint { position: Position { epoch, steps, loss_sum, .. }, .. } => {
                    format!("checkpoint {epoch}+{steps}: {loss_sum:.6}")
                }
            });
            Ok(())
        }));
        (ended, log)
    }

    fn backend_rate(config: &TrainingConfig, examples: usize, step: usize) -> f32 {
        let steps = config.epochs * examples.div_ceil(config.batch_size);
        config.learning_rate_of(step - 1, steps)
    }

    #[test]
    fn every_loss_meets_its_step_however_late_it_comes() {
        let config = TrainingConfig { epochs: 2, batch_size: 4, ..Default::default() };
        // Means over 10 examples in batches of 4, 4 and 2.
        let mean = |a: f64, b: f64, c: f64| (4.0 / a + 4.0 / b + 2.0 / c) / 10.0;
        let expected = [
            "checkpoint 1+0: 0.000000".into(),
            "start 1".into(),
            "step 1 of 1, 4".into(),
            "step 2 of 1, 4".into(),
            "step 3 of 1, 2".into(),
            "trained 1".into(),
            format!("evaluated 1: {:.6}", mean(1.0, 2.0, 3.0)),
            "checkpoint 2+0: 0.000000".into(),
            "start 2".into(),
            "step 4 of 2, 4".into(),
            "step 5 of 2, 4".into(),
            "step 6 of 2, 2".into(),
            "trained 2".into(),
            format!("evaluated 2: {:.6}", mean(4.0, 5.0, 6.0)),
            "checkpoint 3+0: 0.000000".into(),
        ];
        for delay in [0, 2, 100] {
            let mut backend = Recorder { delay, ..Default::default() };
            let (summary, log) = run(&mut backend, &config, 10);
            assert_eq!(log, expected, "losses {delay} steps late");
            assert_eq!(summary.unwrap().steps, 6);
            let batches: Vec<_> = backend.steps.iter().map(|step| (step.first, step.batch)).collect();
            assert_eq!(batches, [(0, 4), (4, 4), (8, 2), (0, 4), (4, 4), (8, 2)]);
            for (index, step) in backend.steps.iter().enumerate() {
                assert_eq!(step.learning_rate, backend_rate(&config, 10, index + 1));
            }
        }
    }

    #[test]
    fn the_first_non_finite_loss_stops_training_with_its_own_step_and_rate() {
        let config = TrainingConfig { epochs: 2, batch_size: 4, ..Default::default() };
        for delay in [0, 2, 100] {
            let mut backend = Recorder { delay, broken_step: Some(5), ..Default::default() };
            let (summary, log) = run(&mut backend, &config, 10);
            let Err(Error::NonFiniteLoss { step, loss, learning_rate, base_rate }) = summary else {
                panic!("{summary:?}")
            };
            assert_eq!((step, learning_rate), (5, backend_rate(&config, 10, 5)));
            assert_eq!(base_rate, config.learning_rate);
            assert!(loss.is_nan());
            assert_eq!(log.last().unwrap(), "step 5 of 2, 4");
        }
    }

    #[test]
    fn after_an_error_the_state_is_handed_out_only_where_it_is_certain_and_good() {
        let config = TrainingConfig { epochs: 2, batch_size: 4, ..Default::default() };
        let failed = || Error::Gpu { adapter: "a".into(), problem: "p".into() };
        let lost = || Error::DeviceLost { adapter: "a".into(), reason: "r".into() };
        for (error, loses_loss, last) in [
            (failed as fn() -> Error, false, "checkpoint 2+2: 1.800000"),
            (failed, true, "step 4 of 2, 4"),
            (lost, false, "start 2"),
        ] {
            let mut backend =
                Recorder { delay: 2, failure: Some(Failure { step: 5, error, loses_loss }), ..Default::default() };
            let (summary, log) = run(&mut backend, &config, 10);
            assert_eq!(summary.unwrap_err().to_string(), error().to_string());
            assert_eq!(log.last().unwrap(), last, "{log:?}");
        }
    }

    #[test]
    fn each_epoch_has_its_own_reproducible_order_of_all_examples() {
        let mut sorted = epoch_order(3, 1, 100);
        sorted.sort_unstable();
        assert!(sorted.iter().copied().eq(0..100));
        assert_eq!(epoch_order(3, 2, 100), epoch_order(3, 2, 100));
        assert_ne!(epoch_order(3, 1, 100), epoch_order(3, 2, 100));
        assert_ne!(epoch_order(3, 1, 100), epoch_order(4, 1, 100));
        let mut backend = Recorder::default();
        let config = TrainingConfig { epochs: 2, seed: 3, ..Default::default() };
        run(&mut backend, &config, 100).0.unwrap();
        assert_eq!(backend.orders, [epoch_order(3, 1, 100), epoch_order(3, 2, 100)]);
    }

    #[test]
    fn settings_out_of_range_are_refused_by_the_name_of_their_flag() {
        let sgd = |momentum, nesterov, weight_decay| Sgd { momentum, nesterov, weight_decay }.into();
        let adamw = |beta1, beta2, epsilon| AdamW { beta1, beta2, epsilon, weight_decay: 0.0 }.into();
        let good = TrainingConfig::default();
        good.check().unwrap();
        for (flag, config) in [
            ("--hidden", TrainingConfig { hidden: vec![8, 0], ..good.clone() }),
            ("--epochs", TrainingConfig { epochs: 0, ..good.clone() }),
            ("--batch-size", TrainingConfig { batch_size: 0, ..good.clone() }),
            ("--lr", TrainingConfig { learning_rate: 0.0, ..good.clone() }),
            ("--lr", TrainingConfig { learning_rate: f32::NAN, ..good.clone() }),
            ("--lr", TrainingConfig { learning_rate: f32::INFINITY, ..good.clone() }),
            ("--momentum", TrainingConfig { optimizer: sgd(1.0, false, 0.0), ..good.clone() }),
            ("--momentum", TrainingConfig { optimizer: sgd(f32::NAN, false, 0.0), ..good.clone() }),
            ("--nesterov", TrainingConfig { optimizer: sgd(0.0, true, 0.0), ..good.clone() }),
            ("--weight-decay", TrainingConfig { optimizer: sgd(0.9, true, -1.0), ..good.clone() }),
            ("--beta1", TrainingConfig { optimizer: adamw(1.0, 0.9, 1e-8), ..good.clone() }),
            ("--beta2", TrainingConfig { optimizer: adamw(0.9, f64::NAN, 1e-8), ..good.clone() }),
            ("--epsilon", TrainingConfig { optimizer: adamw(0.9, 0.9, 0.0), ..good.clone() }),
            ("--clip-norm 0:", TrainingConfig { clip_norm: Some(0.0), ..good.clone() }),
            ("--clip-norm -1:", TrainingConfig { clip_norm: Some(-1.0), ..good.clone() }),
            ("--clip-norm NaN:", TrainingConfig { clip_norm: Some(f32::NAN), ..good.clone() }),
            ("--clip-norm inf:", TrainingConfig { clip_norm: Some(f32::INFINITY), ..good.clone() }),
            ("--validation", TrainingConfig { validation: 1.0, ..good.clone() }),
            ("--label-smoothing", TrainingConfig { label_smoothing: 1.0, ..good.clone() }),
            (
                "--label-smoothing",
                TrainingConfig { label_smoothing: 0.1, loss: Loss::BinaryCrossEntropy, ..good.clone() },
            ),
            (
                "--class-weights",
                TrainingConfig { class_weights: Some(ClassWeights::Each(vec![1.0, 0.0])), ..good.clone() },
            ),
            (
                "--class-weights",
                TrainingConfig { class_weights: "balanced".parse().ok(), loss: Loss::MeanSquaredError, ..good.clone() },
            ),
            ("--warmup 1.5:", TrainingConfig { warmup: Some(Warmup::Share(1.5)), ..good.clone() }),
            (
                "--augment scale=1:",
                TrainingConfig { augment: Some(Augment { scale: 1.0, ..Augment::default() }), ..good.clone() },
            ),
            ("--patience", TrainingConfig { patience: NonZeroUsize::new(3), ..good.clone() }),
            ("--keep best", TrainingConfig { keep: Keep::Best, ..good.clone() }),
        ] {
            let message = config.check().unwrap_err().to_string();
            assert!(message.starts_with(flag), "{message}");
        }
    }
}
