//! A run of a sweep: trained without a run folder, up to a share of its epochs, and measured on the validation part alone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use softstep::Error;
use softstep::any_backend::Device;
use softstep::backend::{Backend, Evaluation, Inference};
use softstep::gpu::Readback;
use softstep::range_test::range_test;
use softstep::trainer::{self, Event, Keep, Position, RunOptions};
use softstep::{checkpoint, error};

use super::space::Choice;
use crate::commands::train::options::TrainArgs;
use crate::commands::train::{Prepared, SharedData};
use crate::flags::with_flags;
use crate::run::checkpoints::Checkpoint;

/// A run of a sweep.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Number in the sweep, from 1.
    pub number: usize,
    /// Values of the settings.
    pub choice: Choice,
    /// Arguments of the run alone.
    pub args: TrainArgs,
    /// Result of a smaller share of its epochs.
    pub before: Option<Ended>,
}

/// Result of a run, or of a share of its epochs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// Number of the run, from 1.
    pub run: usize,
    /// Arguments of the run alone.
    pub arguments: Vec<String>,
    /// The share of its epochs that it was given: one `share`-th.
    pub share: usize,
    /// Trained epochs.
    pub epochs: usize,
    /// Epochs of the whole run.
    pub of_epochs: usize,
    /// True if the run has come to its end.
    pub finished: bool,
    /// Loss on the validation part; `None` if the run failed.
    pub loss: Option<f64>,
    /// Accuracy or R² on the validation part.
    pub quality: Option<f64>,
    /// True if `quality` is an R².
    pub real_values: bool,
    /// SHA-256 of the parameters that a finished run keeps.
    pub parameters_sha256: Option<String>,
    /// Error that ended the run.
    pub problem: Option<String>,
    /// Time that this share took.
    pub seconds: f64,
    /// Time since the start of the sweep.
    pub elapsed: f64,
}

/// A trained share of a run.
pub struct Trained {
    /// Result of the share; `None` if it was stopped before its end.
    pub ended: Option<Ended>,
    /// State that the run ended or stopped in; `None` if it failed or was not trained any further.
    pub state: Option<Checkpoint>,
}

/// Trains a run up to one `share`-th of its epochs, from the state that an earlier share ended or stopped in, the bytes of
/// a checkpoint, if it is this run's.
pub async fn train(
    data: &SharedData,
    device: &Device,
    trial: &Trial,
    share: usize,
    state: Option<&[u8]>,
    stop: &AtomicBool,
) -> Result<Trained> {
    let started = Instant::now();
    let prepared = data.prepare(&trial.args);
    let trained = match prepared {
        Ok(prepared) => Run { prepared: &prepared, trial, share, state, stop, started }.train(device).await,
        Err(error) => Err(error),
    };
    match trained {
        Err(error) if is_own_fault(&error) => {
            let problem = with_flags(&error::printable(&format!("{error:#}"), 300));
            let ended = Ended { problem: Some(problem), finished: true, ..nothing(trial, share, started) };
            Ok(Trained { ended: Some(ended), state: None })
        }
        trained => trained,
    }
}

/// Returns true for an error that the settings of a run make, so that other runs may do better.
fn is_own_fault(error: &anyhow::Error) -> bool {
    let is_own = |error: &Error| {
        matches!(
            error,
            Error::Invalid(_)
                | Error::NonFiniteLoss { .. }
                | Error::NonFiniteState { .. }
                | Error::NonFiniteTestLoss { .. }
                | Error::DeviceMemory { .. }
        )
    };
    error.chain().filter_map(|cause| cause.downcast_ref::<Error>()).any(is_own)
}

fn nothing(trial: &Trial, share: usize, started: Instant) -> Ended {
    Ended {
        run: trial.number,
        arguments: trial.args.arguments.clone(),
        share,
        epochs: 0,
        of_epochs: 0,
        finished: false,
        loss: None,
        quality: None,
        real_values: false,
        parameters_sha256: None,
        problem: None,
        seconds: started.elapsed().as_secs_f64(),
        elapsed: 0.0,
    }
}

/// A prepared run of a sweep.
struct Run<'a> {
    prepared: &'a Prepared,
    trial: &'a Trial,
    share: usize,
    state: Option<&'a [u8]>,
    stop: &'a AtomicBool,
    started: Instant,
}

impl Run<'_> {
    async fn train(&self, device: &Device) -> Result<Trained> {
        let Self { prepared, trial, .. } = *self;
        let limit = prepared.config.epochs.div_ceil(self.share);
        if let Some(ended) = trial.before.as_ref().filter(|ended| ended.epochs >= limit) {
            // A smaller share was rounded up to the same number of epochs.
            let ended = Ended { share: self.share, ..ended.clone() };
            return Ok(Trained { ended: Some(ended), state: None });
        }
        let training = prepared.training()?;
        let Some(validation) = &prepared.validation else { bail!("a sweep needs a validation part: --validation 0.2") };
        let mut backend = device.for_training(&prepared.parameters, &training, Readback::Pipelined).await?;
        let examples = training.examples.len();
        let before = self.read_state().filter(|(found, _)| found.position.epoch <= limit);
        let mut config = before.as_ref().map_or_else(|| prepared.config.clone(), |(found, _)| found.config.clone());
        if before.is_none() && trial.args.finds_rate() {
            config.learning_rate = range_test(&mut backend, &config, examples).await?.learning_rate;
        }
        let validation = backend.upload(validation)?;
        let (mut position, mut best) = (Position::START, None);
        if let Some((found, state)) = &before {
            backend.restore(state)?;
            (position, best) = (found.position, state.best.clone());
        }
        let pause = AtomicBool::new(false);
        let mut seen = Seen::default();
        let info = backend.info().clone();
        let observe = |event: Event<'_>| {
            match event {
                Event::Step { .. } => pause.store(self.stop.load(Ordering::Relaxed), Ordering::Relaxed),
                Event::EpochEvaluated { epoch, validation, .. } => {
                    seen.validation = validation.cloned();
                    if epoch >= limit {
                        pause.store(true, Ordering::Relaxed);
                    }
                }
                Event::Checkpoint { position, state } => {
                    if pause.load(Ordering::Relaxed) || config.ended(&position) {
                        let step = position.step(&config, examples);
                        let metadata = prepared.metadata(&info, position, step);
                        seen.last = Some((checkpoint::Metadata { config: config.clone(), ..metadata }, state.clone()));
                    }
                }
                Event::EpochStarted { .. } | Event::EpochTrained { .. } => {}
            }
            Ok(())
        };
        // A trial is judged by its validation loss: training losses need no weights.
        let options =
            RunOptions { from: position, best: best.as_ref(), checkpoint_every: None, stop: &pause, weights: &[] };
        let summary =
            trainer::train(&mut backend, &config, examples, Some(&validation), &validation, &options, observe).await?;
        let Seen { validation, last } = seen;
        let (metadata, state) = last.context("the run ended without its state")?;
        let ended = |evaluation: &Evaluation, best: Option<f64>| Ended {
            epochs: metadata.position.epoch - 1,
            of_epochs: config.epochs,
            loss: best.or(Some(evaluation.loss)).filter(|loss| loss.is_finite()),
            quality: evaluation.accuracy().or(evaluation.r_squared).filter(|quality| quality.is_finite()),
            real_values: evaluation.accuracy().is_none(),
            ..nothing(trial, self.share, self.started)
        };
        if let Some(summary) = summary {
            let evaluation = summary.validation.context("the run has no validation loss")?;
            let sha256 = state.best.as_ref().unwrap_or(&state.parameters).sha256();
            let ended = Ended { finished: true, parameters_sha256: Some(sha256), ..ended(&evaluation, None) };
            return Ok(Trained { ended: Some(ended), state: Some((metadata, state)) });
        }
        let ended = validation.filter(|_| metadata.position.epoch > limit).map(|evaluation| {
            let best = metadata.position.best.filter(|_| config.keep == Keep::Best).map(|best| best.loss);
            ended(&evaluation, best)
        });
        Ok(Trained { ended, state: Some((metadata, state)) })
    }

    /// The state that an earlier share of the run ended in; `None` if it is not there or is another run's.
    fn read_state(&self) -> Option<Checkpoint> {
        let (found, state) = checkpoint::from_safetensors("state", self.state?).ok()?;
        let config = &self.prepared.config;
        // A rate that a range test found is in the state alone.
        let rate = if self.trial.args.finds_rate() { found.config.learning_rate } else { config.learning_rate };
        let same = found.config == config.clone().learning_rate(rate)
            && found.architecture == self.prepared.architecture
            && found.data_sha256 == self.prepared.data_sha256;
        same.then_some((found, state))
    }
}

/// Evaluation and state that a run came by last.
#[derive(Default)]
struct Seen {
    /// Last evaluation on the validation part.
    validation: Option<Evaluation>,
    /// Last state that a share of the run may end in.
    last: Option<Checkpoint>,
}
