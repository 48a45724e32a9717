//! Attribution: what a prediction looks at.

use super::{Bounded, Mode, Network, argmax};
use crate::loss::Link;
use crate::model::Parameters;

/// Attribution of a prediction to the features of one example: the gradient of the predicted class's score, or of the
/// first value, times each feature. A positive number speaks for the prediction. `None` if numbers exceed f32. Source:
/// Shrikumar et al. 2016, "Not just a black box: learning important features through propagating activation
/// differences".
///
/// `inputs` are the features as the model sees them, with bytes scaled to 0..1; `link` is that of the model's loss.
pub fn attribution(parameters: &Parameters, link: Link, inputs: &[f64]) -> Option<Vec<f64>> {
    let network = Network::new(parameters);
    let pass = network.forward(Bounded::exact(inputs.to_vec()), Mode::Evaluation)?;
    let scores = &pass.outputs.values;
    let mut d_scores = vec![0.0; scores.len()];
    match &mut d_scores[..] {
        // A single logit is the score of the second class of two, and its opposite that of the first.
        [d] if link == Link::Sigmoid && scores[0] <= 0.0 => *d = -1.0,
        [d] => *d = 1.0,
        all => all[argmax(scores, scores.len())[0] as usize] = 1.0,
    }
    let gradients = network.gradients(&pass, Bounded::exact(d_scores));
    Some(gradients[0].values.iter().zip(inputs).map(|(d, input)| d * input).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Architecture, Shape, parse_layers};

    /// Compares with differences of the predicted score.
    fn check(architecture: &Architecture, link: Link) {
        let mut parameters = Parameters::initialize(architecture, 7).unwrap();
        for statistics in &mut parameters.statistics {
            statistics.mean.iter_mut().zip(0..).for_each(|(mean, at)| *mean = 0.1 * at as f32);
            statistics.variance.iter_mut().zip(0..).for_each(|(variance, at)| *variance = 0.5 + at as f32);
        }
        let inputs: Vec<f64> = (0..architecture.input().len()).map(|at| ((at * 37 % 41) as f64) / 41.0 - 0.3).collect();
        let network = Network::new(&parameters);
        let scores =
            |inputs: &[f64]| network.forward(Bounded::exact(inputs.to_vec()), Mode::Evaluation).unwrap().outputs.values;
        let taken = argmax(&scores(&inputs), architecture.output().len())[0] as usize;
        let sign = if link == Link::Sigmoid && scores(&inputs)[0] <= 0.0 { -1.0 } else { 1.0 };
        let found = attribution(&parameters, link, &inputs).unwrap();
        assert!(found.iter().any(|value| value.abs() > 1e-3));
        for (at, &value) in found.iter().enumerate() {
            const STEP: f64 = 1e-6;
            let moved = |by: f64| {
                let mut moved = inputs.clone();
                moved[at] += by;
                scores(&moved)[taken]
            };
            let expected = sign * (moved(STEP) - moved(-STEP)) / (2.0 * STEP) * inputs[at];
            assert!((value - expected).abs() < 1e-6, "{architecture}, feature {at}: {value} instead of {expected}");
        }
    }

    #[test]
    fn the_attribution_is_the_slope_of_the_predicted_score_times_the_feature() {
        let of = |layers: &str, shape: Shape| Architecture::new(shape, parse_layers(layers).unwrap()).unwrap();
        let flat = Shape::Flat(12);
        let image = Shape::Image { height: 6, width: 6, channels: 2 };
        check(&of("linear:5", flat), Link::Softmax);
        check(&of("linear:16,tanh,linear:8,gelu,linear:5", flat), Link::Softmax);
        check(&of("linear:16,relu,linear:1", flat), Link::Sigmoid);
        check(&of("linear:16,relu,linear:1", flat), Link::Identity);
        check(&of("conv:4x3,batchnorm,tanh,pool:2,dropout:0.5,flatten,linear:10,tanh,linear:4", image), Link::Softmax);
    }
}
