//! Discovery of adapters, and the device opened on one of them.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::compiler::Compiler;
use super::matmul::Matmul;
#[cfg(not(target_arch = "wasm32"))]
use super::pipeline_cache::PipelineCache;
use crate::backend::DeviceInfo;
use crate::error::{Error, Result, printable};

/// Advice for a machine without an adapter.
#[cfg(not(target_arch = "wasm32"))]
pub const REMEDY: &str = "install your GPU's Vulkan driver, or a software adapter (on Debian and Ubuntu: \
                      apt install mesa-vulkan-drivers libvulkan1)";
/// Advice for a browser without one.
#[cfg(target_arch = "wasm32")]
pub const REMEDY: &str =
    "this browser, or this computer's graphics driver, offers no WebGPU; the CPU computes here, too";

/// Upper limit of the floating-point operations in the matrix products of one submission. Drivers reset a device that
/// is busy with one submission for too long (Windows after 2 s, by default), and this much takes even a slow integrated
/// GPU less than one second. More work is split: evaluation into smaller chunks, training into submissions of fewer
/// steps, or of single kernels with each matrix product in as many dispatches as needed.
const SUBMISSION_OPERATIONS: u64 = 10_000_000_000;

/// Time after which an unfinished submission counts as hung. Each submission is limited to about a second of work.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Number of slices that a wait for a submission is divided into.
const WAIT_SLICES: u32 = 20;

/// An adapter of this machine: a GPU, or a software implementation of one.
#[derive(Clone, Debug)]
pub struct AdapterEntry {
    /// Index in the list of adapters, which [`AdapterChoice::Named`] accepts.
    pub index: usize,
    /// Name of the adapter.
    pub name: String,
    /// `discrete-gpu`, `integrated-gpu`, `virtual-gpu`, `software` or `other`.
    pub device_type: &'static str,
    /// Graphics API: `vulkan`, `metal` or `dx12`.
    pub api: String,
    /// Name and version of the driver.
    pub driver: String,
    adapter: wgpu::Adapter,
}

/// Lists the adapters of this machine, best first: discrete, integrated and virtual GPUs, others, software.
pub async fn adapters() -> Vec<AdapterEntry> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::VULKAN
            | wgpu::Backends::METAL
            | wgpu::Backends::DX12
            | wgpu::Backends::BROWSER_WEBGPU,
        flags: wgpu::InstanceFlags::empty().with_env(),
        // If the driver reports how much memory is free, an allocation that does not fit is refused instead of swapped.
        memory_budget_thresholds: wgpu::MemoryBudgetThresholds {
            for_resource_creation: Some(95),
            for_device_loss: None,
        },
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
        // A browser need not say what it has.
        let name = if info.name.is_empty() { "WebGPU".into() } else { info.name };
        AdapterEntry { index, name, device_type, api: info.backend.to_string(), driver, adapter }
    };
    adapters.into_iter().enumerate().map(entry).collect()
}

/// Choice of the adapter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AdapterChoice {
    /// The first of [`adapters`] that opens: a hardware GPU if there is one.
    #[default]
    Auto,
    /// The first hardware GPU.
    Hardware,
    /// The adapter with this index in that list, or with this text in its name, case-insensitive.
    Named(String),
}

/// Description of a buffer for error messages.
#[derive(Clone, Copy, Debug)]
pub struct BufferLabel {
    /// BufferLabel of the buffer.
    pub name: &'static str,
    /// Advice to make the buffer smaller, such as "a smaller `batch_size`".
    pub remedy: &'static str,
}

impl From<&'static str> for BufferLabel {
    fn from(name: &'static str) -> Self {
        Self { name, remedy: "less data, a smaller `batch_size` or smaller `hidden` layers" }
    }
}

/// An error reported by wgpu or the driver.
#[derive(Clone, Debug)]
enum DeviceFault {
    Lost(String),
    Memory(String),
    #[cfg_attr(target_arch = "wasm32", expect(dead_code))] // a browser is not waited for
    Hung,
    Other(String),
}

/// The error to report: the first one, since later ones are mostly its consequences; but the loss of the device
/// replaces any other.
type FirstFault = Mutex<Option<DeviceFault>>;

/// A device and its queue, with its compiler.
#[derive(Clone)]
pub struct Gpu {
    /// The wgpu device.
    pub device: wgpu::Device,
    /// The wgpu queue.
    pub queue: wgpu::Queue,
    pub(super) matmul: Matmul,
    pub(super) compiler: Compiler,
    /// File name of the pipeline cache, if the driver supports one.
    #[cfg(not(target_arch = "wasm32"))]
    pipeline_cache_key: Option<String>,
    info: DeviceInfo,
    limits: wgpu::Limits,
    /// Available memory in bytes, if known.
    memory: Option<u64>,
    matmul_choices: Vec<Matmul>,
    fault: Arc<FirstFault>,
    pub(super) timeout: Duration,
    pub(super) submission_operations: u64,
    /// Largest buffer of a resident data set; a larger data set is streamed.
    pub(super) resident_bytes: u64,
}

impl Gpu {
    /// Opens a device on the chosen adapter.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] if there is no adapter, or none matches; [`Error::Gpu`] if the device does not open.
    pub async fn open(choice: &AdapterChoice) -> Result<Self> {
        let mut entries = adapters().await;
        if entries.is_empty() {
            return Err(Error::NoAdapter(format!("no GPU adapter found: {REMEDY}")));
        }
        if *choice == AdapterChoice::Hardware {
            let software = entries[0].name.clone();
            entries.retain(|entry| entry.device_type != "software");
            if entries.is_empty() {
                return Err(Error::NoAdapter(format!(
                    "no hardware GPU found; `Device::gpu_or_software()` takes the software adapter {software}, which is slower than the CPU"
                )));
            }
        }
        let AdapterChoice::Named(name) = choice else {
            // The first adapter that opens; the list starts with the best.
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
        // A whole number is an index, not a part of a name that has it by chance.
        let place = match part.parse::<usize>() {
            Ok(index) => entries.iter().position(|entry| entry.index == index),
            Err(_) => entries.iter().position(|entry| !part.is_empty() && entry.name.to_lowercase().contains(&part)),
        };
        match place.and_then(|position| entries.into_iter().nth(position)) {
            Some(entry) => Self::open_entry(entry).await,
            None => {
                let name = printable(name, 60);
                Err(Error::NoAdapter(format!("no adapter matches {name:?}; there are: {}", list.join(", "))))
            }
        }
    }

    async fn open_entry(entry: AdapterEntry) -> Result<Self> {
        let AdapterEntry { name, device_type, driver, adapter, api, .. } = entry;
        let limits = adapter.limits();
        let features = adapter.features()
            & (wgpu::Features::SUBGROUP | wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::PIPELINE_CACHE);
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

        // wgpu reports errors to callbacks, which panic by default; `check` reports the first error instead.
        let fault = Arc::<FirstFault>::default();
        let for_errors = fault.clone();
        device.on_uncaptured_error(Arc::new(move |error| note(&for_errors, DeviceFault::new("a command", &error))));
        let for_loss = fault.clone();
        device.set_device_lost_callback(move |reason, message| {
            note(&for_loss, DeviceFault::Lost(format!("{message} ({reason:?})")));
        });

        let adapter_info = adapter.get_info();
        let has_subgroups = features.contains(wgpu::Features::SUBGROUP) && adapter_info.subgroup_min_size >= 8;
        let (matmul_choices, matmul) = Matmul::on_device(device_type == "software", has_subgroups);
        let resident_bytes = limits.max_buffer_size.min(limits.max_storage_buffer_binding_size);
        let info = DeviceInfo { backend: "gpu", name, device_type, driver: format!("{api}, {driver}") };
        Ok(Self {
            device,
            queue,
            matmul,
            compiler: Compiler::default(),
            #[cfg(not(target_arch = "wasm32"))]
            pipeline_cache_key: features
                .contains(wgpu::Features::PIPELINE_CACHE)
                .then(|| wgpu::util::pipeline_cache_key(&adapter_info))
                .flatten(),
            info,
            limits,
            memory: if device_type == "software" { available_memory() } else { None },
            matmul_choices,
            fault,
            timeout: TIMEOUT,
            submission_operations: SUBMISSION_OPERATIONS,
            resident_bytes,
        })
    }

    /// The adapter that the device runs on.
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// Matrix multiplication methods that the adapter supports.
    pub fn matmul_choices(&self) -> &[Matmul] {
        &self.matmul_choices
    }

    /// Matrix multiplication method in use.
    pub fn matmul(&self) -> Matmul {
        self.matmul
    }

    /// Selects a matrix multiplication method.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the adapter does not support it.
    pub fn with_matmul(mut self, matmul: Matmul) -> Result<Self> {
        if !self.matmul_choices.contains(&matmul) {
            return Err(Error::Invalid(format!("adapter {} cannot run matmul {matmul:?}", self.info.name)));
        }
        self.matmul = matmul;
        Ok(self)
    }

    /// Sets the time-out of a submission; the default is one minute.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the upper limit of floating-point operations per submission; the default is 10¹⁰.
    pub fn with_submission_operations(mut self, operations: u64) -> Self {
        self.submission_operations = operations;
        self
    }

    /// Sets the largest buffer of a resident data set, in bytes; a data set that needs a larger one is streamed. The
    /// default is the adapter's limit.
    pub fn with_resident_bytes(mut self, bytes: u64) -> Self {
        self.resident_bytes = bytes;
        self
    }

    /// Compiles every shader with `text` replaced by `other`, so that tests can plant a bug.
    #[doc(hidden)]
    pub fn with_patched_shaders(mut self, text: &str, other: &str) -> Self {
        self.compiler = self.compiler.with_patch(text, other);
        self
    }

    /// Loads and stores compiled pipelines in a file of `folder`; has no effect if the adapter does not support that. A
    /// file that cannot be read or written only costs the time to compile.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn with_pipeline_cache(mut self, folder: &std::path::Path) -> Self {
        if let Some(key) = &self.pipeline_cache_key {
            self.compiler = self.compiler.with_cache(PipelineCache::open(&self.device, folder.join(key)));
        }
        self
    }

    /// Limits of the adapter.
    pub fn limits(&self) -> &wgpu::Limits {
        &self.limits
    }

    /// Creates a zeroed buffer.
    ///
    /// # Errors
    /// [`Error::Invalid`], with advice, if the buffer exceeds the adapter's limits; [`Error::DeviceMemory`] if it does
    /// not fit into memory.
    pub fn buffer(&self, label: impl Into<BufferLabel>, bytes: u64, usage: wgpu::BufferUsages) -> Result<wgpu::Buffer> {
        let BufferLabel { name, remedy } = label.into();
        let most = if usage.contains(wgpu::BufferUsages::STORAGE) {
            self.limits.max_buffer_size.min(self.limits.max_storage_buffer_binding_size)
        } else {
            self.limits.max_buffer_size
        };
        if bytes > most {
            return Err(Error::Invalid(format!(
                "{name} would take {bytes} bytes, {:.1} times the {most} that adapter {} allows in one buffer; \
                 use {remedy}, or `Device::cpu()`",
                bytes as f64 / most as f64,
                self.info.name
            )));
        }
        if let Some(memory) = self.memory {
            // Mesa's software adapter grants memory that does not exist, and the system then kills the process.
            let taken = self.device.generate_allocator_report().map_or(0, |report| report.total_allocated_bytes);
            if taken.saturating_add(bytes) > memory {
                let what = format!("{name} ({bytes} bytes; {taken} of {memory} are taken)");
                return Err(Error::DeviceMemory { adapter: self.info.name.clone(), what });
            }
        }
        let buffer = self.with_error_scope(&format!("{name} ({bytes} bytes)"), || {
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(name),
                size: bytes.next_multiple_of(16).max(16),
                usage,
                mapped_at_creation: false,
            })
        });
        self.check()?;
        Ok(buffer)
    }

    /// Runs `make`, which creates `what` on the device, in error scopes. [`check`](Self::check) reports an error by
    /// that name.
    pub(super) fn with_error_scope<T>(&self, what: &str, make: impl FnOnce() -> T) -> T {
        // A browser reports errors later and without their origin: there all of them go to the callback.
        if cfg!(target_arch = "wasm32") {
            return make();
        }
        let filters = [wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Internal];
        let scopes = filters.map(|filter| self.device.push_error_scope(filter));
        let made = make();
        for scope in scopes.into_iter().rev() {
            let popped = std::pin::pin!(scope.pop()).poll(&mut Context::from_waker(Waker::noop()));
            if let Poll::Ready(Some(error)) = popped {
                note(&self.fault, DeviceFault::new(what, &error));
            }
        }
        made
    }

    /// Submits commands and checks that the device still exists. After its loss submissions seem to succeed, and only
    /// polling calls the callback that reports the loss.
    ///
    /// # Errors
    /// The errors of [`check`](Self::check).
    pub fn submit(&self, commands: impl IntoIterator<Item = wgpu::CommandBuffer>) -> Result<wgpu::SubmissionIndex> {
        let submission = self.queue.submit(commands);
        let _ = self.device.poll(wgpu::PollType::Poll); // fails only if it waits
        self.check()?;
        Ok(submission)
    }

    /// Reports the first error that wgpu or the driver has raised.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::DeviceMemory`], [`Error::DeviceHung`], or [`Error::Gpu`] for anything else.
    pub fn check(&self) -> Result<()> {
        let adapter = || self.info.name.clone();
        let mut fault = lock(&self.fault).clone();
        if matches!(fault, Some(DeviceFault::Memory(_) | DeviceFault::Other(_))) {
            // The error may be a consequence of the loss of the device, which is reported once nothing is in flight.
            let _ = self.wait(None);
            fault = lock(&self.fault).clone();
        }
        Err(match fault {
            None => return Ok(()),
            Some(DeviceFault::Lost(reason)) => Error::DeviceLost { adapter: adapter(), reason },
            Some(DeviceFault::Memory(what)) => Error::DeviceMemory { adapter: adapter(), what },
            Some(DeviceFault::Hung) => Error::DeviceHung { adapter: adapter(), seconds: self.timeout.as_secs_f64() },
            Some(DeviceFault::Other(problem)) => self.error(problem),
        })
    }

    /// Polls the device until a submission, or every submission, is done, for at most the time-out.
    ///
    /// The wait is divided into slices, which are counted independently of any clock: if the process was paused
    /// (SIGSTOP, a frozen container, a suspended machine), only the slice in which that happened is over. So only time
    /// counts in which the process could run and nothing came back.
    pub(super) fn wait(
        &self,
        submission_index: Option<wgpu::SubmissionIndex>,
    ) -> std::result::Result<wgpu::PollStatus, wgpu::PollError> {
        let timeout = Some(self.timeout / WAIT_SLICES);
        let slice = || self.device.poll(wgpu::PollType::Wait { submission_index: submission_index.clone(), timeout });
        for _ in 1..WAIT_SLICES {
            match slice() {
                Err(wgpu::PollError::Timeout) => {}
                over => return over,
            }
        }
        slice()
    }

    /// Abandons the device after a wait that timed out. The device is leaked, because dropping it would wait for it.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn abandon(&self) -> Result<()> {
        note(&self.fault, DeviceFault::Hung);
        std::mem::forget(self.clone());
        self.check()
    }

    pub(super) fn error(&self, problem: impl Into<String>) -> Error {
        Error::Gpu { adapter: self.info.name.clone(), problem: problem.into() }
    }
}

/// Bytes of memory available to programs when the device is opened, if the system reports it.
fn available_memory() -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        let text = std::fs::read_to_string("/proc/meminfo").ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
    }
    #[cfg(not(target_os = "linux"))]
    None
}

impl DeviceFault {
    /// Builds the error that wgpu raised when `what` was created, in one line.
    fn new(what: &str, error: &wgpu::Error) -> Self {
        match error {
            wgpu::Error::OutOfMemory { .. } => Self::Memory(what.to_owned()),
            error => {
                let text = error.to_string();
                Self::Other(format!("{what}: {}", text.split_whitespace().collect::<Vec<_>>().join(" ")))
            }
        }
    }
}

fn lock(fault: &FirstFault) -> MutexGuard<'_, Option<DeviceFault>> {
    fault.lock().unwrap_or_else(PoisonError::into_inner)
}

fn note(fault: &FirstFault, problem: DeviceFault) {
    let mut first = lock(fault);
    // A lost device raises other errors before it reports the loss.
    if first.is_none() || matches!(problem, DeviceFault::Lost(_)) {
        *first = Some(problem);
    }
}
