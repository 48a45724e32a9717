//! Opening of the device that the arguments choose, with the changes that tests make to it.

use std::time::Duration;

use anyhow::{Context, Result};
use softstep::any_backend::Device;
use softstep::gpu::{AdapterChoice, AdapterEntry, Gpu, adapters};
use softstep::{Error, data};

use crate::options::{BackendChoice, DeviceArgs};
use crate::terminal::notice;

/// Opens the device that the arguments choose. A notice says why `auto` falls back to the CPU.
pub async fn open_device(args: &DeviceArgs) -> Result<Device> {
    let gpu = match (args.backend, &args.adapter) {
        (BackendChoice::Cpu, _) => return Ok(Device::Cpu),
        (BackendChoice::Auto, None) => match open_or_say(&AdapterChoice::Hardware).await? {
            Some(gpu) => gpu,
            None => return Ok(Device::Cpu),
        },
        (_, Some(name)) => Gpu::open(&AdapterChoice::Named(name.clone())).await?,
        (BackendChoice::Gpu, None) => Gpu::open(&AdapterChoice::Auto).await?,
    };
    prepared(gpu).map(Device::Gpu)
}

/// Spreads the ranks of a node over its adapters: of those that the arguments allow, number `local` of the node takes number
/// `local`, and again from the first.
pub async fn for_rank(args: &DeviceArgs, local: usize) -> DeviceArgs {
    let is_number = args.adapter.as_ref().is_some_and(|name| name.parse::<usize>().is_ok());
    if args.backend == BackendChoice::Cpu || is_number {
        return args.clone();
    }
    let is_allowed = |adapter: &AdapterEntry| match &args.adapter {
        Some(name) => adapter.name.to_lowercase().contains(&name.to_lowercase()),
        None => adapter.device_type != "software",
    };
    let allowed: Vec<usize> =
        adapters().await.iter().filter(|adapter| is_allowed(adapter)).map(|adapter| adapter.index).collect();
    match in_turn(&allowed, local) {
        Some(adapter) => DeviceArgs { backend: BackendChoice::Gpu, adapter: Some(adapter.to_string()) },
        None => args.clone(),
    }
}

/// The adapter of rank `local` of a node: its number modulo that of the adapters.
fn in_turn(adapters: &[usize], local: usize) -> Option<usize> {
    adapters.get(local % adapters.len().max(1)).copied()
}

/// Opens the named adapter, or the first of any kind; `None` if there is none, with a notice.
pub async fn open_adapter(name: Option<&String>) -> Result<Option<Gpu>> {
    let gpu = match name {
        Some(name) => Some(Gpu::open(&AdapterChoice::Named(name.clone())).await?),
        None => open_or_say(&AdapterChoice::Auto).await?,
    };
    gpu.map(prepared).transpose()
}

/// Opens an adapter; `None` with a notice if there is none.
async fn open_or_say(choice: &AdapterChoice) -> Result<Option<Gpu>> {
    match Gpu::open(choice).await {
        Err(problem @ (Error::NoAdapter(_) | Error::Gpu { .. })) => {
            notice(&format!("computing on the CPU: {problem}"));
            Ok(None)
        }
        opened => Ok(Some(opened?)),
    }
}

/// Sets the pipeline cache of this machine, and applies the changes that tests ask for.
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

/// Step of `SOFTSTEP_LOSE_DEVICE_AT`: for tests, a debug build destroys the device once the loss of that step arrives.
pub fn lose_device_at() -> Result<Option<usize>> {
    match std::env::var("SOFTSTEP_LOSE_DEVICE_AT") {
        Ok(step) if cfg!(debug_assertions) => {
            notice(&format!("SOFTSTEP_LOSE_DEVICE_AT is set: the device will be destroyed at step {step}"));
            Ok(Some(step.parse().with_context(|| format!("SOFTSTEP_LOSE_DEVICE_AT={step}"))?))
        }
        _ => Ok(None),
    }
}

/// Sets the timeout of `SOFTSTEP_DEVICE_TIMEOUT`, in seconds, for tests of hangs in a debug build.
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

/// Limits resident data to `SOFTSTEP_RESIDENT_BYTES`, for tests of streaming in a debug build.
fn limit_resident(gpu: Gpu) -> Gpu {
    match std::env::var("SOFTSTEP_RESIDENT_BYTES").ok().and_then(|bytes| bytes.parse().ok()) {
        Some(bytes) if cfg!(debug_assertions) => {
            notice(&format!("SOFTSTEP_RESIDENT_BYTES is set: data of more than {bytes} bytes are streamed"));
            gpu.with_resident_bytes(bytes)
        }
        _ => gpu,
    }
}

/// Replaces text in the shaders as in `SOFTSTEP_ALTER_SHADERS=text=>other`, for tests that plant a bug in a debug build.
pub fn alter_shaders(gpu: Gpu) -> Gpu {
    if cfg!(debug_assertions)
        && let Ok(alteration) = std::env::var("SOFTSTEP_ALTER_SHADERS")
        && let Some((text, other)) = alteration.split_once("=>")
    {
        notice("SOFTSTEP_ALTER_SHADERS is set: the shaders are not those of softstep, and results may be wrong");
        return gpu.with_patched_shaders(text, other);
    }
    gpu
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rank_takes_the_adapter_of_its_number_modulo_the_adapters() {
        let taken = |adapters: &[usize]| (0..5).map(|local| in_turn(adapters, local)).collect::<Vec<_>>();
        assert_eq!(taken(&[0, 1, 3]), [0, 1, 3, 0, 1].map(Some));
        assert_eq!(taken(&[2]), [2; 5].map(Some));
        assert_eq!(taken(&[]), [None; 5]);
    }
}
