//! Hidden units that no example reaches.

use crate::data::Examples;
use crate::model::{Activation, Layer, Parameters};

/// Examples that units are looked at with; of more, every so many.
const SAMPLE: usize = 256;

/// The dead units of a hidden layer: those that are 0 for every example that was looked at, and so learn nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadUnits {
    /// Which hidden layer, from 1.
    pub layer: usize,
    /// How many of its units are dead.
    pub dead: usize,
    /// Its units.
    pub units: usize,
}

/// Counts the dead units of each hidden layer of a ReLU network, on a sample of examples. Other activations have none.
pub fn dead_units(parameters: &Parameters, examples: &Examples) -> Vec<DeadUnits> {
    let hidden = parameters.layers.len().saturating_sub(1);
    if parameters.activation != Activation::Relu
        || parameters.layers.first().is_none_or(|layer| layer.inputs != examples.features)
    {
        return Vec::new();
    }
    let mut alive: Vec<Vec<bool>> =
        parameters.layers[..hidden].iter().map(|layer| vec![false; layer.outputs]).collect();
    for example in (0..examples.len()).step_by(examples.len().div_ceil(SAMPLE)) {
        let mut values: Vec<f32> = examples.input(example).map(|value| value as f32).collect();
        for (layer, alive) in parameters.layers.iter().zip(&mut alive) {
            values = relu(layer, &values);
            alive.iter_mut().zip(&values).for_each(|(alive, value)| *alive |= *value > 0.0);
        }
    }
    let count = |(index, alive): (usize, &Vec<bool>)| DeadUnits {
        layer: index + 1,
        dead: alive.iter().filter(|alive| !**alive).count(),
        units: alive.len(),
    };
    alive.iter().enumerate().map(count).collect()
}

fn relu(layer: &Layer, inputs: &[f32]) -> Vec<f32> {
    let (weights, bias) = layer.values.split_at(layer.inputs * layer.outputs);
    let mut sums = bias.to_vec();
    for (row, input) in weights.chunks(layer.outputs).zip(inputs) {
        sums.iter_mut().zip(row).for_each(|(sum, weight)| *sum += weight * input);
    }
    sums.iter().map(|sum| sum.max(0.0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_dead_where_no_example_makes_it_positive() {
        let examples = Examples::new(vec![1.0f32, -2.0], vec![0u32, 1], 1, 2).unwrap();
        // Units 1·x - 2, -1·x - 1 and 0·x + 1; of these, all through units -h2 - 1 and h1 + h2 + h3.
        let first = Layer { inputs: 1, outputs: 3, values: vec![1.0, -1.0, 0.0, -2.0, -1.0, 1.0] };
        let second = Layer { inputs: 3, outputs: 2, values: vec![0.0, 1.0, -1.0, 1.0, 0.0, 1.0, -1.0, 0.0] };
        let last = Layer { inputs: 2, outputs: 2, values: vec![0.0; 6] };
        let mut parameters = Parameters { layers: vec![first, second, last], activation: Activation::Relu };
        let dead = dead_units(&parameters, &examples);
        assert_eq!(
            dead.iter().map(|layer| (layer.layer, layer.dead, layer.units)).collect::<Vec<_>>(),
            [(1, 1, 3), (2, 1, 2)]
        );
        parameters.activation = Activation::Tanh;
        assert_eq!(dead_units(&parameters, &examples), []);
    }
}
