//! `softstep doctor`: checks that training works on this machine and that the device computes correct results.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use indicatif::{DecimalBytes, HumanBytes};
use serde::{Serialize, Serializer};
use softstep::Error;
use softstep::any_backend::Device;
use softstep::backend::{Backend, DeviceInfo, Inference, Step, Training};
use softstep::data::{self, Store};
use softstep::gpu::kernels::{Matmul, programs};
use softstep::gpu::self_test::{Costs, KernelTest, self_test};
use softstep::gpu::{self, AdapterChoice, AdapterEntry, Gpu, REMEDY, Readback};
use softstep::model::{Architecture, Layer, Parameters, parse_layers};
use softstep::optimizer::Sgd;
use softstep::trainer::epoch_order;
use softstep::verify::Verified;

use crate::commands::adapters::{adapter_table, serialize_adapters};
use crate::device;
use crate::flags::with_flags;
use crate::format::{self, count, counted};
use crate::run::folder;
use crate::terminal::{self, device_line, field, line, path_text, print, print_json};

/// Examples and formats, shown by `--help`.
pub const HELP: &str = "\
Examples:
  softstep doctor                             the device that `softstep train` would use
  softstep doctor --adapter 1                 another one
  softstep doctor --json
  softstep doctor --dump-shaders shaders      writes the text of every GPU program, one file each

Tests every kernel on the adapter against known answers, with each matrix multiplication method that the adapter can run; \
trains some steps and computes them again on the CPU; measures the cost of a dispatch and of a readback; and writes to the \
folders of data and runs. The exit code is 0 only if training would work. Paste the output into a bug report.

--json prints one JSON object: version, os, processor, instruction_set, arithmetic (what the bits of the CPU depend on), \
threads, adapters, auto, device (limits, kernels, costs), training, folders and problems, which is empty if training works.";

/// Options of `softstep doctor`.
#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// Number or part of the name of an adapter; see `softstep adapters`
    #[arg(long, value_name = "NAME|INDEX")]
    pub adapter: Option<String>,
    /// Folder to look for data sets in first, and to download them to
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// Folder of the runs
    #[arg(long, value_name = "FOLDER", default_value = "runs")]
    pub out: PathBuf,
    /// Write the text of every program that can run on a GPU into this folder, new or empty, and do nothing else
    #[arg(long, value_name = "FOLDER")]
    pub dump_shaders: Option<PathBuf>,
    /// Print one JSON object for programs
    #[arg(long)]
    pub json: bool,
}

/// Number of steps of the test training, and how many of them are verified on the CPU.
const STEPS: usize = 40;
const VERIFIED: usize = 4;

/// Size of the file that tests whether a folder is writable.
const PROBE_BYTES: usize = 1 << 20;

/// Everything that `softstep doctor` finds out.
#[derive(Debug, Serialize)]
pub struct Diagnosis {
    pub version: &'static str,
    /// Operating system, architecture and distribution.
    pub os: String,
    pub processor: String,
    /// The instruction set that the CPU backend computes with.
    pub instruction_set: &'static str,
    /// Properties that the bits of the CPU backend depend on.
    pub arithmetic: String,
    pub threads: usize,
    #[serde(serialize_with = "serialize_adapters")]
    pub adapters: Vec<AdapterEntry>,
    /// The device that `--backend auto` takes, and the reason.
    pub auto: String,
    /// The tested device; `None` without an adapter.
    pub device: Option<TestedDevice>,
    /// The test training; `None` if it failed.
    pub training: Option<TestTraining>,
    pub folders: Vec<Folder>,
    /// Reasons why training would fail; empty if it works.
    pub problems: Vec<String>,
}

/// A device and the results of its tests.
#[derive(Debug, Serialize)]
pub struct TestedDevice {
    #[serde(flatten, serialize_with = "terminal::serialize_device")]
    pub info: DeviceInfo,
    pub limits: Limits,
    /// The matrix multiplication method in use, and all supported ones.
    pub matmul: Matmul,
    pub matmul_choices: Vec<Matmul>,
    #[serde(serialize_with = "kernel_lines")]
    pub kernels: Vec<KernelTest>,
    pub costs: Option<Costs>,
}

/// The limits that decide how much a device can train.
#[derive(Debug, Serialize)]
pub struct Limits {
    pub buffer_bytes: u64,
    pub binding_bytes: u64,
    pub workgroups_per_dimension: u32,
    pub workgroup_bytes: u32,
    pub timestamps: bool,
}

/// A few training steps on the bundled digits, on the device that `auto` or `--adapter` selects.
#[derive(Debug, Serialize)]
pub struct TestTraining {
    pub device: String,
    pub steps: usize,
    pub verified: usize,
    pub first_loss: f32,
    pub last_loss: f32,
}

/// A folder that softstep writes to.
#[derive(Debug, Serialize)]
pub struct Folder {
    pub what: &'static str,
    pub path: PathBuf,
    /// True if a file could be written there.
    pub writable: bool,
    pub free_bytes: Option<u64>,
    pub problem: Option<String>,
}

#[derive(Serialize)]
struct KernelLine<'a> {
    #[serde(flatten)]
    test: &'a KernelTest,
    passed: bool,
    /// Error of the worst element, relative to its tolerance; null if it is infinite.
    excess: f64,
    worst: String,
}

fn kernel_lines<S: Serializer>(tests: &[KernelTest], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(tests.iter().map(|test| KernelLine {
        test,
        passed: test.passed(),
        excess: test.worst.excess(),
        worst: test.worst.to_string(),
    }))
}

/// Examines this machine; returns true if training would work.
pub async fn run(args: &DoctorArgs) -> Result<bool> {
    if let Some(folder) = &args.dump_shaders {
        dump_shaders(folder)?;
        return Ok(true);
    }
    let adapters = gpu::adapters().await;
    let mut problems = Vec::new();
    let choice = args.adapter.clone().map_or(AdapterChoice::Auto, AdapterChoice::Named);
    let opened = Gpu::open(&choice).await.map(device::alter_shaders);
    let auto = match (&opened, &choice) {
        (Ok(gpu), AdapterChoice::Auto) => {
            let DeviceInfo { name, device_type, .. } = gpu.info();
            match *device_type {
                "software" => {
                    format!(
                        "the CPU: there is no hardware GPU; --backend gpu takes {name}, a software adapter, which is slower"
                    )
                }
                _ => format!("{name}: the first hardware GPU that opens"),
            }
        }
        (Err(error), AdapterChoice::Auto) => with_flags(&with_flags(&format!("the CPU: {error}"))),
        _ => match adapters.first() {
            Some(first) if first.device_type != "software" => format!("{}: the first hardware GPU", first.name),
            Some(_) => "the CPU: there is no hardware GPU".into(),
            None => format!("the CPU: no adapter found: {REMEDY}"),
        },
    };
    let (device, gpu) = match opened {
        Ok(gpu) => (Some(examine(&gpu, &mut problems).await), Some(gpu)),
        // Without an adapter, training falls back to the CPU, unless an adapter was requested.
        Err(error) => {
            if choice != AdapterChoice::Auto {
                problems.push(with_flags(&error.to_string()));
            }
            (None, None)
        }
    };
    let trained = test_training(&gpu.map_or(Device::Cpu, Device::Gpu)).await;
    let training = match trained {
        Ok(training) => Some(training),
        Err(error) => {
            problems.push(with_flags(&error.to_string()));
            None
        }
    };

    let mut folders = Vec::new();
    if let Some(path) = Store::new(args.data_dir.as_deref()).folders.first() {
        folders.push(probe("data", path)); // an unwritable folder can still be read
    }
    let runs = probe("runs", &args.out);
    problems.extend(runs.problem.as_ref().map(|problem| format!("{}: {problem}", runs.path.display())));
    folders.push(runs);

    let cpu = Device::Cpu.info();
    let diagnosis = Diagnosis {
        version: env!("CARGO_PKG_VERSION"),
        os: system(),
        processor: cpu.name,
        instruction_set: softstep::cpu::instruction_set(),
        arithmetic: cpu.driver,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        adapters,
        auto,
        device,
        training,
        folders,
        problems,
    };
    print_diagnosis(&diagnosis, args.json)?;
    Ok(diagnosis.problems.is_empty())
}

/// Writes every program to a file of a folder. The file has the name of the program, with the matrix multiplication
/// method if there are several. A line before each part names the part's file.
fn dump_shaders(folder: &Path) -> Result<()> {
    folder::check_free("--dump-shaders", folder)?;
    std::fs::create_dir_all(folder).map_err(Error::io("create folder", folder))?;
    let mut files = BTreeMap::new();
    for program in programs() {
        let way = program.parts.iter().find_map(|part| {
            let way = part.path.strip_prefix("matmul/")?.strip_suffix(".wgsl")?;
            ["plain", "workgroup", "subgroup", "narrow", "sliding", "sliding_sums"]
                .contains(&way)
                .then(|| format!(".{way}"))
        });
        let (name, entry) = (program.name, program.entry);
        let head = format!("// softstep {}, program {name}: entry point {entry}\n", env!("CARGO_PKG_VERSION"));
        files.insert(format!("{name}{}.wgsl", way.unwrap_or_default()), head + &program.source());
    }
    for (name, text) in &files {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(Error::io("write", &path))?;
    }
    terminal::written(&format::counted(files.len(), "program"), folder)
}

/// Tests every kernel and measures the costs of a device.
async fn examine(gpu: &Gpu, problems: &mut Vec<String>) -> TestedDevice {
    let limits = gpu.limits();
    let limits = Limits {
        buffer_bytes: limits.max_buffer_size,
        binding_bytes: limits.max_storage_buffer_binding_size,
        workgroups_per_dimension: limits.max_compute_workgroups_per_dimension,
        workgroup_bytes: limits.max_compute_workgroup_storage_size,
        timestamps: gpu.device.features().contains(wgpu::Features::TIMESTAMP_QUERY),
    };
    let mut kernels = Vec::new();
    match self_test(gpu, gpu.matmul_choices()).await {
        Ok(tests) => kernels = tests,
        Err(error) => problems.push(with_flags(&format!("the kernels could not be tested: {error}"))),
    }
    for test in kernels.iter().filter(|test| !test.passed()) {
        problems.push(format!("kernel {} is wrong{}: {}", test.kernel, by_matmul(test.matmul), test.worst));
    }
    let costs = match Costs::measure(gpu).await {
        Ok(costs) => Some(costs),
        Err(error) => {
            problems.push(with_flags(&format!("the device could not be timed: {error}")));
            None
        }
    };
    let matmul_choices = gpu.matmul_choices().to_vec();
    TestedDevice { info: gpu.info().clone(), limits, matmul: gpu.matmul(), matmul_choices, kernels, costs }
}

/// Trains a network with every kind of layer for some steps on the bundled digits, on the device that `softstep train`
/// would use.
async fn test_training(device: &Device) -> softstep::Result<TestTraining> {
    let data = data::digits()?;
    let (shape, digits) = (data.shape(), data.train);
    let sgd = Sgd { momentum: 0.9, ..Sgd::default() };
    let training = Training { optimizer: sgd.into(), ..Training::new(&digits, 32) };
    let layers = parse_layers("conv:8x3,batchnorm,relu,pool:2,dropout:0.1,linear:32,gelu")?;
    let last = Layer::Linear { outputs: digits.outputs };
    let parameters = Parameters::initialize(&Architecture::new(shape, layers.into_iter().chain([last]))?, 0)?;
    let backend = device.for_training(&parameters, &training, Readback::default()).await?;
    let mut backend = Verified::new(backend, training, STEPS / VERIFIED, 0);
    let order = epoch_order(0, 1, training.examples.len());
    backend.begin_epoch(&order)?;
    let mut losses = Vec::new();
    for index in 0..STEPS {
        let batch = training.batch_size;
        backend.step(Step { first: index * batch, batch, learning_rate: 0.1 }, &mut losses).await?;
    }
    backend.flush(&mut losses).await?;
    let (first_loss, last_loss) = (losses[0], losses[losses.len() - 1]);
    let device = backend.info().name.clone();
    let learned = last_loss < 0.8 * first_loss;
    if !learned {
        return Err(Error::Gpu {
            adapter: device,
            problem: format!("the loss of the test training went from {first_loss} to {last_loss} in {STEPS} steps"),
        });
    }
    let verified = backend.verification().map_or(0, |found| found.steps);
    Ok(TestTraining { device, steps: STEPS, verified, first_loss, last_loss })
}

/// Tests whether a file can be written to a folder, or to the nearest existing one above it.
fn probe(what: &'static str, path: &Path) -> Folder {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let existing = path.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("."));
    let write = || {
        let mut file = tempfile::tempfile_in(existing)?;
        file.write_all(&vec![0; PROBE_BYTES])?;
        file.sync_all()
    };
    let problem = write().err().map(|error| format!("cannot write to {}: {error}", existing.display()));
    let free_bytes = fs4::available_space(existing).ok();
    Folder { what, path, writable: problem.is_none(), free_bytes, problem }
}

/// Description of the system, such as `linux x86_64, Debian GNU/Linux 12 (bookworm)`.
fn system() -> String {
    let mut system = format!("{} {}", std::env::consts::OS, std::env::consts::ARCH);
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    if let Some(name) = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")) {
        system += &format!(", {}", name.trim_matches('"'));
    }
    system
}

/// Prints a diagnosis.
fn print_diagnosis(diagnosis: &Diagnosis, json: bool) -> Result<()> {
    if json {
        return Ok(print_json(diagnosis)?);
    }
    let Diagnosis { version, os, processor, threads, adapters, auto, device, training, folders, problems, .. } =
        diagnosis;
    let mut lines = vec![
        field("softstep", &format!("{version}, {os}")),
        field("processor", &format!("{processor}, {}, {}", diagnosis.instruction_set, counted(*threads, "thread"))),
        field("CPU bits", &format!("{}: the CPU gives the same bits wherever this is the same", diagnosis.arithmetic)),
    ];
    if !adapters.is_empty() {
        lines.extend(["".into(), adapter_table(adapters), "".into()]);
    }
    lines.push(field("auto", &format!("takes {auto}")));
    if let Some(TestedDevice { info, limits, matmul, matmul_choices, kernels, costs }) = device {
        lines.push(device_line(info));
        lines.push(field(
            "limits",
            &format!(
                "{} in a binding, {} in a buffer, {} workgroups along a side, {} of workgroup memory, {}timestamps",
                HumanBytes(limits.binding_bytes),
                HumanBytes(limits.buffer_bytes),
                count(limits.workgroups_per_dimension as usize),
                HumanBytes(u64::from(limits.workgroup_bytes)),
                if limits.timestamps { "" } else { "no " },
            ),
        ));
        let right = kernels.iter().filter(|test| test.passed()).count();
        let numbers = kernels.iter().map(|test| test.numbers).sum();
        let worst = kernels.iter().max_by(|a, b| a.worst.excess().total_cmp(&b.worst.excess()));
        let choices: Vec<String> = matmul_choices.iter().map(|&choice| matmul_name(choice)).collect();
        lines.push(field(
            "kernels",
            &format!(
                "{right} of {} right: {} numbers; matmul {} (takes {})",
                counted(kernels.len(), "test"),
                count(numbers),
                choices.join(", "),
                matmul_name(*matmul)
            ),
        ));
        if let Some(KernelTest { kernel, matmul, worst, .. }) = worst {
            lines.push(field("", &format!("worst: {kernel}{}, {worst}", by_matmul(*matmul))));
        }
        if let Some(Costs { dispatch_seconds, readback_seconds }) = costs {
            let (dispatch, readback) = (1e6 * dispatch_seconds, 1e6 * readback_seconds);
            let text = format!("a dispatch {dispatch:.1} µs, one submitted and read back {readback:.0} µs");
            lines.push(field("costs", &text));
        }
    }
    if let Some(TestTraining { device, steps, verified, first_loss, last_loss }) = training {
        lines.push(field(
            "training",
            &format!(
                "{steps} steps on {device}: loss {first_loss:.3} to {last_loss:.3}, {} right by the CPU",
                counted(*verified, "step")
            ),
        ));
    }
    for Folder { what, path, free_bytes, problem, .. } in folders {
        let free = free_bytes.map_or_else(String::new, |bytes| format!(", {} free", DecimalBytes(bytes)));
        let state = problem.as_deref().unwrap_or("can be written");
        lines.push(field(what, &format!("{}: {}{free}", path_text(path), line(state))));
    }
    let verdict = match problems.as_slice() {
        [] => "training works here".into(),
        problems => {
            let problems: Vec<String> = problems.iter().map(|problem| line(problem)).collect();
            format!("training would fail here, or come out wrong\n  {}", problems.join("\n  "))
        }
    };
    lines.push(field("verdict", &verdict));
    Ok(print(&lines.join("\n"))?)
}

/// Formats a way to multiply, as in ` by matmul plain`.
fn by_matmul(matmul: Option<Matmul>) -> String {
    matmul.map_or_else(String::new, |matmul| format!(" by matmul {}", matmul_name(matmul)))
}

fn matmul_name(matmul: Matmul) -> String {
    format!("{matmul:?}").to_lowercase()
}
