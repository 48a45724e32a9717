//! Each kernel by itself, at sizes of the models that `softstep bench` trains, on the adapter that `softstep train`
//! would take. A kernel is checked against the oracle before it is timed.
//!
//! Matrix products count floating-point operations as elements, so that Gelem/s reads GFLOP/s; what works on rows of
//! logits, or on gradients to clip them, counts the bytes that it reads and writes.

#[path = "../tests/support/oracle.rs"]
mod oracle;

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use pollster::block_on;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use softstep::gpu::kernel::{Kernel, StepUniformBuffer, StepUniforms};
use softstep::gpu::kernels::{self, Clipping, Epilogue, Hidden, Inputs, Results, Targets};
use softstep::gpu::matrix::Matrix;
use softstep::gpu::readback::read_buffer;
use softstep::gpu::{AdapterChoice, Gpu};
use softstep::loss::Objective;
use softstep::model::Activation;
use softstep::optimizer::Optimizer;

/// `[batch, inputs, outputs]` of layers that read the data set.
const FIRST_LAYERS: [[usize; 3]; 3] = [[256, 784, 10], [256, 784, 128], [256, 784, 512]];
/// The same of layers that read other layers.
const LATER_LAYERS: [[usize; 3]; 2] = [[256, 128, 10], [256, 512, 512]];
/// `[rows, classes]` of kernels on logits.
const LOGITS: [[usize; 2]; 2] = [[1024, 10], [16_384, 10]];
/// `[inputs + 1, outputs]` of gradients that are clipped.
const GRADIENTS: [[usize; 2]; 2] = [[785, 128], [785, 512]];
/// Dispatches in a submission.
const DISPATCHES: usize = 32;

fn kernels(criterion: &mut Criterion) {
    let gpu = match block_on(Gpu::open(&AdapterChoice::Auto)) {
        Ok(gpu) => gpu,
        Err(error) => {
            println!("{error}; there are no kernels to measure without an adapter");
            return;
        }
    };
    let info = gpu.info();
    println!("kernels on {} ({}; {}), matmul {:?}", info.name, info.device_type, info.driver, gpu.matmul());
    let steps = StepUniformBuffer::new(&gpu, DISPATCHES).unwrap();
    let mut bench = Bench { gpu, steps, random: ChaCha8Rng::seed_from_u64(0), criterion };
    for shape in FIRST_LAYERS {
        let inputs = bench.examples(shape);
        bench.forward("forward_from_examples", &inputs, shape);
        bench.forward_with_loss("forward_with_loss_from_examples", &inputs, shape);
        bench.weight_gradient("weight_gradient_from_examples", &inputs, shape);
    }
    for shape in LATER_LAYERS {
        let inputs = bench.activations(shape);
        bench.forward("forward", &inputs, shape);
        bench.forward_with_loss("forward_with_loss", &inputs, shape);
        bench.weight_gradient("weight_gradient", &inputs, shape);
        bench.input_gradient(shape);
    }
    for shape in LOGITS {
        bench.softmax(shape);
        bench.cross_entropy(shape);
        bench.evaluate(shape);
    }
    for shape in GRADIENTS {
        bench.sum_of_squares(shape);
        bench.clipped_sgd(shape);
    }
}

/// A device, a source of random numbers, and where times go.
struct Bench<'a> {
    gpu: Gpu,
    steps: StepUniformBuffer,
    random: ChaCha8Rng,
    criterion: &'a mut Criterion,
}

/// What a layer reads.
struct LayerInputs {
    /// `[batch, inputs + 1]`, for the oracle.
    values: Vec<f64>,
    /// Example of each row.
    order: Vec<u32>,
    device: DeviceInputs,
}

enum DeviceInputs {
    Examples { examples: wgpu::Buffer, order: wgpu::Buffer, features: usize },
    Activations(Matrix),
}

impl LayerInputs {
    fn bound(&self) -> Inputs<'_> {
        match &self.device {
            DeviceInputs::Examples { examples, order, features } => {
                Inputs::Examples { examples, order, features: *features }
            }
            DeviceInputs::Activations(matrix) => Inputs::Activations(matrix),
        }
    }
}

/// Labels on both sides.
struct Labels {
    /// Of each row.
    values: Vec<u32>,
    order: wgpu::Buffer,
    labels: wgpu::Buffer,
    losses: wgpu::Buffer,
}

impl Labels {
    fn targets(&self) -> Targets<'_> {
        Targets { order: &self.order, labels: &self.labels, losses: &self.losses }
    }
}

impl Bench<'_> {
    fn forward(&mut self, kernel_name: &str, inputs: &LayerInputs, shape @ [rows, width, outputs]: [usize; 3]) {
        let (w, weights) = self.matrix(width + 1, outputs);
        let result = Matrix::new(&self.gpu, "outputs", rows, outputs).unwrap();
        let kernel = kernels::forward(&self.gpu, &self.steps, inputs.bound(), &weights, &result, None);
        self.run(&kernel, batch(rows), 1);
        let expected = oracle::matmul(&inputs.values, &oracle::widen(&w), [rows, width + 1, outputs]);
        oracle::assert_close(kernel_name, &self.read(&result), &expected, 1e-5, 5e-5);
        self.measure_product(kernel_name, shape, &kernel, batch(rows));
    }

    fn forward_with_loss(&mut self, kernel_name: &str, inputs: &LayerInputs, [rows, width, outputs]: [usize; 3]) {
        let (w, weights) = self.matrix(width + 1, outputs);
        let result = Matrix::new(&self.gpu, "outputs", rows, outputs).unwrap();
        let labels = self.labels(&inputs.order, outputs);
        let made = kernels::forward_with_loss(
            &self.gpu,
            &self.steps,
            inputs.bound(),
            &weights,
            &result,
            labels.targets(),
            cross_entropy(&weights.buffer),
        );
        // Only narrow products can be fused with the loss, and only on some adapters.
        let Some(kernel) = made else { return };
        self.run(&kernel, batch(rows), 1);
        let logits = oracle::matmul(&inputs.values, &oracle::widen(&w), [rows, width + 1, outputs]);
        let expected = oracle::cross_entropy_backward(&logits, &labels.values, outputs);
        oracle::assert_close(kernel_name, &self.read(&result), &expected, 2e-4, 1e-6);
        let expected = oracle::cross_entropies(&logits, &labels.values, outputs);
        oracle::assert_close(kernel_name, &self.read_buffer(&labels.losses, rows), &expected, 1e-5, 1e-4);
        self.measure_product(kernel_name, [rows, width, outputs], &kernel, batch(rows));
    }

    fn weight_gradient(&mut self, kernel_name: &str, inputs: &LayerInputs, shape @ [rows, width, outputs]: [usize; 3]) {
        let (d_out, d_outputs) = self.matrix(rows, outputs);
        let weights = Matrix::new(&self.gpu, "weights", width + 1, outputs).unwrap();
        let velocity = Matrix::new(&self.gpu, "velocity", 1, 1).unwrap();
        let (gpu, optimizer) = (&self.gpu, Optimizer::default());
        let update = Epilogue::Update { weights: &weights, moments: [&velocity; 2], optimizer: &optimizer };
        let kernel = kernels::weight_gradient(gpu, &self.steps, inputs.bound(), &d_outputs, update);
        // From weights of 0 and at a rate of -1 the update is the gradient.
        self.run(&kernel, StepUniforms { learning_rate: -1.0, ..batch(rows) }, 1);
        let expected = oracle::matmul_at_b(&inputs.values, &oracle::widen(&d_out), [width + 1, rows, outputs]);
        oracle::assert_close(kernel_name, &self.read(&weights), &expected, 1e-5, 5e-5);
        self.measure_product(kernel_name, shape, &kernel, batch(rows));
    }

    fn input_gradient(&mut self, shape @ [rows, width, outputs]: [usize; 3]) {
        let (d_out, d_outputs) = self.matrix(rows, outputs);
        let (w, weights) = self.matrix(width + 1, outputs);
        let inputs = self.activations(shape);
        let DeviceInputs::Activations(activations) = &inputs.device else { unreachable!("made as activations") };
        let d_inputs = Matrix::new(&self.gpu, "d_inputs", rows, width).unwrap();
        let kernel = kernels::input_gradient(
            &self.gpu,
            &self.steps,
            &d_outputs,
            &weights,
            activations,
            Hidden::new(Activation::Relu, activations),
            &d_inputs,
        );
        self.run(&kernel, batch(rows), 1);
        let w = oracle::widen(&w[..width * outputs]);
        let expected = oracle::matmul_a_bt(&oracle::widen(&d_out), &w, [rows, outputs, width]);
        let x: Vec<f64> = inputs.values.chunks_exact(width + 1).flat_map(|row| &row[..width]).copied().collect();
        let expected: Vec<f64> =
            expected.iter().zip(oracle::activation_derivative(Activation::Relu, &x)).map(|(d, by)| d * by).collect();
        oracle::assert_close("input_gradient", &self.read(&d_inputs), &expected, 1e-5, 5e-5);
        self.measure_product("input_gradient", shape, &kernel, batch(rows));
    }

    fn softmax(&mut self, [rows, classes]: [usize; 2]) {
        let (values, logits) = self.matrix(rows, classes);
        let kernel = kernels::softmax(&self.gpu, &self.steps, &logits);
        self.run(&kernel, batch(rows), 1);
        let expected = oracle::softmax(&oracle::widen(&values), classes);
        oracle::assert_close("softmax", &self.read(&logits), &expected, 2e-5, 1e-7);
        self.measure_rows("softmax", [rows, classes], 2 * 4 * rows * classes, &kernel);
    }

    fn cross_entropy(&mut self, [rows, classes]: [usize; 2]) {
        let (values, logits) = self.matrix(rows, classes);
        let labels = self.labels(&numbers(rows), classes);
        let kernel = kernels::loss(&self.gpu, &self.steps, &logits, labels.targets(), cross_entropy(&logits.buffer));
        self.run(&kernel, batch(rows), 1);
        let values = oracle::widen(&values);
        let expected = oracle::cross_entropy_backward(&values, &labels.values, classes);
        oracle::assert_close("cross_entropy", &self.read(&logits), &expected, 2e-5, 1e-7);
        let expected = oracle::cross_entropies(&values, &labels.values, classes);
        oracle::assert_close("cross_entropy", &self.read_buffer(&labels.losses, rows), &expected, 1e-5, 1e-5);
        // Logits in, gradient out; order, label and loss of each row.
        self.measure_rows("cross_entropy", [rows, classes], 4 * rows * (2 * classes + 3), &kernel);
    }

    fn evaluate(&mut self, [rows, classes]: [usize; 2]) {
        let (values, logits) = self.matrix(rows, classes);
        let labels = self.labels(&numbers(rows), classes);
        let (predictions, correct) = (self.buffer(&vec![u32::MAX; rows]), self.buffer(&[0u32]));
        let results = Results { predictions: &predictions, correct: &correct };
        let kernel =
            kernels::evaluate(&self.gpu, &self.steps, &logits, labels.targets(), results, plain_cross_entropy());
        self.run(&kernel, batch(rows), 1);
        let expected = oracle::cross_entropies(&oracle::widen(&values), &labels.values, classes);
        oracle::assert_close("evaluate", &self.read_buffer(&labels.losses, rows), &expected, 1e-5, 1e-5);
        let argmax = |row: &[f32]| (0..classes).rev().max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap() as u32;
        let expected: Vec<u32> = values.chunks_exact(classes).map(argmax).collect();
        assert_eq!(self.read_buffer::<u32>(&predictions, rows), expected, "evaluate: predictions");
        // Logits in; order, label, loss and prediction of each row.
        self.measure_rows("evaluate", [rows, classes], 4 * rows * (classes + 4), &kernel);
    }

    fn sum_of_squares(&mut self, shape @ [rows, outputs]: [usize; 2]) {
        let (values, gradient) = self.matrix(rows, outputs);
        let clipping = Clipping::new(&self.gpu, 1.0).unwrap();
        let kernel = kernels::sum_of_squares(&self.gpu, &self.steps, &gradient, &clipping);
        self.run(&kernel, batch(1), 1);
        let sums: Vec<f32> = self.read_buffer(&clipping.sums, clipping.sums.size() as usize / 4);
        let expected = oracle::gradient_norm([&oracle::widen(&values)[..]]).powi(2);
        oracle::assert_close("sum_of_squares", &[sums.iter().sum()], &[expected], 1e-5, 0.0);
        self.measure_rows("sum_of_squares", shape, 4 * rows * outputs, &kernel);
    }

    fn clipped_sgd(&mut self, shape @ [rows, outputs]: [usize; 2]) {
        let (values, gradient) = self.matrix(rows, outputs);
        let weights = Matrix::new(&self.gpu, "weights", rows, outputs).unwrap();
        let velocity = Matrix::new(&self.gpu, "velocity", 1, 1).unwrap();
        let clipping = Clipping { coefficient: self.buffer(&[0.5f32]), ..Clipping::new(&self.gpu, 1.0).unwrap() };
        let (moments, optimizer) = ([&velocity; 2], Optimizer::default());
        let kernel =
            kernels::clipped_update(&self.gpu, &self.steps, &gradient, &clipping, &weights, moments, &optimizer);
        self.run(&kernel, StepUniforms { learning_rate: -1.0, ..batch(1) }, 1);
        let expected: Vec<f64> = values.iter().map(|&value| 0.5 * f64::from(value)).collect();
        oracle::assert_close("clipped_sgd", &self.read(&weights), &expected, 1e-6, 1e-6);
        self.measure_rows("clipped_sgd", shape, 3 * 4 * rows * outputs, &kernel);
    }

    fn measure_product(&mut self, name: &str, [m, k, n]: [usize; 3], kernel: &Kernel, record: StepUniforms) {
        self.measure(name, &format!("{m}x{k}x{n}"), Throughput::Elements(2 * (m * k * n) as u64), kernel, record);
    }

    fn measure_rows(&mut self, name: &str, [rows, classes]: [usize; 2], bytes: usize, kernel: &Kernel) {
        self.measure(name, &format!("{rows}x{classes}"), Throughput::Bytes(bytes as u64), kernel, batch(rows));
    }

    fn measure(&mut self, name: &str, size: &str, throughput: Throughput, kernel: &Kernel, record: StepUniforms) {
        let (gpu, steps) = (&self.gpu, &mut self.steps);
        let mut group = self.criterion.benchmark_group(name);
        group.sampling_mode(SamplingMode::Flat).sample_size(10).throughput(throughput);
        group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter_custom(|times| run(gpu, steps, kernel, record, times));
        });
    }

    fn run(&mut self, kernel: &Kernel, record: StepUniforms, times: u64) {
        run(&self.gpu, &mut self.steps, kernel, record, times);
    }

    /// Uniform in ±1.
    fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| (self.random.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0).collect()
    }

    /// Random values, and the same on the device.
    fn matrix(&mut self, rows: usize, columns: usize) -> (Vec<f32>, Matrix) {
        let values = self.values(rows * columns);
        let matrix = Matrix::from_values(&self.gpu, "random values", rows, columns, &values).unwrap();
        (values, matrix)
    }

    /// A batch of shuffled examples.
    fn examples(&mut self, [rows, features, _]: [usize; 3]) -> LayerInputs {
        let mut packed = Vec::new();
        for _ in 0..2 * rows {
            packed.extend((0..features).map(|_| self.random.next_u32() as u8));
            packed.push(u8::MAX);
            packed.resize(packed.len().next_multiple_of(4), 0);
        }
        let stride = packed.len() / (2 * rows);
        let order: Vec<u32> = (0..rows).map(|_| self.random.next_u32() % (2 * rows) as u32).collect();
        let row = |&example: &u32| &packed[example as usize * stride..][..features + 1];
        let values = order.iter().flat_map(row).map(|&byte| f64::from(byte) / 255.0).collect();
        let device = DeviceInputs::Examples { examples: self.buffer(&packed), order: self.buffer(&order), features };
        LayerInputs { values, order, device }
    }

    /// A batch of outputs of a hidden layer.
    fn activations(&mut self, [rows, width, _]: [usize; 3]) -> LayerInputs {
        let values =
            oracle::with_ones(&oracle::activate(Activation::Relu, &oracle::widen(&self.values(rows * width))), width);
        let device: Vec<f32> = values.iter().map(|&value| value as f32).collect();
        let matrix = Matrix::from_values(&self.gpu, "activations", rows, width + 1, &device).unwrap();
        LayerInputs { values, order: numbers(rows), device: DeviceInputs::Activations(matrix) }
    }

    fn labels(&mut self, order: &[u32], classes: usize) -> Labels {
        let examples = order.iter().max().map_or(0, |&last| last as usize + 1);
        let labels: Vec<u32> = (0..examples).map(|_| self.random.next_u32() % classes as u32).collect();
        Labels {
            values: order.iter().map(|&example| labels[example as usize]).collect(),
            order: self.buffer(order),
            labels: self.buffer(&labels),
            losses: self.buffer(&vec![0.0f32; order.len()]),
        }
    }

    fn buffer<T: bytemuck::Pod>(&self, values: &[T]) -> wgpu::Buffer {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        let buffer = self.gpu.buffer("a buffer", bytes.len() as u64, usage).unwrap();
        self.gpu.queue.write_buffer(&buffer, 0, bytes);
        buffer
    }

    fn read(&self, matrix: &Matrix) -> Vec<f32> {
        block_on(matrix.read(&self.gpu, matrix.rows)).unwrap()
    }

    fn read_buffer<T: bytemuck::Pod>(&self, buffer: &wgpu::Buffer, count: usize) -> Vec<T> {
        block_on(read_buffer(&self.gpu, buffer, (count * size_of::<T>()) as u64)).unwrap()
    }
}

/// Dispatches a kernel so many times and waits for the device.
fn run(gpu: &Gpu, steps: &mut StepUniformBuffer, kernel: &Kernel, record: StepUniforms, times: u64) -> Duration {
    let started = Instant::now();
    for first in (0..times).step_by(DISPATCHES) {
        let records = [record; DISPATCHES];
        let records = &records[..DISPATCHES.min((times - first) as usize)];
        let encoder = steps.record(gpu, records, [kernel].into_iter(), None);
        gpu.queue.submit([encoder.finish()]);
    }
    gpu.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
    let time = started.elapsed();
    gpu.check().unwrap();
    time
}

/// The order in which nothing is shuffled.
/// Cross-entropy without label smoothing and class weights.
fn plain_cross_entropy() -> kernels::LossKind {
    kernels::LossKind::of(&Objective::default(), &vec![0u32].into())
}

/// The kernel of [`plain_cross_entropy`], which does not read class weights.
fn cross_entropy(class_weights: &wgpu::Buffer) -> kernels::LossKernel<'_> {
    kernels::LossKernel::new(plain_cross_entropy(), 0.0, class_weights)
}

fn numbers(rows: usize) -> Vec<u32> {
    (0..rows as u32).collect()
}

/// A batch at the start of the order; its updates change nothing.
fn batch(batch: usize) -> StepUniforms {
    StepUniforms { batch: batch as u32, ..StepUniforms::default() }
}

criterion_group!(benches, kernels);
criterion_main!(benches);
