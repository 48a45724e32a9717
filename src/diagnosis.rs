//! Diagnosis of dead hidden units.

use crate::data::Examples;
use crate::model::{Activation, Parameters, Shape};
use crate::plan::{Node, Operation};
use crate::reference::{Bounded, Mode, Network};

/// Upper limit of the examples that the diagnosis uses.
const SAMPLE: u64 = 256;

/// Upper limit of the floating-point operations of the diagnosis.
const OPERATIONS: u64 = 500_000_000;

/// Dead units of a layer with ReLU: those whose output is 0 for every sampled example, so that they learn nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadUnits {
    /// Number of the layer among those of its kind with ReLU, from 1.
    pub layer: usize,
    /// True if the units are channels of images, as after a convolution.
    pub convolution: bool,
    /// Number of dead units.
    pub dead: usize,
    /// Number of units: outputs of a linear layer, channels of a convolution.
    pub units: usize,
}

/// Counts the dead units of each layer with ReLU, on a sample of the examples. Layers with other activations are
/// skipped.
pub fn dead_units(parameters: &Parameters, examples: &Examples) -> Vec<DeadUnits> {
    if parameters.features() != examples.features {
        return Vec::new();
    }
    let network = Network::new(parameters);
    let most = (OPERATIONS / network.plan.forward_operations().max(1)).clamp(8, SAMPLE);
    let every = examples.len().div_ceil(most as usize);
    let rows: Vec<u32> = (0..examples.len() as u32).step_by(every).collect();
    let Some(pass) = network.forward(Bounded::inputs(examples, &rows), Mode::Evaluation) else { return Vec::new() };
    let is_relu = |node: &Node| {
        let relu = Activation::Relu;
        node.activation == Some(relu) || node.operation == Operation::Activation(relu)
    };
    let layers = network.plan.nodes.iter().zip(&pass.sums).filter(|(node, _)| is_relu(node));
    let mut layers_of = [0; 2];
    let count = |(node, sums): (&Node, &Bounded)| {
        let convolution = matches!(node.output, Shape::Image { .. });
        let layer = &mut layers_of[usize::from(convolution)];
        *layer += 1;
        let units = node.output.channels();
        let mut alive = vec![false; units];
        for pixel in sums.values.chunks_exact(units) {
            alive.iter_mut().zip(pixel).for_each(|(alive, &sum)| *alive |= sum > 0.0);
        }
        DeadUnits { layer: *layer, convolution, dead: alive.iter().filter(|alive| !**alive).count(), units }
    };
    layers.map(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Architecture, Layer, parse_layers};

    #[test]
    fn a_unit_is_dead_where_no_example_makes_it_positive() {
        let examples = Examples::new(vec![1.0f32, -2.0], vec![0u32, 1], 1, 2).unwrap();
        // Units 1·x - 2, -1·x - 1 and 0·x + 1; of these, all through units -h2 - 1 and h1 + h2 + h3.
        let values = || {
            let first = vec![1.0, -1.0, 0.0, -2.0, -1.0, 1.0];
            let second = vec![0.0, 1.0, -1.0, 1.0, 0.0, 1.0, -1.0, 0.0];
            vec![first, second, vec![0.0; 6]]
        };
        let dead = |activation| {
            let architecture = Architecture::dense(&[1, 3, 2, 2], activation).unwrap();
            dead_units(&Parameters::from_values(&architecture, values()).unwrap(), &examples)
        };
        assert_eq!(
            dead(Activation::Relu).iter().map(|layer| (layer.layer, layer.dead, layer.units)).collect::<Vec<_>>(),
            [(1, 1, 3), (2, 1, 2)]
        );
        assert_eq!(dead(Activation::Tanh), []);
    }

    #[test]
    fn channels_of_a_convolution_and_units_of_linear_layers_are_counted_apart() {
        let examples = Examples::new(vec![1.0f32, 2.0, 3.0, 4.0], vec![0u32], 4, 2).unwrap();
        let layers = parse_layers("conv:2x1,relu,linear:3,relu").unwrap();
        let layers = [layers, vec![Layer::Linear { outputs: 2 }]].concat();
        let architecture = Architecture::new(Shape::Image { height: 2, width: 2, channels: 1 }, layers).unwrap();
        let values = vec![vec![-1.0, 1.0, 0.0, 0.0], vec![0.0; 27], vec![0.0; 8]];
        let dead = dead_units(&Parameters::from_values(&architecture, values).unwrap(), &examples);
        let found: Vec<_> =
            dead.iter().map(|layer| (layer.convolution, layer.layer, layer.dead, layer.units)).collect();
        assert_eq!(found, [(true, 1, 1, 2), (false, 1, 3, 3)]);
    }
}
