//! The commands, one file each; here is what they share: loading data and opening a device.

pub mod adapters;
pub mod bench;
pub mod doctor;
pub mod eval;
pub mod explain;
pub mod export;
mod findings;
pub mod import;
pub mod inspect;
pub mod predict;
pub mod report;
pub mod reproduce;
pub mod rerun;
pub mod train;

use std::time::Duration;

use anyhow::{Context, Result};
use softstep::Error;
use softstep::data::{self, Data};
use softstep::gpu::{AdapterChoice, Gpu};

use crate::cli::{BackendChoice, DataArgs, DeviceArgs};
use crate::report::{Downloads, notice};

/// Loads what `--data` names, with downloads shown where `progress` is wanted.
fn load_data(args: &DataArgs, progress: bool) -> Result<Data> {
    let mut downloads = Downloads::new(progress);
    Ok(data::load(&args.data, args.data_dir.as_deref(), &mut |event| downloads.show(event))?)
}

/// Opens the GPU that the arguments ask for; `None` is the CPU. What they leave open is decided here and said.
async fn open_gpu(args: &DeviceArgs) -> Result<Option<Gpu>> {
    let gpu = match (args.backend, &args.adapter) {
        (BackendChoice::Cpu, _) => return Ok(None),
        (BackendChoice::Auto, None) => match open_or_say(&AdapterChoice::Hardware).await? {
            Some(gpu) => gpu,
            None => return Ok(None),
        },
        (_, Some(name)) => Gpu::open(&AdapterChoice::Named(name.clone())).await?,
        (BackendChoice::Gpu, None) => Gpu::open(&AdapterChoice::Auto).await?,
    };
    prepared(gpu).map(Some)
}

/// Opens an adapter of any kind for a benchmark, the named one if one is; `None` where there is none, which is said.
async fn open_adapter(name: Option<&String>) -> Result<Option<Gpu>> {
    let gpu = match name {
        Some(name) => Some(Gpu::open(&AdapterChoice::Named(name.clone())).await?),
        None => open_or_say(&AdapterChoice::Auto).await?,
    };
    gpu.map(prepared).transpose()
}

/// Opens an adapter, or says why the CPU computes instead.
async fn open_or_say(choice: &AdapterChoice) -> Result<Option<Gpu>> {
    match Gpu::open(choice).await {
        Err(problem @ (Error::NoAdapter(_) | Error::Gpu { .. })) => {
            notice(&format!("computing on the CPU: {problem}"));
            Ok(None)
        }
        opened => Ok(Some(opened?)),
    }
}

/// A GPU with what this machine keeps for it, and what tests change about it.
fn prepared(gpu: Gpu) -> Result<Gpu> {
    let gpu = match data::cache_folder() {
        Some(folder) => gpu.with_pipeline_cache(&folder.join("pipelines")),
        None => gpu,
    };
    let gpu = alter_shaders(gpu);
    let gpu = limit_resident(shorten_timeout(gpu)?);
    if gpu.info().device_type == "software" {
        notice(&format!("{} is a software adapter: it runs on the CPU and is not a GPU", gpu.info().name));
    }
    Ok(gpu)
}

/// For tests of a lost device: a debug build destroys it once the loss of step `SOFTSTEP_LOSE_DEVICE_AT` has come in.
fn lose_device_at() -> Result<Option<usize>> {
    match std::env::var("SOFTSTEP_LOSE_DEVICE_AT") {
        Ok(step) if cfg!(debug_assertions) => {
            notice(&format!("SOFTSTEP_LOSE_DEVICE_AT is set: the device will be destroyed at step {step}"));
            Ok(Some(step.parse().with_context(|| format!("SOFTSTEP_LOSE_DEVICE_AT={step}"))?))
        }
        _ => Ok(None),
    }
}

/// For tests of hangs: a debug build waits for the device as many seconds as `SOFTSTEP_DEVICE_TIMEOUT` says.
fn shorten_timeout(gpu: Gpu) -> Result<Gpu> {
    match std::env::var("SOFTSTEP_DEVICE_TIMEOUT") {
        Ok(seconds) if cfg!(debug_assertions) => {
            notice(&format!("SOFTSTEP_DEVICE_TIMEOUT is set: the device counts as hung after {seconds} s"));
            let problem = || format!("SOFTSTEP_DEVICE_TIMEOUT={seconds}");
            Ok(gpu.with_timeout(
                Duration::try_from_secs_f64(seconds.parse().with_context(problem)?).with_context(problem)?,
            ))
        }
        _ => Ok(gpu),
    }
}

/// For tests of data that are streamed: a debug build keeps no more on the device than `SOFTSTEP_RESIDENT_BYTES` says.
fn limit_resident(gpu: Gpu) -> Gpu {
    match std::env::var("SOFTSTEP_RESIDENT_BYTES").ok().and_then(|bytes| bytes.parse().ok()) {
        Some(bytes) if cfg!(debug_assertions) => {
            notice(&format!("SOFTSTEP_RESIDENT_BYTES is set: data of more than {bytes} bytes are streamed"));
            gpu.with_resident_bytes(bytes)
        }
        _ => gpu,
    }
}

/// For tests that plant a bug: a debug build replaces text of its shaders as `SOFTSTEP_ALTER_SHADERS=text=>other` says.
fn alter_shaders(gpu: Gpu) -> Gpu {
    if cfg!(debug_assertions)
        && let Ok(alteration) = std::env::var("SOFTSTEP_ALTER_SHADERS")
        && let Some((text, other)) = alteration.split_once("=>")
    {
        notice("SOFTSTEP_ALTER_SHADERS is set: the shaders are not those of softstep, and results may be wrong");
        return gpu.with_altered_shaders(text, other);
    }
    gpu
}
