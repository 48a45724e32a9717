//! The oracle: a model that trains in f64 by the lowering of [`softstep::reference`], and finite differences to check
//! it by.
#![allow(dead_code)] // each test file uses its own part

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use softstep::data::{Examples, Targets};
use softstep::model::{Activation, Architecture, Parameters};
use softstep::optimizer::Optimizer;
use softstep::plan::Operation;

pub use softstep::reference::*;

/// The model in f64, with what the optimizer remembers.
#[derive(Clone, Debug)]
pub struct Model {
    pub network: Network,
    /// Of each layer with weights, shaped like them; starts at 0.
    pub moments: Vec<[Vec<f64>; 2]>,
    /// The norm that all gradients together are clipped to.
    pub clip_norm: Option<f32>,
    /// Seed of dropout.
    pub seed: u64,
    /// Steps so far.
    pub updates: u64,
}

impl Model {
    pub fn new(parameters: &Parameters) -> Self {
        let network = Network::new(parameters);
        let moments = network.weights.iter().map(|values| [vec![0.0; values.len()], vec![0.0; values.len()]]);
        Self { moments: moments.collect(), network, clip_norm: None, seed: 0, updates: 0 }
    }

    pub fn classes(&self) -> usize {
        self.network.plan.outputs
    }

    fn forward(&self, inputs: &[f64], mode: Mode) -> Pass {
        self.network.forward(Bounded::exact(inputs.to_vec()), mode).unwrap()
    }

    /// `[batch, features] -> [batch, classes]`.
    pub fn logits(&self, inputs: &[f64]) -> Vec<f64> {
        self.forward(inputs, Mode::Evaluation).outputs.values
    }

    /// How near to 0 the input of a ReLU comes: nearer than f32 can tell, the sign may be another there, and then the
    /// gradients are.
    pub fn nearest_kink(&self, inputs: &[f64]) -> f64 {
        let pass = self.forward(inputs, Mode::Evaluation);
        let mut nearest = f64::INFINITY;
        for (index, node) in self.network.plan.nodes.iter().enumerate() {
            let values = match (node.activation, node.operation) {
                (Some(Activation::Relu), _) => &pass.sums[index].values,
                (_, Operation::Activation(Activation::Relu)) => &pass.inputs[index].values,
                _ => continue,
            };
            nearest = values.iter().fold(nearest, |nearest, value| nearest.min(value.abs()));
        }
        nearest
    }

    pub fn loss(&self, inputs: &[f64], labels: &[u32]) -> f64 {
        cross_entropy(&self.logits(inputs), labels, self.classes())
    }

    /// The gradient of a loss by every weight, per layer, from central differences.
    pub fn finite_differences(&mut self, loss: impl Fn(&Self) -> f64) -> Vec<Vec<f64>> {
        let h = 1e-6;
        let mut gradients = Vec::new();
        for layer in 0..self.network.weights.len() {
            let mut gradient = Vec::new();
            for at in 0..self.network.weights[layer].len() {
                let value = self.network.weights[layer][at];
                let mut loss_at = |value: f64| {
                    self.network.weights[layer][at] = value;
                    loss(self)
                };
                gradient.push((loss_at(value + h) - loss_at(value - h)) / (2.0 * h));
                self.network.weights[layer][at] = value;
            }
            gradients.push(gradient);
        }
        gradients
    }

    /// Forward, backward and update; returns the loss before the update.
    pub fn train_step(&mut self, inputs: &[f64], labels: &[u32], optimizer: &Optimizer, learning_rate: f32) -> f64 {
        self.updates += 1;
        let pass = self.forward(inputs, Mode::Training { seed: self.seed, step: self.updates });
        let logits = &pass.outputs.values;
        let d_logits = cross_entropy_backward(logits, labels, self.classes());
        let gradients = self.network.backward(&pass, Bounded::exact(d_logits)).unwrap();
        let mut gradients: Vec<Vec<f64>> = gradients.into_iter().map(|gradient| gradient.values).collect();
        if let Some(max_norm) = self.clip_norm {
            clip(&mut gradients, f64::from(max_norm));
        }
        let layers = self.network.weights.iter_mut().zip(&mut self.moments);
        for ((values, moments), gradient) in layers.zip(&gradients) {
            update(optimizer, self.updates, f64::from(learning_rate), values, gradient, moments);
        }
        for (statistics, new) in self.network.statistics.iter_mut().zip(&pass.statistics) {
            *statistics = new.each_ref().map(|bounded| bounded.values.clone());
        }
        cross_entropy(logits, labels, self.classes())
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

/// Parameters of a stack of linear layers with ReLU, whose biases are random too.
pub fn random_parameters(sizes: &[usize], seed: u64) -> Parameters {
    random_dense(sizes, Activation::Relu, seed)
}

/// The same with another activation.
pub fn random_dense(sizes: &[usize], activation: Activation, seed: u64) -> Parameters {
    random_model(&Architecture::dense(sizes, activation).unwrap(), seed)
}

/// The same of any architecture.
pub fn random_model(architecture: &Architecture, seed: u64) -> Parameters {
    let mut parameters = Parameters::initialize(architecture, seed).unwrap();
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
    let expected = &expected.network;
    assert_eq!(actual.layers.len(), expected.weights.len(), "{name}: layers");
    for (index, (actual, expected)) in actual.layers.iter().zip(&expected.weights).enumerate() {
        assert_close(&format!("{name}, layer {index}"), &actual.values, expected, relative, absolute);
    }
    for (actual, [mean, variance]) in actual.statistics.iter().zip(&expected.statistics) {
        assert_close(&format!("{name}, running means"), &actual.mean, mean, relative, absolute);
        assert_close(&format!("{name}, running variances"), &actual.variance, variance, relative, absolute);
    }
}
