//! Whole training steps, GPU beside CPU: forward, loss, backward and update, with every loss brought to the host.
//!
//! An element is a floating-point operation of the step's matrix products, so that Gelem/s reads GFLOP/s. Data are
//! random, which takes the same time as any other. `softstep bench` measures the same for people.

use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use pollster::block_on;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use softstep::backend::{Backend, Step, Training};
use softstep::cpu::CpuBackend;
use softstep::data::Examples;
use softstep::gpu::{AdapterChoice, Gpu, GpuBackend, Readback};
use softstep::model::{Parameters, Shape, parse_layers};
use softstep::plan::Plan;
use softstep::trainer::{TrainingConfig, epoch_order};

const EXAMPLES: usize = 16_384;
const IMAGE: Shape = Shape::Image { height: 28, width: 28, channels: 1 };
/// The layers before the last linear one.
const MODELS: [&str; 5] = [
    "",
    "linear:128,relu",
    "linear:512,relu,linear:512,relu",
    "conv:16x5,relu,pool:2,conv:32x5,relu,pool:2,linear:128,relu",
    "conv:32x3,relu,pool:2,conv:64x3,relu,pool:2,linear:128,relu",
];
const BATCH_SIZES: [usize; 3] = [64, 256, 1024];
const LEARNING_RATE: f32 = 0.01;

fn steps(criterion: &mut Criterion) {
    let gpu = match block_on(Gpu::open(&AdapterChoice::Auto)) {
        Ok(gpu) => {
            println!("GPU backend on {} ({}; {})", gpu.info().name, gpu.info().device_type, gpu.info().driver);
            Some(gpu)
        }
        Err(error) => {
            println!("{error}; measuring the CPU backend alone");
            None
        }
    };
    let examples = examples();
    for layers in MODELS {
        let layers = if layers.is_empty() { None } else { Some(parse_layers(layers).unwrap()) };
        let config = TrainingConfig::default().layers(layers);
        let architecture = config.architecture(IMAGE, 10).unwrap();
        let parameters = Parameters::initialize(&architecture, 0).unwrap();
        let name = match architecture.as_dense() {
            Some((sizes, _)) => sizes.iter().map(usize::to_string).collect::<Vec<_>>().join("-"),
            None => architecture.to_string(),
        };
        let mut group = criterion.benchmark_group(format!("step/{name}"));
        group.sampling_mode(SamplingMode::Flat).sample_size(10);
        group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
        for batch_size in BATCH_SIZES {
            let training = Training::new(&examples, batch_size);
            group.throughput(Throughput::Elements(Plan::new(&parameters.architecture).step_operations(batch_size)));
            let mut first_losses = Vec::new();
            if let Some(gpu) = &gpu {
                let backend = block_on(GpuBackend::new(gpu, &parameters, &training, Readback::Pipelined));
                first_losses.push(bench(&mut group, "gpu", backend.unwrap(), batch_size));
                let gpu = gpu.clone().with_resident_bytes(0);
                let backend = block_on(GpuBackend::new(&gpu, &parameters, &training, Readback::Pipelined));
                first_losses.push(bench(&mut group, "gpu, data streamed", backend.unwrap(), batch_size));
            }
            let backend = CpuBackend::new(&parameters, &training).unwrap();
            first_losses.push(bench(&mut group, "cpu", backend, batch_size));
            let difference = (first_losses[0] - first_losses[first_losses.len() - 1]).abs();
            assert!(difference <= 1e-4, "first losses of the backends: {first_losses:?}");
        }
    }
}

/// Measures steps on `backend`; returns the first loss.
fn bench<B: Backend>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, mut backend: B, batch_size: usize) -> f32 {
    let order = epoch_order(0, 1, EXAMPLES);
    let mut losses = Vec::new();
    let mut first = 0;
    backend.begin_epoch(&order).unwrap();
    let mut run = |steps: u64| {
        losses.clear();
        let started = Instant::now();
        for _ in 0..steps {
            if first + batch_size > EXAMPLES {
                block_on(backend.flush(&mut losses)).unwrap();
                backend.begin_epoch(&order).unwrap();
                first = 0;
            }
            let step = Step { first, batch: batch_size, learning_rate: LEARNING_RATE };
            block_on(backend.step(step, &mut losses)).unwrap();
            first += batch_size;
        }
        block_on(backend.flush(&mut losses)).unwrap();
        let time = started.elapsed();
        assert_eq!(losses.len(), steps as usize);
        assert!(losses.iter().all(|loss| loss.is_finite()), "a loss is not finite");
        (time, losses[0])
    };
    let (_, first_loss) = run(1);
    group.bench_function(BenchmarkId::new(name, batch_size), |bencher| bencher.iter_custom(|steps| run(steps).0));
    first_loss
}

fn examples() -> Examples {
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let mut inputs = vec![0u8; EXAMPLES * 784];
    random.fill_bytes(&mut inputs);
    let labels: Vec<u32> = (0..EXAMPLES).map(|_| random.next_u32() % 10).collect();
    Examples::new(inputs, labels, 784, 10).unwrap()
}

criterion_group!(benches, steps);
criterion_main!(benches);
