//! Known-answer tests of networks: every node separately, forward and backward, on the inputs that the reference
//! computes.

use super::super::kernel::{Kernel, StepUniforms};
use super::super::kernels::{self, Dropout, Epilogue, Hidden, Inputs, Matmul, PartialSums};
use super::super::matrix::Matrix;
use super::super::tensor::{Layout, Tensor, WeightRows};
use super::{Bench, narrow, optimizers, uniforms};
use crate::error::Result;
use crate::model::{Activation, Architecture, Parameters, Shape, Weights, Window, parse_layers};
use crate::plan::{Node, Operation};
use crate::random::step_key;
use crate::reference::{Bounded, Mode, Network, Pass, widen};

/// Examples of a batch, seed and step of the tests.
const BATCH: usize = 5;
const SEED: u64 = 3;
const STEP: u64 = 7;

/// Relative and absolute tolerance.
const TOLERANCE: [f64; 2] = [1e-4, 2e-5];

/// A node of a network on the device, and the pass of the reference through that network.
struct NodeTest<'a> {
    network: &'a Network,
    pass: &'a Pass,
    index: usize,
    node: &'a Node,
    uniforms: StepUniforms,
    /// Layout and values of the node's inputs.
    layout: Layout,
    input: Tensor,
    rows: WeightRows,
    /// Weights of the node; one zero if it has none.
    weights: Matrix,
    /// Mean and variance of each channel, for batch normalisation.
    statistics: Matrix,
    dropout: Option<Dropout>,
}

impl NodeTest<'_> {
    /// Inputs of a product.
    fn inputs(&self) -> Inputs<'_> {
        match self.node.operation {
            Operation::Conv2d(window) => Inputs::Patches { images: (&self.input).into(), window },
            _ => Inputs::Activations(&self.input.matrix),
        }
    }

    /// Number of elements of a channel in the batch.
    fn pixels(&self) -> usize {
        BATCH * self.node.input.positions()
    }

    /// The matrix multiplication method that the node's kernels use, out of the one that is tested.
    fn matmul(&self, matmul: Matmul) -> Option<Matmul> {
        is_convolution(self.node).then_some(matmul)
    }
}

fn is_convolution(node: &Node) -> bool {
    matches!(node.operation, Operation::Conv2d(_))
}

/// The activation that a node computes or is fused to.
fn activation(node: &Node) -> Option<Activation> {
    match node.operation {
        Operation::Activation(activation) => Some(activation),
        _ => node.activation,
    }
}

impl Bench {
    /// Tests the convolutions of a network, and with `others` the nodes without a matrix product.
    /// [`layer`](Self::layer) tests linear layers.
    pub(super) async fn network(&mut self, input: Shape, layers: &str, matmul: Matmul, others: bool) -> Result<()> {
        let architecture = Architecture::new(input, parse_layers(layers)?)?;
        let mut parameters = Parameters::initialize(&architecture, 1)?;
        for layer in &mut parameters.layers {
            layer.values = self.values(layer.values.len(), 1.0);
        }
        let network = Network::new(&parameters);
        let values = Bounded::exact(widen(&self.values(BATCH * input.len(), 2.0)));
        let Some(pass) = network.forward(values, Mode::Training { seed: SEED, step: STEP }) else { return Ok(()) };
        for (index, node) in network.plan.nodes.iter().enumerate() {
            if is_convolution(node) || (others && node.operation != Operation::Linear) {
                let test = self.node_test(&network, &pass, index, &parameters)?;
                self.matmul = test.matmul(matmul);
                self.node_forward(&test).await?;
                self.node_backward(&test, matmul).await?;
            }
        }
        Ok(())
    }

    /// Puts a node on the device.
    fn node_test<'a>(
        &self,
        network: &'a Network,
        pass: &'a Pass,
        index: usize,
        parameters: &Parameters,
    ) -> Result<NodeTest<'a>> {
        let node = &network.plan.nodes[index];
        let (layout, rows) = match node.operation {
            Operation::Conv2d(window) => {
                let is_first = index == 0;
                let layout =
                    if is_first { Layout::overlapping(node.input, window) } else { Layout::padded(node.input, window) };
                (layout, WeightRows::conv2d(layout, window))
            }
            Operation::MaxPool2d(window) => (Layout::padded(node.input, window), WeightRows::plain(1)),
            _ => (Layout::padded(node.input, Window { size: 1, stride: 1, padding: 0 }), WeightRows::plain(1)),
        };
        let weights = match node.weights.map(|weights| &parameters.layers[weights]) {
            None => self.matrix(1, 1, &[0.0])?,
            Some(Weights { outputs, values, .. }) => {
                self.matrix(rows.bias() + 1, *outputs, &rows.spread(values, *outputs))?
            }
        };
        let dropout = match node.operation {
            Operation::Dropout(p) => Some(Dropout { p, layer: node.layer }),
            _ => None,
        };
        Ok(NodeTest {
            network,
            pass,
            index,
            node,
            uniforms: StepUniforms { key: step_key(SEED, STEP), ..uniforms(BATCH) },
            layout,
            input: self.tensor(BATCH, layout, &pass.inputs[index].values)?,
            rows,
            weights,
            statistics: self.unwritten(2, node.output.channels())?,
            dropout,
        })
    }

    /// Tests the outputs of a node, and its statistics of the batch.
    async fn node_forward(&mut self, test: &NodeTest<'_>) -> Result<()> {
        let (gpu, node, channels) = (self.gpu.clone(), test.node, test.node.output.channels());
        if let Some(at) = node.statistics {
            let running = self.matrix(2, channels, &[vec![0.0; channels], vec![1.0; channels]].concat())?;
            let sums = kernels::channel_sums(&gpu, &test.statistics, test.pixels())?;
            for kernel in kernels::batch_statistics(&gpu, &self.steps, &test.input, &sums, &test.statistics, &running) {
                self.run(&kernel, test.uniforms)?;
                let expected = test.pass.statistics[at].each_ref().map(|s| s.values.clone()).concat();
                if kernel.name == "batch_statistics" {
                    let actual = running.read(&gpu, 2).await?;
                    self.expect(kernel.name, "running statistic", channels, &actual, &expected, TOLERANCE);
                    self.expect("batch_statistics_parts", "mean", channels, &actual, &expected, TOLERANCE);
                }
            }
            self.shard_statistics(test, &test.pass.statistics[at].each_ref().map(|s| s.values.clone()).concat())
                .await?;
        }
        let output = self.tensor(BATCH, Layout::plain(node.output), &[])?;
        let kept = self.tensor(BATCH, Layout::plain(node.output), &[])?;
        let hidden = activation(node).map(|activation| Hidden::new(activation, &kept.matrix));
        let (steps, input, weights) = (&self.steps, &test.input, &test.weights);
        let kernel = match node.operation {
            Operation::Conv2d(_) => kernels::forward(&gpu, steps, test.inputs(), weights, &output, hidden),
            Operation::MaxPool2d(window) => kernels::max_pool(&gpu, steps, input, window, &output),
            Operation::BatchNorm => kernels::batch_norm(&gpu, steps, input, &test.statistics, weights, hidden, &output),
            _ => kernels::element_wise(&gpu, steps, input, test.dropout, hidden, &output),
        };
        self.run(&kernel, test.uniforms)?;
        let expected = test.pass.inputs.get(test.index + 1).unwrap_or(&test.pass.outputs);
        let actual = output.read(&gpu, BATCH).await?;
        self.expect(kernel.name, "output", channels, &actual, &expected.values, TOLERANCE);
        Ok(())
    }

    /// Tests the statistics of a batch as its only shard.
    async fn shard_statistics(&mut self, test: &NodeTest<'_>, expected: &[f64]) -> Result<()> {
        let (gpu, channels) = (self.gpu.clone(), test.node.output.channels());
        let running = self.matrix(2, channels, &[vec![0.0; channels], vec![1.0; channels]].concat())?;
        let (statistics, sums) = (self.unwritten(2, channels)?, self.unwritten(2, channels)?);
        let parts = kernels::channel_sums(&gpu, &sums, test.pixels())?;
        let moments = kernels::batch_moments(&gpu, &self.steps, test.input.layout, &sums, &statistics, &running);
        for (centers, moment) in [&running, &statistics].into_iter().zip(moments) {
            let partial = kernels::batch_sums(&gpu, &self.steps, &test.input, centers, &parts);
            let total = kernels::sum_parts(&gpu, &self.steps, &parts, test.rows, Epilogue::Store(&sums));
            [partial, total, moment].iter().try_for_each(|kernel| self.run(kernel, test.uniforms))?;
        }
        let actual = running.read(&gpu, 2).await?;
        for kernel in ["batch_sums", "batch_mean", "batch_variance"] {
            self.expect(kernel, "running statistic", channels, &actual, expected, TOLERANCE);
        }
        Ok(())
    }

    /// Tests the gradients of a node's weights and inputs, from random gradients of its outputs.
    async fn node_backward(&mut self, test: &NodeTest<'_>, matmul: Matmul) -> Result<()> {
        let node = test.node;
        let layout = match node.operation {
            Operation::Conv2d(window) => Layout::gradient(node.output, node.input, window),
            _ => Layout::plain(node.output),
        };
        let d_values = Bounded::exact(widen(&self.values(BATCH * node.output.len(), 1.0)));
        let d_output = self.tensor(BATCH, layout, &d_values.values)?;
        let d_weights = self.unwritten(test.weights.rows, test.weights.columns)?;
        if node.weights.is_some() {
            self.node_weight_gradient(test, &d_values, &d_output, &d_weights, matmul).await?;
        }
        if test.index > 0 {
            self.node_input_gradient(test, &d_values, &d_output, &d_weights).await?;
        }
        Ok(())
    }

    /// Tests the gradient of a node's weights, which it leaves in `d_weights`, and every update that adds its partial
    /// sums.
    async fn node_weight_gradient(
        &mut self,
        test: &NodeTest<'_>,
        d_values: &Bounded,
        d_output: &Tensor,
        d_weights: &Matrix,
        matmul: Matmul,
    ) -> Result<()> {
        let (gpu, steps, weights) = (self.gpu.clone(), &self.steps, &test.weights);
        let (kernel, sums) = if is_convolution(test.node) {
            let sums = PartialSums::new(&gpu, weights, 3)?;
            (kernels::weight_gradient(&gpu, steps, test.inputs(), d_output, Epilogue::Parts(&sums)), sums)
        } else {
            let sums = kernels::channel_sums(&gpu, weights, test.pixels())?;
            let (input, statistics) = (&test.input, &test.statistics);
            (kernels::batch_norm_weight_gradient(&gpu, steps, input, statistics, d_output, &sums), sums)
        };
        let sum = kernels::sum_parts(&gpu, steps, &sums, test.rows, Epilogue::Store(d_weights));
        self.run(&kernel, test.uniforms)?;
        self.run(&sum, test.uniforms)?;
        let actual = test.rows.gather(&d_weights.read(&gpu, weights.rows).await?, weights.columns);
        let inputs = &test.pass.inputs[test.index];
        let expected = test.network.weight_gradient(test.node, inputs, d_values).values;
        self.expect(kernel.name, "d_weight", weights.columns, &actual, &expected, TOLERANCE);

        self.matmul = None;
        self.expect("sum_parts_stored", "d_weight", weights.columns, &actual, &expected, TOLERANCE);
        let spread: Vec<f32> = test.rows.spread(&narrow(&expected), weights.columns);
        for optimizer in optimizers() {
            let kernel = |bench: &Self, weights: &Matrix, moments: [&Matrix; 2]| {
                let update = Epilogue::Update { weights, moments, optimizer: &optimizer };
                kernels::sum_parts(&bench.gpu, &bench.steps, &sums, test.rows, update)
            };
            self.update(&optimizer, &widen(&spread), weights.columns, BATCH, kernel).await?;
        }
        self.matmul = test.matmul(matmul);
        Ok(())
    }

    /// Tests the gradient of a node's inputs.
    async fn node_input_gradient(
        &mut self,
        test: &NodeTest<'_>,
        d_values: &Bounded,
        d_output: &Tensor,
        d_weights: &Matrix,
    ) -> Result<()> {
        let (gpu, node) = (self.gpu.clone(), test.node);
        let before = &test.network.plan.nodes[test.index - 1];
        // The activation's input, which its derivative may need.
        let sums = match before.operation {
            Operation::Activation(_) => &test.pass.inputs[test.index - 1],
            _ => &test.pass.sums[test.index - 1],
        };
        let kept = self.tensor(BATCH, test.layout, &sums.values)?;
        let hidden = activation(before).map(|activation| Hidden::new(activation, &kept.matrix));
        let d_input = self.tensor(BATCH, Layout::plain(node.input), &[])?;
        let (steps, input, weights) = (&self.steps, &test.input, &test.weights);
        let kernel: Kernel = match node.operation {
            Operation::Conv2d(window) => {
                kernels::conv2d_input_gradient(&gpu, steps, d_output, weights, input, hidden, &d_input, window)
            }
            Operation::MaxPool2d(window) => {
                kernels::max_pool_backward(&gpu, steps, d_output, input, window, hidden, &d_input)
            }
            Operation::BatchNorm => kernels::batch_norm_input_gradient(
                &gpu,
                steps,
                d_output,
                input,
                &test.statistics,
                weights,
                d_weights,
                hidden,
                &d_input,
            ),
            _ => kernels::element_wise_backward(&gpu, steps, d_output, test.dropout, input, hidden, &d_input),
        };
        self.run(&kernel, test.uniforms)?;
        let expected = test.network.gradient_before(test.pass, test.index, d_values).values;
        let actual = d_input.read(&gpu, BATCH).await?;
        self.expect(kernel.name, "d_input", node.input.channels(), &actual, &expected, TOLERANCE);
        Ok(())
    }
}
