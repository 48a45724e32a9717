//! `softstep bench`: training speed of this machine, on the GPU and on the CPU.
//!
//! Machines are noisy and slow down as they get hot, so the backends take turns in short rounds, and medians are
//! reported.

mod output;

use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;
use clap::error::ErrorKind;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use softstep::Error;
use softstep::any_backend::{AnyBackend, Device};
use softstep::backend::{Backend, DeviceInfo, Inference, Step, Training};
use softstep::data::Examples;
use softstep::gpu::{AdapterChoice, Gpu, Readback};
use softstep::model::{Activation, Architecture, Layer, Parameters, Shape};
use softstep::plan::Plan;
use softstep::trainer::epoch_order;

use self::output::{Comparison, Progress, Speed};
use crate::device;
use crate::options::{LayersChoice, Problem, layer_size};

/// Examples and formats, shown by `--help`.
pub const HELP: &str = "\
Examples:
  softstep bench                              three models, three batch sizes; about half a minute
  softstep bench --hidden 128 --batch-size 64 a single configuration
  softstep bench --hidden --seconds 10        softmax regression, more precisely
  softstep bench --layers cnn --batch-size 64 the convolutional network of `softstep train --layers cnn`
  softstep bench --adapter llvmpipe --json > speed.jsonl

Times training steps on 60,000 random examples of 784 features in 10 classes, with plain SGD and every loss read back \
to the host. The backends take turns, and each figure is the median of 5 rounds; GPU/CPU is the median of the rounds' \
ratios. GFLOP/s counts the matrix products alone. The time to the first loss starts when the device is opened, and \
includes uploading the data, compiling the kernels and one step.

--json prints one JSON object for each configuration: architecture (input, layers), sizes (of linear layers), batch_size, \
gpu, cpu, gpu_per_cpu (steps per second of the GPU divided by those of the CPU) and use (gpu or cpu, the faster). gpu and \
cpu hold steps_per_second, images_per_second, gflop_per_second, first_loss_seconds, rounds (steps per second in each), \
adapter, device_type and driver; gpu and gpu_per_cpu are null if there is no adapter.";

/// Options of `softstep bench`.
#[derive(Args, Debug)]
pub struct BenchArgs {
    /// Only this model: sizes of its hidden layers, such as 128 or 512,512; without sizes, softmax regression
    #[arg(long, value_name = "SIZES", value_delimiter = ',', num_args = 0..=1, value_parser = layer_size)]
    pub hidden: Option<Vec<usize>>,
    /// Only this network, described as for `softstep train --layers`, on images of 28x28
    #[arg(long, value_name = "LAYERS|cnn", conflicts_with = "hidden")]
    pub layers: Option<LayersChoice>,
    /// Only this batch size, or several as in 64,1024
    #[arg(long = "batch-size", value_name = "N", value_delimiter = ',', default_values_t = [64, 256, 1024])]
    pub batch_sizes: Vec<usize>,
    /// Time to measure each configuration for, both backends together
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, default_value_t = 3.0)]
    pub seconds: f64,
    /// Number or part of the name of an adapter; see `softstep adapters`
    #[arg(long, value_name = "NAME|INDEX")]
    pub adapter: Option<String>,
    /// Print JSON Lines for programs
    #[arg(long)]
    pub json: bool,
}

impl BenchArgs {
    /// Checks the values of options.
    ///
    /// # Errors
    /// A value out of range, by its flag.
    pub fn check(&self) -> Result<(), Problem> {
        self.problem().map_or(Ok(()), |problem| Err((ErrorKind::ValueValidation, problem)))
    }

    fn problem(&self) -> Option<String> {
        if self.hidden.as_ref().is_some_and(|hidden| hidden.contains(&0)) {
            return Some("--hidden: the size of a layer must be 1 or more".into());
        }
        if let Some(size) = self.batch_sizes.iter().find(|&&size| !(1..=BENCH_EXAMPLES).contains(&size)) {
            return Some(format!(
                "--batch-size {size}: must be 1 or more, and no more than the {BENCH_EXAMPLES} examples"
            ));
        }
        if !(self.seconds > 0.0 && self.seconds <= 3600.0) {
            return Some(format!("--seconds {}: must be above 0 and at most 3600", self.seconds));
        }
        None
    }
}

/// Examples that `softstep bench` trains on: as many as MNIST has.
pub const BENCH_EXAMPLES: usize = 60_000;

/// Shape of MNIST's examples.
const IMAGE: Shape = Shape::Image { height: 28, width: 28, channels: 1 };
const CLASSES: usize = 10;
/// Hidden layers of the models that are measured by default.
const MODELS: [&[usize]; 3] = [&[], &[128], &[512, 512]];
/// Number of rounds of each backend.
const ROUNDS: usize = 5;
const LEARNING_RATE: f32 = 0.01;

/// Measures every combination of models and batch sizes.
pub async fn run(args: &BenchArgs) -> Result<()> {
    let adapter = device::open_adapter(args.adapter.as_ref()).await?.map(|_| match &args.adapter {
        Some(name) => AdapterChoice::Named(name.clone()),
        None => AdapterChoice::Auto,
    });
    let dense =
        |hidden: &[usize]| Architecture::dense(&[&[IMAGE.len()], hidden, &[CLASSES]].concat(), Activation::Relu);
    let models = match (&args.layers, &args.hidden) {
        (Some(layers), _) => {
            let last = Layer::Linear { outputs: CLASSES };
            let model = Architecture::new(IMAGE, layers.layers(IMAGE)?.into_iter().chain([last]));
            vec![model.map_err(|error| Error::Invalid(format!("--layers: {error}")))?]
        }
        (None, Some(hidden)) => vec![dense(hidden)?],
        (None, None) => MODELS.iter().map(|hidden| dense(hidden)).collect::<softstep::Result<_>>()?,
    };
    let examples = random_examples()?;
    let order = epoch_order(0, 1, BENCH_EXAMPLES);
    let mut progress = Progress::new(models.len() * args.batch_sizes.len(), args.json);
    for architecture in &models {
        for &batch_size in &args.batch_sizes {
            progress.begin(architecture, batch_size);
            let operations = Plan::new(architecture).step_operations(batch_size);
            let job = Job { architecture, operations, batch_size, examples: &examples, order: &order };
            progress.measured(job.compare(adapter.as_ref(), args.seconds).await?)?;
        }
    }
    Ok(progress.done()?)
}

/// Random bytes and labels; their values do not affect the time.
fn random_examples() -> softstep::Result<Examples> {
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let mut inputs = vec![0u8; BENCH_EXAMPLES * IMAGE.len()];
    random.fill_bytes(&mut inputs);
    let labels: Vec<u32> = (0..BENCH_EXAMPLES).map(|_| random.next_u32() % CLASSES as u32).collect();
    Examples::new(inputs, labels, IMAGE.len(), CLASSES)
}

/// A combination of model and batch size.
struct Job<'a> {
    architecture: &'a Architecture,
    /// Floating-point operations per step.
    operations: u64,
    batch_size: usize,
    examples: &'a Examples,
    order: &'a [u32],
}

impl<'a> Job<'a> {
    /// Measures both backends, or the CPU alone without an adapter, for about `seconds` seconds.
    async fn compare(&self, adapter: Option<&AdapterChoice>, seconds: f64) -> Result<Comparison> {
        let parameters = Parameters::initialize(self.architecture, 0)?;
        let training = Training::new(self.examples, self.batch_size);
        let started = Instant::now();
        let mut gpu = match adapter {
            Some(adapter) => {
                let device = Device::Gpu(Gpu::open(adapter).await?);
                let backend = device.for_training(&parameters, &training, Readback::Pipelined).await?;
                Some(Lane::new(backend, self, started).await?)
            }
            None => None,
        };
        let started = Instant::now();
        let backend = Device::Cpu.for_training(&parameters, &training, Readback::Pipelined).await?;
        let mut cpu = Lane::new(backend, self, started).await?;
        if let Some(gpu) = &gpu {
            let (gpu, cpu) = (gpu.first_loss, cpu.first_loss);
            let agree = (gpu - cpu).abs() <= 1e-3 * cpu;
            if !agree {
                bail!("the backends disagree: the first loss is {gpu} on the GPU and {cpu} on the CPU");
            }
        }

        let backends = 1 + usize::from(gpu.is_some());
        let turn = seconds / (ROUNDS * backends) as f64;
        if let Some(gpu) = &mut gpu {
            gpu.warm_up(turn).await?;
        }
        cpu.warm_up(turn).await?;
        for _ in 0..ROUNDS {
            if let Some(gpu) = &mut gpu {
                gpu.round().await?;
            }
            cpu.round().await?;
        }

        let gpu = gpu.map(Lane::speed);
        let cpu = cpu.speed();
        let gpu_per_cpu =
            gpu.as_ref().map(|gpu| median(gpu.rounds.iter().zip(&cpu.rounds).map(|(gpu, cpu)| gpu / cpu)));
        let best = if gpu_per_cpu.is_some_and(|ratio| ratio > 1.0) { "gpu" } else { "cpu" };
        Ok(Comparison {
            architecture: self.architecture.clone(),
            sizes: self.architecture.as_dense().map(|(sizes, _)| sizes),
            batch_size: self.batch_size,
            gpu,
            cpu,
            gpu_per_cpu,
            best,
        })
    }
}

/// A backend in the benchmark.
struct Lane<'a> {
    backend: AnyBackend,
    job: &'a Job<'a>,
    /// Start of the next step in the shuffled indices.
    next: usize,
    losses: Vec<f32>,
    first_loss: f32,
    first_loss_seconds: f64,
    /// Number of steps per round.
    steps: usize,
    /// Steps per second in each round.
    rounds: Vec<f64>,
}

impl<'a> Lane<'a> {
    /// Takes the first step; `started` is when the creation of the backend started.
    async fn new(mut backend: AnyBackend, job: &'a Job<'a>, started: Instant) -> Result<Self> {
        backend.begin_epoch(job.order)?;
        let mut lane = Self {
            backend,
            job,
            next: 0,
            losses: Vec::new(),
            first_loss: f32::NAN,
            first_loss_seconds: 0.0,
            steps: 1,
            rounds: Vec::new(),
        };
        lane.run().await?;
        lane.first_loss = lane.losses[0];
        lane.first_loss_seconds = started.elapsed().as_secs_f64();
        Ok(lane)
    }

    /// Takes the steps of a round and waits for their losses; returns the time in seconds.
    async fn run(&mut self) -> Result<f64> {
        let Job { batch_size, order, .. } = *self.job;
        self.losses.clear();
        let started = Instant::now();
        for _ in 0..self.steps {
            if self.next + batch_size > order.len() {
                self.backend.flush(&mut self.losses).await?;
                self.backend.begin_epoch(order)?;
                self.next = 0;
            }
            let step = Step { first: self.next, batch: batch_size, learning_rate: LEARNING_RATE };
            self.backend.step(step, &mut self.losses).await?;
            self.next += batch_size;
        }
        self.backend.flush(&mut self.losses).await?;
        let seconds = started.elapsed().as_secs_f64();
        if self.losses.len() != self.steps || !self.losses.iter().all(|loss| loss.is_finite()) {
            let DeviceInfo { name, .. } = self.backend.info();
            bail!("{name} gave a wrong number of losses, or one that is not finite: its times mean nothing");
        }
        Ok(seconds)
    }

    /// Takes steps until the pace is steady, and chooses the number of steps that take about `turn` seconds.
    async fn warm_up(&mut self, turn: f64) -> Result<()> {
        loop {
            let seconds = self.run().await?;
            if seconds >= turn / 2.0 {
                self.steps = ((self.steps as f64 * turn / seconds).round() as usize).max(1);
                return Ok(());
            }
            self.steps *= 2;
        }
    }

    /// Measures one round.
    async fn round(&mut self) -> Result<()> {
        let seconds = self.run().await?;
        self.rounds.push(self.steps as f64 / seconds);
        Ok(())
    }

    fn speed(self) -> Speed {
        let steps_per_second = median(self.rounds.iter().copied());
        Speed {
            steps_per_second,
            images_per_second: steps_per_second * self.job.batch_size as f64,
            gflop_per_second: steps_per_second * self.job.operations as f64 / 1e9,
            first_loss_seconds: self.first_loss_seconds,
            device: self.backend.info().clone(),
            rounds: self.rounds,
        }
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
