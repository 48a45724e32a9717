//! `softstep train`: trains a model on a data set and writes a run folder.
//!
//! [`run`] resumes or prepares a run ([`resume`], [`prepare`]), opens its device and backend, and passes both to a
//! [`Job`], which trains ([`job`]).

mod chart;
mod findings;
mod job;
pub mod options;
mod prepare;
mod progress;
mod resume;
mod signals;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use softstep::any_backend::Device;
use softstep::backend::Backend;
use softstep::gpu::Readback;
use softstep::range_test::{RangeTest, range_test};
use softstep::trainer::TrainingConfig;
use softstep::verify::Verified;

use self::job::Job;
use self::options::{ReadbackChoice, TrainArgs};
use self::prepare::Prepared;
use crate::device;
use crate::run::folder::{self, Stopped};

/// Trains a model, or resumes a stopped run; `started` is the start time of the program.
pub async fn run(args: &TrainArgs, started: Instant) -> Result<ExitCode> {
    let stopped = args.resume.as_deref().map(Stopped::open).transpose()?;
    if let Some(stopped) = &stopped {
        resume::check_settings(args, stopped)?;
        if stopped.metadata.finished() {
            let model = stopped.write_model()?;
            if resume::is_complete(stopped.path()) {
                progress::finished(stopped.metadata.step, stopped.path(), &model, args.json)?;
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
    if let Some(out) = &args.out {
        folder::check_free("--out", out)?;
    }
    let prepared = Prepared::new(args, stopped.as_ref())?;
    let device = resume::open_device(args, stopped.as_ref()).await?;
    check_options(args, &device)?;
    let losing = device.gpu().cloned().zip(device::lose_device_at()?);
    let readback = match args.readback {
        ReadbackChoice::Pipelined => Readback::Pipelined,
        ReadbackChoice::Blocking => Readback::Blocking,
    };
    let training = prepared.training()?;
    let mut backend = device.for_training(&prepared.parameters, &training, readback).await?;
    let mut config = prepared.config.clone();
    let range_test = find_rate(args, &mut backend, &mut config, training.examples.len()).await?;
    let job = Job { args, prepared: &prepared, config: &config, range_test, losing, started };
    let backend = if args.profile { backend.with_profile()? } else { backend };
    match args.verify {
        Some(every) => {
            let before = stopped.as_ref().map_or(0, |stopped| stopped.metadata.step);
            job.train(Verified::new(backend, training, every.get(), before), stopped).await
        }
        None => job.train(backend, stopped).await,
    }
}

/// Refuses options that need a GPU if the device is the CPU.
fn check_options(args: &TrainArgs, device: &Device) -> Result<()> {
    match device {
        Device::Cpu if args.verify.is_some() => {
            bail!("--verify has the CPU check the GPU, and this run has none: its steps are the CPU's own")
        }
        Device::Cpu if args.profile => bail!("--profile times the kernels of a GPU, and this run has none"),
        _ => Ok(()),
    }
}

/// With `--lr auto`, finds the learning rate by a range test and sets it.
async fn find_rate<B: Backend>(
    args: &TrainArgs,
    backend: &mut B,
    config: &mut TrainingConfig,
    examples: usize,
) -> Result<Option<RangeTest>> {
    if !args.finds_rate() {
        return Ok(None);
    }
    let test = range_test(backend, config, examples).await?;
    config.learning_rate = test.learning_rate;
    Ok(Some(test))
}
