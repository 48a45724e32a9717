//! The model: a stack of linear layers with an activation between them, and its parameters on the host.

use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::data::{Examples, Targets, hexadecimal};
use crate::error::{Error, Result};
use crate::loss::Loss;

/// What a hidden layer makes of its sums, one by one. A NaN passes through each of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// max(z, 0).
    #[default]
    Relu,
    /// 1 / (1 + e^−z).
    Sigmoid,
    /// (e^z − e^−z) / (e^z + e^−z).
    Tanh,
    /// z (1 + tanh(√(2/π) (z + 0.044715 z³))) / 2: Hendrycks and Gimpel 2016, "Gaussian error linear units", in its tanh
    /// form, `torch.nn.GELU(approximate="tanh")`. Within 5e-4 of the exact form, which needs erf, and that neither WGSL
    /// nor Rust has.
    Gelu,
}

impl Activation {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Relu, Self::Sigmoid, Self::Tanh, Self::Gelu];
}

impl std::fmt::Display for Activation {
    /// As people write it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Relu => "ReLU",
            Self::Sigmoid => "sigmoid",
            Self::Tanh => "tanh",
            Self::Gelu => "GELU",
        })
    }
}

/// One linear layer: `outputs = [inputs, 1] · values`.
///
/// The bias is the last row of the weight matrix, and every layer's input carries a constant 1 as its last
/// feature. So bias, bias gradient and bias update need no code of their own: they are one more row of the
/// matrix products.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Input features, without the constant 1.
    pub inputs: usize,
    /// Output features.
    pub outputs: usize,
    /// `[inputs + 1, outputs]`, row-major; the last row is the bias.
    pub values: Vec<f32>,
}

/// The parameters of a model, layer by layer; softmax regression has one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameters {
    /// From the input to the logits; `layers[i].outputs == layers[i + 1].inputs`.
    pub layers: Vec<Layer>,
    /// Between the layers.
    pub activation: Activation,
}

impl Parameters {
    /// Fresh parameters for layer sizes `[features, hidden…, classes]`, with ReLU between the layers.
    ///
    /// # Errors
    /// As [`Parameters::with_activation`].
    pub fn new(sizes: &[usize], seed: u64) -> Result<Self> {
        Self::with_activation(sizes, Activation::Relu, seed)
    }

    /// Fresh parameters for layer sizes `[features, hidden…, classes]`.
    ///
    /// Weights are uniform in ±√(6 / inputs) in layers that feed a ReLU or GELU (He et al. 2015, "Delving deep into
    /// rectifiers", in its uniform form) and in ±√(3 / inputs) in the others (LeCun et al. 1998, "Efficient backprop"),
    /// which in the last keeps the variance of the logits at that of the input. Biases are 0. The same seed gives the
    /// same bits everywhere.
    ///
    /// # Errors
    /// [`Error::Invalid`] as of [`check_sizes`], or for more parameters than there is memory for.
    pub fn with_activation(sizes: &[usize], activation: Activation, seed: u64) -> Result<Self> {
        check_sizes(sizes)?;
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut layers = Vec::new();
        for (index, pair) in sizes.windows(2).enumerate() {
            let (inputs, outputs) = (pair[0], pair[1]);
            let mut values = room(inputs, outputs)?;
            let rectified = index + 2 < sizes.len() && matches!(activation, Activation::Relu | Activation::Gelu);
            let variance_gain = if rectified { 6.0 } else { 3.0 };
            let bound = (variance_gain / inputs as f32).sqrt();
            // 24 random bits: every value in -1..1 is exact in f32.
            let mut uniform = || (random.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0;
            values.extend((0..inputs * outputs).map(|_| bound * uniform()));
            values.resize((inputs + 1) * outputs, 0.0);
            layers.push(Layer { inputs, outputs, values });
        }
        Ok(Self { layers, activation })
    }

    /// Checks that each layer's values have its shape, and that the layers follow on each other.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the shapes.
    pub fn check(&self) -> Result<()> {
        let layers = &self.layers;
        let fits = |layer: &Layer| {
            let count = layer.inputs.checked_add(1).and_then(|rows| rows.checked_mul(layer.outputs));
            layer.inputs > 0 && layer.outputs > 0 && count == Some(layer.values.len())
        };
        let follow = layers.windows(2).all(|pair| pair[0].outputs == pair[1].inputs);
        if layers.is_empty() || !follow || !layers.iter().all(fits) {
            let shapes: Vec<_> = layers.iter().map(|layer| (layer.inputs, layer.outputs, layer.values.len())).collect();
            return Err(Error::Invalid(format!(
                "layers with (inputs, outputs, values) {shapes:?} make no model: each needs (inputs + 1) · outputs \
                 values, and as many inputs as the one before has outputs"
            )));
        }
        Ok(())
    }

    /// Layer sizes `[features, hidden…, classes]`.
    pub fn sizes(&self) -> Vec<usize> {
        let inputs = self.layers.first().map(|layer| layer.inputs);
        inputs.into_iter().chain(self.layers.iter().map(|layer| layer.outputs)).collect()
    }

    /// Number of weights and biases.
    pub fn count(&self) -> usize {
        self.layers.iter().map(|layer| layer.values.len()).sum()
    }

    /// SHA-256 over all values as little-endian f32, in lower-case hexadecimal: equal hashes mean equal bits.
    pub fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        for value in self.layers.iter().flat_map(|layer| &layer.values) {
            hash.update(value.to_le_bytes());
        }
        hexadecimal(&hash.finalize())
    }
}

/// The most layers a model may have; deep networks of plain layers stop learning long before.
pub const MAX_LAYERS: usize = 1000;

/// Checks that there are at least two layer sizes `[features, hidden…, classes]`, none of them 0, and at most
/// [`MAX_LAYERS`] layers.
///
/// # Errors
/// [`Error::Invalid`] with the sizes.
pub fn check_sizes(sizes: &[usize]) -> Result<()> {
    if sizes.len() > MAX_LAYERS + 1 {
        return Err(Error::Invalid(format!("{} layers: the limit is {MAX_LAYERS}", sizes.len() - 1)));
    }
    if sizes.len() < 2 || sizes.contains(&0) {
        return Err(Error::Invalid(format!("layer sizes {sizes:?}: need at least two, none of them 0")));
    }
    Ok(())
}

/// Floating-point operations in the matrix products of one training step, for layer sizes `[features, hidden…, classes]`:
/// forward and the gradient of the weights for every layer, and the gradient of the inputs for all but the first.
/// Biases, activations, loss and update, which are few beside them, do not count.
pub fn step_operations(sizes: &[usize], batch: usize) -> u64 {
    let weights = || sizes.windows(2).map(|pair| pair[0] as u64 * pair[1] as u64);
    2 * batch as u64 * (2 * weights().sum::<u64>() + weights().skip(1).sum::<u64>())
}

/// Checks that a model with so many features and outputs, trained with this loss, can read these examples; they may have
/// fewer classes than the model.
///
/// # Errors
/// [`Error::Invalid`] with both shapes.
pub fn check_fit(features: usize, outputs: usize, loss: Loss, examples: &Examples) -> Result<()> {
    let needed = loss.outputs(examples)?;
    let (what, of_model, fits) = match (&*examples.targets, loss) {
        (Targets::Values(_), _) => ("target values", outputs, needed == outputs),
        (Targets::Classes(_), Loss::BinaryCrossEntropy) => ("classes", outputs + 1, needed == outputs),
        (Targets::Classes(_), _) => ("classes", outputs, needed <= outputs),
    };
    if examples.features != features || !fits {
        return Err(Error::Invalid(format!(
            "the data has {} features and {} {what}, the model {features} features and {of_model} {what}",
            examples.features, examples.outputs
        )));
    }
    Ok(())
}

/// Room for the values of a layer.
fn room(inputs: usize, outputs: usize) -> Result<Vec<f32>> {
    let mut values = Vec::new();
    let count = inputs.checked_add(1).and_then(|rows| rows.checked_mul(outputs));
    match count.map(|count| values.try_reserve_exact(count)) {
        Some(Ok(())) => Ok(values),
        _ => Err(Error::Invalid(format!(
            "no memory for a layer of {inputs} inputs and {outputs} outputs: choose smaller --hidden layers"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initial_weights_have_the_documented_bounds_and_depend_on_the_seed() {
        let sizes = [300, 200, 10];
        let parameters = Parameters::new(&sizes, 7).unwrap();
        assert_eq!(parameters.sizes(), sizes);
        assert_eq!(parameters.count(), 301 * 200 + 201 * 10);
        for (layer, bound) in parameters.layers.iter().zip([(6.0f32 / 300.0).sqrt(), (3.0f32 / 200.0).sqrt()]) {
            let (weights, bias) = layer.values.split_at(layer.inputs * layer.outputs);
            assert!(bias.iter().all(|&value| value == 0.0));
            assert!(weights.iter().all(|value| value.abs() <= bound));
            let mean_square = weights.iter().map(|value| value * value).sum::<f32>() / weights.len() as f32;
            assert!((mean_square / (bound * bound / 3.0) - 1.0).abs() < 0.1, "{mean_square}");
        }
        assert_eq!(parameters.sha256(), Parameters::new(&sizes, 7).unwrap().sha256());
        assert_ne!(parameters.sha256(), Parameters::new(&sizes, 8).unwrap().sha256());
    }

    #[test]
    fn a_step_multiplies_each_weight_thrice_and_those_of_the_first_layer_twice() {
        assert_eq!(step_operations(&[784, 10], 64), 2 * 64 * 2 * 7840);
        assert_eq!(step_operations(&[4, 3, 2], 5), 2 * 5 * (2 * (12 + 6) + 6));
    }

    #[test]
    fn sizes_that_make_no_model_are_refused() {
        for sizes in [&[][..], &[5], &[5, 0, 3]] {
            assert!(Parameters::new(sizes, 0).is_err(), "{sizes:?}");
        }
        for huge in [usize::MAX, usize::MAX / 64, 1 << 50] {
            let error = Parameters::new(&[64, huge, 10], 0).unwrap_err();
            assert!(error.to_string().contains("--hidden"), "{error}");
        }
    }
}
