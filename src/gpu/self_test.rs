//! Known-answer tests: compares every kernel on a device, with every matrix multiplication method that the device
//! supports, with [`mod@reference`]. `softstep doctor` runs them.

mod network;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::device::Gpu;
use super::kernel::{Kernel, StepUniformBuffer, StepUniforms};
use super::kernels::{self, Clipping, Epilogue, Hidden, Inputs, LossKernel, LossKind, Matmul, Results, Targets};
use super::matrix::Matrix;
use super::readback::read_buffer;
use super::tensor::{Layout, Tensor};
use crate::augmentation::{Augment, Augmentation};
use crate::data;
use crate::error::Result;
use crate::loss::{Link, Objective};
use crate::model::{Activation, Shape, Window};
use crate::optimizer::{Optimizer, Sgd};
use crate::random::step_key;
use crate::reference::{self, Bounded, Deviation, widen};

/// Batch, inputs and outputs of the tests: one shape that is ragged in every tile, and one with few outputs.
const SHAPES: [[usize; 3]; 2] = [[37, 33, 35], [66, 70, 10]];

/// Shape of the images of the network tests.
const IMAGE: Shape = Shape::Image { height: 7, width: 6, channels: 3 };

/// An image of one channel, and a network of what [`networks`] do not have: convolutions with a stride of 1 and pooling
/// without overlap.
const GREY: (Shape, &str) =
    (Shape::Image { height: 6, width: 7, channels: 1 }, "conv:5x5,pool:2,conv:6x3,linear:3,linear:2");

/// Networks in which every activation, and none, precedes and follows every kind of layer.
fn networks() -> Vec<String> {
    let with = |activation: Activation| {
        let a = activation.name();
        format!("{a},{a},conv:10x3s2p1,{a},pool:2s1,{a},dropout:0.4,{a},batchnorm,{a},linear:5,{a},linear:2")
    };
    let mut networks: Vec<String> = Activation::ALL.map(with).into();
    networks.push("conv:5x3p2,conv:35x4s2p1,pool:3s1,dropout:0.3,batchnorm,linear:3,linear:2".into());
    networks
}

/// Written to outputs before a kernel runs, so that an element that the kernel missed is detected.
const SENTINEL: f32 = 12345.0;

/// Result of a kernel's tests.
#[derive(Clone, Debug, Serialize)]
pub struct KernelTest {
    /// Name of the kernel.
    pub kernel: &'static str,
    /// Matrix multiplication method, if the kernel uses one.
    pub matmul: Option<Matmul>,
    /// Number of compared elements.
    pub numbers: usize,
    /// The element with the largest error relative to its tolerance.
    #[serde(skip)]
    pub worst: Deviation,
}

impl KernelTest {
    /// Returns true if every element was within its tolerance.
    pub fn passed(&self) -> bool {
        self.worst.is_within_tolerance()
    }
}

/// Runs every test with each of these matrix multiplication methods; [`Gpu::matmul_choices`] are all that the adapter
/// supports. The inputs are the same on every run.
///
/// # Errors
/// Errors of the device; a wrong element is not an error.
pub async fn self_test(gpu: &Gpu, matmuls: &[Matmul]) -> Result<Vec<KernelTest>> {
    let steps = StepUniformBuffer::new(gpu, 1)?;
    let random = ChaCha8Rng::seed_from_u64(0);
    let mut bench = Bench { gpu: gpu.clone(), steps, random, matmul: None, tests: Vec::new() };
    for [batch, inputs, outputs] in SHAPES {
        bench.losses(batch, outputs).await?;
        bench.clipping(inputs, outputs).await?;
        bench.shard_sums(inputs, outputs).await?;
    }
    bench.images().await?;
    for (turn, &matmul) in matmuls.iter().enumerate() {
        bench.gpu = gpu.clone().with_matmul(matmul)?;
        for shape in SHAPES {
            bench.matmul = Some(matmul);
            bench.layer(shape).await?;
        }
        for layers in networks() {
            bench.network(IMAGE, &layers, matmul, turn == 0).await?;
        }
        let (image, layers) = GREY;
        bench.network(image, layers, matmul, turn == 0).await?;
    }
    Ok(bench.tests)
}

struct Bench {
    gpu: Gpu,
    steps: StepUniformBuffer,
    random: ChaCha8Rng,
    matmul: Option<Matmul>,
    tests: Vec<KernelTest>,
}

impl Bench {
    /// Tests softmax, and every loss with its evaluation, on random logits.
    async fn losses(&mut self, batch: usize, outputs: usize) -> Result<()> {
        let values = self.values(batch * outputs, 8.0);
        let uniforms = uniforms(batch);
        let matrix = self.matrix(batch, outputs, &values)?;
        self.run(&kernels::softmax(&self.gpu, &self.steps, &matrix), uniforms)?;
        let actual = matrix.read(&self.gpu, batch).await?;
        let expected = reference::softmax(&widen(&values), outputs);
        self.expect("softmax", "probability", outputs, &actual, &expected, [2e-5, 1e-7]);
        for kind in LossKind::all() {
            self.loss(kind, batch, outputs).await?;
        }
        Ok(())
    }

    /// Tests a loss on random outputs: its values, its gradient and its evaluation.
    async fn loss(&mut self, kind: LossKind, batch: usize, outputs: usize) -> Result<()> {
        let (outputs, classes) = if kind.loss.link() == Link::Sigmoid { (1, 2) } else { (outputs, outputs) };
        let values = self.values(batch * outputs, 8.0);
        let wide = widen(&values);
        let order = blocks((0..batch as u32).rev());
        let TestTargets { buffer, targets } = self.targets(kind, batch, outputs, classes)?;
        let row_targets = targets.select(&order[..batch], outputs);
        let class_weights: Vec<f32> = self.values(classes, 0.5).iter().map(|value| value + 1.0).collect();
        let objective = objective(kind, &class_weights);
        let order = self.buffer(&order)?;
        let uniforms = StepUniforms { weight: batch_weight(&objective, &row_targets, batch), ..uniforms(batch) };

        let name = kind.program().name;
        let weights = self.buffer(&padded_to_4(&class_weights))?;
        let loss_buffer = self.buffer(&vec![SENTINEL; batch])?;
        let device_targets = Targets { order: &order, labels: &buffer, losses: &loss_buffer };
        let matrix = self.matrix(batch, outputs, &values)?;
        let kernel = LossKernel::new(kind, objective.label_smoothing, &weights);
        self.run(&kernels::loss(&self.gpu, &self.steps, &matrix, device_targets, kernel), uniforms)?;
        let actual = read_buffer(&self.gpu, &loss_buffer, 4 * batch as u64).await?;
        let losses = reference::losses(&objective, &wide, &row_targets, outputs);
        self.expect(name, "loss", 1, &actual, &losses, [1e-5, 1e-5]);
        let actual = matrix.read(&self.gpu, batch).await?;
        let expected = reference::loss_backward(&objective, &wide, &row_targets, outputs);
        self.expect(name, "d_logits", outputs, &actual, &expected, [2e-5, 1e-7]);

        let name = kind.evaluation().name;
        let loss_buffer = self.buffer(&vec![SENTINEL; batch])?;
        let (predictions, correct) = (self.buffer(&vec![u32::MAX; batch])?, self.buffer(&[0u32])?);
        let device_targets = Targets { order: &order, labels: &buffer, losses: &loss_buffer };
        let results = Results { predictions: &predictions, correct: &correct };
        let matrix = self.matrix(batch, outputs, &values)?;
        self.run(&kernels::evaluate(&self.gpu, &self.steps, &matrix, device_targets, results, kind), uniforms)?;
        let actual = read_buffer(&self.gpu, &loss_buffer, 4 * batch as u64).await?;
        let plain = Objective { loss: objective.loss, ..Objective::default() };
        let losses = reference::losses(&plain, &wide, &row_targets, outputs);
        self.expect(name, "loss", 1, &actual, &losses, [1e-5, 1e-5]);
        let labels = match row_targets {
            data::Targets::Classes(labels) => labels,
            data::Targets::Values(values) => {
                let actual = read_buffer(&self.gpu, &predictions, 4 * batch as u64).await?;
                let rows = wide.chunks_exact(outputs).zip(values.chunks_exact(outputs));
                let square = |(output, target): (&f64, &f32)| (output - f64::from(*target)).powi(2);
                let expected: Vec<f64> = rows
                    .map(|(row, targets)| row.iter().zip(targets).map(square).sum::<f64>() / outputs as f64)
                    .collect();
                self.expect(name, "squared error", 1, &actual, &expected, [1e-5, 1e-5]);
                return Ok(());
            }
        };
        let as_floats = |numbers: Vec<u32>| numbers.into_iter().map(|number| number as f32).collect::<Vec<_>>();
        let actual = as_floats(read_buffer(&self.gpu, &predictions, 4 * batch as u64).await?);
        let best = reference::predictions(kind.loss.link(), &wide, outputs);
        let expected: Vec<f64> = best.iter().map(|&class| f64::from(class)).collect();
        self.expect(name, "prediction", 1, &actual, &expected, [0.0, 0.5]);
        let right = best.iter().zip(&labels).filter(|(best, label)| best == label).count();
        let actual = as_floats(read_buffer(&self.gpu, &correct, 4).await?);
        self.expect(name, "number of right ones", 1, &actual, &[right as f64], [0.0, 0.5]);
        Ok(())
    }

    /// Random targets for this kind of loss.
    fn targets(&mut self, kind: LossKind, count: usize, outputs: usize, classes: usize) -> Result<TestTargets> {
        if kind.has_values {
            let values = self.values(count * outputs, 8.0);
            let padded: Vec<f32> = values.chunks_exact(outputs).flat_map(padded_to_4).collect();
            return Ok(TestTargets { buffer: self.buffer(&padded)?, targets: values.into() });
        }
        let labels = self.below(count, classes);
        Ok(TestTargets { buffer: self.buffer(&labels)?, targets: labels.into() })
    }

    /// Tests a linear layer, forward and backward, on activations and on examples of a data set.
    async fn layer(&mut self, [batch, inputs, outputs]: [usize; 3]) -> Result<()> {
        let weights = self.values((inputs + 1) * outputs, 1.0);
        let d_outputs = self.values(batch * outputs, 1.0);
        let activations: Vec<f32> = self.values(batch * inputs, 1.0).iter().map(|value| value.max(0.0)).collect();
        let activations = reference::with_ones(&widen(&activations), inputs);
        let count = batch + 5;
        let (bytes, order) = (self.bytes(count * inputs), self.below(batch, count));
        let gathered = order.iter().flat_map(|&example| &bytes[example as usize * inputs..][..inputs]);
        let gathered: Vec<f64> = gathered.map(|&byte| f64::from(byte) / 255.0).collect();
        let gathered = reference::with_ones(&gathered, inputs);

        let activation_matrix = self.matrix(batch, inputs + 1, &narrow(&activations))?;
        let examples = self.buffer(&packed(&bytes, inputs, u8::MAX))?;
        let order_buffer = self.buffer(&blocks(order.iter().copied()))?;
        let from_examples = Inputs::Examples { examples: &examples, order: &order_buffer, features: inputs };
        let floats = self.values(count * inputs, 1.0);
        let gathered_floats = order.iter().flat_map(|&example| &floats[example as usize * inputs..][..inputs]);
        let gathered_floats: Vec<f64> = gathered_floats.map(|&value| f64::from(value)).collect();
        let gathered_floats = reference::with_ones(&gathered_floats, inputs);
        let float_examples = self.buffer(&packed(&floats, inputs, 1.0))?;
        let from_floats = Inputs::FloatExamples { examples: &float_examples, order: &order_buffer, features: inputs };
        let sources = [
            (Inputs::Activations(&activation_matrix), &activations),
            (from_examples, &gathered),
            (from_floats, &gathered_floats),
        ];
        let shape = [batch, inputs, outputs];
        for (source, values) in sources {
            self.layer_forward(source, values, &weights, shape).await?;
            for kind in LossKind::all() {
                self.fused(kind, source, values, shape, (&order, &order_buffer), count).await?;
            }
            self.layer_weight_gradient(source, values, &d_outputs, shape).await?;
        }
        self.layer_input_gradient(&weights, &d_outputs, shape).await
    }

    /// Tests the outputs of a linear layer with every activation and without one. `values` is what the kernel reads
    /// from `source`: `[batch, inputs + 1]`.
    async fn layer_forward(
        &mut self,
        source: Inputs<'_>,
        values: &[f64],
        weights: &[f32],
        [batch, inputs, outputs]: [usize; 3],
    ) -> Result<()> {
        let weight_matrix = self.matrix(inputs + 1, outputs, weights)?;
        let logits = reference::matmul(values, &widen(weights), [batch, inputs + 1, outputs]);
        let scale = [1e-5, 1e-6 * (inputs as f64).sqrt()];
        let without_ones =
            |row: Vec<f32>| row.chunks_exact(outputs + 1).flat_map(|row| &row[..outputs]).copied().collect::<Vec<_>>();
        for activation in Activation::ALL.map(Some).into_iter().chain([None]) {
            let result = self.unwritten(batch, outputs + 1)?;
            let kept = self.unwritten(batch, outputs + 1)?;
            let hidden = activation.map(|activation| Hidden::new(activation, &kept));
            let forward = kernels::forward(&self.gpu, &self.steps, source, &weight_matrix, &result, hidden);
            self.run(&forward, uniforms(batch))?;
            let actual = without_ones(result.read(&self.gpu, batch).await?);
            let expected =
                activation.map_or_else(|| logits.clone(), |activation| reference::activate(activation, &logits));
            self.expect(forward.name, "output", outputs, &actual, &expected, scale);
            if activation.is_some_and(Activation::keeps_input) {
                let actual = without_ones(kept.read(&self.gpu, batch).await?);
                self.expect(forward.name, "kept pre-activation", outputs, &actual, &logits, scale);
            }
        }
        Ok(())
    }

    /// Tests the gradient of a linear layer's weights, stored and fused with every update.
    async fn layer_weight_gradient(
        &mut self,
        source: Inputs<'_>,
        values: &[f64],
        d_outputs: &[f32],
        [batch, inputs, outputs]: [usize; 3],
    ) -> Result<()> {
        let d_output_matrix = self.matrix(batch, outputs, d_outputs)?;
        let gradient = reference::matmul_at_b(values, &widen(d_outputs), [inputs + 1, batch, outputs]);
        let stored = self.unwritten(inputs + 1, outputs)?;
        let kernel =
            kernels::weight_gradient(&self.gpu, &self.steps, source, &d_output_matrix, Epilogue::Store(&stored));
        self.run(&kernel, uniforms(batch))?;
        let actual = stored.read(&self.gpu, inputs + 1).await?;
        self.expect(kernel.name, "d_weight", outputs, &actual, &gradient, [1e-5, 2e-5]);
        for optimizer in optimizers() {
            let kernel = |bench: &Self, weights: &Matrix, moments: [&Matrix; 2]| {
                let (gpu, steps) = (&bench.gpu, &bench.steps);
                let update = Epilogue::Update { weights, moments, optimizer: &optimizer };
                kernels::weight_gradient(gpu, steps, source, &d_output_matrix, update)
            };
            self.update(&optimizer, &gradient, outputs, batch, kernel).await?;
        }
        Ok(())
    }

    /// Tests the gradient of a linear layer's inputs, with the derivative of every activation before it.
    async fn layer_input_gradient(
        &mut self,
        weights: &[f32],
        d_outputs: &[f32],
        [batch, inputs, outputs]: [usize; 3],
    ) -> Result<()> {
        let weight_matrix = self.matrix(inputs + 1, outputs, weights)?;
        let d_output = self.matrix(batch, outputs, d_outputs)?;
        let shape = [batch, outputs, inputs];
        let d_read = reference::matmul_a_bt(&widen(d_outputs), &widen(&weights[..inputs * outputs]), shape);
        let sums = self.values(batch * inputs, 4.0);
        let values = widen(&sums);
        for activation in Activation::ALL.map(Some).into_iter().chain([None]) {
            let activated = activation.map_or_else(|| values.clone(), |a| reference::activate(a, &values));
            let outputs = self.matrix(batch, inputs + 1, &narrow(&reference::with_ones(&activated, inputs)))?;
            let kept = self.matrix(batch, inputs + 1, &narrow(&reference::with_ones(&values, inputs)))?;
            let hidden = activation.map(|activation| Hidden::new(activation, &kept));
            let d_inputs = self.unwritten(batch, inputs)?;
            let kernel =
                kernels::input_gradient(&self.gpu, &self.steps, &d_output, &weight_matrix, &outputs, hidden, &d_inputs);
            self.run(&kernel, uniforms(batch))?;
            let derivatives =
                activation.map_or_else(|| vec![1.0; sums.len()], |a| reference::activation_derivative(a, &values));
            let expected: Vec<f64> = d_read.iter().zip(derivatives).map(|(d, derivative)| d * derivative).collect();
            let actual = d_inputs.read(&self.gpu, batch).await?;
            self.expect(kernel.name, "d_input", inputs, &actual, &expected, [1e-5, 2e-5]);
        }
        Ok(())
    }

    /// Tests gathering images of a data set into a tensor, with and without augmentation.
    async fn images(&mut self) -> Result<()> {
        let (batch, seed, step) = (5, 3, 7);
        let (length, count) = (IMAGE.len(), batch + 3);
        let (bytes, floats) = (self.bytes(count * length), self.values(count * length, 1.0));
        let order = self.below(batch, count);
        let order_buffer = self.buffer(&blocks(order.iter().copied()))?;
        let byte_buffer = self.buffer(&packed(&bytes, length, u8::MAX))?;
        let float_buffer = self.buffer(&packed(&floats, length, 1.0))?;
        let (order_buffer, features) = (&order_buffer, length);
        let sources = [
            (
                Inputs::Examples { examples: &byte_buffer, order: order_buffer, features },
                bytes.iter().map(|&byte| f64::from(byte) / 255.0).collect::<Vec<_>>(),
            ),
            (Inputs::FloatExamples { examples: &float_buffer, order: order_buffer, features }, widen(&floats)),
        ];
        let augment = Augment { shift: 1.5, rotate: 20.0, scale: 0.2 };
        let augmentation = Augmentation { augment, image: IMAGE };
        let window = Window { size: 3, stride: 1, padding: 1 };
        let layouts = [Layout::overlapping(IMAGE, window), Layout::padded(IMAGE, window), Layout::with_ones(IMAGE)];
        for (inputs, values) in sources {
            let plain: Vec<f64> =
                order.iter().flat_map(|&example| &values[example as usize * length..][..length]).copied().collect();
            let plain = Bounded::exact(plain);
            for layout in layouts {
                for (augmentation, expected) in
                    [(None, plain.clone()), (Some(&augmentation), plain.augmented(&augmentation, seed, step))]
                {
                    let images = self.tensor(batch, layout, &[])?;
                    let kernel = kernels::gather_images(&self.gpu, &self.steps, inputs, augmentation, &images);
                    let Some(kernel) = kernel else { continue };
                    self.run(&kernel, StepUniforms { key: step_key(seed, step), ..uniforms(batch) })?;
                    let actual = images.read(&self.gpu, batch).await?;
                    self.expect(kernel.name, "value", length, &actual, &expected.values, [1e-5, 1e-4]);
                }
            }
        }
        Ok(())
    }

    /// Creates a tensor with these values or, if there are none, with sentinels that a kernel has to overwrite.
    fn tensor(&self, rows: usize, layout: Layout, values: &[f64]) -> Result<Tensor> {
        let tensor = Tensor::new(&self.gpu, "a test tensor", rows, layout)?;
        match values {
            [] => tensor.write(&self.gpu, &vec![SENTINEL; rows * layout.shape.len()]),
            values => tensor.write(&self.gpu, &narrow(values)),
        }
        Ok(tensor)
    }

    /// Tests the norm of two gradients and the clipped updates, with one limit above the norm and two below.
    async fn clipping(&mut self, inputs: usize, outputs: usize) -> Result<()> {
        let count = (inputs + 1) * outputs;
        let gradients = [self.values(count, 1.0), self.values(7 * 3, 1.0)];
        let wide = gradients.each_ref().map(|gradient| widen(gradient));
        let matrices = [self.matrix(inputs + 1, outputs, &gradients[0])?, self.matrix(7, 3, &gradients[1])?];
        let norm = reference::gradient_norm(wide.iter().map(|gradient| &gradient[..]));
        for share in [2.0, 0.5, 0.01] {
            let max_norm = (share * norm) as f32;
            let coefficient = self.buffer(&[SENTINEL])?;
            let clipping = Clipping { coefficient, ..Clipping::new(&self.gpu, max_norm)? };
            for gradient in &matrices {
                let kernel = kernels::sum_of_squares(&self.gpu, &self.steps, gradient, &clipping);
                self.run(&kernel, uniforms(1))?;
            }
            let sums: Vec<f32> = read_buffer(&self.gpu, &clipping.sums, clipping.sums.size()).await?;
            self.expect("sum_of_squares", "sum", 1, &[sums.iter().sum()], &[norm * norm], [1e-5, 0.0]);
            self.run(&kernels::clip_coefficient(&self.gpu, &self.steps, &clipping), uniforms(1))?;
            let actual = read_buffer(&self.gpu, &clipping.coefficient, 4).await?;
            let expected = reference::clip_coefficient(norm, f64::from(max_norm));
            self.expect("clip_coefficient", "coefficient", 1, &actual, &[expected], [1e-5, 0.0]);
            let sums: Vec<f32> = read_buffer(&self.gpu, &clipping.sums, clipping.sums.size()).await?;
            self.expect("clip_coefficient", "sum that is left", 1, &sums, &vec![0.0; sums.len()], [0.0, 1e-30]);

            let clipped: Vec<f64> = wide[0].iter().map(|gradient| expected * gradient).collect();
            for optimizer in optimizers() {
                let kernel = |bench: &Self, weights: &Matrix, moments: [&Matrix; 2]| {
                    let (gpu, steps) = (&bench.gpu, &bench.steps);
                    kernels::clipped_update(gpu, steps, &matrices[0], &clipping, weights, moments, &optimizer)
                };
                self.update(&optimizer, &clipped, outputs, 1, kernel).await?;
            }
        }
        Ok(())
    }

    /// Tests what sums of gradients over shards are made of.
    async fn shard_sums(&mut self, inputs: usize, outputs: usize) -> Result<()> {
        let count = (inputs + 1) * outputs;
        let [first, second] = [self.values(count, 1.0), self.values(count, 1.0)];
        let (sum, kept) = (self.matrix(inputs + 1, outputs, &first)?, self.unwritten(inputs + 1, outputs)?);
        self.run(&kernels::keep_sum(&self.gpu, &self.steps, &sum, &kept), uniforms(1))?;
        let actual = kept.read(&self.gpu, inputs + 1).await?;
        self.expect("keep_sum", "sum that is kept", outputs, &actual, &widen(&first), [0.0, 1e-30]);
        sum.write(&self.gpu, &second);
        self.run(&kernels::add_sum(&self.gpu, &self.steps, &sum, &kept), uniforms(1))?;
        let expected: Vec<f64> = first.iter().zip(&second).map(|(a, b)| f64::from(*a) + f64::from(*b)).collect();
        let actual = sum.read(&self.gpu, inputs + 1).await?;
        self.expect("add_sum", "sum", outputs, &actual, &expected, [1e-6, 1e-30]);
        self.run(&kernels::clear_sum(&self.gpu, &self.steps, &sum), uniforms(1))?;
        let actual = sum.read(&self.gpu, inputs + 1).await?;
        self.expect("clear_sum", "sum", outputs, &actual, &vec![0.0; count], [0.0, 1e-30]);
        Ok(())
    }

    /// Tests an update of random weights, `[rows, outputs]`. `kernel` builds the kernel from weights and moments, and
    /// `gradient` is the gradient that it should apply.
    async fn update(
        &mut self,
        optimizer: &Optimizer,
        gradient: &[f64],
        outputs: usize,
        batch: usize,
        kernel: impl Fn(&Self, &Matrix, [&Matrix; 2]) -> Kernel,
    ) -> Result<()> {
        let (count, rows) = (gradient.len(), gradient.len() / outputs);
        let start = self.values(count, 1.0);
        // The second moment is a mean of squares, which is not negative.
        let moments = [self.values(count, 1.0), self.values(count, 1.0).iter().map(|x| x.abs()).collect()];
        let mut expected = widen(&start);
        let mut expected_moments = moments.each_ref().map(|values| widen(values));
        let matrix = self.matrix(rows, outputs, &start)?;
        let [first, second] = moments.each_ref().map(|values| self.matrix(rows, outputs, values));
        let moments = [&first?, &second?];
        let kernel = kernel(self, &matrix, moments);
        let moment_scales = optimizer.moment_scales(7).map(|scale| scale as f32);
        self.run(&kernel, StepUniforms { learning_rate: 0.5, moment_scales, ..uniforms(batch) })?;
        reference::update(optimizer, 7, 0.5, &mut expected, gradient, &mut expected_moments);
        let actual = matrix.read(&self.gpu, rows).await?;
        self.expect(kernel.name, "weight", outputs, &actual, &expected, [1e-5, 2e-5]);
        for (moment, expected) in moments.iter().zip(&expected_moments).take(optimizer.moments()) {
            let actual = moment.read(&self.gpu, rows).await?;
            self.expect(kernel.name, "moment", outputs, &actual, expected, [1e-5, 2e-5]);
        }
        Ok(())
    }

    /// Tests a last layer fused with its loss, if the matrix multiplication method supports that.
    async fn fused(
        &mut self,
        kind: LossKind,
        source: Inputs<'_>,
        inputs: &[f64],
        [batch, features, outputs]: [usize; 3],
        (order, order_buffer): (&[u32], &wgpu::Buffer),
        count: usize,
    ) -> Result<()> {
        let (outputs, classes) = if kind.loss.link() == Link::Sigmoid { (1, 2) } else { (outputs, outputs) };
        let weights = self.values((features + 1) * outputs, 1.0);
        let matrix = self.matrix(features + 1, outputs, &weights)?;
        let TestTargets { buffer, targets } = self.targets(kind, count, outputs, classes)?;
        let row_targets = targets.select(order, outputs);
        let class_weights: Vec<f32> = self.values(classes, 0.5).iter().map(|value| value + 1.0).collect();
        let objective = objective(kind, &class_weights);
        let device_weights = self.buffer(&padded_to_4(&class_weights))?;
        let losses = self.buffer(&vec![SENTINEL; batch])?;
        let device_targets = Targets { order: order_buffer, labels: &buffer, losses: &losses };
        let result = self.unwritten(batch, outputs)?;
        let kernel = LossKernel::new(kind, objective.label_smoothing, &device_weights);
        let fused =
            kernels::forward_with_loss(&self.gpu, &self.steps, source, &matrix, &result, device_targets, kernel);
        let Some(fused) = fused else { return Ok(()) };
        let name = fused.name;
        self.run(&fused, StepUniforms { weight: batch_weight(&objective, &row_targets, batch), ..uniforms(batch) })?;
        let values = reference::matmul(inputs, &widen(&weights), [batch, features + 1, outputs]);
        let actual = read_buffer(&self.gpu, &losses, 4 * batch as u64).await?;
        let expected = reference::losses(&objective, &values, &row_targets, outputs);
        self.expect(name, "loss", 1, &actual, &expected, [1e-5, 2e-5]);
        let actual = result.read(&self.gpu, batch).await?;
        let expected = reference::loss_backward(&objective, &values, &row_targets, outputs);
        self.expect(name, "d_logits", outputs, &actual, &expected, [1e-4, 1e-5]);
        Ok(())
    }

    /// Compares values, and keeps the worst element of each kernel.
    fn expect(
        &mut self,
        kernel: &'static str,
        what: &str,
        columns: usize,
        actual: &[f32],
        expected: &[f64],
        [relative, absolute]: [f64; 2],
    ) {
        let tolerance = |at: usize| absolute + relative * expected[at].abs();
        let tensor = format!("{what} of {}×{columns}", expected.len() / columns);
        let Some(worst) = Deviation::worst(&tensor, columns, &widen(actual), expected, tolerance) else { return };
        let matmul = self.matmul;
        let known = self.tests.iter_mut().find(|test| test.kernel == kernel && test.matmul == matmul);
        match known {
            None => self.tests.push(KernelTest { kernel, matmul, numbers: actual.len(), worst }),
            Some(test) => {
                test.numbers += actual.len();
                if worst.excess() > test.worst.excess() {
                    test.worst = worst;
                }
            }
        }
    }

    fn run(&mut self, kernel: &Kernel, uniforms: StepUniforms) -> Result<()> {
        let encoder = self.steps.record(&self.gpu, &[uniforms], [kernel].into_iter(), None);
        self.gpu.submit([encoder.finish()]).map(drop)
    }

    fn buffer<T: bytemuck::Pod>(&self, values: &[T]) -> Result<wgpu::Buffer> {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        let buffer = self.gpu.buffer("a test buffer", bytes.len() as u64, usage)?;
        self.gpu.queue.write_buffer(&buffer, 0, bytes);
        Ok(buffer)
    }

    fn matrix(&self, rows: usize, columns: usize, values: &[f32]) -> Result<Matrix> {
        Matrix::from_values(&self.gpu, "a test matrix", rows, columns, values)
    }

    fn unwritten(&self, rows: usize, columns: usize) -> Result<Matrix> {
        self.matrix(rows, columns, &vec![SENTINEL; rows * columns])
    }

    /// Random values, uniform in ±`scale`.
    fn values(&mut self, count: usize, scale: f32) -> Vec<f32> {
        (0..count).map(|_| scale * ((self.random.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0)).collect()
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.random.fill_bytes(&mut bytes);
        bytes
    }

    fn below(&mut self, count: usize, limit: usize) -> Vec<u32> {
        (0..count).map(|_| self.random.next_u32() % limit as u32).collect()
    }
}

/// Cost of a dispatch and of a readback on a device, in seconds.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Costs {
    /// Time of a dispatch among many in one submission.
    pub dispatch_seconds: f64,
    /// Time of a submission with one dispatch, including the wait and the readback of a result.
    pub readback_seconds: f64,
}

#[cfg(not(target_arch = "wasm32"))]
impl Costs {
    /// Measures the costs; medians of 31 runs.
    ///
    /// # Errors
    /// Errors of the device.
    pub async fn measure(gpu: &Gpu) -> Result<Self> {
        const DISPATCHES: usize = 64;
        let mut steps = StepUniformBuffer::new(gpu, DISPATCHES)?;
        let logits = Matrix::from_values(gpu, "a test matrix", 1, 2, &[0.0, 1.0])?;
        let kernel = kernels::softmax(gpu, &steps, &logits);
        let mut seconds = [Vec::new(), Vec::new()];
        for _ in 0..32 {
            for (records, seconds) in [DISPATCHES, 1].into_iter().zip(&mut seconds) {
                let started = std::time::Instant::now();
                let encoder = steps.record(gpu, &vec![uniforms(1); records], [&kernel].into_iter(), None);
                gpu.submit([encoder.finish()])?;
                logits.read(gpu, 1).await?;
                seconds.push(started.elapsed().as_secs_f64());
            }
        }
        let [many, one] = seconds.map(|mut seconds| {
            seconds.remove(0); // the first run compiles
            seconds.sort_by(f64::total_cmp);
            seconds[seconds.len() / 2]
        });
        Ok(Self { dispatch_seconds: (many - one).max(0.0) / (DISPATCHES - 1) as f64, readback_seconds: one })
    }
}

/// Targets on the device and on the host.
struct TestTargets {
    buffer: wgpu::Buffer,
    targets: data::Targets,
}

/// Objective for the test of a loss kernel.
fn objective(kind: LossKind, class_weights: &[f32]) -> Objective<'_> {
    let loss = kind.loss;
    let label_smoothing = if loss.smooths() && !kind.is_plain { 0.1 } else { 0.0 };
    let class_weights = if loss.weighs() && !kind.is_plain { class_weights } else { &[] };
    Objective { loss, label_smoothing, class_weights }
}

/// Optimizers for the tests of updates.
fn optimizers() -> impl Iterator<Item = Optimizer> {
    let nesterov = Sgd { momentum: 0.9, nesterov: true, weight_decay: 0.01 }.into();
    Optimizer::all().into_iter().chain([nesterov])
}

/// Total sample weight of a batch.
fn batch_weight(objective: &Objective<'_>, targets: &data::Targets, batch: usize) -> f32 {
    match targets {
        data::Targets::Classes(labels) => labels.iter().map(|&label| objective.weight(label)).sum(),
        data::Targets::Values(_) => batch as f32,
    }
}

fn padded_to_4(values: &[f32]) -> Vec<f32> {
    let mut values = values.to_vec();
    values.resize(values.len().next_multiple_of(4), 0.0);
    values
}

/// Step uniforms of a batch at the start of the shuffled indices.
fn uniforms(batch: usize) -> StepUniforms {
    StepUniforms { batch: batch as u32, ..StepUniforms::default() }
}

/// Pads shuffled indices with zeros to a multiple of 4.
fn blocks(order: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut order: Vec<u32> = order.collect();
    order.resize(order.len().next_multiple_of(4), 0);
    order
}

/// Examples in the layout of the device: features, the constant 1 (255 for bytes), and zeros up to a block of 4.
fn packed<T: bytemuck::Pod>(values: &[T], features: usize, one: T) -> Vec<T> {
    let mut packed = Vec::new();
    for row in values.chunks_exact(features) {
        packed.extend_from_slice(row);
        packed.push(one);
        packed.resize(packed.len().next_multiple_of(4), T::zeroed());
    }
    packed
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}
