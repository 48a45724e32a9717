//! The plan of a training step: forward, loss, backward and update as a list of operations.
//!
//! A [`Plan`] is built once from an architecture. A backend lowers each operation: the GPU to a kernel, the CPU to a
//! pass over memory, and the f64 [`reference`](mod@crate::reference) to its formula.
//!
//! ```
//! use softstep::model::{Activation, Architecture};
//! use softstep::plan::{Op, Plan};
//!
//! let plan = Plan::new(&Architecture::dense(&[784, 128, 10], Activation::Relu)?);
//! let step = [
//!     Op::Forward(0),
//!     Op::Forward(1),
//!     Op::Loss,
//!     Op::InputGradient(1),
//!     Op::WeightGradient(1),
//!     Op::Update(1),
//!     Op::WeightGradient(0),
//!     Op::Update(0),
//! ];
//! assert_eq!(plan.training_step(false), step);
//! # Ok::<(), softstep::Error>(())
//! ```

use crate::model::{Activation, Architecture, Layer, Shape, Window};

/// Operation of a node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Operation {
    /// Matrix product `[inputs, 1] · weights` with the features of an example; an image is flattened row by row,
    /// channels last.
    Linear,
    /// A linear layer at every position of an image, on the pixels of a window.
    Conv2d(Window),
    /// Maximum of each window and channel.
    MaxPool2d(Window),
    /// An activation that is not fused to a product or normalisation.
    Activation(Activation),
    /// Dropout with this probability; the identity in evaluation.
    Dropout(f32),
    /// Batch normalisation of each channel.
    BatchNorm,
}

/// An operation on one tensor, with the activation that is fused to it. Node `i` reads the output of node `i - 1`, node
/// 0 the batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Node {
    /// The operation.
    pub operation: Operation,
    /// Fused activation: the epilogue of a product or normalisation.
    pub activation: Option<Activation>,
    /// Number of the layer in the architecture, from 1.
    pub layer: usize,
    /// Shape of an example before the node.
    pub input: Shape,
    /// Shape of an example after the node.
    pub output: Shape,
    /// Index of the node's weights in [`Parameters::layers`](crate::model::Parameters::layers), if it has any.
    pub weights: Option<usize>,
    /// Index of the node's running statistics in [`Parameters::statistics`](crate::model::Parameters::statistics), if
    /// it has any.
    pub statistics: Option<usize>,
}

impl Node {
    /// Shape `[inputs, outputs]` of the node's [`Weights`](crate::model::Weights), if it has any.
    pub fn weights_shape(&self) -> Option<[usize; 2]> {
        match self.operation {
            Operation::Linear => Some([self.input.len(), self.output.len()]),
            Operation::Conv2d(Window { size, .. }) => {
                Some([size * size * self.input.channels(), self.output.channels()])
            }
            Operation::BatchNorm => Some([1, self.output.channels()]),
            _ => None,
        }
    }

    /// Number of weights and biases; 0 without any.
    pub fn parameters(&self) -> usize {
        self.weights_shape().map_or(0, |[inputs, outputs]| (inputs + 1) * outputs)
    }

    /// Number of multiplications per example in the node's matrix product, without biases; 0 for other operations.
    pub fn products(&self) -> u64 {
        match (self.operation, self.weights_shape()) {
            (Operation::Linear | Operation::Conv2d(_), Some([inputs, outputs])) => {
                let places = if self.operation == Operation::Linear { 1 } else { self.output.positions() };
                places as u64 * inputs as u64 * outputs as u64
            }
            _ => 0,
        }
    }
}

/// One operation of a training step; the number is the index of a [`Node`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Computes the node's output from its input.
    Forward(usize),
    /// Computes the loss of each example, and its gradient with respect to the outputs of the last node.
    Loss,
    /// Computes the gradient of the node's input from the gradient of its output, and passes it back through the
    /// activation of the node before.
    InputGradient(usize),
    /// Computes the gradient of the node's weights.
    WeightGradient(usize),
    /// Adds the squares of a node's weight gradient to the gradient norm.
    SquaredNorm(usize),
    /// Computes the clip coefficient of all gradients from their norm.
    ClipCoefficient,
    /// Updates the node's weights by the optimizer. Directly after its [`WeightGradient`](Self::WeightGradient), the
    /// update is fused to it.
    Update(usize),
}

/// The operations of a model, from the batch to the outputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Nodes in the order of the forward pass.
    pub nodes: Vec<Node>,
    /// Shape of an example.
    pub input: Shape,
    /// Number of outputs of an example.
    pub outputs: usize,
}

impl Plan {
    /// Builds the plan of a checked architecture.
    pub fn new(architecture: &Architecture) -> Self {
        let mut nodes: Vec<Node> = Vec::new();
        let (mut weights, mut statistics) = (0, 0);
        // Shape after the previous node. Flattening is not a node, only another way for the next node to read.
        let mut behind = architecture.input();
        for (index, (layer, _, output)) in architecture.shapes().enumerate() {
            let operation = match layer {
                Layer::Linear { .. } => Operation::Linear,
                Layer::Conv2d { window, .. } => Operation::Conv2d(window),
                Layer::MaxPool2d { window } => Operation::MaxPool2d(window),
                Layer::Dropout { p } => Operation::Dropout(p),
                Layer::BatchNorm => Operation::BatchNorm,
                Layer::Flatten => continue,
                Layer::Activation(activation) => {
                    if let Some(node) = nodes.last_mut()
                        && node.activation.is_none()
                        && node.weights.is_some()
                    {
                        node.activation = Some(activation);
                        continue;
                    }
                    Operation::Activation(activation)
                }
            };
            // Element-wise operations keep the shape of an image, so that a following linear layer reads it as an
            // image.
            let output =
                if matches!(operation, Operation::Activation(_) | Operation::Dropout(_)) { behind } else { output };
            let mut node = Node {
                operation,
                activation: None,
                layer: index + 1,
                input: behind,
                output,
                weights: None,
                statistics: None,
            };
            if node.weights_shape().is_some() {
                node.weights = Some(weights);
                weights += 1;
            }
            if operation == Operation::BatchNorm {
                node.statistics = Some(statistics);
                statistics += 1;
            }
            behind = output;
            nodes.push(node);
        }
        Self { nodes, input: architecture.input(), outputs: architecture.output().len() }
    }

    /// Nodes of the forward pass in evaluation: all but dropout, which is the identity there.
    pub fn evaluation(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.nodes.len()).filter(|&node| !matches!(self.nodes[node].operation, Operation::Dropout(_)))
    }

    /// Operations of a training step: forward, loss, backward and update. A node propagates its gradient before its
    /// weights change. With clipping, the gradients of all nodes precede every update.
    pub fn training_step(&self, clipped: bool) -> Vec<Op> {
        let mut step: Vec<Op> = (0..self.nodes.len()).map(Op::Forward).collect();
        step.push(Op::Loss);
        let first = self.first_weights();
        let mut updates = Vec::new();
        for node in (0..self.nodes.len()).rev() {
            if node > first {
                step.push(Op::InputGradient(node));
            }
            if self.nodes[node].weights.is_some() {
                step.push(Op::WeightGradient(node));
                if clipped {
                    step.push(Op::SquaredNorm(node));
                    updates.push(Op::Update(node));
                } else {
                    step.push(Op::Update(node));
                }
            }
        }
        if clipped {
            step.push(Op::ClipCoefficient);
        }
        step.extend(updates);
        step
    }

    /// First node with weights; no gradient is needed before it.
    pub fn first_weights(&self) -> usize {
        self.nodes.iter().position(|node| node.weights.is_some()).unwrap_or(0)
    }

    /// Number of weights and biases of all nodes.
    pub fn parameters(&self) -> usize {
        self.nodes.iter().map(Node::parameters).sum()
    }

    /// Floating-point operations in the matrix products of one example's forward pass: a multiplication and an addition
    /// each. Biases, activations and the like are few in comparison and do not count.
    pub fn forward_operations(&self) -> u64 {
        2 * self.nodes.iter().map(Node::products).sum::<u64>()
    }

    /// Floating-point operations in the matrix products of a training step: forward and weight gradient of every
    /// product, and its input gradient where one is needed.
    pub fn step_operations(&self, batch: usize) -> u64 {
        let first = self.first_weights();
        let products =
            self.nodes.iter().enumerate().map(|(index, node)| (2 + u64::from(index > first)) * node.products());
        2 * batch as u64 * products.sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::parse_layers;

    fn plan(layers: &str) -> Plan {
        let digit = Shape::Image { height: 8, width: 8, channels: 1 };
        Plan::new(&Architecture::new(digit, parse_layers(layers).unwrap()).unwrap())
    }

    #[test]
    fn activations_are_fused_to_products_and_normalisations_and_else_stand_alone() {
        let plan = plan("relu,conv:4x3,relu,batchnorm,tanh,pool:2,sigmoid,dropout:0.5,linear:10");
        let nodes: Vec<_> = plan.nodes.iter().map(|node| (node.layer, node.activation, node.weights)).collect();
        assert_eq!(
            nodes,
            [
                (1, None, None),
                (2, Some(Activation::Relu), Some(0)),
                (4, Some(Activation::Tanh), Some(1)),
                (6, None, None),
                (7, None, None),
                (8, None, None),
                (10, None, Some(2)),
            ]
        );
        assert_eq!(plan.nodes[6].input, Shape::Image { height: 4, width: 4, channels: 4 });
        assert_eq!(plan.nodes[2].statistics, Some(0));
        assert_eq!(plan.evaluation().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 6]);
    }

    #[test]
    fn clipped_steps_have_all_gradients_before_any_update() {
        use Op::*;
        let plan = plan("conv:4x3,relu,pool:2,linear:10");
        assert_eq!(
            plan.training_step(true),
            [
                Forward(0),
                Forward(1),
                Forward(2),
                Loss,
                InputGradient(2),
                WeightGradient(2),
                SquaredNorm(2),
                InputGradient(1),
                WeightGradient(0),
                SquaredNorm(0),
                ClipCoefficient,
                Update(2),
                Update(0)
            ]
        );
    }

    #[test]
    fn a_step_multiplies_each_weight_thrice_and_those_of_the_first_layer_twice() {
        let dense = |sizes: &[usize]| Plan::new(&Architecture::dense(sizes, Activation::Relu).unwrap());
        assert_eq!(dense(&[784, 10]).step_operations(64), 2 * 64 * 2 * 7840);
        assert_eq!(dense(&[4, 3, 2]).step_operations(5), 2 * 5 * (2 * (12 + 6) + 6));
        assert_eq!(plan("conv:4x3,pool:2,linear:10").step_operations(3), 2 * 3 * (2 * 64 * 36 + 3 * 640));
    }
}
