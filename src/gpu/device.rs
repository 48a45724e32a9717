//! Adapters, and the device opened on one of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::kernels::Matmul;
use crate::backend::DeviceInfo;
use crate::error::{Error, Result};

/// What to install where there is no adapter.
pub const REMEDY: &str = "install your GPU's Vulkan driver, or a software adapter (on Debian and Ubuntu: \
                      apt install mesa-vulkan-drivers libvulkan1)";

/// An adapter of this machine: a GPU, or a program that acts as one.
#[derive(Clone, Debug)]
pub struct AdapterEntry {
    /// Its number in the list; `--adapter` takes it.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// `discrete-gpu`, `integrated-gpu`, `virtual-gpu`, `software` or `other`.
    pub device_type: &'static str,
    /// `vulkan`, `metal` or `dx12`.
    pub api: String,
    /// Driver and its version.
    pub driver: String,
    adapter: wgpu::Adapter,
}

/// The adapters of this machine, best first: discrete, integrated and virtual GPUs, others, software.
pub async fn adapters() -> Vec<AdapterEntry> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12,
        flags: wgpu::InstanceFlags::empty().with_env(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let mut adapters = instance.enumerate_adapters(wgpu::Backends::all()).await;
    adapters.sort_by_key(|adapter| match adapter.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    });
    let entry = |(index, adapter): (usize, wgpu::Adapter)| {
        let info = adapter.get_info();
        let device_type = match info.device_type {
            wgpu::DeviceType::DiscreteGpu => "discrete-gpu",
            wgpu::DeviceType::IntegratedGpu => "integrated-gpu",
            wgpu::DeviceType::VirtualGpu => "virtual-gpu",
            wgpu::DeviceType::Cpu => "software",
            wgpu::DeviceType::Other => "other",
        };
        let driver = format!("{} {}", info.driver, info.driver_info).trim().to_owned();
        AdapterEntry { index, name: info.name, device_type, api: info.backend.to_string(), driver, adapter }
    };
    adapters.into_iter().enumerate().map(entry).collect()
}

/// Which adapter to use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AdapterChoice {
    /// The first of [`adapters`]: a hardware GPU where there is one.
    #[default]
    Auto,
    /// Its number in that list, or a part of its name in any case.
    Named(String),
}

/// A device, its queue, and the pipelines compiled for it so far.
#[derive(Clone)]
pub struct Gpu {
    /// wgpu's device.
    pub device: wgpu::Device,
    /// wgpu's queue.
    pub queue: wgpu::Queue,
    pub(super) matmul: Matmul,
    pub(super) pipelines: Arc<Mutex<HashMap<String, super::kernel::Pipeline>>>,
    info: DeviceInfo,
    limits: wgpu::Limits,
    matmul_choices: Vec<Matmul>,
    trouble: Arc<Mutex<Option<String>>>,
}

impl Gpu {
    /// Opens a device on the chosen adapter.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] where there is none, or none of that name; [`Error::Gpu`] if it does not open.
    pub async fn open(choice: &AdapterChoice) -> Result<Self> {
        let entries = adapters().await;
        if entries.is_empty() {
            return Err(Error::NoAdapter(format!("no GPU adapter found: {REMEDY}")));
        }
        let AdapterChoice::Named(name) = choice else {
            // The best that opens.
            let mut failure = None;
            for entry in entries {
                match Self::open_entry(entry).await {
                    Ok(gpu) => return Ok(gpu),
                    Err(error) => {
                        log::warn!("{error}");
                        failure.get_or_insert(error);
                    }
                }
            }
            return Err(failure.expect("there are entries, and none opened"));
        };
        let list: Vec<String> = entries.iter().map(|entry| format!("{} ({})", entry.index, entry.name)).collect();
        let part = name.trim().to_lowercase();
        let by_index = entries.iter().position(|entry| entry.index.to_string() == part);
        let by_name = entries.iter().position(|entry| !part.is_empty() && entry.name.to_lowercase().contains(&part));
        match by_index.or(by_name).and_then(|position| entries.into_iter().nth(position)) {
            Some(entry) => Self::open_entry(entry).await,
            None => Err(Error::NoAdapter(format!("no adapter matches {name:?}; there are: {}", list.join(", ")))),
        }
    }

    async fn open_entry(entry: AdapterEntry) -> Result<Self> {
        let AdapterEntry { name, device_type, driver, adapter, api, .. } = entry;
        let limits = adapter.limits();
        let features = adapter.features() & (wgpu::Features::SUBGROUP | wgpu::Features::TIMESTAMP_QUERY);
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("softstep"),
            required_features: features,
            required_limits: limits.clone(),
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        };
        let (device, queue) = adapter
            .request_device(&descriptor)
            .await
            .map_err(|error| Error::Gpu { adapter: name.clone(), problem: format!("cannot open it: {error}") })?;

        // wgpu reports errors to callbacks, by default a panic; `check` passes the first one on.
        let trouble = Arc::new(Mutex::new(None));
        let note = |trouble: &Mutex<Option<String>>, problem: String| {
            trouble.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(problem);
        };
        let for_errors = trouble.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| note(&for_errors, error.to_string())));
        let for_loss = trouble.clone();
        device.set_device_lost_callback(move |reason, message| {
            note(&for_loss, format!("the device was lost ({reason:?}): {message}"));
        });

        let adapter_info = adapter.get_info();
        let has_subgroups = features.contains(wgpu::Features::SUBGROUP) && adapter_info.subgroup_min_size >= 8;
        let mut matmul_choices = vec![Matmul::Plain, Matmul::Workgroup];
        if has_subgroups {
            matmul_choices.push(Matmul::Subgroup);
        }
        let matmul = match (device_type == "software", has_subgroups) {
            (true, true) => Matmul::Subgroup,
            (true, false) => Matmul::Plain,
            (false, _) => Matmul::Workgroup,
        };
        let info = DeviceInfo { backend: "gpu", name, device_type, driver: format!("{api}, {driver}") };
        let pipelines = Arc::default();
        Ok(Self { device, queue, matmul, pipelines, info, limits, matmul_choices, trouble })
    }

    /// The adapter it runs on.
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// The ways to multiply matrices that this adapter can run.
    pub fn matmul_choices(&self) -> &[Matmul] {
        &self.matmul_choices
    }

    /// The way that was chosen for this adapter.
    pub fn matmul(&self) -> Matmul {
        self.matmul
    }

    /// Multiplies matrices in this way instead.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the adapter cannot.
    pub fn with_matmul(mut self, matmul: Matmul) -> Result<Self> {
        if !self.matmul_choices.contains(&matmul) {
            return Err(Error::Invalid(format!("adapter {} cannot run matmul {matmul:?}", self.info.name)));
        }
        self.matmul = matmul;
        Ok(self)
    }

    /// A buffer, zeroed.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is larger than the adapter allows; `what` tells what it holds and how to make it
    /// smaller.
    pub fn buffer(&self, what: &str, bytes: u64, usage: wgpu::BufferUsages) -> Result<wgpu::Buffer> {
        let most = if usage.contains(wgpu::BufferUsages::STORAGE) {
            self.limits.max_buffer_size.min(self.limits.max_storage_buffer_binding_size)
        } else {
            self.limits.max_buffer_size
        };
        if bytes > most {
            return Err(Error::Invalid(format!(
                "{what} would take {bytes} bytes, and adapter {} allows {most} in one buffer; \
                 use less data, a smaller --batch-size or smaller --hidden layers, or --backend cpu",
                self.info.name
            )));
        }
        Ok(self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(what),
            size: bytes.next_multiple_of(16).max(16),
            usage,
            mapped_at_creation: false,
        }))
    }

    /// Distance of the records in a uniform buffer that are chosen by a dynamic offset, in bytes.
    pub(super) fn uniform_stride(&self) -> u64 {
        u64::from(self.limits.min_uniform_buffer_offset_alignment.max(size_of::<super::kernel::StepRecord>() as u32))
    }

    /// Reports the first error that wgpu or the driver has raised.
    ///
    /// # Errors
    /// [`Error::Gpu`] with that error.
    pub fn check(&self) -> Result<()> {
        match &*self.trouble.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
            None => Ok(()),
            Some(problem) => Err(self.error(problem.clone())),
        }
    }

    pub(super) fn error(&self, problem: impl Into<String>) -> Error {
        Error::Gpu { adapter: self.info.name.clone(), problem: problem.into() }
    }
}
