//! `softstep train`: trains a model on a data set and writes a run folder.
//!
//! [`run`] resumes or prepares a run ([`resume`], [`prepare`]), opens its device and backend, and passes both to a
//! [`Job`], which trains ([`job`]).

mod chart;
mod findings;
mod job;
mod next;
pub mod options;
mod prepare;
mod progress;
mod repeats;
mod resume;
mod selection;
pub mod signals;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, anyhow, bail};
use softstep::any_backend::Device;
use softstep::backend::Backend;
use softstep::gpu::Readback;
use softstep::range_test::{RangeTest, range_test};
use softstep::ranks::{Alone, Ranks};
use softstep::trainer::TrainingConfig;
use softstep::verify::Verified;

use self::job::{Beside, Job};
use self::options::{ReadbackChoice, TrainArgs};
pub use self::prepare::{Prepared, SharedData};
pub use self::signals::{STOPPED, stop_on_signals};
use crate::device;
use crate::mpi::{Joined, check_same, fail};
use crate::run::folder::{self, Stopped};

/// Trains a model, or several, or resumes a stopped run; `started` is the start time of the program.
///
/// Of several ranks, the first one writes and prints, and tells the problems of all.
pub async fn run(args: &TrainArgs, started: Instant) -> Result<ExitCode> {
    let Joined { ranks, local, .. } = &Joined::new()?;
    let trained = match (args.are_several(), ranks.size()) {
        (false, _) => train(args, Setup { device: None, local: *local, ranks, beside: None }, started).await,
        (true, 1) => repeats::run(args, started).await,
        (true, _) => Err(anyhow!("ranks share one run: leave mpirun away to train with several seeds or folds")),
    };
    match trained {
        Err(error) if ranks.size() > 1 => Ok(fail(&**ranks, &error)),
        trained => trained,
    }
}

/// Trains a run beside others, on this device or the one that its options choose.
async fn train_beside(
    args: &TrainArgs,
    device: Option<Device>,
    beside: &Beside<'_>,
    started: Instant,
) -> Result<ExitCode> {
    train(args, Setup { device, local: None, ranks: &alone(), beside: Some(beside) }, started).await
}

/// Device, ranks and neighbours of a run.
struct Setup<'a> {
    /// Device; `None` for the one that the options choose.
    device: Option<Device>,
    /// Number of this process among the ranks of its node, if there are several.
    local: Option<usize>,
    /// Ranks that train the model together.
    ranks: &'a Arc<dyn Ranks>,
    /// The run's place among others; `None` for a run alone.
    beside: Option<&'a Beside<'a>>,
}

/// Trains one model, or resumes a stopped run.
async fn train(args: &TrainArgs, setup: Setup<'_>, started: Instant) -> Result<ExitCode> {
    let Setup { device, local, ranks, beside } = setup;
    let is_first = ranks.rank() == 0;
    let stopped = match &args.resume {
        None => None,
        Some(path) if is_first => {
            let stopped = Stopped::open(path)?;
            ranks.broadcast(if ranks.size() > 1 { stopped.to_bytes()? } else { Vec::new() })?;
            Some(stopped)
        }
        Some(path) => Some(Stopped::from_bytes(path, &ranks.broadcast(Vec::new())?)?),
    };
    if let Some(stopped) = &stopped {
        if stopped.metadata.finished() && !is_first {
            return Ok(ExitCode::SUCCESS);
        }
        resume::check_settings(args, stopped)?;
        if stopped.metadata.finished() {
            let model = stopped.write_model()?;
            if resume::is_complete(stopped.path()) {
                if beside.is_some() {
                    return Ok(ExitCode::SUCCESS);
                }
                progress::finished(stopped.metadata.step, stopped.path(), &model, args.json)?;
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
    if let Some(out) = args.out.as_ref().filter(|_| is_first) {
        folder::check_free("--out", out)?;
    }
    let prepared = Prepared::new(args, stopped.as_ref(), beside.is_none_or(|beside| beside.notices))?;
    let device = match device {
        Some(device) => device,
        None => resume::open_device(args, stopped.as_ref(), local).await?,
    };
    check_options(args, &device)?;
    // A finished run has no step to share.
    let ranks = if stopped.as_ref().is_some_and(|stopped| stopped.metadata.finished()) { &alone() } else { ranks };
    check_ranks(&**ranks, &prepared, &device)?;
    let losing = device.gpu().cloned().zip(device::lose_device_at()?);
    let readback = match args.readback {
        ReadbackChoice::Pipelined => Readback::Pipelined,
        ReadbackChoice::Blocking => Readback::Blocking,
    };
    let training = prepared.training()?;
    let backend = device.for_training(&prepared.parameters, &training, readback).await?;
    let mut backend = backend.with_ranks(Arc::clone(ranks))?;
    let mut config = prepared.config.clone();
    let range_test = find_rate(args, &mut backend, &mut config, training.examples.len()).await?;
    let job = Job { args, prepared: &prepared, config: &config, range_test, losing, ranks: &**ranks, started, beside };
    if !is_first {
        return job.follow(backend, stopped).await;
    }
    let backend = if args.profile { backend.with_profile()? } else { backend };
    match args.verify {
        Some(every) => {
            let before = stopped.as_ref().map_or(0, |stopped| stopped.metadata.step);
            job.train(Verified::new(backend, training, every.get(), before), stopped).await
        }
        None => job.train(backend, stopped).await,
    }
}

fn alone() -> Arc<dyn Ranks> {
    Arc::new(Alone)
}

/// Refuses ranks that do not all have the same data, settings and kind of device: their models would differ.
fn check_ranks(ranks: &dyn Ranks, prepared: &Prepared, device: &Device) -> Result<()> {
    let all = [
        ("data", prepared.data_sha256.clone(), "put the same files on every node"),
        ("settings", serde_json::to_string(&prepared.config)?, "start every rank by the same command"),
        ("first parameters", prepared.parameters.sha256(), "start every rank from the same --init"),
    ];
    check_same(ranks, device, &all)
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
