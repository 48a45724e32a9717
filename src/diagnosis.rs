//! Hidden units that no example reaches.

use crate::data::Examples;
use crate::model::{Activation, Parameters};
use crate::plan::{Node, Operation};
use crate::reference::{Bounded, Mode, Network};

/// Examples that units are looked at with, at most.
const SAMPLE: u64 = 256;

/// Floating-point operations that the look may take.
const OPERATIONS: u64 = 500_000_000;

/// The dead units of a layer with ReLU: those that are 0 for every example that was looked at, and so learn nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadUnits {
    /// Which of the layers with ReLU, from 1.
    pub layer: usize,
    /// How many of its units are dead.
    pub dead: usize,
    /// Its units: outputs of a linear layer, channels of a convolution.
    pub units: usize,
}

/// Counts the dead units of each layer with ReLU, on a sample of examples. Other activations have none.
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
    let count = |(index, (node, sums)): (usize, (&Node, &Bounded))| {
        let units = node.output.channels();
        let mut alive = vec![false; units];
        for pixel in sums.values.chunks_exact(units) {
            alive.iter_mut().zip(pixel).for_each(|(alive, &sum)| *alive |= sum > 0.0);
        }
        DeadUnits { layer: index + 1, dead: alive.iter().filter(|alive| !**alive).count(), units }
    };
    layers.enumerate().map(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Architecture;

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
}
