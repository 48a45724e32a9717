//! `softstep train`: from a data set to a run folder with a model in it.

use std::time::Instant;

use anyhow::Result;
use serde::Serialize;
use softstep::backend::{Backend, DeviceInfo, Training};
use softstep::cpu::CpuBackend;
use softstep::data::{Data, Examples};
use softstep::gpu::{GpuBackend, Readback};
use softstep::model::Parameters;
use softstep::model_file::Metadata;
use softstep::trainer::{self, Event, TrainingConfig};
use softstep::verify::Verified;

use crate::cli::{ReadbackChoice, TrainArgs};
use crate::report::{EpochLine, Run, TrainReport};
use crate::run_folder::{self, RunFolder};

/// Trains a model; `started` is when the program did.
pub async fn run(args: &TrainArgs, started: Instant) -> Result<()> {
    if let Some(out) = &args.out {
        run_folder::check_free(out)?;
    }
    let mut data = super::load_data(&args.data, !args.quiet)?;
    let config = args.config(|batch_size| trainer::default_epochs(data.train.len(), batch_size));
    let mut validation = None;
    if config.validation > 0.0 {
        let (train, held_out) = data.train.split(config.validation, config.seed)?;
        (data.train, validation) = (train, Some(held_out));
    }

    let parameters = Parameters::new(&config.sizes(&data.train), config.seed)?;
    let batch_size = config.batch_size.min(data.train.len());
    let training = Training { examples: &data.train, batch_size, sgd: config.sgd };
    let job = Job { args, config: &config, data: &data, validation: validation.as_ref(), started };
    match super::open_gpu(&args.device).await? {
        Some(gpu) => {
            let readback = match args.readback {
                ReadbackChoice::Pipelined => Readback::Pipelined,
                ReadbackChoice::Blocking => Readback::Blocking,
            };
            let backend = GpuBackend::new(&gpu, &parameters, Some(&training), readback).await?;
            let backend = if args.profile { backend.with_profile()? } else { backend };
            match args.verify {
                Some(every) => job.train(Verified::new(backend, training, every.get(), 0)).await,
                None => job.train(backend).await,
            }
        }
        None if args.verify.is_some() => {
            anyhow::bail!("--verify has the CPU check the GPU, and this run has none: its steps are the CPU's own")
        }
        None if args.profile => anyhow::bail!("--profile times the kernels of a GPU, and this run has none"),
        None => job.train(CpuBackend::new(&parameters, Some(&training))?).await,
    }
}

/// A run, ready for its backend.
struct Job<'a> {
    args: &'a TrainArgs,
    config: &'a TrainingConfig,
    data: &'a Data,
    validation: Option<&'a Examples>,
    started: Instant,
}

impl Job<'_> {
    async fn train<B: Backend>(&self, mut backend: B) -> Result<()> {
        let Self { args, config, data, validation, started } = *self;
        let validation = validation.map(|examples| backend.upload(examples)).transpose()?;
        let test = backend.upload(&data.test)?;

        let mut folder = RunFolder::create(args.out.as_deref(), &data.name)?;
        let out = folder.path().to_path_buf();
        let info = backend.info().clone();
        folder.write_config(&Config::new(config, data, &info))?;
        let run = Run { info, data, sizes: config.sizes(&data.train), config, out: &out };
        let steps = config.steps(data.train.len());
        let mut report = TrainReport::new(run, steps, args.json, args.quiet, started)?;

        let observe = |event: Event<'_>| {
            record(&mut folder, event)?;
            report.show(event)
        };
        let examples = data.train.len();
        let trained = trainer::train(&mut backend, config, examples, validation.as_ref(), &test, observe).await;
        report.close();
        folder.flush()?;
        let summary = trained?;

        let parameters = backend.parameters().await?;
        let model = folder.write_model(&parameters, &Metadata::new(&parameters, &data.name, config.seed))?;
        report.profile(backend.profile(), summary.steps)?;
        report.verification(backend.verification(), summary.steps)?;
        report.done(&summary, &model, parameters.sha256())?;
        Ok(())
    }
}

/// Keeps an event in `metrics.jsonl`.
fn record(folder: &mut RunFolder, event: Event<'_>) -> softstep::Result<()> {
    match event {
        Event::Step { step, epoch, loss, learning_rate: lr, .. } => {
            folder.write_metrics(&StepLine { step, epoch, loss, lr })
        }
        Event::EpochEvaluated { epoch, train_loss, validation, test } => {
            folder.write_metrics(&EpochLine::new(epoch, train_loss, validation, test))?;
            folder.flush()
        }
        Event::EpochStarted { .. } | Event::EpochTrained { .. } => Ok(()),
    }
}

/// One step's line in `metrics.jsonl`; a loss that is not finite is null.
#[derive(Serialize)]
struct StepLine {
    step: usize,
    epoch: usize,
    loss: f32,
    lr: f32,
}

/// `config.json`: the settings, and what they were used with.
#[derive(Serialize)]
struct Config<'a> {
    version: &'static str,
    data: &'a str,
    backend: &'static str,
    adapter: &'a str,
    device_type: &'static str,
    driver: &'a str,
    #[serde(flatten)]
    config: &'a TrainingConfig,
}

impl<'a> Config<'a> {
    fn new(config: &'a TrainingConfig, data: &'a Data, info: &'a DeviceInfo) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            data: &data.name,
            backend: info.backend,
            adapter: &info.name,
            device_type: info.device_type,
            driver: &info.driver,
            config,
        }
    }
}
