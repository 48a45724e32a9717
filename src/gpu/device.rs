//! Adapters, and the device opened on one of them.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::kernels::Matmul;
use crate::backend::DeviceInfo;
use crate::error::{Error, Result};

/// What to install where there is no adapter.
pub const REMEDY: &str = "install your GPU's Vulkan driver, or a software adapter (on Debian and Ubuntu: \
                      apt install mesa-vulkan-drivers libvulkan1)";

/// Floating-point operations in the matrix products of a submission, at most. Drivers reset a device that is busy with
/// one for too long (Windows after 2 s, by default), and this much takes even a slow integrated GPU less than one. What is
/// more goes in several submissions: evaluation in smaller chunks, training with fewer steps in each, or kernel by
/// kernel, each matrix product in as many dispatches as are needed.
const SUBMISSION_OPERATIONS: u64 = 10_000_000_000;

/// How long a submission may take before the device counts as hung. Each is kept to about a second of work.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Slices that a wait for a submission is cut into.
const WAIT_SLICES: u32 = 20;

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
        // Where the driver tells how much memory is free, what does not fit is refused and not swapped.
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
    /// The first hardware GPU.
    Hardware,
    /// Its number in that list, or a part of its name in any case.
    Named(String),
}

/// What a buffer holds, and how to make it smaller.
#[derive(Clone, Copy, Debug)]
pub struct Content {
    /// What it holds.
    pub name: &'static str,
    /// What the person can do, as in "a smaller --batch-size".
    pub remedy: &'static str,
}

impl From<&'static str> for Content {
    fn from(name: &'static str) -> Self {
        Self { name, remedy: "less data, a smaller --batch-size or smaller --hidden layers" }
    }
}

/// What wgpu or the driver reported.
#[derive(Clone, Debug)]
enum Trouble {
    Lost(String),
    Memory(String),
    #[cfg_attr(target_arch = "wasm32", expect(dead_code))] // a browser is not waited for
    Hung,
    Other(String),
}

/// The trouble to report: the first, as later ones are mostly its consequences, but the loss of the device before any.
type FirstTrouble = Mutex<Option<Trouble>>;

/// A device, its queue, and the pipelines compiled for it so far.
#[derive(Clone)]
pub struct Gpu {
    /// wgpu's device.
    pub device: wgpu::Device,
    /// wgpu's queue.
    pub queue: wgpu::Queue,
    pub(super) matmul: Matmul,
    pub(super) pipelines: Arc<Mutex<HashMap<String, Arc<super::kernel::Pipeline>>>>,
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) pipeline_cache: Option<Arc<super::pipeline_cache::PipelineCache>>,
    /// Name for a file of what its driver compiles, where the driver gives that away.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) pipeline_cache_key: Option<String>,
    info: DeviceInfo,
    limits: wgpu::Limits,
    /// Bytes of memory, where that is known.
    memory: Option<u64>,
    matmul_choices: Vec<Matmul>,
    trouble: Arc<FirstTrouble>,
    pub(super) timeout: Duration,
    pub(super) submission_operations: u64,
    /// The largest buffer of a data set that is kept on the device whole.
    pub(super) resident_bytes: u64,
    /// Text of the shaders that is replaced by another.
    alteration: Option<(String, String)>,
}

impl Gpu {
    /// Opens a device on the chosen adapter.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] where there is none, or none of that name; [`Error::Gpu`] if it does not open.
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
                    "no hardware GPU found; --backend gpu takes the software adapter {software}, which is slower than the CPU"
                )));
            }
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
        // A whole number is an index, not a part of a name that has it by chance.
        let place = match part.parse::<usize>() {
            Ok(index) => entries.iter().position(|entry| entry.index == index),
            Err(_) => entries.iter().position(|entry| !part.is_empty() && entry.name.to_lowercase().contains(&part)),
        };
        match place.and_then(|position| entries.into_iter().nth(position)) {
            Some(entry) => Self::open_entry(entry).await,
            None => Err(Error::NoAdapter(format!("no adapter matches {name:?}; there are: {}", list.join(", ")))),
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

        // wgpu reports errors to callbacks, by default a panic; `check` passes the first one on.
        let trouble = Arc::<FirstTrouble>::default();
        let for_errors = trouble.clone();
        device.on_uncaptured_error(Arc::new(move |error| note(&for_errors, Trouble::new("a command", &error))));
        let for_loss = trouble.clone();
        device.set_device_lost_callback(move |reason, message| {
            note(&for_loss, Trouble::Lost(format!("{message} ({reason:?})")));
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
        let resident_bytes = limits.max_buffer_size.min(limits.max_storage_buffer_binding_size);
        let info = DeviceInfo { backend: "gpu", name, device_type, driver: format!("{api}, {driver}") };
        let pipelines = Arc::default();
        Ok(Self {
            device,
            queue,
            matmul,
            pipelines,
            #[cfg(not(target_arch = "wasm32"))]
            pipeline_cache: None,
            #[cfg(not(target_arch = "wasm32"))]
            pipeline_cache_key: features
                .contains(wgpu::Features::PIPELINE_CACHE)
                .then(|| wgpu::util::pipeline_cache_key(&adapter_info))
                .flatten(),
            info,
            limits,
            memory: if device_type == "software" { available_memory() } else { None },
            matmul_choices,
            trouble,
            timeout: TIMEOUT,
            submission_operations: SUBMISSION_OPERATIONS,
            resident_bytes,
            alteration: None,
        })
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

    /// Waits so long for a submission, and not the minute that it is by default.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Keeps submissions to so many floating-point operations, and not the 10¹⁰ that it is by default.
    pub fn with_submission_operations(mut self, operations: u64) -> Self {
        self.submission_operations = operations;
        self
    }

    /// Streams data sets of which a buffer would take more than so many bytes; by default, those that need one larger
    /// than the adapter allows.
    pub fn with_resident_bytes(mut self, bytes: u64) -> Self {
        self.resident_bytes = bytes;
        self
    }

    /// Compiles every shader with `text` replaced by `other`: how tests plant a bug.
    #[doc(hidden)]
    pub fn with_altered_shaders(mut self, text: &str, other: &str) -> Self {
        self.alteration = Some((text.to_owned(), other.to_owned()));
        self.pipelines = Arc::default();
        self
    }

    /// The text of a shader as it is compiled.
    pub(super) fn altered(&self, source: String) -> String {
        match &self.alteration {
            None => source,
            Some((text, other)) => source.replace(text, other),
        }
    }

    /// What the adapter allows.
    pub fn limits(&self) -> &wgpu::Limits {
        &self.limits
    }

    /// A buffer, zeroed.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is larger than the adapter allows, with how to make it smaller;
    /// [`Error::DeviceMemory`] if it has no room for it.
    pub fn buffer(&self, content: impl Into<Content>, bytes: u64, usage: wgpu::BufferUsages) -> Result<wgpu::Buffer> {
        let Content { name, remedy } = content.into();
        let most = if usage.contains(wgpu::BufferUsages::STORAGE) {
            self.limits.max_buffer_size.min(self.limits.max_storage_buffer_binding_size)
        } else {
            self.limits.max_buffer_size
        };
        if bytes > most {
            return Err(Error::Invalid(format!(
                "{name} would take {bytes} bytes, {:.1} times the {most} that adapter {} allows in one buffer; \
                 use {remedy}, or --backend cpu",
                bytes as f64 / most as f64,
                self.info.name
            )));
        }
        if let Some(memory) = self.memory {
            // Mesa's software adapter grants what there is not, and the system then kills the process.
            let taken = self.device.generate_allocator_report().map_or(0, |report| report.total_allocated_bytes);
            if taken.saturating_add(bytes) > memory {
                let what = format!("{name} ({bytes} bytes; {taken} of {memory} are taken)");
                return Err(Error::DeviceMemory { adapter: self.info.name.clone(), what });
            }
        }
        let buffer = self.making(&format!("{name} ({bytes} bytes)"), || {
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

    /// Has `make` make `what` on the device. If wgpu objects, [`check`](Self::check) says so by that name.
    pub(super) fn making<T>(&self, what: &str, make: impl FnOnce() -> T) -> T {
        // A browser tells later, and not who was meant: there all errors go to the callback.
        if cfg!(target_arch = "wasm32") {
            return make();
        }
        let filters = [wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Internal];
        let scopes = filters.map(|filter| self.device.push_error_scope(filter));
        let made = make();
        for scope in scopes.into_iter().rev() {
            let popped = std::pin::pin!(scope.pop()).poll(&mut Context::from_waker(Waker::noop()));
            if let Poll::Ready(Some(error)) = popped {
                note(&self.trouble, Trouble::new(what, &error));
            }
        }
        made
    }

    /// Submits commands, and looks whether the device is still there: after its loss submissions seem to succeed, and
    /// the callback that tells comes from polling.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn submit(&self, commands: impl IntoIterator<Item = wgpu::CommandBuffer>) -> Result<wgpu::SubmissionIndex> {
        let submission = self.queue.submit(commands);
        let _ = self.device.poll(wgpu::PollType::Poll); // can fail only where it waits
        self.check()?;
        Ok(submission)
    }

    /// Distance of the records in a uniform buffer that are chosen by a dynamic offset, in bytes.
    pub(super) fn uniform_stride(&self) -> u64 {
        (size_of::<super::kernel::StepRecord>() as u64)
            .next_multiple_of(u64::from(self.limits.min_uniform_buffer_offset_alignment))
    }

    /// Reports the first error that wgpu or the driver has raised.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::DeviceMemory`], [`Error::DeviceHung`], or [`Error::Gpu`] for anything else.
    pub fn check(&self) -> Result<()> {
        let adapter = || self.info.name.clone();
        let mut trouble = lock(&self.trouble).clone();
        if matches!(trouble, Some(Trouble::Memory(_) | Trouble::Other(_))) {
            // Was that the loss of the device? It tells when nothing is under way any more.
            let _ = self.wait(None);
            trouble = lock(&self.trouble).clone();
        }
        Err(match trouble {
            None => return Ok(()),
            Some(Trouble::Lost(reason)) => Error::DeviceLost { adapter: adapter(), reason },
            Some(Trouble::Memory(what)) => Error::DeviceMemory { adapter: adapter(), what },
            Some(Trouble::Hung) => Error::DeviceHung { adapter: adapter(), seconds: self.timeout.as_secs_f64() },
            Some(Trouble::Other(problem)) => self.error(problem),
        })
    }

    /// Polls the device until a submission is done, or all are, for at most the time-out.
    ///
    /// The wait is cut into slices that are counted, whatever a clock says meanwhile: a process that was paused (SIGSTOP,
    /// a frozen container, a suspended machine) finds the slice over in which that happened, and no other. So only time
    /// counts in which the process could run, and nothing came back.
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

    /// Gives the device up after a wait that timed out. It is never dropped: dropping would wait for it.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn give_up(&self) -> Result<()> {
        note(&self.trouble, Trouble::Hung);
        std::mem::forget(self.clone());
        self.check()
    }

    pub(super) fn error(&self, problem: impl Into<String>) -> Error {
        Error::Gpu { adapter: self.info.name.clone(), problem: problem.into() }
    }
}

/// Bytes that this machine could still give to programs when the device was opened, where the system tells.
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

impl Trouble {
    /// What wgpu says to the making of `what`, in one line.
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

fn lock(trouble: &FirstTrouble) -> MutexGuard<'_, Option<Trouble>> {
    trouble.lock().unwrap_or_else(PoisonError::into_inner)
}

fn note(trouble: &FirstTrouble, problem: Trouble) {
    let mut first = lock(trouble);
    // A lost device makes other trouble before it tells.
    if first.is_none() || matches!(problem, Trouble::Lost(_)) {
        *first = Some(problem);
    }
}
