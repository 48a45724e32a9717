//! Parameters on the host: weights, running statistics, and their initialisation.

use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

use super::Activation;
use super::architecture::{Architecture, Layer};
use crate::data::{Examples, Targets, hexadecimal};
use crate::error::{Error, Result};
use crate::loss::Loss;
use crate::plan::{Node, Plan};

/// Trained values of one layer: `outputs = [inputs, 1] · values`.
///
/// The bias is the last row of the weight matrix, and every layer's input carries a constant 1 as its last feature. So
/// bias, bias gradient and bias update need no code of their own: they are one more row of the matrix products.
///
/// | layer | inputs | a row of the weights |
/// |---|---|---|
/// | linear | input features; of an image row by row, channels last | of one feature |
/// | conv2d | kernel · kernel · input channels | of one kernel row, kernel column and input channel, in this order |
/// | batch normalisation | 1 | the scales γ; the bias is β |
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// Input features, without the constant 1.
    pub inputs: usize,
    /// Output features or channels.
    pub outputs: usize,
    /// `[inputs + 1, outputs]`, row-major; the last row is the bias.
    pub values: Vec<f32>,
}

/// Running statistics of a batch normalisation, used in evaluation: averages over batches in which the newest has a
/// weight of 0.1.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// Running mean of each channel, `[channels]`.
    pub mean: Vec<f32>,
    /// Running variance of each channel, `[channels]`, with the unbiased estimate of each batch (divided by n − 1).
    pub variance: Vec<f32>,
}

/// The parameters of a model; softmax regression has one layer of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameters {
    /// The model's layers and shapes.
    pub architecture: Architecture,
    /// Weights of each layer that has any, in the order of the layers.
    pub layers: Vec<Weights>,
    /// Running statistics of each batch normalisation, in the order of the layers.
    pub statistics: Vec<Statistics>,
}

impl Parameters {
    /// Initialises a stack of linear layers with sizes `[features, hidden…, classes]` and ReLU between them.
    ///
    /// # Errors
    /// The errors of [`Parameters::with_activation`].
    pub fn new(sizes: &[usize], seed: u64) -> Result<Self> {
        Self::with_activation(sizes, Activation::Relu, seed)
    }

    /// Initialises a stack of linear layers with sizes `[features, hidden…, classes]` and this activation between them.
    ///
    /// # Errors
    /// The errors of [`Architecture::dense`] and [`Parameters::initialize`].
    pub fn with_activation(sizes: &[usize], activation: Activation, seed: u64) -> Result<Self> {
        Self::initialize(&Architecture::dense(sizes, activation)?, seed)
    }

    /// Initialises the parameters of an architecture.
    ///
    /// Weights are uniform in ±√(6 / inputs) in layers that feed a rectifying activation, such as ReLU or GELU (He et
    /// al. 2015, "Delving deep into rectifiers", in its uniform form), and in ±√(3 / inputs) in the others (LeCun et
    /// al. 1998, "Efficient backprop"), which keeps the variance of the logits at that of the last layer's input.
    /// Biases are 0. Batch normalisation starts with scales of 1. The same seed gives the same bits everywhere.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the parameters do not fit into memory.
    pub fn initialize(architecture: &Architecture, seed: u64) -> Result<Self> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let (mut layers, mut statistics) = (Vec::new(), Vec::new());
        for node in Plan::new(architecture).nodes {
            let Some([inputs, outputs]) = node.weights_shape() else { continue };
            let mut values = room(inputs, outputs)?;
            if node.statistics.is_some() {
                statistics.push(Statistics { mean: vec![0.0; outputs], variance: vec![1.0; outputs] });
                values.resize(outputs, 1.0);
            } else {
                let rectified = next_activation(architecture, node.layer).is_some_and(Activation::rectifies);
                let variance_gain = if rectified { 6.0 } else { 3.0 };
                let bound = (variance_gain / inputs as f32).sqrt();
                // With 24 random bits, every value in -1..1 is exact in f32.
                let mut uniform = || (random.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0;
                values.extend((0..inputs * outputs).map(|_| bound * uniform()));
            }
            values.resize((inputs + 1) * outputs, 0.0);
            layers.push(Weights { inputs, outputs, values });
        }
        Ok(Self { architecture: architecture.clone(), layers, statistics })
    }

    /// Builds parameters from values for each layer that has any, `[inputs + 1, outputs]`, and initial statistics.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the values do not have the shapes of the architecture.
    pub fn from_values(architecture: &Architecture, values: Vec<Vec<f32>>) -> Result<Self> {
        let mut parameters = Self::initialize(architecture, 0)?;
        if values.len() != parameters.layers.len() {
            let (given, wanted) = (values.len(), parameters.layers.len());
            return Err(Error::Invalid(format!("values for {given} layers do not fit a model with {wanted}")));
        }
        for (layer, values) in parameters.layers.iter_mut().zip(values) {
            layer.values = values;
        }
        parameters.check()?;
        Ok(parameters)
    }

    /// Checks that weights and statistics have the shapes of the architecture.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the shapes.
    pub fn check(&self) -> Result<()> {
        self.check_layers()?;
        let plan = Plan::new(&self.architecture);
        let channels = plan.nodes.iter().filter(|node| node.statistics.is_some()).map(|node| node.output.channels());
        let fits = |(statistics, channels): (&Statistics, usize)| {
            [&statistics.mean, &statistics.variance].iter().all(|values| values.len() == channels)
        };
        let count = channels.clone().count();
        if self.statistics.len() != count || !self.statistics.iter().zip(channels).all(fits) {
            return Err(Error::Invalid(format!(
                "running statistics for {} batch normalisations do not fit the model {}, which has {count}",
                self.statistics.len(),
                self.architecture
            )));
        }
        Ok(())
    }

    /// Checks the weights only, because an optimizer's moments have no statistics.
    pub(crate) fn check_layers(&self) -> Result<()> {
        let wanted: Vec<[usize; 2]> =
            Plan::new(&self.architecture).nodes.iter().filter_map(Node::weights_shape).collect();
        let fits = |(layer, &[inputs, outputs]): (&Weights, &[usize; 2])| {
            let count = inputs.checked_add(1).and_then(|rows| rows.checked_mul(outputs));
            (layer.inputs, layer.outputs, Some(layer.values.len())) == (inputs, outputs, count)
        };
        if self.layers.len() != wanted.len() || !self.layers.iter().zip(&wanted).all(fits) {
            let shapes: Vec<_> =
                self.layers.iter().map(|layer| (layer.inputs, layer.outputs, layer.values.len())).collect();
            return Err(Error::Invalid(format!(
                "weights with (inputs, outputs, values) {shapes:?} do not fit the model {}, which wants [inputs, outputs] \
                 {wanted:?} and (inputs + 1) · outputs values",
                self.architecture
            )));
        }
        Ok(())
    }

    /// Number of inputs of the first layer with weights, and number of outputs of every such layer: `[features,
    /// hidden…, classes]` for a stack of linear layers.
    pub fn sizes(&self) -> Vec<usize> {
        let inputs = self.layers.first().map(|layer| layer.inputs);
        inputs.into_iter().chain(self.layers.iter().map(|layer| layer.outputs)).collect()
    }

    /// Number of weights and biases.
    pub fn count(&self) -> usize {
        self.layers.iter().map(|layer| layer.values.len()).sum()
    }

    /// Number of features of an example.
    pub fn features(&self) -> usize {
        self.architecture.input().len()
    }

    /// Number of outputs of the model.
    pub fn outputs(&self) -> usize {
        self.architecture.output().len()
    }

    /// SHA-256 over all weights, then all statistics, as little-endian f32, in lower-case hexadecimal: equal hashes mean
    /// equal bits.
    pub fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        let statistics = self.statistics.iter().flat_map(|statistics| [&statistics.mean, &statistics.variance]);
        for value in self.layers.iter().map(|layer| &layer.values).chain(statistics).flatten() {
            hash.update(value.to_le_bytes());
        }
        hexadecimal(&hash.finalize())
    }
}

/// The first activation after layer number `layer` (from 1) and before the next layer with a product.
fn next_activation(architecture: &Architecture, layer: usize) -> Option<Activation> {
    let behind = architecture.layers()[layer..].iter();
    behind.take_while(|layer| !matches!(layer, Layer::Linear { .. } | Layer::Conv2d { .. })).find_map(|layer| {
        match layer {
            Layer::Activation(activation) => Some(*activation),
            _ => None,
        }
    })
}

/// Checks that a model with these numbers of features and outputs, trained with this loss, can read the examples; they
/// may have fewer classes than the model.
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

/// Reserves memory for the values of a layer.
fn room(inputs: usize, outputs: usize) -> Result<Vec<f32>> {
    let mut values = Vec::new();
    let count = inputs.checked_add(1).and_then(|rows| rows.checked_mul(outputs));
    match count.map(|count| values.try_reserve_exact(count)) {
        Some(Ok(())) => Ok(values),
        _ => Err(Error::Invalid(format!(
            "no memory for a layer of {inputs} inputs and {outputs} outputs: choose smaller layers"
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
    fn sizes_that_make_no_model_are_refused() {
        for sizes in [&[][..], &[5], &[5, 0, 3]] {
            assert!(Parameters::new(sizes, 0).is_err(), "{sizes:?}");
        }
        for huge in [usize::MAX, usize::MAX / 64, 1 << 50] {
            let error = Parameters::new(&[64, huge, 10], 0).unwrap_err();
            assert!(error.to_string().contains("smaller layers") || error.to_string().contains("more than"), "{error}");
        }
    }
}
