//! Runner of the lesson's experiments: evaluates and trains models on the device that the user chose.

use std::sync::atomic::AtomicBool;

use softstep::any_backend::{AnyBackend, Device};
use softstep::backend::{Backend, Evaluation, Inference, Step, Training};
use softstep::data::Examples;
use softstep::gpu::Readback;
use softstep::loss::{Loss, Objective};
use softstep::model::{Activation, Architecture, Parameters, Shape};
use softstep::trainer::{self, Event, Position, RunOptions, TrainingConfig};
use softstep::{Error, Result};

/// A device for experiments.
pub struct Runner {
    /// The device.
    pub device: Device,
}

/// Results of a training run.
#[derive(Clone, Debug)]
pub struct Trained {
    /// Loss of every step.
    pub losses: Vec<f32>,
    /// Evaluation on the test part after each epoch.
    pub tests: Vec<Evaluation>,
    /// [`Runner::outputs`] for the test part, before the first epoch and after each.
    pub outputs: Vec<Vec<f32>>,
    /// Final parameters.
    pub parameters: Parameters,
}

impl Trained {
    /// Outputs after the last epoch.
    pub fn last_outputs(&self) -> &[f32] {
        self.outputs.last().map_or(&[], Vec::as_slice)
    }

    /// Test loss after the last epoch.
    pub fn test_loss(&self) -> f64 {
        self.tests.last().map_or(f64::NAN, |test| test.loss)
    }
}

impl Runner {
    /// Computes the probabilities of a model trained with this loss, `[examples, classes]`; for mean squared error, its
    /// outputs.
    pub async fn outputs(&self, parameters: &Parameters, loss: Loss, examples: &Examples) -> Result<Vec<f32>> {
        let mut backend = self.device.for_inference(parameters, loss).await?;
        let set = backend.upload(examples)?;
        backend.probabilities(&set).await
    }

    /// Takes one step of plain SGD on all examples; returns their mean loss before it, and the parameters after it.
    pub async fn step(
        &self,
        parameters: &Parameters,
        loss: Loss,
        examples: &Examples,
        learning_rate: f32,
    ) -> Result<(f32, Parameters)> {
        let batch = examples.len();
        let objective = Objective { loss, ..Objective::default() };
        let training = Training { objective, ..Training::new(examples, batch) };
        let mut backend = self.device.for_training(parameters, &training, Readback::default()).await?;
        let mut losses = Vec::new();
        backend.begin_epoch(&(0..batch as u32).collect::<Vec<_>>())?;
        backend.step(Step { first: 0, batch, learning_rate }, &mut losses).await?;
        backend.flush(&mut losses).await?;
        Ok((losses.first().copied().unwrap_or(f32::NAN), backend.parameters().await?))
    }

    /// Trains these parameters, or newly initialised ones, as `softstep train` does.
    pub async fn train(
        &self,
        config: &TrainingConfig,
        start: Option<&Parameters>,
        train: &Examples,
        test: &Examples,
    ) -> Result<Trained> {
        let parameters = match start {
            Some(parameters) => parameters.clone(),
            None => {
                let outputs = config.loss.outputs(train)?;
                Parameters::initialize(&config.architecture(Shape::Flat(train.features), outputs)?, config.seed)?
            }
        };
        let training = config.training(train, &[], Shape::Flat(train.features))?;
        let backend = self.device.for_training(&parameters, &training, Readback::default()).await?;
        run(backend, config, train.len(), test).await
    }

    /// Finds the learning rate with the best score on a fifth of the examples after training on the others; the first
    /// if several tie. Rates at which training diverges are skipped.
    pub async fn best_rate(
        &self,
        config: &TrainingConfig,
        rates: &[f32],
        examples: &Examples,
        score: impl Fn(&Trained, &Examples) -> f64,
    ) -> Result<f32> {
        let (train, validation) = examples.clone().split(0.2, config.seed)?;
        let mut best = (f64::NEG_INFINITY, None);
        for &learning_rate in rates {
            let config = config.clone().learning_rate(learning_rate);
            match self.train(&config, None, &train, &validation).await {
                Ok(run) => {
                    let score = score(&run, &validation);
                    if score > best.0 {
                        best = (score, Some(learning_rate));
                    }
                }
                Err(Error::NonFiniteLoss { .. } | Error::NonFiniteState { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        best.1.ok_or_else(|| {
            Error::Invalid(format!(
                "training diverged at every learning rate from {:?} to {:?}",
                rates[0],
                rates[rates.len() - 1]
            ))
        })
    }
}

async fn run(mut backend: AnyBackend, config: &TrainingConfig, examples: usize, test: &Examples) -> Result<Trained> {
    let test = backend.upload(test)?;
    let stop = AtomicBool::new(false);
    let options = RunOptions { from: Position::START, best: None, checkpoint_every: None, stop: &stop, weights: &[] };
    let (mut losses, mut tests, mut states) = (Vec::new(), Vec::new(), Vec::new());
    let observe = |event: Event<'_>| {
        match event {
            Event::Step { loss, .. } => losses.push(loss),
            Event::EpochEvaluated { test, .. } => tests.push(test.clone()),
            Event::Checkpoint { state, .. } => states.push(state.clone()),
            Event::EpochStarted { .. } | Event::EpochTrained { .. } => {}
        }
        Ok(())
    };
    trainer::train(&mut backend, config, examples, None, &test, &options, observe).await?;
    let mut outputs = Vec::new();
    for state in &states {
        backend.restore(state)?;
        outputs.push(backend.probabilities(&test).await?);
    }
    Ok(Trained { losses, tests, outputs, parameters: backend.parameters().await? })
}

/// Builds a model of one linear layer; `values` are `[inputs + 1, outputs]`, with the bias as last row.
pub fn linear(inputs: usize, outputs: usize, values: Vec<f32>) -> Result<Parameters> {
    let architecture = Architecture::dense(&[inputs, outputs], Activation::default())?;
    Parameters::from_values(&architecture, vec![values])
}
