//! The oracle: a model that trains in f64, made of [`softstep::reference`], and finite differences to check it by.
#![allow(dead_code)] // each test file uses its own part

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use softstep::data::{Examples, Targets};
use softstep::model::{Activation, Parameters};
use softstep::optimizer::Optimizer;

pub use softstep::reference::*;

/// A layer of the oracle, as [`softstep::model::Layer`].
#[derive(Clone, Debug)]
pub struct Layer {
    pub inputs: usize,
    pub outputs: usize,
    /// `[inputs + 1, outputs]`; the last row is the bias.
    pub values: Vec<f64>,
    /// What the optimizer remembers, of the same shape; starts at 0.
    pub moments: [Vec<f64>; 2],
}

/// The model in f64, with the optimizer's velocities.
#[derive(Clone, Debug)]
pub struct Model {
    pub layers: Vec<Layer>,
    pub activation: Activation,
    /// The norm that all gradients together are clipped to.
    pub clip_norm: Option<f32>,
    /// Steps so far.
    pub updates: u64,
}

/// What a batch gives on its way through the model and back.
#[derive(Debug)]
pub struct Pass {
    /// `[batch, classes]`
    pub logits: Vec<f64>,
    pub loss: f64,
    /// Per layer, `[inputs + 1, outputs]`.
    pub gradients: Vec<Vec<f64>>,
}

impl Model {
    pub fn new(parameters: &Parameters) -> Self {
        let layers = parameters.layers.iter().map(|layer| Layer {
            inputs: layer.inputs,
            outputs: layer.outputs,
            values: widen(&layer.values),
            moments: [vec![0.0; layer.values.len()], vec![0.0; layer.values.len()]],
        });
        Self { layers: layers.collect(), activation: parameters.activation, clip_norm: None, updates: 0 }
    }

    pub fn classes(&self) -> usize {
        self.layers.last().unwrap().outputs
    }

    /// What each layer reads, `[batch, inputs + 1]`, and what it makes of it, `[batch, outputs]`, before any activation.
    pub fn forward(&self, inputs: &[f64]) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
        let batch = inputs.len() / self.layers[0].inputs;
        let mut read = with_ones(inputs, self.layers[0].inputs);
        let (mut reads, mut sums) = (Vec::new(), Vec::new());
        for layer in &self.layers {
            let sum = matmul(&read, &layer.values, [batch, layer.inputs + 1, layer.outputs]);
            let next = with_ones(&activate(self.activation, &sum), layer.outputs);
            reads.push(std::mem::replace(&mut read, next));
            sums.push(sum);
        }
        (reads, sums)
    }

    /// `[batch, features] -> [batch, classes]`.
    pub fn logits(&self, inputs: &[f64]) -> Vec<f64> {
        self.forward(inputs).1.pop().unwrap()
    }

    /// How near to 0 the input of a ReLU comes: nearer than f32 can tell, the sign may be another there, and then the
    /// gradients are.
    pub fn nearest_kink(&self, inputs: &[f64]) -> f64 {
        let mut sums = self.forward(inputs).1;
        sums.pop();
        if self.activation == Activation::Relu {
            sums.iter().flatten().map(|x| x.abs()).fold(f64::INFINITY, f64::min)
        } else {
            f64::INFINITY
        }
    }

    pub fn loss(&self, inputs: &[f64], labels: &[u32]) -> f64 {
        cross_entropy(&self.logits(inputs), labels, self.classes())
    }

    /// The gradient of a loss by every value, per layer, from central differences.
    pub fn finite_differences(&mut self, loss: impl Fn(&Self) -> f64) -> Vec<Vec<f64>> {
        let h = 1e-6;
        let mut gradients = Vec::new();
        for layer in 0..self.layers.len() {
            let mut gradient = Vec::new();
            for at in 0..self.layers[layer].values.len() {
                let value = self.layers[layer].values[at];
                let mut loss_at = |value: f64| {
                    self.layers[layer].values[at] = value;
                    loss(self)
                };
                gradient.push((loss_at(value + h) - loss_at(value - h)) / (2.0 * h));
                self.layers[layer].values[at] = value;
            }
            gradients.push(gradient);
        }
        gradients
    }

    pub fn pass(&self, inputs: &[f64], labels: &[u32]) -> Pass {
        let batch = labels.len();
        let (read, mut sums) = self.forward(inputs);
        let logits = sums.pop().unwrap();
        let mut d_output = cross_entropy_backward(&logits, labels, self.classes());
        let mut gradients = Vec::new();
        for (layer, input) in self.layers.iter().zip(&read).rev() {
            let (inputs, outputs) = (layer.inputs, layer.outputs);
            gradients.insert(0, matmul_at_b(input, &d_output, [inputs + 1, batch, outputs]));
            let d_input = matmul_a_bt(&d_output, &layer.values, [batch, outputs, inputs + 1]);
            d_output = d_input.chunks_exact(inputs + 1).flat_map(|row| row[..inputs].to_vec()).collect();
            if let Some(sums) = sums.pop() {
                let derivatives = activation_derivative(self.activation, &sums);
                d_output.iter_mut().zip(derivatives).for_each(|(d, derivative)| *d *= derivative);
            }
        }
        Pass { loss: cross_entropy(&logits, labels, self.classes()), logits, gradients }
    }

    /// Forward, backward and update; returns the loss before the update.
    pub fn train_step(&mut self, inputs: &[f64], labels: &[u32], optimizer: &Optimizer, learning_rate: f32) -> f64 {
        let mut pass = self.pass(inputs, labels);
        self.updates += 1;
        if let Some(max_norm) = self.clip_norm {
            clip(&mut pass.gradients, f64::from(max_norm));
        }
        for (layer, gradient) in self.layers.iter_mut().zip(&pass.gradients) {
            let rate = f64::from(learning_rate);
            update(optimizer, self.updates, rate, &mut layer.values, gradient, &mut layer.moments);
        }
        pass.loss
    }
}

/// Clips gradients by the norm of them all.
pub fn clip(gradients: &mut [Vec<f64>], max_norm: f64) {
    let coefficient = clip_coefficient(gradient_norm(gradients.iter().map(|gradient| &gradient[..])), max_norm);
    gradients.iter_mut().flatten().for_each(|gradient| *gradient *= coefficient);
}

/// The inputs of some examples as the model sees them, `[indices, features]`.
pub fn inputs(examples: &Examples, indices: &[u32]) -> Vec<f64> {
    indices.iter().flat_map(|&index| examples.input(index as usize)).collect()
}

/// The labels of some examples.
pub fn labels(examples: &Examples, indices: &[u32]) -> Vec<u32> {
    indices.iter().map(|&index| examples.labels().unwrap()[index as usize]).collect()
}

/// Examples of random bytes and labels; the same seed gives the same.
pub fn random_examples(count: usize, features: usize, classes: usize, seed: u64) -> Examples {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut inputs = vec![0u8; count * features];
    random.fill_bytes(&mut inputs);
    let labels: Vec<u32> = (0..count).map(|_| random.next_u32() % classes as u32).collect();
    Examples::new(inputs, labels, features, classes).unwrap()
}

/// The same in floats of ±2.
pub fn random_floats(count: usize, features: usize, classes: usize, seed: u64) -> Examples {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f32> =
        (0..count * features).map(|_| random.next_u32() as f32 / (1u32 << 30) as f32 - 2.0).collect();
    let labels: Vec<u32> = (0..count).map(|_| random.next_u32() % classes as u32).collect();
    Examples::new(values, labels, features, classes).unwrap()
}

/// Examples of floats with real-valued targets in -2..2.
pub fn random_values(count: usize, features: usize, outputs: usize, seed: u64) -> Examples {
    let mut random = ChaCha8Rng::seed_from_u64(!seed);
    let value = |_| random.next_u32() as f32 / (1u32 << 30) as f32 - 2.0;
    let targets: Targets = (0..count * outputs).map(value).collect::<Vec<f32>>().into();
    Examples { targets: targets.into(), outputs, ..random_floats(count, features, 2, seed) }
}

/// Parameters whose biases are random too.
pub fn random_parameters(sizes: &[usize], seed: u64) -> Parameters {
    let mut parameters = Parameters::new(sizes, seed).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(!seed);
    for layer in &mut parameters.layers {
        let weights = layer.inputs * layer.outputs;
        layer.values[weights..].fill_with(|| random.next_u32() as f32 / u32::MAX as f32 - 0.5);
    }
    parameters
}

/// Fails unless every value is within `absolute + relative · |expected|` of what is expected. A NaN is not.
#[track_caller]
pub fn assert_close(name: &str, actual: &[f32], expected: &[f64], relative: f64, absolute: f64) {
    assert_eq!(actual.len(), expected.len(), "{name}: lengths");
    // How many times the tolerance a value is off; infinite where that is no number.
    let excess = |(&actual, &expected): (&f32, &f64)| {
        let excess = (f64::from(actual) - expected).abs() / (absolute + relative * expected.abs());
        if excess.is_nan() { f64::INFINITY } else { excess }
    };
    let excesses = actual.iter().zip(expected).map(excess);
    let Some((at, excess)) = excesses.enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b)) else { return };
    let (actual, expected) = (actual[at], expected[at]);
    let error = (f64::from(actual) - expected).abs();
    assert!(
        excess <= 1.0,
        "{name}: worst at {at}: {actual} is not {expected}; off by {error:.3e}, relatively {:.3e} \
         (allowed: {absolute:.1e} + {relative:.1e} relative)",
        error / expected.abs()
    );
}

/// [`assert_close`] for every layer of a model.
#[track_caller]
pub fn assert_parameters_close(name: &str, actual: &Parameters, expected: &Model, relative: f64, absolute: f64) {
    assert_eq!(actual.layers.len(), expected.layers.len(), "{name}: layers");
    for (index, (actual, expected)) in actual.layers.iter().zip(&expected.layers).enumerate() {
        assert_close(&format!("{name}, layer {index}"), &actual.values, &expected.values, relative, absolute);
    }
}
