//! The training loop: epochs of shuffled mini-batches, a learning rate for every step, and events that tell an observer
//! what happened. The loop uses backends through their trait only, prints nothing and reads no clock.

mod config;

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

pub use config::{Best, Keep, Position, TrainingConfig};

use crate::backend::{Backend, Evaluation, Step};
use crate::error::{Error, Result};
use crate::model::Parameters;
use crate::optimizer::TrainingState;

/// Start, stop signal and checkpoint interval of a run.
#[derive(Clone, Copy, Debug)]
pub struct RunOptions<'a> {
    /// Start position. Other than at [`Position::START`], the backend's state must be restored first.
    pub from: Position,
    /// Parameters of the best epoch so far, if they are kept: [`TrainingState::best`].
    pub best: Option<&'a Parameters>,
    /// Interval, in steps, of the checkpoints beyond those at the start of the run and after each epoch.
    pub checkpoint_every: Option<NonZeroUsize>,
    /// Stop signal: once it is set, the run completes its step, emits a checkpoint and ends.
    pub stop: &'a AtomicBool,
    /// Weight of each training example, which makes an epoch's loss the weighted mean:
    /// [`example_weights`](crate::loss::example_weights). Empty if all
    /// are 1.
    pub weights: &'a [f32],
}

/// The stop signal of runs that nobody stops.
static NEVER: AtomicBool = AtomicBool::new(false);

impl Default for RunOptions<'_> {
    /// A run from the start to its end, with a checkpoint after each epoch.
    fn default() -> Self {
        Self { from: Position::START, best: None, checkpoint_every: None, stop: &NEVER, weights: &[] }
    }
}

/// Events of a run, in order: for each epoch `EpochStarted`, its `Step`s, `EpochTrained` and `EpochEvaluated`. Epochs
/// and steps count from 1. A `Checkpoint` follows the start of the run, each epoch, and the steps that [`RunOptions`]
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
/// left of them from `options.from` on; returns `None` for a run that was stopped. In the end the backend has the
/// parameters that `config.keep` selects.
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
    options: &RunOptions<'_>,
    observe: impl FnMut(Event<'_>) -> Result<()>,
) -> Result<Option<Summary>> {
    config.check()?;
    config.check_warmup(examples)?;
    let tracker = LossTracker::new(Steps::new(config, examples), options.from)?;
    let best = options.best.cloned();
    TrainingLoop { backend, config, validation, test, options, tracker, best, observe }.run().await
}

/// A run under way.
struct TrainingLoop<'a, B: Backend, O> {
    backend: &'a mut B,
    config: &'a TrainingConfig,
    validation: Option<&'a B::Set>,
    test: &'a B::Set,
    options: &'a RunOptions<'a>,
    tracker: LossTracker<'a>,
    /// Parameters of the best epoch so far, if they are kept.
    best: Option<Parameters>,
    observe: O,
}

/// Evaluation of the model on the validation part, if there is one, and on the test part.
struct Evaluations {
    validation: Option<Evaluation>,
    test: Evaluation,
}

impl<B: Backend, O: FnMut(Event<'_>) -> Result<()>> TrainingLoop<'_, B, O> {
    async fn run(mut self) -> Result<Option<Summary>> {
        if self.options.from == Position::START {
            self.checkpoint().await?;
        }
        for epoch in self.options.from.epoch..=self.config.epochs {
            if self.train_epoch(epoch).await?.is_break() {
                return Ok(None);
            }
            let train_loss = self.tracker.position.loss_sum / self.tracker.weight;
            let evaluations = self.end_epoch(epoch, train_loss).await?;
            self.checkpoint().await?;
            if self.config.ended(&self.tracker.position) {
                return self.conclude(epoch, train_loss, evaluations).await.map(Some);
            }
            if self.is_stopped()? {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// Returns true if the run is to stop, here or on another rank.
    fn is_stopped(&self) -> Result<bool> {
        self.backend.any(self.options.stop.load(Ordering::Relaxed))
    }

    /// Runs what is left of an epoch's steps; breaks, after a checkpoint, if the run is stopped.
    async fn train_epoch(&mut self, epoch: usize) -> Result<ControlFlow<()>> {
        let Steps { examples, .. } = self.tracker.steps;
        (self.observe)(Event::EpochStarted { epoch })?;
        let order = epoch_order(self.config.seed, epoch, examples);
        self.tracker.begin_epoch(&order, self.options.weights);
        self.backend.begin_epoch(&order)?;
        let steps = self.tracker.steps.of_epoch(epoch);
        for index in steps.clone().skip(self.tracker.position.steps) {
            let step = self.tracker.steps.step(index);
            if let Err(error) = self.backend.step(step, &mut self.tracker.arrived).await {
                // A step that another rank fails in has not changed the model.
                let ran = if matches!(error, Error::Rank { .. }) { index } else { index + 1 };
                self.checkpoint_after_error(ran, &error).await;
                return Err(error);
            }
            self.tracker.settle(&mut self.observe)?;
            let stopped = self.is_stopped()?;
            if stopped || self.options.checkpoint_every.is_some_and(|every| (index + 1) % every == 0) {
                self.tracker.flush(self.backend, index + 1, &mut self.observe).await?;
                self.checkpoint().await?;
            }
            if stopped {
                return Ok(ControlFlow::Break(()));
            }
        }
        self.tracker.flush(self.backend, steps.end, &mut self.observe).await?;
        (self.observe)(Event::EpochTrained { epoch })?;
        Ok(ControlFlow::Continue(()))
    }

    /// Evaluates the model after an epoch, notes whether the epoch is the best so far, and moves on to the next one.
    async fn end_epoch(&mut self, epoch: usize, train_loss: f64) -> Result<Evaluations> {
        let evaluations = match self.evaluate().await {
            Ok(evaluations) => evaluations,
            Err(error) => {
                self.checkpoint_after_error(self.tracker.steps.of_epoch(epoch).end, &error).await;
                return Err(error);
            }
        };
        let Evaluations { validation, test } = &evaluations;
        (self.observe)(Event::EpochEvaluated { epoch, train_loss, validation: validation.as_ref(), test })?;
        if !test.loss.is_finite() {
            return Err(Error::NonFiniteTestLoss { epoch, loss: test.loss, base_rate: self.config.learning_rate });
        }
        let best = self.tracker.position.best;
        self.tracker.position = Position { epoch: epoch + 1, best, ..Position::START };
        if (self.config.patience.is_some() || self.config.keep == Keep::Best)
            && let Some(Evaluation { loss, .. }) = *validation
            && best.map_or(loss.is_finite(), |best| loss < best.loss)
        {
            self.tracker.position.best = Some(Best { epoch, loss });
            if self.config.keep == Keep::Best {
                self.best = Some(self.backend.parameters().await?);
            }
        }
        Ok(evaluations)
    }

    /// Restores the best epoch's parameters, if they are kept and not the last ones, and summarises the run.
    async fn conclude(self, epoch: usize, train_loss: f64, mut evaluations: Evaluations) -> Result<Summary> {
        let Position { best, .. } = self.tracker.position;
        if let (Some(parameters), true) = (self.best, best.is_some_and(|best| best.epoch < epoch)) {
            let state = TrainingState { parameters, ..self.backend.state().await? };
            self.backend.restore(&state)?;
            evaluations = evaluate(self.backend, self.validation, self.test).await?;
        }
        let Evaluations { validation, test } = evaluations;
        let steps = self.tracker.steps.of_epoch(epoch).end;
        Ok(Summary { epochs: epoch, steps, train_loss, best, validation, test })
    }

    async fn evaluate(&mut self) -> Result<Evaluations> {
        evaluate(self.backend, self.validation, self.test).await
    }

    /// Emits a checkpoint. Every step so far must have run, and its loss must have arrived.
    async fn checkpoint(&mut self) -> Result<()> {
        let state = TrainingState { best: self.best.clone(), ..self.backend.state().await? };
        if let Some(what) = state.non_finite() {
            let step = self.tracker.settled();
            let learning_rate = self.tracker.steps.step(step.saturating_sub(1)).learning_rate;
            return Err(Error::NonFiniteState { step, what, learning_rate, base_rate: self.config.learning_rate });
        }
        (self.observe)(Event::Checkpoint { position: self.tracker.position, state: &state })
    }

    /// Emits a checkpoint after an error, if the backend still yields its state and the losses of all `ran` steps
    /// arrived, so that the state is known to be the one after these steps.
    async fn checkpoint_after_error(&mut self, ran: usize, error: &Error) {
        // A lost device yields no state, and a device that computes wrong numbers yields none worth keeping.
        let hopeless = matches!(error, Error::DeviceLost { .. } | Error::DeviceHung { .. } | Error::WrongStep { .. });
        if !hopeless && self.tracker.flush(self.backend, ran, &mut self.observe).await.is_ok() {
            let _ = self.checkpoint().await;
        }
    }
}

async fn evaluate<B: Backend>(backend: &mut B, validation_set: Option<&B::Set>, test: &B::Set) -> Result<Evaluations> {
    let validation = match validation_set {
        Some(set) => Some(backend.evaluate(set).await?),
        None => None,
    };
    // A sweep looks at no test part: its validation set stands for it, and is evaluated once.
    let is_validation = validation_set.is_some_and(|set| std::ptr::eq(set, test));
    let test = match &validation {
        Some(evaluation) if is_validation => evaluation.clone(),
        _ => backend.evaluate(test).await?,
    };
    Ok(Evaluations { validation, test })
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
#[derive(Clone, Copy)]
struct Steps<'a> {
    config: &'a TrainingConfig,
    examples: usize,
    per_epoch: usize,
}

impl<'a> Steps<'a> {
    fn new(config: &'a TrainingConfig, examples: usize) -> Self {
        Self { config, examples, per_epoch: examples.div_ceil(config.batch_size.max(1)) }
    }

    /// Number of steps of the whole run.
    fn count(&self) -> usize {
        self.config.epochs.saturating_mul(self.per_epoch)
    }

    /// Number of steps before an epoch (from 1).
    fn before(&self, epoch: usize) -> usize {
        epoch.saturating_sub(1).saturating_mul(self.per_epoch)
    }

    /// Indices of an epoch's steps.
    fn of_epoch(&self, epoch: usize) -> std::ops::Range<usize> {
        self.before(epoch)..self.before(epoch + 1)
    }

    fn step(&self, index: usize) -> Step {
        let first = index % self.per_epoch * self.config.batch_size;
        Step {
            first,
            batch: self.config.batch_size.min(self.examples - first),
            learning_rate: self.config.learning_rate_of(index, self.count()),
        }
    }
}

/// Matches losses with their steps as they arrive.
struct LossTracker<'a> {
    steps: Steps<'a>,
    arrived: Vec<f32>,
    position: Position,
    /// Total weight of the examples of each batch of the epoch; empty if all weights are 1.
    batch_weights: Vec<f64>,
    /// Total weight of the examples of the epoch.
    weight: f64,
}

impl<'a> LossTracker<'a> {
    fn new(steps: Steps<'a>, position: Position) -> Result<Self> {
        let Position { epoch, steps: done, loss_sum, .. } = position;
        let epochs = steps.config.epochs;
        if epoch == 0 || steps.config.ended(&position) || done > steps.per_epoch || !loss_sum.is_finite() {
            return Err(Error::Invalid(format!(
                "there is nothing to train from step {done} of epoch {epoch} on, in a run of {epochs} epochs of {} steps",
                steps.per_epoch
            )));
        }
        Ok(Self { steps, arrived: Vec::new(), position, batch_weights: Vec::new(), weight: steps.examples as f64 })
    }

    /// Adds up the weights of the batches of an epoch with this order.
    fn begin_epoch(&mut self, order: &[u32], weights: &[f32]) {
        if weights.is_empty() {
            return;
        }
        let weight = |batch: &[u32]| batch.iter().map(|&example| f64::from(weights[example as usize])).sum();
        self.batch_weights = order.chunks(self.steps.config.batch_size).map(weight).collect();
        self.weight = self.batch_weights.iter().sum();
    }

    /// Number of steps whose losses arrived.
    fn settled(&self) -> usize {
        self.steps.before(self.position.epoch) + self.position.steps
    }

    fn settle(&mut self, observe: &mut impl FnMut(Event<'_>) -> Result<()>) -> Result<()> {
        for loss in self.arrived.drain(..) {
            let Position { epoch, ref mut steps, ref mut loss_sum, .. } = self.position;
            let index = self.steps.before(epoch) + *steps;
            let Step { batch, learning_rate, .. } = self.steps.step(index);
            let step = index + 1;
            // A step's loss is the mean of its batch by these weights.
            let weight = self.batch_weights.get(*steps).copied().unwrap_or(batch as f64);
            *steps += 1;
            observe(Event::Step { step, epoch, batch, loss, learning_rate })?;
            if !loss.is_finite() {
                return Err(Error::NonFiniteLoss {
                    step,
                    loss,
                    learning_rate,
                    base_rate: self.steps.config.learning_rate,
                });
            }
            *loss_sum += f64::from(loss) * weight;
        }
        Ok(())
    }

    /// Waits until all `ran` steps have run and their losses arrived.
    async fn flush<B: Backend>(
        &mut self,
        backend: &mut B,
        ran: usize,
        observe: &mut impl FnMut(Event<'_>) -> Result<()>,
    ) -> Result<()> {
        backend.flush(&mut self.arrived).await?;
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
    use crate::backend::{DeviceInfo, Inference};
    use crate::data::Examples;

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
        /// Weights of the examples.
        weights: Vec<f32>,
    }

    impl Inference for Recorder {
        type Set = ();

        fn info(&self) -> &DeviceInfo {
            unimplemented!()
        }

        fn upload(&mut self, _: &Examples) -> Result<()> {
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
    }

    impl Backend for Recorder {
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

        async fn flush(&mut self, losses: &mut Vec<f32>) -> Result<()> {
            losses.extend(self.pending.drain(..));
            Ok(())
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
        let options = RunOptions {
            from,
            best: None,
            checkpoint_every: checkpoint_every.and_then(NonZeroUsize::new),
            stop: &stop,
            weights: &backend.weights.clone(),
        };
        let ended = pollster::block_on(train(backend, config, examples, None, &(), &options, |event| {
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
    fn the_loss_of_an_epoch_with_weights_is_the_weighted_mean() {
        let config = TrainingConfig { epochs: 1, batch_size: 4, ..Default::default() };
        let weights: Vec<f32> = (0..10).map(|example| if example < 5 { 3.0 } else { 1.0 }).collect();
        let order = epoch_order(config.seed, 1, 10);
        let of_batch = |batch: &[u32]| batch.iter().map(|&example| f64::from(weights[example as usize])).sum::<f64>();
        let losses = order.chunks(4).zip(1..).map(|(batch, step)| of_batch(batch) / f64::from(step));
        let expected = losses.sum::<f64>() / 20.0;
        for delay in [0, 2, 100] {
            let mut backend = Recorder { delay, weights: weights.clone(), ..Default::default() };
            let (summary, log) = run(&mut backend, &config, 10);
            assert!((summary.unwrap().train_loss - expected).abs() < 1e-6, "{log:?} instead of {expected}");
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
}
