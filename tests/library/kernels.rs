//! Every kernel against the oracle, on fresh random inputs, in every way to multiply matrices that the adapter can
//! run. Output buffers hold a sentinel first, so that a value that was not written shows.
//!
//! The adapter is the one that `softstep train` would take. `SOFTSTEP_TEST_SEED` repeats a failed run.

mod activation;
mod adamw;
mod batch_norm;
mod binary_cross_entropy;
mod clipped_update;
mod conv2d;
mod cross_entropy;
mod element_wise;
mod evaluate;
mod forward;
mod gather_images;
mod gradient_norm;
mod huber;
mod input_gradient;
mod inputs;
mod lion;
mod matmul;
mod max_pool;
mod mean_squared_error;
mod sgd;
mod shard_sums;
mod softmax;
mod sum_parts;
mod weight_gradient;
mod weighted_cross_entropy;

use crate::oracle;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use softstep::gpu::kernel::{Kernel, StepUniformBuffer, StepUniforms};
use softstep::gpu::kernels::Matmul;
use softstep::gpu::matrix::Matrix;
use softstep::gpu::readback::read_buffer;
use softstep::gpu::{AdapterChoice, Gpu};

/// Written to outputs before a kernel runs.
const SENTINEL: f32 = 12345.0;

/// A device, a source of random numbers, and shorthands.
struct Bench {
    gpu: Gpu,
    steps: StepUniformBuffer,
    random: ChaCha8Rng,
    seed: u64,
}

impl Bench {
    fn new() -> Self {
        let seed = std::env::var("SOFTSTEP_TEST_SEED").map_or_else(
            |_| std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64,
            |seed| seed.parse().expect("SOFTSTEP_TEST_SEED is a number"),
        );
        let gpu = pollster::block_on(Gpu::open(&AdapterChoice::Auto)).expect("the tests need an adapter: see README");
        let steps = StepUniformBuffer::new(&gpu, 1).unwrap();
        Self { gpu, steps, random: ChaCha8Rng::seed_from_u64(seed), seed }
    }

    /// The same bench, once for each way to multiply matrices.
    fn for_each_matmul(mut self, mut test: impl FnMut(&mut Self)) {
        for matmul in self.gpu.matmul_choices().to_vec() {
            self.gpu = self.gpu.clone().with_matmul(matmul).unwrap();
            test(&mut self);
        }
    }

    /// What a failure is called.
    fn name(&self, what: impl std::fmt::Display) -> String {
        format!("{what}, matmul {:?}, SOFTSTEP_TEST_SEED={}", self.gpu.matmul(), self.seed)
    }

    /// Uniform in ±`scale`.
    fn values(&mut self, count: usize, scale: f32) -> Vec<f32> {
        (0..count).map(|_| scale * ((self.random.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0)).collect()
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.random.next_u32() as u8).collect()
    }

    fn below(&mut self, count: usize, limit: usize) -> Vec<u32> {
        (0..count).map(|_| self.random.next_u32() % limit as u32).collect()
    }

    fn matrix(&self, rows: usize, columns: usize, values: &[f32]) -> Matrix {
        Matrix::from_values(&self.gpu, "a test matrix", rows, columns, values).unwrap()
    }

    /// A matrix filled with the sentinel, padding included.
    fn unwritten(&self, rows: usize, columns: usize) -> Matrix {
        let matrix = Matrix::new(&self.gpu, "a test matrix", rows, columns).unwrap();
        let values = vec![SENTINEL; matrix.buffer.size() as usize / 4];
        self.gpu.queue.write_buffer(&matrix.buffer, 0, bytemuck::cast_slice(&values));
        matrix
    }

    fn buffer<T: bytemuck::Pod>(&self, values: &[T]) -> wgpu::Buffer {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        let buffer = self.gpu.buffer("a test buffer", bytes.len() as u64, usage).unwrap();
        self.gpu.queue.write_buffer(&buffer, 0, bytes);
        buffer
    }

    fn run(&mut self, kernel: &Kernel, record: StepUniforms) {
        let encoder = self.steps.record(&self.gpu, &[record], [kernel].into_iter(), None);
        self.gpu.queue.submit([encoder.finish()]);
        self.gpu.check().unwrap();
    }

    fn read(&self, matrix: &Matrix) -> Vec<f32> {
        pollster::block_on(matrix.read(&self.gpu, matrix.rows)).unwrap()
    }

    fn read_padded(&self, matrix: &Matrix) -> Vec<f32> {
        pollster::block_on(matrix.read_padded(&self.gpu)).unwrap()
    }

    fn read_buffer<T: bytemuck::Pod>(&self, buffer: &wgpu::Buffer, count: usize) -> Vec<T> {
        pollster::block_on(read_buffer(&self.gpu, buffer, (count * size_of::<T>()) as u64)).unwrap()
    }
}

/// A batch at the start of the order.
fn batch(batch: usize) -> StepUniforms {
    StepUniforms { batch: batch as u32, ..StepUniforms::default() }
}

/// An order that starts each batch at a block of 4, as the backend writes it.
fn padded(order: &[u32]) -> Vec<u32> {
    let mut order = order.to_vec();
    order.resize(order.len().next_multiple_of(4), order[0]);
    order
}
